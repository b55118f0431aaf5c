#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>

#include "tests/simulation/churn.h"
#include "tests/simulation/eclipse.h"

namespace bulkhead::simulation {
namespace {

constexpr const char* kUsage =
    "Usage: simulate [--seed N] [--nodes N] [--runs N] [--most N] [churn|eclipse]\n"
    "Simulates a network with churn and an eclipse attack, hardened and as Octez, and prints a summary as JSON.\n"
    "  --seed N   of chance (default 1); the same seed gives the same figures\n"
    "  --nodes N  of the network (default 700)\n"
    "  --runs N   of the attack for each number of addresses (default 100)\n"
    "  --most N   addresses that are tried (default 8000)\n";

struct Options {
  std::uint64_t seed = 1;
  std::uint32_t nodes = 700;
  std::uint32_t runs = 100;
  std::uint32_t most = 8000;
  bool churn = true;
  bool eclipse = true;
};

template <typename Number>
bool parse(const char* text, Number& number) {
  const char* end = text + std::strlen(text);
  const auto [at, error] = std::from_chars(text, end, number);
  return error == std::errc() && at == end;
}

std::optional<Options> options_of(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const char* value = i + 1 < count ? words[i + 1] : "";
    bool good = true;
    if (word == "churn" || word == "eclipse") {
      options.churn = word == "churn";
      options.eclipse = word == "eclipse";
      continue;
    }
    if (word == "--seed")
      good = parse(value, options.seed);
    else if (word == "--nodes")
      good = parse(value, options.nodes) && options.nodes >= 10 && options.nodes <= 10000;
    else if (word == "--runs")
      good = parse(value, options.runs) && options.runs > 0;
    else if (word == "--most")
      good = parse(value, options.most) && options.most > 0;
    else
      good = false;
    if (!good) return std::nullopt;
    ++i;
  }
  return options;
}

void print_churn(const Options& options, bool hardened) {
  const auto result = simulate_churn({.nodes = options.nodes, .seed = options.seed, .hardened = hardened});
  std::printf(
      "    {\"selection\": \"%s\", \"highest\": %u, \"maximum\": %u, \"swaps\": %llu, \"events\": %llu, "
      "\"rest_s\": %.0f, \"outside_in_rest\": %.6f, \"disturbances\": [",
      hardened ? "hardened" : "octez", result.highest, result.maximum, static_cast<unsigned long long>(result.swaps),
      static_cast<unsigned long long>(result.events), result.rest_s, result.outside_in_rest);
  const char* separator = "\n";
  for (const auto& one : result.disturbances) {
    std::printf(
        "%s      {\"name\": \"%s\", \"nodes\": %u, \"settled_s\": %.0f, \"outside\": %u, \"connected\": %s, \"least\": "
        "%u, "
        "\"most\": %u, \"mean\": %.1f}",
        separator, one.name.c_str(), one.nodes, one.settled_s, one.outside, one.connected ? "true" : "false", one.least,
        one.most, one.mean);
    separator = ",\n";
  }
  std::printf("]}");
}

void print_eclipse(const Options& options, bool hardened) {
  const EclipseSettings settings{.hardened = hardened, .seed = options.seed};
  const std::uint32_t half = addresses_for_half(settings, options.runs, hardened ? 64 : 4, options.most);
  std::printf("    {\"selection\": \"%s\", \"runs\": %u, \"per_group\": %u, \"addresses_for_half\": ",
              hardened ? "hardened" : "octez", options.runs, settings.per_group);
  if (half != 0) {
    std::printf("%u}", half);
  } else {
    std::printf("null, \"not_with\": %u}", options.most);
  }
}

int run(const Options& options) {
  std::printf("{\n  \"seed\": %llu,\n  \"nodes\": %u", static_cast<unsigned long long>(options.seed), options.nodes);
  const auto both = [&](const char* name, auto print) {
    std::printf(",\n  \"%s\": [\n", name);
    print(options, true);
    std::printf(",\n");
    print(options, false);
    std::printf("\n  ]");
    std::fflush(stdout);
  };
  if (options.churn) both("churn", print_churn);
  if (options.eclipse) both("eclipse", print_eclipse);
  std::printf("\n}\n");
  return 0;
}

}  // namespace
}  // namespace bulkhead::simulation

int main(int count, char** words) {
  const auto options = bulkhead::simulation::options_of(count, words);
  if (!options) {
    std::fputs(bulkhead::simulation::kUsage, stderr);
    return 2;
  }
  return bulkhead::simulation::run(*options);
}
