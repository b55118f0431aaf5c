#include "tests/simulation/network.h"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace bulkhead::simulation {
namespace {

using controller::Decision;
using controller::Pool;

using schema::Direction;

constexpr Nanoseconds kDialTimeout = 10 * kSecond;
// When the two ends of a connection that was cut find out.
constexpr Nanoseconds kLostAfter = 30 * kSecond;
constexpr Nanoseconds kWake = 20 * kMillisecond;
constexpr std::uint64_t kJitterMs = 150;
constexpr std::uint32_t kKnown = 400;
constexpr std::uint32_t kSpareRows = 64;

PeerId peer_of(Network::NodeId node) {
  PeerId id{};
  for (std::size_t i = 0; i < 4; ++i) id[i] = static_cast<std::uint8_t>(node >> (8 * i));
  id[15] = 1;
  return id;
}

}  // namespace

struct Network::Link {
  NodeId dialler = 0;
  NodeId dialled = 0;
  SlotRef at_dialler;
  SlotRef at_dialled;
  bool over_at_dialler = false;
  bool over_at_dialled = false;
  bool feeler = false;
  bool runs = false;
  std::function<void(bool)> done;

  bool over_at(NodeId node) const { return node == dialler ? over_at_dialler : over_at_dialled; }
  SlotRef at(NodeId node) const { return node == dialler ? at_dialler : at_dialled; }
  NodeId other(NodeId node) const { return node == dialler ? dialled : dialler; }
};

struct Network::Node {
  std::uint64_t life = 0;  ///< counts the starts; what belongs to a former life is dropped
  bool up = false;
  std::uint32_t side = 0;
  std::unique_ptr<Pool> pool;
  std::unique_ptr<maintainer::Maintenance> maintenance;
  std::unique_ptr<controller::Swaps> swaps;
  std::map<SlotId, LinkRef> links;
  Nanoseconds look_at = 0;  ///< 0: none is due
  std::uint64_t look_number = 0;
};

Network::Network(NetworkSettings settings)
    : settings_(settings),
      bounds_(bounds_for(settings.minimum, settings.expected, settings.maximum)),
      random_(settings.seed) {
  for (NodeId i = 0; i < settings_.nodes; ++i) {
    nodes_.push_back(std::make_unique<Node>());
    by_point_[point_of(i)] = i;
  }
}

Network::~Network() = default;

Point Network::point_of(NodeId node) const {
  // Four nodes a group, all routable: 20.0.0.1 and on.
  Point point{{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 20, 0, 0, 1}}, 9732};
  point.address.bytes[12] = static_cast<std::uint8_t>(20 + node / 1024);
  point.address.bytes[13] = static_cast<std::uint8_t>(node / 4 % 256);
  point.address.bytes[14] = static_cast<std::uint8_t>(node % 4);
  return point;
}

// ---- time

void Network::in(Nanoseconds delay, std::function<void()> action) {
  queue_.push({now_ + delay, next_number_++, std::move(action)});
}

Nanoseconds Network::delay() {
  const std::uint64_t span = settings_.most_delay_ms - settings_.least_delay_ms + 1;
  return (settings_.least_delay_ms + random_() % span) * kMillisecond;
}

controller::Now Network::clock() const {
  return {now_, static_cast<std::int64_t>(now_ / kMillisecond)};
}

void Network::run(double seconds) {
  const Nanoseconds until = now_ + static_cast<Nanoseconds>(seconds * static_cast<double>(kSecond));
  while (!queue_.empty() && queue_.top().at <= until) {
    const Event event = queue_.top();
    queue_.pop();
    now_ = event.at;
    ++handled_;
    event.action();
  }
  now_ = until;
}

// ---- nodes

void Network::start(NodeId id) {
  Node& node = *nodes_[id];
  if (node.up) return;
  controller::PoolLimits limits;
  limits.slots = settings_.maximum + 40;
  limits.point_rows = limits.peer_rows = kKnown + kSpareRows;
  limits.maximum_connections = settings_.maximum;
  limits.known_points_maximum = limits.known_peers_maximum = kKnown;
  limits.known_points_target = limits.known_peers_target = kKnown / 4 * 3;
  limits.disable_peer_discovery = settings_.disable_peer_discovery;
  limits.chain_name = "SIMULATION";
  limits.distributed_db_versions = {2};
  limits.p2p_versions = {1};
  limits.hardened = settings_.hardened;
  node.up = true;
  ++node.life;
  const auto random = [this] { return random_(); };
  node.pool = std::make_unique<Pool>(limits, nullptr, random);
  node.pool->add_own_point(point_of(id));
  node.swaps = std::make_unique<controller::Swaps>(controller::Swaps::Settings{.enabled = settings_.swap});
  node.maintenance = std::make_unique<maintainer::Maintenance>(
      maintainer::MaintenanceSettings{
          .bounds = bounds_,
          .minimum = settings_.minimum,
          .maximum = settings_.maximum,
          .idle = static_cast<Nanoseconds>(settings_.maintenance_idle_s * static_cast<double>(kSecond)),
          .exchange = !settings_.disable_peer_discovery,
          .swap = settings_.swap,
          .hardened = settings_.hardened,
          .own_points = {point_of(id)}},
      random);
  for (NodeId known = 0; known < std::min(settings_.bootstrap, settings_.nodes); ++known) {
    if (known != id) node.pool->configure(point_of(known), std::nullopt, clock());
  }
  look_soon(id);
}

