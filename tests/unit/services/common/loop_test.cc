#include "services/common/loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

namespace bulkhead::service {
namespace {

void work_for(Nanoseconds time) {
  const Nanoseconds until = monotonic_now() + time;
  while (monotonic_now() < until) {
  }
}

TEST(Timer, ThatIsSetByAnotherOnesCallbackLeavesDescriptorsTheirTurn) {
  Loop loop;
  const UniqueFd fd(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
  ASSERT_TRUE(fd);
  int rounds = 0;
  int rounds_before_the_descriptor = 0;
  Timer first;
  Timer second;
  Poll poll;
  const auto round = [&](Timer& next) {
    work_for(3 * kMillisecond);
    if (++rounds == 200) return loop.stop();
    next.once(1);
    // Readable from here on, and not looked at before the first timer ran.
    if (rounds == 2) poll.watch(UV_READABLE);
  };
  first = Timer(loop, [&] { round(second); });
  second = Timer(loop, [&] { round(first); });
  poll = Poll(loop, fd.get(), [&](int, int) {
    rounds_before_the_descriptor = rounds;
    loop.stop();
  });
  first.once(0);
  second.once(0);
  loop.run();
  EXPECT_GT(rounds_before_the_descriptor, 0) << "timers kept the loop to themselves";
}

TEST(Timer, RunsNotBeforeItsTimeHoweverOldTheLoopsTimeIs) {
  Loop loop;
  Nanoseconds set_at = 0;
  Nanoseconds ran_at = 0;
  Timer late(loop, [&] {
    ran_at = monotonic_now();
    loop.stop();
  });
  Timer early(loop, [&] {
    work_for(20 * kMillisecond);
    set_at = monotonic_now();
    late.once(10);
  });
  early.once(0);
  loop.run();
  EXPECT_GE(ran_at - set_at, 9 * kMillisecond);
}

}  // namespace
}  // namespace bulkhead::service
