#include <signal.h>

#include <algorithm>
#include <functional>

#include "tests/fault/fixture.h"

namespace bulkhead::fault {
namespace {

constexpr std::size_t kPeers = 16;
constexpr std::size_t kVictim = 0;
constexpr Nanoseconds kMost = 5 * kMillisecond * kPatience;
constexpr Nanoseconds kWindow = 1500 * kMillisecond;
constexpr int kWindows = 3;
// Noise of the machine falls on either side; what a victim costs the others would show each time.
constexpr int kAttempts = 3;
constexpr Pattern kSmallMessages{.largest = 8 * 1024};

Nanoseconds percentile_99(std::vector<Nanoseconds>& samples) {
  if (samples.empty()) return 0;
  const auto at = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() * 99 / 100);
  std::nth_element(samples.begin(), at, samples.end());
  return *at;
}

class HeadOfLine : public FaultTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(start(kPeers, 201, kSmallMessages, 5 * kMillisecond));
    for (std::size_t i = 0; i < kPeers; ++i) {
      if (i == kVictim) continue;
      harness_->peer(i).on_round_trip([this](Nanoseconds time) {
        if (samples_ != nullptr) samples_->push_back(time);
      });
    }
  }

  void window(std::vector<Nanoseconds>& samples) {
    samples_ = &samples;
    const Nanoseconds until = monotonic_now() + kWindow;
    while (monotonic_now() < until) harness_->pump();
    samples_ = nullptr;
  }

  /// Windows with and without the fault, in turn. `begin` and `end` are not measured.
  void compare(const std::function<void()>& begin, const std::function<void()>& end) {
    Nanoseconds with_99 = 0;
    Nanoseconds without_99 = 0;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      std::vector<Nanoseconds> with;
      std::vector<Nanoseconds> without;
      for (int i = 0; i < kWindows; ++i) {
        window(without);
        ASSERT_NO_FATAL_FAILURE(begin());
        window(with);
        ASSERT_NO_FATAL_FAILURE(end());
      }
      ASSERT_GT(with.size(), 500U);
      ASSERT_GT(without.size(), 500U);
      with_99 = percentile_99(with);
      without_99 = percentile_99(without);
      std::printf("99th percentile of round trips: %.3f ms without, %.3f ms with the fault (%zu and %zu)\n",
                  static_cast<double>(without_99) / 1e6, static_cast<double>(with_99) / 1e6, without.size(),
                  with.size());
      if (with_99 <= without_99 + kMost) return;
    }
    ADD_FAILURE() << "the others' round trips take " << (with_99 - without_99) / 1000 << " us longer";
  }

  pid_t victim() const {
    const auto connection = harness_->observer().connection_of(harness_->peer(kVictim).peer_id());
    return connection ? connection->worker : 0;
  }

  std::uint64_t answered_ = 0;
  Nanoseconds still_since_ = 0;

 private:
  std::vector<Nanoseconds>* samples_ = nullptr;
};

TEST_F(HeadOfLine, IsNotHeldUpByAStoppedWorker) {
  const pid_t worker = victim();
  ASSERT_GT(worker, 1);
  compare([&] { ASSERT_EQ(::kill(worker, SIGSTOP), 0); }, [&] { ASSERT_EQ(::kill(worker, SIGCONT), 0); });
}

TEST_F(HeadOfLine, IsNotHeldUpByAPeerThatDoesNotRead) {
  Endpoint& peer = harness_->peer(kVictim);
  const EchoState::Peer& state = harness_->application().state().peers[kVictim];
  // Its socket and its ring are full, and the application has more for it than it can send.
  const auto full = [&] {
    std::uint64_t answered = state.answered.load();
    if (answered != answered_) {
      answered_ = answered;
      still_since_ = monotonic_now();
    }
    return state.received.load() > answered + 10 && monotonic_now() - still_since_ > 300 * kMillisecond;
  };
  compare(
      [&] {
        peer.set_reading(false);
        peer.set_pause(0);
        peer.set_window(20'000);
        still_since_ = monotonic_now();
        ASSERT_TRUE(harness_->pump_until(full, 30 * kSecond * kPatience)) << peer.sent() << " " << peer.answered();
        peer.set_window(0);
      },
      [&] {
        peer.set_reading(true);
        peer.set_pause(5 * kMillisecond);
        ASSERT_TRUE(harness_->pump_until([&] { return peer.answered() == peer.sent(); }, 30 * kSecond * kPatience));
        peer.set_window(4);
      });
}

}  // namespace
}  // namespace bulkhead::fault
