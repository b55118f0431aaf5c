#include "services/common/choice.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace bulkhead::service {
namespace {

constexpr std::size_t kProtectedRare = 4;
constexpr std::size_t kProtectedFast = 8;
constexpr std::size_t kProtectedScore = 4;

using Pointers = std::vector<const Neighbour*>;

/// Takes the `count` best out of `rest`, but never below `keep` of them. `better` is an order.
template <typename Better>
void protect(Pointers& rest, std::size_t count, std::size_t keep, Better better) {
  if (rest.size() <= keep) return;
  std::stable_sort(rest.begin(), rest.end(), [&](const auto* a, const auto* b) { return better(*a, *b); });
  const std::size_t taken = std::min(count, rest.size() - keep);
  rest.erase(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(taken));
}

void protect_the_best(Pointers& rest, std::size_t keep, const std::function<std::uint64_t()>& random) {
  std::map<AddressGroup, std::size_t> members;
  for (const auto* neighbour : rest) ++members[neighbour->group];
  protect(rest, kProtectedRare, keep,
          [&](const auto& a, const auto& b) { return members.find(a.group)->second < members.find(b.group)->second; });
  shuffle(rest, random);
  const auto measured = static_cast<std::size_t>(
      std::count_if(rest.begin(), rest.end(), [](const auto* n) { return n->handshake_us != 0; }));
  protect(rest, std::min(kProtectedFast, measured), keep, [](const auto& a, const auto& b) {
    return (a.handshake_us == 0 ? UINT32_MAX : a.handshake_us) < (b.handshake_us == 0 ? UINT32_MAX : b.handshake_us);
  });
  shuffle(rest, random);
  const auto liked = static_cast<std::size_t>(
      std::count_if(rest.begin(), rest.end(), [](const auto* n) { return n->score > kNeutralScore; }));
  protect(rest, std::min(kProtectedScore, liked), keep, [](const auto& a, const auto& b) { return a.score > b.score; });
  protect(rest, rest.size() / 2, keep, [](const auto& a, const auto& b) { return a.since_ms < b.since_ms; });
}

void append_by_chance(Pointers candidates, std::size_t count, std::vector<SlotRef>& victims,
                      const std::function<std::uint64_t()>& random, bool by_score) {
  shuffle(candidates, random);
  if (by_score) {
    std::stable_partition(candidates.begin(), candidates.end(),
                          [](const auto* neighbour) { return neighbour->score < kNeutralScore; });
  }
  for (const auto* neighbour : candidates) {
    if (victims.size() >= count) return;
    victims.push_back(neighbour->ref);
  }
}

}  // namespace

double decayed_score(double score, std::int64_t given_ms, std::int64_t now_ms, double half_life_s) {
  if (given_ms == 0) return kNeutralScore;
  if (half_life_s <= 0 || now_ms <= given_ms) return score;
  const double half_lives = static_cast<double>(now_ms - given_ms) / 1000 / half_life_s;
  return kNeutralScore + (score - kNeutralScore) * std::exp2(-half_lives);
}

std::vector<SlotRef> choose_victims(const std::vector<Neighbour>& neighbours, std::size_t count, bool hardened,
                                    const std::function<std::uint64_t()>& random) {
  std::vector<SlotRef> victims;
  Pointers first;
  Pointers last;
  for (const auto& neighbour : neighbours) {
    if (!neighbour.trusted) (hardened && neighbour.outgoing ? last : first).push_back(&neighbour);
  }
  if (hardened) {
    shuffle(first, random);
    protect_the_best(first, count, random);
  }
  append_by_chance(std::move(first), count, victims, random, hardened);
  append_by_chance(std::move(last), count, victims, random, hardened);
  return victims;
}

}  // namespace bulkhead::service
