// How many connections of a banned address the acceptor turns away in a second, with the client on the other processor;
// and how many a loop that does nothing but accept and close, with the same client.
// Usage: bench_door [CONNECTIONS [ROUNDS]]   (default 20000, 5)

#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/clock.h"
#include "services/controller/supervisor/listeners.h"
#include "tests/door/acceptor_alone.h"

namespace bulkhead {
namespace {

constexpr int kBacklog = 4096;
// Half a backlog: what does not fit is dropped by the kernel, and comes again after a second.
constexpr std::uint32_t kInFlight = kBacklog / 2;
constexpr std::size_t kSpareDescriptors = 64;
constexpr std::uint32_t kOtherEntries = 100'000;
constexpr std::uint32_t kBannedNetwork = 0x7f4d0000;  // 127.77.0.0/16
constexpr Nanoseconds kPatience = 30 * kSecond;

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

// Of a process.
Nanoseconds processor_time(pid_t pid) {
  clockid_t clock{};
  timespec used{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &used) != 0) return 0;
  return static_cast<Nanoseconds>(used.tv_sec) * kSecond + static_cast<Nanoseconds>(used.tv_nsec);
}

sockaddr_in ipv4(std::uint32_t address, std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  name.sin_addr.s_addr = htonl(address);
  return name;
}

template <typename Name>
const sockaddr* raw(const Name& name) {
  return static_cast<const sockaddr*>(static_cast<const void*>(&name));
}

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

/// The client: a socket for each of kInFlight banned addresses, used again for the next connection when the server has
/// closed the one before, so that a connection costs no more here than its handshake, a look at its end and a reset.
class Crowd {
 public:
  Crowd();

  /// So many connections to a server that closes each, as many at a time as there are sockets. Each has stood and was
  /// closed by the server, or this throws.
  void knock(const Point& server, std::uint64_t connections);
  /// One connection with each socket, which stay until leave().
  void enter(const Point& server) { connect(server, 0, kInFlight); }
  void leave() { await_ends(0, kInFlight); }

 private:
  void connect(const Point& server, std::uint64_t first, std::uint64_t end);
  void await_ends(std::uint64_t first, std::uint64_t end);
  const UniqueFd& socket_of(std::uint64_t connection) const { return sockets_[connection % kInFlight]; }

  std::vector<UniqueFd> sockets_;
};

Crowd::Crowd() {
  if (const auto files = raise_open_file_limit(kInFlight + kSpareDescriptors); !files)
    throw std::runtime_error(files.error().text);
  for (std::uint32_t i = 0; i < kInFlight; ++i) {
    UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const sockaddr_in name = ipv4(kBannedNetwork + i, 0);
    if (::bind(socket.get(), raw(name), sizeof name) != 0) fail("cannot bind");
    sockets_.push_back(std::move(socket));
  }
}

void Crowd::knock(const Point& server, std::uint64_t connections) {
  for (std::uint64_t i = 0; i < connections; ++i) {
    if (i >= kInFlight) await_ends(i - kInFlight, i - kInFlight + 1);
    connect(server, i, i + 1);
  }
  await_ends(connections - std::min<std::uint64_t>(connections, kInFlight), connections);
}

void Crowd::connect(const Point& server, std::uint64_t first, std::uint64_t end) {
  std::uint32_t address = 0;
  std::memcpy(&address, server.address.bytes.data() + 12, sizeof address);
  const sockaddr_in name = ipv4(ntohl(address), server.port);
  for (std::uint64_t i = first; i < end; ++i) {
    if (::connect(socket_of(i).get(), raw(name), sizeof name) != 0 && errno != EINPROGRESS) fail("cannot connect");
  }
}

// An end of file is the server's: a connection that was never accepted has none, and one that the kernel refused or
// reset has an error.
void Crowd::await_ends(std::uint64_t first, std::uint64_t end) {
  const Nanoseconds deadline = monotonic_now() + kPatience;
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  for (std::uint64_t i = first; i < end; ++i) {
    char byte = 0;
    ssize_t got = 0;
    while ((got = ::recv(socket_of(i).get(), &byte, 1, 0)) < 0) {
      if (errno != EAGAIN || monotonic_now() > deadline) fail("a connection was not closed by the server");
    }
    if (got != 0) throw std::runtime_error("the server sent something");
    if (::connect(socket_of(i).get(), &nobody, sizeof nobody) != 0) fail("cannot reset");
  }
}

/// What the kernel lets anybody do: a process that accepts and closes.
class BareLoop {
 public:
  BareLoop();
  ~BareLoop();
  BareLoop(const BareLoop&) = delete;
  BareLoop& operator=(const BareLoop&) = delete;

  const Point& point() const { return point_; }
  pid_t pid() const { return pid_; }

