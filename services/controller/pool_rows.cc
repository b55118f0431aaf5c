#include "services/controller/pool_rows.h"

namespace bulkhead::controller {

shm::SlotRow row_of(const Slot& slot, bool trusted, const KnownPeer* peer) {
  shm::SlotRow row{};
  row.generation = slot.generation;
  row.state = static_cast<std::uint32_t>(slot.state);
  row.direction = static_cast<std::uint32_t>(slot.direction);
  row.worker_pid = slot.worker_pid;
  row.remote_port = slot.remote.port;
  row.port = slot.point ? slot.point->port : 0;
  row.distributed_db_version = slot.announcement.distributed_db_version;
  row.p2p_version = slot.announcement.p2p_version;
  row.peer_id = slot.peer_id;
  row.address = slot.remote.address.bytes;
  row.private_node = slot.metadata.private_node ? 1 : 0;
  row.disable_mempool = slot.metadata.disable_mempool ? 1 : 0;
  row.trusted = trusted ? 1 : 0;
  row.negotiated_ddb = static_cast<std::uint8_t>(slot.negotiated_ddb);
  row.weight_milli = 1000;
  row.since_ms = slot.since_ms;
  row.deadline_ns = static_cast<std::int64_t>(slot.deadline_ns);
  row.group = slot.group;
  row.handshake_us = slot.handshake_us;
  if (slot.has_peer && peer != nullptr) {
    row.score_milli = static_cast<std::int64_t>(peer->score * 1000);
    row.score_ms = peer->score_ms;
  }
  return row;
}

shm::PointRow row_of(const Point& point, const KnownPoint& known, bool trusted) {
  shm::PointRow row{};
  row.used = 1;
  row.state = static_cast<std::uint32_t>(known.state);
  row.address = point.address.bytes;
  row.port = point.port;
  row.trusted = trusted ? 1 : 0;
  row.known_public = known.known_public ? 1 : 0;
  row.has_expected = known.expected_peer_id ? 1 : 0;
  if (known.expected_peer_id) row.expected_peer_id = *known.expected_peer_id;
  row.has_peer = known.peer_id ? 1 : 0;
  if (known.peer_id) row.peer_id = *known.peer_id;
  row.last_failed_ms = known.last_failed_ms;
  row.last_rejected_ms = known.last_rejected_ms;
  row.last_established_ms = known.last_established_ms;
  row.last_disconnection_ms = known.last_disconnection_ms;
  row.next_attempt_ns = static_cast<std::int64_t>(known.next_attempt.ns);
  row.next_attempt_ms = known.next_attempt.ms;
  row.reconnect_delay_ms = known.delay_ms;
  row.group = known.group;
  row.source = known.source;
  row.tried = known.tried ? 1 : 0;
  row.anchor = known.anchor ? 1 : 0;
  return row;
}

shm::PeerRow row_of(const PeerId& peer, const KnownPeer& known, bool trusted) {
  shm::PeerRow row{};
  row.used = 1;
  row.state = static_cast<std::uint32_t>(known.state);
  row.peer_id = peer;
  if (known.address) row.address = known.address->bytes;
  if (known.point) {
    row.address = known.point->address.bytes;
    row.port = known.point->port;
  }
  row.trusted = trusted ? 1 : 0;
  row.has_metadata = known.metadata ? 1 : 0;
  if (known.metadata) {
    row.private_node = known.metadata->private_node ? 1 : 0;
    row.disable_mempool = known.metadata->disable_mempool ? 1 : 0;
  }
  row.score_milli = static_cast<std::int64_t>(known.score * 1000);
  row.score_ms = known.score_ms;
  row.created_ms = known.created_ms;
  row.last_failed_ms = known.last_failed_ms;
  row.last_rejected_ms = known.last_rejected_ms;
  row.last_established_ms = known.last_established_ms;
  row.last_disconnection_ms = known.last_disconnection_ms;
  return row;
}

Slot slot_of(const shm::SlotRow& row, const std::string& chain_name) {
  Slot slot;
  slot.generation = row.generation;
  if (row.state == static_cast<std::uint32_t>(shm::SlotState::kFree)) return slot;
  slot.state = row.state == static_cast<std::uint32_t>(shm::SlotState::kRunning) ? shm::SlotState::kRunning
                                                                                 : shm::SlotState::kClaimed;
  slot.direction = row.direction == 0 ? schema::Direction::kIncoming : schema::Direction::kOutgoing;
  slot.remote = {Address{row.address}, static_cast<std::uint16_t>(row.remote_port)};
  if (row.port != 0) slot.point = Point{Address{row.address}, static_cast<std::uint16_t>(row.port)};
  slot.has_peer = slot.state == shm::SlotState::kRunning;
  slot.peer_id = row.peer_id;
  slot.announcement = {static_cast<std::uint16_t>(row.port), chain_name, row.distributed_db_version, row.p2p_version};
  slot.metadata = {row.disable_mempool != 0, row.private_node != 0};
  slot.negotiated_ddb = row.negotiated_ddb;
  slot.worker_pid = row.worker_pid;
  slot.since_ms = row.since_ms;
  slot.group = row.group;
  slot.handshake_us = row.handshake_us;
  return slot;
}

KnownPoint known_of(const shm::PointRow& row) {
  KnownPoint known;
  known.trusted = row.trusted != 0;
  known.known_public = row.known_public != 0;
  if (row.has_expected != 0) known.expected_peer_id = row.expected_peer_id;
  known.last_failed_ms = row.last_failed_ms;
  known.last_rejected_ms = row.last_rejected_ms;
  known.last_established_ms = row.last_established_ms;
  known.last_disconnection_ms = row.last_disconnection_ms;
  known.next_attempt = {static_cast<Nanoseconds>(row.next_attempt_ns), row.next_attempt_ms};
  known.delay_ms = row.reconnect_delay_ms;
  known.group = row.group;
  known.source = row.source;
  known.tried = row.tried != 0;
  known.anchor = row.anchor != 0;
  return known;
}

KnownPeer known_of(const shm::PeerRow& row) {
  KnownPeer known;
  known.score = static_cast<double>(row.score_milli) / 1000;
  known.score_ms = row.score_ms;
  if (Address{row.address} != Address{}) known.address = Address{row.address};
  if (row.port != 0) known.point = Point{Address{row.address}, row.port};
  if (row.has_metadata != 0)
    known.metadata = schema::ConnectionMetadata{row.disable_mempool != 0, row.private_node != 0};
  known.created_ms = row.created_ms;
  known.last_failed_ms = row.last_failed_ms;
  known.last_rejected_ms = row.last_rejected_ms;
  known.last_established_ms = row.last_established_ms;
  known.last_disconnection_ms = row.last_disconnection_ms;
  return known;
}

}  // namespace bulkhead::controller
