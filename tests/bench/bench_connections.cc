// What a connection costs: its handshake, its worker's start, its idle memory, and how soon its slot is free after
// SIGKILL. Usage: bench_connections [CONNECTIONS]   (default 200)

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "services/controller/cli/node_tables.h"
#include "tests/integration/node.h"

namespace bulkhead {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Memory that the whole machine has left, with the pages that wait in the processors' own lists: those are free too,
// and jump about.
double free_kib() {
  double total = 0;
  std::ifstream memory("/proc/meminfo");
  for (std::string line; std::getline(memory, line);) {
    if (line.rfind("MemAvailable:", 0) == 0) total += std::stod(line.substr(13));
  }
  std::ifstream zones("/proc/zoneinfo");
  for (std::string line; std::getline(zones, line);) {
    const auto at = line.find("count:");
    if (at != std::string::npos) total += 4 * std::stod(line.substr(at + 6));
  }
  return total;
}

// By kind, in KiB, for seeing where a connection's memory is.
std::map<std::string, double> memory_by_kind() {
  std::map<std::string, double> kinds;
  std::ifstream memory("/proc/meminfo");
  for (std::string line; std::getline(memory, line);) {
    const auto colon = line.find(':');
    const std::string kind = line.substr(0, colon);
    for (const char* wanted : {"AnonPages", "Shmem", "KernelStack", "PageTables", "Slab", "Percpu"}) {
      if (kind == wanted) kinds[kind] = std::stod(line.substr(colon + 1));
    }
  }
  return kinds;
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

int run(int wanted) {
  testing::Node node({.arguments = {"--min-connections", "1", "--expected-connections", std::to_string(wanted),
                                    "--max-connections", std::to_string(wanted + 8), "--disable-p2p-maintenance",
                                    "--peer-table-size", std::to_string(2 * wanted + 64),
                                    // All of them come from one address, one after the other.
                                    "--accept-rate-address", "100000", "--accept-burst-address", "100000",
                                    "--accept-rate-prefix", "100000", "--accept-burst-prefix", "100000"}});
  if (const auto started = node.start(); !started) {
    std::fprintf(stderr, "%s\n", started.error().text.c_str());
    return 1;
  }
  std::vector<testing::Peer> peers;
  for (int i = 0; i < wanted; ++i) peers.push_back(node.make_peer());
  const double before = free_kib();
  const auto kinds_before = memory_by_kind();
  const auto begun = Clock::now();
  std::vector<double> handshakes;
  for (auto& peer : peers) {
    const auto at = Clock::now();
    auto done = peer.connect(node.point());
    if (done) done = peer.handshake();
    if (!done) {
      std::fprintf(stderr, "handshake failed: %s\n", done.error().text.c_str());
      return 1;
    }
    handshakes.push_back(seconds_since(at) * 1e6);
  }
  const double elapsed = seconds_since(begun);
  if (!node.wait_connected(peers.back().peer_id())) return 1;
  const auto tables = cli::open_node(node.data_dir());
  if (!tables) return 1;
  std::vector<double> confined;
  for (std::uint32_t slot = 0; slot < tables->tables.live.slots(); ++slot) {
    const auto& page = tables->tables.live.page(slot);
    if (page.generation.load() != 0) confined.push_back(static_cast<double>(page.confined_ns.load()) / 1000);
  }
  const double each = (before - free_kib()) / static_cast<double>(wanted);
  std::string by_kind;
  for (const auto& [kind, kib] : memory_by_kind()) {
    by_kind += (by_kind.empty() ? "\"" : ", \"") + kind +
               "\": " + std::to_string(static_cast<int>((kib - kinds_before.at(kind)) / wanted));
  }

  std::vector<double> freed;
  const auto list = node.connections();
  for (std::size_t i = 0; i < std::min<std::size_t>(list.size(), 50); ++i) {
    const std::string peer = list[i]["peer_id"];
    const pid_t pid = list[i]["worker_pid"];
    const auto find = [&] {
      for (std::uint32_t slot = 0; slot < tables->tables.pool.slots(); ++slot) {
        const auto row = tables->tables.pool.slot(slot).read();
        if (row && row->worker_pid == static_cast<std::uint32_t>(pid) && row->state != 0) return true;
      }
      return false;
    };
    const auto at = Clock::now();
    ::kill(pid, SIGKILL);
    while (find() && seconds_since(at) < 5) {
    }
    freed.push_back(seconds_since(at) * 1e3);
  }
  std::printf(
      "{\"connections\": %d, \"handshakes_per_second\": %.0f, \"handshake_us\": {\"median\": %.0f, \"p99\": %.0f},\n",
      wanted, wanted / elapsed, quantile(handshakes, 0.5), quantile(handshakes, 0.99));
  std::printf(" \"worker_start_us\": {\"median\": %.0f, \"p99\": %.0f, \"max\": %.0f},\n", quantile(confined, 0.5),
              quantile(confined, 0.99), quantile(confined, 1));
  std::printf(" \"idle_kib_each\": %.0f, \"by_kind_kib\": {%s},\n", each, by_kind.c_str());
  std::printf(" \"slot_free_after_kill_ms\": {\"median\": %.1f, \"max\": %.1f}}\n", quantile(freed, 0.5),
              quantile(freed, 1));
  return 0;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::run(argc > 1 ? std::stoi(argv[1]) : 200);
}
