#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "services/controller/disk_flush.h"
#include "services/controller/state_database.h"
#include "services/controller/store.h"

namespace bulkhead::controller {

/// Brings what was committed to the disk, and moves a long log into the database. One flush is under way at a time, and
/// nothing waits for it: proceed() goes on from where it stands. One thread. Errors as those of Store.
///
/// SQLite does the moving in one call: it flushes the log, copies its pages, flushes the database, and lets the next
/// commit begin the log anew, whose header it flushes before anything else. That call is made again after each flush
/// that it wishes, and finds that what came before it is done. While a move cannot come to its end because commits keep
/// coming, and until the new header is on the disk, commits are held back: whoever writes then would wait for the disk.
class StateDisk {
 public:
  /// Both must outlive it.
  StateDisk(Database& database, DiskFlush& flush) : database_(database), flush_(flush) {}

  /// Whether nothing should be written now.
  bool holds_back() const { return header_due_ || (moving_ && rounds_ > kOpenRounds); }

  /// Something was committed just now. Its ticket.
  Ticket committed();
  /// Something will be, and was held back.
  Ticket held();
  /// All that was held back was committed just now, or could not be.
  void held_were_committed();
  void held_failed(const Error& error);

  /// Hears of the flush that is under way, and begins the next one that is due. `may_move`: the log, when it is long.
  Result<void> proceed(Nanoseconds now, bool may_move);
  /// Flushes the log, and waits for it.
  Result<void> flush_now();

  /// See Store. While some wait to be asked for, the log is not moved: a very long one takes some tenths of a second.
  std::vector<CommitOutcome> outcomes() { return std::exchange(outcomes_, {}); }
  /// Whether everything that was committed is on the disk.
  bool is_clean() const { return held_.empty() && database_.vfs().is_clean(StateVfs::File::kLog); }
  int readiness() const { return flush_.readiness(); }

 private:
  // Rounds of a move in which commits go on: each of them costs another round.
  static constexpr int kOpenRounds = 2;

  struct Flushing {
    StateVfs::File file;
    std::uint64_t written;  ///< what of it will be on the disk
  };
  struct Awaiting {
    Ticket ticket;
    std::uint64_t written;  ///< of the log
  };

  Result<void> settle(Nanoseconds now);
  Result<void> begin_next(Nanoseconds now, bool may_move);
  Result<void> begin_flush(StateVfs::File file, Nanoseconds now);
  Result<void> move_log(Nanoseconds now);
  Result<void> begin_log_anew(Nanoseconds now);
  Error failed(StateVfs::File file, Error error, Nanoseconds now);
  void confirm(const Result<void>& stored);

  Database& database_;
  DiskFlush& flush_;
  std::optional<Flushing> flushing_;
  std::deque<Awaiting> awaiting_;
  std::vector<Ticket> held_;
  std::vector<CommitOutcome> outcomes_;
  Ticket last_ticket_ = 0;
  Nanoseconds flushed_at_ = 0;
  bool moving_ = false;
  bool header_due_ = false;  ///< the log was moved, and the header of the new one is not on the disk
  int rounds_ = 0;           ///< of this move
  Nanoseconds move_not_before_ = 0;
};

}  // namespace bulkhead::controller
