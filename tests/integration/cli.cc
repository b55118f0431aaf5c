#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include "tests/integration/application.h"
#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

std::size_t lines_of(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) +
         (text.empty() || text.back() == '\n' ? 0 : 1);
}

/// Refused: a status that says so, one line on standard error that holds `hints`, nothing on standard output.
void expect_refused(const CommandResult& result, const std::vector<std::string>& hints = {}) {
  EXPECT_TRUE(result.exit_status == 1 || result.exit_status == 2) << result;
  EXPECT_EQ(lines_of(result.err), 1u) << "one line\n" << result;
  EXPECT_EQ(result.out, "") << result;
  for (const std::string& hint : hints) EXPECT_NE(result.err.find(hint), std::string::npos) << hint << "\n" << result;
}

class Cli : public NodeTest {
 protected:
  /// A command on a data directory without a node.
  CommandResult run(std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.end(), {"--data-dir", directory_.path()});
    return run_bulkhead(arguments, input);
  }
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }
  void make_identity() {
    const auto made = run({"identity", "generate", "1"});
    ASSERT_EQ(made.exit_status, 0) << made;
  }
  /// `run` that has to fail at once; were it to start, the time-out would end it.
  CommandResult run_node(std::vector<std::string> options = {}) {
    const std::string address = fresh_address();
    std::vector<std::string> words = {
        "run", "--net-addr",          address + ":" + std::to_string(free_port(address)), "--expected-pow",
        "1",   "--no-bootstrap-peers"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), {"--data-dir", directory_.path()});
    return run_bulkhead(words, "", Milliseconds(5000) * kPatience);
  }

 private:
  TemporaryDirectory directory_;
};

// ---- identity ----

TEST_F(Cli, MakesAnIdentityAsOctezWritesIt) {
  ASSERT_NO_FATAL_FAILURE(make_identity());

  const Json identity = Json::parse(read_file(path("identity.json")), nullptr, false);
  struct stat info {};
  ASSERT_EQ(::stat(path("identity.json").c_str(), &info), 0);
  ASSERT_TRUE(identity.is_object());
  const std::string public_key = identity["public_key"];
  const std::string secret_key = identity["secret_key"];
  const std::string stamp = identity["proof_of_work_stamp"];

  EXPECT_EQ(info.st_mode & 0777, 0600u);
  ASSERT_EQ(public_key.size(), 64u);
  ASSERT_EQ(secret_key.size(), 64u);
  ASSERT_EQ(stamp.size(), 48u);
  Key secret{};
  ProofStamp proof{};
  const Bytes secret_bytes = from_hex(secret_key);
  const Bytes stamp_bytes = from_hex(stamp);
  std::copy(secret_bytes.begin(), secret_bytes.end(), secret.begin());
  std::copy(stamp_bytes.begin(), stamp_bytes.end(), proof.begin());
  const KeyPair pair = key_pair_of(secret);
  EXPECT_EQ(to_hex(pair.public_key), public_key);
  EXPECT_EQ(identity["peer_id"], peer_id_text(pair.public_key));
  EXPECT_TRUE(proof_of_work_holds(pair.public_key, proof, 1));
  EXPECT_EQ(run({"identity", "check", "1"}).exit_status, 0);
  const auto shown = run({"identity", "show"});
  EXPECT_EQ(shown.exit_status, 0) << shown;
  EXPECT_NE(shown.out.find(peer_id_text(pair.public_key)), std::string::npos) << shown;
  EXPECT_EQ((shown.out + shown.err).find(secret_key), std::string::npos) << "the secret key is not shown";
}

TEST_F(Cli, ReadsAnIdentityOfAnotherProgramWithoutPeerId) {
  const TestIdentity made = fresh_identity(1);
  write_file(path("identity.json"), Json{{"public_key", to_hex(made.keys.public_key)},
                                         {"secret_key", to_hex(made.keys.secret_key)},
                                         {"proof_of_work_stamp", to_hex(made.stamp)}}
                                        .dump());

  const auto shown = run({"identity", "show"});

  EXPECT_EQ(shown.exit_status, 0) << shown;
  EXPECT_NE(shown.out.find(peer_id_text(made.keys.public_key)), std::string::npos) << shown;
}

