#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "schema/messages.h"

namespace bulkhead::schema {

/// The most descriptors that any message carries.
inline constexpr std::size_t kMaximumDescriptors = 24;

/// Received descriptors; those that are not taken out are closed with it.
using Descriptors = std::vector<UniqueFd>;

/// What becomes of a message for whose descriptors this process has no room (its limit of open files).
enum class WithoutRoom : std::uint8_t {
  kBreaks,      ///< kBroken
  kLeavesEmpty  ///< it comes, and the descriptors that the kernel dropped are empty
};

/// One end of an AF_UNIX SOCK_SEQPACKET channel: one Cap'n Proto message a packet, behind a header of 16 bytes (magic,
/// kind and version, body length, sequence number). Owns the socket. One thread.
///
/// What comes in is hostile until decoded: truncated packets or descriptors, a wrong header, more than one segment, a
/// length above the limit, a gap in the sequence, an unknown union member and a wrong number of descriptors are all
/// kBroken, and the caller ends the other side. Buffers are wiped after each message, as some carry keys. Between
/// construction and destruction only sendmsg and recvmsg are called.
class Channel {
 public:
  Channel() = default;
  /// `receive_limit`: the largest packet taken, header included; kMaximumWorkerPacket holds for what a worker, an
  /// application or a control client sends, however much more is given here. `check_sequence` is false where the two
  /// ends may be replaced one by one (a channel that outlives a process): then numbers are not checked.
  Channel(UniqueFd socket, std::size_t receive_limit, bool check_sequence = false);
  Channel(Channel&&) noexcept = default;
  Channel& operator=(Channel&&) noexcept = default;

  int fd() const { return socket_.get(); }
  explicit operator bool() const { return static_cast<bool>(socket_); }
  void close() { socket_.reset(); }

  /// Sends one message; never blocks on a non-blocking socket. kWouldBlock: the queue is full, nothing was sent.
  /// kClosed: the other end is gone. kTooLarge, kInvalid: the message breaks a limit of messages.h, or goes with
  /// another number of descriptors; nothing was sent. `descriptors` stay the caller's.
  template <typename Message>
  Result<void> send(const Message& message, std::span<const int> descriptors = {});

  /// Takes the next message of the variant `Message` (FromWorker, ToSupervisor, ...), and never blocks. `descriptors`
  /// is emptied first and holds exactly those that the message carries, close-on-exec; after an error it is empty. With
  /// WithoutRoom::kLeavesEmpty each must be looked at before it is used.
  /// kWouldBlock: nothing waits. kClosed: the other end is gone and all that it sent was taken. kBroken: see above.
  /// kSystem: the socket cannot be read.
  template <typename Message>
  Result<Message> receive(Descriptors& descriptors, WithoutRoom without_room = WithoutRoom::kBreaks);

 private:
  UniqueFd socket_;
  std::size_t receive_limit_ = kMaximumPacket;
  bool check_sequence_ = false;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

/// Channel::receive that waits for a message. `timeout_ms` below 0: without end; kWouldBlock: none came in that time.
/// Calls poll and reads the clock: for use before a service is confined.
template <typename Message>
Result<Message> receive_blocking(Channel& channel, Descriptors& descriptors, int timeout_ms);

}  // namespace bulkhead::schema
