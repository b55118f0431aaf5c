#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/address_group.h"
#include "base/ids.h"

/// Whom to part with. Pure; the controller and the maintainer decide by the same function.
namespace bulkhead::service {

/// What a peer's score is before the application gave one, and what an old one decays to.
inline constexpr double kNeutralScore = 1.0;

/// A score that was given at `given_ms` (0: never), as it counts at `now_ms`: half of its distance from neutral is left
/// after each `half_life_s`. A half-life of 0 or less keeps it as it is.
double decayed_score(double score, std::int64_t given_ms, std::int64_t now_ms, double half_life_s);

/// A running connection, as far as it matters whether it stays.
struct Neighbour {
  SlotRef ref;
  bool outgoing = false;
  bool trusted = false;
  AddressGroup group = 0;
  std::int64_t since_ms = 0;       ///< when it began to run
  std::uint32_t handshake_us = 0;  ///< how long the handshake took, as the controller saw it; 0: unknown
  double score = kNeutralScore;
};

/// At most `count` of `neighbours` to close, the first one first; never a trusted one.
///
/// Not `hardened`, as Octez: each untrusted one is as likely as another. Hardened: outgoing ones go last of all, as
/// others chose the incoming ones. Of the incoming ones up to 4 of the rarest groups, 8 of the fastest handshakes, 4 of
/// the best scores above neutral and half of the rest, the longest standing, are protected as far as others are left:
/// an attacker would have to be better in each of these at once. Of the others those with a score below neutral go
/// first, else chance decides.
std::vector<SlotRef> choose_victims(const std::vector<Neighbour>& neighbours, std::size_t count, bool hardened,
                                    const std::function<std::uint64_t()>& random);

/// Puts `items` into an order of chance.
template <typename Item>
void shuffle(std::vector<Item>& items, const std::function<std::uint64_t()>& random) {
  for (std::size_t left = items.size(); left > 1; --left) {
    std::swap(items[left - 1], items[static_cast<std::size_t>(random() % left)]);
  }
}

}  // namespace bulkhead::service
