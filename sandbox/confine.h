#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/settings.h"
#include "sandbox/policy.h"
#include "sandbox/seccomp.h"

namespace bulkhead::sandbox {

/// Compiles the role's system calls.
Result<Program> compile_policy(Role role);

/// What could not be had and was not required; each a line for the log.
struct Confinement {
  std::vector<std::string> missing;
  bool user_namespace = false;  ///< the process is in a user namespace of its own
};

/// Confines a service for good, as its row of the policy says: no core dump, namespaces, its own user, no
/// capabilities, no_new_privs, Landlock, seccomp, in this order. To be called by a process of one thread when
/// everything is open and before anything foreign is touched.
///
/// kDefault: limits, no_new_privs, Landlock as the kernel has it and seccomp must hold; the rest is taken where it is
/// given. kStrict: namespaces too and, as root, the role's own user. kOff: nothing is done. A required layer that is
/// missing is an error that names it and the remedy.
///
/// `user_namespace_error`: why the role's user gets no user namespace (see try_user_namespace), 0 when it gets one or
/// when nobody has tried. With a reason, a process of root's makes the other namespaces before it changes its user.
Result<Confinement> confine_service(Role role, SandboxLevel level, int user_namespace_error = 0);

/// What the supervisor must still be able to do, and has found out, before it confines itself.
struct SupervisorNeeds {
  std::vector<std::string> programs;     ///< to run
  std::vector<std::string> directories;  ///< to make or remove files in
  int user_namespace_error = 0;
};

/// Confines the supervisor for good, and in part all that it starts from then on: no core dump, memory, capabilities
/// (when it is root: those of its row and what `needs` adds; else none), no_new_privs, no signals to processes that it
/// did not start (Landlock, where the kernel knows it), and the system calls of its row. Not files, as a process that
/// Landlock keeps from files may mount nothing, and its services make their empty roots by mounting.
/// To be called by a process of one thread before it starts any of them. Levels and errors as for a service; kStrict
/// refuses where `needs` says that there are no user namespaces.
Result<Confinement> confine_supervisor(SandboxLevel level, const SupervisorNeeds& needs);

/// Confines a forked worker for good, on top of what its nursery has: no capability, not dumpable, limits (descriptors
/// numbered below `open_files`, no files, no processes, no core, private memory as the policy says), and `filter`, the
/// compiled policy of Role::kConn. From then on a forbidden system call stores its number plus 1
/// in `violation` and ends the process with WorkerExit::kSandboxViolation; the number is the worker's own word. Makes
/// no memory; async-signal-safe. False when a layer could not be had: the worker must end before it reads a byte.
bool confine_worker(const Program& filter, std::atomic<std::uint64_t>& violation, int open_files);

}  // namespace bulkhead::sandbox
