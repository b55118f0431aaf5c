#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bulkhead::wire {

inline constexpr std::size_t kNonceSize = 24;

/// A nonce as it stands on the wire and as the cipher takes it.
using Nonce = std::array<std::uint8_t, kNonceSize>;

/// Adds 1 to the 24 bytes as one big-endian number; 2^192 - 1 becomes 0.
void increment(Nonce& nonce) noexcept;

}  // namespace bulkhead::wire
