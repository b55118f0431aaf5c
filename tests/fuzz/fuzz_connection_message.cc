#include "tests/fuzz/fuzz.h"
#include "wire/connection_message.h"

using namespace bulkhead::wire;

// There is one encoding of each connection message and of each version: what decodes is what encodes.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> input(data, size);
  const auto whole = connection_message_size(input);
  if (whole && *whole) require(**whole >= 92 && **whole <= kMaximumConnectionMessage);
  if (const auto message = decode_connection_message(input)) {
    require(whole && *whole && **whole == size);
    require(same_bytes(encode(*message), input));
  }
  if (const auto version = decode_version(input)) require(same_bytes(encode(*version), input));
  return 0;
}
