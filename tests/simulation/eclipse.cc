#include "tests/simulation/eclipse.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>

#include "services/controller/pool.h"
#include "services/maintainer/maintenance.h"

namespace bulkhead::simulation {
namespace {

using controller::Pool;
using schema::Direction;

constexpr Nanoseconds kStep = 60 * kSecond;
constexpr std::uint32_t kMaximum = 100;
constexpr std::uint32_t kKnown = 400;
constexpr std::uint32_t kAdvertised = 50;
constexpr double kUp = 0.8;       // of honest nodes, at any time
constexpr double kFree = 0.7;     // of dials to one that is up
constexpr double kStay_h = 4;     // mean life of a connection with an honest node
constexpr double kComing_h = 10;  // honest nodes that dial the victim in an hour
constexpr int kLooksPerStep = 3;
constexpr int kTellers = 5;

class Eclipse {
 public:
  explicit Eclipse(const EclipseSettings& settings) : settings_(settings), random_(settings.seed) { start(); }

  EclipseResult run() {
    for (std::uint32_t i = 0; i < 50; ++i) pool_->register_point(honest_point(draw(settings_.honest)), false, clock());
    pass(settings_.before_h, false);
    pass(settings_.restart_h, true);
    restart();
    pass(settings_.after_h, true);
    return result();
  }

 private:
  struct Connection {
    bool attacking = false;
    std::uint32_t who = 0;
    Nanoseconds until = 0;
  };

  Point honest_point(std::uint32_t number) const { return point(20, number, settings_.honest_per_group); }
  Point attacking_point(std::uint32_t number) const { return point(100, number, settings_.per_group); }
  static Point point(std::uint32_t first, std::uint32_t number, std::uint32_t per_group) {
    const std::uint32_t group = number / per_group;
    const auto byte = [](std::uint32_t value) { return static_cast<std::uint8_t>(value % 256); };
    return {{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, byte(first + group / 256), byte(group),
              byte(number % per_group), 1}},
            9732};
  }
  static PeerId peer(bool attacking, std::uint32_t number) {
    PeerId id{};
    id[0] = attacking ? 2 : 1;
    for (std::size_t i = 0; i < 4; ++i) id[1 + i] = static_cast<std::uint8_t>(number >> (8 * i));
    return id;
  }
  std::uint32_t draw(std::uint32_t below) { return static_cast<std::uint32_t>(random_() % below); }
  bool chance(double of) { return static_cast<double>(random_() % 1'000'000) < of * 1'000'000; }
  controller::Now clock() const { return {now_, static_cast<std::int64_t>(now_ / kMillisecond)}; }

  void start() {
    controller::PoolLimits limits;
    limits.slots = kMaximum + 40;
    limits.point_rows = limits.peer_rows = kKnown + 64;
    limits.chain_name = "SIMULATION";
    limits.distributed_db_versions = {2};
    limits.p2p_versions = {1};
    limits.hardened = settings_.hardened;
    const auto random = [this] { return random_(); };
    pool_ = std::make_unique<Pool>(limits, nullptr, random);
    maintenance_ = std::make_unique<maintainer::Maintenance>(
        maintainer::MaintenanceSettings{
            .bounds = bounds_for(10, 50, kMaximum), .minimum = 10, .maximum = kMaximum, .hardened = settings_.hardened},
        random);
    connections_.clear();
    in_use_.clear();
    for (std::uint32_t i = 0; i < settings_.honest; ++i) up_[i] = chance(kUp);
    for (std::uint32_t i = 0; i < settings_.honest; ++i) points_[honest_point(i)] = {false, i};
    for (std::uint32_t i = 0; i < settings_.addresses; ++i) points_[attacking_point(i)] = {true, i};
  }

