#include <algorithm>
#include <set>

#include "services/controller/pool.h"
#include "tests/unit/services/controller/pool_support.h"

/// The points and peers that the pool knows.
namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

const Point kA = point("192.0.2.1:9732");
const Point kB = point("192.0.2.2:9732");

// ---- back-off

TEST(BackOff, GrowsByTheFactorUpToTheCapAndIsResetByAConnectionThatRan) {
  auto with = limits();
  with.reconnection = {1.5, 2, 60, 10};
  Node node(with);
  const auto fail = [&] {
    EXPECT_EQ(node.pool->request(kA, at(node.now)), Reason::kNone);
    node.pool->dial_failed(kA, at(node.now));
    return node.pool->find_point(kA)->next_attempt.ms - static_cast<std::int64_t>(node.now);
  };
  EXPECT_EQ(fail(), 2000);
  EXPECT_EQ(fail(), 3000);
  EXPECT_EQ(fail(), 4500);
  EXPECT_EQ(fail(), 6750);
  EXPECT_EQ(fail(), 10000) << "10125 without the cap";
  EXPECT_EQ(fail(), 10000);
  node.end(node.run(node.outgoing(kA), peer_id(1)), Reason::kClosedByPeer);
  EXPECT_EQ(node.pool->find_point(kA)->next_attempt.ms - static_cast<std::int64_t>(node.now), 60000);
  EXPECT_EQ(fail(), 2000);
  EXPECT_EQ(fail(), 3000);
}

TEST(BackOff, HasBothClocksSayTheSame) {
  Node node;
  node.pool->request(kA, {5 * kSecond, 777});
  node.pool->dial_failed(kA, {5 * kSecond, 777});
  EXPECT_EQ(node.pool->find_point(kA)->next_attempt.ns, 6 * kSecond);
  EXPECT_EQ(node.pool->find_point(kA)->next_attempt.ms, 1777);
}

TEST(BackOff, KnowsAFailureARejectionAndADisconnectionApart) {
  Node node;
  node.pool->request(kA, at(10));
  node.pool->dial_failed(kA, at(10));
  EXPECT_EQ(node.pool->find_point(kA)->last_failed_ms, 10);
  node.now = 20;
  const auto rejected = node.outgoing(kA);
  node.decide(rejected, peer_id(1));
  node.end(rejected, Reason::kRejectedByPeer);
  EXPECT_EQ(node.pool->find_point(kA)->last_rejected_ms, 20);
  EXPECT_EQ(node.pool->peers().at(peer_id(1)).last_rejected_ms, 20);
  node.now = 30;
  const auto ran = node.run(node.outgoing(kA), peer_id(1));
  EXPECT_EQ(node.pool->find_point(kA)->last_established_ms, 30);
  node.now = 40;
  node.end(ran, Reason::kClosedByPeer);
  EXPECT_EQ(node.pool->find_point(kA)->last_disconnection_ms, 40);
  EXPECT_EQ(node.pool->find_point(kA)->last_failed_ms, 10);
  EXPECT_EQ(node.pool->find_point(kA)->last_seen_ms(), 40);
  EXPECT_EQ(node.pool->peers().at(peer_id(1)).last_disconnection_ms, 40);
}

TEST(BackOff, IsNotForAPointThatAnIncomingHandshakeOnlyClaimed) {
  Node node;
  node.pool->register_point(kA, false, at(node.now));
  node.end(node.incoming(kA), Reason::kDecipherError);
  EXPECT_EQ(node.pool->find_point(kA)->next_attempt.ns, 0U);
  EXPECT_EQ(node.pool->find_point(kA)->last_miss_ms(), 0);
  ASSERT_EQ(node.pool->request(kA, at(node.now)), Reason::kNone);
  node.end(node.incoming(kA), Reason::kDecipherError);
  EXPECT_EQ(node.state(kA), PointState::kRequested) << "our dial of it goes on";
}

// ---- requests, and what is collected

