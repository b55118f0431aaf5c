#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/settings.h"
#include "schema/channel.h"
#include "shm/lists.h"
#include "shm/tables.h"
#include "tests/integration/process.h"

namespace bulkhead::testing {

struct AcceptorOptions {
  DoorLimits door{};
  std::uint32_t authentication_timeout_ms = 5000;
  double expected_pow = 1;
  LogLevel log_level = LogLevel::kError;
  std::uint32_t list_capacity = 4096;
  int backlog = 4096;
};

/// The program bulkhead-acceptor without a node: this process is its supervisor, its controller, and the writer of the
/// lists. Ends with the object.
class AcceptorAlone {
 public:
  explicit AcceptorAlone(AcceptorOptions options = {}) : options_(options) {}
  ~AcceptorAlone();
  AcceptorAlone(const AcceptorAlone&) = delete;
  AcceptorAlone& operator=(const AcceptorAlone&) = delete;

  /// Listens on a fresh address of loopback and waits until the program is ready.
  Result<void> start();

  const Point& point() const { return point_; }
  pid_t pid() const { return pid_; }
  shm::ListsWriter& lists() { return *lists_; }
  /// A prefix on the black list from now on.
  void ban(const std::string& prefix);

  std::uint64_t count(Reason reason) const { return counters_->get(Role::kAcceptor, reason); }
  std::uint64_t count(shm::Counter counter) const { return counters_->get(Role::kAcceptor, counter); }
  /// What it tells the controller; the descriptor of an Incoming is closed. Nothing when nothing came in time.
  std::optional<schema::FromAcceptor> next(Milliseconds timeout);

  /// A connection to it from that address of loopback, non-blocking from the moment that it stands. Empty: refused by
  /// the kernel, errno says why.
  UniqueFd connect(const std::string& source) const;

 private:
  AcceptorOptions options_;
  Point point_;
  pid_t pid_ = -1;
  schema::Channel supervisor_;
  schema::Channel controller_;
  std::optional<shm::CountersTable> counters_;
  std::optional<shm::ListsWriter> lists_;
};

}  // namespace bulkhead::testing
