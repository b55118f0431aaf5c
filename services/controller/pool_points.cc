#include "services/controller/pool_points.h"

#include <utility>

#include "services/controller/pool_bounds.h"
#include "services/controller/pool_rows.h"

namespace bulkhead::controller {
namespace {

constexpr std::size_t kMetPoints = 7;

}  // namespace

PoolPoints::PoolPoints(const PoolContext& context) : context_(context) {
  for (std::uint32_t i = context_.limits.point_rows; i > 0; --i) free_rows_.push_back(i - 1);
}

KnownPoint* PoolPoints::find(const Point& point) {
  const auto found = points_.find(point);
  return found == points_.end() ? nullptr : &found->second;
}

const KnownPoint* PoolPoints::find(const Point& point) const {
  const auto found = points_.find(point);
  return found == points_.end() ? nullptr : &found->second;
}

std::uint32_t PoolPoints::requested() const {
  return static_cast<std::uint32_t>(std::count_if(points_.begin(), points_.end(), [](const auto& entry) {
    return entry.second.state == shm::PointState::kRequested;
  }));
}

// ---- what it begins with

void PoolPoints::recover() {
  free_rows_.clear();
  for (std::uint32_t i = context_.limits.point_rows; i > 0; --i) {
    const auto row = context_.table->point(i - 1).read();
    if (!row || row->used == 0) {
      free_rows_.push_back(i - 1);
      continue;
    }
    KnownPoint& known = points_[{Address{row->address}, row->port}];
    known = known_of(*row);
    // The row does not tell whose trust it was, and that of the lists ends with them.
    if (context_.standing(Address{row->address}) == Standing::kTrusted) known.trusted = false;
    known.row = i - 1;
  }
}

void PoolPoints::restore(const Point& point, KnownPoint known, Now now) {
  if (point.port == 0 || is_own(point) || contains(point)) return;
  KnownPoint* added = put(point, false, known.source, now);
  if (added == nullptr) return;
  known.row = added->row;
  known.group = added->group;
  known.state = shm::PointState::kDisconnected;
  known.trusted = false;
  known.anchor = false;
  known.peer_id.reset();
  *added = std::move(known);
  publish(point, *added);
}

void PoolPoints::restore(const Point& point, std::uint64_t number, const shm::HistoryEvent& event) {
  const KnownPoint* known = find(point);
  if (context_.history != nullptr && known != nullptr) context_.history->point(known->row).restore(number, event);
}

// ---- who is known

KnownPoint* PoolPoints::add(const Point& point, bool trusted, Now now) {
  if (point.port == 0 || is_own(point)) return nullptr;
  KnownPoint* known = find(point);
  if (known == nullptr) return put(point, trusted, context_.limits.as_map.group_of(point.address), now);
  if (trusted && !known->trusted) {
    known->trusted = true;
    publish(point, *known);
  }
  return known;
}

KnownPoint* PoolPoints::put(const Point& point, bool trusted, AddressGroup source, Now now) {
  if (points_.size() >= context_.limits.known_points_maximum) collect(now);
  if (free_rows_.empty()) return nullptr;
  // What cannot be collected (trusted, connected) may exceed the maximum; what others tell us may not.
  if (!trusted && points_.size() >= context_.limits.known_points_maximum) return nullptr;
  KnownPoint& known = points_[point];
  known.row = free_rows_.back();
  free_rows_.pop_back();
  if (context_.history != nullptr) context_.history->point(known.row).clear();
  known.trusted = trusted;
  known.group = context_.limits.as_map.group_of(point.address);
  known.source = source;
  publish(point, known);
  return &known;
}

KnownPoint* PoolPoints::learn(const Point& point, AddressGroup source, Now now) {
  if (point.port == 0 || is_own(point)) return nullptr;
  if (KnownPoint* known = find(point)) return known;
  if (!may_be_heard(points_, context_, source, context_.limits.as_map.group_of(point.address))) return nullptr;
  return put(point, false, source, now);
}

bool PoolPoints::hear_on_lan(const Point& point, Now now) {
  if (point.port == 0 || is_own(point) || contains(point)) return false;
  return lan_hearsay_.take(kHearsayRate, now.ns) && learn(point, kLanTellers, now) != nullptr;
}

void PoolPoints::forget(const Point& point) {
  const auto found = points_.find(point);
  if (found == points_.end()) return;
  if (context_.table != nullptr) context_.table->point(found->second.row).write(shm::PointRow{});
  free_rows_.push_back(found->second.row);
  points_.erase(found);
  if (context_.journal != nullptr) context_.journal->forgotten(point);
}

void PoolPoints::collect(Now now) {
  // One more is about to come, and must not make it more than the maximum.
  const std::size_t target = std::min(context_.limits.known_points_target, context_.limits.known_points_maximum - 1);
  if (points_.size() <= target) return;
  for (const auto& point : least_wanted(points_, context_, points_.size() - target, now)) forget(point);
}

void PoolPoints::set_anchor(const Point& point, Now now) {
  KnownPoint* known = add(point, false, now);
  if (known == nullptr) return;
  known->anchor = true;
  known->tried = true;
  publish(point, *known);
}

bool PoolPoints::untrust(const Prefix& prefix) {
  bool any = false;
  for (auto& [point, known] : points_) {
    if (bulkhead::contains(prefix, point.address)) any = std::exchange(known.trusted, false) || any;
  }
  return any;
}

// ---- which are ourselves

void PoolPoints::add_own(const Point& point) {
  own_.push_back(point);
  forget(point);
}

void PoolPoints::met_myself(const Point& point) {
  met_.remove(point);
  met_.push_front(point);
  if (met_.size() > kMetPoints) met_.pop_back();
  forget(point);
}

bool PoolPoints::is_own(const Point& point) const {
  return std::find(own_.begin(), own_.end(), point) != own_.end() ||
         std::find(met_.begin(), met_.end(), point) != met_.end();
}

bool PoolPoints::dialable(const Point& point) const {
  return point.port != 0 && !is_own(point) && (context_.limits.allow_private_points || is_routable(point.address));
}

// ---- what happens to one

void PoolPoints::request(const Point& point, KnownPoint& known, Now now) {
  known.state = shm::PointState::kRequested;
  remember(point, known, shm::HistoryKind::kOutgoingRequest, std::nullopt, Reason::kNone, now);
  publish(point, known);
}

void PoolPoints::dial_failed(const Point& point, Reason reason, Now now) {
  KnownPoint* known = find(point);
  if (known == nullptr || known->state != shm::PointState::kRequested) return;
  known->last_failed_ms = now.ms;
  remember(point, *known, shm::HistoryKind::kRequestRejected, std::nullopt, reason, now);
  back_off(*known, false, now);
  publish(point, *known);
}

void PoolPoints::abandon_requests(const std::function<bool(const Point&)>& goes_on, Now now) {
  for (auto& [point, known] : points_) {
    if (known.state != shm::PointState::kRequested || goes_on(point)) continue;
    known.state = shm::PointState::kDisconnected;
    known.next_attempt = now;
    remember(point, known, shm::HistoryKind::kRequestRejected, std::nullopt, Reason::kServiceGone, now);
    publish(point, known);
  }
}

void PoolPoints::accepted(const Point& point, KnownPoint& known, const PeerId& peer, Now now) {
  known.state = shm::PointState::kAccepted;
  known.peer_id = peer;
  remember(point, known, shm::HistoryKind::kAcceptingRequest, peer, Reason::kNone, now);
}

void PoolPoints::established(const Point& point, const PeerId& peer, bool dialled, Now now) {
  KnownPoint* known = find(point);
  if (known == nullptr) return;
  known->state = shm::PointState::kRunning;
  known->anchor = false;
  if (dialled) mark_tried(*known);
  known->last_established_ms = now.ms;
  remember(point, *known, shm::HistoryKind::kConnectionEstablished, peer, Reason::kNone, now);
  publish(point, *known);
}

void PoolPoints::ended(const Point& point, const Ending& ending, Now now) {
  KnownPoint* known = find(point);
  if (known == nullptr) return;
  // An incoming handshake that failed says nothing of the point that it claimed, which may be running elsewhere.
  const bool ours =
      ending.was_running || ending.was_accepted || (ending.dialled && known->state == shm::PointState::kRequested);
  if (ours || ending.refused) remember(point, *known, ending.kind(), ending.peer, ending.reason, now);
  if (ours) {
    if (ending.was_running) {
      known->last_disconnection_ms = now.ms;
    } else if (ending.reason == Reason::kRejectedByPeer || ending.was_accepted) {
      known->last_rejected_ms = now.ms;
    } else {
      known->last_failed_ms = now.ms;
    }
    back_off(*known, ending.was_running, now);
    publish(point, *known);
  }
  // Another network's node is forgotten, not banned: a node of ours may share its address.
  if (ending.other_network() && !context_.trusted(point, *known) && known->state == shm::PointState::kDisconnected)
    forget(point);
}

void PoolPoints::mark_tried(KnownPoint& known) {
  if (known.tried) return;
  const TriedPlace place = place_among_tried(points_, context_, known);
  if (KnownPoint* displaced = place.instead_of ? find(*place.instead_of) : nullptr) {
    displaced->tried = false;
    publish(*place.instead_of, *displaced);
  }
  known.tried = place.granted;
}

void PoolPoints::back_off(KnownPoint& known, bool was_running, Now now) {
  const auto& rule = context_.limits.reconnection;
  const auto initial_ms = static_cast<std::int64_t>(rule.initial_delay_s * 1000);
  std::int64_t wait_ms = 0;
  if (was_running) {
    wait_ms = static_cast<std::int64_t>(rule.disconnection_delay_s * 1000);
    known.delay_ms = initial_ms;
  } else {
    wait_ms = known.delay_ms > 0 ? known.delay_ms : initial_ms;
    const double grown = static_cast<double>(wait_ms) * rule.factor;
    known.delay_ms = static_cast<std::int64_t>(std::min(grown, rule.increase_cap_s * 1000));
  }
  known.next_attempt = {now.ns + static_cast<Nanoseconds>(wait_ms) * kMillisecond, now.ms + wait_ms};
  known.state = shm::PointState::kDisconnected;
  known.peer_id.reset();
}

void PoolPoints::remember(const Point& point, const KnownPoint& known, shm::HistoryKind kind,
                          const std::optional<PeerId>& peer, Reason reason, Now now) {
  if (context_.history == nullptr) return;
  const shm::HistoryEvent event{.time_ms = now.ms,
                                .other = peer.value_or(PeerId{}),
                                .port = 0,
                                .reason = static_cast<std::uint16_t>(reason),
                                .kind = static_cast<std::uint8_t>(kind),
                                .has_other = peer ? std::uint8_t{1} : std::uint8_t{0},
                                .reserved = {}};
  const std::uint64_t number = context_.history->point(known.row).append(event);
  if (context_.journal != nullptr) context_.journal->happened(point, number, event);
}

void PoolPoints::publish(const Point& point, const KnownPoint& known) {
  if (context_.journal != nullptr) context_.journal->noted(point, known);
  if (context_.table != nullptr)
    context_.table->point(known.row).write(row_of(point, known, context_.trusted(point, known)));
}

}  // namespace bulkhead::controller
