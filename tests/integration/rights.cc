#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "tests/integration/fixture.h"

// The node with other rights than those of the test: as an ordinary user, where there are no user namespaces, with its
// workers in a group.
namespace bulkhead::testing {
namespace {

namespace fs = std::filesystem;

constexpr unsigned int kOrdinaryUser = 61234;
constexpr const char* kNoCapabilities = "0000000000000000";
const std::set<std::string> kServices = {"controller", "keyholder", "acceptor", "maintainer", "nursery"};

bool is_unconfined() {
  const char* level = ::getenv("BULKHEAD_TEST_SANDBOX");
  return level != nullptr && std::string(level) == "off";
}

bool in_child(bool (*body)()) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body() ? 0 : 1);
  int status = 0;
  return pid > 0 && ::waitpid(pid, &status, 0) == pid && status == 0;
}

bool become_ordinary() {
  return ::setresgid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0 &&
         ::setresuid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0;
}

/// Whether an ordinary user may run the programs, which may lie in somebody's own folder.
bool ordinary_user_may_run() {
  return in_child([] { return become_ordinary() && ::access(bulkhead_program().c_str(), X_OK) == 0; });
}
bool user_namespaces_are_allowed() {
  return in_child([] { return become_ordinary() && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0; });
}
bool root_may_make_namespaces() {
  return in_child([] { return ::unshare(CLONE_NEWNS | CLONE_NEWNET) == 0; });
}

std::set<std::string> words_of(const Json& list) {
  return list.is_array() ? list.get<std::set<std::string>>() : std::set<std::string>();
}

class Rights : public NodeTest {
 protected:
  void SetUp() override {
    if (is_unconfined()) GTEST_SKIP() << "the node runs without confinement";
    if (::geteuid() != 0) GTEST_SKIP() << "needs root, to start a node as another user";
    if (!ordinary_user_may_run()) GTEST_SKIP() << "another user may not run the programs in this folder";
  }

  /// `run` ends by itself, and its log says all of this.
  void expect_refusal(const NodeOptions& options, const std::vector<std::string>& parts) {
    Node node(options);
    const auto started = node.start();
    ASSERT_FALSE(started);
    EXPECT_NE(started.error().text.find("ended with 1"), std::string::npos) << started.error().text;
    for (const auto& part : parts) EXPECT_NE(node.log().find(part), std::string::npos) << part << "\n" << node.log();
  }

  void expect_in_log(const std::string& part) {
    EXPECT_NE(node_->log().find(part), std::string::npos) << part << "\n" << node_->log();
  }
};

TEST_F(Rights, OfAnOrdinaryUserSufficeForANodeThatIsConfinedStrictly) {
  if (!user_namespaces_are_allowed()) GTEST_SKIP() << "needs user namespaces for ordinary users";
  NodeOptions options;
  options.user = kOrdinaryUser;
  options.sandbox = "strict";
  ASSERT_NO_FATAL_FAILURE(start(options));
  EXPECT_EQ(check_alive(*node_, *witness_), "");
  const auto rows = node_->sandbox();
  ASSERT_EQ(rows.size(), 7U);
  for (const auto& [name, row] : rows) {
    SCOPED_TRACE(row.dump());
    EXPECT_EQ(row["uid"], kOrdinaryUser);
    EXPECT_EQ(row["no_new_privs"], true);
    EXPECT_EQ(row["seccomp"], "filter");
    EXPECT_EQ(row["dumpable"], false);
    if (name != "nursery") {
      EXPECT_EQ(row["capabilities_permitted"], kNoCapabilities);
    }
    if (name == "supervisor" || row["namespaces"].is_null()) continue;
    std::set<std::string> own = {"user", "mount", "ipc", "uts"};
    if (name != "maintainer") own.insert("net");
    if (row["role"] == "conn") own.insert("pid");
    EXPECT_EQ(words_of(row["namespaces"]), own);
  }
  // A service of this user is ended and started anew.
  const pid_t acceptor = node_->service_pid("acceptor");
  ASSERT_EQ(::kill(acceptor, SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return node_->service_restarts("acceptor") == 1; })) << node_->log();
}

