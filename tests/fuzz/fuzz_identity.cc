#include <string_view>

#include "tests/fuzz/fuzz.h"
#include "wire/identity.h"

using namespace bulkhead::wire;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  [[maybe_unused]] static const bool kReady = (initialise(), true);
  const auto identity = parse_identity({reinterpret_cast<const char*>(data), size}, "identity.json");
  if (!identity) {
    require(identity.error().text.find('\n') == std::string::npos);
    return 0;
  }
  const auto again = parse_identity(identity_json(*identity), "identity.json");
  require(again && again->peer_id == identity->peer_id && again->stamp == identity->stamp);
  require(same_bytes(again->secret_key.span(), identity->secret_key.span()));
  return 0;
}
