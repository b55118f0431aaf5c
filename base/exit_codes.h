#pragma once

namespace bulkhead {

/// How a worker ends, as its exit status. The controller maps each to a reason; a status outside this list, or death by
/// a signal, counts as a fault of the worker.
enum class WorkerExit : int {
  kDone = 0,                ///< the connection ended; the reason stands in its last message
  kChannelClosed = 10,      ///< the controller's end of the channel is gone
  kChannelFault = 11,       ///< the controller sent what the protocol between them does not allow
  kConfinementFailed = 12,  ///< a layer of the sandbox could not be set up; nothing was read from the peer
  kSetupFailed = 13,        ///< memory, mapping or loop could not be set up; nothing was read from the peer
  kSandboxViolation = 14,   ///< a system call outside the allow-list; its number stands in the live page
};

/// Exit status of the `bulkhead` program (its contract with scripts).
enum class ProgramExit : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kNoNode = 3,
};

}  // namespace bulkhead
