#pragma once

#include "services/controller/cli/node_tables.h"
#include "services/controller/cli/options.h"
#include "services/controller/cli/views.h"

/// What the node remembers of one point or one peer, and of all peers as a file. Need the supervisor alone.
namespace bulkhead::cli {

/// Oldest first, as Octez has the log of a point: [time, {"event_kind", "p2p_peer_id", "reason"}]. kRefused: not known.
Result<ShownJson> point_log_json(const NodeTables& tables, const Point& point);
/// The same of a peer: {"kind", "timestamp", "addr", "port", "reason"}.
Result<ShownJson> peer_log_json(const NodeTables& tables, const PeerId& peer);

int run_points_log(const Arguments& arguments);
int run_peers_log(const Arguments& arguments);
int run_peers_export(const Arguments& arguments);

}  // namespace bulkhead::cli
