#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/hostile/memory_scan.h"
#include "tests/integration/application.h"

namespace bulkhead::hostile {
namespace {

using testing::eventually;
using testing::Json;

constexpr std::size_t kConnections = 200;

testing::Bytes clamped(testing::Bytes key) {
  key[0] &= 0xf8;
  key[31] &= 0x7f;
  key[31] |= 0x40;
  return key;
}

/// A node with many connections and an application, and what must be found in one of its processes only.
class KeyIsolation : public ConfinedNodeTest {
 protected:
  void SetUp() override {
    if (const std::string why = obstacle("default"); !why.empty()) GTEST_SKIP() << why;
  }

  void start_with(std::size_t count) {
    ASSERT_NO_FATAL_FAILURE(start(options_of("default", static_cast<int>(count) + 1)));
    listen_ = std::make_unique<testing::ListenCommand>(*node_);
    ASSERT_TRUE(listen_->wait_attached()) << listen_->errors();
    ASSERT_NO_FATAL_FAILURE(connect_peers(count));
    workers_ = workers();
    for (std::size_t i = 0; i < workers_.size(); ++i) processes_[workers_[i]] = "worker " + std::to_string(i);
    for (const auto& [role, pid] : confined_services(*node_)) processes_[pid] = role_name(role);
    processes_[node_->pid()] = "supervisor";
    processes_[listen_->process().pid()] = "application";
    add_secrets();
  }

  /// Checks that the process has secrets in guarded pages only; how many pieces it has.
  std::size_t expect_guarded(pid_t pid) const {
    const auto ranges = memory_of(pid);
    const auto findings = search_memory(pid, secrets_);
    for (const Finding& finding : findings) {
      const std::string what = describe(pid, finding);
      const std::string flags = flags_of(pid, finding.range);
      EXPECT_NE(flags.find(" dd "), std::string::npos) << what << ", which is dumped:" << flags;
      EXPECT_NE(flags.find(" lo "), std::string::npos) << what << ", which is not locked:" << flags;
      const auto guards = std::count_if(ranges.begin(), ranges.end(), [&](const MemoryRange& range) {
        return range.permissions == "---p" && (range.end == finding.range.begin || range.begin == finding.range.end);
      });
      EXPECT_EQ(guards, 2) << what << ", without guard pages on both sides";
    }
    EXPECT_TRUE(search_memory(pid, secrets_, true).empty()) << "a core image would hold it";
    return findings.size();
  }

  void add_secrets() {
    const Json identity = Json::parse(testing::read_file(node_->data_dir() + "/identity.json"));
    const std::string text = identity.value("secret_key", "");
    const auto key = testing::from_hex(text);
    ASSERT_EQ(key.size(), 32U);
    secrets_.add("the identity key", key);
    secrets_.add("the identity key, clamped", clamped(key));
    secrets_.add("the identity key in hex", testing::from_text(text));
    identity_key_ = key;
    channel_keys_begin_ = 3;
    for (std::size_t i = 0; i < peers_.size(); ++i) {
      secrets_.add("the channel key of connection " + std::to_string(i), peers_[i].channel_key());
    }
  }

  pid_t pid_of(const std::string& name) const {
    for (const auto& [pid, what] : processes_) {
      if (what == name) return pid;
    }
    return 0;
  }

  bool is_identity(std::size_t secret) const { return secret < channel_keys_begin_; }

  bool may_have(pid_t pid, std::size_t secret) const {
    if (is_identity(secret)) return pid == pid_of("keyholder");
    return pid == workers_[secret - channel_keys_begin_];
  }

  std::string describe(pid_t pid, const Finding& finding) const {
    return processes_.at(pid) + " has " + secrets_.name(finding.secret) + " in " + finding.range.permissions + " " +
           finding.range.name;
  }

  /// What stands where it must not.
  std::set<std::string> misplaced(pid_t pid, bool core_image = false) const {
    std::set<std::string> found;
    for (const Finding& finding : search_memory(pid, secrets_, core_image)) {
      if (!may_have(pid, finding.secret)) found.insert(describe(pid, finding));
    }
    return found;
  }

