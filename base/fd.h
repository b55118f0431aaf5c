#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace bulkhead {

/// Owns one file descriptor and closes it. Movable, not copyable.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

/// A duplicate with close-on-exec set.
Result<UniqueFd> duplicate(int fd);

/// Opens what `fd` refers to a second time, read-only, so that the holder of the result cannot write through it.
Result<UniqueFd> reopen_read_only(int fd);

/// A connected AF_UNIX SOCK_SEQPACKET pair, close-on-exec and non-blocking.
Result<std::pair<UniqueFd, UniqueFd>> socket_pair();

Result<void> set_nonblocking(int fd, bool on);

/// Closes every descriptor of this process that is not listed. `keep` need not be sorted.
/// Async-signal-safe apart from sorting `keep` in place; does not allocate.
void close_all_but(std::span<int> keep);

/// Raises the soft limit of open files to the hard one, or to `wanted` if that is less. Returns what is in force.
Result<std::size_t> raise_open_file_limit(std::size_t wanted);

}  // namespace bulkhead
