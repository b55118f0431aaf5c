#include <limits>
#include <set>

#include "tests/unit/services/controller/pool_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

/// A routable point: 8.`group`.x.y.
Point routable(std::uint32_t group, std::uint32_t number) {
  Point point{parse_address("8.0.0.1").value(), 9732};
  point.address.bytes[13] = static_cast<std::uint8_t>(group);
  point.address.bytes[14] = static_cast<std::uint8_t>(number / 256);
  point.address.bytes[15] = static_cast<std::uint8_t>(number % 256);
  return point;
}

std::vector<Point> many(std::uint32_t group, std::uint32_t count, std::uint32_t first = 0) {
  std::vector<Point> points;
  for (std::uint32_t i = 0; i < count; ++i) points.push_back(routable(group, first + i));
  return points;
}

PoolLimits big(bool hardened) {
  auto with = limits();
  with.slots = 200;
  with.maximum_connections = 150;
  with.known_points_maximum = with.known_peers_maximum = 400;
  with.known_points_target = with.known_peers_target = 300;
  with.point_rows = with.peer_rows = 464;
  with.hardened = hardened;
  return with;
}

SlotRef teller(Node& node, std::uint32_t group, std::uint32_t number = 60000) {
  return node.run(node.incoming(routable(group, number)), peer_id(group * 1000 + number % 1000 + 1'000'000));
}

std::size_t known_of(Node& node, AddressGroup group) {
  std::size_t count = 0;
  for (const auto& [point, known] : node.pool->points()) count += known.group == group ? 1U : 0U;
  return count;
}

/// Somebody comes, tells and goes.
void tell(Node& node, std::uint32_t group, std::uint32_t number, const std::vector<Point>& points) {
  const auto from = teller(node, group, number);
  node.pool->hear(from, points, at(node.now));
  node.end(from, Reason::kClosedByPeer);
}

TEST(Hearsay, OfPointsThatCannotBeDialledIsDropped) {
  Node node(big(true));
  const auto from = teller(node, 1);
  const Point own = routable(3, 3);
  node.pool->add_own_point(own);
  EXPECT_EQ(node.pool->hear(from,
                            {point("127.0.0.1:9732"),
                             point("10.0.0.1:9732"),
                             point("[fe80::1]:9732"),
                             {routable(2, 2).address, 0},
                             own,
                             routable(2, 1)},
                            at(node.now)),
            1U);
  EXPECT_TRUE(node.knows(routable(2, 1)));
}

TEST(Hearsay, OfPrivatePointsIsTakenWhereTheyAreAllowed) {
  auto with = big(true);
  with.allow_private_points = true;
  Node node(with);
  EXPECT_EQ(node.pool->hear(teller(node, 1), {point("127.0.0.2:9732"), point("10.0.0.1:9732")}, at(node.now)), 2U);
}

TEST(Hearsay, OfOneConnectionIsBoundedByTime) {
  for (const bool hardened : {false, true}) {
    Node node(big(hardened));
    const auto from = teller(node, 1);
    EXPECT_EQ(node.pool->hear(from, many(2, 90), at(node.now)), 90U);
    EXPECT_EQ(node.pool->hear(from, many(3, 90), at(node.now)), hardened ? 9U : 10U) << "100 at once";
    EXPECT_EQ(node.pool->hear(from, many(2, 90), at(node.now)), 0U) << "what is known costs nothing";
    node.now += 10'000;
    EXPECT_EQ(node.pool->hear(from, many(4, 90), at(node.now)), hardened ? 0U : 2U) << "one in 5 s";
  }
}

Point on_lan(std::uint32_t number) {
  Point where{parse_address("10.0.0.0").value(), 9732};
  where.address.bytes[14] = static_cast<std::uint8_t>(number / 256);
  where.address.bytes[15] = static_cast<std::uint8_t>(number % 256);
  return where;
}

