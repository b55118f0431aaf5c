#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/prefix.h"
#include "base/reasons.h"
#include "base/result.h"
#include "shm/segment.h"

/// White, black and grey lists of prefixes and peer ids in one shared segment: the controller writes, everybody reads.
///
/// Black wins over white, white over grey, whatever the lengths; length decides only inside one list. An entry whose
/// end has come does not match any more, whether or not anybody collected it. Exact: no false positives.
///
/// A large sorted base, which is never changed but for entries that are struck out in place, and a small delta before
/// it, into which new entries go; merge() makes the next base from both, in the part of the segment that no reader
/// looks at. docs/lists-format.md has the layout and why each step leaves the lists right when the writer dies at it.
///
/// Times are milliseconds of the Unix epoch.
namespace bulkhead::shm {

/// In the order in which they win. Values stand in shared memory and in the database: append only.
enum class AclList : std::uint8_t { kBlack = 0, kWhite = 1, kGrey = 2 };
inline constexpr std::size_t kAclLists = 3;
/// "black", "white", "grey".
const char* acl_list_name(AclList list);

/// Who made an entry. Values stand in shared memory and in the database: append only.
enum class SetBy : std::uint8_t { kOperator = 0, kConfiguration = 1, kLayer = 2, kApplication = 3 };
inline constexpr std::size_t kSetByCount = 4;
/// "operator", "configuration", "layer", "application".
const char* set_by_name(SetBy by);

/// Bytes of an entry's text, of which the last is always 0.
inline constexpr std::size_t kListTextSize = 48;

struct ListEntry {
  AclList list = AclList::kBlack;
  SetBy by = SetBy::kOperator;
  Reason reason = Reason::kNone;
  bool is_peer = false;
  Prefix prefix;  ///< unless is_peer; without bits beyond its length
  PeerId peer{};  ///< if is_peer
  std::int64_t since_ms = 0;
  std::int64_t until_ms = 0;               ///< the first moment at which it does not match; 0: for ever
  std::array<char, kListTextSize> text{};  ///< the operator's words, if any; ends with 0

  static ListEntry of(AclList list, const Prefix& prefix);
  static ListEntry of(AclList list, const PeerId& peer);
  /// Cut at a character's end (UTF-8) if it is longer than kListTextSize less one; what is not printable becomes '?'.
  void set_text(std::string_view words);
  std::string_view words() const;
  bool operator==(const ListEntry&) const = default;
};

/// Whether an entry with that end is over.
inline bool is_over(std::int64_t until_ms, std::int64_t now_ms) {
  return until_ms != 0 && until_ms <= now_ms;
}

/// What an automatic greylisting of this address covers: an IPv4 address itself, of an IPv6 address its /`ipv6_length`
/// (at most 128); the single address if that is loopback or would take loopback along.
Prefix grey_prefix(const Address& address, std::uint8_t ipv6_length = 64);

/// More grey /64 than this inside one /56 become the /56.
inline constexpr std::size_t kGreyNeighbours = 64;
inline constexpr std::uint8_t kGreyLength = 64;
inline constexpr std::uint8_t kGreyAggregateLength = 56;

inline constexpr std::uint32_t kDefaultGreyLimit = 1'000'000;
/// Entries of all lists together: the grey ones and as many again.
inline constexpr std::uint32_t kDefaultListCapacity = 2'000'000;
inline constexpr std::uint32_t kMinimumListCapacity = 64;
inline constexpr std::uint32_t kMaximumListCapacity = 1U << 24;

/// The answer to a look-up: the deciding entry's essentials, or nothing. match_all() has the rest.
struct Verdict {
  std::optional<AclList> list;  ///< nothing: no entry matches
  Reason reason = Reason::kNone;
  Prefix prefix;              ///< which one decided; of a look-up by address only
  std::int64_t until_ms = 0;  ///< 0: for ever

  bool refused() const { return list == AclList::kBlack || list == AclList::kGrey; }
  bool trusted() const { return list == AclList::kWhite; }
  bool operator==(const Verdict&) const = default;
};

struct ListCounts {
  std::uint32_t prefixes = 0;
  std::uint32_t peers = 0;
  bool operator==(const ListCounts&) const = default;
};

struct ListsStatus {
  std::uint64_t revision = 0;  ///< another number after each change; merging counts as one
  /// By AclList. Entries that are over count until expire() or merge() met them.
  std::array<ListCounts, kAclLists> counts{};
  std::uint32_t capacity = 0;
};

class ListsReader;
class ListsEngine;

/// Reads the lists. Any number of processes, each through a read-only descriptor; threads may share one. No function
/// blocks, waits for the writer, or fails because of what the writer does or where it died: a reader that was overtaken
/// looks again. look_up() allocates nothing and makes no system call. What stands in the lists is trusted (the
/// controller writes it); still no index from the segment is used without a bound.
class ListsTable {
 public:
  /// A new segment without entries, for `capacity` entries of all lists (kMinimumListCapacity to
  /// kMaximumListCapacity), sealed against resizing and against further seals. It takes memory as it is filled;
  /// docs/lists-format.md says how much.
  static Result<UniqueFd> make(std::uint32_t capacity = kDefaultListCapacity);
  /// Maps it read-only. kBroken when seals, header or size are not those of a table of lists.
  static Result<ListsTable> map(int fd);

  ListsTable(ListsTable&&) noexcept;
  ListsTable& operator=(ListsTable&&) noexcept;
  ~ListsTable();

