#include "wire/peer_id.h"

#include <sodium.h>

#include <algorithm>
#include <array>

namespace bulkhead::wire {
namespace {

constexpr std::string_view kAlphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Makes every text start with "id".
constexpr std::array<std::uint8_t, 2> kPrefix = {0x99, 0x67};
constexpr std::size_t kChecksumSize = 4;

using Payload = std::array<std::uint8_t, kPrefix.size() + std::tuple_size_v<PeerId> + kChecksumSize>;

Payload payload_of(const PeerId& id) {
  Payload payload{};
  std::copy(kPrefix.begin(), kPrefix.end(), payload.begin());
  std::copy(id.begin(), id.end(), payload.begin() + kPrefix.size());
  std::array<std::uint8_t, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256(hash.data(), payload.data(), payload.size() - kChecksumSize);
  crypto_hash_sha256(hash.data(), hash.data(), hash.size());
  std::copy_n(hash.begin(), kChecksumSize, payload.end() - kChecksumSize);
  return payload;
}

}  // namespace

PeerId peer_id_of(const PublicKey& key) {
  PeerId id{};
  crypto_generichash(id.data(), id.size(), key.data(), key.size(), nullptr, 0);
  return id;
}

std::string peer_id_text(const PeerId& id) {
  Payload number = payload_of(id);
  std::string text(kPeerIdTextSize, kAlphabet.front());
  // The first byte of the prefix is not zero, and 22 such bytes always give 30 digits: no case for leading zeros.
  for (auto digit = text.rbegin(); digit != text.rend(); ++digit) {
    unsigned remainder = 0;
    for (std::uint8_t& byte : number) {
      const unsigned value = remainder * 256 + byte;
      byte = static_cast<std::uint8_t>(value / 58);
      remainder = value % 58;
    }
    *digit = kAlphabet[remainder];
  }
  return text;
}

std::optional<PeerId> parse_peer_id(std::string_view text) {
  if (text.size() != kPeerIdTextSize) return std::nullopt;
  Payload number{};
  for (const char character : text) {
    const auto digit = kAlphabet.find(character);
    if (digit == std::string_view::npos) return std::nullopt;
    auto carry = static_cast<unsigned>(digit);
    for (auto byte = number.rbegin(); byte != number.rend(); ++byte) {
      const unsigned value = *byte * 58U + carry;
      *byte = static_cast<std::uint8_t>(value);
      carry = value >> 8;
    }
    // Nothing is carried out of the first byte: 58^30 is less than 256^22.
  }
  PeerId id{};
  std::copy_n(number.begin() + kPrefix.size(), id.size(), id.begin());
  // Prefix and checksum are compared with what the id itself gives.
  if (number != payload_of(id)) return std::nullopt;
  return id;
}

}  // namespace bulkhead::wire
