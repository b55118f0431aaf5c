#include "shm/tables.h"

#include <cmath>
#include <cstring>

#include "shm/table_file.h"

namespace bulkhead::shm {
namespace {

constexpr std::size_t kLine = 128;

/// What a table holds, with the header's row counts applied. All in 64 bits: the maxima keep it far from overflow.
struct PoolLayout {
  std::uint64_t slots = 0;
  std::uint64_t points = 0;
  std::uint64_t peers = 0;
  std::uint64_t size = 0;

  PoolLayout(std::uint32_t slot_rows, std::uint32_t point_rows, std::uint32_t peer_rows) {
    slots = align_up(sizeof(TableHeader) + sizeof(DoubleRow<PoolRow>), kLine);
    points = align_up(slots + std::uint64_t{slot_rows} * sizeof(DoubleRow<SlotRow>), kLine);
    peers = align_up(points + std::uint64_t{point_rows} * sizeof(DoubleRow<PointRow>), kLine);
    size = align_up(peers + std::uint64_t{peer_rows} * sizeof(DoubleRow<PeerRow>), kPageSize);
  }
};

constexpr std::uint64_t kProcessesNode = sizeof(TableHeader);
constexpr std::uint64_t kProcessesRows = align_up(kProcessesNode + sizeof(DoubleRow<NodeRow>), kLine);
constexpr std::uint64_t kProcessesSize =
    align_up(kProcessesRows + kServiceRoles * sizeof(DoubleRow<ProcessRow>), kPageSize);

constexpr std::uint64_t kEventsNewest = sizeof(TableHeader);
constexpr std::uint64_t kEventsRows = kEventsNewest + kLine;
constexpr std::uint64_t kEventsSize =
    align_up(kEventsRows + std::uint64_t{kEventRows} * sizeof(DoubleRow<EventRow>), kPageSize);

constexpr std::uint64_t kCountersSize = kServiceRoles * sizeof(CountersPage);

bool rows_are_sane(std::uint32_t slots, std::uint32_t points, std::uint32_t peers) {
  return slots >= 1 && slots <= kMaximumSlots && points <= kMaximumKnown && peers <= kMaximumKnown;
}

constexpr std::array<const char*, kCounterCount> kCounterNames = {
#define BULKHEAD_COUNTER_NAME(value, name) name,
    BULKHEAD_COUNTERS(BULKHEAD_COUNTER_NAME)
#undef BULKHEAD_COUNTER_NAME
};

constexpr const char* kEventNames[] = {
#define BULKHEAD_EVENT_NAME(value, name) name,
    BULKHEAD_EVENTS(BULKHEAD_EVENT_NAME)
#undef BULKHEAD_EVENT_NAME
};

std::size_t role_index(Role role) {
  const auto index = static_cast<std::size_t>(role);
  require(index < kServiceRoles);
  return index;
}

}  // namespace

std::uint64_t flow_now(std::uint64_t average, std::uint64_t measured_ns, std::uint64_t now_ns) {
  if (now_ns <= measured_ns) return average;
  const double idle_s = static_cast<double>(now_ns - measured_ns) / 1e9;
  const double left = static_cast<double>(average) * std::pow(kFlowLeftAfterSecond, idle_s);
  return left < 1 ? 0 : static_cast<std::uint64_t>(left);
}

// ------------------------------------------------------------------------------------------------------- processes

Result<UniqueFd> ProcessesTable::make() {
  return make_table("bulkhead-processes", Kind::kProcesses, kProcessesSize,
                    {static_cast<std::uint32_t>(kServiceRoles), 0, 0, 0});
}

Result<ProcessesTable> ProcessesTable::map(int fd, Access access) {
  const auto header = read_header(fd, "processes", Kind::kProcesses);
  if (!header) return header.error();
  if (header->rows[0] != kServiceRoles) return broken("processes", "another number of roles");
  auto mapping = map_checked(fd, access, kProcessesSize);
  if (!mapping) return mapping.error();
  ProcessesTable table;
  table.mapping_ = std::move(*mapping);
  return table;
}

DoubleRow<NodeRow>& ProcessesTable::node() const {
  return at<DoubleRow<NodeRow>>(mapping_, kProcessesNode);
}

DoubleRow<ProcessRow>& ProcessesTable::process(Role role) const {
  return at<DoubleRow<ProcessRow>>(mapping_, kProcessesRows + role_index(role) * sizeof(DoubleRow<ProcessRow>));
}

// ------------------------------------------------------------------------------------------------------------ pool

Result<UniqueFd> PoolTable::make(std::uint32_t slots, std::uint32_t points, std::uint32_t peers) {
  if (!rows_are_sane(slots, points, peers)) return Error{ErrorCode::kInvalid, "table pool: too many or no rows"};
  return make_table("bulkhead-pool", Kind::kPool, PoolLayout(slots, points, peers).size, {slots, points, peers, 0});
}

Result<PoolTable> PoolTable::map(int fd, Access access) {
  const auto header = read_header(fd, "pool", Kind::kPool);
  if (!header) return header.error();
  PoolTable table;
  table.slots_ = header->rows[0];
  table.points_ = header->rows[1];
  table.peers_ = header->rows[2];
  if (!rows_are_sane(table.slots_, table.points_, table.peers_)) return broken("pool", "too many or no rows");
  auto mapping = map_checked(fd, access, PoolLayout(table.slots_, table.points_, table.peers_).size);
  if (!mapping) return mapping.error();
  table.mapping_ = std::move(*mapping);
  return table;
}

DoubleRow<PoolRow>& PoolTable::pool() const {
  return at<DoubleRow<PoolRow>>(mapping_, sizeof(TableHeader));
}

DoubleRow<SlotRow>& PoolTable::slot(std::uint32_t index) const {
  require(index < slots_);
  const PoolLayout layout(slots_, points_, peers_);
  return at<DoubleRow<SlotRow>>(mapping_, layout.slots + std::uint64_t{index} * sizeof(DoubleRow<SlotRow>));
}

DoubleRow<PointRow>& PoolTable::point(std::uint32_t index) const {
  require(index < points_);
  const PoolLayout layout(slots_, points_, peers_);
  return at<DoubleRow<PointRow>>(mapping_, layout.points + std::uint64_t{index} * sizeof(DoubleRow<PointRow>));
}

DoubleRow<PeerRow>& PoolTable::peer(std::uint32_t index) const {
  require(index < peers_);
  const PoolLayout layout(slots_, points_, peers_);
  return at<DoubleRow<PeerRow>>(mapping_, layout.peers + std::uint64_t{index} * sizeof(DoubleRow<PeerRow>));
}

// ------------------------------------------------------------------------------------------------------------ live

Result<UniqueFd> make_live(std::uint32_t slots) {
  if (slots == 0 || slots > kMaximumSlots) return Error{ErrorCode::kInvalid, "table live: too many or no slots"};
  return make_sealed("bulkhead-live", std::uint64_t{slots} * sizeof(LivePage));
}

Result<LiveTable> LiveTable::map(int fd, std::uint32_t slots) {
  if (slots == 0 || slots > kMaximumSlots) return Error{ErrorCode::kInvalid, "table live: too many or no slots"};
  auto mapping = map_checked(fd, Access::kReadOnly, std::uint64_t{slots} * sizeof(LivePage));
  if (!mapping) return mapping.error();
  LiveTable table;
  table.mapping_ = std::move(*mapping);
  table.slots_ = slots;
  return table;
}

const LivePage& LiveTable::page(SlotId slot) const {
  require(slot < slots_);
  return at<LivePage>(mapping_, std::uint64_t{slot} * sizeof(LivePage));
}

Result<LiveWriter> LiveWriter::map(int fd, SlotId slot) {
  auto mapping = Mapping::map(fd, Access::kReadWrite, std::uint64_t{slot} * sizeof(LivePage), sizeof(LivePage));
  if (!mapping) return mapping.error();
  LiveWriter writer;
  writer.mapping_ = std::move(*mapping);
  return writer;
}

LivePage& LiveWriter::page() const {
  return at<LivePage>(mapping_, 0);
}

// -------------------------------------------------------------------------------------------------------- counters

const char* counter_name(Counter counter) {
  const auto index = static_cast<std::size_t>(counter);
  return index < kCounterCount ? kCounterNames[index] : "invalid_counter";
}

Result<UniqueFd> make_counters() {
  return make_sealed("bulkhead-counters", kCountersSize);
}

Result<CountersWriter> CountersWriter::map(int fd, Role role) {
  if (auto checked = check_segment(fd, kCountersSize, kReplaceableSeals); !checked) return checked.error();
  auto mapping = Mapping::map(fd, Access::kReadWrite, role_index(role) * sizeof(CountersPage), sizeof(CountersPage));
  if (!mapping) return mapping.error();
  CountersWriter writer;
  writer.mapping_ = std::move(*mapping);
  return writer;
}

void CountersWriter::count(Reason reason, std::uint64_t by) const {
  const auto index = static_cast<std::size_t>(reason);
  require(index < kReasonCount);
  at<CountersPage>(mapping_, 0).by_reason[index].fetch_add(by, std::memory_order_relaxed);
}

void CountersWriter::count(Counter counter, std::uint64_t by) const {
  const auto index = static_cast<std::size_t>(counter);
  require(index < kCounterCount);
  at<CountersPage>(mapping_, 0).named[index].fetch_add(by, std::memory_order_relaxed);
}

std::uint64_t CountersWriter::get(Counter counter) const {
  const auto index = static_cast<std::size_t>(counter);
  require(index < kCounterCount);
  return at<CountersPage>(mapping_, 0).named[index].load(std::memory_order_relaxed);
}

void CountersWriter::set(Counter counter, std::uint64_t value) const {
  const auto index = static_cast<std::size_t>(counter);
  require(index < kCounterCount);
  at<CountersPage>(mapping_, 0).named[index].store(value, std::memory_order_relaxed);
}

Result<CountersTable> CountersTable::map(int fd) {
  auto mapping = map_checked(fd, Access::kReadOnly, kCountersSize);
  if (!mapping) return mapping.error();
  CountersTable table;
  table.mapping_ = std::move(*mapping);
  return table;
}

std::uint64_t CountersTable::get(Role role, Reason reason) const {
  const auto index = static_cast<std::size_t>(reason);
  require(index < kReasonCount);
  const auto& page = at<CountersPage>(mapping_, role_index(role) * sizeof(CountersPage));
  return page.by_reason[index].load(std::memory_order_relaxed);
}

std::uint64_t CountersTable::get(Role role, Counter counter) const {
  const auto index = static_cast<std::size_t>(counter);
  require(index < kCounterCount);
  const auto& page = at<CountersPage>(mapping_, role_index(role) * sizeof(CountersPage));
  return page.named[index].load(std::memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------------- events

namespace {

std::atomic<std::uint64_t>& newest_word(const Mapping& mapping) {
  return at<std::atomic<std::uint64_t>>(mapping, kEventsNewest);
}

DoubleRow<EventRow>& event_row(const Mapping& mapping, std::uint64_t number) {
  return at<DoubleRow<EventRow>>(mapping, kEventsRows + (number - 1) % kEventRows * sizeof(DoubleRow<EventRow>));
}

}  // namespace

const char* event_name(std::uint32_t kind) {
  return kind < std::size(kEventNames) ? kEventNames[kind] : "invalid_event";
}

Result<UniqueFd> EventsTable::make() {
  return make_table("bulkhead-events", Kind::kEvents, kEventsSize, {kEventRows, 0, 0, 0});
}

Result<EventsTable> EventsTable::map(int fd, Access access) {
  const auto header = read_header(fd, "events", Kind::kEvents);
  if (!header) return header.error();
  if (header->rows[0] != kEventRows) return broken("events", "another number of rows");
  auto mapping = map_checked(fd, access, kEventsSize);
  if (!mapping) return mapping.error();
  EventsTable table;
  table.mapping_ = std::move(*mapping);
  if (access == Access::kReadWrite) {
    // A predecessor may have died between its row and the counter: the row is whole, so it counts.
    const std::uint64_t next = newest_word(table.mapping_).load(std::memory_order_acquire) + 1;
    const auto row = event_row(table.mapping_, next).read();
    if (row && row->number == next) newest_word(table.mapping_).store(next, std::memory_order_release);
  }
  return table;
}

std::uint64_t EventsTable::newest() const {
  return newest_word(mapping_).load(std::memory_order_acquire);
}

std::optional<EventRow> EventsTable::read(std::uint64_t number) const {
  const std::uint64_t last = newest();
  if (number == 0 || number > last || last - number >= kEventRows) return std::nullopt;
  auto row = event_row(mapping_, number).read();
  if (!row || row->number != number) return std::nullopt;
  return row;
}

void EventsTable::append(EventRow event) const {
  event.number = newest() + 1;
  event_row(mapping_, event.number).write(event);
  newest_word(mapping_).store(event.number, std::memory_order_release);
}

}  // namespace bulkhead::shm
