// The front door: what the acceptor refuses before anything is spent, alone and as a part of a node.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "base/address.h"
#include "base/clock.h"
#include "tests/door/acceptor_alone.h"
#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

constexpr Milliseconds kWait = Milliseconds(10'000) * kPatience;

class Door : public ::testing::Test {
 protected:
  void start(AcceptorOptions options = {}) {
    acceptor_ = std::make_unique<AcceptorAlone>(options);
    const auto started = acceptor_->start();
    ASSERT_TRUE(started) << started.error().text;
  }

  UniqueFd connect(const std::string& source) {
    UniqueFd socket = acceptor_->connect(source);
    EXPECT_TRUE(socket) << source;
    return socket;
  }

  void expect_count(Reason reason, std::uint64_t expected) {
    EXPECT_TRUE(eventually([&] { return acceptor_->count(reason) == expected; }, kWait))
        << reason_name(reason) << ": " << acceptor_->count(reason) << " instead of " << expected;
  }
  void expect_pending(std::uint64_t expected) {
    EXPECT_TRUE(eventually([&] { return acceptor_->count(shm::Counter::kPendingNow) == expected; }, kWait))
        << acceptor_->count(shm::Counter::kPendingNow) << " instead of " << expected;
  }

  /// The first message to the controller that is no refusal.
  std::optional<schema::Incoming> incoming() {
    while (auto message = acceptor_->next(kWait)) {
      if (auto* found = std::get_if<schema::Incoming>(&*message)) return *found;
    }
    return std::nullopt;
  }

  static bool closed(const UniqueFd& socket, Milliseconds timeout = kWait) {
    pollfd waiting{socket.get(), POLLIN, 0};
    return ::poll(&waiting, 1, static_cast<int>(timeout.count())) == 1;
  }

  static void send(const UniqueFd& socket, const Bytes& bytes) {
    EXPECT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  std::unique_ptr<AcceptorAlone> acceptor_;
};

TEST_F(Door, LooksAtNothingThatABannedAddressSends) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string banned = fresh_address();
  acceptor_->ban(banned);
  Peer peer;

  const UniqueFd refused = connect(banned);
  EXPECT_TRUE(closed(refused));
  expect_count(Reason::kBanned, 1);
  EXPECT_EQ(acceptor_->count(shm::Counter::kProofsChecked), 0U);

  const std::string other = fresh_address();
  send(connect(other), peer.connection_message());
  const auto came = incoming();
  ASSERT_TRUE(came);
  EXPECT_EQ(to_text(came->remote.address), other);
  EXPECT_TRUE(eventually([&] { return acceptor_->count(shm::Counter::kHandedOn) == 1; }, kWait));
}

TEST_F(Door, RefusesGreyWithAReasonOfItsOwnUntilTheEntryEnds) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string address = fresh_address();
  auto entry = shm::ListEntry::of(shm::AclList::kGrey, Prefix{*parse_address(address)});
  ASSERT_TRUE(acceptor_->lists().add(entry, wall_now_ms()));
  EXPECT_TRUE(closed(connect(address)));
  expect_count(Reason::kGreylisted, 1);
  entry.until_ms = wall_now_ms();
  ASSERT_TRUE(acceptor_->lists().add(entry, entry.until_ms - 1000));

  const UniqueFd socket = connect(address);

  expect_pending(1);
}

TEST_F(Door, ClosesThoseThatWaitWhenTheirAddressIsBanned) {
  AcceptorOptions options;
  options.authentication_timeout_ms = 600'000;
  ASSERT_NO_FATAL_FAILURE(start(options));
  const std::string banned = fresh_address();
  const UniqueFd one = connect(banned);
  const UniqueFd other = connect(fresh_address());
  expect_pending(2);

  acceptor_->ban(banned);

  EXPECT_TRUE(closed(one));
  expect_count(Reason::kBanned, 1);
  expect_pending(1);
  EXPECT_FALSE(closed(other, Milliseconds(0)));
}

TEST_F(Door, BoundsTheRateOfOneAddressAndLeavesOthersAlone) {
  AcceptorOptions options;
  options.door.accept_rate_address = 0.001;
  options.door.accept_burst_address = 3;
  ASSERT_NO_FATAL_FAILURE(start(options));
  const std::string busy = fresh_address();
  std::vector<UniqueFd> sockets;
  for (int i = 0; i < 5; ++i) sockets.push_back(connect(busy));
  expect_count(Reason::kAddressRate, 2);
  expect_pending(3);
  sockets.push_back(connect(fresh_address()));
  expect_pending(4);
  EXPECT_TRUE(closed(sockets[4]));
}

