#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

#include "base/clock.h"
#include "base/ids.h"
#include "base/prefix.h"
#include "base/reasons.h"

namespace bulkhead::acceptor {

/// The addresses that count as one neighbour: the /24 of IPv4, the /56 of IPv6. Loopback addresses count singly, since
/// they are nobody's network.
Prefix neighbourhood(const Address& address);

struct PendingLimits {
  std::size_t total = 4096;
  std::size_t trusted_reserve = 256;  ///< of these, at most total
  std::size_t per_address = 256;
  std::size_t per_prefix = 1024;
};

/// Connections that have not proved any work yet: in order of arrival, which is the order of their deadlines, and
/// counted by address and prefix. Decides who goes when there is no room: the oldest silent one (nothing received yet)
/// of the address or prefix that is at its limit, or of the busiest prefix when all places are taken; the oldest one
/// when none is silent. So whoever holds places silently locks nobody out. Of prefixes that are equally busy it is the
/// one with the oldest silent connection: no address is at a disadvantage by its number.
///
/// Trusted ones never have to go, and count for no address or prefix. Others leave their reserve free.
/// Pure; each call takes logarithmic time. Ids are given by the caller, in ascending order, and never reused.
class PendingTable {
 public:
  struct Room {
    bool here = true;                     ///< false: the new one cannot come in
    std::optional<std::uint64_t> victim;  ///< who must go for it
    Reason reason = Reason::kNone;        ///< why, in either case
  };

  explicit PendingTable(PendingLimits limits) : limits_(limits) {}

  Room room_for(const Address& address, bool trusted) const;
  void add(std::uint64_t id, const Address& address, bool trusted, Nanoseconds deadline);
  void remove(std::uint64_t id);
  /// The connection has sent something.
  void spoke(std::uint64_t id);

  std::size_t size() const { return entries_.size(); }
  /// The one whose deadline comes first.
  std::optional<std::pair<std::uint64_t, Nanoseconds>> earliest() const;

 private:
  struct Entry {
    Address address;
    bool trusted = false;
    Nanoseconds deadline = 0;
  };
  /// The connections of an address or prefix, and which one of them would go.
  struct Group {
    std::set<std::uint64_t> silent;
    std::set<std::uint64_t> others;
    std::size_t size() const { return silent.size() + others.size(); }
    std::uint64_t first() const { return silent.empty() ? *others.begin() : *silent.begin(); }
  };
  /// Busiest first; then with a silent one; then by age.
  struct Rank {
    std::size_t size = 0;
    bool silent = false;
    std::uint64_t first = 0;
    auto operator<=>(const Rank&) const = default;
    static Rank of(const Group& group);
  };

  template <typename Change>
  void change(const Address& address, Change action);

  PendingLimits limits_;
  std::map<std::uint64_t, Entry> entries_;
  std::size_t trusted_ = 0;
  std::map<Address, Group> addresses_;
  std::map<Prefix, Group> prefixes_;
  std::set<Rank> ranks_;  ///< of the prefixes
};

}  // namespace bulkhead::acceptor
