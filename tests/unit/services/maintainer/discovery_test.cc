#include "services/maintainer/discovery.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>

#include "base/address.h"
#include "wire/discovery.h"

namespace bulkhead::maintainer {
namespace {

const PeerId kOwn = {1, 2, 3};
const PeerId kOther = {4, 5, 6};

Address address(const std::string& text) {
  return parse_address(text).value();
}
Point point(const std::string& text) {
  return parse_point(text).value();
}

std::vector<std::uint8_t> datagram(const PeerId& peer, std::uint16_t port) {
  const auto encoded = wire::encode(wire::Discovery{peer, port});
  return {encoded.begin(), encoded.end()};
}

TEST(AnnouncedPoint, IsTheSendersAddressWithThePortThatItNames) {
  EXPECT_EQ(announced_point(datagram(kOther, 9732), address("192.168.1.7"), kOwn), point("192.168.1.7:9732"));
  EXPECT_EQ(announced_point(datagram(kOther, 65535), address("127.0.0.2"), kOwn), point("127.0.0.2:65535"));
}

TEST(AnnouncedPoint, IsNotOurOwn) {
  EXPECT_FALSE(announced_point(datagram(kOwn, 9732), address("192.168.1.7"), kOwn));
}

TEST(AnnouncedPoint, IsOnALocalNetworkAlone) {
  for (const char* text : {"10.0.0.1", "127.0.0.9", "169.254.3.4", "172.16.0.1", "172.31.255.254", "192.168.0.1"})
    EXPECT_TRUE(announced_point(datagram(kOther, 9732), address(text), kOwn)) << text;
  for (const char* text : {"8.8.8.8", "172.32.0.1", "192.169.0.1", "11.0.0.1", "128.0.0.1", "100.64.0.1", "0.0.0.0",
                           "255.255.255.255", "224.0.0.1", "192.0.2.1", "2606:4700::1111"})
    EXPECT_FALSE(announced_point(datagram(kOther, 9732), address(text), kOwn)) << text;
}

TEST(AnnouncedPoint, IsNotMadeOfGarbage) {
  const Address sender = address("192.168.1.7");
  EXPECT_FALSE(announced_point({}, sender, kOwn));
  EXPECT_FALSE(announced_point(datagram(kOther, 0), sender, kOwn));
  auto longer = datagram(kOther, 9732);
  longer.push_back(0);
  EXPECT_FALSE(announced_point(longer, sender, kOwn));
  longer[0] = 'd';
  longer.pop_back();
  EXPECT_FALSE(announced_point(longer, sender, kOwn));
}

TEST(Beacons, ComeFromEachIpv4AddressThatIsListenedOn) {
  const std::vector<Point> several = {point("127.0.0.1:9732"), point("127.0.0.2:40000"), point("[::1]:9732")};
  EXPECT_EQ(beacons_of(several), (std::vector<Beacon>{{address("127.0.0.1"), 9732}, {address("127.0.0.2"), 40000}}));
  const std::vector<Point> everywhere = {point("[::]:9732"), point("0.0.0.0:9732")};
  EXPECT_EQ(beacons_of(everywhere), (std::vector<Beacon>{{std::nullopt, 9732}}));
  const std::vector<Point> ipv6 = {point("[fd00::1]:9732")};
  EXPECT_TRUE(beacons_of(ipv6).empty());
}

TEST(BeaconTimes, DoubleFromATenthOfASecondTo51Seconds) {
  BeaconTimes times;
  for (Nanoseconds expected = 100 * kMillisecond; expected <= 51200 * kMillisecond; expected *= 2)
    EXPECT_EQ(times.next(), expected);
  EXPECT_EQ(times.next(), 51200 * kMillisecond);
  times.restart();
  EXPECT_EQ(times.next(), 100 * kMillisecond);
}

/// A socket on a loopback address and a port of its own.
struct Socket {
  UniqueFd fd;
  Point bound;
};

Socket bind_to(const std::string& host) {
  Socket socket{UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), {}};
  sockaddr_in name{};
  name.sin_family = AF_INET;
  EXPECT_EQ(::inet_pton(AF_INET, host.c_str(), &name.sin_addr), 1);
  const int on = 1;
  ::setsockopt(socket.fd.get(), SOL_SOCKET, SO_BROADCAST, &on, sizeof on);
  EXPECT_EQ(::bind(socket.fd.get(), static_cast<sockaddr*>(static_cast<void*>(&name)), sizeof name), 0);
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  EXPECT_EQ(::getsockname(socket.fd.get(), static_cast<sockaddr*>(static_cast<void*>(&storage)), &size), 0);
  socket.bound = from_sockaddr(storage);
  return socket;
}

void send(const Socket& from, const Point& to, std::span<const std::uint8_t> bytes) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(to.port);
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::sendto(from.fd.get(), bytes.data(), bytes.size(), 0, static_cast<sockaddr*>(static_cast<void*>(&name)),
                     sizeof name),
            static_cast<ssize_t>(bytes.size()));
}

