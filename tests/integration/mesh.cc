#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/integration/fixture.h"

/// Real nodes that find each other, and one that more peers want than it takes.
namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

std::set<std::string> neighbours_of(const Node& node) {
  std::set<std::string> ids;
  for (const Json& row : node.connections()) ids.insert(row.value("peer_id", ""));
  return ids;
}

// ---- a network of nodes

// 3 / 6 / 9: maintenance dials below 4, up to 5 at least; closes above 8, down to 7.
const std::vector<std::string> kBounds = {"--min-connections", "3", "--expected-connections",  "6",
                                          "--max-connections", "9", "--maintenance-idle-time", "5"};
constexpr std::size_t kMinThreshold = 4;
constexpr std::size_t kMinTarget = 5;
constexpr std::size_t kMaxThreshold = 8;
constexpr std::size_t kMaximum = 9;

class Mesh : public ::testing::Test {
 protected:
  static constexpr std::size_t kNodes = 12;

  void start_all() {
    for (std::size_t i = 0; i < kNodes; ++i) {
      NodeOptions options{.arguments = kBounds};
      if (i > 0) options.arguments.insert(options.arguments.end(), {"--peer", nodes_.front()->point()});
      nodes_.push_back(std::make_unique<Node>(std::move(options)));
      const auto launched = nodes_.back()->launch();
      ASSERT_TRUE(launched) << launched.error().text;
    }
    for (auto& node : nodes_) {
      const auto ready = node->wait_ready();
      ASSERT_TRUE(ready) << ready.error().text;
    }
  }

  /// How many neighbours each has now; more than the maximum is a failure.
  std::vector<std::size_t> look() {
    std::vector<std::size_t> counts;
    for (const auto& node : nodes_) {
      counts.push_back(node->connections().size());
      EXPECT_LE(counts.back(), kMaximum) << node->point();
    }
    return counts;
  }

  static std::string text_of(const std::vector<std::size_t>& counts) {
    std::string text;
    for (const std::size_t count : counts) text += std::to_string(count) + " ";
    return text;
  }

