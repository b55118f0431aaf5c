#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"
#include "services/controller/cli/fault/traffic.h"
#include "wire/connection_message.h"
#include "wire/identity.h"
#include "wire/session_crypto.h"

namespace bulkhead::fault {

/// How an endpoint talks.
struct EndpointOptions {
  std::uint16_t index = 0;
  std::string chain_name;
  Pattern pattern;
  std::uint32_t window = 4;               ///< messages that may be unanswered
  Nanoseconds pause = 10 * kMillisecond;  ///< between two messages, at least
  std::uint16_t port = 0;                 ///< announced
  bool talks = true;                      ///< false: never says anything once connected
};

/// A peer of the node under test: one connection after the other, verified message by message. Never blocks; the caller
/// polls `fd` for `wanted()` and calls pump() often. One thread.
class Endpoint {
 public:
  enum class State : std::uint8_t {
    kIdle,        ///< no connection was begun
    kConnecting,  ///< up to the end of the handshake
    kRunning,
    kRefused,  ///< the handshake ended without success
    kLost      ///< the connection ended while it ran
  };

  Endpoint(wire::Identity identity, EndpointOptions options);

  /// Dials `node` from `source` (a loopback address). Ends what was there; the next epoch begins.
  Result<void> dial(const Point& node, const Address& source);
  /// Goes on with a socket that the node dialled.
  void accept(UniqueFd socket);
  void close();

  /// Reads, verifies and writes as far as it goes, for a bounded amount of data. `incarnation`: which process of the
  /// application is the latest.
  void pump(std::uint32_t incarnation);

  State state() const { return state_; }
  int fd() const { return socket_.get(); }
  short wanted() const;
  const PeerId& peer_id() const { return identity_.peer_id; }
  std::uint32_t epoch() const { return epoch_; }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t answered() const { return answered_; }
  std::uint64_t total_messages() const { return total_messages_; }
  std::uint64_t total_bytes() const { return total_bytes_; }
  const Point& local() const { return local_; }
  Nanoseconds since() const { return since_; }
  /// Why the last connection did not come, or ended.
  const std::string& ending() const { return ending_; }
  /// What was wrong with a message; the first, until it is forgotten.
  const std::optional<std::string>& violation() const { return violation_; }
  /// Forgets it and ends the connection, whose sequence is of no more use.
  void forget_violation();

  void set_reading(bool on) { reading_ = on; }
  void set_talking(bool on) { options_.talks = on; }
  void set_window(std::uint32_t window) { options_.window = window; }
  void set_pause(Nanoseconds pause) { options_.pause = pause; }
  /// Called with each round trip of a message that was small both ways.
  void on_round_trip(std::function<void(Nanoseconds)> callback) { on_round_trip_ = std::move(callback); }
  /// Puts raw plaintext into the stream, for peers that are to misbehave or to ask. Only while running.
  void send_raw(std::span<const std::uint8_t> plaintext);

 private:
  enum class Step : std::uint8_t { kConnecting, kConnectionMessage, kMetadata, kAck, kRunning };
  struct Pending {
    std::uint64_t number = 0;
    Nanoseconds at = 0;
  };

  void begin(wire::Side side);
  void end(const std::string& why);
  bool read_some();
  bool write_some();
  void take();
  bool take_connection_message();
  bool take_chunk();
  void take_messages();
  void take_message(std::uint16_t tag, std::span<const std::uint8_t> body);
  void talk();
  void seal(std::span<const std::uint8_t> plaintext);
  void raise(const std::string& text);

  wire::Identity identity_;
  EndpointOptions options_;
  State state_ = State::kIdle;
  Step step_ = Step::kConnecting;
  wire::Side side_ = wire::Side::kInitiator;
  UniqueFd socket_;
  Point local_;
  Nanoseconds since_ = 0;
  std::vector<std::uint8_t> our_message_;
  std::optional<wire::Channel> sending_;
  std::optional<wire::Channel> receiving_;
  std::vector<std::uint8_t> in_;  ///< ciphertext; from in_at_ on not taken yet
  std::size_t in_at_ = 0;
  std::vector<std::uint8_t> stream_;  ///< plaintext; from stream_at_ on not taken yet
  std::size_t stream_at_ = 0;
  std::vector<std::uint8_t> out_;  ///< from out_at_ on not written yet
  std::size_t out_at_ = 0;
  std::vector<std::uint8_t> body_;
  std::uint32_t epoch_ = 0;
  std::uint32_t incarnation_ = 0;         ///< the latest that sent something here
  std::uint32_t latest_incarnation_ = 0;  ///< the latest that there is
  std::uint64_t sent_ = 0;
  std::uint64_t answered_ = 0;
  std::deque<Pending> pending_;
  Nanoseconds next_talk_ = 0;
  std::uint64_t total_messages_ = 0;
  std::uint64_t total_bytes_ = 0;
  bool reading_ = true;
  std::string ending_;
  std::optional<std::string> violation_;
  std::function<void(Nanoseconds)> on_round_trip_;
};

}  // namespace bulkhead::fault
