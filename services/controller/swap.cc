#include "services/controller/swap.h"

#include <algorithm>

#include "services/common/choice.h"

namespace bulkhead::controller {
namespace {

const Slot& slot_of(const Pool& pool, const SlotRef& ref) {
  return pool.slots()[ref.slot];
}

bool runs(const Pool& pool, const SlotRef& ref) {
  return ref.slot < pool.slots().size() && slot_of(pool, ref).generation == ref.generation &&
         slot_of(pool, ref).state == shm::SlotState::kRunning;
}

}  // namespace

// Any other neighbour that is not private and says where it listens; by the same choice as those that must go.
std::optional<Swaps::Offer> Swaps::offer(const Pool& pool, const SlotRef& to, Now now,
                                         const std::function<std::uint64_t()>& random) const {
  auto candidates = pool.neighbours(now);
  const bool hardened = pool.limits().hardened;
  std::erase_if(candidates, [&](const auto& one) {
    const Slot& slot = slot_of(pool, one.ref);
    return one.ref == to || slot.metadata.private_node || !slot.point || (hardened && one.outgoing);
  });
  const auto victims = service::choose_victims(candidates, 1, hardened, random);
  if (victims.empty()) return std::nullopt;
  const Slot& offered = slot_of(pool, victims.front());
  return Offer{to, victims.front(), *offered.point, offered.peer_id};
}

bool Swaps::may_dial(const Pool& pool, const Point& point) const {
  const auto known = pool.points().find(point);
  const bool connected = known != pool.points().end() && known->second.state != shm::PointState::kDisconnected;
  return pool.dialable(point) && !connected && pool.has_room();
}

std::optional<Swaps::Offer> Swaps::propose(const Pool& pool, Now now, const std::function<std::uint64_t()>& random) {
  if (!settings_.enabled || pool.limits().private_mode) return std::nullopt;
  auto recipients = pool.neighbours(now);
  std::erase_if(recipients, [&](const auto& one) { return slot_of(pool, one.ref).metadata.private_node; });
  service::shuffle(recipients, random);
  for (const auto& recipient : recipients) {
    auto made = offer(pool, recipient.ref, now, random);
    if (!made) continue;
    asked_[recipient.ref] = {made->offered, now.ns};
    return made;
  }
  return std::nullopt;
}

std::optional<Swaps::Answer> Swaps::requested(const Pool& pool, const SlotRef& from, const Point& point, Now now,
                                              const std::function<std::uint64_t()>& random) {
  if (!settings_.enabled || pool.limits().private_mode || !runs(pool, from)) return std::nullopt;
  for (const auto& last : {last_accepted_, last_successful_}) {
    if (last && now.ns - *last < settings_.linger) return std::nullopt;
  }
  if (!may_dial(pool, point)) return std::nullopt;
  auto ack = offer(pool, from, now, random);
  if (!ack) return std::nullopt;
  last_accepted_ = now.ns;
  const SlotRef replaced = ack->offered;
  return Answer{*std::move(ack), {point, replaced}};
}

std::optional<Swaps::Exchange> Swaps::acknowledged(const Pool& pool, const SlotRef& from, const Point& point, Now now) {
  const auto found = asked_.find(from);
  if (!settings_.enabled || found == asked_.end()) return std::nullopt;
  const Asked asked = found->second;
  asked_.erase(found);
  const bool in_time = now.ns - asked.at <= settings_.linger;
  if (!in_time || !runs(pool, asked.offered) || !may_dial(pool, point)) return std::nullopt;
  last_accepted_ = now.ns;
  return Exchange{point, asked.offered};
}

void Swaps::succeeded(Now now) {
  last_successful_ = now.ns;
}

}  // namespace bulkhead::controller
