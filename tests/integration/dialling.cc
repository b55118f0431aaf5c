#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <memory>
#include <string>

#include "base/address.h"
#include "bulkhead/application.h"
#include "tests/integration/fixture.h"
#include "tests/peer/name_server.h"

namespace bulkhead::testing {
namespace {

/// Whom the node under test dials.
struct Callee {
  explicit Callee(const std::string& address = fresh_address())
      : listener(Listener::open(address).value()), peer(PeerOptions{.timeout = kPeerTimeout * 4 * kPatience}) {}

  /// Answers the first call.
  void answer() {
    handshake = std::async(std::launch::async, [this] {
      auto done = peer.accept(listener);
      return done ? peer.handshake() : done;
    });
  }
  std::string named(const std::string& name) const { return name + ":" + std::to_string(listener.port()); }
  std::string host() const { return host_of(listener.point()); }

  Listener listener;
  Peer peer;
  std::future<Result<void>> handshake;
};

NameRecords records(const std::string& address, NameRecords::Manner manner = NameRecords::Manner::kAnswer) {
  return {.addresses = {parse_address(address).value()}, .manner = manner};
}

std::size_t lines_of(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

class Dialling : public NodeTest {
 protected:
  void expect_called(Callee& callee) {
    const auto done = callee.handshake.get();
    ASSERT_TRUE(done) << done.error().text << "\n" << node_->events();
    EXPECT_TRUE(node_->wait_connected(callee.peer.peer_id())) << node_->events();
    EXPECT_EQ(node_->connection(callee.peer.peer_id())["trusted"], true) << "a configured peer is trusted";
    EXPECT_EQ(check_alive(*node_, callee.peer), "");
  }

  /// What `points` shows of this one; null when it is not known.
  Json point(const std::string& which) const {
    for (const Json& row : node_->json({"points"})) {
      if (row.is_array() && row[0] == which) return row[1];
    }
    return nullptr;
  }
  bool wait_point(const std::string& which) const {
    return eventually([&] { return !point(which).is_null(); });
  }

  /// Two peers of a node that is content with them: what a run of maintenance has left to do is one exchange.
  void start_content(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--min-connections", "1", "--expected-connections", "2", "--max-connections",
                                       "6", "--peer-selection", "octez"});
    PeerOptions reachable;
    reachable.advertised_port = 19'001;
    ASSERT_NO_FATAL_FAILURE(start({.arguments = arguments}, reachable));
    other_ = std::make_unique<Peer>(node_->make_peer(reachable));
    ASSERT_NO_FATAL_FAILURE(shake_hands(*other_));
  }
  /// Has a message reach each peer: what the node had sent before comes before it. Whether a swap was asked for.
  bool swap_was_requested() {
    bool requested = false;
    for (Peer* peer : {witness_.get(), other_.get()}) {
      const auto sent = node_->cli({"send", peer->peer_id(), "00", "--tag", "0x77"});
      EXPECT_EQ(sent.exit_status, 0) << sent;
      for (;;) {
        const auto message = peer->read_message();
        EXPECT_TRUE(message) << message.error().text;
        if (!message || message->tag == 0x77) break;
        requested = requested || message->tag == kSwapRequestTag;
      }
    }
    return requested;
  }

