#pragma once

#include <sys/types.h>
#include <uv.h>

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "base/unix_socket.h"
#include "sandbox/cgroup.h"
#include "schema/channel.h"
#include "services/common/loop.h"
#include "services/common/state_files.h"
#include "services/controller/supervisor/service_manager.h"
#include "services/controller/supervisor/service_process.h"
#include "services/controller/supervisor/supervisor.h"
#include "shm/tables.h"

/// The supervisor's own: what it holds and does, in one class. Its parts: preparation.cc (all before the first
/// service), boot.cc (what each service is given at its start), table_readers.cc (what readers see), supervisor.cc
/// (start, restart, end).
namespace bulkhead::supervisor {

inline constexpr std::array<Role, 5> kServices = {Role::kKeyholder, Role::kController, Role::kAcceptor,
                                                  Role::kMaintainer, Role::kNursery};

/// What follows when the database of a former run cannot be used, and what an operator can do.
inline constexpr const char* kOnANewDatabase =
    "The node goes on with a new one: bans and trust are gone, known peers come from peers.json if there is one. Bring "
    "the lists back with `bulkhead acl import` if there is an export";

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

inline Segment keep(UniqueFd fd) {
  Segment segment;
  segment.readable = require(reopen_read_only(fd.get()));
  segment.writable = std::move(fd);
  return segment;
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
    StartedProcess process;
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
  std::string program_path(Role role) const;
  bool began(Role role);
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
  bool peers_file_is_spent() const;
  std::uint64_t counter(shm::Counter which) const;
  void tell_of_peers_file() const;
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

}  // namespace bulkhead::supervisor
