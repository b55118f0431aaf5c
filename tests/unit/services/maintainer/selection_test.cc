#include "services/maintainer/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/address.h"

namespace bulkhead::maintainer {
namespace {

using Ports = std::vector<std::uint16_t>;

Point point(std::uint16_t port) {
  return {parse_address("192.0.2.1").value(), port};
}

shm::PointRow row(std::uint16_t port) {
  shm::PointRow row{};
  row.used = 1;
  row.address = point(port).address.bytes;
  row.port = port;
  return row;
}

struct Situation {
  PoolView view;
  bool trusted_only = false;
  std::set<Point> excluded;
  Nanoseconds now = 1000;

  Candidates candidates() const { return candidates_of(view, trusted_only, excluded, now); }
  /// In the order of Octez.
  Ports ports() const {
    std::uint64_t drawn = 0;
    Ports ports;
    for (const auto& dial : choose_dials(candidates().now, 100, false, {}, [&drawn] { return drawn++; }))
      ports.push_back(dial.port);
    return ports;
  }
  void known(std::uint16_t first, std::uint16_t count) {
    for (std::uint16_t i = 0; i < count; ++i) view.points.push_back(row(static_cast<std::uint16_t>(first + i)));
  }
};

TEST(CandidatesOf, PassOverWhatIsUnusedConnectedOrOnItsWay) {
  Situation s;
  s.known(1, 6);
  s.view.points[0].used = 0;
  s.view.points[1].state = static_cast<std::uint32_t>(shm::PointState::kRequested);
  s.view.points[2].state = static_cast<std::uint32_t>(shm::PointState::kAccepted);
  s.view.points[3].state = static_cast<std::uint32_t>(shm::PointState::kRunning);
  s.view.points[4].port = 0;
  EXPECT_EQ(s.ports(), (Ports{6}));
}

TEST(CandidatesOf, PassOverWhatIsExcluded) {
  Situation s;
  s.known(1, 3);
  s.excluded = {point(1), point(3)};
  EXPECT_EQ(s.ports(), (Ports{2}));
}

TEST(CandidatesOf, WaitForTheEndOfTheBackOffAndTellTheEarliest) {
  Situation s;
  s.known(1, 4);
  s.view.points[0].next_attempt_ns = 5000;
  s.view.points[1].next_attempt_ns = 3000;
  s.view.points[2].next_attempt_ns = 1000;
  s.view.points[3].next_attempt_ns = 7000;
  EXPECT_EQ(s.ports(), (Ports{3}));
  EXPECT_EQ(s.candidates().next, 3000U);
  s.now = 3000;
  EXPECT_EQ(s.candidates().now.size(), 2U);
  EXPECT_EQ(s.candidates().next, 5000U);
}

TEST(CandidatesOf, TakeARowWithANegativeTimeAsOneWithoutBackOff) {
  Situation s;
  s.known(1, 1);
  s.view.points[0].next_attempt_ns = -5;
  EXPECT_EQ(s.ports(), (Ports{1}));
}

TEST(CandidatesOf, AreTheTrustedAloneInPrivateMode) {
  Situation s;
  s.known(1, 3);
  s.view.points[1].trusted = 1;
  s.trusted_only = true;
  EXPECT_EQ(s.ports(), (Ports{2}));
}

TEST(ChooseDials, AsOctezTakesWhatWasNeverMissedFirstAndThenTheLongestAgo) {
  Situation s;
  s.known(1, 4);
  s.view.points[0].last_failed_ms = 300;
  s.view.points[1].last_rejected_ms = 100;
  s.view.points[2].last_disconnection_ms = 200;
  EXPECT_EQ(s.ports(), (Ports{4, 2, 3, 1}));
}

TEST(ChooseDials, AsOctezCountsTheLatestMissOfAPoint) {
  Situation s;
  s.known(1, 2);
  s.view.points[0].last_failed_ms = 1;
  s.view.points[0].last_disconnection_ms = 900;
  s.view.points[1].last_rejected_ms = 500;
  EXPECT_EQ(s.ports(), (Ports{2, 1}));
}

TEST(ChooseDials, BreaksTiesByChance) {
  std::vector<Candidate> candidates;
  for (std::uint16_t port = 1; port <= 3; ++port) candidates.push_back({.point = point(port)});
  for (const bool hardened : {false, true}) {
    std::mt19937_64 random(3);
    std::set<Point> first;
    for (int i = 0; i < 100; ++i) {
      const auto chosen = choose_dials(candidates, 1, hardened, {}, [&] { return random(); });
      ASSERT_EQ(chosen.size(), 1U);
      first.insert(chosen[0]);
    }
    EXPECT_EQ(first.size(), 3U);
  }
}

class HardenedDials : public testing::Test {
 protected:
  std::vector<Point> choose(std::size_t count, std::map<AddressGroup, std::uint32_t> in_use = {}) {
    return choose_dials(candidates_, count, true, std::move(in_use), [this] { return random_(); });
  }
  void add(std::uint16_t port, AddressGroup group, bool tried = false) {
    candidates_.push_back({.point = point(port), .group = group, .tried = tried});
  }
  std::vector<Candidate> candidates_;
  std::mt19937_64 random_{11};
};

TEST_F(HardenedDials, SpreadOverGroups) {
  for (std::uint16_t i = 0; i < 90; ++i) add(static_cast<std::uint16_t>(100 + i), 1);
  for (std::uint16_t i = 0; i < 4; ++i) add(static_cast<std::uint16_t>(1 + i), 2U + i);
  const auto chosen = choose(5);
  EXPECT_EQ(std::count_if(chosen.begin(), chosen.end(), [](const Point& one) { return one.port >= 100; }), 1)
      << "of the group with 90 addresses one is taken, as of each of the others";
}

TEST_F(HardenedDials, PreferGroupsWithoutAConnection) {
  add(1, 1);
  add(2, 2);
  add(3, 3);
  EXPECT_EQ(choose(1, {{1, 2}, {3, 1}}), (std::vector<Point>{point(2)}));
}

TEST_F(HardenedDials, AreNeverFewerForWantOfGroups) {
  for (std::uint16_t i = 0; i < 40; ++i) add(static_cast<std::uint16_t>(1 + i), 1);
  EXPECT_EQ(choose(36, {{1, 10}}).size(), 36U);
  EXPECT_EQ(choose(50).size(), 40U);
}

TEST_F(HardenedDials, GiveWhatWorkedHalfOfThePlacesWhateverTheFlood) {
  for (std::uint16_t i = 0; i < 2000; ++i) add(static_cast<std::uint16_t>(1000 + i), 1000U + i);
  for (std::uint16_t i = 0; i < 50; ++i) add(static_cast<std::uint16_t>(1 + i), 1U + i, true);
  int tried = 0;
  for (int run = 0; run < 100; ++run) {
    for (const auto& one : choose(10)) tried += one.port < 1000 ? 1 : 0;
  }
  EXPECT_NEAR(tried, 500, 80);
}

TEST_F(HardenedDials, TakeTheOtherKindWhenThereIsNone) {
  add(1, 1, true);
  EXPECT_EQ(choose(1).size(), 1U);
  candidates_[0].tried = false;
  EXPECT_EQ(choose(1).size(), 1U);
}

TEST_F(HardenedDials, BeginWithTheTrustedAndTheAnchors) {
  for (std::uint16_t i = 0; i < 50; ++i) add(static_cast<std::uint16_t>(100 + i), 100U + i);
  add(1, 1);
  candidates_.back().anchor = true;
  add(2, 1);
  candidates_.back().trusted = true;
  const auto chosen = choose(3);
  ASSERT_EQ(chosen.size(), 3U);
  EXPECT_LT(std::max(chosen[0].port, chosen[1].port), 3);
}

}  // namespace
}  // namespace bulkhead::maintainer
