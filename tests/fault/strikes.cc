#include <initializer_list>
#include <utility>

#include "tests/fault/fixture.h"

namespace bulkhead::fault {
namespace {

constexpr std::initializer_list<Target> kServiceTargets = {Target::kAcceptor, Target::kMaintainer, Target::kNursery,
                                                           Target::kKeyholder, Target::kController};

class Strikes : public FaultTest {
 protected:
  /// Each of the services, one after the other, for each of these; who may not be struck yet is waited for.
  void strike_services(std::initializer_list<Harm> harms) {
    for (const Harm harm : harms) {
      for (const Target target : kServiceTargets) {
        if (!possible(target, harm)) continue;
        ASSERT_NO_FATAL_FAILURE(strike(target, harm));
      }
      ASSERT_TRUE(harness_->settle()) << told_;
      ASSERT_TRUE(harness_->check_control()) << told_;
    }
  }

  void strike_workers(std::initializer_list<Harm> harms) {
    std::size_t peer = 0;
    for (const Harm harm : harms) {
      for (int times = 0; times < 2; ++times) {
        if (!possible(Target::kWorker, harm)) continue;
        ASSERT_NO_FATAL_FAILURE(strike(Target::kWorker, harm, peer++ % harness_->peers()));
      }
      ASSERT_TRUE(harness_->settle()) << told_;
    }
  }
};

TEST_F(Strikes, ThatKillWorkersCostTheirConnectionsAlone) {
  ASSERT_NO_FATAL_FAILURE(start(16, 101));
  for (std::size_t round = 0; round < 3; ++round) {
    for (std::size_t peer = round; peer < harness_->peers(); peer += 2)
      ASSERT_NO_FATAL_FAILURE(strike(Target::kWorker, Harm::kKill, peer));
    ASSERT_TRUE(harness_->settle()) << told_;
  }
}

TEST_F(Strikes, InsideAWorkerCostItsConnectionAlone) {
  if (!is_privileged()) GTEST_SKIP() << "needs root, to raise a fault inside a process that is not dumpable";
  ASSERT_NO_FATAL_FAILURE(start(8, 102));
  ASSERT_NO_FATAL_FAILURE(strike_workers({Harm::kSegv, Harm::kAbort, Harm::kMemory, Harm::kDescriptors, Harm::kStop}));
}

TEST_F(Strikes, WithGarbageFromAWorkerCostItsConnectionAlone) {
  if (!is_privileged()) GTEST_SKIP() << "needs root, to write into a process that is not dumpable";
  ASSERT_NO_FATAL_FAILURE(start(8, 103));
  ASSERT_NO_FATAL_FAILURE(strike_workers({Harm::kChannel, Harm::kRing, Harm::kPage, Harm::kRing}));
}

TEST_F(Strikes, BySignalsToServicesCostNoConnection) {
  ASSERT_NO_FATAL_FAILURE(start(8, 104));
  ASSERT_NO_FATAL_FAILURE(strike_services({Harm::kKill, Harm::kSegv, Harm::kAbort, Harm::kStop}));
}

TEST_F(Strikes, ThatTakeAllAServiceMayHaveCostNoConnection) {
  if (!is_privileged()) GTEST_SKIP() << "needs root, to make a process that is not dumpable take what it does not need";
  ASSERT_NO_FATAL_FAILURE(start(6, 105));
  ASSERT_NO_FATAL_FAILURE(strike_services({Harm::kMemory, Harm::kDescriptors}));
}

TEST_F(Strikes, ThatMakeServicesHangAreFound) {
  ASSERT_NO_FATAL_FAILURE(start(6, 106));
  ASSERT_NO_FATAL_FAILURE(strike_services({Harm::kHang, Harm::kSpin}));
}

TEST_F(Strikes, ThatMakeWorkersHangAreFound) {
  ASSERT_NO_FATAL_FAILURE(start(4, 109));
  // Side by side: each takes half a minute.
  ASSERT_NO_FATAL_FAILURE(strike(Target::kWorker, Harm::kHang, 0));
  if (possible(Target::kWorker, Harm::kSpin)) {
    ASSERT_NO_FATAL_FAILURE(strike(Target::kWorker, Harm::kSpin, 1));
  }
  ASSERT_TRUE(harness_->settle()) << told_;
}

TEST_F(Strikes, ToTheApplicationCostNoMessage) {
  ASSERT_NO_FATAL_FAILURE(start(8, 107));
  for (const Harm harm : {Harm::kKill, Harm::kSegv, Harm::kAbort, Harm::kStop, Harm::kChannel, Harm::kKill}) {
    if (!possible(Target::kApplication, harm)) continue;
    ASSERT_NO_FATAL_FAILURE(strike(Target::kApplication, harm));
    ASSERT_TRUE(harness_->settle()) << told_;
  }
}

TEST_F(Strikes, AtRandomMomentsCostWhatTheyMay) {
  ASSERT_NO_FATAL_FAILURE(start(12, 108));
  CampaignOptions campaign{.strikes = 50, .means = means_};
  for (std::size_t i = 0; i < kHarms; ++i) {
    const auto harm = static_cast<Harm>(i);
    if (harm != Harm::kHang && harm != Harm::kSpin) campaign.harms.insert(harm);
  }
  run_campaign(*harness_, campaign);
}

}  // namespace
}  // namespace bulkhead::fault