TEST(Request, SaysWhyNotInTheOrderOfTheProtocol) {
  auto with = limits();
  with.maximum_connections = 1;
  Node node(with);
  node.pool->add_own_point(kB);
  node.run(node.incoming(kA), peer_id(1));
  EXPECT_EQ(node.pool->request(kB, at(1)), Reason::kMyself);
  EXPECT_EQ(node.pool->request(kA, at(1)), Reason::kTooManyConnections);
  EXPECT_EQ(node.pool->request({kA.address, 0}, at(1)), Reason::kTooManyConnections);
  Node roomy;
  roomy.run(roomy.incoming(kA), peer_id(1));
  EXPECT_EQ(roomy.pool->request(kA, at(1)), Reason::kAlreadyConnected);
  EXPECT_EQ(roomy.pool->request({kA.address, 0}, at(1)), Reason::kNoFreeSlot);
}

TEST(KnownPoints, AreCollectedToTheTargetLongestMissedFirst) {
  Node node;
  for (std::uint32_t i = 0; i < 40; ++i) {
    ASSERT_NE(node.pool->register_point(numbered(i), false, at(1)), nullptr);
    if (i < 20) {
      node.pool->request(numbered(i), at(1));
      node.pool->dial_failed(numbered(i), at(100 - i));
    }
  }
  ASSERT_NE(node.pool->register_point(numbered(100), false, at(1000)), nullptr);
  EXPECT_EQ(node.pool->points().size(), 31U) << "down to the target, and the new one";
  // Missed longest ago: 19 first, down to 10.
  for (std::uint32_t i = 0; i < 40; ++i) EXPECT_EQ(node.knows(numbered(i)), i < 10 || i >= 20) << i;
  expect_consistent(node);
}

TEST(KnownPoints, CountAsMissedNowWhenTheyNeverWere) {
  Node node;
  for (std::uint32_t i = 0; i < 39; ++i) node.pool->register_point(numbered(i), false, at(1));
  node.pool->request(numbered(38), at(500));
  node.pool->dial_failed(numbered(38), at(500));
  node.pool->register_point(numbered(39), false, at(1));
  node.pool->register_point(numbered(40), false, at(400));
  EXPECT_TRUE(node.knows(numbered(38))) << "missed at 500, the others count as missed at 400";
}

TEST(KnownPoints, AreNotCollectedWhileTrustedOrInUse) {
  Node node;
  for (std::uint32_t i = 0; i < 20; ++i) node.pool->configure(numbered(i), std::nullopt, at(1));
  node.pool->request(numbered(50), at(1));
  const auto running = node.run(node.incoming(numbered(51)), peer_id(1));
  for (std::uint32_t i = 100; i < 400; ++i) node.pool->register_point(numbered(i), false, at(i));
  for (std::uint32_t i = 0; i < 20; ++i) EXPECT_TRUE(node.knows(numbered(i)));
  EXPECT_EQ(node.state(numbered(50)), PointState::kRequested);
  EXPECT_EQ(node.state(numbered(51)), PointState::kRunning);
  EXPECT_LE(node.pool->points().size(), node.limits.known_points_maximum);
  EXPECT_EQ(node.pool->running(peer_id(1)), running);
}

TEST(KnownPoints, OfOthersAreTurnedAwayWhenNothingCanBeCollectedButTrustedOnesAreNot) {
  Node node;
  for (std::uint32_t i = 0; i < 40; ++i) node.pool->configure(numbered(i), std::nullopt, at(1));
  EXPECT_EQ(node.pool->register_point(numbered(100), false, at(1)), nullptr);
  EXPECT_NE(node.pool->register_point(numbered(100), true, at(1)), nullptr);
  for (std::uint32_t i = 200; i < 300; ++i) node.pool->configure(numbered(i), std::nullopt, at(1));
  EXPECT_EQ(node.pool->points().size(), node.limits.point_rows) << "the rows are the last limit";
  expect_consistent(node);
}

TEST(KnownPoints, HaveAPort) {
  Node node;
  EXPECT_EQ(node.pool->register_point({kA.address, 0}, true, at(1)), nullptr);
  EXPECT_TRUE(node.pool->points().empty());
}

TEST(KnownPoints, BecomeTrustedButDoNotLoseItThroughHearsay) {
  Node node;
  node.pool->register_point(kA, false, at(1));
  node.pool->configure(kA, peer_id(1), at(1));
  node.pool->register_point(kA, false, at(1));
  EXPECT_TRUE(node.pool->find_point(kA)->trusted);
  EXPECT_EQ(node.pool->find_point(kA)->expected_peer_id, peer_id(1));
}

