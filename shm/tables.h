#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/reasons.h"
#include "base/result.h"
#include "shm/row.h"
#include "shm/segment.h"

/// The node's shared tables. Each segment has one writer; everybody else maps it read-only. Rows are DoubleRows: whole
/// wherever the writer died. A successor of a dead writer maps the same segment and goes on.
///
/// What stands in `live` is written by workers: it is shown, never decided upon.
namespace bulkhead::shm {

inline constexpr std::size_t kPageSize = 4096;
inline constexpr std::uint64_t kTableMagic = 0x62756c6b68656164;  // "bulkhead"
inline constexpr std::uint32_t kTableVersion = 2;
inline constexpr std::size_t kChainNameSize = 128;
/// More rows than these are refused by make() and map(): far above what any node is configured for, far below what
/// could overflow.
inline constexpr std::uint32_t kMaximumSlots = 1U << 17;
inline constexpr std::uint32_t kMaximumKnown = 1U << 20;

/// What is left of a flow's moving average after a second without traffic: 0.8, as Octez averages (alpha 0.2 each
/// second).
inline constexpr double kFlowLeftAfterSecond = 0.8;
/// The average `average` (bytes per second) of the time `measured_ns`, at the time `now_ns`, if nothing flowed in
/// between.
std::uint64_t flow_now(std::uint64_t average, std::uint64_t measured_ns, std::uint64_t now_ns);

/// First 128 bytes of each table segment, written once by the supervisor before anybody else gets a descriptor.
struct TableHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t kind;
  std::uint32_t rows[4];
  std::uint8_t reserved[96];
};
static_assert(sizeof(TableHeader) == 128);

// ---- processes

struct NodeRow {
  std::array<std::uint8_t, 16> peer_id;
  std::int64_t started_ms;
  std::uint32_t ready;
  std::uint32_t receiver_pid;  ///< of the application that holds the receiving side, 0: none
  std::uint32_t sender_pid;
  std::uint32_t minimum;
  std::uint32_t expected;
  std::uint32_t maximum;
  std::uint32_t net_count;
  std::uint32_t chain_name_size;
  std::array<std::uint8_t, kChainNameSize> chain_name;
  std::array<std::array<std::uint8_t, 16>, 4> net_addresses;
  std::array<std::uint16_t, 4> net_ports;
};

struct ProcessRow {
  std::uint32_t role;
  std::uint32_t pid;  ///< 0: not running now
  std::uint32_t restarts;
  std::uint32_t ready;
  std::int64_t since_ms;
  std::int64_t last_death_ms;      ///< 0: never
  std::uint32_t last_wait_status;  ///< as waitpid gives it
  std::uint32_t last_cause;        ///< Reason of the last restart
};

/// Every table: make() gives a new segment, sealed against resizing and against further seals; map() checks seals,
/// header and size and fails with kBroken before anything else of it is used. References live as long as the table
/// object; writing needs kReadWrite.
class ProcessesTable {
 public:
  static Result<UniqueFd> make();
  static Result<ProcessesTable> map(int fd, Access access);

  DoubleRow<NodeRow>& node() const;
  DoubleRow<ProcessRow>& process(Role role) const;

 private:
  Mapping mapping_;
};

// ---- pool

enum class SlotState : std::uint32_t {
  kFree = 0,
  kClaimed = 1,
  kHandshake = 2,
  kAccepted = 3,
  kRunning = 4,
  kEnding = 5
};

struct SlotRow {
  std::uint64_t generation;
  std::uint32_t state;      ///< SlotState
  std::uint32_t direction;  ///< 0 incoming, 1 outgoing
  std::uint32_t worker_pid;
  std::uint32_t remote_port;             ///< the socket's
  std::uint32_t port;                    ///< advertised or dialled, 0: none
  std::uint16_t distributed_db_version;  ///< announced
  std::uint16_t p2p_version;
  std::array<std::uint8_t, 16> peer_id;
  std::array<std::uint8_t, 16> address;
  std::uint8_t private_node;
  std::uint8_t disable_mempool;
  std::uint8_t trusted;
  std::uint8_t negotiated_ddb;
  std::uint32_t weight_milli;
  std::int64_t since_ms;
  std::int64_t deadline_ns;    ///< of the handshake
  std::uint64_t group;         ///< of the address: an AddressGroup
  std::int64_t score_milli;    ///< of the peer, as it was at score_ms
  std::int64_t score_ms;       ///< 0: never set, neutral
  std::uint32_t handshake_us;  ///< from the claim of the slot to the end of the handshake; 0: not yet
  std::uint32_t reserved;
};

