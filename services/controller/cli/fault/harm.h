#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"
#include "services/controller/cli/fault/injection.h"
#include "services/controller/cli/fault/traffic.h"

/// What is done to a process of the node under test, and to whom.
namespace bulkhead::fault {

enum class Target : std::uint8_t { kWorker, kAcceptor, kMaintainer, kNursery, kKeyholder, kController, kApplication };
inline constexpr std::size_t kTargets = 7;

enum class Harm : std::uint8_t {
  kKill,         ///< SIGKILL
  kSegv,         ///< SIGSEGV; in a worker a jump to where nothing is mapped
  kAbort,        ///< SIGABRT; in a worker the system call that abort() makes
  kStop,         ///< SIGSTOP for a time shorter than anybody's patience
  kHang,         ///< SIGSTOP until it is replaced
  kSpin,         ///< an endless loop inside it
  kMemory,       ///< it takes all the memory that its limit leaves
  kDescriptors,  ///< it takes all the descriptors that its limit leaves; of the acceptor others do, by silent
                 ///< connections
  kChannel,      ///< random bytes on its channel to the controller
  kRing,         ///< random positions and lengths in the head of its ring, while it works
  kPage,         ///< random words in its live page
};
inline constexpr std::size_t kHarms = 11;

const char* target_name(Target target);
const char* harm_name(Harm harm);
std::optional<Target> target_of(std::string_view name);
std::optional<Harm> harm_of(std::string_view name);
/// The service's role; kConn for a worker, nothing for the application.
std::optional<Role> role_of(Target target);

/// True when this harm is of any meaning for this target.
bool applies(Target target, Harm harm);
/// What a harm may need besides.
struct Means {
  bool privileged = false;  ///< may trace processes that are not dumpable, as root does
  bool confined = true;     ///< the node is confined: without, nothing ends a process at a limit or a forbidden call
};
/// Of this process.
bool is_privileged();
/// Why this cannot be done with these means ("needs root"); empty: it can.
std::string missing(Target target, Harm harm, const Means& means);

/// What is expected of a victim.
enum class Expected : std::uint8_t {
  kDeath,    ///< it is dead at once
  kFound,    ///< it is found and ended, by who watches it, in its time
  kEither,   ///< it may live on; lifted or ended by the harness after a moment
  kNothing,  ///< it goes on as if nothing had been
};
Expected expected_of(Target target, Harm harm);
/// The victim is a worker that may die by a fault of its own: another nursery forks its successors.
bool replaces_nursery(Target target, Harm harm);

/// What has to be given back after a harm that lasts.
struct Lasting {
  std::optional<Call> more{};      ///< for the process to make until it fails: go_on()
  std::vector<Call> undo{};        ///< for the process to make in the end
  std::vector<UniqueFd> silent{};  ///< connections that say nothing
};
/// Does it. `node` is where the node listens. kStop, kMemory and kDescriptors last until relieve(). kNotFound: the
/// process is gone already.
Result<Lasting> inflict(Target target, Harm harm, pid_t pid, const Point& node, Random& random);
/// Goes on with what takes many steps, some of them a call, so that the process can answer in between. True: all is
/// done.
bool go_on(pid_t pid, Lasting& lasting);
/// Ends what lasts. False: call it again. Nothing happens when the process is gone.
bool relieve(Harm harm, pid_t pid, Lasting& lasting);

/// A duplicate of the channel of process `pid` to the controller (of the controller: to the supervisor), if there is
/// one. Needs privilege. What is sent on it comes from that process, as far as anybody can tell.
Result<UniqueFd> steal_channel(pid_t pid, Target target);

}  // namespace bulkhead::fault
