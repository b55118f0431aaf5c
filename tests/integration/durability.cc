#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/fixture.h"

/// What a command confirmed, and a controller that dies, a disk that is full, an import that is cut off.
namespace bulkhead::testing {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

// The supervisor forgives five deaths in a row within five seconds of a start each; a longer life clears the account.
constexpr int kQuickDeaths = 4;
constexpr auto kLongLife = Milliseconds(5500);

std::uint64_t seed_of_run() {
  const char* given = std::getenv("BULKHEAD_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

/// What SQLite finds wrong with a copy of the state, which must not be in use; "ok" when nothing.
std::string integrity_of(const std::string& state) {
  const TemporaryDirectory copies;
  const std::string copy = copies.path() + "/state.db";
  for (const char* suffix : {"", "-wal"}) {
    std::error_code failure;
    fs::copy_file(state + "/state.db" + suffix, copy + suffix, failure);
    if (failure) return std::string("cannot copy state.db") + suffix + ": " + failure.message();
  }
  sqlite3* opened = nullptr;
  const int status = ::sqlite3_open_v2(copy.c_str(), &opened, SQLITE_OPEN_READWRITE, nullptr);
  const std::unique_ptr<sqlite3, int (*)(sqlite3*)> database(opened, ::sqlite3_close);
  if (status != SQLITE_OK) return "cannot open the copy";
  std::string found;
  const auto keep = [](void* into, int count, char** values, char**) {
    for (int i = 0; i < count; ++i) *static_cast<std::string*>(into) += values[i] != nullptr ? values[i] : "?";
    return 0;
  };
  if (::sqlite3_exec(database.get(), "PRAGMA integrity_check", keep, &found, nullptr) != SQLITE_OK)
    return ::sqlite3_errmsg(database.get());
  return found;
}

class Durability : public NodeTest {
 protected:
  std::string state() { return node_->data_dir() + "/state"; }

  std::set<std::string> banned() {
    std::set<std::string> prefixes;
    const Json acl = node_->json({"acl"});
    if (!acl.is_object()) return prefixes;
    for (const Json& entry : acl["blacklist"]) prefixes.insert(entry.value("prefix", ""));
    return prefixes;
  }

  int blacklist_size() {
    const Json status = node_->json({"status"});
    return status.is_object() ? status["lists"].value("blacklist", -1) : -1;
  }

  /// The controller, unless the supervisor would give up on the next one if it died now, or it is just away: then 0.
  pid_t mortal_controller() {
    const pid_t pid = node_->service_pid("controller");
    if (pid != controller_) seen_since_ = Clock::now();
    controller_ = pid;
    if (pid <= 0 || !is_running(pid)) return 0;
    return quick_deaths_ < kQuickDeaths || Clock::now() - seen_since_ > kLongLife ? pid : 0;
  }
  /// The one that mortal_controller() named a moment ago.
  void kill_controller() {
    quick_deaths_ = Clock::now() - seen_since_ > kLongLife ? 0 : quick_deaths_ + 1;
    ASSERT_EQ(::kill(controller_, SIGKILL), 0);
  }

  void restart_killed() {
    ASSERT_EQ(node_->stop(SIGKILL), -SIGKILL);
    EXPECT_EQ(integrity_of(state()), "ok");
    const auto started = node_->start();
    ASSERT_TRUE(started) << started.error().text;
    for (const auto& entry : fs::directory_iterator(state())) {
      EXPECT_EQ(entry.path().filename().string().find(".damaged-"), std::string::npos) << entry.path();
    }
  }

  pid_t controller_ = 0;
  Clock::time_point seen_since_ = Clock::now();
  int quick_deaths_ = 0;
};

// ---- kill -9

/// BULKHEAD_TEST_BANS: as many bans, with a kill for every fifty (deploy/test long: 1,000).
TEST_F(Durability, OfEveryConfirmedBanWhileTheControllerIsKilledAgainAndAgain) {
  const char* wanted = std::getenv("BULKHEAD_TEST_BANS");
  const std::size_t bans = wanted != nullptr ? std::strtoul(wanted, nullptr, 10) : 200 / kPatience;
  const std::size_t kills = std::max<std::size_t>(bans / 50, 2);
  std::mt19937_64 random(seed_of_run());
  ASSERT_NO_FATAL_FAILURE(start());

  std::set<std::string> confirmed;
  std::size_t tried = 0;
  std::size_t killed = 0;
  std::size_t next_kill = random() % 20;
  while (confirmed.size() < bans || killed < kills) {
    ASSERT_LT(tried, 50 * bans) << confirmed.size() << " confirmed, " << killed << " kills";
    const std::string address = "10." + std::to_string(tried / 65536) + "." + std::to_string(tried / 256 % 256) + "." +
                                std::to_string(tried % 256);
    ++tried;
    const bool kill = tried > next_kill && mortal_controller() != 0;
    BackgroundCommand ban(node_->command({"ban", "address", address}));
    if (kill) {
      // Somewhere within the command, or after it.
      const auto instant = Clock::now() + std::chrono::microseconds(random() % 40'000);
      while (Clock::now() < instant) std::this_thread::yield();
      ASSERT_NO_FATAL_FAILURE(kill_controller());
      ++killed;
      next_kill = tried + 5 + random() % 60;
    }
    const auto status = ban.wait();
    ASSERT_TRUE(status) << address << ": no answer";
    if (*status == 0) {
      confirmed.insert(address);
    } else {
      ASSERT_NE(ban.errors().find("controller"), std::string::npos) << address << ": " << ban.errors();
    }
  }
  std::printf("%zu bans confirmed of %zu, %zu kills\n", confirmed.size(), tried, killed);
  EXPECT_EQ(check_alive(*node_, *witness_), "");
  witness_.reset();
  ASSERT_NO_FATAL_FAILURE(restart_killed());

  const auto found = banned();
  std::size_t lost = 0;
  for (const auto& address : confirmed) {
    if (!found.contains(address)) ADD_FAILURE() << address << " was confirmed, and lost (" << ++lost << ")";
  }
  EXPECT_LE(found.size(), tried);
}

// ---- no room

/// A small file system at a directory, for this process and what it starts alone; it goes with this object.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& directory) : directory_(directory) {
    mounted_ = ::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=1m,mode=0700") == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(directory_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const { return mounted_; }
  /// Takes all the room that is left. False when that could not be seen.
  bool fill() {
    const UniqueFd file(::open((directory_ + "/filler").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    const std::string piece(4096, 'x');
    while (::write(file.get(), piece.data(), piece.size()) > 0) {
    }
    return errno == ENOSPC;
  }
  void make_room() { ::unlink((directory_ + "/filler").c_str()); }

 private:
  std::string directory_;
  bool mounted_ = false;
};

TEST_F(Durability, OfABanOnAFullDiskIsDeniedWhileTheBanIsInForce) {
  node_ = std::make_unique<Node>();
  ASSERT_EQ(::mkdir(state().c_str(), 0700), 0);
  SmallDisk disk(state());
  if (!disk.mounted()) GTEST_SKIP() << "needs root, to mount a small file system";
  const auto started = node_->start();
  ASSERT_TRUE(started) << started.error().text;
  const std::string address = fresh_address();
  Peer peer = node_->make_peer();
  ASSERT_TRUE(peer.connect(node_->point(), address));
  ASSERT_TRUE(peer.handshake());
  ASSERT_TRUE(node_->wait_connected(peer.peer_id()));

  ASSERT_TRUE(disk.fill());
  const auto denied = node_->cli({"ban", "address", address, "--reason", "while the disk was full"});

  EXPECT_EQ(denied.exit_status, 1) << denied;
  EXPECT_NE(denied.err.find(address + " is banned, from now on, but not stored"), std::string::npos) << denied;
  EXPECT_NE(denied.err.find("make room on its disk"), std::string::npos) << denied;
  expect_ended(peer, "banned");
  ASSERT_TRUE(peer.connect(node_->point(), address));
  expect_ended(peer, "banned");
  // The rest of the node does not mind.
  Peer other = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(other));
  EXPECT_EQ(check_alive(*node_, other), "");

  disk.make_room();
  const auto stored = node_->cli({"ban", "address", "10.0.0.0/8", "--reason", "when there was room"});
  EXPECT_EQ(stored.exit_status, 0) << stored;
  // What was denied is written when there is room, without another word.
  EXPECT_TRUE(eventually([&] {
    const std::string bytes = read_file(state() + "/state.db") + read_file(state() + "/state.db-wal");
    return bytes.find("while the disk was full") != std::string::npos;
  })) << node_->log();
  ASSERT_NO_FATAL_FAILURE(restart_killed());
  EXPECT_EQ(banned(), (std::set<std::string>{address, "10.0.0.0/8"}));
  node_->stop();
}

TEST_F(Durability, OfWhatAFullDiskDidNotTakeOutlivesTheControllerThatSaidSo) {
  node_ = std::make_unique<Node>();
  ASSERT_EQ(::mkdir(state().c_str(), 0700), 0);
  SmallDisk disk(state());
  if (!disk.mounted()) GTEST_SKIP() << "needs root, to mount a small file system";
  const auto started = node_->start();
  ASSERT_TRUE(started) << started.error().text;
  ASSERT_EQ(node_->cli({"ban", "address", "10.0.0.0/8"}).exit_status, 0);
  ASSERT_TRUE(disk.fill());
  EXPECT_EQ(node_->cli({"ban", "address", "192.0.2.0/24", "--reason", "while the disk was full"}).exit_status, 1);
  EXPECT_EQ(node_->cli({"unban", "address", "10.0.0.0/8"}).exit_status, 1);

  const pid_t former = mortal_controller();
  ASSERT_GT(former, 0);
  kill_controller();
  ASSERT_TRUE(eventually([&] {
    const pid_t now = node_->service_pid("controller");
    return now > 0 && now != former;
  })) << node_->log();
  EXPECT_EQ(banned(), std::set<std::string>{"192.0.2.0/24"});
  disk.make_room();
  EXPECT_TRUE(eventually([&] {
    const std::string bytes = read_file(state() + "/state.db") + read_file(state() + "/state.db-wal");
    return bytes.find("while the disk was full") != std::string::npos;
  })) << node_->log();
  ASSERT_NO_FATAL_FAILURE(restart_killed());
  EXPECT_EQ(banned(), std::set<std::string>{"192.0.2.0/24"});
  node_->stop();
}

// ---- import

class Import : public Durability {
 protected:
  static constexpr int kEntries = 30'000;

  /// A file of `kEntries` lines, other ones for each `number`.
  std::string entries(int number) {
    std::string text;
    for (int i = 0; i < kEntries; ++i) {
      text += std::to_string(20 + number) + "." + std::to_string(i / 65536) + "." + std::to_string(i / 256 % 256) +
              "." + std::to_string(i % 256) + "\n";
    }
    const std::string file = node_->data_dir() + "/import-" + std::to_string(number);
    write_file(file, text);
    return file;
  }

  /// A command that changes nothing, and that an import keeps out.
  CommandResult ask() { return node_->cli({"unban", "address", "192.0.2.1"}); }
  bool is_under_way() { return ask().err.find("an import is under way") != std::string::npos; }
  /// Answered by a controller that has taken everything over.
  bool is_answered(Milliseconds timeout) {
    return eventually([&] { return (ask().out + ask().err).find("was not banned") != std::string::npos; }, timeout);
  }

  /// After the death of the controller in the middle of the import: how many more entries there are than `before`.
  void expect_all_or_none(BackgroundCommand& import, int before, int* more) {
    const auto status = import.wait(Milliseconds(30'000) * kPatience);
    ASSERT_TRUE(status);
    EXPECT_EQ(*status, 1);
    EXPECT_NE(import.errors().find("controller"), std::string::npos) << import.errors();
    ASSERT_TRUE(is_answered(Milliseconds(30'000) * kPatience)) << node_->log();
    *more = blacklist_size() - before;
    EXPECT_TRUE(*more == 0 || *more == kEntries) << *more << " of " << kEntries << " entries\n" << node_->log();
  }
};

TEST_F(Import, IsAllOrNothingWhenTheControllerDiesInIt) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_EQ(node_->cli({"ban", "address", "192.0.2.7"}).exit_status, 0);
  int whole = 1;

  // While the database takes the entries.
  {
    BackgroundCommand import(node_->command({"acl", "import", entries(0)}));
    ASSERT_TRUE(eventually([&] { return is_under_way(); })) << import.errors();
    ASSERT_NE(mortal_controller(), 0);
    ASSERT_NO_FATAL_FAILURE(kill_controller());
    int more = 0;
    ASSERT_NO_FATAL_FAILURE(expect_all_or_none(import, whole, &more));
    std::printf("killed at first sight: %d entries\n", more);
    whole += more;
  }
  // While the lists take them, after the database has: stopped now and then, until some of them are there. On a busy
  // machine an import may slip through whole.
  bool cut_off = false;
  for (int number = 1; !cut_off && number <= 5; ++number) {
    BackgroundCommand import(node_->command({"acl", "import", entries(number)}));
    ASSERT_NE(mortal_controller(), 0);
    int seen = 0;
    ASSERT_TRUE(eventually(
        [&] {
          ::kill(controller_, SIGSTOP);
          seen = blacklist_size() - whole;
          if (seen == 0) ::kill(controller_, SIGCONT);
          return seen != 0;
        },
        Milliseconds(30'000) * kPatience))
        << import.errors();
    cut_off = seen < kEntries;
    int more = kEntries;
    if (cut_off) {
      std::printf("killed with %d of %d entries in the lists\n", seen, kEntries);
      ASSERT_NO_FATAL_FAILURE(kill_controller());
      ASSERT_NO_FATAL_FAILURE(expect_all_or_none(import, whole, &more));
      EXPECT_EQ(more, kEntries) << "they were in the database";
    } else {
      ::kill(controller_, SIGCONT);
      EXPECT_EQ(import.wait(), 0) << import.errors();
    }
    whole += more;
  }
  EXPECT_TRUE(cut_off);
  EXPECT_EQ(check_alive(*node_, *witness_), "");
  witness_.reset();
  ASSERT_NO_FATAL_FAILURE(restart_killed());
  EXPECT_EQ(blacklist_size(), whole);
  EXPECT_EQ(node_->json({"is", "address", "banned", "192.0.2.7"})["banned"], true);
}

}  // namespace
}  // namespace bulkhead::testing
