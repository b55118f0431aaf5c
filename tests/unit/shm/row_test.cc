#include "shm/row.h"

#include <gtest/gtest.h>
#include <sys/ptrace.h>

#include <memory>
#include <thread>

#include "link_fixture.h"

namespace bulkhead::shm {
namespace {

using test::Child;
using test::SharedWith;

struct Sample {
  std::array<std::uint64_t, 11> words;
};

Sample sample(std::uint64_t number) {
  Sample made;
  for (std::size_t i = 0; i < made.words.size(); ++i) made.words[i] = number * 0x9E3779B97F4A7C15U + i;
  made.words[0] = number;
  return made;
}

/// The number that a whole sample was made from.
std::optional<std::uint64_t> number_of(const Sample& read) {
  const Sample expected = sample(read.words[0]);
  if (read.words != expected.words) return std::nullopt;
  return read.words[0];
}

using Row = DoubleRow<Sample>;
static_assert(sizeof(Row) == 256 && alignof(Row) == 64);
static_assert(sizeof(DoubleRow<Sample, 128>) == 256 && alignof(DoubleRow<Sample, 128>) == 128);

/// The words of a row as another process could leave them; the first of each copy is its sequence number.
std::uint64_t* words_of(Row& row, std::size_t copy) {
  return reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::byte*>(&row) + copy * sizeof(Row) / 2);
}

TEST(DoubleRow, OfZeroesWasNeverWritten) {
  SharedWith<Row> row;
  EXPECT_FALSE(row->read());
}

TEST(DoubleRow, ShowsWhatWasWrittenLast) {
  SharedWith<Row> row;
  for (std::uint64_t number = 1; number < 10; ++number) {
    row->write(sample(number));
    const auto read = row->read();
    ASSERT_TRUE(read);
    EXPECT_EQ(number_of(*read), number);
  }
}

TEST(DoubleRow, WritesItsCopiesInTurn) {
  SharedWith<Row> row;
  row->write(sample(1));
  row->write(sample(2));
  const Row before = *row;
  row->write(sample(3));
  EXPECT_EQ(
      std::memcmp(words_of(*row, 1), reinterpret_cast<const std::byte*>(&before) + sizeof(Row) / 2, sizeof(Row) / 2),
      0);
}

TEST(DoubleRow, ShowsTheOlderCopyWhenTheWriterDiedInTheNewer) {
  SharedWith<Row> row;
  row->write(sample(1));
  row->write(sample(2));
  words_of(*row, 0)[0] = 5;
  words_of(*row, 0)[3] = 666;
  ASSERT_TRUE(row->read());
  EXPECT_EQ(number_of(*row->read()), 2U);
  row->write(sample(3));
  EXPECT_EQ(number_of(*row->read()), 3U);
  row->write(sample(4));
  EXPECT_EQ(number_of(*row->read()), 4U);
}

TEST(DoubleRow, FirstWriteThatWasCutOffCountsAsNone) {
  SharedWith<Row> row;
  words_of(*row, 0)[0] = 1;
  EXPECT_FALSE(row->read());
  row->write(sample(1));
  EXPECT_EQ(number_of(*row->read()), 1U);
}

TEST(DoubleRow, HealsWithTheNextWriteWhateverStoodInIt) {
  std::mt19937_64 random(test::seed_of_run("row"));
  for (int round = 0; round < 2000; ++round) {
    SharedWith<Row> row;
    for (std::size_t copy = 0; copy < 2; ++copy) words_of(*row, copy)[0] = random() >> (random() % 64) >> 1;
    row->write(sample(11));
    row->write(sample(12));
    const auto read = row->read();
    ASSERT_TRUE(read);
    EXPECT_EQ(number_of(*read), 12U);
  }
}

TEST(DoubleRow, ReaderGivesUpOnAWriterThatNeverStops) {
  SharedWith<Row> row;
  SharedWith<std::atomic<bool>> started;
  Child writer([&] {
    std::atomic_ref<std::uint64_t> first(words_of(*row, 0)[0]);
    std::atomic_ref<std::uint64_t> second(words_of(*row, 1)[0]);
    for (std::uint64_t number = 2;; number += 2) {
      first.store(number, std::memory_order_relaxed);
      second.store(number + 1, std::memory_order_relaxed);
      started->store(true);
    }
  });
  while (!started->load()) {
  }
  for (int i = 0; i < 10000; ++i) static_cast<void>(row->read());
}

TEST(DoubleRow, ThreadsReadOnlyWholeRowsAndNeverAnOlderOne) {
  const auto row = std::make_unique<Row>();
  constexpr std::uint64_t kRows = test::kSanitized ? 50000 : 500000;
  std::thread writer([&] {
    for (std::uint64_t number = 1; number <= kRows; ++number) row->write(sample(number));
  });
  std::uint64_t last = 0;
  std::uint64_t reads = 0;
  while (last < kRows) {
    const auto read = row->read();
    if (!read) continue;
    const auto number = number_of(*read);
    if (!number || *number < last) {
      ADD_FAILURE() << "torn or older row after " << last;
      break;
    }
    last = *number;
    ++reads;
  }
  writer.join();
  EXPECT_GT(reads, 0U);
}

TEST(DoubleRow, IsWholeWhereverItsWriterIsKilledAndASuccessorGoesOn) {
  const std::uint64_t seed = test::seed_of_run("row kills");
  std::mt19937_64 random(seed);
  SharedWith<Row> row;
  SharedWith<std::atomic<std::uint64_t>> written;
  constexpr int kKills = test::kSanitized ? 60 : 400;
  for (int round = 0; round < kKills; ++round) {
    const std::uint64_t before = written->load();
    Child writer([&] {
      for (std::uint64_t number = before + 1;; ++number) {
        row->write(sample(number));
        written->store(number, std::memory_order_release);
      }
    });
    const std::uint64_t target = before + 1 + random() % 2000;
    while (written->load(std::memory_order_acquire) < target) {
    }
    writer.kill_and_reap();
    const auto read = row->read();
    ASSERT_TRUE(read) << "seed " << seed << " round " << round;
    const auto number = number_of(*read);
    ASSERT_TRUE(number) << "torn; seed " << seed << " round " << round;
    const std::uint64_t last = written->load();
    ASSERT_TRUE(*number == last || *number == last + 1) << *number << " after " << last;
    written->store(*number);
  }
}

TEST(DoubleRow, IsWholeAfterEachInstructionOfItsWriter) {
  SharedWith<Row> row;
  SharedWith<std::atomic<std::uint64_t>> written;
  row->write(sample(1));
  written->store(1);
  constexpr std::uint64_t kLast = 4;
  Child writer([&] {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    for (std::uint64_t number = 2; number <= kLast; ++number) {
      row->write(sample(number));
      written->store(number);
    }
  });
  int status = 0;
  ASSERT_EQ(::waitpid(writer.pid(), &status, 0), writer.pid());
  if (WIFEXITED(status)) GTEST_SKIP() << "ptrace is not allowed here";
  long steps = 0;
  bool running = true;
  while (running && written->load() < kLast) {
    ASSERT_EQ(::ptrace(PTRACE_SINGLESTEP, writer.pid(), nullptr, nullptr), 0);
    ASSERT_EQ(::waitpid(writer.pid(), &status, 0), writer.pid());
    running = WIFSTOPPED(status);
    ++steps;
    const auto read = row->read();
    ASSERT_TRUE(read) << "step " << steps;
    const auto number = number_of(*read);
    ASSERT_TRUE(number) << "torn at step " << steps;
    const std::uint64_t last = written->load();
    ASSERT_TRUE(*number == last || *number == last + 1) << "step " << steps;
    Row left = *row;
    left.write(sample(*number + 1));
    ASSERT_TRUE(left.read()) << "step " << steps;
    ASSERT_EQ(number_of(*left.read()), *number + 1) << "step " << steps;
  }
  EXPECT_GT(steps, 100);
}

/// The reader is stopped again and again in the middle, and its row overwritten twice before it goes on.
TEST(DoubleRow, ReaderNoticesThatItsCopyWasOverwrittenBetweenAnyTwoOfItsInstructions) {
  SharedWith<Row> row;
  struct Seen {
    std::atomic<std::uint64_t> whole;
    std::atomic<std::uint64_t> torn;
  };
  SharedWith<Seen> seen;
  row->write(sample(1));
  Child reader([&] {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
    for (;;) {
      const auto read = row->read();
      if (!read) continue;
      (number_of(*read) ? seen->whole : seen->torn).fetch_add(1);
    }
  });
  int status = 0;
  ASSERT_EQ(::waitpid(reader.pid(), &status, 0), reader.pid());
  if (WIFEXITED(status)) GTEST_SKIP() << "ptrace is not allowed here";
  // Distances of all sizes: short ones hit each instruction, long ones let reads get through.
  std::mt19937_64 random(test::seed_of_run("row overwritten"));
  std::uint64_t number = 1;
  std::uint64_t left = 1;
  // At the end it is left alone: a build in which a read takes very long shows a whole row then.
  const auto goes_on = [&](int step) {
    return seen->torn == 0 && (step < 60'000 || (seen->whole == 0 && step < 400'000));
  };
  for (int step = 0; goes_on(step); ++step) {
    ASSERT_EQ(::ptrace(PTRACE_SINGLESTEP, reader.pid(), nullptr, nullptr), 0);
    ASSERT_EQ(::waitpid(reader.pid(), &status, 0), reader.pid());
    if (step >= 60'000 || --left > 0) continue;
    row->write(sample(++number));
    row->write(sample(++number));
    left = 1 + random() % (std::uint64_t{1} << random() % 13);
  }
  EXPECT_EQ(seen->torn, 0U);
  EXPECT_GT(seen->whole, 0U);
}

}  // namespace
}  // namespace bulkhead::shm