  /// The entry that decides on this address or peer, of those not over at `now_ms`: of the first list that has one, in
  /// the order black, white, grey, the longest.
  Verdict look_up(const Address& address, std::int64_t now_ms) const;
  Verdict look_up(const PeerId& peer, std::int64_t now_ms) const;
  /// The same for many addresses, several times as fast where the lists are larger than the processor's caches: the
  /// look-ups wait for memory together. `verdicts` has the size of `addresses`. Groups of them are looked up at one
  /// moment, not all.
  void look_up(std::span<const Address> addresses, std::int64_t now_ms, std::span<Verdict> verdicts) const;

  /// Every entry that matches: black, white, grey, in each the longest first; the first one decides.
  std::vector<ListEntry> match_all(const Address& address, std::int64_t now_ms) const;
  std::vector<ListEntry> match_all(const PeerId& peer, std::int64_t now_ms) const;

  /// The entry of exactly that prefix or peer.
  std::optional<ListEntry> find(AclList list, const Prefix& prefix, std::int64_t now_ms) const;
  std::optional<ListEntry> find(AclList list, const PeerId& peer, std::int64_t now_ms) const;

  /// The entries of a list that contain `prefix` entirely, longest first; one of exactly `prefix` is among them.
  std::vector<ListEntry> covering(AclList list, const Prefix& prefix, std::int64_t now_ms) const;

  /// Gives every entry that is not over to `visit`: prefixes in their order, then peers; the same target in the order
  /// of the lists. Ends early when `visit` returns false. Each entry is whole; one that stands all the while comes
  /// exactly once; one that is added, removed or replaced meanwhile may come as it was before or after, or, if it was
  /// not there at either time, not at all. Allocates for the delta only.
  void for_each(std::int64_t now_ms, const std::function<bool(const ListEntry&)>& visit) const;

  ListsStatus status() const;

 private:
  friend class ListsEngine;
  explicit ListsTable(std::shared_ptr<const ListsReader> reader);
  std::shared_ptr<const ListsReader> reader_;
};

/// What add() did. For the database: store `entry`, delete `gone`.
struct ListAddition {
  ListEntry entry;              ///< what stands now: the one that was given, or the /56 that it became part of
  bool replaced = false;        ///< an entry of the same list and target stood before
  std::vector<ListEntry> gone;  ///< what had to go for it: the grey entry that ends soonest, or the /64s of the /56
};

/// Writes the lists: one process at a time, one thread. A successor of one that was killed maps the same segment and
/// goes on. Every change is in force when the function returns, and half done at no moment: whoever looks up sees it as
/// it was before or as it is after. Private memory: docs/lists-format.md.
class ListsWriter {
 public:
  struct Limits {
    std::uint32_t grey = kDefaultGreyLimit;  ///< grey entries; at least 1, and never above half the capacity
  };

  /// Maps the segment for writing and takes up what a predecessor left, from the table alone: an operation that it did
  /// not finish is finished or was never begun. About 20 ms for a million entries.
  static Result<ListsWriter> map(int fd, Limits limits);
  static Result<ListsWriter> map(int fd) { return map(fd, Limits{}); }

  ListsWriter(ListsWriter&&) noexcept;
  ListsWriter& operator=(ListsWriter&&) noexcept;
  ~ListsWriter();

  /// The same lists for reading: what this writer wrote is there.
  const ListsTable& table() const;

  /// Adds the entry, or replaces the one of the same list and target. A few microseconds whatever the size; when the
  /// caller adds much faster than it merges (an import), each call does a small part of the merge itself.
  /// Grey entries are bounded: at the limit the one that ends soonest goes. More than kGreyNeighbours grey /64 in one
  /// /56 become the /56, which ends when the last of them would have; a grey /64 in a grey /56 makes that one last as
  /// long. kInvalid: bits beyond the prefix's length, or over already; kTooLarge: the lists are full.
  Result<ListAddition> add(const ListEntry& entry, std::int64_t now_ms);

  /// Removes exactly that entry and returns it; nothing when there is none. One that is over is removed and not
  /// returned.
  std::optional<ListEntry> remove(AclList list, const Prefix& prefix, std::int64_t now_ms);
  std::optional<ListEntry> remove(AclList list, const PeerId& peer, std::int64_t now_ms);

  /// Empties a list at one blow and returns how many entries went that were not over. About 5 ms for a million.
  std::size_t clear(AclList list, std::int64_t now_ms);

  /// Looks at the next `rows` entries and removes those that are over, round and round; returns how many went. They did
  /// not match before either: this is for the counts and the memory. 10,000 rows are some 50 microseconds.
  std::size_t expire(std::int64_t now_ms, std::size_t rows = 10'000);

  /// Whether there is merging to do. Call merge() from a timer while it is so.
  bool merge_due() const;
  /// Works on the next base for about `budget`, publishes it when it is done, and returns.
  void merge(std::int64_t now_ms, std::chrono::microseconds budget = std::chrono::milliseconds(1));

  /// Replaces all lists by these entries at one blow, for a start from the database. What is over, has bits beyond its
  /// length or comes twice (the last one stands) is left out. Blocks for about a second for a million entries.
  /// kTooLarge: more than the capacity; nothing changed.
  Result<void> rebuild(std::vector<ListEntry> entries, std::int64_t now_ms);

 private:
  explicit ListsWriter(std::unique_ptr<ListsEngine> engine);
  std::unique_ptr<ListsEngine> engine_;
};

}  // namespace bulkhead::shm