TEST(LanHearsay, IsOfPrivatePointsAndTrustsNobody) {
  Node node(big(true));
  const Point own = on_lan(9);
  node.pool->add_own_point(own);
  EXPECT_TRUE(node.pool->hear_on_lan(on_lan(1), at(node.now)));
  EXPECT_FALSE(node.pool->hear_on_lan(on_lan(1), at(node.now))) << "known";
  EXPECT_FALSE(node.pool->hear_on_lan(own, at(node.now)));
  EXPECT_FALSE(node.pool->hear_on_lan({on_lan(2).address, 0}, at(node.now)));
  ASSERT_TRUE(node.knows(on_lan(1)));
  EXPECT_FALSE(node.pool->find_point(on_lan(1))->trusted);
  EXPECT_FALSE(node.pool->find_point(on_lan(1))->known_public) << "nobody else is told before it was met";
  EXPECT_EQ(node.pool->points().size(), 1U);
}

TEST(LanHearsay, IsBoundedByTime) {
  Node node(big(false));
  std::uint32_t heard = 0;
  for (std::uint32_t i = 0; i < 200; ++i) heard += node.pool->hear_on_lan(on_lan(i), at(node.now)) ? 1U : 0U;
  EXPECT_EQ(heard, 100U) << "at once";
  node.now += 10'000;
  heard = 0;
  for (std::uint32_t i = 200; i < 300; ++i) heard += node.pool->hear_on_lan(on_lan(i), at(node.now)) ? 1U : 0U;
  EXPECT_EQ(heard, 2U) << "one in 5 s";
}

TEST(LanHearsay, HardenedGetsNoMoreThanItsShareHoweverManyAnnounce) {
  Node node(big(true));
  for (std::uint32_t i = 0; i < 1000; ++i) {
    node.pool->hear_on_lan(on_lan(i), at(node.now));
    node.now += 5'000;
  }
  EXPECT_EQ(node.pool->points().size(), 100U);
  EXPECT_EQ(node.pool->hear(teller(node, 1), many(2, 50), at(node.now)), 50U) << "others may still tell";
}

TEST(Hearsay, HardenedGetsNoMoreThanItsShareForOneGroupOfTellersOrOfPoints) {
  Node node(big(true));
  for (std::uint32_t i = 0; i < 10; ++i)
    node.pool->hear(node.run(node.incoming(routable(1, 1000 + i)), peer_id(i)), many(10 + i, 40), at(node.now));
  std::size_t told = 0;
  for (const auto& [point, known] : node.pool->points())
    told += known.source == group_of(routable(1, 0).address) ? 1U : 0U;
  EXPECT_EQ(told, 100U) << "ten connections of one group are one teller";
  Node other(big(true));
  for (std::uint32_t i = 0; i < 10; ++i) tell(other, 20 + i, 50000 + i, many(1, 40, i * 40));
  EXPECT_EQ(known_of(other, group_of(routable(1, 0).address)), 100U);
}

TEST(Hearsay, HardenedNeverDisplacesPointsThatWorked) {
  Node node(big(true));
  std::set<Point> worked;
  for (std::uint32_t i = 0; i < 40; ++i) {
    const Point where = routable(100 + i, 1);
    node.end(node.run(node.outgoing(where), peer_id(i)), Reason::kClosedByPeer);
    worked.insert(where);
  }
  for (std::uint32_t i = 0; i < 90; ++i) {
    tell(node, i, 50000 + i, many(i, 50, 100));
    node.now += 1000;
  }
  for (const auto& where : worked) EXPECT_TRUE(node.knows(where)) << to_text(where);
  EXPECT_LE(node.pool->points().size(), 400U);
}

