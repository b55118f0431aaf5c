#pragma once

#include <functional>
#include <map>
#include <optional>

#include "base/clock.h"
#include "base/ids.h"
#include "services/controller/pool.h"

namespace bulkhead::controller {

/// The exchange of a neighbour for a neighbour's neighbour: who is asked, what is answered, and whose place the new one
/// takes. Pure; the caller sends, dials and closes. Source: the swaps of Octez, but a request is answered once, in
/// time, and only where a slot is free; so nobody can go on replacing our neighbours by one request of ours.
///
/// A trusted neighbour is never offered, and of a hardened node only one that came in by itself.
class Swaps {
 public:
  struct Settings {
    bool enabled = true;
    Nanoseconds linger = 30 * kSecond;  ///< between two swaps of ours, and for an answer to a request
  };
  /// To be offered to a neighbour.
  struct Offer {
    SlotRef to;
    SlotRef offered;
    Point point;
    PeerId peer_id{};
  };
  /// A point to dial; when that succeeds, `replaced` is to be closed.
  struct Exchange {
    Point dial;
    SlotRef replaced;
  };

  explicit Swaps(Settings settings) : settings_(settings) {}

  /// The Swap_request of a maintenance run; remembered until it is answered or `linger` has passed.
  std::optional<Offer> propose(const Pool& pool, Now now, const std::function<std::uint64_t()>& random);

  struct Answer {
    Offer ack;  ///< to send back
    Exchange exchange;
  };
  /// A Swap_request came. Nothing: it is ignored.
  std::optional<Answer> requested(const Pool& pool, const SlotRef& from, const Point& point, Now now,
                                  const std::function<std::uint64_t()>& random);
  /// A Swap_ack came. Nothing: it is ignored.
  std::optional<Exchange> acknowledged(const Pool& pool, const SlotRef& from, const Point& point, Now now);

  /// How the dial of an exchange ended.
  void succeeded(Now now);
  void failed() { last_accepted_ = last_successful_; }
  /// A connection is over: what it was asked is forgotten.
  void forget(const SlotRef& ref) { asked_.erase(ref); }

 private:
  struct Asked {
    SlotRef offered;
    Nanoseconds at = 0;
  };
  std::optional<Offer> offer(const Pool& pool, const SlotRef& to, Now now,
                             const std::function<std::uint64_t()>& random) const;
  bool may_dial(const Pool& pool, const Point& point) const;

  Settings settings_;
  std::map<SlotRef, Asked> asked_;
  std::optional<Nanoseconds> last_accepted_;
  std::optional<Nanoseconds> last_successful_;
};

}  // namespace bulkhead::controller
