#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"

namespace bulkhead {

bool is_ipv4(const Address& address);

/// "1.2.3.4" for an IPv4-mapped address, else RFC 5952 text without brackets.
std::string to_text(const Address& address);
/// "1.2.3.4:9732" or "[2001:db8::1]:9732".
std::string to_text(const Point& point);

/// Parses a literal IPv4 or IPv6 address, the latter with or without brackets. No names, no zone.
std::optional<Address> parse_address(std::string_view text);
/// Parses "ADDR:PORT" or "[ADDR]:PORT"; without a port `default_port` is taken. Literal addresses only.
std::optional<Point> parse_point(std::string_view text, std::optional<std::uint16_t> default_port = std::nullopt);

/// 127.0.0.0/8 or ::1.
bool is_loopback(const Address& address);
bool is_unspecified(const Address& address);

Point from_sockaddr(const sockaddr_storage& storage);
/// Always an AF_INET6 address (IPv4 mapped), as all sockets of the project are dual stack.
socklen_t to_sockaddr(const Point& point, sockaddr_storage& storage);

}  // namespace bulkhead
