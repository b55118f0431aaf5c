#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "services/controller/cli/fault/campaign.h"
#include "services/controller/cli/fault/harness.h"
#include "wire/secret.h"

namespace bulkhead::fault {

/// A harness on a directory of its own, which stays behind when the test failed.
class FaultTest : public ::testing::Test {
 protected:
  /// Use as ASSERT_NO_FATAL_FAILURE(start(...)).
  void start(std::size_t peers, std::uint64_t seed, Pattern pattern = {}, Nanoseconds pause = 10 * kMillisecond) {
    wire::initialise();
    const char* sandbox = std::getenv("BULKHEAD_TEST_SANDBOX");
    means_ = {.privileged = is_privileged(), .confined = sandbox == nullptr || std::string(sandbox) != "off"};
    char name[] = "/tmp/bulkhead-fault-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    std::printf("seed %llu, directory %s\n", static_cast<unsigned long long>(seed), name);
    harness_ =
        std::make_unique<Harness>(HarnessOptions{.program = std::string(BULKHEAD_BIN_DIR) + "/bulkhead",
                                                 .data_dir = directory_,
                                                 .peers = peers,
                                                 .seed = seed,
                                                 .pattern = pattern,
                                                 .pause = pause,
                                                 .sandbox = sandbox == nullptr ? "" : sandbox,
                                                 .tell = [this](const std::string& line) { told_ += line + "\n"; }});
    const auto started = harness_->start();
    ASSERT_TRUE(started) << started.error().text;
  }

  /// Waits until it may be done, and does it.
  void strike(Target target, Harm harm, std::size_t peer = 0) {
    const bool worker = target == Target::kWorker;
    const auto may = [&] { return worker ? harness_->may_strike_worker(peer) : harness_->may_strike(target); };
    ASSERT_TRUE(harness_->pump_until(may, 20 * kSecond * kPatience)) << told_;
    auto done = harness_->strike(target, harm, peer);
    // Its connection may end in this moment, by what was done to it before.
    while (!done && done.error().code == ErrorCode::kNotFound) {
      ASSERT_TRUE(harness_->pump_until(may, 20 * kSecond * kPatience)) << told_;
      harness_->pump();
      done = harness_->strike(target, harm, peer);
    }
    ASSERT_TRUE(done) << done.error().text;
  }

  bool possible(Target target, Harm harm) const {
    return applies(target, harm) && missing(target, harm, means_).empty();
  }

  void expect_held() {
    for (const std::string& violation : harness_->violations()) ADD_FAILURE() << violation << "\n" << told_;
  }

  void TearDown() override {
    if (harness_) {
      if (!HasFatalFailure()) {
        harness_->finish();
        expect_held();
      }
      harness_.reset();
    }
    if (!directory_.empty() && !HasFailure()) std::filesystem::remove_all(directory_);
  }

  std::string directory_;
  std::string told_;
  Means means_;
  std::unique_ptr<Harness> harness_;
};

}  // namespace bulkhead::fault
