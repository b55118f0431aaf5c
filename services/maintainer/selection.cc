#include "services/maintainer/selection.h"

#include <algorithm>
#include <tuple>

#include "services/common/choice.h"

namespace bulkhead::maintainer {
namespace {

void sort_by_miss(std::vector<Candidate>& candidates, const std::function<std::uint64_t()>& random) {
  service::shuffle(candidates, random);
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.last_miss_ms < b.last_miss_ms; });
}

/// Index of a candidate of the kind asked for whose group is used least, by chance among such; size() when there is
/// none.
std::size_t pick(const std::vector<Candidate>& candidates, bool tried,
                 const std::map<AddressGroup, std::uint32_t>& in_use, const std::function<std::uint64_t()>& random) {
  std::size_t picked = candidates.size();
  std::uint32_t least = UINT32_MAX;
  std::uint64_t equals = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].tried != tried) continue;
    const auto found = in_use.find(candidates[i].group);
    const std::uint32_t used = found == in_use.end() ? 0 : found->second;
    if (used > least) continue;
    equals = used < least ? 1 : equals + 1;
    least = used;
    // Each of n equals is kept with a chance of 1/n.
    if (random() % equals == 0) picked = i;
  }
  return picked;
}

}  // namespace

PoolView view_of(const shm::PoolTable& table) {
  PoolView view;
  for (std::uint32_t i = 0; i < table.slots(); ++i) view.slots.push_back(table.slot(i).read().value_or(shm::SlotRow{}));
  for (std::uint32_t i = 0; i < table.points(); ++i) {
    if (const auto row = table.point(i).read(); row && row->used != 0) view.points.push_back(*row);
  }
  return view;
}

std::int64_t last_miss_ms(const shm::PointRow& row) {
  return std::max({row.last_failed_ms, row.last_rejected_ms, row.last_disconnection_ms});
}

Candidates candidates_of(const PoolView& view, bool trusted_only, const std::set<Point>& excluded, Nanoseconds now) {
  Candidates candidates;
  for (const auto& row : view.points) {
    if (row.used == 0 || row.port == 0) continue;
    if (row.state != static_cast<std::uint32_t>(shm::PointState::kDisconnected)) continue;
    if (trusted_only && row.trusted == 0) continue;
    const Point point{Address{row.address}, row.port};
    if (excluded.contains(point)) continue;
    const auto next = static_cast<Nanoseconds>(std::max<std::int64_t>(row.next_attempt_ns, 0));
    if (next > now) {
      candidates.next = candidates.next == 0 ? next : std::min(candidates.next, next);
      continue;
    }
    candidates.now.push_back({point, row.group, last_miss_ms(row), row.trusted != 0, row.tried != 0, row.anchor != 0});
  }
  return candidates;
}

std::vector<Point> choose_dials(const std::vector<Candidate>& candidates, std::size_t count, bool hardened,
                                std::map<AddressGroup, std::uint32_t> in_use,
                                const std::function<std::uint64_t()>& random) {
  std::vector<Point> chosen;
  std::vector<Candidate> first;
  std::vector<Candidate> rest;
  for (const auto& candidate : candidates) {
    const bool preferred = !hardened || candidate.trusted || candidate.anchor;
    (preferred ? first : rest).push_back(candidate);
  }
  sort_by_miss(first, random);
  for (const auto& candidate : first) {
    if (chosen.size() == count) return chosen;
    chosen.push_back(candidate.point);
    ++in_use[candidate.group];
  }
  while (chosen.size() < count && !rest.empty()) {
    const bool tried = random() % 2 == 0;
    std::size_t picked = pick(rest, tried, in_use, random);
    if (picked == rest.size()) picked = pick(rest, !tried, in_use, random);
    chosen.push_back(rest[picked].point);
    ++in_use[rest[picked].group];
    rest[picked] = rest.back();
    rest.pop_back();
  }
  return chosen;
}

}  // namespace bulkhead::maintainer
