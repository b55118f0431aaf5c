#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <random>

#include "tests/unit/shm/lists_model.h"

namespace bulkhead::shm {
namespace {

constexpr std::int64_t kNow = 1'000'000;
constexpr std::size_t kOperations = 20'000;

/// What the writer may do, has begun and has done; operations count from 0.
struct Progress {
  std::atomic<std::uint64_t> allowed;
  std::atomic<std::uint64_t> begun;
  std::atomic<std::uint64_t> done;
};

struct Operation {
  enum class Kind : std::uint8_t { kAdd, kRemove, kClear } kind = Kind::kAdd;
  ListEntry entry;
};

/// Prefixes that nest, so that a look-up has several entries to choose from. No /64, which could become a /56.
Prefix prefix_of_number(std::uint32_t number) {
  if (number % 3 == 0) {
    return prefix_of(address_at("2001:db8:1:1::1"), static_cast<std::uint8_t>(25 + 8 * (number / 3 % 13)));
  }
  Address address = address_at("10.1.1.1");
  address.bytes[15] = static_cast<std::uint8_t>(number / 3 % 4);
  return prefix_of(address, static_cast<std::uint8_t>(100 + number % 29));
}

std::vector<Operation> script(std::mt19937_64& random) {
  std::vector<Operation> operations;
  for (std::size_t i = 0; i < kOperations; ++i) {
    Operation operation;
    const auto list = static_cast<AclList>(random() % kAclLists);
    operation.entry = ListEntry::of(list, prefix_of_number(static_cast<std::uint32_t>(random() % 60)));
    if (random() % 5 == 0) {
      PeerId peer{};
      peer.front() = static_cast<std::uint8_t>(random() % 4);
      operation.entry = ListEntry::of(list, peer);
    }
    // No two are alike: an answer tells of which operation it is.
    operation.entry.until_ms = kNow + 1 + static_cast<std::int64_t>(i);
    operation.entry.since_ms = static_cast<std::int64_t>(i);
    operation.entry.set_text("operation " + std::to_string(i));
    const auto kind = random() % 100;
    operation.kind = kind < 1 ? Operation::Kind::kClear : kind < 40 ? Operation::Kind::kRemove : Operation::Kind::kAdd;
    operations.push_back(operation);
  }
  return operations;
}

void apply(const Operation& operation, ListModel& model) {
  switch (operation.kind) {
    case Operation::Kind::kAdd:
      return model.put(operation.entry);
    case Operation::Kind::kRemove:
      return model.drop(operation.entry);
    case Operation::Kind::kClear:
      return model.clear(operation.entry.list);
  }
}

void apply(const Operation& operation, ListsWriter& writer) {
  const ListEntry& entry = operation.entry;
  switch (operation.kind) {
    case Operation::Kind::kAdd:
      if (!writer.add(entry, kNow)) ::_exit(2);
      return;
    case Operation::Kind::kRemove:
      if (entry.is_peer) {
        writer.remove(entry.list, entry.peer, kNow);
      } else {
        writer.remove(entry.list, entry.prefix, kNow);
      }
      return;
    case Operation::Kind::kClear:
      writer.clear(entry.list, kNow);
      return;
  }
}

/// Goes on where a predecessor was killed: what that one had begun is done again.
[[noreturn]] void write_all(int fd, const std::vector<Operation>& operations, Progress& progress) {
  auto writer = ListsWriter::map(fd);
  if (!writer) ::_exit(3);
  for (std::uint64_t i = progress.done; i < operations.size(); ++i) {
    // Not far ahead of the kill, however the two processes take turns.
    while (i >= progress.allowed) ::sched_yield();
    progress.begun = i + 1;
    apply(operations[i], *writer);
    progress.done = i + 1;
    writer->merge(kNow, std::chrono::microseconds(i % 4));
    if (i % 16 == 0) writer->expire(kNow, 8);
  }
  ::_exit(0);
}

struct Question {
  bool is_peer = false;
  Address address;
  PeerId peer{};
};

std::vector<Question> questions() {
  std::vector<Question> all;
  for (const char* text : {"10.1.1.0", "10.1.1.1", "10.1.1.2", "10.1.1.3", "10.1.1.77", "10.1.9.9", "10.9.9.9",
                           "2001:db8:1:1::1", "2001:db8:1:1::9", "2001:db8:1:2::1", "2001:db8:9::1", "9.9.9.9"}) {
    all.push_back({false, address_at(text), {}});
  }
  for (std::uint8_t i = 0; i < 4; ++i) {
    Question question{true, {}, {}};
    question.peer.front() = i;
    all.push_back(question);
  }
  return all;
}

template <typename Lists>
Verdict ask(const Lists& lists, const Question& question) {
  return question.is_peer ? lists.look_up(question.peer, kNow) : lists.look_up(question.address, kNow);
}

/// What one has and the other has not; both are sorted alike.
std::string difference(const std::vector<ListEntry>& seen, const std::vector<ListEntry>& expected) {
  std::string text;
  const auto missing = [&text](const auto& from, const auto& in, const char* what) {
    for (const ListEntry& entry : from) {
      if (std::find(in.begin(), in.end(), entry) == in.end()) text += what + ::testing::PrintToString(entry);
    }
  };
  missing(seen, expected, "\n  unexpected: ");
  missing(expected, seen, "\n  missing: ");
  if (text.empty() && seen != expected) text = "another order or number";
  return text;
}

class KilledWriter : public ::testing::Test {
 protected:
  void SetUp() override {
    std::printf("seed %lu\n", static_cast<unsigned long>(kSeed));
    operations_ = script(random_);
    fd_ = ListsTable::make(4096).value();
    table_.emplace(ListsTable::map(fd_.get()).value());
    void* memory = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    progress_ = new (memory) Progress{};
    ListModel model;
    for (std::size_t i = 0; i <= operations_.size(); ++i) {
      for (const Question& question : questions_) answers_.push_back(ask(model, question));
      if (i < operations_.size()) apply(operations_[i], model);
    }
  }
  void TearDown() override { ::munmap(progress_, sizeof(Progress)); }

