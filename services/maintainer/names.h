#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "schema/messages.h"

namespace bulkhead::maintainer {

/// What name servers, or the hosts file, said of a name.
struct NameAnswer {
  std::vector<Address> addresses;  ///< empty: there is none, or nobody answered
  std::uint32_t ttl_s = 0;         ///< the shortest of those of the addresses
};

/// At most this many addresses of one name, and configured points in all.
inline constexpr std::size_t kMaximumNameAddresses = 16;
inline constexpr std::size_t kMaximumConfiguredPoints = 256;
/// A name is asked for again when its answer is over, but no sooner and no later than this after it.
inline constexpr Nanoseconds kShortestRefresh = 60 * kSecond;
inline constexpr Nanoseconds kLongestRefresh = 3600 * kSecond;
/// After a failure: at first, and at most; twice as long each time. All three are up to a quarter longer, by chance.
inline constexpr Nanoseconds kFirstRetry = 1 * kSecond;
inline constexpr Nanoseconds kLongestRetry = 300 * kSecond;
/// An address that answers lack for so long is the name's no more: name servers give now these, now those of many.
inline constexpr Nanoseconds kForgetAddress = 3600 * kSecond;
/// Look-ups under way.
inline constexpr std::size_t kLookupsAtOnce = 16;

/// Whether a host can have it: not unspecified, not multicast, not broadcast.
bool is_host_address(const Address& address);

/// `addresses` without those that no host has and without repetitions, at most kMaximumNameAddresses, in turn of IPv4
/// and of IPv6, so that neither family crowds the other out.
std::vector<Address> usable_addresses(const std::vector<Address>& addresses);

/// Which points the configured peers are: literal addresses, and names as they are resolved again and again. Pure: it
/// says which names to look up and when, takes the answers, and says what the controller has not been told. One thread.
///
/// A failure changes nothing but the time of the next look-up.
class Names {
 public:
  /// A point that is configured now, or is no more.
  struct Change {
    Point point;
    bool configured = false;
    std::optional<PeerId> expected_peer_id;
  };

  /// `random` draws 64 bits.
  Names(const std::vector<schema::ConfiguredPeer>& peers, std::function<std::uint64_t()> random);

  /// Names to look up now; each is under way until answered() is called for it.
  std::vector<std::string> due(Nanoseconds now);
  enum class Outcome : std::uint8_t {
    kUsual,
    kFailed,  ///< for the first time, or the first after it was well
    kStillFailed,
    kWellAgain,
  };
  Outcome answered(const std::string& name, const NameAnswer& answer, Nanoseconds now);
  /// When due() has something next; nothing: not before an answer, or never.
  std::optional<Nanoseconds> next() const;

  /// What is to be told, until it was.
  std::vector<Change> untold() const;
  void told(const Change& change);

 private:
  struct Target {
    std::uint16_t port = 0;
    std::optional<PeerId> expected_peer_id;
  };
  struct Name {
    std::vector<Target> targets;               ///< peers that are configured by it
    std::map<Address, Nanoseconds> addresses;  ///< and when an answer had it last
    bool under_way = false;
    Nanoseconds next = 0;
    Nanoseconds retry = 0;  ///< 0: the last answer was one
  };
  using Points = std::map<Point, std::optional<PeerId>>;
  Points configured() const;

  std::function<std::uint64_t()> random_;
  Points literal_;
  std::map<std::string, Name> names_;
  Points told_;
};

}  // namespace bulkhead::maintainer
