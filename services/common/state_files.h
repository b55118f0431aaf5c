#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"

/// The files of the node's state. The supervisor opens them by name; the controller is given the descriptors and opens
/// nothing.
namespace bulkhead::service {

/// Open for reading and writing.
struct StateFiles {
  UniqueFd database;  ///< state.db
  UniqueFd log;       ///< state.db-wal: what SQLite has not moved into the database yet
};

/// Opens the directory `state` of the data directory, and makes it (mode 0700) when it is not there. Made by root, it
/// gets the owner of the data directory, so that the node can be started by that user again. Texts of errors of these
/// functions begin with the file's path below the data directory.
Result<UniqueFd> open_state_directory(const std::string& data_directory);

/// Opens state.db in the directory, and makes it (mode 0600, with the directory's owner) when it is not there. Only a
/// plain file, no link. It is locked for as long as a copy of its descriptor is open, in a way that other programs
/// which use SQLite respect; whoever wants it again copies the descriptor.
Result<UniqueFd> open_state_database(int directory);
/// The same for state.db-wal, without a lock.
Result<UniqueFd> open_state_log(int directory);

/// Gives a damaged database and its log, or the log alone, other names in the same directory:
/// `state.db.damaged-<UTC time>`, and the same with `-wal`, where SQLite's tools look for the log. Nothing is deleted.
/// Returns the new name of the database (or of the log). Descriptors that are open go on referring to the old files.
Result<std::string> set_aside_state(int directory, bool log_only, std::int64_t now_ms);

/// Beside the database, made when a node that had one stops in order: says which peers.json is its work.
inline constexpr const char* kPeersMark = "peers.json.written";

/// To be called before open_state_database(): whether a node has had a database here (kPeersMark), and there is none.
bool lost_state(int directory);

/// To be called before open_state_database(): does the same with a database of no bytes, without a log that has any,
/// where a node has had one that was not empty (kPeersMark). SQLite would take it for a new one. Returns its new name;
/// nothing when there is no such file, as on a first start, one that ended before anything was stored among them.
Result<std::optional<std::string>> set_aside_empty_state(int directory, std::int64_t now_ms);

}  // namespace bulkhead::service
