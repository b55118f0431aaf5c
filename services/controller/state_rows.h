#pragma once

#include <string>

#include "services/controller/state_database.h"
#include "services/controller/store.h"

/// The tables of the state database: what a row looks like, and what may stand in it. For the store.
namespace bulkhead::controller {

/// Makes the tables in an empty database, brings an older one up to date, and checks that the schema is ours, word for
/// word. Errors as Store::open().
Result<void> prepare_schema(Database& database);

/// What breaks a rule in this change; empty: nothing does.
std::string fault_of(const Change& change);

/// Names the point or the peer whose history a row belongs to: its bytes.
std::string subject_of(const Point& point);
std::string subject_of(const PeerId& peer);

/// A row of a history: of its subject the `number`th, counted from 0. Another one in the same slot is replaced.
struct HistoryRow {
  std::string subject;
  std::uint64_t number = 0;
  std::uint32_t slot = 0;  ///< of no meaning where it is read
  HistoryEntry entry;
};
struct ClearHistory {
  std::string subject;
};

// Each writes what was checked before, within a transaction of the caller.
Result<void> put(Database& database, const AclEntry& entry);
Result<void> put(Database& database, const RemoveAcl& removed);
Result<void> put(Database& database, const ClearList& cleared);
Result<void> put(Database& database, const PointEntry& entry);
Result<void> put(Database& database, const RemovePoint& removed);
Result<void> put(Database& database, const PeerEntry& entry);
Result<void> put(Database& database, const RemovePeer& removed);
Result<void> put(Database& database, const HistoryRow& row);
Result<void> put(Database& database, const ClearHistory& cleared);
Result<void> put(Database& database, const SetAnchors& anchors);
Result<void> put(Database& database, const Setting& setting);
Result<void> put(Database& database, const RemoveSetting& removed);

/// Deletes the entries of lists that ended by `now_ms`; their number.
Result<std::uint64_t> delete_expired(Database& database, std::int64_t now_ms);

/// Reads all tables. `history` has the rows' numbers, for the caller to go on counting.
struct Rows {
  Stored stored;
  std::vector<HistoryRow> history;
};
Result<Rows> read_rows(Database& database, std::int64_t now_ms);

}  // namespace bulkhead::controller
