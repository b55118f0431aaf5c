#pragma once

#include <algorithm>

#include "base/clock.h"

namespace bulkhead {

/// How fast a token bucket fills, and how much it holds.
struct TokenRate {
  double per_second = 0;
  double burst = 1;  ///< tokens that a full bucket holds
};

/// A bound on how often something may happen: `burst` at once, `per_second` in the long run. Full when made. One
/// thread; knows no clock of its own.
class TokenBucket {
 public:
  /// Takes one token. False: there is none, and nothing is taken.
  bool take(const TokenRate& rate, Nanoseconds now) {
    const double level = level_at(rate, now);
    at_ = std::max(at_, now);
    missing_ = rate.burst - level;
    if (level < 1) return false;
    missing_ += 1;
    return true;
  }

  /// As good as new: nothing has to be remembered of it.
  bool full(const TokenRate& rate, Nanoseconds now) const { return level_at(rate, now) >= rate.burst; }

  /// Tokens in it, fractions count.
  double level_at(const TokenRate& rate, Nanoseconds now) const {
    const double elapsed = now > at_ ? static_cast<double>(now - at_) / static_cast<double>(kSecond) : 0;
    return std::min(rate.burst, rate.burst - missing_ + elapsed * rate.per_second);
  }

 private:
  Nanoseconds at_ = 0;
  double missing_ = 0;
};

}  // namespace bulkhead
