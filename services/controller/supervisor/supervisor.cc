#include "services/controller/supervisor/supervisor.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "base/address.h"
#include "base/address_group.h"
#include "base/as_map.h"
#include "base/clock.h"
#include "base/exit_codes.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "sandbox/cgroup.h"
#include "sandbox/confine.h"
#include "sandbox/namespaces.h"
#include "sandbox/policy.h"
#include "schema/channel.h"
#include "services/common/loop.h"
#include "services/common/state_files.h"
#include "services/common/tcp_options.h"
#include "services/controller/cli/tables_protocol.h"
#include "services/controller/supervisor/listeners.h"
#include "services/controller/supervisor/service_manager.h"
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
constexpr std::uint64_t kPingMs = 1000;
constexpr Nanoseconds kUnresponsive = 5 * kSecond;
// The service manager's watchdog is fed while every service answered within this time.
constexpr Nanoseconds kAnswerTime = 3 * kSecond;
constexpr Nanoseconds kBootTime = 15 * kSecond;
// A service that dies sooner than this after its start counts for the back-off.
constexpr Nanoseconds kQuickDeath = 5 * kSecond;
constexpr int kMaximumQuickDeaths = 6;
constexpr std::uint64_t kFirstDelayMs = 250;
constexpr std::uint64_t kStopControllerMs = 5000;
constexpr std::uint64_t kStopServicesMs = 1000;
constexpr std::size_t kMaximumTableClients = 64;
// P3: workers forked from one image share its memory layout, and a guesser must not get to try again.
constexpr Nanoseconds kNurseryReplacePeriod = kSecond;
// In the workers' group, beside a worker for each slot: the nursery, and workers that are on their way out.
constexpr std::uint32_t kSpareProcesses = 16;
// Of a worker, beside its private memory: its ring, and what the kernel keeps for it.
constexpr std::uint64_t kWorkerBesides = 2 * std::uint64_t{shm::kDefaultRingBytes};
constexpr std::uint64_t kMebibyte = 1024 * 1024;

constexpr std::array<Role, 5> kServices = {Role::kKeyholder, Role::kController, Role::kAcceptor, Role::kMaintainer,
                                           Role::kNursery};

const char* program_of(Role role) {
  switch (role) {
    case Role::kController:
      return "bulkhead-controller";
    case Role::kKeyholder:
      return "bulkhead-keyholder";
    case Role::kAcceptor:
      return "bulkhead-acceptor";
    case Role::kMaintainer:
      return "bulkhead-maintainer";
    case Role::kNursery:
      return "bulkhead-conn";
    default:
      return "";
  }
}

/// What went wrong before the node runs, for one line to the operator.
struct StartError {
  std::string text;
};

template <typename T>
T require(Result<T> result) {
  if (!result) throw StartError{result.error().text};
  return std::move(result).value();
}

/// The same for an error that names a file below `directory`.
template <typename T>
T require_in(const std::string& directory, Result<T> result) {
  if (!result) throw StartError{directory + "/" + result.error().text};
  return std::move(result).value();
}

/// A segment: the writable descriptor for its next writer, and the read-only one for everybody else.
struct Segment {
  UniqueFd writable;
  UniqueFd readable;
};

Segment keep(UniqueFd fd) {
  Segment segment;
  segment.readable = require(reopen_read_only(fd.get()));
  segment.writable = std::move(fd);
  return segment;
}

std::string describe(int wait_status) {
  if (WIFSIGNALED(wait_status)) return std::string("killed by signal ") + std::to_string(WTERMSIG(wait_status));
  return "exit status " + std::to_string(WEXITSTATUS(wait_status));
}

Reason cause_of(bool planned, bool unresponsive, int wait_status) {
  if (planned) return Reason::kReplacedAfterWorkerFault;
  if (unresponsive) return Reason::kServiceUnresponsive;
  if (!WIFSIGNALED(wait_status)) return Reason::kServiceExited;
  return WTERMSIG(wait_status) == SIGKILL ? Reason::kServiceKilled : Reason::kServiceCrashed;
}

class Supervisor {
 public:
  Supervisor(const Settings& settings, std::string service_directory, PeersFile peers_file)
      : settings_(settings), service_directory_(std::move(service_directory)), peers_file_(std::move(peers_file)) {}

  int run();

 private:
  struct Outgoing {
    schema::FromSupervisor message;
    std::vector<UniqueFd> descriptors;
  };
  struct Service {
    pid_t pid = 0;
    schema::Channel channel;
    service::Poll poll;
    service::Timer delay;
    std::deque<Outgoing> queue;
    UniqueFd controller_end;  ///< of its channel to the controller, for a successor of the controller
    bool ready = false;
    bool planned_end = false;
    bool unresponsive = false;
    bool broken = false;           ///< its channel to the controller
    Reason cause = Reason::kNone;  ///< of its last restart
    std::uint32_t restarts = 0;
    int quick_deaths = 0;
    Nanoseconds started = 0;
    Nanoseconds heard = 0;
    std::int64_t last_death_ms = 0;
    std::int64_t since_ms = 0;
    int last_status = 0;
  };
  struct HeldApplication {
    UniqueFd channel;
    schema::HoldApplication what;
  };
  struct TableClient {
    UniqueFd socket;
    service::Poll poll;
  };

