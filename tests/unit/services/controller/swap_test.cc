#include "services/controller/swap.h"

#include "tests/unit/services/controller/pool_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

PoolLimits allowing(bool hardened = false) {
  auto with = limits();
  with.allow_private_points = true;
  with.hardened = hardened;
  return with;
}

class SwapTest : public testing::Test {
 protected:
  explicit SwapTest(PoolLimits with = allowing()) : node(std::move(with)) {}
  SlotRef neighbour(std::uint32_t number, bool private_node = false) {
    return node.run(node.incoming(numbered(number)), peer_id(number), private_node);
  }
  std::optional<Swaps::Offer> propose() { return swaps.propose(*node.pool, at(node.now), random); }
  std::optional<Swaps::Answer> requested(const SlotRef& from, const Point& point) {
    return swaps.requested(*node.pool, from, point, at(node.now), random);
  }
  std::optional<Swaps::Exchange> acknowledged(const SlotRef& from, const Point& point) {
    return swaps.acknowledged(*node.pool, from, point, at(node.now));
  }
  void pass(std::uint64_t seconds) { node.now += seconds * 1000; }

  Node node;
  std::mt19937_64 engine{4};
  std::function<std::uint64_t()> random = [this] { return engine(); };
  Swaps swaps{Swaps::Settings{}};
  const Point kNew = numbered(500);
};

// tezt p2p: p2p-swap. Topology 1b-1a-S-2a-2b, S asks 1a: afterwards S has 1b in the place of 2a, and 1a has 2a.
TEST_F(SwapTest, P2pSwap_ExchangesANeighbourForANeighboursNeighbour) {
  const auto one = neighbour(1);
  const auto two = neighbour(2);
  const auto offer = propose();
  ASSERT_TRUE(offer);
  EXPECT_TRUE((offer->to == one && offer->offered == two) || (offer->to == two && offer->offered == one));
  EXPECT_EQ(offer->point, numbered(offer->to == one ? 2 : 1));
  const auto exchange = acknowledged(offer->to, kNew);
  ASSERT_TRUE(exchange);
  EXPECT_EQ(exchange->dial, kNew);
  EXPECT_EQ(exchange->replaced, offer->offered);

  // The other side of it.
  Node asked(allowing());
  const auto from_s = asked.run(asked.incoming(numbered(100)), peer_id(100));
  const auto its_own = asked.run(asked.incoming(numbered(101)), peer_id(101));
  Swaps theirs{Swaps::Settings{}};
  const auto answer = theirs.requested(*asked.pool, from_s, numbered(2), at(asked.now), random);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->ack.to, from_s);
  EXPECT_EQ(answer->ack.point, numbered(101));
  EXPECT_EQ(answer->ack.peer_id, peer_id(101));
  EXPECT_EQ(answer->exchange.dial, numbered(2));
  EXPECT_EQ(answer->exchange.replaced, its_own);
}

// tezt p2p: p2p-swap-disable
TEST_F(SwapTest, P2pSwapDisable_NeitherAsksNorAnswersNorBelieves) {
  swaps = Swaps({.enabled = false});
  const auto one = neighbour(1);
  neighbour(2);
  EXPECT_FALSE(propose());
  EXPECT_FALSE(requested(one, kNew));
  EXPECT_FALSE(acknowledged(one, kNew));
}

// W-08
TEST_F(SwapTest, BelievesOneAckForOneRequest) {
  neighbour(1);
  neighbour(2);
  neighbour(3);
  const auto offer = propose();
  ASSERT_TRUE(offer);
  EXPECT_TRUE(acknowledged(offer->to, kNew));
  EXPECT_FALSE(acknowledged(offer->to, numbered(501)));
}

TEST_F(SwapTest, BelievesNoAckThatNobodyAskedForOrThatComesLate) {
  const auto one = neighbour(1);
  neighbour(2);
  EXPECT_FALSE(acknowledged(one, kNew));
  const auto offer = propose();
  ASSERT_TRUE(offer);
  EXPECT_FALSE(acknowledged(offer->offered, kNew)) << "another one was asked";
  pass(31);
  EXPECT_FALSE(acknowledged(offer->to, kNew));
}

