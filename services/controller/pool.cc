#include "services/controller/pool.h"

#include <set>
#include <tuple>

#include "services/controller/pool_bounds.h"
#include "services/controller/pool_rows.h"

/// The pool's part beside the handshake (pool_handshake.cc): start, slots, requests, trust, and what is shown.
namespace bulkhead::controller {

Pool::Pool(PoolLimits limits, const shm::PoolTable* table, std::function<std::uint64_t()> random, const Judge* judge)
    : context_{.limits = std::move(limits), .table = table, .random = std::move(random), .judge = judge},
      slots_(context_.limits.slots),
      points_(context_),
      peers_(context_) {}

void Pool::recover() {
  if (context_.table == nullptr) return;
  for (SlotId i = 0; i < slots().size(); ++i) {
    if (const auto row = context_.table->slot(i).read()) slots_.recover(i, slot_of(*row, limits().chain_name));
  }
  points_.recover();
  peers_.recover();
  for (const auto& slot : slots()) {
    if (slot.state != shm::SlotState::kRunning) continue;
    if (KnownPoint* point = slot.point ? points_.find(*slot.point) : nullptr) {
      point->state = shm::PointState::kRunning;
      point->peer_id = slot.peer_id;
    }
    peers_.recover_running(slot.peer_id);
  }
  for (const auto& [point, known] : points()) points_.publish(point, known);
  for (const auto& [peer, known] : peers()) peers_.publish(peer, known);
  publish_counts();
}

void Pool::tell_again(std::int64_t since_ms) const {
  if (context_.history == nullptr || context_.journal == nullptr) return;
  const auto tell = [&](const auto& of, const auto& known, const shm::History& history) {
    bool noted = false;
    for (const auto& [number, event] : history.read_numbered()) {
      if (event.time_ms < since_ms) continue;
      if (!std::exchange(noted, true)) context_.journal->noted(of, known);
      context_.journal->happened(of, number, event);
    }
  };
  for (const auto& [point, known] : points()) tell(point, known, context_.history->point(known.row));
  for (const auto& [peer, known] : peers()) tell(peer, known, context_.history->peer(known.row));
}

// ---- slots

std::optional<SlotRef> Pool::claim(schema::Direction direction, const Point& remote, const PublicKey& key,
                                   std::uint64_t deadline_ns, Now now) {
  Slot slot;
  slot.direction = direction;
  slot.remote = remote;
  slot.public_key = key;
  slot.deadline_ns = deadline_ns;
  slot.since_ms = now.ms;
  slot.claimed_ns = now.ns;
  slot.group = limits().as_map.group_of(remote.address);
  if (direction == schema::Direction::kOutgoing) slot.point = remote;
  const auto ref = slots_.claim(std::move(slot));
  if (!ref) return std::nullopt;
  publish(ref->slot);
  publish_counts();
  return ref;
}

void Pool::free(SlotId id) {
  slots_.free(id);
  publish(id);
  publish_counts();
}

void Pool::set_worker(const SlotRef& ref, std::uint32_t pid) {
  if (Slot* slot = find(ref)) {
    slot->worker_pid = pid;
    publish(ref.slot);
  }
}

std::vector<service::Neighbour> Pool::neighbours(Now now) const {
  std::vector<service::Neighbour> neighbours;
  for (SlotId id = 0; id < slots().size(); ++id) {
    const Slot& slot = slots_.at(id);
    if (slot.state != shm::SlotState::kRunning) continue;
    neighbours.push_back({{id, slot.generation},
                          slot.direction == schema::Direction::kOutgoing,
                          trusted(slot),
                          slot.group,
                          slot.since_ms,
                          slot.handshake_us,
                          score(slot.peer_id, now)});
  }
  return neighbours;
}

// ---- points

KnownPoint* Pool::register_point(const Point& point, bool trusted, Now now) {
  const KnownPoint* before = points_.find(point);
  const bool is_news = trusted && before != nullptr && !before->trusted;
  KnownPoint* known = points_.add(point, trusted, now);
  if (known != nullptr && is_news) publish_slots_of(point);
  return known;
}

std::size_t Pool::hear(const SlotRef& from, const std::vector<Point>& points, Now now) {
  Slot* slot = find(from);
  if (slot == nullptr) return 0;
  std::size_t heard = 0;
  for (const auto& point : points) {
    if (!dialable(point) || points_.contains(point)) continue;
    if (!slot->hearsay.take(kHearsayRate, now.ns)) break;
    if (points_.learn(point, slot->group, now) != nullptr) ++heard;
  }
  return heard;
}

void Pool::configure(const Point& point, std::optional<PeerId> expected, Now now) {
  KnownPoint* known = register_point(point, true, now);
  if (known == nullptr) return;
  known->expected_peer_id = expected;
  points_.publish(point, *known);
}

void Pool::deconfigure(const Point& point) {
  KnownPoint* known = find_point(point);
  if (known == nullptr || !known->trusted) return;
  known->trusted = false;
  known->expected_peer_id.reset();
  points_.publish(point, *known);
  publish_slots_of(point);
}

Reason Pool::request(const Point& point, Now now) {
  if (is_own(point)) return Reason::kMyself;
  const Standing standing = context_.standing(point.address);
  if (standing == Standing::kBanned) return Reason::kPointBanned;
  if (standing == Standing::kGreylisted) return Reason::kPointGreylisted;
  if (active() >= limits().maximum_connections) return Reason::kTooManyConnections;
  KnownPoint* known = register_point(point, false, now);
  if (known == nullptr) return Reason::kNoFreeSlot;
  if (limits().private_mode && !trusted(point, *known)) return Reason::kPrivateMode;
  if (known->state == shm::PointState::kRunning) return Reason::kAlreadyConnected;
  if (known->state != shm::PointState::kDisconnected) return Reason::kPendingConnection;
  if (!has_room()) return Reason::kTooManyConnections;
  points_.request(point, *known, now);
  return Reason::kNone;
}

void Pool::abandon_requests(Now now) {
  points_.abandon_requests([this](const Point& point) { return slots_.dialled(point); }, now);
}

std::vector<Point> Pool::anchors() const {
  std::vector<const Slot*> candidates;
  for (const auto& slot : slots()) {
    const bool fitting = slot.state == shm::SlotState::kRunning && slot.direction == schema::Direction::kOutgoing &&
                         slot.point && !trusted(slot);
    if (fitting) candidates.push_back(&slot);
  }
  std::sort(candidates.begin(), candidates.end(), [](const Slot* a, const Slot* b) {
    return std::tie(a->since_ms, a->point) < std::tie(b->since_ms, b->point);
  });
  std::vector<Point> points;
  std::set<AddressGroup> groups;
  for (const Slot* slot : candidates) {
    if (points.size() < kAnchors && groups.insert(slot->group).second) points.push_back(*slot->point);
  }
  return points;
}

void Pool::set_anchors(const std::vector<Point>& points, Now now) {
  for (std::size_t i = 0; i < std::min(points.size(), kAnchors); ++i) points_.set_anchor(points[i], now);
}

std::vector<Point> Pool::list_known_points() const {
  return worth_telling(points(), context_);
}

// ---- trust

bool Pool::trusted(const Slot& slot) const {
  if (slot.has_peer && trusted(slot.peer_id)) return true;
  if (context_.standing(slot.remote.address) == Standing::kTrusted) return true;
  const KnownPoint* point = slot.point ? points_.find(*slot.point) : nullptr;
  return point != nullptr && point->trusted;
}

void Pool::trust_point(const Point& point, Now now) {
  const KnownPoint* before = find_point(point);
  const bool configured = before != nullptr && before->trusted;
  KnownPoint* known = register_point(point, true, now);
  if (known == nullptr || configured) return;
  known->trusted = false;
  points_.publish(point, *known);
  publish_slots_of(point);
}

bool Pool::untrust_points(const Prefix& prefix) {
  const bool any = points_.untrust(prefix);
  standings_changed();
  return any;
}

void Pool::standings_changed() {
  for (const auto& [point, known] : points()) points_.publish(point, known);
  for (const auto& [peer, known] : peers()) peers_.publish(peer, known);
  for (SlotId i = 0; i < slots().size(); ++i) {
    if (slots_.at(i).state != shm::SlotState::kFree) publish(i);
  }
  publish_counts();
}

bool Pool::set_score(const PeerId& peer, double score, Now now) {
  if (!peers_.set_score(peer, score, now)) return false;
  if (const auto slot = running(peer)) publish(slot->slot);
  return true;
}

// ---- what is shown

void Pool::publish(SlotId id) {
  if (context_.table != nullptr) context_.table->slot(id).write(slot_row(id));
}

void Pool::publish_slots_of(const Point& point) {
  for (SlotId i = 0; i < slots().size(); ++i) {
    if (slots_.at(i).state != shm::SlotState::kFree && slots_.at(i).point == point) publish(i);
  }
}

void Pool::publish_counts() {
  if (context_.table == nullptr) return;
  shm::PoolRow row = slots_.counts();
  row.revision = ++revision_;
  context_.table->pool().write(row);
}

shm::SlotRow Pool::slot_row(SlotId id) const {
  const Slot& slot = slots_.at(id);
  return row_of(slot, trusted(slot), peers_.find(slot.peer_id));
}

shm::PointRow Pool::point_row(const Point& point, const KnownPoint& known) const {
  return row_of(point, known, trusted(point, known));
}

}  // namespace bulkhead::controller