TEST(Hearsay, HardenedLetsAFloodDisplaceItself) {
  Node node(big(true));
  // Each of 120 tells of itself and of one other.
  for (std::uint32_t i = 0; i < 120; ++i) tell(node, 100 + i, 50000 + i, {routable(100 + i, i)});
  std::vector<Point> honest;
  for (const auto& [point, known] : node.pool->points()) honest.push_back(point);
  EXPECT_EQ(honest.size(), 240U);
  // Three groups of tellers with all that they may tell, again and again.
  for (std::uint32_t i = 0; i < 40; ++i) {
    tell(node, 1 + i % 3, 2000 + i, many(10 + i, 100));
    node.now += 60'000;
  }
  std::size_t left = 0;
  for (const auto& point : honest) left += node.knows(point) ? 1U : 0U;
  EXPECT_EQ(left, honest.size());
}

TEST(Tried, IsAPointOnceADialOfOursRan) {
  Node node(big(true));
  const Point where = routable(1, 1);
  node.run(node.incoming(where), peer_id(1));
  EXPECT_FALSE(node.pool->find_point(where)->tried) << "it came by itself";
  const Point dialled = routable(2, 1);
  node.run(node.outgoing(dialled), peer_id(2));
  EXPECT_TRUE(node.pool->find_point(dialled)->tried);
  node.restart();
  EXPECT_TRUE(node.pool->find_point(dialled)->tried) << "a successor knows it too";
}

TEST(Tried, HardenedAreHalfOfThePointsAtMostAndOfOneGroupASixteenthOfAll) {
  auto with = big(true);
  with.known_points_maximum = 32;
  with.known_points_target = 30;
  Node node(with);
  const auto tried = [&] {
    std::size_t count = 0;
    for (const auto& [point, known] : node.pool->points()) count += known.tried ? 1U : 0U;
    return count;
  };
  for (std::uint32_t i = 0; i < 5; ++i) node.run(node.outgoing(routable(1, i)), peer_id(i));
  EXPECT_EQ(tried(), 2U);
  for (std::uint32_t i = 0; i < 20; ++i)
    node.end(node.run(node.outgoing(routable(10 + i, 1)), peer_id(100 + i)), Reason::kKicked);
  EXPECT_EQ(tried(), 16U);
  // One that fails now gives its place to one that works.
  const Point failing = routable(10, 1);
  node.now += 1000;
  node.pool->request(failing, at(node.now));
  node.pool->dial_failed(failing, at(node.now));
  const Point fresh = routable(90, 1);
  node.run(node.outgoing(fresh), peer_id(900));
  EXPECT_TRUE(node.pool->find_point(fresh)->tried);
  EXPECT_FALSE(node.pool->find_point(failing)->tried);
  EXPECT_EQ(tried(), 16U);
}

TEST(Anchors, AreTheOldestOutgoingOnesOfDifferentGroups) {
  Node node(big(true));
  node.run(node.incoming(routable(9, 1)), peer_id(99));
  for (std::uint32_t i = 0; i < 8; ++i) {
    node.now += 10;
    node.run(node.outgoing(routable(i / 2, i)), peer_id(i));
  }
  EXPECT_EQ(node.pool->anchors(), (std::vector<Point>{routable(0, 0), routable(1, 2), routable(2, 4)}));
}

TEST(Anchors, AreKnownAgainUntilTheyRun) {
  Node node(big(true));
  const Point where = routable(1, 1);
  node.pool->set_anchors({where, {where.address, 0}}, at(node.now));
  ASSERT_TRUE(node.knows(where));
  EXPECT_TRUE(node.pool->find_point(where)->anchor);
  EXPECT_TRUE(node.pool->find_point(where)->tried);
  node.pool->request(where, at(node.now));
  node.pool->dial_failed(where, at(node.now));
  EXPECT_TRUE(node.pool->find_point(where)->anchor) << "it may have been our own line";
  node.run(node.outgoing(where), peer_id(1));
  EXPECT_FALSE(node.pool->find_point(where)->anchor);
}

