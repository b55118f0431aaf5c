#pragma once

#include "services/controller/pool_context.h"
#include "services/controller/pool_ending.h"

namespace bulkhead::controller {

/// The known peers: who is kept, with which score, their states, their histories, and their rows.
class PoolPeers {
 public:
  explicit PoolPeers(const PoolContext& context);

  const KnownPeers& all() const { return peers_; }
  const KnownPeer* find(const PeerId& peer) const;
  /// Finds it or adds it. Null when there is no room.
  KnownPeer* add(const PeerId& peer, Now now);

  /// What a former controller left in the table: all disconnected.
  void recover();
  /// The connection of a former controller goes on.
  void recover_running(const PeerId& peer);
  /// As Pool::restore().
  void restore(const PeerId& peer, const KnownPeer& known, Now now);
  void restore(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event);

  // What happens to one; `slot` is its connection's.
  void accepted(const PeerId& peer, KnownPeer& known, const Slot& slot, Now now);
  void established(const PeerId& peer, const Slot& slot, Now now);
  void ended(const PeerId& peer, const Slot& slot, const Ending& ending, Now now);

  /// False: the peer is not known, or the number is not finite.
  bool set_score(const PeerId& peer, double score, Now now);
  double score(const PeerId& peer, Now now) const;

  /// Shows and tells it as it is.
  void publish(const PeerId& peer, const KnownPeer& known);

 private:
  void collect(Now now);
  void remember(const PeerId& peer, const KnownPeer& known, shm::HistoryKind kind, const Slot& slot, Reason reason,
                Now now);

  const PoolContext& context_;
  KnownPeers peers_;
  std::vector<std::uint32_t> free_rows_;
};

}  // namespace bulkhead::controller
