#include "services/controller/store.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <map>

#include "base/log.h"
#include "services/controller/state_database.h"
#include "services/controller/state_disk.h"
#include "services/controller/state_rows.h"

namespace bulkhead::controller {
namespace {

// Pages are written at the commit: a bound on rows bounds that part, which the clock does not see coming.
constexpr std::size_t kFlushRows = 1024;
constexpr std::size_t kRowsBetweenLooks = 16;
// The first four bytes of a log, but for the last bit (https://www.sqlite.org/fileformat.html, "WAL File Format").
constexpr std::array<std::uint8_t, 4> kLogMagic = {0x37, 0x7f, 0x06, 0x82};
constexpr std::size_t kLogHeaderBytes = 32;
constexpr off_t kPageBytes = 4096;  // SQLite's default, of which the store's files are made

/// One thing to write, and the key under which a later one replaces it.
using Action = std::variant<AclEntry, RemoveAcl, ClearList, PointEntry, RemovePoint, PeerEntry, RemovePeer, HistoryRow,
                            ClearHistory, SetAnchors, Setting, RemoveSetting>;
struct Step {
  std::string key;
  Action action;
};

std::string key_of(StoredList list) {
  return {'a', static_cast<char>(list)};
}
std::string key_of(const AclKey& key) {
  std::string text = key_of(key.list);
  text.push_back(key.is_peer ? 1 : 0);
  text.append(key.subject.begin(), key.subject.end());
  text.push_back(static_cast<char>(key.length));
  return text;
}
std::string history_key(const std::string& subject) {
  // The size first: a peer's id is never the beginning of a point.
  return "h" + std::string(1, static_cast<char>(subject.size())) + subject;
}

Error busy() {
  return {ErrorCode::kWouldBlock, "an import is being stored first"};
}

struct Disk {
  off_t database = 0;
  off_t log = 0;
};

Result<Disk> sizes(const service::StateFiles& files) {
  struct stat database {};
  struct stat log {};
  if (::fstat(files.database.get(), &database) != 0 || ::fstat(files.log.get(), &log) != 0) {
    return system_error("the state database cannot be looked at");
  }
  if (database.st_nlink == 0 || log.st_nlink == 0) {
    return Error{
        ErrorCode::kSystem,
        "the state database (state/ in the data directory) was removed while the node runs; what it knows goes "
        "with it. Save the lists with `bulkhead acl export`, and restart it",
        ENOENT};
  }
  return Disk{database.st_size, log.st_size};
}

// SQLite takes a log that does not begin like one for an empty one, and writes over it. A header of zeros is what a
// power cut leaves of one that nothing was confirmed on.
Result<bool> log_begins_well(int log) {
  std::array<std::uint8_t, kLogHeaderBytes> header{};
  const ssize_t got = ::pread(log, header.data(), header.size(), 0);
  if (got < 0) return system_error("the log of the state database cannot be read");
  if (got < static_cast<ssize_t>(header.size())) return true;
  const bool empty = std::all_of(header.begin(), header.end(), [](std::uint8_t byte) { return byte == 0; });
  header[3] &= 0xfe;
  return empty || std::equal(kLogMagic.begin(), kLogMagic.end(), header.begin());
}

}  // namespace

struct Store::State {
  State(service::StateFiles files, std::unique_ptr<DiskFlush> flush)
      : disk_flush(flush ? std::move(flush) : std::unique_ptr<DiskFlush>(std::make_unique<BlockingDiskFlush>())),
        database(std::move(files), *disk_flush),
        disk(database, *disk_flush) {}

  using Queue = std::list<Step>;

  Result<void> check_files();
  Result<std::vector<Step>> steps_of(const Changes& changes);
  void add_steps(const Change& change, std::vector<Step>& steps);
  Result<void> apply(const Step& step);
  void note(Step step);
  void drop(const std::string& key);
  void drop_below(const std::string& prefix);
  void supersede(const Step& step);
  Result<void> write_pending(std::size_t most_rows, Nanoseconds budget);
  Result<void> write_all();
  void tell_held(const Result<void>& written);
  std::uint64_t next_number(const std::string& subject) { return next_event[subject]++; }

