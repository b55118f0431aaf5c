#include "services/maintainer/maintenance.h"

#include <gtest/gtest.h>

#include <random>

#include "base/address.h"

namespace bulkhead::maintainer {
namespace {

constexpr std::uint32_t kIncoming = 0;
constexpr std::uint32_t kOutgoing = 1;

Point point(std::uint32_t number) {
  Point point{parse_address("8.0.0.1").value(), 9732};
  point.address.bytes[13] = static_cast<std::uint8_t>(number / 256);
  point.address.bytes[14] = static_cast<std::uint8_t>(number % 256);
  return point;
}

MaintenanceSettings settings() {
  return {.bounds = bounds_for(10, 50, 100), .minimum = 10, .maximum = 100, .hardened = false};
}

MaintenanceSettings hardened() {
  auto with = settings();
  with.hardened = true;
  return with;
}

/// A maintenance with a pool that does what it is told.
struct Node {
  explicit Node(MaintenanceSettings with = settings()) : maintenance(std::move(with), [this] { return random(); }) {}

  void know(std::uint32_t first, std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      shm::PointRow row{};
      row.used = 1;
      row.address = point(first + i).address.bytes;
      row.port = 9732;
      row.group = group_of(point(first + i).address);
      view.points.push_back(row);
    }
  }
  shm::PointRow& row(const Point& which) {
    return *std::find_if(view.points.begin(), view.points.end(),
                         [&](const auto& one) { return one.address == which.address.bytes && one.port == which.port; });
  }
  void connect(std::uint32_t count, std::uint32_t direction = kIncoming) {
    for (std::uint32_t i = 0; i < count; ++i) {
      shm::SlotRow slot{};
      slot.generation = 1;
      slot.state = static_cast<std::uint32_t>(shm::SlotState::kRunning);
      slot.direction = direction;
      slot.since_ms = now_ms();
      view.slots.push_back(slot);
    }
  }
  void disconnect(std::uint32_t count) {
    for (auto& slot : view.slots) {
      if (count == 0) return;
      if (slot.state == 0) continue;
      slot.state = 0;
      --count;
    }
  }
  void set(const Point& which, shm::PointState state) { row(which).state = static_cast<std::uint32_t>(state); }
  Work look() { return maintenance.look(view, {}, now, now_ms()); }
  /// Looks, and has every dial under way.
  Work look_and_dial() {
    const Work work = look();
    for (const auto& dial : work.dials) set(dial, shm::PointState::kRequested);
    return work;
  }
  void succeed(const Point& which) {
    set(which, shm::PointState::kRunning);
    connect(1, kOutgoing);
  }
  void close(const Work& work) {
    for (const auto& ref : work.closes) view.slots[ref.slot].state = 0;
  }
  std::uint32_t connections() const {
    return static_cast<std::uint32_t>(
        std::count_if(view.slots.begin(), view.slots.end(), [](const auto& slot) { return slot.state != 0; }));
  }
  void pass(std::uint64_t seconds) { now += seconds * kSecond; }
  std::int64_t now_ms() const { return static_cast<std::int64_t>(now / kMillisecond); }

