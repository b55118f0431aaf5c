#include "tests/fuzz/fuzz.h"
#include "wire/ack.h"
#include "wire/metadata.h"

using namespace bulkhead::wire;

// Points have more than one text, so a Nack need not encode to its input; but what was decoded reads back.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> input(data, size);
  if (const auto message = decode_ack(input)) {
    require(size <= kMaximumAckPlaintext);
    const auto* nack = std::get_if<Nack>(&*message);
    if (nack == nullptr || nack->points.size() <= kNackPointsSent) {
      const auto again = decode_ack(encode(*message));
      require(again && *again == *message);
    }
  }
  if (const auto metadata = decode_metadata(input)) {
    const auto again = decode_metadata(encode(*metadata));
    require(again && *again == *metadata);
  }
  return 0;
}
