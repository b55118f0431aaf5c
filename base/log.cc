#include "base/log.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <string>

#include "base/clock.h"
#include "base/ids.h"

namespace bulkhead {
namespace {

const char* g_role = "bulkhead";
LogLevel g_least = LogLevel::kInfo;
bool g_json = false;

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kNotice:
      return "notice";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "info";
}

void append_escaped(std::string& out, std::string_view text, bool json) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || (json && (c == '"' || c == '\\'))) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, json ? "\\u%04x" : "\\x%02x", byte);
      out += buffer;
    } else {
      out += c;
    }
  }
}

}  // namespace

const char* role_name(Role role) {
  switch (role) {
    case Role::kSupervisor:
      return "supervisor";
    case Role::kController:
      return "controller";
    case Role::kKeyholder:
      return "keyholder";
    case Role::kAcceptor:
      return "acceptor";
    case Role::kMaintainer:
      return "maintainer";
    case Role::kNursery:
      return "nursery";
    case Role::kGateway:
      return "gateway";
    case Role::kConn:
      return "conn";
  }
  return "none";
}

void log_init(const char* role, LogLevel least, bool json) {
  g_role = role;
  g_least = least;
  g_json = json;
}

void log_line(LogLevel level, std::string_view message) {
  if (level < g_least) return;
  const std::int64_t now_ms = wall_now_ms();
  const std::time_t seconds = static_cast<std::time_t>(now_ms / 1000);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char stamp[96];
  std::snprintf(stamp, sizeof stamp, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1,
                utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<int>(now_ms % 1000));
  std::string line;
  if (g_json) {
    line = std::string("{\"time\":\"") + stamp + "\",\"level\":\"" + level_name(level) + "\",\"role\":\"" + g_role +
           "\",\"message\":\"";
    append_escaped(line, message, true);
    line += "\"}\n";
  } else {
    line = std::string(stamp) + " " + level_name(level) + " " + g_role + ": ";
    append_escaped(line, message, false);
    line += '\n';
  }
  // A log that cannot be written must not stop the process.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace bulkhead
