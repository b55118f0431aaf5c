#pragma once

#include <optional>

#include "base/ids.h"
#include "base/reasons.h"
#include "shm/history.h"

namespace bulkhead::controller {

/// How a connection, or the attempt at one, ended: what a point and a peer take from it.
struct Ending {
  Reason reason = Reason::kNone;
  bool was_running = false;
  bool was_accepted = false;
  bool refused = false;        ///< it proved itself, and we turned it away
  bool dialled = false;        ///< by us
  std::optional<PeerId> peer;  ///< once proved

  shm::HistoryKind kind() const;
  /// The other side belongs to another network.
  bool other_network() const;
};

}  // namespace bulkhead::controller
