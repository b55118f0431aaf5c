#include "services/controller/pool.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

namespace bulkhead::controller {
namespace {

constexpr std::size_t kMetPoints = 7;
constexpr std::size_t kAdvertised = 50;
constexpr std::size_t kAdvertisedBest = 30;
constexpr std::size_t kSameKeyLimit = 4;
constexpr double kGreatestScore = 1e9;

// Motives of a Nack, as the wire numbers them.
constexpr std::int16_t kMotiveTooManyConnections = 1;
constexpr std::int16_t kMotiveUnknownChainName = 2;
constexpr std::int16_t kMotiveDeprecatedP2p = 3;
constexpr std::int16_t kMotiveDeprecatedDdb = 4;
constexpr std::int16_t kMotiveAlreadyConnected = 5;

bool in_handshake(const Slot& slot) {
  return slot.state == shm::SlotState::kClaimed || slot.state == shm::SlotState::kHandshake;
}
bool is_active(const Slot& slot) {
  return slot.state == shm::SlotState::kAccepted || slot.state == shm::SlotState::kRunning;
}

// What we wanted ourselves, as against what the other side did or what went wrong.
bool is_our_wish(Reason reason) {
  switch (reason) {
    case Reason::kKicked:
    case Reason::kDisconnectedByApplication:
    case Reason::kBanned:
    case Reason::kPeerBanned:
    case Reason::kGreylisted:
    case Reason::kPeerGreylisted:
    case Reason::kUnexpectedPeerId:
    case Reason::kDecodeError:
    case Reason::kMaintenanceTooMany:
    case Reason::kPeerSwapped:
    case Reason::kMadeRoom:
    case Reason::kFeelerDone:
    case Reason::kNodeStopping:
      return true;
    default:
      return false;
  }
}

// The greatest of ours that the other side knows too: ours, or theirs when we still speak it.
std::optional<std::uint16_t> negotiate(const std::vector<std::uint16_t>& ours, std::uint16_t theirs) {
  const std::uint16_t best = *std::max_element(ours.begin(), ours.end());
  if (best <= theirs) return best;
  if (std::find(ours.begin(), ours.end(), theirs) != ours.end()) return theirs;
  return std::nullopt;
}

// The unit in which one neighbour's addresses are counted when unproved keys compete.
Address crowd_of(const Address& address) {
  Address base = address;
  const bool v4 = std::all_of(address.bytes.begin(), address.bytes.begin() + 10, [](auto b) { return b == 0; }) &&
                  address.bytes[10] == 0xff;
  if (v4 && address.bytes[12] == 127) return base;
  std::fill(base.bytes.begin() + (v4 ? 15 : 7), base.bytes.end(), std::uint8_t{0});
  return base;
}

}  // namespace

std::int64_t KnownPoint::last_seen_ms() const {
  return std::max({last_rejected_ms, last_established_ms, last_disconnection_ms});
}
std::int64_t KnownPoint::last_miss_ms() const {
  return std::max({last_failed_ms, last_rejected_ms, last_disconnection_ms});
}

Pool::Pool(PoolLimits limits, const shm::PoolTable* table, std::function<std::uint64_t()> random, const Judge* judge)
    : limits_(std::move(limits)), table_(table), random_(std::move(random)), judge_(judge), slots_(limits_.slots) {
  for (std::uint32_t i = limits_.point_rows; i > 0; --i) free_point_rows_.push_back(i - 1);
  for (std::uint32_t i = limits_.peer_rows; i > 0; --i) free_peer_rows_.push_back(i - 1);
}

void Pool::recover() {
  if (table_ == nullptr) return;
  for (SlotId i = 0; i < slots_.size(); ++i) {
    const auto row = table_->slot(i).read();
    if (!row) continue;
    Slot& slot = slots_[i];
    slot.generation = row->generation;
    if (row->state == static_cast<std::uint32_t>(shm::SlotState::kFree)) continue;
    slot.state = row->state == static_cast<std::uint32_t>(shm::SlotState::kRunning) ? shm::SlotState::kRunning
                                                                                    : shm::SlotState::kClaimed;
    slot.direction = row->direction == 0 ? schema::Direction::kIncoming : schema::Direction::kOutgoing;
    slot.remote = {Address{row->address}, static_cast<std::uint16_t>(row->remote_port)};
    if (row->port != 0) slot.point = Point{Address{row->address}, static_cast<std::uint16_t>(row->port)};
    slot.has_peer = slot.state == shm::SlotState::kRunning;
    slot.peer_id = row->peer_id;
    slot.announcement = {static_cast<std::uint16_t>(row->port), limits_.chain_name, row->distributed_db_version,
                         row->p2p_version};
    slot.metadata = {row->disable_mempool != 0, row->private_node != 0};
    slot.negotiated_ddb = row->negotiated_ddb;
    slot.worker_pid = row->worker_pid;
    slot.since_ms = row->since_ms;
    slot.group = row->group;
    slot.handshake_us = row->handshake_us;
  }
  std::vector<std::uint32_t> unused;
  for (std::uint32_t i = limits_.point_rows; i > 0; --i) {
    const auto row = table_->point(i - 1).read();
    if (!row || row->used == 0) {
      unused.push_back(i - 1);
      continue;
    }
    const Point point{Address{row->address}, row->port};
    KnownPoint& known = points_[point];
    known.row = i - 1;
    known.trusted = row->trusted != 0;
    known.known_public = row->known_public != 0;
    if (row->has_expected != 0) known.expected_peer_id = row->expected_peer_id;
    known.last_failed_ms = row->last_failed_ms;
    known.last_rejected_ms = row->last_rejected_ms;
    known.last_established_ms = row->last_established_ms;
    known.last_disconnection_ms = row->last_disconnection_ms;
    known.next_attempt = {static_cast<Nanoseconds>(row->next_attempt_ns), row->next_attempt_ms};
    known.delay_ms = row->reconnect_delay_ms;
    known.group = row->group;
    known.source = row->source;
    known.tried = row->tried != 0;
    known.anchor = row->anchor != 0;
    // Dials and handshakes of the former controller are over; running connections are set below.
    known.state = shm::PointState::kDisconnected;
  }
  free_point_rows_ = std::move(unused);
  std::vector<std::uint32_t> unused_peers;
  for (std::uint32_t i = limits_.peer_rows; i > 0; --i) {
    const auto row = table_->peer(i - 1).read();
    if (!row || row->used == 0) {
      unused_peers.push_back(i - 1);
      continue;
    }
    KnownPeer& known = peers_[row->peer_id];
    known.row = i - 1;
    known.score = static_cast<double>(row->score_milli) / 1000;
    known.score_ms = row->score_ms;
    if (Address{row->address} != Address{}) known.address = Address{row->address};
    if (row->port != 0) known.point = Point{Address{row->address}, row->port};
    if (row->has_metadata != 0)
      known.metadata = schema::ConnectionMetadata{row->disable_mempool != 0, row->private_node != 0};
    known.created_ms = row->created_ms;
    known.last_failed_ms = row->last_failed_ms;
    known.last_rejected_ms = row->last_rejected_ms;
    known.last_established_ms = row->last_established_ms;
    known.last_disconnection_ms = row->last_disconnection_ms;
  }
  free_peer_rows_ = std::move(unused_peers);
  for (const auto& slot : slots_) {
    if (slot.state != shm::SlotState::kRunning) continue;
    if (slot.point && points_.contains(*slot.point)) {
      points_[*slot.point].state = shm::PointState::kRunning;
      points_[*slot.point].peer_id = slot.peer_id;
    }
    if (const auto peer = peers_.find(slot.peer_id); peer != peers_.end())
      peer->second.state = shm::PeerState::kRunning;
  }
  for (const auto& [point, known] : points_) publish(point, known);
  for (const auto& [peer, known] : peers_) publish(peer, known);
  publish_counts();
}

void Pool::restore(const Point& point, KnownPoint known, Now now) {
  if (point.port == 0 || is_own(point) || points_.contains(point)) return;
  KnownPoint* added = add_point(point, false, known.source, now);
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

void Pool::restore(const PeerId& peer, const KnownPeer& known, Now now) {
  KnownPeer* added = register_peer(peer, now);
  if (added == nullptr) return;
  const std::uint32_t row = added->row;
  *added = known;
  added->row = row;
  added->state = shm::PeerState::kDisconnected;
  publish(peer, *added);
}

void Pool::restore(const Point& point, std::uint64_t number, const shm::HistoryEvent& event) {
  const auto found = points_.find(point);
  if (history_ != nullptr && found != points_.end()) history_->point(found->second.row).restore(number, event);
}

void Pool::restore(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event) {
  const auto found = peers_.find(peer);
  if (history_ != nullptr && found != peers_.end()) history_->peer(found->second.row).restore(number, event);
}

// ---- history

void Pool::remember(const Point& point, const KnownPoint& known, shm::HistoryKind kind,
                    const std::optional<PeerId>& peer, Reason reason, Now now) {
  if (history_ == nullptr) return;
  const shm::HistoryEvent event{.time_ms = now.ms,
                                .other = peer.value_or(PeerId{}),
                                .port = 0,
                                .reason = static_cast<std::uint16_t>(reason),
                                .kind = static_cast<std::uint8_t>(kind),
                                .has_other = peer ? std::uint8_t{1} : std::uint8_t{0},
                                .reserved = {}};
  const std::uint64_t number = history_->point(known.row).append(event);
  if (journal_ != nullptr) journal_->happened(point, number, event);
}

void Pool::remember(const PeerId& peer, const KnownPeer& known, shm::HistoryKind kind, const Slot& slot, Reason reason,
                    Now now) {
  if (history_ == nullptr) return;
  const shm::HistoryEvent event{.time_ms = now.ms,
                                .other = slot.remote.address.bytes,
                                .port = slot.point ? slot.point->port : std::uint16_t{0},
                                .reason = static_cast<std::uint16_t>(reason),
                                .kind = static_cast<std::uint8_t>(kind),
                                .has_other = 1,
                                .reserved = {}};
  const std::uint64_t number = history_->peer(known.row).append(event);
  if (journal_ != nullptr) journal_->happened(peer, number, event);
}

void Pool::tell_again(std::int64_t since_ms) const {
  if (history_ == nullptr || journal_ == nullptr) return;
  const auto tell = [&](const auto& of, const auto& known, const shm::History& history) {
    bool noted = false;
    for (const auto& [number, event] : history.read_numbered()) {
      if (event.time_ms < since_ms) continue;
      if (!std::exchange(noted, true)) journal_->noted(of, known);
      journal_->happened(of, number, event);
    }
  };
  for (const auto& [point, known] : points_) tell(point, known, history_->point(known.row));
  for (const auto& [peer, known] : peers_) tell(peer, known, history_->peer(known.row));
}

// ---- slots

std::optional<SlotRef> Pool::claim(schema::Direction direction, const Point& remote, const PublicKey& key,
                                   std::uint64_t deadline_ns, Now now) {
  for (SlotId i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.state != shm::SlotState::kFree) continue;
    const Generation generation = slot.generation + 1;
    slot = Slot{};
    slot.generation = generation;
    slot.state = shm::SlotState::kClaimed;
    slot.direction = direction;
    slot.remote = remote;
    slot.public_key = key;
    slot.deadline_ns = deadline_ns;
    slot.since_ms = now.ms;
    slot.claimed_ns = now.ns;
    slot.group = limits_.as_map.group_of(remote.address);
    if (direction == schema::Direction::kOutgoing) slot.point = remote;
    publish(i);
    publish_counts();
    return SlotRef{i, generation};
  }
  return std::nullopt;
}

void Pool::free(SlotId id) {
  const Generation generation = slots_[id].generation;
  slots_[id] = Slot{};
  slots_[id].generation = generation;
  publish(id);
  publish_counts();
}

Slot* Pool::find(const SlotRef& ref) {
  if (ref.slot >= slots_.size()) return nullptr;
  Slot& slot = slots_[ref.slot];
  return slot.generation == ref.generation && slot.state != shm::SlotState::kFree ? &slot : nullptr;
}

void Pool::set_worker(const SlotRef& ref, std::uint32_t pid) {
  if (Slot* slot = find(ref)) {
    slot->worker_pid = pid;
    publish(ref.slot);
  }
}

std::uint32_t Pool::incoming_handshakes() const {
  return static_cast<std::uint32_t>(std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) {
    return in_handshake(slot) && slot.direction == schema::Direction::kIncoming;
  }));
}

