#include "schema/channel.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/carried_descriptors.h"
#include "base/clock.h"
#include "schema/codec.h"
#include "schema/packet.h"

namespace bulkhead::schema {
namespace {

constexpr std::size_t kHeaderWords = sizeof(PacketHeader) / sizeof(std::uint64_t);

// All zero but while a message is in work. Not on the heap, and only the pages that a message reaches are ever backed:
// a worker, whose messages are small, touches the first one.
alignas(PacketHeader) thread_local constinit std::array<std::uint64_t,
                                                        kMaximumPacket / sizeof(std::uint64_t)> packet_words{};

/// The thread's packet buffer for the time of one message; wiped at the end, as messages carry keys.
class Packet {
 public:
  explicit Packet(std::size_t limit_bytes)
      : words_(std::span(packet_words).first(std::min(limit_bytes / sizeof(std::uint64_t), packet_words.size()))),
        used_bytes_(words_.size_bytes()) {}
  Packet(const Packet&) = delete;
  Packet& operator=(const Packet&) = delete;
  ~Packet() { explicit_bzero(words_.data(), used_bytes_); }

  std::span<std::uint64_t> words() { return words_; }
  std::span<std::uint64_t> body() {
    return words_.size() < kHeaderWords ? words_.first(0) : words_.subspan(kHeaderWords);
  }
  /// Nothing above the first `bytes` was written to.
  void used(std::size_t bytes) { used_bytes_ = std::min(bytes, words_.size_bytes()); }

 private:
  std::span<std::uint64_t> words_;
  std::size_t used_bytes_;
};

struct Control {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaximumDescriptors * sizeof(int))> bytes{};
};

Result<void> transmit(int fd, std::span<std::uint64_t> words, std::span<const int> descriptors) {
  iovec part{words.data(), words.size_bytes()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const CarriedDescriptors<kMaximumDescriptors> carried(message, descriptors);
  for (;;) {
    if (::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return {};
    switch (errno) {
      case EINTR:
        continue;
      case EAGAIN:
      case ENOBUFS:
      case ETOOMANYREFS:
        return Error{ErrorCode::kWouldBlock, "queue full", errno};
      case EPIPE:
      case ECONNRESET:
      case ECONNREFUSED:
      case ENOTCONN:
        return Error{ErrorCode::kClosed, "closed", errno};
      case EMSGSIZE:
        return Error{ErrorCode::kTooLarge, "the message is larger than the socket's buffer", errno};
      default:
        return system_error("sendmsg");
    }
  }
}

/// Takes over every descriptor that came with `message`, whatever else is wrong with it. False: a control message that
/// no sender of ours makes.
bool take_descriptors(msghdr& message, Descriptors& descriptors) {
  bool expected = true;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      expected = false;
      continue;
    }
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    descriptors.reserve(descriptors.size() + count);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(fd);
    }
  }
  return expected;
}

struct Taken {
  std::size_t bytes = 0;
  bool lost_descriptors = false;  ///< this process had no room for all that came
};

/// Reads one packet into `packet`.
Result<Taken> take(int fd, Packet& packet, std::size_t most_descriptors, Descriptors& descriptors) {
  const std::span<std::uint64_t> words = packet.words();
  bool reset_seen = false;
  for (;;) {
    iovec part{words.data(), words.size_bytes()};
    Control control;
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (most_descriptors > 0) {
      message.msg_control = control.bytes.data();
      // Not CMSG_SPACE: its padding has room for one descriptor more.
      message.msg_controllen = CMSG_LEN(most_descriptors * sizeof(int));
    }
    const ssize_t got = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0) {
      packet.used(0);
      switch (errno) {
        case EINTR:
          continue;
        case EAGAIN:
          return Error{ErrorCode::kWouldBlock, "empty", errno};
        case ECONNRESET:
          // The other end closed with unread messages in its queue. That is reported once and before what it sent
          // last, which is still in ours.
          if (!reset_seen) {
            reset_seen = true;
            continue;
          }
          [[fallthrough]];
        case EPIPE:
        case ENOTCONN:
          return Error{ErrorCode::kClosed, "closed", errno};
        default:
          return system_error("recvmsg");
      }
    }
    const std::size_t bytes = static_cast<std::size_t>(got);
    packet.used(bytes);
    const bool expected = take_descriptors(message, descriptors);
    if (bytes == 0) return Error{ErrorCode::kClosed, "closed"};
    if ((message.msg_flags & MSG_TRUNC) != 0) return Error{ErrorCode::kBroken, "a packet above the limit"};
    // The kernel fills what we offer before it drops any, unless it meets our limit of open files.
    const bool dropped = (message.msg_flags & MSG_CTRUNC) != 0;
    if (dropped && descriptors.size() >= most_descriptors)
      return Error{ErrorCode::kBroken, "more descriptors than are due"};
    if (!expected) return Error{ErrorCode::kBroken, "an unknown control message"};
    return Taken{bytes, dropped};
  }
}

}  // namespace

Channel::Channel(UniqueFd socket, std::size_t receive_limit, bool check_sequence)
    : socket_(std::move(socket)), receive_limit_(receive_limit), check_sequence_(check_sequence) {}