  std::unique_ptr<testing::ListenCommand> listen_;
  std::map<pid_t, std::string> processes_;
  std::vector<pid_t> workers_;
  testing::Bytes identity_key_;
  Secrets secrets_;
  std::size_t channel_keys_begin_ = 0;
};

TEST_F(KeyIsolation, HoldsInEveryProcess) {
  ASSERT_NO_FATAL_FAILURE(start_with(kConnections));
  ASSERT_EQ(processes_.size(), kConnections + 7) << "five services, the supervisor, the application";
  std::set<std::size_t> where_due;
  for (const auto& [pid, name] : processes_) {
    for (const Finding& finding : search_memory(pid, secrets_)) {
      if (may_have(pid, finding.secret)) {
        where_due.insert(finding.secret);
      } else {
        ADD_FAILURE() << describe(pid, finding);
      }
    }
    for (const std::size_t secret : search_memory_files(pid, secrets_)) {
      ADD_FAILURE() << name << " has " << secrets_.name(secret) << " in a memory file";
    }
  }
  // The search works: each connection's worker has its key, and the keyholder the identity's.
  EXPECT_GE(where_due.size(), kConnections + 1);
}

TEST_F(KeyIsolation, LeavesTheIdentityKeyInGuardedPagesAlone) {
  ASSERT_NO_FATAL_FAILURE(start_with(4));
  EXPECT_GE(expect_guarded(pid_of("keyholder")), 1U);
}

TEST_F(KeyIsolation, LeavesTheKeyOfAHandshakeThatIsNotProvedInGuardedPagesAlone) {
  ASSERT_NO_FATAL_FAILURE(start_with(1));
  testing::Peer silent = node_->make_peer();
  ASSERT_TRUE(node_->dial(silent));
  ASSERT_TRUE(silent.send_connection_message());
  ASSERT_TRUE(silent.read_connection_message());
  // The node has the key by now; this side says nothing more.
  ASSERT_TRUE(silent.read_metadata());
  const std::size_t key = secrets_.add("the key of the handshake", silent.channel_key());
  std::size_t held = 0;
  for (const Finding& finding : search_memory(pid_of("keyholder"), secrets_)) held += finding.secret == key ? 1 : 0;
  EXPECT_GE(held, 1U);
  EXPECT_GE(expect_guarded(pid_of("keyholder")), 1U);
  auto everybody = testing::tree_of(node_->pid());
  everybody.push_back(node_->pid());
  for (const pid_t pid : everybody) {
    if (pid == pid_of("keyholder")) continue;
    for (const Finding& finding : search_memory(pid, secrets_)) EXPECT_NE(finding.secret, key) << pid;
  }
}

// No process of the node may be dumped at all; should it be, the other processes' images hold nothing either.
TEST_F(KeyIsolation, LeavesNothingInCoreImages) {
  ASSERT_NO_FATAL_FAILURE(start_with(4));
  for (const auto& [pid, name] : processes_) {
    EXPECT_EQ(misplaced(pid, true), std::set<std::string>()) << name;
  }
}

TEST_F(KeyIsolation, IsDisturbedByAnyCopy) {
  ASSERT_NO_FATAL_FAILURE(start_with(2));
  // Half a key, in dead memory below the stack of a process that stands still meanwhile.
  const auto expect_found = [this](pid_t pid, std::span<const std::uint8_t> key) {
    EXPECT_EQ(misplaced(pid), std::set<std::string>()) << "before";
    auto held = enter(pid, pid, 0);
    ASSERT_TRUE(held) << held.error().text;
    ASSERT_TRUE(held->process.write(held->target.data, std::as_bytes(key.first(16))));
    EXPECT_EQ(misplaced(pid).size(), 1U);
    const std::array<std::byte, 16> nothing = {};
    ASSERT_TRUE(held->process.write(held->target.data, nothing));
  };
  for (const auto& [pid, name] : processes_) {
    SCOPED_TRACE(name);
    if (name == "application") continue;
    if (name != "keyholder") {
      ASSERT_NO_FATAL_FAILURE(expect_found(pid, identity_key_));
    }
    if (name != "worker 0") {
      ASSERT_NO_FATAL_FAILURE(expect_found(pid, peers_[0].channel_key()));
    }
  }
}

}  // namespace
}  // namespace bulkhead::hostile
