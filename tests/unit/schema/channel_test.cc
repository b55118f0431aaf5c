#include "schema/channel.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "tests/unit/schema/samples.h"

namespace bulkhead::schema::test {
namespace {

struct Pair {
  UniqueFd one;
  UniqueFd two;
};

Pair make_pair_of_sockets() {
  Result<std::pair<UniqueFd, UniqueFd>> pair = socket_pair();
  EXPECT_TRUE(pair.ok());
  return {std::move(pair->first), std::move(pair->second)};
}

std::size_t open_descriptors() {
  DIR* directory = ::opendir("/proc/self/fd");
  EXPECT_NE(directory, nullptr);
  std::size_t count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

Descriptors some_descriptors(std::size_t count) {
  Descriptors descriptors;
  for (std::size_t i = 0; i < count; ++i) descriptors.emplace_back(::eventfd(static_cast<unsigned>(i), EFD_CLOEXEC));
  return descriptors;
}

std::vector<int> numbers(const Descriptors& descriptors) {
  std::vector<int> values;
  for (const UniqueFd& descriptor : descriptors) values.push_back(descriptor.get());
  return values;
}

/// What another implementation, or a hostile one, would put on the socket.
void send_raw(int fd, const void* data, std::size_t size, std::span<const int> descriptors = {}) {
  iovec part{const_cast<void*>(data), size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(64 * sizeof(int))> control{};
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  ASSERT_EQ(::sendmsg(fd, &message, MSG_NOSIGNAL), static_cast<ssize_t>(size));
}

void send_raw(int fd, const Words& words, std::span<const int> descriptors = {}) {
  send_raw(fd, words.data(), words.size() * sizeof(std::uint64_t), descriptors);
}

template <typename Message>
Words packet_of(const Message& message, std::uint64_t sequence = 0) {
  Words body = encoded(message);
  PacketHeader header{};
  header.magic = kPacketMagic;
  header.kind = ChannelTraits<Message>::kKind;
  header.version = kPacketVersion;
  header.body_bytes = static_cast<std::uint32_t>(body.size() * sizeof(std::uint64_t));
  header.sequence = sequence;
  Words words(2);
  std::memcpy(words.data(), &header, sizeof(header));
  words.insert(words.end(), body.begin(), body.end());
  return words;
}

/// The same message in a packet of exactly `size` bytes: words that no pointer reaches are allowed at the end.
template <typename Message>
Words packet_of_size(const Message& message, std::size_t size) {
  Words words = packet_of(message);
  words.resize(size / sizeof(std::uint64_t));
  const std::uint32_t body_bytes = static_cast<std::uint32_t>(size - sizeof(PacketHeader));
  std::memcpy(reinterpret_cast<char*>(words.data()) + offsetof(PacketHeader, body_bytes), &body_bytes,
              sizeof(body_bytes));
  words[2] = static_cast<std::uint64_t>(words.size() - 3) << 32;
  return words;
}

template <typename Message>
ErrorCode receive_error(Channel& channel) {
  Descriptors descriptors = some_descriptors(1);
  const Result<Message> message = channel.receive<Message>(descriptors);
  EXPECT_FALSE(message.ok());
  EXPECT_TRUE(descriptors.empty());
  return message.ok() ? ErrorCode::kNotFound : message.error().code;
}

template <typename Message>
void expect_received(Channel& channel, const Message& expected) {
  Descriptors descriptors;
  const Result<Message> message = channel.receive<Message>(descriptors);
  ASSERT_TRUE(message.ok()) << message.error().text;
  EXPECT_TRUE(*message == expected);
}

// -------------------------------------------------------------------------------------------------- what goes well

template <typename Message>
class ChannelOf : public ::testing::Test {};
TYPED_TEST_SUITE(ChannelOf, Variants);

TYPED_TEST(ChannelOf, CarriesEveryMessageWithItsDescriptors) {
  Pair pair = make_pair_of_sockets();
  Channel sender(std::move(pair.one), kMaximumPacket, true);
  Channel receiver(std::move(pair.two), kMaximumPacket, true);
  std::vector<TypeParam> messages = smallest<TypeParam>();
  for (const TypeParam& message : largest<TypeParam>()) messages.push_back(message);
  for (const TypeParam& message : messages) {
    const Descriptors sent = some_descriptors(descriptors_due(message));
    const Result<void> result = sender.send(message, numbers(sent));
    ASSERT_TRUE(result.ok()) << result.error().text;
    Descriptors received;
    const Result<TypeParam> got = receiver.template receive<TypeParam>(received);
    ASSERT_TRUE(got.ok()) << got.error().text;
    EXPECT_TRUE(*got == message);
    ASSERT_EQ(received.size(), sent.size());
    for (std::size_t i = 0; i < received.size(); ++i) {
      EXPECT_NE(::fcntl(received[i].get(), F_GETFD) & FD_CLOEXEC, 0);
      // The counter of each tells which one it is; the first holds 0, which cannot be read.
      if (i == 0) continue;
      std::uint64_t number = 0;
      ASSERT_EQ(::read(received[i].get(), &number, sizeof(number)), static_cast<ssize_t>(sizeof(number)));
      EXPECT_EQ(number, i);
    }
  }
}

TEST(Channel, GivesWouldBlockWhenNothingWaits) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kWouldBlock);
}

TEST(Channel, NeverBlocksOnABlockingSocket) {
  Pair pair = make_pair_of_sockets();
  ASSERT_TRUE(set_nonblocking(pair.one.get(), false).ok());
  ASSERT_TRUE(set_nonblocking(pair.two.get(), false).ok());
  Channel sender(std::move(pair.one), kMaximumPacket);
  Channel receiver(std::move(pair.two), kMaximumPacket);
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kWouldBlock);
  Result<void> sent;
  for (int i = 0; i < 100000 && sent.ok(); ++i) sent = sender.send(FromWorker(WorkerPong{1}));
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, ErrorCode::kWouldBlock);
}

