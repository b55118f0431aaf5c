#include "services/acceptor/refusals.h"

#include <gtest/gtest.h>

#include <map>

#include "base/address.h"
#include "services/acceptor/offenders.h"

namespace bulkhead::acceptor {
namespace {

constexpr Nanoseconds kStart = 1000 * kSecond;

TEST(Offenders, WaitEachOnceAndInTheirOrder) {
  const Point first{*parse_address("127.0.0.1"), 1};
  const Point again{*parse_address("127.0.0.1"), 2};
  const Point second{*parse_address("127.0.0.2"), 1};
  Offenders offenders;
  EXPECT_TRUE(offenders.empty());
  offenders.add(first, Reason::kBadLength);
  offenders.add(again, Reason::kNotEnoughProofOfWork);
  offenders.add(second, Reason::kNotEnoughProofOfWork);
  EXPECT_EQ(offenders.first(), Offenders::Offender(first, Reason::kBadLength));
  offenders.pop();
  EXPECT_EQ(offenders.first(), Offenders::Offender(second, Reason::kNotEnoughProofOfWork));
  offenders.add(again, Reason::kBadLength);
  offenders.pop();
  EXPECT_EQ(offenders.first(), Offenders::Offender(again, Reason::kBadLength)) << "it was told, and came again";
  offenders.pop();
  EXPECT_TRUE(offenders.empty());
}

TEST(Offenders, AreBounded) {
  Offenders offenders;
  Point point{*parse_address("10.0.0.0"), 1};
  for (std::size_t i = 0; i < Offenders::kMost + 10; ++i) {
    for (std::size_t byte = 0; byte < 3; ++byte) {
      point.address.bytes[15 - byte] = static_cast<std::uint8_t>(i >> (8 * byte));
    }
    offenders.add(point, Reason::kBadLength);
  }
  std::size_t waiting = 0;
  for (; !offenders.empty(); offenders.pop()) ++waiting;
  EXPECT_EQ(waiting, Offenders::kMost);
}

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