enum class PointState : std::uint32_t { kDisconnected = 0, kRequested = 1, kAccepted = 2, kRunning = 3 };

/// Times are milliseconds of the Unix epoch, 0: never; `next_attempt_ns` and `reconnect_delay_ms` are the back-off.
struct PointRow {
  std::uint32_t used;
  std::uint32_t state;  ///< PointState
  std::array<std::uint8_t, 16> address;
  std::array<std::uint8_t, 16> peer_id;           ///< while accepted or running
  std::array<std::uint8_t, 16> expected_peer_id;  ///< when has_expected
  std::uint16_t port;
  std::uint8_t trusted;
  std::uint8_t known_public;
  std::uint8_t has_expected;
  std::uint8_t has_peer;
  std::uint8_t tried;   ///< a dial of ours led to a connection
  std::uint8_t anchor;  ///< an outgoing neighbour of long standing before the last restart
  std::int64_t last_failed_ms;
  std::int64_t last_rejected_ms;
  std::int64_t last_established_ms;
  std::int64_t last_disconnection_ms;
  std::int64_t next_attempt_ns;  ///< CLOCK_MONOTONIC
  std::int64_t next_attempt_ms;  ///< the same for people
  std::int64_t reconnect_delay_ms;
  std::uint64_t group;   ///< of the address: an AddressGroup
  std::uint64_t source;  ///< group of whoever told of it; its own, when nobody did
};

enum class PeerState : std::uint32_t { kDisconnected = 0, kAccepted = 1, kRunning = 2 };

struct PeerRow {
  std::uint32_t used;
  std::uint32_t state;  ///< PeerState
  std::array<std::uint8_t, 16> peer_id;
  std::array<std::uint8_t, 16> address;  ///< where it was seen last
  std::uint16_t port;                    ///< 0: unknown
  std::uint8_t trusted;
  std::uint8_t private_node;
  std::uint8_t disable_mempool;
  std::uint8_t has_metadata;
  std::uint16_t reserved;
  std::int64_t score_milli;  ///< as it was at score_ms
  std::int64_t score_ms;     ///< 0: never set, neutral
  std::int64_t created_ms;
  std::int64_t last_failed_ms;
  std::int64_t last_rejected_ms;
  std::int64_t last_established_ms;
  std::int64_t last_disconnection_ms;
};

struct PoolRow {
  std::uint32_t active;
  std::uint32_t incoming;
  std::uint32_t outgoing;
  std::uint32_t pending;  ///< slots in their handshake
  std::uint64_t revision;
};

class PoolTable {
 public:
  static Result<UniqueFd> make(std::uint32_t slots, std::uint32_t points, std::uint32_t peers);
  static Result<PoolTable> map(int fd, Access access);

  std::uint32_t slots() const { return slots_; }
  std::uint32_t points() const { return points_; }
  std::uint32_t peers() const { return peers_; }
  DoubleRow<PoolRow>& pool() const;
  /// Index below the respective count.
  DoubleRow<SlotRow>& slot(std::uint32_t index) const;
  DoubleRow<PointRow>& point(std::uint32_t index) const;
  DoubleRow<PeerRow>& peer(std::uint32_t index) const;

 private:
  Mapping mapping_;
  std::uint32_t slots_ = 0;
  std::uint32_t points_ = 0;
  std::uint32_t peers_ = 0;
};

// ---- live

enum class HandshakeStep : std::uint32_t {
  kStarting = 0,
  kConnectionMessage = 1,
  kMetadata = 2,
  kVerdict = 3,
  kAck = 4,
  kRunning = 5,
  kClosing = 6
};

