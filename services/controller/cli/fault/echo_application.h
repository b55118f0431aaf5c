#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "services/controller/cli/fault/traffic.h"

/// The application of a run: a child process that verifies what the peers send and answers each message with one of its
/// own. It may be killed at any moment; what it knows lies in memory that its successor takes up.
namespace bulkhead::fault {

inline constexpr std::size_t kMaximumPeers = 256;

/// Shared between the harness and the application's process. Plain words; the harness only reads them.
struct EchoState {
  struct Peer {
    std::atomic<std::uint32_t> epoch;     ///< of the connection whose messages come
    std::atomic<std::uint32_t> port;      ///< of that connection's socket, at the peer
    std::atomic<std::uint64_t> received;  ///< of that epoch, verified
    std::atomic<std::uint64_t> answered;  ///< of that epoch
    /// Set by the harness. Connections up to this one may say anything: their worker was made hostile.
    std::atomic<std::uint32_t> distrusted;
    std::atomic<std::uint32_t> nudges;  ///< set by the harness: so many messages more than answers are to be sent
    std::atomic<std::uint32_t> nudged;
  };
  std::atomic<std::uint32_t> incarnation;  ///< which process it is, from 1; set by the harness
  std::atomic<std::uint32_t> attached;     ///< the latest incarnation that was attached
  std::atomic<std::uint64_t> messages;
  std::atomic<std::uint64_t> repeated;  ///< messages that came again after a death, as they must
  std::atomic<std::uint64_t> gaps;
  std::atomic<std::uint32_t> failed;  ///< 1: `failure` says what was wrong
  std::array<char, 512> failure;
  std::array<Peer, kMaximumPeers> peers;
};

/// Starts, kills and restarts the process. Single-threaded callers only: the child goes on after fork.
class EchoApplication {
 public:
  /// `peers`: who may say what, by index.
  static Result<std::unique_ptr<EchoApplication>> make(std::string data_dir, Pattern pattern,
                                                       std::vector<PeerId> peers);
  ~EchoApplication();
  EchoApplication(const EchoApplication&) = delete;
  EchoApplication& operator=(const EchoApplication&) = delete;

  /// The next incarnation. It attaches by itself, and goes on trying for as long as it runs.
  Result<void> start();
  /// Reaps it, waiting for its end; start() may follow.
  void reap();
  /// SIGKILL and reap().
  void kill();
  /// Nothing while it runs; else how it ended (as waitpid gives it), once.
  std::optional<int> ended();

  pid_t pid() const { return pid_; }
  bool attached() const;
  std::uint32_t incarnation() const;
  const EchoState& state() const { return *state_; }
  /// What the process found wrong with a message.
  std::optional<std::string> violation() const;
  void forget_violation() { state_->failed.store(0); }

  /// What comes over this peer's connections up to the epoch is not verified any more.
  void distrust(std::size_t peer, std::uint32_t epoch) { state_->peers[peer].distrusted.store(epoch); }
  /// Has one message sent to the peer that it does not expect: for a connection that is to end before it arrives.
  void nudge(std::size_t peer) { state_->peers[peer].nudges.fetch_add(1); }

 private:
  EchoApplication(std::string data_dir, Pattern pattern, std::vector<PeerId> peers, EchoState* state);

  std::string data_dir_;
  Pattern pattern_;
  std::vector<PeerId> peers_;
  EchoState* state_;
  pid_t pid_ = 0;
};

}  // namespace bulkhead::fault
