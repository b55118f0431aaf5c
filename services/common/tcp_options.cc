#include "services/common/tcp_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <charconv>
#include <optional>
#include <string_view>

namespace bulkhead::service {
namespace {

constexpr std::uint32_t kMsPerSecond = 1000;
// The kernel's own bounds: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL, and an int for the user time-out.
constexpr std::uint32_t kLongestKeepaliveMs = 32767 * kMsPerSecond;
constexpr std::uint32_t kLongestUserTimeoutMs = 0x7fffffff;

std::optional<std::uint32_t> parse_ms(std::string_view text, std::uint32_t most) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value > most) return std::nullopt;
  return value;
}

std::uint32_t whole_seconds(std::uint32_t ms) {
  return (ms + kMsPerSecond - 1) / kMsPerSecond;
}

Error expected(const char* variable, const char* form, std::uint32_t most) {
  return Error{ErrorCode::kInvalid, std::string(variable) + " must be " + form + " in milliseconds, at most " +
                                        std::to_string(most) + ", or 0 for off; correct it or unset it"};
}

}  // namespace

Result<TcpSettings> tcp_settings(const char* user_timeout, const char* keepalive) {
  TcpSettings settings;
  if (user_timeout != nullptr && *user_timeout != 0) {
    const auto ms = parse_ms(user_timeout, kLongestUserTimeoutMs);
    if (!ms) return expected(kUserTimeoutVariable, "a time", kLongestUserTimeoutMs);
    settings.user_timeout_ms = *ms;
  }
  if (keepalive != nullptr && *keepalive != 0) {
    const std::string_view text = keepalive;
    const auto comma = text.find(',');
    const auto idle = parse_ms(text.substr(0, comma), kLongestKeepaliveMs);
    const auto interval = comma == std::string_view::npos ? std::optional(settings.keepalive_interval_s * kMsPerSecond)
                                                          : parse_ms(text.substr(comma + 1), kLongestKeepaliveMs);
    if (!idle || !interval || *interval == 0)
      return expected(kKeepaliveVariable, "IDLE or IDLE,INTERVAL", kLongestKeepaliveMs);
    settings.keepalive_idle_s = whole_seconds(*idle);
    settings.keepalive_interval_s = whole_seconds(*interval);
  }
  return settings;
}

void set_peer_socket_options(int fd, const TcpSettings& settings) {
  const auto set = [fd](int level, int option, std::uint32_t value) {
    const int number = static_cast<int>(value);
    (void)::setsockopt(fd, level, option, &number, sizeof number);
  };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, settings.user_timeout_ms);
  set(SOL_SOCKET, SO_KEEPALIVE, settings.keepalive_idle_s == 0 ? 0 : 1);
  if (settings.keepalive_idle_s == 0) return;
  set(IPPROTO_TCP, TCP_KEEPIDLE, settings.keepalive_idle_s);
  set(IPPROTO_TCP, TCP_KEEPINTVL, settings.keepalive_interval_s);
}

}  // namespace bulkhead::service