TEST(Channel, SendsAPacketThatDoesNotDependOnTheMessagesBefore) {
  Pair pair = make_pair_of_sockets();
  Pair noise = make_pair_of_sockets();
  Channel sender(std::move(pair.one), kMaximumPacket);
  Channel noise_sender(std::move(noise.one), kMaximumPacket);
  Channel noise_receiver(std::move(noise.two), kMaximumPacket);
  auto raw_minimum = [&] {
    EXPECT_TRUE(sender.send(ToWorker(Verdict{})).ok());
    Words words(kMaximumPacket / sizeof(std::uint64_t));
    const ssize_t size = ::recv(pair.two.get(), words.data(), kMaximumPacket, MSG_DONTWAIT);
    EXPECT_GT(size, 0);
    words.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)) / sizeof(std::uint64_t));
    if (words.size() > 1) words[1] = 0;  // the sequence number
    return words;
  };
  const Words first = raw_minimum();
  for (const ToWorker& message : largest<ToWorker>()) {
    ASSERT_TRUE(noise_sender.send(message).ok());
    EXPECT_EQ(raw_minimum(), first);
    expect_received(noise_receiver, message);
    EXPECT_EQ(raw_minimum(), first);
  }
  // Neither one that is refused leaves anything behind.
  std::vector<std::uint8_t> garbage(5000, 0xa5);
  send_raw(noise_sender.fd(), garbage.data(), garbage.size());
  EXPECT_EQ(receive_error<ToWorker>(noise_receiver), ErrorCode::kBroken);
  EXPECT_EQ(raw_minimum(), first);
  Verdict too_many;
  too_many.channel_key.fill(0xa5);
  too_many.points.resize(kMaximumPoints + 1);
  EXPECT_FALSE(noise_sender.send(ToWorker(too_many)).ok());
  EXPECT_EQ(raw_minimum(), first);
}

// -------------------------------------------------------------------------------------------------- descriptors

TEST(ChannelDescriptors, RefusesToSendAnotherNumberThanIsDue) {
  Pair pair = make_pair_of_sockets();
  Channel sender(std::move(pair.one), kMaximumPacket);
  Channel receiver(std::move(pair.two), kMaximumPacket);
  const Descriptors some = some_descriptors(4);
  const std::vector<int> all = numbers(some);
  for (const std::size_t count : {0U, 1U, 2U, 4U}) {
    const Result<void> sent = sender.send(FromWorker(Link{}), std::span(all).first(count));
    ASSERT_FALSE(sent.ok());
    EXPECT_EQ(sent.error().code, ErrorCode::kInvalid);
  }
  EXPECT_FALSE(sender.send(FromWorker(Acked{}), std::span(all).first(1)).ok());
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kWouldBlock);
}

