#include "wire/discovery.h"

#include <algorithm>
#include <string_view>

#include "wire/bytes.h"

namespace bulkhead::wire {
namespace {

constexpr std::string_view kMagic = "DISCOMAGIC";
static_assert(kMagic.size() + std::tuple_size_v<PeerId> + sizeof(Discovery::port) == kDiscoverySize);

}  // namespace

std::array<std::uint8_t, kDiscoverySize> encode(const Discovery& discovery) {
  std::array<std::uint8_t, kDiscoverySize> out{};
  auto at = std::copy(kMagic.begin(), kMagic.end(), out.begin());
  at = std::copy(discovery.peer_id.begin(), discovery.peer_id.end(), at);
  *at++ = static_cast<std::uint8_t>(discovery.port >> 8);
  *at = static_cast<std::uint8_t>(discovery.port);
  return out;
}

Result<Discovery> decode_discovery(std::span<const std::uint8_t> datagram) {
  Reader reader(datagram);
  const auto magic = reader.take(kMagic.size());
  Discovery discovery;
  reader.take_into(discovery.peer_id);
  discovery.port = reader.take_u16();
  if (!reader.finished()) return Error{ErrorCode::kInvalid, "a discovery datagram has exactly 28 bytes"};
  if (!std::equal(magic.begin(), magic.end(), kMagic.begin(), kMagic.end()))
    return Error{ErrorCode::kInvalid, "a discovery datagram begins with DISCOMAGIC"};
  if (discovery.port == 0) return Error{ErrorCode::kInvalid, "a discovery datagram with port 0 leads nowhere"};
  return discovery;
}

}  // namespace bulkhead::wire
