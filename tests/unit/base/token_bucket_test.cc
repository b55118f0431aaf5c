#include "base/token_bucket.h"

#include <gtest/gtest.h>

namespace bulkhead {
namespace {

constexpr TokenRate kRate{.per_second = 2, .burst = 3};

int take_all(TokenBucket& bucket, Nanoseconds now) {
  int taken = 0;
  while (taken < 1000 && bucket.take(kRate, now)) ++taken;
  return taken;
}

TEST(TokenBucket, IsFullWhenItIsMade) {
  TokenBucket bucket;
  EXPECT_TRUE(bucket.full(kRate, 0));
  EXPECT_EQ(take_all(bucket, 5 * kSecond), 3);
}

TEST(TokenBucket, FillsWithTimeAndNotAboveItsBurst) {
  TokenBucket bucket;
  EXPECT_EQ(take_all(bucket, 10 * kSecond), 3);
  EXPECT_EQ(take_all(bucket, 10 * kSecond + kSecond / 4), 0);
  EXPECT_EQ(take_all(bucket, 11 * kSecond), 2);
  EXPECT_FALSE(bucket.full(kRate, 11 * kSecond));
  EXPECT_TRUE(bucket.full(kRate, 13 * kSecond));
  EXPECT_EQ(take_all(bucket, 1000 * kSecond), 3);
}

TEST(TokenBucket, GivesItsRateInTheLongRun) {
  TokenBucket bucket;
  int taken = 0;
  for (Nanoseconds now = 0; now < 100 * kSecond; now += 7 * kMillisecond) taken += bucket.take(kRate, now) ? 1 : 0;
  EXPECT_NEAR(taken, 203, 2);
}

TEST(TokenBucket, IsNotRefilledByAClockThatGoesBack) {
  TokenBucket bucket;
  EXPECT_EQ(take_all(bucket, 10 * kSecond), 3);
  EXPECT_EQ(take_all(bucket, 5 * kSecond), 0);
  EXPECT_EQ(take_all(bucket, 10 * kSecond), 0);
}

}  // namespace
}  // namespace bulkhead
