#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead {

/// Between how many connections a node is left alone (the thresholds), and how many it goes for when it is not (the
/// targets): below min_threshold it dials until it has min_target, above max_threshold it closes down to max_target.
struct ConnectionBounds {
  std::uint32_t min_threshold = 0;
  std::uint32_t min_target = 0;
  std::uint32_t max_target = 0;
  std::uint32_t max_threshold = 0;
  bool operator==(const ConnectionBounds&) const = default;
};

/// The bounds of Octez, in integer division. Requires minimum <= expected <= maximum.
ConnectionBounds bounds_for(std::uint32_t minimum, std::uint32_t expected, std::uint32_t maximum);

/// The rule that such bounds break, in one line for a person: minimum <= min-threshold <= min-target <= max-target <=
/// max-threshold <= maximum. Nothing when they keep it.
std::optional<std::string> broken_rule(const ConnectionBounds& bounds, std::uint32_t minimum, std::uint32_t maximum);

}  // namespace bulkhead
