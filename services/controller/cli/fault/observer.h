#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/result.h"
#include "services/controller/cli/node_tables.h"

/// What a run sees of the node under test: its shared tables and /proc. Asks nothing of any service.
namespace bulkhead::fault {

/// The services that may be struck, in the order of their start.
inline constexpr Role kServices[] = {Role::kKeyholder, Role::kController, Role::kAcceptor, Role::kMaintainer,
                                     Role::kNursery};

struct Connection {
  SlotRef ref;
  PeerId peer_id{};
  pid_t worker = 0;
  bool operator==(const Connection&) const = default;
};

/// One process, as the kernel shows it.
struct ProcessUse {
  std::uint64_t descriptors = 0;
  bool descriptors_known = false;   ///< an ordinary user may not count those of a process that is not dumpable
  std::uint64_t private_bytes = 0;  ///< anonymous memory that is resident
};

/// What a node holds in all, to be compared with itself later.
struct NodeUse {
  std::map<std::string, ProcessUse> services;  ///< by role
  std::size_t processes = 0;                   ///< services and workers
  std::size_t slots = 0;                       ///< not free
  std::uint64_t worker_descriptors = 0;        ///< of the worker that has most
  std::uint64_t worker_bytes = 0;              ///< the same
  std::size_t workers = 0;
  std::uint64_t shared_bytes = 0;  ///< of all segments; 0: not to be seen by this user
};

class Observer {
 public:
  explicit Observer(cli::Node node);

  const cli::NodeTables& tables() const { return node_.tables; }
  pid_t supervisor() const { return node_.supervisor; }
  shm::ProcessRow service(Role role) const;
  bool service_up(Role role) const;
  /// Connections that run, by the controller's table.
  std::vector<Connection> connections() const;
  std::optional<Connection> connection_of(const PeerId& peer) const;
  bool runs(const SlotRef& ref) const;
  /// The slot is still this connection's, running or ending.
  bool holds(const SlotRef& ref) const;
  /// All counters of all services.
  std::vector<std::uint64_t> counters() const;
  std::uint64_t counter(Role role, shm::Counter counter) const;
  std::uint64_t newest_event() const { return node_.tables.events.newest(); }
  /// The reason of the latest disconnection of this peer among the events after number `after`.
  std::optional<Reason> disconnection(const PeerId& peer, std::uint64_t after) const;
  NodeUse use() const;

 private:
  cli::Node node_;
};

/// The processes whose parent is `pid`, zombies included.
std::vector<pid_t> children_of(pid_t pid);
/// State as /proc has it ('R', 'S', 'T', 'Z', ...); 0 when there is no such process.
char process_state(pid_t pid);

/// How long the process was ready to run and had no processor, since its start. 0 where the kernel does not tell.
Nanoseconds waited_for_processor(pid_t pid);
/// How long the processors of this machine were taken by others that share the hardware, added up over the processors,
/// since the machine's start; in steps of 10 ms (`steal` of proc(5), /proc/stat). 0 where the kernel does not tell.
Nanoseconds stolen_from_machine();

/// What leaked between two looks at a node with the same connections; empty: nothing.
std::vector<std::string> leaks(const NodeUse& before, const NodeUse& after);

}  // namespace bulkhead::fault
