#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/exit_codes.h"
#include "base/result.h"

namespace bulkhead::cli {

/// Writes to standard output at once (no buffer is left behind when the process is killed). False when nobody reads it
/// any more.
bool print(std::string_view text);

/// Writes all of it. False, with errno: somebody closed the other end, or the disk is full.
bool write_all(int fd, std::string_view text);

/// Collects text and writes it in pieces, so that a million entries never stand in memory as text. The descriptor stays
/// the caller's.
class PieceWriter {
 public:
  explicit PieceWriter(int fd) : fd_(fd) {}

  /// False: nobody takes it; errno says why.
  bool add(std::string_view text) {
    buffer_ += text;
    return buffer_.size() < kPiece || flush();
  }
  bool flush() {
    const bool written = write_all(fd_, buffer_);
    buffer_.clear();
    return written;
  }

 private:
  static constexpr std::size_t kPiece = 64 * 1024;

  int fd_;
  std::string buffer_;
};

/// One line on standard error: "bulkhead: TEXT".
void complain(std::string_view text);

/// Complains and gives the exit status that belongs to the error.
int fail(const Error& error);

inline int exit_status(ProgramExit status) {
  return static_cast<int>(status);
}

/// Rows of text in columns that line up. Columns named in `right` are set to the right.
class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header, std::vector<std::size_t> right = {});
  void add(std::vector<std::string> row);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::size_t> right_;
};

/// "1.4 MiB", "312 B".
std::string size_text(std::uint64_t bytes);
/// "3d 4h", "2m 5s", "now".
std::string age_text(std::int64_t since_ms, std::int64_t now_ms);
/// "1m 5s ago", "just now".
std::string ago_text(std::int64_t since_ms, std::int64_t now_ms);

}  // namespace bulkhead::cli