void Network::crash(NodeId id) {
  Node& node = *nodes_[id];
  if (!node.up) return;
  auto links = std::exchange(node.links, {});
  node.up = false;
  node.look_at = 0;
  for (const auto& [slot, link] : links) {
    (id == link->dialler ? link->over_at_dialler : link->over_at_dialled) = true;
    const NodeId other = link->other(id);
    in(delay(), [this, link = link, other] { end_at(link, other, Reason::kConnectionLost); });
  }
}

void Network::partition(const std::function<std::uint32_t(NodeId)>& side_of) {
  for (NodeId id = 0; id < nodes_.size(); ++id) nodes_[id]->side = side_of(id);
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    for (const auto& [slot, link] : nodes_[id]->links) {
      if (hears(id, link->other(id))) continue;
      in(kLostAfter + delay(), [this, link = link, id] {
        if (!hears(id, link->other(id))) end(link, id, Reason::kConnectionLost);
      });
    }
  }
}

void Network::heal() {
  for (auto& node : nodes_) node->side = 0;
}

void Network::introduce(NodeId node, NodeId to, bool trusted) {
  nodes_[node]->pool->register_point(point_of(to), trusted, clock());
  look_soon(node);
}

void Network::close(NodeId node, NodeId peer) {
  for (const auto& [slot, link] : nodes_[node]->links) {
    if (link->other(node) != peer) continue;
    end(LinkRef(link), node, Reason::kKicked);
    return;
  }
}

bool Network::hears(NodeId one, NodeId other) const {
  return nodes_[one]->up && nodes_[other]->up && nodes_[one]->side == nodes_[other]->side;
}

// ---- maintenance

void Network::look_soon(NodeId id) {
  look_at(id, now_ + kWake + random_() % kJitterMs * kMillisecond);
}

void Network::look_at(NodeId id, Nanoseconds at) {
  Node& node = *nodes_[id];
  if (!node.up || (node.look_at != 0 && node.look_at <= at)) return;
  node.look_at = at;
  const std::uint64_t number = ++node.look_number;
  in(at - std::min(at, now_), [this, id, number] {
    Node& looking = *nodes_[id];
    if (!looking.up || looking.look_number != number) return;
    looking.look_at = 0;
    look(id);
  });
}

void Network::look(NodeId id) {
  Node& node = *nodes_[id];
  maintainer::PoolView view;
  view.slots.reserve(node.pool->slots().size());
  view.points.reserve(node.pool->points().size());
  for (SlotId slot = 0; slot < node.pool->slots().size(); ++slot) view.slots.push_back(node.pool->slot_row(slot));
  for (const auto& [point, known] : node.pool->points()) view.points.push_back(node.pool->point_row(point, known));
  const auto work = node.maintenance->look(view, {}, now_, clock().ms);
  for (const auto& ref : work.closes) {
    const auto found = node.links.find(ref.slot);
    if (found != node.links.end() && found->second->at(id) == ref)
      end(LinkRef(found->second), id, Reason::kMaintenanceTooMany);
  }
  for (const auto& point : work.dials) dial(id, point, false, {});
  if (work.feeler) dial(id, *work.feeler, true, {});
  if (work.ask_for_peers) ask_for_peers(id);
  if (work.propose_swap) propose_swap(id);
  if (!work.dials.empty()) look_soon(id);
  if (work.look_again_at > now_) look_at(id, work.look_again_at + random_() % kJitterMs * kMillisecond);
}

// ---- connections

void Network::dial(NodeId id, const Point& point, bool feeler, std::function<void(bool)> done) {
  Node& node = *nodes_[id];
  if (node.pool->request(point, clock()) != Reason::kNone) {
    if (done) done(false);
    return;
  }
  check(id);
  const auto found = by_point_.find(point);
  const NodeId to = found == by_point_.end() ? settings_.nodes : found->second;
  const bool reached = to < settings_.nodes && hears(id, to);
  const bool refused = to < settings_.nodes && !nodes_[to]->up;
  const std::uint64_t life = node.life;
  if (reached) {
    in(2 * delay(), [this, id, to, point, feeler, life, done = std::move(done)] {
      if (nodes_[id]->up && nodes_[id]->life == life) connect(id, to, point, feeler, done);
    });
    return;
  }
  in(refused ? 2 * delay() : kDialTimeout, [this, id, point, life, done = std::move(done)] {
    Node& dialling = *nodes_[id];
    if (!dialling.up || dialling.life != life) return;
    dialling.pool->dial_failed(point, clock());
    if (done) done(false);
    look_soon(id);
  });
}

