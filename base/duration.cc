#include "base/duration.h"

#include <charconv>
#include <cstdint>

namespace bulkhead {
namespace {

/// Seconds of a unit, 0 for none.
std::uint64_t unit_seconds(std::string_view unit) {
  if (unit.empty() || unit == "s") return 1;
  if (unit == "m") return 60;
  if (unit == "h") return 3600;
  if (unit == "d") return std::uint64_t{24} * 3600;
  if (unit == "w") return std::uint64_t{7} * 24 * 3600;
  return 0;
}

}  // namespace

Result<std::chrono::seconds> parse_duration(std::string_view text) {
  std::uint64_t count = 0;
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, count);
  const std::uint64_t unit = unit_seconds(std::string_view(last, static_cast<std::size_t>(end - last)));
  if (error == std::errc::invalid_argument || unit == 0) {
    return Error{
        ErrorCode::kInvalid,
        "not a duration; write a number with s, m, h, d or w: 90s, 15m, 24h, 7d, 2w; a number alone is seconds"};
  }
  constexpr auto kLongest = static_cast<std::uint64_t>(kLongestDuration.count());
  if (error != std::errc{} || count == 0 || count > kLongest / unit) {
    return Error{ErrorCode::kInvalid, "a duration is at least 1 second and at most 3650 days"};
  }
  return std::chrono::seconds(count * unit);
}

}  // namespace bulkhead
