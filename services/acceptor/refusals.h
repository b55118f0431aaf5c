#pragma once

#include <array>
#include <cstdint>
#include <functional>

#include "base/clock.h"
#include "base/reasons.h"
#include "base/token_bucket.h"

namespace bulkhead::acceptor {

/// Refusals told one by one, to the controller and the log: some at once, few in the long run. All others are told as
/// numbers, so that a flood costs neither of them more than that. Pure; one thread.
class Refusals {
 public:
  static constexpr TokenRate kToldOneByOne{.per_second = 10, .burst = 100};

  /// Whether this one may be told by itself.
  bool may_tell(Nanoseconds now) { return bucket_.take(kToldOneByOne, now); }
  /// It is to be told with others, by its reason alone.
  void leave_out(Reason reason);
  bool any_left_out() const { return any_; }
  /// Gives each reason with its number to `told`; those for which it returns false stay.
  void tell_left_out(const std::function<bool(Reason reason, std::uint32_t count)>& told);

 private:
  TokenBucket bucket_;
  std::array<std::uint32_t, kReasonCount> left_out_{};
  bool any_ = false;
};

}  // namespace bulkhead::acceptor
