#pragma once

#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/prefix.h"
#include "base/reasons.h"
#include "services/controller/judge.h"
#include "services/controller/pool_context.h"
#include "services/controller/pool_peers.h"
#include "services/controller/pool_points.h"
#include "services/controller/pool_slots.h"

namespace bulkhead::controller {

/// What the keyholder proved of a peer.
struct Proved {
  PeerId peer_id{};
  schema::ConnectionMetadata metadata;
};

/// The verdict on a handshake, without the key.
struct Decision {
  schema::VerdictKind kind = schema::VerdictKind::kSilence;
  Reason reason = Reason::kNone;
  std::int16_t motive = 0;
  std::vector<Point> points;
  std::optional<SlotRef>
      makes_room{};  ///< on acceptance of a trusted one at a full node: the connection to close for it
};

/// The controller's tables: slots, known points, known peers, and the decisions that need more than one of them: whom
/// to let in, whom to dial, and what a connection's steps mean for its point and its peer. Private memory is the truth;
/// the shared table is its projection, written row by row as things change. Pure but for that: time and chance are
/// given. Source of rules and constants: the pool and the connect handler of Octez.
class Pool {
 public:
  /// `table` may be null (tests, simulation), `judge` too: nobody has a standing then. Both outlive the pool. `random`
  /// draws 64 bits.
  Pool(PoolLimits limits, const shm::PoolTable* table, std::function<std::uint64_t()> random,
       const Judge* judge = nullptr);
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Takes over what a former controller left in the table. Slots that were not running are reported as claimed, to be
  /// ended.
  void recover();

  /// From now on; it outlives the pool. Null: nobody is told.
  void keep_journal(PoolJournal* journal) { context_.journal = journal; }
  /// After recover(): tells the journal again of each record to which something happened since then, and of that, as
  /// nobody knows how much of it the former controller's journal had kept.
  void tell_again(std::int64_t since_ms) const;
  /// Where the history of each record stands, for the rows of the table. It outlives the pool; null: there is none. To
  /// be called before everything else.
  void keep_history(const shm::HistoryTable* history) { context_.history = history; }
  /// At a first start, from what was stored: states, rows and groups of the argument are of no meaning. As far as there
  /// is room. Trust comes from configuration and lists alone.
  void restore(const Point& point, KnownPoint known, Now now) { points_.restore(point, std::move(known), now); }
  void restore(const PeerId& peer, const KnownPeer& known, Now now) { peers_.restore(peer, known, now); }
  /// An event of a record that was restored; of another one it is dropped. Numbers rise.
  void restore(const Point& point, std::uint64_t number, const shm::HistoryEvent& event) {
    points_.restore(point, number, event);
  }
  void restore(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event) {
    peers_.restore(peer, number, event);
  }

  // Slots.
  /// Nothing when none is free.
  std::optional<SlotRef> claim(schema::Direction direction, const Point& remote, const PublicKey& key,
                               std::uint64_t deadline_ns, Now now);
  /// Frees the slot whatever it was; only when its process is gone.
  void free(SlotId slot);
  Slot* find(const SlotRef& ref) { return slots_.find(ref); }
  const std::vector<Slot>& slots() const { return slots_.all(); }
  void set_worker(const SlotRef& ref, std::uint32_t pid);
  /// Handshakes of incoming connections in progress.
  std::uint32_t incoming_handshakes() const { return slots_.incoming_handshakes(); }
  /// Accepted and running connections.
  std::uint32_t active() const { return slots_.active(); }
  /// Dials and outgoing handshakes: each holds a place until it is decided.
  std::uint32_t under_way() const { return points_.requested(); }
  /// Whether one more may be begun: active and under way are together below the maximum.
  bool has_room() const { return active() + under_way() < limits().maximum_connections; }
  std::optional<SlotRef> running(const PeerId& peer) const { return slots_.running(peer); }
  /// Of incoming handshakes under one unproved key, at most four may run: the one to end for a fifth, or nothing. It is
  /// the oldest of the prefix that has most of them (of several, of the one whose oldest is oldest), so that nobody
  /// elsewhere can lock the key's owner out.
  std::optional<SlotRef> same_key_victim(const PublicKey& key) const { return slots_.same_key_victim(key); }