  std::mt19937_64 random{17};
  Nanoseconds now = 1000 * kSecond;
  PoolView view;
  Maintenance maintenance;
};

// ---- triggers

TEST(Maintenance, RunsAtTheStartAndThenOnlyWhenItsIdleTimeHasPassed) {
  Node node;
  node.connect(50);
  EXPECT_TRUE(node.look().propose_swap);
  EXPECT_EQ(node.maintenance.runs(), 1U);
  node.pass(119);
  const Work work = node.look();
  EXPECT_FALSE(work.propose_swap);
  EXPECT_EQ(work.look_again_at, node.now + kSecond);
  EXPECT_EQ(node.maintenance.runs(), 1U);
  node.pass(1);
  EXPECT_TRUE(node.look().propose_swap);
  EXPECT_EQ(node.maintenance.runs(), 2U);
}

TEST(Maintenance, RunsOnRequestAndTellsWhoWaitedAlsoWhenThereWasNothingToDo) {
  Node node;
  node.connect(50);
  node.look();
  node.maintenance.request(7);
  node.maintenance.request(8);
  EXPECT_EQ(node.look().done, (std::vector<std::uint64_t>{7, 8}));
  EXPECT_EQ(node.maintenance.runs(), 2U);
}

// test_p2p_maintenance: triggers.too-few-connections
TEST(Maintenance, TooFewConnections_FallingBelowTheMinimumStartsARunAtOnce) {
  Node node;
  node.know(0, 100);
  node.connect(30);
  node.look();
  node.disconnect(20);
  EXPECT_TRUE(node.look().dials.empty()) << "10 are enough until the idle time has passed";
  node.disconnect(1);
  EXPECT_FALSE(node.look().dials.empty());
}

// test_p2p_maintenance: triggers.too-many-connections
TEST(Maintenance, TooManyConnections_ReachingTheMaximumStartsARunAtOnce) {
  Node node;
  node.connect(50);
  node.look();
  node.connect(49);
  EXPECT_TRUE(node.look().closes.empty()) << "99 stay until the idle time has passed";
  node.connect(1);
  EXPECT_EQ(node.look().closes.size(), 32U);
}

TEST(Maintenance, FullOfTrustedPeersDoesNotRunAgainAndAgain) {
  auto with = settings();
  with.bounds = bounds_for(1, 1, 1);
  with.minimum = with.maximum = 1;
  Node node(with);
  node.connect(1);
  EXPECT_TRUE(node.look().propose_swap);
  node.pass(1);
  EXPECT_FALSE(node.look().propose_swap);
  EXPECT_EQ(node.maintenance.runs(), 1U);
}

// tezt p2p: p2p-maintenance-disabled
TEST(Maintenance, P2pMaintenanceDisabled_NeverRunsAndAnswersAtOnce) {
  auto with = settings();
  with.enabled = false;
  Node node(with);
  node.know(0, 100);
  node.maintenance.request(3);
  const Work work = node.look();
  EXPECT_TRUE(work.dials.empty());
  EXPECT_EQ(work.done, (std::vector<std::uint64_t>{3}));
  node.connect(100);
  EXPECT_TRUE(node.look().closes.empty());
  EXPECT_EQ(node.maintenance.runs(), 0U);
}

// ---- too few

TEST(Maintenance, DialsUpToTheMaximumTargetInSumWithThoseOnTheirWayAndSoManyAtOnce) {
  Node node;
  node.know(0, 200);
  EXPECT_EQ(node.look_and_dial().dials.size(), 32U);
  EXPECT_TRUE(node.look_and_dial().dials.empty());
  for (auto& one : node.view.points) {
    if (one.state != 0) node.succeed({Address{one.address}, one.port});
  }
  EXPECT_EQ(node.look_and_dial().dials.size(), 32U) << "32 of at least 36 are there";
  EXPECT_TRUE(node.look_and_dial().dials.empty()) << "and 64 of at most 68 with those on their way, 32 at once";
}

TEST(Maintenance, GoesOnToTheMinimumTargetAndEndsThere) {
  Node node;
  node.know(0, 200);
  node.connect(22);
  node.maintenance.request(1);
  const Work first = node.look_and_dial();
  ASSERT_EQ(first.dials.size(), 32U);
  for (std::size_t i = 0; i < 13; ++i) node.succeed(first.dials[i]);
  Work work = node.look_and_dial();
  EXPECT_TRUE(node.maintenance.running()) << "35 are above the threshold, but not yet the target";
  EXPECT_EQ(work.dials.size(), 13U) << "up to 32 at once; 35 + 19 + 13 are below 68";
  EXPECT_TRUE(work.done.empty());
  node.succeed(first.dials[13]);
  work = node.look();
  EXPECT_FALSE(node.maintenance.running());
  EXPECT_EQ(work.done, (std::vector<std::uint64_t>{1}));
  EXPECT_TRUE(work.propose_swap) << "then it checks again";
}

// tezt p2p: p2p-maintenance-init-expected_connections
TEST(Maintenance, P2pMaintenanceInitExpectedConnections_EndsBetweenTheTargets) {
  const ConnectionBounds bounds = settings().bounds;
  for (const std::uint32_t at_first : {0U, 1U, 9U, 22U, 85U, 99U, 100U}) {
    SCOPED_TRACE(at_first);
    Node node;
    node.know(0, 200);
    node.connect(at_first);
    for (int round = 0; round < 50 && node.maintenance.runs() == 0; ++round) {
      const Work work = node.look_and_dial();
      node.close(work);
      // Every other one answers.
      for (std::size_t i = 0; i < work.dials.size(); ++i) {
        if (i % 2 == 0) {
          node.succeed(work.dials[i]);
        } else {
          node.set(work.dials[i], shm::PointState::kDisconnected);
        }
      }
      ASSERT_LE(node.connections(), 100U);
      node.pass(5);
    }
    EXPECT_EQ(node.maintenance.runs(), 1U);
    EXPECT_GE(node.connections(), bounds.min_target);
    EXPECT_LE(node.connections(), bounds.max_target);
  }
}

TEST(Maintenance, CountsDialsThatThePoolDoesNotShowYet) {
  auto with = settings();
  with.bounds = bounds_for(1, 2, 3);
  with.minimum = 1;
  with.maximum = 3;
  Node node(with);
  node.know(0, 10);
  const Work first = node.look();
  ASSERT_EQ(first.dials.size(), 3U);
  const std::set<Point> busy(first.dials.begin(), first.dials.end());
  EXPECT_TRUE(node.maintenance.look(node.view, busy, node.now, node.now_ms()).dials.empty());
}

TEST(Maintenance, DialsAPointOnceInARoundAndATrustedOneWheneverItsBackOffEnds) {
  Node node;
  node.know(0, 2);
  node.row(point(1)).trusted = 1;
  EXPECT_EQ(node.look_and_dial().dials.size(), 2U);
  node.set(point(0), shm::PointState::kDisconnected);
  node.set(point(1), shm::PointState::kDisconnected);
  EXPECT_EQ(node.look().dials, (std::vector<Point>{point(1)}));
  node.pass(5);
  EXPECT_EQ(node.look().dials.size(), 2U) << "a new round";
}

TEST(Maintenance, NeverDialsAnOwnPoint) {
  auto with = settings();
  with.own_points = {point(0)};
  Node node(with);
  node.know(0, 1);
  EXPECT_TRUE(node.look().dials.empty());
}

TEST(Maintenance, AsksItsNeighboursWhenCandidatesAreTooFewAndWaits5SecondsBetween) {
  Node node;
  node.connect(3);
  Work work = node.look();
  EXPECT_TRUE(work.ask_for_peers);
  EXPECT_EQ(work.look_again_at, node.now + 5 * kSecond);
  node.pass(4);
  EXPECT_FALSE(node.look().ask_for_peers);
  node.connect(1);
  EXPECT_TRUE(node.look().ask_for_peers) << "one that was not asked yet";
  node.pass(5);
  EXPECT_TRUE(node.look().ask_for_peers);
}

TEST(Maintenance, AnnouncesOnTheLanAsLongAsNeighboursAreMissingAlsoWithoutAny) {
  auto with = settings();
  with.announces = true;
  Node node(with);
  EXPECT_TRUE(node.look().announce);
  const Work work = node.look();
  EXPECT_FALSE(work.announce);
  EXPECT_EQ(work.look_again_at, node.now + 5 * kSecond);
  node.pass(5);
  EXPECT_TRUE(node.look().announce);
  node.connect(40);
  node.pass(5);
  EXPECT_FALSE(node.look().announce) << "there are enough";
  with.exchange = false;
  EXPECT_FALSE(Node(with).look().announce);
  with.exchange = true;
  with.private_mode = true;
  EXPECT_FALSE(Node(with).look().announce);
  EXPECT_FALSE(Node().look().announce) << "it is off";
}

TEST(Maintenance, AsksNobodyWithEnoughCandidatesOrWithoutNeighbours) {
  Node node;
  EXPECT_FALSE(node.look().ask_for_peers);
  node.connect(1);
  node.know(0, 100);
  EXPECT_FALSE(node.look().ask_for_peers);
}

TEST(Maintenance, TellsWhoWaitsThatItGetsNoFurtherAndGoesOn) {
  Node node;
  node.maintenance.request(1);
  EXPECT_EQ(node.look().done, (std::vector<std::uint64_t>{1})) << "nobody to dial, nobody to ask";
  EXPECT_TRUE(node.maintenance.running());
  node.connect(1);
  node.maintenance.request(2);
  EXPECT_TRUE(node.look().done.empty()) << "its neighbour may know somebody";
  node.pass(5);
  const Work again = node.look();
  EXPECT_EQ(again.done, (std::vector<std::uint64_t>{2})) << "it told of nobody";
  EXPECT_TRUE(again.ask_for_peers) << "it is asked again all the same";
  node.pass(6);
  node.know(0, 1);
  EXPECT_EQ(node.look().dials.size(), 1U);
}

TEST(Maintenance, InPrivateModeDialsTheTrustedAloneAndAsksAndSwapsNothing) {
  auto with = settings();
  with.private_mode = true;
  with.hardened = true;
  Node node(with);
  node.know(0, 5);
  node.row(point(2)).trusted = 1;
  node.connect(1);
  Work work = node.look();
  EXPECT_EQ(work.dials, (std::vector<Point>{point(2)}));
  EXPECT_FALSE(work.ask_for_peers);
  node.connect(50);
  for (int i = 0; i < 20; ++i) {
    work = node.look();
    EXPECT_FALSE(work.propose_swap);
    EXPECT_FALSE(work.feeler);
    EXPECT_TRUE(work.dials.empty());
    node.pass(60);
  }
}

// ---- too many

TEST(Maintenance, ClosesDownToTheMaximumTargetAndNeverTwiceTheSame) {
  Node node;
  node.connect(90);
  const Work work = node.look();
  EXPECT_EQ(work.closes.size(), 22U);
  EXPECT_TRUE(node.look().closes.empty()) << "they are on their way out";
  EXPECT_TRUE(node.maintenance.running());
  node.close(work);
  EXPECT_TRUE(node.look().propose_swap);
  EXPECT_FALSE(node.maintenance.running());
}

TEST(Maintenance, NeverClosesATrustedPeer) {
  for (const bool hardened : {false, true}) {
    auto with = settings();
    with.hardened = hardened;
    Node node(with);
    node.connect(100);
    for (std::size_t i = 0; i < 90; ++i) node.view.slots[i].trusted = 1;
    const Work work = node.look();
    EXPECT_EQ(work.closes.size(), 10U);
    for (const auto& ref : work.closes) EXPECT_GE(ref.slot, 90U);
    node.close(work);
    EXPECT_TRUE(node.look().closes.empty());
    EXPECT_FALSE(node.maintenance.running()) << "nothing more can be done";
  }
}

TEST(Maintenance, LeavesExactlyTheThresholdsAlone) {
  for (const std::uint32_t count : {23U, 84U}) {
    Node node;
    node.know(0, 100);
    node.connect(count);
    const Work work = node.look();
    EXPECT_TRUE(work.dials.empty());
    EXPECT_TRUE(work.closes.empty());
  }
}

// ---- swaps

// tezt p2p: p2p-swap-disable
TEST(Maintenance, P2pSwapDisable_ProposesNoSwap) {
  auto with = settings();
  with.swap = false;
  Node node(with);
  node.connect(50);
  EXPECT_FALSE(node.look().propose_swap);
  EXPECT_EQ(node.maintenance.runs(), 1U);
}

// ---- hardened

TEST(HardenedMaintenance, KeepsAThirdOfTheMinimumTargetOutgoingHoweverManyComeIn) {
  Node node(hardened());
  node.know(0, 100);
  node.connect(80);
  Work work = node.look_and_dial();
  EXPECT_EQ(work.dials.size(), 12U);
  for (const auto& dial : work.dials) node.succeed(dial);
  work = node.look();
  EXPECT_EQ(work.closes.size(), 12U) << "for each an incoming one";
  for (const auto& ref : work.closes) EXPECT_LT(ref.slot, 80U) << "but none that it chose itself";
  node.close(work);
  node.pass(120);
  work = node.look();
  EXPECT_TRUE(work.dials.empty());
  EXPECT_TRUE(work.closes.empty());
  EXPECT_EQ(node.connections(), 80U);
}

TEST(HardenedMaintenance, DialsInARunWhatIsMissingToTheMinimumTargetAndClosesNothingForIt) {
  Node node(hardened());
  node.know(0, 100);
  node.connect(12, kOutgoing);
  node.connect(18);
  const Work work = node.look_and_dial();
  EXPECT_EQ(work.dials.size(), 6U) << "30 are inside, and 36 the target";
  EXPECT_FALSE(node.maintenance.running());
  for (const auto& dial : work.dials) node.succeed(dial);
  EXPECT_TRUE(node.look().closes.empty());
  node.pass(120);
  EXPECT_TRUE(node.look().dials.empty());
}

TEST(HardenedMaintenance, ClosesForItsOwnChoiceOnlyWhenItHasCome) {
  Node node(hardened());
  node.know(0, 1);
  node.connect(11, kOutgoing);
  node.connect(40);
  ASSERT_EQ(node.look_and_dial().dials.size(), 1U);
  EXPECT_TRUE(node.look().closes.empty());
  node.set(point(0), shm::PointState::kDisconnected);
  EXPECT_TRUE(node.look().closes.empty()) << "it failed";
  node.succeed(point(0));
  EXPECT_TRUE(node.look().closes.empty()) << "that is another connection, which somebody asked for";
}

TEST(HardenedMaintenance, NeverClosesATrustedOrAnOutgoingOneForItsOwnChoice) {
  Node node(hardened());
  node.know(0, 100);
  node.connect(40);
  for (auto& slot : node.view.slots) slot.trusted = 1;
  const Work work = node.look_and_dial();
  ASSERT_EQ(work.dials.size(), 12U);
  for (const auto& dial : work.dials) node.succeed(dial);
  EXPECT_TRUE(node.look().closes.empty());
}

TEST(HardenedMaintenance, DialsATrustedPointNotBeforeOthersWhenItCanDoWithout) {
  int trusted_first = 0;
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    Node node(hardened());
    node.random.seed(seed);
    node.know(0, 20);
    node.row(point(0)).trusted = 1;
    node.connect(11, kOutgoing);
    node.connect(40);
    const Work work = node.look();
    ASSERT_EQ(work.dials.size(), 1U);
    trusted_first += work.dials.front() == point(0) ? 1 : 0;
  }
  EXPECT_LT(trusted_first, 20);
}

