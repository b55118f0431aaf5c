#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/as_map.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "sandbox/cgroup.h"
#include "sandbox/confine.h"
#include "sandbox/namespaces.h"
#include "sandbox/policy.h"
#include "schema/channel.h"
#include "services/common/state_files.h"
#include "services/controller/supervisor/listeners.h"
#include "services/controller/supervisor/node_supervisor.h"
#include "services/controller/supervisor/service_process.h"
#include "shm/history.h"
#include "shm/link.h"
#include "shm/lists.h"
#include "shm/tables.h"

namespace bulkhead::supervisor {
namespace {

namespace fs = std::filesystem;

// Dials in flight and handshakes that come to nothing need slots beside the connections.
constexpr std::uint32_t kDialSlots = 64;
constexpr std::uint32_t kSpareRows = 256;
constexpr std::uint32_t kSpareDescriptors = 256;
// In the workers' group, beside a worker for each slot: the nursery, and workers that are on their way out.
constexpr std::uint32_t kSpareProcesses = 16;
// Of a worker, beside its private memory: its ring, and what the kernel keeps for it.
constexpr std::uint64_t kWorkerBesides = 2 * std::uint64_t{shm::kDefaultRingBytes};
constexpr std::uint64_t kMebibyte = 1024 * 1024;

}  // namespace

// Into memory that nobody can change, for one controller after the other.
void Supervisor::read_as_map() {
  const std::string& file = settings_.as_map_file;
  const AsMap map = require(file.empty() ? AsMap::parse("") : AsMap::load(file));
  as_map_ = keep(require(shm::make_constant_segment("bulkhead-as-map", map.flat()))).readable;
  if (!file.empty()) log_info("the AS map has " + std::to_string(map.size()) + " prefixes: " + file);
}

void Supervisor::take_directory() {
  const std::string& dir = settings_.data_dir;
  std::error_code error;
  const bool made = fs::create_directories(dir, error);
  if (error)
    throw StartError{dir + ": cannot make the data directory: " + error.message() + "; choose another with --data-dir"};
  if (!settings_.application_group.empty()) {
    const group* found = ::getgrnam(settings_.application_group.c_str());
    if (found == nullptr)
      throw StartError{"unknown group '" + settings_.application_group +
                       "'; make it with groupadd or leave the option out"};
    application_gid_ = found->gr_gid;
  }
  if (made) {
    ::chmod(dir.c_str(), 0750);
    if (application_gid_ != static_cast<gid_t>(-1))
      (void)!::chown(dir.c_str(), static_cast<uid_t>(-1), application_gid_);
  }
  run_directory_ = dir + "/run";
  fs::create_directories(run_directory_, error);
  if (error) throw StartError{run_directory_ + ": cannot make it: " + error.message()};
  ::chmod(run_directory_.c_str(), 0750);
  if (application_gid_ != static_cast<gid_t>(-1))
    (void)!::chown(run_directory_.c_str(), static_cast<uid_t>(-1), application_gid_);
  lock_ = UniqueFd(::open((run_directory_ + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) throw StartError{run_directory_ + "/lock: " + std::strerror(errno)};
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    throw StartError{"another node runs on " + dir + "; stop it or choose another directory with --data-dir"};
  }
  state_directory_ = require_in(dir, service::open_state_directory(dir));
  if (service::lost_state(state_directory_.get())) {
    log_warning("the state database (" + dir + "/state/state.db) of a former run is not there any more. " +
                kOnANewDatabase);
  }
  if (const auto kept = require_in(dir, service::set_aside_empty_state(state_directory_.get(), wall_now_ms()))) {
    log_warning("the state database was emptied by something else than this node; it is set aside as " + dir +
                "/state/" + *kept + ". " + kOnANewDatabase);
  }
  state_.database = require_in(dir, service::open_state_database(state_directory_.get()));
  state_.log = require_in(dir, service::open_state_log(state_directory_.get()));
}

void Supervisor::open_identity() {
  identity_path_ = settings_.data_dir + "/identity.json";
  identity_ = UniqueFd(::open(identity_path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!identity_ && errno == ENOENT) {
    auto credential = manager_.open_credential("identity.json");
    if (credential || credential.error().code != ErrorCode::kNotFound) {
      identity_ = require(std::move(credential));
      identity_path_ = "the credential identity.json";
      return;
    }
    log_notice("no identity yet; making one of difficulty " + std::to_string(settings_.expected_pow));
    std::vector<std::string> words = {"identity", "generate", std::to_string(settings_.expected_pow), "--data-dir",
                                      settings_.data_dir};
    if (settings_.log_json) words.emplace_back("--json");
    const int status = require(run_program("/proc/self/exe", words));
    if (status != 0) throw StartError{"the identity could not be made; run `bulkhead identity generate` to see why"};
    identity_ = UniqueFd(::open(identity_path_.c_str(), O_RDONLY | O_CLOEXEC));
  }
  if (!identity_) throw StartError{identity_path_ + ": " + std::strerror(errno)};
  struct stat info {};
  if (::fstat(identity_.get(), &info) == 0 && (info.st_mode & 077) != 0) {
    log_warning(identity_path_ + " can be read by others: chmod 600 it");
  }
}

void Supervisor::check_limits() {
  slots_ = settings_.maximum_connections + settings_.maximum_incoming + schema::kTrustedHandshakes + kDialSlots;
  const std::size_t needed =
      std::max<std::size_t>({slots_ * 2 + kSpareDescriptors, settings_.door.pending_limit + 2 * kSpareDescriptors});
  const std::size_t got = require(raise_open_file_limit(needed));
  if (got < needed) {
    throw StartError{"a maximum of " + std::to_string(settings_.maximum_connections) + " connections and of " +
                     std::to_string(settings_.door.pending_limit) + " without proof needs " + std::to_string(needed) +
                     " open files, but the hard limit (RLIMIT_NOFILE) is " + std::to_string(got) +
                     "; raise it or lower --max-connections or --pending-limit"};
  }
}

void Supervisor::bind_all() {
  for (auto& listener :
       require(open_listeners(settings_.net_addresses, static_cast<int>(settings_.backlog), manager_))) {
    listeners_.push_back(std::move(listener.fd));
    listening_.push_back(listener.point);
  }
  if (settings_.discovery) discovery_ = require(open_discovery(settings_.discovery->port));
  const auto local = [this](const char* name) {
    UniqueFd fd = require(listen_unix(run_directory_, name, 0660));
    if (application_gid_ != static_cast<gid_t>(-1))
      (void)!::chown((run_directory_ + "/" + name).c_str(), static_cast<uid_t>(-1), application_gid_);
    return fd;
  };
  tables_listener_ = local("tables.sock");
  application_listener_ = local("app.sock");
  control_listener_ = require(listen_unix(run_directory_, "control.sock", 0600));
}

void Supervisor::make_segments() {
  processes_segment_ = keep(require(shm::ProcessesTable::make()));
  pool_ = keep(require(shm::PoolTable::make(slots_, settings_.known_points_maximum + kSpareRows,
                                            settings_.known_peers_maximum + slots_)));
  live_ = keep(require(shm::make_live(slots_)));
  events_ = keep(require(shm::EventsTable::make()));
  counters_ = keep(require(shm::make_counters()));
  lists_ = keep(require(shm::ListsTable::make()));
  history_ = keep(require(
      shm::HistoryTable::make(settings_.known_points_maximum + kSpareRows, settings_.known_peers_maximum + slots_)));
  const auto plain = [](const char* name, std::uint64_t size) {
    UniqueFd fd = require(shm::make_segment(name, size));
    if (auto sealed = shm::seal_replaceable(fd.get()); !sealed) throw StartError{sealed.error().text};
    return keep(std::move(fd));
  };
  taken_ = plain("bulkhead-taken", shm::taken_segment_bytes(slots_));
  outward_ = plain("bulkhead-outward", shm::outward_segment_bytes(slots_, shm::kDefaultRingBytes));
  processes_ = require(shm::ProcessesTable::map(processes_segment_.writable.get(), shm::Access::kReadWrite));
}

void Supervisor::make_workers_group() {
  if (settings_.sandbox == SandboxLevel::kOff) return;
  struct sysinfo machine {};
  ::sysinfo(&machine);
  std::error_code error;
  const fs::path directory = fs::canonical(settings_.data_dir, error);
  const std::uint64_t memory =
      settings_.workers_memory_mib
          ? *settings_.workers_memory_mib * kMebibyte
          : sandbox::default_workers_memory(slots_, sandbox::policy_of(Role::kConn).data_bytes + kWorkerBesides,
                                            sandbox::policy_of(Role::kNursery).data_bytes,
                                            std::uint64_t{machine.totalram} * machine.mem_unit);
  auto made = sandbox::WorkersGroup::make(sandbox::own_cgroups(), sandbox::workers_group_name(directory.string()),
                                          {memory, slots_ + kSpareProcesses});
  if (made) {
    workers_group_ = std::move(*made);
  } else {
    log_notice("workers are not bounded together, each by itself only: " + made.error().text);
  }
}

void Supervisor::confine() {
  if (settings_.sandbox == SandboxLevel::kOff) {
    log_warning("no process is confined (--require-sandbox off): who takes over one of them has what this user has");
    return;
  }
  const bool root = ::geteuid() == 0;
  // Of an ordinary user's each service finds out by itself: it has no other way that would have to be prepared.
  if (root) {
    const auto tried =
        sandbox::try_user_namespace(sandbox::kFirstUser + sandbox::policy_of(Role::kNursery).user_offset);
    if (!tried) user_namespace_error_ = tried.error().errno_value;
  }
  sandbox::SupervisorNeeds needs{{}, workers_group_.parents(), user_namespace_error_};
  needs.directories.insert(needs.directories.end(),
                           {settings_.data_dir, settings_.data_dir + "/state", run_directory_});
  for (const Role role : kServices) needs.programs.push_back(service_directory_ + "/" + program_of(role));
  const auto confined = require(sandbox::confine_supervisor(settings_.sandbox, needs));
  for (const auto& missing : confined.missing) log_notice("not confined by " + missing);
}

// ---- services

schema::BootCommon Supervisor::common() const {
  return {.log_level = static_cast<std::uint32_t>(settings_.log_level),
          .log_json = settings_.log_json,
          .slots = slots_,
          .sandbox = static_cast<std::uint32_t>(settings_.sandbox),
          .user_namespace_error = static_cast<std::uint32_t>(user_namespace_error_)};
}

}  // namespace bulkhead::supervisor
