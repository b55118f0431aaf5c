#include "services/acceptor/listening.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/address.h"
#include "base/log.h"

namespace bulkhead::acceptor {
namespace {

constexpr int kAcceptsPerWakeup = 64;
constexpr std::uint64_t kFirstPauseMs = 100;
constexpr std::uint64_t kLongestPauseMs = 1000;
constexpr Nanoseconds kLogPeriod = 60 * kSecond;
// In a flood, going to sleep, being woken and an accept that finds nobody (the kernel makes the socket before it looks)
// take a quarter of the time. They are paid for each batch then, which is far shorter than a backlog of the usual size.
constexpr Nanoseconds kFlood = 4 * kMillisecond;
constexpr std::uint64_t kGatherMs = 1;

}  // namespace

AcceptFailure accept_failure(int error) {
  switch (error) {
    case EAGAIN:
      return AcceptFailure::kNobody;
    case EINTR:
      return AcceptFailure::kAgain;
    case ECONNABORTED:
    case ECONNRESET:
    case ETIMEDOUT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ENONET:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM:  // a firewall's rule on this connection
    case EPROTO:
      return AcceptFailure::kOfConnection;
    default:
      return AcceptFailure::kOfSystem;
  }
}

std::uint64_t AcceptBackoff::failed() {
  pause_ms_ = std::clamp(2 * pause_ms_, kFirstPauseMs, kLongestPauseMs);
  return pause_ms_;
}

Listening::Listening(service::Loop& loop, std::vector<UniqueFd> sockets, Callbacks callbacks, Accept accept)
    : callbacks_(std::move(callbacks)), accept_(std::move(accept)) {
  for (auto& socket : sockets) {
    auto listener = std::make_unique<Listener>();
    Listener* at = listener.get();
    at->socket = std::move(socket);
    at->poll = service::Poll(loop, at->socket.get(), [this, at](int, int) { on_readable(*at); });
    at->resume = service::Timer(loop, [at] { at->poll.watch(UV_READABLE); });
    listeners_.push_back(std::move(listener));
  }
  accepted_.reserve(kTogether);
}

void Listening::start() {
  for (auto& listener : listeners_) listener->poll.watch(UV_READABLE);
}

void Listening::on_readable(Listener& listener) {
  bool any = false;
  bool more = true;
  for (int round = 0; more && round < kAcceptsPerWakeup; ++round) {
    more = accept_one(listener, any);
    if (accepted_.size() == kTogether) hand_over();
  }
  hand_over();
  // Nothing but connections that died: this need not have an end.
  if (more && !any) pause(listener);
}

void Listening::hand_over() {
  if (!accepted_.empty()) callbacks_.accepted(accepted_);
  accepted_.clear();
}

bool Listening::accept_one(Listener& listener, bool& any) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  UniqueFd socket(accept_(listener.socket.get(), static_cast<sockaddr*>(static_cast<void*>(&storage)), &size,
                          SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) {
    any = true;
    listener.backoff.accepted();
    accepted_.push_back({std::move(socket), from_sockaddr(storage)});
    return true;
  }
  const int error = errno;
  switch (accept_failure(error)) {
    case AcceptFailure::kNobody:
      if (any) let_gather(listener);
      return false;
    case AcceptFailure::kAgain:
      return true;
    case AcceptFailure::kOfConnection:
      failed(error);
      return true;
    case AcceptFailure::kOfSystem:
      break;
  }
  failed(error);
  pause(listener);
  return false;
}

void Listening::let_gather(Listener& listener) {
  const Nanoseconds now = monotonic_now();
  if (now - std::exchange(listener.emptied_at, now) >= kFlood) return;
  listener.poll.watch(0);
  listener.resume.once(kGatherMs);
}

void Listening::pause(Listener& listener) {
  listener.poll.watch(0);
  listener.resume.once(listener.backoff.failed());
}

void Listening::failed(int error) {
  callbacks_.failed();
  ++failures_;
  const Nanoseconds now = monotonic_now();
  if (now < may_log_at_) return;
  may_log_at_ = now + kLogPeriod;
  log_warning("cannot accept a connection: " + std::string(std::strerror(error)) +
              " (failures since this was said last: " + std::to_string(failures_) +
              "); it is tried again. If it lasts, raise the limit of open files or lower pending-limit");
  failures_ = 0;
}

}  // namespace bulkhead::acceptor
