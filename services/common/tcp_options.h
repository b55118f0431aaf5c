#pragma once

#include "base/result.h"
#include "base/settings.h"

namespace bulkhead::service {

inline constexpr const char* kUserTimeoutVariable = "OCTEZ_P2P_TCP_USER_TIMEOUT";
inline constexpr const char* kKeepaliveVariable = "OCTEZ_P2P_TCP_KEEPALIVE";

/// The settings that these two variables of the environment ask for, as Octez documents them, in milliseconds:
/// "TIMEOUT", and "IDLE" or "IDLE,INTERVAL"; "0" switches one off. Null or empty: the default. The kernel counts
/// keepalive in seconds: a part of one counts as a whole one. kInvalid names the variable and what it may be.
Result<TcpSettings> tcp_settings(const char* user_timeout, const char* keepalive);

/// Sets the options of a peer's connection, incoming or outgoing. Failures are ignored: the connection works without.
void set_peer_socket_options(int fd, const TcpSettings& settings);

}  // namespace bulkhead::service
