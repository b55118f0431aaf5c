// How many connections of a banned address the acceptor turns away in a second, with the client on the other processor.
// Usage: bench_door [CONNECTIONS [ROUNDS]]   (default 20000, 3)

#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "tests/door/acceptor_alone.h"

namespace bulkhead {
namespace {

constexpr int kBacklog = 4096;
// Half a backlog: what does not fit is dropped by the kernel, and comes again after a second.
constexpr std::uint64_t kInFlight = kBacklog / 2;
constexpr std::uint32_t kOtherEntries = 100'000;

void run_on(pid_t pid, std::size_t processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  (void)::sched_setaffinity(pid, sizeof set, &set);
}

long tracked_connections() {
  long count = -1;
  std::ifstream("/proc/sys/net/netfilter/nf_conntrack_count") >> count;
  return count;
}

// Of a process, in seconds.
double processor_time(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  std::istringstream words(text.substr(text.rfind(')') + 2));
  std::string skipped;
  for (int i = 0; i < 11; ++i) words >> skipped;
  double user = 0;
  double system = 0;
  words >> user >> system;
  return (user + system) / 100;
}

sockaddr* raw(sockaddr_storage& storage) {
  return static_cast<sockaddr*>(static_cast<void*>(&storage));
}

// Connects and resets: nothing of it stays in the kernel. False when the kernel refused.
bool knock(const Point& from, const Point& to) {
  const UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const linger reset{1, 0};
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  sockaddr_storage storage{};
  socklen_t size = to_sockaddr(from, storage);
  if (::bind(socket.get(), raw(storage), size) != 0) return false;
  size = to_sockaddr(to, storage);
  return ::connect(socket.get(), raw(storage), size) == 0;
}

struct Round {
  double per_second = 0;
  double acceptor_us = 0;  // of processor time for each
  double client_us = 0;    // the same, waiting for the acceptor included
};

Round flood(testing::AcceptorAlone& acceptor, Point from, std::uint64_t connections) {
  const std::uint64_t before = acceptor.count(Reason::kBanned);
  const double used = processor_time(acceptor.pid());
  const double own = processor_time(::getpid());
  const Nanoseconds begun = monotonic_now();
  std::uint64_t sent = 0;
  while (sent < connections) {
    while (sent - (acceptor.count(Reason::kBanned) - before) > kInFlight) {
    }
    from.address.bytes[14] = static_cast<std::uint8_t>(sent >> 8U);
    from.address.bytes[15] = static_cast<std::uint8_t>(sent);
    if (!knock(from, acceptor.point())) {
      std::fprintf(stderr, "the kernel refused a connection\n");
      return {};
    }
    ++sent;
  }
  while (acceptor.count(Reason::kBanned) - before < sent) {
    if (monotonic_now() - begun > 60 * kSecond) return {};
  }
  const double seconds = static_cast<double>(monotonic_now() - begun) / kSecond;
  const auto each = [sent](double time) { return time * 1e6 / static_cast<double>(sent); };
  return {static_cast<double>(sent) / seconds, each(processor_time(acceptor.pid()) - used),
          each(processor_time(::getpid()) - own)};
}

void fill(shm::ListsWriter& lists) {
  std::mt19937 random(1);
  for (std::uint32_t i = 0; i < kOtherEntries; ++i) {
    Address address = *parse_address("0.0.0.0");
    for (std::size_t byte = 12; byte < 16; ++byte) address.bytes[byte] = static_cast<std::uint8_t>(random());
    if (address.bytes[12] == 127) continue;
    (void)lists.add(shm::ListEntry::of(shm::AclList::kBlack, Prefix{address}), wall_now_ms());
    while (lists.merge_due()) lists.merge(wall_now_ms(), std::chrono::milliseconds(10));
  }
}

int run(std::uint64_t connections, int rounds) {
  testing::AcceptorAlone acceptor({.list_capacity = 2 * kOtherEntries, .backlog = kBacklog});
  if (const auto started = acceptor.start(); !started) {
    std::fprintf(stderr, "%s\n", started.error().text.c_str());
    return 1;
  }
  fill(acceptor.lists());
  acceptor.ban("127.77.0.0/16");
  run_on(acceptor.pid(), 0);
  run_on(0, 1);
  std::vector<double> rates;
  std::vector<double> costs;
  std::vector<double> client;
  for (int i = 0; i < rounds; ++i) {
    const Round round = flood(acceptor, Point{*parse_address("127.77.0.0"), 0}, connections);
    if (round.per_second == 0) return 1;
    rates.push_back(round.per_second);
    costs.push_back(round.acceptor_us);
    client.push_back(round.client_us);
    while (acceptor.next(testing::Milliseconds(0))) {
    }
  }
  std::sort(rates.begin(), rates.end());
  std::sort(costs.begin(), costs.end());
  std::sort(client.begin(), client.end());
  std::printf(
      "{\"banned_refused_per_second\": {\"median\": %.0f, \"least\": %.0f, \"most\": %.0f},\n \"processor_us_each\": "
      "{\"acceptor\": %.1f, \"client\": %.1f},\n \"connections\": %llu, \"rounds\": %d, \"list_entries\": %u, "
      "\"proofs_checked\": %llu, \"handed_on\": "
      "%llu, \"tracked_connections\": %ld}\n",
      rates[rates.size() / 2], rates.front(), rates.back(), costs[costs.size() / 2], client[client.size() / 2],
      static_cast<unsigned long long>(connections), rounds, kOtherEntries,
      static_cast<unsigned long long>(acceptor.count(shm::Counter::kProofsChecked)),
      static_cast<unsigned long long>(acceptor.count(shm::Counter::kHandedOn)), tracked_connections());
  return 0;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::run(argc > 1 ? std::stoull(argv[1]) : 20'000, argc > 2 ? std::stoi(argv[2]) : 3);
}