TEST(HardenedMaintenance, AsksItsNeighboursInEachRunUntilItKnowsThreeTimesItsMaximum) {
  Node node(hardened());
  node.connect(12, kOutgoing);
  node.connect(38);
  EXPECT_TRUE(node.look().ask_for_peers);
  node.pass(119);
  EXPECT_FALSE(node.look().ask_for_peers);
  node.pass(1);
  EXPECT_TRUE(node.look().ask_for_peers);
  node.know(0, 299);
  node.pass(120);
  EXPECT_TRUE(node.look().ask_for_peers);
  node.know(299, 1);
  node.pass(120);
  EXPECT_FALSE(node.look().ask_for_peers);
  auto with = hardened();
  with.exchange = false;
  Node other(with);
  other.connect(50);
  EXPECT_FALSE(other.look().ask_for_peers);
}

TEST(HardenedMaintenance, NeverGoesAboveTheMaximumForAnOutgoingOne) {
  Node node(hardened());
  node.know(0, 100);
  node.connect(97);
  for (auto& slot : node.view.slots) slot.trusted = 1;
  EXPECT_EQ(node.look_and_dial().dials.size(), 3U);
  node.pass(120);
  EXPECT_TRUE(node.look().dials.empty());
}

TEST(HardenedMaintenance, TriesAPointThatWasNeverTriedNowAndThen) {
  Node node(hardened());
  node.know(0, 3);
  node.connect(12, kOutgoing);
  node.connect(30);
  node.row(point(0)).tried = 1;
  node.row(point(1)).trusted = 1;
  int feelers = 0;
  for (int second = 0; second < 3600; ++second) {
    const Work work = node.look();
    if (work.feeler) {
      ++feelers;
      EXPECT_EQ(*work.feeler, point(2));
    }
    node.pass(1);
  }
  EXPECT_GT(feelers, 15);
  EXPECT_LT(feelers, 45);
}

