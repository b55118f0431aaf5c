#include "tests/fuzz/fuzz.h"
#include "wire/discovery.h"

using namespace bulkhead::wire;

// The encoding is unique: what was decoded encodes to its input.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> input(data, size);
  if (const auto discovery = decode_discovery(input)) {
    require(size == kDiscoverySize && discovery->port != 0);
    require(same_bytes(encode(*discovery), input));
  }
  return 0;
}
