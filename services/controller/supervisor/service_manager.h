#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"

namespace bulkhead::supervisor {

/// A descriptor that the service manager passed with the start of this process.
struct GivenDescriptor {
  UniqueFd fd;
  std::string name;  ///< as it was stored; empty when the manager gave none
};

/// What a service manager says through the environment; the names are those of sd_notify(3), sd_listen_fds(3) and
/// systemd.exec(5). The environment is trusted, as its author starts us.
struct ManagerEnvironment {
  std::string notify_socket;       ///< a path, or '@' and an abstract name; empty: nobody listens
  Nanoseconds watchdog = 0;        ///< it wants a sign of life at least that often; 0: it does not
  std::string credentials;         ///< directory of credentials; empty: none
  std::vector<std::string> given;  ///< names of the descriptors passed, from descriptor 3 on
};

/// Reads one variable of the environment; nullptr when it is not set.
using Variable = std::function<const char*(const char*)>;

/// What concerns process `self`. Whatever is malformed, or meant for another process, counts as not said.
ManagerEnvironment read_manager_environment(const Variable& variable, pid_t self);

/// True when WATCHDOG=1 is to be sent now: half of `interval` will have passed before the next question, which comes
/// after `tick`. `fed` is when it was sent last.
bool watchdog_due(Nanoseconds now, Nanoseconds fed, Nanoseconds interval, Nanoseconds tick);

/// The service manager that started this process, or none: then everything here does nothing. Never blocks for long:
/// the manager's socket is a datagram socket of a process that reads. Of one thread.
class ServiceManager {
 public:
  /// Takes what the manager said out of the environment, so that nothing started from here takes it for its own, and
  /// the descriptors that it passed. To be made before this process opens or starts anything.
  ServiceManager();

  /// `text` is for people (`systemctl status`).
  void ready(const std::string& text);
  void stopping();
  /// To be called every `tick`. Says that all is well, as often as the manager wants it, while `healthy`; silence has
  /// the manager start everything anew.
  void feed_watchdog(Nanoseconds now, Nanoseconds tick, bool healthy);

  /// Has the manager keep a copy of `fd` beyond the end of this process. `name` has no ':' and at most 255 bytes.
  /// Storing a descriptor again does no harm.
  void store(const std::string& name, int fd);
  /// Has the manager close what it keeps under `name`, and waits until it did so (at most 5 seconds).
  void discard(const std::string& name);
  /// The descriptors that were passed, close-on-exec, for whom they concern. Empty the second time.
  std::vector<GivenDescriptor> take_given() { return std::move(given_); }

  /// Opens a credential for reading. kNotFound when the manager passed none of that name.
  Result<UniqueFd> open_credential(const std::string& name) const;

 private:
  bool send(std::string_view state, int fd = -1);

  ManagerEnvironment environment_;
  UniqueFd socket_;
  bool complained_ = false;
  std::vector<GivenDescriptor> given_;
  Nanoseconds fed_ = 0;
};

}  // namespace bulkhead::supervisor
