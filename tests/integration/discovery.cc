#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include <random>
#include <string>

#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

constexpr const char* kBroadcast = "127.255.255.255";

sockaddr_in socket_name(const std::string& host, std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  ::inet_pton(AF_INET, host.c_str(), &name.sin_addr);
  return name;
}

sockaddr* generic(sockaddr_in& name) {
  return static_cast<sockaddr*>(static_cast<void*>(&name));
}

/// A port for LAN discovery on the loopback network that no other test has, and a listener there beside the nodes'.
class Lan {
 public:
  Lan() : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    // Shared only from here on: the kernel must not choose a port that another test shares.
    sockaddr_in name = socket_name("0.0.0.0", 0);
    EXPECT_EQ(::bind(fd_.get(), generic(name), sizeof name), 0);
    const int on = 1;
    EXPECT_EQ(::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    socklen_t size = sizeof name;
    EXPECT_EQ(::getsockname(fd_.get(), generic(name), &size), 0);
    port_ = ntohs(name.sin_port);
  }

  std::string target() const { return kBroadcast + (":" + std::to_string(port_)); }

  /// To everybody on the port, from this address.
  void broadcast(const std::string& from, const Bytes& datagram) const {
    const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ASSERT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
    sockaddr_in name = socket_name(from, 0);
    ASSERT_EQ(::bind(fd.get(), generic(name), sizeof name), 0) << from;
    sockaddr_in to = socket_name(kBroadcast, port_);
    ASSERT_EQ(::sendto(fd.get(), datagram.data(), datagram.size(), 0, generic(to), sizeof to),
              static_cast<ssize_t>(datagram.size()));
  }

  /// The next datagram that comes from this address; empty when none came in time.
  Bytes next_from(const std::string& address) const {
    const auto until = std::chrono::steady_clock::now() + Milliseconds(20'000) * kPatience;
    while (std::chrono::steady_clock::now() < until) {
      pollfd readable{fd_.get(), POLLIN, 0};
      if (::poll(&readable, 1, 100) != 1) continue;
      Bytes buffer(2000);
      sockaddr_in from{};
      socklen_t size = sizeof from;
      const ssize_t got = ::recvfrom(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT, generic(from), &size);
      if (got < 0) continue;
      buffer.resize(static_cast<std::size_t>(got));
      const sockaddr_in wanted = socket_name(address, 0);
      if (from.sin_addr.s_addr == wanted.sin_addr.s_addr) return buffer;
    }
    return {};
  }

 private:
  UniqueFd fd_;
  std::uint16_t port_ = 0;
};

/// As PROTOCOL says it, written down here a second time.
Bytes announcement(std::uint16_t port, std::uint8_t peer = 7) {
  Bytes datagram = from_text("DISCOMAGIC");
  datagram.insert(datagram.end(), 16, peer);
  datagram.push_back(static_cast<std::uint8_t>(port >> 8));
  datagram.push_back(static_cast<std::uint8_t>(port));
  return datagram;
}

class LanDiscovery : public NodeTest {
 protected:
  NodeOptions discovering(std::vector<std::string> more = {}) const {
    NodeOptions options{.arguments = {"--discovery-addr", lan_.target()}};
    options.arguments.insert(options.arguments.end(), more.begin(), more.end());
    return options;
  }
  static bool knows(const Node& node, const std::string& point) { return mentions_point(node.json({"points"}), point); }