std::uint32_t Pool::active() const {
  return static_cast<std::uint32_t>(std::count_if(slots_.begin(), slots_.end(), is_active));
}

std::uint32_t Pool::under_way() const {
  return static_cast<std::uint32_t>(std::count_if(points_.begin(), points_.end(), [](const auto& entry) {
    return entry.second.state == shm::PointState::kRequested;
  }));
}

std::vector<service::Neighbour> Pool::neighbours(Now now) const {
  std::vector<service::Neighbour> neighbours;
  for (SlotId id = 0; id < slots_.size(); ++id) {
    const Slot& slot = slots_[id];
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

std::optional<SlotRef> Pool::running(const PeerId& peer) const {
  for (SlotId i = 0; i < slots_.size(); ++i) {
    if (slots_[i].state == shm::SlotState::kRunning && slots_[i].peer_id == peer)
      return SlotRef{i, slots_[i].generation};
  }
  return std::nullopt;
}

std::optional<SlotRef> Pool::same_key_victim(const PublicKey& key) const {
  std::map<Address, std::vector<SlotId>> crowds;
  std::size_t total = 0;
  for (SlotId i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!in_handshake(slot) || slot.direction != schema::Direction::kIncoming || slot.public_key != key) continue;
    crowds[crowd_of(slot.remote.address)].push_back(i);
    ++total;
  }
  if (total < kSameKeyLimit) return std::nullopt;
  const auto older = [this](SlotId a, SlotId b) {
    return std::tie(slots_[a].deadline_ns, slots_[a].since_ms) < std::tie(slots_[b].deadline_ns, slots_[b].since_ms);
  };
  std::size_t largest = 0;
  SlotId oldest = 0;
  for (const auto& [crowd, members] : crowds) {
    const SlotId first = *std::min_element(members.begin(), members.end(), older);
    // Of crowds of one size the one that holds on for longest: the owner of the key has just come.
    if (members.size() < largest || (members.size() == largest && !older(first, oldest))) continue;
    largest = members.size();
    oldest = first;
  }
  return SlotRef{oldest, slots_[oldest].generation};
}

bool Pool::trusted(const Slot& slot) const {
  if (slot.has_peer && trusted(slot.peer_id)) return true;
  if (standing(slot.remote.address) == Standing::kTrusted) return true;
  if (!slot.point) return false;
  const auto point = points_.find(*slot.point);
  return point != points_.end() && point->second.trusted;
}

bool Pool::trusted(const Point& point, const KnownPoint& known) const {
  return known.trusted || standing(point.address) == Standing::kTrusted;
}

bool Pool::trusted(const PeerId& peer) const {
  return standing(peer) == Standing::kTrusted;
}

void Pool::trust_point(const Point& point, Now now) {
  register_point(point, true, now);
}

void Pool::untrust_points(const Prefix& prefix) {
  for (auto& [point, known] : points_) {
    if (contains(prefix, point.address)) known.trusted = false;
  }
  standings_changed();
}

void Pool::standings_changed() {
  for (const auto& [point, known] : points_) publish(point, known);
  for (const auto& [peer, known] : peers_) publish(peer, known);
  for (SlotId i = 0; i < slots_.size(); ++i) {
    if (slots_[i].state != shm::SlotState::kFree) publish(i);
  }
  publish_counts();
}

// Any incoming connection but a trusted one: those that we dialled are not pushed out by those that come.
std::optional<SlotRef> Pool::room_for_trusted(Now now) const {
  auto candidates = neighbours(now);
  std::erase_if(candidates, [](const auto& one) { return one.outgoing; });
  const auto victims = service::choose_victims(candidates, 1, limits_.hardened, random_);
  return victims.empty() ? std::nullopt : std::optional(victims.front());
}

// ---- handshake

void Pool::announced(const SlotRef& ref, const schema::Announcement& announcement) {
  Slot* slot = find(ref);
  if (slot == nullptr) return;
  slot->state = shm::SlotState::kHandshake;
  slot->announcement = announcement;
  // Of an outgoing connection the listening port is the one that was dialled.
  if (slot->direction == schema::Direction::kIncoming && announcement.port != 0)
    slot->point = Point{slot->remote.address, announcement.port};
  publish(ref.slot);
}

void Pool::met_myself(const SlotRef& ref) {
  const Slot* slot = find(ref);
  if (slot == nullptr || !slot->point) return;
  const Point point = *slot->point;
  met_points_.remove(point);
  met_points_.push_front(point);
  if (met_points_.size() > kMetPoints) met_points_.pop_back();
  forget_point(point);
}

Decision Pool::silence(Reason reason) const {
  return {schema::VerdictKind::kSilence, reason, 0, {}};
}

Decision Pool::refuse(const Slot& slot, Reason reason, std::int16_t motive) {
  // The form follows what the peer announced, not what would be negotiated.
  if (slot.announcement.p2p_version == 0) return {schema::VerdictKind::kNackV0, reason, motive, {}};
  Decision decision{schema::VerdictKind::kNack, reason, motive, {}};
  if (!limits_.disable_peer_discovery) decision.points = list_known_points();
  return decision;
}

Decision Pool::decide(const SlotRef& ref, const Proved& proved, Now now) {
  Slot* slot = find(ref);
  if (slot == nullptr) return silence(Reason::kChannelFault);
  const bool incoming = slot->direction == schema::Direction::kIncoming;
  slot->peer_id = proved.peer_id;
  slot->has_peer = true;
  slot->metadata = proved.metadata;

  // Whoever is banned hears nothing, not even that it speaks for another network.
  const Standing peer_standing = standing(proved.peer_id);
  if (peer_standing == Standing::kBanned) return silence(Reason::kPeerBanned);
  if (standing(slot->remote.address) == Standing::kBanned) return silence(Reason::kBanned);
  if (peer_standing == Standing::kGreylisted) return silence(Reason::kPeerGreylisted);

  if (slot->point && is_own(*slot->point)) slot->point.reset();
  KnownPoint* point = slot->point ? learn(*slot->point, slot->group, now) : nullptr;
  if (point != nullptr && point->expected_peer_id && *point->expected_peer_id != proved.peer_id) {
    publish(ref.slot);
    return silence(Reason::kUnexpectedPeerId);
  }
  KnownPeer* peer = register_peer(proved.peer_id, now);

  Decision decision = [&]() -> Decision {
    if (slot->announcement.chain_name != limits_.chain_name)
      return refuse(*slot, Reason::kUnknownChainName, kMotiveUnknownChainName);
    const auto ddb = negotiate(limits_.distributed_db_versions, slot->announcement.distributed_db_version);
    if (!ddb) return refuse(*slot, Reason::kDeprecatedDistributedDbVersion, kMotiveDeprecatedDdb);
    if (!negotiate(limits_.p2p_versions, slot->announcement.p2p_version))
      return refuse(*slot, Reason::kDeprecatedP2pVersion, kMotiveDeprecatedP2p);
    slot->negotiated_ddb = *ddb;
    const bool is_trusted = trusted(*slot);
    std::optional<SlotRef> makes_room;
    // What is dialled holds its place already; nobody else takes it.
    const bool holds_place = !incoming && point != nullptr && point->state == shm::PointState::kRequested;
    if (active() + (holds_place ? 0 : under_way()) >= limits_.maximum_connections) {
      if (is_trusted) makes_room = room_for_trusted(now);
      if (!makes_room) return refuse(*slot, Reason::kTooManyConnections, kMotiveTooManyConnections);
    }
    if (limits_.private_mode && !is_trusted) return silence(Reason::kPrivateMode);
    if (point != nullptr) {
      const bool busy = point->state == shm::PointState::kAccepted || point->state == shm::PointState::kRunning ||
                        (point->state == shm::PointState::kRequested && incoming);
      if (busy) return refuse(*slot, Reason::kAlreadyConnected, kMotiveAlreadyConnected);
    }
    const bool peer_busy = std::any_of(slots_.begin(), slots_.end(), [&](const Slot& other) {
      return is_active(other) && other.peer_id == proved.peer_id;
    });
    if (peer_busy) return refuse(*slot, Reason::kAlreadyConnected, kMotiveAlreadyConnected);
    return Decision{schema::VerdictKind::kAccept, Reason::kNone, 0, {}, makes_room};
  }();

  if (point != nullptr) point->known_public = !proved.metadata.private_node;
  if (decision.kind == schema::VerdictKind::kAccept) {
    // First the one goes, then the other counts: the maximum holds at every moment.
    if (decision.makes_room) ended(*decision.makes_room, Reason::kMadeRoom, now);
    slot->state = shm::SlotState::kAccepted;
    if (point != nullptr) {
      point->state = shm::PointState::kAccepted;
      point->peer_id = proved.peer_id;
      remember(*slot->point, *point, shm::HistoryKind::kAcceptingRequest, proved.peer_id, Reason::kNone, now);
    }
    if (peer != nullptr) {
      peer->state = shm::PeerState::kAccepted;
      peer->metadata = proved.metadata;
      remember(proved.peer_id, *peer, shm::HistoryKind::kAcceptingRequest, *slot, Reason::kNone, now);
    }
  }
  if (point != nullptr) publish(*slot->point, *point);
  if (peer != nullptr) publish(proved.peer_id, *peer);
  publish(ref.slot);
  publish_counts();
  return decision;
}

void Pool::established(const SlotRef& ref, Now now) {
  Slot* slot = find(ref);
  // A worker that was told to refuse its peer cannot make a connection of it.
  if (slot == nullptr || slot->state != shm::SlotState::kAccepted) return;
  slot->state = shm::SlotState::kRunning;
  slot->since_ms = now.ms;
  slot->handshake_us = static_cast<std::uint32_t>(
      std::clamp<Nanoseconds>((now.ns - std::min(now.ns, slot->claimed_ns)) / 1000, 1, UINT32_MAX));
  if (slot->point) {
    if (KnownPoint* point = find_point(*slot->point)) {
      point->state = shm::PointState::kRunning;
      point->anchor = false;
      if (slot->direction == schema::Direction::kOutgoing) mark_tried(*point);
      point->last_established_ms = now.ms;
      remember(*slot->point, *point, shm::HistoryKind::kConnectionEstablished, slot->peer_id, Reason::kNone, now);
      publish(*slot->point, *point);
    }
  }
  if (const auto peer = peers_.find(slot->peer_id); peer != peers_.end()) {
    peer->second.state = shm::PeerState::kRunning;
    peer->second.last_established_ms = now.ms;
    peer->second.point = slot->point;
    peer->second.address = slot->remote.address;
    remember(peer->first, peer->second, shm::HistoryKind::kConnectionEstablished, *slot, Reason::kNone, now);
    publish(peer->first, peer->second);
  }
  publish(ref.slot);
  publish_counts();
}

void Pool::back_off(KnownPoint& point, bool was_running, Now now) {
  const auto& rule = limits_.reconnection;
  const auto initial_ms = static_cast<std::int64_t>(rule.initial_delay_s * 1000);
  std::int64_t wait_ms = 0;
  if (was_running) {
    wait_ms = static_cast<std::int64_t>(rule.disconnection_delay_s * 1000);
    point.delay_ms = initial_ms;
  } else {
    wait_ms = point.delay_ms > 0 ? point.delay_ms : initial_ms;
    const double grown = static_cast<double>(wait_ms) * rule.factor;
    point.delay_ms = static_cast<std::int64_t>(std::min(grown, rule.increase_cap_s * 1000));
  }
  point.next_attempt = {now.ns + static_cast<Nanoseconds>(wait_ms) * kMillisecond, now.ms + wait_ms};
  point.state = shm::PointState::kDisconnected;
  point.peer_id.reset();
}

void Pool::ended(const SlotRef& ref, Reason reason, Now now) {
  Slot* slot = find(ref);
  if (slot == nullptr || slot->state == shm::SlotState::kEnding) return;
  const bool was_running = slot->state == shm::SlotState::kRunning;
  const bool was_accepted = slot->state == shm::SlotState::kAccepted;
  const bool dialled = slot->direction == schema::Direction::kOutgoing;
  const bool other_network = reason == Reason::kUnknownChainName || reason == Reason::kDeprecatedDistributedDbVersion ||
                             reason == Reason::kDeprecatedP2pVersion;
  // Whoever proved itself and was not accepted was turned away by us.
  const bool refused = slot->has_peer && !was_running && !was_accepted;
  const shm::HistoryKind kind =
      was_running ? (is_our_wish(reason) ? shm::HistoryKind::kDisconnection : shm::HistoryKind::kExternalDisconnection)
      : refused   ? shm::HistoryKind::kRejectingRequest
                  : shm::HistoryKind::kRequestRejected;
  const auto who = slot->has_peer ? std::optional(slot->peer_id) : std::nullopt;
  if (slot->point) {
    KnownPoint* point = find_point(*slot->point);
    // An incoming handshake that failed says nothing of the point that it claimed, which may be running elsewhere.
    const bool ours =
        point != nullptr && (was_running || was_accepted || (dialled && point->state == shm::PointState::kRequested));
    if (ours || (point != nullptr && refused)) remember(*slot->point, *point, kind, who, reason, now);
    if (ours) {
      if (was_running) {
        point->last_disconnection_ms = now.ms;
      } else if (reason == Reason::kRejectedByPeer || was_accepted) {
        point->last_rejected_ms = now.ms;
      } else {
        point->last_failed_ms = now.ms;
      }
      back_off(*point, was_running, now);
      publish(*slot->point, *point);
    }
    // Another network's node is forgotten, not banned: a node of ours may share its address.
    if (other_network && point != nullptr && !trusted(*slot->point, *point) &&
        point->state == shm::PointState::kDisconnected)
      forget_point(*slot->point);
  }
  if (const auto peer = who ? peers_.find(*who) : peers_.end(); peer != peers_.end()) {
    remember(peer->first, peer->second, kind, *slot, reason, now);
    if (was_running || was_accepted) {
      peer->second.state = shm::PeerState::kDisconnected;
      (was_running ? peer->second.last_disconnection_ms : peer->second.last_rejected_ms) = now.ms;
      publish(peer->first, peer->second);
    }
  }
  // The slot stays taken until its process is reaped, but is no connection any more.
  slot->state = shm::SlotState::kEnding;
  publish(ref.slot);
  publish_counts();
}

// ---- points

bool Pool::is_own(const Point& point) const {
  return std::find(own_points_.begin(), own_points_.end(), point) != own_points_.end() ||
         std::find(met_points_.begin(), met_points_.end(), point) != met_points_.end();
}

void Pool::add_own_point(const Point& point) {
  own_points_.push_back(point);
  forget_point(point);
}

KnownPoint* Pool::find_point(const Point& point) {
  const auto found = points_.find(point);
  return found == points_.end() ? nullptr : &found->second;
}

KnownPoint* Pool::register_point(const Point& point, bool trusted, Now now) {
  if (point.port == 0 || is_own(point)) return nullptr;
  if (KnownPoint* known = find_point(point)) {
    if (trusted && !known->trusted) {
      known->trusted = true;
      publish(point, *known);
      for (SlotId i = 0; i < slots_.size(); ++i) {
        if (slots_[i].state != shm::SlotState::kFree && slots_[i].point == point) publish(i);
      }
    }
    return known;
  }
  return add_point(point, trusted, limits_.as_map.group_of(point.address), now);
}

KnownPoint* Pool::add_point(const Point& point, bool trusted, AddressGroup source, Now now) {
  if (points_.size() >= limits_.known_points_maximum) collect_points(now);
  if (free_point_rows_.empty()) return nullptr;
  // What cannot be collected (trusted, connected) may exceed the maximum; what others tell us may not.
  if (!trusted && points_.size() >= limits_.known_points_maximum) return nullptr;
  KnownPoint& known = points_[point];
  known.row = free_point_rows_.back();
  free_point_rows_.pop_back();
  if (history_ != nullptr) history_->point(known.row).clear();
  known.trusted = trusted;
  known.group = limits_.as_map.group_of(point.address);
  known.source = source;
  publish(point, known);
  return &known;
}

// What we did not choose to know: bounded, when hardened, by who told of it and by what it is.
KnownPoint* Pool::learn(const Point& point, AddressGroup source, Now now) {
  if (point.port == 0 || is_own(point)) return nullptr;
  if (KnownPoint* known = find_point(point)) return known;
  if (limits_.hardened) {
    const AddressGroup group = limits_.as_map.group_of(point.address);
    std::size_t of_source = 0;
    std::size_t of_group = 0;
    for (const auto& [other, known] : points_) {
      if (known.tried || trusted(other, known)) continue;
      if (known.source == source) ++of_source;
      if (known.group == group) ++of_group;
    }
    const std::size_t share = std::max<std::size_t>(limits_.known_points_maximum / kHearsayShare, 1);
    if (of_source >= share || of_group >= share) return nullptr;
  }
  return add_point(point, false, source, now);
}

bool Pool::dialable(const Point& point) const {
  return point.port != 0 && !is_own(point) && (limits_.allow_private_points || is_routable(point.address));
}

std::size_t Pool::hear(const SlotRef& from, const std::vector<Point>& points, Now now) {
  Slot* slot = find(from);
  if (slot == nullptr) return 0;
  std::size_t heard = 0;
  for (const auto& point : points) {
    if (!dialable(point) || points_.contains(point)) continue;
    if (!slot->hearsay.take(kHearsayRate, now.ns)) break;
    if (learn(point, slot->group, now) != nullptr) ++heard;
  }
  return heard;
}

bool Pool::hear_on_lan(const Point& point, Now now) {
  if (point.port == 0 || is_own(point) || points_.contains(point)) return false;
  return lan_hearsay_.take(kHearsayRate, now.ns) && learn(point, kLanTellers, now) != nullptr;
}

// A point that worked is kept, but only so many are, and of one group only a few; a new one takes the place of one that
// fails now.
void Pool::mark_tried(KnownPoint& point) {
  if (point.tried) return;
  if (!limits_.hardened || point.trusted) {
    point.tried = true;
    return;
  }
  std::size_t all = 0;
  std::size_t of_group = 0;
  std::vector<std::pair<Point, KnownPoint*>> failing;
  for (auto& [other, known] : points_) {
    if (!known.tried || trusted(other, known)) continue;
    ++all;
    if (known.group == point.group) ++of_group;
    if (known.state == shm::PointState::kDisconnected && known.last_failed_ms > known.last_established_ms)
      failing.emplace_back(other, &known);
  }
  const std::size_t maximum = limits_.known_points_maximum;
  const bool group_is_full = of_group >= std::max<std::size_t>(maximum / kTriedGroupShare, 1);
  if (group_is_full) std::erase_if(failing, [&](const auto& one) { return one.second->group != point.group; });
  if (group_is_full || all >= maximum / kTriedShare) {
    if (failing.empty()) return;
    auto& [other, known] = failing[static_cast<std::size_t>(random_() % failing.size())];
    known->tried = false;
    publish(other, *known);
  }
  point.tried = true;
}

std::vector<Point> Pool::anchors() const {
  std::vector<const Slot*> candidates;
  for (const auto& slot : slots_) {
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
  for (std::size_t i = 0; i < std::min(points.size(), kAnchors); ++i) {
    KnownPoint* known = register_point(points[i], false, now);
    if (known == nullptr) continue;
    known->anchor = true;
    known->tried = true;
    publish(points[i], *known);
  }
}

void Pool::collect_points(Now now) {
  // One more is about to come, and must not make it more than the maximum.
  const std::size_t target = std::min(limits_.known_points_target, limits_.known_points_maximum - 1);
  if (points_.size() <= target) return;
  for (const auto& point : least_wanted_points(points_.size() - target, now)) forget_point(point);
}

std::vector<Point> Pool::least_wanted_points(std::size_t count, Now now) {
  std::vector<Point> chosen;
  if (!limits_.hardened) {
    std::vector<std::pair<std::int64_t, Point>> candidates;
    for (const auto& [point, known] : points_) {
      if (known.state != shm::PointState::kDisconnected || trusted(point, known)) continue;
      const std::int64_t miss = known.last_miss_ms();
      candidates.emplace_back(miss == 0 ? now.ms : miss, point);
    }
    std::sort(candidates.begin(), candidates.end());
    for (std::size_t i = 0; i < std::min(count, candidates.size()); ++i) chosen.push_back(candidates[i].second);
    return chosen;
  }
  // Whoever told most loses first, of its points those that failed, then by chance: a flood displaces itself.
  std::map<AddressGroup, std::vector<Point>> by_source;
  for (const auto& [point, known] : points_) {
    if (known.state == shm::PointState::kDisconnected && !trusted(point, known) && !known.tried && !known.anchor)
      by_source[known.source].push_back(point);
  }
  for (auto& [source, points] : by_source) {
    service::shuffle(points, random_);
    std::stable_partition(points.begin(), points.end(), [this](const Point& point) {
      const KnownPoint& known = points_.find(point)->second;
      return known.last_failed_ms <= known.last_established_ms;
    });
  }
  while (chosen.size() < count && !by_source.empty()) {
    const auto largest = std::max_element(by_source.begin(), by_source.end(), [](const auto& a, const auto& b) {
      return a.second.size() < b.second.size();
    });
    chosen.push_back(largest->second.back());
    largest->second.pop_back();
    if (largest->second.empty()) by_source.erase(largest);
  }
  return chosen;
}

void Pool::forget_point(const Point& point) {
  const auto found = points_.find(point);
  if (found == points_.end()) return;
  if (table_ != nullptr) table_->point(found->second.row).write(shm::PointRow{});
  free_point_rows_.push_back(found->second.row);
  points_.erase(found);
  if (journal_ != nullptr) journal_->forgotten(point);
}

void Pool::configure(const Point& point, std::optional<PeerId> expected, Now now) {
  KnownPoint* known = register_point(point, true, now);
  if (known == nullptr) return;
  if (expected) known->expected_peer_id = expected;
  publish(point, *known);
}

void Pool::deconfigure(const Point& point) {
  KnownPoint* known = find_point(point);
  if (known == nullptr || !known->trusted) return;
  known->trusted = false;
  known->expected_peer_id.reset();
  publish(point, *known);
  for (SlotId i = 0; i < slots_.size(); ++i) {
    if (slots_[i].state != shm::SlotState::kFree && slots_[i].point == point) publish(i);
  }
}

Reason Pool::request(const Point& point, Now now) {
  if (is_own(point)) return Reason::kMyself;
  if (standing(point.address) == Standing::kBanned) return Reason::kPointBanned;
  if (standing(point.address) == Standing::kGreylisted) return Reason::kPointGreylisted;
  if (active() >= limits_.maximum_connections) return Reason::kTooManyConnections;
  KnownPoint* known = register_point(point, false, now);
  if (known == nullptr) return Reason::kNoFreeSlot;
  if (limits_.private_mode && !trusted(point, *known)) return Reason::kPrivateMode;
  if (known->state == shm::PointState::kRunning) return Reason::kAlreadyConnected;
  if (known->state != shm::PointState::kDisconnected) return Reason::kPendingConnection;
  if (!has_room()) return Reason::kTooManyConnections;
  known->state = shm::PointState::kRequested;
  remember(point, *known, shm::HistoryKind::kOutgoingRequest, std::nullopt, Reason::kNone, now);
  publish(point, *known);
  return Reason::kNone;
}

void Pool::dial_failed(const Point& point, Now now, Reason reason) {
  KnownPoint* known = find_point(point);
  if (known == nullptr || known->state != shm::PointState::kRequested) return;
  known->last_failed_ms = now.ms;
  remember(point, *known, shm::HistoryKind::kRequestRejected, std::nullopt, reason, now);
  back_off(*known, false, now);
  publish(point, *known);
}

void Pool::abandon_requests(Now now) {
  for (auto& [point, known] : points_) {
    if (known.state != shm::PointState::kRequested) continue;
    const bool has_slot = std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
      return (in_handshake(slot) || is_active(slot)) && slot.direction == schema::Direction::kOutgoing &&
             slot.point == point;
    });
    if (has_slot) continue;
    known.state = shm::PointState::kDisconnected;
    known.next_attempt = now;
    remember(point, known, shm::HistoryKind::kRequestRejected, std::nullopt, Reason::kServiceGone, now);
    publish(point, known);
  }
}

