#include "services/acceptor/door.h"

namespace bulkhead::acceptor {
namespace {

TokenRate rate(double per_second, std::uint32_t burst) {
  return {.per_second = per_second, .burst = static_cast<double>(burst)};
}

}  // namespace

Reason refusal_of(const shm::Verdict& verdict) {
  if (!verdict.refused()) return Reason::kNone;
  return verdict.list == shm::AclList::kBlack ? Reason::kBanned : Reason::kGreylisted;
}

Door::Door(const DoorLimits& limits, DoorKeys keys)
    : addresses_(rate(limits.accept_rate_address, limits.accept_burst_address), kRememberedAddresses, keys.key0,
                 keys.key1),
      prefixes_(rate(limits.accept_rate_prefix, limits.accept_burst_prefix), kRememberedPrefixes, keys.key1, keys.key0),
      pending_({.total = limits.pending_limit,
                .trusted_reserve = limits.trusted_reserve,
                .per_address = limits.pending_per_address,
                .per_prefix = limits.pending_per_prefix}) {}

Reason Door::over_rate(const Address& address, Nanoseconds now) {
  if (!addresses_.take(address, now)) return Reason::kAddressRate;
  const Prefix prefix = neighbourhood(address);
  if (is_single(prefix) || prefixes_.take(prefix.address, now)) return Reason::kNone;
  return Reason::kPrefixRate;
}

Door::Answer Door::knock(std::uint64_t id, const Address& address, const shm::Verdict& verdict, Nanoseconds deadline,
                         Nanoseconds now) {
  Answer answer;
  answer.refused = refusal_of(verdict);
  if (answer.refused != Reason::kNone) return answer;
  if (!verdict.trusted()) answer.refused = over_rate(address, now);
  if (answer.refused != Reason::kNone) return answer;
  const auto room = pending_.room_for(address, verdict.trusted());
  if (!room.here) {
    answer.refused = room.reason;
    return answer;
  }
  if (room.victim) {
    answer.victim = room.victim;
    answer.victim_reason = room.reason;
    pending_.remove(*room.victim);
  }
  pending_.add(id, address, verdict.trusted(), deadline);
  return answer;
}

}  // namespace bulkhead::acceptor
