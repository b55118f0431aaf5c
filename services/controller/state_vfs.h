#pragma once

#include <sqlite3.h>

#include <string>

#include "services/common/state_files.h"

namespace bulkhead::controller {

/// What SQLite sees of the world: one database, kFileName, and its write-ahead log, both already open. Any other file
/// (a rollback journal, a temporary file) does not exist and cannot be made. Opening, deleting and locking touch no
/// name: whoever opened the files holds the lock. No memory is mapped.
class StateVfs {
 public:
  static constexpr const char* kFileName = "state.db";

  /// Registers itself with SQLite under a name of its own, as the default.
  explicit StateVfs(service::StateFiles files);
  ~StateVfs();
  StateVfs(const StateVfs&) = delete;
  StateVfs& operator=(const StateVfs&) = delete;

  const char* name() const { return name_.c_str(); }
  const service::StateFiles& files() const { return files_; }
  /// errno of the last read, write or flush that failed; 0: none.
  int last_errno() const { return last_errno_; }
  void forget_errno() { last_errno_ = 0; }

 private:
  friend struct StateVfsCalls;
  service::StateFiles files_;
  std::string name_;
  sqlite3_vfs vfs_{};
  int last_errno_ = 0;
};

}  // namespace bulkhead::controller