  // before the services
  void read_as_map();
  void take_directory();
  void open_identity();
  void check_limits();
  void bind_all();
  void make_segments();
  void make_workers_group();
  void confine();

  // services
  void start(Role role);
  void boot(Role role);
  void boot_controller(Service& controller);
  schema::BootCommon common() const;
  void send(Role role, schema::FromSupervisor message, std::vector<UniqueFd> descriptors = {});
  void flush(Service& service);
  void on_service(Role role);
  void on_message(Role role, schema::ToSupervisor& message, schema::Descriptors& descriptors);
  void on_children();
  void on_death(Role role, int wait_status);
  void ping_all();
  bool all_answer(Nanoseconds now) const;
  UniqueFd copy(int fd) { return require(duplicate(fd)); }

  // what is held
  void release(const SlotRef& slot);
  void replace_state(bool log_only);
  void replace(Role role, Reason cause);
  void replace_nursery();
  bool in_application_group(int socket, const PeerCredentials& who) const;
  void on_table_client();
  void answer_table_client(std::uint64_t id);

  void publish();
  void check_ready();
  void stop(int exit_status);
  void stop_rest();
  void finish();
  void save_peers();

  const Settings& settings_;
  std::string service_directory_;
  PeersFile peers_file_;
  ServiceManager manager_;
  std::string run_directory_;
  std::string identity_path_;
  UniqueFd lock_;
  UniqueFd state_directory_;
  service::StateFiles state_;
  bool state_replaced_ = false;  ///< at the word of this controller
  UniqueFd identity_;
  std::vector<UniqueFd> listeners_;
  std::vector<Point> listening_;
  UniqueFd discovery_;  ///< UDP, for every maintainer; empty: LAN discovery is off
  UniqueFd control_listener_;
  UniqueFd application_listener_;
  UniqueFd tables_listener_;
  TcpSettings tcp_;
  std::uint32_t slots_ = 0;
  sandbox::WorkersGroup workers_group_;
  int user_namespace_error_ = 0;
  Segment processes_segment_, pool_, live_, events_, counters_, taken_, outward_, lists_, history_;
  UniqueFd as_map_;  ///< read-only
  std::optional<shm::ProcessesTable> processes_;
  std::optional<service::Loop> loop_;
  service::Timer ping_timer_;
  service::Timer stop_timer_;
  service::Poll tables_poll_;
  std::vector<std::unique_ptr<uv_signal_t>> signals_;
  std::map<Role, Service> services_;
  std::map<SlotRef, UniqueFd> held_;
  std::map<std::uint64_t, HeldApplication> applications_;
  std::map<std::uint64_t, TableClient> table_clients_;
  std::uint64_t next_client_ = 1;
  std::uint64_t ping_number_ = 0;
  Nanoseconds pinged_at_ = 0;
  schema::Ready identity_answer_;
  gid_t application_gid_ = static_cast<gid_t>(-1);
  std::int64_t started_ms_ = 0;
  Nanoseconds nursery_replaced_at_ = 0;
  bool nursery_due_ = false;
  bool door_opened_ = false;
  bool ready_ = false;
  bool controller_was_up_ = false;
  enum class Stopping : std::uint8_t { kNo, kController, kRest, kDone };
  Stopping stopping_ = Stopping::kNo;
  int exit_status_ = 0;
};

// ---- before the services

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
    const int status =
        require(run_program("/proc/self/exe", {"identity", "generate", std::to_string(settings_.expected_pow),
                                               "--data-dir", settings_.data_dir}));
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
  if (settings_.sandbox == SandboxLevel::kOff) return;
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

void Supervisor::start(Role role) {
  Service& service = services_[role];
  auto ends = require(socket_pair());
  const auto pid = start_service(service_directory_ + "/" + program_of(role), ends.second.get());
  if (!pid) {
    log_error(pid.error().text);
    stop(static_cast<int>(ProgramExit::kFailed));
    return;
  }
  service.pid = *pid;
  if (role == Role::kNursery) {
    // Before it hears its first message, so that every worker is in the group.
    if (const auto taken = workers_group_.take(*pid); !taken)
      log_error("the nursery is in no group: " + taken.error().text);
  }
  service.ready = false;
  service.planned_end = false;
  service.unresponsive = service.broken = false;
  service.started = service.heard = monotonic_now();
  service.since_ms = wall_now_ms();
  service.queue.clear();
  service.channel = schema::Channel(std::move(ends.first), schema::kMaximumPacket);
  service.poll = service::Poll(*loop_, service.channel.fd(), [this, role](int, int) { on_service(role); });
  service.poll.watch(UV_READABLE);
  boot(role);
  publish();
}

