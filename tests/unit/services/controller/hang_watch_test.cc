#include "services/controller/hang_watch.h"

#include <gtest/gtest.h>

namespace bulkhead::controller {
namespace {

using Action = HangWatch::Action;

// Looks twice a second, as the controller does, until something is to be done or `seconds` have gone.
Action watch(HangWatch& watch, bool waiting, std::uint64_t taken, Nanoseconds& now, int seconds) {
  for (int i = 0; i < seconds * 2; ++i) {
    now += kSecond / 2;
    const Action action = watch.look(waiting, taken, now);
    if (action != Action::kNone) return action;
  }
  return Action::kNone;
}

TEST(HangWatch, AsksAWorkerThatTakesNothingForFifteenSeconds) {
  HangWatch worker;
  Nanoseconds now = 1000 * kSecond;
  EXPECT_EQ(worker.look(true, 7, now), Action::kNone);
  EXPECT_EQ(watch(worker, true, 7, now, 14), Action::kNone);
  EXPECT_EQ(watch(worker, true, 7, now, 2), Action::kAsk);
}

TEST(HangWatch, LeavesAWorkerAloneThatTakesSomething) {
  HangWatch worker;
  Nanoseconds now = 1000 * kSecond;
  for (std::uint64_t taken = 1; taken < 60; ++taken) EXPECT_EQ(watch(worker, true, taken, now, 1), Action::kNone);
}

TEST(HangWatch, AsksAnIdleWorkerEveryFiveMinutes) {
  HangWatch worker;
  Nanoseconds now = 1000 * kSecond;
  EXPECT_EQ(worker.look(false, 0, now), Action::kNone);
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(watch(worker, false, 0, now, 299), Action::kNone);
    EXPECT_EQ(watch(worker, false, 0, now, 2), Action::kAsk);
    EXPECT_TRUE(worker.answered(worker.number(), now));
  }
}

TEST(HangWatch, GivesUpFifteenSecondsAfterAQuestion) {
  HangWatch worker;
  Nanoseconds now = 1000 * kSecond;
  ASSERT_EQ(watch(worker, true, 7, now, 20), Action::kAsk);
  EXPECT_EQ(watch(worker, true, 7, now, 14), Action::kNone);
  EXPECT_EQ(watch(worker, true, 7, now, 2), Action::kGiveUp);
}

TEST(HangWatch, AsksAgainWhileThePeerDoesNotReadAndKeepsTheWorkerThatAnswers) {
  HangWatch worker;
  Nanoseconds now = 1000 * kSecond;
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(watch(worker, true, 7, now, 17), Action::kAsk);
    EXPECT_TRUE(worker.answered(worker.number(), now));
  }
}

TEST(HangWatch, TakesNoAnswerThatNobodyAskedFor) {
  HangWatch worker;
  Nanoseconds now = 1000 * kSecond;
  EXPECT_FALSE(worker.answered(0, now));
  ASSERT_EQ(watch(worker, true, 7, now, 20), Action::kAsk);
  EXPECT_FALSE(worker.answered(worker.number() + 1, now));
  EXPECT_TRUE(worker.answered(worker.number(), now));
  EXPECT_FALSE(worker.answered(worker.number(), now));
}

TEST(HangWatch, AsksAtOnceWhatWasTakenOverFromAFormerController) {
  HangWatch worker;
  worker.ask_next();
  Nanoseconds now = 1000 * kSecond;
  EXPECT_EQ(worker.look(false, 0, now), Action::kAsk);
  EXPECT_EQ(watch(worker, false, 0, now, 14), Action::kNone);
  EXPECT_EQ(watch(worker, false, 0, now, 2), Action::kGiveUp);
}

TEST(HangWatch, GivesTimeAnewWhenTheOneWhoWaitsWasAway) {
  HangWatch worker;
  Nanoseconds now = 1000 * kSecond;
  ASSERT_EQ(watch(worker, true, 7, now, 20), Action::kAsk);
  now += 60 * kSecond;
  worker.start_waiting_anew(now);
  EXPECT_EQ(worker.look(true, 7, now), Action::kNone);
  EXPECT_EQ(watch(worker, true, 7, now, 16), Action::kGiveUp);
}

}  // namespace
}  // namespace bulkhead::controller
