#include "tests/unit/services/controller/pool_support.h"

/// What is remembered of each point and each peer, as the point and peer states of Octez log it.
namespace bulkhead::controller {
namespace {

using namespace test;
using shm::HistoryKind;

const Point kA = point("10.0.0.1:9732");
const Point kB = point("10.0.0.2:9732");

/// "kind/reason" of each event.
std::vector<std::string> told(const std::vector<shm::HistoryEvent>& events, const char* (*name)(std::uint8_t)) {
  std::vector<std::string> texts;
  for (const auto& event : events) {
    const Reason reason = reason_from_value(event.reason).value_or(Reason::kNone);
    texts.push_back(std::string(name(event.kind)) +
                    (reason == Reason::kNone ? "" : std::string("/") + reason_name(reason)));
  }
  return texts;
}
std::vector<std::string> of_point(Node& node, const Point& where) {
  return told(node.log(where), shm::history_name_of_point);
}
std::vector<std::string> of_peer(Node& node, const PeerId& who) {
  return told(node.log(who), shm::history_name_of_peer);
}
using Texts = std::vector<std::string>;

/// Notes what a journal is told, and can bring it back.
struct Notes : PoolJournal {
  void noted(const Point&, const KnownPoint&) override {}
  void noted(const PeerId&, const KnownPeer&) override {}
  void forgotten(const Point& point) override { points.erase(point); }
  void forgotten(const PeerId& peer) override { peers.erase(peer); }
  void happened(const Point& point, std::uint64_t number, const shm::HistoryEvent& event) override {
    points[point].emplace_back(number, event);
  }
  void happened(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event) override {
    peers[peer].emplace_back(number, event);
  }
  using Events = std::vector<std::pair<std::uint64_t, shm::HistoryEvent>>;
  std::map<Point, Events> points;
  std::map<PeerId, Events> peers;
};

TEST(PoolHistory, OfAnOutgoingConnection) {
  Node node;
  node.end(node.run(node.outgoing(kA), peer_id(1)), Reason::kClosedByPeer);
  EXPECT_EQ(of_point(node, kA), (Texts{"outgoing_request", "accepting_request", "connection_established",
                                       "external_disconnection/closed_by_peer"}));
  EXPECT_EQ(of_peer(node, peer_id(1)),
            (Texts{"incoming_request", "connection_established", "external_disconnection/closed_by_peer"}));
}

TEST(PoolHistory, OfAnIncomingConnection) {
  Node node;
  node.end(node.run(node.incoming(kA), peer_id(1)), Reason::kKicked);
  EXPECT_EQ(of_point(node, kA), (Texts{"accepting_request", "connection_established", "disconnection/kicked"}));
  EXPECT_EQ(of_peer(node, peer_id(1)), (Texts{"incoming_request", "connection_established", "disconnection/kicked"}));
}

TEST(PoolHistory, SaysWhoWhereAndWhen) {
  Node node;
  node.now = 1234;
  node.run(node.incoming(kA), peer_id(7));
  for (const auto& event : node.log(kA)) {
    EXPECT_EQ(event.time_ms, 1234);
    EXPECT_EQ(event.has_other, 1);
    EXPECT_EQ(event.other, peer_id(7));
  }
  for (const auto& event : node.log(peer_id(7))) {
    EXPECT_EQ(event.time_ms, 1234);
    EXPECT_EQ(Address{event.other}, kA.address);
    EXPECT_EQ(event.port, kA.port) << "the port that it listens on, not that of the socket";
  }
}

TEST(PoolHistory, OfDialsThatFail) {
  Node node;
  ASSERT_EQ(node.pool->request(kA, at(node.now)), Reason::kNone);
  node.pool->dial_failed(kA, at(node.now), Reason::kConnectionRefused);
  ASSERT_EQ(node.pool->request(kA, at(node.now)), Reason::kNone);
  node.pool->abandon_requests(at(node.now));
  node.end(node.outgoing(kA), Reason::kAuthenticationTimeout);
  EXPECT_EQ(of_point(node, kA),
            (Texts{"outgoing_request", "request_rejected/connection_refused", "outgoing_request",
                   "request_rejected/service_gone", "outgoing_request", "request_rejected/authentication_timeout"}));
  for (const auto& event : node.log(kA)) EXPECT_EQ(event.has_other, 0) << "nobody proved itself";
}

TEST(PoolHistory, OfWhomWeTurnAwayAndOfWhoTurnsUsAway) {
  Node node;
  node.run(node.incoming(kA), peer_id(1));
  const auto again = node.incoming(kA);
  EXPECT_EQ(node.decide(again, peer_id(1)).reason, Reason::kAlreadyConnected);
  node.end(again, Reason::kAlreadyConnected);
  EXPECT_EQ(of_peer(node, peer_id(1)).back(), "rejecting_request/already_connected");
  EXPECT_EQ(of_point(node, kA).back(), "rejecting_request/already_connected");
  EXPECT_EQ(node.state(kA), PointState::kRunning) << "of the connection that goes on nothing changes";

  const auto refused = node.outgoing(kB);
  ASSERT_EQ(node.decide(refused, peer_id(2)).kind, VerdictKind::kAccept);
  node.end(refused, Reason::kRejectedByPeer);
  EXPECT_EQ(of_peer(node, peer_id(2)).back(), "request_rejected/rejected_by_peer");
  EXPECT_EQ(of_point(node, kB).back(), "request_rejected/rejected_by_peer");
}

TEST(PoolHistory, OfAnIncomingHandshakeThatProvedNothingIsNone) {
  Node node;
  node.pool->configure(kA, std::nullopt, at(node.now));
  node.end(node.incoming(kA), Reason::kDecipherError);
  EXPECT_TRUE(node.log(kA).empty()) << "anybody can claim a point";
}

TEST(PoolHistory, KeepsAHundredEvents) {
  Node node;
  for (int i = 0; i < 60; ++i) {
    node.now += 1;
    node.end(node.run(node.incoming(kA), peer_id(1)), Reason::kClosedByPeer);
  }
  EXPECT_EQ(node.log(kA).size(), shm::kHistoryEvents);
  EXPECT_EQ(node.log(peer_id(1)).size(), shm::kHistoryEvents);
  EXPECT_EQ(node.log(kA).back().time_ms, static_cast<std::int64_t>(node.now));
}

TEST(PoolHistory, GoesWithItsRecord) {
  Node node;
  node.end(node.run(node.incoming(kA), peer_id(1)), Reason::kClosedByPeer);
  node.pool->add_own_point(kA);
  ASSERT_FALSE(node.knows(kA));
  // The row that was freed is the next to be taken.
  ASSERT_NE(node.pool->register_point(kB, false, at(node.now)), nullptr);
  EXPECT_TRUE(node.log(kB).empty());
}

TEST(PoolHistory, OutlivesTheController) {
  Node node;
  node.run(node.incoming(kA), peer_id(1));
  const auto before = node.log(kA);
  node.restart();
  EXPECT_EQ(node.log(kA), before);
  node.pool->ended(*node.pool->running(peer_id(1)), Reason::kControllerRestarted, at(node.now));
  EXPECT_EQ(of_point(node, kA).back(), "external_disconnection/controller_restarted");
  EXPECT_EQ(node.log(kA).size(), before.size() + 1);
}

TEST(PoolHistory, IsToldToTheJournalAndRestoredFromIt) {
  Notes notes;
  Node node;
  node.pool->keep_journal(&notes);
  for (int i = 0; i < 50; ++i) node.end(node.run(node.outgoing(kA), peer_id(1)), Reason::kClosedByPeer);
  const auto of_a = node.log(kA);
  const auto of_one = node.log(peer_id(1));

  Node next;
  next.pool->restore(kA, {}, at(1));
  next.pool->restore(peer_id(1), KnownPeer{}, at(1));
  for (const auto& [number, event] : notes.points[kA]) next.pool->restore(kA, number, event);
  for (const auto& [number, event] : notes.peers[peer_id(1)]) next.pool->restore(peer_id(1), number, event);
  next.pool->restore(kB, 0, of_a.front());
  EXPECT_EQ(next.log(kA), of_a);
  EXPECT_EQ(next.log(peer_id(1)), of_one);
  EXPECT_FALSE(next.knows(kB)) << "a history alone makes no record";

  Notes later;
  next.pool->keep_journal(&later);
  ASSERT_EQ(next.pool->request(kA, at(2)), Reason::kNone);
  EXPECT_EQ(later.points[kA].front().first, notes.points[kA].back().first + 1) << "numbers go on";
}

TEST(PoolHistory, IsToldAgainToTheJournalOfASuccessor) {
  Notes notes;
  Node node;
  node.pool->keep_journal(&notes);
  node.end(node.run(node.outgoing(kA), peer_id(1)), Reason::kClosedByPeer);
  node.run(node.incoming(kB), peer_id(2));
  node.restart();
  Notes later;
  node.pool->keep_journal(&later);
  const std::int64_t last = notes.peers[peer_id(2)].back().second.time_ms;
  node.pool->tell_again(last + 1);
  EXPECT_TRUE(later.points.empty() && later.peers.empty());
  node.pool->tell_again(0);
  EXPECT_EQ(later.points, notes.points);
  EXPECT_EQ(later.peers, notes.peers);
}

// ---- tezt p2p, what garbage collection keeps

// check preservation of trusted known points and peers
TEST(KnownPeers, PreservationOfTrustedKnownPeers) {
  auto with = limits();
  with.known_peers_maximum = 5;
  with.known_peers_target = 1;
  Node node(with);
  for (std::uint32_t i = 0; i < 4; ++i) node.lists.peers[peer_id(i)] = Standing::kTrusted;
  for (std::uint32_t i = 0; i < 40; ++i)
    node.end(node.run(node.incoming(numbered(i)), peer_id(i)), Reason::kClosedByPeer);
  for (std::uint32_t i = 0; i < 4; ++i) EXPECT_TRUE(node.pool->peers().contains(peer_id(i))) << i;
  EXPECT_LE(node.pool->peers().size(), 5U);
}

// check non-preservation of known points
TEST(KnownPoints, NonPreservationOfKnownPoints) {
  for (const bool hardened : {false, true}) {
    auto with = limits();
    with.hardened = hardened;
    with.known_points_maximum = 1;
    with.known_points_target = 0;
    Node node(with);
    node.pool->configure(numbered(1000), std::nullopt, at(1));
    for (std::uint32_t i = 0; i < 10; ++i) node.pool->configure(numbered(2000 + i), std::nullopt, at(1));
    EXPECT_EQ(node.pool->register_point(numbered(1), false, at(2)), nullptr) << "there is room for trusted ones alone";
    EXPECT_EQ(node.pool->points().size(), 11U);

    Node other(with);
    for (std::uint32_t i = 0; i < 10; ++i) {
      ASSERT_NE(other.pool->register_point(numbered(i), false, at(i)), nullptr);
      EXPECT_EQ(other.pool->points().size(), 1U) << "untrusted ones go";
      EXPECT_TRUE(other.knows(numbered(i))) << "the newest stays";
    }
  }
}

}  // namespace
}  // namespace bulkhead::controller
