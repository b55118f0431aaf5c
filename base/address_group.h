#pragma once

#include <cstdint>
#include <string>

#include "base/ids.h"

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

/// The group of all addresses of an autonomous system (base/as_map.h).
AddressGroup group_of_as(std::uint32_t number);

/// For people: "AS64496", "8.8.0.0/16", "2a00:1450::/32"; "alone" for an address that is a group by itself; empty for
/// none.
std::string group_text(AddressGroup group);

}  // namespace bulkhead
