#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "base/reasons.h"
#include "shm/link.h"
#include "wire/message.h"
#include "wire/session_crypto.h"

namespace bulkhead::conn {

/// From the application to the socket's bytes: fills chunks with what waits in the outward ring, puts messages of the
/// P2P layer in between at message ends, and seals. Pure but for the ring.
class Outbound {
 public:
  Outbound(wire::Channel channel, shm::WorkerLink& link);

  /// Queues a P2P message behind those that wait. False: too many wait already (the peer does not read); dropped.
  [[nodiscard]] bool queue(const wire::P2pMessage& message);

  /// Appends sealed chunks to `out` while there is something to send and room for a chunk of some size. Returns the
  /// number of bytes written, or the reason to end the connection: kApplicationFault when the ring holds what is no
  /// message.
  struct Progress {
    std::size_t written = 0;
    Reason reason = Reason::kNone;
  };
  Progress fill(std::span<std::uint8_t> out);

  bool has_queued() const { return !queued_.empty(); }
  /// The last message that was begun is not complete: the peer waits for the rest.
  bool in_message() const { return message_left_ > 0 || head_size_ > 0; }
  std::uint64_t messages() const { return messages_; }

 private:
  std::size_t take_queued(std::uint8_t* plaintext, std::size_t room);
  std::size_t take_ring(std::uint8_t* plaintext, std::size_t room, Reason& reason);

  wire::Channel channel_;
  shm::WorkerLink& link_;
  std::deque<std::vector<std::uint8_t>> queued_;
  std::size_t queued_offset_ = 0;   ///< of the first queued one, when it was cut by a chunk's end
  std::uint64_t message_left_ = 0;  ///< bytes of the ring's current message that are still to come
  std::uint8_t head_[wire::kEnvelopeHeader] = {};
  std::size_t head_size_ = 0;  ///< bytes of a head that a chunk's end cut
  std::uint64_t messages_ = 0;
};

}  // namespace bulkhead::conn
