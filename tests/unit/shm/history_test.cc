#include "shm/history.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace bulkhead::shm {
namespace {

constexpr std::uint32_t kPoints = 3;
constexpr std::uint32_t kPeers = 2;

HistoryEvent event(std::int64_t time_ms) {
  HistoryEvent event{};
  event.time_ms = time_ms;
  event.other.fill(static_cast<std::uint8_t>(time_ms));
  event.port = static_cast<std::uint16_t>(time_ms);
  event.has_other = 1;
  return event;
}

class HistoryTest : public testing::Test {
 protected:
  HistoryTable map(Access access) { return std::move(*HistoryTable::map(fd_.get(), access, kPoints, kPeers)); }

  UniqueFd fd_ = std::move(*HistoryTable::make(kPoints, kPeers));
  HistoryTable writer_ = map(Access::kReadWrite);
  HistoryTable reader_ = map(Access::kReadOnly);
};

TEST_F(HistoryTest, IsEmptyAtFirst) {
  for (std::uint32_t i = 0; i < kPoints; ++i) EXPECT_TRUE(reader_.point(i).read().empty());
  for (std::uint32_t i = 0; i < kPeers; ++i) EXPECT_TRUE(reader_.peer(i).read().empty());
}

TEST_F(HistoryTest, GivesTheEventsOfEachRecordOldestFirst) {
  EXPECT_EQ(writer_.point(2).append(event(5)), 0U);
  EXPECT_EQ(writer_.point(2).append(event(6)), 1U);
  EXPECT_EQ(writer_.peer(0).append(event(7)), 0U);
  EXPECT_EQ(reader_.point(2).read(), (std::vector{event(5), event(6)}));
  EXPECT_EQ(reader_.peer(0).read(), std::vector{event(7)});
  EXPECT_TRUE(reader_.point(0).read().empty() && reader_.point(1).read().empty() && reader_.peer(1).read().empty());
}

TEST_F(HistoryTest, KeepsTheLastHundred) {
  for (std::int64_t i = 0; i < 250; ++i) EXPECT_EQ(writer_.peer(1).append(event(i)), static_cast<std::uint64_t>(i));
  const auto events = reader_.peer(1).read();
  ASSERT_EQ(events.size(), kHistoryEvents);
  for (std::size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i], event(static_cast<std::int64_t>(150 + i)));
}

TEST_F(HistoryTest, GoesOnWithTheNumbersThatWereRestored) {
  for (const std::uint64_t number : {207U, 208U, 211U})
    writer_.point(0).restore(number, event(static_cast<int>(number)));
  EXPECT_EQ(writer_.point(0).append(event(212)), 212U);
  EXPECT_EQ(reader_.point(0).read(), (std::vector{event(207), event(208), event(211), event(212)}));
}

TEST_F(HistoryTest, OfAnotherRecordBeginsAnew) {
  for (std::int64_t i = 0; i < 150; ++i) writer_.point(1).append(event(i));
  writer_.point(1).clear();
  EXPECT_TRUE(reader_.point(1).read().empty());
  EXPECT_EQ(writer_.point(1).append(event(9)), 0U);
  EXPECT_EQ(reader_.point(1).read(), std::vector{event(9)});
}

TEST_F(HistoryTest, IsGoneOnWithByASuccessor) {
  writer_.point(0).append(event(1));
  const HistoryTable successor = map(Access::kReadWrite);
  EXPECT_EQ(successor.point(0).append(event(2)), 1U);
  EXPECT_EQ(reader_.point(0).read(), (std::vector{event(1), event(2)}));
}

TEST_F(HistoryTest, ShowsNoTornEventWhileItIsWritten) {
  std::atomic<bool> done = false;
  std::thread writing([&] {
    for (std::int64_t i = 1; i <= 200'000; ++i) writer_.peer(0).append(event(i));
    done = true;
  });
  std::size_t torn = 0;
  std::size_t backwards = 0;
  do {
    std::int64_t last = 0;
    for (const auto& seen : reader_.peer(0).read()) {
      if (seen != event(seen.time_ms)) ++torn;
      if (seen.time_ms <= last) ++backwards;
      last = seen.time_ms;
    }
  } while (!done);
  writing.join();
  EXPECT_EQ(torn, 0U);
  EXPECT_EQ(backwards, 0U);
}

TEST(HistoryTable, IsBoundedAndChecked) {
  EXPECT_FALSE(HistoryTable::make(0, 0));
  EXPECT_FALSE(HistoryTable::make(kMaximumKnown + 1, 1));
  const auto fd = HistoryTable::make(2, 2);
  ASSERT_TRUE(fd);
  EXPECT_FALSE(HistoryTable::map(fd->get(), Access::kReadOnly, 2, 3)) << "another size";
  EXPECT_TRUE(HistoryTable::map(fd->get(), Access::kReadOnly, 3, 1));
}

TEST(HistoryKinds, HaveTheNamesOfOctez) {
  EXPECT_STREQ(history_name_of_point(static_cast<std::uint8_t>(HistoryKind::kAcceptingRequest)), "accepting_request");
  EXPECT_STREQ(history_name_of_peer(static_cast<std::uint8_t>(HistoryKind::kAcceptingRequest)), "incoming_request");
  EXPECT_STREQ(history_name_of_peer(kHistoryKinds), "invalid_event");
  for (std::uint8_t kind = 0; kind < kHistoryKinds; ++kind) {
    EXPECT_EQ(history_kind_of_peer(history_name_of_peer(kind)), static_cast<HistoryKind>(kind));
  }
  EXPECT_FALSE(history_kind_of_peer("accepting_request"));
}

}  // namespace
}  // namespace bulkhead::shm
