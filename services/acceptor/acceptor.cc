#include "services/acceptor/acceptor.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "base/address.h"
#include "base/log.h"
#include "services/common/offence.h"
#include "services/common/tcp_options.h"
#include "wire/connection_message.h"

namespace bulkhead::acceptor {
namespace {

// How soon a ban ends connections that came before it. Nobody wakes this process when the lists change, so it looks, as
// long as there is a connection that it could concern.
constexpr std::uint64_t kListsPeriodMs = 100;
// How often refusals that were not told one by one are told as numbers, and logged so.
constexpr std::uint64_t kSumPeriodMs = 1000;
constexpr std::size_t kMaximumReady = 256;
// Offenders that were not told with their refusal: so many at a time, which costs the controller a small part of its
// time.
constexpr std::uint64_t kOffenderPeriodMs = 10;
constexpr int kOffendersAtOnce = 32;

void set_low_water(int fd, int bytes) {
  (void)::setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
}

}  // namespace

Acceptor::Acceptor(AcceptorParts parts)
    : parts_(std::move(parts)),
      listening_(loop_, std::move(parts_.listeners),
                 {.accepted = [this](std::span<Listening::Accepted> all) { on_sockets(all); },
                  .failed = [this] { parts_.counters.count(Reason::kAcceptFailed); }}),
      door_(parts_.boot.door, parts_.door_keys) {
  supervisor_poll_ = service::Poll(loop_, parts_.supervisor.fd(), [this](int, int) { on_supervisor(); });
  controller_poll_ = service::Poll(loop_, parts_.controller.fd(), [this](int status, int events) {
    if (status < 0 || (events & (UV_READABLE | UV_DISCONNECT)) != 0) {
      // The controller says nothing on this channel; its end means that the supervisor let go of it too.
      schema::Descriptors descriptors;
      const auto message = parts_.controller.receive<schema::FromAcceptor>(descriptors);
      if (!message && message.error().code != ErrorCode::kWouldBlock) {
        loop_.stop();
        return;
      }
    }
    hand_on();
  });
  deadline_timer_ = service::Timer(loop_, [this] { on_deadline(); });
  refusal_timer_ = service::Timer(loop_, [this] { tell_left_out(); });
  offender_timer_ = service::Timer(loop_, [this] { tell_offenders(); });
  lists_timer_ = service::Timer(loop_, [this] { look_at_lists(); });
}

int Acceptor::run() {
  supervisor_poll_.watch(UV_READABLE);
  controller_poll_.watch(UV_READABLE);
  listening_.start();
  loop_.run();
  return exit_;
}

void Acceptor::on_supervisor() {
  schema::Descriptors descriptors;
  auto message = parts_.supervisor.receive<schema::FromSupervisor>(descriptors);
  if (!message) {
    if (message.error().code != ErrorCode::kWouldBlock) loop_.stop();
    return;
  }
  if (const auto* ping = std::get_if<schema::Ping>(&*message))
    (void)parts_.supervisor.send(schema::ToSupervisor(schema::Pong{ping->number}));
  if (std::holds_alternative<schema::Stop>(*message)) loop_.stop();
}

void Acceptor::on_sockets(std::span<Listening::Accepted> all) {
  std::array<Address, Listening::kTogether> addresses;
  std::array<shm::Verdict, Listening::kTogether> verdicts;
  for (std::size_t i = 0; i < all.size(); ++i) addresses[i] = all[i].remote.address;
  parts_.lists.look_up(std::span(addresses).first(all.size()), wall_now_ms(), std::span(verdicts).first(all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) on_socket(std::move(all[i].socket), all[i].remote, verdicts[i]);
}

void Acceptor::on_socket(UniqueFd socket, const Point& remote, const shm::Verdict& verdict) {
  parts_.counters.count(shm::Counter::kAccepted);
  const Nanoseconds now = monotonic_now();
  const Nanoseconds deadline = now + parts_.boot.authentication_timeout_ms * kMillisecond;
  const std::uint64_t id = next_id_++;
  const auto answer = door_.knock(id, remote.address, verdict, deadline, now);
  if (answer.refused != Reason::kNone) {
    tell_refused(remote, answer.refused);
    return;
  }
  if (answer.victim) refuse(*answer.victim, answer.victim_reason);
  Pending& pending = pending_[id];
  pending.remote = remote;
  pending.deadline = deadline;
  set_low_water(socket.get(), pending.low_water);
  pending.poll =
      service::Poll(loop_, socket.get(), [this, id](int status, int events) { on_pending(id, status, events); });
  pending.socket = std::move(socket);
  pending.poll.watch(UV_READABLE | UV_PRIORITIZED | UV_DISCONNECT);
  parts_.counters.set(shm::Counter::kPendingNow, pending_.size());
  if (!deadline_timer_.active()) arm_deadline();
  if (!lists_timer_.active()) lists_timer_.once(kListsPeriodMs);
}

void Acceptor::look_at_lists() {
  // Read before the entries: what changes meanwhile is met the next time.
  const std::uint64_t revision = parts_.lists.status().revision;
  if (revision != lists_revision_) {
    lists_revision_ = revision;
    std::vector<std::uint64_t> ids;
    ids.reserve(pending_.size());
    for (const auto& [id, pending] : pending_) ids.push_back(id);
    for (const std::uint64_t id : ids) close_if_listed(id);
  }
  if (!pending_.empty()) lists_timer_.once(kListsPeriodMs);
}

bool Acceptor::close_if_listed(std::uint64_t id) {
  const Reason reason = refusal_of(parts_.lists.look_up(pending_.at(id).remote.address, wall_now_ms()));
  if (reason == Reason::kNone) return false;
  refuse(id, reason);
  return true;
}

void Acceptor::on_pending(std::uint64_t id, int status, int events) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return;
  Pending& pending = found->second;
  if (status < 0) {
    refuse(id, Reason::kClosedBeforeProof);
    return;
  }
  if ((events & UV_PRIORITIZED) != 0) {
    refuse(id, Reason::kUrgentData);
    return;
  }
  std::array<std::uint8_t, wire::kProofPrefixSize> first{};
  const ssize_t got = ::recv(pending.socket.get(), first.data(), first.size(), MSG_PEEK | MSG_DONTWAIT);
  const auto size = got < 0 ? std::size_t{0} : static_cast<std::size_t>(got);
  if (got < 0 && (errno == EAGAIN || errno == EINTR) && (events & UV_DISCONNECT) == 0) return;
  if (size < static_cast<std::size_t>(pending.low_water)) {
    refuse(id, Reason::kClosedBeforeProof);
    return;
  }
  if (pending.low_water < static_cast<int>(wire::kProofPrefixSize)) {
    const auto whole = wire::connection_message_size(std::span<const std::uint8_t>(first).first(size));
    if (!whole || !whole->has_value()) {
      refuse(id, Reason::kBadLength);
      return;
    }
    door_.spoke(id);
    pending.low_water = static_cast<int>(wire::kProofPrefixSize);
    set_low_water(pending.socket.get(), pending.low_water);
    if (size < wire::kProofPrefixSize) return;
  }
  prove(id, std::span<const std::uint8_t>(first));
}

void Acceptor::prove(std::uint64_t id, std::span<const std::uint8_t> first) {
  if (close_if_listed(id)) return;
  const auto prefix = first.first<wire::kProofPrefixSize>();
  parts_.counters.count(shm::Counter::kProofsChecked);
  if (!wire::check_proof_of_work(wire::key_and_stamp(prefix), parts_.target)) {
    refuse(id, Reason::kNotEnoughProofOfWork);
    return;
  }
  Pending& pending = pending_.at(id);
  Ready ready;
  ready.message.remote = pending.remote;
  ready.message.deadline_ns = pending.deadline;
  std::copy_n(prefix.begin() + wire::kKeyOffset, ready.message.public_key.size(), ready.message.public_key.begin());
  set_low_water(pending.socket.get(), 1);
  service::set_peer_socket_options(pending.socket.get(), parts_.boot.tcp);
  pending.poll.close();
  ready.socket = std::move(pending.socket);
  drop(id);
  if (ready_.size() >= kMaximumReady) {
    tell_refused(ready.message.remote, Reason::kChannelFull);
    return;
  }
  ready_.push_back(std::move(ready));
  hand_on();
}

// The controller may be busy, or on its way back: what is proved waits here until its own deadline.
void Acceptor::hand_on() {
  const Nanoseconds now = monotonic_now();
  while (!ready_.empty()) {
    Ready& first = ready_.front();
    if (first.message.deadline_ns <= now) {
      tell_refused(first.message.remote, Reason::kProofTimeout);
      ready_.pop_front();
      continue;
    }
    const int descriptor = first.socket.get();
    const auto sent = parts_.controller.send(schema::FromAcceptor(first.message), std::span(&descriptor, 1));
    if (!sent) break;
    parts_.counters.count(shm::Counter::kHandedOn);
    ready_.pop_front();
  }
  controller_poll_.watch(UV_READABLE | (ready_.empty() ? 0 : UV_WRITABLE));
}

void Acceptor::refuse(std::uint64_t id, Reason reason) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return;
  tell_refused(found->second.remote, reason);
  found->second.poll.close();
  drop(id);
}