  // What a node keeps over a restart: its points, as the state database has them.
  void restart() {
    const auto anchors = pool_->anchors();
    const auto known = pool_->points();
    start();
    for (const auto& [point, was] : known) {
      controller::KnownPoint* again = pool_->register_point(point, was.trusted, clock());
      if (again == nullptr) continue;
      const std::uint32_t row = again->row;
      *again = was;
      again->row = row;
      again->state = shm::PointState::kDisconnected;
      again->peer_id.reset();
      again->next_attempt = {};
      again->delay_ms = 0;
      if (was.state != shm::PointState::kDisconnected) again->last_disconnection_ms = clock().ms;
    }
    if (settings_.hardened) pool_->set_anchors(anchors, clock());
  }

  void pass(double hours, bool attack) {
    const Nanoseconds until = now_ + static_cast<Nanoseconds>(hours * 3600 * static_cast<double>(kSecond));
    while (now_ < until) {
      now_ += kStep;
      honest_step();
      if (attack) attack_step();
      for (int i = 0; i < kLooksPerStep && look(); ++i) {
        if (attack) attack_step();
      }
    }
  }

  void honest_step() {
    std::vector<SlotId> over;
    for (const auto& [slot, connection] : connections_) {
      if (!connection.attacking && (now_ >= connection.until || !up_[connection.who])) over.push_back(slot);
    }
    for (const SlotId slot : over) end(slot, Reason::kClosedByPeer);
    // Each goes or comes about once a day.
    if (chance(static_cast<double>(settings_.honest) / (24 * 60))) {
      const std::uint32_t who = draw(settings_.honest);
      up_[who] = chance(kUp);
    }
    if (chance(kComing_h / 60)) come(false, draw(settings_.honest));
  }

  void attack_step() {
    // As many as the slots may take, and some more; which of them is not known to matter.
    std::uint32_t tries = kMaximum;
    std::uint32_t at = draw(settings_.addresses);
    for (std::uint32_t i = 0; i < settings_.addresses && tries > 0; ++i, at = (at + 1) % settings_.addresses) {
      if (connected(true, at)) continue;
      --tries;
      if (!come(true, at)) break;
    }
    // A few at a time: what one connection may tell is bounded, and told before long.
    for (int i = 0; i < kTellers && !connections_.empty(); ++i) {
      const auto found = connections_.lower_bound(draw(kMaximum + 40));
      if (found != connections_.end() && found->second.attacking) tell(found->first);
    }
  }

  void tell(SlotId slot) {
    std::vector<Point> points;
    for (std::uint32_t i = 0; i < kAdvertised; ++i) points.push_back(attacking_point(draw(settings_.addresses)));
    pool_->hear({slot, pool_->slots()[slot].generation}, points, clock());
  }

  bool connected(bool attacking, std::uint32_t who) const { return in_use_.contains({attacking, who}); }

  bool come(bool attacking, std::uint32_t who) {
    if (connected(attacking, who) || (!attacking && !up_[who])) return true;
    const Point listening = attacking ? attacking_point(who) : honest_point(who);
    const auto ref = pool_->claim(Direction::kIncoming, {listening.address, 40000}, {}, 0, clock());
    return ref && shake(*ref, attacking, who, attacking ? 200'000'000 : 100'000'000);
  }

  bool shake(const SlotRef& ref, bool attacking, std::uint32_t who, Nanoseconds lasts) {
    pool_->announced(ref, {9732, "SIMULATION", 2, 1});
    const auto decision = pool_->decide(ref, {peer(attacking, who), {}}, clock());
    if (decision.kind != schema::VerdictKind::kAccept) {
      pool_->ended(ref, decision.reason, clock());
      pool_->free(ref.slot);
      return false;
    }
    now_ += lasts / 1000;
    pool_->established(ref, clock());
    const double stay_h = -std::log((static_cast<double>(draw(1'000'000)) + 1) / 1'000'001) * kStay_h;
    connections_[ref.slot] = {attacking, who, now_ + static_cast<Nanoseconds>(stay_h * 3600 * 1e9)};
    in_use_.insert({attacking, who});
    return true;
  }

