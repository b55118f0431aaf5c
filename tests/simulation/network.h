#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "services/controller/pool.h"
#include "services/controller/swap.h"
#include "services/maintainer/maintenance.h"

/// A network of nodes without a socket: each has the controller's Pool and Swaps and the maintainer's Maintenance as
/// they are, between them messages with delays, on a virtual clock. The same seed gives the same run.
namespace bulkhead::simulation {

struct NetworkSettings {
  std::uint32_t nodes = 700;
  std::uint32_t minimum = 10;
  std::uint32_t expected = 50;
  std::uint32_t maximum = 100;
  std::uint32_t bootstrap = 3;  ///< the first nodes are known to all from the start, trusted
  std::uint64_t seed = 1;
  bool hardened = true;
  bool swap = true;
  bool disable_peer_discovery = false;
  double maintenance_idle_s = 120;
  std::uint64_t least_delay_ms = 5;  ///< of a message, one way
  std::uint64_t most_delay_ms = 150;
};

class Network {
 public:
  using NodeId = std::uint32_t;

  explicit Network(NetworkSettings settings);
  ~Network();

  // What happens to nodes.
  void start(NodeId node);
  /// Its connections break at once; it forgets everything.
  void crash(NodeId node);
  /// Only nodes of one side hear each other; connections between sides are lost within the time-out of TCP.
  void partition(const std::function<std::uint32_t(NodeId)>& side_of);
  void heal();
  /// Adds a point to what a node knows, trusted or as its own wish.
  void introduce(NodeId node, NodeId to, bool trusted);
  void ask_for_maintenance(NodeId node) { maintenance(node).request(1), look_soon(node); }
  void close(NodeId node, NodeId peer);

  /// Lets time pass.
  void run(double seconds);
  double now_s() const { return static_cast<double>(now_) / static_cast<double>(kSecond); }

  // What is seen.
  bool up(NodeId node) const;
  std::uint32_t active(NodeId node) const;
  bool connected(NodeId one, NodeId other) const;
  std::vector<NodeId> neighbours(NodeId node) const;
  const controller::Pool& pool(NodeId node) const;
  maintainer::Maintenance& maintenance(NodeId node);
  Point point_of(NodeId node) const;
  ConnectionBounds bounds() const { return bounds_; }
  /// Whether a node's number of connections is inside [min_threshold, max_threshold].
  bool inside(NodeId node) const;
  /// Nodes that are up and not inside.
  std::uint32_t outside() const;
  /// Whether every node that is up reaches every other one; with sides, within a side.
  bool is_connected() const;
  /// Most connections, dials under way among them, that a node ever had.
  std::uint32_t highest() const { return highest_; }
  std::uint64_t swaps() const { return swaps_; }
  std::uint64_t events() const { return handled_; }
  std::uint64_t advertised() const { return advertised_; }

 private:
  struct Link;
  struct Node;
  struct Event {
    Nanoseconds at;
    std::uint64_t number;
    std::function<void()> action;
    bool operator<(const Event& other) const {
      return at != other.at ? at > other.at : number > other.number;  // the earliest on top
    }
  };
  using LinkRef = std::shared_ptr<Link>;

  void in(Nanoseconds delay, std::function<void()> action);
  Nanoseconds delay();
  controller::Now clock() const;
  bool hears(NodeId one, NodeId other) const;
  void look_soon(NodeId node);
  void look_at(NodeId node, Nanoseconds at);
  void look(NodeId node);
  void dial(NodeId node, const Point& point, bool feeler, std::function<void(bool)> done);
  void connect(NodeId node, NodeId to, const Point& point, bool feeler, std::function<void(bool)> done);
  void decide(const LinkRef& link);
  void settle(const LinkRef& link, const controller::Decision& of_dialler, const controller::Decision& of_dialled);
  void end(const LinkRef& link, NodeId by, Reason reason);
  void end_at(const LinkRef& link, NodeId node, Reason reason);
  void made_room(NodeId node, const controller::Decision& decision);
  void ask_for_peers(NodeId node);
  void propose_swap(NodeId node);
  void swap_requested(NodeId node, const LinkRef& from, const Point& point);
  void swap_acknowledged(NodeId node, const LinkRef& from, const Point& point);
  void exchange(NodeId node, const controller::Swaps::Exchange& exchange);
  void check(NodeId node);

  NetworkSettings settings_;
  ConnectionBounds bounds_;
  std::mt19937_64 random_;
  Nanoseconds now_ = 1000 * kSecond;
  std::priority_queue<Event> queue_;
  std::uint64_t next_number_ = 0;
  std::uint64_t handled_ = 0;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::map<Point, NodeId> by_point_;
  std::uint32_t highest_ = 0;
  std::uint64_t swaps_ = 0;
  std::uint64_t advertised_ = 0;
};

}  // namespace bulkhead::simulation
