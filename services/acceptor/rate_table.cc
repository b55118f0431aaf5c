#include "services/acceptor/rate_table.h"

#include <algorithm>

#include "base/prefix.h"

namespace bulkhead::acceptor {

RateTable::RateTable(TokenRate rate, std::size_t entries, std::uint64_t key0, std::uint64_t key1)
    : rate_(rate), entries_(std::max<std::size_t>((entries + kRow - 1) / kRow, 1) * kRow), key0_(key0), key1_(key1) {}

bool RateTable::take(const Address& address, Nanoseconds now) {
  const std::size_t rows = entries_.size() / kRow;
  const std::size_t row = keyed_hash(address.bytes, 0, key0_, key1_) % rows;
  const auto begin = entries_.begin() + static_cast<std::ptrdiff_t>(row * kRow);
  const auto end = begin + static_cast<std::ptrdiff_t>(kRow);
  auto found = std::find_if(begin, end, [&](const Entry& entry) { return entry.address == address; });
  if (found == end) {
    found = std::max_element(begin, end, [&](const Entry& one, const Entry& other) {
      return one.bucket.level_at(rate_, now) < other.bucket.level_at(rate_, now);
    });
    *found = Entry{address, {}};
  }
  return found->bucket.take(rate_, now);
}

std::size_t RateTable::active(Nanoseconds now) const {
  return static_cast<std::size_t>(std::count_if(entries_.begin(), entries_.end(),
                                                [&](const Entry& entry) { return !entry.bucket.full(rate_, now); }));
}

}  // namespace bulkhead::acceptor
