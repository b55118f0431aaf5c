#include "shm/history.h"

#include <algorithm>
#include <bit>

#include "shm/table_file.h"

namespace bulkhead::shm {
namespace {

constexpr std::size_t kWords = sizeof(HistoryEvent) / sizeof(std::uint64_t);
using Words = std::array<std::uint64_t, kWords>;
static_assert(sizeof(HistoryEvent) == sizeof(Words) && std::has_unique_object_representations_v<HistoryEvent>);

constexpr const char* kNamesOfPoint[] = {
#define BULKHEAD_HISTORY_NAME(value, of_point, of_peer) of_point,
    BULKHEAD_HISTORY(BULKHEAD_HISTORY_NAME)
#undef BULKHEAD_HISTORY_NAME
};
constexpr const char* kNamesOfPeer[] = {
#define BULKHEAD_HISTORY_NAME(value, of_point, of_peer) of_peer,
    BULKHEAD_HISTORY(BULKHEAD_HISTORY_NAME)
#undef BULKHEAD_HISTORY_NAME
};

bool pages_are_sane(std::uint32_t points, std::uint32_t peers) {
  return points <= kMaximumKnown && peers <= kMaximumKnown && points + peers >= 1;
}

std::uint64_t bytes_of(std::uint32_t points, std::uint32_t peers) {
  return (std::uint64_t{points} + peers) * sizeof(HistoryPage);
}

Error too_many() {
  return {ErrorCode::kInvalid, "table history: too many or no rows"};
}

// As rows do (shm/row.h): each word is released and acquired, so that a reader who meets one of a write meets the
// number that was taken away before it, too.
void put(HistoryPage::Place& place, std::uint64_t number, const HistoryEvent& event) {
  const auto words = std::bit_cast<Words>(event);
  place.number.store(0, std::memory_order_relaxed);
  for (std::size_t i = 0; i < kWords; ++i)
    std::atomic_ref<std::uint64_t>(place.words[i]).store(words[i], std::memory_order_release);
  place.number.store(number + 1, std::memory_order_release);
}

std::optional<HistoryEvent> get(HistoryPage::Place& place, std::uint64_t number) {
  if (place.number.load(std::memory_order_acquire) != number + 1) return std::nullopt;
  Words words;
  for (std::size_t i = 0; i < kWords; ++i)
    words[i] = std::atomic_ref<std::uint64_t>(place.words[i]).load(std::memory_order_acquire);
  if (place.number.load(std::memory_order_acquire) != number + 1) return std::nullopt;
  return std::bit_cast<HistoryEvent>(words);
}

}  // namespace

const char* history_name_of_point(std::uint8_t kind) {
  return kind < kHistoryKinds ? kNamesOfPoint[kind] : "invalid_event";
}

const char* history_name_of_peer(std::uint8_t kind) {
  return kind < kHistoryKinds ? kNamesOfPeer[kind] : "invalid_event";
}

std::optional<HistoryKind> history_kind_of_peer(std::string_view name) {
  const auto found = std::find(std::begin(kNamesOfPeer), std::end(kNamesOfPeer), name);
  if (found == std::end(kNamesOfPeer)) return std::nullopt;
  return static_cast<HistoryKind>(found - std::begin(kNamesOfPeer));
}

// ---- one record

std::uint64_t History::append(const HistoryEvent& event) const {
  const std::uint64_t number = page_->count.load(std::memory_order_relaxed);
  restore(number, event);
  return number;
}

void History::restore(std::uint64_t number, const HistoryEvent& event) const {
  put(page_->places[number % kHistoryEvents], number, event);
  page_->count.store(number + 1, std::memory_order_release);
}

void History::clear() const {
  if (page_->count.load(std::memory_order_relaxed) == 0) return;
  page_->count.store(0, std::memory_order_relaxed);
  for (auto& place : page_->places) place.number.store(0, std::memory_order_release);
}

std::vector<HistoryEvent> History::read() const {
  std::vector<HistoryEvent> events;
  for (const auto& [number, event] : read_numbered()) events.push_back(event);
  return events;
}

std::vector<std::pair<std::uint64_t, HistoryEvent>> History::read_numbered() const {
  std::vector<std::pair<std::uint64_t, HistoryEvent>> events;
  const std::uint64_t count = page_->count.load(std::memory_order_acquire);
  for (std::uint64_t number = count - std::min<std::uint64_t>(count, kHistoryEvents); number != count; ++number) {
    if (const auto event = get(page_->places[number % kHistoryEvents], number)) events.emplace_back(number, *event);
  }
  return events;
}

// ---- the table

Result<UniqueFd> HistoryTable::make(std::uint32_t points, std::uint32_t peers) {
  if (!pages_are_sane(points, peers)) return too_many();
  return make_sealed("bulkhead-history", bytes_of(points, peers));
}

Result<HistoryTable> HistoryTable::map(int fd, Access access, std::uint32_t points, std::uint32_t peers) {
  if (!pages_are_sane(points, peers)) return too_many();
  auto mapping = map_checked(fd, access, bytes_of(points, peers));
  if (!mapping) return mapping.error();
  HistoryTable table;
  table.mapping_ = std::move(*mapping);
  table.points_ = points;
  table.peers_ = peers;
  return table;
}

History HistoryTable::point(std::uint32_t row) const {
  require(row < points_);
  return History(at<HistoryPage>(mapping_, std::uint64_t{row} * sizeof(HistoryPage)));
}

History HistoryTable::peer(std::uint32_t row) const {
  require(row < peers_);
  return History(at<HistoryPage>(mapping_, (std::uint64_t{points_} + row) * sizeof(HistoryPage)));
}

}  // namespace bulkhead::shm
