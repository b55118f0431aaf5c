#include "services/controller/cli/sandbox_report.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "sandbox/confine.h"
#include "sandbox/inspect.h"
#include "sandbox/landlock.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/status.h"

namespace bulkhead::cli {
namespace {

// The whole answer shall take less than a second, whatever the machine is busy with.
constexpr Nanoseconds kStopTime = 50 * kMillisecond;
constexpr Nanoseconds kFiltersTime = 500 * kMillisecond;

struct Member {
  Role role = Role::kSupervisor;
  pid_t pid = 0;
};

std::vector<Member> members_of(const NodeTables& tables) {
  std::vector<Member> members;
  for (std::size_t i = 0; i < kServiceRoles; ++i) {
    const auto role = static_cast<Role>(i);
    const auto row = tables.processes.process(role).read();
    if (row && row->pid != 0) members.push_back({role, static_cast<pid_t>(row->pid)});
  }
  for (SlotId slot = 0; slot < tables.pool.slots(); ++slot) {
    const auto row = tables.pool.slot(slot).read();
    if (!row || row->state == static_cast<std::uint32_t>(shm::SlotState::kFree) || row->worker_pid == 0) continue;
    members.push_back({Role::kConn, static_cast<pid_t>(row->worker_pid)});
  }
  return members;
}

pid_t pid_of(const std::vector<Member>& members, Role role) {
  const auto found = std::find_if(members.begin(), members.end(), [role](const Member& m) { return m.role == role; });
  return found == members.end() ? 0 : found->pid;
}

bool has_policy(Role role) {
  return role != Role::kGateway;
}

bool same(const sandbox::Program& a, const sandbox::Program& b) {
  return a.instructions.size() == b.instructions.size() &&
         std::memcmp(a.instructions.data(), b.instructions.data(), a.instructions.size() * sizeof(sock_filter)) == 0;
}

/// What the filters of processes say. Workers share theirs, so each is looked through once.
class Filters {
 public:
  struct Finding {
    std::size_t calls = 0;
    bool is_policy = false;  ///< the last ones are exactly those that this version gives a process of the role
  };

  std::optional<Finding> of(const Member& member) {
    if (given_up_ || monotonic_now() > until_) return std::nullopt;
    auto filters = sandbox::read_filters(member.pid, kStopTime);
    if (!filters) {
      given_up_ = filters.error().errno_value == ETIMEDOUT || filters.error().errno_value == EPERM;
      return std::nullopt;
    }
    for (const Known& known : known_) {
      if (known.role == member.role &&
          std::equal(known.filters.begin(), known.filters.end(), filters->begin(), filters->end(), same)) {
        return known.finding;
      }
    }
    const Finding finding{sandbox::count_passing(*filters), is_policy(member.role, *filters)};
    known_.push_back({member.role, std::move(*filters), finding});
    return finding;
  }

 private:
  struct Known {
    Role role;
    std::vector<sandbox::Program> filters;
    Finding finding;
  };

  static bool is_policy(Role role, const std::vector<sandbox::Program>& filters) {
    if (!has_policy(role)) return false;
    std::vector<sandbox::Program> expected;
    const auto add = [&expected](Role of) {
      auto program = sandbox::compile_policy(of);
      if (program) expected.push_back(std::move(*program));
    };
    // Each keeps the filters of those it was started by and adds its own.
    add(Role::kSupervisor);
    if (role == Role::kConn) add(Role::kNursery);
    if (role != Role::kSupervisor) add(role);
    // Before them may stand those of a container engine, which can only forbid more.
    return expected.size() <= filters.size() && std::equal(expected.rbegin(), expected.rend(), filters.rbegin(), same);
  }

  Nanoseconds until_ = monotonic_now() + kFiltersTime;
  bool given_up_ = false;
  std::vector<Known> known_;
};

template <typename T>
ShownJson or_null(const std::optional<T>& value) {
  return value ? ShownJson(*value) : ShownJson(nullptr);
}

std::string mask_text(std::uint64_t mask) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(mask));
  return text.data();
}