TEST_F(Cli, NeverOverwritesAnIdentity) {
  ASSERT_NO_FATAL_FAILURE(make_identity());
  const std::string before = read_file(path("identity.json"));

  expect_refused(run({"identity", "generate", "1"}), {"identity.json"});

  EXPECT_EQ(read_file(path("identity.json")), before);
}

TEST_F(Cli, RefusesAMalformedIdentityWithOneLine) {
  const TestIdentity one = fresh_identity(1);
  const TestIdentity two = fresh_identity(1);
  const Json good = {{"peer_id", peer_id_text(one.keys.public_key)},
                     {"public_key", to_hex(one.keys.public_key)},
                     {"secret_key", to_hex(one.keys.secret_key)},
                     {"proof_of_work_stamp", to_hex(one.stamp)}};
  const auto with = [&](const std::string& field, const Json& value) {
    Json changed = good;
    changed[field] = value;
    return changed.dump();
  };
  Json without_stamp = good;
  without_stamp.erase("proof_of_work_stamp");
  struct Case {
    std::string name;
    std::string text;
    std::vector<std::string> hints;
  };
  const std::vector<Case> cases = {
      {"empty", "", {}},
      {"no JSON", "{\"peer_id\": ", {}},
      {"no object", "[]", {}},
      {"binary", std::string("\0\xff\xfe", 3), {}},
      {"short key", with("public_key", "00ff"), {"public_key"}},
      {"no hex", with("secret_key", std::string(64, 'x')), {"secret_key"}},
      {"a number", with("public_key", 7), {"public_key"}},
      {"no stamp", without_stamp.dump(), {"proof_of_work_stamp"}},
      {"another peer id", with("peer_id", peer_id_text(two.keys.public_key)), {"peer_id"}},
      {"another public key", with("public_key", to_hex(two.keys.public_key)), {}},
      {"another secret key", with("secret_key", to_hex(two.keys.secret_key)), {}},
  };
  for (const Case& item : cases) {
    SCOPED_TRACE(item.name);
    write_file(path("identity.json"), item.text);
    auto hints = item.hints;
    hints.push_back("identity.json");

    expect_refused(run({"identity", "show"}), hints);
    const auto node = run_node();
    EXPECT_FALSE(node.timed_out) << node;
    EXPECT_EQ(node.exit_status, 1) << node;
    EXPECT_NE(node.err.find("identity.json"), std::string::npos) << node;
    for (const std::string& secret : {to_hex(one.keys.secret_key), to_hex(two.keys.secret_key)}) {
      EXPECT_EQ((node.err + node.out).find(secret), std::string::npos) << "a secret key in a message";
    }
    EXPECT_EQ(read_file(path("identity.json")), item.text) << "overwritten";
  }
}

TEST_F(Cli, ChecksTheProofOfWorkOfAnIdentityWhenAsked) {
  TestIdentity weak = fresh_identity(1);
  weak.stamp = find_bad_stamp(weak.keys.public_key, 12);
  write_file(path("identity.json"), Json{{"public_key", to_hex(weak.keys.public_key)},
                                         {"secret_key", to_hex(weak.keys.secret_key)},
                                         {"proof_of_work_stamp", to_hex(weak.stamp)}}
                                        .dump());
  ASSERT_EQ(::chmod(path("identity.json").c_str(), 0600), 0);

  expect_refused(run({"identity", "check", "12"}), {"identity.json"});
}

