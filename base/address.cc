#include "base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace bulkhead {
namespace {
constexpr std::array<std::uint8_t, 12> kMappedPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
}

bool is_ipv4(const Address& address) {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin());
}

std::string to_text(const Address& address) {
  char text[INET6_ADDRSTRLEN] = {};
  if (is_ipv4(address)) {
    ::inet_ntop(AF_INET, address.bytes.data() + 12, text, sizeof text);
  } else {
    ::inet_ntop(AF_INET6, address.bytes.data(), text, sizeof text);
  }
  return text;
}

std::string to_text(const Point& point) {
  const std::string address = to_text(point.address);
  const std::string port = std::to_string(point.port);
  return is_ipv4(point.address) ? address + ":" + port : "[" + address + "]:" + port;
}

std::optional<Address> parse_address(std::string_view text) {
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
    if (text.find(':') == std::string_view::npos) return std::nullopt;
  }
  if (text.size() >= INET6_ADDRSTRLEN) return std::nullopt;
  char buffer[INET6_ADDRSTRLEN + 1] = {};
  std::memcpy(buffer, text.data(), text.size());
  if (std::memchr(buffer, 0, text.size()) != nullptr) return std::nullopt;
  Address address;
  in_addr v4{};
  if (::inet_pton(AF_INET, buffer, &v4) == 1) {
    std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), address.bytes.begin());
    std::memcpy(address.bytes.data() + 12, &v4, 4);
    return address;
  }
  in6_addr v6{};
  if (::inet_pton(AF_INET6, buffer, &v6) == 1) {
    std::memcpy(address.bytes.data(), &v6, 16);
    return address;
  }
  return std::nullopt;
}

std::optional<Point> parse_point(std::string_view text, std::optional<std::uint16_t> default_port) {
  std::string_view host = text;
  std::optional<std::uint16_t> port = default_port;
  const bool bracketed = !text.empty() && text.front() == '[';
  const auto end = bracketed ? text.find(']') : std::string_view::npos;
  if (bracketed && end == std::string_view::npos) return std::nullopt;
  const auto colon = bracketed ? (end + 1 < text.size() ? end + 1 : std::string_view::npos) : text.find(':');
  const bool bare_v6 =
      !bracketed && colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos;
  if (colon != std::string_view::npos && !bare_v6) {
    if (text[colon] != ':') return std::nullopt;
    host = text.substr(0, colon);
    const std::string_view digits = text.substr(colon + 1);
    std::uint16_t value = 0;
    const auto [last, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc{} || last != digits.data() + digits.size()) return std::nullopt;
    port = value;
  }
  const auto address = parse_address(host);
  if (!address || !port) return std::nullopt;
  return Point{*address, *port};
}

bool is_loopback(const Address& address) {
  if (is_ipv4(address)) return address.bytes[12] == 127;
  Address one;
  one.bytes[15] = 1;
  return address == one;
}

bool is_unspecified(const Address& address) {
  const bool v4_any =
      is_ipv4(address) && std::all_of(address.bytes.begin() + 12, address.bytes.end(), [](auto b) { return b == 0; });
  return v4_any || address == Address{};
}

Point from_sockaddr(const sockaddr_storage& storage) {
  Point point;
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &storage, sizeof v6);
    std::memcpy(point.address.bytes.data(), &v6.sin6_addr, 16);
    point.port = ntohs(v6.sin6_port);
  } else if (storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    std::copy(kMappedPrefix.begin(), kMappedPrefix.end(), point.address.bytes.begin());
    std::memcpy(point.address.bytes.data() + 12, &v4.sin_addr, 4);
    point.port = ntohs(v4.sin_port);
  }
  return point;
}

socklen_t to_sockaddr(const Point& point, sockaddr_storage& storage) {
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(point.port);
  std::memcpy(&v6.sin6_addr, point.address.bytes.data(), 16);
  storage = {};
  std::memcpy(&storage, &v6, sizeof v6);
  return sizeof v6;
}

}  // namespace bulkhead
