#include "services/controller/pool_bounds.h"

#include <tuple>

namespace bulkhead::controller {
namespace {

constexpr std::size_t kAdvertised = 50;
constexpr std::size_t kAdvertisedBest = 30;

// As Octez: whoever was missed longest ago.
std::vector<Point> longest_missed(const KnownPoints& points, const PoolContext& context, std::size_t count, Now now) {
  std::vector<std::pair<std::int64_t, Point>> candidates;
  for (const auto& [point, known] : points) {
    if (known.state != shm::PointState::kDisconnected || context.trusted(point, known)) continue;
    const std::int64_t miss = known.last_miss_ms();
    candidates.emplace_back(miss == 0 ? now.ms : miss, point);
  }
  std::sort(candidates.begin(), candidates.end());
  std::vector<Point> chosen;
  for (std::size_t i = 0; i < std::min(count, candidates.size()); ++i) chosen.push_back(candidates[i].second);
  return chosen;
}

}  // namespace

bool may_be_heard(const KnownPoints& points, const PoolContext& context, AddressGroup source, AddressGroup group) {
  if (!context.limits.hardened) return true;
  std::size_t of_source = 0;
  std::size_t of_group = 0;
  for (const auto& [other, known] : points) {
    if (known.tried || context.trusted(other, known)) continue;
    if (known.source == source) ++of_source;
    if (known.group == group) ++of_group;
  }
  const std::size_t share = std::max<std::size_t>(context.limits.known_points_maximum / kHearsayShare, 1);
  return of_source < share && of_group < share;
}

std::vector<Point> least_wanted(const KnownPoints& points, const PoolContext& context, std::size_t count, Now now) {
  if (!context.limits.hardened) return longest_missed(points, context, count, now);
  // Whoever told most loses first, of its points those that failed, then by chance: a flood displaces itself.
  std::map<AddressGroup, std::vector<Point>> by_source;
  for (const auto& [point, known] : points) {
    if (known.state == shm::PointState::kDisconnected && !context.trusted(point, known) && !known.tried &&
        !known.anchor)
      by_source[known.source].push_back(point);
  }
  for (auto& [source, told] : by_source) {
    service::shuffle(told, context.random);
    std::stable_partition(told.begin(), told.end(), [&](const Point& point) {
      const KnownPoint& known = points.find(point)->second;
      return known.last_failed_ms <= known.last_established_ms;
    });
  }
  std::vector<Point> chosen;
  while (chosen.size() < count && !by_source.empty()) {
    const auto largest = std::max_element(by_source.begin(), by_source.end(), [](const auto& a, const auto& b) {
      return a.second.size() < b.second.size();
    });
    chosen.push_back(largest->second.back());
    largest->second.pop_back();
    if (largest->second.empty()) by_source.erase(largest);
  }
  return chosen;
}

TriedPlace place_among_tried(const KnownPoints& points, const PoolContext& context, const KnownPoint& newcomer) {
  if (!context.limits.hardened || newcomer.trusted) return {true, std::nullopt};
  std::size_t all = 0;
  std::size_t of_group = 0;
  std::vector<std::pair<Point, AddressGroup>> failing;
  for (const auto& [other, known] : points) {
    if (!known.tried || context.trusted(other, known)) continue;
    ++all;
    if (known.group == newcomer.group) ++of_group;
    if (known.state == shm::PointState::kDisconnected && known.last_failed_ms > known.last_established_ms)
      failing.emplace_back(other, known.group);
  }
  const std::size_t maximum = context.limits.known_points_maximum;
  const bool group_is_full = of_group >= std::max<std::size_t>(maximum / kTriedGroupShare, 1);
  if (!group_is_full && all < maximum / kTriedShare) return {true, std::nullopt};
  if (group_is_full) std::erase_if(failing, [&](const auto& one) { return one.second != newcomer.group; });
  if (failing.empty()) return {};
  return {true, failing[static_cast<std::size_t>(context.random() % failing.size())].first};
}

std::vector<Point> worth_telling(const KnownPoints& points, const PoolContext& context) {
  struct Candidate {
    bool connected;
    std::int64_t seen;
    std::uint64_t tie;
    Point point;
  };
  std::vector<Candidate> candidates;
  for (const auto& [point, known] : points) {
    if (!known.known_public) continue;
    const Standing of_address = context.standing(point.address);
    if (of_address == Standing::kBanned || of_address == Standing::kGreylisted) continue;
    candidates.push_back(
        {known.state != shm::PointState::kDisconnected, known.last_seen_ms(), context.random(), point});
  }
  // Connected ones first, of these the one seen longest ago first; then the others, the one seen last first.
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    if (a.connected != b.connected) return a.connected;
    if (a.seen != b.seen) return a.connected ? a.seen < b.seen : a.seen > b.seen;
    return std::tie(a.tie, a.point) < std::tie(b.tie, b.point);
  });
  std::vector<Point> told;
  const std::size_t best = candidates.size() > kAdvertised ? kAdvertisedBest : candidates.size();
  for (std::size_t i = 0; i < best; ++i) told.push_back(candidates[i].point);
  // A few at random of the rest, so that what is told differs from time to time.
  for (std::size_t at = best; at < candidates.size() && told.size() < kAdvertised; ++at) {
    const std::size_t pick = at + static_cast<std::size_t>(context.random() % (candidates.size() - at));
    std::swap(candidates[at], candidates[pick]);
    told.push_back(candidates[at].point);
  }
  return told;
}

}  // namespace bulkhead::controller
