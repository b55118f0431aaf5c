#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "base/result.h"

namespace bulkhead::wire {

inline constexpr std::size_t kDiscoverySize = 28;

/// The datagram by which a node announces itself on its local network (UDP over IPv4): "DISCOMAGIC", peer id, port.
/// Its address is where the datagram came from. Nothing of it is proved.
struct Discovery {
  PeerId peer_id{};
  std::uint16_t port = 0;  ///< TCP, where it listens; unsigned here, though Octez cannot send or read more than 32767
  bool operator==(const Discovery&) const = default;
};

std::array<std::uint8_t, kDiscoverySize> encode(const Discovery& discovery);
/// Exactly 28 bytes with the magic, and a port that is not 0.
Result<Discovery> decode_discovery(std::span<const std::uint8_t> datagram);

}  // namespace bulkhead::wire
