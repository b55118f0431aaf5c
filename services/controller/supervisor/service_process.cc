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

// Between fork and exec: async-signal-safe calls alone. The error of a failed exec goes back through `report`, which a
// successful one closes.
[[noreturn]] void become(const char* program, char* const* arguments, int channel, int report) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  const int null = ::open("/dev/null", O_RDWR);
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
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(report, &error, sizeof error);
  ::_exit(127);
}

Result<pid_t> start(const std::string& program, const std::vector<std::string>& arguments, int channel) {
  std::vector<char*> pointers;
  pointers.push_back(const_cast<char*>(program.c_str()));
  for (const auto& argument : arguments) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot fork");
  if (pid == 0) become(program.c_str(), pointers.data(), channel, writing.get());
  writing.reset();
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(reading.get(), &error, sizeof error);
  } while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof error)) {
    ::waitpid(pid, nullptr, 0);
    return Error{ErrorCode::kSystem,
                 "cannot start " + program + ": " + std::strerror(error) + "; is the installation complete?", error};
  }
  return pid;
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

Result<pid_t> start_service(const std::string& program, int channel) {
  return start(program, {}, channel);
}

Result<int> run_program(const std::string& program, const std::vector<std::string>& arguments) {
  const auto pid = start(program, arguments, -1);
  if (!pid) return pid.error();
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0) {
    if (errno != EINTR) return system_error("cannot wait for " + program);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace bulkhead::supervisor
