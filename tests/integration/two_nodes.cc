#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>

#include "tests/integration/application.h"
#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

TEST(TwoNodes, FindEachOtherAndTalk) {
  Node first({.difficulty = 8, .address = "127.0.0.1"});
  const auto first_started = first.start();
  ASSERT_TRUE(first_started) << first_started.error().text;
  Node second({.arguments = {"--peer", first.point()}, .difficulty = 8, .address = "127.0.0.2"});
  const auto second_started = second.start();
  ASSERT_TRUE(second_started) << second_started.error().text;

  ASSERT_TRUE(first.wait_connected(second.peer_id())) << first.events();
  ASSERT_TRUE(second.wait_connected(first.peer_id())) << second.events();
  const Json seen_by_first = first.connection(second.peer_id());
  const Json seen_by_second = second.connection(first.peer_id());
  EXPECT_EQ(seen_by_first["incoming"], true);
  EXPECT_EQ(seen_by_second["incoming"], false);
  EXPECT_TRUE(mentions_point(seen_by_second["id_point"], first.point())) << seen_by_second;
  // The address that a dialling node has is the kernel's choice, its port the one that it listens on.
  EXPECT_EQ(seen_by_first["id_point"]["port"], second.port());

  ListenCommand listen(second);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  const auto sent = first.cli({"send", second.peer_id(), "48656c6c6f"});
  EXPECT_EQ(sent.exit_status, 0) << sent;
  Json line = listen.next("message");
  ASSERT_TRUE(line.is_object()) << listen.errors();
  EXPECT_EQ(line["peer_id"], first.peer_id());
  EXPECT_EQ(line["tag"], 16);
  EXPECT_EQ(line["body"], "48656c6c6f");

  ListenCommand answer(first);
  ASSERT_TRUE(answer.wait_attached()) << answer.errors();
  const std::string large(1'000'000, 'b');
  const auto answered = second.cli({"send", first.peer_id(), "-", "--tag", "33"}, large);
  EXPECT_EQ(answered.exit_status, 0) << answered;
  line = answer.next("message");
  ASSERT_TRUE(line.is_object()) << answer.errors();
  EXPECT_EQ(line["tag"], 33);
  EXPECT_TRUE(line["body"] == to_hex(from_text(large)));

  EXPECT_EQ(first.stop(), 0);
  EXPECT_TRUE(second.wait_gone(first.peer_id())) << second.events();
}

TEST(TwoNodes, ConnectAgainAfterOneWasAway) {
  auto first = std::make_unique<Node>();
  auto started = first->start();
  ASSERT_TRUE(started) << started.error().text;
  Node second({.arguments = {"--peer", first->point()},
               .config = R"({"p2p": {"greylisting_config": {"disconnection-delay": 1}}})"});
  started = second.start();
  ASSERT_TRUE(started) << started.error().text;
  ASSERT_TRUE(second.wait_connected(first->peer_id())) << second.events();

  EXPECT_EQ(first->stop(), 0);
  ASSERT_TRUE(second.wait_gone(first->peer_id())) << second.events();
  started = first->start();
  ASSERT_TRUE(started) << started.error().text;

  EXPECT_TRUE(
      eventually([&] { return !second.connection(first->peer_id()).is_null(); }, Milliseconds(10'000) * kPatience))
      << second.events();
}

TEST(TwoNodes, OfDifferentNetworksRefuseEachOther) {
  Node first({.arguments = {"--chain-name", "TEZOS_ONE"}});
  ASSERT_TRUE(first.start());
  Node second({.arguments = {"--chain-name", "TEZOS_TWO", "--peer", first.point()}});
  ASSERT_TRUE(second.start());

  EXPECT_FALSE(first.wait_event("unknown_chain_name").is_null()) << first.events();
  EXPECT_TRUE(eventually([&] {
    return !second.wait_event("unknown_chain_name", "", Milliseconds(0)).is_null() ||
           !second.wait_event("rejected_by_peer", "", Milliseconds(0)).is_null();
  })) << second.events();
  EXPECT_TRUE(first.connections().empty());
  EXPECT_TRUE(second.connections().empty());
}

TEST(TwoNodes, StayOutOfEachOthersWayWhenBothDial) {
  Node first;
  Node second({.arguments = {"--peer", first.point()}});
  ASSERT_TRUE(first.start());
  ASSERT_TRUE(second.start());
  ASSERT_TRUE(second.wait_connected(first.peer_id())) << second.events();

  const auto again = first.cli({"connect", "address", second.point()});

  // One connection for each peer, whoever dialled first.
  EXPECT_EQ(first.connections().size(), 1u) << again << first.events();
  EXPECT_EQ(second.connections().size(), 1u) << second.events();
}

TEST(Demo, ShowsAFullMeshAndALostWorker) {
  const auto begin = std::chrono::steady_clock::now();

  std::vector<std::string> words = sandbox_words();
  words.insert(words.begin(), "demo");
  const auto demo = run_bulkhead(words, "", Milliseconds(60'000));

  EXPECT_EQ(demo.exit_status, 0) << demo;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, Milliseconds(20'000) * kPatience);
}

}  // namespace
}  // namespace bulkhead::testing
