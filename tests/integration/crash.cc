#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include "tests/integration/application.h"
#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

class Crash : public NodeTest {
 protected:
  pid_t worker_of(const Peer& peer) { return node_->connection(peer.peer_id()).value("worker_pid", 0); }

  /// Kills a service and waits until another process has taken its place.
  void kill_service(const std::string& role) {
    const pid_t pid = node_->service_pid(role);
    ASSERT_GT(pid, 0) << role;
    ::kill(pid, SIGKILL);
    ASSERT_TRUE(eventually([&] {
      const pid_t next = node_->service_pid(role);
      return next > 0 && next != pid && is_running(next);
    })) << role
        << " is not back\n"
        << node_->log();
  }
};

TEST_F(Crash, ThatNobodySawLeavesNoWorkerBehindWhenTheNodeStops) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));
  const pid_t worker = worker_of(peer);
  ASSERT_GT(worker, 0);
  ASSERT_EQ(::kill(worker, SIGSTOP), 0);
  witness_.reset();
  EXPECT_EQ(node_->stop(), 0);
  EXPECT_TRUE(eventually([&] { return !is_running(worker); }))
      << "its connection would live on, and keep the peer busy";
}

TEST_F(Crash, OfAWorkerEndsItsConnectionAlone) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::deque<Peer> peers;
  for (int i = 0; i < 4; ++i) {
    peers.push_back(node_->make_peer());
    ASSERT_NO_FATAL_FAILURE(shake_hands(peers.back()));
  }
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  std::set<pid_t> workers;
  for (const Peer& peer : peers) workers.insert(worker_of(peer));
  ASSERT_EQ(workers.size(), peers.size()) << "a process for each";
  Peer& victim = peers[1];
  const pid_t worker = worker_of(victim);
  ASSERT_GT(worker, 0);

  const auto killed = Clock::now();
  ASSERT_EQ(::kill(worker, SIGKILL), 0);
  // A look that begins 100 ms after the death must not see the row any more.
  Clock::time_point look;
  do {
    look = Clock::now();
  } while (!node_->connection(victim.peer_id()).is_null() && look - killed < std::chrono::seconds(5));
  EXPECT_LE(look - killed, Milliseconds(100) * kPatience + Milliseconds(100));

  expect_ended(victim, "worker_killed");
  EXPECT_TRUE(eventually([&] {
    return node_->log().find("worker " + std::to_string(worker) + " of " + victim.local_point() + " was killed") !=
           std::string::npos;
  })) << node_->log();
  Json line;
  do {
    line = listen.next("disconnected");
  } while (line.is_object() && line["peer_id"] != victim.peer_id());
  ASSERT_TRUE(line.is_object()) << listen.errors();
  EXPECT_EQ(line["reason"], "worker_killed");
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (i == 1) continue;
    EXPECT_EQ(check_alive(*node_, peers[i]), "") << i;
    EXPECT_EQ(workers.count(worker_of(peers[i])), 1u) << "the same worker as before";
  }
}

TEST_F(Crash, OfAWorkerLosesNoMessageOfTheOthers) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  for (int round = 0; round < 5; ++round) {
    Peer victim = node_->make_peer();
    ASSERT_NO_FATAL_FAILURE(shake_hands(victim));
    const pid_t worker = worker_of(victim);
    ASSERT_GT(worker, 0);
    for (int i = 0; i < 40; ++i) {
      if (i == 20) ::kill(worker, SIGKILL);
      ASSERT_TRUE(witness_->send_message(0x10, from_text(std::to_string(round) + "/" + std::to_string(i))));
    }
    for (int i = 0; i < 40; ++i) {
      Json line;
      do {
        line = listen.next("message");
      } while (line.is_object() && line["peer_id"] != witness_->peer_id());
      ASSERT_TRUE(line.is_object()) << listen.errors();
      ASSERT_EQ(line["body"], to_hex(from_text(std::to_string(round) + "/" + std::to_string(i))));
    }
    EXPECT_TRUE(node_->wait_gone(victim.peer_id()));
  }
}

