#include "services/controller/state_vfs.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/clock.h"

namespace bulkhead::controller {
namespace {

// Names are never looked up; this is what SQLite reserves for one.
constexpr int kMaximumName = 64;
constexpr int kSectorBytes = 4096;
constexpr std::size_t kCopyBytes = 1 << 18;
constexpr std::size_t kLargestPage = 4096;  // the store's; a larger write is done in any case
// Julian day of the Unix epoch, in milliseconds.
constexpr std::int64_t kEpochJulianMs = 210866760000000;

struct OpenFile {
  sqlite3_file base;
  StateVfs* vfs;
  StateVfs::File which;
  int fd;
};

OpenFile* open_file(sqlite3_file* file) {
  return reinterpret_cast<OpenFile*>(file);
}

StateVfs* self(sqlite3_vfs* vfs) {
  return static_cast<StateVfs*>(vfs->pAppData);
}

bool out_of_space(int error) {
  return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

}  // namespace

// The functions that SQLite calls. None throws.
struct StateVfsCalls {
  static int fail(sqlite3_file* file, int result) {
    open_file(file)->vfs->last_errno_ = errno;
    return out_of_space(errno) ? SQLITE_FULL : result;
  }

  static int close(sqlite3_file*) { return SQLITE_OK; }

  static int read(sqlite3_file* file, void* into, int size, sqlite3_int64 offset) {
    auto* bytes = static_cast<char*>(into);
    while (size > 0) {
      const ssize_t got = ::pread(open_file(file)->fd, bytes, static_cast<std::size_t>(size), offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail(file, SQLITE_IOERR_READ);
      if (got == 0) {
        std::memset(bytes, 0, static_cast<std::size_t>(size));
        return SQLITE_IOERR_SHORT_READ;
      }
      bytes += got;
      size -= static_cast<int>(got);
      offset += got;
    }
    return SQLITE_OK;
  }

  // A page that is copied from the log once more, and the log's header when a commit is repeated, stand there already:
  // the file stays as clean as it is. (Each is repeated because its flush took place in between.)
  static bool stands_there(const OpenFile& file, const void* from, int size, sqlite3_int64 offset) {
    const bool may = file.which == StateVfs::File::kDatabase || offset == 0;
    std::array<char, kLargestPage> there;
    if (!may || size > static_cast<int>(there.size()) || file.vfs->states_[StateVfs::index(file.which)].rewrite)
      return false;
    return ::pread(file.fd, there.data(), static_cast<std::size_t>(size), offset) == size &&
           std::memcmp(there.data(), from, static_cast<std::size_t>(size)) == 0;
  }

  static void changed(sqlite3_file* file) {
    ++open_file(file)->vfs->states_[StateVfs::index(open_file(file)->which)].written;
  }

  static int write(sqlite3_file* file, const void* from, int size, sqlite3_int64 offset) {
    if (stands_there(*open_file(file), from, size, offset)) return SQLITE_OK;
    changed(file);
    const auto* bytes = static_cast<const char*>(from);
    while (size > 0) {
      const ssize_t put = ::pwrite(open_file(file)->fd, bytes, static_cast<std::size_t>(size), offset);
      if (put < 0 && errno == EINTR) continue;
      if (put == 0) errno = ENOSPC;
      if (put <= 0) return fail(file, SQLITE_IOERR_WRITE);
      bytes += put;
      size -= static_cast<int>(put);
      offset += put;
    }
    return SQLITE_OK;
  }

  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    struct stat info {};
    if (::fstat(open_file(file)->fd, &info) == 0 && info.st_size == size) return SQLITE_OK;
    changed(file);
    return ::ftruncate(open_file(file)->fd, size) == 0 ? SQLITE_OK : fail(file, SQLITE_IOERR_TRUNCATE);
  }

  static int sync(sqlite3_file* file, int) {
    const StateVfs::File which = open_file(file)->which;
    StateVfs& vfs = *open_file(file)->vfs;
    if (vfs.is_clean(which)) return SQLITE_OK;
    // All of the database that this flush is for was written again.
    if (which == StateVfs::File::kDatabase) vfs.states_[StateVfs::index(which)].rewrite = false;
    if (vfs.patient_) {
      vfs.wanted_ = which;
      return SQLITE_BUSY;
    }
    const int error = vfs.disk_.flush_now(open_file(file)->fd);
    if (error != 0) {
      vfs.distrust(which);
      errno = error;
      return fail(file, SQLITE_IOERR_FSYNC);
    }
    vfs.flushed(which, vfs.written(which));
    return SQLITE_OK;
  }

  static int file_size(sqlite3_file* file, sqlite3_int64* size) {
    struct stat info {};
    if (::fstat(open_file(file)->fd, &info) != 0) return fail(file, SQLITE_IOERR_FSTAT);
    *size = info.st_size;
    return SQLITE_OK;
  }

  static int lock(sqlite3_file*, int) { return SQLITE_OK; }

  static int check_lock(sqlite3_file*, int* taken) {
    *taken = 0;
    return SQLITE_OK;
  }

  static int file_control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
  static int sector_size(sqlite3_file*) { return kSectorBytes; }
  static int characteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }

