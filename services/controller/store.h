#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/reasons.h"
#include "base/result.h"
#include "services/common/state_files.h"
#include "services/controller/disk_flush.h"

/// The state database of the node: what must outlive the controller. Plain values; no type of SQLite and no type of a
/// shared table. All times are milliseconds of the Unix epoch, 0: never (of an end: for ever).
namespace bulkhead::controller {

inline constexpr std::size_t kMaximumStoredText = 255;         ///< bytes of an operator's words
inline constexpr std::size_t kMaximumApplicationBytes = 1024;  ///< of a peer's application metadata
inline constexpr std::size_t kMaximumSettingName = 64;
inline constexpr std::size_t kMaximumSettingBytes = 1024;
inline constexpr std::size_t kMaximumAnchors = 64;
/// The end of the year 9999: what can be printed.
inline constexpr std::int64_t kLastStoredMs = 253402300799999;
/// Events kept of each point and each peer, as the protocol's pool has it; the oldest goes.
inline constexpr std::uint32_t kHistoryLength = 100;
/// Events that load() reads; the caller keeps fewer of each where there would be more.
inline constexpr std::size_t kMaximumHistory = 1'000'000;

// ---- what is stored
// Values outside these ranges are refused by commit(), later() and import(); load() leaves out what breaks them.

/// The values stand in the database: append only.
enum class StoredList : std::uint8_t { kBlack = 0, kWhite = 1, kGrey = 2 };

/// Names an entry of a list: a prefix of addresses or a peer id.
struct AclKey {
  StoredList list = StoredList::kBlack;
  bool is_peer = false;
  std::array<std::uint8_t, 16> subject{};  ///< the address (IPv4 as ::ffff:a.b.c.d), or the peer id
  std::uint8_t length = 128;               ///< of the prefix, 0 to 128; of a peer id 128
  auto operator<=>(const AclKey&) const = default;
};

struct AclEntry {
  AclKey key;
  std::int64_t since_ms = 0;
  std::int64_t until_ms = 0;  ///< 0: for ever
  Reason reason = Reason::kNone;
  std::uint8_t set_by = 0;  ///< the caller's own numbers, 0 to 15
  std::string text;         ///< any bytes; at most kMaximumStoredText
  bool operator==(const AclEntry&) const = default;
};

struct StoredTimes {
  std::int64_t failed_ms = 0;
  std::int64_t rejected_ms = 0;
  std::int64_t established_ms = 0;
  std::int64_t disconnection_ms = 0;
  bool operator==(const StoredTimes&) const = default;
};

/// A known point.
struct PointEntry {
  Point point;
  bool trusted = false;
  bool known_public = false;
  bool tried = false;  ///< it worked once
  std::optional<PeerId> expected_peer_id;
  StoredTimes last;
  /// Who told us of it: an address, or the group of it (a prefix). None: it was configured, or came by itself.
  std::optional<Address> source;
  std::uint8_t source_length = 128;  ///< 0 to 128
  bool operator==(const PointEntry&) const = default;
};

/// A known peer.
struct PeerEntry {
  PeerId id{};
  bool trusted = false;
  double score = 0;  ///< finite
  std::int64_t score_ms = 0;
  std::optional<Point> point;
  std::uint8_t metadata_flags = 0;  ///< the caller's own bits
  std::int64_t created_ms = 0;
  StoredTimes last;
  std::vector<std::uint8_t> application;  ///< an application's metadata; at most kMaximumApplicationBytes
  bool operator==(const PeerEntry&) const = default;
};

/// One event in the history of a point or of a peer. Appended; never changed.
struct HistoryEntry {
  std::variant<Point, PeerId> of;
  std::optional<std::uint64_t> number;  ///< of its point or peer, from 0; none: the one after the last. load() sets it
  std::uint8_t kind = 0;                ///< the caller's own numbers
  std::int64_t time_ms = 0;
  std::optional<Point> point;  ///< of a peer's event: where
  std::optional<PeerId> peer;  ///< of a point's event: who
  Reason reason = Reason::kNone;
  bool operator==(const HistoryEntry&) const = default;
};

struct Setting {
  std::string name;  ///< 1 to kMaximumSettingName bytes
  std::vector<std::uint8_t> value;
  bool operator==(const Setting&) const = default;
};

// ---- changes

struct RemoveAcl {
  AclKey key;
};
/// Removes all entries of one list.
struct ClearList {
  StoredList list = StoredList::kBlack;
};
/// Removes the point with its history.
struct RemovePoint {
  Point point;
};
/// Removes the peer with its history.
struct RemovePeer {
  PeerId id{};
};
struct RemoveSetting {
  std::string name;
};
/// Replaces the anchors, in this order; at most kMaximumAnchors.
struct SetAnchors {
  std::vector<Point> points;
};

/// An entry stands for "add or replace". Removing what is not there is no error.
using Change = std::variant<AclEntry, RemoveAcl, ClearList, PointEntry, RemovePoint, PeerEntry, RemovePeer,
                            HistoryEntry, SetAnchors, Setting, RemoveSetting>;
using Changes = std::vector<Change>;

/// Everything, as it was last stored.
struct Stored {
  std::vector<AclEntry> acl;  ///< sorted by key
  std::vector<PointEntry> points;
  std::vector<PeerEntry> peers;
  std::vector<HistoryEntry> history;  ///< for each point and peer, oldest first
  std::vector<Point> anchors;
  std::vector<Setting> settings;
  std::uint64_t expired = 0;  ///< entries of lists that ended meanwhile; not in `acl`, and deleted
  std::uint64_t left_out =
      0;  ///< rows with values outside their ranges, or beyond what can be kept; a warning was logged
};

/// Names what was committed; a later one has a larger number.
using Ticket = std::uint64_t;

/// Whether what was committed would survive a power cut.
struct CommitOutcome {
  Ticket ticket = 0;
  Result<void> stored;
};

/// The database in `state/`, in SQLite. One process at a time, one thread. Makes no system call but pread64, pwrite64,
/// fdatasync, ftruncate, fstat, clock_gettime, getrandom, those of malloc and those of its DiskFlush, and so works in a
/// confined process. A caller who wants to survive a limit of file size ignores SIGXFSZ.
///
/// The disk may take seconds for a flush. With a DiskFlush that does not block, only open(), flush_all() and the
/// destructor wait for one, and an import that was begun while the log was being moved, once. flush() begins it, and is
/// to be called again when the DiskFlush is ready.
///
/// Errors of every function: kInvalid: a value outside its range, nothing was done. kTooLarge: the disk is full.
/// kSystem: another failure of the disk, `errno_value` says which. kBroken: the file is damaged. kWouldBlock: an import
/// is under way. Each text is one line for the operator. After an error the store goes on working, and the state in
/// the file is that before the call.
class Store {
 public:
  /// Holds the files and does nothing yet.
  /// Without a `disk` each flush blocks.
  explicit Store(service::StateFiles files, std::unique_ptr<DiskFlush> disk = nullptr);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  /// Writes nothing that is pending; flush_all() does.
  ~Store();