std::vector<Point> Pool::list_known_points() {
  struct Candidate {
    bool connected;
    std::int64_t seen;
    std::uint64_t tie;
    Point point;
  };
  std::vector<Candidate> candidates;
  for (const auto& [point, known] : points_) {
    if (!known.known_public) continue;
    const Standing of_address = standing(point.address);
    if (of_address == Standing::kBanned || of_address == Standing::kGreylisted) continue;
    candidates.push_back({known.state != shm::PointState::kDisconnected, known.last_seen_ms(), random_(), point});
  }
  // Connected ones first, of these the one seen longest ago first; then the others, the one seen last first.
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    if (a.connected != b.connected) return a.connected;
    if (a.seen != b.seen) return a.connected ? a.seen < b.seen : a.seen > b.seen;
    return std::tie(a.tie, a.point) < std::tie(b.tie, b.point);
  });
  std::vector<Point> points;
  const std::size_t best = candidates.size() > kAdvertised ? kAdvertisedBest : candidates.size();
  for (std::size_t i = 0; i < best; ++i) points.push_back(candidates[i].point);
  // A few at random of the rest, so that what is told differs from time to time.
  for (std::size_t at = best; at < candidates.size() && points.size() < kAdvertised; ++at) {
    const std::size_t pick = at + static_cast<std::size_t>(random_() % (candidates.size() - at));
    std::swap(candidates[at], candidates[pick]);
    points.push_back(candidates[at].point);
  }
  return points;
}