void Network::connect(NodeId id, NodeId to, const Point& point, bool feeler, std::function<void(bool)> done) {
  Node& node = *nodes_[id];
  Node& other = *nodes_[to];
  const auto fail = [&] {
    node.pool->dial_failed(point, clock());
    if (done) done(false);
    look_soon(id);
  };
  const bool taken = hears(id, to) && other.pool->incoming_handshakes() < other.pool->limits().maximum_incoming;
  if (!taken) return fail();
  const auto ours = node.pool->claim(Direction::kOutgoing, point, {}, 0, clock());
  if (!ours) return fail();
  Point source = point_of(id);
  source.port = static_cast<std::uint16_t>(20000 + random_() % 40000);
  const auto theirs = other.pool->claim(Direction::kIncoming, source, {}, 0, clock());
  auto link = std::make_shared<Link>();
  link->dialler = id;
  link->dialled = to;
  link->at_dialler = *ours;
  link->feeler = feeler;
  link->done = std::move(done);
  node.links[ours->slot] = link;
  if (!theirs) {
    link->over_at_dialled = true;
    end_at(link, id, Reason::kClosedInHandshake);
    return;
  }
  link->at_dialled = *theirs;
  other.links[theirs->slot] = link;
  in(2 * delay(), [this, link] { decide(link); });
}

void Network::made_room(NodeId id, const Decision& decision) {
  if (!decision.makes_room) return;
  const auto found = nodes_[id]->links.find(decision.makes_room->slot);
  if (found != nodes_[id]->links.end()) end(LinkRef(found->second), id, Reason::kMadeRoom);
}

void Network::decide(const LinkRef& link) {
  if (link->over_at_dialler || link->over_at_dialled) return;
  const auto ask = [&](NodeId id, NodeId other) {
    Pool& pool = *nodes_[id]->pool;
    pool.announced(link->at(id), {9732, "SIMULATION", 2, 1});
    Decision decision = pool.decide(link->at(id), {peer_of(other), {}}, clock());
    check(id);
    made_room(id, decision);
    return decision;
  };
  const Decision of_dialler = ask(link->dialler, link->dialled);
  const Decision of_dialled = ask(link->dialled, link->dialler);
  in(delay(), [this, link, of_dialler, of_dialled] { settle(link, of_dialler, of_dialled); });
}

void Network::settle(const LinkRef& link, const Decision& of_dialler, const Decision& of_dialled) {
  if (link->over_at_dialler || link->over_at_dialled) return;
  const auto accepted = [](const Decision& decision) { return decision.kind == schema::VerdictKind::kAccept; };
  if (accepted(of_dialler) && accepted(of_dialled)) {
    link->runs = true;
    for (const NodeId id : {link->dialler, link->dialled}) {
      nodes_[id]->pool->established(link->at(id), clock());
      check(id);
      look_soon(id);
    }
    if (link->done) std::exchange(link->done, {})(true);
    if (link->feeler) end(link, link->dialler, Reason::kNone);
    return;
  }
  const auto over = [&](NodeId id, const Decision& own, const Decision& others) {
    if (!others.points.empty() && !settings_.disable_peer_discovery)
      nodes_[id]->pool->hear(link->at(id), others.points, clock());
    end_at(link, id, accepted(own) ? Reason::kRejectedByPeer : own.reason);
  };
  over(link->dialler, of_dialler, of_dialled);
  over(link->dialled, of_dialled, of_dialler);
}

void Network::end(const LinkRef& link, NodeId by, Reason reason) {
  if (link->over_at(by)) return;
  end_at(link, by, reason);
  const NodeId other = link->other(by);
  in(delay(), [this, link, other] { end_at(link, other, Reason::kClosedByPeer); });
}

void Network::end_at(const LinkRef& link, NodeId id, Reason reason) {
  bool& over = id == link->dialler ? link->over_at_dialler : link->over_at_dialled;
  if (over) return;
  over = true;
  Node& node = *nodes_[id];
  const SlotRef ref = link->at(id);
  node.swaps->forget(ref);
  node.pool->ended(ref, reason, clock());
  node.pool->free(ref.slot);
  node.links.erase(ref.slot);
  if (id == link->dialler && link->done) std::exchange(link->done, {})(false);
  look_soon(id);
}

