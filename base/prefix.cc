#include "base/prefix.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <random>

namespace bulkhead {
namespace {

// Digits of pi: odd multipliers without structure.
constexpr std::uint64_t kMultiplier0 = 0x243f6a8885a308d3;
constexpr std::uint64_t kMultiplier1 = 0x13198a2e03707345;

/// The 128-bit product folded into 64 bits.
std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
}

struct ProcessKey {
  std::uint64_t key0;
  std::uint64_t key1;
};

const ProcessKey& process_key() {
  static const ProcessKey key = [] {
    std::random_device random;
    const auto word = [&random] { return (std::uint64_t{random()} << 32U) | random(); };
    return ProcessKey{word(), word()};
  }();
  return key;
}

Error expected_prefix() {
  return Error{ErrorCode::kInvalid,
               "not an address or a prefix; write it as 192.0.2.7, 10.0.0.0/8, 2001:db8::1 or 2001:db8::/48"};
}

Result<Prefix> parse_with_length(std::string_view address_text, std::string_view length_text) {
  const auto address = parse_address(address_text);
  if (!address) return expected_prefix();
  // ::ffff:10.0.0.0/104 counts as it is written.
  const bool short_form = is_ipv4(*address) && address_text.find(':') == std::string_view::npos;
  const unsigned int longest = short_form ? kAddressBits - kMappedBits : kAddressBits;
  unsigned int length = 0;
  const auto [last, error] = std::from_chars(length_text.data(), length_text.data() + length_text.size(), length);
  if (error != std::errc{} || last != length_text.data() + length_text.size() || length > longest) {
    return Error{ErrorCode::kInvalid, std::string("the length of an ") + (short_form ? "IPv4" : "IPv6") +
                                          " prefix is a number from 0 to " + std::to_string(longest)};
  }
  const auto bits = static_cast<std::uint8_t>(short_form ? length + kMappedBits : length);
  const Prefix prefix = prefix_of(*address, bits);
  if (prefix.address != *address) {
    const std::string slash = "/" + std::to_string(length);
    return Error{ErrorCode::kInvalid,
                 to_text(*address) + slash + " has bits beyond " + slash + "; did you mean " + to_text(prefix) + "?"};
  }
  return prefix;
}

}  // namespace

Address masked(const Address& address, std::uint8_t length) {
  Address result;
  const std::size_t whole = length / 8U;
  std::memcpy(result.bytes.data(), address.bytes.data(), std::min<std::size_t>(whole, result.bytes.size()));
  const unsigned int rest = length % 8U;
  if (rest != 0 && whole < result.bytes.size()) {
    result.bytes[whole] = static_cast<std::uint8_t>(address.bytes[whole] & (0xff00U >> rest));
  }
  return result;
}

Prefix prefix_of(const Address& address, std::uint8_t length) {
  return Prefix{masked(address, length), length};
}

bool is_ipv4(const Prefix& prefix) {
  return prefix.length >= kMappedBits && is_ipv4(prefix.address);
}

bool is_single(const Prefix& prefix) {
  return prefix.length == kAddressBits;
}

bool is_canonical(const Prefix& prefix) {
  return prefix.length <= kAddressBits && masked(prefix.address, prefix.length) == prefix.address;
}

bool contains(const Prefix& prefix, const Address& address) {
  return is_ipv4(prefix) == is_ipv4(address) && masked(address, prefix.length) == prefix.address;
}

bool contains(const Prefix& outer, const Prefix& inner) {
  return outer.length <= inner.length && is_ipv4(outer) == is_ipv4(inner) &&
         masked(inner.address, outer.length) == outer.address;
}

std::string to_text(const Prefix& prefix) {
  if (is_single(prefix)) return to_text(prefix.address);
  const int shown = is_ipv4(prefix) ? prefix.length - kMappedBits : prefix.length;
  return to_text(prefix.address) + "/" + std::to_string(shown);
}

Result<Prefix> parse_prefix(std::string_view text) {
  if (const auto slash = text.find('/'); slash != std::string_view::npos) {
    return parse_with_length(text.substr(0, slash), text.substr(slash + 1));
  }
  const auto point = parse_point(text, std::uint16_t{0});
  if (!point) return expected_prefix();
  return Prefix{point->address, kAddressBits};
}

PrefixHash::PrefixHash() : PrefixHash(process_key().key0, process_key().key1) {}

std::size_t PrefixHash::operator()(const Prefix& prefix) const {
  return keyed_hash(prefix.address.bytes, prefix.length, key0_, key1_);
}

std::uint64_t keyed_hash(std::uint64_t high, std::uint64_t low, std::uint64_t number, std::uint64_t key0,
                         std::uint64_t key1) {
  const std::uint64_t mixed = fold(high ^ key0 ^ kMultiplier0, low ^ key1 ^ kMultiplier1);
  return fold(mixed ^ number, key1 ^ kMultiplier0);
}

std::uint64_t keyed_hash(const std::array<std::uint8_t, 16>& bytes, std::uint64_t number, std::uint64_t key0,
                         std::uint64_t key1) {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  std::memcpy(&high, bytes.data(), sizeof high);
  std::memcpy(&low, bytes.data() + sizeof high, sizeof low);
  return keyed_hash(high, low, number, key0, key1);
}

}  // namespace bulkhead
