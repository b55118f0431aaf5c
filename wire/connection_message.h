#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "wire/nonce.h"
#include "wire/proof_of_work.h"
#include "wire/version.h"

namespace bulkhead::wire {

/// Layout: length of what follows (2), port (2), public key (32), stamp (24), nonce (24), length of the chain name (4),
/// the name, distributed db version (2), p2p version (2).
inline constexpr std::size_t kConnectionMessageHeader = 2;
/// Up to and with the stamp: all that is needed to check the proof of work.
inline constexpr std::size_t kProofPrefixSize = 60;
inline constexpr std::size_t kKeyOffset = 4;
inline constexpr std::size_t kStampOffset = 36;
inline constexpr std::size_t kNonceOffset = 60;
/// Body (what the length counts) with an empty chain name.
inline constexpr std::size_t kMinimumBody = 90;
/// Whole message, header included. The length field could say 65,535; no network has a name that needs it, and every
/// byte more is held for a peer that has proved nothing.
inline constexpr std::size_t kMaximumConnectionMessage = 1024;
inline constexpr std::size_t kMaximumBody = kMaximumConnectionMessage - kConnectionMessageHeader;
static_assert(kMaximumChainName == kMaximumBody - kMinimumBody);

/// The first message of each side, in clear. Trust: from a peer, nothing in it is proved but the work in the stamp.
struct ConnectionMessage {
  std::uint16_t port = 0;  ///< where the sender listens; 0 means nowhere
  PublicKey public_key{};
  Stamp stamp{};
  Nonce nonce{};           ///< fresh and random for each connection
  std::string chain_name;  ///< raw bytes, see Version
  std::uint16_t distributed_db_version = 0;
  std::uint16_t p2p_version = 0;

  Version version() const { return {chain_name, distributed_db_version, p2p_version}; }
  bool operator==(const ConnectionMessage&) const = default;
};

/// The whole message, header included: exactly the bytes that derive_nonces hashes.
/// Throws std::length_error when the chain name is longer than kMaximumChainName.
std::vector<std::uint8_t> encode(const ConnectionMessage& message);

/// Strict: `whole` is one message with its header, no byte more or less.
Result<ConnectionMessage> decode_connection_message(std::span<const std::uint8_t> whole);

/// How many bytes the message that starts with `received` has in all (92 to 1,024); nothing while fewer than 2 bytes
/// are there; an error when the length in them is out of range.
Result<std::optional<std::size_t>> connection_message_size(std::span<const std::uint8_t> received);

/// Public key and stamp where they stand in the first bytes of a message; nothing is parsed.
inline std::span<const std::uint8_t, kKeyAndStampSize> key_and_stamp(
    std::span<const std::uint8_t, kProofPrefixSize> prefix) noexcept {
  return prefix.subspan<kKeyOffset, kKeyAndStampSize>();
}

}  // namespace bulkhead::wire
