// What the lists cost: look-ups in many prefixes without and with a writer at work, a bulk load, one more greylisting,
// memory. Usage: bench_lists [ENTRIES]   (default 1000000)

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "shm/lists.h"

namespace bulkhead {
namespace {

using Clock = std::chrono::steady_clock;
using shm::AclList;
using shm::ListEntry;
using shm::ListsTable;
using shm::ListsWriter;

constexpr std::int64_t kNow = 1'000'000'000;
constexpr std::int64_t kDay = 86'400'000;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Of the processor, by this process: what others take on a machine that is not idle does not count.
double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

/// Prefixes and addresses as they come: six of ten IPv4, lengths around those of real lists.
class Traffic {
 public:
  explicit Traffic(std::uint64_t seed) : random_(seed) {}

  Address address() {
    const bool ipv4 = random_() % 10 < 6;
    Address address;
    if (ipv4) address.bytes[10] = address.bytes[11] = 0xff;
    for (std::size_t i = ipv4 ? 12 : 1; i < 16; ++i) address.bytes[i] = static_cast<std::uint8_t>(random_());
    if (!ipv4) address.bytes[0] = static_cast<std::uint8_t>(0x20 + random_() % 2);
    return address;
  }

  Prefix prefix() {
    const Address at = address();
    static constexpr std::uint8_t kIpv4[] = {32, 32, 32, 32, 32, 31, 30, 29, 28, 27,
                                             26, 25, 24, 24, 24, 23, 22, 21, 20, 19};
    static constexpr std::uint8_t kIpv6[] = {128, 128, 64, 64, 64, 64, 64, 64, 60, 56,
                                             56,  56,  52, 48, 48, 48, 44, 40, 36, 32};
    const std::size_t pick = random_() % 20;
    return prefix_of(at, is_ipv4(at) ? static_cast<std::uint8_t>(kMappedBits + kIpv4[pick]) : kIpv6[pick]);
  }

  ListEntry entry() {
    const auto pick = random_() % 10;
    ListEntry entry = ListEntry::of(pick == 0   ? AclList::kBlack
                                    : pick == 1 ? AclList::kWhite
                                                : AclList::kGrey,
                                    prefix());
    entry.since_ms = kNow;
    if (entry.list == AclList::kGrey) entry.until_ms = kNow + 1 + static_cast<std::int64_t>(random_() % kDay);
    return entry;
  }

  /// An address inside the prefix.
  Address inside(const Prefix& prefix) {
    Address result = prefix.address;
    for (unsigned int bit = prefix.length; bit < kAddressBits; ++bit) {
      if (random_() % 2 == 0) result.bytes[bit / 8] |= static_cast<std::uint8_t>(0x80U >> (bit % 8));
    }
    return result;
  }

  std::uint64_t number() { return random_(); }

 private:
  std::mt19937_64 random_;
};

double segment_mib(int fd) {
  struct stat status {};
  ::fstat(fd, &status);
  return static_cast<double>(status.st_blocks) * 512 / (1 << 20);
}

double private_mib() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("RssAnon:", 0) == 0) return std::stod(line.substr(8)) / 1024;
  }
  return 0;
}

/// What memory takes on this machine, now: loads of which each needs the one before it, all over as much memory as the
/// base of a million entries takes.
double random_load_ns() {
  std::vector<std::uint32_t> next(std::size_t{32} << 18U);
  constexpr std::size_t kStep = 64 / sizeof(std::uint32_t);
  std::vector<std::uint32_t> lines(next.size() / kStep);
  for (std::size_t i = 0; i < lines.size(); ++i) lines[i] = static_cast<std::uint32_t>(i * kStep);
  std::shuffle(lines.begin(), lines.end(), std::mt19937_64(3));
  for (std::size_t i = 0; i < lines.size(); ++i) next[lines[i]] = lines[(i + 1) % lines.size()];
  std::uint32_t at = 0;
  constexpr int kLoads = 2'000'000;
  const double begin = cpu_seconds();
  for (int i = 0; i < kLoads; ++i) at = next[at];
  const double ns = (cpu_seconds() - begin) * 1e9 / kLoads;
  return at < next.size() ? ns : 0;
}

struct LookUps {
  double ns = 0;
  double hits = 0;
};

LookUps look_up(const ListsTable& table, const std::vector<Address>& addresses, double seconds, std::size_t at_once) {
  const auto begin = Clock::now();
  const double cpu_begin = cpu_seconds();
  std::uint64_t count = 0;
  std::uint64_t hits = 0;
  std::vector<shm::Verdict> verdicts(at_once);
  while (seconds_since(begin) < seconds) {
    for (std::size_t i = 0; i + at_once <= addresses.size(); i += at_once) {
      if (at_once == 1) {
        hits += table.look_up(addresses[i], kNow).list ? 1U : 0U;
        continue;
      }
      table.look_up(std::span(addresses).subspan(i, at_once), kNow, verdicts);
      for (const auto& verdict : verdicts) hits += verdict.list ? 1U : 0U;
    }
    count += addresses.size() / at_once * at_once;
  }
  return {(cpu_seconds() - cpu_begin) * 1e9 / static_cast<double>(count),
          static_cast<double>(hits) / static_cast<double>(count)};
}

