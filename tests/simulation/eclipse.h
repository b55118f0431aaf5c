#pragma once

#include <cstdint>

namespace bulkhead::simulation {

/// One victim with honest defaults among honest nodes, and an attacker who wants all of its outgoing connections.
///
/// The victim has the controller's Pool and the maintainer's Maintenance as they are; the others are answers: honest
/// nodes are up most of the time, have a free slot some of the time, keep a connection for hours and come to the victim
/// at a steady rate. The victim runs for `before_h`, then the attack begins, and `restart_h` later it is started anew
/// with the points that it knew. Each address of the attacker has one identity and one point: it connects to the victim
/// whenever it is not connected, answers every dial at once, never leaves, and tells the victim of other addresses of
/// the attacker as often as it may. Bootstrap nodes are taken to be full.
struct EclipseSettings {
  std::uint32_t addresses = 100;  ///< the attacker's
  std::uint32_t per_group = 8;    ///< of them in a group (/16)
  bool hardened = true;
  std::uint64_t seed = 1;
  std::uint32_t honest = 300;
  std::uint32_t honest_per_group = 2;
  double before_h = 3;
  double restart_h = 4;
  double after_h = 4;
};

struct EclipseResult {
  std::uint32_t honest_outgoing = 0;
  std::uint32_t attacking_outgoing = 0;
  std::uint32_t honest_incoming = 0;
  std::uint32_t attacking_incoming = 0;
  /// At the end each outgoing connection is the attacker's; without any, each connection at all.
  bool eclipsed = false;
};

EclipseResult simulate_eclipse(const EclipseSettings& settings);

/// In how many of `runs` the victim was eclipsed; seeds from `settings.seed` on.
std::uint32_t count_eclipses(EclipseSettings settings, std::uint32_t runs);

/// The least number of addresses by which at least half of `runs` end eclipsed, by doubling from `from` and halving the
/// gap to one in ten; 0: not with `most` either.
std::uint32_t addresses_for_half(const EclipseSettings& settings, std::uint32_t runs, std::uint32_t from,
                                 std::uint32_t most);

}  // namespace bulkhead::simulation
