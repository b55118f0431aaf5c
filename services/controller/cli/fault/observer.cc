#include "services/controller/cli/fault/observer.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

#include "sandbox/inspect.h"

namespace bulkhead::fault {
namespace {

// The heap of a process that was started anew under load differs from one that has seen little.
#ifdef BULKHEAD_SANITIZED
// A sanitizer keeps what was freed for a while.
constexpr std::uint64_t kPrivateTolerance = 512 * 1024 * 1024;
#else
constexpr std::uint64_t kPrivateTolerance = 8 * 1024 * 1024;
#endif
// Rings are as full as they happen to be: for each connection its window and its pages, and the tables' first use.
constexpr std::uint64_t kSharedForWorker = 544 * 1024;
constexpr std::uint64_t kSharedTolerance = 1024 * 1024;

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::uint64_t status_kilobytes(const std::string& status, const std::string& name) {
  const std::size_t at = status.find(name);
  return at == std::string::npos ? 0 : std::strtoull(status.c_str() + at + name.size(), nullptr, 10);
}

ProcessUse use_of(pid_t pid) {
  ProcessUse use;
  use.private_bytes = status_kilobytes(read_text("/proc/" + std::to_string(pid) + "/status"), "RssAnon:") * 1024;
  const auto seen = sandbox::observe(pid);
  if (seen && seen->open_files) {
    use.descriptors = *seen->open_files;
    use.descriptors_known = true;
  }
  return use;
}

/// Pages that the segments held by `pid` have. Root only.
std::uint64_t segments_of(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return 0;
  std::set<ino_t> seen;
  std::uint64_t bytes = 0;
  while (const dirent* entry = ::readdir(directory)) {
    std::array<char, 256> target{};
    const std::string path = folder + "/" + entry->d_name;
    if (::readlink(path.c_str(), target.data(), target.size() - 1) <= 0) continue;
    if (!std::string(target.data()).starts_with("/memfd:bulkhead")) continue;
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 && seen.insert(info.st_ino).second)
      bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  ::closedir(directory);
  return bytes;
}

}  // namespace

Observer::Observer(cli::Node node) : node_(std::move(node)) {}

shm::ProcessRow Observer::service(Role role) const {
  return node_.tables.processes.process(role).read().value_or(shm::ProcessRow{});
}

bool Observer::service_up(Role role) const {
  const auto row = service(role);
  return row.pid != 0 && row.ready != 0;
}

std::vector<Connection> Observer::connections() const {
  std::vector<Connection> list;
  for (SlotId slot = 0; slot < node_.tables.pool.slots(); ++slot) {
    const auto row = node_.tables.pool.slot(slot).read();
    if (!row || row->state != static_cast<std::uint32_t>(shm::SlotState::kRunning)) continue;
    list.push_back({{slot, row->generation}, row->peer_id, static_cast<pid_t>(row->worker_pid)});
  }
  return list;
}

std::optional<Connection> Observer::connection_of(const PeerId& peer) const {
  for (const Connection& connection : connections()) {
    if (connection.peer_id == peer) return connection;
  }
  return std::nullopt;
}

bool Observer::runs(const SlotRef& ref) const {
  const auto row = node_.tables.pool.slot(ref.slot).read();
  return row && row->generation == ref.generation && row->state == static_cast<std::uint32_t>(shm::SlotState::kRunning);
}

bool Observer::holds(const SlotRef& ref) const {
  const auto row = node_.tables.pool.slot(ref.slot).read();
  return row && row->generation == ref.generation && row->state != static_cast<std::uint32_t>(shm::SlotState::kFree);
}

std::vector<std::uint64_t> Observer::counters() const {
  std::vector<std::uint64_t> all;
  for (const Role role : kServices) {
    for (std::size_t i = 0; i < kReasonCount; ++i)
      all.push_back(node_.tables.counters.get(role, static_cast<Reason>(i)));
    for (std::size_t i = 0; i < shm::kCounterCount; ++i) {
      // This one is a measure of the moment, not a sum.
      if (static_cast<shm::Counter>(i) == shm::Counter::kPendingNow) continue;
      all.push_back(node_.tables.counters.get(role, static_cast<shm::Counter>(i)));
    }
  }
  return all;
}

std::uint64_t Observer::counter(Role role, shm::Counter counter) const {
  return node_.tables.counters.get(role, counter);
}

std::optional<Reason> Observer::disconnection(const PeerId& peer, std::uint64_t after) const {
  for (std::uint64_t number = newest_event(); number > after; --number) {
    const auto row = node_.tables.events.read(number);
    if (!row || row->has_peer == 0 || row->peer_id != peer) continue;
    if (row->kind == static_cast<std::uint32_t>(shm::EventKind::kDisconnected)) return reason_from_value(row->reason);
  }
  return std::nullopt;
}

NodeUse Observer::use() const {
  NodeUse use;
  use.services[role_name(Role::kSupervisor)] = use_of(supervisor());
  std::set<pid_t> services;
  for (const Role role : kServices) {
    const auto pid = static_cast<pid_t>(service(role).pid);
    if (pid == 0) continue;
    services.insert(pid);
    use.services[role_name(role)] = use_of(pid);
  }
  std::vector<pid_t> workers;
  for (const pid_t child : children_of(supervisor())) {
    ++use.processes;
    if (!services.contains(child)) workers.push_back(child);
  }
  for (const pid_t child : children_of(static_cast<pid_t>(service(Role::kNursery).pid))) {
    ++use.processes;
    workers.push_back(child);
  }
  use.workers = workers.size();
  for (const pid_t worker : workers) {
    const ProcessUse one = use_of(worker);
    use.worker_descriptors = std::max(use.worker_descriptors, one.descriptors);
    use.worker_bytes = std::max(use.worker_bytes, one.private_bytes);
  }
  for (SlotId slot = 0; slot < node_.tables.pool.slots(); ++slot) {
    const auto row = node_.tables.pool.slot(slot).read();
    if (row && row->state != static_cast<std::uint32_t>(shm::SlotState::kFree)) ++use.slots;
  }
  use.shared_bytes = segments_of(supervisor());
  return use;
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> list;
  DIR* directory = ::opendir("/proc");
  if (directory == nullptr) return list;
  while (const dirent* entry = ::readdir(directory)) {
    const auto candidate = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (candidate <= 0) continue;
    const std::string text = read_text("/proc/" + std::to_string(candidate) + "/stat");
    const std::size_t end = text.rfind(')');
    if (end == std::string::npos || end + 4 >= text.size()) continue;
    if (std::strtol(text.c_str() + end + 4, nullptr, 10) == pid) list.push_back(candidate);
  }
  ::closedir(directory);
  return list;
}

char process_state(pid_t pid) {
  const std::string text = read_text("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t end = text.rfind(')');
  return end == std::string::npos || end + 2 >= text.size() ? '\0' : text[end + 2];
}

Nanoseconds waited_for_processor(pid_t pid) {
  std::istringstream text(read_text("/proc/" + std::to_string(pid) + "/schedstat"));
  Nanoseconds ran = 0;
  Nanoseconds waited = 0;
  text >> ran >> waited;
  return waited;
}

Nanoseconds stolen_from_machine() {
  std::istringstream text(read_text("/proc/stat"));
  std::string name;
  Nanoseconds user = 0, nice = 0, system = 0, idle = 0, io = 0, interrupts = 0, soft_interrupts = 0, steal = 0;
  text >> name >> user >> nice >> system >> idle >> io >> interrupts >> soft_interrupts >> steal;
  const long ticks = ::sysconf(_SC_CLK_TCK);
  return text && ticks > 0 ? steal * kSecond / static_cast<Nanoseconds>(ticks) : 0;
}

std::vector<std::string> leaks(const NodeUse& before, const NodeUse& after) {
  std::vector<std::string> found;
  const auto more = [&](const std::string& what, std::uint64_t was, std::uint64_t is, std::uint64_t tolerance) {
    if (is > was + tolerance)
      found.push_back(what + ": " + std::to_string(was) + " before, " + std::to_string(is) + " after");
  };
  more("processes", before.processes, after.processes, 0);
  more("slots in use", before.slots, after.slots, 0);
  for (const auto& [role, is] : after.services) {
    const auto was = before.services.find(role);
    if (was == before.services.end()) continue;
    if (is.descriptors_known && was->second.descriptors_known)
      more("descriptors of the " + role, was->second.descriptors, is.descriptors, 0);
    more("private memory of the " + role, was->second.private_bytes, is.private_bytes, kPrivateTolerance);
  }
  more("descriptors of a worker", before.worker_descriptors, after.worker_descriptors, 0);
  more("private memory of a worker", before.worker_bytes, after.worker_bytes, kPrivateTolerance);
  if (before.shared_bytes != 0)
    more("shared memory", before.shared_bytes, after.shared_bytes,
         kSharedTolerance + kSharedForWorker * before.workers);
  return found;
}

}  // namespace bulkhead::fault
