#include "services/controller/pool.h"

/// The pool's part from the first bytes of a connection to its end.
namespace bulkhead::controller {
namespace {

// Motives of a Nack, as the wire numbers them.
constexpr std::int16_t kMotiveTooManyConnections = 1;
constexpr std::int16_t kMotiveUnknownChainName = 2;
constexpr std::int16_t kMotiveDeprecatedP2p = 3;
constexpr std::int16_t kMotiveDeprecatedDdb = 4;
constexpr std::int16_t kMotiveAlreadyConnected = 5;

// The greatest of ours that the other side knows too: ours, or theirs when we still speak it.
std::optional<std::uint16_t> negotiate(const std::vector<std::uint16_t>& ours, std::uint16_t theirs) {
  const std::uint16_t best = *std::max_element(ours.begin(), ours.end());
  if (best <= theirs) return best;
  if (std::find(ours.begin(), ours.end(), theirs) != ours.end()) return theirs;
  return std::nullopt;
}

}  // namespace

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
  if (slot != nullptr && slot->point) points_.met_myself(*slot->point);
}

// ---- the verdict

Decision Pool::silence(Reason reason) const {
  return {schema::VerdictKind::kSilence, reason, 0, {}};
}

Decision Pool::refuse(const Slot& slot, Reason reason, std::int16_t motive) const {
  // The form follows what the peer announced, not what would be negotiated.
  if (slot.announcement.p2p_version == 0) return {schema::VerdictKind::kNackV0, reason, motive, {}};
  Decision decision{schema::VerdictKind::kNack, reason, motive, {}};
  if (!limits().disable_peer_discovery) decision.points = list_known_points();
  return decision;
}

// Any incoming connection but a trusted one: those that we dialled are not pushed out by those that come.
std::optional<SlotRef> Pool::room_for_trusted(Now now) const {
  auto candidates = neighbours(now);
  std::erase_if(candidates, [](const auto& one) { return one.outgoing; });
  const auto victims = service::choose_victims(candidates, 1, limits().hardened, context_.random);
  return victims.empty() ? std::nullopt : std::optional(victims.front());
}

// On whoever is neither banned nor greylisted, and is the one that its point expects.
Decision Pool::judged(Slot& slot, const KnownPoint* point, Now now) {
  const bool incoming = slot.direction == schema::Direction::kIncoming;
  if (slot.announcement.chain_name != limits().chain_name)
    return refuse(slot, Reason::kUnknownChainName, kMotiveUnknownChainName);
  const auto ddb = negotiate(limits().distributed_db_versions, slot.announcement.distributed_db_version);
  if (!ddb) return refuse(slot, Reason::kDeprecatedDistributedDbVersion, kMotiveDeprecatedDdb);
  if (!negotiate(limits().p2p_versions, slot.announcement.p2p_version))
    return refuse(slot, Reason::kDeprecatedP2pVersion, kMotiveDeprecatedP2p);
  slot.negotiated_ddb = *ddb;
  const bool is_trusted = trusted(slot);
  std::optional<SlotRef> makes_room;
  // What is dialled holds its place already; nobody else takes it.
  const bool holds_place = !incoming && point != nullptr && point->state == shm::PointState::kRequested;
  if (active() + (holds_place ? 0 : under_way()) >= limits().maximum_connections) {
    if (is_trusted) makes_room = room_for_trusted(now);
    if (!makes_room) return refuse(slot, Reason::kTooManyConnections, kMotiveTooManyConnections);
  }
  if (limits().private_mode && !is_trusted) return silence(Reason::kPrivateMode);
  if (point != nullptr) {
    const bool busy = point->state == shm::PointState::kAccepted || point->state == shm::PointState::kRunning ||
                      (point->state == shm::PointState::kRequested && incoming);
    if (busy) return refuse(slot, Reason::kAlreadyConnected, kMotiveAlreadyConnected);
  }
  if (slots_.active(slot.peer_id)) return refuse(slot, Reason::kAlreadyConnected, kMotiveAlreadyConnected);
  return {schema::VerdictKind::kAccept, Reason::kNone, 0, {}, makes_room};
}

