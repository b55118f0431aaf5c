#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/motive.h"
#include "wire/point_text.h"

namespace bulkhead::wire {

/// More points than this in a Nack cannot be decoded.
inline constexpr std::size_t kMaximumNackPoints = 100;
/// What is sent at most.
inline constexpr std::size_t kNackPointsSent = 50;
/// Largest plaintext of an Ack or Nack that can be decoded.
inline constexpr std::size_t kMaximumAckPlaintext = 1 + 2 + 4 + kMaximumNackPoints * kMaximumPointEncoding;

struct Ack {
  bool operator==(const Ack&) const = default;
};
/// A refusal in the form that peers of p2p version 0 understand.
struct NackV0 {
  bool operator==(const NackV0&) const = default;
};
struct Nack {
  Motive motive = Motive::kNoMotive;
  std::vector<Point> points;  ///< other nodes to try
  bool operator==(const Nack&) const = default;
};
using AckMessage = std::variant<Ack, NackV0, Nack>;

/// The refusal that a peer understands: by the p2p version that it announced, not the one chosen.
AckMessage nack_for(std::uint16_t announced_p2p_version, Motive motive, std::vector<Point> points);

/// Plaintext of the one chunk that carries it. Of a Nack's points the first kNackPointsSent are written.
std::vector<std::uint8_t> encode(const AckMessage& message);
/// Strict: `plaintext` is one chunk's, used up exactly.
Result<AckMessage> decode_ack(std::span<const std::uint8_t> plaintext);

}  // namespace bulkhead::wire
