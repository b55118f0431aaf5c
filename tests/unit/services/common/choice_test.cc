#include "services/common/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

namespace bulkhead::service {
namespace {

using Random = std::mt19937_64;

std::function<std::uint64_t()> from(Random& random) {
  return [&random] { return random(); };
}

/// `count` incoming untrusted neighbours of one group, the later the younger and the slower.
std::vector<Neighbour> crowd(std::uint32_t count) {
  std::vector<Neighbour> neighbours;
  for (std::uint32_t i = 0; i < count; ++i)
    neighbours.push_back({.ref = {i, 1}, .group = 7, .since_ms = 1000 + i, .handshake_us = 1000 + i});
  return neighbours;
}

std::set<SlotId> slots(const std::vector<SlotRef>& victims) {
  std::set<SlotId> slots;
  for (const auto& victim : victims) slots.insert(victim.slot);
  return slots;
}

/// How often each slot was the only victim in many draws.
std::map<SlotId, int> draws(const std::vector<Neighbour>& neighbours, bool hardened, int times) {
  Random random(5);
  std::map<SlotId, int> chosen;
  for (int i = 0; i < times; ++i) {
    for (const auto& victim : choose_victims(neighbours, 1, hardened, from(random))) ++chosen[victim.slot];
  }
  return chosen;
}

TEST(ChooseVictims, NeverTakesATrustedOne) {
  Random random(1);
  for (const bool hardened : {false, true}) {
    auto neighbours = crowd(30);
    for (std::size_t i = 0; i < neighbours.size(); i += 3) neighbours[i].trusted = true;
    for (std::size_t count = 0; count < 40; ++count) {
      const auto victims = choose_victims(neighbours, count, hardened, from(random));
      EXPECT_EQ(victims.size(), std::min<std::size_t>(count, 20));
      EXPECT_EQ(slots(victims).size(), victims.size()) << "each at most once";
      for (const auto& victim : victims) EXPECT_NE(victim.slot % 3, 0U);
    }
  }
}

TEST(ChooseVictims, IsTheSameForTheSameChance) {
  Random one(9);
  Random other(9);
  EXPECT_EQ(choose_victims(crowd(50), 20, true, from(one)), choose_victims(crowd(50), 20, true, from(other)));
}

TEST(ChooseVictims, AsOctezIsUniformOverAllButTheTrusted) {
  auto neighbours = crowd(10);
  neighbours[0].trusted = true;
  neighbours[1].outgoing = true;
  neighbours[2].score = 100;
  const auto chosen = draws(neighbours, false, 9000);
  EXPECT_EQ(chosen.size(), 9U);
  for (const auto& [slot, times] : chosen) EXPECT_NEAR(times, 1000, 200) << slot;
}

TEST(ChooseVictims, HardenedLetsNoIncomingOnePushOutAnOutgoingOne) {
  Random random(1);
  auto neighbours = crowd(20);
  for (std::size_t i = 0; i < 8; ++i) neighbours[i].outgoing = true;
  for (const auto& victim : choose_victims(neighbours, 12, true, from(random))) EXPECT_GE(victim.slot, 8U);
  EXPECT_EQ(choose_victims(neighbours, 20, true, from(random)).size(), 20U) << "when nobody else is left they go too";
}

TEST(ChooseVictims, HardenedProtectsTheLongestStanding) {
  auto neighbours = crowd(40);
  for (auto& one : neighbours) one.handshake_us = 0;
  const auto chosen = draws(neighbours, true, 4000);
  // Of 40, 4 are taken for their group, half of the other 36 for their age.
  for (SlotId old = 0; old < 18; ++old) EXPECT_FALSE(chosen.contains(old)) << old;
  EXPECT_GT(chosen.size(), 15U) << "chance decides among the rest";
}

TEST(ChooseVictims, HardenedProtectsTheFastest) {
  auto neighbours = crowd(40);
  for (auto& one : neighbours) one.since_ms = 5000 - one.since_ms;  // the slowest are the oldest
  const auto chosen = draws(neighbours, true, 4000);
  for (SlotId fast = 0; fast < 4; ++fast) EXPECT_FALSE(chosen.contains(fast)) << fast;
}

TEST(ChooseVictims, HardenedProtectsRareGroups) {
  auto neighbours = crowd(40);
  for (SlotId rare = 36; rare < 40; ++rare) neighbours[rare].group = 100 + rare;
  const auto chosen = draws(neighbours, true, 4000);
  for (SlotId rare = 36; rare < 40; ++rare) EXPECT_FALSE(chosen.contains(rare)) << rare;
}

TEST(ChooseVictims, HardenedWeighsTheScore) {
  auto neighbours = crowd(40);
  for (SlotId good = 37; good < 40; ++good) neighbours[good].score = 3;
  neighbours[35].score = 0.5;
  const auto chosen = draws(neighbours, true, 2000);
  for (SlotId good = 37; good < 40; ++good) EXPECT_FALSE(chosen.contains(good)) << good;
  // It goes whenever nothing protects it: its group may, by chance.
  EXPECT_GT(chosen.at(35), 1500);
}

TEST(ChooseVictims, HardenedProtectsNobodyWhereAllMustGo) {
  Random random(1);
  EXPECT_EQ(choose_victims(crowd(5), 5, true, from(random)).size(), 5U);
  EXPECT_TRUE(choose_victims({}, 5, true, from(random)).empty());
}

TEST(DecayedScore, HalvesItsDistanceFromNeutral) {
  EXPECT_DOUBLE_EQ(decayed_score(9, 1000, 1000, 10), 9);
  EXPECT_DOUBLE_EQ(decayed_score(9, 1000, 11000, 10), 5);
  EXPECT_DOUBLE_EQ(decayed_score(-7, 1000, 21000, 10), -1);
  EXPECT_NEAR(decayed_score(9, 1000, 10'000'000, 10), kNeutralScore, 1e-9);
}

TEST(DecayedScore, IsNeutralWhenItWasNeverGivenAndKeptWithoutAHalfLife) {
  EXPECT_DOUBLE_EQ(decayed_score(9, 0, 1000, 10), kNeutralScore);
  EXPECT_DOUBLE_EQ(decayed_score(9, 1000, 1'000'000, 0), 9);
  EXPECT_DOUBLE_EQ(decayed_score(9, 1000, 500, 10), 9) << "a clock that was set back";
}

}  // namespace
}  // namespace bulkhead::service
