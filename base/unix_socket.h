#pragma once

#include <sys/types.h>

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace bulkhead {

/// AF_UNIX SOCK_SEQPACKET sockets at `directory`/`name`. They are reached through a descriptor of the directory, so
/// that a long path does not matter (sun_path holds 108 bytes).

/// Binds and listens, replacing a stale socket. Non-blocking, close-on-exec. `mode` as for chmod.
Result<UniqueFd> listen_unix(const std::string& directory, const std::string& name, mode_t mode);

/// Connects; kNotFound when nobody listens there. Blocking, close-on-exec.
Result<UniqueFd> connect_unix(const std::string& directory, const std::string& name);

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
/// Who connected, as the kernel says (SO_PEERCRED).
Result<PeerCredentials> peer_credentials(int fd);

}  // namespace bulkhead