  // The handshake of a slot, in this order.
  void announced(const SlotRef& ref, const schema::Announcement& announcement);
  /// The other end is ourselves: the point is ours, and forgotten.
  void met_myself(const SlotRef& ref);
  /// Steps 8 to 17 of the handshake in their order; on acceptance point and peer are *accepted*.
  Decision decide(const SlotRef& ref, const Proved& proved, Now now);
  /// Only after an acceptance; else nothing happens.
  void established(const SlotRef& ref, Now now);
  /// The connection is over, at whatever step. Point and peer go back to disconnected with their back-off.
  void ended(const SlotRef& ref, Reason reason, Now now);

  // Points.
  /// Adds a point by our own wish, or finds it. Null for a port of 0, an own point, or a full table.
  KnownPoint* register_point(const Point& point, bool trusted, Now now);
  /// What the peer of a slot told of: registers those that are new, as far as they are routable (or private points are
  /// allowed), within the bounds for one connection and, hardened, for one group. Returns how many were new.
  std::size_t hear(const SlotRef& from, const std::vector<Point>& points, Now now);
  /// What somebody on the local network announced: private, for that is what a LAN is, and unproved, so within bounds
  /// like a connection's and, hardened, a group's. True: it is new.
  bool hear_on_lan(const Point& point, Now now) { return points_.hear_on_lan(point, now); }
  KnownPoint* find_point(const Point& point) { return points_.find(point); }
  /// The point is configured: trusted, perhaps with the peer id that must be there. Said again without one, any may be.
  void configure(const Point& point, std::optional<PeerId> expected, Now now);
  /// It is configured no more: one point among others, unless the lists trust it.
  void deconfigure(const Point& point);
  /// Why a dial of this point is not allowed now; kNone: it is *requested* from here on.
  Reason request(const Point& point, Now now);
  void dial_failed(const Point& point, Now now, Reason reason = Reason::kDialFailed) {
    points_.dial_failed(point, reason, now);
  }
  /// The maintainer is gone, and its dials with it.
  void abandon_requests(Now now);
  void add_own_point(const Point& point) { points_.add_own(point); }
  bool is_own(const Point& point) const { return points_.is_own(point); }

  /// Whether a point that somebody told of may be dialled at all: it has a port, is not ours, and is routable, or
  /// private points are allowed.
  bool dialable(const Point& point) const { return points_.dialable(point); }
  /// Outgoing neighbours of long standing and of different groups, to be kept over a restart and given back by
  /// set_anchors().
  std::vector<Point> anchors() const;
  void set_anchors(const std::vector<Point>& points, Now now);

  /// At most 50 public points for an Advertise or a Nack.
  std::vector<Point> list_known_points() const;

  const KnownPoints& points() const { return points_.all(); }
  const KnownPeers& peers() const { return peers_.all(); }
  bool trusted(const Slot& slot) const;
  bool trusted(const Point& point, const KnownPoint& known) const { return context_.trusted(point, known); }
  bool trusted(const PeerId& peer) const { return context_.trusted(peer); }

  /// A point at an address that the lists trust from now on. Registers it, though there is no room for others' words;
  /// its trust is that of the lists, and ends with it.
  void trust_point(const Point& point, Now now);
  /// Takes trust from every point of the prefix, configured ones too. Whether there was one.
  bool untrust_points(const Prefix& prefix);
  /// The lists changed: what is shown of trust is shown anew.
  void standings_changed();

  /// What the application thinks of a peer from now on. False: the peer is not known, or the number is not finite.
  bool set_score(const PeerId& peer, double score, Now now);
  double score(const PeerId& peer, Now now) const { return peers_.score(peer, now); }

  /// Running connections, as the choice of whom to part with sees them.
  std::vector<service::Neighbour> neighbours(Now now) const;

  /// The rows that stand in the shared table.
  shm::SlotRow slot_row(SlotId slot) const;
  shm::PointRow point_row(const Point& point, const KnownPoint& known) const;

  const PoolLimits& limits() const { return context_.limits; }

 private:
  std::optional<SlotRef> room_for_trusted(Now now) const;
  Decision judged(Slot& slot, const KnownPoint* point, Now now);
  Decision refuse(const Slot& slot, Reason reason, std::int16_t motive) const;
  Decision silence(Reason reason) const;
  void publish(SlotId slot);
  void publish_slots_of(const Point& point);
  void publish_counts();

  PoolContext context_;  ///< the parts look at it
  PoolSlots slots_;
  PoolPoints points_;
  PoolPeers peers_;
  std::uint64_t revision_ = 0;
};

}  // namespace bulkhead::controller
