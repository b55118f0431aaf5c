#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>

#include "base/address.h"
#include "services/controller/pool.h"

namespace bulkhead::controller::test {

inline Point point(const std::string& text) {
  return parse_point(text, std::nullopt).value();
}
/// Distinct points of different addresses.
inline Point numbered(std::uint32_t number, std::uint16_t port = 9732) {
  Point point{parse_address("10.0.0.0").value(), port};
  point.address.bytes[13] = static_cast<std::uint8_t>(number >> 16);
  point.address.bytes[14] = static_cast<std::uint8_t>(number >> 8);
  point.address.bytes[15] = static_cast<std::uint8_t>(number);
  return point;
}
inline PeerId peer_id(std::uint32_t number) {
  PeerId id{};
  id[0] = 0x50;
  id[1] = static_cast<std::uint8_t>(number >> 16);
  id[2] = static_cast<std::uint8_t>(number >> 8);
  id[3] = static_cast<std::uint8_t>(number);
  return id;
}
inline PublicKey key(std::uint8_t number) {
  PublicKey key{};
  key.fill(number);
  return key;
}
inline Now at(std::uint64_t ms) {
  return {ms * kMillisecond, static_cast<std::int64_t>(ms)};
}

inline PoolLimits limits() {
  PoolLimits limits;
  limits.slots = 12;
  limits.point_rows = 64;
  limits.peer_rows = 64;
  limits.maximum_connections = 8;
  limits.maximum_incoming = 20;
  limits.known_points_maximum = 40;
  limits.known_points_target = 30;
  limits.known_peers_maximum = 40;
  limits.known_peers_target = 30;
  limits.chain_name = "TEST";
  limits.distributed_db_versions = {0, 1, 2};
  limits.p2p_versions = {0, 1};
  return limits;
}

inline schema::Announcement announcement(std::uint16_t port = 9732) {
  return {port, "TEST", 2, 1};
}

/// Lists as a test wants them.
struct Lists : Judge {
  Standing of(const Address& address) const override {
    const auto found = addresses.find(address);
    return found == addresses.end() ? Standing::kNone : found->second;
  }
  Standing of(const PeerId& peer) const override {
    const auto found = peers.find(peer);
    return found == peers.end() ? Standing::kNone : found->second;
  }
  std::map<Address, Standing> addresses;
  std::map<PeerId, Standing> peers;
};

/// A pool over a table in shared memory, as the controller has it.
struct Node {
  explicit Node(PoolLimits with = test::limits(), std::uint64_t seed = 1, const Judge* with_judge = nullptr)
      : limits(std::move(with)), judge(with_judge), random(seed) {
    fd = shm::PoolTable::make(limits.slots, limits.point_rows, limits.peer_rows).value();
    table = shm::PoolTable::map(fd.get(), shm::Access::kReadWrite).value();
    history_fd = shm::HistoryTable::make(limits.point_rows, limits.peer_rows).value();
    history =
        shm::HistoryTable::map(history_fd.get(), shm::Access::kReadWrite, limits.point_rows, limits.peer_rows).value();
    restart();
  }

  /// A new controller over what the former one left; the first time a new one over nothing.
  void restart() {
    const bool recovering = pool != nullptr;
    pool = std::make_unique<Pool>(
        limits, &*table, [this] { return random(); }, &lists);
    pool->keep_history(&*history);
    if (recovering) pool->recover();
  }

  SlotRef claim(schema::Direction direction, const Point& remote, std::uint8_t with_key = 0) {
    const auto ref = pool->claim(direction, remote, key(with_key), deadline++, at(now));
    EXPECT_TRUE(ref);
    return ref.value_or(SlotRef{});
  }
  /// An incoming connection up to where the verdict is due.
  SlotRef incoming(const Point& listening, std::uint16_t source = 40000) {
    const auto ref = claim(schema::Direction::kIncoming, {listening.address, source});
    pool->announced(ref, announcement(listening.port));
    return ref;
  }
  SlotRef outgoing(const Point& remote) {
    EXPECT_EQ(pool->request(remote, at(now)), Reason::kNone);
    const auto ref = claim(schema::Direction::kOutgoing, remote);
    pool->announced(ref, announcement());
    return ref;
  }
  Decision decide(const SlotRef& ref, const PeerId& id, bool private_node = false) {
    return pool->decide(ref, {id, {false, private_node}}, at(now));
  }
  /// Over at whatever step, and its process reaped.
  void end(const SlotRef& ref, Reason reason) {
    pool->ended(ref, reason, at(now));
    pool->free(ref.slot);
  }
  SlotRef run(const SlotRef& ref, const PeerId& id, bool private_node = false) {
    EXPECT_EQ(decide(ref, id, private_node).kind, schema::VerdictKind::kAccept);
    pool->established(ref, at(now));
    return ref;
  }
  shm::PointState state(const Point& where) {
    const KnownPoint* known = pool->find_point(where);
    EXPECT_NE(known, nullptr);
    return known == nullptr ? shm::PointState::kDisconnected : known->state;
  }
  std::vector<shm::HistoryEvent> log(const Point& where) {
    const KnownPoint* known = pool->find_point(where);
    return known == nullptr ? std::vector<shm::HistoryEvent>() : history->point(known->row).read();
  }
  std::vector<shm::HistoryEvent> log(const PeerId& who) {
    const auto known = pool->peers().find(who);
    return known == pool->peers().end() ? std::vector<shm::HistoryEvent>() : history->peer(known->second.row).read();
  }
  bool knows(const Point& where) { return pool->find_point(where) != nullptr; }
  shm::SlotState slot_state(const SlotRef& ref) { return pool->slots()[ref.slot].state; }

  Lists lists;
  PoolLimits limits;
  const Judge* judge;
  std::mt19937_64 random;
  UniqueFd fd;
  std::optional<shm::PoolTable> table;
  UniqueFd history_fd;
  std::optional<shm::HistoryTable> history;
  std::unique_ptr<Pool> pool;
  std::uint64_t now = 1'000'000;
  std::uint64_t deadline = 1;
};

inline constexpr auto kIncoming = schema::Direction::kIncoming;
inline constexpr auto kOutgoing = schema::Direction::kOutgoing;
using schema::VerdictKind;
using shm::PeerState;
using shm::PointState;
using shm::SlotState;

/// Fails the test where a row in shared memory and the private copy differ, or where they break a rule.
void expect_consistent(Node& node);

inline void expect_refusal(const Decision& decision, Reason reason, std::int16_t motive) {
  EXPECT_EQ(decision.kind, VerdictKind::kNack);
  EXPECT_STREQ(reason_name(decision.reason), reason_name(reason));
  EXPECT_EQ(decision.motive, motive);
}
inline void expect_silence(const Decision& decision, Reason reason) {
  EXPECT_EQ(decision.kind, VerdictKind::kSilence);
  EXPECT_STREQ(reason_name(decision.reason), reason_name(reason));
  EXPECT_TRUE(decision.points.empty());
}

}  // namespace bulkhead::controller::test
