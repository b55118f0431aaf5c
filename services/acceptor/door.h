#pragma once

#include <cstdint>

#include "base/settings.h"
#include "services/acceptor/pending.h"
#include "services/acceptor/rate_table.h"
#include "shm/lists.h"

namespace bulkhead::acceptor {

/// Addresses and prefixes whose recent connections are remembered: 2 MiB and 512 KiB.
inline constexpr std::size_t kRememberedAddresses = 65536;
inline constexpr std::size_t kRememberedPrefixes = 16384;

struct DoorKeys {
  std::uint64_t key0 = 0;
  std::uint64_t key1 = 0;
};

/// Why the lists turn an address away; kNone: they do not.
Reason refusal_of(const shm::Verdict& verdict);

/// Decides who comes in before any work was proved, cheapest first: black and grey list; how often the address, then
/// its prefix connects; how many connections without proof the address, its prefix and all together have. A trusted
/// address skips rates and counts of its own and has places that nobody else gets.
///
/// Loopback addresses count singly, never as a prefix. What an address is refused takes nothing from its prefix.
/// Pure: time and keys are given. One thread.
class Door {
 public:
  struct Answer {
    Reason refused = Reason::kNone;       ///< kNone: it is in, as `id`
    std::optional<std::uint64_t> victim;  ///< who went for it and is to be closed; already forgotten here
    Reason victim_reason = Reason::kNone;
  };

  Door(const DoorLimits& limits, DoorKeys keys);

  /// A connection from `address`. `id` as PendingTable has it.
  Answer knock(std::uint64_t id, const Address& address, const shm::Verdict& verdict, Nanoseconds deadline,
               Nanoseconds now);
  void spoke(std::uint64_t id) { pending_.spoke(id); }
  /// It is gone, or proved.
  void leave(std::uint64_t id) { pending_.remove(id); }

  const PendingTable& pending() const { return pending_; }

 private:
  Reason over_rate(const Address& address, Nanoseconds now);

  RateTable addresses_;
  RateTable prefixes_;
  PendingTable pending_;
};

}  // namespace bulkhead::acceptor
