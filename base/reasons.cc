#include "base/reasons.h"

#include <array>

namespace bulkhead {
namespace {
constexpr std::array<const char*, kReasonCount> kNames = {
#define BULKHEAD_REASON_NAME(value, name) name,
    BULKHEAD_REASONS(BULKHEAD_REASON_NAME)
#undef BULKHEAD_REASON_NAME
};
}  // namespace

const char* reason_name(Reason reason) {
  const auto index = static_cast<std::size_t>(reason);
  return index < kReasonCount ? kNames[index] : "invalid_reason";
}

std::optional<Reason> reason_from_value(std::uint64_t value) {
  if (value >= kReasonCount) return std::nullopt;
  return static_cast<Reason>(value);
}

}  // namespace bulkhead