TEST(ChannelDescriptors, LeavesThoseThatWereSentWithTheCaller) {
  Pair pair = make_pair_of_sockets();
  Channel sender(std::move(pair.one), kMaximumPacket);
  const Descriptors sent = some_descriptors(2);
  ASSERT_TRUE(sender.send(ToNursery(Spawn{}), numbers(sent)).ok());
  for (const UniqueFd& descriptor : sent) EXPECT_GE(::fcntl(descriptor.get(), F_GETFD), 0);
}

template <typename Message>
void expect_refused_and_closed(const Message& message, std::size_t count) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  {
    const Descriptors sent = some_descriptors(count);
    send_raw(pair.one.get(), packet_of(message), numbers(sent));
  }
  const std::size_t before = open_descriptors();
  EXPECT_EQ(receive_error<Message>(receiver), ErrorCode::kBroken) << count;
  EXPECT_EQ(open_descriptors(), before) << count;
}

TEST(ChannelDescriptors, RefusesNoneWhereSomeAreDue) {
  expect_refused_and_closed(FromWorker(Link{}), 0);
  expect_refused_and_closed(FromAcceptor(Incoming{}), 0);
}

TEST(ChannelDescriptors, RefusesTooFew) {
  expect_refused_and_closed(FromWorker(Link{}), 2);
}

TEST(ChannelDescriptors, RefusesOneWhereNoneIsDue) {
  expect_refused_and_closed(FromWorker(Acked{}), 1);
  expect_refused_and_closed(FromApplication(Attach{}), 1);
  expect_refused_and_closed(ControlRequest(ControlMaintain{}), 1);
}

TEST(ChannelDescriptors, RefusesTooMany) {
  for (const std::size_t count : {4U, 5U, 6U, 23U, 24U, 25U, 64U}) expect_refused_and_closed(FromWorker(Link{}), count);
  expect_refused_and_closed(FromAcceptor(Incoming{}), 2);
}

/// No descriptor above the `room` next free ones can be made, until the end of this object.
class RoomFor {
 public:
  explicit RoomFor(std::size_t room) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    // The lowest free numbers are given first; those below the limit that are free are taken.
    for (;;) {
      UniqueFd next(::fcntl(0, F_DUPFD_CLOEXEC, 0));
      const bool above = next.get() > kHigh;
      if (above) break;
      taken_.push_back(std::move(next));
    }
    const rlimit less{kHigh + 1 + room, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &less);
  }
  ~RoomFor() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  RoomFor(const RoomFor&) = delete;
  RoomFor& operator=(const RoomFor&) = delete;

 private:
  static constexpr int kHigh = 200;
  rlimit before_{};
  Descriptors taken_;
};

TEST(ChannelDescriptors, ThatFindNoRoomHereAreNotHeldAgainstTheSenderWhereThatIsAskedFor) {
  Pair pair = make_pair_of_sockets();
  Channel sender(std::move(pair.one), kMaximumPacket);
  Channel receiver(std::move(pair.two), kMaximumPacket);
  const Descriptors sent = some_descriptors(3);
  Descriptors came;
  // A sanitizer needs descriptors of its own for what it meets for the first time.
  ASSERT_TRUE(sender.send(FromWorker(Link{}), numbers(sent)).ok());
  ASSERT_TRUE(receiver.receive<FromWorker>(came, WithoutRoom::kLeavesEmpty).ok());
  for (std::size_t room = 0; room <= 3; ++room) {
    came.clear();
    ASSERT_TRUE(sender.send(FromWorker(Link{}), numbers(sent)).ok());
    const RoomFor little(room);
    const auto message = receiver.receive<FromWorker>(came, WithoutRoom::kLeavesEmpty);
    ASSERT_TRUE(message.ok()) << room << ": " << message.error().text;
    ASSERT_EQ(came.size(), 3U) << room;
    for (std::size_t i = 0; i < came.size(); ++i) EXPECT_EQ(static_cast<bool>(came[i]), i < room) << room;
  }
  ASSERT_TRUE(sender.send(FromWorker(Link{}), numbers(sent)).ok());
  const RoomFor none(0);
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken);
}