TEST_F(Cli, WarnsOfAnIdentityThatPeersWillRefuse) {
  Node node;
  ASSERT_TRUE(node.start());
  EXPECT_EQ(node.log().find("proof of work"), std::string::npos) << node.log();
  ASSERT_EQ(node.stop(), 0);

  const TestIdentity owned = fresh_identity(1);
  const auto stamp = find_bad_stamp(owned.keys.public_key, 12);
  write_file(node.data_dir() + "/identity.json", Json{{"public_key", to_hex(owned.keys.public_key)},
                                                      {"secret_key", to_hex(owned.keys.secret_key)},
                                                      {"proof_of_work_stamp", to_hex(stamp)}}
                                                     .dump());
  node.options().difficulty = 12;
  ASSERT_TRUE(node.start()) << "it runs all the same";
  EXPECT_NE(node.log().find("/identity.json: its proof of work is below 12, so peers that ask for as much as this node "
                            "does refuse it; move the file away and make another with `bulkhead identity generate 12`"),
            std::string::npos)
      << node.log();
}

TEST_F(Cli, SaysThatThereIsNoIdentity) {
  expect_refused(run({"identity", "show"}), {"identity.json"});
  expect_refused(run({"identity", "check", "1"}), {"identity.json"});
}

// ---- configuration ----

TEST_F(Cli, RefusesAMalformedConfigurationWithThePlace) {
  ASSERT_NO_FATAL_FAILURE(make_identity());
  struct Case {
    std::string name;
    std::string text;
    std::string hint;
  };
  const std::vector<Case> cases = {
      {"empty", "", "config.json"},
      {"no JSON", "{\n  \"p2p\": {\n", "config.json"},
      {"no object", "[1]", "config.json"},
      {"an unknown name", R"({"p2p": {"listen-adr": "[::]:9732"}})", "listen-adr"},
      {"an unknown name of ours", R"({"bulkhead": {"no-such-thing": 1}})", "no-such-thing"},
      {"a value out of range", R"({"p2p": {"expected-proof-of-work": 257}})", "expected-proof-of-work"},
      {"a value of another type", R"({"p2p": {"private-mode": "yes"}})", "private-mode"},
      {"a bad address", R"({"p2p": {"listen-addr": "nowhere"}})", "listen-addr"},
      {"a bad limit", R"({"p2p": {"limits": {"max-connections": -1}}})", "max-connections"},
      {"a bad order", R"({"p2p": {"limits": {"min-connections": 9, "expected-connections": 5, "max-connections": 7}}})",
       "connections"},
      {"a bad peer", R"({"p2p": {"bootstrap-peers": ["1.2.3.4:99999"]}})", "bootstrap-peers"},
  };
  for (const Case& item : cases) {
    SCOPED_TRACE(item.name);
    write_file(path("config.json"), item.text);

    expect_refused(run({"config", "validate"}), {"config.json", item.hint});
    const auto node = run_node();
    EXPECT_FALSE(node.timed_out) << node;
    EXPECT_NE(node.exit_status, 0) << node;
    EXPECT_NE(node.err.find(item.hint), std::string::npos) << node;
    EXPECT_EQ(read_file(path("config.json")), item.text) << "overwritten";
  }
}

TEST_F(Cli, ShowsWhereAValueComesFrom) {
  write_file(path("config.json"), R"({"p2p": {"expected-proof-of-work": 11.5}})");

  EXPECT_EQ(run({"config", "validate"}).exit_status, 0);
  const auto shown = run({"config", "show"});

  EXPECT_EQ(shown.exit_status, 0) << shown;
  EXPECT_NE(shown.out.find("11.5"), std::string::npos) << shown;
  EXPECT_NE(shown.out.find("config.json"), std::string::npos) << "the origin\n" << shown;
}

TEST_F(Cli, MakesAConfigurationOnceAndValidatesIt) {
  const auto made = run({"config", "init"});
  ASSERT_EQ(made.exit_status, 0) << made;
  const std::string text = read_file(path("config.json"));

  EXPECT_EQ(run({"config", "validate"}).exit_status, 0);
  expect_refused(run({"config", "init"}), {"config.json"});
  EXPECT_EQ(read_file(path("config.json")), text);
}

// ---- options, addresses, peer ids ----