  std::unique_ptr<Peer> other_;
};

// ---- names

TEST_F(Dialling, GoesToConfiguredNamesOverUdpAndTcp) {
  NameServer names;
  Callee plain;
  Callee large;
  names.set("plain.example", records(plain.host()));
  names.set("large.example", records(large.host(), NameRecords::Manner::kOverTcp));
  plain.answer();
  large.answer();

  ASSERT_NO_FATAL_FAILURE(
      start_alone({.arguments = {"--name-server", names.point(), "--peer", plain.named("plain.example"), "--peer",
                                 large.named("large.example")}}));

  ASSERT_NO_FATAL_FAILURE(expect_called(plain));
  ASSERT_NO_FATAL_FAILURE(expect_called(large));
}

TEST_F(Dialling, OverIpv6GoesToNamesThatHaveNothingElseAndToLiteralAddresses) {
  if (!Listener::open("::1")) GTEST_SKIP() << "this machine has no IPv6 on loopback";
  NameServer names;
  Callee named("::1");
  Callee literal("::1");
  names.set("six.example", records("::1"));
  named.answer();
  literal.answer();

  ASSERT_NO_FATAL_FAILURE(start_alone({.arguments = {"--name-server", names.point(), "--peer",
                                                     named.named("six.example"), "--peer", literal.listener.point()}}));

  ASSERT_NO_FATAL_FAILURE(expect_called(named));
  ASSERT_NO_FATAL_FAILURE(expect_called(literal));
  EXPECT_EQ(point(literal.listener.point())["trusted"], true);
}

TEST_F(Dialling, AsksAgainForANameThatWasNotThere) {
  NameServer names;
  Callee late;
  ASSERT_NO_FATAL_FAILURE(
      start_alone({.arguments = {"--name-server", names.point(), "--peer", late.named("late.example")}}));
  ASSERT_TRUE(eventually([&] { return names.asked("late.example") > 0; }));
  EXPECT_TRUE(node_->json({"points"}).empty());

  late.answer();
  names.set("late.example", records(late.host()));

  ASSERT_NO_FATAL_FAILURE(expect_called(late));
  EXPECT_NE(node_->log().find("cannot resolve the configured peer late.example"), std::string::npos);
}

TEST_F(Dialling, IsNotHeldUpByNamesOfWhichTheAnswersAreOdd) {
  using Manner = NameRecords::Manner;
  NameServer names;
  Callee good;
  NodeOptions options{.arguments = {"--name-server", names.point()}};
  for (const Manner manner : {Manner::kSilence, Manner::kServerFailure, Manner::kGarbage, Manner::kLoop,
                              Manner::kCutShort, Manner::kForeign}) {
    const std::string name = "odd" + std::to_string(static_cast<int>(manner)) + ".example";
    names.set(name, records("127.205.0.1", manner));
    options.arguments.insert(options.arguments.end(), {"--peer", name + ":9"});
  }
  NameRecords many;
  for (int i = 0; i < 100; ++i) many.addresses.push_back(parse_address("127.206.0." + std::to_string(i)).value());
  many.addresses.push_back(parse_address("0.0.0.0").value());
  names.set("many.example", many);
  names.set("good.example", records(good.host()));
  options.arguments.insert(options.arguments.end(), {"--peer", "many.example:9", "--peer", good.named("good.example")});
  good.answer();

  ASSERT_NO_FATAL_FAILURE(start_alone(options));

  ASSERT_NO_FATAL_FAILURE(expect_called(good));
  const auto of_many = [&] {
    int count = 0;
    for (const Json& row : node_->json({"points"}))
      count += row[0].get<std::string>().starts_with("127.206.0.") ? 1 : 0;
    return count;
  };
  EXPECT_TRUE(eventually([&] { return of_many() > 0; }));
  EXPECT_EQ(of_many(), 16);
  EXPECT_TRUE(point("127.205.0.1:9").is_null());
  EXPECT_EQ(node_->service_restarts("maintainer"), 0);
}

// ---- AS map

TEST_F(Dialling, GroupsPointsByAnAsMapAlsoAfterTheControllerWasReplaced) {
  const TemporaryDirectory directory;
  const std::string map = directory.path() + "/as.map";
  write_file(map, "# a laboratory\n127.203.0.0/16 64500\n127.203.0.1 AS64501\n");
  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--as-map", map, "--disable-p2p-maintenance", "--peer", "127.203.0.1:9",
                                               "--peer", "127.203.0.2:9", "--peer", "127.204.0.1:9"}}));
  ASSERT_TRUE(wait_point("127.203.0.1:9") && wait_point("127.203.0.2:9") && wait_point("127.204.0.1:9"));
  EXPECT_EQ(point("127.203.0.1:9")["group"], "AS64501");
  EXPECT_EQ(point("127.203.0.2:9")["group"], "AS64500");
  EXPECT_EQ(point("127.204.0.1:9")["group"], "alone");

  ::kill(node_->service_pid("controller"), SIGKILL);
  ASSERT_TRUE(eventually([&] { return node_->service_restarts("controller") == 1; }));
  const std::vector<std::string> news = {"127.203.7.7:9"};
  ASSERT_TRUE(eventually([&] {
    // An application's command is answered by the new controller.
    return node_->cli({"is", "address", "banned", "127.203.7.7"}).exit_status == 0 &&
           node_->cli({"send", witness_->peer_id(), "00"}).exit_status == 0;
  })) << node_->events();
  ASSERT_TRUE(witness_->send_stream(encode_advertise(news)));
  ASSERT_TRUE(wait_point(news[0])) << node_->json({"points"});
  EXPECT_EQ(point(news[0])["group"], "AS64500");
}

