#include "services/maintainer/names.h"

#include <algorithm>
#include <array>

#include "base/address.h"

namespace bulkhead::maintainer {

bool is_host_address(const Address& address) {
  if (is_unspecified(address)) return false;
  // 224.0.0.0/4 is multicast, and all above it reserved; ff00::/8 is multicast.
  if (is_ipv4(address)) return address.bytes[12] != 0 && address.bytes[12] < 224;
  return address.bytes[0] != 0xff;
}

std::vector<Address> usable_addresses(const std::vector<Address>& addresses) {
  std::array<std::vector<Address>, 2> family;
  for (const Address& address : addresses) {
    auto& of = family[is_ipv4(address) ? 0 : 1];
    if (of.size() < kMaximumNameAddresses && is_host_address(address) &&
        std::find(of.begin(), of.end(), address) == of.end()) {
      of.push_back(address);
    }
  }
  std::vector<Address> usable;
  for (std::size_t i = 0; i < kMaximumNameAddresses; ++i) {
    for (const auto& of : family) {
      if (i < of.size() && usable.size() < kMaximumNameAddresses) usable.push_back(of[i]);
    }
  }
  return usable;
}

Names::Names(const std::vector<schema::ConfiguredPeer>& peers, std::function<std::uint64_t()> random)
    : random_(std::move(random)) {
  for (const auto& peer : peers) {
    if (const auto address = parse_address(peer.host)) {
      auto& expected = literal_[{*address, peer.port}];
      if (peer.expected_peer_id) expected = peer.expected_peer_id;
    } else {
      names_[peer.host].targets.push_back({peer.port, peer.expected_peer_id});
    }
  }
}

std::vector<std::string> Names::due(Nanoseconds now) {
  std::vector<std::string> due;
  auto room = static_cast<std::ptrdiff_t>(kLookupsAtOnce) -
              std::count_if(names_.begin(), names_.end(), [](const auto& entry) { return entry.second.under_way; });
  for (auto& [name, state] : names_) {
    if (room <= 0) break;
    if (state.under_way || state.next > now) continue;
    state.under_way = true;
    --room;
    due.push_back(name);
  }
  return due;
}

Names::Outcome Names::answered(const std::string& name, const NameAnswer& answer, Nanoseconds now) {
  const auto found = names_.find(name);
  if (found == names_.end()) return Outcome::kUsual;
  Name& state = found->second;
  state.under_way = false;
  const bool was_well = state.retry == 0;
  const auto usable = usable_addresses(answer.addresses);
  if (usable.empty()) {
    state.retry = was_well ? kFirstRetry : std::min(state.retry * 2, kLongestRetry);
    state.next = now + state.retry + random_() % (state.retry / 4);
    return was_well ? Outcome::kFailed : Outcome::kStillFailed;
  }
  state.retry = 0;
  const Nanoseconds refresh = std::clamp(answer.ttl_s * kSecond, kShortestRefresh, kLongestRefresh);
  state.next = now + refresh + random_() % (refresh / 4);
  for (const auto& address : usable) state.addresses[address] = now;
  std::erase_if(state.addresses, [now](const auto& entry) { return entry.second + kForgetAddress <= now; });
  while (state.addresses.size() > kMaximumNameAddresses) {
    state.addresses.erase(std::min_element(state.addresses.begin(), state.addresses.end(),
                                           [](const auto& a, const auto& b) { return a.second < b.second; }));
  }
  return was_well ? Outcome::kUsual : Outcome::kWellAgain;
}

std::optional<Nanoseconds> Names::next() const {
  std::optional<Nanoseconds> next;
  std::size_t under_way = 0;
  for (const auto& [name, state] : names_) {
    if (state.under_way) {
      ++under_way;
    } else {
      next = std::min(next.value_or(state.next), state.next);
    }
  }
  return under_way >= kLookupsAtOnce ? std::nullopt : next;
}

Names::Points Names::configured() const {
  Points points = literal_;
  for (const auto& [name, state] : names_) {
    for (const auto& target : state.targets) {
      for (const auto& [address, seen] : state.addresses) {
        const Point point{address, target.port};
        const auto known = points.find(point);
        if (known == points.end() && points.size() >= kMaximumConfiguredPoints) continue;
        auto& expected = points[point];
        if (target.expected_peer_id) expected = target.expected_peer_id;
      }
    }
  }
  return points;
}

std::vector<Names::Change> Names::untold() const {
  const Points points = configured();
  std::vector<Change> changes;
  for (const auto& [point, expected] : told_) {
    if (!points.contains(point)) changes.push_back({point, false, std::nullopt});
  }
  for (const auto& [point, expected] : points) {
    const auto known = told_.find(point);
    if (known == told_.end() || known->second != expected) changes.push_back({point, true, expected});
  }
  return changes;
}

void Names::told(const Change& change) {
  if (change.configured) {
    told_[change.point] = change.expected_peer_id;
  } else {
    told_.erase(change.point);
  }
}

}  // namespace bulkhead::maintainer
