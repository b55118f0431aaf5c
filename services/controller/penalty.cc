#include "services/controller/penalty.h"

namespace bulkhead::controller {

bool is_worker_fault(Reason reason) {
  return reason == Reason::kWorkerFault || reason == Reason::kSandboxViolation || reason == Reason::kChannelFault;
}

Penalty penalty_for(Reason reason, Phase phase) {
  if (is_worker_fault(reason)) return Penalty::kAddressAndPeer;
  switch (reason) {
    case Reason::kBadLength:
    case Reason::kNotEnoughProofOfWork:
    case Reason::kMalformedConnectionMessage:
    case Reason::kMalformedMetadata:
    case Reason::kDecipherError:
      return phase == Phase::kHandshake ? Penalty::kAddress : Penalty::kNone;
    case Reason::kDecodeError:
      return phase == Phase::kRunning ? Penalty::kAddressAndPeer : Penalty::kNone;
    default:
      return Penalty::kNone;
  }
}

}  // namespace bulkhead::controller