  void dial(const Point& to, bool feeler) {
    if (pool_->request(to, clock()) != Reason::kNone) return;
    const auto found = points_.find(to);
    const bool answers =
        found != points_.end() && (found->second.first || (up_[found->second.second] && chance(kFree)));
    const auto ref = answers ? pool_->claim(Direction::kOutgoing, to, {}, 0, clock()) : std::nullopt;
    if (!ref) return pool_->dial_failed(to, clock());
    const auto [attacking, who] = found->second;
    if (!shake(*ref, attacking, who, 100'000'000)) return;
    if (feeler) return end(ref->slot, Reason::kNone);
    if (attacking) {
      tell(ref->slot);
      return;
    }
    // An honest one knows some others.
    std::vector<Point> points;
    for (int i = 0; i < 20; ++i) points.push_back(honest_point(draw(settings_.honest)));
    pool_->hear(*ref, points, clock());
  }

  void end(SlotId slot, Reason reason) {
    const auto found = connections_.find(slot);
    if (found == connections_.end()) return;
    in_use_.erase({found->second.attacking, found->second.who});
    connections_.erase(found);
    pool_->ended({slot, pool_->slots()[slot].generation}, reason, clock());
    pool_->free(slot);
  }

  /// Whether there was anything to do.
  bool look() {
    maintainer::PoolView view;
    for (SlotId slot = 0; slot < pool_->slots().size(); ++slot) view.slots.push_back(pool_->slot_row(slot));
    for (const auto& [point, known] : pool_->points()) view.points.push_back(pool_->point_row(point, known));
    const auto work = maintenance_->look(view, {}, now_, clock().ms);
    for (const auto& ref : work.closes) end(ref.slot, Reason::kMaintenanceTooMany);
    for (const auto& point : work.dials) dial(point, false);
    if (work.feeler) dial(*work.feeler, true);
    return !work.closes.empty() || !work.dials.empty();
  }

  EclipseResult result() const {
    EclipseResult result;
    for (const auto& [slot, connection] : connections_) {
      const bool outgoing = pool_->slots()[slot].direction == Direction::kOutgoing;
      auto& count = connection.attacking ? (outgoing ? result.attacking_outgoing : result.attacking_incoming)
                                         : (outgoing ? result.honest_outgoing : result.honest_incoming);
      ++count;
    }
    result.eclipsed = result.honest_outgoing == 0 && (result.attacking_outgoing > 0 || result.honest_incoming == 0);
    return result;
  }

  EclipseSettings settings_;
  std::mt19937_64 random_;
  Nanoseconds now_ = 1'000'000 * kSecond;
  std::unique_ptr<Pool> pool_;
  std::unique_ptr<maintainer::Maintenance> maintenance_;
  std::map<SlotId, Connection> connections_;
  std::set<std::pair<bool, std::uint32_t>> in_use_;
  std::map<std::uint32_t, bool> up_;
  std::map<Point, std::pair<bool, std::uint32_t>> points_;  ///< whose, and which
};

}  // namespace

EclipseResult simulate_eclipse(const EclipseSettings& settings) {
  return Eclipse(settings).run();
}

std::uint32_t count_eclipses(EclipseSettings settings, std::uint32_t runs) {
  std::uint32_t eclipsed = 0;
  for (std::uint32_t i = 0; i < runs; ++i) {
    eclipsed += simulate_eclipse(settings).eclipsed ? 1U : 0U;
    ++settings.seed;
  }
  return eclipsed;
}

std::uint32_t addresses_for_half(const EclipseSettings& settings, std::uint32_t runs, std::uint32_t from,
                                 std::uint32_t most) {
  const auto enough = [&](std::uint32_t addresses) {
    EclipseSettings with = settings;
    with.addresses = addresses;
    return 2 * count_eclipses(with, runs) >= runs;
  };
  std::uint32_t low = 0;
  std::uint32_t high = from;
  while (!enough(high)) {
    if (high >= most) return 0;
    low = high;
    high = std::min(2 * high, most);
  }
  while (high - low > std::max(high / 10, 1U)) {
    const std::uint32_t middle = low + (high - low) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace bulkhead::simulation
