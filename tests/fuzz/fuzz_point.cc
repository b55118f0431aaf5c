#include <string_view>

#include "base/address.h"
#include "tests/fuzz/fuzz.h"
#include "wire/peer_id.h"
#include "wire/point_text.h"

using namespace bulkhead;
using namespace bulkhead::wire;

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto point = parse_wire_point(text)) {
    require(size <= kMaximumPointText);
    require(parse_wire_point(to_text(*point)) == point);
    // What a peer may write, an operator may write too, and means the same.
    const auto option = parse_peer_option(text);
    require(option && option->port == point->port && parse_address(option->host) == point->address);
  }
  if (const auto option = parse_peer_option(text); !option)
    require(option.error().text.find('\n') == std::string::npos);
  if (const auto id = parse_peer_id(text)) require(peer_id_text(*id) == text);
  if (const auto address = parse_address(text)) require(parse_address(to_text(*address)) == address);
  if (const auto point = parse_point(text)) require(parse_point(to_text(*point)) == point);
  return 0;
}
