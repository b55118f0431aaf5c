#include "services/controller/pool.h"

#include <algorithm>
#include <set>

#include "tests/unit/services/controller/pool_support.h"

/// The pool's slots, from claim to free, and over the end of a controller.
namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

const Point kA = point("192.0.2.1:9732");
const Point kB = point("192.0.2.2:9732");

// ---- slots

TEST(PoolSlots, CountTheirUsesAndKnowStaleReferences) {
  Node node;
  const auto first = node.claim(kIncoming, kA);
  EXPECT_EQ(first.generation, 1U);
  EXPECT_NE(node.pool->find(first), nullptr);
  node.end(first, Reason::kClosedInHandshake);
  EXPECT_EQ(node.pool->find(first), nullptr);
  const auto second = node.claim(kIncoming, kA);
  EXPECT_EQ(second, (SlotRef{first.slot, 2}));
  EXPECT_EQ(node.pool->find(first), nullptr);
  EXPECT_EQ(node.pool->find({node.limits.slots, 1}), nullptr);
  EXPECT_EQ(node.pool->find({0xffffffff, 1}), nullptr);
}

TEST(PoolSlots, AreNotGivenOutBeyondTheirNumber) {
  Node node;
  for (std::uint32_t i = 0; i < node.limits.slots; ++i) node.claim(kIncoming, kA);
  EXPECT_EQ(node.pool->claim(kIncoming, kA, key(0), 1, at(1)), std::nullopt);
}

TEST(PoolSlots, IgnoreWhatIsSaidOfAStaleGeneration) {
  Node node;
  const auto stale = node.run(node.incoming(kA), peer_id(1));
  node.end(stale, Reason::kClosedByPeer);
  const auto current = node.run(node.incoming(kA), peer_id(1));
  node.pool->announced(stale, announcement());
  node.pool->established(stale, at(node.now));
  node.pool->ended(stale, Reason::kKicked, at(node.now));
  node.pool->met_myself(stale);
  node.pool->set_worker(stale, 99);
  EXPECT_EQ(node.decide(stale, peer_id(2)).kind, VerdictKind::kSilence);
  EXPECT_EQ(node.slot_state(current), SlotState::kRunning);
  EXPECT_EQ(node.pool->slots()[current.slot].worker_pid, 0U);
  EXPECT_EQ(node.state(kA), PointState::kRunning);
}

TEST(PoolSlots, StayTakenUntilTheProcessIsReapedButAreNoConnectionAnyMore) {
  Node node;
  const auto ref = node.run(node.incoming(kA), peer_id(1));
  EXPECT_EQ(node.pool->active(), 1U);
  node.pool->ended(ref, Reason::kClosedByPeer, at(node.now));
  EXPECT_EQ(node.pool->active(), 0U);
  EXPECT_EQ(node.slot_state(ref), SlotState::kEnding);
  EXPECT_NE(node.claim(kIncoming, kB).slot, ref.slot);
  // The peer may come back at once.
  EXPECT_EQ(node.decide(node.incoming(kA), peer_id(1)).kind, VerdictKind::kAccept);
}

TEST(PoolSlots, ShowWhoRuns) {
  Node node;
  const auto ref = node.incoming(kA);
  EXPECT_EQ(node.decide(ref, peer_id(1)).kind, VerdictKind::kAccept);
  EXPECT_EQ(node.pool->running(peer_id(1)), std::nullopt) << "accepted is not running";
  node.pool->established(ref, at(node.now));
  EXPECT_EQ(node.pool->running(peer_id(1)), ref);
}

// A worker holds the key after a Nack too, and may be hostile: its word makes no connection of a refused peer.
TEST(PoolSlots, AreNotEstablishedWithoutAnAcceptance) {
  Node node;
  const auto ref = node.incoming(kA);
  auto other = announcement();
  other.chain_name = "OTHER";
  node.pool->announced(ref, other);
  expect_refusal(node.decide(ref, peer_id(1)), Reason::kUnknownChainName, 2);
  node.pool->established(ref, at(node.now));
  EXPECT_EQ(node.pool->active(), 0U);
  EXPECT_EQ(node.pool->running(peer_id(1)), std::nullopt);
  EXPECT_EQ(node.state(kA), PointState::kDisconnected);
  const auto fresh = node.claim(kIncoming, kB);
  node.pool->established(fresh, at(node.now));
  EXPECT_EQ(node.slot_state(fresh), SlotState::kClaimed);
}

