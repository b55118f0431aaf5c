#include "tests/simulation/eclipse.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace bulkhead::simulation {
namespace {

// The program `simulate` makes 100 runs of each; here there are minutes.
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr std::uint32_t kRuns = 12;
#else
constexpr std::uint32_t kRuns = 2;  // each takes several times as long
#endif

constexpr std::uint32_t kEnoughForOctez = 120;

TEST(Eclipse, OfANodeThatChoosesAsOctezTakesNoMoreThan120Addresses) {
  const std::uint32_t eclipsed = count_eclipses({.addresses = kEnoughForOctez, .hardened = false}, kRuns);
  std::printf("seed 1: %u of %u\n", eclipsed, kRuns);
  EXPECT_GE(2 * eclipsed, kRuns);
}

TEST(Eclipse, OfAHardenedNodeIsNotDoneByTenTimesAsMany) {
  const std::uint32_t eclipsed = count_eclipses({.addresses = 10 * kEnoughForOctez}, kRuns);
  std::printf("seed 1: %u of %u\n", eclipsed, kRuns);
  EXPECT_LT(2 * eclipsed, kRuns);
}

TEST(Eclipse, IsTheSameForTheSameSeed) {
  const EclipseSettings settings{.addresses = 30, .seed = 7, .before_h = 1, .restart_h = 1, .after_h = 1};
  const auto one = simulate_eclipse(settings);
  const auto other = simulate_eclipse(settings);
  EXPECT_EQ(one.honest_outgoing, other.honest_outgoing);
  EXPECT_EQ(one.honest_incoming, other.honest_incoming);
  EXPECT_EQ(one.attacking_incoming, other.attacking_incoming);
}

}  // namespace
}  // namespace bulkhead::simulation
