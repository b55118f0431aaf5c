#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "base/exit_codes.h"
#include "base/fd.h"
#include "sandbox/confine.h"
#include "sandbox/namespaces.h"

namespace bulkhead::sandbox::test {

#ifdef BULKHEAD_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

#define SKIP_UNDER_SANITIZERS() \
  if (::bulkhead::sandbox::test::kSanitized) GTEST_SKIP() << "a sanitizer makes system calls that no policy allows"

inline constexpr int kDone = 77;         ///< exit status of a child that came to its end
inline constexpr int kNotConfined = 78;  ///< of one that could not be confined
inline constexpr int kWaitMs = 20000;

/// The only call that every role may make to end.
[[noreturn]] inline void leave(int status) {
  ::syscall(SYS_exit_group, status);
  ::_exit(status);
}

/// Runs `body` in a child; its wait status.
inline int in_child(const std::function<void()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(kWaitMs / 1000);
    body();
    leave(kDone);
  }
  int status = 0;
  if (pid < 0 || ::waitpid(pid, &status, 0) != pid) return -1;
  return status;
}

inline std::string describe_status(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  if (WIFEXITED(status)) return "exit status " + std::to_string(WEXITSTATUS(status));
  return "wait status " + std::to_string(status);
}

/// Confines this process exactly as the role's own is. For a worker: as the nursery first, then as what it forks;
/// `violation` is its word in the live page. Leaves when it cannot.
inline void become(Role role, std::atomic<std::uint64_t>& violation, SandboxLevel level = SandboxLevel::kDefault) {
  if (role != Role::kConn) {
    if (!confine_service(role, level)) leave(kNotConfined);
    return;
  }
  const auto filter = compile_policy(Role::kConn);
  if (!filter || !confine_service(Role::kNursery, level)) leave(kNotConfined);
  if (!confine_worker(*filter, violation, 64)) leave(kNotConfined);
}

/// A pipe.
struct Line {
  UniqueFd read;
  UniqueFd write;
};

inline Line make_line() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// Holds a process of a role that is confined and waits, as its parent sees it.
class Confined {
 public:
  explicit Confined(Role role, SandboxLevel level = SandboxLevel::kDefault) {
    Line line = make_line();
    Line silent = make_line();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::alarm(kWaitMs / 1000);
      // The one descriptor that every role may write to.
      ::dup2(line.write.get(), STDERR_FILENO);
      std::atomic<std::uint64_t> violation{0};
      become(role, violation, level);
      ::syscall(SYS_write, STDERR_FILENO, "x", 1);
      if (role == Role::kKeyholder || role == Role::kNursery) {
        for (;;) ::syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0);
      }
      for (;;) ::syscall(SYS_read, silent.read.get(), &violation, 1);
    }
    line.write.reset();
    pollfd waiting{line.read.get(), POLLIN, 0};
    char byte = 0;
    ready_ = ::poll(&waiting, 1, kWaitMs) == 1 && ::read(line.read.get(), &byte, 1) == 1;
  }
  ~Confined() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Confined(const Confined&) = delete;
  Confined& operator=(const Confined&) = delete;

  bool ready() const { return ready_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  bool ready_ = false;
};

/// Whether this process has all rights of root (in a container it may not).
inline bool is_full_root() {
  const auto had = own_capabilities();
  constexpr std::uint64_t kNeeded =
      1U << 5 | 1U << 6 | 1U << 7 | 1U << 8 | 1U << 21;  // KILL, SET*ID, SETPCAP, SYS_ADMIN
  return ::geteuid() == 0 && had && (had->effective & kNeeded) == kNeeded;
}

/// Whether this user may have namespaces of its own here.
inline bool has_namespaces() {
  static const bool kHas = WEXITSTATUS(in_child([] {
                             if (!isolate(true)) leave(kNotConfined);
                           })) == kDone;
  return kHas;
}

}  // namespace bulkhead::sandbox::test