TEST(HardenedMaintenance, PutsAFeelerThatStaysInThePlaceOfAnIncomingOne) {
  Node node(hardened());
  node.know(0, 1000);
  node.connect(12, kOutgoing);
  node.connect(40);
  std::uint32_t stayed = 0;
  for (int second = 0; second < 8 * 3600; second += 10) {
    const Work work = node.look();
    for (const auto& dial : work.dials) node.succeed(dial);
    stayed += static_cast<std::uint32_t>(work.dials.size());
    node.close(node.look());
    EXPECT_EQ(node.connections(), 52U);
    node.pass(10);
  }
  EXPECT_GT(stayed, 10U);
}

TEST(HardenedMaintenance, SendsNoFeelerThatWouldHaveItAboveTheMaximumThreshold) {
  Node node(hardened());
  node.know(0, 3);
  node.connect(84);
  for (auto& slot : node.view.slots) slot.trusted = 1;
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(node.look().feeler);
    node.pass(10);
  }
}

TEST(HardenedMaintenance, SendsNoFeelerWithoutAFreeSlotOrOutOfRange) {
  for (const std::uint32_t connections : {5U, 100U}) {
    Node node(hardened());
    node.know(0, 3);
    node.connect(connections);
    if (connections == 100) {
      for (auto& slot : node.view.slots) slot.trusted = 1;
    }
    for (int i = 0; i < 100; ++i) {
      EXPECT_FALSE(node.look().feeler);
      node.pass(10);
    }
  }
}

}  // namespace
}  // namespace bulkhead::maintainer
