#include "wire/connection_message.h"

#include <utility>

#include "wire/bytes.h"

namespace bulkhead::wire {

std::vector<std::uint8_t> encode(const ConnectionMessage& message) {
  const std::vector<std::uint8_t> version = encode(message.version());
  std::vector<std::uint8_t> out;
  out.reserve(kNonceOffset + kNonceSize + version.size());
  append_u16(out, static_cast<std::uint16_t>(kNonceOffset + kNonceSize + version.size() - kConnectionMessageHeader));
  append_u16(out, message.port);
  append(out, message.public_key);
  append(out, message.stamp);
  append(out, message.nonce);
  append(out, version);
  return out;
}

Result<ConnectionMessage> decode_connection_message(std::span<const std::uint8_t> whole) {
  const auto size = connection_message_size(whole);
  if (!size) return size.error();
  if (!*size || whole.size() < **size) return Error{ErrorCode::kTruncated, "the connection message ends too early"};
  if (whole.size() > **size) return Error{ErrorCode::kInvalid, "bytes follow the connection message"};
  Reader reader(whole.subspan(kConnectionMessageHeader));
  ConnectionMessage message;
  message.port = reader.take_u16();
  reader.take_into(message.public_key);
  reader.take_into(message.stamp);
  reader.take_into(message.nonce);
  auto version = decode_version(reader.take(reader.remaining()));
  if (!version) return Error{version.error().code, "connection message: " + version.error().text};
  message.chain_name = std::move(version->chain_name);
  message.distributed_db_version = version->distributed_db_version;
  message.p2p_version = version->p2p_version;
  return message;
}

Result<std::optional<std::size_t>> connection_message_size(std::span<const std::uint8_t> received) {
  if (received.size() < kConnectionMessageHeader) return std::optional<std::size_t>();
  const std::size_t body = Reader(received).take_u16();
  if (body < kMinimumBody) return Error{ErrorCode::kInvalid, "the length of the connection message is too small"};
  if (body > kMaximumBody) return Error{ErrorCode::kTooLarge, "the length of the connection message is too large"};
  return std::optional(body + kConnectionMessageHeader);
}

}  // namespace bulkhead::wire
