#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/address.h"
#include "base/ids.h"
#include "base/result.h"

namespace bulkhead {

inline constexpr std::uint8_t kAddressBits = 128;
/// Bits in front of an IPv4 address as it is held (::ffff:0:0/96).
inline constexpr std::uint8_t kMappedBits = 96;

/// The addresses that share their first `length` bits (0 to 128) with `address`, whose other bits are 0. An IPv4 prefix
/// /n is held as ::ffff:a.b.c.d with the length 96 + n.
///
/// The two families are apart: an IPv6 prefix, ::/0 too, contains no IPv4 address and no IPv4 prefix.
/// The order is by address, then by length, so that a prefix stands directly before all that it contains.
struct Prefix {
  Address address;
  std::uint8_t length = kAddressBits;
  auto operator<=>(const Prefix&) const = default;
};

/// `address` with the bits from `length` (0 to 128) on cleared.
Address masked(const Address& address, std::uint8_t length);
/// The prefix of that length (0 to 128, as Prefix counts) that the address lies in.
Prefix prefix_of(const Address& address, std::uint8_t length);

bool is_ipv4(const Prefix& prefix);
/// One address only: /128, or /32 of IPv4.
bool is_single(const Prefix& prefix);
/// Whether the length is at most 128 and no bit is set beyond it.
bool is_canonical(const Prefix& prefix);
bool contains(const Prefix& prefix, const Address& address);
/// Whether `inner` lies in `outer` entirely; a prefix contains itself.
bool contains(const Prefix& outer, const Prefix& inner);

/// "10.0.0.0/8", "2001:db8::/48"; a single address without its length: "10.1.2.3", "2001:db8::1".
std::string to_text(const Prefix& prefix);

/// Parses what to_text() writes, a single address in brackets, and "ADDR:PORT" or "[ADDR]:PORT", whose port is ignored.
/// Bits beyond the length are refused with the prefix that was probably meant. kInvalid; the text says what was
/// expected and does not repeat the input.
Result<Prefix> parse_prefix(std::string_view text);

/// For hash tables that a peer can fill: keyed, so that nobody outside can choose prefixes that collide. Without
/// arguments it takes the key of this process, which is drawn at random once.
class PrefixHash {
 public:
  PrefixHash();
  PrefixHash(std::uint64_t key0, std::uint64_t key1) : key0_(key0), key1_(key1) {}
  std::size_t operator()(const Prefix& prefix) const;

 private:
  std::uint64_t key0_;
  std::uint64_t key1_;
};

/// 64 bits of a keyed hash of 16 bytes and a number: what PrefixHash uses, for other keys of that size. Nobody who
/// knows neither key nor results can choose inputs that collide. Not a cryptographic hash.
std::uint64_t keyed_hash(std::uint64_t high, std::uint64_t low, std::uint64_t number, std::uint64_t key0,
                         std::uint64_t key1);
std::uint64_t keyed_hash(const std::array<std::uint8_t, 16>& bytes, std::uint64_t number, std::uint64_t key0,
                         std::uint64_t key1);

}  // namespace bulkhead
