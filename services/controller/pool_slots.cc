#include "services/controller/pool_slots.h"

#include <tuple>

namespace bulkhead::controller {
namespace {

constexpr std::size_t kSameKeyLimit = 4;

// The unit in which one neighbour's addresses are counted when unproved keys compete.
Address crowd_of(const Address& address) {
  Address base = address;
  const bool v4 = std::all_of(address.bytes.begin(), address.bytes.begin() + 10, [](auto b) { return b == 0; }) &&
                  address.bytes[10] == 0xff;
  if (v4 && address.bytes[12] == 127) return base;
  std::fill(base.bytes.begin() + (v4 ? 15 : 7), base.bytes.end(), std::uint8_t{0});
  return base;
}

}  // namespace

std::optional<SlotRef> PoolSlots::claim(Slot slot) {
  for (SlotId i = 0; i < slots_.size(); ++i) {
    if (slots_[i].state != shm::SlotState::kFree) continue;
    slot.generation = slots_[i].generation + 1;
    slot.state = shm::SlotState::kClaimed;
    slots_[i] = std::move(slot);
    return SlotRef{i, slots_[i].generation};
  }
  return std::nullopt;
}

void PoolSlots::free(SlotId id) {
  const Generation generation = slots_[id].generation;
  slots_[id] = Slot{};
  slots_[id].generation = generation;
}

Slot* PoolSlots::find(const SlotRef& ref) {
  if (ref.slot >= slots_.size()) return nullptr;
  Slot& slot = slots_[ref.slot];
  return slot.generation == ref.generation && slot.state != shm::SlotState::kFree ? &slot : nullptr;
}

std::uint32_t PoolSlots::incoming_handshakes() const {
  return static_cast<std::uint32_t>(std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) {
    return slot.in_handshake() && slot.direction == schema::Direction::kIncoming;
  }));
}

std::uint32_t PoolSlots::active() const {
  return static_cast<std::uint32_t>(
      std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.active(); }));
}

std::optional<SlotRef> PoolSlots::running(const PeerId& peer) const {
  for (SlotId i = 0; i < slots_.size(); ++i) {
    if (slots_[i].state == shm::SlotState::kRunning && slots_[i].peer_id == peer)
      return SlotRef{i, slots_[i].generation};
  }
  return std::nullopt;
}

bool PoolSlots::active(const PeerId& peer) const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [&](const Slot& slot) { return slot.active() && slot.peer_id == peer; });
}

bool PoolSlots::dialled(const Point& point) const {
  return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    return (slot.in_handshake() || slot.active()) && slot.direction == schema::Direction::kOutgoing &&
           slot.point == point;
  });
}

std::optional<SlotRef> PoolSlots::same_key_victim(const PublicKey& key) const {
  std::map<Address, std::vector<SlotId>> crowds;
  std::size_t total = 0;
  for (SlotId i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (!slot.in_handshake() || slot.direction != schema::Direction::kIncoming || slot.public_key != key) continue;
    crowds[crowd_of(slot.remote.address)].push_back(i);
    ++total;
  }
  if (total < kSameKeyLimit) return std::nullopt;
  const auto older = [this](SlotId a, SlotId b) {
    return std::tie(slots_[a].deadline_ns, slots_[a].since_ms) < std::tie(slots_[b].deadline_ns, slots_[b].since_ms);
  };
  std::size_t largest = 0;
  SlotId oldest = 0;
  for (const auto& [crowd, members] : crowds) {
    const SlotId first = *std::min_element(members.begin(), members.end(), older);
    // Of crowds of one size the one that holds on for longest: the owner of the key has just come.
    if (members.size() < largest || (members.size() == largest && !older(first, oldest))) continue;
    largest = members.size();
    oldest = first;
  }
  return SlotRef{oldest, slots_[oldest].generation};
}

shm::PoolRow PoolSlots::counts() const {
  shm::PoolRow row{};
  for (const auto& slot : slots_) {
    if (slot.state == shm::SlotState::kRunning) {
      ++row.active;
      ++(slot.direction == schema::Direction::kIncoming ? row.incoming : row.outgoing);
    } else if (slot.in_handshake() || slot.state == shm::SlotState::kAccepted) {
      ++row.pending;
    }
  }
  return row;
}

}  // namespace bulkhead::controller
