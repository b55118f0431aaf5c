#include "services/controller/pool.h"

#include <algorithm>
#include <set>

#include "tests/unit/services/controller/pool_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

const Point kA = point("192.0.2.1:9732");
const Point kB = point("192.0.2.2:9732");

void expect_refusal(const Decision& decision, Reason reason, std::int16_t motive) {
  EXPECT_EQ(decision.kind, VerdictKind::kNack);
  EXPECT_STREQ(reason_name(decision.reason), reason_name(reason));
  EXPECT_EQ(decision.motive, motive);
}
void expect_silence(const Decision& decision, Reason reason) {
  EXPECT_EQ(decision.kind, VerdictKind::kSilence);
  EXPECT_STREQ(reason_name(decision.reason), reason_name(reason));
  EXPECT_TRUE(decision.points.empty());
}

// ----------------------------------------------------------------------------------------------------------------
// slots

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

// ------------------------------------------------------------------------------------------------------------- same
// key

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

// ------------------------------------------------------------------------------------------------------- steps 9 to 18

TEST(Decision, AcceptsAndMarksPointAndPeer) {
  for (const bool dialled : {false, true}) {
    Node node;
    const auto ref = dialled ? node.outgoing(kA) : node.incoming(kA);
    const auto decision = node.decide(ref, peer_id(1));
    EXPECT_EQ(decision.kind, VerdictKind::kAccept);
    EXPECT_EQ(decision.reason, Reason::kNone);
    EXPECT_EQ(node.slot_state(ref), SlotState::kAccepted);
    EXPECT_EQ(node.state(kA), PointState::kAccepted);
    EXPECT_EQ(node.pool->peers().at(peer_id(1)).state, PeerState::kAccepted);
    EXPECT_EQ(node.pool->active(), 1U);
    node.pool->established(ref, at(node.now));
    EXPECT_EQ(node.state(kA), PointState::kRunning);
    EXPECT_EQ(node.pool->peers().at(peer_id(1)).state, PeerState::kRunning);
    EXPECT_EQ(node.pool->peers().at(peer_id(1)).point, kA);
    expect_consistent(node);
  }
}

TEST(Decision, RegistersTheAdvertisedPointOfAnIncomingConnectionAndNoneForPortZero) {
  Node node;
  node.decide(node.incoming(kA, 51234), peer_id(1));
  EXPECT_TRUE(node.knows(kA));
  EXPECT_FALSE(node.knows({kA.address, 51234}));
  const auto hidden = node.claim(kIncoming, {kB.address, 51234});
  node.pool->announced(hidden, announcement(0));
  EXPECT_EQ(node.decide(hidden, peer_id(2)).kind, VerdictKind::kAccept);
  EXPECT_EQ(node.pool->points().size(), 1U);
}

TEST(Decision, KeepsTheDialledPortOfAnOutgoingConnectionWhateverIsAnnounced) {
  Node node;
  const auto ref = node.outgoing(kA);
  node.pool->announced(ref, announcement(1234));
  node.run(ref, peer_id(1));
  EXPECT_EQ(node.state(kA), PointState::kRunning);
  EXPECT_FALSE(node.knows({kA.address, 1234}));
}

TEST(Decision, IsSilentTowardsAnotherPeerThanTheOneExpectedAtAPoint) {
  for (const bool dialled : {false, true}) {
    Node node;
    node.pool->configure(kA, peer_id(1), at(node.now));
    const auto ref = dialled ? node.outgoing(kA) : node.incoming(kA);
    // Whatever else speaks against it comes later.
    auto other = announcement(kA.port);
    other.chain_name = "OTHER";
    node.pool->announced(ref, other);
    expect_silence(node.decide(ref, peer_id(2)), Reason::kUnexpectedPeerId);
    EXPECT_FALSE(node.pool->peers().contains(peer_id(2))) << "step 10 comes before step 11";
    expect_consistent(node);
    node.end(ref, Reason::kUnexpectedPeerId);
    EXPECT_EQ(node.decide(node.incoming(kA), peer_id(1)).kind, VerdictKind::kAccept);
  }
}