// ---- peers

KnownPeer* Pool::register_peer(const PeerId& peer, Now now) {
  if (const auto found = peers_.find(peer); found != peers_.end()) return &found->second;
  if (peers_.size() >= limits_.known_peers_maximum) collect_peers(now);
  if (free_peer_rows_.empty() || peers_.size() >= limits_.known_peers_maximum) return nullptr;
  KnownPeer& known = peers_[peer];
  known.row = free_peer_rows_.back();
  free_peer_rows_.pop_back();
  if (history_ != nullptr) history_->peer(known.row).clear();
  known.created_ms = now.ms;
  publish(peer, known);
  return &known;
}

// Lowest score first; of equals the youngest first, so that a flood of new identities displaces itself.
void Pool::collect_peers(Now now) {
  const std::size_t target = std::min(limits_.known_peers_target, limits_.known_peers_maximum - 1);
  if (peers_.size() <= target) return;
  std::vector<std::tuple<double, std::int64_t, PeerId>> candidates;
  for (const auto& [peer, known] : peers_) {
    if (known.state == shm::PeerState::kDisconnected && !trusted(peer))
      candidates.emplace_back(score(peer, now), -known.created_ms, peer);
  }
  std::sort(candidates.begin(), candidates.end());
  const std::size_t excess = peers_.size() - target;
  for (std::size_t i = 0; i < std::min(excess, candidates.size()); ++i) {
    const PeerId gone = std::get<2>(candidates[i]);
    const auto found = peers_.find(gone);
    if (table_ != nullptr) table_->peer(found->second.row).write(shm::PeerRow{});
    free_peer_rows_.push_back(found->second.row);
    peers_.erase(found);
    if (journal_ != nullptr) journal_->forgotten(gone);
  }
}

