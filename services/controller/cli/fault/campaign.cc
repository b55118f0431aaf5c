#include "services/controller/cli/fault/campaign.h"

#include <algorithm>
#include <array>
#include <limits>

namespace bulkhead::fault {
namespace {

constexpr Nanoseconds kServiceRound = 6500 * kMillisecond;
constexpr Nanoseconds kWorkerRound = 1500 * kMillisecond;
// A strike that could not be done for so long after its moment is left to another round.
constexpr Nanoseconds kLate = 3 * kSecond;

/// How often each is done, as against the others.
double worth(Target target, Harm harm) {
  switch (harm) {
    case Harm::kKill:
    case Harm::kSegv:
    case Harm::kAbort:
      return 4;
    case Harm::kHang:
    case Harm::kSpin:
      // Half a minute each.
      return target == Target::kWorker ? 0.05 : 0.3;
    case Harm::kMemory:
    case Harm::kDescriptors:
      return 0.5;
    default:
      return 1;
  }
}

bool is_slow(Harm harm) {
  return harm == Harm::kHang || harm == Harm::kSpin;
}

struct Planned {
  Nanoseconds at = 0;
  Target target = Target::kWorker;
};

class Campaign {
 public:
  Campaign(Harness& harness, const CampaignOptions& options)
      : harness_(harness), options_(options), kinds_(kinds(options)) {
    for (const auto& [target, harm] : kinds_) targets_.insert(target);
  }

  void run() {
    while (struck_ < options_.strikes && harness_.violations().empty() && !kinds_.empty()) {
      round();
      if (!harness_.settle(false)) return;
      if (controller_struck_ && !harness_.check_control()) return;
      controller_struck_ = false;
    }
  }

 private:
  bool services() const {
    return std::any_of(targets_.begin(), targets_.end(),
                       [](Target target) { return target != Target::kWorker && target != Target::kApplication; });
  }

  void round() {
    Random& random = harness_.random();
    const Nanoseconds begin = monotonic_now();
    const Nanoseconds length = services() ? kServiceRound : kWorkerRound;
    std::vector<Planned> plan;
    const auto add = [&](Target target) { plan.push_back({begin + random.below(length), target}); };
    for (const Target target : targets_) {
      std::uint64_t count = 1;
      if (target == Target::kWorker) count = 1 + harness_.peers() / 2;
      if (target == Target::kApplication) count = 2;
      for (std::uint64_t i = 0; i < count; ++i) add(target);
    }
    slow_in_round_ = false;
    // Faults of workers have the nursery replaced so often that it would never be old enough to be struck itself.
    quiet_ = ++rounds_ % 3 == 0 && targets_.contains(Target::kNursery);
    while (!plan.empty() && struck_ < options_.strikes && harness_.violations().empty()) {
      harness_.pump();
      const Nanoseconds now = monotonic_now();
      std::erase_if(plan, [&](const Planned& planned) {
        if (now < planned.at || struck_ >= options_.strikes) return false;
        return strike(planned.target) || now > planned.at + kLate;
      });
    }
  }

  /// False: not now.
  bool strike(Target target) {
    const bool worker = target == Target::kWorker;
    std::size_t peer = 0;
    if (worker) {
      peer = harness_.random().below(harness_.peers());
      if (!harness_.may_strike_worker(peer)) return false;
    } else if (!harness_.may_strike(target)) {
      return false;
    }
    const bool slow_worker = std::any_of(harness_.strikes().begin(), harness_.strikes().end(), [](const Strike& one) {
      return !one.over && one.target == Target::kWorker && is_slow(one.harm);
    });
    const bool slow = worker ? !slow_worker : !slow_in_round_;
    std::vector<std::pair<Target, Harm>> choice = kinds_;
    if (quiet_) std::erase_if(choice, [](const auto& kind) { return replaces_nursery(kind.first, kind.second); });
    const auto harm = next_harm(choice, done_, target, slow, harness_.random().next());
    if (!harm || !harness_.strike(target, *harm, peer)) return false;
    if (!worker && is_slow(*harm)) slow_in_round_ = true;
    if (target == Target::kController) controller_struck_ = true;
    ++done_[{target, *harm}];
    ++struck_;
    return true;
  }

