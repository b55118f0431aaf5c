#include "wire/ack.h"

#include <algorithm>
#include <utility>

#include "wire/version.h"

namespace bulkhead::wire {
namespace {

constexpr std::uint8_t kTagAck = 0x00;
constexpr std::uint8_t kTagNack = 0x01;
constexpr std::uint8_t kTagNackV0 = 0xFF;

struct Encoder {
  std::vector<std::uint8_t> operator()(const Ack&) const { return {kTagAck}; }
  std::vector<std::uint8_t> operator()(const NackV0&) const { return {kTagNackV0}; }
  std::vector<std::uint8_t> operator()(const Nack& nack) const {
    std::vector<std::uint8_t> list;
    for (std::size_t i = 0; i < std::min(nack.points.size(), kNackPointsSent); ++i) append_point(list, nack.points[i]);
    std::vector<std::uint8_t> out = {kTagNack};
    append_u16(out, static_cast<std::uint16_t>(nack.motive));
    append_u32(out, static_cast<std::uint32_t>(list.size()));
    append(out, list);
    return out;
  }
};

Result<AckMessage> decode_nack(Reader& reader) {
  Nack nack;
  nack.motive = static_cast<Motive>(static_cast<std::int16_t>(reader.take_u16()));
  // The list is prefixed by its size in bytes, not by a count.
  const std::uint32_t size = reader.take_u32();
  if (reader.failed()) return Error{ErrorCode::kTruncated, "the nack ends too early"};
  if (size > reader.remaining()) return Error{ErrorCode::kTruncated, "the nack's list of points ends too early"};
  if (size < reader.remaining()) return Error{ErrorCode::kInvalid, "bytes follow the nack"};
  while (reader.remaining() > 0) {
    if (nack.points.size() == kMaximumNackPoints) return Error{ErrorCode::kTooLarge, "the nack has too many points"};
    const auto point = decode_point(reader);
    if (!point) return point.error();
    nack.points.push_back(*point);
  }
  return AckMessage(std::move(nack));
}

}  // namespace

AckMessage nack_for(std::uint16_t announced_p2p_version, Motive motive, std::vector<Point> points) {
  if (announced_p2p_version < kFirstP2pVersionWithMotives) return NackV0{};
  return Nack{motive, std::move(points)};
}

std::vector<std::uint8_t> encode(const AckMessage& message) {
  return std::visit(Encoder{}, message);
}

Result<AckMessage> decode_ack(std::span<const std::uint8_t> plaintext) {
  Reader reader(plaintext);
  const std::uint8_t tag = reader.take_u8();
  if (reader.failed()) return Error{ErrorCode::kTruncated, "the ack is empty"};
  if (tag == kTagNack) return decode_nack(reader);
  if (tag != kTagAck && tag != kTagNackV0) return Error{ErrorCode::kInvalid, "the ack's tag is unknown"};
  if (!reader.finished()) return Error{ErrorCode::kInvalid, "bytes follow the ack"};
  if (tag == kTagAck) return AckMessage(Ack{});
  return AckMessage(NackV0{});
}

}  // namespace bulkhead::wire
