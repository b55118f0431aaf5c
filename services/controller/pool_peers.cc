#include "services/controller/pool_peers.h"

#include <cmath>
#include <tuple>

#include "services/controller/pool_rows.h"

namespace bulkhead::controller {
namespace {

constexpr double kGreatestScore = 1e9;

}  // namespace

PoolPeers::PoolPeers(const PoolContext& context) : context_(context) {
  for (std::uint32_t i = context_.limits.peer_rows; i > 0; --i) free_rows_.push_back(i - 1);
}

const KnownPeer* PoolPeers::find(const PeerId& peer) const {
  const auto found = peers_.find(peer);
  return found == peers_.end() ? nullptr : &found->second;
}

KnownPeer* PoolPeers::add(const PeerId& peer, Now now) {
  if (const auto found = peers_.find(peer); found != peers_.end()) return &found->second;
  if (peers_.size() >= context_.limits.known_peers_maximum) collect(now);
  if (free_rows_.empty() || peers_.size() >= context_.limits.known_peers_maximum) return nullptr;
  KnownPeer& known = peers_[peer];
  known.row = free_rows_.back();
  free_rows_.pop_back();
  if (context_.history != nullptr) context_.history->peer(known.row).clear();
  known.created_ms = now.ms;
  publish(peer, known);
  return &known;
}

// Lowest score first; of equals the youngest first, so that a flood of new identities displaces itself.
void PoolPeers::collect(Now now) {
  const std::size_t target = std::min(context_.limits.known_peers_target, context_.limits.known_peers_maximum - 1);
  if (peers_.size() <= target) return;
  std::vector<std::tuple<double, std::int64_t, PeerId>> candidates;
  for (const auto& [peer, known] : peers_) {
    if (known.state == shm::PeerState::kDisconnected && !context_.trusted(peer))
      candidates.emplace_back(score(peer, now), -known.created_ms, peer);
  }
  std::sort(candidates.begin(), candidates.end());
  const std::size_t excess = peers_.size() - target;
  for (std::size_t i = 0; i < std::min(excess, candidates.size()); ++i) {
    const PeerId gone = std::get<2>(candidates[i]);
    const auto found = peers_.find(gone);
    if (context_.table != nullptr) context_.table->peer(found->second.row).write(shm::PeerRow{});
    free_rows_.push_back(found->second.row);
    peers_.erase(found);
    if (context_.journal != nullptr) context_.journal->forgotten(gone);
  }
}

// ---- what it begins with

void PoolPeers::recover() {
  free_rows_.clear();
  for (std::uint32_t i = context_.limits.peer_rows; i > 0; --i) {
    const auto row = context_.table->peer(i - 1).read();
    if (!row || row->used == 0) {
      free_rows_.push_back(i - 1);
      continue;
    }
    KnownPeer& known = peers_[row->peer_id];
    known = known_of(*row);
    known.row = i - 1;
  }
}

void PoolPeers::recover_running(const PeerId& peer) {
  if (const auto known = peers_.find(peer); known != peers_.end()) known->second.state = shm::PeerState::kRunning;
}

void PoolPeers::restore(const PeerId& peer, const KnownPeer& known, Now now) {
  KnownPeer* added = add(peer, now);
  if (added == nullptr) return;
  const std::uint32_t row = added->row;
  *added = known;
  added->row = row;
  added->state = shm::PeerState::kDisconnected;
  publish(peer, *added);
}

void PoolPeers::restore(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event) {
  const KnownPeer* known = find(peer);
  if (context_.history != nullptr && known != nullptr) context_.history->peer(known->row).restore(number, event);
}

// ---- what happens to one

void PoolPeers::accepted(const PeerId& peer, KnownPeer& known, const Slot& slot, Now now) {
  known.state = shm::PeerState::kAccepted;
  known.metadata = slot.metadata;
  remember(peer, known, shm::HistoryKind::kAcceptingRequest, slot, Reason::kNone, now);
}

void PoolPeers::established(const PeerId& peer, const Slot& slot, Now now) {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return;
  KnownPeer& known = found->second;
  known.state = shm::PeerState::kRunning;
  known.last_established_ms = now.ms;
  known.point = slot.point;
  known.address = slot.remote.address;
  remember(peer, known, shm::HistoryKind::kConnectionEstablished, slot, Reason::kNone, now);
  publish(peer, known);
}

void PoolPeers::ended(const PeerId& peer, const Slot& slot, const Ending& ending, Now now) {
  const auto found = peers_.find(peer);
  if (found == peers_.end()) return;
  KnownPeer& known = found->second;
  remember(peer, known, ending.kind(), slot, ending.reason, now);
  if (!ending.was_running && !ending.was_accepted) return;
  known.state = shm::PeerState::kDisconnected;
  (ending.was_running ? known.last_disconnection_ms : known.last_rejected_ms) = now.ms;
  publish(peer, known);
}

bool PoolPeers::set_score(const PeerId& peer, double score, Now now) {
  const auto found = peers_.find(peer);
  if (found == peers_.end() || !std::isfinite(score)) return false;
  // What a row can hold, and far more than anybody needs.
  found->second.score = std::clamp(score, -kGreatestScore, kGreatestScore);
  found->second.score_ms = now.ms;
  publish(peer, found->second);
  return true;
}

double PoolPeers::score(const PeerId& peer, Now now) const {
  const KnownPeer* known = find(peer);
  if (known == nullptr) return service::kNeutralScore;
  return service::decayed_score(known->score, known->score_ms, now.ms, context_.limits.score_half_life_s);
}

void PoolPeers::remember(const PeerId& peer, const KnownPeer& known, shm::HistoryKind kind, const Slot& slot,
                         Reason reason, Now now) {
  if (context_.history == nullptr) return;
  const shm::HistoryEvent event{.time_ms = now.ms,
                                .other = slot.remote.address.bytes,
                                .port = slot.point ? slot.point->port : std::uint16_t{0},
                                .reason = static_cast<std::uint16_t>(reason),
                                .kind = static_cast<std::uint8_t>(kind),
                                .has_other = 1,
                                .reserved = {}};
  const std::uint64_t number = context_.history->peer(known.row).append(event);
  if (context_.journal != nullptr) context_.journal->happened(peer, number, event);
}

void PoolPeers::publish(const PeerId& peer, const KnownPeer& known) {
  if (context_.journal != nullptr) context_.journal->noted(peer, known);
  if (context_.table != nullptr) context_.table->peer(known.row).write(row_of(peer, known, context_.trusted(peer)));
}

}  // namespace bulkhead::controller
