#pragma once

#include <sqlite3.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "services/controller/state_vfs.h"

namespace bulkhead::controller {

/// One use of a prepared statement: values are bound in order, rows are stepped through, and at the end of its life the
/// statement is ready for the next use. Column numbers start at 0. A `get` is false when the value is of another kind
/// or outside its range: what a damaged file says is looked at before it is used.
class Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  Statement(Statement&& other) noexcept : statement_(std::exchange(other.statement_, nullptr)) {}
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  Statement& integer(std::int64_t value);
  Statement& real(double value);
  Statement& bytes(std::span<const std::uint8_t> value);
  Statement& bytes(const std::string& value);
  Statement& null();

  /// SQLITE_ROW, SQLITE_DONE, or an error.
  int step() { return sqlite3_step(statement_); }

  bool is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
  bool get(int column, std::int64_t least, std::int64_t most, std::int64_t& value) const;
  bool get(int column, double& value) const;  ///< finite
  bool get(int column, std::span<std::uint8_t> exactly) const;
  /// At most `most` bytes; they are good until the next step.
  bool get(int column, std::size_t most, std::span<const std::uint8_t>& value) const;

 private:
  int bound() { return ++parameters_; }

  sqlite3_stmt* statement_;
  int parameters_ = 0;
};

/// Of a file that holds something else; kBroken.
Error foreign();

/// A connection to the database in two open files, set up so that a hostile file has as little as can be to work with:
/// no extensions, no triggers, no views, no names of other files, low limits. See Store for errors and system calls.
class Database {
 public:
  /// `disk` must outlive it.
  Database(service::StateFiles files, DiskFlush& disk);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// Opens and configures; the file is looked at for the first time.
  Result<void> open();
  /// The file is ours and whole: the end of the connection may move the log into the database.
  void trust();
  Result<void> run(const char* sql);
  Result<std::int64_t> number(const char* sql);
  Result<std::string> text(const char* sql);
  /// `sql` is a literal: the statement is prepared once and kept.
  Result<Statement> prepare(const char* sql);
  /// Runs a statement to its end.
  Result<void> finish(Statement& statement, const char* what);

  Result<void> begin();
  /// Commits when `outcome` is success; else, or when that fails, everything since begin() is undone. What is committed
  /// survives the process; a power cut, once the log was flushed. kWouldBlock, with `patient`: the log must be flushed
  /// first. (Without, SQLite does it where it has to: for the first commit after the log was begun anew.)
  Result<void> end(Result<void> outcome, bool patient = false);
  /// Pages in the log, after the last commit.
  int log_pages() const { return log_pages_; }
  /// Moves the log into the database. None: all is done, and the log begins anew with the next commit; else the file to
  /// flush before it can go on.
  Result<std::optional<StateVfs::File>> checkpoint();
  /// A commit that changes nothing. After it, a log that begins anew has its header. kWouldBlock as of end().
  Result<void> begin_log(bool patient);
  StateVfs& vfs() { return vfs_; }
  const StateVfs& vfs() const { return vfs_; }

  Error failure(const std::string& what) const;
  const service::StateFiles& files() const { return vfs_.files(); }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  StateVfs vfs_;
  sqlite3* connection_ = nullptr;
  std::map<const char*, std::unique_ptr<sqlite3_stmt, Finalize>> statements_;
  int log_pages_ = 0;
};

}  // namespace bulkhead::controller
