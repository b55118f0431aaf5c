#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/bytes.h"

namespace bulkhead::wire {

/// Longest text of a point on the wire, and with its 4 bytes of length.
inline constexpr std::size_t kMaximumPointText = 47;
inline constexpr std::size_t kMaximumPointEncoding = 51;
/// Shortest one, "[::]:0" or "1.1.1.1:0" with its length: what bounds a count by a size.
inline constexpr std::size_t kMinimumPointEncoding = 10;

/// `ADDR:PORT[#PEERID]` as peers write it: ADDR a dotted quad, or an IPv6 or IPv4 address in brackets, PORT decimal
/// digits of a value up to 65535. A valid peer id is dropped. Host names, zones and everything else are refused.
std::optional<Point> parse_wire_point(std::string_view text);

/// Takes one point off `reader`. An error leaves the reader where it happened: the message is to be refused as a whole.
/// The length is checked against kMaximumPointText before anything else is looked at.
Result<Point> decode_point(Reader& reader);
void append_point(std::vector<std::uint8_t>& out, const Point& point);

/// A peer as people and configurations name it.
struct PeerOption {
  std::string host;  ///< a literal address, without brackets, or a name to resolve
  std::optional<std::uint16_t> port;
  std::optional<PeerId> peer_id;
  bool operator==(const PeerOption&) const = default;
};

/// `HOST[:PORT][#PEERID]`. HOST is a dotted quad, `[IPv6]`, a name (letters, digits, `.`, `-`), or `_` or nothing,
/// which both give an empty host (the caller decides what that means). An IPv6 address must stand in brackets. The
/// error names `text` and what is wrong with it.
Result<PeerOption> parse_peer_option(std::string_view text);

}  // namespace bulkhead::wire
