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

  /// Registers itself with SQLite under a name of its own, as the default. `disk` must outlive it.
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
  /// The changes up to `number` are on the disk, unless a flush failed since they were made.
  void flushed(File file, std::uint64_t number) {
    FileState& state = states_[index(file)];
    if (number >= state.trusted_from) state.flushed = std::max(state.flushed, number);
  }
  /// A flush failed: what it was to bring to the disk may be lost, though the file still reads as it was written and
  /// the next flush succeeds. So it is written again before that: pages of the database when the log is moved, which
  /// has them; the log by write_log_again().
  void distrust(File file) {
    FileState& state = states_[index(file)];
    state.trusted_from = ++state.written;
    state.rewrite = true;
  }
  /// Writes the log over with what it holds, if it is distrusted.
  Result<void> write_log_again();

  /// errno of the last read, write or flush that failed; 0: none.
  int last_errno() const { return last_errno_; }
  void forget_errno() { last_errno_ = 0; }

 private:
  friend struct StateVfsCalls;
  struct FileState {
    // What a former process left may not be on the disk, and a flush of its may have failed.
    std::uint64_t written = 1;
    std::uint64_t flushed = 0;
    std::uint64_t trusted_from = 0;
    bool rewrite = true;  ///< what is written again is written, even when it stands there
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
