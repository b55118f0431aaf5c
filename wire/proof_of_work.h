#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "base/ids.h"
#include "base/result.h"

namespace bulkhead::wire {

inline constexpr std::size_t kStampSize = 24;
/// What the proof covers: public key, then stamp, as they stand in a connection message.
inline constexpr std::size_t kKeyAndStampSize = 56;
/// What nodes of the network demand unless configured otherwise.
inline constexpr double kDefaultDifficulty = 26.0;

using Stamp = std::array<std::uint8_t, kStampSize>;

/// The greatest hash, as an unsigned 256-bit number, that passes. Least significant byte first, as the hash is read.
struct Target {
  std::array<std::uint8_t, 32> little_endian{};
  bool operator==(const Target&) const = default;
};

/// `difficulty` in bits, 0 (everything passes) to 256; fractions count. Refuses anything else, NaN included.
Result<Target> target_for(double difficulty);

/// True when BLAKE2b-256 of the 56 bytes, read as a little-endian number, is at most the target. One hash of fixed
/// length: safe on hostile bytes, allocates nothing.
bool check_proof_of_work(std::span<const std::uint8_t, kKeyAndStampSize> key_and_stamp, const Target& target);
bool check_proof_of_work(const PublicKey& key, const Stamp& stamp, const Target& target);

/// Called from the calling thread about four times a second with the stamps tried so far, and once when it is over;
/// returning false cancels the search.
using SearchProgress = std::function<bool(std::uint64_t attempts)>;

/// Finds a stamp that passes. Blocks for as long as that takes (a mean of 2^difficulty hashes). Uses `threads` threads,
/// or one for each core if 0; each starts at a random stamp and counts up. `progress` may be empty.
/// Fails with kRefused when cancelled, kSystem when no thread could be started.
Result<Stamp> search_proof_of_work(const PublicKey& key, const Target& target, unsigned threads,
                                   const SearchProgress& progress = {});

}  // namespace bulkhead::wire
