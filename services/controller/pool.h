#pragma once

#include <array>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <vector>

#include "base/address_group.h"
#include "base/as_map.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/prefix.h"
#include "base/reasons.h"
#include "base/token_bucket.h"
#include "schema/messages.h"
#include "services/common/choice.h"
#include "services/controller/judge.h"
#include "shm/history.h"
#include "shm/tables.h"

namespace bulkhead::controller {

/// Both clocks at one moment: decisions use the first, what people read the second.
struct Now {
  Nanoseconds ns = 0;
  std::int64_t ms = 0;
};

struct PoolLimits {
  std::uint32_t slots = 0;
  std::uint32_t point_rows = 0;
  std::uint32_t peer_rows = 0;
  std::uint32_t maximum_connections = 100;
  std::uint32_t maximum_incoming = 20;
  std::uint32_t known_points_maximum = 400;
  std::uint32_t known_points_target = 300;
  std::uint32_t known_peers_maximum = 400;
  std::uint32_t known_peers_target = 300;
  bool private_mode = false;
  bool disable_peer_discovery = false;
  std::string chain_name;
  std::vector<std::uint16_t> distributed_db_versions;
  std::vector<std::uint16_t> p2p_versions;
  schema::ReconnectionSettings reconnection;
  bool hardened = false;              ///< choice of neighbours and of what to remember
  bool allow_private_points = false;  ///< learn points that is_routable() refuses
  double score_half_life_s = 0;       ///< 0: scores do not decay
  AsMap as_map = {};
};

/// Of hearsay, at most this share of the known points may come from one group of tellers, or be of one group.
inline constexpr std::size_t kHearsayShare = 4;
/// At most this share of the known points is kept because it worked once, and of these this share of one group.
inline constexpr std::size_t kTriedShare = 2;
inline constexpr std::size_t kTriedGroupShare = 16;
/// New points that one connection may tell of: as many at once as an Advertise has, then one each 5 s.
inline constexpr TokenRate kHearsayRate{.per_second = 0.2, .burst = 100};
/// Outgoing neighbours that are dialled first after a restart.
inline constexpr std::size_t kAnchors = 3;

struct Slot {
  Generation generation = 0;
  shm::SlotState state = shm::SlotState::kFree;
  schema::Direction direction = schema::Direction::kIncoming;
  Point remote;                ///< address and port of the socket's other end
  std::optional<Point> point;  ///< dialled; or, once announced, the address with the advertised port
  PublicKey public_key{};      ///< incoming: as it stood in the first bytes, unproved
  bool has_peer = false;
  PeerId peer_id{};
  schema::Announcement announcement;
  schema::ConnectionMetadata metadata;
  std::uint16_t negotiated_ddb = 0;
  std::uint32_t worker_pid = 0;
  std::int64_t since_ms = 0;
  std::uint64_t deadline_ns = 0;
  AddressGroup group = 0;
  Nanoseconds claimed_ns = 0;
  std::uint32_t handshake_us = 0;
  TokenBucket hearsay;  ///< of new points that it may tell of
};

struct KnownPoint {
  std::uint32_t row = 0;
  shm::PointState state = shm::PointState::kDisconnected;
  bool trusted = false;
  bool known_public = false;
  std::optional<PeerId> expected_peer_id;
  std::optional<PeerId> peer_id;
  std::int64_t last_failed_ms = 0;
  std::int64_t last_rejected_ms = 0;
  std::int64_t last_established_ms = 0;
  std::int64_t last_disconnection_ms = 0;
  Now next_attempt;
  std::int64_t delay_ms = 0;
  AddressGroup group = 0;
  AddressGroup source = 0;  ///< of who told of it
  bool tried = false;       ///< a dial of ours led to a connection; hearsay does not displace it
  bool anchor = false;      ///< to be dialled first

