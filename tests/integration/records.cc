#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/integration/fixture.h"

/// What the node remembers of points and peers, and peers.json.
namespace bulkhead::testing {
namespace {

class Records : public NodeTest {
 protected:
  void make_node(NodeOptions options = {}) { node_ = std::make_unique<Node>(std::move(options)); }
  void start_again() {
    const auto started = node_->start();
    ASSERT_TRUE(started) << started.error().text;
  }
  std::string peers_path() const { return node_->data_dir() + "/peers.json"; }
  Json peers_file() const { return Json::parse(read_file(peers_path())); }

  /// A peer as octez-node writes it.
  static Json octez_peer(const std::string& peer_id, const std::string& addr, int port) {
    return {{"peer_id", peer_id},
            {"created", "2024-03-01T10:00:00.123-00:00"},
            {"trusted", true},
            {"peer_metadata", {{"valid_blocks", "17"}}},
            {"events", Json::array({{{"kind", "connection_established"},
                                     {"timestamp", "2024-03-01T10:00:00.123-00:00"},
                                     {"addr", addr},
                                     {"port", port}}})},
            {"last_established_connection",
             Json::array({{{"addr", addr}, {"port", port}}, "2024-03-01T10:00:00.123-00:00"})}};
  }

  /// The names of a peer's or a point's events.
  std::vector<std::string> log_of(const std::string& table, const std::string& whom) {
    std::vector<std::string> names;
    for (const Json& row : node_->json({table, "log", whom}))
      names.push_back((table == "peers" ? row.at("kind") : row.at(1).at("event_kind")).get<std::string>());
    return names;
  }
  bool peers_has(const std::string& peer_id) {
    const Json peers = node_->json({"peers"});
    return std::any_of(peers.begin(), peers.end(), [&](const Json& row) { return row[0] == peer_id; });
  }
};

using Names = std::vector<std::string>;

// ---- peers.json

TEST_F(Records, OfAPeersFileAreKnownFromTheFirstStartOn) {
  make_node();
  const std::string known = node_->make_peer().peer_id();
  write_file(peers_path(), Json::array({octez_peer(known, "::ffff:192.0.2.7", 9732)}).dump());
  ASSERT_NO_FATAL_FAILURE(start_again());

  const Json peers = node_->json({"peers"});
  ASSERT_EQ(peers.size(), 1U) << peers;
  EXPECT_EQ(peers[0][0], known);
  EXPECT_NE(node_->log().find("1 peer is known from peers.json"), std::string::npos) << node_->log();
  EXPECT_EQ(peers[0][1]["trusted"], true);
  EXPECT_EQ(peers[0][1]["created"], "2024-03-01T10:00:00.123Z");
  EXPECT_EQ(peers[0][1]["last_established_connection"], "2024-03-01T10:00:00.123Z");
  EXPECT_TRUE(mentions_point(peers[0][1]["reachable_at"], "192.0.2.7:9732")) << peers;
  EXPECT_EQ(node_->json({"points"})[0][0], "192.0.2.7:9732");
  EXPECT_EQ(log_of("peers", known), Names{"connection_established"});
  EXPECT_EQ(node_->json({"acl"})["whitelist"][0]["peer_id"], known) << "trust is in the lists";

  // From here on the database knows better.
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_FALSE(std::filesystem::exists(peers_path() + ".old")) << "all of it is known";
  EXPECT_EQ(peers_file()[0]["peer_id"], known);
  EXPECT_EQ(peers_file()[0]["events"].size(), 1U);
  const std::string other = node_->make_peer().peer_id();
  write_file(peers_path(), Json::array({octez_peer(other, "::ffff:192.0.2.8", 9732)}).dump());
  ASSERT_NO_FATAL_FAILURE(start_again());
  EXPECT_TRUE(peers_has(known));
  EXPECT_FALSE(peers_has(other));
  EXPECT_EQ(log_of("peers", known), Names{"connection_established"});

  // What it did not read is not lost when it writes its own.
  EXPECT_NE(node_->log().find("peers.json was not read, because the state database knows peers already; 1 of its 1 "
                              "peers are not known here, or not trusted. It will be kept as " +
                              peers_path() + ".old"),
            std::string::npos)
      << node_->log();
  const std::string unread = read_file(peers_path());
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_EQ(read_file(peers_path() + ".old"), unread);
  EXPECT_EQ(peers_file()[0]["peer_id"], known);
  // Its own file is not kept again and again.
  ASSERT_NO_FATAL_FAILURE(start_again());
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_FALSE(std::filesystem::exists(peers_path() + ".old-2"));
}

TEST_F(Records, OfAPeersFileWithoutRoomForAllAreKept) {
  make_node({.arguments = {"--connections", "2", "--peer-table-size", "8"}});
  Json peers = Json::array();
  for (int i = 1; i <= 9; ++i)
    peers.push_back(octez_peer(node_->make_peer().peer_id(), "::ffff:192.0.2." + std::to_string(i), 9732));
  write_file(peers_path(), peers.dump());
  ASSERT_NO_FATAL_FAILURE(start_again());
  EXPECT_NE(node_->log().find("1 of its 9 peers are not known here"), std::string::npos) << node_->log();
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_EQ(Json::parse(read_file(peers_path() + ".old")), peers);
  EXPECT_EQ(peers_file().size(), 8U);
}

TEST_F(Records, OfADatabaseThatIsDamagedComeBackFromThePeersFile) {
  make_node();
  const std::string known = node_->make_peer().peer_id();
  write_file(peers_path(), Json::array({octez_peer(known, "::ffff:192.0.2.7", 9732)}).dump());
  ASSERT_NO_FATAL_FAILURE(start_again());
  ASSERT_EQ(node_->stop(), 0);
  write_file(node_->data_dir() + "/state/state.db", std::string(8192, 'x'));
  ASSERT_NO_FATAL_FAILURE(start_again());
  EXPECT_NE(node_->log().find("the state database is damaged"), std::string::npos);
  EXPECT_TRUE(peers_has(known));
}

TEST_F(Records, OfAPeersFileThatDoesNotParseStopTheStart) {
  make_node();
  const std::pair<const char*, const char*> cases[] = {
      {"[\n  {\"peer_id\": }\n]", "peers.json: line 2, column 15: this is not JSON"},
      {"{}", "peers.json: /: the file must hold one array of peers"},
      {R"([{"peer_id": "nobody", "created": 1}])", "peers.json: /0/peer_id: must be a peer id"},
      {R"([{"peer_id": "idrdoT9g6YwELhUQyshCcHwAzBS9zA", "created": "once"}])",
       "peers.json: /0/created: must be a time"},
  };
  for (const auto& [text, said] : cases) {
    write_file(peers_path(), text);
    const auto run = node_->cli({"run", "--no-bootstrap-peers", "--expected-pow", "0"});
    EXPECT_EQ(run.exit_status, 1) << run;
    EXPECT_NE(run.err.find(node_->data_dir() + "/" + said), std::string::npos) << run;
    EXPECT_EQ(std::count(run.err.begin(), run.err.end(), '\n'), 1) << run;
    EXPECT_EQ(read_file(peers_path()), text) << "nothing is overwritten";
    EXPECT_FALSE(std::filesystem::exists(node_->data_dir() + "/state")) << "nothing was begun";
  }
}

TEST_F(Records, AreWrittenWhenTheNodeStopsAndOnDemand) {
  ASSERT_NO_FATAL_FAILURE(start());
  const Json exported = Json::parse(node_->cli({"peers", "export"}).out);
  ASSERT_EQ(exported.size(), 1U);
  EXPECT_EQ(exported[0]["peer_id"], witness_->peer_id());
  EXPECT_EQ(exported[0]["events"][0]["kind"], "incoming_request");
  EXPECT_EQ(exported[0]["events"][1]["kind"], "connection_established");

  const std::string path = node_->data_dir() + "/exported.json";
  write_file(path, "old");
  const auto done = node_->cli({"peers", "export", path});
  EXPECT_EQ(done.exit_status, 0) << done;
  EXPECT_EQ(Json::parse(read_file(path)), exported);
  const auto failed = node_->cli({"peers", "export", node_->data_dir() + "/no/such/folder"});
  EXPECT_EQ(failed.exit_status, 1) << failed;
  EXPECT_NE(failed.err.find("/no/such/folder"), std::string::npos) << failed;

  EXPECT_FALSE(std::filesystem::exists(peers_path()));
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_EQ(peers_file()[0]["peer_id"], witness_->peer_id());
  EXPECT_EQ(peers_file()[0]["events"].size(), 3U) << "and its end";
  witness_.reset();
}

// tezt p2p: check --advertised-net-port=PORT option
TEST_F(Records, HaveTheAdvertisedPortNotTheRealOne) {
  make_node();
  ASSERT_NO_FATAL_FAILURE(start_again());
  Node other({.arguments = {"--peer", node_->point(), "--advertised-net-port", "8732"}});
  ASSERT_TRUE(other.start());
  ASSERT_TRUE(node_->wait_connected(other.peer_id())) << node_->events();
  ASSERT_EQ(node_->stop(), 0);
  const Json peers = peers_file();
  ASSERT_EQ(peers.size(), 1U);
  EXPECT_EQ(peers[0]["peer_id"], other.peer_id());
  EXPECT_EQ(peers[0]["last_established_connection"][0]["port"], 8732);
  EXPECT_NE(other.port(), 8732);
}

// ---- histories

TEST_F(Records, HaveAHistoryThatOutlivesTheControllerAndTheNode) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string whom = witness_->peer_id();
  EXPECT_EQ(log_of("peers", whom), (Names{"incoming_request", "connection_established"}));

