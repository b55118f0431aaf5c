#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"
#include "sandbox/seccomp.h"

namespace bulkhead::sandbox {

/// What a role may do once it is set up. One row for each role; docs/security.md explains the table.
struct RolePolicy {
  Role role = Role::kController;
  /// Started as root, the role's numeric user and group are kFirstUser plus this; 0: the user that started the node.
  std::uint32_t user_offset = 0;
  /// Kept in the role's own user namespace, or by the supervisor when it was started as root; a mask of numbers.
  std::uint64_t capabilities = 0;
  bool own_namespaces = true;
  bool empty_network = true;  ///< a network namespace of its own, with nothing in it
  bool may_connect_tcp = false;
  bool may_fork = false;
  /// Most private memory (RLIMIT_DATA). A bound on what a defect can take, several times what the largest node needs.
  std::uint64_t data_bytes = 0;
  /// Memory that the process is given before it is confined, because it has no calls to ask for more. 0: it has.
  std::size_t heap_bytes = 0;
  std::vector<CallRule> calls;  ///< system calls; everything else is a violation
  /// Its filter holds for all that it starts as well: so it lets through what other roles may call, too.
  bool starts_others = false;
  /// What a violation does. A worker lives under its nursery's filter and its own, and the harder of two actions
  /// counts: so both trap, or the worker would die without a word. In the nursery, which sets no handler, the trap ends
  /// it as well.
  Violation violation = Violation::kKillProcess;
};

/// Users of the roles when the node is started as root: numeric, as static programs have no name service. Within the
/// range that Debian leaves free for the administrator.
inline constexpr std::uint32_t kFirstUser = 62000;

/// Where the controller's state database and its log stand among its descriptors, so that its filter can name them.
inline constexpr int kDatabaseFd = 60;
inline constexpr int kDatabaseLogFd = 61;

/// What the supervisor, started as root, keeps beside its row: to make the services' namespaces where user namespaces
/// are not allowed, and to take these capabilities from them (CAP_SYS_ADMIN, CAP_SETPCAP) ...
extern const std::uint64_t kCapabilitiesForNamespaces;
/// ... and, where root needs it to run its programs or to change its directories, CAP_DAC_OVERRIDE, and CAP_CHOWN to
/// give new files to whom the directory belongs.
extern const std::uint64_t kCapabilitiesForForeignFiles;

const RolePolicy& policy_of(Role role);

/// All that the role's filter lets through or refuses with an error: its row, and for one that starts others every
/// call of theirs, with any arguments.
std::vector<CallRule> calls_of(Role role);

}  // namespace bulkhead::sandbox
