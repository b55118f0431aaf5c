#pragma once

#include <functional>
#include <map>
#include <optional>

#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/reasons.h"
#include "base/settings.h"
#include "services/common/loop.h"

namespace bulkhead::maintainer {

/// TCP connects, many at once, each with its deadline. One thread; callbacks come from the loop, never from dial().
class Dialer {
 public:
  struct Outcome {
    std::uint64_t id = 0;
    Point point;
    Nanoseconds deadline = 0;
    UniqueFd socket;                ///< connected, options set; empty on failure
    Reason reason = Reason::kNone;  ///< of the failure
  };
  using Callback = std::function<void(Outcome)>;

  Dialer(service::Loop& loop, std::optional<Address> source, const TcpSettings& tcp, Callback callback);

  void dial(std::uint64_t id, const Point& point, Nanoseconds deadline);
  /// Gives it up without an outcome.
  void cancel(std::uint64_t id);
  std::size_t in_flight() const { return attempts_.size(); }

 private:
  struct Attempt {
    UniqueFd socket;
    service::Poll poll;
    service::Timer timer;
    Point point;
    Nanoseconds deadline = 0;
    Reason failed_at_once = Reason::kNone;
  };
  void on_event(std::uint64_t id);
  void finish(std::uint64_t id, Reason reason);

  service::Loop& loop_;
  std::optional<Address> source_;
  TcpSettings tcp_;
  Callback callback_;
  std::map<std::uint64_t, Attempt> attempts_;
};

}  // namespace bulkhead::maintainer
