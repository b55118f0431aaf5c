#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/token_bucket.h"
#include "services/common/loop.h"
#include "shm/tables.h"

namespace bulkhead::maintainer {

/// Datagrams that are read at all, good or bad: what a flood has above this waits, and is dropped by the kernel.
inline constexpr TokenRate kDiscoveryRate{.per_second = 50, .burst = 200};

/// One announcement of this node: the port that it listens on, and the address that the datagram has to come from so
/// that others dial the right one. Nothing: the kernel's choice, for a node that listens on all addresses.
struct Beacon {
  std::optional<Address> source;
  std::uint16_t port = 0;
  bool operator==(const Beacon&) const = default;
};

/// What a node that listens there announces. Discovery is of IPv4: a listener on one IPv6 address has no announcement.
std::vector<Beacon> beacons_of(std::span<const Point> listening);

/// When to announce: after 0.1 s, then after twice as long each time, up to 51.2 s.
class BeaconTimes {
 public:
  Nanoseconds next();
  void restart();

 private:
  Nanoseconds delay_ = 0;
};

/// Where the node listens that announced itself by this datagram; nothing when it is none, our own, or does not come
/// from a local network. Trust: both arguments are hostile, and the address may be forged.
std::optional<Point> announced_point(std::span<const std::uint8_t> datagram, const Address& sender, const PeerId& own);

/// LAN discovery: announces this node, and hears others. One thread.
class LanDiscovery {
 public:
  /// `socket`: UDP of IPv4, bound, allowed to broadcast. `target`: where to announce. `found` is called from the loop,
  /// at most as often as kDiscoveryRate allows, also for points that are known already. `counters` outlives this.
  LanDiscovery(service::Loop& loop, UniqueFd socket, const Point& target, std::vector<Beacon> beacons,
               const PeerId& own, const shm::CountersWriter& counters, std::function<void(const Point&)> found);

  void start();
  /// More neighbours are wanted: announces often again.
  void restart();

 private:
  void announce();
  bool send(const Beacon& beacon);
  void on_readable();

  UniqueFd socket_;
  Point target_;
  std::vector<Beacon> beacons_;
  PeerId own_;
  const shm::CountersWriter& counters_;
  std::function<void(const Point&)> found_;
  service::Poll poll_;
  service::Timer beacon_timer_;
  service::Timer resume_timer_;
  BeaconTimes times_;
  TokenBucket budget_;
  bool warned_ = false;  ///< that it cannot be heard everywhere, since it last was
};

}  // namespace bulkhead::maintainer
