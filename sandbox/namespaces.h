#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace bulkhead::sandbox {

/// Becomes user and group `id` for good, without supplementary groups. For root alone.
Result<void> become_user(std::uint32_t id);

/// Which namespaces of its own a process got.
struct Isolation {
  bool user = false;                 ///< a user namespace
  std::vector<std::string> missing;  ///< of user and network, each with the reason
  /// Of mounts, IPC and host name: a service manager that separates these itself may refuse them.
  std::vector<std::string> left_to_others;
  explicit operator bool() const { return missing.empty() && left_to_others.empty(); }
};

/// Moves this process (one thread) into namespaces of its own: user, IPC, UTS, mount with an empty read-only root and,
/// with `empty_network`, network. Where no user namespace can be had, none of the others is; where one of the others
/// cannot, the rest still is. Without `user_namespace` the process stays in the one it has, and needs CAP_SYS_ADMIN
/// there.
Isolation isolate(bool empty_network, bool user_namespace = true);

/// Tries in a child whether a process may have a user namespace that is of use (some systems give one without rights);
/// as user `id` where one is named and this process may become that. errno_value says why not. The caller has one
/// thread.
Result<void> try_user_namespace(std::optional<std::uint32_t> id);

/// Why there is no user namespace, and the remedy, for people.
std::string user_namespace_refusal(int error_number);

/// Masks of capability numbers.
struct Capabilities {
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
};
std::optional<Capabilities> own_capabilities();
/// None of them becomes inheritable. Async-signal-safe, one system call: a worker's filter allows no other.
bool set_own_capabilities(const Capabilities& wanted);

/// Drops all capabilities but those of `kept` (a mask) from every set of this process.
Result<void> keep_capabilities(std::uint64_t kept);

/// Drops all but those of `kept` from what this process could get by running a program. Needs CAP_SETPCAP, and does
/// nothing without.
void bound_capabilities(std::uint64_t kept);

}  // namespace bulkhead::sandbox
