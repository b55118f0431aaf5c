#pragma once

#include <chrono>
#include <string_view>

#include "base/result.h"

namespace bulkhead {

/// The longest duration that is taken: ten years of 365 days. What shall last longer has no end.
inline constexpr std::chrono::seconds kLongestDuration = std::chrono::hours(24) * 3650;

/// Parses a whole number of seconds, or of s, m, h, d or w ("90", "90s", "15m", "24h", "7d", "2w"): from 1 second to
/// kLongestDuration. No spaces, no signs, no fractions, no sums. kInvalid; the text says what was expected and does not
/// repeat the input.
Result<std::chrono::seconds> parse_duration(std::string_view text);

}  // namespace bulkhead