TEST_F(Cli, RefusesBadOptionsOfRun) {
  ASSERT_NO_FATAL_FAILURE(make_identity());
  const std::vector<std::vector<std::string>> cases = {
      {"--no-such-option"},
      {"--net-addr", "nowhere"},
      {"--net-addr", "127.0.0.1:65536"},
      {"--expected-pow", "257"},
      {"--expected-pow", "-1"},
      {"--expected-pow", "nan"},
      {"--peer", "1.2.3.4:0x10"},
      {"--peer", "127.0.0.1:9732#idnonsense"},
      {"--max-connections", "many"},
      {"--min-connections", "9", "--expected-connections", "5", "--max-connections", "7"},
      {"--no-application", "perhaps"},
      {"--require-sandbox", "please"},
      {"--log-level", "loud"},
  };
  for (const auto& options : cases) {
    SCOPED_TRACE(options.back());
    const auto result = run_node(options);
    EXPECT_FALSE(result.timed_out) << result;
    expect_refused(result);
  }
}

TEST_F(Cli, RefusesWordsThatItDoesNotKnowAsWrongUsage) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"frobnicate"}, {"status", "--jason"}, {"identity"}, {"identity", "destroy"}, {"send"}}) {
    const auto result = run(words);
    EXPECT_EQ(result.exit_status, 2) << result;
    EXPECT_EQ(result.out, "") << result;
    EXPECT_NE(result.err, "") << result;
  }
}

TEST_F(Cli, RefusesBadAddressesAndPeerIds) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const std::string address : {"nowhere:x", "1.2.3.4:99999", "1.2.3.4.5:1", "[::1", "[::g]:1", ""}) {
    SCOPED_TRACE(address);
    expect_refused(node_->cli({"connect", "address", address}));
  }
  std::string wrong_checksum = witness_->peer_id();
  wrong_checksum.back() = wrong_checksum.back() == 'a' ? 'b' : 'a';
  for (const std::string& peer : {std::string("id"), std::string("nobody"), std::string(""), wrong_checksum,
                                  witness_->peer_id() + "x", std::string(5000, 'i')}) {
    SCOPED_TRACE(peer.substr(0, 40));
    expect_refused(node_->cli({"kick", "peer", peer}));
    expect_refused(node_->cli({"send", peer, "00"}));
  }
  for (const std::string tag : {"-1", "65536", "x", "1"}) {
    SCOPED_TRACE(tag);
    expect_refused(node_->cli({"send", witness_->peer_id(), "00", "--tag", tag}));
  }
}

TEST_F(Cli, KicksAPeerAndSaysSo) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));

  const auto kicked = node_->cli({"kick", "peer", peer.peer_id()});

  EXPECT_EQ(kicked.exit_status, 0) << kicked;
  expect_ended(peer, "kicked");
  EXPECT_TRUE(node_->wait_gone(peer.peer_id()));
}

TEST_F(Cli, HelpsEachCommandWithAnExample) {
  const std::vector<std::vector<std::string>> commands = {{"run"},
                                                          {"status"},
                                                          {"identity", "generate"},
                                                          {"identity", "show"},
                                                          {"identity", "check"},
                                                          {"config", "init"},
                                                          {"config", "show"},
                                                          {"config", "validate"},
                                                          {"connections"},
                                                          {"peers"},
                                                          {"points"},
                                                          {"connect", "address"},
                                                          {"kick", "peer"},
                                                          {"maintain"},
                                                          {"send"},
                                                          {"broadcast"},
                                                          {"listen"},
                                                          {"events"},
                                                          {"demo"}};
  for (auto command : commands) {
    std::string words = "bulkhead";
    for (const std::string& word : command) words += " " + word;
    command.push_back("--help");
    const auto result = run_bulkhead(command);
    EXPECT_EQ(result.exit_status, 0) << result;
    EXPECT_NE(result.out.find(words), std::string::npos) << "an example of " << words << "\n" << result;
  }
}

// ---- one node a directory ----

