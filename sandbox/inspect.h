#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "sandbox/seccomp.h"

/// Reads back what confines a process: from the kernel alone, never from what the process says of itself.
namespace bulkhead::sandbox {

/// The kinds of namespaces that are looked at, in the order of their names here.
inline constexpr std::array<const char*, 6> kNamespaceKinds = {"user", "mount", "net", "pid", "ipc", "uts"};

/// Identities of the namespaces of a process, in the order of kNamespaceKinds. 0: the kernel does not show it to us.
using Namespaces = std::array<std::uint64_t, kNamespaceKinds.size()>;

/// What the kernel shows of one process. Empty members are what it does not show to this reader: for a process that is
/// not dumpable, the lower half needs CAP_SYS_PTRACE.
struct Observation {
  pid_t parent = 0;
  std::uint32_t uid = 0;  ///< effective, as this reader's user namespace has it
  std::uint32_t gid = 0;
  bool no_new_privs = false;
  int seccomp = 0;  ///< 0 none, 1 strict, 2 filter
  std::optional<std::uint32_t> seccomp_filters;
  std::uint64_t capabilities = 0;            ///< effective
  std::uint64_t permitted_capabilities = 0;  ///< what it may make effective again
  /// RLIMIT_DATA, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_FSIZE, RLIMIT_CORE (hard): nothing when unlimited.
  std::optional<std::uint64_t> data_limit;
  std::optional<std::uint64_t> file_limit;
  std::optional<std::uint64_t> process_limit;
  std::optional<std::uint64_t> file_size_limit;
  std::optional<std::uint64_t> core_limit;
  std::optional<bool> dumpable;
  std::optional<std::uint64_t> open_files;
  /// Its group in the hierarchy that bounds memory, as this reader's cgroup namespace has it.
  std::optional<std::string> cgroup;

  std::optional<Namespaces> namespaces;
  std::optional<bool> root_empty;
};

/// Looks at a process in /proc. kNotFound when there is none of this number. Disturbs nobody; blocks for no time.
Result<Observation> observe(pid_t pid);

/// The process's namespaces, or nothing when one of them cannot be seen.
std::optional<Namespaces> namespaces_of(pid_t pid);

/// The seccomp filters in force in process `pid`, read from the kernel, oldest first. The kernel shows them to a tracer
/// with CAP_SYS_ADMIN alone, and only while the process stands still: it is stopped for that moment (some 50
/// microseconds), in which it loses no signal and no message; a system call in which it waits may end with EINTR.
/// Should this reader die meanwhile, the kernel lets the process go on. Waits at most `timeout` for the stop;
/// errno_value ETIMEDOUT: it may stop yet, and stands still then until this process ends, which should be soon. One
/// thread.
Result<std::vector<Program>> read_filters(pid_t pid, Nanoseconds timeout);

/// Whether some call with this number, on this machine's architecture, passes all the filters, for any arguments.
/// Follows every branch that depends on arguments both ways, so it may say yes too often, never too seldom.
bool may_pass(std::span<const Program> filters, std::uint32_t number);

/// How many system calls may pass.
std::size_t count_passing(std::span<const Program> filters);

/// How many system calls the policy of the role lets through, whatever their arguments.
std::size_t policy_size(Role role);

}  // namespace bulkhead::sandbox
