#include "wire/point_text.h"

#include <algorithm>

#include "base/address.h"
#include "wire/peer_id.h"

namespace bulkhead::wire {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_name_character(char c) {
  return is_letter(c) || is_digit(c) || c == '.' || c == '-';
}
bool is_address_character(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.';
}

/// The parts of `ADDR[:PORT][#PEERID]` as they stand in the text.
struct Parts {
  std::string_view host;  ///< without brackets
  bool bracketed = false;
  std::optional<std::string_view> port;
  std::optional<std::string_view> peer_id;
};

/// Splits by the grammar's characters alone; what they mean is for the callers.
std::optional<Parts> split(std::string_view text) {
  Parts parts;
  if (const auto hash = text.find('#'); hash != std::string_view::npos) {
    parts.peer_id = text.substr(hash + 1);
    text = text.substr(0, hash);
  }
  if (!text.empty() && text.front() == '[') {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    parts.bracketed = true;
    parts.host = text.substr(1, end - 1);
    if (parts.host.empty() || !std::all_of(parts.host.begin(), parts.host.end(), is_address_character)) {
      return std::nullopt;
    }
    text = text.substr(end + 1);
    if (!text.empty() && text.front() != ':') return std::nullopt;
  } else {
    parts.host = text.substr(0, text.find(':'));
    if (parts.host != "_" && !std::all_of(parts.host.begin(), parts.host.end(), is_name_character)) {
      return std::nullopt;
    }
    text = text.substr(parts.host.size());
  }
  if (!text.empty()) parts.port = text.substr(1);
  if (parts.port && (parts.port->empty() || !std::all_of(parts.port->begin(), parts.port->end(), is_digit))) {
    return std::nullopt;
  }
  return parts;
}

/// Digits only, of any number: leading zeros are allowed.
std::optional<std::uint16_t> port_of(std::string_view digits) {
  std::uint32_t value = 0;
  for (const char digit : digits) {
    value = value * 10 + static_cast<std::uint32_t>(digit - '0');
    if (value > 0xFFFF) return std::nullopt;
  }
  return static_cast<std::uint16_t>(value);
}

Error option_error(std::string_view text, const char* what) {
  // The text comes from an operator and may be anything; an error stays one line.
  std::string shown(text.substr(0, 100));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c == 0x7F; }, '?');
  return {ErrorCode::kInvalid,
          "'" + shown + "': " + what + "; write HOST[:PORT][#PEERID], an IPv6 address in brackets"};
}

}  // namespace

std::optional<Point> parse_wire_point(std::string_view text) {
  if (text.size() > kMaximumPointText) return std::nullopt;
  const auto parts = split(text);
  if (!parts || !parts->port) return std::nullopt;
  const auto port = port_of(*parts->port);
  const auto address = parse_address(parts->host);
  if (!port || !address) return std::nullopt;
  if (parts->peer_id && !parse_peer_id(*parts->peer_id)) return std::nullopt;
  return Point{*address, *port};
}

Result<Point> decode_point(Reader& reader) {
  const std::uint32_t size = reader.take_u32();
  if (reader.failed()) return Error{ErrorCode::kTruncated, "a point ends too early"};
  if (size > kMaximumPointText) return Error{ErrorCode::kTooLarge, "a point is longer than 47 characters"};
  const auto bytes = reader.take(size);
  if (reader.failed()) return Error{ErrorCode::kTruncated, "a point ends too early"};
  const auto point = parse_wire_point({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!point) return Error{ErrorCode::kInvalid, "a point is not an address with a port"};
  return *point;
}

void append_point(std::vector<std::uint8_t>& out, const Point& point) {
  const std::string text = to_text(point);
  append_u32(out, static_cast<std::uint32_t>(text.size()));
  append(out, as_byte_span(text));
}

Result<PeerOption> parse_peer_option(std::string_view text) {
  const auto parts = split(text);
  if (!parts) return option_error(text, "not a peer's address");
  PeerOption option;
  if (parts->host != "_") option.host = parts->host;
  const bool numeric =
      std::all_of(option.host.begin(), option.host.end(), [](char c) { return is_digit(c) || c == '.'; });
  // What looks like an address must be one: a resolver would only fail later, or read it in a way of its own.
  if (parts->bracketed || (numeric && !option.host.empty())) {
    if (!parse_address(option.host)) return option_error(text, "not an IP address");
  }
  if (parts->port) {
    option.port = port_of(*parts->port);
    if (!option.port) return option_error(text, "the port is not in the range 0 to 65535");
  }
  if (parts->peer_id) {
    option.peer_id = parse_peer_id(*parts->peer_id);
    if (!option.peer_id) return option_error(text, "the peer id is not valid");
  }
  return option;
}

}  // namespace bulkhead::wire