bool Pool::set_score(const PeerId& peer, double score, Now now) {
  const auto found = peers_.find(peer);
  if (found == peers_.end() || !std::isfinite(score)) return false;
  // What a row can hold, and far more than anybody needs.
  found->second.score = std::clamp(score, -kGreatestScore, kGreatestScore);
  found->second.score_ms = now.ms;
  publish(peer, found->second);
  if (const auto slot = running(peer)) publish(slot->slot);
  return true;
}

double Pool::score(const PeerId& peer, Now now) const {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return service::kNeutralScore;
  return service::decayed_score(found->second.score, found->second.score_ms, now.ms, limits_.score_half_life_s);
}

// ---- projection

void Pool::publish(SlotId id) {
  if (table_ != nullptr) table_->slot(id).write(slot_row(id));
}

shm::SlotRow Pool::slot_row(SlotId id) const {
  const Slot& slot = slots_[id];
  shm::SlotRow row{};
  row.generation = slot.generation;
  row.state = static_cast<std::uint32_t>(slot.state);
  row.direction = static_cast<std::uint32_t>(slot.direction);
  row.worker_pid = slot.worker_pid;
  row.remote_port = slot.remote.port;
  row.port = slot.point ? slot.point->port : 0;
  row.distributed_db_version = slot.announcement.distributed_db_version;
  row.p2p_version = slot.announcement.p2p_version;
  row.peer_id = slot.peer_id;
  row.address = slot.remote.address.bytes;
  row.private_node = slot.metadata.private_node ? 1 : 0;
  row.disable_mempool = slot.metadata.disable_mempool ? 1 : 0;
  row.trusted = trusted(slot) ? 1 : 0;
  row.negotiated_ddb = static_cast<std::uint8_t>(slot.negotiated_ddb);
  row.weight_milli = 1000;
  row.since_ms = slot.since_ms;
  row.deadline_ns = static_cast<std::int64_t>(slot.deadline_ns);
  row.group = slot.group;
  row.handshake_us = slot.handshake_us;
  if (const auto peer = peers_.find(slot.peer_id); slot.has_peer && peer != peers_.end()) {
    row.score_milli = static_cast<std::int64_t>(peer->second.score * 1000);
    row.score_ms = peer->second.score_ms;
  }
  return row;
}

