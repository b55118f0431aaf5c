#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/point_text.h"

namespace bulkhead::wire {

/// A message on the wire: 4 bytes of size (of what follows), 2 bytes of tag, payload.
inline constexpr std::size_t kEnvelopeSizeField = 4;
inline constexpr std::size_t kEnvelopeHeader = 6;
/// Whole message, the 4 bytes of size included.
inline constexpr std::size_t kMaximumMessage = std::size_t{100} * 1024 * 1024;
inline constexpr std::size_t kMaximumApplicationPayload = kMaximumMessage - kEnvelopeHeader;

inline constexpr std::uint16_t kTagDisconnect = 1;
inline constexpr std::uint16_t kTagBootstrap = 2;
inline constexpr std::uint16_t kTagAdvertise = 3;
inline constexpr std::uint16_t kTagSwapRequest = 4;
inline constexpr std::uint16_t kTagSwapAck = 5;
inline constexpr std::uint16_t kFirstApplicationTag = 0x10;

inline constexpr std::size_t kMaximumAdvertisedPoints = 100;
/// Largest payload of a message of the P2P layer: an Advertise of 100 points of the longest text.
inline constexpr std::size_t kMaximumP2pPayload = kMaximumAdvertisedPoints * kMaximumPointEncoding;

constexpr bool is_p2p_tag(std::uint16_t tag) {
  return tag >= kTagDisconnect && tag <= kTagSwapAck;
}
constexpr bool is_application_tag(std::uint16_t tag) {
  return tag >= kFirstApplicationTag;
}

struct EnvelopeHeader {
  std::uint32_t size = 0;  ///< of tag and payload: 2 to kMaximumMessage - 4
  std::uint16_t tag = 0;

  std::size_t payload_size() const { return size - 2; }
  std::size_t whole_size() const { return std::size_t{size} + kEnvelopeSizeField; }
  bool operator==(const EnvelopeHeader&) const = default;
};

/// For when only the 4 bytes of size are there: fails as soon as no message can have it.
Result<std::uint32_t> parse_envelope_size(std::span<const std::uint8_t, kEnvelopeSizeField> bytes);
/// Fails for a size out of range, for a tag that is neither of the P2P layer nor an application's, and for a payload
/// larger than any message of its P2P tag has: after success a P2P payload has at most kMaximumP2pPayload bytes, so a
/// receiver can bound its buffer before it collects one. An application's payload is bounded by
/// kMaximumApplicationPayload only.
Result<EnvelopeHeader> parse_envelope_header(std::span<const std::uint8_t, kEnvelopeHeader> bytes);
/// For an application message. Throws std::length_error above kMaximumApplicationPayload, std::invalid_argument for a
/// tag below kFirstApplicationTag.
std::array<std::uint8_t, kEnvelopeHeader> encode_envelope_header(std::uint16_t tag, std::size_t payload_size);

struct Disconnect {
  bool operator==(const Disconnect&) const = default;
};
struct Bootstrap {
  bool operator==(const Bootstrap&) const = default;
};
struct Advertise {
  std::vector<Point> points;  ///< at most kMaximumAdvertisedPoints
  bool operator==(const Advertise&) const = default;
};
struct SwapRequest {
  Point point;
  PeerId peer_id{};
  bool operator==(const SwapRequest&) const = default;
};
struct SwapAck {
  Point point;
  PeerId peer_id{};
  bool operator==(const SwapAck&) const = default;
};
using P2pMessage = std::variant<Disconnect, Bootstrap, Advertise, SwapRequest, SwapAck>;

/// Strict: the payload is used up exactly. Fails for a tag that is not of the P2P layer.
Result<P2pMessage> decode_p2p_message(std::uint16_t tag, std::span<const std::uint8_t> payload);

/// The whole message, envelope included. Throws std::length_error for an Advertise of more points than can be decoded.
std::vector<std::uint8_t> encode(const P2pMessage& message);

}  // namespace bulkhead::wire
