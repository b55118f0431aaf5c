#include "services/acceptor/refusals.h"

#include <gtest/gtest.h>

#include <map>

namespace bulkhead::acceptor {
namespace {

constexpr Nanoseconds kStart = 1000 * kSecond;

TEST(Refusals, TellSomeAtOnceAndFewInTheLongRun) {
  Refusals refusals;
  int told = 0;
  for (int i = 0; i < 10'000; ++i) told += refusals.may_tell(kStart) ? 1 : 0;
  EXPECT_EQ(told, 100);
  for (int i = 0; i < 10'000; ++i) told += refusals.may_tell(kStart + kSecond) ? 1 : 0;
  EXPECT_EQ(told, 110);
}

TEST(Refusals, AreAllToldOneWayOrTheOther) {
  Refusals refusals;
  std::map<Reason, std::uint32_t> told;
  for (int i = 0; i < 10'000; ++i) {
    const Reason reason = i % 3 == 0 ? Reason::kBadLength : Reason::kBanned;
    if (refusals.may_tell(kStart)) {
      ++told[reason];
    } else {
      refusals.leave_out(reason);
    }
  }
  EXPECT_TRUE(refusals.any_left_out());
  refusals.tell_left_out([&](Reason reason, std::uint32_t count) {
    told[reason] += count;
    return true;
  });
  EXPECT_FALSE(refusals.any_left_out());
  EXPECT_EQ(told[Reason::kBadLength], 3334U);
  EXPECT_EQ(told[Reason::kBanned], 6666U);
  refusals.tell_left_out([&](Reason, std::uint32_t) {
    ADD_FAILURE() << "told twice";
    return true;
  });
}

TEST(Refusals, StayUntilSomebodyTakesThem) {
  Refusals refusals;
  refusals.leave_out(Reason::kBanned);
  refusals.leave_out(Reason::kBadLength);
  refusals.tell_left_out([](Reason reason, std::uint32_t) { return reason == Reason::kBadLength; });
  EXPECT_TRUE(refusals.any_left_out());
  std::uint32_t banned = 0;
  refusals.tell_left_out([&](Reason reason, std::uint32_t count) {
    EXPECT_EQ(reason, Reason::kBanned);
    banned += count;
    return true;
  });
  EXPECT_EQ(banned, 1U);
}

}  // namespace
}  // namespace bulkhead::acceptor
