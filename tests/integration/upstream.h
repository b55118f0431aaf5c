#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <vector>

#include "tests/integration/fixture.h"

namespace bulkhead::testing {

/// Several nodes of one network, as Octez' own tests of whole nodes have them.
class NodesTest : public ::testing::Test {
 protected:
  /// One more node, which runs. Use as ASSERT_NO_FATAL_FAILURE(add(...)).
  void add(std::vector<std::string> arguments = {}, std::string config = {}) {
    nodes_.emplace_back(NodeOptions{.arguments = std::move(arguments), .config = std::move(config)});
    const auto started = nodes_.back().start();
    ASSERT_TRUE(started) << started.error().text;
  }

  /// Has `from` dial `to`, and waits until the connection stands on both sides.
  void connect(const Node& from, const Node& to) {
    const auto done = from.cli({"connect", "address", to.point()});
    ASSERT_EQ(done.exit_status, 0) << done << from.events();
    ASSERT_TRUE(to.wait_connected(from.peer_id())) << to.events();
  }

  static bool connected(const Node& node, const Node& other) { return !node.connection(other.peer_id()).is_null(); }
  static bool knows(const Node& node, const std::string& point) { return mentions_point(node.json({"points"}), point); }

  /// What all nodes remember of their connections, for messages.
  std::string events() const {
    std::string text;
    for (const Node& node : nodes_) text += node.point() + " " + node.peer_id() + " " + node.events() + "\n";
    return text;
  }

  std::deque<Node> nodes_;
};

/// Rows of `points` or `peers`: the second element of each pair.
inline std::size_t trusted_rows(const Json& list) {
  std::size_t count = 0;
  for (const Json& row : list) count += row.at(1).at("trusted") == true ? 1U : 0U;
  return count;
}

}  // namespace bulkhead::testing
