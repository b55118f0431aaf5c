#include "services/controller/cli/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "services/controller/cli/status.h"

namespace bulkhead::cli {
namespace {

Error file_error(const std::string& path, const char* what) {
  const int number = errno;
  return Error{ErrorCode::kRefused, path + ": " + what + ": " + std::strerror(number), number};
}

Error exists_error(const std::string& path) {
  return Error{ErrorCode::kRefused, path + ": exists already and is not overwritten; move it away first", EEXIST};
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return file_error(path, "cannot write");
    }
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

/// Gives a finished file its name unless that name is taken. Not every file system knows a rename that does not
/// replace.
int publish(const std::string& from, const std::string& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return -1;
  if (::link(from.c_str(), to.c_str()) != 0) return -1;
  ::unlink(from.c_str());
  return 0;
}

}  // namespace

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) {
    if (errno == ENOENT) return Error{ErrorCode::kNotFound, path + ": no such file", ENOENT};
    return file_error(path, "cannot open");
  }
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return file_error(path, "cannot look at it");
  if (!S_ISREG(status.st_mode)) return failure(path + ": not a regular file");
  if (static_cast<std::uint64_t>(status.st_size) > limit) {
    return failure(path + ": " + std::to_string(status.st_size) + " bytes are more than the " + std::to_string(limit) +
                   " that such a file may have");
  }
  // Sized once: growing it would leave copies of what may be a secret behind.
  std::string content(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t filled = 0;
  while (filled < content.size()) {
    const ssize_t got = ::read(fd.get(), content.data() + filled, content.size() - filled);
    if (got < 0) {
      if (errno == EINTR) continue;
      return file_error(path, "cannot read");
    }
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  content.resize(filled);
  return content;
}

Result<void> write_new_file(const std::string& path, std::string_view content, mode_t mode) {
  if (exists(path)) return exists_error(path);
  const std::string folder = folder_of(path);
  const std::string temporary = path + ".new-" + std::to_string(::getpid());
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return file_error(temporary, "cannot make it");
  // The umask may have taken bits away; it never adds any.
  auto written = ::fchmod(fd.get(), mode) == 0 ? write_all(fd.get(), content, temporary)
                                               : Result<void>(file_error(temporary, "cannot set its mode"));
  if (written && ::fsync(fd.get()) != 0) written = file_error(temporary, "cannot sync");
  if (written && publish(temporary, path) != 0) {
    written = errno == EEXIST ? exists_error(path) : file_error(path, "cannot give it its name");
  }
  if (!written) {
    ::unlink(temporary.c_str());
    return written;
  }
  UniqueFd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return file_error(folder, "cannot sync");
  return {};
}

Result<void> rename_file(const std::string& from, const std::string& to) {
  if (publish(from, to) == 0) return {};
  return errno == EEXIST ? exists_error(to) : file_error(from, "cannot give it another name");
}

Result<void> replace_file(const std::string& path, mode_t mode, const std::function<bool(int fd)>& write) {
  const std::string folder = folder_of(path);
  const std::string temporary = path + ".tmp";
  // What a process left that was killed in the middle of this.
  ::unlink(temporary.c_str());
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) return file_error(temporary, "cannot make it");
  struct stat owner {};
  if (::geteuid() == 0 && ::stat(folder.c_str(), &owner) == 0) (void)!::fchown(fd.get(), owner.st_uid, owner.st_gid);
  Result<void> written;
  if (!write(fd.get()) || ::fsync(fd.get()) != 0) {
    written = file_error(temporary, "cannot write");
  } else if (::rename(temporary.c_str(), path.c_str()) != 0) {
    written = file_error(path, "cannot replace it");
  }
  if (!written) {
    ::unlink(temporary.c_str());
    return written;
  }
  // Some file systems cannot do this.
  UniqueFd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory) (void)::fsync(directory.get());
  return {};
}

Result<void> make_directories(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (!part.empty() && ::mkdir(part.c_str(), 0750) != 0 && errno != EEXIST) {
      return file_error(part, "cannot make this directory");
    }
    if (end == std::string::npos) break;
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return file_error(path, "cannot look at it");
  if (!S_ISDIR(status.st_mode)) return failure(path + ": not a directory; name another with --data-dir");
  return {};
}

}  // namespace bulkhead::cli
