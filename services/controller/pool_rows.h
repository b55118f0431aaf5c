#pragma once

#include "services/controller/pool_types.h"

/// What the pool holds as rows of the shared table, and what a row tells a controller that finds it. Pure.
namespace bulkhead::controller {

/// `peer`: what is known of the slot's peer; may be null.
shm::SlotRow row_of(const Slot& slot, bool trusted, const KnownPeer* peer);
shm::PointRow row_of(const Point& point, const KnownPoint& known, bool trusted);
shm::PeerRow row_of(const PeerId& peer, const KnownPeer& known, bool trusted);

/// A connection that was not running is claimed. What a row does not have is as in a new slot.
Slot slot_of(const shm::SlotRow& row, const std::string& chain_name);
/// Disconnected; the number of the row is not set.
KnownPoint known_of(const shm::PointRow& row);
KnownPeer known_of(const shm::PeerRow& row);

}  // namespace bulkhead::controller
