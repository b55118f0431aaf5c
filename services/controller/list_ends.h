#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "services/controller/store.h"

namespace bulkhead::controller {

/// When bans and trust end by themselves, so that the end of each is noticed without a look at all lists. Bounded: of
/// more than it has room for, those that end soonest are watched.
class ListEnds {
 public:
  explicit ListEnds(std::size_t most) : most_(most) {}

  /// The entry stands until then; 0: for ever, which nobody has to watch.
  void note(const AclKey& entry, std::int64_t until_ms);
  void forget(const AclKey& entry);
  void forget_all(StoredList list);
  void clear();
  /// Those that are over, the first to end first. They are forgotten.
  std::vector<AclKey> take_over(std::int64_t now_ms);
  /// Nothing is watched any more, but there were some without room: note() each that stands again.
  bool wants_refill() const { return left_out_ && until_.empty(); }

 private:
  std::size_t most_;
  std::map<AclKey, std::int64_t> until_;
  std::set<std::pair<std::int64_t, AclKey>> by_end_;
  bool left_out_ = false;
};

}  // namespace bulkhead::controller
