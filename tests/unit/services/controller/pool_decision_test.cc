#include <algorithm>
#include <set>

#include "services/controller/pool.h"
#include "tests/unit/services/controller/pool_support.h"

/// The pool's verdicts on handshakes.
namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

const Point kA = point("192.0.2.1:9732");
const Point kB = point("192.0.2.2:9732");

// ---- steps 9 to 18

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

// ---- traps of the protocol

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

}  // namespace
}  // namespace bulkhead::controller
