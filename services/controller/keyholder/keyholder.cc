#include "services/controller/keyholder/keyholder.h"

#include <sodium.h>

#include <algorithm>

#include "wire/peer_id.h"

namespace bulkhead::keyholder {

Keyholder::Keyholder(wire::Identity identity, Announced announced, wire::Target target, std::uint32_t slots)
    : identity_(std::move(identity)),
      announced_(std::move(announced)),
      target_(target),
      keys_(slots),
      handshakes_(slots) {
  for (std::size_t slot = 0; slot < handshakes_.size(); ++slot) handshakes_[slot].keys = &keys_[slot];
}

Keyholder::Handshake* Keyholder::find(const SlotRef& slot) {
  return slot.slot < handshakes_.size() ? &handshakes_[slot.slot] : nullptr;
}

void Keyholder::forget(Handshake& handshake) {
  sodium_memzero(handshake.keys, sizeof(Keys));
  handshake.step = Step::kIdle;
}

std::vector<std::uint8_t> Keyholder::our_message(const Handshake& handshake) const {
  const auto& said = announced_.announcement;
  return wire::encode(wire::ConnectionMessage{.port = said.port,
                                              .public_key = identity_.public_key,
                                              .stamp = identity_.stamp,
                                              .nonce = handshake.message_nonce,
                                              .chain_name = said.chain_name,
                                              .distributed_db_version = said.distributed_db_version,
                                              .p2p_version = said.p2p_version});
}

std::optional<schema::KeyBegun> Keyholder::begin(const schema::KeyBegin& request) {
  Handshake* handshake = find(request.slot);
  if (handshake == nullptr) return std::nullopt;
  forget(*handshake);
  handshake->step = Step::kBegun;
  handshake->direction = request.direction;
  handshake->generation = request.slot.generation;
  randombytes_buf(handshake->message_nonce.data(), handshake->message_nonce.size());
  return schema::KeyBegun{request.slot, our_message(*handshake)};
}

std::optional<schema::KeyHelloDone> Keyholder::hello(const schema::KeyHello& request) {
  Handshake* handshake = find(request.slot);
  if (handshake == nullptr) return std::nullopt;
  schema::KeyHelloDone answer{request.slot, Reason::kChannelFault, {}};
  if (handshake->generation != request.slot.generation || handshake->step != Step::kBegun) {
    if (handshake->generation == request.slot.generation) forget(*handshake);
    return answer;
  }
  answer.failure = accept_hello(*handshake, request.message, answer.chunk);
  if (answer.failure != Reason::kNone) forget(*handshake);
  return answer;
}

Reason Keyholder::accept_hello(Handshake& handshake, const std::vector<std::uint8_t>& message,
                               std::vector<std::uint8_t>& chunk) {
  const std::span<const std::uint8_t> bytes(message);
  const auto size = wire::connection_message_size(bytes);
  if (!size || !size->has_value() || **size != bytes.size()) return Reason::kMalformedConnectionMessage;
  if (!wire::check_proof_of_work(wire::key_and_stamp(bytes.first<wire::kProofPrefixSize>()), target_)) {
    return Reason::kNotEnoughProofOfWork;
  }
  std::copy_n(bytes.begin() + wire::kKeyOffset, handshake.peer_key.size(), handshake.peer_key.begin());
  // Straight into the slot: memory of its own would take system calls that the keyholder does not have.
  if (!wire::derive_channel_key(handshake.peer_key, identity_.secret_key.span(), handshake.keys->channel_key)) {
    return Reason::kWeakKey;
  }
  const auto ours = our_message(handshake);
  const bool dialled = handshake.direction == schema::Direction::kOutgoing;
  const auto nonces = wire::derive_nonces(dialled ? std::span<const std::uint8_t>(ours) : bytes,
                                          dialled ? bytes : std::span<const std::uint8_t>(ours),
                                          dialled ? wire::Side::kInitiator : wire::Side::kResponder);
  handshake.keys->send_nonce = nonces.local;
  handshake.keys->receive_nonce = nonces.remote;

  const auto metadata =
      wire::encode(wire::ConnectionMetadata{announced_.metadata.disable_mempool, announced_.metadata.private_node});
  chunk.resize(wire::kChunkOverhead + metadata.size());
  wire::seal_chunk(metadata.data(), metadata.size(), chunk.data(), handshake.keys->channel_key,
                   handshake.keys->send_nonce);
  wire::increment(handshake.keys->send_nonce);
  handshake.step = Step::kProving;
  return Reason::kNone;
}

std::optional<schema::KeyProofDone> Keyholder::proof(const schema::KeyProof& request) {
  Handshake* handshake = find(request.slot);
  if (handshake == nullptr) return std::nullopt;
  // Made where the caller gets it, so that no copy of the key is left behind.
  std::optional<schema::KeyProofDone> result(std::in_place);
  schema::KeyProofDone& answer = *result;
  answer.slot = request.slot;
  answer.failure = Reason::kChannelFault;
  if (handshake->generation != request.slot.generation) return result;
  if (handshake->step != Step::kProving) {
    forget(*handshake);
    return result;
  }
  const std::span<const std::uint8_t> chunk(request.chunk);
  std::array<std::uint8_t, schema::kMaximumChunk> plaintext{};
  answer.failure = [&] {
    if (chunk.size() < wire::kChunkOverhead || chunk.size() > schema::kMaximumChunk)
      return Reason::kInvalidCiphertextSize;
    const auto body_size = wire::chunk_body_size(chunk.first<wire::kChunkHeader>());
    if (!body_size || *body_size != chunk.size() - wire::kChunkHeader) return Reason::kInvalidCiphertextSize;
    const auto body = chunk.subspan(wire::kChunkHeader);
    if (!wire::open_chunk(body, plaintext.data(), handshake->keys->channel_key, handshake->keys->receive_nonce))
      return Reason::kDecipherError;
    wire::increment(handshake->keys->receive_nonce);
    const auto metadata =
        wire::decode_metadata(std::span<const std::uint8_t>(plaintext).first(body.size() - wire::kTag));
    if (!metadata) return Reason::kMalformedMetadata;
    answer.metadata = {metadata->disable_mempool, metadata->private_node};
    answer.peer_id = wire::peer_id_of(handshake->peer_key);
    // Only now is it known that the other end holds our key: a replayed connection message fails above.
    return handshake->peer_key == identity_.public_key ? Reason::kMyself : Reason::kNone;
  }();
  if (answer.failure == Reason::kNone) {
    answer.channel_key = handshake->keys->channel_key;
    answer.send_nonce = handshake->keys->send_nonce;
    answer.receive_nonce = handshake->keys->receive_nonce;
  }
  forget(*handshake);
  return result;
}

}  // namespace bulkhead::keyholder
