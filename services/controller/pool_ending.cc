#include "services/controller/pool_ending.h"

namespace bulkhead::controller {
namespace {

// What we wanted ourselves, as against what the other side did or what went wrong.
bool is_our_wish(Reason reason) {
  switch (reason) {
    case Reason::kKicked:
    case Reason::kDisconnectedByApplication:
    case Reason::kBanned:
    case Reason::kPeerBanned:
    case Reason::kGreylisted:
    case Reason::kPeerGreylisted:
    case Reason::kUnexpectedPeerId:
    case Reason::kDecodeError:
    case Reason::kMaintenanceTooMany:
    case Reason::kPeerSwapped:
    case Reason::kMadeRoom:
    case Reason::kFeelerDone:
    case Reason::kNodeStopping:
      return true;
    default:
      return false;
  }
}

}  // namespace

shm::HistoryKind Ending::kind() const {
  if (was_running)
    return is_our_wish(reason) ? shm::HistoryKind::kDisconnection : shm::HistoryKind::kExternalDisconnection;
  return refused ? shm::HistoryKind::kRejectingRequest : shm::HistoryKind::kRequestRejected;
}

bool Ending::other_network() const {
  return reason == Reason::kUnknownChainName || reason == Reason::kDeprecatedDistributedDbVersion ||
         reason == Reason::kDeprecatedP2pVersion;
}

}  // namespace bulkhead::controller