ShownJson own_namespaces(const std::optional<sandbox::Namespaces>& its,
                         const std::optional<sandbox::Namespaces>& others) {
  if (!its || !others) return nullptr;
  ShownJson list = ShownJson::array();
  for (std::size_t i = 0; i < its->size(); ++i) {
    if ((*its)[i] != (*others)[i]) list.push_back(sandbox::kNamespaceKinds[i]);
  }
  return list;
}

/// All fields, of a process about which the kernel says nothing here.
ShownJson unknown_row(const Member& member) {
  ShownJson row = {{"role", role_name(member.role)}, {"pid", member.pid}};
  for (const char* name :
       {"uid", "gid", "no_new_privs", "seccomp", "syscalls_allowed", "capabilities", "landlock", "namespaces",
        "root_empty", "dumpable", "open_files", "memory_limit", "policy_syscalls", "filter_is_policy",
        "seccomp_filters", "capabilities_permitted", "landlock_abi", "limits", "cgroup"}) {
    row[name] = nullptr;
  }
  if (has_policy(member.role)) row["policy_syscalls"] = sandbox::policy_size(member.role);
  row["landlock_abi"] = sandbox::landlock_abi();
  return row;
}

/// The kernel has no place where it shows that a process is in a Landlock domain. What can be said: none where the
/// kernel has none; and that a process with exactly its policy's filter took it on behind its Landlock ruleset, which
/// it does not get past when the kernel refuses that.
ShownJson landlock_of(Role role, int abi, const std::optional<Filters::Finding>& filters) {
  // The supervisor's ruleset is about signals alone.
  if (abi == 0 || (role == Role::kSupervisor && abi < sandbox::kLandlockAbiWithSignals)) return false;
  if (filters && filters->is_policy) return true;
  return nullptr;
}

ShownJson row_of(const Member& member, const sandbox::Observation& seen,
                 const std::optional<sandbox::Namespaces>& others, Filters& filters) {
  constexpr std::array kSeccomp = {"none", "strict", "filter"};
  ShownJson row = unknown_row(member);
  row["uid"] = seen.uid;
  row["gid"] = seen.gid;
  row["no_new_privs"] = seen.no_new_privs;
  if (seen.seccomp >= 0 && seen.seccomp < static_cast<int>(kSeccomp.size())) {
    row["seccomp"] = kSeccomp[static_cast<std::size_t>(seen.seccomp)];
  }
  std::optional<Filters::Finding> finding;
  if (seen.seccomp == 2) finding = filters.of(member);
  if (finding) row["syscalls_allowed"] = finding->calls;
  if (finding && has_policy(member.role)) row["filter_is_policy"] = finding->is_policy;
  row["capabilities"] = mask_text(seen.capabilities);
  row["landlock"] = landlock_of(member.role, sandbox::landlock_abi(), finding);
  row["namespaces"] = own_namespaces(seen.namespaces, others);
  row["root_empty"] = or_null(seen.root_empty);
  row["dumpable"] = or_null(seen.dumpable);
  row["open_files"] = or_null(seen.open_files);
  row["memory_limit"] = or_null(seen.data_limit);
  row["cgroup"] = or_null(seen.cgroup);
  row["seccomp_filters"] = or_null(seen.seccomp_filters);
  row["capabilities_permitted"] = mask_text(seen.permitted_capabilities);
  row["limits"] = {{"open_files", or_null(seen.file_limit)},
                   {"processes", or_null(seen.process_limit)},
                   {"file_size", or_null(seen.file_size_limit)},
                   {"core", or_null(seen.core_limit)}};
  return row;
}

std::string cell(const ShownJson& value) {
  if (value.is_null()) return "?";
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) {
    std::string text;
    for (const auto& element : value) text += (text.empty() ? "" : ",") + element.get<std::string>();
    return text.empty() ? "-" : text;
  }
  return value.dump();
}

