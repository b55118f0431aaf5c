#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "base/token_bucket.h"

namespace bulkhead::acceptor {

/// A token bucket for each of many addresses (or prefixes, by their first address), in memory of a fixed size. Whoever
/// is not in the table has a full bucket; where a newcomer finds no place, the bucket that is fullest again gives way.
/// So a flood of addresses, each used little, makes these forget one another and not the one that has used up its own.
/// The key keeps everybody from choosing addresses that meet in one place. Pure, one thread; 32 bytes for each entry.
class RateTable {
 public:
  /// `entries` is rounded up to whole rows; at least one row.
  RateTable(TokenRate rate, std::size_t entries, std::uint64_t key0, std::uint64_t key1);

  /// Takes a token of this address. False: there is none, and nothing is taken.
  bool take(const Address& address, Nanoseconds now);

  std::size_t capacity() const { return entries_.size(); }
  /// How many are not full, for tests: it looks at all of them.
  std::size_t active(Nanoseconds now) const;

 private:
  struct Entry {
    Address address;
    TokenBucket bucket;
  };
  static constexpr std::size_t kRow = 8;  ///< places in which an address may stand: four cache lines

  TokenRate rate_;
  std::vector<Entry> entries_;
  std::uint64_t key0_;
  std::uint64_t key1_;
};

}  // namespace bulkhead::acceptor