/// One page a slot, written by that slot's worker. Plain words; a reader takes each for itself.
struct LivePage {
  std::atomic<std::uint64_t> generation;
  std::atomic<std::uint64_t> bytes_in;
  std::atomic<std::uint64_t> bytes_out;
  std::atomic<std::uint64_t> messages_in;
  std::atomic<std::uint64_t> messages_out;
  std::atomic<std::uint64_t> discarded;
  std::atomic<std::uint64_t> queue_in;   ///< bytes in the inward ring, as the worker last saw it
  std::atomic<std::uint64_t> queue_out;  ///< bytes in the outward ring
  std::atomic<std::uint64_t> step;       ///< HandshakeStep
  std::atomic<std::uint64_t> reason;     ///< Reason of the ending
  std::atomic<std::uint64_t> violation;  ///< number of the system call that ended it, plus one
  std::atomic<std::uint64_t> inflow;     ///< bytes per second, a moving average as of last_activity_ns
  std::atomic<std::uint64_t> outflow;
  std::atomic<std::uint64_t> last_activity_ns;
  std::atomic<std::uint64_t> confined_ns;    ///< from the descriptor's hand-over to the end of confinement
  std::atomic<std::uint64_t> outward_taken;  ///< position in the outward ring up to which it was emptied
  std::uint8_t padding[kPageSize - 16 * 8];
};
static_assert(sizeof(LivePage) == kPageSize);

/// The segment `live`: one LivePage for each slot and no header, so that a worker maps its own page alone.
Result<UniqueFd> make_live(std::uint32_t slots);

/// All pages, read-only, for those who show them.
class LiveTable {
 public:
  static Result<LiveTable> map(int fd, std::uint32_t slots);
  /// Index below slots().
  const LivePage& page(SlotId slot) const;
  std::uint32_t slots() const { return slots_; }

 private:
  Mapping mapping_;
  std::uint32_t slots_ = 0;
};

/// One page, writable, for its worker. The generation is set last.
class LiveWriter {
 public:
  static Result<LiveWriter> map(int fd, SlotId slot);
  LivePage& page() const;

 private:
  Mapping mapping_;
};

// ---- counters

/// What is counted beside reasons. Append only.
#define BULKHEAD_COUNTERS(X)                        \
  X(kAccepted, "accepted")                          \
  X(kPendingNow, "pending_now")                     \
  X(kProofsChecked, "proofs_checked")               \
  X(kHandedOn, "handed_on")                         \
  X(kWorkersStarted, "workers_started")             \
  X(kWorkersEnded, "workers_ended")                 \
  X(kWorkerFaults, "worker_faults")                 \
  X(kHandshakesBegun, "handshakes_begun")           \
  X(kConnectionsMade, "connections_made")           \
  X(kDialsBegun, "dials_begun")                     \
  X(kDialsConnected, "dials_connected")             \
  X(kKeyRequests, "key_requests")                   \
  X(kKeyRefusals, "key_refusals")                   \
  X(kBootstrapReceived, "bootstrap_received")       \
  X(kBootstrapSent, "bootstrap_sent")               \
  X(kAdvertiseReceived, "advertise_received")       \
  X(kAdvertiseSent, "advertise_sent")               \
  X(kSwapRequestReceived, "swap_request_received")  \
  X(kSwapAckReceived, "swap_ack_received")          \
  X(kChannelFaults, "channel_faults")               \
  X(kStaleMessages, "stale_messages")               \
  X(kGreylisted, "greylisted")                      \
  X(kSwapRequestSent, "swap_request_sent")          \
  X(kSwapAckSent, "swap_ack_sent")                  \
  X(kImportUnderWay, "import_under_way")            \
  X(kAnnouncementsSent, "announcements_sent")       \
  X(kAnnouncementsHeard, "announcements_heard")     \
  X(kAnnouncementsIgnored, "announcements_ignored") \
  X(kChangesUnstored, "changes_unstored")           \
  X(kPeersFileUse, "peers_file_use")                \
  X(kPeersFileLeftOut, "peers_file_left_out")

enum class Counter : std::uint32_t {
#define BULKHEAD_COUNTER_VALUE(value, name) value,
  BULKHEAD_COUNTERS(BULKHEAD_COUNTER_VALUE)
#undef BULKHEAD_COUNTER_VALUE
};
#define BULKHEAD_COUNTER_COUNT(value, name) +1
inline constexpr std::size_t kCounterCount = 0 BULKHEAD_COUNTERS(BULKHEAD_COUNTER_COUNT);
#undef BULKHEAD_COUNTER_COUNT
const char* counter_name(Counter counter);