std::string calls_text(const ShownJson& row) {
  if (row["seccomp"] == "none") return "all";
  if (row["syscalls_allowed"].is_null()) return "?";
  return cell(row["syscalls_allowed"]) + (row["filter_is_policy"] == false ? " (not its policy)" : "");
}

std::string capabilities_text(const ShownJson& row) {
  if (row["capabilities"].is_null()) return "?";
  const std::string mask = row["capabilities"].get<std::string>();
  const std::size_t first = mask.find_first_not_of('0');
  return first == std::string::npos ? "none" : mask.substr(first);
}

/// The last part of the path, which is what tells groups of one node apart.
std::string group_text(const ShownJson& row) {
  if (row["cgroup"].is_null()) return "?";
  const std::string path = row["cgroup"].get<std::string>();
  return path == "/" ? path : path.substr(path.rfind('/') + 1);
}

std::string sandbox_text(const ShownJson& list) {
  TextTable table({"PROCESS", "PID", "USER", "NO NEW PRIVS", "SECCOMP", "CALLS", "CAPABILITIES", "LANDLOCK",
                   "OWN NAMESPACES", "EMPTY ROOT", "DUMPABLE", "FILES", "MEMORY", "CGROUP"},
                  {1, 2, 5, 11, 12});
  bool hidden = false;
  for (const auto& row : list) {
    // Unlimited memory is null too; that alone hides nothing.
    for (const char* name : {"uid", "namespaces", "root_empty", "dumpable", "open_files"}) {
      hidden = hidden || row[name].is_null();
    }
    hidden = hidden || (row["seccomp"] == "filter" && row["syscalls_allowed"].is_null());
    table.add({cell(row["role"]), cell(row["pid"]), cell(row["uid"]), cell(row["no_new_privs"]), cell(row["seccomp"]),
               calls_text(row), capabilities_text(row), cell(row["landlock"]), cell(row["namespaces"]),
               cell(row["root_empty"]), cell(row["dumpable"]), cell(row["open_files"]),
               row["memory_limit"].is_null() ? "-" : size_text(row["memory_limit"].get<std::uint64_t>()),
               group_text(row)});
  }
  std::string out = table.text();
  if (hidden) out += "\n?: the kernel does not show this to this user, or not at all; docs/security.md says which\n";
  return out;
}

}  // namespace

ShownJson sandbox_json(const Node& node) {
  const auto members = members_of(node.tables);
  const pid_t supervisor = pid_of(members, Role::kSupervisor);
  const pid_t nursery = pid_of(members, Role::kNursery);
  ShownJson list = ShownJson::array();
  // The numbers in the tables are the supervisor's. From another PID namespace they name other processes, or none.
  const bool same_numbers = node.supervisor != 0 && node.supervisor == supervisor;
  const auto of_supervisor = same_numbers ? sandbox::namespaces_of(supervisor) : std::nullopt;
  auto of_system = sandbox::namespaces_of(1);
  if (!of_system) of_system = sandbox::namespaces_of(::getpid());
  Filters filters;
  for (const Member& member : members) {
    if (!same_numbers) {
      list.push_back(unknown_row(member));
      continue;
    }
    const auto seen = sandbox::observe(member.pid);
    if (!seen) continue;
    // One that ended since the table was written; its number may be another's by now.
    const bool is_supervisor = member.role == Role::kSupervisor;
    if (!is_supervisor && seen->parent != supervisor && (member.role != Role::kConn || seen->parent != nursery))
      continue;
    list.push_back(row_of(member, *seen, is_supervisor ? of_system : of_supervisor, filters));
  }
  return list;
}

int run_sandbox(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const ShownJson list = sandbox_json(*node);
  print(arguments.json ? json_text(list) : sandbox_text(list));
  return exit_status(ProgramExit::kDone);
}

}  // namespace bulkhead::cli