TEST_F(Dialling, RefusesABadAsMapWithFileAndLine) {
  const TemporaryDirectory directory;
  const std::string map = directory.path() + "/as.map";
  write_file(map, "127.203.0.0/16 64500\n127.203.0.0/16\n");
  for (const std::string command : {"run", "config validate"}) {
    std::vector<std::string> words = {"run"};
    if (command != "run") words = {"config", "validate"};
    words.insert(words.end(), {"--data-dir", directory.path(), "--net-addr", "127.0.0.1:0", "--as-map", map});
    const auto result = run_bulkhead(words);
    EXPECT_EQ(result.exit_status, 1) << result;
    EXPECT_EQ(lines_of(result.err), 1u) << result;
    EXPECT_NE(result.err.find(map + ": line 2: expected \"PREFIX ASN\""), std::string::npos) << result;
  }
  const auto missing = run_bulkhead({"run", "--data-dir", directory.path(), "--as-map", directory.path() + "/none"});
  EXPECT_EQ(missing.exit_status, 1) << missing;
  EXPECT_NE(missing.err.find(directory.path() + "/none: "), std::string::npos) << missing;
}

// ---- maintenance on request

TEST_F(Dialling, MaintainRunsNowAndReturnsWhenItIsDone) {
  ASSERT_NO_FATAL_FAILURE(start_content({}));
  const Json answer = node_->json({"maintain"});
  EXPECT_EQ(answer["ok"], true) << answer;
  EXPECT_TRUE(eventually([&] { return swap_was_requested(); })) << "a run of a node that is content ends with it";
}

TEST_F(Dialling, MaintainSaysThatThereIsNobodyToDial) {
  // A node that may ask its neighbours goes on with that.
  ASSERT_NO_FATAL_FAILURE(start_alone({.config = R"({"p2p": {"disable_peer_discovery": true}})"}));
  const auto lonely = node_->cli({"maintain"});
  EXPECT_EQ(lonely.exit_status, 1) << lonely;
  EXPECT_EQ(lines_of(lonely.err), 1u) << lonely;
  for (const char* said : {"nobody to dial", "--peer", "bulkhead connect address"})
    EXPECT_NE(lonely.err.find(said), std::string::npos) << lonely;

  // One that is there but does not suffice.
  Callee only;
  only.answer();
  ASSERT_EQ(node_->cli({"connect", "address", only.listener.point()}).exit_status, 0) << node_->events();
  ASSERT_TRUE(only.handshake.get());
  const auto few = node_->cli({"maintain"});
  EXPECT_EQ(few.exit_status, 1) << few;
  EXPECT_NE(few.err.find("1 of at least 10 connections, and no other point is known"), std::string::npos) << few;
}

TEST_F(Dialling, MaintainSaysWhenTheNextPointMayBeDialledAndDoesNotWaitForIt) {
  // A port where nobody listens: every dial fails at once, and its point waits for an hour.
  const std::string nobody = fresh_address() + ":1";
  ASSERT_NO_FATAL_FAILURE(
      start_alone({.arguments = {"--peer", nobody},
                   .config = R"({"p2p": {"greylisting_config": {"initial-delay": 3600, "increase-cap": 7200}}})"}));
  ASSERT_TRUE(eventually([&] { return point(nobody).is_object() && point(nobody).contains("last_failed_connection"); }))
      << node_->json({"points"});
  const auto waiting = node_->cli({"maintain", "--timeout", "600"});
  EXPECT_EQ(waiting.exit_status, 1) << waiting;
  EXPECT_EQ(lines_of(waiting.err), 1u) << waiting;
  for (const char* said : {"0 of at least 10 connections; 1 point is known, of which the next may be dialled in 3",
                           "bulkhead points", "bulkhead connect address"})
    EXPECT_NE(waiting.err.find(said), std::string::npos) << waiting;
}

TEST_F(Dialling, ConnectNamesWhyWhenThePeerIsBanned) {
  ASSERT_NO_FATAL_FAILURE(start_alone({.arguments = {"--disable-p2p-maintenance"}}));
  Callee banned;
  ASSERT_EQ(node_->cli({"ban", "peer", banned.peer.peer_id()}).exit_status, 0);
  banned.answer();
  const auto refused = node_->cli({"connect", "address", banned.listener.point()});
  EXPECT_EQ(refused.exit_status, 1) << refused;
  EXPECT_NE(refused.err.find("peer_banned; see `bulkhead why " + banned.listener.point() + "`"), std::string::npos)
      << refused;
  (void)banned.handshake.get();
}

TEST_F(Dialling, RunsWhenAnApplicationAsksForIt) {
  ASSERT_NO_FATAL_FAILURE(start_content({}));
  // The runs at the start of the node and on the way here are over, and no other has a cause for two minutes.
  ASSERT_EQ(node_->cli({"maintain"}).exit_status, 0);
  swap_was_requested();
  {
    auto application = client::Application::attach(node_->data_dir(), {.send = false});
    ASSERT_TRUE(application) << application.error().text;
    ASSERT_TRUE((*application)->maintain());
  }
  EXPECT_TRUE(eventually([&] { return swap_was_requested(); }));
}