TEST_F(Cli, AnswersThreeWithoutANode) {
  ASSERT_NO_FATAL_FAILURE(make_identity());
  const std::string peer = Peer().peer_id();
  for (const auto& words : std::vector<std::vector<std::string>>{{"status"},
                                                                 {"status", "--json"},
                                                                 {"connections"},
                                                                 {"peers"},
                                                                 {"points"},
                                                                 {"events"},
                                                                 {"connect", "address", "127.0.0.1:9"},
                                                                 {"kick", "peer", peer},
                                                                 {"send", peer, "00"},
                                                                 {"broadcast", "00"},
                                                                 {"listen"}}) {
    const auto result = run(words);
    EXPECT_EQ(result.exit_status, 3) << result;
    EXPECT_EQ(lines_of(result.err), 1u) << result;
    EXPECT_EQ(result.out, "") << result;
  }
}

TEST_F(Cli, WaitsForANodeThatNeverComesNoLongerThanTold) {
  const auto begin = Clock::now();

  const auto result = run({"status", "--wait", "1"});

  EXPECT_EQ(result.exit_status, 3) << result;
  EXPECT_GE(Clock::now() - begin, Milliseconds(900));
  EXPECT_LE(Clock::now() - begin, Milliseconds(3000) * kPatience);
}

TEST_F(Cli, FindsTheDirectoryInTheEnvironment) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_EQ(::setenv("BULKHEAD_DATA_DIR", node_->data_dir().c_str(), 1), 0);

  const auto result = run_bulkhead({"status", "--json"});
  ::unsetenv("BULKHEAD_DATA_DIR");

  EXPECT_EQ(result.exit_status, 0) << result;
  EXPECT_NE(result.out.find(node_->peer_id()), std::string::npos) << result;
}

TEST_F(Cli, RefusesASecondNodeOnTheSameDirectory) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string address = fresh_address();

  const auto second = node_->cli({"run", "--net-addr", address + ":" + std::to_string(free_port(address)),
                                  "--expected-pow", "1", "--no-bootstrap-peers"});

  EXPECT_FALSE(second.timed_out);
  EXPECT_EQ(second.exit_status, 1) << second;
  EXPECT_NE(second.err.find(node_->data_dir()), std::string::npos) << second;
  EXPECT_FALSE(node_->json({"status"}).is_null());
}

TEST_F(Cli, SaysAtOnceThatAPortIsTaken) {
  ASSERT_NO_FATAL_FAILURE(make_identity());
  auto taken = Listener::open(fresh_address());
  ASSERT_TRUE(taken) << taken.error().text;

  const auto result = run_node({"--net-addr", taken->point()});

  EXPECT_FALSE(result.timed_out) << result;
  EXPECT_EQ(result.exit_status, 1) << result;
  EXPECT_NE(result.err.find(taken->point()), std::string::npos) << "it names the address\n" << result;
}

TEST_F(Cli, StartsAgainWhereANodeWasKilled) {
  NodeOptions options;
  ASSERT_NO_FATAL_FAILURE(start(options));
  const std::string identity = node_->peer_id();
  witness_.reset();
  ASSERT_TRUE(node_->stop(SIGKILL).has_value());

  const auto again = node_->start();

  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(node_->peer_id(), identity);
}

TEST_F(Cli, StopsInOrderOnSigtermAndSigint) {
  for (const int signal : {SIGTERM, SIGINT}) {
    ASSERT_NO_FATAL_FAILURE(start());

    const auto status = node_->stop(signal);

    EXPECT_EQ(status, 0) << "signal " << signal << "\n" << node_->log();
    EXPECT_TRUE(witness_->read_until_closed());
    EXPECT_EQ(node_->cli({"status"}).exit_status, 3);
    witness_.reset();
  }
}

TEST_F(Cli, WorksInADeepDirectory) {
  std::string deep = path("deep");
  while (deep.size() < 300) deep += "/" + std::string(40, 'd');
  std::filesystem::create_directories(deep);
  ASSERT_EQ(run_bulkhead({"identity", "generate", "1", "--data-dir", deep}).exit_status, 0);
  const std::string address = fresh_address();
  adopt_orphans();
  std::vector<std::string> words = {"run",
                                    "--net-addr",
                                    address + ":" + std::to_string(free_port(address)),
                                    "--expected-pow",
                                    "1",
                                    "--no-bootstrap-peers",
                                    "--data-dir",
                                    deep};
  const auto sandbox = sandbox_words();
  words.insert(words.end(), sandbox.begin(), sandbox.end());
  BackgroundCommand node(words);

  const auto ready = run_bulkhead({"status", "--wait", "10", "--data-dir", deep});
  const auto listen = run_bulkhead({"listen", "--json", "--timeout", "1", "--data-dir", deep});

  EXPECT_EQ(ready.exit_status, 0) << ready << node.errors();
  EXPECT_NE(listen.out.find("attached"), std::string::npos) << listen;
  const auto tree = tree_of(node.pid());
  ::kill(node.pid(), SIGTERM);
  EXPECT_EQ(node.wait(), 0) << node.errors();
  kill_all(tree);
}