TEST(ChannelDescriptors, ThatAreTooManyAreRefusedAlsoWhereMissingOnesAreNot) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  for (const std::size_t count : {4U, 24U}) {
    const Descriptors sent = some_descriptors(count);
    send_raw(pair.one.get(), packet_of(FromWorker(Link{})), numbers(sent));
    Descriptors came;
    const auto message = receiver.receive<FromWorker>(came, WithoutRoom::kLeavesEmpty);
    ASSERT_FALSE(message.ok());
    EXPECT_EQ(message.error().code, ErrorCode::kBroken);
    EXPECT_TRUE(came.empty());
  }
}

TEST(ChannelDescriptors, ClosesThoseOfAPacketThatIsRefusedForItsBytes) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  Words words = packet_of(FromWorker(Link{}));
  words[2] |= 0xffffffff;
  {
    const Descriptors sent = some_descriptors(3);
    send_raw(pair.one.get(), words, numbers(sent));
  }
  const std::size_t before = open_descriptors();
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken);
  EXPECT_EQ(open_descriptors(), before);
}

TEST(ChannelDescriptors, ClosesThoseOfAnEmptyPacket) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  {
    const Descriptors sent = some_descriptors(3);
    send_raw(pair.one.get(), "", 0, numbers(sent));
  }
  const std::size_t before = open_descriptors();
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kClosed);
  EXPECT_EQ(open_descriptors(), before);
}

// -------------------------------------------------------------------------------------------------- the frame

TEST(ChannelFrame, RefusesAHeaderThatDiffersInAnyField) {
  const Words valid = packet_of(FromWorker(Closing{Reason::kMyself}));
  for (std::size_t byte = 0; byte < sizeof(PacketHeader); ++byte) {
    Pair pair = make_pair_of_sockets();
    Channel receiver(std::move(pair.two), kMaximumPacket, true);
    Words words = valid;
    reinterpret_cast<std::uint8_t*>(words.data())[byte] ^= 1;
    send_raw(pair.one.get(), words);
    EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken) << "byte " << byte;
  }
}

TEST(ChannelFrame, RefusesAMessageOfAnotherChannel) {
  Pair pair = make_pair_of_sockets();
  Channel sender(std::move(pair.one), kMaximumPacket);
  Channel receiver(std::move(pair.two), kMaximumPacket);
  ASSERT_TRUE(sender.send(ToWorker(WorkerPing{1})).ok());
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken);
}

TEST(ChannelFrame, RefusesAPacketShorterThanAMessage) {
  const Words valid = packet_of(FromWorker(Acked{}));
  for (std::size_t size = 1; size < valid.size() * sizeof(std::uint64_t); ++size) {
    Pair pair = make_pair_of_sockets();
    Channel receiver(std::move(pair.two), kMaximumPacket);
    send_raw(pair.one.get(), valid.data(), size);
    EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken) << size;
  }
}

TEST(ChannelFrame, RefusesABodyOfBrokenWords) {
  for (std::uint32_t extra = 1; extra < 8; ++extra) {
    Pair pair = make_pair_of_sockets();
    Channel receiver(std::move(pair.two), kMaximumPacket);
    Words words = packet_of(FromWorker(Acked{}));
    const std::uint32_t body_bytes = static_cast<std::uint32_t>((words.size() - 2) * sizeof(std::uint64_t)) + extra;
    std::memcpy(reinterpret_cast<char*>(words.data()) + offsetof(PacketHeader, body_bytes), &body_bytes,
                sizeof(body_bytes));
    words.push_back(0);
    send_raw(pair.one.get(), words.data(), sizeof(PacketHeader) + body_bytes);
    EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken) << extra;
  }
}

