#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstring>
#include <functional>
#include <vector>

#include "schema/channel.h"
#include "schema/packet.h"
#include "tests/fault/fixture.h"

namespace bulkhead::fault {
namespace {

using Packet = std::vector<std::uint8_t>;

/// The bytes of a message, as its channel sends them.
template <typename Message>
Packet packet_of(const Message& message, std::span<const int> descriptors = {}) {
  auto ends = socket_pair();
  EXPECT_TRUE(ends);
  schema::Channel channel(std::move(ends->first), schema::kMaximumPacket);
  EXPECT_TRUE(channel.send(message, descriptors));
  Packet packet(schema::kMaximumPacket);
  const ssize_t size = ::recv(ends->second.get(), packet.data(), packet.size(), MSG_DONTWAIT);
  EXPECT_GT(size, 0);
  packet.resize(static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
  return packet;
}

Packet said_by_worker(schema::FromWorker message) {
  return packet_of(message);
}

/// A Link's bytes; those descriptors are not the ones that it will be sent with.
Packet link_packet() {
  std::vector<UniqueFd> wakeups;
  std::vector<int> numbers;
  for (int i = 0; i < 3; ++i) {
    wakeups.emplace_back(::eventfd(0, EFD_CLOEXEC));
    numbers.push_back(wakeups.back().get());
  }
  return packet_of(schema::FromWorker(schema::Link{}), numbers);
}

void send_packet(int socket, const Packet& packet, std::size_t descriptors) {
  const UniqueFd wakeup(::eventfd(0, EFD_CLOEXEC));
  const std::vector<int> numbers(descriptors, wakeup.get());
  Packet bytes = packet;
  iovec part{bytes.data(), bytes.size()};
  std::vector<std::uint8_t> control(CMSG_SPACE(sizeof(int) * descriptors));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptors > 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * descriptors);
    std::memcpy(CMSG_DATA(header), numbers.data(), sizeof(int) * descriptors);
  }
  EXPECT_EQ(::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT), static_cast<ssize_t>(packet.size()))
      << std::strerror(errno);
}

class HostileWorker : public FaultTest {
 protected:
  static constexpr std::size_t kVictim = 1;

  void SetUp() override {
    if (!is_privileged()) GTEST_SKIP() << "needs root, to speak on the channel of a process that is not dumpable";
    ASSERT_NO_FATAL_FAILURE(start(4, 301));
  }

  std::uint64_t faults() const { return harness_->observer().counter(Role::kController, shm::Counter::kChannelFaults); }

  /// Sends it on a worker's channel: that worker is ended, it is counted, and nobody else notices.
  void expect_ended(const char* what, const Packet& packet, std::size_t descriptors = 0) {
    SCOPED_TRACE(what);
    const auto may = [&] { return harness_->may_strike_worker(kVictim); };
    ASSERT_TRUE(harness_->pump_until(may, 20 * kSecond * kPatience)) << told_;
    const std::uint64_t before = faults();
    const auto done = harness_->strike_worker(kVictim, Harm::kChannel, [&](pid_t pid) -> Result<Lasting> {
      auto channel = steal_channel(pid, Target::kWorker);
      if (!channel) return channel.error();
      send_packet(channel->get(), packet, descriptors);
      return Lasting{};
    });
    ASSERT_TRUE(done) << done.error().text;
    ASSERT_TRUE(harness_->settle()) << told_;
    EXPECT_GT(faults(), before) << "it is counted";
  }
};

