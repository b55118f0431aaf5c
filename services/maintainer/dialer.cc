#include "services/maintainer/dialer.h"

#include <sys/socket.h>

#include <cerrno>

#include "base/address.h"
#include "services/common/tcp_options.h"

namespace bulkhead::maintainer {
namespace {

Reason reason_of(int error) {
  switch (error) {
    case ECONNREFUSED:
      return Reason::kConnectionRefused;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
      return Reason::kUnreachable;
    case ETIMEDOUT:
      return Reason::kConnectTimeout;
    default:
      return Reason::kDialFailed;
  }
}

const sockaddr* as_sockaddr(const sockaddr_storage& storage) {
  return static_cast<const sockaddr*>(static_cast<const void*>(&storage));
}

}  // namespace

Dialer::Dialer(service::Loop& loop, std::optional<Address> source, const TcpSettings& tcp, Callback callback)
    : loop_(loop), source_(source), tcp_(tcp), callback_(std::move(callback)) {}

void Dialer::dial(std::uint64_t id, const Point& point, Nanoseconds deadline) {
  Attempt& attempt = attempts_[id];
  attempt.point = point;
  attempt.deadline = deadline;
  attempt.timer = service::Timer(loop_, [this, id] {
    const Reason known = attempts_.at(id).failed_at_once;
    finish(id, known != Reason::kNone ? known : Reason::kConnectTimeout);
  });
  attempt.socket = UniqueFd(::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  int error = attempt.socket ? 0 : errno;
  sockaddr_storage storage{};
  // A node that listens on one address is known to others by it: what it dials must come from there.
  if (error == 0 && source_ && is_ipv4(*source_) == is_ipv4(point.address)) {
    const socklen_t size = to_sockaddr(Point{*source_, 0}, storage);
    if (::bind(attempt.socket.get(), as_sockaddr(storage), size) != 0) error = errno;
  }
  if (error == 0) {
    const socklen_t size = to_sockaddr(point, storage);
    if (::connect(attempt.socket.get(), as_sockaddr(storage), size) != 0 && errno != EINPROGRESS) error = errno;
  }
  if (error != 0) {
    attempt.failed_at_once = reason_of(error);
    attempt.timer.once(0);
    return;
  }
  const Nanoseconds now = monotonic_now();
  attempt.timer.once(deadline > now ? (deadline - now) / kMillisecond + 1 : 0);
  attempt.poll = service::Poll(loop_, attempt.socket.get(), [this, id](int, int) { on_event(id); });
  attempt.poll.watch(UV_WRITABLE);
}

void Dialer::cancel(std::uint64_t id) {
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) return;
  found->second.poll.close();
  attempts_.erase(found);
}

void Dialer::on_event(std::uint64_t id) {
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) return;
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(found->second.socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
  finish(id, error == 0 ? Reason::kNone : reason_of(error));
}

void Dialer::finish(std::uint64_t id, Reason reason) {
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) return;
  Attempt& attempt = found->second;
  attempt.poll.close();
  Outcome outcome{id, attempt.point, attempt.deadline, {}, reason};
  if (reason == Reason::kNone) {
    service::set_peer_socket_options(attempt.socket.get(), tcp_);
    outcome.socket = std::move(attempt.socket);
  }
  attempts_.erase(found);
  callback_(std::move(outcome));
}

}  // namespace bulkhead::maintainer
