#include "wire/message.h"

#include <stdexcept>
#include <utility>

namespace bulkhead::wire {
namespace {

constexpr std::size_t kMaximumSwapPayload = kMaximumPointEncoding + std::tuple_size_v<PeerId>;

std::size_t maximum_payload(std::uint16_t tag) {
  switch (tag) {
    case kTagDisconnect:
    case kTagBootstrap:
      return 0;
    case kTagAdvertise:
      return kMaximumP2pPayload;
    case kTagSwapRequest:
    case kTagSwapAck:
      return kMaximumSwapPayload;
    default:
      return kMaximumApplicationPayload;
  }
}

Error unknown_tag() {
  return {ErrorCode::kInvalid, "the message's tag is unknown"};
}

Result<P2pMessage> decode_advertise(Reader& reader) {
  Advertise advertise;
  while (reader.remaining() > 0) {
    if (advertise.points.size() == kMaximumAdvertisedPoints) {
      return Error{ErrorCode::kTooLarge, "an advertise has too many points"};
    }
    const auto point = decode_point(reader);
    if (!point) return point.error();
    advertise.points.push_back(*point);
  }
  return P2pMessage(std::move(advertise));
}

template <typename Swap>
Result<P2pMessage> decode_swap(Reader& reader) {
  const auto point = decode_point(reader);
  if (!point) return point.error();
  Swap swap{*point, {}};
  reader.take_into(swap.peer_id);
  if (reader.failed()) return Error{ErrorCode::kTruncated, "a swap message ends too early"};
  return P2pMessage(swap);
}

Result<P2pMessage> decode_payload(std::uint16_t tag, Reader& reader) {
  switch (tag) {
    case kTagDisconnect:
      return P2pMessage(Disconnect{});
    case kTagBootstrap:
      return P2pMessage(Bootstrap{});
    case kTagAdvertise:
      return decode_advertise(reader);
    case kTagSwapRequest:
      return decode_swap<SwapRequest>(reader);
    case kTagSwapAck:
      return decode_swap<SwapAck>(reader);
    default:
      return unknown_tag();
  }
}

struct PayloadEncoder {
  std::vector<std::uint8_t>& out;

  std::uint16_t operator()(const Disconnect&) const { return kTagDisconnect; }
  std::uint16_t operator()(const Bootstrap&) const { return kTagBootstrap; }
  std::uint16_t operator()(const Advertise& advertise) const {
    if (advertise.points.size() > kMaximumAdvertisedPoints) throw std::length_error("too many points to advertise");
    for (const Point& point : advertise.points) append_point(out, point);
    return kTagAdvertise;
  }
  std::uint16_t operator()(const SwapRequest& swap) const {
    return swap_payload(swap.point, swap.peer_id), kTagSwapRequest;
  }
  std::uint16_t operator()(const SwapAck& swap) const { return swap_payload(swap.point, swap.peer_id), kTagSwapAck; }

  void swap_payload(const Point& point, const PeerId& peer_id) const {
    append_point(out, point);
    append(out, peer_id);
  }
};

}  // namespace

Result<std::uint32_t> parse_envelope_size(std::span<const std::uint8_t, kEnvelopeSizeField> bytes) {
  const std::uint32_t size = Reader(bytes).take_u32();
  if (size < 2) return Error{ErrorCode::kInvalid, "the message has no room for its tag"};
  if (size > kMaximumMessage - kEnvelopeSizeField) return Error{ErrorCode::kTooLarge, "the message is above 100 MiB"};
  return size;
}

Result<EnvelopeHeader> parse_envelope_header(std::span<const std::uint8_t, kEnvelopeHeader> bytes) {
  const auto size = parse_envelope_size(bytes.first<kEnvelopeSizeField>());
  if (!size) return size.error();
  const EnvelopeHeader header{*size, Reader(bytes.subspan<kEnvelopeSizeField>()).take_u16()};
  if (!is_p2p_tag(header.tag) && !is_application_tag(header.tag)) return unknown_tag();
  if (header.payload_size() > maximum_payload(header.tag)) {
    return Error{ErrorCode::kTooLarge, "the message is larger than any of its tag"};
  }
  return header;
}

std::array<std::uint8_t, kEnvelopeHeader> encode_envelope_header(std::uint16_t tag, std::size_t payload_size) {
  if (!is_application_tag(tag)) throw std::invalid_argument("not a tag of application messages");
  if (payload_size > kMaximumApplicationPayload) throw std::length_error("the message is above 100 MiB");
  const auto size = static_cast<std::uint32_t>(payload_size + 2);
  const auto byte = [](std::uint32_t value) { return static_cast<std::uint8_t>(value); };
  return {byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size), byte(tag >> 8U), byte(tag)};
}

Result<P2pMessage> decode_p2p_message(std::uint16_t tag, std::span<const std::uint8_t> payload) {
  Reader reader(payload);
  auto message = decode_payload(tag, reader);
  if (message && !reader.finished()) return Error{ErrorCode::kInvalid, "bytes follow the message"};
  return message;
}

std::vector<std::uint8_t> encode(const P2pMessage& message) {
  std::vector<std::uint8_t> payload;
  const std::uint16_t tag = std::visit(PayloadEncoder{payload}, message);
  std::vector<std::uint8_t> out;
  out.reserve(kEnvelopeHeader + payload.size());
  append_u32(out, static_cast<std::uint32_t>(payload.size() + 2));
  append_u16(out, tag);
  append(out, payload);
  return out;
}

}  // namespace bulkhead::wire