TEST(Decision, RefusesAnotherNetwork) {
  for (const bool dialled : {false, true}) {
    Node node;
    const auto ref = dialled ? node.outgoing(kA) : node.incoming(kA);
    auto other = announcement(kA.port);
    for (const char* chain : {"", "TES", "TEST1", "test"}) {
      other.chain_name = chain;
      node.pool->announced(ref, other);
      expect_refusal(node.decide(ref, peer_id(1)), Reason::kUnknownChainName, 2);
    }
  }
}

TEST(Decision, ChoosesTheLesserVersionIfItIsStillSpoken) {
  struct Case {
    std::vector<std::uint16_t> ours;
    std::uint16_t theirs;
    std::optional<std::uint16_t> chosen;
  };
  for (const Case& c : {Case{{0, 1, 2}, 2, 2}, Case{{0, 1, 2}, 9, 2}, Case{{0, 1, 2}, 0, 0}, Case{{1, 2}, 0, {}},
                        Case{{2, 0}, 1, {}}, Case{{2, 0}, 0, 0}, Case{{1}, 65535, 1}}) {
    auto with = limits();
    with.distributed_db_versions = c.ours;
    Node node(with);
    const auto ref = node.incoming(kA);
    auto said = announcement();
    said.distributed_db_version = c.theirs;
    node.pool->announced(ref, said);
    const auto decision = node.decide(ref, peer_id(1));
    if (c.chosen) {
      EXPECT_EQ(decision.kind, VerdictKind::kAccept);
      EXPECT_EQ(node.pool->find(ref)->negotiated_ddb, *c.chosen);
    } else {
      expect_refusal(decision, Reason::kDeprecatedDistributedDbVersion, 4);
    }
  }
}

TEST(Decision, NamesTheDatabaseVersionBeforeTheP2pVersion) {
  auto with = limits();
  with.distributed_db_versions = {2};
  with.p2p_versions = {2};
  Node node(with);
  const auto ref = node.incoming(kA);
  auto said = announcement();
  said.distributed_db_version = 1;
  node.pool->announced(ref, said);
  expect_refusal(node.decide(ref, peer_id(1)), Reason::kDeprecatedDistributedDbVersion, 4);
  said.distributed_db_version = 2;
  node.pool->announced(ref, said);
  expect_refusal(node.decide(ref, peer_id(1)), Reason::kDeprecatedP2pVersion, 3);
}

TEST(Decision, RefusesAtTheMaximum) {
  auto with = limits();
  with.maximum_connections = 2;
  Node node(with);
  node.run(node.incoming(numbered(1)), peer_id(1));
  EXPECT_EQ(node.decide(node.incoming(numbered(2)), peer_id(2)).kind, VerdictKind::kAccept) << "accepted counts too";
  expect_refusal(node.decide(node.incoming(numbered(3)), peer_id(3)), Reason::kTooManyConnections, 1);
  EXPECT_EQ(node.pool->request(numbered(9), at(node.now)), Reason::kTooManyConnections);
  EXPECT_EQ(node.pool->active(), 2U);
}

TEST(Decision, LeavesADialUnderWayItsPlace) {
  auto with = limits();
  with.maximum_connections = 2;
  Node node(with);
  const auto dial = node.outgoing(numbered(9));
  node.run(node.incoming(numbered(1)), peer_id(1));
  expect_refusal(node.decide(node.incoming(numbered(2)), peer_id(2)), Reason::kTooManyConnections, 1);
  EXPECT_EQ(node.pool->request(numbered(8), at(node.now)), Reason::kTooManyConnections);
  EXPECT_EQ(node.decide(dial, peer_id(9)).kind, VerdictKind::kAccept);
  EXPECT_EQ(node.pool->active(), 2U);
}

TEST(Decision, NamesTheMaximumBeforePrivateModeAndThatBeforeAnExistingConnection) {
  auto with = limits();
  with.maximum_connections = 1;
  with.private_mode = true;
  Node node(with);
  node.pool->configure(kA, std::nullopt, at(node.now));
  const auto running = node.run(node.incoming(kA), peer_id(1));
  expect_refusal(node.decide(node.incoming(kB), peer_id(2)), Reason::kTooManyConnections, 1);
  node.end(running, Reason::kClosedByPeer);
  expect_silence(node.decide(node.incoming(kB), peer_id(2)), Reason::kPrivateMode);
}

