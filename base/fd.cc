#include "base/fd.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

namespace bulkhead {

Error system_error(std::string what) {
  const int saved = errno;
  return Error{ErrorCode::kSystem, std::move(what) + ": " + std::strerror(saved), saved};
}

void UniqueFd::reset(int fd) {
  // Linux frees the descriptor even when close reports an error, so there is nothing to retry.
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<UniqueFd> duplicate(int fd) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return system_error("cannot duplicate a descriptor");
  return UniqueFd(copy);
}

Result<UniqueFd> reopen_read_only(int fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const int opened = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (opened < 0) return system_error("cannot open a segment read-only (is /proc mounted?)");
  return UniqueFd(opened);
}

Result<std::pair<UniqueFd, UniqueFd>> socket_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    return system_error("cannot make a channel");
  }
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

Result<void> set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return system_error("cannot read descriptor flags");
  const int wanted = on ? (flags | O_NONBLOCK) : (flags & ~O_NONBLOCK);
  if (wanted != flags && ::fcntl(fd, F_SETFL, wanted) != 0) return system_error("cannot set descriptor flags");
  return {};
}

void close_all_but(std::span<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned int from = 0;
  for (const int fd : keep) {
    if (fd < 0) continue;
    const auto kept = static_cast<unsigned int>(fd);
    if (kept > from) ::syscall(SYS_close_range, from, kept - 1, 0);
    from = kept + 1;
  }
  ::syscall(SYS_close_range, from, UINT_MAX, 0);
}

Result<std::size_t> raise_open_file_limit(std::size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return system_error("cannot read the limit of open files");
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max);
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return system_error("cannot raise the limit of open files");
  }
  return static_cast<std::size_t>(limit.rlim_cur);
}

}  // namespace bulkhead
