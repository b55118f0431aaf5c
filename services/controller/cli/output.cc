#include "services/controller/cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "services/controller/cli/status.h"

namespace bulkhead::cli {
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

bool print(std::string_view text) {
  return write_all(STDOUT_FILENO, text);
}

void complain(std::string_view text) {
  std::string line = "bulkhead: " + std::string(text);
  // One line, whatever a name or a file had in it.
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  write_all(STDERR_FILENO, line + "\n");
}

int fail(const Error& error) {
  complain(error.text);
  return exit_status(exit_of(error));
}

TextTable::TextTable(std::vector<std::string> header, std::vector<std::size_t> right) : right_(std::move(right)) {
  rows_.push_back(std::move(header));
}

void TextTable::add(std::vector<std::string> row) {
  rows_.push_back(std::move(row));
}

std::string TextTable::text() const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      const bool to_the_right = std::find(right_.begin(), right_.end(), i) != right_.end();
      line += (i == 0 ? "" : "  ") + (to_the_right ? padding + row[i] : row[i] + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f %s", value, kUnits[unit]);
  return text.data();
}

std::string age_text(std::int64_t since_ms, std::int64_t now_ms) {
  if (since_ms == 0) return "-";
  const std::int64_t seconds = std::max<std::int64_t>(0, (now_ms - since_ms) / 1000);
  if (seconds == 0) return "now";
  const auto two = [](std::int64_t high, const char* high_unit, std::int64_t low, const char* low_unit) {
    return std::to_string(high) + high_unit + " " + std::to_string(low) + low_unit;
  };
  if (seconds < 60) return std::to_string(seconds) + "s";
  if (seconds < 3600) return two(seconds / 60, "m", seconds % 60, "s");
  if (seconds < 86400) return two(seconds / 3600, "h", seconds % 3600 / 60, "m");
  return two(seconds / 86400, "d", seconds % 86400 / 3600, "h");
}

std::string ago_text(std::int64_t since_ms, std::int64_t now_ms) {
  const std::string age = age_text(since_ms, now_ms);
  return age == "now" ? "just now" : age + " ago";
}

}  // namespace bulkhead::cli
