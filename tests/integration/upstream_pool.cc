#include <algorithm>
#include <deque>
#include <future>
#include <map>
#include <random>
#include <set>

#include "tests/integration/application.h"
#include "tests/integration/upstream.h"

// Behaviours of src/lib_p2p's own tests, with their names (docs/upstream-tests.md has the table), on whole nodes.
namespace bulkhead::testing {
namespace {

const std::vector<std::string> kOnlyOne = {"--min-connections", "1", "--expected-connections", "1",
                                           "--max-connections", "1"};

class TestP2pPool : public NodesTest {
 protected:
  /// Nodes that connect at a command alone.
  void add_passive(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) ASSERT_NO_FATAL_FAILURE(add({"--disable-p2p-maintenance"}));
  }
  void expect_all_disconnected() {
    for (const Node& node : nodes_) {
      EXPECT_TRUE(eventually([&] { return node.connections().empty(); })) << node.connections() << node.events();
      for (const Json& row : node.json({"points"})) EXPECT_EQ(row.at(1).at("state").at("event_kind"), "disconnected");
    }
  }
  void kick(const Node& node, const Node& other) {
    const auto done = node.cli({"kick", "peer", other.peer_id()});
    EXPECT_EQ(done.exit_status, 0) << done;
  }
};

TEST_F(TestP2pPool, Simple_NodesConnectToEachOtherPingAndClose) {
  constexpr std::size_t kNodes = 5;
  ASSERT_NO_FATAL_FAILURE(add_passive(kNodes));
  std::deque<ListenCommand> listeners;
  for (const Node& node : nodes_) {
    listeners.emplace_back(node);
    ASSERT_TRUE(listeners.back().wait_attached()) << listeners.back().errors();
  }
  for (std::size_t i = 0; i < kNodes; ++i) {
    for (std::size_t j = i + 1; j < kNodes; ++j) ASSERT_NO_FATAL_FAILURE(connect(nodes_[i], nodes_[j]));
  }

  for (const Node& node : nodes_) {
    const auto sent = node.cli({"broadcast", "50494e47"});
    EXPECT_EQ(sent.exit_status, 0) << sent;
  }
  for (std::size_t i = 0; i < kNodes; ++i) {
    std::set<std::string> heard;
    for (std::size_t j = 1; j < kNodes; ++j) {
      const Json ping = listeners[i].next("message");
      ASSERT_TRUE(ping.is_object()) << listeners[i].errors();
      EXPECT_EQ(ping["body"], "50494e47");
      heard.insert(ping["peer_id"]);
    }
    EXPECT_EQ(heard.size(), kNodes - 1) << "one of each";
  }

  for (std::size_t i = 0; i < kNodes; ++i) {
    for (std::size_t j = i + 1; j < kNodes; ++j) kick(nodes_[i], nodes_[j]);
  }
  expect_all_disconnected();
}

TEST_F(TestP2pPool, Random_NodesConnectPingAndDisconnectInAnyOrder) {
  constexpr std::size_t kNodes = 3;
  std::mt19937 random(5);  // fixed: a failure comes again
  ASSERT_NO_FATAL_FAILURE(add_passive(kNodes));
  std::vector<std::pair<std::size_t, std::size_t>> pairs = {{0, 1}, {0, 2}, {1, 2}};
  for (int round = 0; round < 5; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    std::shuffle(pairs.begin(), pairs.end(), random);
    for (auto& [one, other] : pairs) {
      if (random() % 2 == 0) std::swap(one, other);
      ASSERT_NO_FATAL_FAILURE(connect(nodes_[one], nodes_[other]));
      if (random() % 2 == 0) continue;
      const auto sent = nodes_[other].cli({"send", nodes_[one].peer_id(), "50494e47"});
      EXPECT_EQ(sent.exit_status, 0) << sent;
    }
    std::shuffle(pairs.begin(), pairs.end(), random);
    for (auto& [one, other] : pairs) {
      if (random() % 2 == 0) std::swap(one, other);
      kick(nodes_[one], nodes_[other]);
    }
    ASSERT_NO_FATAL_FAILURE(expect_all_disconnected());
  }
}

TEST_F(TestP2pPool, Garbled_ZeroBytesForAMessageEndEveryConnection) {
  ASSERT_NO_FATAL_FAILURE(add({"--disable-p2p-maintenance"}));
  const Node& node = nodes_.front();
  std::deque<Peer> peers;
  for (int i = 0; i < 10; ++i) {
    peers.push_back(node.make_peer());
    ASSERT_TRUE(node.dial(peers.back()));
    ASSERT_TRUE(peers.back().handshake());
  }
  for (Peer& peer : peers) ASSERT_TRUE(peer.send_chunk(Bytes(16)));
  for (Peer& peer : peers) {
    const auto ending = peer.read_until_closed(Milliseconds(5000) * kPatience);
    EXPECT_TRUE(ending) << ending.error().text;
    EXPECT_FALSE(node.wait_event("decode_error", host_of(peer.local_point())).is_null()) << node.events();
  }
  expect_all_disconnected();
}

TEST_F(TestP2pPool, Overcrowded_ClientsLearnAllOtherPointsFromATargetWithoutASlot) {
  ASSERT_NO_FATAL_FAILURE(add(kOnlyOne));
  PeerOptions open;
  open.advertised_port = 9;
  Peer holder = nodes_[0].make_peer(open);
  ASSERT_TRUE(nodes_[0].dial(holder));
  ASSERT_TRUE(holder.handshake());
  for (int i = 0; i < 3; ++i) {
    ASSERT_NO_FATAL_FAILURE(add(
        {"--peer", nodes_[0].point()},
        R"({"p2p": {"greylisting_config": {"initial-delay": 0.5, "disconnection-delay": 0.5, "increase-cap": 1}}})"));
  }

  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    EXPECT_FALSE(nodes_[i].wait_event("rejected_by_peer", nodes_[0].address()).is_null()) << nodes_[i].events();
    EXPECT_TRUE(eventually(
        [&] {
          for (std::size_t j = 0; j < nodes_.size(); ++j) {
            if (i != j && !knows(nodes_[i], nodes_[j].point())) return false;
          }
          return knows(nodes_[i], host_of(holder.local_point()) + ":9");
        },
        Milliseconds(20'000) * kPatience))
        << nodes_[i].json({"points"}) << events();
  }
  EXPECT_EQ(nodes_[0].connections().size(), 1U);
}

TEST_F(TestP2pPool, OvercrowdedMixed_ClientsOfTheOldVersionGetANackWithoutPoints) {
  ASSERT_NO_FATAL_FAILURE(add(kOnlyOne));
  const Node& target = nodes_[0];
  PeerOptions open;
  open.advertised_port = 9;
  Peer holder = target.make_peer(open);
  ASSERT_TRUE(target.dial(holder));
  ASSERT_TRUE(holder.handshake());
  ASSERT_TRUE(target.wait_connected(holder.peer_id()));
  for (int i = 0; i < 6; ++i) {
    PeerOptions options;
    options.p2p_version = static_cast<std::uint16_t>(i % 2);
    Peer client = target.make_peer(options);
    ASSERT_TRUE(target.dial(client));
    const auto answer = client.negotiate();
    ASSERT_TRUE(answer) << answer.error().text;
    EXPECT_EQ(answer->kind, i % 2 == 0 ? AckKind::kNackV0 : AckKind::kNack);
    const bool told = std::find(answer->points.begin(), answer->points.end(), host_of(holder.local_point()) + ":9") !=
                      answer->points.end();
    EXPECT_EQ(told, i % 2 == 1);
  }
}

class TestP2pConn : public NodeTest {};

TEST_F(TestP2pConn, MsgConsumptionWithoutPeerDiscovery) {
  ASSERT_NO_FATAL_FAILURE(start({.config = R"({"p2p": {"disable_peer_discovery": true}})"}));
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  const std::vector<std::string> points = {"127.252.0.1:9"};

  ASSERT_TRUE(witness_->send_stream(concat(
      {encode_bootstrap(), encode_advertise(points), encode_bootstrap(), encode_message(0x10, from_text("mine"))})));

  const Json line = listen.next("message");
  ASSERT_TRUE(line.is_object()) << listen.errors();
  EXPECT_EQ(line["body"], to_hex(from_text("mine")));
  EXPECT_FALSE(mentions_point(node_->json({"points"}), points[0])) << "what it advertised is not believed";
  const auto sent = node_->cli({"send", witness_->peer_id(), "aa", "--tag", "19"});
  EXPECT_EQ(sent.exit_status, 0) << sent;
  const auto first = witness_->read_message();
  ASSERT_TRUE(first) << first.error().text;
  EXPECT_EQ(first->tag, 19) << "nothing is advertised, and nobody is asked";
}

class TestP2pConnectHandler : public NodeTest {};

TEST_F(TestP2pConnectHandler, ConnectThenDestroy) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  // Accepts by its backlog, and never says a word.
  auto silent = Listener::open(fresh_address());
  ASSERT_TRUE(silent) << silent.error().text;
  BackgroundCommand dial(node_->command({"connect", "address", silent->point()}));
  Peer half_way = node_->make_peer();
  ASSERT_TRUE(node_->dial(half_way));
  ASSERT_TRUE(half_way.introduce());
  auto dialled = silent->accept(kPeerTimeout * kPatience);
  ASSERT_TRUE(dialled) << dialled.error().text;

  EXPECT_EQ(node_->stop(), 0);

  EXPECT_TRUE(half_way.read_until_closed(Milliseconds(5000) * kPatience));
  EXPECT_NE(dial.wait(), 0) << "the dial did not succeed";
}

TEST_F(TestP2pConnectHandler, Hooks_FireOnceForEachConnectionAndNotAfterTheEnd) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  std::deque<Peer> peers;
  for (int i = 0; i < 4; ++i) {
    peers.push_back(node_->make_peer());
    ASSERT_NO_FATAL_FAILURE(shake_hands(peers.back()));
  }
  // A refused one is no connection.
  PeerOptions other;
  other.chain_name = "OTHER";
  Peer refused = node_->make_peer(other);
  ASSERT_TRUE(node_->dial(refused));
  ASSERT_TRUE(refused.negotiate());
  peers[0].close();
  peers[1].reset();
  ASSERT_TRUE(peers[2].send_chunk(Bytes(16)));
  ASSERT_EQ(node_->cli({"kick", "peer", peers[3].peer_id()}).exit_status, 0);

  std::map<std::string, int> comings;
  std::map<std::string, int> goings;
  const auto count = [&](const Json& line) {
    const std::string kind = line.value("event", "");
    if (kind == "connected") ++comings[line["peer_id"]];
    if (kind == "disconnected") ++goings[line["peer_id"]];
  };
  while (goings.size() < peers.size()) {
    const Json line = listen.next();
    ASSERT_TRUE(line.is_object()) << listen.errors();
    count(line);
  }
  EXPECT_EQ(node_->stop(), 0);
  for (Json line = listen.next(); line.is_object(); line = listen.next()) count(line);

  for (const Peer& peer : peers) {
    EXPECT_EQ(comings[peer.peer_id()], 1);
    EXPECT_EQ(goings[peer.peer_id()], 1);
  }
  EXPECT_EQ(comings[witness_->peer_id()], 1);
  EXPECT_LE(goings[witness_->peer_id()], 1);
  EXPECT_EQ(comings.size(), peers.size() + 1) << "nobody else came";
  witness_.reset();
}

class TestP2pBroadcast : public NodesTest {};

TEST_F(TestP2pBroadcast, Simple_LargeMessagesReachEverybodyWhole) {
  for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(add({"--disable-p2p-maintenance"}));
  std::deque<ListenCommand> listeners;
  for (std::size_t i = 1; i < nodes_.size(); ++i) {
    listeners.emplace_back(nodes_[i]);
    ASSERT_TRUE(listeners.back().wait_attached()) << listeners.back().errors();
    ASSERT_NO_FATAL_FAILURE(connect(nodes_[0], nodes_[i]));
  }
  std::vector<std::string> bodies;
  for (std::uint8_t i = 0; i < 5; ++i) {
    const Bytes body = pattern(1000 * 32, i);  // as many bytes as a thousand hashes
    bodies.push_back(to_hex(body));
    const auto sent = nodes_[0].cli({"broadcast", "-"}, std::string(body.begin(), body.end()));
    EXPECT_EQ(sent.exit_status, 0) << sent;
  }
  for (ListenCommand& listen : listeners) {
    for (const std::string& body : bodies) {
      const Json line = listen.next("message");
      ASSERT_TRUE(line.is_object()) << listen.errors();
      EXPECT_TRUE(line["body"] == body);
    }
  }
}

}  // namespace
}  // namespace bulkhead::testing
