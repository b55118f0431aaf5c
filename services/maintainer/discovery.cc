#include "services/maintainer/discovery.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/address.h"
#include "base/address_group.h"
#include "base/log.h"
#include "wire/discovery.h"

namespace bulkhead::maintainer {
namespace {

constexpr Nanoseconds kFirstDelay = 100 * kMillisecond;
constexpr Nanoseconds kLongestDelay = 512 * kFirstDelay;
// Of a flood, so many are read before others have their turn.
constexpr int kReadAtOnce = 32;
// After the budget is used up; long enough that a flood costs a few wake-ups a second.
constexpr std::uint64_t kResumeMs = 500;

sockaddr_in ipv4_of(const Point& point) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(point.port);
  std::memcpy(&address.sin_addr, point.address.bytes.data() + 12, sizeof address.sin_addr);
  return address;
}

}  // namespace

std::vector<Beacon> beacons_of(std::span<const Point> listening) {
  std::vector<Beacon> beacons;
  for (const Point& point : listening) {
    const bool everywhere = is_unspecified(point.address);
    if (!everywhere && !is_ipv4(point.address)) continue;
    const Beacon beacon{everywhere ? std::nullopt : std::optional(point.address), point.port};
    if (std::find(beacons.begin(), beacons.end(), beacon) == beacons.end()) beacons.push_back(beacon);
  }
  return beacons;
}

Nanoseconds BeaconTimes::next() {
  delay_ = delay_ == 0 ? kFirstDelay : std::min(delay_ * 2, kLongestDelay);
  return delay_;
}

void BeaconTimes::restart() {
  delay_ = 0;
}

std::optional<Point> announced_point(std::span<const std::uint8_t> datagram, const Address& sender, const PeerId& own) {
  const auto discovery = wire::decode_discovery(datagram);
  if (!discovery || discovery->peer_id == own || !is_local_network(sender)) return std::nullopt;
  return Point{sender, discovery->port};
}

LanDiscovery::LanDiscovery(service::Loop& loop, UniqueFd socket, const Point& target, std::vector<Beacon> beacons,
                           const PeerId& own, const shm::CountersWriter& counters,
                           std::function<void(const Point&)> found)
    : socket_(std::move(socket)),
      target_(target),
      beacons_(std::move(beacons)),
      own_(own),
      counters_(counters),
      found_(std::move(found)) {
  poll_ = service::Poll(loop, socket_.get(), [this](int, int) { on_readable(); });
  beacon_timer_ = service::Timer(loop, [this] { announce(); });
  resume_timer_ = service::Timer(loop, [this] { poll_.watch(UV_READABLE); });
}

void LanDiscovery::start() {
  poll_.watch(UV_READABLE);
  if (!beacons_.empty()) announce();
}

void LanDiscovery::restart() {
  if (beacons_.empty()) return;
  times_.restart();
  beacon_timer_.once(times_.next() / kMillisecond);
}

void LanDiscovery::announce() {
  bool all_sent = true;
  for (const Beacon& beacon : beacons_) {
    if (send(beacon)) {
      counters_.count(shm::Counter::kAnnouncementsSent);
      continue;
    }
    all_sent = false;
    if (!std::exchange(warned_, true)) {
      log_warning("cannot announce this node at " + to_text(target_) + ": " + std::strerror(errno) +
                  "; trying again, or name another broadcast address with --discovery-addr");
    }
  }
  if (all_sent) warned_ = false;
  beacon_timer_.once(times_.next() / kMillisecond);
}

bool LanDiscovery::send(const Beacon& beacon) {
  auto datagram = wire::encode(wire::Discovery{own_, beacon.port});
  sockaddr_in to = ipv4_of(target_);
  iovec part{datagram.data(), datagram.size()};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof to;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<unsigned char, CMSG_SPACE(sizeof(in_pktinfo))> control{};
  if (beacon.source) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = IPPROTO_IP;
    header->cmsg_type = IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
    in_pktinfo from{};
    from.ipi_spec_dst = ipv4_of({*beacon.source, 0}).sin_addr;
    std::memcpy(CMSG_DATA(header), &from, sizeof from);
  }
  return ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(datagram.size());
}

void LanDiscovery::on_readable() {
  for (int i = 0; i < kReadAtOnce; ++i) {
    const Nanoseconds now = monotonic_now();
    if (budget_.level_at(kDiscoveryRate, now) < 1) {
      poll_.watch(0);
      resume_timer_.once(kResumeMs);
      return;
    }
    // One byte more than it may have, so that a longer one does not pass for a good one.
    std::array<std::uint8_t, wire::kDiscoverySize + 1> buffer{};
    sockaddr_storage from{};
    socklen_t from_size = sizeof from;
    const ssize_t size = ::recvfrom(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                    static_cast<sockaddr*>(static_cast<void*>(&from)), &from_size);
    // An error that came back for an announcement of ours is taken off the socket by this.
    if (size < 0) return;
    (void)budget_.take(kDiscoveryRate, now);
    const auto point =
        announced_point(std::span(buffer).first(static_cast<std::size_t>(size)), from_sockaddr(from).address, own_);
    counters_.count(point ? shm::Counter::kAnnouncementsHeard : shm::Counter::kAnnouncementsIgnored);
    if (point) found_(*point);
  }
}

}  // namespace bulkhead::maintainer