TEST_F(Door, KeepsPlacesForTrustedAddresses) {
  AcceptorOptions options;
  options.authentication_timeout_ms = 600'000;
  options.door.pending_limit = 6;
  options.door.trusted_reserve = 2;
  ASSERT_NO_FATAL_FAILURE(start(options));
  const std::string trusted = fresh_address();
  ASSERT_TRUE(
      acceptor_->lists().add(shm::ListEntry::of(shm::AclList::kWhite, Prefix{*parse_address(trusted)}), wall_now_ms()));
  std::vector<UniqueFd> strangers;
  for (int i = 0; i < 10; ++i) strangers.push_back(connect(fresh_address()));
  expect_count(Reason::kPendingLimit, 6);
  const UniqueFd silent = connect(trusted);
  expect_pending(5);
  for (int i = 0; i < 10; ++i) strangers.push_back(connect(fresh_address()));
  expect_count(Reason::kPendingLimit, 16);
  EXPECT_FALSE(closed(silent, Milliseconds(0)));

  Peer peer;
  send(silent, peer.connection_message());

  const auto came = incoming();
  ASSERT_TRUE(came);
  EXPECT_EQ(to_text(came->remote.address), trusted);
}

TEST_F(Door, TellsOfEveryRefusalOnceByItselfOrInASum) {
  ASSERT_NO_FATAL_FAILURE(start());
  constexpr std::uint64_t kRefused = 2000;
  const std::string banned = fresh_address();
  acceptor_->ban(banned);
  const Nanoseconds begun = monotonic_now();
  for (std::uint64_t i = 0; i < kRefused; ++i) connect(banned);
  expect_count(Reason::kBanned, kRefused);

  std::uint64_t told = 0;
  std::uint64_t singly = 0;
  while (told < kRefused) {
    const auto message = acceptor_->next(kWait);
    ASSERT_TRUE(message) << told << " were told of";
    const auto* refused = std::get_if<schema::Refused>(&*message);
    ASSERT_NE(refused, nullptr);
    EXPECT_EQ(refused->reason, Reason::kBanned);
    told += refused->count;
    if (refused->remote != Point{}) ++singly;
  }

  EXPECT_EQ(told, kRefused);
  const auto seconds = (monotonic_now() - begun) / kSecond;
  EXPECT_LE(singly, 100 + 10 * (seconds + 1));
}

/// Real user or group id of a process, from /proc.
unsigned int id_of(pid_t pid, const std::string& which) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(which, 0) == 0) return static_cast<unsigned int>(std::stoul(line.substr(which.size())));
  }
  return 0;
}

/// Sets another process's soft limit of open files, as its own user: nobody else needs a privilege for it.
bool limit_files(pid_t pid, rlim_t most) {
  const uid_t user = id_of(pid, "Uid:");
  const gid_t group = id_of(pid, "Gid:");
  const pid_t child = ::fork();
  if (child == 0) {
    rlimit limit{};
    const bool same = ::getuid() == user && ::getgid() == group;
    const bool changed = same || (::setresgid(group, group, group) == 0 && ::setresuid(user, user, user) == 0);
    const bool read = changed && ::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) == 0;
    limit.rlim_cur = most;
    ::_exit(read && ::prlimit(pid, RLIMIT_NOFILE, &limit, nullptr) == 0 ? 0 : 1);
  }
  return child > 0 && wait_for(child, kWait) == 0;
}

TEST_F(Door, OutlastsALackOfDescriptorsWithoutSpinning) {
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_TRUE(limit_files(acceptor_->pid(), 1));
  const Nanoseconds begun = monotonic_now();
  const UniqueFd waiting = connect(fresh_address());
  EXPECT_TRUE(eventually([&] { return acceptor_->count(Reason::kAcceptFailed) >= 3; }, kWait));
  const std::uint64_t tries = acceptor_->count(Reason::kAcceptFailed);
  EXPECT_LE(tries, 2 + (monotonic_now() - begun) / (100 * kMillisecond));

  ASSERT_TRUE(limit_files(acceptor_->pid(), 1024));

  expect_pending(1);
  const UniqueFd next = connect(fresh_address());
  expect_pending(2);
}

/// Ticks (hundredths of a second) until the keepalive timer of a connection of this machine runs out, from
/// /proc/net/tcp6. Nothing without such a connection or timer.
std::optional<long> keepalive_ticks(const std::string& local_port_of_node, const std::string& remote_port) {
  const auto hex = [](const std::string& port) {
    std::array<char, 8> text{};
    std::snprintf(text.data(), text.size(), ":%04lX", std::stoul(port));
    return std::string(text.data());
  };
  std::ifstream table("/proc/net/tcp6");
  for (std::string line; std::getline(table, line);) {
    std::istringstream words(line);
    std::string number, local, remote, state, queues, timer;
    words >> number >> local >> remote >> state >> queues >> timer;
    if (!local.ends_with(hex(local_port_of_node)) || !remote.ends_with(hex(remote_port)) || state != "01") continue;
    if (timer.rfind("02:", 0) != 0) return std::nullopt;
    return std::stol(timer.substr(3), nullptr, 16);
  }
  return std::nullopt;
}

std::string port_of(const std::string& point) {
  return point.substr(point.rfind(':') + 1);
}

