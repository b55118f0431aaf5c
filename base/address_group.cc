#include "base/address_group.h"

#include <algorithm>
#include <vector>

#include "base/prefix.h"

namespace bulkhead {
namespace {

// What kind of group the low bits name, so that no two kinds share a number.
constexpr std::uint64_t kKindV4 = std::uint64_t{1} << 62;
constexpr std::uint64_t kKindV6 = std::uint64_t{2} << 62;
constexpr std::uint64_t kKindAs = std::uint64_t{3} << 62;
constexpr std::uint64_t kKinds = std::uint64_t{3} << 62;
constexpr std::uint64_t kKindSingle = std::uint64_t{1} << 60;

std::uint64_t number(const Address& address, std::size_t first, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = first; i < first + count; ++i) value = value << 8 | address.bytes[i];
  return value;
}

Prefix literal(const char* text) {
  return parse_prefix(text).value();
}

const std::vector<Prefix>& unroutable() {
  static const std::vector<Prefix> prefixes = {
      literal("0.0.0.0/8"),      literal("10.0.0.0/8"),    literal("100.64.0.0/10"),   literal("127.0.0.0/8"),
      literal("169.254.0.0/16"), literal("172.16.0.0/12"), literal("192.0.0.0/24"),    literal("192.0.2.0/24"),
      literal("192.168.0.0/16"), literal("198.18.0.0/15"), literal("198.51.100.0/24"), literal("203.0.113.0/24"),
      literal("224.0.0.0/4"),    literal("240.0.0.0/4"),   literal("::/128"),          literal("::1/128"),
      literal("64:ff9b:1::/48"), literal("100::/64"),      literal("2001:db8::/32"),   literal("fc00::/7"),
      literal("fe80::/10"),      literal("ff00::/8")};
  return prefixes;
}

const std::vector<Prefix>& local_networks() {
  static const std::vector<Prefix> prefixes = {
      literal("10.0.0.0/8"),     literal("127.0.0.0/8"), literal("169.254.0.0/16"), literal("172.16.0.0/12"),
      literal("192.168.0.0/16"), literal("::1/128"),     literal("fc00::/7"),       literal("fe80::/10")};
  return prefixes;
}

}  // namespace

bool is_routable(const Address& address) {
  const auto& prefixes = unroutable();
  return std::none_of(prefixes.begin(), prefixes.end(), [&](const Prefix& p) { return contains(p, address); });
}

bool is_local_network(const Address& address) {
  const auto& prefixes = local_networks();
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const Prefix& p) { return contains(p, address); });
}

AddressGroup group_of(const Address& address) {
  if (!is_routable(address)) {
    // Addresses of 128 bits do not fit; those of IPv4 do, and of the others the two halves are mixed.
    const std::uint64_t low = number(address, 8, 8);
    const std::uint64_t mixed =
        is_ipv4(address) ? number(address, 12, 4) : (number(address, 0, 8) * 0x9e3779b97f4a7c15ULL) ^ low;
    return kKindSingle | (is_ipv4(address) ? 0 : std::uint64_t{1} << 59) | (mixed & ((std::uint64_t{1} << 59) - 1));
  }
  return is_ipv4(address) ? kKindV4 | number(address, 12, 2) : kKindV6 | number(address, 0, 4);
}

AddressGroup group_of_as(std::uint32_t number) {
  return kKindAs | number;
}

std::string group_text(AddressGroup group) {
  if (group == 0) return {};
  const auto byte = [group](unsigned int index) { return static_cast<std::uint8_t>(group >> (8 * index)); };
  Prefix prefix;
  switch (group & kKinds) {
    case kKindAs:
      return "AS" + std::to_string(group & UINT32_MAX);
    case kKindV4:
      prefix.address.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, byte(1), byte(0), 0, 0};
      prefix.length = kMappedBits + 16;
      return to_text(prefix);
    case kKindV6:
      prefix.address.bytes = {byte(3), byte(2), byte(1), byte(0)};
      prefix.length = 32;
      return to_text(prefix);
    default:
      break;
  }
  return "alone";
}

}  // namespace bulkhead
