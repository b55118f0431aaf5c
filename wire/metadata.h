#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace bulkhead::wire {

inline constexpr std::size_t kMetadataSize = 2;

/// What a node says about itself in the first sealed chunk of a connection.
struct ConnectionMetadata {
  bool disable_mempool = false;
  bool private_node = false;
  bool operator==(const ConnectionMetadata&) const = default;
};

/// True is written as 0xFF.
std::array<std::uint8_t, kMetadataSize> encode(const ConnectionMetadata& metadata);
/// Exactly 2 bytes; any non-zero byte is true.
Result<ConnectionMetadata> decode_metadata(std::span<const std::uint8_t> plaintext);

}  // namespace bulkhead::wire