  /// Until each reached its target once (others may dial it beyond), and all are between their thresholds.
  void expect_in_bounds(const char* what, Clock::time_point begin) {
    std::set<const Node*> reached;
    std::vector<std::size_t> counts;
    const bool done = eventually(
        [&] {
          counts = look();
          bool within = true;
          for (std::size_t i = 0; i < counts.size(); ++i) {
            if (counts[i] >= kMinTarget) reached.insert(nodes_[i].get());
            within = within && counts[i] >= kMinThreshold && counts[i] <= kMaxThreshold;
          }
          return within && reached.size() == nodes_.size();
        },
        Milliseconds(90'000) * kPatience);
    std::printf("%s: %.1f s, neighbours %s\n", what, seconds_since(begin), text_of(counts).c_str());
    ASSERT_TRUE(done) << reached.size() << " of " << nodes_.size() << " reached their targets; " << text_of(counts);
  }

  /// The node whose row has this peer id, and its end.
  void kill(const std::string& peer_id) {
    const auto found =
        std::find_if(nodes_.begin(), nodes_.end(), [&](const auto& node) { return node->peer_id() == peer_id; });
    ASSERT_NE(found, nodes_.end());
    EXPECT_EQ((*found)->stop(SIGKILL), -SIGKILL);
    nodes_.erase(found);
  }

  std::vector<std::unique_ptr<Node>> nodes_;
};

TEST_F(Mesh, OfTwelveNodesGrowsFromOnePointAndReplacesThoseThatAreKilled) {
  auto begin = Clock::now();
  ASSERT_NO_FATAL_FAILURE(start_all());
  std::printf("12 nodes ready: %.1f s\n", seconds_since(begin));
  ASSERT_NO_FATAL_FAILURE(expect_in_bounds("12 nodes from one point", begin));

  // So many of one node's neighbours that it has to find others.
  const auto counts = look();
  const auto at = static_cast<std::size_t>(std::min_element(counts.begin(), counts.end()) - counts.begin());
  const Node& poor = *nodes_[at];
  const auto before = neighbours_of(poor);
  std::size_t left = before.size();
  begin = Clock::now();
  for (const auto& id : before) {
    if (left < kMinThreshold) break;
    ASSERT_NO_FATAL_FAILURE(kill(id));
    --left;
  }
  ASSERT_NO_FATAL_FAILURE(expect_in_bounds("neighbours replaced", begin));
  const auto after = neighbours_of(poor);
  EXPECT_TRUE(std::any_of(after.begin(), after.end(), [&](const auto& id) { return !before.contains(id); }))
      << poor.events();
  for (const auto& node : nodes_) EXPECT_EQ(node->stop(), 0);
}

// ---- more than it takes

class Crowd : public NodeTest {
 protected:
  static constexpr std::size_t kPeers = 60;
  static constexpr std::size_t kMost = 30;
  static constexpr std::size_t kTarget = 24;  // of 10 / 20 / 30

  std::size_t look() {
    const std::size_t count = node_->connections().size();
    EXPECT_LE(count, kMost);
    most_ = std::max(most_, count);
    return count;
  }

  /// Many at once take longer.
  Peer new_peer() { return node_->make_peer({.timeout = 2 * kPeerTimeout * kPatience}); }

  /// Connections that a peer believes in: it had the node's Ack, and has not heard its end.
  std::size_t open(std::deque<Peer>& peers) {
    return static_cast<std::size_t>(
        std::count_if(peers.begin(), peers.end(), [](const Peer& peer) { return peer.is_open(); }));
  }

  std::size_t most_ = 0;
};

TEST_F(Crowd, OfSixtyNeverExceedsTheMaximumAndIsBroughtBackToTheTarget) {
  ASSERT_NO_FATAL_FAILURE(start_alone(
      {.arguments = {"--min-connections", "10", "--expected-connections", "20", "--max-connections", "30"}}));
  std::deque<Peer> peers;
  for (std::size_t i = 0; i < kPeers; ++i) peers.push_back(new_peer());

  // Twelve at a time, the table watched all the while.
  std::atomic<std::size_t> next = 0;
  std::atomic<int> taken = 0;
  std::atomic<int> refused = 0;
  std::vector<std::future<void>> dialling;
  for (int i = 0; i < 12; ++i) {
    dialling.push_back(std::async(std::launch::async, [&] {
      for (std::size_t number = next++; number < kPeers; number = next++) {
        Peer& peer = peers[number];
        if (!node_->dial(peer)) continue;
        const auto answer = peer.negotiate();
        const bool acked = answer && answer->kind == AckKind::kAck;
        ++(acked ? taken : refused);
        if (!acked) peer.close();
      }
    }));
  }
  const auto busy = [&] {
    return std::any_of(dialling.begin(), dialling.end(),
                       [](const auto& one) { return one.wait_for(Milliseconds(0)) != std::future_status::ready; });
  };
  while (busy()) look();
  std::printf("%d taken and %d refused of %zu, at most %zu at once\n", taken.load(), refused.load(), kPeers, most_);
  EXPECT_EQ(taken + refused, static_cast<int>(kPeers));
  EXPECT_GE(taken, static_cast<int>(kTarget));

  EXPECT_TRUE(eventually([&] { return open(peers) == look(); })) << open(peers) << "\n" << node_->events();

  // One by one, until the maximum was reached again: a reason for a run by itself, long before the idle time is over.
  for (std::size_t before = look(); peers.size() < 2 * kPeers; before = look()) {
    peers.push_back(new_peer());
    ASSERT_TRUE(node_->dial(peers.back()));
    if (!peers.back().handshake()) break;
    EXPECT_TRUE(eventually([&] { return open(peers) == look(); })) << open(peers) << "\n" << node_->events();
    if (look() <= before) break;
  }
  EXPECT_TRUE(eventually([&] { return look() == kTarget; })) << look() << "\n" << node_->events();
  EXPECT_FALSE(node_->wait_event("maintenance_too_many").is_null()) << node_->events();
  EXPECT_TRUE(eventually([&] { return open(peers) == kTarget; })) << open(peers);
}

}  // namespace
}  // namespace bulkhead::testing