void Supervisor::boot(Role role) {
  Service& service = services_[role];
  std::vector<UniqueFd> given;
  if (role == Role::kController) {
    boot_controller(service);
    return;
  }
  auto pair = require(socket_pair());
  service.controller_end = std::move(pair.first);
  if (services_.contains(Role::kController) && services_[Role::kController].pid != 0) {
    std::vector<UniqueFd> end;
    end.push_back(copy(service.controller_end.get()));
    send(Role::kController,
         schema::ServiceChannel{role, service.cause, static_cast<std::uint32_t>(service.last_status)}, std::move(end));
  }
  const Point& first = listening_.front();
  switch (role) {
    case Role::kKeyholder: {
      given.push_back(copy(identity_.get()));
      given.push_back(copy(counters_.writable.get()));
      given.push_back(std::move(pair.second));
      const schema::Announcement announcement{
          settings_.advertised_port.value_or(first.port), settings_.chain_name,
          *std::max_element(settings_.distributed_db_versions.begin(), settings_.distributed_db_versions.end()),
          *std::max_element(settings_.p2p_versions.begin(), settings_.p2p_versions.end())};
      send(role,
           schema::BootKeyholder{.common = common(),
                                 .expected_pow = settings_.expected_pow,
                                 .announcement = announcement,
                                 .metadata = {settings_.disable_mempool, settings_.private_mode},
                                 .identity_path = identity_path_},
           std::move(given));
      break;
    }
    case Role::kAcceptor: {
      given.push_back(copy(counters_.writable.get()));
      given.push_back(copy(lists_.readable.get()));
      given.push_back(std::move(pair.second));
      for (const auto& listener : listeners_) given.push_back(copy(listener.get()));
      schema::BootAcceptor message;
      message.common = common();
      message.expected_pow = settings_.expected_pow;
      message.door = settings_.door;
      message.authentication_timeout_ms = static_cast<std::uint32_t>(settings_.authentication_timeout_s * 1000);
      message.listeners = static_cast<std::uint32_t>(listeners_.size());
      message.tcp = tcp_;
      send(role, message, std::move(given));
      break;
    }
    case Role::kMaintainer: {
      given.push_back(copy(counters_.writable.get()));
      given.push_back(copy(pool_.readable.get()));
      given.push_back(std::move(pair.second));
      schema::BootMaintainer message;
      message.common = common();
      message.maintenance = settings_.maintenance;
      message.private_mode = settings_.private_mode;
      message.minimum_connections = settings_.minimum_connections;
      message.expected_connections = settings_.expected_connections;
      message.maximum_connections = settings_.maximum_connections;
      message.connection_timeout_ms = static_cast<std::uint32_t>(settings_.connection_timeout_s * 1000);
      message.maintenance_idle_time_s = settings_.maintenance_idle_time_s;
      message.bounds = settings_.bounds;
      message.disable_peer_discovery = settings_.disable_peer_discovery;
      message.own_peer_id = identity_answer_.peer_id;
      if (discovery_) {
        message.discovery = *settings_.discovery;
        given.push_back(copy(discovery_.get()));
      }
      message.hardened = settings_.hardened;
      message.swap = settings_.swap;
      message.score_half_life_s = settings_.score_half_life_s;
      message.name_servers = settings_.name_servers;
      for (const auto& peer : settings_.peers) message.peers.push_back({peer.host, peer.port, peer.expected_peer_id});
      message.own_points = listening_;
      if (listening_.size() == 1 && !is_unspecified(first.address)) message.source_address = first.address;
      message.tcp = tcp_;
      send(role, message, std::move(given));
      break;
    }
    case Role::kNursery:
      given.push_back(copy(counters_.writable.get()));
      given.push_back(copy(live_.writable.get()));
      given.push_back(copy(taken_.readable.get()));
      given.push_back(copy(outward_.readable.get()));
      given.push_back(std::move(pair.second));
      send(role, schema::BootNursery{common(), shm::kDefaultRingBytes, shm::kDefaultRingBytes}, std::move(given));
      break;
    default:
      break;
  }
}

