#pragma once

#include "services/controller/pool_types.h"

namespace bulkhead::controller {

/// The slots of connections: which are free, and who is in the others. A slot's generation rises with each claim, so
/// that a reference to a former connection finds nothing.
class PoolSlots {
 public:
  explicit PoolSlots(std::uint32_t count) : slots_(count) {}

  const std::vector<Slot>& all() const { return slots_; }
  const Slot& at(SlotId id) const { return slots_[id]; }
  /// What a former controller left.
  void recover(SlotId id, Slot slot) { slots_[id] = std::move(slot); }

  /// Nothing when none is free.
  std::optional<SlotRef> claim(Slot slot);
  void free(SlotId id);
  Slot* find(const SlotRef& ref);

  std::uint32_t incoming_handshakes() const;
  std::uint32_t active() const;
  std::optional<SlotRef> running(const PeerId& peer) const;
  /// An accepted or running connection to it.
  bool active(const PeerId& peer) const;
  /// A dial of this point has come as far as a slot, and is not over.
  bool dialled(const Point& point) const;
  /// See Pool::same_key_victim().
  std::optional<SlotRef> same_key_victim(const PublicKey& key) const;
  /// All numbers but the revision.
  shm::PoolRow counts() const;

 private:
  std::vector<Slot> slots_;
};

}  // namespace bulkhead::controller