Decision Pool::decide(const SlotRef& ref, const Proved& proved, Now now) {
  Slot* slot = find(ref);
  if (slot == nullptr) return silence(Reason::kChannelFault);
  slot->peer_id = proved.peer_id;
  slot->has_peer = true;
  slot->metadata = proved.metadata;

  // Whoever is banned hears nothing, not even that it speaks for another network.
  const Standing peer_standing = context_.standing(proved.peer_id);
  if (peer_standing == Standing::kBanned) return silence(Reason::kPeerBanned);
  if (context_.standing(slot->remote.address) == Standing::kBanned) return silence(Reason::kBanned);
  if (peer_standing == Standing::kGreylisted) return silence(Reason::kPeerGreylisted);

  if (slot->point && is_own(*slot->point)) slot->point.reset();
  KnownPoint* point = slot->point ? points_.learn(*slot->point, slot->group, now) : nullptr;
  if (point != nullptr && point->expected_peer_id && *point->expected_peer_id != proved.peer_id) {
    publish(ref.slot);
    return silence(Reason::kUnexpectedPeerId);
  }
  KnownPeer* peer = peers_.add(proved.peer_id, now);
  Decision decision = judged(*slot, point, now);

  if (point != nullptr) point->known_public = !proved.metadata.private_node;
  if (decision.kind == schema::VerdictKind::kAccept) {
    // First the one goes, then the other counts: the maximum holds at every moment.
    if (decision.makes_room) ended(*decision.makes_room, Reason::kMadeRoom, now);
    slot->state = shm::SlotState::kAccepted;
    if (point != nullptr) points_.accepted(*slot->point, *point, proved.peer_id, now);
    if (peer != nullptr) peers_.accepted(proved.peer_id, *peer, *slot, now);
  }
  if (point != nullptr) points_.publish(*slot->point, *point);
  if (peer != nullptr) peers_.publish(proved.peer_id, *peer);
  publish(ref.slot);
  publish_counts();
  return decision;
}

// ---- the connection

void Pool::established(const SlotRef& ref, Now now) {
  Slot* slot = find(ref);
  // A worker that was told to refuse its peer cannot make a connection of it.
  if (slot == nullptr || slot->state != shm::SlotState::kAccepted) return;
  slot->state = shm::SlotState::kRunning;
  slot->since_ms = now.ms;
  slot->handshake_us = static_cast<std::uint32_t>(
      std::clamp<Nanoseconds>((now.ns - std::min(now.ns, slot->claimed_ns)) / 1000, 1, UINT32_MAX));
  if (slot->point)
    points_.established(*slot->point, slot->peer_id, slot->direction == schema::Direction::kOutgoing, now);
  peers_.established(slot->peer_id, *slot, now);
  publish(ref.slot);
  publish_counts();
}

void Pool::ended(const SlotRef& ref, Reason reason, Now now) {
  Slot* slot = find(ref);
  if (slot == nullptr || slot->state == shm::SlotState::kEnding) return;
  Ending ending{.reason = reason,
                .was_running = slot->state == shm::SlotState::kRunning,
                .was_accepted = slot->state == shm::SlotState::kAccepted,
                .dialled = slot->direction == schema::Direction::kOutgoing,
                .peer = slot->has_peer ? std::optional(slot->peer_id) : std::nullopt};
  ending.refused = slot->has_peer && !ending.was_running && !ending.was_accepted;
  if (slot->point) points_.ended(*slot->point, ending, now);
  if (ending.peer) peers_.ended(*ending.peer, *slot, ending, now);
  // The slot stays taken until its process is reaped, but is no connection any more.
  slot->state = shm::SlotState::kEnding;
  publish(ref.slot);
  publish_counts();
}

}  // namespace bulkhead::controller
