#include "sandbox/confine.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/exit_codes.h"
#include "sandbox/landlock.h"
#include "sandbox/namespaces.h"

namespace bulkhead::sandbox {

namespace {

// The heap is grown once and never given back, so that malloc makes no system call as long as it suffices.
Result<void> reserve_heap(std::size_t bytes) {
  const bool set = ::mallopt(M_MMAP_MAX, 0) == 1 && ::mallopt(M_TRIM_THRESHOLD, -1) == 1;
  void* const memory = set ? std::malloc(bytes) : nullptr;
  if (memory == nullptr) return system_error("cannot reserve memory");
  // Else the compiler may leave out both calls.
  asm volatile("" : : "r"(memory) : "memory");
  std::free(memory);
  return {};
}

bool set_limit(decltype(RLIMIT_CORE) what, rlim_t most) {
  const rlimit limit{most, most};
  return ::setrlimit(what, &limit) == 0;
}

Result<void> limit_service(const RolePolicy& policy) {
  rlimit files{};
  // The size of files stays free: standard error may be one, and nothing else can be written.
  if (!set_limit(RLIMIT_CORE, 0)) return system_error("cannot forbid core dumps");
  if (!set_limit(RLIMIT_DATA, policy.data_bytes)) return system_error("cannot limit memory");
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || !set_limit(RLIMIT_NOFILE, files.rlim_cur)) {
    return system_error("cannot limit open files");
  }
  return {};
}

Error refused(const std::string& text) {
  return {ErrorCode::kRefused, text + "; allow it or say --require-sandbox default"};
}

// Leaves the process with `reduced`.
bool all_accessible(const SupervisorNeeds& needs, const Capabilities& reduced) {
  if (!set_own_capabilities(reduced)) return false;
  const auto accessible = [](int mode) {
    return [mode](const std::string& path) { return ::faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0; };
  };
  return std::all_of(needs.programs.begin(), needs.programs.end(), accessible(X_OK)) &&
         std::all_of(needs.directories.begin(), needs.directories.end(), accessible(W_OK | X_OK));
}

std::atomic<std::uint64_t>* g_violation = nullptr;

// Runs in a worker whose filter trapped a call. Only async-signal-safe work, within the filter itself.
void on_violation(int, siginfo_t* info, void*) {
  g_violation->store(static_cast<std::uint64_t>(info->si_syscall) + 1, std::memory_order_relaxed);
  ::syscall(SYS_exit_group, static_cast<int>(WorkerExit::kSandboxViolation));
}

bool set_violation_handler() {
  struct sigaction action {};
  action.sa_sigaction = on_violation;
  action.sa_flags = SA_SIGINFO;
  ::sigfillset(&action.sa_mask);
  return ::sigaction(SIGSYS, &action, nullptr) == 0;
}

}  // namespace

Result<Program> compile_policy(Role role) {
  const RolePolicy& policy = policy_of(role);
  return compile(calls_of(role), policy.violation);
}

Result<Confinement> confine_service(Role role, SandboxLevel level, int user_namespace_error) {
  Confinement result;
  if (level == SandboxLevel::kOff) return result;
  const RolePolicy& policy = policy_of(role);
  const auto lack = [&](const std::string& text) -> Result<void> {
    if (level == SandboxLevel::kStrict) return refused(text);
    result.missing.push_back(text);
    return {};
  };
  // Compiled first: it needs memory files, which are gone afterwards.
  auto program = compile_policy(role);
  if (!program) return program.error();

  if (policy.heap_bytes != 0) {
    if (auto done = reserve_heap(policy.heap_bytes); !done) return done.error();
  }
  if (auto done = limit_service(policy); !done) return done.error();
  const bool root = ::geteuid() == 0;
  const bool by_root = root && user_namespace_error != 0;
  Isolation isolated;
  // Without a user namespace it takes root's rights, which go with the change of user.
  if (by_root) {
    isolated = isolate(policy.empty_network, false);
    isolated.missing.insert(isolated.missing.begin(), user_namespace_refusal(user_namespace_error));
    bound_capabilities(0);
  }
  if (root) {
    const auto became = become_user(kFirstUser + policy.user_offset);
    if (!became) {
      if (auto done = lack("a user of its own: " + became.error().text +
                           " (as root it takes CAP_SETUID and CAP_SETGID; an ordinary user needs neither)");
          !done)
        return done.error();
    }
  }
  if (!by_root) isolated = isolate(policy.empty_network);
  for (const auto& text : isolated.missing) {
    if (auto done = lack("namespaces: " + text); !done) return done.error();
  }
  for (const auto& text : isolated.left_to_others) result.missing.push_back("namespaces: " + text);
  result.user_namespace = isolated.user;
  if (auto done = keep_capabilities(isolated.user ? policy.capabilities : 0); !done) return done.error();
  if (!policy.may_fork && !set_limit(RLIMIT_NPROC, 0)) return system_error("cannot forbid processes");
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error("cannot set no_new_privs");
  if (auto done = restrict_with_landlock(policy.may_connect_tcp); !done) return done.error();
  if (auto done = install(*program); !done) return done.error();
  return result;
}

Result<Confinement> confine_supervisor(SandboxLevel level, const SupervisorNeeds& needs) {
  Confinement result;
  if (level == SandboxLevel::kOff) return result;
  const RolePolicy& policy = policy_of(Role::kSupervisor);
  if (level == SandboxLevel::kStrict && needs.user_namespace_error != 0) {
    return refused("namespaces: " + user_namespace_refusal(needs.user_namespace_error));
  }
  auto program = compile_policy(Role::kSupervisor);
  if (!program) return program.error();
  const auto had = own_capabilities();
  if (!had) return system_error("cannot read the capabilities");
  std::uint64_t kept = 0;
  if (::geteuid() == 0) {
    kept = policy.capabilities;
    if (needs.user_namespace_error != 0) kept |= kCapabilitiesForNamespaces;
    if (!all_accessible(needs, {kept & had->permitted, had->permitted})) kept |= kCapabilitiesForForeignFiles;
    if (!set_own_capabilities(*had)) return system_error("cannot take the capabilities up again");
  }
  if (!set_limit(RLIMIT_CORE, 0)) return system_error("cannot forbid core dumps");
  if (!set_limit(RLIMIT_DATA, policy.data_bytes)) return system_error("cannot limit memory");
  if (auto done = keep_capabilities(kept & had->permitted); !done) return done.error();
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error("cannot set no_new_privs");
  if (auto done = restrict_signals_with_landlock(); !done) return done.error();
  if (auto done = install(*program); !done) return done.error();
  return result;
}

bool confine_worker(const Program& filter, std::atomic<std::uint64_t>& violation, int open_files) {
  g_violation = &violation;
  sigset_t none;
  ::sigemptyset(&none);
  return ::sigprocmask(SIG_SETMASK, &none, nullptr) == 0 && ::prctl(PR_SET_DUMPABLE, 0) == 0 &&
         set_violation_handler() && set_own_capabilities({}) && set_limit(RLIMIT_CORE, 0) &&
         set_limit(RLIMIT_FSIZE, 0) && set_limit(RLIMIT_NPROC, 0) &&
         set_limit(RLIMIT_NOFILE, static_cast<rlim_t>(open_files)) &&
         set_limit(RLIMIT_DATA, policy_of(Role::kConn).data_bytes) && install(filter).ok();
}

}  // namespace bulkhead::sandbox
