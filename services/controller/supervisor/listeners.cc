#include "services/controller/supervisor/listeners.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/address.h"
#include "base/log.h"

namespace bulkhead::supervisor {
namespace {

constexpr std::string_view kStoredPrefix = "peers-";

int option_of(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

/// Where a socket that somebody gave us listens by TCP; nothing when it does not.
std::optional<Point> listening_point(int fd) {
  const int domain = option_of(fd, SO_DOMAIN);
  if ((domain != AF_INET && domain != AF_INET6) || option_of(fd, SO_PROTOCOL) != IPPROTO_TCP) return std::nullopt;
  if (option_of(fd, SO_ACCEPTCONN) != 1) return std::nullopt;
  const auto point = bound_point(fd);
  return point ? std::optional(*point) : std::nullopt;
}

socklen_t address_of(const Point& point, bool v6, sockaddr_storage& storage) {
  if (v6) return to_sockaddr(point, storage);
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(point.port);
  if (is_ipv4(point.address)) std::memcpy(&v4.sin_addr, point.address.bytes.data() + 12, 4);
  storage = {};
  std::memcpy(&storage, &v4, sizeof v4);
  return sizeof v4;
}

std::string remedy(int error) {
  switch (error) {
    case EADDRINUSE:
      return "the port is taken; stop the other program or choose another with --net-addr";
    case EADDRNOTAVAIL:
      return "no interface has this address; choose another with --net-addr";
    case EACCES:
      return "ports below 1024 need CAP_NET_BIND_SERVICE; choose another with --net-addr";
    default:
      return "choose another address with --net-addr";
  }
}

}  // namespace

std::vector<std::optional<std::size_t>> match_listeners(std::span<const Point> wanted,
                                                        std::span<const std::optional<Point>> found) {
  std::vector<std::optional<std::size_t>> matches(wanted.size());
  std::vector<bool> used(found.size());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].port == 0) continue;
    for (std::size_t j = 0; j < found.size() && !matches[i]; ++j) {
      if (used[j] || found[j] != wanted[i]) continue;
      used[j] = true;
      matches[i] = j;
    }
  }
  return matches;
}

std::string stored_name(const Point& point) {
  std::string name = std::string(kStoredPrefix) + to_text(point);
  // A colon would end the name in the manager's list.
  std::replace(name.begin(), name.end(), ':', '_');
  return name;
}

Result<std::vector<Listener>> open_listeners(std::span<const Point> wanted, int backlog, ServiceManager& manager) {
  auto given = manager.take_given();
  std::vector<std::optional<Point>> found;
  for (const auto& descriptor : given) found.push_back(listening_point(descriptor.fd.get()));
  const auto matches = match_listeners(wanted, found);
  // First of all: what is no longer wanted may be in the way of what is.
  for (std::size_t j = 0; j < given.size(); ++j) {
    if (std::find(matches.begin(), matches.end(), j) != matches.end()) continue;
    given[j].fd.reset();
    if (given[j].name.starts_with(kStoredPrefix)) manager.discard(given[j].name);
  }
  std::vector<Listener> listeners;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (matches[i]) {
      UniqueFd fd = std::move(given[*matches[i]].fd);
      if (auto done = set_nonblocking(fd.get(), true); !done) return done.error();
      // Of a listening socket this changes the length of the queue alone.
      if (::listen(fd.get(), backlog) != 0) return system_error("cannot go on listening on " + to_text(wanted[i]));
      log_notice("listening on " + to_text(wanted[i]) + " by the socket that the service manager kept");
      listeners.push_back({std::move(fd), wanted[i]});
      continue;
    }
    auto fd = listen_for_peers(wanted[i], backlog);
    if (!fd) return fd.error();
    const auto point = bound_point(fd->get());
    if (!point) return point.error();
    manager.store(stored_name(*point), fd->get());
    listeners.push_back({std::move(*fd), *point});
  }
  return listeners;
}

Result<UniqueFd> listen_for_peers(const Point& point, int backlog) {
  const auto fail = [&point](const char* what) {
    const int error = errno;
    return Error{
        ErrorCode::kSystem,
        std::string("cannot ") + what + " " + to_text(point) + ": " + std::strerror(error) + "; " + remedy(error),
        error};
  };
  bool v6 = true;
  UniqueFd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd && errno == EAFNOSUPPORT && (is_ipv4(point.address) || is_unspecified(point.address))) {
    v6 = false;
    fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  if (!fd) return fail("make a socket for");
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (v6) {
    const int off = 0;
    ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  sockaddr_storage storage{};
  const socklen_t size = address_of(point, v6, storage);
  if (::bind(fd.get(), static_cast<const sockaddr*>(static_cast<const void*>(&storage)), size) != 0)
    return fail("bind");
  if (::listen(fd.get(), backlog) != 0) return fail("listen on");
  return fd;
}

Result<UniqueFd> open_discovery(std::uint16_t port) {
  const auto fail = [port](const char* what) {
    const int error = errno;
    return Error{ErrorCode::kSystem,
                 std::string("cannot ") + what + " UDP port " + std::to_string(port) + " for LAN discovery: " +
                     std::strerror(error) + "; choose another with --discovery-addr, or leave it out",
                 error};
  };
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail("make a socket for");
  const int on = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return fail("share");
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on) != 0) return fail("broadcast from");
  sockaddr_storage storage{};
  const socklen_t size = address_of(Point{{}, port}, false, storage);
  if (::bind(fd.get(), static_cast<const sockaddr*>(static_cast<const void*>(&storage)), size) != 0)
    return fail("bind");
  return fd;
}

Result<Point> bound_point(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getsockname(fd, static_cast<sockaddr*>(static_cast<void*>(&storage)), &size) != 0)
    return system_error("cannot read a socket's address");
  return from_sockaddr(storage);
}

}  // namespace bulkhead::supervisor
