#include "sandbox/cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include "base/clock.h"
#include "base/log.h"

namespace bulkhead::sandbox {
namespace {

constexpr Nanoseconds kEndTime = kSecond;
constexpr int kRetryMs = 10;
constexpr std::size_t kMostText = 4 * 1024 * 1024;
constexpr const char* kDelegate = "give the node a group of its own (under systemd: Delegate=yes)";

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(at), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

bool lists(std::string_view text, char at, std::string_view name) {
  const auto parts = split(text, at);
  return std::find(parts.begin(), parts.end(), name) != parts.end();
}

// The kernel writes blanks and backslashes in paths as \ooo.
std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// A line of /proc/PID/cgroup: "4:memory,pids:/path"; version 2 is "0::/path".
struct OwnGroup {
  std::string_view controllers;
  std::string_view path;
};

std::optional<OwnGroup> own_group(std::string_view groups, std::string_view controller) {
  for (const auto line : split(groups, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const OwnGroup group{line.substr(first + 1, second - first - 1), line.substr(second + 1)};
    const bool wanted = controller.empty() ? line.substr(0, first) == "0" && group.controllers.empty()
                                           : lists(group.controllers, ',', controller);
    if (wanted && group.path.starts_with('/')) return group;
  }
  return std::nullopt;
}

/// The directory of a group whose path is `path`, where a mount shows the hierarchy from `root` on.
std::string directory_of(std::string_view mounted_at, std::string_view root, std::string_view path) {
  if (root != "/") {
    if (!path.starts_with(root) || (path.size() > root.size() && path[root.size()] != '/')) return {};
    path.remove_prefix(root.size());
  }
  while (path.ends_with('/')) path.remove_suffix(1);
  return std::string(mounted_at) + std::string(path);
}

/// The own group's directory in the hierarchy of `controller`, or version 2's when that is empty.
std::string find_directory(std::string_view mountinfo, std::string_view own_groups, std::string_view controller) {
  const auto group = own_group(own_groups, controller);
  if (!group) return {};
  for (const auto line : split(mountinfo, '\n')) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto mount = split(line.substr(0, dash), ' ');    // ..., root, mount point, options
    const auto system = split(line.substr(dash + 3), ' ');  // type, source, options of the file system
    if (mount.size() < 6 || system.size() < 3) continue;
    const bool right =
        controller.empty() ? system[0] == "cgroup2" : system[0] == "cgroup" && lists(system[2], ',', controller);
    if (!right) continue;
    std::string directory = directory_of(unescaped(mount[4]), unescaped(mount[3]), group->path);
    if (!directory.empty()) return directory;
  }
  return {};
}

std::string read_text(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> piece{};
  while (file && text.size() < kMostText) {
    const ssize_t size = ::read(file.get(), piece.data(), piece.size());
    if (size <= 0) break;
    text.append(piece.data(), static_cast<std::size_t>(size));
  }
  return text;
}

Result<void> write_to(const UniqueFd& file, const std::string& text, const std::string& path) {
  if (!file) return system_error("cannot open " + path);
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return system_error("cannot write " + path);
  return {};
}

UniqueFd open_to_write(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
}

Result<void> write_file(const std::string& path, const std::string& text) {
  return write_to(open_to_write(path), text, path);
}

// A group goes only when no process is in it; those of a node that was killed end by themselves.
bool remove_group(const std::string& directory) {
  const Nanoseconds until = monotonic_now() + kEndTime;
  while (::rmdir(directory.c_str()) != 0) {
    if (errno == ENOENT) return true;
    if (errno != EBUSY || monotonic_now() > until) return false;
    ::poll(nullptr, 0, kRetryMs);
  }
  return true;
}

Error with_remedy(Error error, const std::string& remedy) {
  error.text += "; " + remedy;
  return error;
}

void end_processes(const std::string& directory) {
  const std::string processes = read_text(directory + "/cgroup.procs");
  // Empty or not there: it could not be removed for another reason, a read-only mount above all.
  if (processes.empty()) return;
  log_warning("workers of a former node are left in " + directory + "; they are ended");
  if (write_file(directory + "/cgroup.kill", "1")) return;  // version 2, Linux 5.14
  for (const auto line : split(processes, '\n')) {
    pid_t pid = 0;
    // 0: whose number cannot be seen from this namespace.
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), pid);
    if (error == std::errc{} && pid > 1 && pid != ::getpid()) ::kill(pid, SIGKILL);
  }
}

}  // namespace

CgroupPlace find_cgroups(std::string_view mountinfo, std::string_view own_groups) {
  CgroupPlace place;
  place.memory = find_directory(mountinfo, own_groups, "memory");
  if (!place.memory.empty()) {
    place.version = CgroupVersion::kV1;
    place.pids = find_directory(mountinfo, own_groups, "pids");
    return place;
  }
  place.memory = place.pids = find_directory(mountinfo, own_groups, "");
  if (!place.memory.empty()) place.version = CgroupVersion::kV2;
  return place;
}

CgroupPlace own_cgroups() {
  return find_cgroups(read_text("/proc/self/mountinfo"), read_text("/proc/self/cgroup"));
}

std::optional<std::string> memory_group_of(std::string_view groups) {
  auto group = own_group(groups, "memory");
  if (!group) group = own_group(groups, "");
  return group ? std::optional(std::string(group->path)) : std::nullopt;
}