// tezt p2p: p2p-maintenance-disabled
TEST_F(Dialling, P2pMaintenanceDisabled_DialsNobodyAndSaysSoToWhoAsks) {
  Callee nobody;
  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--disable-p2p-maintenance", "--peer", nobody.listener.point()}}));
  ASSERT_TRUE(wait_point(nobody.listener.point()));
  const auto refused = node_->cli({"maintain"});
  EXPECT_EQ(refused.exit_status, 1) << refused;
  EXPECT_EQ(lines_of(refused.err), 1u) << refused;
  EXPECT_NE(refused.err.find("--disable-p2p-maintenance"), std::string::npos) << refused;
  const auto called = nobody.listener.accept(Milliseconds(300));
  EXPECT_FALSE(called);
  EXPECT_EQ(point(nobody.listener.point())["state"]["event_kind"], "disconnected");
}

// ---- exchange of neighbours and of points

// tezt p2p: p2p-swap-disable
TEST_F(Dialling, P2pSwapDisable_NeitherAsksNorAnswers) {
  ASSERT_NO_FATAL_FAILURE(start_content({"--disable-p2p-swap"}));
  ASSERT_EQ(node_->cli({"maintain"}).exit_status, 0);
  Callee nobody;
  ASSERT_TRUE(witness_->send_stream(encode_swap_request(nobody.listener.point(), IdBytes{})));
  // The answer to this comes after one to the request would.
  ASSERT_TRUE(witness_->send_stream(encode_bootstrap()));
  for (std::uint16_t tag = 0; tag != kAdvertiseTag;) {
    const auto next = witness_->read_message();
    ASSERT_TRUE(next) << next.error().text;
    tag = next->tag;
    EXPECT_NE(tag, kSwapAckTag);
    EXPECT_NE(tag, kSwapRequestTag);
  }
  EXPECT_FALSE(swap_was_requested());
  EXPECT_FALSE(nobody.listener.accept(Milliseconds(0)));
}

TEST_F(Dialling, ExchangesANeighbourOnRequest) {
  ASSERT_NO_FATAL_FAILURE(start_content({}));
  Callee offered;
  offered.answer();
  ASSERT_TRUE(witness_->send_stream(encode_swap_request(offered.listener.point(), IdBytes{})));
  const auto ack = witness_->read_message(kSwapAckTag);
  ASSERT_TRUE(ack) << ack.error().text << node_->events();
  EXPECT_EQ(decode_swap(ack->body).value().point, host_of(other_->local_point()) + ":19001");
  const auto done = offered.handshake.get();
  ASSERT_TRUE(done) << done.error().text;
  EXPECT_TRUE(node_->wait_connected(offered.peer.peer_id())) << node_->events();
  expect_ended(*other_, "peer_swapped");
}

// tezt p2p: p2p-peer-discovery
TEST_F(Dialling, P2pPeerDiscovery_AsksForPointsAndLearnsThem) {
  ASSERT_NO_FATAL_FAILURE(start({}, {.timeout = 4 * kPeerTimeout * kPatience}));
  const auto asked = witness_->read_message(kBootstrapTag);
  ASSERT_TRUE(asked) << asked.error().text;
  ASSERT_TRUE(witness_->send_stream(encode_advertise(std::vector<std::string>{"127.207.0.1:9"})));
  EXPECT_TRUE(wait_point("127.207.0.1:9"));
}

// tezt p2p: p2p-peer-discovery-disable; test_p2p_conn: p2p msg consumption without peer_discovery
TEST_F(Dialling, P2pPeerDiscoveryDisable_NeitherAsksNorAnswersNorLearns) {
  PeerOptions reachable;
  reachable.advertised_port = 19'001;
  ASSERT_NO_FATAL_FAILURE(start({.config = R"({"p2p": {"disable_peer_discovery": true}})"}, reachable));
  Peer curious = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(curious));
  // Too few connections: a node that may ask would.
  ASSERT_EQ(node_->cli({"maintain"}).exit_status, 1) << "and nobody is left to dial";
  ASSERT_TRUE(curious.send_stream(encode_bootstrap()));
  ASSERT_TRUE(curious.send_stream(encode_advertise(std::vector<std::string>{"127.207.0.1:9"})));
  for (Peer* peer : {&curious, witness_.get()}) {
    const auto sent = node_->cli({"send", peer->peer_id(), "00", "--tag", "0x77"});
    ASSERT_EQ(sent.exit_status, 0) << sent;
    const auto first = peer->read_message();
    ASSERT_TRUE(first) << first.error().text;
    EXPECT_EQ(first->tag, 0x77) << "neither Bootstrap nor Advertise";
  }
  EXPECT_TRUE(point("127.207.0.1:9").is_null());
}

}  // namespace
}  // namespace bulkhead::testing
