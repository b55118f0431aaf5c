#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <set>
#include <utility>

#include "base/ids.h"
#include "base/reasons.h"

namespace bulkhead::acceptor {

/// Addresses that are to be greylisted and wait for their turn to be told: whatever of a flood is told as numbers
/// alone, nobody who misbehaved gets away with it. Each address once; what does not fit into so many is dropped, and
/// caught when it comes again. Pure; one thread.
class Offenders {
 public:
  static constexpr std::size_t kMost = 65536;

  using Offender = std::pair<Point, Reason>;

  void add(const Point& remote, Reason reason) {
    if (waiting_.size() >= kMost || !addresses_.insert(remote.address).second) return;
    waiting_.emplace_back(remote, reason);
  }
  bool empty() const { return waiting_.empty(); }
  const Offender& first() const { return waiting_.front(); }
  void pop() {
    addresses_.erase(waiting_.front().first.address);
    waiting_.pop_front();
  }

 private:
  std::deque<Offender> waiting_;
  std::set<Address> addresses_;
};

}  // namespace bulkhead::acceptor
