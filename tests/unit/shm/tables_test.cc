#include "shm/tables.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <random>

namespace bulkhead::shm {
namespace {

constexpr std::size_t kHeaderKind = offsetof(TableHeader, kind);
constexpr std::size_t kHeaderRows = offsetof(TableHeader, rows);

/// Overwrites bytes of a segment, as a process that holds it for writing could.
void poke(int fd, std::uint64_t offset, const void* bytes, std::size_t size) {
  auto mapping = Mapping::map(fd, Access::kReadWrite, 0, kPageSize);
  ASSERT_TRUE(mapping);
  std::memcpy(mapping->data() + offset, bytes, size);
}

void poke_word(int fd, std::uint64_t offset, std::uint32_t value) {
  poke(fd, offset, &value, sizeof value);
}

EventRow event_of(EventKind kind, Reason reason) {
  EventRow row{};
  row.kind = static_cast<std::uint32_t>(kind);
  row.reason = static_cast<std::uint32_t>(reason);
  return row;
}

TEST(ProcessesTable, GivesBackWhatWasWrittenThroughAReadOnlyDescriptor) {
  auto fd = ProcessesTable::make();
  ASSERT_TRUE(fd);
  auto writer = ProcessesTable::map(fd->get(), Access::kReadWrite);
  ASSERT_TRUE(writer);
  auto second = reopen_read_only(fd->get());
  ASSERT_TRUE(second);
  auto reader = ProcessesTable::map(second->get(), Access::kReadOnly);
  ASSERT_TRUE(reader);
  EXPECT_FALSE(reader->node().read());

  NodeRow node{};
  node.ready = 1;
  node.maximum = 7;
  writer->node().write(node);
  for (std::size_t role = 0; role < kServiceRoles; ++role) {
    ProcessRow row{};
    row.role = static_cast<std::uint32_t>(role);
    row.pid = static_cast<std::uint32_t>(100 + role);
    writer->process(static_cast<Role>(role)).write(row);
  }

  ASSERT_TRUE(reader->node().read());
  EXPECT_EQ(reader->node().read()->maximum, 7U);
  for (std::size_t role = 0; role < kServiceRoles; ++role) {
    const auto row = reader->process(static_cast<Role>(role)).read();
    ASSERT_TRUE(row);
    EXPECT_EQ(row->role, role);
    EXPECT_EQ(row->pid, 100 + role);
  }
}

TEST(ProcessesTable, CannotBeMappedForWritingThroughAReadOnlyDescriptor) {
  auto fd = ProcessesTable::make();
  ASSERT_TRUE(fd);
  auto second = reopen_read_only(fd->get());
  ASSERT_TRUE(second);
  EXPECT_FALSE(ProcessesTable::map(second->get(), Access::kReadWrite));
}

TEST(Tables, RefuseAHeaderThatIsNotTheirs) {
  auto fd = PoolTable::make(4, 4, 4);
  ASSERT_TRUE(fd);
  ASSERT_TRUE(PoolTable::map(fd->get(), Access::kReadOnly));
  EXPECT_FALSE(EventsTable::map(fd->get(), Access::kReadOnly));
  EXPECT_FALSE(ProcessesTable::map(fd->get(), Access::kReadOnly));

  poke_word(fd->get(), kHeaderKind, 3);
  EXPECT_FALSE(PoolTable::map(fd->get(), Access::kReadOnly));
  poke_word(fd->get(), kHeaderKind, 2);
  ASSERT_TRUE(PoolTable::map(fd->get(), Access::kReadOnly));

  poke_word(fd->get(), offsetof(TableHeader, version), kTableVersion + 1);
  EXPECT_FALSE(PoolTable::map(fd->get(), Access::kReadOnly));
  poke_word(fd->get(), offsetof(TableHeader, version), kTableVersion);

  poke_word(fd->get(), offsetof(TableHeader, magic), 0);
  EXPECT_FALSE(PoolTable::map(fd->get(), Access::kReadOnly));
}

TEST(Tables, RefuseRowCountsThatDoNotMatchTheSegment) {
  auto fd = PoolTable::make(4, 4, 4);
  ASSERT_TRUE(fd);
  for (std::size_t field = 0; field < 3; ++field) {
    for (const std::uint32_t rows : {5000U, kMaximumKnown + 1, 0xFFFFFFFFU}) {
      poke_word(fd->get(), kHeaderRows + field * 4, rows);
      const auto table = PoolTable::map(fd->get(), Access::kReadOnly);
      ASSERT_FALSE(table) << field << " " << rows;
      EXPECT_EQ(table.error().code, ErrorCode::kBroken);
    }
    poke_word(fd->get(), kHeaderRows + field * 4, 4);
  }
  EXPECT_TRUE(PoolTable::map(fd->get(), Access::kReadOnly));
}

TEST(Tables, RefuseASegmentThatCanShrink) {
  auto fd = make_segment("unsealed", kPageSize);
  ASSERT_TRUE(fd);
  TableHeader header{};
  header.magic = kTableMagic;
  header.version = kTableVersion;
  header.kind = 1;
  header.rows[0] = kServiceRoles;
  poke(fd->get(), 0, &header, sizeof header);
  EXPECT_FALSE(ProcessesTable::map(fd->get(), Access::kReadOnly));
}

TEST(Tables, RefuseToBeMadeWithoutOrWithTooManyRows) {
  EXPECT_FALSE(PoolTable::make(0, 1, 1));
  EXPECT_FALSE(PoolTable::make(kMaximumSlots + 1, 1, 1));
  EXPECT_FALSE(PoolTable::make(1, kMaximumKnown + 1, 1));
  EXPECT_FALSE(make_live(0));
  EXPECT_FALSE(make_live(kMaximumSlots + 1));
}

TEST(PoolTable, KeepsEveryRowApart) {
  constexpr std::uint32_t kSlots = 37;
  constexpr std::uint32_t kPoints = 11;
  constexpr std::uint32_t kPeers = 23;
  auto fd = PoolTable::make(kSlots, kPoints, kPeers);
  ASSERT_TRUE(fd);
  auto table = PoolTable::map(fd->get(), Access::kReadWrite);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->slots(), kSlots);
  EXPECT_EQ(table->points(), kPoints);
  EXPECT_EQ(table->peers(), kPeers);
  // Twice, so that both copies of each row are in use.
  for (int round = 0; round < 2; ++round) {
    PoolRow pool{};
    pool.revision = 0xAAAA;
    table->pool().write(pool);
    for (std::uint32_t i = 0; i < kSlots; ++i) {
      SlotRow row{};
      std::memset(&row, 0x11, sizeof row);
      row.generation = i;
      table->slot(i).write(row);
    }
    for (std::uint32_t i = 0; i < kPoints; ++i) {
      PointRow row{};
      std::memset(&row, 0x22, sizeof row);
      row.used = i;
      table->point(i).write(row);
    }
    for (std::uint32_t i = 0; i < kPeers; ++i) {
      PeerRow row{};
      std::memset(&row, 0x33, sizeof row);
      row.used = i;
      table->peer(i).write(row);
    }
  }
  EXPECT_EQ(table->pool().read()->revision, 0xAAAAU);
  for (std::uint32_t i = 0; i < kSlots; ++i) EXPECT_EQ(table->slot(i).read()->generation, i);
  for (std::uint32_t i = 0; i < kPoints; ++i) EXPECT_EQ(table->point(i).read()->used, i);
  for (std::uint32_t i = 0; i < kPeers; ++i) EXPECT_EQ(table->peer(i).read()->used, i);
}

TEST(PoolTable, AbortsOnAnIndexBeyondItsRows) {
  auto fd = PoolTable::make(2, 2, 2);
  ASSERT_TRUE(fd);
  auto table = PoolTable::map(fd->get(), Access::kReadWrite);
  ASSERT_TRUE(table);
  EXPECT_DEATH({ [[maybe_unused]] auto row = table->slot(2).read(); }, "");
}

TEST(LiveTable, ShowsEachWritersPage) {
  auto fd = make_live(3);
  ASSERT_TRUE(fd);
  for (SlotId slot = 0; slot < 3; ++slot) {
    auto writer = LiveWriter::map(fd->get(), slot);
    ASSERT_TRUE(writer);
    writer->page().bytes_in = 1000 + slot;
    writer->page().generation = slot + 1;
  }
  auto table = LiveTable::map(fd->get(), 3);
  ASSERT_TRUE(table);
  for (SlotId slot = 0; slot < 3; ++slot) {
    EXPECT_EQ(table->page(slot).generation.load(), slot + 1);
    EXPECT_EQ(table->page(slot).bytes_in.load(), 1000 + slot);
  }
  EXPECT_FALSE(LiveTable::map(fd->get(), 4));
  EXPECT_FALSE(LiveWriter::map(fd->get(), 3));
}

TEST(Counters, GoOnWhereTheLastWriterStopped) {
  auto fd = make_counters();
  ASSERT_TRUE(fd);
  for (int service = 0; service < 2; ++service) {
    auto writer = CountersWriter::map(fd->get(), Role::kAcceptor);
    ASSERT_TRUE(writer);
    writer->count(Reason::kPeerSwapped);
    writer->count(Counter::kStaleMessages, 3);
    writer->set(Counter::kPendingNow, 9);
  }
  auto table = CountersTable::map(fd->get());
  ASSERT_TRUE(table);
  EXPECT_EQ(table->get(Role::kAcceptor, Reason::kPeerSwapped), 2U);
  EXPECT_EQ(table->get(Role::kAcceptor, Counter::kStaleMessages), 6U);
  EXPECT_EQ(table->get(Role::kAcceptor, Counter::kPendingNow), 9U);
  EXPECT_EQ(table->get(Role::kController, Counter::kStaleMessages), 0U);
  EXPECT_EQ(table->get(Role::kGateway, Reason::kPeerSwapped), 0U);
}

TEST(Names, CoverEveryEventAndCounter) {
  EXPECT_STREQ(event_name(static_cast<std::uint32_t>(EventKind::kAccepted)), "accepted");
  EXPECT_STREQ(event_name(static_cast<std::uint32_t>(EventKind::kHandshakeFailed)), "handshake_failed");
  EXPECT_STREQ(event_name(4000), "invalid_event");
  EXPECT_STREQ(counter_name(Counter::kStaleMessages), "stale_messages");
  EXPECT_STREQ(counter_name(static_cast<Counter>(4000)), "invalid_counter");
}

TEST(Flow, FallsByAFifthEachIdleSecond) {
  EXPECT_EQ(flow_now(1000, 5 * 1'000'000'000ULL, 5 * 1'000'000'000ULL), 1000U);
  EXPECT_EQ(flow_now(1000, 5 * 1'000'000'000ULL, 1), 1000U);
  EXPECT_NEAR(static_cast<double>(flow_now(1000, 0, 1'000'000'000ULL)), 800, 1);
  EXPECT_EQ(flow_now(1000, 0, 100 * 1'000'000'000ULL), 0U);
  EXPECT_EQ(flow_now(UINT64_MAX, 0, UINT64_MAX), 0U);
}

TEST(EventsTable, IsEmptyAtFirst) {
  auto fd = EventsTable::make();
  ASSERT_TRUE(fd);
  auto table = EventsTable::map(fd->get(), Access::kReadOnly);
  ASSERT_TRUE(table);
  EXPECT_EQ(table->newest(), 0U);
  EXPECT_FALSE(table->read(0));
  EXPECT_FALSE(table->read(1));
}

TEST(EventsTable, KeepsTheLastRowsAndForgetsOlderOnes) {
  auto fd = EventsTable::make();
  ASSERT_TRUE(fd);
  auto table = EventsTable::map(fd->get(), Access::kReadWrite);
  ASSERT_TRUE(table);
  constexpr std::uint64_t kEvents = 2 * kEventRows + 100;
  for (std::uint64_t i = 1; i <= kEvents; ++i) {
    EventRow row = event_of(EventKind::kRefused, Reason::kBadLength);
    row.time_ms = static_cast<std::int64_t>(i * 10);
    table->append(row);
  }
  EXPECT_EQ(table->newest(), kEvents);
  EXPECT_FALSE(table->read(kEvents + 1));
  EXPECT_FALSE(table->read(kEvents - kEventRows));
  for (std::uint64_t i = kEvents - kEventRows + 1; i <= kEvents; ++i) {
    const auto row = table->read(i);
    ASSERT_TRUE(row) << i;
    EXPECT_EQ(row->number, i);
    EXPECT_EQ(row->time_ms, static_cast<std::int64_t>(i * 10));
  }
}

// What a reader sees that looks while the writer runs a whole table ahead.
TEST(EventsTable, GivesNoRowUnderAnotherNumber) {
  auto fd = EventsTable::make();
  ASSERT_TRUE(fd);
  auto table = EventsTable::map(fd->get(), Access::kReadWrite);
  ASSERT_TRUE(table);
  for (int i = 0; i < 10; ++i) table->append(event_of(EventKind::kConnected, Reason::kNone));
  const std::uint64_t ahead = kEventRows + 10;
  poke(fd->get(), sizeof(TableHeader), &ahead, sizeof ahead);
  EXPECT_FALSE(table->read(kEventRows + 5));
  EXPECT_FALSE(table->read(kEventRows - 5));
}

TEST(EventsTable, CountsARowThatItsWriterDidNotLiveToCount) {
  auto fd = EventsTable::make();
  ASSERT_TRUE(fd);
  {
    auto table = EventsTable::map(fd->get(), Access::kReadWrite);
    ASSERT_TRUE(table);
    table->append(event_of(EventKind::kConnected, Reason::kNone));
    table->append(event_of(EventKind::kDisconnected, Reason::kKicked));
  }
  // What a writer leaves behind that dies between row and counter.
  auto mapping = Mapping::map(fd->get(), Access::kReadWrite, 0, kPageSize);
  ASSERT_TRUE(mapping);
  const std::uint64_t one = 1;
  std::memcpy(mapping->data() + sizeof(TableHeader), &one, sizeof one);

  auto successor = EventsTable::map(fd->get(), Access::kReadWrite);
  ASSERT_TRUE(successor);
  ASSERT_EQ(successor->newest(), 2U);
  successor->append(event_of(EventKind::kRestarted, Reason::kNone));
  EXPECT_EQ(successor->read(2)->reason, static_cast<std::uint32_t>(Reason::kKicked));
  EXPECT_EQ(successor->read(3)->kind, static_cast<std::uint32_t>(EventKind::kRestarted));
}

// A writer is killed at random points again and again; its successors must leave a sequence without gap or repetition.
TEST(EventsTable, LosesAndRepeatsNoNumberWhenWritersAreKilled) {
  const unsigned seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  auto fd = EventsTable::make();
  ASSERT_TRUE(fd);
  auto reader = EventsTable::map(fd->get(), Access::kReadOnly);
  ASSERT_TRUE(reader);
  std::uint64_t before = 0;
  for (int round = 0; round < 60; ++round) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto table = EventsTable::map(fd->get(), Access::kReadWrite);
      if (!table || ::write(ready[1], "r", 1) != 1) ::_exit(1);
      for (;;) {
        EventRow row = event_of(EventKind::kRefused, Reason::kBadLength);
        // Every word says which event it is, so that a torn row shows.
        const std::uint64_t number = table->newest() + 1;
        row.time_ms = static_cast<std::int64_t>(number);
        std::memcpy(row.address.data(), &number, sizeof number);
        std::memcpy(row.peer_id.data() + 8, &number, sizeof number);
        table->append(row);
      }
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
    const std::uint64_t stop_at = before + random() % 3000;
    while (reader->newest() < stop_at) {
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    auto successor = EventsTable::map(fd->get(), Access::kReadWrite);
    ASSERT_TRUE(successor);
    const std::uint64_t last = successor->newest();
    ASSERT_GE(last, before);
    before = last;
    std::uint64_t readable = 0;
    for (std::uint64_t number = last >= kEventRows ? last - kEventRows + 1 : 1; number <= last; ++number) {
      const auto row = successor->read(number);
      // The row that was being overwritten at the end is the oldest one, and only that may be gone.
      if (!row) {
        ASSERT_EQ(number, last - kEventRows + 1);
        continue;
      }
      ++readable;
      std::uint64_t low = 0;
      std::uint64_t high = 0;
      std::memcpy(&low, row->address.data(), sizeof low);
      std::memcpy(&high, row->peer_id.data() + 8, sizeof high);
      ASSERT_EQ(row->time_ms, static_cast<std::int64_t>(number));
      ASSERT_EQ(low, number);
      ASSERT_EQ(high, number);
    }
    ASSERT_GE(readable + 1, std::min<std::uint64_t>(last, kEventRows));
  }
}

}  // namespace
}  // namespace bulkhead::shm
