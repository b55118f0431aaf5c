#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "services/controller/cli/demo_node.h"
#include "services/controller/cli/fault/echo_application.h"
#include "services/controller/cli/fault/endpoint.h"
#include "services/controller/cli/fault/harm.h"
#include "services/controller/cli/fault/observer.h"
#include "services/controller/cli/fault/traffic.h"

/// A node under test with peers and an application that talk without end, and what is done to its processes meanwhile.
namespace bulkhead::fault {

/// Every deadline is multiplied by this: sanitizers make everything slower, not wrong.
#ifdef BULKHEAD_SANITIZED
inline constexpr Nanoseconds kPatience = 8;
#else
inline constexpr Nanoseconds kPatience = 1;
#endif

/// What docs/architecture.md promises of a death.
inline constexpr Nanoseconds kSlotDeadline = 100 * kMillisecond * kPatience;
inline constexpr Nanoseconds kServiceDeadline = kSecond * kPatience;
inline constexpr Nanoseconds kControllerDeadline = 2 * kSecond * kPatience;
/// Pings go out each second: five seconds of silence are seen at the next one.
inline constexpr Nanoseconds kSilenceDeadline = 7 * kSecond * kPatience;
/// 15 s without movement of a ring in which messages wait, 15 s for an answer, and the pace of the one who looks.
inline constexpr Nanoseconds kWorkerSilenceDeadline = 34 * kSecond * kPatience;
/// The nursery is replaced at most once a second, within a second of that.
inline constexpr Nanoseconds kNurseryDeadline = 3 * kSecond * kPatience;
/// A service is not struck sooner after its start than this: quick deaths count for the supervisor's back-off.
inline constexpr Nanoseconds kServicePause = 5 * kSecond + 200 * kMillisecond;

struct HarnessOptions {
  std::string program;   ///< `bulkhead`
  std::string data_dir;  ///< not there yet, or empty
  std::size_t peers = 16;
  std::uint64_t seed = 1;
  Pattern pattern{};
  Nanoseconds pause = 10 * kMillisecond;  ///< between two messages of a peer
  std::uint32_t window = 4;
  std::string sandbox{};                           ///< --require-sandbox of the node; empty: the default
  std::function<void(const std::string&)> tell{};  ///< what happens, a line each; may be empty
};

/// One thing that is done to one process, from its beginning to the moment when all is as before.
struct Strike {
  Target target = Target::kWorker;
  Harm harm = Harm::kKill;
  std::size_t peer = 0;  ///< of a worker
  pid_t pid = 0;
  Nanoseconds at = 0;                 ///< when it was done; later by what the harness has not observed since
  std::int64_t struck_ms = 0;         ///< the same moment by the wall clock, before it was done
  std::optional<Nanoseconds> died{};  ///< when the victim was seen dead (a worker: its slot free)
  std::optional<Nanoseconds> back{};  ///< when its successor was seen ready (a worker: its peer connected again)
  Nanoseconds watched_from = 0;       ///< when a controller that was there all the time since came
  bool controller_down = false;       ///< the controller was not there all the time between `at` and `died`
  bool over = false;
  std::optional<std::string> failure{};
  std::uint64_t others = 0;  ///< connections that were lost although nothing was done to them, since

  SlotRef ref{};
  std::uint32_t restarts = 0;
  std::uint32_t epoch = 0;
  std::uint64_t event = 0;  ///< the newest one when the struck connection began
  Nanoseconds relieve_at = 0;
  std::map<pid_t, Nanoseconds> waited{};  ///< of who has to act on it, when it was done
  Nanoseconds stolen = 0;                 ///< from the machine, when it was done
  Lasting lasting{};
  bool relieved = false;
};

/// Use: start(), then strike() and pump() as one likes, settle(), finish(). One thread, which must be the one that
/// starts it; nothing blocks for long but start() and finish().
class Harness {
 public:
  explicit Harness(HarnessOptions options);
  ~Harness();
  Harness(const Harness&) = delete;
  Harness& operator=(const Harness&) = delete;

  /// Node, application and peers, up to traffic on every connection.
  Result<void> start();

  /// A moment of everything: at most some milliseconds.
  void pump();
  /// Pumps until `done` (true) or the time is over (false), or something was wrong (false).
  bool pump_until(const std::function<bool()>& done, Nanoseconds limit);

