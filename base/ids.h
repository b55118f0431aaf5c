#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>

namespace bulkhead {

/// BLAKE2b-128 of a public key; its text form (id...) is made in wire/identity.
using PeerId = std::array<std::uint8_t, 16>;
using PublicKey = std::array<std::uint8_t, 32>;

/// An IPv6 address in network order; IPv4 is held as ::ffff:a.b.c.d.
struct Address {
  std::array<std::uint8_t, 16> bytes{};
  auto operator<=>(const Address&) const = default;
};

/// Address and TCP port. Port 0 means that none is known.
struct Point {
  Address address;
  std::uint16_t port = 0;
  auto operator<=>(const Point&) const = default;
};

/// Index of a connection's rows, pages and windows in the shared tables: 0 to the node's slot count less one.
using SlotId = std::uint32_t;
/// Counts the uses of a slot from 1; 0 means that it was never used.
using Generation = std::uint64_t;

/// Names one connection of this node for ever. A message with a stale generation is ignored.
struct SlotRef {
  SlotId slot = 0;
  Generation generation = 0;
  auto operator<=>(const SlotRef&) const = default;
};

/// The processes of a node. Values are stable: they stand in shared tables.
enum class Role : std::uint8_t {
  kSupervisor = 0,
  kController = 1,
  kKeyholder = 2,
  kAcceptor = 3,
  kMaintainer = 4,
  kNursery = 5,
  kGateway = 6,
  kConn = 7,
};
inline constexpr std::size_t kServiceRoles = 7;  ///< roles with one row each in `processes` (all but kConn)

const char* role_name(Role role);

}  // namespace bulkhead