TEST(Decision, IsSilentInPrivateModeButToTheTrusted) {
  auto with = limits();
  with.private_mode = true;
  Node node(with);
  node.pool->configure(kA, std::nullopt, at(node.now));
  expect_silence(node.decide(node.incoming(kB), peer_id(1)), Reason::kPrivateMode);
  const auto hidden = node.claim(kIncoming, {kA.address, 5});
  node.pool->announced(hidden, announcement(0));
  expect_silence(node.decide(hidden, peer_id(2)), Reason::kPrivateMode);
  EXPECT_EQ(node.decide(node.incoming(kA), peer_id(3)).kind, VerdictKind::kAccept);
}

TEST(Decision, RefusesASecondConnectionByPoint) {
  for (const bool established : {false, true}) {
    Node node;
    const auto ref = node.incoming(kA);
    ASSERT_EQ(node.decide(ref, peer_id(1)).kind, VerdictKind::kAccept);
    if (established) node.pool->established(ref, at(node.now));
    expect_refusal(node.decide(node.incoming(kA), peer_id(2)), Reason::kAlreadyConnected, 5);
    EXPECT_EQ(node.pool->active(), 1U);
  }
}

TEST(Decision, RefusesASecondConnectionByPeer) {
  for (const bool established : {false, true}) {
    Node node;
    const auto ref = node.incoming(kA);
    ASSERT_EQ(node.decide(ref, peer_id(1)).kind, VerdictKind::kAccept);
    if (established) node.pool->established(ref, at(node.now));
    expect_refusal(node.decide(node.incoming(kB), peer_id(1)), Reason::kAlreadyConnected, 5);
    expect_refusal(node.decide(node.outgoing(point("192.0.2.3:9732")), peer_id(1)), Reason::kAlreadyConnected, 5);
  }
}

TEST(Decision, PrefersItsOwnDialToAnIncomingConnectionOfTheSamePoint) {
  Node node;
  const auto dial = node.outgoing(kA);
  expect_refusal(node.decide(node.incoming(kA), peer_id(1)), Reason::kAlreadyConnected, 5);
  EXPECT_EQ(node.decide(dial, peer_id(1)).kind, VerdictKind::kAccept);
}

TEST(Decision, EndOfARefusedConnectionLeavesTheRunningOneAlone) {
  Node node;
  const auto running = node.run(node.incoming(kA), peer_id(1));
  const auto second = node.incoming(kA, 40001);
  expect_refusal(node.decide(second, peer_id(1)), Reason::kAlreadyConnected, 5);
  node.end(second, Reason::kAlreadyConnected);
  EXPECT_EQ(node.state(kA), PointState::kRunning);
  EXPECT_EQ(node.pool->peers().at(peer_id(1)).state, PeerState::kRunning);
  EXPECT_EQ(node.pool->running(peer_id(1)), running);
  expect_consistent(node);
}

TEST(Decision, RecordsWhetherThePeerIsPrivateEvenWhenItRefuses) {
  Node node;
  auto other = announcement(kA.port);
  other.chain_name = "OTHER";
  const auto ref = node.incoming(kA);
  node.pool->announced(ref, other);
  node.decide(ref, peer_id(1), false);
  EXPECT_TRUE(node.pool->find_point(kA)->known_public);
  node.decide(ref, peer_id(1), true);
  EXPECT_FALSE(node.pool->find_point(kA)->known_public);
}

TEST(Point, ThatIsConfiguredNoMoreIsOneAmongOthers) {
  Node node;
  node.pool->configure(kA, peer_id(1), at(node.now));
  node.pool->configure(kB, std::nullopt, at(node.now));
  node.pool->deconfigure(kA);
  node.pool->deconfigure(point("192.0.2.77:9732"));
  ASSERT_NE(node.pool->find_point(kA), nullptr);
  EXPECT_FALSE(node.pool->trusted(kA, *node.pool->find_point(kA)));
  EXPECT_FALSE(node.pool->find_point(kA)->expected_peer_id);
  EXPECT_TRUE(node.pool->trusted(kB, *node.pool->find_point(kB)));
}