void Supervisor::boot_controller(Service& controller) {
  const Settings& s = settings_;
  schema::BootController message;
  message.common = common();
  message.recovering = controller_was_up_;
  message.previous_end = controller.cause;
  message.previous_wait_status = static_cast<std::uint32_t>(controller.last_status);
  message.own_peer_id = identity_answer_.peer_id;
  message.own_public_key = identity_answer_.public_key;
  message.chain_name = s.chain_name;
  message.distributed_db_versions = s.distributed_db_versions;
  message.p2p_versions = s.p2p_versions;
  message.metadata = {s.disable_mempool, s.private_mode};
  message.listening_port = listening_.front().port;
  message.advertised_port = s.advertised_port.value_or(listening_.front().port);
  message.minimum_connections = s.minimum_connections;
  message.expected_connections = s.expected_connections;
  message.maximum_connections = s.maximum_connections;
  message.maximum_incoming = s.maximum_incoming;
  message.authentication_timeout_ms = static_cast<std::uint32_t>(s.authentication_timeout_s * 1000);
  message.connection_timeout_ms = static_cast<std::uint32_t>(s.connection_timeout_s * 1000);
  message.private_mode = s.private_mode;
  message.maintenance = s.maintenance;
  message.hardened = s.hardened;
  // Whoever listens where no host of the internet is expects its neighbours there.
  message.allow_private_points =
      s.allow_private_points || std::any_of(listening_.begin(), listening_.end(), [](const Point& point) {
        return !is_unspecified(point.address) && !is_routable(point.address);
      });
  message.swap = s.swap;
  message.swap_linger_s = s.swap_linger_s;
  message.score_half_life_s = s.score_half_life_s;
  message.disable_peer_discovery = s.disable_peer_discovery;
  message.known_points_maximum = s.known_points_maximum;
  message.known_points_target = s.known_points_target;
  message.known_peers_maximum = s.known_peers_maximum;
  message.known_peers_target = s.known_peers_target;
  message.reconnection = {s.reconnection_factor, s.reconnection_initial_delay_s, s.reconnection_disconnection_delay_s,
                          s.reconnection_increase_cap_s};
  message.greylist_timeout_s = static_cast<std::uint32_t>(std::ceil(s.greylist_timeout_s));
  message.greylist_ipv6_length = s.greylist_ipv6_prefix;
  message.application_grace_ms = static_cast<std::uint32_t>(s.application_grace_s * 1000);
  message.discard_without_application = s.discard_without_application;
  for (const auto& point : listening_) {
    if (!is_unspecified(point.address)) message.own_points.push_back(point);
  }
  std::vector<UniqueFd> given;
  for (const int fd : {pool_.writable.get(), events_.writable.get(), counters_.writable.get(), live_.readable.get(),
                       control_listener_.get(), application_listener_.get(), state_.database.get(), state_.log.get(),
                       outward_.readable.get(), lists_.writable.get(), history_.writable.get(), as_map_.get()}) {
    given.push_back(copy(fd));
  }
  if (peers_file_.peers != 0) {
    // Copies share one position; an earlier controller may have read some of it.
    (void)::lseek(peers_file_.rows.get(), 0, SEEK_SET);
    given.push_back(copy(peers_file_.rows.get()));
    message.known_peers = peers_file_.peers;
    message.known_peer_events = peers_file_.events;
  }
  state_replaced_ = false;
  send(Role::kController, std::move(message), std::move(given));
  // Those that bring connections come last.
  for (const Role role : {Role::kKeyholder, Role::kNursery, Role::kMaintainer, Role::kAcceptor}) {
    const auto found = services_.find(role);
    if (found == services_.end() || !found->second.controller_end || found->second.pid == 0) continue;
    std::vector<UniqueFd> end;
    end.push_back(copy(found->second.controller_end.get()));
    send(Role::kController, schema::ServiceChannel{role}, std::move(end));
  }
  if (!controller_was_up_) return;
  for (const auto& [slot, channel] : held_) {
    std::vector<UniqueFd> end;
    end.push_back(copy(channel.get()));
    send(Role::kController, schema::AdoptWorker{slot}, std::move(end));
  }
  for (const auto& [id, application] : applications_) {
    std::vector<UniqueFd> end;
    end.push_back(copy(application.channel.get()));
    send(Role::kController,
         schema::AdoptApplication{id, application.what.pid, application.what.receives, application.what.sends},
         std::move(end));
  }
  send(Role::kController, schema::AdoptDone{});
}

void Supervisor::send(Role role, schema::FromSupervisor message, std::vector<UniqueFd> descriptors) {
  const auto found = services_.find(role);
  if (found == services_.end() || !found->second.channel) return;
  found->second.queue.push_back({std::move(message), std::move(descriptors)});
  flush(found->second);
}

void Supervisor::flush(Service& service) {
  while (!service.queue.empty()) {
    auto& first = service.queue.front();
    std::vector<int> numbers;
    for (const auto& fd : first.descriptors) numbers.push_back(fd.get());
    const auto sent = service.channel.send(first.message, numbers);
    if (!sent) {
      // A service that is gone is reaped and started anew; one that is slow gets it when it reads.
      if (sent.error().code == ErrorCode::kWouldBlock) service.poll.watch(UV_READABLE | UV_WRITABLE);
      return;
    }
    service.queue.pop_front();
  }
  service.poll.watch(UV_READABLE);
}

