#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/address.h"
#include "base/clock.h"
#include "base/exit_codes.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "sandbox/cgroup.h"
#include "schema/channel.h"
#include "schema/peer_rows.h"
#include "services/common/loop.h"
#include "services/common/state_files.h"
#include "services/common/tcp_options.h"
#include "services/controller/supervisor/node_supervisor.h"
#include "services/controller/supervisor/service_manager.h"
#include "services/controller/supervisor/service_process.h"
#include "shm/history.h"
#include "shm/link.h"
#include "shm/tables.h"

namespace bulkhead::supervisor {
namespace {

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
// P3: workers forked from one image share its memory layout, and a guesser must not get to try again.
constexpr Nanoseconds kNurseryReplacePeriod = kSecond;

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

}  // namespace

void Supervisor::start(Role role) {
  Service& service = services_[role];
  auto ends = require(socket_pair());
  // It enters the group itself, before it is the nursery, so that every worker is in it.
  const auto groups = role == Role::kNursery ? workers_group_.entrances() : std::vector<int>{};
  auto process = start_service(program_path(role), ends.second.get(), groups);
  if (!process) {
    log_error(process.error().text);
    stop(static_cast<int>(ProgramExit::kFailed));
    return;
  }
  service.pid = process->pid;
  service.process = std::move(*process);
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

std::string Supervisor::program_path(Role role) const {
  return service_directory_ + "/" + program_of(role);
}

// What its process reported on its way to the program. False: it never became the program.
bool Supervisor::began(Role role) {
  while (const auto failure = start_failure(services_[role].process)) {
    if (failure->step == StartFailure::Step::kExec) {
      log_error(cannot_start(program_path(role), failure->errno_value));
      return false;
    }
    log_error(std::string("the ") + role_name(role) + " is in no group: " + std::strerror(failure->errno_value) +
              "; its workers' memory is bounded one by one alone");
  }
  return true;
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
    (void)began(role);
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
                       : "the state database is damaged; " + keeps + "`sqlite3 " + kept +
                             " .recover` may get some of it back. " + kOnANewDatabase);
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
  std::vector<std::pair<Role, int>> services;
  std::vector<schema::Reaped> workers;
  for (;;) {
    int status = 0;
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid <= 0) break;
    const auto service =
        std::find_if(services_.begin(), services_.end(), [pid](const auto& entry) { return entry.second.pid == pid; });
    if (service != services_.end()) {
      // Its number may be another's from now on.
      service->second.pid = 0;
      services.emplace_back(service->first, status);
    } else {
      workers.push_back({static_cast<std::uint32_t>(pid), static_cast<std::uint32_t>(status)});
    }
  }
  // A controller that died hears nothing any more, its successor does. All else waits for whose slots become free.
  std::stable_partition(services.begin(), services.end(),
                        [](const auto& one) { return one.first == Role::kController; });
  const bool controller_died = !services.empty() && services.front().first == Role::kController;
  if (controller_died) on_death(Role::kController, services.front().second);
  for (const auto& worker : workers) send(Role::kController, worker);
  for (std::size_t i = controller_died ? 1 : 0; i < services.size(); ++i)
    on_death(services[i].first, services[i].second);
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
  const bool began_at_all = began(role);
  if (stopping_ != Stopping::kNo) {
    if (role == Role::kController && stopping_ == Stopping::kController) stop_rest();
    finish();
    return;
  }
  if (!began_at_all) {
    stop(static_cast<int>(ProgramExit::kFailed));
    return;
  }
  if (!ready_ && identity_answer_.peer_id == PeerId{}) {
    log_error(std::string(role_name(role)) + " ended before the node was ready: " + describe(wait_status));
    stop(static_cast<int>(ProgramExit::kFailed));
    return;
  }
  ++service.restarts;
  service.quick_deaths = lived < kQuickDeath && !planned ? service.quick_deaths + 1 : 0;
  if (service.quick_deaths >= kMaximumQuickDeaths) {
    log_error(std::string(role_name(role)) + " died " + std::to_string(service.quick_deaths) +
              " times within seconds of its start (" + describe(wait_status) +
              "); the node stops. The lines above say why it ends.");
    stop(static_cast<int>(ProgramExit::kFailed));
    return;
  }
  if (!planned) log_warning(std::string(role_name(role)) + " died (" + describe(wait_status) + "); starting it anew");
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

void Supervisor::check_ready() {
  const bool all = std::all_of(kServices.begin(), kServices.end(),
                               [this](Role role) { return services_.contains(role) && services_[role].ready; });
  if (all && !ready_) {
    ready_ = true;
    tell_of_peers_file();
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

// Whether a new peers.json may take the place of the one that was there at the start. The controller, which looked at
// it, says what it is to the node.
bool Supervisor::peers_file_is_spent() const {
  if (peers_file_.peers == 0) return true;
  const auto use = static_cast<schema::PeersFileUse>(counter(shm::Counter::kPeersFileUse));
  return use == schema::PeersFileUse::kWhole || (use == schema::PeersFileUse::kNotRead && peers_file_.ours);
}

std::uint64_t Supervisor::counter(shm::Counter which) const {
  const auto counters = shm::CountersTable::map(counters_.readable.get());
  return counters ? counters->get(Role::kController, which) : 0;
}

void Supervisor::tell_of_peers_file() const {
  if (peers_file_is_spent()) return;
  const auto use = static_cast<schema::PeersFileUse>(counter(shm::Counter::kPeersFileUse));
  const char* why = use == schema::PeersFileUse::kNotRead
                        ? "was not read, because the state database knows peers already"
                    : use == schema::PeersFileUse::kInPart ? "was read in part, because there is no room for more peers"
                                                           : "could not be taken over";
  log_warning(std::string("peers.json ") + why + "; " + std::to_string(counter(shm::Counter::kPeersFileLeftOut)) +
              " of its " + std::to_string(peers_file_.peers) +
              " peers are not known here, or not trusted. It will be kept as " + peers_file_.kept_as +
              " when this node stops and writes its own");
}

void Supervisor::save_peers() {
  if (exit_status_ != 0 || !ready_ || !peers_file_.save) return;
  if (const auto saved = peers_file_.save(pool_.readable.get(), history_.readable.get(), peers_file_is_spent()); !saved)
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
  std::vector<int> ends = {SIGINT, SIGTERM};
  // Its terminal is gone. Under nohup(1) it goes on.
  struct sigaction hangup {};
  if (::sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) ends.push_back(SIGHUP);
  for (const int number : ends) {
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

int run(const Settings& settings, const std::string& service_directory, PeersFile peers_file) {
  log_init(role_name(Role::kSupervisor), settings.log_level, settings.log_json);
  return Supervisor(settings, service_directory, std::move(peers_file)).run();
}

}  // namespace bulkhead::supervisor