TEST(Point, MayHaveTheExpectedPeerTakenBack) {
  Node node;
  node.pool->configure(kA, peer_id(1), at(node.now));
  // The name that asked for it has the address no more; another one, which asks for nobody, has.
  node.pool->configure(kA, std::nullopt, at(node.now));
  EXPECT_FALSE(node.pool->find_point(kA)->expected_peer_id);
  EXPECT_TRUE(node.pool->trusted(kA, *node.pool->find_point(kA)));
  node.run(node.outgoing(kA), peer_id(2));
}

TEST(Decision, GivesNoPointsWithoutPeerDiscovery) {
  auto with = limits();
  with.disable_peer_discovery = true;
  with.maximum_connections = 1;
  Node node(with);
  node.run(node.incoming(kA), peer_id(1));
  const auto decision = node.decide(node.incoming(kB), peer_id(2));
  expect_refusal(decision, Reason::kTooManyConnections, 1);
  EXPECT_TRUE(decision.points.empty());
}

TEST(Decision, NegotiatesInTheOrderOfTheProtocolWhenEverythingSpeaksAgainstIt) {
  auto with = limits();
  with.maximum_connections = 1;
  with.private_mode = true;
  with.distributed_db_versions = {2};
  with.p2p_versions = {1};
  Node node(with);
  node.pool->configure(kA, peer_id(1), at(node.now));
  node.pool->configure(kB, std::nullopt, at(node.now));
  node.run(node.incoming(kB), peer_id(2));
  const auto stranger = point("192.0.2.77:9732");
  schema::Announcement said{kA.port, "OTHER", 0, 0};
  const auto ref = node.incoming(kA);
  const auto again = [&](const PeerId& id) {
    node.pool->announced(ref, said);
    return node.decide(ref, id);
  };
  expect_silence(again(peer_id(2)), Reason::kUnexpectedPeerId);
  EXPECT_EQ(again(peer_id(1)).reason, Reason::kUnknownChainName);
  said.chain_name = "TEST";
  EXPECT_EQ(again(peer_id(1)).reason, Reason::kDeprecatedDistributedDbVersion);
  said.distributed_db_version = 2;
  EXPECT_EQ(again(peer_id(1)).reason, Reason::kDeprecatedP2pVersion);
  said.p2p_version = 1;
  EXPECT_EQ(again(peer_id(1)).reason, Reason::kTooManyConnections);
  EXPECT_EQ(node.decide(node.incoming(stranger), peer_id(2)).reason, Reason::kTooManyConnections);
}

// ----------------------------------------------------------------------------------------------------------------
// traps

TEST(Trap09, APeerThatIsOurselfIsForgottenAsAPointAndRemembered) {
  Node node;
  const auto ref = node.outgoing(kA);
  node.pool->met_myself(ref);
  EXPECT_FALSE(node.knows(kA));
  EXPECT_TRUE(node.pool->is_own(kA));
  node.end(ref, Reason::kMyself);
  EXPECT_FALSE(node.knows(kA));
  EXPECT_EQ(node.pool->register_point(kA, false, at(node.now)), nullptr);
  EXPECT_EQ(node.pool->request(kA, at(node.now)), Reason::kMyself);
}