void Supervisor::on_service(Role role) {
  Service& service = services_[role];
  if (!service.channel) return;
  flush(service);
  schema::Descriptors descriptors;
  auto message = service.channel.receive<schema::ToSupervisor>(descriptors);
  if (message) {
    service.heard = monotonic_now();
    on_message(role, *message, descriptors);
    return;
  }
  if (message.error().code == ErrorCode::kWouldBlock) return;
  service.poll.close();
  service.channel.close();
  // A service without its channel is of no use, whatever else it does.
  if (service.pid != 0 && message.error().code == ErrorCode::kBroken) {
    log_error(std::string(role_name(role)) + " broke its channel's contract: " + message.error().text);
    ::kill(service.pid, SIGKILL);
  }
}

void Supervisor::on_message(Role role, schema::ToSupervisor& message, schema::Descriptors& descriptors) {
  Service& service = services_[role];
  if (const auto* ready = std::get_if<schema::Ready>(&message)) {
    service.ready = true;
    if (role == Role::kKeyholder && identity_answer_.peer_id == PeerId{}) {
      identity_answer_ = *ready;
      // The controller hears of them in this order: whoever brings a connection finds somebody to give it to.
      for (const Role next : {Role::kController, Role::kNursery, Role::kMaintainer}) start(next);
    }
    if (role == Role::kController) controller_was_up_ = true;
    // The door opens when there is somebody behind it: who waits in the backlog is served, not turned away.
    if (!door_opened_ && services_[Role::kController].ready && services_[Role::kNursery].ready) {
      door_opened_ = true;
      start(Role::kAcceptor);
    }
    check_ready();
  } else if (const auto* failed = std::get_if<schema::Failed>(&message)) {
    log_error(std::string(role_name(role)) + ": " + failed->text);
    // A controller that ends because of a damaged file has a successor, with another one.
    const bool successor = role == Role::kController && state_replaced_;
    if (!ready_ && !successor) stop(static_cast<int>(ProgramExit::kFailed));
  } else if (role == Role::kController) {
    if (const auto* hold = std::get_if<schema::Hold>(&message)) {
      held_[hold->slot] = std::move(descriptors.at(0));
    } else if (const auto* over = std::get_if<schema::Release>(&message)) {
      release(over->slot);
    } else if (const auto* application = std::get_if<schema::HoldApplication>(&message)) {
      applications_[application->id] = {std::move(descriptors.at(0)), *application};
      std::vector<UniqueFd> given;
      given.push_back(copy(taken_.writable.get()));
      given.push_back(copy(outward_.writable.get()));
      send(role, schema::ApplicationSegments{application->id}, std::move(given));
      publish();
    } else if (const auto* gone = std::get_if<schema::ReleaseApplication>(&message)) {
      applications_.erase(gone->id);
      publish();
    } else if (const auto* orphan = std::get_if<schema::KillOrphan>(&message)) {
      // Only a child of this process, unreaped, that is no service: its number cannot have passed to another.
      const bool is_service = std::any_of(services_.begin(), services_.end(), [&](const auto& entry) {
        return entry.second.pid == static_cast<pid_t>(orphan->pid);
      });
      siginfo_t info{};
      if (!is_service && orphan->pid > 1 && ::waitid(P_PID, orphan->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        ::kill(static_cast<pid_t>(orphan->pid), SIGKILL);
      }
    } else if (const auto* wish = std::get_if<schema::ReplaceService>(&message)) {
      replace(wish->role, wish->cause);
    } else if (const auto* damaged = std::get_if<schema::StateDamaged>(&message)) {
      replace_state(damaged->log_only);
    }
  }
}

void Supervisor::replace(Role role, Reason cause) {
  const auto found = services_.find(role);
  if (found == services_.end() || role == Role::kController) return;
  if (cause != Reason::kReplacedAfterWorkerFault) {
    found->second.broken = true;
    if (found->second.pid != 0) ::kill(found->second.pid, SIGKILL);
  } else if (role == Role::kNursery) {
    nursery_due_ = true;
    replace_nursery();
  }
}

// At most once in each period; what comes within one is made up for after its end (by ping_all).
void Supervisor::replace_nursery() {
  const Nanoseconds now = monotonic_now();
  Service& nursery = services_[Role::kNursery];
  const bool early = nursery_replaced_at_ != 0 && now - nursery_replaced_at_ < kNurseryReplacePeriod;
  if (!nursery_due_ || early || nursery.pid == 0 || !nursery.ready) return;
  nursery_due_ = false;
  nursery_replaced_at_ = now;
  log_notice("a worker died by a fault: the nursery is replaced");
  nursery.planned_end = true;
  ::kill(nursery.pid, SIGKILL);
}

// Once for each controller: one that was taken over cannot fill the directory with files.
void Supervisor::replace_state(bool log_only) {
  if (std::exchange(state_replaced_, true)) return;
  try {
    const int directory = state_directory_.get();
    const std::string& dir = settings_.data_dir;
    const std::string kept = require_in(dir, service::set_aside_state(directory, log_only, wall_now_ms()));
    const std::string keeps = dir + "/state/" + kept + " keeps what it held. ";
    log_error(log_only ? "the log of the state database is damaged; " + keeps +
                             "The last changes are not in force; what was stored before them is"
                       : "the state database is damaged; " + keeps +
                             "The node goes on with an empty one: bans, trust and known peers are gone");
    state_.log = require_in(dir, service::open_state_log(directory));
    // A database that stays in its place is still locked by this process.
    if (!log_only) state_.database = require_in(dir, service::open_state_database(directory));
  } catch (const StartError& error) {
    log_error(error.text);
    stop(static_cast<int>(ProgramExit::kFailed));
  }
}

void Supervisor::release(const SlotRef& slot) {
  held_.erase(slot);
  if (slot.slot >= slots_) return;
  // A late release must not wipe what the slot's next connection has there.
  const auto next = held_.lower_bound(SlotRef{slot.slot, 0});
  if (next != held_.end() && next->first.slot == slot.slot) return;
  // The next connection in this slot must not find what this one left, and memory goes back.
  (void)shm::punch_hole(outward_.writable.get(), shm::outward_window_offset(slot.slot, shm::kDefaultRingBytes),
                        shm::outward_window_bytes(shm::kDefaultRingBytes));
  (void)shm::punch_hole(taken_.writable.get(), shm::taken_page_offset(slot.slot), shm::kPageBytes);
  (void)shm::punch_hole(live_.writable.get(), std::uint64_t{slot.slot} * shm::kPageBytes, shm::kPageBytes);
}

void Supervisor::on_children() {
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) break;
    const auto service =
        std::find_if(services_.begin(), services_.end(), [pid](const auto& entry) { return entry.second.pid == pid; });
    if (service != services_.end()) {
      on_death(service->first, status);
    } else {
      send(Role::kController, schema::Reaped{static_cast<std::uint32_t>(pid), static_cast<std::uint32_t>(status)});
    }
  }
}