// ---- JSON ----

void expect_time(const Json& row, const char* field) {
  static const std::regex kUtc(R"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|\+00:00))");
  ASSERT_TRUE(row.contains(field) && row[field].is_string()) << field << " of " << row;
  EXPECT_TRUE(std::regex_match(row[field].get<std::string>(), kUtc)) << row[field];
}

void expect_numbers(const Json& row, const std::vector<std::string>& fields) {
  ASSERT_TRUE(row.is_object()) << row;
  for (const std::string& field : fields) {
    EXPECT_TRUE(row.contains(field) && row[field].is_number()) << field << " of " << row;
  }
}

TEST_F(Cli, PrintsTheStatusInItsShape) {
  ASSERT_NO_FATAL_FAILURE(start());

  const Json status = node_->json({"status"});

  EXPECT_EQ(status["ready"], true);
  EXPECT_EQ(status["peer_id"], witness_->remote_peer_id());
  EXPECT_EQ(status["chain_name"], "TEZOS_MAINNET");
  EXPECT_EQ(status["net_addr"], Json::array({node_->point()}));
  expect_numbers(status["connections"], {"active", "incoming", "outgoing", "pending", "min", "expected", "max"});
  EXPECT_EQ(status["connections"]["active"], 1);
  EXPECT_EQ(status["connections"]["incoming"], 1);
  EXPECT_EQ(status["connections"]["outgoing"], 0);
  EXPECT_EQ(status["connections"]["min"], 10);
  EXPECT_EQ(status["connections"]["expected"], 50);
  EXPECT_EQ(status["connections"]["max"], 100);
  std::vector<std::string> roles;
  for (const Json& row : status["processes"]) {
    roles.push_back(row.value("role", ""));
    expect_numbers(row, {"pid", "restarts"});
    expect_time(row, "since");
    EXPECT_TRUE(is_running(row.value("pid", 0))) << row;
  }
  std::sort(roles.begin(), roles.end());
  for (const std::string role : {"supervisor", "controller", "keyholder", "acceptor", "maintainer", "nursery"}) {
    EXPECT_EQ(std::count(roles.begin(), roles.end(), role), 1) << role;
  }
  ASSERT_TRUE(status["application"].is_object()) << status;
  EXPECT_EQ(status["application"]["attached"], false);

  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  EXPECT_TRUE(eventually([&] {
    const Json application = node_->json({"status"})["application"];
    return application.is_object() && application["attached"] == true && application["pid"] == listen.process().pid();
  })) << node_->json({"status"});
}

