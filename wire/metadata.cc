#include "wire/metadata.h"

namespace bulkhead::wire {

std::array<std::uint8_t, kMetadataSize> encode(const ConnectionMetadata& metadata) {
  const auto byte = [](bool value) { return static_cast<std::uint8_t>(value ? 0xFF : 0x00); };
  return {byte(metadata.disable_mempool), byte(metadata.private_node)};
}

Result<ConnectionMetadata> decode_metadata(std::span<const std::uint8_t> plaintext) {
  if (plaintext.size() != kMetadataSize) {
    return Error{ErrorCode::kInvalid, "connection metadata must have exactly 2 bytes"};
  }
  return ConnectionMetadata{plaintext[0] != 0, plaintext[1] != 0};
}

}  // namespace bulkhead::wire