  const pid_t controller = node_->service_pid("controller");
  ::kill(controller, SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const pid_t next = node_->service_pid("controller");
    return next > 0 && next != controller && node_->json({"status"}).at("ready") == true;
  })) << node_->log();
  EXPECT_EQ(log_of("peers", whom), (Names{"incoming_request", "connection_established"}));
  const auto kicked = node_->cli({"kick", "peer", whom});
  ASSERT_EQ(kicked.exit_status, 0) << kicked;
  ASSERT_TRUE(node_->wait_gone(whom));
  const Names whole{"incoming_request", "connection_established", "disconnection"};
  EXPECT_EQ(log_of("peers", whom), whole);
  witness_.reset();

  ASSERT_EQ(node_->stop(), 0);
  ASSERT_NO_FATAL_FAILURE(start_again());
  EXPECT_EQ(log_of("peers", whom), whole);
  const auto text = node_->cli({"peers", "log", whom});
  EXPECT_NE(text.out.find("kicked"), std::string::npos) << text;
}

TEST_F(Records, OfAPointTellWhatBecameOfDials) {
  make_node();
  const std::string address = fresh_address();
  const std::string nobody = address + ":" + std::to_string(free_port(address));
  ASSERT_NO_FATAL_FAILURE(start_again());
  EXPECT_EQ(node_->cli({"connect", "address", nobody}).exit_status, 1);
  const Json log = node_->json({"points", "log", nobody});
  ASSERT_EQ(log.size(), 2U) << log;
  EXPECT_EQ(log[0][1], (Json{{"event_kind", "outgoing_request"}}));
  EXPECT_EQ(log[1][1], (Json{{"event_kind", "request_rejected"}, {"reason", "connection_refused"}}));

  const auto unknown = node_->cli({"points", "log", "192.0.2.1:1"});
  EXPECT_EQ(unknown.exit_status, 1) << unknown;
  EXPECT_NE(unknown.err.find("192.0.2.1:1 is not a known point"), std::string::npos) << unknown;
}

