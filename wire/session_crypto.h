#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "base/result.h"
#include "wire/nonce.h"
#include "wire/secret.h"

namespace bulkhead::wire {

inline constexpr std::size_t kChannelKeySize = 32;
inline constexpr std::size_t kChunkHeader = 2;
inline constexpr std::size_t kTag = 16;
inline constexpr std::size_t kChunkOverhead = kChunkHeader + kTag;
/// Most that one chunk may be given to carry: the whole chunk then has 65,535 bytes.
inline constexpr std::size_t kMaximumPlaintext = 65517;
/// Most that a chunk may be found to carry: the length field counts tag and plaintext, and peers accept all its values.
inline constexpr std::size_t kMaximumReceivedPlaintext = 65519;
inline constexpr std::size_t kMaximumChunkBody = kTag + kMaximumReceivedPlaintext;

/// Which side of the TCP connection one is: the initiator dialled.
enum class Side : std::uint8_t { kInitiator, kResponder };

struct SessionNonces {
  Nonce local{};   ///< for the first chunk that we seal
  Nonce remote{};  ///< for the first chunk that we open
};

/// Both messages whole, with their 2 bytes of length, exactly as they travelled.
/// The labels in the hash read the other way round than the direction that they serve: the responder seals under
/// "Init -> Resp". All implementations of this protocol agree on that.
SessionNonces derive_nonces(std::span<const std::uint8_t> initiator_message,
                            std::span<const std::uint8_t> responder_message, Side ours);

/// The key of the connection, the same on both sides. Refuses (kInvalid) a public key of small order, whose shared
/// secret would be zero for every secret key.
Result<SecretBytes<kChannelKeySize>> channel_key(const PublicKey& remote,
                                                 std::span<const std::uint8_t, 32> our_secret_key);

/// The same, written to `key`, which the caller wipes; makes no system call. False for a weak public key, and `key` is
/// then of no use.
[[nodiscard]] bool derive_channel_key(const PublicKey& remote, std::span<const std::uint8_t, 32> our_secret_key,
                                      std::span<std::uint8_t, kChannelKeySize> key) noexcept;

using KeySpan = std::span<const std::uint8_t, kChannelKeySize>;

/// Size of what follows a chunk's 2 bytes of length: tag and ciphertext, 16 to 65,535. Fails when it is below 16.
Result<std::size_t> chunk_body_size(std::span<const std::uint8_t, kChunkHeader> header);

/// Seals `size` bytes (at most kMaximumPlaintext, else std::length_error) from `plaintext` into the kChunkOverhead +
/// size bytes at `chunk`: length, tag, ciphertext. Either the plaintext stands at chunk + kChunkOverhead already
/// (sealed in place), or the two do not overlap. `plaintext` may be in memory that another process writes: whatever was
/// read is sealed consistently. `chunk` must be private, as the tag is computed over what was written there.
void seal_chunk(const std::uint8_t* plaintext, std::size_t size, std::uint8_t* chunk, KeySpan key, const Nonce& nonce);

/// `chunk` is laid out [2 header | 16 tag | plaintext]; fills header and tag and enciphers the rest where it stands.
void seal_in_place(std::span<std::uint8_t> chunk, KeySpan key, const Nonce& nonce);

/// Opens a chunk's body (tag and ciphertext; what follows the length) into the body.size() - kTag bytes at `plaintext`,
/// which either is body.data() + kTag (in place) or does not overlap the body. `plaintext` may be in memory that
/// another process reads: nothing is written there before the tag was found right. `body` must be private, since it is
/// read twice. False when the tag is wrong or the body is shorter than a tag.
[[nodiscard]] bool open_chunk(std::span<const std::uint8_t> body, std::uint8_t* plaintext, KeySpan key,
                              const Nonce& nonce) noexcept;

/// One direction of a connection: the key, and the nonce of the next chunk. The key lies in the object and is wiped
/// with it; no system call is made after construction, so a confined worker may use it. One thread at a time.
class Channel {
 public:
  Channel(KeySpan key, const Nonce& next_nonce) noexcept;
  Channel(Channel&& other) noexcept;
  Channel& operator=(Channel&& other) noexcept;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() { wipe(key_); }

  const Nonce& next_nonce() const noexcept { return nonce_; }

  /// As the functions above, and the nonce advances.
  void seal(const std::uint8_t* plaintext, std::size_t size, std::uint8_t* chunk);
  void seal_in_place(std::span<std::uint8_t> chunk);
  /// The nonce advances even when this fails.
  [[nodiscard]] bool open(std::span<const std::uint8_t> body, std::uint8_t* plaintext) noexcept;

 private:
  std::array<std::uint8_t, kChannelKeySize> key_;
  Nonce nonce_;
};

}  // namespace bulkhead::wire