// The form of a Nack follows the p2p version that the peer announced, not the one that would be chosen.
TEST(Trap10, ANackToAPeerThatAnnouncedP2pVersionZeroHasTheOldFormWithoutPoints) {
  auto with = limits();
  with.maximum_connections = 1;
  Node node(with);
  node.run(node.incoming(kA), peer_id(1));
  const auto ref = node.incoming(kB);
  auto said = announcement();
  said.p2p_version = 0;
  node.pool->announced(ref, said);
  const auto old = node.decide(ref, peer_id(2));
  EXPECT_EQ(old.kind, VerdictKind::kNackV0);
  EXPECT_EQ(old.reason, Reason::kTooManyConnections);
  EXPECT_TRUE(old.points.empty());
  for (const std::uint16_t version : {std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{65535}}) {
    said.p2p_version = version;
    node.pool->announced(ref, said);
    const auto refused = node.decide(ref, peer_id(2));
    EXPECT_EQ(refused.kind, VerdictKind::kNack) << version;
    EXPECT_FALSE(refused.points.empty()) << "at least the one that runs is public";
  }
  auto only_old = limits();
  only_old.p2p_versions = {0};
  only_old.maximum_connections = 0;
  Node elder(only_old);
  EXPECT_EQ(elder.decide(elder.incoming(kA), peer_id(1)).kind, VerdictKind::kNack)
      << "we choose version 0 and still answer one who announced 1 in the new form";
}

TEST(TestP2pPool, NoCommonNetworkProtocol_TheSideThatDoesNotSpeakTheLesserVersionRefuses) {
  auto with = limits();
  with.p2p_versions = {1};
  Node newer(with);
  auto said = announcement(kA.port);
  said.p2p_version = 0;
  const auto ref = newer.incoming(kA);
  newer.pool->announced(ref, said);
  const auto decision = newer.decide(ref, peer_id(1));
  EXPECT_EQ(decision.reason, Reason::kDeprecatedP2pVersion);
  EXPECT_EQ(decision.kind, VerdictKind::kNackV0) << "which is all that the other side can read";
  EXPECT_EQ(newer.pool->active(), 0U);
  with.p2p_versions = {0};
  Node older(with);
  EXPECT_EQ(older.decide(older.incoming(kA), peer_id(1)).kind, VerdictKind::kAccept) << "the other side refuses";
}

TEST(Trap11, OnlyFiveCausesMakeANackAndEachHasItsMotive) {
  const auto decision_of = [](auto prepare) {
    auto with = limits();
    with.maximum_connections = 1;
    with.distributed_db_versions = {2};
    with.p2p_versions = {1};
    schema::Announcement said{9732, "TEST", 2, 1};
    prepare(with, said);
    Node node(with);
    if (with.maximum_connections == 2) node.run(node.incoming(kA), peer_id(1));
    const auto ref = node.incoming(kA, 40001);
    node.pool->announced(ref, said);
    return node.decide(ref, peer_id(1));
  };
  expect_refusal(decision_of([](auto& with, auto&) { with.maximum_connections = 0; }), Reason::kTooManyConnections, 1);
  expect_refusal(decision_of([](auto&, auto& said) { said.chain_name = "X"; }), Reason::kUnknownChainName, 2);
  expect_refusal(decision_of([](auto& with, auto& said) {
                   with.p2p_versions = {2};
                   said.p2p_version = 1;
                 }),
                 Reason::kDeprecatedP2pVersion, 3);
  expect_refusal(decision_of([](auto&, auto& said) { said.distributed_db_version = 1; }),
                 Reason::kDeprecatedDistributedDbVersion, 4);
  expect_refusal(decision_of([](auto& with, auto&) { with.maximum_connections = 2; }), Reason::kAlreadyConnected, 5);
  expect_silence(decision_of([](auto& with, auto&) { with.private_mode = true; }), Reason::kPrivateMode);
}

TEST(Trap12, ATimeOutOrABadAckCostsThePointItsTurnAndNothingElse) {
  for (const Reason reason : {Reason::kAuthenticationTimeout, Reason::kMalformedAck}) {
    Node node;
    const auto ref = node.outgoing(kA);
    if (reason == Reason::kMalformedAck) node.decide(ref, peer_id(1));
    node.end(ref, reason);
    ASSERT_TRUE(node.knows(kA));
    EXPECT_EQ(node.state(kA), PointState::kDisconnected);
    EXPECT_EQ(node.pool->find_point(kA)->next_attempt.ms, static_cast<std::int64_t>(node.now) + 1000);
    node.now += 1001;
    EXPECT_EQ(node.decide(node.outgoing(kA), peer_id(1)).kind, VerdictKind::kAccept);
  }
}