 private:
  Point point_;
  pid_t pid_ = -1;
};

BareLoop::BareLoop() {
  auto listener = supervisor::listen_for_peers(Point{*parse_address(testing::fresh_address()), 0}, kBacklog);
  if (!listener) throw std::runtime_error(listener.error().text);
  if (!set_nonblocking(listener->get(), false)) fail("cannot make a socket block");
  point_ = supervisor::bound_point(listener->get()).value();
  pid_ = ::fork();
  if (pid_ < 0) fail("cannot fork");
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    void* name = &storage;
    const int socket = ::accept4(listener->get(), static_cast<sockaddr*>(name), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (socket >= 0) ::close(socket);
  }
}

BareLoop::~BareLoop() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

struct Round {
  double per_second = 0;
  double server_us = 0;   ///< of processor time for each
  double client_us = 0;   ///< the same, waiting for the server included
  double backlog_us = 0;  ///< server_us, with kInFlight connections in the backlog before it begins
};

Round measure(Crowd& crowd, const Point& server, pid_t pid, std::uint64_t connections) {
  const auto us_each = [](Nanoseconds time, std::uint64_t number) {
    return static_cast<double>(time) / 1000 / static_cast<double>(number);
  };
  Round round;
  Nanoseconds used = processor_time(pid);
  const Nanoseconds own = processor_time(::getpid());
  const Nanoseconds begun = monotonic_now();
  crowd.knock(server, connections);
  round.per_second = 1e6 / us_each(monotonic_now() - begun, connections);
  round.server_us = us_each(processor_time(pid) - used, connections);
  round.client_us = us_each(processor_time(::getpid()) - own, connections);
  ::kill(pid, SIGSTOP);
  ::waitpid(pid, nullptr, WUNTRACED);
  crowd.enter(server);
  used = processor_time(pid);
  ::kill(pid, SIGCONT);
  crowd.leave();
  round.backlog_us = us_each(processor_time(pid) - used, kInFlight);
  return round;
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

using Rounds = std::vector<std::pair<Round, Round>>;  // of the acceptor, and of the bare loop right after it

std::string spread(const Rounds& rounds, int digits, double (*of)(const Round& acceptor, const Round& bare)) {
  std::vector<double> values;
  for (const auto& [acceptor, bare] : rounds) values.push_back(of(acceptor, bare));
  std::sort(values.begin(), values.end());
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "{\"median\": %.*f, \"least\": %.*f, \"most\": %.*f}", digits,
                values[values.size() / 2], digits, values.front(), digits, values.back());
  return text.data();
}

void print(const Rounds& rounds) {
  const auto line = [&rounds](const char* name, int digits, double (*of)(const Round&, const Round&)) {
    std::printf(" \"%s\": %s,\n", name, spread(rounds, digits, of).c_str());
  };
  line("banned_refused_per_second", 0, [](const Round& acceptor, const Round&) { return acceptor.per_second; });
  line("bare_loop_per_second", 0, [](const Round&, const Round& bare) { return bare.per_second; });
  line("of_bare_loop", 2,
       [](const Round& acceptor, const Round& bare) { return acceptor.per_second / bare.per_second; });
  line("acceptor_us", 1, [](const Round& acceptor, const Round&) { return acceptor.server_us; });
  line("bare_loop_us", 1, [](const Round&, const Round& bare) { return bare.server_us; });
  line("client_us", 1, [](const Round& acceptor, const Round&) { return acceptor.client_us; });
  line("client_of_bare_loop_us", 1, [](const Round&, const Round& bare) { return bare.client_us; });
  line("client_share", 2,
       [](const Round& acceptor, const Round&) { return acceptor.client_us * acceptor.per_second / 1e6; });
  line("acceptor_backlog_us", 1, [](const Round& acceptor, const Round&) { return acceptor.backlog_us; });
  line("bare_loop_backlog_us", 1, [](const Round&, const Round& bare) { return bare.backlog_us; });
}

int run(std::uint64_t connections, std::uint64_t rounds) {
  testing::AcceptorAlone acceptor({.list_capacity = 2 * kOtherEntries, .backlog = kBacklog});
  if (const auto started = acceptor.start(); !started) throw std::runtime_error(started.error().text);
  fill(acceptor.lists());
  acceptor.ban("127.77.0.0/16");
  const BareLoop bare;
  run_on(acceptor.pid(), 0);
  run_on(bare.pid(), 0);
  run_on(0, 1);
  Crowd crowd;
  Rounds seen;
  while (seen.size() < rounds) {
    const Round round = measure(crowd, acceptor.point(), acceptor.pid(), connections);
    while (acceptor.next(testing::Milliseconds(0))) {
    }
    seen.emplace_back(round, measure(crowd, bare.point(), bare.pid(), connections));
  }
  const std::uint64_t made = rounds * (connections + kInFlight);
  const std::uint64_t refused = acceptor.count(Reason::kBanned);
  std::printf("{\n");
  print(seen);
  std::printf(
      " \"connections_each_round\": %llu, \"rounds\": %llu, \"list_entries\": %u,\n \"connections\": %llu, "
      "\"refused_as_banned\": %llu, \"proofs_checked\": %llu, \"handed_on\": %llu, \"tracked_connections\": %ld\n}\n",
      static_cast<unsigned long long>(connections), static_cast<unsigned long long>(rounds), kOtherEntries,
      static_cast<unsigned long long>(made), static_cast<unsigned long long>(refused),
      static_cast<unsigned long long>(acceptor.count(shm::Counter::kProofsChecked)),
      static_cast<unsigned long long>(acceptor.count(shm::Counter::kHandedOn)), tracked_connections());
  return made == refused ? 0 : 1;
}

}  // namespace
}  // namespace bulkhead

int main(int argc, char** argv) {
  try {
    return bulkhead::run(argc > 1 ? std::stoull(argv[1]) : 20'000, argc > 2 ? std::stoull(argv[2]) : 5);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "bench_door: %s\n", failure.what());
    return 1;
  }
}