/// Greylists `per_second` addresses, merges one millisecond in ten when that is due, and looks for what is over: what
/// the controller does under an attack.
[[noreturn]] void write_on(int fd, unsigned int per_second) {
  auto writer = ListsWriter::map(fd);
  if (!writer) ::_exit(1);
  Traffic traffic(99);
  const auto begin = Clock::now();
  std::uint64_t added = 0;
  for (;;) {
    const auto wanted = static_cast<std::uint64_t>(seconds_since(begin) * per_second);
    for (; added < wanted; ++added) {
      ListEntry entry = ListEntry::of(AclList::kGrey, shm::grey_prefix(traffic.address()));
      entry.until_ms = kNow + kDay + static_cast<std::int64_t>(added);
      if (!writer->add(entry, kNow)) ::_exit(1);
    }
    if (writer->merge_due()) writer->merge(kNow);
    writer->expire(kNow, 1000);
    ::usleep(9000);
  }
}

/// One by one, and as the acceptor does it with what waits in its backlog.
struct BothWays {
  LookUps single;
  LookUps together;
};

BothWays both_ways(const ListsTable& table, const std::vector<Address>& addresses) {
  constexpr std::size_t kAtOnce = 16;
  return {look_up(table, addresses, 2.5, 1), look_up(table, addresses, 2.5, kAtOnce)};
}

BothWays with_writer(int fd, const ListsTable& table, const std::vector<Address>& addresses, unsigned int per_second) {
  const pid_t child = ::fork();
  if (child == 0) write_on(fd, per_second);
  ::usleep(500'000);
  const BothWays figures = both_ways(table, addresses);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return figures;
}

struct Adding {
  double median_us = 0;
  double p99_us = 0;
  double max_us = 0;
};

Adding add_more(ListsWriter& writer, int count) {
  Traffic traffic(7);
  std::vector<double> each;
  for (int i = 0; i < count; ++i) {
    ListEntry entry = ListEntry::of(AclList::kGrey, shm::grey_prefix(traffic.address()));
    entry.until_ms = kNow + kDay;
    const auto begin = Clock::now();
    if (!writer.add(entry, kNow)) std::abort();
    each.push_back(seconds_since(begin) * 1e6);
  }
  std::sort(each.begin(), each.end());
  return {each[each.size() / 2], each[each.size() * 99 / 100], each.back()};
}

int run(std::size_t wanted) {
  auto fd = ListsTable::make();
  if (!fd) return 1;
  Traffic traffic(1);
  std::vector<ListEntry> entries;
  for (std::size_t i = 0; i < wanted; ++i) entries.push_back(traffic.entry());
  // Half of what is asked lies in a prefix for sure, half is anything.
  std::vector<Address> addresses;
  for (std::size_t i = 0; i < (std::size_t{1} << 20U); ++i) {
    addresses.push_back(i % 2 == 0 ? traffic.inside(entries[traffic.number() % wanted].prefix) : traffic.address());
  }

  const double before = private_mib();
  auto writer = ListsWriter::map(fd->get());
  auto table = ListsTable::map(fd->get());
  if (!writer || !table) return 1;
  double cpu_begin = cpu_seconds();
  for (const ListEntry& entry : entries) {
    if (!writer->add(entry, kNow)) return 1;
  }
  double merge_max_ms = 0;
  while (writer->merge_due()) {
    const auto step = Clock::now();
    writer->merge(kNow);
    merge_max_ms = std::max(merge_max_ms, seconds_since(step) * 1e3);
  }
  const double load_s = cpu_seconds() - cpu_begin;
  const double loaded_mib = segment_mib(fd->get());
  const double load_private = private_mib() - before;

  cpu_begin = cpu_seconds();
  if (!writer->rebuild(entries, kNow)) return 1;
  const double rebuild_s = cpu_seconds() - cpu_begin;
  const auto status = table->status();
  std::uint64_t count = 0;
  for (const auto& counts : status.counts) count += counts.prefixes;

  const BothWays idle = both_ways(*table, addresses);
  const Adding adding = add_more(*writer, 5000);
  while (writer->merge_due()) writer->merge(kNow);
  cpu_begin = cpu_seconds();
  writer.value() = ListsWriter::map(fd->get()).value();
  const double take_over_ms = (cpu_seconds() - cpu_begin) * 1e3;
  const BothWays slow = with_writer(fd->get(), *table, addresses, 100);
  const BothWays busy = with_writer(fd->get(), *table, addresses, 10'000);

  std::printf(
      "{\"prefixes\": %llu, \"hits\": %.2f,\n \"look_up_ns\": {\"no_writer\": %.0f, \"writer_100_per_s\": %.0f, "
      "\"writer_10000_per_s\": %.0f},\n \"look_up_alone_ns\": {\"no_writer\": %.0f, "
      "\"writer_100_per_s\": %.0f, \"writer_10000_per_s\": %.0f},\n \"random_load_ns\": %.0f,\n",
      static_cast<unsigned long long>(count), idle.single.hits, idle.together.ns, slow.together.ns, busy.together.ns,
      idle.single.ns, slow.single.ns, busy.single.ns, random_load_ns());
  std::printf(" \"load_s\": %.2f, \"rebuild_s\": %.2f, \"take_over_ms\": %.0f, \"merge_call_max_ms\": %.1f,\n", load_s,
              rebuild_s, take_over_ms, merge_max_ms);
  std::printf(" \"one_more_us\": {\"median\": %.1f, \"p99\": %.1f, \"max\": %.0f},\n", adding.median_us, adding.p99_us,
              adding.max_us);
  std::printf(" \"shared_mib\": {\"loaded\": %.0f, \"now\": %.0f}, \"private_mib\": %.1f}\n", loaded_mib,
              segment_mib(fd->get()), load_private);
  return 0;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::run(argc > 1 ? std::stoul(argv[1]) : 1'000'000);
}
