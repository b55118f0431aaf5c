#include "tests/unit/services/controller/pool_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

TEST(Standing, ABannedPeerHearsNothingEvenOfAnotherNetwork) {
  Node node;
  node.lists.peers[peer_id(1)] = Standing::kBanned;
  const auto ref = node.claim(kIncoming, numbered(1));
  node.pool->announced(ref, {9732, "ANOTHER", 2, 1});
  const auto decision = node.decide(ref, peer_id(1));
  EXPECT_EQ(decision.kind, VerdictKind::kSilence);
  EXPECT_EQ(decision.reason, Reason::kPeerBanned);
  EXPECT_FALSE(node.knows(numbered(1)));
}

TEST(Standing, AGreylistedPeerHearsNothing) {
  Node node;
  node.lists.peers[peer_id(1)] = Standing::kGreylisted;
  const auto decision = node.decide(node.incoming(numbered(1)), peer_id(1));
  EXPECT_EQ(decision.kind, VerdictKind::kSilence);
  EXPECT_EQ(decision.reason, Reason::kPeerGreylisted);
}

TEST(Standing, AnAddressThatWasBannedDuringItsHandshakeHearsNothing) {
  Node node;
  const auto ref = node.incoming(numbered(1));
  node.lists.addresses[numbered(1).address] = Standing::kBanned;
  const auto decision = node.decide(ref, peer_id(1));
  EXPECT_EQ(decision.kind, VerdictKind::kSilence);
  EXPECT_EQ(decision.reason, Reason::kBanned);
}

TEST(Standing, KeepsADialFromBannedAndGreylistedPoints) {
  Node node;
  node.lists.addresses[numbered(1).address] = Standing::kBanned;
  node.lists.addresses[numbered(2).address] = Standing::kGreylisted;
  EXPECT_EQ(node.pool->request(numbered(1), at(node.now)), Reason::kPointBanned);
  EXPECT_EQ(node.pool->request(numbered(2), at(node.now)), Reason::kPointGreylisted);
}

// Trap 18: the point must not stay requested for ever.
TEST(Trap18, ADialThatEndsAtABanGoesBackToDisconnected) {
  Node node;
  const auto ref = node.outgoing(numbered(1));
  node.lists.peers[peer_id(1)] = Standing::kBanned;
  EXPECT_EQ(node.decide(ref, peer_id(1)).kind, VerdictKind::kSilence);
  node.end(ref, Reason::kPeerBanned);
  EXPECT_EQ(node.state(numbered(1)), PointState::kDisconnected);
  expect_consistent(node);
}

TEST(Standing, AdvertisesNoBannedAndNoGreylistedPoint) {
  Node node;
  for (const std::uint32_t number : {1U, 2U, 3U}) node.run(node.incoming(numbered(number)), peer_id(number));
  node.lists.addresses[numbered(1).address] = Standing::kBanned;
  node.lists.addresses[numbered(2).address] = Standing::kGreylisted;
  EXPECT_EQ(node.pool->list_known_points(), std::vector<Point>{numbered(3)});
}

TEST(Standing, TrustInAnAddressOrAPeerOpensAPrivateNode) {
  auto with = limits();
  with.private_mode = true;
  Node node(with);
  EXPECT_EQ(node.decide(node.incoming(numbered(1)), peer_id(1)).reason, Reason::kPrivateMode);
  node.lists.addresses[numbered(2).address] = Standing::kTrusted;
  EXPECT_EQ(node.decide(node.incoming(numbered(2)), peer_id(2)).kind, VerdictKind::kAccept);
  node.lists.peers[peer_id(3)] = Standing::kTrusted;
  EXPECT_EQ(node.decide(node.incoming(numbered(3)), peer_id(3)).kind, VerdictKind::kAccept);
  EXPECT_EQ(node.pool->request(numbered(4), at(node.now)), Reason::kPrivateMode);
  EXPECT_EQ(node.pool->request(numbered(2, 9733), at(node.now)), Reason::kNone);
}

