#pragma once

#include <deque>
#include <vector>

#include "sandbox/seccomp.h"
#include "schema/channel.h"
#include "shm/tables.h"

namespace bulkhead::conn {

/// What the nursery holds: nothing secret, ever. Its memory is what every worker starts from.
struct NurseryParts {
  schema::Channel supervisor;
  schema::Channel controller;
  UniqueFd live;
  UniqueFd taken;
  UniqueFd outward;
  shm::CountersWriter counters;
  schema::BootNursery boot;
  sandbox::Program worker_filter;
  bool pid_namespaces = false;  ///< each worker gets one of its own (rule P3)
};

/// Forks a worker for each connection, ends one at the controller's word, reaps and reports. A ppoll loop on one
/// thread, so that a fork copies no lock and no loop; SIGCHLD is open only inside ppoll.
class Nursery {
 public:
  explicit Nursery(NurseryParts parts);

  /// Tries it once, with a child that ends at once.
  static bool can_make_pid_namespaces();

  /// Until the supervisor's channel closes. In a worker it does not return.
  int run();

 private:
  struct Child {
    Generation generation = 0;
    int pid = 0;
  };

  void on_supervisor();
  void on_controller();
  void spawn(const schema::Spawn& request, schema::Descriptors& descriptors);
  void end_worker(const schema::EndWorker& request);
  void end_all();
  void reap();
  void report(schema::FromNursery message);
  void flush();

  NurseryParts parts_;
  std::vector<Child> children_;  ///< by slot
  std::deque<schema::FromNursery> reports_;
  bool untold_ = false;  ///< a child has ended, and the controller's channel had no room for it
  bool running_ = true;
  bool asked_to_stop_ = false;
};

}  // namespace bulkhead::conn
