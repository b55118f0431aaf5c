#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "tests/integration/application.h"
#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kFields[] = {"role",       "pid",      "uid",          "gid",          "no_new_privs",
                                   "seccomp",    "landlock", "capabilities", "namespaces",   "syscalls_allowed",
                                   "root_empty", "dumpable", "open_files",   "memory_limit", "cgroup"};
constexpr int kManyPeers = 60;

class Sandbox : public NodeTest {
 protected:
  void SetUp() override {
    const char* level = ::getenv("BULKHEAD_TEST_SANDBOX");
    if (level != nullptr && std::string(level) == "off") GTEST_SKIP() << "the node runs without confinement";
  }

  std::map<std::string, Json> rows() { return node_->sandbox(); }
};

TEST_F(Sandbox, ShowsWhatConfinesEveryProcess) {
  ASSERT_NO_FATAL_FAILURE(start());
  const int worker = node_->connection(witness_->peer_id()).value("worker_pid", 0);
  const auto found = rows();
  const std::set<std::string> services = {"controller", "keyholder", "acceptor", "maintainer", "nursery"};
  std::set<std::string> expected = services;
  expected.insert({"supervisor", "conn " + std::to_string(worker)});
  std::set<std::string> names;
  for (const auto& [name, row] : found) names.insert(name);
  ASSERT_EQ(names, expected);
  const std::map<std::string, int> most_calls = {{"keyholder", 6}, {"conn", 20}, {"acceptor", 25}, {"maintainer", 40}};
  for (const auto& [name, row] : found) {
    SCOPED_TRACE(name + ": " + row.dump());
    for (const char* field : kFields) EXPECT_TRUE(row.contains(field)) << field;
    EXPECT_FALSE(row["uid"].is_null());
    EXPECT_TRUE(row["dumpable"] == false || (name == "supervisor" && row["dumpable"].is_null()));
    EXPECT_TRUE(row["cgroup"].is_null() || row["cgroup"].get<std::string>().starts_with('/'));
    EXPECT_EQ(row["pid"], name == "supervisor"      ? node_->pid()
                          : services.contains(name) ? node_->service_pid(name)
                                                    : worker);
    EXPECT_EQ(row["no_new_privs"], true);
    EXPECT_EQ(row["seccomp"], "filter");
    EXPECT_TRUE(row["memory_limit"].is_number());
    const std::string role = row["role"];
    if (role == "supervisor") {
      // SETUID, SETGID, KILL; where they are needed CHOWN, DAC_OVERRIDE, SETPCAP and SYS_ADMIN.
      EXPECT_EQ(std::stoull(row["capabilities_permitted"].get<std::string>(), nullptr, 16) & ~0x2001e3ULL, 0U);
    } else if (role != "nursery") {
      EXPECT_EQ(row["capabilities"], "0000000000000000");
    }
    const auto most = most_calls.find(role);
    if (most != most_calls.end() && !row["syscalls_allowed"].is_null()) {
      EXPECT_GT(row["syscalls_allowed"], 0);
      EXPECT_LE(row["syscalls_allowed"], most->second);
    }
    // What is read back is what the policy says, wherever it can be read.
    EXPECT_TRUE(row["filter_is_policy"].is_null() || row["filter_is_policy"] == true);
    EXPECT_EQ(row["filter_is_policy"].is_null(), row["syscalls_allowed"].is_null());
    if (!row["syscalls_allowed"].is_null()) {
      EXPECT_EQ(row["syscalls_allowed"], row["policy_syscalls"]);
    }
  }
}

TEST_F(Sandbox, IsShownWithinASecondWhileTheControllerIsStopped) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t controller = node_->service_pid("controller");
  ASSERT_EQ(::kill(controller, SIGSTOP), 0);
  const auto begin = Clock::now();
  const auto found = rows();
  const auto took = Clock::now() - begin;
  ::kill(controller, SIGCONT);
  EXPECT_EQ(found.size(), 7U);
  EXPECT_TRUE(found.contains("controller"));
  EXPECT_LE(took, Milliseconds(1000) * kPatience);
}

TEST_F(Sandbox, IsATableForPeople) {
  ASSERT_NO_FATAL_FAILURE(start());
  const auto shown = node_->cli({"sandbox"});
  EXPECT_EQ(shown.exit_status, 0) << shown.err;
  for (const char* word : {"PROCESS", "supervisor", "keyholder", "conn", "filter"}) {
    EXPECT_NE(shown.out.find(word), std::string::npos) << word << "\n" << shown.out;
  }
}

TEST_F(Sandbox, NeedsARunningNode) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_EQ(node_->cli({"sandbox", "--json"}).exit_status, 3);
}

TEST_F(Sandbox, MayBeLookedAtAgainAndAgainWithoutHarm) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::map<std::string, int> pids;
  for (const auto& [name, row] : rows()) pids[name] = row["pid"];
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(node_->cli({"sandbox", "--json"}).exit_status, 0);
    ASSERT_EQ(check_alive(*node_, *witness_), "");
  }
  for (const auto& [name, row] : rows()) EXPECT_EQ(row["pid"], pids[name]) << name << " was started anew";
}

// The descriptors of links that are on their way count against a limit that all workers share.
TEST_F(Sandbox, KeepsNoLinkFromAnApplicationThatAttachesToManyPeers) {
  NodeOptions options;
  options.arguments = {"--max-connections", "80", "--connections", "60"};
  ASSERT_NO_FATAL_FAILURE(start(options));
  std::deque<Peer> peers;
  std::set<std::string> expected = {witness_->peer_id()};
  for (int i = 0; i < kManyPeers; ++i) {
    peers.push_back(node_->make_peer());
    ASSERT_NO_FATAL_FAILURE(shake_hands(peers.back()));
    expected.insert(peers.back().peer_id());
  }
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  std::set<std::string> connected;
  while (connected.size() < expected.size()) {
    const Json event = listen.next("connected");
    ASSERT_FALSE(event.is_null()) << connected.size() << " of " << expected.size() << "; " << listen.errors();
    connected.insert(event.value("peer_id", ""));
  }
  EXPECT_EQ(connected, expected);
}

}  // namespace
}  // namespace bulkhead::testing
