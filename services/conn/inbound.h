#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/reasons.h"
#include "shm/link.h"
#include "wire/message.h"
#include "wire/session_crypto.h"

namespace bulkhead::conn {

/// From the socket's bytes to the application: opens chunks straight into the inward ring, finds the messages in the
/// stream, takes those of the P2P layer out and makes the rest visible at message ends. Pure but for the ring.
///
/// Three modes. *Hold*: into the ring. *Discard*: nobody receives, and the ring stayed full for longer than the grace,
/// or the node is to run without an application; application messages are counted and dropped, P2P messages still
/// answered. Coming back from it, a gap is put first. *Streaming*, within hold: a message larger than half the ring is
/// made visible as it comes, but it is begun only while an application receives; until then it blocks as a full ring
/// does.
class Inbound {
 public:
  enum class State : std::uint8_t { kHungry, kBlocked, kEnded };
  struct Progress {
    std::size_t taken = 0;  ///< bytes of the input that are done with
    State state = State::kHungry;
    Reason reason = Reason::kNone;  ///< with kEnded
  };

  Inbound(wire::Channel channel, shm::WorkerLink& link);

  /// Takes whole chunks from the front of `input`. kHungry: it wants more bytes of the peer. kBlocked: the ring is
  /// full, or a message too large for it waits for a receiver; the input stays with the caller. P2P messages are
  /// appended to `messages`.
  Progress process(std::span<const std::uint8_t> input, std::vector<wire::P2pMessage>& messages);

  /// Whether an application receives now. Attaching ends the discarding at the next message boundary.
  void set_receiver(bool attached);
  /// It stayed blocked for longer than the grace; process() goes on. kApplicationDiedMidMessage when a message was left
  /// half visible, kDecodeError when what was held is none.
  Reason start_discarding();
  bool discarding() const { return discarding_; }
  /// Drop from now on when nobody receives, whether the ring is full or not.
  void set_discard_without_receiver() { discard_without_receiver_ = true; }

  /// To be called when blocked. True: the receiver will wake this process when there is room (and when it is worth it),
  /// or set_receiver() must come first. False: there is room by now; call process(). kBroken: the application claims an
  /// impossible position.
  Result<bool> wait_for_room();
  std::uint64_t messages() const { return messages_; }
  std::uint64_t discarded() const { return discarded_; }

 private:
  struct Step {
    std::size_t size = 0;  ///< bytes that are done with
    bool kept = false;     ///< they stay in the stream
    bool more = false;     ///< there may be something behind them
    Reason reason = Reason::kNone;
  };

  Reason parse(std::uint8_t* stream, std::vector<wire::P2pMessage>& messages);
  Step look(std::span<const std::uint8_t> rest, std::vector<wire::P2pMessage>& messages);
  bool leave_discarding();

  wire::Channel channel_;
  shm::WorkerLink& link_;
  bool receiver_ = false;
  bool discarding_ = false;
  bool discard_without_receiver_ = false;
  bool lacks_receiver_ = false;       ///< the held message is too large to be begun while nobody receives
  std::size_t held_ = 0;              ///< bytes of the stream behind what was made visible (ring) or dropped (scratch)
  std::uint64_t streaming_left_ = 0;  ///< bytes of a message that is being made visible as it comes
  std::uint64_t skip_left_ = 0;       ///< bytes of a message that is being dropped
  std::uint64_t gap_ = 0;             ///< messages dropped since the last gap was put
  std::size_t wanted_ = 0;            ///< bytes behind the held ones that must be free to go on
  std::uint64_t messages_ = 0;
  std::uint64_t discarded_ = 0;
  std::vector<wire::P2pMessage> found_;  ///< behind what start_discarding() dropped
  std::vector<std::uint8_t> scratch_;    ///< in the place of the ring while discarding
};

}  // namespace bulkhead::conn