void Supervisor::on_death(Role role, int wait_status) {
  Service& service = services_[role];
  const Nanoseconds lived = monotonic_now() - service.started;
  const bool planned = service.planned_end;
  service.cause = service.broken ? Reason::kChannelFault : cause_of(planned, service.unresponsive, wait_status);
  // What it still said (why it cannot start, above all) is heard before it is forgotten.
  while (service.channel) {
    schema::Descriptors descriptors;
    auto message = service.channel.receive<schema::ToSupervisor>(descriptors);
    if (!message) break;
    on_message(role, *message, descriptors);
  }
  service.pid = 0;
  service.ready = false;
  service.last_status = wait_status;
  service.last_death_ms = wall_now_ms();
  service.poll.close();
  service.channel.close();
  service.controller_end.reset();
  service.queue.clear();
  publish();
  if (stopping_ != Stopping::kNo) {
    if (role == Role::kController && stopping_ == Stopping::kController) stop_rest();
    finish();
    return;
  }
  if (!ready_ && identity_answer_.peer_id == PeerId{}) {
    log_error(std::string(role_name(role)) + " ended before the node was ready: " + describe(wait_status));
    stop(static_cast<int>(ProgramExit::kFailed));
    return;
  }
  ++service.restarts;
  service.quick_deaths = lived < kQuickDeath && !planned ? service.quick_deaths + 1 : 0;
  if (!planned) log_warning(std::string(role_name(role)) + " died (" + describe(wait_status) + "); starting it anew");
  if (service.quick_deaths >= kMaximumQuickDeaths) {
    log_error(std::string(role_name(role)) + " died " + std::to_string(service.quick_deaths) +
              " times within seconds of its start (" + describe(wait_status) +
              "); the node stops. The lines above say why it ends.");
    stop(static_cast<int>(ProgramExit::kFailed));
    return;
  }
  if (service.quick_deaths <= 1) {
    start(role);
    return;
  }
  service.delay = service::Timer(*loop_, [this, role] {
    if (stopping_ == Stopping::kNo) start(role);
  });
  service.delay.once(kFirstDelayMs << (service.quick_deaths - 2));
}

void Supervisor::ping_all() {
  replace_nursery();
  const Nanoseconds now = monotonic_now();
  ++ping_number_;
  // After this process itself was stopped for a while, the others' answers wait to be read: their silence says nothing.
  if (now - pinged_at_ > kUnresponsive / 2) {
    for (auto& [role, service] : services_) service.heard = now;
  }
  pinged_at_ = now;
  for (auto& [role, service] : services_) {
    if (service.pid == 0) continue;
    if (now - service.heard > (service.ready ? kUnresponsive : kBootTime)) {
      log_warning(std::string(role_name(role)) + " gave no answer for too long; it is ended and started anew");
      service.heard = now;
      service.unresponsive = true;
      ::kill(service.pid, SIGKILL);
      continue;
    }
    // One question at a time: a service that does not read fills no queue here.
    if (service.queue.empty()) send(role, schema::Ping{ping_number_});
  }
  manager_.feed_watchdog(now, kPingMs * kMillisecond, all_answer(now));
}

