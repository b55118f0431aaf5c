#include "base/connection_bounds.h"

#include <array>
#include <utility>

namespace bulkhead {

ConnectionBounds bounds_for(std::uint32_t minimum, std::uint32_t expected, std::uint32_t maximum) {
  const std::uint32_t step_min = (expected - minimum) / 3;
  const std::uint32_t step_max = (maximum - expected) / 3;
  return {minimum + step_min, minimum + 2 * step_min, maximum - 2 * step_max, maximum - step_max};
}

std::optional<std::string> broken_rule(const ConnectionBounds& bounds, std::uint32_t minimum, std::uint32_t maximum) {
  const std::array<std::pair<const char*, std::uint32_t>, 6> order = {{{"min-connections", minimum},
                                                                       {"min-threshold", bounds.min_threshold},
                                                                       {"min-target", bounds.min_target},
                                                                       {"max-target", bounds.max_target},
                                                                       {"max-threshold", bounds.max_threshold},
                                                                       {"max-connections", maximum}}};
  for (std::size_t i = 1; i < order.size(); ++i) {
    const auto& [low_name, low] = order[i - 1];
    const auto& [high_name, high] = order[i];
    if (low <= high) continue;
    return std::string(low_name) + " " + std::to_string(low) + " is above " + high_name + " " + std::to_string(high) +
           ": the order is min-connections <= min-threshold <= min-target <= max-target <= max-threshold <= "
           "max-connections; what is not set follows from min-, expected- and max-connections";
  }
  return std::nullopt;
}

}  // namespace bulkhead
