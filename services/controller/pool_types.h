#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/address_group.h"
#include "base/as_map.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/token_bucket.h"
#include "schema/messages.h"
#include "services/common/choice.h"
#include "shm/history.h"
#include "shm/tables.h"

/// What the pool holds: plain values, without a decision.
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

  bool in_handshake() const { return state == shm::SlotState::kClaimed || state == shm::SlotState::kHandshake; }
  bool active() const { return state == shm::SlotState::kAccepted || state == shm::SlotState::kRunning; }
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

  std::int64_t last_seen_ms() const { return std::max({last_rejected_ms, last_established_ms, last_disconnection_ms}); }
  std::int64_t last_miss_ms() const { return std::max({last_failed_ms, last_rejected_ms, last_disconnection_ms}); }
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

using KnownPoints = std::map<Point, KnownPoint>;
using KnownPeers = std::map<PeerId, KnownPeer>;

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

}  // namespace bulkhead::controller
