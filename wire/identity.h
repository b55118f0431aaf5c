#pragma once

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "wire/proof_of_work.h"
#include "wire/secret.h"

namespace bulkhead::wire {

/// An identity.json longer than this is refused: the fields that are known need some 300 bytes.
inline constexpr std::size_t kMaximumIdentityText = 16 * 1024;

struct Identity {
  PeerId peer_id{};
  PublicKey public_key{};
  SecretBytes<32> secret_key;
  Stamp stamp{};
};

/// Reads the text of an identity.json. `file_name` only serves the error texts.
/// Checked: required fields and their lengths; peer_id, when present, against public_key; public_key against
/// secret_key. Unknown fields are passed over; a known one may not stand twice. The proof of work is the caller's to
/// check. Every error is one line with file, field and remedy, and never holds any of the key. No copy of the secret
/// key is left behind but the result's and the caller's `json`, which the caller wipes.
Result<Identity> parse_identity(std::string_view json, std::string_view file_name);

/// The text of an identity.json in Octez's form, with the secret key in it: the caller writes it with mode 0600 and
/// wipes it.
std::string identity_json(const Identity& identity);

/// A new key pair with a stamp that passes `target`; see search_proof_of_work for threads, progress and errors.
Result<Identity> generate_identity(const Target& target, unsigned threads, const SearchProgress& progress = {});

}  // namespace bulkhead::wire
