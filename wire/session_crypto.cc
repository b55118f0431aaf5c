#include "wire/session_crypto.h"

#include <stdexcept>
#include <string_view>

#include "wire/bytes.h"

namespace bulkhead::wire {
namespace {

Nonce labelled_nonce(std::span<const std::uint8_t> initiator_message, std::span<const std::uint8_t> responder_message,
                     std::string_view label) {
  // The digest has 32 bytes and is cut to 24: a digest of 24 would be another hash altogether.
  std::array<std::uint8_t, 32> digest{};
  crypto_generichash_state state;
  crypto_generichash_init(&state, nullptr, 0, digest.size());
  for (const auto part : {initiator_message, responder_message, as_byte_span(label)}) {
    crypto_generichash_update(&state, part.data(), part.size());
  }
  crypto_generichash_final(&state, digest.data(), digest.size());
  Nonce nonce{};
  std::memcpy(nonce.data(), digest.data(), nonce.size());
  return nonce;
}

}  // namespace

void increment(Nonce& nonce) noexcept {
  for (auto byte = nonce.rbegin(); byte != nonce.rend(); ++byte) {
    if (++*byte != 0) return;
  }
}

SessionNonces derive_nonces(std::span<const std::uint8_t> initiator_message,
                            std::span<const std::uint8_t> responder_message, Side ours) {
  const Nonce responder_seals = labelled_nonce(initiator_message, responder_message, "Init -> Resp");
  const Nonce initiator_seals = labelled_nonce(initiator_message, responder_message, "Resp -> Init");
  if (ours == Side::kInitiator) return {initiator_seals, responder_seals};
  return {responder_seals, initiator_seals};
}

Result<SecretBytes<kChannelKeySize>> channel_key(const PublicKey& remote,
                                                 std::span<const std::uint8_t, 32> our_secret_key) {
  SecretBytes<kChannelKeySize> key;
  if (!derive_channel_key(remote, our_secret_key, key.span())) {
    return Error{ErrorCode::kInvalid, "the peer's public key is weak"};
  }
  return key;
}

bool derive_channel_key(const PublicKey& remote, std::span<const std::uint8_t, 32> our_secret_key,
                        std::span<std::uint8_t, kChannelKeySize> key) noexcept {
  // Fails for every point of small order: the shared secret is compared with zero.
  return crypto_box_beforenm(key.data(), remote.data(), our_secret_key.data()) == 0;
}

Result<std::size_t> chunk_body_size(std::span<const std::uint8_t, kChunkHeader> header) {
  const std::size_t size = Reader(header).take_u16();
  if (size < kTag) return Error{ErrorCode::kInvalid, "the size of a chunk is smaller than its tag"};
  return size;
}

void seal_chunk(const std::uint8_t* plaintext, std::size_t size, std::uint8_t* chunk, KeySpan key, const Nonce& nonce) {
  if (size > kMaximumPlaintext) throw std::length_error("the plaintext does not fit a chunk");
  crypto_box_detached_afternm(chunk + kChunkOverhead, chunk + kChunkHeader, plaintext, size, nonce.data(), key.data());
  chunk[0] = static_cast<std::uint8_t>((size + kTag) >> 8);
  chunk[1] = static_cast<std::uint8_t>(size + kTag);
}

void seal_in_place(std::span<std::uint8_t> chunk, KeySpan key, const Nonce& nonce) {
  if (chunk.size() < kChunkOverhead) throw std::length_error("the buffer has no room for a chunk's header and tag");
  seal_chunk(chunk.data() + kChunkOverhead, chunk.size() - kChunkOverhead, chunk.data(), key, nonce);
}

bool open_chunk(std::span<const std::uint8_t> body, std::uint8_t* plaintext, KeySpan key, const Nonce& nonce) noexcept {
  if (body.size() < kTag) return false;
  // A null destination means "verify only" to the library, which an empty plaintext may come with.
  std::uint8_t none = 0;
  return crypto_box_open_detached_afternm(plaintext != nullptr ? plaintext : &none, body.data() + kTag, body.data(),
                                          body.size() - kTag, nonce.data(), key.data()) == 0;
}

Channel::Channel(KeySpan key, const Nonce& next_nonce) noexcept : nonce_(next_nonce) {
  std::memcpy(key_.data(), key.data(), key_.size());
}

Channel::Channel(Channel&& other) noexcept : key_(other.key_), nonce_(other.nonce_) {
  wipe(other.key_);
}

Channel& Channel::operator=(Channel&& other) noexcept {
  if (this != &other) {
    key_ = other.key_;
    nonce_ = other.nonce_;
    wipe(other.key_);
  }
  return *this;
}

void Channel::seal(const std::uint8_t* plaintext, std::size_t size, std::uint8_t* chunk) {
  seal_chunk(plaintext, size, chunk, key_, nonce_);
  increment(nonce_);
}

void Channel::seal_in_place(std::span<std::uint8_t> chunk) {
  wire::seal_in_place(chunk, key_, nonce_);
  increment(nonce_);
}

bool Channel::open(std::span<const std::uint8_t> body, std::uint8_t* plaintext) noexcept {
  const bool opened = open_chunk(body, plaintext, key_, nonce_);
  increment(nonce_);
  return opened;
}

}  // namespace bulkhead::wire
