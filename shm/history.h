#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "shm/tables.h"

/// What happened to each known point and each known peer, the latest events of each. One writer, the controller; a
/// successor goes on where it died.
namespace bulkhead::shm {

/// Events kept of each record; the oldest goes.
inline constexpr std::size_t kHistoryEvents = 100;

/// Kinds of events, with their names in the log of a point and in that of a peer. The values stand in the state
/// database: append only.
#define BULKHEAD_HISTORY(X)                                                     \
  X(kOutgoingRequest, "outgoing_request", "outgoing_request")                   \
  X(kAcceptingRequest, "accepting_request", "incoming_request")                 \
  X(kRejectingRequest, "rejecting_request", "rejecting_request")                \
  X(kRequestRejected, "request_rejected", "request_rejected")                   \
  X(kConnectionEstablished, "connection_established", "connection_established") \
  X(kDisconnection, "disconnection", "disconnection")                           \
  X(kExternalDisconnection, "external_disconnection", "external_disconnection")

enum class HistoryKind : std::uint8_t {
#define BULKHEAD_HISTORY_VALUE(value, of_point, of_peer) value,
  BULKHEAD_HISTORY(BULKHEAD_HISTORY_VALUE)
#undef BULKHEAD_HISTORY_VALUE
};
#define BULKHEAD_HISTORY_COUNT(value, of_point, of_peer) +1
inline constexpr std::size_t kHistoryKinds = 0 BULKHEAD_HISTORY(BULKHEAD_HISTORY_COUNT);
#undef BULKHEAD_HISTORY_COUNT

/// "invalid_event" for a value outside the list.
const char* history_name_of_point(std::uint8_t kind);
const char* history_name_of_peer(std::uint8_t kind);
/// The kind that has this name in the log of a peer.
std::optional<HistoryKind> history_kind_of_peer(std::string_view name);

struct HistoryEvent {
  std::int64_t time_ms;                ///< of the Unix epoch
  std::array<std::uint8_t, 16> other;  ///< of a point's event: the peer's id; of a peer's event: the address
  std::uint16_t port;                  ///< of a peer's event: that the peer listens on, 0: unknown
  std::uint16_t reason;                ///< Reason
  std::uint8_t kind;                   ///< HistoryKind
  std::uint8_t has_other;
  std::uint8_t reserved[2];
  bool operator==(const HistoryEvent&) const = default;
};

/// One record's events, in a page of its own.
struct HistoryPage {
  struct Place {
    std::atomic<std::uint64_t> number;  ///< of the event plus one; 0 while it is being written, or never was
    std::uint64_t words[sizeof(HistoryEvent) / 8];
  };
  std::atomic<std::uint64_t> count;  ///< events so far, those that are gone too
  std::uint64_t reserved[11];
  Place places[kHistoryEvents];
};
static_assert(sizeof(HistoryPage) == kPageSize);

/// The history of one record. Lives as long as the table it came from.
class History {
 public:
  explicit History(HistoryPage& page) : page_(&page) {}

  /// Writer only. Returns the event's number, counted from 0.
  std::uint64_t append(const HistoryEvent& event) const;
  /// Writer only: an event as it was stored. Numbers rise from call to call; gaps are allowed.
  void restore(std::uint64_t number, const HistoryEvent& event) const;
  /// Writer only: the record is another one's from here on.
  void clear() const;
  /// The last events, oldest first. One that is overwritten meanwhile is left out. As trusted as its writer.
  std::vector<HistoryEvent> read() const;
  /// The same with their numbers.
  std::vector<std::pair<std::uint64_t, HistoryEvent>> read_numbered() const;

 private:
  HistoryPage* page_;
};

/// The segment `history`: a page for each row of known points and then for each row of known peers in `pool`, no
/// header. A page takes memory once it was written or looked at: 4 KiB for each record at most.
class HistoryTable {
 public:
  static Result<UniqueFd> make(std::uint32_t points, std::uint32_t peers);
  /// The numbers of rows are those of the pool's table.
  static Result<HistoryTable> map(int fd, Access access, std::uint32_t points, std::uint32_t peers);

  /// By the row in `pool`, below the respective count.
  History point(std::uint32_t row) const;
  History peer(std::uint32_t row) const;

 private:
  Mapping mapping_;
  std::uint32_t points_ = 0;
  std::uint32_t peers_ = 0;
};

}  // namespace bulkhead::shm
