#include "services/controller/supervisor/service_manager.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <span>

#include "base/carried_descriptors.h"
#include "base/log.h"

namespace bulkhead::supervisor {
namespace {

constexpr int kFirstGiven = 3;
// As many addresses as can be listened on, and room for a manager's own ideas.
constexpr std::uint64_t kMaximumGiven = 64;
constexpr int kBarrierMs = 5000;
constexpr Nanoseconds kMicrosecond = 1000;
constexpr Nanoseconds kLongestWatchdog = 86400 * kSecond;

constexpr std::array kVariables = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",  "CREDENTIALS_DIRECTORY",
                                   "LISTEN_PID",    "LISTEN_FDS",    "LISTEN_FDNAMES"};

std::string text_of(const Variable& variable, const char* name) {
  const char* text = variable(name);
  return text == nullptr ? std::string() : std::string(text);
}

std::uint64_t number_of(const Variable& variable, const char* name) {
  const std::string text = text_of(variable, name);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size() ? value : 0;
}

std::vector<std::string> split_names(const std::string& text, std::size_t count) {
  std::vector<std::string> names(count);
  std::size_t begin = 0;
  for (std::size_t i = 0; i < count && begin <= text.size(); ++i) {
    const std::size_t end = std::min(text.find(':', begin), text.size());
    names[i] = text.substr(begin, end - begin);
    begin = end + 1;
  }
  return names;
}

}  // namespace

ManagerEnvironment read_manager_environment(const Variable& variable, pid_t self) {
  ManagerEnvironment environment;
  const auto own = static_cast<std::uint64_t>(self);
  const std::string socket = text_of(variable, "NOTIFY_SOCKET");
  if (socket.size() > 1 && socket.size() < sizeof sockaddr_un::sun_path && (socket[0] == '/' || socket[0] == '@'))
    environment.notify_socket = socket;
  const std::string credentials = text_of(variable, "CREDENTIALS_DIRECTORY");
  if (credentials.starts_with('/')) environment.credentials = credentials;
  if (variable("WATCHDOG_PID") == nullptr || number_of(variable, "WATCHDOG_PID") == own) {
    environment.watchdog =
        std::min(number_of(variable, "WATCHDOG_USEC"), kLongestWatchdog / kMicrosecond) * kMicrosecond;
  }
  const std::uint64_t given = number_of(variable, "LISTEN_FDS");
  if (given <= kMaximumGiven && number_of(variable, "LISTEN_PID") == own)
    environment.given = split_names(text_of(variable, "LISTEN_FDNAMES"), given);
  return environment;
}

bool watchdog_due(Nanoseconds now, Nanoseconds fed, Nanoseconds interval, Nanoseconds tick) {
  return interval != 0 && now - fed + tick >= interval / 2;
}

ServiceManager::ServiceManager() : environment_(read_manager_environment(::getenv, ::getpid())) {
  for (const char* name : kVariables) ::unsetenv(name);
  int fd = kFirstGiven;
  for (const std::string& name : environment_.given) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) given_.push_back({UniqueFd(fd), name});
    ++fd;
  }
  // Made once: this process may have no right to make sockets later.
  if (!environment_.notify_socket.empty())
    socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

void ServiceManager::ready(const std::string& text) {
  send("READY=1\nSTATUS=" + text);
}

void ServiceManager::stopping() {
  send("STOPPING=1\nSTATUS=stopping");
}

void ServiceManager::feed_watchdog(Nanoseconds now, Nanoseconds tick, bool healthy) {
  if (!healthy || !watchdog_due(now, fed_, environment_.watchdog, tick)) return;
  if (send("WATCHDOG=1")) fed_ = now;
}

void ServiceManager::store(const std::string& name, int fd) {
  send("FDSTORE=1\nFDPOLL=0\nFDNAME=" + name, fd);
}

void ServiceManager::discard(const std::string& name) {
  if (!send("FDSTOREREMOVE=1\nFDNAME=" + name)) return;
  // The manager closes the other end once it has read everything that was said before.
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  const UniqueFd reading(ends[0]);
  UniqueFd writing(ends[1]);
  if (!send("BARRIER=1", writing.get())) return;
  writing.reset();
  pollfd waiting{reading.get(), 0, 0};
  (void)::poll(&waiting, 1, kBarrierMs);
}

Result<UniqueFd> ServiceManager::open_credential(const std::string& name) const {
  if (environment_.credentials.empty()) return Error{ErrorCode::kNotFound, "there are no credentials"};
  const std::string path = environment_.credentials + "/" + name;
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd) return fd;
  const int error = errno;
  // systemd keeps a directory without any credential to itself.
  if (error == ENOENT || ::access(environment_.credentials.c_str(), X_OK) != 0)
    return Error{ErrorCode::kNotFound, path + ": there is no such credential"};
  errno = error;
  return system_error("cannot read the credential " + path);
}

bool ServiceManager::send(std::string_view state, int fd) {
  const std::string& path = environment_.notify_socket;
  if (path.empty()) return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';
  iovec data{const_cast<char*>(state.data()), state.size()};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  const CarriedDescriptors<1> carried(message, std::span(&fd, fd >= 0 ? 1 : 0));
  if (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return true;
  if (!complained_) {
    log_warning("the service manager could not be told '" + std::string(state.substr(0, state.find('\n'))) +
                "': " + std::strerror(errno) + "; is $NOTIFY_SOCKET (" + path + ") its socket?");
  }
  complained_ = true;
  return false;
}

}  // namespace bulkhead::supervisor
