#pragma once

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "services/common/state_files.h"
#include "services/controller/disk_flush.h"

namespace bulkhead::controller {

/// What SQLite sees of the world: one database, kFileName, and its write-ahead log, both already open. Any other file
/// (a rollback journal, a temporary file) does not exist and cannot be made. Opening, deleting and locking touch no
/// name: whoever opened the files holds the lock. No memory is mapped.
class StateVfs {
 public:
  static constexpr const char* kFileName = "state.db";

  /// Registers itself with SQLite under a name of its own, as the default.
  /// `disk` must outlive it.
  StateVfs(service::StateFiles files, DiskFlush& disk);
  ~StateVfs();
  StateVfs(const StateVfs&) = delete;
  StateVfs& operator=(const StateVfs&) = delete;

  const char* name() const { return name_.c_str(); }
  const service::StateFiles& files() const { return files_; }
  enum class File : std::uint8_t { kDatabase, kLog };
  int fd_of(File file) const { return (file == File::kDatabase ? files_.database : files_.log).get(); }

  /// While patient, a flush that SQLite wishes is not done: it hears that the file is busy, unless all that was written
  /// to that file is on the disk. wanted() then says which file to flush before SQLite is asked again.
  void be_patient(bool patient) { patient_ = patient; }
  std::optional<File> wanted() const { return wanted_; }
  void forget_wanted() { wanted_.reset(); }
  /// A number that grows with each change of the file.
  std::uint64_t written(File file) const { return states_[index(file)].written; }
  /// Whether all changes that were made here are on the disk.
  bool is_clean(File file) const { return is_flushed(file, written(file)); }
  /// Whether those up to `number` are.
  bool is_flushed(File file, std::uint64_t number) const { return states_[index(file)].flushed >= number; }
  /// The changes up to `number` are on the disk.
  void flushed(File file, std::uint64_t number) {
    states_[index(file)].flushed = std::max(states_[index(file)].flushed, number);
  }
  /// A flush failed: what it was to bring to the disk may be lost, though the file still reads as it was written.
  void distrust(File file) {
    ++states_[index(file)].written;
    states_[index(file)].rewrite = true;
  }

  /// errno of the last read, write or flush that failed; 0: none.
  int last_errno() const { return last_errno_; }
  void forget_errno() { last_errno_ = 0; }

 private:
  friend struct StateVfsCalls;
  struct FileState {
    std::uint64_t written = 1;  ///< what a former process left in it may not be on the disk
    std::uint64_t flushed = 0;
    bool rewrite = false;  ///< what is written again is written, even when it stands there
  };
  static std::size_t index(File file) { return static_cast<std::size_t>(file); }

  std::array<FileState, 2> states_;
  bool patient_ = false;
  std::optional<File> wanted_;
  service::StateFiles files_;
  DiskFlush& disk_;
  std::string name_;
  sqlite3_vfs vfs_{};
  int last_errno_ = 0;
};

}  // namespace bulkhead::controller