  std::unique_ptr<DiskFlush> disk_flush;
  Database database;
  StateDisk disk;
  Queue queue;
  std::map<std::string, Queue::iterator> by_key;
  std::map<std::string, std::uint64_t> next_event;  ///< by subject
  std::uint32_t history_length = kHistoryLength;
  std::uint64_t dropped = 0;
  bool may_move = true;
  bool importing = false;
  bool log_damaged = false;
};

Store::Store(service::StateFiles files, std::unique_ptr<DiskFlush> disk)
    : state_(std::make_unique<State>(std::move(files), std::move(disk))) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

bool Store::log_damaged() const {
  return state_->log_damaged;
}
std::size_t Store::pending() const {
  return state_->queue.size();
}
std::uint64_t Store::dropped() const {
  return state_->dropped;
}
bool Store::importing() const {
  return state_->importing;
}
void Store::leave_log(bool leave) {
  state_->may_move = !leave;
}
int Store::readiness() const {
  return state_->disk.readiness();
}
std::vector<CommitOutcome> Store::outcomes() {
  return state_->disk.outcomes();
}
bool Store::all_on_disk() const {
  return state_->queue.empty() && state_->disk.is_clean();
}

// ---- opening

Result<void> Store::State::check_files() {
  const auto size = sizes(database.files());
  if (!size) return size.error();
  const auto well = log_begins_well(database.files().log.get());
  if (!well) return well.error();
  if (!*well) {
    log_damaged = true;
    return Error{ErrorCode::kBroken, "the log of the state database (state/state.db-wal) is damaged"};
  }
  // What a power cut leaves half written is in the log.
  if (size->log == 0 && size->database % kPageBytes != 0) {
    return Error{ErrorCode::kBroken, "the state database is damaged: state/state.db was cut off"};
  }
  // SQLite would throw the log away.
  if (size->database == 0 && size->log != 0) {
    return Error{ErrorCode::kBroken, "the state database is damaged: state/state.db is empty and its log is not"};
  }
  return {};
}

Result<void> Store::open() {
  if (auto checked = state_->check_files(); !checked) return checked;
  Database& database = state_->database;
  if (auto opened = database.open(); !opened) return opened;
  const auto verdict = database.text("PRAGMA quick_check(1)");
  if (!verdict) return verdict.error();
  if (*verdict != "ok") {
    std::string text = "the state database is damaged: " + *verdict;
    std::replace(text.begin(), text.end(), '\n', ' ');
    return Error{ErrorCode::kBroken, std::move(text)};
  }
  if (auto prepared = prepare_schema(database); !prepared) return prepared;
  database.trust();
  // So that no commit waits for the header of a log that is empty. On a full disk the first one does.
  (void)database.begin_log(false);
  return {};
}

void Store::keep_history(std::uint32_t length) {
  state_->history_length = std::clamp<std::uint32_t>(length, 1, kHistoryLength);
}

Result<Stored> Store::load(std::int64_t now_ms) {
  Database& database = state_->database;
  const auto expired = delete_expired(database, now_ms);
  if (!expired) {
    if (expired.error().code == ErrorCode::kBroken) return expired.error();
    log_warning(expired.error().text + "; entries that ended stay in it for now");
  }
  auto rows = read_rows(database, now_ms);
  if (!rows) return rows.error();
  Stored& all = rows->stored;
  if (expired) all.expired += *expired;
  all.history.reserve(rows->history.size());
  for (HistoryRow& row : rows->history) {
    state_->next_event[row.subject] = row.number + 1;
    row.entry.number = row.number;
    all.history.push_back(std::move(row.entry));
  }
  if (all.left_out != 0) {
    log_warning("the state database has " + std::to_string(all.left_out) +
                " rows with values that cannot be; they were left out");
  }
  return std::move(rows->stored);
}

// ---- steps

void Store::State::add_steps(const Change& change, std::vector<Step>& steps) {
  const auto forget = [&](const std::string& subject) {
    next_event.erase(subject);
    steps.push_back({history_key(subject), ClearHistory{subject}});
  };
  if (const auto* acl = std::get_if<AclEntry>(&change)) {
    steps.push_back({key_of(acl->key), *acl});
  } else if (const auto* acl_gone = std::get_if<RemoveAcl>(&change)) {
    steps.push_back({key_of(acl_gone->key), *acl_gone});
  } else if (const auto* cleared = std::get_if<ClearList>(&change)) {
    steps.push_back({key_of(cleared->list), *cleared});
  } else if (const auto* point = std::get_if<PointEntry>(&change)) {
    steps.push_back({"p" + subject_of(point->point), *point});
  } else if (const auto* point_gone = std::get_if<RemovePoint>(&change)) {
    const std::string subject = subject_of(point_gone->point);
    steps.push_back({"p" + subject, *point_gone});
    forget(subject);
  } else if (const auto* peer = std::get_if<PeerEntry>(&change)) {
    steps.push_back({"q" + subject_of(peer->id), *peer});
  } else if (const auto* peer_gone = std::get_if<RemovePeer>(&change)) {
    const std::string subject = subject_of(peer_gone->id);
    steps.push_back({"q" + subject, *peer_gone});
    forget(subject);
  } else if (const auto* event = std::get_if<HistoryEntry>(&change)) {
    const std::string subject = std::visit([](const auto& of) { return subject_of(of); }, event->of);
    if (event->number) next_event[subject] = *event->number;
    const std::uint64_t number = next_number(subject);
    const auto slot = static_cast<std::uint32_t>(number % history_length);
    steps.push_back({history_key(subject) + static_cast<char>(slot), HistoryRow{subject, number, slot, *event}});
  } else if (const auto* anchors = std::get_if<SetAnchors>(&change)) {
    steps.push_back({"n", *anchors});
  } else if (const auto* setting = std::get_if<Setting>(&change)) {
    steps.push_back({"s" + setting->name, *setting});
  } else if (const auto* setting_gone = std::get_if<RemoveSetting>(&change)) {
    steps.push_back({"s" + setting_gone->name, *setting_gone});
  }
}

Result<std::vector<Step>> Store::State::steps_of(const Changes& changes) {
  for (const Change& change : changes) {
    if (const std::string fault = fault_of(change); !fault.empty()) {
      return Error{ErrorCode::kInvalid, "not to be stored: " + fault};
    }
  }
  std::vector<Step> steps;
  steps.reserve(changes.size());
  for (const Change& change : changes) add_steps(change, steps);
  return steps;
}

Result<void> Store::State::apply(const Step& step) {
  return std::visit([this](const auto& action) { return put(database, action); }, step.action);
}

void Store::State::drop(const std::string& key) {
  const auto found = by_key.find(key);
  if (found == by_key.end()) return;
  queue.erase(found->second);
  by_key.erase(found);
}

void Store::State::drop_below(const std::string& prefix) {
  auto next = by_key.lower_bound(prefix);
  while (next != by_key.end() && next->first.starts_with(prefix)) {
    queue.erase(next->second);
    next = by_key.erase(next);
  }
}

// What clears stands for everything below its key; nothing else is the beginning of another's key.
void Store::State::supersede(const Step& step) {
  if (std::holds_alternative<ClearList>(step.action) || std::holds_alternative<ClearHistory>(step.action)) {
    drop_below(step.key);
  } else {
    drop(step.key);
  }
}

void Store::State::note(Step step) {
  const auto found = by_key.find(step.key);
  const bool clears =
      std::holds_alternative<ClearList>(step.action) || std::holds_alternative<ClearHistory>(step.action);
  if (found != by_key.end() && !clears) {
    // It keeps its place, so that what changes all the time is written all the same.
    found->second->action = std::move(step.action);
    return;
  }
  supersede(step);
  if (queue.size() >= kMaximumPending) {
    by_key.erase(queue.front().key);
    queue.pop_front();
    if (++dropped == 1) log_error("the state database takes no changes: the oldest are being dropped");
  }
  queue.push_back(std::move(step));
  by_key.emplace(queue.back().key, std::prev(queue.end()));
}

// ---- writing

Result<Ticket> Store::commit(const Changes& changes) {
  auto steps = state_->steps_of(changes);
  if (!steps) return steps.error();
  const bool held = !importing() && state_->disk.holds_back();
  Result<void> done = importing() ? Result<void>(busy()) : held ? Result<void>() : state_->database.begin();
  if (done && !held) {
    for (const Step& step : *steps) {
      if (done) done = state_->apply(step);
    }
    done = state_->database.end(std::move(done));
  }
  for (Step& step : *steps) {
    if (done && !held) {
      state_->supersede(step);
    } else {
      state_->note(std::move(step));
    }
  }
  // Nobody will find what is written to a file that has no name any more.
  if (const auto there = sizes(state_->database.files()); done && !there) done = there.error();
  if (!done) return done.error();
  return held ? state_->disk.held() : state_->disk.committed();
}

Result<void> Store::later(const Changes& changes) {
  auto steps = state_->steps_of(changes);
  if (!steps) return steps.error();
  for (Step& step : *steps) state_->note(std::move(step));
  return {};
}

Result<void> Store::State::write_pending(std::size_t most_rows, Nanoseconds budget) {
  if (queue.empty()) return {};
  const Nanoseconds until = monotonic_now() + budget;
  auto done = database.begin();
  if (!done) return done;
  auto next = queue.begin();
  for (std::size_t rows = 0; done && next != queue.end() && rows < most_rows; ++rows, ++next) {
    if (rows % kRowsBetweenLooks == 0 && rows != 0 && monotonic_now() > until) break;
    done = apply(*next);
  }
  done = database.end(std::move(done));
  if (!done) return done;
  for (auto written = queue.begin(); written != next; ++written) by_key.erase(written->key);
  queue.erase(queue.begin(), next);
  return {};
}

Result<void> Store::State::write_all() {
  Result<void> done;
  while (done && !queue.empty()) done = write_pending(kMaximumPending, 10 * kSecond);
  tell_held(done);
  return done;
}

// What was held back waits in the queue, somewhere: when that is empty, it was written.
void Store::State::tell_held(const Result<void>& written) {
  if (!written) {
    disk.held_failed(written.error());
  } else if (queue.empty()) {
    disk.held_were_committed();
  }
}

Result<void> Store::flush(Nanoseconds now) {
  State& state = *state_;
  Result<void> written;
  Result<void> flushed;
  bool tried = false;
  // A second time where a flush blocks, so that what held the writing back is over.
  for (int round = 0; round < 2 && !tried; ++round) {
    if (!importing() && !state.disk.holds_back()) {
      tried = true;
      written = state.write_pending(kFlushRows, kFlushBudget);
      state.tell_held(written);
    }
    // What could not be written keeps nobody from hearing of what was.
    if (flushed) flushed = state.disk.proceed(now, state.may_move && !importing());
  }
  return flushed ? written : flushed;
}

Result<void> Store::flush_all() {
  auto written = importing() ? Result<void>(busy()) : state_->write_all();
  auto flushed = state_->disk.flush_now();
  return written ? flushed : written;
}

// ---- import

Result<void> Store::begin_import() {
  // What is noted from here on is newer than the import, and is written after it.
  if (importing()) return busy();
  if (auto done = state_->write_all(); !done) return done;
  if (auto begun = state_->database.begin(); !begun) return begun;
  state_->importing = true;
  return {};
}

Result<void> Store::import(std::span<const AclEntry> entries) {
  if (!importing()) return Error{ErrorCode::kInvalid, "no import was begun"};
  Result<void> done;
  for (const AclEntry& entry : entries) {
    if (const std::string fault = fault_of(entry); !fault.empty()) {
      done = Error{ErrorCode::kInvalid, "not to be stored: " + fault};
    } else {
      done = put(state_->database, entry);
    }
    if (!done) break;
  }
  if (!done) {
    state_->importing = false;
    return state_->database.end(std::move(done));
  }
  return {};
}

Result<Ticket> Store::finish_import() {
  if (!importing()) return Error{ErrorCode::kInvalid, "no import was begun"};
  state_->importing = false;
  if (auto done = state_->database.end({}); !done) return done.error();
  return state_->disk.committed();
}

void Store::cancel_import() {
  if (!importing()) return;
  state_->importing = false;
  (void)state_->database.end(Error{ErrorCode::kInvalid, "cancelled"});
}

}  // namespace bulkhead::controller
