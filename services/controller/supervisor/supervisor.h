#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "base/settings.h"

namespace bulkhead::supervisor {

/// The peers.json of the data directory, which this folder knows nothing else of.
struct PeersFile {
  UniqueFd rows;             ///< what stands in it, as schema/peer_rows.h has it, sealed; none: it has no peers
  std::uint32_t peers = 0;   ///< rows of the first kind
  std::uint32_t events = 0;  ///< of the second
  bool ours = false;         ///< as this node wrote it when it stopped last
  std::string kept_as;       ///< the name under which save() keeps it, as far as one can tell at the start
  /// Writes it anew after a stop in order. What stands there is kept beside it under another name, unless it is `spent`
  /// and has not changed since the start. Called in the supervisor, confined, when all others have ended; the
  /// descriptors of `pool` and `history` are read-only. May be empty.
  std::function<Result<void>(int pool, int history, bool spent)> save;
};

/// Runs a node in the foreground until SIGINT or SIGTERM. Checks and takes the data directory, makes an identity when
/// there is none (in another process: this one never has the key in its memory), binds, makes the tables, starts the
/// services and keeps what must outlive them. `service_directory` holds bulkhead-controller and the others. Returns the
/// program's exit status; says in one line on standard error what went wrong.
int run(const Settings& settings, const std::string& service_directory, PeersFile peers_file = {});

}  // namespace bulkhead::supervisor