  /// Whether this may be done now: the target is there, has run for long enough, and is not struck already.
  bool may_strike(Target target) const;
  bool may_strike_worker(std::size_t peer) const;
  /// Does it. An error: it was not done.
  Result<void> strike(Target target, Harm harm, std::size_t peer = 0);
  /// As strike() of a peer's worker, by a deed of the caller's own, from which follows what follows from `harm`.
  using Deed = std::function<Result<Lasting>(pid_t)>;
  Result<void> strike_worker(std::size_t peer, Harm harm, const Deed& deed) {
    return strike(Target::kWorker, harm, peer, deed);
  }
  /// Pumps until all strikes are over (those that take half a minute aside, unless `all`), every peer is connected and
  /// each connection has had traffic since.
  bool settle(bool all = true);

  /// Kicks and connects by the command line. Pumps meanwhile.
  bool check_control();
  /// Compares with what the node held when start() returned, stops it in order, and looks whether anything is left.
  void finish();

  const std::vector<Strike>& strikes() const { return strikes_; }
  /// What was not as it must be; empty: all held.
  const std::vector<std::string>& violations() const { return violations_; }
  std::uint64_t messages() const;
  std::uint64_t bytes() const;
  /// Connections that ended rightly although they were no victims: the application died inside a message.
  std::uint64_t streams_cut() const { return streams_cut_; }
  std::uint64_t other_losses() const { return other_losses_; }

  Endpoint& peer(std::size_t index) { return *peers_[index]; }
  std::size_t peers() const { return options_.peers; }
  const Observer& observer() const { return *observer_; }
  EchoApplication& application() { return *application_; }
  Random& random() { return random_; }
  const std::string& data_dir() const { return options_.data_dir; }

 private:
  struct Lost {
    std::size_t peer = 0;
    Nanoseconds at = 0;
    std::uint64_t event = 0;
    std::string ending;
  };
  struct Before {
    std::vector<Connection> connections;
    std::vector<std::uint64_t> counters;
  };

  Result<void> strike(Target target, Harm harm, std::size_t peer, const Deed& deed);
  Result<void> start_node();
  Result<void> make_peers();
  void tell(const std::string& text) const;
  void violate(const std::string& text);
  void redial(std::size_t index);
  void forgive();
  void watch_peers();
  void judge_losses();
  bool is_cut(std::optional<Reason> reason, Nanoseconds at) const;
  void watch_services();
  void watch_application();
  void watch_reading();
  void advance(Strike& strike);
  void advance_worker(Strike& strike);
  void advance_service(Strike& strike);
  void advance_application(Strike& strike);
  void advance_unharmed(Strike& strike);
  std::map<pid_t, Nanoseconds> waits() const;
  Nanoseconds starved(const Strike& strike) const;
  bool is_late(const Strike& strike, Nanoseconds took, Nanoseconds limit) const;
  std::string lateness(const Strike& strike, Nanoseconds took, Nanoseconds limit) const;
  void excuse(Nanoseconds blind);
  void ask_for_memory(std::size_t peer);
  void end_strike(Strike& strike, const std::string& failure = "");
  void check_recovery(const Strike& strike);
  bool all_talk();
  bool run_command(const std::vector<std::string>& words, Nanoseconds limit);
  const Strike* active(Target target, std::size_t peer = 0) const;
  bool application_struck() const;
  Address fresh_address();

  HarnessOptions options_;
  Random random_;
  std::unique_ptr<cli::DemoNode> node_;
  std::optional<Observer> observer_;
  Point node_point_;
  std::vector<std::unique_ptr<Endpoint>> peers_;
  std::vector<std::uint64_t> connected_event_;  ///< the newest event when each connection began
  std::vector<bool> established_;               ///< seen in the node's table
  std::vector<Nanoseconds> redial_at_;
  std::vector<Nanoseconds> down_since_;
  std::unique_ptr<Endpoint> callee_;  ///< a peer that the node dials when it is told to
  UniqueFd callee_listener_;
  Point callee_point_;
  std::unique_ptr<EchoApplication> application_;
  Nanoseconds application_killed_at_ = 0;
  std::vector<Strike> strikes_;
  std::vector<Lost> lost_;
  std::map<Role, std::uint32_t> restarts_;  ///< as they must be
  Nanoseconds last_worker_fault_ = 0;
  Before before_controller_;
  Nanoseconds read_at_ = 0;
  Nanoseconds forgiven_at_ = 0;
  NodeUse baseline_;
  bool ready_ = false;
  std::vector<std::string> violations_;
  std::uint64_t streams_cut_ = 0;
  std::uint64_t other_losses_ = 0;
};

}  // namespace bulkhead::fault
