// What a flood of strangers costs a node: three kinds of 10,000 connections each, from 127.0.0.0/8 (a connection
// message without proof of work; a byte at a time; silence). Meanwhile an established peer's round trips, the node's
// memory, and how soon an honest newcomer and a trusted one are connected. Usage: bench_flood [CONNECTIONS]   (default
// 10000)

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <fstream>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "bulkhead/application.h"
#include "services/controller/cli/node_tables.h"
#include "tests/integration/node.h"

namespace bulkhead {
namespace {

using testing::Bytes;
using testing::Milliseconds;
using testing::Peer;

constexpr std::uint16_t kTag = 0x60;
constexpr std::size_t kHeld = 6000;  // sockets of the flood at once: more than a node gives places to
constexpr int kRoundTrips = 500;
constexpr int kNewcomers = 5;

double seconds_since(Nanoseconds begun) {
  return static_cast<double>(monotonic_now() - begun) / kSecond;
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

// Of all processes of the node, each shared page divided by those that have it.
double memory_kib(const testing::Node& node) {
  double sum = 0;
  auto pids = testing::tree_of(node.pid());
  pids.push_back(node.pid());
  for (const pid_t pid : pids) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("Pss:", 0) == 0) sum += std::stod(line.substr(4));
    }
  }
  return sum;
}

// ---- the flood, in a process of its own

enum class Kind : std::uint8_t { kNoProof, kTrickle, kSilence };
constexpr const char* kNames[] = {"invalid_proof", "trickle", "silence"};

sockaddr* raw(sockaddr_storage& storage) {
  return static_cast<sockaddr*>(static_cast<void*>(&storage));
}

