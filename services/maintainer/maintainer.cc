#include "services/maintainer/maintainer.h"

#include <algorithm>

#include "base/address.h"
#include "base/log.h"

namespace bulkhead::maintainer {
namespace {

// How long the pool's table may take to show what was just dialled.
constexpr Nanoseconds kTableLag = 500 * kMillisecond;
// Addresses behind a configured name change now and then.
constexpr std::uint64_t kRefreshMs = 10 * 60 * 1000;
constexpr std::uint64_t kMaximumRetryMs = 60 * 1000;
// Two nodes that start at once would dial each other at once, and both refuse: each waits a little, at random.
constexpr std::uint64_t kJitterMs = 150;
// Never sleep without end: a wake-up may have been lost with a full channel.
constexpr std::uint64_t kLongestWaitMs = 120 * 1000;

MaintenanceSettings settings_of(const schema::BootMaintainer& boot) {
  return {.bounds = boot.bounds,
          .minimum = boot.minimum_connections,
          .maximum = boot.maximum_connections,
          .idle = static_cast<Nanoseconds>(boot.maintenance_idle_time_s * static_cast<double>(kSecond)),
          .enabled = boot.maintenance,
          .private_mode = boot.private_mode,
          .exchange = !boot.disable_peer_discovery,
          .swap = boot.swap,
          .hardened = boot.hardened,
          .score_half_life_s = boot.score_half_life_s,
          .own_points = boot.own_points};
}

}  // namespace

Maintainer::Maintainer(MaintainerParts parts)
    : parts_(std::move(parts)),
      dialer_(loop_, parts_.boot.source_address, parts_.boot.tcp,
              [this](Dialer::Outcome outcome) { on_outcome(std::move(outcome)); }),
      resolver_(loop_),
      random_(std::random_device{}()),
      maintenance_(settings_of(parts_.boot), [this] { return random_(); }) {
  supervisor_poll_ = service::Poll(loop_, parts_.supervisor.fd(), [this](int, int) { on_supervisor(); });
  controller_poll_ = service::Poll(loop_, parts_.controller.fd(), [this](int, int) { on_controller(); });
  look_timer_ = service::Timer(loop_, [this] { look(); });
  resolve_timer_ = service::Timer(loop_, [this] { resolve_all(false); });
  refresh_timer_ = service::Timer(loop_, [this] { resolve_all(true); });
  for (const auto& peer : parts_.boot.peers) {
    configured_.push_back({peer});
    if (!parse_address(peer.host)) resolver_.remember(peer.host);
  }
  if (parts_.discovery) {
    discovery_.emplace(loop_, std::move(parts_.discovery), parts_.boot.discovery, beacons_of(parts_.boot.own_points),
                       parts_.boot.own_peer_id, parts_.counters,
                       [this](const Point& point) { (void)tell(schema::Discovered{point}); });
  }
}

int Maintainer::run() {
  supervisor_poll_.watch(UV_READABLE);
  controller_poll_.watch(UV_READABLE);
  refresh_timer_.every(kRefreshMs);
  resolve_all(true);
  if (discovery_) discovery_->start();
  look_soon(random_() % kJitterMs);
  loop_.run();
  return 0;
}

void Maintainer::on_supervisor() {
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

void Maintainer::on_controller() {
  schema::Descriptors descriptors;
  auto message = parts_.controller.receive<schema::ToMaintainer>(descriptors);
  if (!message) {
    if (message.error().code != ErrorCode::kWouldBlock) loop_.stop();
    return;
  }
  if (const auto* dial = std::get_if<schema::Dial>(&*message)) {
    begin_dial(dial->id, dial->point, dial->timeout_ms);
  } else if (const auto* cancelled = std::get_if<schema::DialCancelled>(&*message)) {
    dialer_.cancel(cancelled->id);
  } else {
    const auto* wanted = std::get_if<schema::Maintain>(&*message);
    if (wanted != nullptr) maintenance_.request(wanted->id);
    look_soon(wanted != nullptr ? 0 : random_() % kJitterMs);
  }
}

bool Maintainer::tell(const schema::FromMaintainer& message, std::span<const int> descriptors) {
  return parts_.controller.send(message, descriptors).ok();
}

void Maintainer::resolve_all(bool again) {
  for (std::size_t i = 0; i < configured_.size(); ++i) {
    if (again || !configured_[i].resolved) resolve(i);
  }
}

void Maintainer::resolve(std::size_t index) {
  const auto& peer = configured_[index].peer;
  if (const auto literal = parse_address(peer.host)) {
    found(index, {*literal});
    return;
  }
  resolver_.resolve(peer.host, [this, index](const std::vector<Address>& addresses) { found(index, addresses); });
}

void Maintainer::found(std::size_t index, const std::vector<Address>& addresses) {
  Configured& configured = configured_[index];
  bool told = !addresses.empty();
  for (const auto& address : addresses) {
    told = tell(schema::KnownPoint{{address, configured.peer.port}, true, configured.peer.expected_peer_id}) && told;
  }
  configured.resolved = told;
  if (told) {
    look_soon(random_() % kJitterMs + 50);
    return;
  }
  parts_.counters.count(Reason::kNameNotResolved);
  log_warning("cannot resolve the configured peer " + configured.peer.host + "; trying again");
  if (!resolve_timer_.active()) resolve_timer_.once(configured.retry_ms);
  configured.retry_ms = std::min(configured.retry_ms * 2, kMaximumRetryMs);
}

void Maintainer::look_soon(std::uint64_t after_ms) {
  look_timer_.once(after_ms);
}

void Maintainer::look() {
  const Nanoseconds now = monotonic_now();
  std::erase_if(busy_, [now](const auto& entry) { return entry.second < now; });
  std::set<Point> busy;
  for (const auto& entry : busy_) busy.insert(entry.first);
  const Work work = maintenance_.look(view_of(parts_.pool), busy, now, wall_now_ms());
  for (const auto& slot : work.closes) (void)tell(schema::Disconnect{slot, Reason::kMaintenanceTooMany});
  for (const auto& point : work.dials) begin_dial(next_id_++, point, parts_.boot.connection_timeout_ms);
  if (work.feeler) begin_dial(next_id_++, *work.feeler, parts_.boot.connection_timeout_ms, true);
  if (work.ask_for_peers) (void)tell(schema::AskForPeers{});
  if (work.announce && discovery_) discovery_->restart();
  if (work.propose_swap) (void)tell(schema::ProposeSwap{});
  for (const auto id : work.done) (void)tell(schema::Maintained{id});
  std::uint64_t wait_ms = kLongestWaitMs;
  if (work.look_again_at > now)
    wait_ms = std::min<std::uint64_t>(wait_ms, (work.look_again_at - now) / kMillisecond + 1 + random_() % kJitterMs);
  if (!busy_.empty()) wait_ms = std::min<std::uint64_t>(wait_ms, kTableLag / kMillisecond + 1);
  look_soon(wait_ms);
}

void Maintainer::begin_dial(std::uint64_t id, const Point& point, std::uint64_t timeout_ms, bool feeler) {
  const Nanoseconds deadline = monotonic_now() + timeout_ms * kMillisecond;
  if (!tell(schema::Requested{id, point, deadline, feeler})) return;
  parts_.counters.count(shm::Counter::kDialsBegun);
  busy_[point] = deadline + kTableLag;
  dialer_.dial(id, point, deadline);
}

void Maintainer::on_outcome(Dialer::Outcome outcome) {
  busy_[outcome.point] = monotonic_now() + kTableLag;
  if (outcome.reason == Reason::kNone) {
    parts_.counters.count(shm::Counter::kDialsConnected);
    const int descriptor = outcome.socket.get();
    // Not handed on is closed: the controller sets the point back when it hears of the failure, or when this channel
    // ends.
    if (!tell(schema::Dialled{outcome.id, outcome.point, outcome.deadline}, std::span(&descriptor, 1)))
      outcome.reason = Reason::kChannelFull;
  }
  if (outcome.reason != Reason::kNone) {
    parts_.counters.count(outcome.reason);
    (void)tell(schema::DialFailed{outcome.id, outcome.point, outcome.reason});
  }
  look_soon(50);
}

}  // namespace bulkhead::maintainer