  Harness& harness_;
  const CampaignOptions& options_;
  std::vector<std::pair<Target, Harm>> kinds_;
  std::set<Target> targets_;
  std::map<std::pair<Target, Harm>, std::uint64_t> done_;
  std::uint64_t struck_ = 0;
  std::uint64_t rounds_ = 0;
  bool quiet_ = false;  ///< of this round
  bool slow_in_round_ = false;
  bool controller_struck_ = false;
};

bool wanted(const CampaignOptions& options, Target target, Harm harm) {
  return applies(target, harm) && (options.targets.empty() || options.targets.contains(target)) &&
         (options.harms.empty() || options.harms.contains(harm));
}

template <typename Visit>
void for_each_kind(const CampaignOptions& options, Visit visit) {
  for (std::size_t t = 0; t < kTargets; ++t) {
    for (std::size_t h = 0; h < kHarms; ++h) {
      const auto target = static_cast<Target>(t);
      const auto harm = static_cast<Harm>(h);
      if (wanted(options, target, harm)) visit(target, harm);
    }
  }
}

}  // namespace

std::vector<std::string> left_out(const CampaignOptions& options) {
  std::vector<std::string> list;
  for_each_kind(options, [&](Target target, Harm harm) {
    const std::string why = missing(target, harm, options.means);
    if (!why.empty()) list.push_back(std::string(harm_name(harm)) + " " + target_name(target) + " (" + why + ")");
  });
  for (const Harm harm : options.harms) {
    for (const Target target : options.targets) {
      if (!applies(target, harm))
        list.push_back(std::string(harm_name(harm)) + " " + target_name(target) + " (does not apply to this role)");
    }
  }
  return list;
}

std::vector<std::string> not_struck(const CampaignOptions& options, const std::vector<CampaignRow>& rows) {
  const auto possible = kinds(options);
  const auto has = [](const auto& list, Harm harm) {
    return std::any_of(list.begin(), list.end(), [harm](const auto& one) {
      if constexpr (requires { one.harm; })
        return one.harm == harm;
      else
        return one.second == harm;
    });
  };
  std::vector<std::string> list;
  for (const Harm harm : options.harms) {
    if (has(possible, harm) && !has(rows, harm)) list.emplace_back(harm_name(harm));
  }
  return list;
}

std::vector<std::pair<Target, Harm>> kinds(const CampaignOptions& options) {
  std::vector<std::pair<Target, Harm>> list;
  for_each_kind(options, [&](Target target, Harm harm) {
    if (missing(target, harm, options.means).empty()) list.emplace_back(target, harm);
  });
  return list;
}

std::optional<Harm> next_harm(const std::vector<std::pair<Target, Harm>>& kinds,
                              const std::map<std::pair<Target, Harm>, std::uint64_t>& done, Target target,
                              bool slow_ones, std::uint64_t tie) {
  std::optional<Harm> best;
  double least = std::numeric_limits<double>::max();
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    const auto& [whom, harm] = kinds[(i + tie) % kinds.size()];
    if (whom != target || (is_slow(harm) && !slow_ones)) continue;
    const auto found = done.find({whom, harm});
    const double share = (found == done.end() ? 0.5 : static_cast<double>(found->second) + 0.5) / worth(whom, harm);
    if (share >= least) continue;
    least = share;
    best = harm;
  }
  return best;
}

void run_campaign(Harness& harness, const CampaignOptions& options) {
  Campaign(harness, options).run();
}

std::vector<CampaignRow> sum_up(const std::vector<Strike>& strikes) {
  std::map<std::pair<Target, Harm>, CampaignRow> rows;
  for (const Strike& strike : strikes) {
    CampaignRow& row = rows[{strike.target, strike.harm}];
    row.target = strike.target;
    row.harm = strike.harm;
    ++row.times;
    row.others += strike.others;
    if (strike.failure) ++row.failures;
    if (!strike.died) continue;
    row.gone.push_back(*strike.died - strike.at);
    // What is looked at in turn may be seen in another order than it happened.
    const Nanoseconds from = is_slow(strike.harm) ? *strike.died : strike.at;
    if (strike.back) row.back.push_back(*strike.back > from ? *strike.back - from : 0);
  }
  std::vector<CampaignRow> list;
  for (auto& [kind, row] : rows) {
    std::sort(row.gone.begin(), row.gone.end());
    std::sort(row.back.begin(), row.back.end());
    list.push_back(std::move(row));
  }
  return list;
}

}  // namespace bulkhead::fault