  std::int64_t last_seen_ms() const;
  std::int64_t last_miss_ms() const;
};

struct KnownPeer {
  std::uint32_t row = 0;
  shm::PeerState state = shm::PeerState::kDisconnected;
  double score = service::kNeutralScore;  ///< as it was given
  std::int64_t score_ms = 0;              ///< when; 0: never
  std::optional<Point> point;             ///< where it can be reached
  std::optional<Address> address;         ///< where it was seen last
  std::optional<schema::ConnectionMetadata> metadata;
  std::int64_t created_ms = 0;
  std::int64_t last_failed_ms = 0;
  std::int64_t last_rejected_ms = 0;
  std::int64_t last_established_ms = 0;
  std::int64_t last_disconnection_ms = 0;
};

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

/// Told of everything in the pool that shall outlive the node, as it changes.
class PoolJournal {
 public:
  virtual ~PoolJournal() = default;
  virtual void noted(const Point& point, const KnownPoint& known) = 0;
  virtual void noted(const PeerId& peer, const KnownPeer& known) = 0;
  virtual void forgotten(const Point& point) = 0;
  virtual void forgotten(const PeerId& peer) = 0;
  /// The `number`th event of it, counted from 0.
  virtual void happened(const Point& point, std::uint64_t number, const shm::HistoryEvent& event) = 0;
  virtual void happened(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event) = 0;
};

/// The controller's tables: slots, known points, known peers, and every decision on them. Private memory is the truth;
/// the shared table is its projection, written row by row as things change. Pure but for that: time and chance are
/// given. Source of rules and constants: the pool and the connect handler of Octez.
class Pool {
 public:
  /// `table` may be null (tests, simulation), `judge` too: nobody has a standing then. Both outlive the pool. `random`
  /// draws 64 bits.
  Pool(PoolLimits limits, const shm::PoolTable* table, std::function<std::uint64_t()> random,
       const Judge* judge = nullptr);

  /// Takes over what a former controller left in the table. Slots that were not running are reported as claimed, to be
  /// ended.
  void recover();

  /// From now on; it outlives the pool. Null: nobody is told.
  void keep_journal(PoolJournal* journal) { journal_ = journal; }
  /// After recover(): tells the journal again of each record to which something happened since then, and of that, as
  /// nobody knows how much of it the former controller's journal had kept.
  void tell_again(std::int64_t since_ms) const;
  /// Where the history of each record stands, for the rows of the table. It outlives the pool; null: there is none. To
  /// be called before everything else.
  void keep_history(const shm::HistoryTable* history) { history_ = history; }
  /// At a first start, from what was stored: states, rows and groups of the argument are of no meaning. As far as there
  /// is room. Trust comes from configuration and lists alone.
  void restore(const Point& point, KnownPoint known, Now now);
  void restore(const PeerId& peer, const KnownPeer& known, Now now);
  /// An event of a record that was restored; of another one it is dropped. Numbers rise.
  void restore(const Point& point, std::uint64_t number, const shm::HistoryEvent& event);
  void restore(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event);

  // Slots.
  /// Nothing when none is free.
  std::optional<SlotRef> claim(schema::Direction direction, const Point& remote, const PublicKey& key,
                               std::uint64_t deadline_ns, Now now);
  /// Frees the slot whatever it was; only when its process is gone.
  void free(SlotId slot);
  Slot* find(const SlotRef& ref);
  const std::vector<Slot>& slots() const { return slots_; }
  void set_worker(const SlotRef& ref, std::uint32_t pid);
  /// Handshakes of incoming connections in progress.
  std::uint32_t incoming_handshakes() const;
  /// Accepted and running connections.
  std::uint32_t active() const;
  /// Dials and outgoing handshakes: each holds a place until it is decided.
  std::uint32_t under_way() const;
  /// Whether one more may be begun: active and under way are together below the maximum.
  bool has_room() const { return active() + under_way() < limits_.maximum_connections; }
  std::optional<SlotRef> running(const PeerId& peer) const;
  /// Of incoming handshakes under one unproved key, at most four may run: the one to end for a fifth, or nothing. It is
  /// the oldest of the prefix that has most of them (of several, of the one whose oldest is oldest), so that nobody
  /// elsewhere can lock the key's owner out.
  std::optional<SlotRef> same_key_victim(const PublicKey& key) const;

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
  bool hear_on_lan(const Point& point, Now now);
  KnownPoint* find_point(const Point& point);
  /// The point is configured: trusted, perhaps with the peer id that must be there.
  void configure(const Point& point, std::optional<PeerId> expected, Now now);
  /// It is configured no more: one point among others, unless the lists trust it.
  void deconfigure(const Point& point);
  /// Why a dial of this point is not allowed now; kNone: it is *requested* from here on.
  Reason request(const Point& point, Now now);
  void dial_failed(const Point& point, Now now, Reason reason = Reason::kDialFailed);
  /// The maintainer is gone, and its dials with it.
  void abandon_requests(Now now);
  void add_own_point(const Point& point);
  bool is_own(const Point& point) const;