class LanDiscoveryTest : public ::testing::Test {
 protected:
  LanDiscoveryTest()
      : memory_(shm::make_counters()), counters_(*shm::CountersWriter::map(memory_->get(), Role::kMaintainer)) {}

  Result<UniqueFd> memory_;
  shm::CountersWriter counters_;
  service::Loop loop_;
};

TEST_F(LanDiscoveryTest, AnnouncesFromTheAddressThatTheNodeListensOn) {
  const Socket other = bind_to("127.0.0.1");
  Socket own = bind_to("0.0.0.0");
  LanDiscovery discovery(loop_, std::move(own.fd), other.bound, {{address("127.0.0.5"), 40000}}, kOwn, counters_,
                         [](const Point&) {});
  discovery.start();
  std::array<std::uint8_t, 64> buffer{};
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  const ssize_t got = ::recvfrom(other.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                 static_cast<sockaddr*>(static_cast<void*>(&storage)), &size);
  ASSERT_EQ(got, static_cast<ssize_t>(wire::kDiscoverySize));
  EXPECT_EQ(from_sockaddr(storage).address, address("127.0.0.5"));
  EXPECT_EQ(wire::decode_discovery(std::span(buffer).first(wire::kDiscoverySize)).value(),
            (wire::Discovery{kOwn, 40000}));
  EXPECT_EQ(counters_.get(shm::Counter::kAnnouncementsSent), 1U);
}

TEST_F(LanDiscoveryTest, TellsOfWhatItHears) {
  const Socket other = bind_to("127.0.0.3");
  Socket own = bind_to("127.0.0.1");
  const Point here = own.bound;
  std::vector<Point> heard;
  LanDiscovery discovery(loop_, std::move(own.fd), other.bound, {}, kOwn, counters_, [&](const Point& point) {
    heard.push_back(point);
    if (point.port == 2) loop_.stop();
  });
  discovery.start();
  for (std::size_t size = 0; size < 100; ++size) {
    if (size != wire::kDiscoverySize) send(other, here, std::vector<std::uint8_t>(size, 'D'));
  }
  send(other, here, datagram(kOwn, 9));
  send(other, here, datagram(kOther, 1));
  send(other, here, datagram(kOther, 2));
  loop_.run();
  EXPECT_EQ(heard, (std::vector<Point>{point("127.0.0.3:1"), point("127.0.0.3:2")}));
  EXPECT_EQ(counters_.get(shm::Counter::kAnnouncementsHeard), 2U);
  EXPECT_EQ(counters_.get(shm::Counter::kAnnouncementsIgnored), 100U);
}

TEST_F(LanDiscoveryTest, ReadsNoMoreOfAFloodThanItsBudget) {
  const Socket other = bind_to("127.0.0.3");
  Socket own = bind_to("127.0.0.1");
  const Point here = own.bound;
  constexpr double kBeyond = 20;
  double heard = 0;
  LanDiscovery discovery(loop_, std::move(own.fd), other.bound, {}, kOwn, counters_, [&](const Point&) {
    if (++heard >= kDiscoveryRate.burst + kBeyond) return loop_.stop();
    send(other, here, datagram(kOther, 9732));  // it never runs dry
  });
  const Nanoseconds begin = monotonic_now();
  discovery.start();
  send(other, here, datagram(kOther, 9732));
  loop_.run();
  const double passed = static_cast<double>(monotonic_now() - begin) / static_cast<double>(kSecond);
  EXPECT_GE(passed, (kBeyond - 1) / kDiscoveryRate.per_second);
}

}  // namespace
}  // namespace bulkhead::maintainer
