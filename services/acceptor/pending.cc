#include "services/acceptor/pending.h"

#include <algorithm>

#include "base/address.h"

namespace bulkhead::acceptor {

Prefix neighbourhood(const Address& address) {
  constexpr std::uint8_t kIpv4Length = kMappedBits + 24;
  constexpr std::uint8_t kIpv6Length = 56;
  if (is_loopback(address)) return Prefix{address, kAddressBits};
  return prefix_of(address, is_ipv4(address) ? kIpv4Length : kIpv6Length);
}

PendingTable::Rank PendingTable::Rank::of(const Group& group) {
  // The greatest comes last in the set: of an earlier arrival, the greater rank.
  return {group.size(), !group.silent.empty(), ~group.first()};
}

template <typename Change>
void PendingTable::change(const Address& address, Change action) {
  const auto single = addresses_.try_emplace(address).first;
  action(single->second);
  if (single->second.size() == 0) addresses_.erase(single);
  const auto group = prefixes_.try_emplace(neighbourhood(address)).first;
  if (group->second.size() > 0) ranks_.erase(Rank::of(group->second));
  action(group->second);
  if (group->second.size() > 0) {
    ranks_.insert(Rank::of(group->second));
  } else {
    prefixes_.erase(group);
  }
}

PendingTable::Room PendingTable::room_for(const Address& address, bool trusted) const {
  if (!trusted) {
    const auto single = addresses_.find(address);
    if (single != addresses_.end() && single->second.size() >= limits_.per_address)
      return {true, single->second.first(), Reason::kAddressPendingLimit};
    const Prefix prefix = neighbourhood(address);
    const auto group = prefixes_.find(prefix);
    if (!is_single(prefix) && group != prefixes_.end() && group->second.size() >= limits_.per_prefix)
      return {true, group->second.first(), Reason::kPrefixPendingLimit};
  }
  // Trusted ones beyond their reserve take places as everybody does.
  const std::size_t kept = trusted ? trusted_ : std::max(trusted_, limits_.trusted_reserve);
  const std::size_t strangers = entries_.size() - trusted_;
  if (strangers + kept < limits_.total) return {};
  if (ranks_.empty()) return {false, std::nullopt, Reason::kPendingLimit};
  return {true, ~ranks_.rbegin()->first, Reason::kPendingLimit};
}

void PendingTable::add(std::uint64_t id, const Address& address, bool trusted, Nanoseconds deadline) {
  entries_[id] = Entry{address, trusted, deadline};
  if (trusted) {
    ++trusted_;
  } else {
    change(address, [id](Group& group) { group.silent.insert(id); });
  }
}

void PendingTable::remove(std::uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end()) return;
  if (entry->second.trusted) {
    --trusted_;
  } else {
    change(entry->second.address, [id](Group& group) {
      group.silent.erase(id);
      group.others.erase(id);
    });
  }
  entries_.erase(entry);
}

void PendingTable::spoke(std::uint64_t id) {
  const auto entry = entries_.find(id);
  if (entry == entries_.end() || entry->second.trusted) return;
  change(entry->second.address, [id](Group& group) {
    group.silent.erase(id);
    group.others.insert(id);
  });
}

std::optional<std::pair<std::uint64_t, Nanoseconds>> PendingTable::earliest() const {
  if (entries_.empty()) return std::nullopt;
  return std::pair(entries_.begin()->first, entries_.begin()->second.deadline);
}

}  // namespace bulkhead::acceptor
