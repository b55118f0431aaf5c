#include "tests/fuzz/fuzz.h"
#include "wire/message.h"

using namespace bulkhead::wire;

// Reads the input as a receiver does: message after message from a stream.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::span<const std::uint8_t> rest(data, size);
  while (rest.size() >= kEnvelopeHeader) {
    const auto header = parse_envelope_header(rest.first<kEnvelopeHeader>());
    if (!header) return 0;
    require(header->whole_size() <= kMaximumMessage);
    require(is_p2p_tag(header->tag) != is_application_tag(header->tag));
    if (is_p2p_tag(header->tag)) require(header->payload_size() <= kMaximumP2pPayload);
    if (header->whole_size() > rest.size()) return 0;
    const auto payload = rest.subspan(kEnvelopeHeader, header->payload_size());
    if (const auto message = decode_p2p_message(header->tag, payload)) {
      const auto encoded = encode(*message);
      const auto again = decode_p2p_message(header->tag, std::span(encoded).subspan(kEnvelopeHeader));
      require(again && *again == *message);
    }
    rest = rest.subspan(header->whole_size());
  }
  return 0;
}