class DoorOfANode : public NodeTest {
 protected:
  /// The variable as it was comes back with the test's end.
  void set_keepalive(const char* value) {
    ::setenv("OCTEZ_P2P_TCP_KEEPALIVE", value, 1);
    set_ = true;
  }
  void TearDown() override {
    if (set_) ::unsetenv("OCTEZ_P2P_TCP_KEEPALIVE");
    NodeTest::TearDown();
  }

  bool set_ = false;
};

TEST_F(DoorOfANode, SetsKeepaliveInSecondsOnAcceptedConnections) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string remote = port_of(witness_->local_point());
  std::optional<long> ticks;
  EXPECT_TRUE(eventually([&] {
    ticks = keepalive_ticks(std::to_string(node_->port()), remote);
    return ticks.has_value();
  }));
  EXPECT_LE(ticks.value_or(0), 10 * 100 + 10) << "it is idle for 10 s, not 10,000";
}

TEST_F(DoorOfANode, FollowsOctezsVariableOnAcceptedAndDialledConnections) {
  set_keepalive("600000,5000");
  auto listener = Listener::open(fresh_address());
  ASSERT_TRUE(listener);
  NodeOptions options;
  options.arguments = {"--peer", listener->point()};
  ASSERT_NO_FATAL_FAILURE(start(options));
  Peer dialled;
  ASSERT_TRUE(dialled.accept(*listener));
  ASSERT_TRUE(dialled.handshake());
  std::string from_port;
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  ASSERT_EQ(::getpeername(dialled.fd(), reinterpret_cast<sockaddr*>(&storage), &size), 0);
  from_port = std::to_string(from_sockaddr(storage).port);

  const auto far_away = [](const std::string& local, const std::string& remote) {
    return eventually([&] {
      const auto ticks = keepalive_ticks(local, remote);
      return ticks && *ticks > 300 * 100 && *ticks <= 600 * 100 + 10;
    });
  };
  EXPECT_TRUE(far_away(std::to_string(node_->port()), port_of(witness_->local_point()))) << "accepted";
  EXPECT_TRUE(far_away(from_port, std::to_string(listener->port()))) << "dialled";
}

TEST_F(DoorOfANode, DoesNotStartOnAVariableThatMakesNoSense) {
  set_keepalive("10s");
  const auto result = run_bulkhead({"run", "--data-dir", TemporaryDirectory().path(), "--net-addr", "127.0.0.1:0"});
  EXPECT_EQ(result.exit_status, 1) << result;
  EXPECT_NE(result.err.find("OCTEZ_P2P_TCP_KEEPALIVE"), std::string::npos) << result;
}

TEST_F(DoorOfANode, SpendsNoWorkerInAFloodAndLetsAnHonestNewcomerIn) {
  NodeOptions options;
  constexpr unsigned int kFlood = 300;
  constexpr unsigned int kPlaces = 80;
  options.arguments = {"--pending-limit", "100", "--trusted-reserve", "20"};
  options.config = config_with_timeouts(600, 10);
  ASSERT_NO_FATAL_FAILURE(start(options));
  const pid_t nursery = node_->service_pid("nursery");
  ASSERT_GT(nursery, 0);
  const auto before = children_of(nursery);
  PeerOptions without_work;
  without_work.bad_stamp = true;
  Peer liar(without_work);
  const Bytes bad = liar.connection_message();
  std::vector<Peer> waiting;
  for (unsigned int i = 0; i < kFlood; ++i) {
    Peer peer;
    ASSERT_TRUE(peer.connect(node_->point(), fresh_address()));
    switch (i % 3) {
      case 0:
        ASSERT_TRUE(peer.send_raw(bad));
        break;
      case 1:  // a byte, and no more
        ASSERT_TRUE(peer.send_raw(Bytes{0}));
        break;
      default:  // a length, and no more
        ASSERT_TRUE(peer.send_raw(Bytes{0, 200}));
        break;
    }
    waiting.push_back(std::move(peer));
  }

  Peer honest = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(honest));

  const auto after = children_of(nursery);
  EXPECT_EQ(after.size(), before.size() + 1);
  const auto seen = [&](const std::string& reason) {
    std::uint64_t sum = 0;
    for (const Json& event : node_->json_lines({"events"})) {
      if (event.value("event", "") == "refused" && event.value("reason", "") == reason)
        sum += event.value("count", std::uint64_t{1});
    }
    return sum;
  };
  // One whose bytes the node has not looked at yet may have to go for others, too.
  EXPECT_TRUE(eventually([&] { return seen("not_enough_proof_of_work") + seen("pending_limit") >= kFlood - kPlaces; }))
      << node_->events();
  EXPECT_GT(seen("not_enough_proof_of_work"), 0U);
  EXPECT_LE(seen("not_enough_proof_of_work"), kFlood / 3);
  EXPECT_NE(node_->log().find("refused 127."), std::string::npos) << "one line each, for those who match addresses";
  EXPECT_NE(node_->log().find(" more: "), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::testing
