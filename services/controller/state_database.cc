#include "services/controller/state_database.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

namespace bulkhead::controller {
namespace {

struct Limit {
  int what;
  int most;
};
// As low as the statements of the store allow. A row is below 3 KiB.
constexpr std::array<Limit, 10> kLimits = {{{SQLITE_LIMIT_LENGTH, 8192},
                                            {SQLITE_LIMIT_SQL_LENGTH, 2048},
                                            {SQLITE_LIMIT_COLUMN, 32},
                                            {SQLITE_LIMIT_EXPR_DEPTH, 16},
                                            {SQLITE_LIMIT_COMPOUND_SELECT, 2},
                                            {SQLITE_LIMIT_FUNCTION_ARG, 8},
                                            {SQLITE_LIMIT_ATTACHED, 0},
                                            {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 64},
                                            {SQLITE_LIMIT_VARIABLE_NUMBER, 32},
                                            {SQLITE_LIMIT_WORKER_THREADS, 0}}};

struct Switch {
  int what;
  int on;
};
constexpr std::array<Switch, 9> kSwitches = {{{SQLITE_DBCONFIG_DEFENSIVE, 1},
                                              {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
                                              {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
                                              {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
                                              {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
                                              {SQLITE_DBCONFIG_ENABLE_FKEY, 0},
                                              // Until the file is known to be whole, nothing of it is moved.
                                              {SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1},
                                              {SQLITE_DBCONFIG_DQS_DDL, 0},
                                              {SQLITE_DBCONFIG_DQS_DML, 0}}};

// Before the file is looked at. Exclusive locking comes first: the index of the log is then in private memory, and not
// in a file that is mapped.
constexpr std::array<const char*, 6> kSettings = {
    "PRAGMA locking_mode=EXCLUSIVE", "PRAGMA temp_store=MEMORY", "PRAGMA mmap_size=0",
    "PRAGMA cell_size_check=ON",     "PRAGMA cache_size=-16384", "PRAGMA automatic_index=OFF"};
// 2 GiB, several times what full tables take: a bound on what a defect can fill.
constexpr const char* kMostPages = "PRAGMA max_page_count=524288";
// What the log may keep of the disk after a large import.
constexpr const char* kLogLimit = "PRAGMA journal_size_limit=16777216";

bool of_disk_space(int error) {
  return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

}  // namespace

Error foreign() {
  return {ErrorCode::kBroken, "state/state.db is not a state database of this program"};
}

// ---- Statement

Statement::~Statement() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Statement& Statement::integer(std::int64_t value) {
  sqlite3_bind_int64(statement_, bound(), value);
  return *this;
}

Statement& Statement::real(double value) {
  sqlite3_bind_double(statement_, bound(), value);
  return *this;
}

Statement& Statement::bytes(std::span<const std::uint8_t> value) {
  // A null pointer would bind NULL.
  const void* const data = value.empty() ? static_cast<const void*>("") : value.data();
  sqlite3_bind_blob64(statement_, bound(), data, value.size(), SQLITE_TRANSIENT);
  return *this;
}

Statement& Statement::bytes(const std::string& value) {
  sqlite3_bind_blob64(statement_, bound(), value.data(), value.size(), SQLITE_TRANSIENT);
  return *this;
}

Statement& Statement::null() {
  sqlite3_bind_null(statement_, bound());
  return *this;
}

bool Statement::get(int column, std::int64_t least, std::int64_t most, std::int64_t& value) const {
  if (sqlite3_column_type(statement_, column) != SQLITE_INTEGER) return false;
  value = sqlite3_column_int64(statement_, column);
  return value >= least && value <= most;
}

bool Statement::get(int column, double& value) const {
  if (sqlite3_column_type(statement_, column) != SQLITE_FLOAT) return false;
  value = sqlite3_column_double(statement_, column);
  return std::isfinite(value);
}

bool Statement::get(int column, std::span<std::uint8_t> exactly) const {
  std::span<const std::uint8_t> value;
  if (!get(column, exactly.size(), value) || value.size() != exactly.size()) return false;
  std::memcpy(exactly.data(), value.data(), value.size());
  return true;
}

bool Statement::get(int column, std::size_t most, std::span<const std::uint8_t>& value) const {
  if (sqlite3_column_type(statement_, column) != SQLITE_BLOB) return false;
  const void* const data = sqlite3_column_blob(statement_, column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
  if (size > most) return false;
  value = {static_cast<const std::uint8_t*>(data), size};
  return true;
}

// ---- Database

Database::Database(service::StateFiles files, DiskFlush& disk) : vfs_(std::move(files), disk) {}

Database::~Database() {
  statements_.clear();
  sqlite3_close(connection_);
}

Result<void> Database::open() {
  vfs_.forget_errno();
  constexpr int kFlags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(StateVfs::kFileName, &connection_, kFlags, vfs_.name()) != SQLITE_OK) {
    return failure("cannot be opened");
  }
  sqlite3_extended_result_codes(connection_, 1);
  for (const Limit& limit : kLimits) sqlite3_limit(connection_, limit.what, limit.most);
  for (const Switch& each : kSwitches) sqlite3_db_config(connection_, each.what, each.on, nullptr);
  for (const char* setting : kSettings) {
    if (auto done = run(setting); !done) return done;
  }
  auto mode = text("PRAGMA journal_mode");
  if (!mode) return mode.error();
  if (*mode != "wal") {
    const auto pages = number("PRAGMA page_count");
    if (!pages) return pages.error();
    if (*pages != 0) return foreign();
    // An empty database is made without a rollback journal, which would be a file of another name.
    if (auto done = run("PRAGMA journal_mode=MEMORY"); !done) return done;
    mode = text("PRAGMA journal_mode=WAL");
    if (!mode) return mode.error();
    if (*mode != "wal") return Error{ErrorCode::kSystem, "the state database cannot be given a write-ahead log"};
  }
  // What the file itself says; ours never does.
  if (sqlite3_db_readonly(connection_, "main") != 0) {
    return Error{ErrorCode::kBroken, "the state database is damaged: it says that it may not be written"};
  }
  if (auto done = run(kMostPages); !done) return done;
  // Takes the place of the one by which SQLite would move the log by itself.
  const auto note = [](void* self, sqlite3*, const char*, int pages) {
    static_cast<Database*>(self)->log_pages_ = pages;
    return SQLITE_OK;
  };
  sqlite3_wal_hook(connection_, note, this);
  if (auto done = run("PRAGMA synchronous=NORMAL"); !done) return done;
  return run(kLogLimit);
}

void Database::trust() {
  sqlite3_db_config(connection_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr);
}

Result<void> Database::run(const char* sql) {
  vfs_.forget_errno();
  if (sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failure("failed");
  return {};
}

Result<std::int64_t> Database::number(const char* sql) {
  auto statement = prepare(sql);
  if (!statement) return statement.error();
  std::int64_t value = 0;
  if (statement->step() != SQLITE_ROW) return failure("cannot be read");
  if (!statement->get(0, INT64_MIN, INT64_MAX, value))
    return Error{ErrorCode::kBroken, "the state database is damaged"};
  return value;
}

Result<std::string> Database::text(const char* sql) {
  auto prepared = prepare(sql);
  if (!prepared) return prepared.error();
  sqlite3_stmt* const statement = statements_.at(sql).get();
  if (prepared->step() != SQLITE_ROW) return failure("cannot be read");
  const auto* const value = sqlite3_column_text(statement, 0);
  return value == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(value));
}

Result<Statement> Database::prepare(const char* sql) {
  vfs_.forget_errno();
  auto& kept = statements_[sql];
  if (!kept) {
    sqlite3_stmt* made = nullptr;
    if (sqlite3_prepare_v3(connection_, sql, -1, SQLITE_PREPARE_PERSISTENT, &made, nullptr) != SQLITE_OK) {
      return failure("cannot be used");
    }
    kept.reset(made);
  }
  return Statement(kept.get());
}

Result<void> Database::finish(Statement& statement, const char* what) {
  int result = SQLITE_ROW;
  while (result == SQLITE_ROW) result = statement.step();
  if (result != SQLITE_DONE) return failure(what);
  return {};
}

Result<void> Database::begin() {
  return run("BEGIN IMMEDIATE");
}

Result<void> Database::end(Result<void> outcome, bool patient) {
  if (outcome) {
    vfs_.be_patient(patient);
    outcome = run("COMMIT");
    vfs_.be_patient(false);
    if (!outcome && (sqlite3_extended_errcode(connection_) & 0xff) == SQLITE_BUSY)
      outcome = Error{ErrorCode::kWouldBlock, "the log of the state database is to be flushed first"};
  }
  // Some errors undo the transaction by themselves.
  if (!outcome && sqlite3_get_autocommit(connection_) == 0) {
    sqlite3_exec(connection_, "ROLLBACK", nullptr, nullptr, nullptr);
  }
  return outcome;
}

Result<void> Database::begin_log(bool patient) {
  auto done = begin();
  if (!done) return done;
  const auto version = number("PRAGMA user_version");
  done = version ? run(("PRAGMA user_version=" + std::to_string(*version)).c_str()) : Result<void>(version.error());
  return end(std::move(done), patient);
}

Result<std::optional<StateVfs::File>> Database::checkpoint() {
  vfs_.forget_errno();
  vfs_.forget_wanted();
  vfs_.be_patient(true);
  const int result = sqlite3_wal_checkpoint_v2(connection_, nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  vfs_.be_patient(false);
  if (vfs_.wanted()) return vfs_.wanted();
  if (result != SQLITE_OK) return failure("cannot take its log");
  log_pages_ = 0;
  return std::optional<StateVfs::File>();
}

Error Database::failure(const std::string& what) const {
  const int code = sqlite3_extended_errcode(connection_);
  const int cause = vfs_.last_errno();
  switch (code & 0xff) {
    case SQLITE_FULL: {
      const std::string why = cause != 0 ? std::strerror(cause) : "it has the largest size that it may have";
      return {ErrorCode::kTooLarge,
              "the state database (state/ in the data directory) is full: " + why + "; make room on its disk",
              of_disk_space(cause) ? cause : ENOSPC};
    }
    case SQLITE_NOMEM:
      return {ErrorCode::kSystem, "the state database " + what + ": out of memory", ENOMEM};
    default:
      // The statements are fixed, and no system call failed: the file is not what it was.
      if (cause == 0)
        return {ErrorCode::kBroken, std::string("the state database is damaged: ") + sqlite3_errmsg(connection_)};
      return {ErrorCode::kSystem,
              "the state database (state/ in the data directory) " + what + ": " + std::strerror(cause) +
                  "; see to its disk",
              cause};
  }
}

}  // namespace bulkhead::controller