  Lan lan_;
};

TEST_F(LanDiscovery, LetsTwoNodesThatKnowNoPeerFindEachOther) {
  ASSERT_NO_FATAL_FAILURE(start_alone(discovering()));
  Node other(discovering());
  ASSERT_TRUE(other.start());

  EXPECT_TRUE(node_->wait_connected(other.peer_id())) << node_->events();
  EXPECT_TRUE(other.wait_connected(node_->peer_id())) << other.events();
  EXPECT_NE(node_->connection(other.peer_id())["trusted"], true) << "found is not trusted";
}

TEST_F(LanDiscovery, AnnouncesTheNodeWhereItListens) {
  ASSERT_NO_FATAL_FAILURE(start_alone(discovering()));
  const Bytes datagram = lan_.next_from(node_->address());
  ASSERT_EQ(datagram.size(), 28U);
  EXPECT_EQ(Bytes(datagram.begin(), datagram.begin() + 10), from_text("DISCOMAGIC"));
  EXPECT_EQ(datagram[26] << 8 | datagram[27], node_->port());
  EXPECT_FALSE(lan_.next_from(node_->address()).empty()) << "again and again";
}

TEST_F(LanDiscovery, IsOffByDefaultAndInPrivateMode) {
  ASSERT_NO_FATAL_FAILURE(start_alone(discovering()));
  Node off;
  ASSERT_TRUE(off.start());
  Node secret(discovering({"--private-mode"}));
  ASSERT_TRUE(secret.start());
  const std::string stranger = fresh_address();

  lan_.broadcast(stranger, announcement(40000));

  EXPECT_TRUE(eventually([&] { return knows(*node_, stranger + ":40000"); }));
  for (const Node* deaf : {&off, &secret}) {
    EXPECT_TRUE(deaf->json({"points"}).empty()) << deaf->json({"points"});
    EXPECT_FALSE(knows(*node_, deaf->point())) << "it announced itself";
  }
  EXPECT_NE(secret.log().find("LAN discovery (discovery-addr) stays off, as private-mode is set"), std::string::npos)
      << secret.log();
}

TEST_F(LanDiscovery, TakesNothingFromHostileDatagrams) {
  ASSERT_NO_FATAL_FAILURE(start_alone(discovering()));
  const std::string attacker = fresh_address();
  const Bytes own = lan_.next_from(node_->address());
  ASSERT_EQ(own.size(), 28U);

  for (std::size_t size = 0; size <= 40; ++size) {
    Bytes datagram = announcement(9732);
    datagram.resize(size, 0);
    if (size != 28) lan_.broadcast(attacker, datagram);
  }
  Bytes bad = announcement(9732);
  bad[9] = 'K';
  lan_.broadcast(attacker, bad);
  lan_.broadcast(attacker, announcement(0));
  lan_.broadcast(attacker, own);
  lan_.broadcast(attacker, Bytes(60'000, 0xff));
  std::mt19937 random(28);  // fixed: a failure comes again
  for (int i = 0; i < 40; ++i) {
    Bytes datagram(random() % 64);
    for (auto& byte : datagram) byte = static_cast<std::uint8_t>(random());
    lan_.broadcast(attacker, datagram);
  }
  // Datagrams of one machine keep their order: when this one is known, the others were looked at.
  const std::string marker = fresh_address();
  lan_.broadcast(marker, announcement(65535));
  EXPECT_TRUE(eventually([&] { return knows(*node_, marker + ":65535"); })) << node_->log();
  EXPECT_FALSE(node_->wait_event("connection_refused", marker).is_null()) << node_->events();
  const Json points = node_->json({"points"});
  EXPECT_EQ(points.size(), 1U) << points;
  EXPECT_EQ(node_->service_restarts("maintainer"), 0);
  EXPECT_EQ(node_->json({"greylist"}), Json::array());
}

TEST_F(LanDiscovery, OfAFloodLetsFewPointsInAndLeavesTheNodeWorking) {
  ASSERT_NO_FATAL_FAILURE(start(discovering()));
  const std::string attacker = fresh_address();

  for (unsigned port = 1; port <= 3000; ++port)
    lan_.broadcast(attacker, announcement(static_cast<std::uint16_t>(port)));

  EXPECT_TRUE(eventually([&] { return node_->json({"points"}).size() > 1; }));
  // A quarter of the table of 400 is what all tellers of a LAN have together.
  EXPECT_LE(node_->json({"points"}).size(), 110U);
  EXPECT_EQ(node_->service_restarts("maintainer"), 0);
}

TEST_F(LanDiscovery, GoesOnWithTheNextMaintainer) {
  ASSERT_NO_FATAL_FAILURE(start_alone(discovering()));
  ASSERT_FALSE(lan_.next_from(node_->address()).empty());
  const pid_t maintainer = node_->service_pid("maintainer");
  ASSERT_GT(maintainer, 0);
  ::kill(maintainer, SIGKILL);
  ASSERT_TRUE(eventually([&] { return node_->service_restarts("maintainer") == 1; }));

  const std::string stranger = fresh_address();
  lan_.broadcast(stranger, announcement(9732));

  EXPECT_TRUE(eventually([&] { return knows(*node_, stranger + ":9732"); })) << node_->log();
  EXPECT_FALSE(lan_.next_from(node_->address()).empty());
}

}  // namespace
}  // namespace bulkhead::testing