TEST_F(SwapTest, ForgetsTheRequestWithTheConnection) {
  neighbour(1);
  neighbour(2);
  const auto offer = propose();
  ASSERT_TRUE(offer);
  swaps.forget(offer->to);
  EXPECT_FALSE(acknowledged(offer->to, kNew));
}

TEST_F(SwapTest, LingersAsLongAsItIsTold) {
  swaps = Swaps({.linger = 5 * kSecond});
  const auto one = neighbour(1);
  neighbour(2);
  ASSERT_TRUE(requested(one, kNew));
  swaps.succeeded(at(node.now));
  pass(4);
  EXPECT_FALSE(requested(one, numbered(501)));
  pass(1);
  EXPECT_TRUE(requested(one, numbered(501)));
  pass(10);
  const auto offer = propose();
  ASSERT_TRUE(offer);
  pass(6);
  EXPECT_FALSE(acknowledged(offer->to, numbered(502))) << "too late";
}

TEST_F(SwapTest, AnswersAgainOnlyAfterTheLinger) {
  const auto one = neighbour(1);
  neighbour(2);
  ASSERT_TRUE(requested(one, kNew));
  EXPECT_FALSE(requested(one, numbered(501)));
  pass(29);
  EXPECT_FALSE(requested(one, numbered(501)));
  pass(1);
  ASSERT_TRUE(requested(one, numbered(501)));
  swaps.succeeded(at(node.now));
  pass(20);
  EXPECT_FALSE(requested(one, numbered(502)));
}

TEST_F(SwapTest, MayAnswerAtOnceAfterADialThatFailed) {
  const auto one = neighbour(1);
  neighbour(2);
  ASSERT_TRUE(requested(one, kNew));
  swaps.failed();
  EXPECT_TRUE(requested(one, numbered(501)));
}

TEST_F(SwapTest, TakesNoPointThatIsConnectedOursOrWithoutAPort) {
  const auto one = neighbour(1);
  neighbour(2);
  node.pool->add_own_point(numbered(600));
  EXPECT_FALSE(requested(one, numbered(2)));
  EXPECT_FALSE(requested(one, numbered(600)));
  EXPECT_FALSE(requested(one, {kNew.address, 0}));
}

TEST_F(SwapTest, OffersNeitherPrivateNorTrustedOnesNorThoseWithoutAPort) {
  const auto one = neighbour(1);
  neighbour(2, true);
  node.run(node.incoming({numbered(3).address, 0}), peer_id(3));
  neighbour(4);
  node.pool->configure(numbered(4), std::nullopt, at(node.now));
  EXPECT_FALSE(requested(one, kNew));
  for (int i = 0; i < 50; ++i) {
    const auto offer = propose();
    ASSERT_TRUE(offer);
    EXPECT_EQ(offer->offered, one);
    EXPECT_NE(offer->to.slot, 1U) << "a private one is not asked either";
  }
}

TEST_F(SwapTest, NeedsAFreeSlot) {
  const auto one = neighbour(1);
  for (std::uint32_t i = 2; i <= 8; ++i) neighbour(i);
  EXPECT_FALSE(requested(one, kNew));
  const auto offer = propose();
  ASSERT_TRUE(offer) << "there may be one when the answer comes";
  EXPECT_FALSE(acknowledged(offer->to, kNew));
}

class HardenedSwapTest : public SwapTest {
 protected:
  HardenedSwapTest() : SwapTest(allowing(true)) {}
};

TEST_F(HardenedSwapTest, NeverGivesAnOutgoingNeighbourAway) {
  const auto one = neighbour(1);
  node.run(node.outgoing(numbered(2)), peer_id(2));
  EXPECT_FALSE(requested(one, kNew));
  const auto three = neighbour(3);
  const auto answer = requested(one, kNew);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->ack.offered, three);
}

TEST_F(HardenedSwapTest, DialsNoPrivatePointUnlessAllowed) {
  auto with = allowing(true);
  with.allow_private_points = false;
  Node strict(with);
  const auto one = strict.run(strict.incoming(numbered(1)), peer_id(1));
  strict.run(strict.incoming(numbered(2)), peer_id(2));
  EXPECT_FALSE(swaps.requested(*strict.pool, one, kNew, at(strict.now), random));
}

}  // namespace
}  // namespace bulkhead::controller
