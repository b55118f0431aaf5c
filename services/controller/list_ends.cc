#include "services/controller/list_ends.h"

#include <iterator>

namespace bulkhead::controller {

void ListEnds::note(const AclKey& entry, std::int64_t until_ms) {
  forget(entry);
  if (until_ms == 0) return;
  until_.emplace(entry, until_ms);
  by_end_.emplace(until_ms, entry);
  if (until_.size() <= most_) return;
  left_out_ = true;
  const auto last = std::prev(by_end_.end());
  until_.erase(last->second);
  by_end_.erase(last);
}

void ListEnds::forget(const AclKey& entry) {
  const auto found = until_.find(entry);
  if (found == until_.end()) return;
  by_end_.erase({found->second, entry});
  until_.erase(found);
}

void ListEnds::forget_all(StoredList list) {
  std::erase_if(until_, [list](const auto& one) { return one.first.list == list; });
  std::erase_if(by_end_, [list](const auto& one) { return one.second.list == list; });
}

void ListEnds::clear() {
  until_.clear();
  by_end_.clear();
  left_out_ = false;
}

std::vector<AclKey> ListEnds::take_over(std::int64_t now_ms) {
  std::vector<AclKey> over;
  while (!by_end_.empty() && by_end_.begin()->first <= now_ms) {
    over.push_back(by_end_.begin()->second);
    until_.erase(over.back());
    by_end_.erase(by_end_.begin());
  }
  return over;
}

}  // namespace bulkhead::controller
