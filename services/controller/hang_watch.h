#pragma once

#include <cstdint>

#include "base/clock.h"

namespace bulkhead::controller {

/// Whether a worker that runs still does its work. Pure; looked at from time to time for each running connection.
///
/// A worker is asked when messages wait for it and it has taken none of them for 15 s (its peer may simply not read),
/// else every 5 minutes, and has 15 s to answer: an idle worker is woken so seldom that thousands of them cost nothing.
class HangWatch {
 public:
  enum class Action : std::uint8_t { kNone, kAsk, kGiveUp };

  /// `waiting`: the sending application has published what the worker has not taken. `taken`: the worker's position in
  /// its outward ring, whatever it claims.
  Action look(bool waiting, std::uint64_t taken, Nanoseconds now);
  /// The number of the question that kAsk wants asked; an answer with another number is none.
  std::uint64_t number() const { return number_; }
  bool asked() const { return asked_at_ != 0; }
  /// The next look asks: how long the worker has been silent is not known.
  void ask_next() { ask_next_ = true; }
  /// Whoever waits was away itself: what was answered meanwhile is still unread.
  void start_waiting_anew(Nanoseconds now);
  /// False: nobody asked this.
  bool answered(std::uint64_t number, Nanoseconds now);

 private:
  std::uint64_t number_ = 0;
  std::uint64_t taken_ = 0;
  Nanoseconds moved_at_ = 0;  ///< 0: not looked at yet
  Nanoseconds asked_at_ = 0;  ///< 0: no question is open
  Nanoseconds answered_at_ = 0;
  bool ask_next_ = false;
};

}  // namespace bulkhead::controller
