#include <algorithm>

#include "bulkhead/application.h"
#include "tests/integration/upstream.h"

// Behaviours of tezt/tests/p2p.ml, with their names (docs/upstream-tests.md has the table): whole nodes.
namespace bulkhead::testing {
namespace {

std::vector<std::string> bounds(int minimum, int expected, int maximum) {
  return {"--min-connections",      std::to_string(minimum), "--expected-connections",
          std::to_string(expected), "--max-connections",     std::to_string(maximum)};
}

std::vector<std::string> operator+(std::vector<std::string> left, const std::vector<std::string>& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

class TeztP2p : public NodesTest {};

TEST_F(TeztP2p, CheckConnection1Option_ANodeLimitedToOneConnects) {
  ASSERT_NO_FATAL_FAILURE(add());
  ASSERT_NO_FATAL_FAILURE(add({"--connections", "1", "--peer", nodes_[0].point()}));
  EXPECT_TRUE(nodes_[1].wait_connected(nodes_[0].peer_id())) << events();
  ASSERT_NO_FATAL_FAILURE(add());
  const auto one_too_many = nodes_[2].cli({"connect", "address", nodes_[1].point()});
  EXPECT_NE(one_too_many.exit_status, 0) << one_too_many;
  EXPECT_EQ(nodes_[1].connections().size(), 1U);
}

TEST_F(TeztP2p, CheckPeerOption_ConnectsToThePeerThatIsExpectedThere) {
  ASSERT_NO_FATAL_FAILURE(add());
  ASSERT_NO_FATAL_FAILURE(add({"--peer", nodes_[0].point() + "#" + nodes_[0].peer_id()}));
  EXPECT_TRUE(nodes_[1].wait_connected(nodes_[0].peer_id())) << events();
  EXPECT_TRUE(nodes_[1].wait_event("unexpected_peer_id", "", Milliseconds(0)).is_null());
  EXPECT_EQ(nodes_[1].connection(nodes_[0].peer_id())["trusted"], true);
}

TEST_F(TeztP2p, ExpectedPeerId_AnotherPeerThanExpectedIsNotConnectedTo) {
  ASSERT_NO_FATAL_FAILURE(add());
  ASSERT_NO_FATAL_FAILURE(add());
  ASSERT_NO_FATAL_FAILURE(add({"--peer", nodes_[0].point() + "#" + nodes_[0].peer_id(), "--peer",
                               nodes_[1].point() + "#" + nodes_[0].peer_id()}));
  EXPECT_TRUE(nodes_[2].wait_connected(nodes_[0].peer_id())) << events();
  EXPECT_FALSE(nodes_[2].wait_event("unexpected_peer_id", nodes_[1].address()).is_null()) << events();
  EXPECT_FALSE(connected(nodes_[2], nodes_[1]));
  EXPECT_TRUE(nodes_[1].wait_gone(nodes_[2].peer_id()));
}

// A star: two nodes know nobody but its centre. With two connections each they are content.
TEST_F(TeztP2p, PeerDiscovery_TwoNodesLearnOfEachOtherThroughACentre) {
  ASSERT_NO_FATAL_FAILURE(add());
  for (int i = 0; i < 2; ++i)
    ASSERT_NO_FATAL_FAILURE(add(bounds(2, 2, 6) + std::vector<std::string>{"--peer", nodes_[0].point()}));
  const Node& one = nodes_[1];
  const Node& other = nodes_[2];
  EXPECT_TRUE(
      eventually([&] { return connected(one, other) && connected(other, one); }, Milliseconds(20'000) * kPatience))
      << events();
  EXPECT_TRUE(knows(one, other.point()));
  EXPECT_TRUE(knows(other, one.point()));
}

TEST_F(TeztP2p, PeerDiscoveryDisable_NothingIsLearntThroughACentre) {
  const std::string off = R"({"p2p": {"disable_peer_discovery": true, "greylisting_config":
    {"initial-delay": 0.2, "disconnection-delay": 0.2, "increase-cap": 0.3}}})";
  ASSERT_NO_FATAL_FAILURE(add({}, off));
  // Nobody is there: that it is dialled again and again shows that maintenance runs, and finds too few.
  const std::string nobody = fresh_address() + ":9";
  for (int i = 0; i < 2; ++i) {
    ASSERT_NO_FATAL_FAILURE(
        add(bounds(2, 2, 6) + std::vector<std::string>{"--peer", nodes_[0].point(), "--peer", nobody}, off));
  }
  for (std::size_t i = 1; i <= 2; ++i) ASSERT_TRUE(nodes_[i].wait_connected(nodes_[0].peer_id())) << events();
  const auto dials = [&](const Node& node) {
    const auto list = node.json_lines({"events"});
    return std::count_if(list.begin(), list.end(),
                         [](const Json& e) { return e.value("reason", Json()) == "connection_refused"; });
  };
  for (std::size_t i = 1; i <= 2; ++i) {
    const auto before = dials(nodes_[i]);
    EXPECT_TRUE(eventually([&] { return dials(nodes_[i]) >= before + 4; }, Milliseconds(20'000) * kPatience));
    const Json points = nodes_[i].json({"points"});
    EXPECT_EQ(points.size(), 2U) << points;
    EXPECT_EQ(nodes_[i].connections().size(), 1U);
  }
}

TEST_F(TeztP2p, SetATrustedRing_BecomesAFullMeshByPeerExchange) {
  constexpr std::size_t kNodes = 5;
  // A swap may part two of them first: they are to meet again before the test has waited long enough.
  const std::string soon = R"({"p2p": {"greylisting_config":
    {"initial-delay": 0.2, "disconnection-delay": 0.2, "increase-cap": 0.3}}})";
  for (std::size_t i = 0; i < kNodes; ++i) ASSERT_NO_FATAL_FAILURE(add(bounds(4, 4, 8), soon));
  for (std::size_t i = 0; i < kNodes; ++i) {
    const auto trusted = nodes_[i].cli({"trust", "address", nodes_[(i + 1) % kNodes].point()});
    ASSERT_EQ(trusted.exit_status, 0) << trusted;
  }
  EXPECT_TRUE(eventually(
      [&] {
        return std::all_of(nodes_.begin(), nodes_.end(),
                           [](const Node& node) { return node.connections().size() == kNodes - 1; });
      },
      Milliseconds(60'000) * kPatience))
      << events();
  for (const Node& node : nodes_) {
    const Json points = node.json({"points"});
    const Json peers = node.json({"peers"});
    EXPECT_EQ(points.size(), kNodes - 1) << points;
    EXPECT_EQ(peers.size(), kNodes - 1) << peers;
    EXPECT_EQ(trusted_rows(points), 1U) << points;
  }
}

TEST_F(TeztP2p, OctezAdminClientP2pStat_SaysWhatTheTablesSay) {
  for (int i = 0; i < 3; ++i) ASSERT_NO_FATAL_FAILURE(add({"--disable-p2p-maintenance"}));
  ASSERT_NO_FATAL_FAILURE(connect(nodes_[0], nodes_[1]));
  ASSERT_NO_FATAL_FAILURE(connect(nodes_[1], nodes_[2]));

  const Json stat = nodes_[1].json({"p2p", "stat"});

  ASSERT_EQ(stat.at("incoming_connections").size(), 1U) << stat;
  EXPECT_EQ(stat["incoming_connections"][0].at("peer_id"), nodes_[0].peer_id());
  ASSERT_EQ(stat.at("outgoing_connections").size(), 1U) << stat;
  EXPECT_EQ(stat["outgoing_connections"][0].at("peer_id"), nodes_[2].peer_id());
  EXPECT_EQ(stat.at("points"), nodes_[1].json({"points"}));
  const Json peers = nodes_[1].json({"peers"});
  ASSERT_EQ(stat.at("peers").size(), peers.size());
  for (std::size_t i = 0; i < peers.size(); ++i) {
    EXPECT_EQ(stat["peers"][i][0], peers[i][0]);
    EXPECT_EQ(stat["peers"][i][1]["state"], "running");
  }
  EXPECT_TRUE(stat.at("stat").contains("total_sent")) << stat;
  const auto text = nodes_[1].cli({"p2p", "stat"});
  for (const std::size_t other : {std::size_t{0}, std::size_t{2}}) {
    EXPECT_NE(text.out.find(nodes_[other].peer_id()), std::string::npos) << text;
    EXPECT_NE(text.out.find(nodes_[other].point()), std::string::npos) << text;
  }
}

// 1b - 1a - S - 2a - 2b: after a swap S has 1b or 2b in place of 2a or 1a, and who was asked has that one.
class TeztP2pSwap : public NodesTest {
 protected:
  enum : std::size_t { kS, k1a, k1b, k2a, k2b };

  void set_up(const std::vector<std::string>& more = {}) {
    // Content with what they have, so that a run ends with a swap; and nobody tells of others.
    const std::vector<std::string> content = {"--min-threshold", "1", "--min-target",     "1",    "--max-target", "4",
                                              "--max-threshold", "4", "--peer-selection", "octez"};
    for (int i = 0; i < 5; ++i) {
      ASSERT_NO_FATAL_FAILURE(add(bounds(1, 2, 5) + content + more, R"({"p2p": {"disable_peer_discovery": true}})"));
    }
    ASSERT_NO_FATAL_FAILURE(connect(nodes_[k1a], nodes_[k1b]));
    ASSERT_NO_FATAL_FAILURE(connect(nodes_[k2a], nodes_[k2b]));
    ASSERT_NO_FATAL_FAILURE(connect(nodes_[kS], nodes_[k1a]));
    ASSERT_NO_FATAL_FAILURE(connect(nodes_[kS], nodes_[k2a]));
  }
  /// A run of its maintenance, as an application asks for one.
  static void maintain(const Node& node) {
    auto application = client::Application::attach(node.data_dir());
    ASSERT_TRUE(application) << application.error().text;
    ASSERT_TRUE((*application)->maintain());
  }
  bool linked(std::size_t one, std::size_t other) const {
    return connected(nodes_[one], nodes_[other]) && connected(nodes_[other], nodes_[one]);
  }
  bool apart(std::size_t one, std::size_t other) const {
    return !connected(nodes_[one], nodes_[other]) && !connected(nodes_[other], nodes_[one]);
  }
};

TEST_F(TeztP2pSwap, P2pSwap_SAndTheNodeThatItAskedExchangeNeighbours) {
  ASSERT_NO_FATAL_FAILURE(set_up());

  ASSERT_NO_FATAL_FAILURE(maintain(nodes_[kS]));

  const auto swapped = [&](std::size_t asked, std::size_t got, std::size_t offered) {
    return linked(kS, asked) && linked(kS, got) && linked(asked, offered) && apart(kS, offered) && apart(asked, got);
  };
  EXPECT_TRUE(
      eventually([&] { return swapped(k1a, k1b, k2a) || swapped(k2a, k2b, k1a); }, Milliseconds(20'000) * kPatience))
      << events();
}

TEST_F(TeztP2pSwap, P2pSwapDisable_NobodyAsksAndNobodyAnswers) {
  ASSERT_NO_FATAL_FAILURE(set_up({"--disable-p2p-swap"}));

  for (const Node& node : nodes_) ASSERT_NO_FATAL_FAILURE(maintain(node));
  Peer asks = nodes_[kS].make_peer();
  ASSERT_TRUE(nodes_[kS].dial(asks));
  ASSERT_TRUE(asks.handshake());
  ASSERT_TRUE(nodes_[kS].wait_connected(asks.peer_id()));
  ASSERT_TRUE(asks.send_stream(encode_swap_request("127.252.0.2:9", peer_id_of(asks.identity().keys.public_key))));
  // What is sent after the request is answered after it: an answer to the request would come first.
  const auto sent = nodes_[kS].cli({"send", asks.peer_id(), "aa", "--tag", "19"});
  EXPECT_EQ(sent.exit_status, 0) << sent;
  const auto first = asks.read_message();
  ASSERT_TRUE(first) << first.error().text;
  EXPECT_EQ(first->tag, 19);
  EXPECT_TRUE(linked(kS, k1a) && linked(kS, k2a) && linked(k1a, k1b) && linked(k2a, k2b)) << events();
}

}  // namespace
}  // namespace bulkhead::testing
