#include "services/common/state_files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>

namespace bulkhead::service {
namespace {

constexpr const char* kDatabase = "state.db";
constexpr const char* kLog = "state.db-wal";
// The bytes that SQLite's locks stand on: one that is wanted, one that is reserved and 510 that readers share
// (PENDING_BYTE in https://www.sqlite.org/fileformat.html, the lock-byte page).
constexpr off_t kLockStart = 0x40000000;
constexpr off_t kLockBytes = 512;
constexpr int kMostOfOneSecond = 1000;
constexpr int kLockAttempts = 60;
constexpr int kLockPauseMs = 50;

Result<void> lock_against_others(int fd) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = kLockStart;
  lock.l_len = kLockBytes;
  // A node that was killed a moment ago has it until its controller has seen that.
  for (int attempt = 0; attempt < kLockAttempts; ++attempt) {
    if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return {};
    if (errno != EAGAIN && errno != EACCES) return system_error("state/state.db: cannot lock it");
    ::poll(nullptr, 0, kLockPauseMs);
  }
  return Error{ErrorCode::kRefused, "state/state.db is in use by another program; close that first"};
}

Error open_error(const std::string& where) {
  if (errno == EISDIR || errno == ENOTDIR)
    return {ErrorCode::kRefused,
            where + (errno == EISDIR ? " is a directory" : " is not a directory") + "; move it away", errno};
  if (errno != EACCES) return system_error(where);
  return {ErrorCode::kSystem,
          where +
              ": Permission denied: another user ran this node before; give state/ and what is in it to the user who "
              "runs it now (chown -R), or start the node as root",
          EACCES};
}

Error not_plain(const std::string& where) {
  return {ErrorCode::kRefused, where + " is not a plain file with one name; move it away"};
}

Result<UniqueFd> open_file(int directory, const char* name) {
  const std::string where = std::string("state/") + name;
  const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  UniqueFd fd(::openat(directory, name, flags));
  if (!fd && errno == ENOENT) {
    fd = UniqueFd(::openat(directory, name, flags | O_CREAT | O_EXCL, 0600));
    struct stat owner {};
    if (fd && ::geteuid() == 0 && ::fstat(directory, &owner) == 0) {
      (void)!::fchown(fd.get(), owner.st_uid, owner.st_gid);
    }
    // The name is to survive a power cut before anything is confirmed. Some file systems cannot do this: EINVAL.
    if (fd && ::fsync(directory) != 0 && errno != EINVAL) return system_error("state/: cannot flush it");
  }
  if (!fd && errno == ELOOP) return not_plain(where);
  if (!fd) return open_error(where);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return system_error(where);
  if (!S_ISREG(info.st_mode) || info.st_nlink != 1) return not_plain(where);
  return fd;
}

std::string time_suffix(std::int64_t now_ms) {
  const std::time_t seconds = now_ms / 1000;
  std::tm utc{};
  std::array<char, 32> text{};
  if (::gmtime_r(&seconds, &utc) == nullptr) return ".damaged";
  std::strftime(text.data(), text.size(), ".damaged-%Y%m%dT%H%M%SZ", &utc);
  return text.data();
}

/// Bytes of a plain file; nothing when there is none.
std::optional<off_t> size_of(int directory, const char* name) {
  struct stat info {};
  if (::fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
  return info.st_size;
}

// Never over a file that is there.
bool rename_new(int directory, const std::string& from, const std::string& to) {
  return ::renameat2(directory, from.c_str(), directory, to.c_str(), RENAME_NOREPLACE) == 0;
}

}  // namespace

Result<UniqueFd> open_state_directory(const std::string& data_directory) {
  const std::string path = data_directory + "/state";
  const bool made = ::mkdir(path.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) return system_error("state/: cannot make it");
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return open_error("state/");
  struct stat owner {};
  if (made && ::geteuid() == 0 && ::stat(data_directory.c_str(), &owner) == 0) {
    (void)!::fchown(fd.get(), owner.st_uid, owner.st_gid);
  }
  return fd;
}

Result<UniqueFd> open_state_database(int directory) {
  auto file = open_file(directory, kDatabase);
  if (!file) return file;
  if (auto locked = lock_against_others(file->get()); !locked) return locked.error();
  return file;
}

Result<UniqueFd> open_state_log(int directory) {
  return open_file(directory, kLog);
}

Result<std::string> set_aside_state(int directory, bool log_only, std::int64_t now_ms) {
  const std::string suffix = time_suffix(now_ms);
  for (int attempt = 0; attempt < kMostOfOneSecond; ++attempt) {
    const std::string name = kDatabase + suffix + (attempt == 0 ? "" : "-" + std::to_string(attempt + 1));
    // SQLite finds the log of the database under this name.
    const std::string log_name = name + "-wal";
    if (!log_only && !rename_new(directory, kDatabase, name)) {
      if (errno == EEXIST) continue;
      return system_error("state/state.db: cannot set it aside as " + name);
    }
    const bool renamed = rename_new(directory, kLog, log_name);
    if (!renamed && log_only && errno == EEXIST) continue;
    if (!renamed && errno != ENOENT) return system_error("state/state.db-wal: cannot set it aside as " + log_name);
    (void)!::fsync(directory);
    return log_only ? log_name : name;
  }
  return Error{ErrorCode::kRefused, "state/ is full of damaged databases; move them away"};
}

bool lost_state(int directory) {
  return !size_of(directory, kDatabase) && size_of(directory, kLog).value_or(0) == 0 &&
         size_of(directory, kPeersMark).has_value();
}

Result<std::optional<std::string>> set_aside_empty_state(int directory, std::int64_t now_ms) {
  const bool empty = size_of(directory, kDatabase) == 0 && size_of(directory, kLog).value_or(0) == 0;
  if (!empty || !size_of(directory, kPeersMark)) return std::optional<std::string>();
  auto kept = set_aside_state(directory, false, now_ms);
  if (!kept) return kept.error();
  return std::optional(std::move(*kept));
}

}  // namespace bulkhead::service
