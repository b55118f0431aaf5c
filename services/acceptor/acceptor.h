#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "schema/channel.h"
#include "services/acceptor/door.h"
#include "services/acceptor/listening.h"
#include "services/acceptor/offenders.h"
#include "services/acceptor/refusals.h"
#include "services/common/loop.h"
#include "shm/tables.h"
#include "wire/proof_of_work.h"

namespace bulkhead::acceptor {

struct AcceptorParts {
  schema::Channel supervisor;
  schema::Channel controller;
  std::vector<UniqueFd> listeners;
  shm::CountersWriter counters;
  shm::ListsTable lists;
  wire::Target target;
  DoorKeys door_keys;  ///< random
  schema::BootAcceptor boot;
};

/// The welcome worker: accepts, peeks at the first 60 bytes, checks one hash and hands the connection on (rule P4). It
/// never takes a byte out of a socket and parses nothing. The shell around Door.
class Acceptor {
 public:
  explicit Acceptor(AcceptorParts parts);
  int run();
  schema::Channel& supervisor() { return parts_.supervisor; }

 private:
  struct Pending {
    UniqueFd socket;
    service::Poll poll;
    Point remote;
    Nanoseconds deadline = 0;
    int low_water = 2;
  };
  struct Ready {
    UniqueFd socket;
    schema::Incoming message;
  };

  void on_sockets(std::span<Listening::Accepted> all);
  void on_socket(UniqueFd socket, const Point& remote, const shm::Verdict& verdict);
  void on_pending(std::uint64_t id, int status, int events);
  void prove(std::uint64_t id, std::span<const std::uint8_t> first);
  void refuse(std::uint64_t id, Reason reason);
  void tell_refused(const Point& remote, Reason reason);
  void tell_left_out();
  void tell_offenders();
  void drop(std::uint64_t id);
  void hand_on();
  void on_deadline();
  void arm_deadline();
  void look_at_lists();
  bool close_if_listed(std::uint64_t id);
  void on_supervisor();

  AcceptorParts parts_;
  service::Loop loop_;
  Listening listening_;
  service::Poll supervisor_poll_;
  service::Poll controller_poll_;
  service::Timer deadline_timer_;
  service::Timer refusal_timer_;
  service::Timer offender_timer_;
  service::Timer lists_timer_;
  Door door_;
  std::map<std::uint64_t, Pending> pending_;
  std::deque<Ready> ready_;
  std::uint64_t next_id_ = 1;
  Refusals refusals_;
  Offenders offenders_;
  std::uint64_t lists_revision_ = 0;  ///< that the pending ones were held against
  int exit_ = 0;
};

}  // namespace bulkhead::acceptor
