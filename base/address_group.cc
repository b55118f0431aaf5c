#include "base/address_group.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>

namespace bulkhead {
namespace {

constexpr std::size_t kMaximumLines = 4'000'000;

// What kind of group the low bits name, so that no two kinds share a number.
constexpr std::uint64_t kKindV4 = std::uint64_t{1} << 62;
constexpr std::uint64_t kKindV6 = std::uint64_t{2} << 62;
constexpr std::uint64_t kKindAs = std::uint64_t{3} << 62;
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

Error bad_line(std::size_t line, const std::string& what) {
  return Error{ErrorCode::kInvalid, "line " + std::to_string(line) + ": " + what};
}

std::string_view next_word(std::string_view& line) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t begin = std::min(line.find_first_not_of(kBlank), line.size());
  const std::size_t end = std::min(line.find_first_of(kBlank, begin), line.size());
  const std::string_view word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

std::uint32_t parse_as_number(std::string_view word) {
  if (word.starts_with("AS")) word.remove_prefix(2);
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size() ? value : 0;
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

Result<AsMap> AsMap::parse(std::string_view text) {
  std::map<Prefix, std::uint32_t> numbers;
  std::size_t line_number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (++line_number > kMaximumLines) return bad_line(line_number, "more than 4000000 lines");
    const std::string_view prefix_text = next_word(line);
    if (prefix_text.empty() || prefix_text.front() == '#') continue;
    const auto prefix = parse_prefix(prefix_text);
    if (!prefix) return bad_line(line_number, prefix.error().text);
    const std::uint32_t as_number = parse_as_number(next_word(line));
    if (as_number == 0 || !next_word(line).empty())
      return bad_line(line_number, "expected \"PREFIX ASN\", as in \"192.0.2.0/24 64496\"");
    numbers[*prefix] = as_number;
  }
  AsMap map;
  for (const auto& [prefix, as_number] : numbers) map.by_length_[prefix.length].push_back({prefix.address, as_number});
  map.size_ = numbers.size();
  return map;
}

AddressGroup AsMap::group_of(const Address& address) const {
  for (const auto& [length, entries] : by_length_) {
    const Prefix prefix = prefix_of(address, length);
    // ::/0 and the like have no IPv4 address, which lies below ::ffff:0:0/96.
    if (is_ipv4(address) != is_ipv4(prefix)) continue;
    const auto found = std::lower_bound(entries.begin(), entries.end(), prefix.address,
                                        [](const Entry& entry, const Address& key) { return entry.address < key; });
    if (found != entries.end() && found->address == prefix.address) return kKindAs | found->number;
  }
  return bulkhead::group_of(address);
}

}  // namespace bulkhead
