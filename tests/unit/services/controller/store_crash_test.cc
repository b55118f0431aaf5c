#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cerrno>
#include <random>
#include <set>

#include "tests/unit/services/controller/store_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

constexpr int kWaitMs = 30'000;

// ---- kill -9

/// Says of each number that it was stored, once it was: a ban by commit(), a greylisting by flush().
[[noreturn]] void write_until_killed(const DataDirectory& data, std::uint32_t first, int confirm) {
  Store store = data.store();
  if (!store.open() || !store.load(1)) ::_exit(1);
  for (std::uint32_t number = first;; ++number) {
    if (!store.later({grey(number), happened(known("192.0.2.1:1").point, number)})) ::_exit(2);
    if (!store.flush(monotonic_now()) || store.pending() != 0) ::_exit(3);
    if (!store.commit({ban(number)})) ::_exit(4);
    if (::write(confirm, &number, sizeof number) != sizeof number) ::_exit(5);
  }
}

TEST(StoreCrash, LosesNoConfirmedCommitToKillMinusNine) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  const DataDirectory data;
  std::uint32_t next = 0;
  constexpr int kKills = 20;
  for (int kill = 0; kill < kKills; ++kill) {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    const pid_t child = ::fork();
    if (child == 0) write_until_killed(data, next, write_end.get());
    ASSERT_GT(child, 0);
    write_end.reset();
    // Killed somewhere within the commit after so many confirmed ones.
    const std::uint32_t until = next + 10 + static_cast<std::uint32_t>(random() % 10);
    std::uint32_t number = 0;
    while (next < until) {
      pollfd waiting{read_end.get(), POLLIN, 0};
      ASSERT_EQ(::poll(&waiting, 1, kWaitMs), 1);
      ASSERT_EQ(::read(read_end.get(), &number, sizeof number), static_cast<ssize_t>(sizeof number));
      ASSERT_EQ(number, next);
      ++next;
    }
    const Nanoseconds instant = monotonic_now() + random() % (3 * kMillisecond);
    while (monotonic_now() < instant) {
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "it ended by itself: " << status;
    while (::read(read_end.get(), &number, sizeof number) == sizeof number) ++next;

    std::set<AclKey> found;
    for (const AclEntry& entry : data.stored().acl) found.insert(entry.key);
    for (std::uint32_t i = 0; i < next; ++i) {
      ASSERT_TRUE(found.contains(ban(i).key)) << "ban " << i << " of " << next << " was confirmed and is lost";
      ASSERT_TRUE(found.contains(grey(i).key)) << "greylisting " << i << " was flushed and is lost";
    }
    // One may have been stored and not been confirmed any more.
    ASSERT_LE(found.size(), 2 * (std::size_t{next} + 1));
    next = static_cast<std::uint32_t>(found.contains(ban(next).key) ? next + 1 : next);
  }
  EXPECT_GE(next, 200U);
}

// ---- no room

/// Lets no file grow beyond a size, until its end.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t most) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{most, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
};

/// Commits until one fails; how many did not.
std::uint32_t fill_up(Store& store, Result<void>& failure) {
  for (std::uint32_t number = 0; number < 100'000; ++number) {
    const auto ticket = store.commit({ban(number, std::string(200, 'x'))});
    if (ticket) continue;
    failure = ticket.error();
    return number;
  }
  return 0;
}

TEST(StoreFullDisk, IsAnErrorThatChangesNothingAndPasses) {
  const DataDirectory data;
  Store store = data.opened();
  ASSERT_TRUE(store.load(1));
  std::uint32_t stored = 0;
  {
    const FileSizeLimit limit(256 * 1024);
    Result<void> failure;
    stored = fill_up(store, failure);
    ASSERT_GT(stored, 10U);
    expect_error(failure, ErrorCode::kTooLarge);
    EXPECT_EQ(failure.error().errno_value, EFBIG);
    EXPECT_NE(failure.error().text.find("make room"), std::string::npos) << failure.error().text;
    EXPECT_EQ(failure.error().text.find('\n'), std::string::npos);
    // What failed waits for better times, with what comes after.
    EXPECT_EQ(store.pending(), 1U);
    expect_done(store.later({grey(1)}));
    expect_error(store.flush(100 * kSecond), ErrorCode::kTooLarge);
    // What was written before hears of it all the same.
    EXPECT_EQ(store.outcomes().size(), stored);
    EXPECT_EQ(store.pending(), 2U);
    expect_error(store.begin_import(), ErrorCode::kTooLarge);
  }
  expect_done(store.flush_all());
  EXPECT_EQ(store.pending(), 0U);
  expect_done(store.commit({grey(2)}));
  close(store);
  EXPECT_EQ(data.stored().acl.size(), stored + 1 + 2);
}

TEST(StoreRemoved, IsAnErrorOfACommit) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.commit({ban(1)}));
  ASSERT_TRUE(std::filesystem::remove(data.file("state.db")));
  const auto ticket = store.commit({ban(2)});
  expect_error(ticket, ErrorCode::kSystem);
  EXPECT_NE(ticket.error().text.find("bulkhead acl export"), std::string::npos) << ticket.error().text;
}

TEST(StoreFullDisk, UndoesAnImport) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.commit({ban(5, "before")}));
  {
    const FileSizeLimit limit(256 * 1024);
    expect_done(store.begin_import());
    Result<void> done;
    for (std::uint32_t i = 0; done && i < 1'000'000; i += 100) {
      std::vector<AclEntry> step;
      for (std::uint32_t k = i; k < i + 100; ++k) step.push_back(ban(k, std::string(200, 'x')));
      done = store.import(step);
    }
    expect_error(done, ErrorCode::kTooLarge);
    EXPECT_FALSE(store.importing());
  }
  expect_done(store.commit({ban(6)}));
  close(store);
  EXPECT_EQ(data.stored().acl, (std::vector<AclEntry>{ban(5, "before"), ban(6)}));
}

TEST(StoreFullDisk, IsSeenOnAFullFileSystem) {
  const DataDirectory data;
  const pid_t child = ::fork();
  constexpr int kNoMount = 50;
  if (child == 0) {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("tmpfs", data.file("").c_str(), "tmpfs", 0, "size=256k") != 0) {
      ::_exit(kNoMount);
    }
    const auto directory = service::open_state_directory(data.path());
    if (!directory) ::_exit(1);
    auto database = service::open_state_database(directory->get());
    auto log = service::open_state_log(directory->get());
    if (!database || !log) ::_exit(2);
    Store store({std::move(*database), std::move(*log)});
    if (!store.open() || !store.load(1)) ::_exit(3);
    Result<void> failure;
    if (fill_up(store, failure) < 10) ::_exit(4);
    if (failure.error().code != ErrorCode::kTooLarge || failure.error().errno_value != ENOSPC) ::_exit(5);
    if (!store.later({grey(1)}) || store.pending() != 2) ::_exit(6);
    if (!store.load(1)) ::_exit(7);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << status;
  if (WEXITSTATUS(status) == kNoMount) GTEST_SKIP() << "needs root, to mount a small file system";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace bulkhead::controller
