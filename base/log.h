#pragma once

#include <string_view>

namespace bulkhead {

enum class LogLevel { kDebug = 0, kInfo = 1, kNotice = 2, kWarning = 3, kError = 4 };

/// Sets what this process writes to standard error. `role` must outlive the process (a literal).
/// Text format: "<time> <level> <role>: <message>"; JSON format: one object a line.
void log_init(const char* role, LogLevel least, bool json);

/// Writes one line with one write(2). Control characters are escaped, so a message cannot forge a line.
/// Never pass a secret. Does nothing below the level set. Not for a confined worker.
void log_line(LogLevel level, std::string_view message);

inline void log_debug(std::string_view message) {
  log_line(LogLevel::kDebug, message);
}
inline void log_info(std::string_view message) {
  log_line(LogLevel::kInfo, message);
}
inline void log_notice(std::string_view message) {
  log_line(LogLevel::kNotice, message);
}
inline void log_warning(std::string_view message) {
  log_line(LogLevel::kWarning, message);
}
inline void log_error(std::string_view message) {
  log_line(LogLevel::kError, message);
}

}  // namespace bulkhead
