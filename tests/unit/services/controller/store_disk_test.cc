#include <sys/stat.h>

#include <map>
#include <random>
#include <set>
#include <sstream>

#include "base/clock.h"
#include "tests/unit/services/controller/store_support.h"

/// The store on a disk that takes its time.
namespace bulkhead::controller {
namespace {

using namespace test;

std::string contents(int fd) {
  std::string bytes(static_cast<std::size_t>(::lseek(fd, 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  return bytes;
}

/// A flush is over when the test says so. It knows what a power cut would leave at least: what was there when a flush
/// began that is over.
class SlowDisk : public DiskFlush {
 public:
  int flush_now(int fd) override {
    ++blocked;
    kept[fd] = contents(fd);
    return 0;
  }
  void begin(int fd) override {
    EXPECT_EQ(under_way, -1) << "two flushes at once";
    under_way = fd;
    begun.push_back(fd);
    contents_ = contents(fd);
  }
  std::optional<Result<void>> outcome() override { return std::exchange(outcome_, std::nullopt); }
  int readiness() const override { return 0; }
  void wait() override {
    if (under_way >= 0) succeed();
  }

  void succeed() {
    kept[under_way] = std::move(contents_);
    under_way = -1;
    outcome_ = Result<void>();
  }
  void fail() {
    under_way = -1;
    outcome_ = Result<void>(Error{ErrorCode::kSystem, "the disk is gone", EIO});
  }

  int under_way = -1;
  int blocked = 0;  ///< flushes that the store waited for
  std::vector<int> begun;
  std::map<int, std::string> kept;

 private:
  std::string contents_;
  std::optional<Result<void>> outcome_;
};

/// By this process, into the page cache.
std::uint64_t bytes_written() {
  std::istringstream text(read_file("/proc/self/io"));
  for (std::string name; text >> name;) {
    std::uint64_t value = 0;
    text >> value;
    if (name == "wchar:") return value;
  }
  ADD_FAILURE() << "no /proc/self/io";
  return 0;
}

class StoreDisk : public ::testing::Test {
 protected:
  StoreDisk() {
    auto made = std::make_unique<SlowDisk>();
    disk_ = made.get();
    auto files = data_.files();
    database_ = files.database.get();
    log_ = files.log.get();
    store_ = std::make_unique<Store>(std::move(files), std::move(made));
    expect_done(store_->open());
    expect_done(store_->load(1));
    // The first commit of all blocks for the header of the log.
    expect_done(store_->commit({ban(0)}));
    expect_done(store_->flush_all());
    EXPECT_EQ(store_->outcomes().size(), 1U);
    disk_->begun.clear();
    disk_->blocked = 0;
  }

  Ticket commit(std::uint32_t number) {
    const auto ticket = store_->commit({ban(number, std::string(200, 'x'))});
    expect_done(ticket);
    return ticket ? *ticket : 0;
  }
  Result<void> flush() { return store_->flush(now_ += 100 * kMillisecond); }
  void flush_until_nothing_waits() {
    for (int rounds = 0; rounds == 0 || disk_->under_way >= 0 || store_->pending() > 0; ++rounds) {
      ASSERT_LT(rounds, 20);
      if (disk_->under_way >= 0) disk_->succeed();
      expect_done(flush());
      for (auto& outcome : store_->outcomes()) heard_.push_back(std::move(outcome));
    }
  }

  const DataDirectory data_;
  SlowDisk* disk_ = nullptr;  ///< the store's
  std::vector<CommitOutcome> heard_;
  int database_ = -1;
  int log_ = -1;
  std::unique_ptr<Store> store_;
  Nanoseconds now_ = 1000 * kSecond;
};

TEST_F(StoreDisk, ConfirmsACommitAfterAFlushThatBeganAfterIt) {
  const Ticket first = commit(1);
  expect_done(flush());
  ASSERT_EQ(disk_->under_way, log_);
  const Ticket second = commit(2);
  expect_done(flush());
  EXPECT_TRUE(store_->outcomes().empty()) << "before the disk has it";
  disk_->succeed();
  expect_done(flush());
  auto outcomes = store_->outcomes();
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_EQ(outcomes[0].ticket, first);
  expect_done(outcomes[0].stored);
  ASSERT_EQ(disk_->under_way, log_) << "the second waits for a flush of its own";
  disk_->succeed();
  expect_done(flush());
  outcomes = store_->outcomes();
  ASSERT_EQ(outcomes.size(), 1U);
  EXPECT_EQ(outcomes[0].ticket, second);
  EXPECT_EQ(disk_->blocked, 0);
}

TEST_F(StoreDisk, SaysWhatAFlushThatFailedWasForAndTriesAgain) {
  commit(1);
  expect_done(flush());
  disk_->fail();
  expect_error(flush(), ErrorCode::kSystem);
  auto outcomes = store_->outcomes();
  ASSERT_EQ(outcomes.size(), 1U);
  expect_error(outcomes[0].stored, ErrorCode::kSystem);
  now_ += kSecond;
  expect_done(flush());
  EXPECT_EQ(disk_->under_way, log_);
  disk_->succeed();
  commit(2);
  expect_done(flush());
  flush_until_nothing_waits();
  ASSERT_EQ(heard_.size(), 1U);
  expect_done(heard_[0].stored);
}

TEST_F(StoreDisk, GoesOnWritingWhileAFlushTakesItsTime) {
  commit(1);
  expect_done(flush());
  ASSERT_EQ(disk_->under_way, log_);
  for (std::uint32_t i = 0; i < 100; ++i) {
    expect_done(store_->later({grey(i)}));
    expect_done(flush());
    EXPECT_EQ(store_->pending(), 0U);
  }
  EXPECT_EQ(disk_->begun.size(), 1U);
  EXPECT_EQ(disk_->blocked, 0);
  // They survive the process without it.
  store_.reset();
  EXPECT_EQ(data_.stored().acl.size(), 102U);
}

TEST_F(StoreDisk, MovesALongLogWithoutWaiting) {
  std::uint32_t number = 1;
  for (int moved = 0; moved < 3; ++moved) {
    while (disk_->begun.empty() || disk_->begun.back() != database_) {
      ASSERT_LT(number, 20'000U) << "the log is never moved";
      expect_done(store_->later({ban(number++, std::string(200, 'x'))}));
      expect_done(flush());
      if (disk_->under_way == log_) disk_->succeed();
    }
    // What can wait waits meanwhile, what was ordered does not.
    const std::size_t waiting = store_->pending();
    expect_done(store_->later({ban(number++)}));
    expect_done(flush());
    EXPECT_EQ(store_->pending(), waiting + 1);
    commit(number++);
    flush_until_nothing_waits();
    disk_->begun.clear();
  }
  EXPECT_EQ(disk_->blocked, 0);
  struct stat log {};
  ASSERT_EQ(::fstat(log_, &log), 0);
  EXPECT_LT(log.st_size, 3 * 1000 * 4096) << "it begins anew";
  store_.reset();
  EXPECT_EQ(data_.stored().acl.size(), number);
}

TEST_F(StoreDisk, WritesAgainWhatAFailedFlushMayHaveLost) {
  std::uint32_t number = 1;
  while (disk_->under_way != database_) {
    ASSERT_LT(number, 20'000U);
    expect_done(store_->later({ban(number++, std::string(200, 'x'))}));
    expect_done(flush());
    if (disk_->under_way == log_) disk_->succeed();
  }
  const std::string moved = contents(database_);
  disk_->fail();
  expect_error(flush(), ErrorCode::kSystem);
  // What the disk lost: the pages are as they were before the log was moved, and the file is taken for clean.
  const std::string lost = disk_->kept[database_];
  ASSERT_TRUE(lost != moved);
  ASSERT_EQ(::pwrite(database_, lost.data(), lost.size(), 0), static_cast<ssize_t>(lost.size()));
  now_ += 2 * kSecond;
  expect_done(flush());
  flush_until_nothing_waits();
  EXPECT_TRUE(disk_->kept[database_] != lost) << "the pages were not written again";
  store_.reset();
  EXPECT_EQ(data_.stored().acl.size(), number);
}

// The kernel takes what it could not write for written, and the next flush succeeds.
TEST_F(StoreDisk, WritesALogAgainBeforeItIsFlushedAgain) {
  commit(1);
  expect_done(flush());
  disk_->fail();
  expect_error(flush(), ErrorCode::kSystem);
  const std::size_t log_bytes = contents(log_).size();
  const std::uint64_t before = bytes_written();
  now_ += kSecond;
  expect_done(flush());
  ASSERT_EQ(disk_->under_way, log_);
  EXPECT_GE(bytes_written() - before, log_bytes);
  disk_->succeed();
  expect_done(flush());
  EXPECT_TRUE(store_->all_on_disk());
}

TEST_F(StoreDisk, IsNotCleanAfterAFlushThatFailed) {
  commit(1);
  EXPECT_FALSE(store_->all_on_disk());
  expect_done(flush());
  disk_->fail();
  expect_error(flush(), ErrorCode::kSystem);
  expect_done(flush());
  EXPECT_FALSE(store_->all_on_disk());
}

TEST_F(StoreDisk, MovesTheLogThoughCommitsKeepComing) {
  std::uint32_t number = 1;
  std::size_t confirmed = 0;
  std::size_t most_pending = 0;
  int moved = 0;
  for (int step = 0; step < 9000; ++step) {
    commit(number++);
    if (step % 3 == 0) expect_done(store_->later({grey(number)}));
    expect_done(flush());
    confirmed += store_->outcomes().size();
    expect_done(flush());
    most_pending = std::max(most_pending, store_->pending());
    if (step % 4 != 0 || disk_->under_way < 0) continue;
    if (disk_->under_way == database_) ++moved;
    disk_->succeed();
  }
  EXPECT_GE(moved, 3);
  EXPECT_LT(most_pending, 100U) << "what can wait never has its turn";
  EXPECT_GE(confirmed + 100, number);
  EXPECT_EQ(disk_->blocked, 0);
  EXPECT_LT(contents(log_).size(), std::size_t{3} * 1000 * 4096);
}

// Of each file the disk has at least what was flushed, and perhaps all that was written since.
TEST_F(StoreDisk, LosesNoConfirmedCommitToAPowerCut) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  std::map<Ticket, std::uint32_t> numbers;
  std::set<std::uint32_t> confirmed;
  std::uint32_t number = 1;
  int cuts = 0;
  for (int step = 0; step < 12'000; ++step) {
    switch (random() % 4) {
      case 0:
        numbers[commit(number)] = number;
        ++number;
        break;
      case 1:
        for (int i = 0; i < 8; ++i) expect_done(store_->later({grey(static_cast<std::uint32_t>(random()))}));
        break;
      case 2:
        if (disk_->under_way >= 0) disk_->succeed();
        break;
      default:
        expect_done(flush());
        for (const auto& outcome : store_->outcomes()) {
          expect_done(outcome.stored);
          confirmed.insert(numbers.at(outcome.ticket));
        }
    }
    if (random() % 200 != 0) continue;
    ++cuts;
    for (const bool database_written : {false, true}) {
      for (const bool log_written : {false, true}) {
        const DataDirectory after;
        write_file(after.file("state.db"), database_written ? contents(database_) : disk_->kept.at(database_));
        write_file(after.file("state.db-wal"), log_written ? contents(log_) : disk_->kept.at(log_));
        std::set<AclKey> found;
        for (const AclEntry& entry : after.stored().acl) found.insert(entry.key);
        for (const std::uint32_t one : confirmed) {
          ASSERT_TRUE(found.contains(ban(one).key))
              << "ban " << one << " is lost at step " << step << ", database written " << database_written
              << ", log written " << log_written;
        }
      }
    }
  }
  EXPECT_GT(cuts, 20);
  EXPECT_GT(confirmed.size(), 1000U);
  std::printf("%d power cuts, %zu commits confirmed, %d flushes that blocked\n", cuts, confirmed.size(),
              disk_->blocked);
}

}  // namespace
}  // namespace bulkhead::controller
