#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "schema/peer_rows.h"
#include "services/controller/controller.h"

/// The controller's part that takes over what a peers.json knew, at the start of a node that knows no peers.
namespace bulkhead::controller {
namespace {

using schema::KnownPeerEventRow;
using schema::KnownPeerRow;
using schema::PeersFileUse;

constexpr std::size_t kPiece = 1000;
// Far below what the store lets wait.
constexpr std::size_t kMostPending = Store::kMaximumPending / 4;
constexpr const char* kTrustText = "peers.json";

Error unreadable() {
  return {ErrorCode::kBroken, "the peers of peers.json cannot be read; the node goes on without them"};
}

/// Up to kPiece rows of the `left` ones that follow; none: the file is not what was announced.
template <typename Row>
std::vector<Row> next_rows(int fd, std::size_t left) {
  std::vector<Row> rows(std::min(kPiece, left));
  ssize_t got = -1;
  do {
    got = ::read(fd, rows.data(), rows.size() * sizeof(Row));
  } while (got < 0 && errno == EINTR);
  if (got < 0 || static_cast<std::size_t>(got) % sizeof(Row) != 0) return {};
  rows.resize(static_cast<std::size_t>(got) / sizeof(Row));
  return rows;
}

bool is_time(std::int64_t ms) {
  return ms >= 0 && ms <= kLastStoredMs;
}

bool is_sound(const KnownPeerRow& row) {
  return row.trusted <= 1 && is_time(row.created_ms) && is_time(row.failed_ms) && is_time(row.rejected_ms) &&
         is_time(row.established_ms) && is_time(row.disconnection_ms);
}

KnownPeer peer_of(const KnownPeerRow& row) {
  KnownPeer known;
  known.created_ms = row.created_ms;
  known.last_failed_ms = row.failed_ms;
  known.last_rejected_ms = row.rejected_ms;
  known.last_established_ms = row.established_ms;
  known.last_disconnection_ms = row.disconnection_ms;
  if (Address{row.address} == Address{}) return known;
  known.address = Address{row.address};
  if (row.port != 0) known.point = Point{Address{row.address}, row.port};
  return known;
}

shm::HistoryEvent event_of(const KnownPeerEventRow& row) {
  shm::HistoryEvent event{};
  event.time_ms = row.time_ms;
  event.other = row.address;
  event.port = row.port;
  event.kind = row.kind;
  event.has_other = 1;
  return event;
}

}  // namespace

bool Controller::is_whole(int file) const {
  const std::uint64_t size = std::uint64_t{parts_.boot.known_peers} * sizeof(KnownPeerRow) +
                             std::uint64_t{parts_.boot.known_peer_events} * sizeof(KnownPeerEventRow);
  return shm::check_segment(file, size, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW).ok();
}

// The database goes before the file. Where it knows all that the file does, nothing is lost when that is written anew.
void Controller::compare_known_peers() {
  const UniqueFd file = std::move(parts_.known_peers);
  if (!file || !is_whole(file.get())) return;
  std::size_t looked_at = 0;
  std::size_t lost = 0;
  while (looked_at < parts_.boot.known_peers) {
    const auto rows = next_rows<KnownPeerRow>(file.get(), parts_.boot.known_peers - looked_at);
    if (rows.empty()) return;
    looked_at += rows.size();
    for (const auto& row : rows) {
      const bool known = pool_.peers().contains(row.peer_id) && (row.trusted == 0 || pool_.trusted(row.peer_id));
      if (!known) ++lost;
    }
  }
  note_use(lost == 0 ? PeersFileUse::kWhole : PeersFileUse::kNotRead, lost);
}

// For the supervisor, which replaces the file in the end.
void Controller::note_use(schema::PeersFileUse use, std::size_t left_out) {
  parts_.counters.set(shm::Counter::kPeersFileLeftOut, left_out);
  parts_.counters.set(shm::Counter::kPeersFileUse, static_cast<std::uint64_t>(use));
}

void Controller::take_known_peers() {
  const UniqueFd file = std::move(parts_.known_peers);
  if (!file) return;
  const auto peers =
      is_whole(file.get()) ? take_peer_rows(file.get()) : Result<std::vector<std::optional<PeerId>>>(unreadable());
  auto done = peers ? take_peer_events(file.get(), *peers) : Result<void>(peers.error());
  tell_alive();
  if (done) done = parts_.store->flush_all();
  tell_alive();
  if (!done) log_error(done.error().text);
  if (!peers) return;
  const auto taken = peers->size() - static_cast<std::size_t>(std::count(peers->begin(), peers->end(), std::nullopt));
  note_use(done && taken == peers->size() ? PeersFileUse::kWhole : PeersFileUse::kInPart, peers->size() - taken);
  log_notice(std::to_string(taken) + (taken == 1 ? " peer is" : " peers are") + " known from peers.json" +
             (taken == peers->size() ? ""
                                     : "; " + std::to_string(peers->size() - taken) + " more " +
                                           (peers->size() - taken == 1 ? "is" : "are") +
                                           " left out: set peer-table-size to keep as many"));
}

// The ids by row; none: this one was not taken.
Result<std::vector<std::optional<PeerId>>> Controller::take_peer_rows(int file) {
  const Now at = now();
  std::vector<std::optional<PeerId>> taken;
  while (taken.size() < parts_.boot.known_peers) {
    const auto rows = next_rows<KnownPeerRow>(file, parts_.boot.known_peers - taken.size());
    if (rows.empty()) return unreadable();
    for (const auto& row : rows) {
      if (!is_sound(row)) return unreadable();
      const bool room = pool_.peers().size() < pool_.limits().known_peers_maximum;
      taken.push_back(room ? std::optional(row.peer_id) : std::nullopt);
      if (!room) continue;
      const KnownPeer known = peer_of(row);
      pool_.restore(row.peer_id, known, at);
      if (known.point) pool_.register_point(*known.point, false, at);
      // Whoever was banned since stays so.
      if (row.trusted == 0 || acl_.of(row.peer_id) != Standing::kNone) continue;
      (void)parts_.store->later(acl_.trust({row.peer_id, {}}, 0, kTrustText, at.ms).changes);
    }
    if (auto stored = store_if_many(); !stored) return stored.error();
  }
  return taken;
}

Result<void> Controller::take_peer_events(int file, const std::vector<std::optional<PeerId>>& peers) {
  std::map<std::uint32_t, std::uint64_t> numbers;
  for (std::size_t read = 0; read < parts_.boot.known_peer_events;) {
    const auto rows = next_rows<KnownPeerEventRow>(file, parts_.boot.known_peer_events - read);
    if (rows.empty()) return unreadable();
    read += rows.size();
    for (const auto& row : rows) {
      if (row.peer >= peers.size() || row.kind >= shm::kHistoryKinds || !is_time(row.time_ms)) return unreadable();
      if (!peers[row.peer]) continue;
      const std::uint64_t number = numbers[row.peer]++;
      const shm::HistoryEvent event = event_of(row);
      pool_.restore(*peers[row.peer], number, event);
      happened(*peers[row.peer], number, event);
    }
    if (auto stored = store_if_many(); !stored) return stored;
  }
  return {};
}

Result<void> Controller::store_if_many() {
  if (parts_.store->pending() < kMostPending) return {};
  tell_alive();
  return parts_.store->flush_all();
}

}  // namespace bulkhead::controller