TEST(KnownPoints, OfARunningConnectionShowTheirTrustInTheSlotsRow) {
  Node node;
  const auto ref = node.run(node.incoming(kA), peer_id(1));
  node.pool->configure(kA, std::nullopt, at(1));
  EXPECT_EQ(node.table->slot(ref.slot).read()->trusted, 1);
}

TEST(KnownPeers, AreCollectedYoungestFirstSoThatAFloodDisplacesItself) {
  Node node;
  for (std::uint32_t i = 0; i < 60; ++i) {
    node.now = 1000 + i;
    const auto ref = node.claim(kIncoming, kA);
    node.pool->announced(ref, announcement(0));
    node.decide(ref, peer_id(i));
    node.end(ref, Reason::kClosedInHandshake);
    EXPECT_LE(node.pool->peers().size(), 41U);
  }
  for (std::uint32_t i = 0; i < 30; ++i) EXPECT_TRUE(node.pool->peers().contains(peer_id(i))) << i;
  expect_consistent(node);
}

TEST(KnownPeers, AreNotCollectedWhileConnected) {
  Node node;
  const auto ref = node.claim(kIncoming, kA);
  node.pool->announced(ref, announcement(0));
  node.now = 5000;
  node.run(ref, peer_id(1000));
  for (std::uint32_t i = 0; i < 60; ++i) {
    node.now = 1000 + i;
    const auto other = node.claim(kIncoming, kA);
    node.pool->announced(other, announcement(0));
    node.decide(other, peer_id(i));
    node.end(other, Reason::kClosedInHandshake);
  }
  EXPECT_TRUE(node.pool->peers().contains(peer_id(1000)));
}

// ---- our own, and those of other networks

TEST(OwnPoints, AreTheListeningOnesForEverAndTheLatestSevenThatLedBack) {
  Node node;
  node.pool->add_own_point(kA);
  for (std::uint32_t i = 0; i < 8; ++i) {
    const auto ref = node.outgoing(numbered(i));
    node.pool->met_myself(ref);
    node.end(ref, Reason::kMyself);
  }
  EXPECT_TRUE(node.pool->is_own(kA));
  EXPECT_FALSE(node.pool->is_own(numbered(0)));
  for (std::uint32_t i = 1; i < 8; ++i) EXPECT_TRUE(node.pool->is_own(numbered(i)));
  EXPECT_NE(node.pool->register_point(numbered(0), false, at(1)), nullptr);
  EXPECT_EQ(node.pool->register_point(kA, true, at(1)), nullptr);
}

TEST(OwnPoints, AreFreshAgainWhenMetAgain) {
  Node node;
  std::vector<SlotRef> refs;
  for (std::uint32_t i = 0; i < 8; ++i) refs.push_back(node.incoming(numbered(i)));
  for (const std::uint32_t i : {0U, 1U, 2U, 3U, 4U, 5U, 6U, 0U, 7U}) node.pool->met_myself(refs[i]);
  EXPECT_TRUE(node.pool->is_own(numbered(0)));
  EXPECT_FALSE(node.pool->is_own(numbered(1)));
  for (int i = 0; i < 10; ++i) node.pool->met_myself(refs[0]);
  EXPECT_TRUE(node.pool->is_own(numbered(2))) << "one point takes one place, however often it is met";
}

TEST(OwnPoints, AreNotTheTcpPortOfAnIncomingConnection) {
  Node node;
  const auto ref = node.claim(kIncoming, {kA.address, 51234});
  node.pool->met_myself(ref);
  EXPECT_FALSE(node.pool->is_own({kA.address, 51234})) << "nothing was announced, so nothing is known";
  node.pool->announced(ref, announcement(kA.port));
  node.pool->met_myself(ref);
  EXPECT_TRUE(node.pool->is_own(kA));
}

TEST(OwnPoints, AreNoPointOfAConnectionEither) {
  Node node;
  node.pool->add_own_point(kA);
  const auto ref = node.incoming(kA);
  EXPECT_EQ(node.decide(ref, peer_id(1)).kind, VerdictKind::kAccept);
  EXPECT_FALSE(node.knows(kA));
  EXPECT_EQ(node.pool->find(ref)->point, std::nullopt);
  node.pool->established(ref, at(1));
  node.end(ref, Reason::kClosedByPeer);
  expect_consistent(node);
}

