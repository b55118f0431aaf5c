#include "tests/simulation/churn.h"

#include <algorithm>
#include <numeric>

namespace bulkhead::simulation {
namespace {

using NodeId = Network::NodeId;

constexpr double kLossKnown_s = 40;

Disturbance seen(const Network& network, const std::string& name, std::uint32_t nodes) {
  Disturbance result{.name = name,
                     .settled_s = -1,
                     .outside = network.outside(),
                     .connected = network.is_connected(),
                     .least = UINT32_MAX};
  double sum = 0;
  for (NodeId id = 0; id < nodes; ++id) {
    if (!network.up(id)) continue;
    const std::uint32_t has = network.active(id);
    ++result.nodes;
    sum += has;
    result.least = std::min(result.least, has);
    result.most = std::max(result.most, has);
  }
  result.mean = result.nodes == 0 ? 0 : sum / result.nodes;
  return result;
}

double share_outside(Network& network, std::uint32_t nodes, std::uint32_t seconds) {
  double all = 0;
  double outside = 0;
  for (std::uint32_t second = 0; second < seconds; ++second) {
    network.run(1);
    outside += network.outside();
    for (NodeId id = 0; id < nodes; ++id) all += network.up(id) ? 1 : 0;
  }
  return all == 0 ? 0 : outside / all;
}

}  // namespace

ChurnResult simulate_churn(const NetworkSettings& settings, std::uint32_t rest_s) {
  ChurnResult result{.seed = settings.seed, .maximum = settings.maximum};
  Network network(settings);
  std::mt19937_64 random(settings.seed ^ 0x6368757262ULL);
  const double settle_s = 2 * settings.maintenance_idle_s;
  const auto settled = [&](const std::string& name) {
    const double from = network.now_s();
    double settled_s = -1;
    std::vector<bool> was_inside(settings.nodes, false);
    bool was_connected = false;
    network.run(kLossKnown_s);
    for (; network.now_s() - from < settle_s; network.run(5)) {
      bool all = true;
      for (NodeId id = 0; id < settings.nodes; ++id) {
        was_inside[id] = was_inside[id] || !network.up(id) || network.inside(id);
        all = all && was_inside[id];
      }
      was_connected = was_connected || network.is_connected();
      if (settled_s < 0 && all && was_connected) settled_s = network.now_s() - from;
    }
    result.disturbances.push_back(seen(network, name, settings.nodes));
    result.disturbances.back().settled_s = settled_s;
  };
  for (NodeId id = 0; id < settings.nodes; ++id) {
    network.start(id);
    network.run(30.0 / settings.nodes);
  }
  settled("all start");

  std::vector<NodeId> order(settings.nodes - settings.bootstrap);
  std::iota(order.begin(), order.end(), settings.bootstrap);
  std::shuffle(order.begin(), order.end(), random);
  const std::size_t fifth = order.size() / 5;
  for (std::size_t i = 0; i < fifth; ++i) network.crash(order[i]);
  settled("a fifth crashes");

  for (std::size_t i = 0; i < fifth; ++i) network.start(order[i]);
  settled("they come back");

  network.partition([&](NodeId id) { return id % 3 == 0 ? 1U : 0U; });
  settled("a third is cut off");

  network.heal();
  settled("the cut heals");

  for (int i = 0; i < 120; ++i) {
    const NodeId id = order[random() % order.size()];
    network.up(id) ? network.crash(id) : network.start(id);
    network.run(5);
  }
  settled("ten minutes of coming and going");

  result.rest_s = rest_s;
  result.outside_in_rest = share_outside(network, settings.nodes, rest_s);
  result.highest = network.highest();
  result.swaps = network.swaps();
  result.events = network.events();
  return result;
}

}  // namespace bulkhead::simulation