  /// The right answer after that many operations.
  const Verdict& answer(std::uint64_t operations, std::size_t question) const {
    return answers_[operations * questions_.size() + question];
  }

  /// The answer must be right for one moment between the begin and the end of the look-up.
  void look_up_once() {
    const std::size_t question = random_() % questions_.size();
    const std::uint64_t first = progress_->done;
    const Verdict verdict = ask(*table_, questions_[question]);
    const std::uint64_t last = progress_->begun;
    for (std::uint64_t i = first; i <= last; ++i) {
      if (answer(i, question) == verdict) return;
    }
    FAIL() << "question " << question << ", operations " << first << " to " << last << ": "
           << ::testing::PrintToString(verdict);
  }

  /// The writer is dead: all answers and all entries are those before or after what it had begun.
  void check_everything() {
    const std::uint64_t done = progress_->done;
    const std::uint64_t begun = progress_->begun;
    ASSERT_LE(begun - done, 1U);
    for (std::size_t question = 0; question < questions_.size(); ++question) {
      const Verdict verdict = ask(*table_, questions_[question]);
      ASSERT_TRUE(verdict == answer(done, question) || verdict == answer(begun, question))
          << "question " << question << " after " << done << ": " << ::testing::PrintToString(verdict);
    }
    for (; applied_ < done; ++applied_) apply(operations_[applied_], model_);
    const auto entries = every_entry(*table_, kNow);
    const std::string unlike_before = difference(entries, model_.sorted(kNow));
    if (unlike_before.empty()) return;
    ListModel next = model_;
    if (begun > done) apply(operations_[done], next);
    const std::string unlike_after = difference(entries, next.sorted(kNow));
    ASSERT_TRUE(unlike_after.empty()) << "after " << done << " operations: " << unlike_before << "\nafter " << begun
                                      << ": " << unlike_after;
    interrupted_++;
  }

  static constexpr std::uint64_t kSeed = 20;
  std::mt19937_64 random_{kSeed};
  std::vector<Operation> operations_;
  std::vector<Question> questions_ = questions();
  std::vector<Verdict> answers_;
  UniqueFd fd_;
  std::optional<ListsTable> table_;
  Progress* progress_ = nullptr;
  ListModel model_;
  std::size_t applied_ = 0;
  int interrupted_ = 0;
};

TEST_F(KilledWriter, LeavesTheListsAsTheyWereBeforeOrAfterWhatItWasDoing) {
  int kills = 0;
  std::uint64_t look_ups = 0;
  while (progress_->done < operations_.size()) {
    const std::uint64_t until = progress_->done + random_() % 200;
    progress_->allowed = until + 100;
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_all(fd_.get(), operations_, *progress_);
    // Some are killed while they take over, most at work.
    const std::uint64_t most = random_() % 4 == 0 ? random_() % 2000 : ~std::uint64_t{0};
    int status = 0;
    bool over = false;
    for (std::uint64_t asked = 0; progress_->done < until && asked < most && !over && !HasFatalFailure(); ++asked) {
      look_up_once();
      ++look_ups;
      if (asked % 1024 == 1023) over = ::waitpid(child, &status, WNOHANG) == child;
    }
    if (!over) {
      ::kill(child, SIGKILL);
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      ++kills;
    }
    const bool as_expected = WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0;
    ASSERT_TRUE(as_expected) << "the writer ended by itself: " << status;
    ASSERT_NO_FATAL_FAILURE(check_everything());
  }
  std::printf("%d kills, %d of them in the middle of an operation that took effect, %lu look-ups meanwhile\n", kills,
              interrupted_, static_cast<unsigned long>(look_ups));
  EXPECT_GT(kills, 50);
}

}  // namespace
}  // namespace bulkhead::shm