TEST_F(Cli, PrintsConnectionsInTheirShape) {
  PeerOptions witness;
  witness.advertised_port = 19'003;
  witness.metadata.private_node = true;
  ASSERT_NO_FATAL_FAILURE(start({}, witness));
  Peer portless = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(portless));
  const std::string local = witness_->local_point();

  ASSERT_TRUE(witness_->send_message(0x10, pattern(1000)));
  ASSERT_EQ(check_alive(*node_, *witness_), "");
  ASSERT_TRUE(eventually([&] {
    return node_->connection(witness_->peer_id())["stat"].value("messages_received", 0) >= 1;
  })) << node_->connection(witness_->peer_id());
  const Json row = node_->connection(witness_->peer_id());

  EXPECT_EQ(row["incoming"], true);
  EXPECT_EQ(row["id_point"]["addr"], host_of(local));
  EXPECT_EQ(row["id_point"]["port"], 19'003);
  EXPECT_EQ(node_->connection(portless.peer_id())["id_point"]["port"], nullptr);
  EXPECT_EQ(std::to_string(row.value("remote_socket_port", 0)), local.substr(local.rfind(':') + 1));
  EXPECT_EQ(row["announced_version"],
            (Json{{"chain_name", "TEZOS_MAINNET"}, {"distributed_db_version", 2}, {"p2p_version", 1}}));
  EXPECT_EQ(row["private"], true);
  EXPECT_EQ(row["trusted"], false);
  EXPECT_TRUE(is_running(row.value("worker_pid", 0)));
  expect_time(row, "since");
  expect_numbers(row, {"weight", "remote_socket_port", "worker_pid"});
  expect_numbers(row["stat"], {"total_sent", "total_recv", "current_inflow", "current_outflow", "messages_sent",
                               "messages_received", "queue_in", "queue_out"});
  EXPECT_GE(row["stat"]["total_recv"], 1000);
  EXPECT_GE(row["stat"]["messages_sent"], 1);
}

TEST_F(Cli, PrintsEventsInTheirShape) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer bad = node_->make_peer({.bad_stamp = true});
  ASSERT_TRUE(node_->dial(bad));
  ASSERT_TRUE(bad.send_connection_message());
  expect_ended(bad, "not_enough_proof_of_work");
  Peer leaves = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(leaves));
  leaves.close();
  ASSERT_TRUE(node_->wait_gone(leaves.peer_id()));
  ASSERT_FALSE(node_->wait_event("closed_by_peer").is_null()) << node_->events();

  const auto events = node_->json_lines({"events"});

  bool connected = false;
  bool disconnected = false;
  bool refused = false;
  for (const Json& event : events) {
    SCOPED_TRACE(event.dump());
    expect_time(event, "time");
    ASSERT_TRUE(event["event"].is_string() && event["addr"].is_string() && event["reason"].is_string());
    ASSERT_TRUE(event.contains("peer_id") && (event["peer_id"].is_null() || event["peer_id"].is_string()));
    EXPECT_NE(event["reason"], "unknown");
    connected = connected || (event["event"] == "connected" && event["peer_id"] == leaves.peer_id());
    disconnected = disconnected || (event["event"] == "disconnected" && event["peer_id"] == leaves.peer_id() &&
                                    event["reason"] == "closed_by_peer");
    refused = refused || (event["event"] == "refused" && event["reason"] == "not_enough_proof_of_work");
  }
  EXPECT_TRUE(connected && disconnected && refused) << node_->events();
}

TEST_F(Cli, FollowsEvents) {
  ASSERT_NO_FATAL_FAILURE(start());
  BackgroundCommand follow(node_->command({"events", "--follow", "--json"}));
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));
  peer.close();

  bool seen = false;
  while (!seen) {
    const auto line = follow.read_line();
    ASSERT_TRUE(line) << "it ended: " << follow.errors();
    const Json event = Json::parse(*line, nullptr, false);
    ASSERT_TRUE(event.is_object()) << *line;
    seen = event["event"] == "disconnected" && event["peer_id"] == peer.peer_id();
  }
}

TEST_F(Cli, ListsPeersAndPoints) {
  PeerOptions witness;
  witness.advertised_port = 19'004;
  ASSERT_NO_FATAL_FAILURE(start({}, witness));

  const Json peers = node_->json({"peers"});
  const Json points = node_->json({"points"});

  EXPECT_NE(peers.dump().find(witness_->peer_id()), std::string::npos) << peers;
  EXPECT_TRUE(mentions_point(points, host_of(witness_->local_point()) + ":19004")) << points;
  EXPECT_EQ(node_->cli({"peers"}).exit_status, 0);
  EXPECT_EQ(node_->cli({"points"}).exit_status, 0);
  EXPECT_EQ(node_->cli({"connections"}).exit_status, 0);
  EXPECT_EQ(node_->cli({"status"}).exit_status, 0);
}

}  // namespace
}  // namespace bulkhead::testing
