#include "services/controller/cli/fault/fault_command.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <random>

#include "services/controller/cli/fault/campaign.h"
#include "services/controller/cli/fault/harness.h"
#include "services/controller/cli/files.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/run_command.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/views.h"

namespace bulkhead::cli {
namespace {

namespace fs = std::filesystem;

// In each directory that the command made: it may be used, and emptied, again.
constexpr const char* kMark = "fault-scratch";
constexpr std::uint64_t kDefaultStrikes = 100;
constexpr std::uint64_t kDefaultPeers = 16;

/// True while a node holds the directory's lock.
bool is_locked(const std::string& directory) {
  const UniqueFd lock(::open((directory + "/run/lock").c_str(), O_RDONLY | O_CLOEXEC));
  if (!lock) return false;
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) return true;
  return false;
}

/// An empty directory for the node: `wanted`, or one of its own in the directory for temporary files.
Result<std::string> scratch_directory(const std::string& wanted) {
  std::error_code error;
  if (wanted.empty()) {
    std::string folder = (fs::temp_directory_path(error) / "bulkhead-fault-XXXXXX").string();
    if (error || ::mkdtemp(folder.data()) == nullptr)
      return failure("no temporary directory can be made in $TMPDIR or /tmp");
    return folder;
  }
  if (!exists(wanted)) {
    if (auto made = make_directories(wanted); !made) return made.error();
    return wanted;
  }
  if (is_locked(wanted)) return failure("a node runs on " + wanted + "; this command takes a directory of its own");
  const bool ours = exists(wanted + "/" + kMark);
  const bool empty = fs::is_empty(wanted, error);
  if (error) return failure(wanted + ": " + error.message());
  if (!empty && !ours)
    return failure(wanted + " is not empty and was not made by this command; name an empty directory, or none");
  for (const auto& entry : fs::directory_iterator(wanted, error)) fs::remove_all(entry.path(), error);
  if (error) return failure(wanted + ": cannot be emptied: " + error.message());
  return wanted;
}

std::string seconds_text(Nanoseconds time) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3f", static_cast<double>(time) / static_cast<double>(kSecond));
  return text.data();
}

double as_seconds(Nanoseconds time) {
  return static_cast<double>(time) / static_cast<double>(kSecond);
}

ShownJson spread_json(const std::vector<Nanoseconds>& sorted) {
  if (sorted.empty()) return nullptr;
  return {{"min", as_seconds(sorted.front())},
          {"median", as_seconds(sorted[sorted.size() / 2])},
          {"max", as_seconds(sorted.back())}};
}

ShownJson rows_json(const std::vector<fault::CampaignRow>& rows) {
  ShownJson list = ShownJson::array();
  for (const auto& row : rows) {
    list.push_back({{"role", fault::target_name(row.target)},
                    {"fault", fault::harm_name(row.harm)},
                    {"times", row.times},
                    {"gone", spread_json(row.gone)},
                    {"back", spread_json(row.back)},
                    {"failures", row.failures},
                    {"others_lost", row.others}});
  }
  return list;
}

std::string rows_text(const std::vector<fault::CampaignRow>& rows) {
  TextTable table(
      {"ROLE", "FAULT", "TIMES", "GONE MEDIAN", "MAX", "BACK MIN", "MEDIAN", "MAX", "FAILED", "OTHERS LOST"},
      {2, 3, 4, 5, 6, 7, 8, 9});
  for (const auto& row : rows) {
    const auto at = [](const std::vector<Nanoseconds>& sorted, std::size_t index) {
      return sorted.empty() ? std::string("-") : seconds_text(sorted[index]);
    };
    table.add({fault::target_name(row.target), fault::harm_name(row.harm), std::to_string(row.times),
               at(row.gone, row.gone.size() / 2), at(row.gone, row.gone.size() - 1), at(row.back, 0),
               at(row.back, row.back.size() / 2), at(row.back, row.back.size() - 1), std::to_string(row.failures),
               std::to_string(row.others)});
  }
  return table.text();
}

}  // namespace