TEST(PoolSlots, CountIncomingHandshakesOnly) {
  Node node;
  const auto first = node.incoming(kA);
  node.outgoing(kB);
  EXPECT_EQ(node.pool->incoming_handshakes(), 1U);
  node.decide(first, peer_id(1));
  EXPECT_EQ(node.pool->incoming_handshakes(), 0U) << "accepted is past the handshake";
}

// ---- the same key

SlotRef with_key(Node& node, const char* from, std::uint8_t number) {
  return node.claim(kIncoming, point(from), number);
}

TEST(SameKeyLimit, LetsFourThroughAndNamesTheOldestForAFifth) {
  Node node;
  const auto oldest = with_key(node, "192.0.2.1:1", 7);
  for (int i = 0; i < 2; ++i) with_key(node, "192.0.2.1:1", 7);
  EXPECT_EQ(node.pool->same_key_victim(key(7)), std::nullopt);
  with_key(node, "192.0.2.1:1", 7);
  EXPECT_EQ(node.pool->same_key_victim(key(7)), oldest);
  EXPECT_EQ(node.pool->same_key_victim(key(8)), std::nullopt);
}

TEST(SameKeyLimit, TakesFromThePrefixThatHasMost) {
  Node node;
  const auto owner = with_key(node, "192.0.2.1:1", 7);
  const auto attacker = with_key(node, "198.51.100.1:1", 7);
  with_key(node, "198.51.100.2:1", 7);
  with_key(node, "198.51.100.3:1", 7);
  EXPECT_NE(node.pool->same_key_victim(key(7)), owner);
  EXPECT_EQ(node.pool->same_key_victim(key(7)), attacker);
}

TEST(SameKeyLimit, TakesTheOldestWhenAnAttackerUsesManyPrefixes) {
  Node node;
  with_key(node, "198.51.100.1:1", 7);
  const auto next = with_key(node, "198.51.101.1:1", 7);
  with_key(node, "198.51.102.1:1", 7);
  const auto first = SlotRef{0, 1};
  // The owner comes last, from the address with the lowest number: with ties broken by number it would go first.
  node.end(first, Reason::kSameKeyLimit);
  const auto owner = with_key(node, "10.0.0.1:1", 7);
  EXPECT_NE(node.pool->same_key_victim(key(7)), owner);
  EXPECT_EQ(node.pool->same_key_victim(key(7)), std::nullopt) << "the owner made four again: three and itself";
  with_key(node, "198.51.103.1:1", 7);
  EXPECT_EQ(node.pool->same_key_victim(key(7)), next);
}

TEST(SameKeyLimit, CountsHandshakesOfIncomingConnectionsOnly) {
  Node node;
  for (int i = 0; i < 3; ++i) with_key(node, "192.0.2.1:1", 7);
  node.claim(kOutgoing, kA, 7);
  const auto accepted = with_key(node, "192.0.2.9:1", 7);
  node.pool->announced(accepted, announcement(0));
  EXPECT_TRUE(node.pool->same_key_victim(key(7)));
  ASSERT_EQ(node.decide(accepted, peer_id(1)).kind, VerdictKind::kAccept);
  EXPECT_EQ(node.pool->same_key_victim(key(7)), std::nullopt);
}

// ---- recovery