TEST(Standing, ShowsTrustInTheTableWhenTheListsChange) {
  Node node;
  const auto ref = node.run(node.incoming(numbered(1)), peer_id(1));
  EXPECT_EQ(node.table->slot(ref.slot).read()->trusted, 0);
  node.lists.peers[peer_id(1)] = Standing::kTrusted;
  node.pool->standings_changed();
  EXPECT_EQ(node.table->slot(ref.slot).read()->trusted, 1);
  EXPECT_EQ(node.table->peer(node.pool->peers().at(peer_id(1)).row).read()->trusted, 1);
}

TEST(TrustedNewcomer, MakesRoomAtAFullNodeWithoutExceedingTheMaximum) {
  Node node;
  std::vector<SlotRef> running;
  for (std::uint32_t i = 1; i <= 8; ++i) running.push_back(node.run(node.incoming(numbered(i)), peer_id(i)));
  node.lists.peers[peer_id(1)] = Standing::kTrusted;
  node.lists.peers[peer_id(50)] = Standing::kTrusted;
  const auto ref = node.incoming(numbered(50));
  const auto decision = node.decide(ref, peer_id(50));
  ASSERT_EQ(decision.kind, VerdictKind::kAccept);
  ASSERT_TRUE(decision.makes_room);
  EXPECT_NE(*decision.makes_room, running[0]) << "a trusted one was pushed out";
  EXPECT_EQ(node.slot_state(*decision.makes_room), SlotState::kEnding);
  EXPECT_EQ(node.pool->active(), 8U);
}

TEST(TrustedNewcomer, PushesOutNoConnectionThatWeDialledAndNoTrustedOne) {
  Node node;
  for (std::uint32_t i = 1; i <= 4; ++i) node.run(node.outgoing(numbered(i)), peer_id(i));
  for (std::uint32_t i = 5; i <= 8; ++i) {
    node.lists.addresses[numbered(i).address] = Standing::kTrusted;
    node.run(node.incoming(numbered(i)), peer_id(i));
  }
  node.lists.peers[peer_id(50)] = Standing::kTrusted;
  const auto decision = node.decide(node.incoming(numbered(50)), peer_id(50));
  EXPECT_EQ(decision.reason, Reason::kTooManyConnections);
  EXPECT_EQ(node.pool->active(), 8U);
}

TEST(Points, LoseTrustWithTheirPrefix) {
  Node node;
  node.pool->configure(numbered(1), std::nullopt, at(node.now));
  node.pool->configure(numbered(2), std::nullopt, at(node.now));
  EXPECT_TRUE(node.pool->untrust_points(prefix_of(numbered(1).address, kAddressBits)));
  EXPECT_FALSE(node.pool->untrust_points(prefix_of(numbered(1).address, kAddressBits))) << "there is none any more";
  EXPECT_FALSE(node.pool->find_point(numbered(1))->trusted);
  EXPECT_TRUE(node.pool->find_point(numbered(2))->trusted);
  expect_consistent(node);
}

TEST(Points, ThatTheListsTrustAreTrustedNoLongerThanThat) {
  Node node;
  node.lists.addresses[numbered(1).address] = Standing::kTrusted;
  node.pool->trust_point(numbered(1), at(node.now));
  node.pool->configure(numbered(2), std::nullopt, at(node.now));
  node.pool->trust_point(numbered(2), at(node.now));
  EXPECT_TRUE(node.pool->trusted(numbered(1), *node.pool->find_point(numbered(1))));
  node.pool->recover();
  node.lists.addresses.clear();
  node.pool->standings_changed();
  EXPECT_FALSE(node.pool->trusted(numbered(1), *node.pool->find_point(numbered(1))));
  EXPECT_TRUE(node.pool->trusted(numbered(2), *node.pool->find_point(numbered(2)))) << "by the configuration";
  expect_consistent(node);
}

}  // namespace
}  // namespace bulkhead::controller
