#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"
#include "services/common/loop.h"

namespace bulkhead::acceptor {

/// What an error of accept(2) asks for.
enum class AcceptFailure : std::uint8_t {
  kNobody,        ///< nobody waits
  kAgain,         ///< nothing was wrong
  kOfConnection,  ///< one connection died in the backlog: the next may be whole
  kOfSystem,      ///< descriptors, memory, or what nobody expected: it may last
};
AcceptFailure accept_failure(int error);

/// How long a listening socket is left alone after accept failed: 100 ms, doubling up to 1 s, until one succeeds.
class AcceptBackoff {
 public:
  void accepted() { pause_ms_ = 0; }
  std::uint64_t failed();

 private:
  std::uint64_t pause_ms_ = 0;
};

/// Watches the listening sockets and accepts, some at a time, so that others of the loop get their turn. No error ends
/// it or makes it spin: a socket that cannot be accepted from is left alone for a while, and the kernel's backlog keeps
/// the connections meanwhile. Says so in the log, once a minute. Where connections come within a few milliseconds of
/// one another, they gather in the backlog for one or two, and are accepted together.
class Listening {
 public:
  using Accept = std::function<int(int fd, sockaddr* address, socklen_t* size, int flags)>;
  struct Accepted {
    UniqueFd socket;
    Point remote;
  };
  /// The most that one call of Callbacks::accepted brings.
  static constexpr std::size_t kTogether = 16;
  struct Callbacks {
    /// Those who waited together, in the order of their arrival.
    std::function<void(std::span<Accepted> all)> accepted;
    std::function<void()> failed;  ///< for counting
  };

  /// `sockets` must listen and not block. Watches from start() on. `accept` is replaced in tests alone.
  Listening(service::Loop& loop, std::vector<UniqueFd> sockets, Callbacks callbacks, Accept accept = ::accept4);
  void start();

 private:
  struct Listener {
    UniqueFd socket;
    service::Poll poll;
    service::Timer resume;
    AcceptBackoff backoff;
    Nanoseconds emptied_at = 0;  ///< when there was nobody left to accept
  };

  void on_readable(Listener& listener);
  /// False: nothing more to do on this listener for now.
  bool accept_one(Listener& listener, bool& any);
  void hand_over();
  void let_gather(Listener& listener);
  void pause(Listener& listener);
  void failed(int error);

  std::vector<std::unique_ptr<Listener>> listeners_;
  std::vector<Accepted> accepted_;  ///< and not yet handed over; empty between two wake-ups
  Callbacks callbacks_;
  Accept accept_;
  std::uint64_t failures_ = 0;  ///< since the last line of the log
  Nanoseconds may_log_at_ = 0;
};

}  // namespace bulkhead::acceptor