TEST_F(HostileWorker, ThatSendsWhatIsNoMessageIsEnded) {
  const Packet whole = said_by_worker(schema::SwapAckReceived{});
  Packet altered = whole;
  altered[0] ^= 0xff;
  Packet empty_body(sizeof(schema::PacketHeader));
  std::memcpy(empty_body.data(), whole.data(), empty_body.size());
  Packet noise = whole;
  for (std::size_t i = sizeof(schema::PacketHeader); i < noise.size(); ++i) noise[i] = 0xff;
  ASSERT_NO_FATAL_FAILURE(expect_ended("one byte", {0}));
  ASSERT_NO_FATAL_FAILURE(expect_ended("a wrong header", altered));
  ASSERT_NO_FATAL_FAILURE(expect_ended("a header alone", empty_body));
  ASSERT_NO_FATAL_FAILURE(expect_ended("cut short", Packet(whole.begin(), whole.end() - 8)));
  ASSERT_NO_FATAL_FAILURE(expect_ended("pointers to nowhere", noise));
}

TEST_F(HostileWorker, ThatSendsTooMuchAtOnceIsEnded) {
  Packet large = said_by_worker(schema::SwapAckReceived{});
  large.resize(schema::kMaximumWorkerPacket + 8);
  const auto body = static_cast<std::uint32_t>(large.size() - sizeof(schema::PacketHeader));
  std::memcpy(large.data() + offsetof(schema::PacketHeader, body_bytes), &body, sizeof body);
  ASSERT_NO_FATAL_FAILURE(expect_ended("above the limit for workers", large));
  large.resize(60'000);
  ASSERT_NO_FATAL_FAILURE(expect_ended("far above", large));
}

TEST_F(HostileWorker, ThatSpeaksOutOfTurnIsEnded) {
  ASSERT_NO_FATAL_FAILURE(expect_ended("hello again", said_by_worker(schema::WorkerHello{})));
  ASSERT_NO_FATAL_FAILURE(expect_ended("a proof again", said_by_worker(schema::WorkerProof{})));
  ASSERT_NO_FATAL_FAILURE(expect_ended("an ack again", said_by_worker(schema::Acked{})));
  ASSERT_NO_FATAL_FAILURE(expect_ended("a nack", said_by_worker(schema::Nacked{})));
  ASSERT_NO_FATAL_FAILURE(
      expect_ended("what applications say", packet_of(schema::FromApplication(schema::Attach{1, true, true}))));
}

TEST_F(HostileWorker, ThatSendsOtherDescriptorsThanItsMessageHasIsEnded) {
  ASSERT_NO_FATAL_FAILURE(expect_ended("one too many", said_by_worker(schema::SwapAckReceived{}), 1));
  ASSERT_NO_FATAL_FAILURE(expect_ended("more than any message has", said_by_worker(schema::SwapAckReceived{}), 100));
  ASSERT_NO_FATAL_FAILURE(expect_ended("a link without", link_packet(), 0));
  ASSERT_NO_FATAL_FAILURE(expect_ended("a link of others' kind", link_packet(), 3));
}

TEST_F(HostileWorker, ThatFloodsDelaysNobody) {
  UniqueFd channel;
  const auto may = [&] { return harness_->may_strike_worker(kVictim); };
  ASSERT_TRUE(harness_->pump_until(may, 20 * kSecond * kPatience)) << told_;
  const auto done = harness_->strike_worker(kVictim, Harm::kRing, [&](pid_t pid) -> Result<Lasting> {
    auto stolen = steal_channel(pid, Target::kWorker);
    if (!stolen) return stolen.error();
    channel = std::move(*stolen);
    return Lasting{};
  });
  ASSERT_TRUE(done) << done.error().text;
  const Packet packet = said_by_worker(schema::SwapAckReceived{});
  const Nanoseconds until = monotonic_now() + kSecond;
  std::uint64_t sent = 0;
  while (monotonic_now() < until) {
    harness_->pump();
    // As many as the socket takes, each time round.
    while (::send(channel.get(), packet.data(), packet.size(), MSG_NOSIGNAL | MSG_DONTWAIT) > 0 &&
           monotonic_now() < until) {
      ++sent;
    }
  }
  channel.reset();
  EXPECT_GT(sent, 100U);
  ASSERT_TRUE(harness_->check_control()) << told_;
  ASSERT_TRUE(harness_->settle()) << told_;
}

}  // namespace
}  // namespace bulkhead::fault