bool Supervisor::all_answer(Nanoseconds now) const {
  return std::all_of(kServices.begin(), kServices.end(), [&](Role role) {
    const auto found = services_.find(role);
    return found != services_.end() && found->second.ready && now - found->second.heard <= kAnswerTime;
  });
}

// ---- tables

bool Supervisor::in_application_group(int socket, const PeerCredentials& who) const {
  if (application_gid_ == static_cast<gid_t>(-1)) return false;
  std::array<gid_t, 256> groups{};
  socklen_t size = sizeof groups;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) size = 0;
  const auto end = groups.begin() + static_cast<std::ptrdiff_t>(size / sizeof(gid_t));
  return who.gid == application_gid_ || std::find(groups.begin(), end, application_gid_) != end;
}

void Supervisor::on_table_client() {
  UniqueFd socket(::accept4(tables_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || table_clients_.size() >= kMaximumTableClients) return;
  const auto who = peer_credentials(socket.get());
  const bool permitted = who && (who->uid == 0 || who->uid == ::geteuid() || in_application_group(socket.get(), *who));
  if (!permitted) return;
  const std::uint64_t id = next_client_++;
  TableClient& client = table_clients_[id];
  client.poll = service::Poll(*loop_, socket.get(), [this, id](int, int) { answer_table_client(id); });
  client.socket = std::move(socket);
  client.poll.watch(UV_READABLE);
}

void Supervisor::answer_table_client(std::uint64_t id) {
  const auto found = table_clients_.find(id);
  if (found == table_clients_.end()) return;
  TableClient& client = found->second;
  std::array<std::uint8_t, 16> request{};
  const ssize_t got = ::recv(client.socket.get(), request.data(), request.size(), MSG_DONTWAIT);
  const bool valid = got == static_cast<ssize_t>(kTablesRequest.size()) &&
                     std::equal(kTablesRequest.begin(), kTablesRequest.end(), request.begin());
  if (valid) {
    const int given[kTablesDescriptors] = {processes_segment_.readable.get(),
                                           pool_.readable.get(),
                                           live_.readable.get(),
                                           counters_.readable.get(),
                                           events_.readable.get(),
                                           lists_.readable.get(),
                                           history_.readable.get()};
    auto answer = kTablesRequest;
    iovec data{answer.data(), answer.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof given)> control{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof given);
    std::memcpy(CMSG_DATA(header), given, sizeof given);
    (void)::sendmsg(client.socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  client.poll.close();
  table_clients_.erase(found);
}

void Supervisor::publish() {
  if (!processes_) return;
  for (const auto& [role, service] : services_) {
    shm::ProcessRow row{};
    row.role = static_cast<std::uint32_t>(role);
    row.pid = static_cast<std::uint32_t>(service.pid);
    row.restarts = service.restarts;
    row.ready = service.ready ? 1 : 0;
    row.since_ms = service.since_ms;
    row.last_death_ms = service.last_death_ms;
    row.last_wait_status = static_cast<std::uint32_t>(service.last_status);
    row.last_cause = static_cast<std::uint32_t>(service.cause);
    processes_->process(role).write(row);
  }
  shm::ProcessRow self{};
  self.role = static_cast<std::uint32_t>(Role::kSupervisor);
  self.pid = static_cast<std::uint32_t>(::getpid());
  self.ready = 1;
  self.since_ms = started_ms_;
  processes_->process(Role::kSupervisor).write(self);
  shm::NodeRow node{};
  node.peer_id = identity_answer_.peer_id;
  node.started_ms = started_ms_;
  node.ready = ready_ ? 1 : 0;
  for (const auto& [id, application] : applications_) {
    if (application.what.receives) node.receiver_pid = application.what.pid;
    if (application.what.sends) node.sender_pid = application.what.pid;
  }
  node.minimum = settings_.minimum_connections;
  node.expected = settings_.expected_connections;
  node.maximum = settings_.maximum_connections;
  node.chain_name_size = static_cast<std::uint32_t>(std::min(settings_.chain_name.size(), node.chain_name.size()));
  std::copy_n(settings_.chain_name.begin(), node.chain_name_size, node.chain_name.begin());
  node.net_count = static_cast<std::uint32_t>(std::min(listening_.size(), node.net_ports.size()));
  for (std::uint32_t i = 0; i < node.net_count; ++i) {
    node.net_addresses[i] = listening_[i].address.bytes;
    node.net_ports[i] = listening_[i].port;
  }
  processes_->node().write(node);
}

void Supervisor::check_ready() {
  const bool all = std::all_of(kServices.begin(), kServices.end(),
                               [this](Role role) { return services_.contains(role) && services_[role].ready; });
  if (all && !ready_) {
    ready_ = true;
    std::string where;
    for (const auto& point : listening_) where += (where.empty() ? "" : ", ") + to_text(point);
    log_notice("the node is ready, listening on " + where);
    manager_.ready("listening on " + where);
  }
  publish();
}

// ---- the end

void Supervisor::stop(int exit_status) {
  if (stopping_ != Stopping::kNo) {
    // Asked a second time: no more patience.
    for (auto& [role, service] : services_) {
      if (service.pid != 0) ::kill(service.pid, SIGKILL);
    }
    return;
  }
  exit_status_ = exit_status;
  stopping_ = Stopping::kController;
  manager_.stopping();
  const auto controller = services_.find(Role::kController);
  if (controller != services_.end() && controller->second.pid != 0 && controller->second.ready) {
    send(Role::kController, schema::Stop{});
    stop_timer_.once(kStopControllerMs);
    return;
  }
  stop_rest();
  finish();
}

void Supervisor::stop_rest() {
  if (stopping_ != Stopping::kController) return;
  stopping_ = Stopping::kRest;
  for (auto& [role, service] : services_) {
    if (service.pid != 0) send(role, schema::Stop{});
  }
  stop_timer_.once(kStopServicesMs);
}

void Supervisor::finish() {
  if (stopping_ == Stopping::kNo || stopping_ == Stopping::kController) return;
  const bool left =
      std::any_of(services_.begin(), services_.end(), [](const auto& entry) { return entry.second.pid != 0; });
  if (left) return;
  stopping_ = Stopping::kDone;
  loop_->stop();
}

void Supervisor::save_peers() {
  if (exit_status_ != 0 || !ready_ || !peers_file_.save) return;
  if (const auto saved = peers_file_.save(pool_.readable.get(), history_.readable.get()); !saved)
    log_error("the known peers are not in their file, but in the state database alone: " + saved.error().text);
}

int Supervisor::run() {
  ::signal(SIGPIPE, SIG_IGN);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  ::prctl(PR_SET_DUMPABLE, 0);
  started_ms_ = wall_now_ms();
  try {
    tcp_ = require(
        service::tcp_settings(std::getenv(service::kUserTimeoutVariable), std::getenv(service::kKeepaliveVariable)));
    read_as_map();
    take_directory();
    check_limits();
    bind_all();
    open_identity();
    make_segments();
    make_workers_group();
    loop_.emplace();
    confine();
  } catch (const StartError& error) {
    log_error(error.text);
    workers_group_.remove();
    return static_cast<int>(ProgramExit::kFailed);
  }
  const auto on_signal = [this](int number, uv_signal_cb callback) {
    auto handle = std::make_unique<uv_signal_t>();
    uv_signal_init(loop_->get(), handle.get());
    handle->data = this;
    uv_signal_start(handle.get(), callback, number);
    signals_.push_back(std::move(handle));
  };
  on_signal(SIGCHLD, [](uv_signal_t* handle, int) { static_cast<Supervisor*>(handle->data)->on_children(); });
  for (const int number : {SIGINT, SIGTERM}) {
    on_signal(number, [](uv_signal_t* handle, int) { static_cast<Supervisor*>(handle->data)->stop(0); });
  }
  ping_timer_ = service::Timer(*loop_, [this] { ping_all(); });
  ping_timer_.every(kPingMs);
  stop_timer_ = service::Timer(*loop_, [this] {
    if (stopping_ == Stopping::kController) {
      ::kill(services_[Role::kController].pid, SIGKILL);
    } else {
      for (auto& [role, service] : services_) {
        if (service.pid != 0) ::kill(service.pid, SIGKILL);
      }
    }
  });
  tables_poll_ = service::Poll(*loop_, tables_listener_.get(), [this](int, int) { on_table_client(); });
  tables_poll_.watch(UV_READABLE);
  publish();
  try {
    start(Role::kKeyholder);
    loop_->run();
  } catch (const StartError& error) {
    log_error(error.text);
    exit_status_ = static_cast<int>(ProgramExit::kFailed);
  }
  // Workers leave with their channels; one that does not is not left behind.
  held_.clear();
  for (const char* name : {"tables.sock", "app.sock", "control.sock"}) ::unlink((run_directory_ + "/" + name).c_str());
  const Nanoseconds until = monotonic_now() + kSecond;
  for (;;) {
    const pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
    if (pid < 0) break;
    if (pid == 0) {
      if (monotonic_now() > until) break;
      ::poll(nullptr, 0, 5);
    }
  }
  workers_group_.remove();
  save_peers();
  if (exit_status_ == 0) log_notice("the node has stopped");
  // The loop's handles live as long as the process; there is nothing left that their end would give back.
  ::_exit(exit_status_);
}

}  // namespace

int run(const Settings& settings, const std::string& service_directory, PeersFile peers_file) {
  log_init(role_name(Role::kSupervisor), settings.log_level, settings.log_json);
  return Supervisor(settings, service_directory, std::move(peers_file)).run();
}

}  // namespace bulkhead::supervisor
