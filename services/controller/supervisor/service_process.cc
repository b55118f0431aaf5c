#include "services/controller/supervisor/service_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace bulkhead::supervisor {
namespace {

constexpr int kChannelFd = 3;

void tell(int report, StartFailure::Step step) {
  const StartFailure failure{step, errno};
  [[maybe_unused]] const auto written = ::write(report, &failure, sizeof failure);
}

// Between fork and exec: async-signal-safe calls alone. What fails goes back through `report`, which a successful exec
// closes.
[[noreturn]] void become(const char* program, char* const* arguments, int channel, std::span<const int> groups,
                         int report) {
  for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int group : groups) {
    // "0": whoever writes.
    if (::write(group, "0", 1) != 1) tell(report, StartFailure::Step::kGroup);
  }
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
  }
  if (channel >= 0) {
    const int safe = ::fcntl(report, F_DUPFD_CLOEXEC, kChannelFd + 1);
    if (safe >= 0) report = safe;
    if (channel == kChannelFd) {
      ::fcntl(kChannelFd, F_SETFD, 0);
    } else {
      ::dup2(channel, kChannelFd);
    }
  }
  ::execv(program, arguments);
  tell(report, StartFailure::Step::kExec);
  ::_exit(127);
}

Result<StartedProcess> start(const std::string& program, const std::vector<std::string>& arguments, int channel,
                             std::span<const int> groups) {
  std::vector<char*> pointers;
  pointers.push_back(const_cast<char*>(program.c_str()));
  for (const auto& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return system_error("cannot make a pipe");
  UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  // Until the child has handlers of its own, it would write what it hears into this process's loop.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) become(program.c_str(), pointers.data(), channel, groups, writing.get());
  const Error error = pid < 0 ? system_error("cannot fork") : Error{};
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return error;
  return StartedProcess{pid, std::move(reading)};
}

}  // namespace

const char* program_of(Role role) {
  switch (role) {
    case Role::kController:
      return "bulkhead-controller";
    case Role::kKeyholder:
      return "bulkhead-keyholder";
    case Role::kAcceptor:
      return "bulkhead-acceptor";
    case Role::kMaintainer:
      return "bulkhead-maintainer";
    case Role::kNursery:
      return "bulkhead-conn";
    default:
      return "";
  }
}

Result<StartedProcess> start_service(const std::string& program, int channel, std::span<const int> groups) {
  return start(program, {}, channel, groups);
}

std::optional<StartFailure> start_failure(const StartedProcess& started) {
  StartFailure failure;
  // Each was written at once and is far below what a pipe takes in one piece.
  if (::read(started.report.get(), &failure, sizeof failure) != static_cast<ssize_t>(sizeof failure))
    return std::nullopt;
  return failure;
}

std::string cannot_start(const std::string& program, int errno_value) {
  return "cannot start " + program + ": " + std::strerror(errno_value) + "; is the installation complete?";
}

Result<int> run_program(const std::string& program, const std::vector<std::string>& arguments) {
  const auto started = start(program, arguments, -1, {});
  if (!started) return started.error();
  int status = 0;
  while (::waitpid(started->pid, &status, 0) < 0) {
    if (errno != EINTR) return system_error("cannot wait for " + program);
  }
  if (const auto failure = start_failure(*started))
    return Error{ErrorCode::kSystem, cannot_start(program, failure->errno_value), failure->errno_value};
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace bulkhead::supervisor