void Pool::publish(const Point& point, const KnownPoint& known) {
  if (journal_ != nullptr) journal_->noted(point, known);
  if (table_ != nullptr) table_->point(known.row).write(point_row(point, known));
}

shm::PointRow Pool::point_row(const Point& point, const KnownPoint& known) const {
  shm::PointRow row{};
  row.used = 1;
  row.state = static_cast<std::uint32_t>(known.state);
  row.address = point.address.bytes;
  row.port = point.port;
  row.trusted = trusted(point, known) ? 1 : 0;
  row.known_public = known.known_public ? 1 : 0;
  row.has_expected = known.expected_peer_id ? 1 : 0;
  if (known.expected_peer_id) row.expected_peer_id = *known.expected_peer_id;
  row.has_peer = known.peer_id ? 1 : 0;
  if (known.peer_id) row.peer_id = *known.peer_id;
  row.last_failed_ms = known.last_failed_ms;
  row.last_rejected_ms = known.last_rejected_ms;
  row.last_established_ms = known.last_established_ms;
  row.last_disconnection_ms = known.last_disconnection_ms;
  row.next_attempt_ns = static_cast<std::int64_t>(known.next_attempt.ns);
  row.next_attempt_ms = known.next_attempt.ms;
  row.reconnect_delay_ms = known.delay_ms;
  row.group = known.group;
  row.source = known.source;
  row.tried = known.tried ? 1 : 0;
  row.anchor = known.anchor ? 1 : 0;
  return row;
}