  static int open(sqlite3_vfs* vfs, const char*, sqlite3_file* file, int flags, int* given) {
    static const sqlite3_io_methods kMethods = [] {
      sqlite3_io_methods methods{};
      methods.iVersion = 1;  // without shared memory and mapping
      methods.xClose = close;
      methods.xRead = read;
      methods.xWrite = write;
      methods.xTruncate = truncate;
      methods.xSync = sync;
      methods.xFileSize = file_size;
      methods.xLock = lock;
      methods.xUnlock = lock;
      methods.xCheckReservedLock = check_lock;
      methods.xFileControl = file_control;
      methods.xSectorSize = sector_size;
      methods.xDeviceCharacteristics = characteristics;
      return methods;
    }();
    OpenFile* const opened = open_file(file);
    // SQLite closes what has methods, even when opening failed.
    opened->base.pMethods = nullptr;
    if ((flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) == 0) return SQLITE_CANTOPEN;
    opened->which = (flags & SQLITE_OPEN_WAL) != 0 ? StateVfs::File::kLog : StateVfs::File::kDatabase;
    opened->vfs = self(vfs);
    opened->fd = opened->vfs->fd_of(opened->which);
    opened->base.pMethods = &kMethods;
    if (given != nullptr) *given = flags;
    return SQLITE_OK;
  }

  static int descriptor_of(StateVfs* vfs, const char* name) {
    const std::string which = name;
    if (which == StateVfs::kFileName) return vfs->files_.database.get();
    if (which == std::string(StateVfs::kFileName) + "-wal") return vfs->files_.log.get();
    return -1;
  }

  // An empty file counts as none, as SQLite itself has it.
  static int access(sqlite3_vfs* vfs, const char* name, int, int* result) {
    struct stat info {};
    const int fd = descriptor_of(self(vfs), name);
    *result = fd >= 0 && ::fstat(fd, &info) == 0 && info.st_size > 0 ? 1 : 0;
    return SQLITE_OK;
  }

  static int remove(sqlite3_vfs* vfs, const char* name, int) {
    const int fd = descriptor_of(self(vfs), name);
    if (fd < 0) return SQLITE_IOERR_DELETE_NOENT;
    if (fd == self(vfs)->files_.database.get() || ::ftruncate(fd, 0) != 0) return SQLITE_IOERR_DELETE;
    ++self(vfs)->states_[StateVfs::index(StateVfs::File::kLog)].written;
    return SQLITE_OK;
  }

  static int full_path(sqlite3_vfs*, const char* name, int size, char* out) {
    const std::size_t length = std::strlen(name);
    if (length + 1 > static_cast<std::size_t>(size)) return SQLITE_CANTOPEN;
    std::memcpy(out, name, length + 1);
    return SQLITE_OK;
  }

  static int randomness(sqlite3_vfs*, int size, char* out) {
    const ssize_t got = ::getrandom(out, static_cast<std::size_t>(size), 0);
    return got < 0 ? 0 : static_cast<int>(got);
  }

  static int sleep(sqlite3_vfs*, int) { return 0; }

  static int current_time(sqlite3_vfs*, sqlite3_int64* julian_ms) {
    *julian_ms = kEpochJulianMs + wall_now_ms();
    return SQLITE_OK;
  }

  static int last_error(sqlite3_vfs* vfs, int, char*) { return self(vfs)->last_errno_; }
};

StateVfs::StateVfs(service::StateFiles files, DiskFlush& disk) : files_(std::move(files)), disk_(disk) {
  static int count = 0;
  name_ = "bulkhead-" + std::to_string(++count);
  vfs_.iVersion = 2;
  vfs_.szOsFile = sizeof(OpenFile);
  vfs_.mxPathname = kMaximumName;
  vfs_.zName = name_.c_str();
  vfs_.pAppData = this;
  vfs_.xOpen = StateVfsCalls::open;
  vfs_.xDelete = StateVfsCalls::remove;
  vfs_.xAccess = StateVfsCalls::access;
  vfs_.xFullPathname = StateVfsCalls::full_path;
  vfs_.xRandomness = StateVfsCalls::randomness;
  vfs_.xSleep = StateVfsCalls::sleep;
  vfs_.xGetLastError = StateVfsCalls::last_error;
  vfs_.xCurrentTimeInt64 = StateVfsCalls::current_time;
  // The default, as SQLite seeds its random numbers from that one: the built-in one would open a device for it.
  sqlite3_vfs_register(&vfs_, 1);
}

Result<void> StateVfs::write_log_again() {
  FileState& state = states_[index(File::kLog)];
  if (!state.rewrite) return {};
  const int fd = fd_of(File::kLog);
  std::vector<char> piece(kCopyBytes);
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(fd, piece.data(), piece.size(), at);
    if (got == 0) break;
    if (got < 0 || ::pwrite(fd, piece.data(), static_cast<std::size_t>(got), at) != got) {
      if (errno == EINTR) continue;
      return system_error("the log of the state database cannot be written again");
    }
    at += got;
  }
  ++state.written;
  state.rewrite = false;
  return {};
}

StateVfs::~StateVfs() {
  sqlite3_vfs_unregister(&vfs_);
}

}  // namespace bulkhead::controller
