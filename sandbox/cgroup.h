#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

/// The control group that bounds all workers together.
namespace bulkhead::sandbox {

enum class CgroupVersion : std::uint8_t { kNone, kV1, kV2 };

/// Where this process's own groups are. `memory` and `pids` are directories; of version 2 they are the same. Empty:
/// that hierarchy cannot be seen here.
struct CgroupPlace {
  CgroupVersion version = CgroupVersion::kNone;
  std::string memory;
  std::string pids;
  bool operator==(const CgroupPlace&) const = default;
};

/// From the texts of /proc/self/mountinfo and /proc/self/cgroup. Version 1 counts where its memory hierarchy is
/// mounted: a controller is in one version alone. A group above what is mounted here counts as not seen.
CgroupPlace find_cgroups(std::string_view mountinfo, std::string_view own_groups);

/// The same of this process.
CgroupPlace own_cgroups();

/// The group in the hierarchy that bounds memory, from the text of /proc/PID/cgroup: version 1's, else version 2's.
std::optional<std::string> memory_group_of(std::string_view groups);

/// Whether `controllers` (a file cgroup.controllers) names this one.
bool names_controller(std::string_view controllers, std::string_view name);

/// Of the group of the node on this data directory: the same for each run, and another for each directory.
std::string workers_group_name(std::string_view data_dir);

/// Bytes that `slots` workers at `worker_bytes` each and their nursery at `nursery_bytes` may take together, but not
/// more than three quarters of the machine's memory, and not less than one worker and the nursery.
std::uint64_t default_workers_memory(std::uint32_t slots, std::uint64_t worker_bytes, std::uint64_t nursery_bytes,
                                     std::uint64_t machine_bytes);

struct CgroupLimits {
  std::uint64_t memory_bytes = 0;
  std::uint64_t processes = 0;
};

/// The workers' group while the node runs. Made and used by the supervisor alone; one thread.
class WorkersGroup {
 public:
  /// Makes the group below the own one, in version 2 after this process moved into a leaf when that is needed, and sets
  /// its limits; swap counts as memory where the kernel can say so. What a former run left under this name is removed;
  /// waits up to a second for its processes to end, and then ends them (the name is this node's alone). An error says
  /// what is missing, where, and the remedy; nothing is left behind then.
  static Result<WorkersGroup> make(const CgroupPlace& place, const std::string& name, const CgroupLimits& limits);

  WorkersGroup() = default;

  /// Descriptors, owned here, of the files cgroup.procs: a process of one thread that writes "0" to each of them is in
  /// the group, and all that it forks from then on. The kernel may take its time with the answer.
  std::vector<int> entrances() const;
  /// Removes the group, when all in it have ended; waits up to a second for that.
  void remove();

  /// In which directories remove() will remove something.
  std::vector<std::string> parents() const;

  explicit operator bool() const { return !groups_.empty(); }

 private:
  struct Group {
    std::string directory;
    UniqueFd processes;  ///< cgroup.procs, opened while the supervisor may
  };

  Result<void> add(const std::string& directory);
  Result<void> enable_controllers(const std::string& own, const std::string& leaf);

  std::vector<Group> groups_;
  std::string leaf_;  ///< of version 2, where this process moved
  UniqueFd leaf_parent_;
  UniqueFd leaf_parent_control_;
};

}  // namespace bulkhead::sandbox
