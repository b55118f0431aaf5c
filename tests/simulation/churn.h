#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/simulation/network.h"

namespace bulkhead::simulation {

/// What became of the network after something happened to it.
struct Disturbance {
  std::string name;
  /// After how long each node that is up had been found inside [min_threshold, max_threshold], and the graph connected;
  /// negative: not within two maintenance periods. Looked at every 5 s from when the lost connections are known to be
  /// lost.
  double settled_s = -1;
  // Two maintenance periods after:
  std::uint32_t nodes = 0;    ///< that are up
  std::uint32_t outside = 0;  ///< of these bounds
  bool connected = false;
  std::uint32_t least = 0;  ///< connections of a node
  std::uint32_t most = 0;
  double mean = 0;
};

struct ChurnResult {
  std::uint64_t seed = 0;
  std::vector<Disturbance> disturbances = {};
  std::uint32_t highest = 0;  ///< connections and dials under way of a node, at any moment
  std::uint32_t maximum = 0;
  std::uint64_t swaps = 0;
  std::uint64_t events = 0;
  double rest_s = 0;
  double outside_in_rest = 0;  ///< share of the node-seconds of the rest that were spent outside; looked at each second
};

/// All nodes start within half a minute; then a fifth crashes, as many come back, the network is cut in two and healed,
/// and nodes come and go at random for ten minutes; then nothing happens for `rest_s` seconds. Throws std::logic_error
/// when a node exceeds its maximum.
ChurnResult simulate_churn(const NetworkSettings& settings, std::uint32_t rest_s = 600);

}  // namespace bulkhead::simulation
