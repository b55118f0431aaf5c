#include "services/controller/hang_watch.h"

namespace bulkhead::controller {
namespace {

constexpr Nanoseconds kUnmoved = 15 * kSecond;
constexpr Nanoseconds kIdle = 300 * kSecond;
constexpr Nanoseconds kTimeToAnswer = 15 * kSecond;

}  // namespace

HangWatch::Action HangWatch::look(bool waiting, std::uint64_t taken, Nanoseconds now) {
  if (moved_at_ == 0) {
    moved_at_ = answered_at_ = now;
    taken_ = taken;
  }
  if (!waiting || taken != taken_) moved_at_ = now;
  taken_ = taken;
  if (asked_at_ != 0) return now - asked_at_ >= kTimeToAnswer ? Action::kGiveUp : Action::kNone;
  const bool stuck = now - moved_at_ >= kUnmoved && now - answered_at_ >= kUnmoved;
  if (!stuck && !ask_next_ && now - answered_at_ < kIdle) return Action::kNone;
  ask_next_ = false;
  asked_at_ = now;
  ++number_;
  return Action::kAsk;
}

void HangWatch::start_waiting_anew(Nanoseconds now) {
  if (asked_at_ != 0) asked_at_ = now;
}

bool HangWatch::answered(std::uint64_t number, Nanoseconds now) {
  if (asked_at_ == 0 || number != number_) return false;
  asked_at_ = 0;
  answered_at_ = now;
  return true;
}

}  // namespace bulkhead::controller
