#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"

namespace bulkhead::wire {

/// Length of a peer id's text form, always.
inline constexpr std::size_t kPeerIdTextSize = 30;

/// BLAKE2b of the key with a digest of 16 bytes (a parameter of the hash: not a longer digest cut short).
PeerId peer_id_of(const PublicKey& key);

/// Base58Check text: 30 characters, "id" first.
std::string peer_id_text(const PeerId& id);

/// The reverse of peer_id_text. Strict: exactly the text that peer_id_text gives for some id, nothing else.
std::optional<PeerId> parse_peer_id(std::string_view text);

}  // namespace bulkhead::wire
