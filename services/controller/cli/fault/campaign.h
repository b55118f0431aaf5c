#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "services/controller/cli/fault/harness.h"

/// Many strikes, one after the other and side by side, chosen by a seed.
namespace bulkhead::fault {

struct CampaignOptions {
  std::uint64_t strikes = 100;
  std::set<Target> targets{};  ///< empty: all
  Means means{};
  std::set<Harm> harms{};  ///< empty: all
};

/// Strikes of one kind against one role, summed up.
struct CampaignRow {
  Target target = Target::kWorker;
  Harm harm = Harm::kKill;
  std::uint64_t times = 0;
  std::vector<Nanoseconds> gone;  ///< until it was seen dead (a worker: until its slot was free)
  std::vector<Nanoseconds> back;  ///< until its successor was ready (a worker: until its peer was connected again)
  std::uint64_t failures = 0;     ///< deadlines missed and the like
  std::uint64_t others = 0;       ///< connections lost that were no victims
};

/// Pairs that were asked for and cannot be done, by this user or at all, by name: "segv worker (needs root)".
std::vector<std::string> left_out(const CampaignOptions& options);
/// What can be done of what was asked for.
std::vector<std::pair<Target, Harm>> kinds(const CampaignOptions& options);

/// Which harm comes next for a target: the one that was done least, as far as each is worth; `tie` decides among
/// equals. Nothing when there is none.
std::optional<Harm> next_harm(const std::vector<std::pair<Target, Harm>>& kinds,
                              const std::map<std::pair<Target, Harm>, std::uint64_t>& done, Target target,
                              bool slow_ones, std::uint64_t tie);

/// Runs until so many strikes are over or something is wrong. finish() of the harness is the caller's.
void run_campaign(Harness& harness, const CampaignOptions& options);

/// Faults that were asked for by name and could be done, and were not in these strikes: the slow ones are rare.
std::vector<std::string> not_struck(const CampaignOptions& options, const std::vector<CampaignRow>& rows);

std::vector<CampaignRow> sum_up(const std::vector<Strike>& strikes);

}  // namespace bulkhead::fault
