#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/prefix.h"
#include "base/result.h"

namespace bulkhead {

/// A number for the addresses that one owner has many of at the price of one; neighbours are spread over such groups.
/// Equal numbers mean one group, and only that; 0 is none. The same in every process with the same map.
using AddressGroup = std::uint64_t;

/// The group of an address without a map: its /16 of IPv4, its /32 of IPv6. An address that is_routable() refuses is a
/// group by itself: nobody far away has it, and a network of a laboratory must not look like one owner's.
AddressGroup group_of(const Address& address);

/// Whether a host of the public internet can have this address: not loopback, private, link-local, unspecified,
/// shared, of documentation or benchmarks, multicast or reserved (RFC 6890).
bool is_routable(const Address& address);

/// Whether a host of the network that this machine is on can have this address: loopback, private or link-local.
bool is_local_network(const Address& address);

/// The group of whoever announces nodes by LAN discovery, as a teller: all of them together. No address has it.
inline constexpr AddressGroup kLanTellers = 1;

/// Autonomous system numbers by prefix: who announces an address is a better group than its first bits.
class AsMap {
 public:
  AsMap() = default;
  /// Lines "PREFIX ASN", the number from 1 to 4294967295 with or without "AS" before it; empty lines and lines that
  /// start with # are passed over. Of two lines of one prefix the later counts. kInvalid names the line and what was
  /// expected there; at most 4 million lines.
  static Result<AsMap> parse(std::string_view text);

  /// By the longest prefix that has the address; else as the free function.
  AddressGroup group_of(const Address& address) const;
  std::size_t size() const { return size_; }

 private:
  struct Entry {
    Address address;
    std::uint32_t number = 0;
  };
  std::map<std::uint8_t, std::vector<Entry>, std::greater<>> by_length_;  ///< each sorted by address
  std::size_t size_ = 0;
};

}  // namespace bulkhead
