#include <algorithm>
#include <utility>

#include "base/log.h"
#include "services/controller/controller.h"

/// The controller's part that has to do with what outlives it.
namespace bulkhead::controller {
namespace {

static_assert(kHistoryLength == shm::kHistoryEvents);
constexpr Nanoseconds kComplainPeriod = 60 * kSecond;
constexpr Nanoseconds kAnchorPeriod = 60 * kSecond;
// What a controller that died had not stored is younger than this; on a loaded machine a flush comes late.
constexpr std::int64_t kUnstoredMs = 60'000;
// Bits of a stored peer's metadata.
constexpr std::uint8_t kHasMetadata = 1;
constexpr std::uint8_t kDisableMempool = 2;
constexpr std::uint8_t kPrivateNode = 4;
constexpr std::uint8_t kGroupBits = 64;

// A group is a number; it is stored as the first half of an address.
Address packed(AddressGroup group) {
  Address address{};
  for (std::size_t i = 0; i < sizeof group; ++i)
    address.bytes[i] = static_cast<std::uint8_t>(group >> (8 * (sizeof group - 1 - i)));
  return address;
}
AddressGroup unpacked(const Address& address) {
  AddressGroup group = 0;
  for (std::size_t i = 0; i < sizeof group; ++i) group = group << 8 | address.bytes[i];
  return group;
}

template <typename Known>
StoredTimes times_of(const Known& known) {
  return {known.last_failed_ms, known.last_rejected_ms, known.last_established_ms, known.last_disconnection_ms};
}
template <typename Known>
void set_times(Known& known, const StoredTimes& times) {
  known.last_failed_ms = times.failed_ms;
  known.last_rejected_ms = times.rejected_ms;
  known.last_established_ms = times.established_ms;
  known.last_disconnection_ms = times.disconnection_ms;
}

KnownPoint from_stored(const PointEntry& entry) {
  KnownPoint known;
  known.known_public = entry.known_public;
  known.tried = entry.tried;
  known.expected_peer_id = entry.expected_peer_id;
  if (entry.source) known.source = unpacked(*entry.source);
  set_times(known, entry.last);
  return known;
}

KnownPeer from_stored(const PeerEntry& entry) {
  KnownPeer known;
  known.score = entry.score;
  known.score_ms = entry.score_ms;
  known.point = entry.point;
  if (entry.point) known.address = entry.point->address;
  if ((entry.metadata_flags & kHasMetadata) != 0) {
    known.metadata = schema::ConnectionMetadata{(entry.metadata_flags & kDisableMempool) != 0,
                                                (entry.metadata_flags & kPrivateNode) != 0};
  }
  known.created_ms = entry.created_ms;
  set_times(known, entry.last);
  return known;
}

HistoryEntry to_stored(const shm::HistoryEvent& event) {
  HistoryEntry entry;
  entry.kind = event.kind;
  entry.time_ms = event.time_ms;
  entry.reason = reason_from_value(event.reason).value_or(Reason::kNone);
  return entry;
}

shm::HistoryEvent from_stored(const HistoryEntry& entry) {
  shm::HistoryEvent event{};
  event.time_ms = entry.time_ms;
  event.kind = entry.kind;
  event.reason = static_cast<std::uint16_t>(entry.reason);
  event.has_other = entry.peer || entry.point ? 1 : 0;
  if (entry.peer) event.other = *entry.peer;
  if (entry.point) {
    event.other = entry.point->address.bytes;
    event.port = entry.point->port;
  }
  return event;
}

}  // namespace

// ---- the pool's journal

void Controller::noted(const Point& point, const KnownPoint& known) {
  (void)parts_.store->later({PointEntry{.point = point,
                                        .trusted = known.trusted,
                                        .known_public = known.known_public,
                                        .tried = known.tried,
                                        .expected_peer_id = known.expected_peer_id,
                                        .last = times_of(known),
                                        .source = packed(known.source),
                                        .source_length = kGroupBits}});
}

void Controller::noted(const PeerId& peer, const KnownPeer& known) {
  std::uint8_t flags = 0;
  if (known.metadata) {
    flags = kHasMetadata;
    if (known.metadata->disable_mempool) flags |= kDisableMempool;
    if (known.metadata->private_node) flags |= kPrivateNode;
  }
  (void)parts_.store->later({PeerEntry{.id = peer,
                                       .trusted = pool_.trusted(peer),
                                       .score = known.score,
                                       .score_ms = known.score_ms,
                                       .point = known.point,
                                       .metadata_flags = flags,
                                       .created_ms = known.created_ms,
                                       .last = times_of(known),
                                       .application = {}}});
}

void Controller::forgotten(const Point& point) {
  (void)parts_.store->later({RemovePoint{point}});
}

void Controller::forgotten(const PeerId& peer) {
  (void)parts_.store->later({RemovePeer{peer}});
}

void Controller::happened(const Point& point, std::uint64_t number, const shm::HistoryEvent& event) {
  HistoryEntry entry = to_stored(event);
  entry.of = point;
  entry.number = number;
  if (event.has_other != 0) entry.peer = event.other;
  (void)parts_.store->later({std::move(entry)});
}

void Controller::happened(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event) {
  HistoryEntry entry = to_stored(event);
  entry.of = peer;
  entry.number = number;
  if (event.has_other != 0) entry.point = Point{Address{event.other}, event.port};
  (void)parts_.store->later({std::move(entry)});
}

// ---- start, upkeep, end

// A successor finds lists and pool in shared memory, and stores what its predecessor may not have come to; a first
// controller fills them.
void Controller::load_state() {
  const std::size_t records = std::size_t{parts_.pool_table.points()} + parts_.pool_table.peers();
  parts_.store->keep_history(
      static_cast<std::uint32_t>(std::min<std::size_t>(kHistoryLength, kMaximumHistory / records)));
  const std::int64_t at = wall_now_ms();
  if (recovering_) {
    (void)parts_.store->later(acl_.since(at - kUnstoredMs, at));
    if (parts_.counters.get(shm::Counter::kImportUnderWay) != 0) {
      finish_former_import();
    } else if (parts_.counters.get(shm::Counter::kChangesUnstored) != 0) {
      store_former_changes();
    }
  } else {
    auto stored = parts_.store->load(at);
    tell_alive();
    if (stored) {
      restore(*stored);
    } else {
      log_error(stored.error().text);
    }
  }
  pool_.keep_journal(this);
  if (recovering_) pool_.tell_again(at - kUnstoredMs);
  if (pool_.peers().empty()) {
    take_known_peers();
  } else if (!recovering_) {
    compare_known_peers();
  }
  (void)acl_.ended(at);
  pool_.standings_changed();
}

// All of its entries are in the database, or none; of the lists nobody knows.
void Controller::finish_former_import() {
  tell_alive();
  auto stored = parts_.store->flush_all();
  auto all = stored ? parts_.store->load(wall_now_ms()) : Result<Stored>(stored.error());
  tell_alive();
  const auto restored = all ? acl_.restore(all->acl, wall_now_ms()) : Result<void>(all.error());
  if (!restored) log_error(restored.error().text);
  parts_.counters.set(shm::Counter::kImportUnderWay, 0);
}

// What an operator was told that it is in force but not stored is in the lists, and was in the former controller's
// memory.
void Controller::store_former_changes() {
  tell_alive();
  const std::int64_t at = wall_now_ms();
  const auto stored = parts_.store->load(at);
  tell_alive();
  if (!stored) return log_error(stored.error().text);
  (void)parts_.store->later(acl_.unlike(stored->acl, at));
}

// Before and after what takes long: the supervisor ends who is silent for too long.
void Controller::tell_alive() {
  (void)parts_.supervisor.send(schema::ToSupervisor(schema::Pong{}));
}

void Controller::restore(const Stored& stored) {
  const Now at = now();
  if (const auto restored = acl_.restore(stored.acl, at.ms); !restored) log_error(restored.error().text);
  tell_alive();
  for (const auto& entry : stored.points) pool_.restore(entry.point, from_stored(entry), at);
  for (const auto& entry : stored.peers) pool_.restore(entry.id, from_stored(entry), at);
  for (const auto& entry : stored.history) {
    std::visit([&](const auto& of) { pool_.restore(of, entry.number.value_or(0), from_stored(entry)); }, entry.of);
  }
  pool_.set_anchors(stored.anchors, at);
}

void Controller::tend_state() {
  const Nanoseconds at = monotonic_now();
  if (acl_.tend(wall_now_ms()) && !merge_timer_.active()) merge_timer_.once(1);
  if (at - anchors_noted_at_ >= kAnchorPeriod) note_anchors(at);
  tell_ended();
  flush_store();
}

void Controller::flush_store() {
  const Nanoseconds at = monotonic_now();
  parts_.store->leave_log(import_.has_value());
  auto flushed = parts_.store->flush(at);
  // What waited for the answers goes on.
  if (tell_outcomes() && flushed) {
    flushed = parts_.store->flush(at);
    tell_outcomes();
  }
  if (flushed && parts_.store->all_on_disk() && parts_.counters.get(shm::Counter::kChangesUnstored) != 0)
    parts_.counters.set(shm::Counter::kChangesUnstored, 0);
  if (flushed || (store_complained_at_ != 0 && at - store_complained_at_ < kComplainPeriod)) return;
  store_complained_at_ = at;
  log_error(flushed.error().text);
}

bool Controller::tell_outcomes() {
  const auto outcomes = parts_.store->outcomes();
  for (const CommitOutcome& outcome : outcomes) {
    if (import_ && import_->ticket == outcome.ticket) import_stored(outcome.stored);
    auto change = unconfirmed_.extract(outcome.ticket);
    if (!change.empty()) stored(std::move(change.mapped()), outcome.stored);
  }
  return !outcomes.empty();
}

void Controller::note_anchors(Nanoseconds at) {
  anchors_noted_at_ = at;
  auto anchors = pool_.anchors();
  // A node that has none at the moment keeps those that it had.
  if (anchors.empty() || anchors == anchors_) return;
  anchors_ = std::move(anchors);
  (void)parts_.store->later({SetAnchors{anchors_}});
}

}  // namespace bulkhead::controller