int run_fault(const Arguments& arguments) {
  if (!arguments.scratch) {
    return fail(
        usage_error("fault: kills processes without end, of a node of its own; say --scratch to have it, on a "
                    "directory of its own"));
  }
  fault::CampaignOptions campaign{.strikes = arguments.kills.value_or(kDefaultStrikes)};
  for (const std::string& name : arguments.roles) campaign.targets.insert(*fault::target_of(name));
  for (const std::string& name : arguments.faults) campaign.harms.insert(*fault::harm_of(name));
  campaign.means = {.privileged = fault::is_privileged(), .confined = arguments.sandbox != "off"};
  const auto omitted = fault::left_out(campaign);
  if (fault::kinds(campaign).empty()) {
    return fail(failure("nothing of what was asked for can be done" +
                        (omitted.empty() ? "; see the lists of 'bulkhead fault --help'" : ": " + omitted.front())));
  }

  const auto program = own_path();
  if (!program) return fail(program.error());
  if (const auto services = find_services(*program); !services) return fail(services.error());
  const auto directory = scratch_directory(arguments.data_dir_given ? arguments.data_dir : "");
  if (!directory) return fail(directory.error());
  if (auto marked = write_new_file(*directory + "/" + kMark, "made by `bulkhead fault`\n", 0600); !marked)
    return fail(marked.error());

  const Nanoseconds begin = monotonic_now();
  const auto tell = [&](const std::string& text) {
    const std::string line = "[" + seconds_text(monotonic_now() - begin) + "] " + text + "\n";
    if (arguments.json) {
      std::fputs(line.c_str(), stderr);
    } else {
      print(line);
    }
  };
  const std::uint64_t seed = arguments.seed.value_or(std::random_device{}());
  tell("seed " + std::to_string(seed) + ", directory " + *directory);
  for (const std::string& kind : omitted) tell("left out: " + kind);

  fault::Harness harness({.program = *program,
                          .data_dir = *directory,
                          .peers = arguments.peers.value_or(kDefaultPeers),
                          .seed = seed,
                          .sandbox = arguments.sandbox,
                          .tell = tell});
  std::vector<std::string> wrong;
  if (auto started = harness.start(); !started) {
    wrong.push_back(started.error().text);
  } else {
    tell(std::to_string(harness.peers()) + " peers and an application talk");
    fault::run_campaign(harness, campaign);
    harness.finish();
    wrong = harness.violations();
  }
  const auto rows = fault::sum_up(harness.strikes());
  const auto not_struck = fault::not_struck(campaign, rows);
  const double seconds = as_seconds(monotonic_now() - begin);
  if (arguments.json) {
    print(json_text({{"ok", wrong.empty()},
                     {"seed", seed},
                     {"kills", harness.strikes().size()},
                     {"seconds", seconds},
                     {"messages", harness.messages()},
                     {"bytes", harness.bytes()},
                     {"streams_cut", harness.streams_cut()},
                     {"others_lost", harness.other_losses()},
                     {"rows", rows_json(rows)},
                     {"left_out", omitted},
                     {"not_struck", not_struck},
                     {"violations", wrong}}));
  } else {
    print(rows_text(rows));
    print(std::to_string(harness.strikes().size()) + " strikes in " + std::to_string(static_cast<long>(seconds)) +
          " s; " + std::to_string(harness.messages()) + " messages verified, " + size_text(harness.bytes()) +
          " to the peers; " + std::to_string(harness.other_losses()) + " other connections lost; " +
          std::to_string(harness.streams_cut()) + " ended by an application that died inside a message\n");
  }
  for (const std::string& harm : not_struck)
    complain("fault: no " + harm + " among " + std::to_string(harness.strikes().size()) +
             " strikes; more --kills reach it");
  if (!wrong.empty()) {
    for (const std::string& text : wrong) complain("fault: " + text);
    return fail(
        failure("it did not hold, with seed " + std::to_string(seed) + "; the node's log is " + *directory + "/log"));
  }
  std::error_code error;
  if (!arguments.keep) {
    for (const auto& entry : fs::directory_iterator(*directory, error)) fs::remove_all(entry.path(), error);
    if (!arguments.data_dir_given) fs::remove(*directory, error);
  }
  if (!arguments.json) print("All of it held.\n");
  return exit_status(ProgramExit::kDone);
}

}  // namespace bulkhead::cli