  /// Whether a point that somebody told of may be dialled at all: it has a port, is not ours, and is routable, or
  /// private points are allowed.
  bool dialable(const Point& point) const;
  /// Outgoing neighbours of long standing and of different groups, to be kept over a restart and given back by
  /// set_anchors().
  std::vector<Point> anchors() const;
  void set_anchors(const std::vector<Point>& points, Now now);

  /// At most 50 public points for an Advertise or a Nack.
  std::vector<Point> list_known_points();

  const std::map<Point, KnownPoint>& points() const { return points_; }
  const std::map<PeerId, KnownPeer>& peers() const { return peers_; }
  bool trusted(const Slot& slot) const;
  bool trusted(const Point& point, const KnownPoint& known) const;
  bool trusted(const PeerId& peer) const;

  /// Trust in a point alone, beside the lists. Registers it.
  void trust_point(const Point& point, Now now);
  /// Takes trust from every point of the prefix, configured ones too.
  void untrust_points(const Prefix& prefix);
  /// The lists changed: what is shown of trust is shown anew.
  void standings_changed();

  /// What the application thinks of a peer from now on. False: the peer is not known, or the number is not finite.
  bool set_score(const PeerId& peer, double score, Now now);
  double score(const PeerId& peer, Now now) const;

  /// Running connections, as the choice of whom to part with sees them.
  std::vector<service::Neighbour> neighbours(Now now) const;

  /// The rows that stand in the shared table.
  shm::SlotRow slot_row(SlotId slot) const;
  shm::PointRow point_row(const Point& point, const KnownPoint& known) const;

  const PoolLimits& limits() const { return limits_; }

 private:
  KnownPoint* add_point(const Point& point, bool trusted, AddressGroup source, Now now);
  KnownPoint* learn(const Point& point, AddressGroup source, Now now);
  std::vector<Point> least_wanted_points(std::size_t count, Now now);
  void mark_tried(KnownPoint& point);
  Standing standing(const Address& address) const { return judge_ == nullptr ? Standing::kNone : judge_->of(address); }
  Standing standing(const PeerId& peer) const { return judge_ == nullptr ? Standing::kNone : judge_->of(peer); }
  std::optional<SlotRef> room_for_trusted(Now now) const;
  KnownPeer* register_peer(const PeerId& peer, Now now);
  void collect_points(Now now);
  void collect_peers(Now now);
  void forget_point(const Point& point);
  void back_off(KnownPoint& point, bool was_running, Now now);
  void remember(const Point& point, const KnownPoint& known, shm::HistoryKind kind, const std::optional<PeerId>& peer,
                Reason reason, Now now);
  void remember(const PeerId& peer, const KnownPeer& known, shm::HistoryKind kind, const Slot& slot, Reason reason,
                Now now);
  Decision refuse(const Slot& slot, Reason reason, std::int16_t motive);
  Decision silence(Reason reason) const;
  void publish(SlotId slot);
  void publish(const Point& point, const KnownPoint& known);
  void publish(const PeerId& peer, const KnownPeer& known);
  void publish_counts();

  PoolLimits limits_;
  const shm::PoolTable* table_;
  std::function<std::uint64_t()> random_;
  const Judge* judge_;
  PoolJournal* journal_ = nullptr;
  const shm::HistoryTable* history_ = nullptr;
  std::vector<Slot> slots_;
  std::map<Point, KnownPoint> points_;
  std::map<PeerId, KnownPeer> peers_;
  std::vector<std::uint32_t> free_point_rows_;
  std::vector<std::uint32_t> free_peer_rows_;
  std::list<Point> own_points_;  ///< listening addresses, for ever
  TokenBucket lan_hearsay_;
  std::list<Point> met_points_;  ///< points that led to ourselves, the latest seven
  std::uint64_t revision_ = 0;
};

}  // namespace bulkhead::controller
