#include "services/controller/state_disk.h"

namespace bulkhead::controller {
namespace {

// A flush of the disk is due this long after the last one; with a timer of 100 ms the disk is less than a second late.
constexpr Nanoseconds kSyncPeriod = 800 * kMillisecond;
// Pages of a log that is moved into the database: SQLite's default.
constexpr int kLongLog = 1000;
constexpr Nanoseconds kMoveRetryPeriod = kSecond;

constexpr auto kLog = StateVfs::File::kLog;

}  // namespace

// ---- commits

Ticket StateDisk::committed() {
  awaiting_.push_back({++last_ticket_, database_.vfs().written(kLog)});
  return last_ticket_;
}

Ticket StateDisk::held() {
  held_.push_back(++last_ticket_);
  return last_ticket_;
}

void StateDisk::held_were_committed() {
  for (const Ticket ticket : std::exchange(held_, {})) awaiting_.push_back({ticket, database_.vfs().written(kLog)});
}

void StateDisk::held_failed(const Error& error) {
  for (const Ticket ticket : std::exchange(held_, {})) outcomes_.push_back({ticket, error});
}

// Those whose part of the log is on the disk, or, after a failure, should be.
void StateDisk::confirm(const Result<void>& stored) {
  while (!awaiting_.empty() && (!stored || database_.vfs().is_flushed(kLog, awaiting_.front().written))) {
    outcomes_.push_back({awaiting_.front().ticket, stored});
    awaiting_.pop_front();
  }
}

// ---- flushes

Result<void> StateDisk::proceed(Nanoseconds now, bool may_move) {
  auto done = settle(now);
  // More than once only where a flush blocks, and so is over as soon as it was begun.
  while (done && !flushing_) {
    done = begin_next(now, may_move);
    if (!flushing_) break;
    if (done) done = settle(now);
  }
  return done;
}

Result<void> StateDisk::settle(Nanoseconds now) {
  // Asked in any case: its readiness may come after its outcome.
  auto outcome = flush_.outcome();
  if (!outcome || !flushing_) return {};
  const Flushing done = *std::exchange(flushing_, std::nullopt);
  if (!*outcome) return failed(done.file, outcome->error(), now);
  database_.vfs().flushed(done.file, done.written);
  return {};
}

Error StateDisk::failed(StateVfs::File file, Error error, Nanoseconds now) {
  database_.vfs().distrust(file);
  // Nobody is held back by a disk that fails.
  moving_ = header_due_ = false;
  rounds_ = 0;
  move_not_before_ = now + kMoveRetryPeriod;
  if (file == kLog) confirm(error);
  held_failed(error);
  return error;
}

Result<void> StateDisk::begin_flush(StateVfs::File file, Nanoseconds now) {
  if (file == kLog) {
    flushed_at_ = now;
    if (auto whole = database_.vfs().write_log_again(); !whole) return failed(file, whole.error(), now);
  }
  flushing_ = {file, database_.vfs().written(file)};
  flush_.begin(database_.vfs().fd_of(file));
  return {};
}

Result<void> StateDisk::begin_next(Nanoseconds now, bool may_move) {
  confirm({});
  const bool wants_move = moving_ || header_due_ || database_.log_pages() >= kLongLog;
  if (wants_move && may_move && now >= move_not_before_) {
    return outcomes_.empty() ? move_log(now) : Result<void>();
  }
  const bool due = !awaiting_.empty() || now - flushed_at_ >= kSyncPeriod;
  return due && !database_.vfs().is_clean(kLog) ? begin_flush(kLog, now) : Result<void>();
}

Result<void> StateDisk::flush_now() {
  const auto wait = [this] {
    flush_.wait();
    return settle(monotonic_now());
  };
  (void)wait();
  auto done = begin_flush(kLog, monotonic_now());
  if (done) done = wait();
  confirm({});
  return done;
}

// ---- the move

Result<void> StateDisk::move_log(Nanoseconds now) {
  if (!header_due_) {
    moving_ = true;
    ++rounds_;
    auto next = database_.checkpoint();
    if (next && *next) return begin_flush(**next, now);
    moving_ = false;
    rounds_ = 0;
    if (!next) {
      move_not_before_ = now + kMoveRetryPeriod;
      return next.error();
    }
    header_due_ = true;
  }
  return begin_log_anew(now);
}

Result<void> StateDisk::begin_log_anew(Nanoseconds now) {
  auto begun = database_.begin_log(true);
  if (!begun && begun.error().code == ErrorCode::kWouldBlock) return begin_flush(kLog, now);
  // Without a header that is known to be on the disk, the next commit waits for it; nobody is held back for longer.
  header_due_ = false;
  return begun;
}

}  // namespace bulkhead::controller
