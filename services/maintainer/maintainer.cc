#include "services/maintainer/maintainer.h"

#include <algorithm>

#include "base/address.h"
#include "base/log.h"

namespace bulkhead::maintainer {
namespace {

// How long the pool's table may take to show what was just dialled.
constexpr Nanoseconds kTableLag = 500 * kMillisecond;
// What the channel to the controller had no room for is told again after this.
constexpr Nanoseconds kTellAgain = kSecond;
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
          .announces = boot.discovery.port != 0,
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
      resolver_(loop_, {.servers = parts_.boot.name_servers}),
      random_(std::random_device{}()),
      names_(parts_.boot.peers, [this] { return random_(); }),
      maintenance_(settings_of(parts_.boot), [this] { return random_(); }) {
  supervisor_poll_ = service::Poll(loop_, parts_.supervisor.fd(), [this](int, int) { on_supervisor(); });
  controller_poll_ = service::Poll(loop_, parts_.controller.fd(), [this](int, int) { on_controller(); });
  look_timer_ = service::Timer(loop_, [this] { look(); });
  names_timer_ = service::Timer(loop_, [this] { look_up_names(); });
  for (const auto& peer : parts_.boot.peers) {
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
  look_up_names();
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

void Maintainer::look_up_names() {
  for (const auto& name : names_.due(monotonic_now())) {
    resolver_.resolve(name, [this, name](const NameAnswer& answer) { answered(name, answer); });
  }
  tell_names();
}

void Maintainer::answered(const std::string& name, const NameAnswer& answer) {
  const Names::Outcome outcome = names_.answered(name, answer, monotonic_now());
  const bool failed = outcome == Names::Outcome::kFailed || outcome == Names::Outcome::kStillFailed;
  if (failed) parts_.counters.count(Reason::kNameNotResolved);
  if (outcome == Names::Outcome::kFailed)
    log_warning("cannot resolve the configured peer " + name + "; trying again, with pauses of up to 5 minutes");
  if (outcome == Names::Outcome::kWellAgain) log_notice("the configured peer " + name + " is resolved again");
  names_timer_.once(0);
}

void Maintainer::tell_names() {
  bool told_some = false;
  bool all = true;
  for (const auto& change : names_.untold()) {
    all = tell(schema::KnownPoint{change.point, change.configured, change.expected_peer_id});
    if (!all) break;
    names_.told(change);
    told_some = true;
  }
  if (told_some) look_soon(random_() % kJitterMs + 50);
  const Nanoseconds now = monotonic_now();
  auto next = names_.next();
  if (!all) next = std::min(next.value_or(now + kTellAgain), now + kTellAgain);
  if (next) names_timer_.once(*next > now ? (*next - now) / kMillisecond + 1 : 0);
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