// Octez leaves the point requested for ever after three of these; here none may.
TEST(Trap18, AnOutgoingConnectionThatFailsAtAnyStepReturnsItsPoint) {
  enum class Where { kDialling, kNoSlot, kClaimed, kHandshake, kExpected, kPrivate, kNacked, kAccepted, kRunning };
  for (const Where where : {Where::kDialling, Where::kNoSlot, Where::kClaimed, Where::kHandshake, Where::kExpected,
                            Where::kPrivate, Where::kNacked, Where::kAccepted, Where::kRunning}) {
    SCOPED_TRACE(static_cast<int>(where));
    Node node;
    node.pool->configure(kA, where == Where::kExpected ? std::optional(peer_id(1)) : std::nullopt, at(node.now));
    ASSERT_EQ(node.pool->request(kA, at(node.now)), Reason::kNone);
    EXPECT_EQ(node.state(kA), PointState::kRequested);
    EXPECT_EQ(node.pool->request(kA, at(node.now)), Reason::kPendingConnection);
    if (where == Where::kDialling || where == Where::kNoSlot) {
      node.pool->dial_failed(kA, at(node.now));
    } else {
      const auto ref = node.claim(kOutgoing, kA);
      Reason reason = Reason::kClosedInHandshake;
      if (where != Where::kClaimed) node.pool->announced(ref, announcement());
      const auto other =
          where == Where::kNacked ? std::optional(node.run(node.incoming(kB), peer_id(2))) : std::nullopt;
      if (where > Where::kHandshake) {
        const auto decision = node.decide(ref, peer_id(2));
        reason = decision.reason;
        EXPECT_EQ(decision.kind == VerdictKind::kAccept, where > Where::kNacked || where == Where::kPrivate);
      }
      if (where == Where::kRunning) node.pool->established(ref, at(node.now));
      node.pool->ended(ref, reason, at(node.now));
      EXPECT_EQ(node.state(kA), PointState::kDisconnected) << "before the process is reaped";
      node.pool->free(ref.slot);
      if (other) node.end(*other, Reason::kClosedByPeer);
    }
    const KnownPoint& known = *node.pool->find_point(kA);
    EXPECT_EQ(known.state, PointState::kDisconnected);
    EXPECT_GT(known.next_attempt.ns, at(node.now).ns);
    EXPECT_GT(known.last_miss_ms(), 0);
    expect_consistent(node);
    EXPECT_EQ(node.pool->request(kA, at(node.now)), Reason::kNone) << "an explicit dial ignores the back-off";
  }
}

TEST(Trap18, APointThatPrivateModeRefusesIsNeverRequested) {
  auto with = limits();
  with.private_mode = true;
  Node node(with);
  EXPECT_EQ(node.pool->request(kA, at(node.now)), Reason::kPrivateMode);
  EXPECT_EQ(node.state(kA), PointState::kDisconnected);
  node.pool->configure(kA, std::nullopt, at(node.now));
  EXPECT_EQ(node.pool->request(kA, at(node.now)), Reason::kNone);
}

TEST(Trap18, TheEndOfTheMaintainerReturnsWhatItWasDiallingAndNothingElse) {
  Node node;
  const Point dialling = numbered(1);
  const Point handshake = numbered(2);
  const Point running = numbered(3);
  ASSERT_EQ(node.pool->request(dialling, at(node.now)), Reason::kNone);
  node.outgoing(handshake);
  node.run(node.outgoing(running), peer_id(3));
  node.pool->abandon_requests(at(node.now));
  EXPECT_EQ(node.state(dialling), PointState::kDisconnected);
  EXPECT_EQ(node.state(handshake), PointState::kRequested);
  EXPECT_EQ(node.state(running), PointState::kRunning);
  expect_consistent(node);
}

// -------------------------------------------------------------------------------------------------------------
// back-off

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

// ------------------------------------------------------------------------------------------------- points: requests,
// GC

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

// ---------------------------------------------------------------------------------------------- points: ours, and
// others

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

// ----------------------------------------------------------------------------------------------------------- Advertise

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

// -------------------------------------------------------------------------------------------------------------
// recovery

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
