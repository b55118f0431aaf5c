#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// The Tezos P2P protocol as a test sees it: pure functions from bytes to values and back. This is a reading of the
/// protocol of its own, which shares no code with the one under test, so that an error in one does not hide in both.
/// Encoders encode whatever they are given, allowed or not; decoders are strict.
namespace bulkhead::testing {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

/// An odd length or a character that is no hex digit is a bug of the test and throws std::invalid_argument.
Bytes from_hex(std::string_view text);
std::string to_hex(ByteView bytes);
/// The bytes of `text`, without terminator.
Bytes from_text(std::string_view text);
Bytes concat(std::initializer_list<ByteView> parts);
/// `size` bytes, of which byte k is (7 k + seed) mod 256: a body that shows where it was cut, moved or repeated.
Bytes pattern(std::size_t size, std::uint8_t seed = 0);

inline constexpr std::size_t kKeySize = 32;
inline constexpr std::size_t kStampSize = 24;
inline constexpr std::size_t kNonceSize = 24;
inline constexpr std::size_t kPeerIdSize = 16;
inline constexpr std::size_t kTagSize = 16;              ///< of Poly1305, in front of each chunk's ciphertext
inline constexpr std::size_t kMaximumPiece = 65'517;     ///< plaintext that a writer puts into one chunk at most
inline constexpr std::size_t kMaximumReadable = 65'519;  ///< plaintext of a chunk whose length field is 65535

using Key = std::array<std::uint8_t, kKeySize>;
using ProofStamp = std::array<std::uint8_t, kStampSize>;
using NonceBytes = std::array<std::uint8_t, kNonceSize>;
using IdBytes = std::array<std::uint8_t, kPeerIdSize>;

struct KeyPair {
  Key public_key{};
  Key secret_key{};
};

struct TestIdentity {
  KeyPair keys;
  ProofStamp stamp{};
};

KeyPair fresh_key_pair();
KeyPair key_pair_of(const Key& secret_key);

/// The largest hash, as 32 little-endian bytes, that passes at `difficulty` (0 to 256).
std::array<std::uint8_t, 32> proof_of_work_target(double difficulty);
bool proof_of_work_holds(const Key& public_key, const ProofStamp& stamp, double difficulty);
/// Searches from a random start. Takes about 2^difficulty hashes: keep it at 16 or below in tests.
ProofStamp find_stamp(const Key& public_key, double difficulty);
/// A stamp that does not pass at `difficulty`, which must be at least 1 (everything passes at 0).
ProofStamp find_bad_stamp(const Key& public_key, double difficulty);
/// Fresh keys with a stamp for `difficulty`.
TestIdentity fresh_identity(double difficulty);

IdBytes peer_id_of(const Key& public_key);
/// Base58Check text, "id...".
std::string peer_id_text(const IdBytes& id);
std::string peer_id_text(const Key& public_key);

/// Public keys whose shared secret with anything is zero.
std::vector<Key> low_order_keys();

struct Announcement {
  std::uint16_t port = 0;
  Key public_key{};
  ProofStamp stamp{};
  NonceBytes nonce{};
  std::string chain_name;
  std::uint16_t distributed_db_version = 0;
  std::uint16_t p2p_version = 0;
};

/// With its two bytes of length in front.
Bytes encode_announcement(const Announcement& announcement);
Result<Announcement> decode_announcement(ByteView whole);

struct NoncePair {
  NonceBytes local{};   ///< seals what this side sends
  NonceBytes remote{};  ///< opens what the other side sends
};

/// `sent` and `received` are the connection messages with their lengths, as they travelled.
NoncePair derive_nonces(ByteView sent, ByteView received, bool initiator);
/// Adds one to the 192-bit big-endian number; all ones become zero.
void increment(NonceBytes& nonce);
/// kInvalid for a key of low order.
Result<Key> shared_key(const Key& remote_public_key, const Key& secret_key);

/// One chunk, length and tag included. The plaintext may be larger than a proper writer allows, up to kMaximumReadable.
Bytes seal_chunk(ByteView plaintext, const Key& key, const NonceBytes& nonce);
/// `body` is the chunk without its two bytes of length. kInvalid when the tag does not fit.
Result<Bytes> open_chunk(ByteView body, const Key& key, const NonceBytes& nonce);

struct Metadata {
  bool disable_mempool = false;
  bool private_node = false;
};

Bytes encode_metadata(const Metadata& metadata);
Result<Metadata> decode_metadata(ByteView bytes);

enum class AckKind { kAck, kNack, kNackV0 };

struct AckMessage {
  AckKind kind = AckKind::kAck;
  std::int16_t motive = 0;
  std::vector<std::string> points;
};

/// Motives that a Nack carries.
inline constexpr std::int16_t kNoMotive = 0;
inline constexpr std::int16_t kTooManyConnections = 1;
inline constexpr std::int16_t kUnknownChainName = 2;
inline constexpr std::int16_t kDeprecatedP2pVersion = 3;
inline constexpr std::int16_t kDeprecatedDistributedDbVersion = 4;
inline constexpr std::int16_t kAlreadyConnected = 5;

Bytes encode_ack(const AckMessage& ack);
/// At most 100 points of at most 47 bytes. What a point says is left to the caller.
Result<AckMessage> decode_ack(ByteView bytes);

inline constexpr std::uint16_t kDisconnectTag = 0x01;
inline constexpr std::uint16_t kBootstrapTag = 0x02;
inline constexpr std::uint16_t kAdvertiseTag = 0x03;
inline constexpr std::uint16_t kSwapRequestTag = 0x04;
inline constexpr std::uint16_t kSwapAckTag = 0x05;
inline constexpr std::uint16_t kFirstApplicationTag = 0x10;

struct Message {
  std::uint16_t tag = 0;
  Bytes body;
};

/// Whole messages, with their four bytes of size.
Bytes encode_message(std::uint16_t tag, ByteView body);
Bytes encode_disconnect();
Bytes encode_bootstrap();
Bytes encode_advertise(std::span<const std::string> points);
Bytes encode_swap_request(std::string_view point, const IdBytes& id);
Bytes encode_swap_ack(std::string_view point, const IdBytes& id);

/// Takes a whole message off the front of `stream`: nothing when it is not all there yet.
/// kInvalid for a size below 2, kTooLarge for one above 100 MiB.
Result<std::optional<Message>> take_message(Bytes& stream);
/// The points of an Advertise body, at most 100 of them.
Result<std::vector<std::string>> decode_advertise(ByteView body);

struct SwapBody {
  std::string point;
  IdBytes id{};
};
Result<SwapBody> decode_swap(ByteView body);

/// `stream` cut into pieces of at most `piece` bytes, none for an empty stream.
std::vector<ByteView> cut(ByteView stream, std::size_t piece);

}  // namespace bulkhead::testing
