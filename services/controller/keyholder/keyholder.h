#pragma once

#include <array>
#include <vector>

#include "schema/messages.h"
#include "wire/connection_message.h"
#include "wire/identity.h"
#include "wire/metadata.h"
#include "wire/proof_of_work.h"
#include "wire/session_crypto.h"

namespace bulkhead::keyholder {

/// What the keyholder announces in our connection messages and metadata.
struct Announced {
  schema::Announcement announcement;
  schema::ConnectionMetadata metadata;
};

/// The only holder of the identity secret key, and no oracle (rule P2): for each slot it answers Begin, Hello and
/// Proof, each once and in this order, and hands out a channel key only after the peer's own metadata chunk opened
/// under it.
///
/// | state   | Begin           | Hello                  | Proof                   |
/// |---------|-----------------|------------------------|-------------------------|
/// | idle    | to begun        | refused                | refused                 |
/// | begun   | to begun, anew  | to proving, or idle    | refused, to idle        |
/// | proving | to begun, anew  | refused, to idle       | to idle                 |
///
/// A Begin overwrites what the slot held, so a handshake that was given up needs no message. All state is made at
/// construction, keys in guarded memory; what was secret in a slot is wiped when the slot goes idle. One thread; does
/// not block; draws nonces from the kernel.
class Keyholder {
 public:
  /// Owns the identity. `slots` bounds the slot numbers that are answered.
  Keyholder(wire::Identity identity, Announced announced, wire::Target target, std::uint32_t slots);

  const PeerId& peer_id() const { return identity_.peer_id; }
  const PublicKey& public_key() const { return identity_.public_key; }

  /// An answer, or nothing for a slot out of range (a fault of the controller).
  std::optional<schema::KeyBegun> begin(const schema::KeyBegin& request);
  std::optional<schema::KeyHelloDone> hello(const schema::KeyHello& request);
  /// The caller wipes key and nonces of the answer once they are sent.
  std::optional<schema::KeyProofDone> proof(const schema::KeyProof& request);

 private:
  enum class Step : std::uint8_t { kIdle, kBegun, kProving };
  /// What is secret in a handshake until it is proved.
  struct Keys {
    std::array<std::uint8_t, wire::kChannelKeySize> channel_key;
    wire::Nonce send_nonce;
    wire::Nonce receive_nonce;
  };
  struct Handshake {
    Step step = Step::kIdle;
    schema::Direction direction = schema::Direction::kIncoming;
    Generation generation = 0;
    wire::Nonce message_nonce{};
    PublicKey peer_key{};
    Keys* keys = nullptr;  ///< in keys_
  };

  Handshake* find(const SlotRef& slot);
  static void forget(Handshake& handshake);
  std::vector<std::uint8_t> our_message(const Handshake& handshake) const;
  Reason accept_hello(Handshake& handshake, const std::vector<std::uint8_t>& message, std::vector<std::uint8_t>& chunk);

  wire::Identity identity_;
  Announced announced_;
  wire::Target target_;
  wire::SecretArray<Keys> keys_;  ///< by slot
  std::vector<Handshake> handshakes_;
};

}  // namespace bulkhead::keyholder