TEST_F(Rights, OfRootMakeTheOtherNamespacesWhereThereIsNoUserNamespace) {
  if (!root_may_make_namespaces()) GTEST_SKIP() << "needs root's right to make namespaces";
  NodeOptions options;
  options.user_namespaces = false;
  options.sandbox = "default";
  ASSERT_NO_FATAL_FAILURE(start(options));
  EXPECT_EQ(check_alive(*node_, *witness_), "");
  for (const auto& [name, row] : node_->sandbox()) {
    SCOPED_TRACE(row.dump());
    EXPECT_EQ(row["seccomp"], "filter");
    if (name == "supervisor") continue;
    EXPECT_GT(row["uid"], 62000);
    EXPECT_EQ(row["capabilities_permitted"], kNoCapabilities);
    std::set<std::string> own = {"mount", "ipc", "uts"};
    if (name != "maintainer") own.insert("net");
    EXPECT_EQ(words_of(row["namespaces"]), own);
    EXPECT_EQ(row["root_empty"], true);
  }
  for (const auto& role : kServices) {
    expect_in_log(role + ": not confined by namespaces: no user namespace: Operation not permitted; allow");
  }
  expect_in_log("nursery: not confined by PID namespaces");
  const pid_t nursery = node_->service_pid("nursery");
  ASSERT_EQ(::kill(nursery, SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return node_->service_restarts("nursery") == 1; })) << node_->log();
  Peer next = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(next));
}

TEST_F(Rights, OfAnOrdinaryUserWithoutUserNamespacesSufficeAtLevelDefault) {
  NodeOptions options;
  options.user = kOrdinaryUser;
  options.user_namespaces = false;
  options.sandbox = "default";
  ASSERT_NO_FATAL_FAILURE(start(options));
  EXPECT_EQ(check_alive(*node_, *witness_), "");
  for (const auto& [name, row] : node_->sandbox()) {
    SCOPED_TRACE(row.dump());
    EXPECT_EQ(row["uid"], kOrdinaryUser);
    EXPECT_EQ(row["seccomp"], "filter");
    EXPECT_EQ(row["capabilities_permitted"], kNoCapabilities);
    EXPECT_EQ(words_of(row["namespaces"]), std::set<std::string>());
  }
  for (const auto& role : kServices) expect_in_log(role + ": not confined by namespaces: no user namespace: ");
}

TEST_F(Rights, WithoutUserNamespacesAreTooFewForLevelStrict) {
  NodeOptions options;
  options.user_namespaces = false;
  options.sandbox = "strict";
  const std::vector<std::string> parts = {"no user namespace: Operation not permitted", "--require-sandbox default"};
  expect_refusal(options, parts);
  options.user = kOrdinaryUser;
  expect_refusal(options, parts);
}

/// Directories of this name among the mounted groups.
std::vector<std::string> groups_named(const std::string& name) {
  std::vector<std::string> found;
  std::error_code failure;
  for (fs::recursive_directory_iterator entry("/sys/fs/cgroup", fs::directory_options::skip_permission_denied, failure),
       end;
       !failure && entry != end; entry.increment(failure)) {
    if (entry->path().filename() == name) found.push_back(entry->path());
  }
  return found;
}

class WorkersTogether : public NodeTest {
 protected:
  void SetUp() override {
    if (is_unconfined()) GTEST_SKIP() << "the node runs without confinement";
    ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--workers-memory", "32"}}));
    if (node_->log().find("workers are not bounded together") != std::string::npos) {
      witness_.reset();
      GTEST_SKIP() << "no control group may be made here";
    }
    name_ = last_part(group_of("nursery"));
  }

  std::string group_of(const std::string& process) {
    const auto rows = node_->sandbox();
    const auto row = rows.find(process);
    return row == rows.end() || !row->second["cgroup"].is_string() ? "" : row->second["cgroup"].get<std::string>();
  }
  std::string group_of(const Peer& peer) { return group_of("conn " + std::to_string(worker_of(peer))); }
  int worker_of(const Peer& peer) { return node_->connection(peer.peer_id()).value("worker_pid", 0); }

  static std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

  std::string name_;
};