TEST(Recovery, KeepsRunningConnectionsAndReportsTheOthersToBeEnded) {
  Node node;
  const auto running = node.run(node.outgoing(numbered(1)), peer_id(1), true);
  node.pool->set_worker(running, 4711);
  const auto claimed = node.claim(kIncoming, numbered(2));
  const auto handshake = node.incoming(numbered(3));
  const auto accepted = node.incoming(numbered(4));
  ASSERT_EQ(node.decide(accepted, peer_id(4)).kind, VerdictKind::kAccept);
  const auto ending = node.run(node.incoming(numbered(5)), peer_id(5));
  node.pool->ended(ending, Reason::kClosedByPeer, at(node.now));
  node.pool->configure(numbered(6), peer_id(6), at(node.now));
  ASSERT_EQ(node.pool->request(numbered(7), at(node.now)), Reason::kNone);
  node.pool->request(numbered(8), at(node.now));
  node.pool->dial_failed(numbered(8), at(node.now));
  const auto next_attempt = node.pool->find_point(numbered(8))->next_attempt;

  node.restart();
  const Slot* slot = node.pool->find(running);
  ASSERT_NE(slot, nullptr);
  EXPECT_EQ(slot->state, SlotState::kRunning);
  EXPECT_EQ(slot->direction, kOutgoing);
  EXPECT_EQ(slot->point, numbered(1));
  EXPECT_EQ(slot->peer_id, peer_id(1));
  EXPECT_EQ(slot->worker_pid, 4711U);
  EXPECT_TRUE(slot->metadata.private_node);
  EXPECT_EQ(slot->announcement.distributed_db_version, 2);
  EXPECT_EQ(node.pool->running(peer_id(1)), running);
  EXPECT_EQ(node.state(numbered(1)), PointState::kRunning);
  EXPECT_EQ(node.pool->peers().at(peer_id(1)).state, PeerState::kRunning);
  for (const auto& ref : {claimed, handshake, accepted, ending}) {
    ASSERT_NE(node.pool->find(ref), nullptr);
    EXPECT_EQ(node.slot_state(ref), SlotState::kClaimed);
  }
  EXPECT_EQ(node.state(numbered(4)), PointState::kDisconnected);
  EXPECT_EQ(node.state(numbered(7)), PointState::kDisconnected);
  EXPECT_EQ(node.pool->find_point(numbered(8))->next_attempt.ns, next_attempt.ns);
  EXPECT_TRUE(node.pool->find_point(numbered(6))->trusted);
  EXPECT_EQ(node.pool->find_point(numbered(6))->expected_peer_id, peer_id(6));
  EXPECT_EQ(node.pool->active(), 1U);
  for (const auto& ref : {claimed, handshake, accepted, ending}) node.end(ref, Reason::kControllerRestarted);
  expect_consistent(node);
  // Generations go on, and nobody connects twice.
  EXPECT_EQ(node.claim(kIncoming, numbered(9)).generation, 2U);
  EXPECT_EQ(node.decide(node.incoming(numbered(10)), peer_id(1)).reason, Reason::kAlreadyConnected);
}

TEST(Recovery, OfAnEmptyTableIsAnEmptyPool) {
  Node node;
  node.restart();
  EXPECT_EQ(node.pool->active(), 0U);
  EXPECT_TRUE(node.pool->points().empty());
  EXPECT_TRUE(node.pool->peers().empty());
  EXPECT_EQ(node.claim(kIncoming, kA).generation, 1U);
}

TEST(Recovery, ManyTimesLosesNoRow) {
  Node node;
  for (int round = 0; round < 20; ++round) {
    for (std::uint32_t i = 0; i < 100; ++i) {
      node.pool->register_point(numbered(i + static_cast<std::uint32_t>(round) * 50), false, at(i + 1));
    }
    node.restart();
    expect_consistent(node);
  }
  for (std::uint32_t i = 0; i < 64; ++i) node.pool->configure(numbered(5000 + i), std::nullopt, at(1));
  EXPECT_GE(node.pool->points().size(), 64U);
}

TEST(Pool, WorksWithoutATable) {
  std::mt19937_64 random(1);
  Pool pool(limits(), nullptr, [&random] { return random(); });
  pool.recover();
  const auto ref = pool.claim(kIncoming, kA, key(1), 1, at(1));
  ASSERT_TRUE(ref);
  pool.announced(*ref, announcement(kA.port));
  EXPECT_EQ(pool.decide(*ref, {peer_id(1), {}}, at(1)).kind, VerdictKind::kAccept);
  pool.established(*ref, at(1));
  pool.ended(*ref, Reason::kClosedByPeer, at(2));
  pool.free(ref->slot);
}

}  // namespace
}  // namespace bulkhead::controller