bool names_controller(std::string_view controllers, std::string_view name) {
  while (controllers.ends_with('\n')) controllers.remove_suffix(1);
  return lists(controllers, ' ', name);
}

std::string workers_group_name(std::string_view data_dir) {
  // FNV-1a: two directories of one machine must differ, and nobody gains by making them equal.
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : data_dir) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "bulkhead-workers-%016llx", static_cast<unsigned long long>(hash));
  return text.data();
}

std::uint64_t default_workers_memory(std::uint32_t slots, std::uint64_t worker_bytes, std::uint64_t nursery_bytes,
                                     std::uint64_t machine_bytes) {
  const std::uint64_t all = slots * worker_bytes + nursery_bytes;
  return std::max(std::min(all, machine_bytes / 4 * 3), worker_bytes + nursery_bytes);
}

Result<WorkersGroup> WorkersGroup::make(const CgroupPlace& place, const std::string& name, const CgroupLimits& limits) {
  if (place.version == CgroupVersion::kNone) {
    return Error{ErrorCode::kNotFound,
                 "no group of this process is mounted; mount the cgroup file system at /sys/fs/cgroup"};
  }
  const std::string memory = std::to_string(limits.memory_bytes);
  const std::string processes = std::to_string(limits.processes);
  WorkersGroup made;
  const auto fill = [&]() -> Result<void> {
    const std::string directory = place.memory + "/" + name;
    if (place.version == CgroupVersion::kV2) {
      if (auto done = made.enable_controllers(place.memory, directory + "-node"); !done) return done;
      if (auto done = made.add(directory); !done) return done;
      if (auto done = write_file(directory + "/memory.max", memory); !done) return done;
      (void)write_file(directory + "/memory.swap.max", "0");
      return write_file(directory + "/pids.max", processes);
    }
    if (auto done = made.add(directory); !done) return done;
    if (auto done = write_file(directory + "/memory.limit_in_bytes", memory); !done) return done;
    (void)write_file(directory + "/memory.memsw.limit_in_bytes", memory);
    if (place.pids.empty()) {
      return Error{ErrorCode::kNotFound, "the hierarchy of the controller pids is not mounted; mount it"};
    }
    if (auto done = made.add(place.pids + "/" + name); !done) return done;
    return write_file(place.pids + "/" + name + "/pids.max", processes);
  };
  if (auto done = fill(); !done) {
    made.remove();
    return done.error();
  }
  return made;
}

Result<void> WorkersGroup::add(const std::string& directory) {
  if (!remove_group(directory)) {
    // A stopped worker of a node that was killed does not see that its channel is closed.
    end_processes(directory);
    // One that still cannot be removed is used again: its limits are set anew.
    remove_group(directory);
  }
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    return with_remedy(system_error("cannot make the group " + directory),
                       "start the node as root, or " + std::string(kDelegate));
  }
  groups_.push_back({directory, open_to_write(directory + "/cgroup.procs")});
  if (!groups_.back().processes) return system_error("cannot open " + directory + "/cgroup.procs");
  return {};
}

Result<void> WorkersGroup::enable_controllers(const std::string& own, const std::string& leaf) {
  const std::string available = read_text(own + "/cgroup.controllers");
  if (!names_controller(available, "memory") || !names_controller(available, "pids")) {
    return Error{ErrorCode::kNotFound,
                 "the group " + own + " has not both controllers, memory and pids; " + std::string(kDelegate)};
  }
  const std::string control = own + "/cgroup.subtree_control";
  const std::string enabled = read_text(control);
  if (names_controller(enabled, "memory") && names_controller(enabled, "pids")) return {};
  const std::string wish = "+memory +pids";
  auto done = write_file(control, wish);
  if (done || done.error().errno_value != EBUSY) {
    return done ? done : with_remedy(done.error(), "start the node as root, or " + std::string(kDelegate));
  }
  // A group whose controllers are passed on may hold no process of its own: this one goes into a leaf.
  if (::mkdir(leaf.c_str(), 0755) != 0 && errno != EEXIST) {
    return with_remedy(system_error("cannot make the group " + leaf), kDelegate);
  }
  leaf_ = leaf;
  leaf_parent_ = open_to_write(own + "/cgroup.procs");
  leaf_parent_control_ = open_to_write(control);
  if (auto moved = write_file(leaf + "/cgroup.procs", std::to_string(::getpid())); !moved) return moved;
  done = write_file(control, wish);
  if (done) return done;
  return with_remedy(done.error(), "other processes are in this group: " + std::string(kDelegate));
}

std::vector<int> WorkersGroup::entrances() const {
  std::vector<int> entrances;
  for (const auto& group : groups_) entrances.push_back(group.processes.get());
  return entrances;
}

std::vector<std::string> WorkersGroup::parents() const {
  std::vector<std::string> parents;
  for (const auto& group : groups_) parents.push_back(group.directory.substr(0, group.directory.rfind('/')));
  return parents;
}

void WorkersGroup::remove() {
  for (const auto& group : groups_) remove_group(group.directory);
  groups_.clear();
  if (leaf_.empty()) return;
  // The parent takes processes back only once it passes no controllers on.
  (void)write_to(leaf_parent_control_, "-memory -pids", leaf_);
  (void)write_to(leaf_parent_, std::to_string(::getpid()), leaf_);
  remove_group(leaf_);
  leaf_.clear();
}

}  // namespace bulkhead::sandbox