void Pool::publish(const PeerId& peer, const KnownPeer& known) {
  if (journal_ != nullptr) journal_->noted(peer, known);
  if (table_ == nullptr) return;
  shm::PeerRow row{};
  row.used = 1;
  row.state = static_cast<std::uint32_t>(known.state);
  row.peer_id = peer;
  if (known.address) row.address = known.address->bytes;
  if (known.point) {
    row.address = known.point->address.bytes;
    row.port = known.point->port;
  }
  row.trusted = trusted(peer) ? 1 : 0;
  row.has_metadata = known.metadata ? 1 : 0;
  if (known.metadata) {
    row.private_node = known.metadata->private_node ? 1 : 0;
    row.disable_mempool = known.metadata->disable_mempool ? 1 : 0;
  }
  row.score_milli = static_cast<std::int64_t>(known.score * 1000);
  row.score_ms = known.score_ms;
  row.created_ms = known.created_ms;
  row.last_failed_ms = known.last_failed_ms;
  row.last_rejected_ms = known.last_rejected_ms;
  row.last_established_ms = known.last_established_ms;
  row.last_disconnection_ms = known.last_disconnection_ms;
  table_->peer(known.row).write(row);
}

void Pool::publish_counts() {
  if (table_ == nullptr) return;
  shm::PoolRow row{};
  for (const auto& slot : slots_) {
    if (slot.state == shm::SlotState::kRunning) {
      ++row.active;
      ++(slot.direction == schema::Direction::kIncoming ? row.incoming : row.outgoing);
    } else if (in_handshake(slot) || slot.state == shm::SlotState::kAccepted) {
      ++row.pending;
    }
  }
  row.revision = ++revision_;
  table_->pool().write(row);
}

}  // namespace bulkhead::controller
