#include <vector>

#include "tests/fuzz/fuzz.h"
#include "wire/session_crypto.h"

using namespace bulkhead::wire;

// The input is opened as a chunk, and sealed as a plaintext: what was sealed opens, what was not does not.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  [[maybe_unused]] static const bool kReady = (initialise(), true);
  constexpr std::array<std::uint8_t, kChannelKeySize> kKey = {1, 2, 3, 4};
  const std::span<const std::uint8_t> input(data, size);
  if (size >= kChunkHeader) {
    const auto body = chunk_body_size(input.first<kChunkHeader>());
    if (body && *body == size - kChunkHeader) {
      std::vector<std::uint8_t> out(*body - kTag);
      Channel channel(kKey, Nonce{9});
      require(!channel.open(input.subspan(kChunkHeader), out.data()));
      require(channel.next_nonce() != Nonce{9});
    }
  }
  std::vector<std::uint8_t> chunk(kChunkOverhead + size);
  Channel sealing(kKey, Nonce{});
  sealing.seal(data, size, chunk.data());
  std::vector<std::uint8_t> opened(size);
  Channel opening(kKey, Nonce{});
  require(opening.open(std::span(chunk).subspan(kChunkHeader), opened.data()));
  require(same_bytes(opened, input));
  return 0;
}
