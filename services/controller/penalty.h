#pragma once

#include <cstdint>
#include <optional>

#include "base/reasons.h"

namespace bulkhead::controller {

/// How far a connection had come when it ended.
enum class Phase : std::uint8_t { kHandshake, kAck, kRunning };

/// Whom a connection's end speaks against.
enum class Penalty : std::uint8_t { kNone, kAddress, kAddressAndPeer };

/// Whether the way in which a connection ended greylists the other side. Only what nobody does by accident: a false
/// proof of work and bytes that cannot be read before the verdict, a message that cannot be read while running, and the
/// death of the worker by a fault, which its peer may have caused. Not time-outs, closed connections, a refused or
/// unreadable ack, weak keys, or a chunk length below the least. Source: the connect handler of Octez; DESIGN P3 for
/// workers.
Penalty penalty_for(Reason reason, Phase phase);

/// The worker died, or broke its contract, in a way in which no healthy one does.
bool is_worker_fault(Reason reason);

}  // namespace bulkhead::controller