TEST(Score, IsKeptOverADisconnectionAndDecays) {
  auto with = big(true);
  with.score_half_life_s = 100;
  Node node(with);
  const auto ref = teller(node, 1, 1);
  const PeerId peer = peer_id(1'001'001);
  EXPECT_TRUE(node.pool->set_score(peer, 5, at(node.now)));
  EXPECT_EQ(node.table->slot(ref.slot).read()->score_milli, 5000);
  node.end(ref, Reason::kClosedByPeer);
  EXPECT_DOUBLE_EQ(node.pool->score(peer, at(node.now)), 5);
  node.now += 100'000;
  EXPECT_DOUBLE_EQ(node.pool->score(peer, at(node.now)), 3);
  node.restart();
  EXPECT_DOUBLE_EQ(node.pool->score(peer, at(node.now)), 3) << "a successor knows it too";
}

TEST(Score, OfNobodyKnownOrThatIsNoNumberIsRefused) {
  Node node(big(true));
  teller(node, 1, 1);
  EXPECT_FALSE(node.pool->set_score(peer_id(77), 5, at(node.now)));
  EXPECT_FALSE(node.pool->set_score(peer_id(1'001'001), std::numeric_limits<double>::quiet_NaN(), at(node.now)));
  EXPECT_FALSE(node.pool->set_score(peer_id(1'001'001), std::numeric_limits<double>::infinity(), at(node.now)));
  EXPECT_TRUE(node.pool->set_score(peer_id(1'001'001), 1e300, at(node.now)));
  EXPECT_LE(node.pool->score(peer_id(1'001'001), at(node.now)), 1e9);
}

TEST(Score, DecidesWhichPeersAreForgottenFirst) {
  auto with = limits();
  with.known_peers_maximum = 4;
  with.known_peers_target = 3;
  Node node(with);
  for (std::uint32_t i = 0; i < 4; ++i) {
    node.now += 10;
    node.end(node.run(node.incoming(numbered(i)), peer_id(i)), Reason::kClosedByPeer);
  }
  node.pool->set_score(peer_id(3), 2, at(node.now));
  node.pool->set_score(peer_id(0), -2, at(node.now));
  node.run(node.incoming(numbered(9)), peer_id(9));
  EXPECT_FALSE(node.pool->peers().contains(peer_id(0)));
  EXPECT_TRUE(node.pool->peers().contains(peer_id(3)));
}

// The off-by-one of Octez, issue 3175.
TEST(KnownPointsAndPeers, NeverExceedTheMaximumAlsoWhereItIsTheTarget) {
  for (const bool hardened : {false, true}) {
    auto with = limits();
    with.hardened = hardened;
    with.known_points_maximum = with.known_points_target = 5;
    with.known_peers_maximum = with.known_peers_target = 5;
    Node node(with);
    for (std::uint32_t i = 0; i < 30; ++i) {
      node.end(node.run(node.incoming(routable(i, 1)), peer_id(i)), Reason::kClosedByPeer);
      EXPECT_LE(node.pool->points().size(), 5U);
      EXPECT_LE(node.pool->peers().size(), 5U);
      EXPECT_TRUE(node.knows(routable(i, 1))) << "what is new finds a place";
      EXPECT_TRUE(node.pool->peers().contains(peer_id(i)));
    }
  }
}

// tezt p2p: check preservation of trusted known points and peers
TEST(KnownPoints, PreservationOfTrustedKnownPoints) {
  for (const bool hardened : {false, true}) {
    auto with = limits();
    with.hardened = hardened;
    Node node(with);
    for (std::uint32_t i = 0; i < 10; ++i) node.pool->configure(routable(i, 1), std::nullopt, at(node.now));
    for (std::uint32_t i = 0; i < 200; ++i) node.pool->register_point(routable(i, 2), false, at(node.now));
    for (std::uint32_t i = 0; i < 10; ++i) EXPECT_TRUE(node.knows(routable(i, 1)));
    EXPECT_LE(node.pool->points().size(), 40U);
  }
}

}  // namespace
}  // namespace bulkhead::controller