TEST(ChannelFrame, TakesAPacketOfExactlyTheLimitAndRefusesOneAbove) {
  const FromWorker message = Closing{Reason::kKicked};
  for (const std::size_t limit : {std::size_t{1024}, kMaximumWorkerPacket}) {
    Pair pair = make_pair_of_sockets();
    Channel receiver(std::move(pair.two), limit);
    send_raw(pair.one.get(), packet_of_size(message, limit));
    expect_received(receiver, message);
    send_raw(pair.one.get(), packet_of_size(message, limit + 8));
    EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken);
  }
}

TEST(ChannelFrame, RefusesAPacketAboveTheLimitWhoseFrontIsAMessage) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), 1024);
  Words words = packet_of_size(FromWorker(Acked{}), 1024);
  words.push_back(0);
  send_raw(pair.one.get(), words);
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken);
}

TEST(ChannelFrame, HoldsAWorkerToItsLimitWhateverTheReceiverAllows) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  send_raw(pair.one.get(), packet_of_size(FromWorker(Acked{}), kMaximumWorkerPacket + 8));
  EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken);
}

TEST(ChannelFrame, TakesTheLargestPacketOfATrustedSideAndRefusesOneAbove) {
  const FromNursery message = Spawned{{1, 2}, 3};
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  send_raw(pair.one.get(), packet_of_size(message, kMaximumPacket));
  expect_received(receiver, message);
  send_raw(pair.one.get(), packet_of_size(message, kMaximumPacket + 8));
  EXPECT_EQ(receive_error<FromNursery>(receiver), ErrorCode::kBroken);
}

TEST(ChannelFrame, RefusesEveryPacketWhenTheLimitIsBelowAHeader) {
  for (const std::size_t limit : {0U, 7U, 8U, 15U, 16U, 24U}) {
    Pair pair = make_pair_of_sockets();
    Channel receiver(std::move(pair.two), limit);
    send_raw(pair.one.get(), packet_of(FromWorker(Acked{})));
    const ErrorCode code = receive_error<FromWorker>(receiver);
    EXPECT_TRUE(code == ErrorCode::kBroken || (limit < 8 && code == ErrorCode::kClosed)) << limit;
  }
}

// -------------------------------------------------------------------------------------------------- the sequence

TEST(ChannelSequence, RefusesAGapAndARepetition) {
  for (const std::uint64_t second : {0ULL, 2ULL, 0xffffffffffffffffULL}) {
    Pair pair = make_pair_of_sockets();
    Channel receiver(std::move(pair.two), kMaximumPacket, true);
    send_raw(pair.one.get(), packet_of(FromWorker(Acked{}), 0));
    expect_received(receiver, FromWorker(Acked{}));
    send_raw(pair.one.get(), packet_of(FromWorker(Acked{}), second));
    EXPECT_EQ(receive_error<FromWorker>(receiver), ErrorCode::kBroken);
  }
}

TEST(ChannelSequence, IsNotLookedAtWhereTheEndsMayBeReplaced) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket, false);
  for (const std::uint64_t number : {7ULL, 0ULL, 7ULL}) {
    send_raw(pair.one.get(), packet_of(FromWorker(Acked{}), number));
    expect_received(receiver, FromWorker(Acked{}));
  }
}

// -------------------------------------------------------------------------------------------------- full and closed

TEST(ChannelQueue, GivesWouldBlockWhenFullAndLosesNothing) {
  Pair pair = make_pair_of_sockets();
  Channel sender(std::move(pair.one), kMaximumPacket, true);
  Channel receiver(std::move(pair.two), kMaximumPacket, true);
  std::uint64_t sent = 0;
  for (; sent < 100000; ++sent) {
    const Result<void> result = sender.send(FromWorker(WorkerPong{sent}));
    if (result.ok()) continue;
    EXPECT_EQ(result.error().code, ErrorCode::kWouldBlock);
    break;
  }
  ASSERT_GT(sent, 0U);
  ASSERT_LT(sent, 100000U);
  expect_received(receiver, FromWorker(WorkerPong{0}));
  for (std::uint64_t number = 1; number < sent; ++number) expect_received(receiver, FromWorker(WorkerPong{number}));
  // The message that was refused did not use up a number.
  ASSERT_TRUE(sender.send(FromWorker(WorkerPong{sent})).ok());
  expect_received(receiver, FromWorker(WorkerPong{sent}));
}