void flood(Kind kind, const Point& to, const Bytes& bad, std::uint64_t connections, int done) {
  std::deque<UniqueFd> held;
  Point from{*parse_address("127.0.0.0"), 0};
  // Others for each kind: some are greylisted by then.
  from.address.bytes[13] = static_cast<std::uint8_t>(100 + static_cast<int>(kind));
  for (std::uint64_t i = 0; i < connections; ++i) {
    from.address.bytes[14] = static_cast<std::uint8_t>(i >> 8U);
    from.address.bytes[15] = static_cast<std::uint8_t>(1 + i % 250);
    UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const linger reset{1, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    sockaddr_storage storage{};
    socklen_t size = to_sockaddr(from, storage);
    (void)::bind(socket.get(), raw(storage), size);
    size = to_sockaddr(to, storage);
    if (::connect(socket.get(), raw(storage), size) != 0 && errno != EINPROGRESS) continue;
    if (kind == Kind::kNoProof) (void)!::send(socket.get(), bad.data(), bad.size(), MSG_NOSIGNAL);
    held.push_back(std::move(socket));
    if (held.size() > kHeld) held.pop_front();
    if (kind == Kind::kTrickle) {
      // A byte to some of them in turn: of those that wait, each gets one now and then.
      for (std::size_t k = 0; k < 4; ++k) {
        const auto& one = held[(i * 4 + k) % held.size()];
        (void)!::send(one.get(), bad.data() + k % 2, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
      }
    }
  }
  (void)!::write(done, "", 1);
  // Those that wait go on waiting until somebody ends this process.
  ::pause();
}

pid_t start_flood(Kind kind, const Point& to, const Bytes& bad, std::uint64_t connections, int done) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  flood(kind, to, bad, connections, done);
  ::_exit(0);
}

// ---- the others

// Sends every message back, as an application of the node, until told to stop.
void echo(client::Application& application, const std::atomic<bool>& stop) {
  while (!stop.load()) {
    application.wait(Milliseconds(50));
    while (auto event = application.next()) {
      if (const auto* message = std::get_if<client::MessageReceived>(&*event))
        (void)application.send(message->peer_id, message->tag, message->body, Milliseconds(1000));
    }
  }
}

// Milliseconds, one a few milliseconds after the other.
std::vector<double> round_trips(Peer& peer, int count) {
  std::vector<double> times;
  const Bytes body(100, 7);
  for (int i = 0; i < count; ++i) {
    const Nanoseconds begun = monotonic_now();
    if (!peer.send_message(kTag, body) || !peer.read_message(kTag)) break;
    times.push_back(seconds_since(begun) * 1000);
    ::poll(nullptr, 0, 2);
  }
  return times;
}

// Seconds until a newcomer is connected; it tries again, as nodes do.
double newcomer(const testing::Node& node, const std::string& from) {
  const Nanoseconds begun = monotonic_now();
  while (seconds_since(begun) < 60) {
    Peer peer = node.make_peer();
    if (peer.connect(node.point(), from) && peer.handshake()) return seconds_since(begun);
  }
  return 60;
}

struct Figures {
  double rest_kib = 0;
  double rest_p99 = 0;
  double flood_p99 = 0;
  double more_kib = 0;
  double newcomer_s = 0;
  double trusted_s = -1;  // no such thing
  double per_second = 0;
  std::uint64_t workers = 0;
};

std::uint64_t workers_started(const cli::Node& tables) {
  return tables.tables.counters.get(Role::kNursery, shm::Counter::kWorkersStarted);
}

std::uint64_t accepted(const cli::Node& tables) {
  return tables.tables.counters.get(Role::kAcceptor, shm::Counter::kAccepted);
}

Figures measure(testing::Node& node, const cli::Node& tables, Peer& established, Kind kind, std::uint64_t connections) {
  testing::PeerOptions options;
  options.bad_stamp = true;
  const Bytes bad = Peer(options).connection_message();
  const std::string friendly = testing::fresh_address();
  const bool can_trust = node.cli({"trust", "address", friendly}).exit_status == 0;

  Figures figures;
  figures.rest_kib = memory_kib(node);
  figures.rest_p99 = quantile(round_trips(established, kRoundTrips), 0.99);
  const std::uint64_t workers_before = workers_started(tables);
  const std::uint64_t accepted_before = accepted(tables);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return figures;
  const UniqueFd done(ends[0]);
  const UniqueFd tells(ends[1]);
  const Nanoseconds begun = monotonic_now();
  const pid_t flooding = start_flood(kind, *parse_point(node.point()), bad, connections, tells.get());
  std::vector<double> times;
  std::atomic<bool> over = false;
  std::thread measuring([&] {
    while (!over.load()) {
      for (const double time : round_trips(established, 50)) times.push_back(time);
    }
  });
  for (int i = 0; i < kNewcomers; ++i) {
    figures.newcomer_s = std::max(figures.newcomer_s, newcomer(node, testing::fresh_address()));
    if (can_trust) figures.trusted_s = std::max(figures.trusted_s, newcomer(node, friendly));
    figures.more_kib = std::max(figures.more_kib, memory_kib(node) - figures.rest_kib);
  }
  pollfd waiting{done.get(), POLLIN, 0};
  (void)::poll(&waiting, 1, 60'000);
  figures.per_second = static_cast<double>(accepted(tables) - accepted_before) / seconds_since(begun);
  figures.more_kib = std::max(figures.more_kib, memory_kib(node) - figures.rest_kib);
  over = true;
  measuring.join();
  figures.flood_p99 = quantile(times, 0.99);
  figures.workers =
      workers_started(tables) - workers_before - static_cast<std::uint64_t>(kNewcomers * (can_trust ? 2 : 1));
  ::kill(flooding, SIGKILL);
  ::waitpid(flooding, nullptr, 0);
  return figures;
}

int run(std::uint64_t connections) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  testing::Node node({.arguments = {"--disable-p2p-maintenance", "--log-level", "warning"}});
  if (const auto started = node.start(); !started) {
    std::fprintf(stderr, "%s\n", started.error().text.c_str());
    return 1;
  }
  auto tables = cli::open_node(node.data_dir());
  auto application = client::Application::attach(node.data_dir());
  Peer established = node.make_peer();
  if (!tables || !application || !node.dial(established) || !established.handshake()) {
    std::fprintf(stderr, "the established peer could not be connected\n");
    return 1;
  }
  std::atomic<bool> stop = false;
  std::thread echoing([&] { echo(**application, stop); });
  std::string lines;
  for (const Kind kind : {Kind::kNoProof, Kind::kTrickle, Kind::kSilence}) {
    const Figures f = measure(node, *tables, established, kind, connections);
    std::printf(
        "{\"flood\": \"%s\", \"connections\": %llu, \"per_second\": %.0f, \"workers_spent\": %llu, \"memory_kib\": "
        "{\"at_rest\": %.0f, \"more\": %.0f},\n \"round_trip_p99_ms\": {\"at_rest\": %.2f, \"in_flood\": %.2f}, "
        "\"newcomer_s\": %.2f, \"trusted_s\": %.2f}\n",
        kNames[static_cast<std::size_t>(kind)], static_cast<unsigned long long>(connections), f.per_second,
        static_cast<unsigned long long>(f.workers), f.rest_kib, f.more_kib, f.rest_p99, f.flood_p99, f.newcomer_s,
        f.trusted_s);
    std::fflush(stdout);
  }
  stop = true;
  echoing.join();
  return 0;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  return bulkhead::run(argc > 1 ? std::stoull(argv[1]) : 10'000);
}
