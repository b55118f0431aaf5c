#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "schema/peer_rows.h"
#include "services/controller/supervisor/supervisor.h"
#include "shm/history.h"
#include "shm/tables.h"

/// peers.json, as octez-node writes it: an array of peers with their times and events.
namespace bulkhead::cli {

inline constexpr std::size_t kMaximumPeersText = std::size_t{256} << 20;

struct KnownPeers {
  std::vector<schema::KnownPeerRow> peers;
  std::vector<schema::KnownPeerEventRow> events;  ///< of each peer the last, shm::kHistoryEvents at most
};

/// Reads the text of a peers.json, one peer at a time, so that the memory it takes is that of its result. What it does
/// not know in a peer is left out, counters of an application among it. Errors are kRefused and name `file`, the place
/// and the rule.
Result<KnownPeers> parse_peers(std::string_view text, const std::string& file);

/// Writes the known peers of a node's tables as Octez does, one a line. Of a peer all times stand beside the point
/// where it was seen last. Takes the memory of one peer. False, with errno: the descriptor takes no more.
bool write_peers(int fd, const shm::PoolTable& pool, const shm::HistoryTable& history);

/// Reads peers.json of the data directory as `bulkhead run` does. Its path; empty when there is none.
Result<std::string> check_peers_file(const std::string& data_dir);

/// What `bulkhead run` has to know of the file: reads peers.json of the data directory, if there is one, and sees to it
/// that it is written when the node stops.
Result<supervisor::PeersFile> open_peers_file(const std::string& data_dir);

}  // namespace bulkhead::cli