TEST_F(Crash, OfAWorkerInItsHandshakeFreesItsPlace) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t nursery = node_->service_pid("nursery");
  const auto before = children_of(nursery);
  PeerOptions options;
  options.identity = fresh_identity(1);
  Peer peer = node_->make_peer(options);
  ASSERT_TRUE(node_->dial(peer));
  ASSERT_TRUE(peer.send_connection_message());
  ASSERT_TRUE(peer.read_connection_message());
  pid_t worker = 0;
  for (const pid_t pid : children_of(nursery)) {
    if (std::find(before.begin(), before.end(), pid) == before.end()) worker = pid;
  }
  ASSERT_GT(worker, 0);

  ASSERT_EQ(::kill(worker, SIGKILL), 0);

  expect_ended(peer, "worker_killed");
  Peer again = node_->make_peer(options);
  ASSERT_TRUE(eventually([&] { return node_->dial(again) && again.handshake(); })) << node_->events();
}

TEST_F(Crash, OfTheControllerStopsNoTraffic) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  const pid_t worker = worker_of(*witness_);
  const pid_t controller = node_->service_pid("controller");
  ASSERT_GT(controller, 0);

  const auto killed = Clock::now();
  ASSERT_EQ(::kill(controller, SIGKILL), 0);
  for (int i = 0; i < 50; ++i) {
    const Bytes text = from_text("meanwhile " + std::to_string(i));
    ASSERT_TRUE(witness_->send_message(0x10, text));
    const Json line = listen.next("message");
    ASSERT_TRUE(line.is_object()) << listen.errors() << node_->log();
    ASSERT_EQ(line["body"], to_hex(text));
  }

  // Back, with the same connection in the same worker, and ready for new ones.
  ASSERT_TRUE(eventually([&] {
    const pid_t next = node_->service_pid("controller");
    return next > 0 && next != controller;
  })) << node_->log();
  Peer next = node_->make_peer();
  ASSERT_TRUE(eventually([&] { return node_->dial(next) && next.handshake(); })) << node_->log();
  EXPECT_LE(Clock::now() - killed, Milliseconds(2000) * kPatience + Milliseconds(1000));
  EXPECT_EQ(worker_of(*witness_), worker);
  EXPECT_TRUE(witness_->is_open());
  EXPECT_GE(node_->service_restarts("controller"), 1);
}

TEST_F(Crash, OfTheControllerAgainAndAgainKeepsTheTables) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t worker = worker_of(*witness_);
  for (int round = 0; round < 3; ++round) {
    ASSERT_NO_FATAL_FAILURE(kill_service("controller"));
    EXPECT_TRUE(eventually([&] { return worker_of(*witness_) == worker; })) << node_->log();
    EXPECT_EQ(check_alive(*node_, *witness_), "") << round;
  }
  // What it says to a peer that leaves is not lost either.
  witness_->close();
  EXPECT_TRUE(node_->wait_gone(witness_->peer_id()));
  witness_.reset();
}

TEST_F(Crash, OfAnyOtherServiceIsMended) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t worker = worker_of(*witness_);
  for (const std::string role : {"acceptor", "maintainer", "keyholder", "nursery"}) {
    SCOPED_TRACE(role);
    ASSERT_NO_FATAL_FAILURE(kill_service(role));
    Peer next = node_->make_peer();
    EXPECT_TRUE(eventually([&] { return node_->dial(next) && next.handshake(); })) << node_->log();
    EXPECT_EQ(worker_of(*witness_), worker);
    EXPECT_EQ(check_alive(*node_, *witness_), "");
    EXPECT_GE(node_->service_restarts(role), 1);
  }
}

TEST_F(Crash, OfAWorkerWhoseNurseryIsGoneIsReportedToo) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer victim = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(victim));
  const pid_t worker = worker_of(victim);
  ASSERT_NO_FATAL_FAILURE(kill_service("nursery"));
  ASSERT_EQ(worker_of(victim), worker) << "workers outlive their nursery";

  ASSERT_EQ(::kill(worker, SIGKILL), 0);

  expect_ended(victim, "worker_killed");
  EXPECT_TRUE(node_->wait_gone(victim.peer_id()));
}