// ---- peer exchange

void Network::ask_for_peers(NodeId id) {
  for (const auto& [slot, link] : nodes_[id]->links) {
    if (!link->runs) continue;
    const NodeId other = link->other(id);
    in(delay(), [this, link = link, id, other] {
      if (link->over_at(other) || settings_.disable_peer_discovery) return;
      auto points = nodes_[other]->pool->list_known_points();
      if (points.empty()) return;
      in(delay(), [this, link, id, points = std::move(points)] {
        if (link->over_at(id)) return;
        advertised_ += points.size();
        nodes_[id]->pool->hear(link->at(id), points, clock());
        look_soon(id);
      });
    });
  }
}

void Network::propose_swap(NodeId id) {
  Node& node = *nodes_[id];
  const auto offer = node.swaps->propose(*node.pool, clock(), [this] { return random_(); });
  if (!offer) return;
  const LinkRef link = node.links.at(offer->to.slot);
  in(delay(), [this, link, to = link->other(id), point = offer->point] { swap_requested(to, link, point); });
}

void Network::swap_requested(NodeId id, const LinkRef& from, const Point& point) {
  if (from->over_at(id)) return;
  Node& node = *nodes_[id];
  const auto answer = node.swaps->requested(*node.pool, from->at(id), point, clock(), [this] { return random_(); });
  if (!answer) return;
  in(delay(),
     [this, from, to = from->other(id), offered = answer->ack.point] { swap_acknowledged(to, from, offered); });
  exchange(id, answer->exchange);
}

void Network::swap_acknowledged(NodeId id, const LinkRef& from, const Point& point) {
  if (from->over_at(id)) return;
  Node& node = *nodes_[id];
  if (const auto made = node.swaps->acknowledged(*node.pool, from->at(id), point, clock())) exchange(id, *made);
}

void Network::exchange(NodeId id, const controller::Swaps::Exchange& exchange) {
  dial(id, exchange.dial, false, [this, id, exchange](bool connected) {
    Node& node = *nodes_[id];
    if (!connected) return node.swaps->failed();
    node.swaps->succeeded(clock());
    const auto found = node.links.find(exchange.replaced.slot);
    if (found == node.links.end() || found->second->at(id) != exchange.replaced) return;
    ++swaps_;
    end(LinkRef(found->second), id, Reason::kPeerSwapped);
  });
}

// ---- what is seen

void Network::check(NodeId id) {
  const Pool& pool = *nodes_[id]->pool;
  const std::uint32_t count = pool.active() + pool.under_way();
  highest_ = std::max(highest_, count);
  if (count > settings_.maximum)
    throw std::logic_error("node " + std::to_string(id) + " exceeds its maximum at " + std::to_string(now_s()) + " s");
}

bool Network::up(NodeId node) const {
  return nodes_[node]->up;
}

std::uint32_t Network::active(NodeId node) const {
  return static_cast<std::uint32_t>(neighbours(node).size());
}

std::vector<Network::NodeId> Network::neighbours(NodeId node) const {
  std::vector<NodeId> others;
  for (const auto& [slot, link] : nodes_[node]->links) {
    if (link->runs && !link->over_at(node)) others.push_back(link->other(node));
  }
  return others;
}

bool Network::connected(NodeId one, NodeId other) const {
  const auto others = neighbours(one);
  return std::find(others.begin(), others.end(), other) != others.end();
}

const controller::Pool& Network::pool(NodeId node) const {
  return *nodes_[node]->pool;
}

maintainer::Maintenance& Network::maintenance(NodeId node) {
  return *nodes_[node]->maintenance;
}

bool Network::inside(NodeId node) const {
  const std::uint32_t has = active(node);
  return has >= bounds_.min_threshold && has <= bounds_.max_threshold;
}

std::uint32_t Network::outside() const {
  std::uint32_t count = 0;
  for (NodeId id = 0; id < nodes_.size(); ++id) count += nodes_[id]->up && !inside(id) ? 1U : 0U;
  return count;
}

bool Network::is_connected() const {
  std::map<std::uint32_t, std::set<NodeId>> unreached;
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    if (nodes_[id]->up) unreached[nodes_[id]->side].insert(id);
  }
  for (auto& [side, ids] : unreached) {
    std::vector<NodeId> reached = {*ids.begin()};
    ids.erase(ids.begin());
    while (!reached.empty()) {
      const NodeId id = reached.back();
      reached.pop_back();
      for (const NodeId other : neighbours(id)) {
        if (hears(id, other) && ids.erase(other) != 0) reached.push_back(other);
      }
    }
    if (!ids.empty()) return false;
  }
  return true;
}

}  // namespace bulkhead::simulation
