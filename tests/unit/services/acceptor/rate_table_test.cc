#include "services/acceptor/rate_table.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <random>

#include "base/address.h"

namespace bulkhead::acceptor {
namespace {

constexpr TokenRate kRate{.per_second = 2, .burst = 4};
constexpr Nanoseconds kStart = 1000 * kSecond;

Address numbered(std::uint32_t number) {
  Address address = parse_address("10.0.0.0").value();
  for (std::size_t i = 0; i < 4; ++i) address.bytes[12 + i] = static_cast<std::uint8_t>(number >> (24 - 8 * i));
  return address;
}

int take_all(RateTable& table, const Address& address, Nanoseconds now) {
  int taken = 0;
  while (taken < 100 && table.take(address, now)) ++taken;
  return taken;
}

TEST(RateTable, GivesEachAddressItsBurstAndThenItsRate) {
  RateTable table(kRate, 64, 1, 2);
  EXPECT_EQ(take_all(table, numbered(1), kStart), 4);
  EXPECT_EQ(take_all(table, numbered(2), kStart), 4);
  EXPECT_EQ(take_all(table, numbered(1), kStart + kSecond), 2);
  EXPECT_EQ(take_all(table, numbered(1), kStart + 100 * kSecond), 4);
}

TEST(RateTable, DoesNotGrow) {
  RateTable table(kRate, 60, 1, 2);
  EXPECT_EQ(table.capacity(), 64U);
  for (std::uint32_t i = 0; i < 10'000; ++i) EXPECT_TRUE(table.take(numbered(i), kStart));
  EXPECT_EQ(table.capacity(), 64U);
  EXPECT_LE(table.active(kStart), 64U);
}

TEST(RateTable, ForgetsInAFloodThoseThatUsedLittleAndNotTheOneThatUsedUpItsTokens) {
  RateTable table(kRate, 64, 1, 2);
  const Address greedy = numbered(0xffffffff);
  EXPECT_EQ(take_all(table, greedy, kStart), 4);
  for (std::uint32_t i = 0; i < 10'000; ++i) table.take(numbered(i), kStart);
  EXPECT_FALSE(table.take(greedy, kStart));
  EXPECT_TRUE(table.take(greedy, kStart + kSecond)) << "it is remembered, not shut out";
}

TEST(RateTable, PutsAddressesElsewhereUnderAnotherKey) {
  // Eight addresses share a row: of a flood that fills one row under a key, most survive under another.
  const auto forgotten = [](std::uint64_t key) {
    RateTable table(kRate, 64, key, 7);
    int count = 0;
    for (std::uint32_t i = 0; i < 64; ++i) table.take(numbered(i), kStart);
    for (std::uint32_t i = 0; i < 64; ++i) count = count * 2 % 1'000'003 + take_all(table, numbered(i), kStart);
    return count;
  };
  EXPECT_NE(forgotten(1), forgotten(2));
  EXPECT_EQ(forgotten(1), forgotten(1));
}

TEST(RateTable, NeverGivesMoreThanAnUnboundedTableWhereItHasRoomForAll) {
  constexpr std::uint64_t kSeed = 5;
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  std::mt19937_64 random(kSeed);
  RateTable table(kRate, 4096, random(), random());
  std::map<std::uint32_t, TokenBucket> all;
  Nanoseconds now = kStart;
  for (int i = 0; i < 50'000; ++i) {
    now += random() % (20 * kMillisecond);
    const auto number = static_cast<std::uint32_t>(random() % 40);
    ASSERT_EQ(table.take(numbered(number), now), all[number].take(kRate, now)) << i;
  }
}

}  // namespace
}  // namespace bulkhead::acceptor