TEST_F(WorkersTogether, AreInOneGroupWithTheirNursery) {
  ASSERT_TRUE(name_.starts_with("bulkhead-workers-")) << name_;
  EXPECT_EQ(group_of(*witness_), group_of("nursery"));
  EXPECT_NE(group_of("supervisor"), group_of("nursery"));
  EXPECT_EQ(group_of("controller"), group_of("supervisor"));
  ASSERT_EQ(::kill(node_->service_pid("nursery"), SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return node_->service_restarts("nursery") == 1; })) << node_->log();
  Peer next = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(next));
  EXPECT_EQ(last_part(group_of("nursery")), name_);
  EXPECT_EQ(last_part(group_of(next)), name_);
}

TEST_F(WorkersTogether, LeaveNoGroupBehind) {
  ASSERT_FALSE(groups_named(name_).empty());
  witness_.reset();
  EXPECT_EQ(node_->stop(), 0);
  EXPECT_TRUE(groups_named(name_).empty());
}

TEST_F(WorkersTogether, FindTheGroupOfAKilledNodeClearedAway) {
  witness_.reset();
  EXPECT_EQ(node_->stop(SIGKILL), -SIGKILL);
  EXPECT_FALSE(groups_named(name_).empty());
  ASSERT_TRUE(node_->start());
  EXPECT_EQ(last_part(group_of("nursery")), name_);
  EXPECT_EQ(node_->stop(), 0);
  EXPECT_TRUE(groups_named(name_).empty());
}

/// Whether the kernel ended exactly one process of the group for want of memory.
bool kernel_ended_one(const std::string& name) {
  for (const auto& group : groups_named(name)) {
    for (const char* file : {"/memory.oom_control", "/memory.events"}) {
      if (read_file(group + file).find("oom_kill 1\n") != std::string::npos) return true;
    }
  }
  return false;
}

#if defined(__x86_64__)
/// Has a running process take `pages` pages of memory, by code that is put in its way. Empty, or what went wrong.
std::string make_it_take(pid_t pid, std::uint64_t pages) {
  // syscall; next: mov byte [rax], 1; add rax, 4096; dec rbx; jnz next; self: jmp self
  constexpr std::array<unsigned char, 24> kCode = {0x0f, 0x05, 0xc6, 0x00, 0x01, 0x48, 0x05, 0x00,
                                                   0x10, 0x00, 0x00, 0x48, 0xff, 0xcb, 0x75, 0xf2,
                                                   0xeb, 0xfe, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90};
  if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) return "cannot seize it";
  int status = 0;
  if (::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0 || ::waitpid(pid, &status, __WALL) != pid) {
    return "cannot stop it";
  }
  user_regs_struct registers{};
  if (::ptrace(PTRACE_GETREGS, pid, nullptr, &registers) != 0) return "cannot read its registers";
  for (std::size_t at = 0; at < kCode.size(); at += sizeof(long)) {
    long word = 0;
    std::memcpy(&word, kCode.data() + at, sizeof word);
    if (::ptrace(PTRACE_POKETEXT, pid, registers.rip + at, word) != 0) return "cannot write its code";
  }
  registers.orig_rax = ~0ULL;  // no system call is to be taken up again
  registers.rax = 9;           // mmap, private and anonymous, as its policy allows it
  registers.rdi = 0;
  registers.rsi = pages * 4096;
  registers.rdx = 3;
  registers.r10 = 0x22;
  registers.r8 = ~0ULL;
  registers.r9 = 0;
  registers.rbx = pages;
  if (::ptrace(PTRACE_SETREGS, pid, nullptr, &registers) != 0) return "cannot set its registers";
  return ::ptrace(PTRACE_DETACH, pid, nullptr, nullptr) == 0 ? "" : "cannot let it go";
}

// 48 MiB are less than each worker may have by itself, and more than all of them together here.
TEST_F(WorkersTogether, DieAloneWhenTheyTakeMoreThanTheGroupHas) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to put code into a worker";
  Peer victim = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(victim));
  const int nursery = node_->service_pid("nursery");
  ASSERT_EQ(make_it_take(worker_of(victim), 48 * 256), "");
  expect_ended(victim, "worker_killed");
  EXPECT_EQ(check_alive(*node_, *witness_), "");
  EXPECT_EQ(node_->service_pid("nursery"), nursery);
  EXPECT_TRUE(kernel_ended_one(name_));
  Peer next = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(next));
}
#endif

}  // namespace
}  // namespace bulkhead::testing
