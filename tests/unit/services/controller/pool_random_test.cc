#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <set>

#include "tests/unit/services/controller/pool_support.h"

namespace bulkhead::controller {
namespace test {

void expect_consistent(Node& node) {
  const Pool& pool = *node.pool;
  const auto& slots = pool.slots();
  std::uint32_t active = 0;
  std::set<PeerId> peers_in_use;
  std::map<Point, int> points_in_use;
  for (SlotId id = 0; id < slots.size(); ++id) {
    const Slot& slot = slots[id];
    const auto row = node.table->slot(id).read();
    if (slot.generation == 0) {
      EXPECT_FALSE(row && row->state != 0);
      continue;
    }
    ASSERT_TRUE(row);
    EXPECT_EQ(row->generation, slot.generation);
    EXPECT_EQ(row->state, static_cast<std::uint32_t>(slot.state));
    EXPECT_EQ(row->peer_id, slot.peer_id);
    EXPECT_EQ(row->address, slot.remote.address.bytes);
    EXPECT_EQ(row->port, slot.point ? slot.point->port : 0);
    EXPECT_EQ(row->worker_pid, slot.worker_pid);
    EXPECT_EQ(row->direction, static_cast<std::uint32_t>(slot.direction));
    if (slot.state != SlotState::kAccepted && slot.state != SlotState::kRunning) continue;
    ++active;
    EXPECT_TRUE(peers_in_use.insert(slot.peer_id).second) << "one connection for a peer";
    if (slot.point) ++points_in_use[*slot.point];
    if (const auto peer = pool.peers().find(slot.peer_id); peer != pool.peers().end()) {
      EXPECT_EQ(peer->second.state, slot.state == SlotState::kRunning ? PeerState::kRunning : PeerState::kAccepted);
    }
  }
  EXPECT_EQ(pool.active(), active);
  EXPECT_LE(active, node.limits.maximum_connections);
  std::set<std::uint32_t> rows;
  for (const auto& [where, known] : pool.points()) {
    EXPECT_TRUE(rows.insert(known.row).second) << "a row for each";
    EXPECT_LT(known.row, node.limits.point_rows);
    const auto row = node.table->point(known.row).read();
    ASSERT_TRUE(row);
    EXPECT_EQ(row->used, 1U);
    EXPECT_EQ(row->state, static_cast<std::uint32_t>(known.state));
    EXPECT_EQ(row->address, where.address.bytes);
    EXPECT_EQ(row->port, where.port);
    EXPECT_EQ(row->trusted != 0, known.trusted);
    EXPECT_EQ(row->known_public != 0, known.known_public);
    EXPECT_EQ(row->has_peer != 0, known.peer_id.has_value());
    EXPECT_EQ(row->next_attempt_ns, static_cast<std::int64_t>(known.next_attempt.ns));
    EXPECT_EQ(row->reconnect_delay_ms, known.delay_ms);
    const bool in_use = known.state == PointState::kAccepted || known.state == PointState::kRunning;
    EXPECT_EQ(in_use, points_in_use.contains(where)) << to_text(where) << " without a slot, or the reverse";
    if (in_use) {
      EXPECT_EQ(points_in_use[where], 1);
    }
    EXPECT_FALSE(pool.is_own(where));
  }
  for (const auto& [where, count] : points_in_use) {
    EXPECT_TRUE(pool.points().contains(where) || pool.points().size() >= node.limits.known_points_maximum ||
                pool.is_own(where));
  }
  std::size_t used = 0;
  for (std::uint32_t i = 0; i < node.limits.point_rows; ++i) {
    const auto row = node.table->point(i).read();
    if (row && row->used != 0) ++used;
  }
  EXPECT_EQ(used, pool.points().size()) << "no row is left behind";
  EXPECT_LE(pool.points().size(), std::max<std::size_t>(node.limits.known_points_maximum, node.limits.point_rows));
  std::size_t used_peers = 0;
  for (std::uint32_t i = 0; i < node.limits.peer_rows; ++i) {
    const auto row = node.table->peer(i).read();
    if (!row || row->used == 0) continue;
    ++used_peers;
    const auto known = pool.peers().find(row->peer_id);
    ASSERT_NE(known, pool.peers().end());
    EXPECT_EQ(known->second.row, i);
    EXPECT_EQ(row->state, static_cast<std::uint32_t>(known->second.state));
    if (known->second.state != PeerState::kDisconnected) {
      EXPECT_TRUE(peers_in_use.contains(row->peer_id));
    }
  }
  EXPECT_EQ(used_peers, pool.peers().size());
  const auto counts = node.table->pool().read();
  if (counts) {
    EXPECT_EQ(counts->active,
              static_cast<std::uint32_t>(std::count_if(
                  slots.begin(), slots.end(), [](const Slot& slot) { return slot.state == SlotState::kRunning; })));
  }
}

}  // namespace test

namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

// Sanitizers take several times as long for each.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kMillion = 100'000;
#else
constexpr int kMillion = 1'000'000;
#endif

/// What the controller knows beside the pool: its connections, and the dials that the maintainer has begun.
struct Model {
  struct Connection {
    SlotRef ref;
    enum class Step { kClaimed, kAnnounced, kAccepted, kRefused, kRunning, kEnded } step = Step::kClaimed;
    Reason reason = Reason::kNone;
  };
  std::vector<Connection> connections;
  std::vector<Point> dials;
};

/// Trusts the first peers, and the addresses of the first points.
class TrustsTheFirst : public Judge {
 public:
  Standing of(const Address& address) const override {
    return address.bytes[13] == 0 && address.bytes[14] == 0 && address.bytes[15] < 3 ? Standing::kTrusted
                                                                                     : Standing::kNone;
  }
  Standing of(const PeerId& peer) const override {
    return peer[2] == 0 && peer[3] < 5 ? Standing::kTrusted : Standing::kNone;
  }
};

void random_operations(PoolLimits with, std::uint64_t seed, int operations, const Judge* judge = nullptr) {
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  Node node(std::move(with), seed, judge);
  Model model;
  auto& random = node.random;
  using Step = Model::Connection::Step;
  const auto any_point = [&] {
    return numbered(static_cast<std::uint32_t>(random() % 60), random() % 30 == 0 ? 0 : 9732);
  };
  const auto any_reason = [&] {
    constexpr Reason kReasons[] = {
        Reason::kClosedInHandshake, Reason::kUnknownChainName, Reason::kRejectedByPeer, Reason::kDeprecatedP2pVersion,
        Reason::kClosedByPeer,      Reason::kWorkerKilled,     Reason::kKicked,         Reason::kMyself};
    return kReasons[random() % std::size(kReasons)];
  };
  const auto any_connection = [&](auto predicate) -> Model::Connection* {
    std::vector<Model::Connection*> fitting;
    for (auto& connection : model.connections) {
      if (predicate(connection.step)) fitting.push_back(&connection);
    }
    return fitting.empty() ? nullptr : fitting[random() % fitting.size()];
  };
  // Many operations are checked one by one, all of them now and then.
  for (int operation = 0; operation < operations; ++operation) {
    node.now += random() % 3000;
    switch (random() % 14) {
      case 0:
      case 1: {
        const auto ref = node.pool->claim(kIncoming, {any_point().address, 40000},
                                          key(static_cast<std::uint8_t>(random() % 4)), node.deadline++, at(node.now));
        EXPECT_EQ(ref.has_value(), model.connections.size() < node.limits.slots);
        if (ref) model.connections.push_back({*ref});
        break;
      }
      case 2: {
        const Point where = any_point();
        const Reason reason = node.pool->request(where, at(node.now));
        if (reason == Reason::kNone) {
          EXPECT_EQ(node.state(where), PointState::kRequested);
          model.dials.push_back(where);
        }
        break;
      }
      case 3: {
        if (model.dials.empty()) break;
        const auto dial = model.dials.begin() + static_cast<std::ptrdiff_t>(random() % model.dials.size());
        const Point where = *dial;
        model.dials.erase(dial);
        const auto ref =
            random() % 4 == 0 ? std::nullopt : node.pool->claim(kOutgoing, where, {}, node.deadline++, at(node.now));
        if (ref) {
          model.connections.push_back({*ref});
        } else {
          node.pool->dial_failed(where, at(node.now));
        }
        break;
      }
      case 4:
      case 5: {
        auto* connection = any_connection([](Step step) { return step == Step::kClaimed; });
        if (connection == nullptr) break;
        auto said = announcement(random() % 5 == 0 ? 0 : 9732);
        if (random() % 8 == 0) said.chain_name = "OTHER";
        if (random() % 8 == 0) said.p2p_version = 0;
        node.pool->announced(connection->ref, said);
        connection->step = Step::kAnnounced;
        break;
      }
      case 6:
      case 7: {
        auto* connection = any_connection([](Step step) { return step == Step::kAnnounced; });
        if (connection == nullptr) break;
        const auto slots = node.pool->slots();
        const auto decision =
            node.decide(connection->ref, peer_id(static_cast<std::uint32_t>(random() % 100)), random() % 4 == 0);
        if (decision.makes_room) {
          const Slot& victim = slots[decision.makes_room->slot];
          EXPECT_FALSE(node.pool->trusted(victim));
          EXPECT_EQ(victim.direction, kIncoming);
          for (auto& other : model.connections) {
            if (other.ref == *decision.makes_room) other.step = Step::kEnded;
          }
        }
        connection->step = decision.kind == VerdictKind::kAccept ? Step::kAccepted : Step::kRefused;
        connection->reason = decision.reason;
        if (decision.makes_room) {
          const Slot& victim = node.pool->slots()[decision.makes_room->slot];
          EXPECT_EQ(victim.direction, kIncoming);
          EXPECT_FALSE(node.pool->trusted(victim));
          for (auto& other : model.connections) {
            if (other.ref == *decision.makes_room) other.step = Step::kEnded;
          }
        }
        EXPECT_LE(decision.points.size(), 50U);
        break;
      }
      case 8: {
        // A worker may lie about what it was told.
        auto* connection = any_connection([](Step step) { return step == Step::kAccepted || step == Step::kRefused; });
        if (connection == nullptr) break;
        node.pool->established(connection->ref, at(node.now));
        if (connection->step == Step::kAccepted) connection->step = Step::kRunning;
        break;
      }
      case 9: {
        auto* connection = any_connection([](Step step) { return step != Step::kEnded; });
        if (connection == nullptr) break;
        const Reason reason = connection->reason == Reason::kNone ? any_reason() : connection->reason;
        const Slot slot = *node.pool->find(connection->ref);
        if (reason == Reason::kMyself && (connection->step == Step::kClaimed || connection->step == Step::kAnnounced)) {
          node.pool->met_myself(connection->ref);
        }
        node.pool->ended(connection->ref, reason, at(node.now));
        connection->step = Step::kEnded;
        if (slot.direction == kOutgoing && slot.point && node.knows(*slot.point)) {
          // Trap 18, whatever the step was.
          EXPECT_EQ(node.state(*slot.point), PointState::kDisconnected);
        }
        break;
      }
      case 10: {
        auto* connection = any_connection([](Step step) { return step == Step::kEnded; });
        if (connection == nullptr) break;
        node.pool->free(connection->ref.slot);
        const SlotRef ref = connection->ref;
        std::erase_if(model.connections, [&](const auto& other) { return other.ref == ref; });
        break;
      }
      case 11:
        node.pool->register_point(any_point(), false, at(node.now));
        if (auto* teller = any_connection([](Step step) { return step == Step::kRunning; }))
          node.pool->hear(teller->ref, {any_point(), any_point(), any_point()}, at(node.now));
        node.pool->set_score(peer_id(static_cast<std::uint32_t>(random() % 100)), static_cast<double>(random() % 9) - 4,
                             at(node.now));
        for (const auto& victim : service::choose_victims(node.pool->neighbours(at(node.now)), random() % 4,
                                                          node.limits.hardened, [&] { return random(); })) {
          EXPECT_FALSE(node.pool->trusted(node.pool->slots()[victim.slot]));
        }
        break;
      case 12:
        if (random() % 20 == 0)
          node.pool->configure(numbered(static_cast<std::uint32_t>(random() % 12)), std::nullopt, at(node.now));
        if (random() % 50 == 0) {
          node.pool->abandon_requests(at(node.now));
          model.dials.clear();
        }
        break;
      default:
        if (random() % 400 == 0) {
          // The maintainer's dials go with the controller's memory of them; handshakes are ended by its successor.
          node.restart();
          model.dials.clear();
          for (auto& connection : model.connections) {
            if (connection.step == Step::kRunning) continue;
            node.end(connection.ref, Reason::kControllerRestarted);
            connection.step = Step::kEnded;
          }
          std::erase_if(model.connections, [](const auto& connection) { return connection.step == Step::kEnded; });
        }
    }
    ASSERT_LE(node.pool->active() + node.pool->under_way(), node.limits.maximum_connections);
    // No point is requested but by a dial under way or a slot that came of one.
    if (operation % 16 == 0) {
      for (const auto& [where, known] : node.pool->points()) {
        if (known.state != PointState::kRequested) continue;
        const bool dialled = std::find(model.dials.begin(), model.dials.end(), where) != model.dials.end();
        const bool has_slot = std::any_of(node.pool->slots().begin(), node.pool->slots().end(), [&](const Slot& slot) {
          return slot.direction == kOutgoing && slot.remote == where &&
                 (slot.state == SlotState::kClaimed || slot.state == SlotState::kHandshake);
        });
        ASSERT_TRUE(dialled || has_slot) << to_text(where) << " at operation " << operation;
      }
    }
    if (operation % 64 == 0) {
      expect_consistent(node);
      if (testing::Test::HasFailure()) FAIL() << "at operation " << operation;
    }
  }
}

TEST(PoolUnderRandomOperations, KeepsItsInvariants) {
  const char* given = std::getenv("BULKHEAD_TEST_SEED");
  random_operations(limits(), given != nullptr ? std::strtoull(given, nullptr, 0) : 20240607, 200000);
}

TEST(PoolUnderRandomOperations, KeepsItsInvariantsWhenEverythingIsScarce) {
  auto with = limits();
  with.slots = 5;
  with.maximum_connections = 2;
  with.known_points_maximum = 6;
  with.known_points_target = 4;
  with.point_rows = 12;
  with.known_peers_maximum = 5;
  with.known_peers_target = 3;
  with.peer_rows = 10;
  random_operations(with, 7, 60000);
}

TEST(PoolUnderRandomOperations, KeepsItsInvariantsHardenedWithTrustedPeersOverAMillionEvents) {
  auto with = limits();
  with.hardened = true;
  with.allow_private_points = true;
  with.score_half_life_s = 3600;
  with.maximum_connections = 5;
  const TrustsTheFirst judge;
  random_operations(with, 20261122, kMillion, &judge);
}

TEST(PoolUnderRandomOperations, KeepsItsInvariantsInPrivateMode) {
  auto with = limits();
  with.private_mode = true;
  random_operations(with, 3, 30000);
}

}  // namespace
}  // namespace bulkhead::controller