// ---- bad input

TEST_F(Records, OfAConfigurationWhoseBoundsContradictEachOtherStopTheStart) {
  make_node();
  const std::string path = node_->data_dir() + "/config.json";
  const std::pair<const char*, const char*> cases[] = {
      {"{\n  \"p2p\": ", "config.json: line 2, column "},
      {R"({"p2p": {"limits": {"min-connections": 51}}})",
       "config.json: /p2p/limits/min-connections) is above expected-"},
      {R"({"p2p": {"limits": {"expected-connections": 101}}})",
       "config.json: /p2p/limits/expected-connections) is above max-connections 100"},
      {R"({"p2p": {"limits": {"max-connections": 301}}})",
       "config.json: /p2p/limits/max-connections) is above max-known-points's target 300"},
      {R"({"bulkhead": {"max-target": 20}})", "max-target from "},
  };
  for (const auto& [text, said] : cases) {
    write_file(path, text);
    const auto run = node_->cli({"run", "--no-bootstrap-peers"});
    EXPECT_EQ(run.exit_status, 1) << run;
    EXPECT_NE(run.err.find(said), std::string::npos) << run;
    EXPECT_NE(run.err.find(path), std::string::npos) << run;
    EXPECT_EQ(read_file(path), text);
  }
}

}  // namespace
}  // namespace bulkhead::testing
