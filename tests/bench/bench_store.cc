#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <random>

#include "services/controller/store.h"

// What the state database costs, printed as JSON. Usage: bench_store [FOLDER], a folder on the disk that is meant.
namespace bulkhead::controller {
namespace {

constexpr std::uint32_t kMillion = 1'000'000;
constexpr std::size_t kStep = 500;

template <typename T>
T require(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().text);
  if constexpr (!std::is_same_v<T, void>) return std::move(*result);
}
void require(const Result<void>& result) {
  if (!result) throw std::runtime_error(result.error().text);
}

double milliseconds(Nanoseconds from) {
  return static_cast<double>(monotonic_now() - from) / kMillisecond;
}

/// Figures of many steps of the same kind.
class Steps {
 public:
  template <typename Step>
  void time(Step step) {
    const Nanoseconds start = monotonic_now();
    step();
    taken_.push_back(milliseconds(start));
  }
  void print(const char* name) {
    std::sort(taken_.begin(), taken_.end());
    std::printf("  \"%s_ms\": {\"steps\": %zu, \"median\": %.3f, \"p99\": %.3f, \"most\": %.3f},\n", name,
                taken_.size(), taken_[taken_.size() / 2], taken_[taken_.size() * 99 / 100], taken_.back());
  }

 private:
  std::vector<double> taken_;
};

AclEntry entry(StoredList list, std::uint64_t number) {
  AclEntry made;
  made.key.list = list;
  for (std::size_t i = 0; i < 8; ++i) made.key.subject[i] = static_cast<std::uint8_t>(number >> (56 - 8 * i));
  made.key.length = 64;
  made.since_ms = 1;
  made.until_ms = list == StoredList::kGrey ? 4102444800000 : 0;
  return made;
}

Store open_store(const std::string& folder) {
  const UniqueFd directory = require(service::open_state_directory(folder));
  auto database = require(service::open_state_database(directory.get()));
  auto disk = KernelDiskFlush::make();
  Store store({std::move(database), require(service::open_state_log(directory.get()))},
              disk ? std::move(*disk) : nullptr);
  const Nanoseconds start = monotonic_now();
  require(store.open());
  std::printf("  \"open_ms\": %.0f,\n", milliseconds(start));
  return store;
}

void load(Store& store) {
  const Nanoseconds start = monotonic_now();
  const Stored all = require(store.load(1));
  std::printf("  \"load_ms\": %.0f, \"loaded\": %zu,\n", milliseconds(start), all.acl.size());
}

// What the controller's loop does until the disk has it.
void confirm(Store& store, Ticket ticket) {
  for (;;) {
    require(store.flush(monotonic_now()));
    for (const auto& outcome : store.outcomes()) {
      require(outcome.stored);
      if (outcome.ticket == ticket) return;
    }
    pollfd ready{store.readiness(), POLLIN, 0};
    ::poll(&ready, 1, 100);
  }
}

void import(Store& store, const char* name, std::vector<AclEntry> entries) {
  const Nanoseconds start = monotonic_now();
  require(store.begin_import());
  Steps steps;
  for (std::size_t i = 0; i < entries.size(); i += kStep) {
    steps.time([&] { require(store.import({&entries[i], std::min(kStep, entries.size() - i)})); });
  }
  steps.print((std::string(name) + "_step").c_str());
  const Nanoseconds end = monotonic_now();
  confirm(store, require(store.finish_import()));
  std::printf("  \"%s_finish_ms\": %.0f, \"%s_ms\": %.0f,\n", name, milliseconds(end), name, milliseconds(start));
}

void run(const std::string& folder) {
  std::mt19937_64 random(1);
  Store store = open_store(folder);
  load(store);
  Steps commits;
  for (std::uint32_t i = 0; i < 500; ++i) {
    commits.time([&] { confirm(store, require(store.commit({entry(StoredList::kBlack, random())}))); });
  }
  commits.print("commit");

  std::vector<AclEntry> entries;
  for (std::uint32_t i = 0; i < kMillion; ++i) entries.push_back(entry(StoredList::kGrey, random()));
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  import(store, "import_sorted", entries);
  entries.clear();
  for (std::uint32_t i = 0; i < kMillion / 5; ++i) entries.push_back(entry(StoredList::kGrey, random()));
  import(store, "import_200000_unsorted", entries);

  // Greylistings spread over a large table: every row is on a page of its own.
  Steps notes;
  Steps flushes;
  Nanoseconds now = monotonic_now();
  for (int tick = 0; tick < 100; ++tick) {
    for (int i = 0; i < 300; ++i) {
      const Changes change = {entry(StoredList::kGrey, random())};
      notes.time([&] { require(store.later(change)); });
    }
    now += 100 * kMillisecond;
    flushes.time([&] { require(store.flush(now)); });
    // The rest of the 100 ms.
    pollfd ready{store.readiness(), POLLIN, 0};
    ::poll(&ready, 1, 100);
  }
  notes.print("note");
  flushes.print("flush_of_300");
  const std::size_t left = store.pending();
  const Nanoseconds start = monotonic_now();
  require(store.flush_all());
  std::printf("  \"left\": %zu, \"flush_all_ms\": %.0f,\n", left, milliseconds(start));
  store = Store(service::StateFiles{});
  std::printf("  \"file_bytes\": %ju,\n", std::filesystem::file_size(folder + "/state/state.db"));
  store = open_store(folder);
  load(store);
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("  \"most_memory_kib\": %ld\n", usage.ru_maxrss);
}

}  // namespace
}  // namespace bulkhead::controller

int main(int argc, char** argv) {
  std::string folder = std::string(argc > 1 ? argv[1] : "/tmp") + "/bench-store-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return 1;
  int status = 0;
  try {
    std::printf("{\n");
    bulkhead::controller::run(folder);
    std::printf("}\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    status = 1;
  }
  std::filesystem::remove_all(folder);
  return status;
}