void Acceptor::tell_refused(const Point& remote, Reason reason) {
  parts_.counters.count(reason);
  const bool told = refusals_.may_tell(monotonic_now()) &&
                    parts_.controller.send(schema::FromAcceptor(schema::Refused{remote, reason, 1}));
  if (told) {
    log_info("refused " + to_text(remote.address) + ": " + reason_name(reason));
    return;
  }
  refusals_.leave_out(reason);
  if (!refusal_timer_.active()) refusal_timer_.once(kSumPeriodMs);
  if (!service::offends_at_the_door(reason)) return;
  offenders_.add(remote, reason);
  if (!offender_timer_.active()) offender_timer_.once(kOffenderPeriodMs);
}

void Acceptor::tell_offenders() {
  for (int i = 0; i < kOffendersAtOnce && !offenders_.empty(); ++i) {
    const auto& [remote, reason] = offenders_.first();
    if (!parts_.controller.send(schema::FromAcceptor(schema::Refused{remote, reason, 0}))) break;
    offenders_.pop();
  }
  if (!offenders_.empty()) offender_timer_.once(kOffenderPeriodMs);
}

void Acceptor::tell_left_out() {
  refusals_.tell_left_out([this](Reason reason, std::uint32_t count) {
    if (!parts_.controller.send(schema::FromAcceptor(schema::Refused{{}, reason, count}))) return false;
    log_info("refused " + std::to_string(count) + " more: " + reason_name(reason));
    return true;
  });
  if (refusals_.any_left_out()) refusal_timer_.once(kSumPeriodMs);
}

void Acceptor::drop(std::uint64_t id) {
  door_.leave(id);
  pending_.erase(id);
  parts_.counters.set(shm::Counter::kPendingNow, pending_.size());
}

void Acceptor::arm_deadline() {
  const auto earliest = door_.pending().earliest();
  if (!earliest) return;
  const Nanoseconds now = monotonic_now();
  deadline_timer_.once(earliest->second > now ? (earliest->second - now) / kMillisecond + 1 : 0);
}

void Acceptor::on_deadline() {
  const Nanoseconds now = monotonic_now();
  for (auto earliest = door_.pending().earliest(); earliest && earliest->second <= now;
       earliest = door_.pending().earliest()) {
    refuse(earliest->first, Reason::kProofTimeout);
  }
  arm_deadline();
}

}  // namespace bulkhead::acceptor