TEST_F(Crash, IsNoneWhenTheTerminalGoes) {
  ::signal(SIGHUP, SIG_DFL);  // under nohup(1) the node would go on
  ASSERT_NO_FATAL_FAILURE(start());
  EXPECT_EQ(node_->stop(SIGHUP), 0);
  EXPECT_NE(node_->log().find("the node has stopped"), std::string::npos) << node_->log();
  witness_.reset();
}

TEST_F(Crash, OfTheSupervisorEndsEverything) {
  ASSERT_NO_FATAL_FAILURE(start());
  const auto tree = tree_of(node_->pid());
  ASSERT_GE(tree.size(), 6u) << "five services and a worker";

  ASSERT_EQ(::kill(node_->pid(), SIGKILL), 0);

  EXPECT_TRUE(witness_->read_until_closed());
  EXPECT_TRUE(eventually([&] {
    for (const pid_t pid : tree) {
      if (is_running(pid)) return false;
    }
    return true;
  })) << "processes outlived their supervisor";
  witness_.reset();
}

// It gives no link to an application that comes.
TEST_F(Crash, OrAStoppedWorkerDoesNotKeepABroadcastFromTheOthersAndIsNamed) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));
  const pid_t worker = worker_of(peer);
  ASSERT_GT(worker, 0);
  ASSERT_EQ(::kill(worker, SIGSTOP), 0);

  const auto sent = node_->cli({"broadcast", "00", "--tag", "0x77"}, "", Milliseconds(30'000) * kPatience);

  ::kill(worker, SIGCONT);
  EXPECT_EQ(sent.exit_status, 1) << sent;
  EXPECT_EQ(sent.out, "queued 1 byte for 1 peer\n") << sent;
  EXPECT_NE(sent.err.find("1 connection did not take the message within 10 s; 1 worker gave no link"),
            std::string::npos)
      << sent;
  EXPECT_NE(sent.err.find("`bulkhead kick peer " + peer.peer_id() + "` at once"), std::string::npos) << sent;
  EXPECT_TRUE(witness_->read_message(0x77));
}

// It does not see that its channel is closed.
TEST_F(Crash, OfTheSupervisorLeavesNoStoppedWorkerToItsSuccessor) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t worker = worker_of(*witness_);
  ASSERT_GT(worker, 0);
  if (node_->cli({"sandbox", "--json"}).out.find("bulkhead-workers-") == std::string::npos)
    GTEST_SKIP() << "workers are in no group of their own here";
  ASSERT_EQ(::kill(worker, SIGSTOP), 0);
  ASSERT_EQ(::kill(node_->pid(), SIGKILL), 0);
  ASSERT_TRUE(wait_for(node_->pid(), Milliseconds(10'000) * kPatience));
  ASSERT_TRUE(is_running(worker));

  const auto started = node_->start();
  EXPECT_FALSE(is_running(worker));
  ::kill(worker, SIGKILL);
  ASSERT_TRUE(started) << started.error().text;
  EXPECT_TRUE(witness_->read_until_closed());
  witness_.reset();
}

TEST_F(Crash, OrAStoppedControllerLeavesTheTablesReadable) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t controller = node_->service_pid("controller");
  ASSERT_GT(controller, 0);
  ASSERT_EQ(::kill(controller, SIGSTOP), 0);

  for (const std::string command : {"status", "connections", "events"}) {
    const auto begin = Clock::now();
    const auto result = node_->cli({command, "--json"});
    EXPECT_EQ(result.exit_status, 0) << result;
    EXPECT_LT(Clock::now() - begin, Milliseconds(1000) * kPatience) << command;
    if (command == "connections") {
      EXPECT_NE(result.out.find(witness_->peer_id()), std::string::npos) << result;
    }
  }

  ::kill(controller, SIGCONT);
}

}  // namespace
}  // namespace bulkhead::testing