template <typename Message>
Result<void> Channel::send(const Message& message, std::span<const int> descriptors) {
  using Traits = ChannelTraits<Message>;
  static_assert(Traits::kMostDescriptors <= kMaximumDescriptors);
  if (descriptors.size() > Traits::kMostDescriptors || descriptors.size() != descriptors_due(message)) {
    return Error{ErrorCode::kInvalid, "a message with another number of descriptors than it carries"};
  }
  Packet packet(Traits::kPacketLimit);
  const Result<std::size_t> body_words = encode(message, packet.body());
  if (!body_words) return body_words.error();
  const std::span<std::uint64_t> words = packet.words().first(kHeaderWords + *body_words);
  packet.used(words.size_bytes());

  PacketHeader header{};
  header.magic = kPacketMagic;
  header.kind = Traits::kKind;
  header.version = kPacketVersion;
  header.body_bytes = static_cast<std::uint32_t>(*body_words * sizeof(std::uint64_t));
  header.sequence = sent_;
  std::memcpy(words.data(), &header, sizeof(header));

  Result<void> sent = transmit(socket_.get(), words, descriptors);
  if (sent) ++sent_;
  return sent;
}

template <typename Message>
Result<Message> Channel::receive(Descriptors& descriptors, WithoutRoom without_room) {
  using Traits = ChannelTraits<Message>;
  descriptors.clear();
  Packet packet(std::min(receive_limit_, Traits::kPacketLimit));
  auto refuse = [&descriptors](Error error) {
    descriptors.clear();
    return error;
  };
  const Result<Taken> taken = take(socket_.get(), packet, Traits::kMostDescriptors, descriptors);
  if (!taken) return refuse(taken.error());
  if (taken->lost_descriptors && without_room == WithoutRoom::kBreaks)
    return refuse({ErrorCode::kBroken, "no room for a descriptor: this process is at its limit of open files"});
  if (taken->bytes < sizeof(PacketHeader)) return refuse({ErrorCode::kBroken, "a packet without a header"});

  PacketHeader header{};
  std::memcpy(&header, packet.words().data(), sizeof(header));
  if (header.magic != kPacketMagic || header.version != kPacketVersion || header.kind != Traits::kKind) {
    return refuse({ErrorCode::kBroken, "a packet of another channel or version"});
  }
  const std::size_t body_bytes = taken->bytes - sizeof(PacketHeader);
  if (header.body_bytes != body_bytes || body_bytes % sizeof(std::uint64_t) != 0) {
    return refuse({ErrorCode::kBroken, "a packet of another length than it says"});
  }
  if (check_sequence_ && header.sequence != received_) return refuse({ErrorCode::kBroken, "a gap in the sequence"});

  Result<Message> message = decode<Message>(packet.body().first(body_bytes / sizeof(std::uint64_t)));
  if (!message) return refuse(message.error());
  // What was dropped is left empty, in the places of the last.
  if (taken->lost_descriptors && descriptors.size() < descriptors_due(*message))
    descriptors.resize(descriptors_due(*message));
  if (descriptors.size() != descriptors_due(*message)) {
    return refuse({ErrorCode::kBroken, "a message with another number of descriptors than is due"});
  }
  ++received_;
  return message;
}

template <typename Message>
Result<Message> receive_blocking(Channel& channel, Descriptors& descriptors, int timeout_ms) {
  const Nanoseconds deadline = monotonic_now() + static_cast<Nanoseconds>(std::max(timeout_ms, 0)) * kMillisecond;
  for (;;) {
    Result<Message> message = channel.receive<Message>(descriptors);
    if (message || message.error().code != ErrorCode::kWouldBlock) return message;
    int wait_ms = -1;
    if (timeout_ms >= 0) {
      const Nanoseconds now = monotonic_now();
      if (now >= deadline) return message;
      wait_ms = static_cast<int>((deadline - now + kMillisecond - 1) / kMillisecond);
    }
    pollfd wait{channel.fd(), POLLIN, 0};
    if (::poll(&wait, 1, wait_ms) < 0 && errno != EINTR) return system_error("poll");
  }
}

#define BULKHEAD_CHANNEL(Variant)                                            \
  template Result<void> Channel::send(const Variant&, std::span<const int>); \
  template Result<Variant> Channel::receive(Descriptors&, WithoutRoom);      \
  template Result<Variant> receive_blocking<Variant>(Channel&, Descriptors&, int);

BULKHEAD_CHANNEL(FromSupervisor)
BULKHEAD_CHANNEL(ToSupervisor)
BULKHEAD_CHANNEL(ToKeyholder)
BULKHEAD_CHANNEL(FromKeyholder)
BULKHEAD_CHANNEL(FromAcceptor)
BULKHEAD_CHANNEL(FromMaintainer)
BULKHEAD_CHANNEL(ToMaintainer)
BULKHEAD_CHANNEL(ToNursery)
BULKHEAD_CHANNEL(FromNursery)
BULKHEAD_CHANNEL(ToWorker)
BULKHEAD_CHANNEL(FromWorker)
BULKHEAD_CHANNEL(FromApplication)
BULKHEAD_CHANNEL(ToApplication)
BULKHEAD_CHANNEL(ControlRequest)
BULKHEAD_CHANNEL(ControlResponse)
#undef BULKHEAD_CHANNEL

}  // namespace bulkhead::schema