  /// Checks the whole file, makes the schema in an empty one, and brings an older one up to date. Takes about a second
  /// for a million entries. kBroken: the database or its log is damaged (`log_damaged()` says which); the file was not
  /// touched, and must be set aside. kRefused: a later version made it.
  Result<void> open();
  /// After kBroken from open(): the log alone is damaged, the database is whole without it.
  bool log_damaged() const;

  /// How many events of each point and each peer are kept from now on, 1 to kHistoryLength, which is the default.
  void keep_history(std::uint32_t length);

  /// Reads everything, and deletes the entries of lists that ended by `now_ms`. To be called once, after open() and
  /// before any change.
  Result<Stored> load(std::int64_t now_ms);

  /// Writes the changes, all or none: from then on they survive the process. Their outcome, among outcomes() after some
  /// flush(), says whether they would survive a power cut. While the log is being moved they may be pending first, as
  /// if given to later(); their outcome waits for that. Supersedes what later() has pending under the same keys. After
  /// any error but kInvalid the changes are pending as if given to later(), so that they are stored as soon as that is
  /// possible, and there is no outcome.
  Result<Ticket> commit(const Changes& changes);
  /// What became of former commits, each once, in their order; to be asked for after each flush(). After an error the
  /// changes are in the file, and the flush of the disk is tried again.
  std::vector<CommitOutcome> outcomes();

  /// Notes the changes for the next flush; of several under one key the last one wins. Never touches the disk. Beyond
  /// kMaximumPending the oldest are dropped, see dropped().
  Result<void> later(const Changes& changes);

  /// Writes the oldest pending changes, for at most about kFlushBudget, in one transaction; flushes the disk at once
  /// for what was committed, else once a second at most, when there is something to flush; and moves the log, when it
  /// is long, into the database. To be called from a timer every 100 ms, after commit(), and when the disk is ready: a
  /// change is then in the file within 100 ms (it survives the process) and on the disk within one second (it survives
  /// a power cut), both if the disk is fast enough. While an import is under way nothing is written. After an error the
  /// changes are still pending.
  Result<void> flush(Nanoseconds now);
  /// Writes everything that is pending and flushes the disk, however long that takes. For a stop in order.
  Result<void> flush_all();
  /// Readable when flush() should be called; -1: never.
  int readiness() const;
  std::size_t pending() const;
  /// Whether nothing is pending, and all that was written is on the disk.
  bool all_on_disk() const;
  /// Changes that were dropped because the disk took none for too long.
  std::uint64_t dropped() const;

  /// Many entries of lists at once, all or none: begin_import(), import() as often as wanted with some hundreds of
  /// entries each (a step takes milliseconds), and finish_import(), which is a commit: outcomes() has its end.
  /// Entries sorted by their key are written several times as fast. While an import is under way, commit() is refused
  /// with kWouldBlock, and flush() waits. An error of import() or finish_import() ends the import; nothing of it stays.
  Result<void> begin_import();
  Result<void> import(std::span<const AclEntry> entries);
  Result<Ticket> finish_import();
  /// Ends the import as if it had never begun. Does nothing when none is under way.
  void cancel_import();
  bool importing() const;
  /// While left, a log is not moved into the database, however long it becomes: for who has better things to do.
  void leave_log(bool leave);

  static constexpr std::size_t kMaximumPending = 262'144;
  static constexpr Nanoseconds kFlushBudget = 4 * kMillisecond;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bulkhead::controller