TEST(OtherNetworks, HaveTheirPointForgottenInBothDirectionsTheAdvertisedOneWhenIncoming) {
  for (const bool dialled : {false, true}) {
    for (const Reason reason :
         {Reason::kUnknownChainName, Reason::kDeprecatedDistributedDbVersion, Reason::kDeprecatedP2pVersion}) {
      Node node;
      node.pool->register_point({kA.address, 51234}, false, at(1));
      const auto ref = dialled ? node.outgoing(kA) : node.incoming(kA, 51234);
      auto said = announcement(kA.port);
      said.chain_name = "OTHER";
      node.pool->announced(ref, said);
      node.decide(ref, peer_id(1));
      node.end(ref, reason);
      EXPECT_FALSE(node.knows(kA));
      EXPECT_TRUE(node.knows({kA.address, 51234})) << "not the port that it came from";
      expect_consistent(node);
    }
  }
}

TEST(OtherNetworks, DoNotMakeATrustedPointForgotten) {
  for (const bool dialled : {false, true}) {
    Node node;
    node.pool->configure(kA, std::nullopt, at(1));
    node.end(dialled ? node.outgoing(kA) : node.incoming(kA), Reason::kUnknownChainName);
    EXPECT_TRUE(node.knows(kA));
    EXPECT_EQ(node.state(kA), PointState::kDisconnected);
  }
}

TEST(OtherNetworks, DoNotMakeAPointInUseForgotten) {
  Node node;
  node.run(node.incoming(kA), peer_id(1));
  const auto other = node.incoming(kA, 40001);
  node.end(other, Reason::kUnknownChainName);
  EXPECT_EQ(node.state(kA), PointState::kRunning);
  ASSERT_EQ(node.pool->request(kB, at(1)), Reason::kNone);
  node.end(node.incoming(kB), Reason::kUnknownChainName);
  EXPECT_EQ(node.state(kB), PointState::kRequested);
}

// ---- points that are told

TEST(Advertised, AreOnlyPointsOfWhichSomebodySaidThatTheyArePublic) {
  Node node;
  node.pool->configure(numbered(1), std::nullopt, at(1));
  node.run(node.incoming(numbered(2)), peer_id(2), true);
  node.run(node.incoming(numbered(3)), peer_id(3), false);
  EXPECT_EQ(node.pool->list_known_points(), (std::vector<Point>{numbered(3)}));
}

PoolLimits spacious() {
  auto with = limits();
  with.slots = 200;
  with.point_rows = with.peer_rows = 300;
  with.maximum_connections = 150;
  with.known_points_maximum = with.known_peers_maximum = 300;
  return with;
}

TEST(Advertised, AreConnectedOnesSeenLongestAgoFirstAndThenTheOthersSeenLastFirst) {
  Node node(spacious());
  std::vector<SlotRef> refs;
  for (std::uint32_t i = 0; i < 6; ++i) {
    node.now = 1000 + i;
    refs.push_back(node.run(node.incoming(numbered(i)), peer_id(i)));
  }
  for (std::uint32_t i = 0; i < 3; ++i) {
    node.now = 2000 + i;
    node.end(refs[i], Reason::kClosedByPeer);
  }
  EXPECT_EQ(node.pool->list_known_points(),
            (std::vector<Point>{numbered(3), numbered(4), numbered(5), numbered(2), numbered(1), numbered(0)}));
}

TEST(Advertised, AreThirtyOfTheBestAndTwentyOfTheRestByChance) {
  Node node(spacious());
  for (std::uint32_t i = 0; i < 120; ++i) {
    node.now = 1000 + i;
    node.run(node.incoming(numbered(i)), peer_id(i));
  }
  std::set<std::vector<Point>> lists;
  for (int round = 0; round < 5; ++round) {
    auto list = node.pool->list_known_points();
    ASSERT_EQ(list.size(), 50U);
    for (std::uint32_t i = 0; i < 30; ++i) EXPECT_EQ(list[i], numbered(i));
    EXPECT_EQ(std::set<Point>(list.begin(), list.end()).size(), 50U) << "each once";
    lists.insert(list);
  }
  EXPECT_EQ(lists.size(), 5U);
}

TEST(Advertised, AreAllWhenThereAreFiftyOrFewer) {
  Node node(spacious());
  for (std::uint32_t i = 0; i < 50; ++i) node.run(node.incoming(numbered(i)), peer_id(i));
  EXPECT_EQ(node.pool->list_known_points().size(), 50U);
}

}  // namespace
}  // namespace bulkhead::controller