TEST(ChannelQueue, GivesTooLargeForAMessageAboveTheSocketsBuffer) {
  Pair pair = make_pair_of_sockets();
  const int size = 1;
  ASSERT_EQ(::setsockopt(pair.one.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
  Channel sender(std::move(pair.one), kMaximumPacket);
  for (const FromSupervisor& message : largest<FromSupervisor>()) {
    if (!std::holds_alternative<BootMaintainer>(message)) continue;
    const Descriptors some = some_descriptors(4);
    const Result<void> sent = sender.send(message, numbers(some));
    ASSERT_FALSE(sent.ok());
    EXPECT_EQ(sent.error().code, ErrorCode::kTooLarge);
  }
}

TEST(ChannelEnd, GivesClosedOnceTheOtherEndIsGone) {
  Pair pair = make_pair_of_sockets();
  Channel channel(std::move(pair.one), kMaximumPacket);
  pair.two.reset();
  const Result<void> sent = channel.send(ToWorker(GiveLink{}));
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, ErrorCode::kClosed);
  EXPECT_EQ(receive_error<FromWorker>(channel), ErrorCode::kClosed);
}

TEST(ChannelEnd, DeliversTheLastMessageOfASideThatLeftWithUnreadOnes) {
  Pair pair = make_pair_of_sockets();
  Channel controller(std::move(pair.one), kMaximumPacket);
  Channel worker(std::move(pair.two), kMaximumWorkerPacket);
  ASSERT_TRUE(controller.send(ToWorker(WorkerPing{1})).ok());
  ASSERT_TRUE(worker.send(FromWorker(Closing{Reason::kClosedByPeer})).ok());
  worker.close();
  expect_received(controller, FromWorker(Closing{Reason::kClosedByPeer}));
  EXPECT_EQ(receive_error<FromWorker>(controller), ErrorCode::kClosed);
}

TEST(ChannelEnd, GivesASystemErrorWithoutASocket) {
  Channel channel;
  EXPECT_FALSE(static_cast<bool>(channel));
  EXPECT_EQ(receive_error<FromWorker>(channel), ErrorCode::kSystem);
  const Result<void> sent = channel.send(ToWorker(GiveLink{}));
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, ErrorCode::kSystem);
}

// -------------------------------------------------------------------------------------------------- waiting

TEST(ReceiveBlocking, GivesWouldBlockAfterItsTime) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  Descriptors descriptors;
  for (const int timeout_ms : {0, 1}) {
    const Result<FromSupervisor> message = receive_blocking<FromSupervisor>(receiver, descriptors, timeout_ms);
    ASSERT_FALSE(message.ok());
    EXPECT_EQ(message.error().code, ErrorCode::kWouldBlock);
  }
}

TEST(ReceiveBlocking, WaitsForAMessage) {
  for (const int timeout_ms : {-1, 60000}) {
    Pair pair = make_pair_of_sockets();
    Channel sender(std::move(pair.one), kMaximumPacket);
    Channel receiver(std::move(pair.two), kMaximumPacket);
    const Descriptors sent = some_descriptors(5);
    std::thread other([&] { EXPECT_TRUE(sender.send(FromSupervisor(BootNursery{}), numbers(sent)).ok()); });
    Descriptors received;
    const Result<FromSupervisor> message = receive_blocking<FromSupervisor>(receiver, received, timeout_ms);
    other.join();
    ASSERT_TRUE(message.ok());
    EXPECT_TRUE(std::holds_alternative<BootNursery>(*message));
    EXPECT_EQ(received.size(), 5U);
  }
}

TEST(ReceiveBlocking, EndsWhenTheOtherEndCloses) {
  Pair pair = make_pair_of_sockets();
  Channel receiver(std::move(pair.two), kMaximumPacket);
  std::thread other([&] { pair.one.reset(); });
  Descriptors descriptors;
  const Result<FromSupervisor> message = receive_blocking<FromSupervisor>(receiver, descriptors, -1);
  other.join();
  ASSERT_FALSE(message.ok());
  EXPECT_EQ(message.error().code, ErrorCode::kClosed);
}

}  // namespace
}  // namespace bulkhead::schema::test