struct CountersPage {
  std::array<std::atomic<std::uint64_t>, 256> by_reason;
  std::array<std::atomic<std::uint64_t>, 256> named;
};
static_assert(sizeof(CountersPage) == kPageSize);
static_assert(kReasonCount <= 256 && kCounterCount <= 256);

/// The segment `counters`: a CountersPage for each service role.
Result<UniqueFd> make_counters();

/// One service's own page. Survives the service: a successor goes on counting.
class CountersWriter {
 public:
  static Result<CountersWriter> map(int fd, Role role);
  void count(Reason reason, std::uint64_t by = 1) const;
  void count(Counter counter, std::uint64_t by = 1) const;
  void set(Counter counter, std::uint64_t value) const;
  /// What stands there, a predecessor's value too.
  std::uint64_t get(Counter counter) const;

 private:
  Mapping mapping_;
};

class CountersTable {
 public:
  static Result<CountersTable> map(int fd);
  std::uint64_t get(Role role, Reason reason) const;
  std::uint64_t get(Role role, Counter counter) const;

 private:
  Mapping mapping_;
};

// ---- events

#define BULKHEAD_EVENTS(X)                        \
  X(kAccepted, "accepted")                        \
  X(kRefused, "refused")                          \
  X(kConnected, "connected")                      \
  X(kDisconnected, "disconnected")                \
  X(kDialFailed, "dial_failed")                   \
  X(kRestarted, "restarted")                      \
  X(kApplicationAttached, "application_attached") \
  X(kApplicationDetached, "application_detached") \
  X(kBanned, "banned")                            \
  X(kUnbanned, "unbanned")                        \
  X(kGreylisted, "greylisted")                    \
  X(kTrusted, "trusted")                          \
  X(kUntrusted, "untrusted")                      \
  X(kHandshakeFailed, "handshake_failed")         \
  X(kAclsCleared, "acls_cleared")                 \
  X(kAclsImported, "acls_imported")               \
  X(kGreylistCleared, "greylist_cleared")

enum class EventKind : std::uint32_t {
#define BULKHEAD_EVENT_VALUE(value, name) value,
  BULKHEAD_EVENTS(BULKHEAD_EVENT_VALUE)
#undef BULKHEAD_EVENT_VALUE
};
const char* event_name(std::uint32_t kind);  ///< "invalid_event" for a value outside the list

struct EventRow {
  std::uint64_t number;  ///< from 1, without gaps
  std::int64_t time_ms;
  std::uint32_t kind;  ///< EventKind
  std::uint32_t reason;
  std::uint32_t count;  ///< how many the row stands for; bans for kAclsCleared, entries for kAclsImported
  /// Role for kRestarted, motive for kRejectedByPeer, system call plus one for kSandboxViolation, greylistings for
  /// kAclsCleared and kGreylistCleared.
  std::uint32_t detail;
  std::array<std::uint8_t, 16> address;
  std::array<std::uint8_t, 16> peer_id;
  std::uint16_t port;
  std::uint8_t has_address;
  std::uint8_t has_peer;
  std::uint32_t worker_pid;
  std::uint32_t wait_status;  ///< for kRestarted, as waitpid gives it
  std::uint32_t lasts_s;      ///< for kBanned and kTrusted: seconds from then to the end, 0: for ever
};

inline constexpr std::uint32_t kEventRows = 4096;

class EventsTable {
 public:
  static Result<UniqueFd> make();
  /// With kReadWrite it takes up where a dead writer left off: a row that it wrote without counting it is counted now.
  static Result<EventsTable> map(int fd, Access access);

  /// Number of the newest event, 0: none yet.
  std::uint64_t newest() const;
  /// The event of that number, nothing when it was overwritten or is not there yet.
  std::optional<EventRow> read(std::uint64_t number) const;
  /// Writer only; sets `number` itself.
  void append(EventRow event) const;

 private:
  Mapping mapping_;
};

}  // namespace bulkhead::shm
