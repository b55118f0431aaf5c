#include "services/controller/state_rows.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace bulkhead::controller {
namespace {

constexpr std::int64_t kApplicationId = 0x42756c6b;  // "Bulk"
constexpr std::int64_t kVersion = 1;
constexpr const char* kSetVersion = "PRAGMA user_version=1";
constexpr const char* kSetApplication = "PRAGMA application_id=1114991723";
static_assert(kApplicationId == 1114991723);

// Sorted by name, as they are read back for the comparison.
constexpr std::array<const char*, 6> kTables = {
    "CREATE TABLE acl(list INTEGER NOT NULL, is_peer INTEGER NOT NULL, subject BLOB NOT NULL, length INTEGER NOT NULL,"
    " since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL, reason INTEGER NOT NULL, set_by INTEGER NOT NULL,"
    " text BLOB NOT NULL, PRIMARY KEY(list, is_peer, subject, length)) STRICT, WITHOUT ROWID",
    "CREATE TABLE anchors(position INTEGER PRIMARY KEY, point BLOB NOT NULL) STRICT",
    "CREATE TABLE history(subject BLOB NOT NULL, slot INTEGER NOT NULL, number INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " time_ms INTEGER NOT NULL, point BLOB, peer BLOB, reason INTEGER NOT NULL, PRIMARY KEY(subject, slot)) STRICT,"
    " WITHOUT ROWID",
    "CREATE TABLE peers(id BLOB NOT NULL PRIMARY KEY, trusted INTEGER NOT NULL, score REAL NOT NULL,"
    " score_ms INTEGER NOT NULL, point BLOB, metadata_flags INTEGER NOT NULL, created_ms INTEGER NOT NULL,"
    " failed_ms INTEGER NOT NULL, rejected_ms INTEGER NOT NULL, established_ms INTEGER NOT NULL,"
    " disconnection_ms INTEGER NOT NULL, application BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE points(point BLOB NOT NULL PRIMARY KEY, trusted INTEGER NOT NULL, known_public INTEGER NOT NULL,"
    " expected_peer BLOB, failed_ms INTEGER NOT NULL, rejected_ms INTEGER NOT NULL, established_ms INTEGER NOT NULL,"
    " disconnection_ms INTEGER NOT NULL, source BLOB, source_length INTEGER NOT NULL, tried INTEGER NOT NULL) STRICT,"
    " WITHOUT ROWID",
    "CREATE TABLE settings(name BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID"};

constexpr std::int64_t kLastMs = kLastStoredMs;
constexpr std::int64_t kLastNumber = std::int64_t{1} << 53;
constexpr std::uint8_t kLastSetBy = 15;
constexpr std::uint8_t kLastLength = 128;
constexpr std::size_t kPointBytes = 18;
constexpr std::size_t kPeerBytes = 16;

// What is read of a file that is larger than any that this program writes.
constexpr std::size_t kMostAcl = 4'000'000;
constexpr std::size_t kMostPoints = 100'000;
constexpr std::size_t kMostPeers = 100'000;
constexpr std::size_t kMostSettings = 256;

// ---- values

using PointBytes = std::array<std::uint8_t, kPointBytes>;

PointBytes to_bytes(const Point& point) {
  PointBytes bytes{};
  std::copy(point.address.bytes.begin(), point.address.bytes.end(), bytes.begin());
  bytes[16] = static_cast<std::uint8_t>(point.port >> 8);
  bytes[17] = static_cast<std::uint8_t>(point.port);
  return bytes;
}

Point to_point(std::span<const std::uint8_t, kPointBytes> bytes) {
  Point point;
  std::copy_n(bytes.begin(), 16, point.address.bytes.begin());
  point.port = static_cast<std::uint16_t>(bytes[16] << 8 | bytes[17]);
  return point;
}

std::span<const std::uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

void bind(Statement& s, const std::optional<Point>& point) {
  if (point) {
    s.bytes(to_bytes(*point));
  } else {
    s.null();
  }
}
void bind(Statement& s, const std::optional<PeerId>& peer) {
  if (peer) {
    s.bytes(*peer);
  } else {
    s.null();
  }
}
void bind(Statement& s, const StoredTimes& times) {
  s.integer(times.failed_ms).integer(times.rejected_ms).integer(times.established_ms).integer(times.disconnection_ms);
}

template <typename Number>
bool get(const Statement& s, int column, std::int64_t most, Number& value) {
  std::int64_t read = 0;
  if (!s.get(column, 0, most, read)) return false;
  value = static_cast<Number>(read);
  return true;
}
bool get_time(const Statement& s, int column, std::int64_t& value) {
  return s.get(column, 0, kLastMs, value);
}
bool get_times(const Statement& s, int column, StoredTimes& times) {
  return get_time(s, column, times.failed_ms) && get_time(s, column + 1, times.rejected_ms) &&
         get_time(s, column + 2, times.established_ms) && get_time(s, column + 3, times.disconnection_ms);
}
bool get_reason(const Statement& s, int column, Reason& reason) {
  std::uint64_t value = 0;
  if (!get(s, column, static_cast<std::int64_t>(kReasonCount) - 1, value)) return false;
  const auto known = reason_from_value(value);
  if (known) reason = *known;
  return known.has_value();
}
bool get_point(const Statement& s, int column, Point& point) {
  PointBytes bytes{};
  if (!s.get(column, bytes)) return false;
  point = to_point(bytes);
  return true;
}
bool get_optional(const Statement& s, int column, std::optional<Point>& point) {
  return s.is_null(column) || get_point(s, column, point.emplace());
}
bool get_optional(const Statement& s, int column, std::optional<PeerId>& peer) {
  return s.is_null(column) || s.get(column, peer.emplace());
}
bool get_optional(const Statement& s, int column, std::optional<Address>& address) {
  return s.is_null(column) || s.get(column, address.emplace().bytes);
}
template <typename Bytes>
bool get_bytes(const Statement& s, int column, std::size_t most, Bytes& value) {
  std::span<const std::uint8_t> bytes;
  if (!s.get(column, most, bytes)) return false;
  value.assign(bytes.begin(), bytes.end());
  return true;
}

// ---- rows

bool read(const Statement& s, AclEntry& entry) {
  return get(s, 0, 2, entry.key.list) && get(s, 1, 1, entry.key.is_peer) && s.get(2, entry.key.subject) &&
         get(s, 3, kLastLength, entry.key.length) && get_time(s, 4, entry.since_ms) && get_time(s, 5, entry.until_ms) &&
         get_reason(s, 6, entry.reason) && get(s, 7, kLastSetBy, entry.set_by) &&
         get_bytes(s, 8, kMaximumStoredText, entry.text) && fault_of(entry).empty();
}

bool read(const Statement& s, PointEntry& entry) {
  return get_point(s, 0, entry.point) && get(s, 1, 1, entry.trusted) && get(s, 2, 1, entry.known_public) &&
         get_optional(s, 3, entry.expected_peer_id) && get_times(s, 4, entry.last) &&
         get_optional(s, 8, entry.source) && get(s, 9, kLastLength, entry.source_length) &&
         get(s, 10, 1, entry.tried) && fault_of(entry).empty();
}

bool read(const Statement& s, PeerEntry& entry) {
  return s.get(0, entry.id) && get(s, 1, 1, entry.trusted) && s.get(2, entry.score) && get_time(s, 3, entry.score_ms) &&
         get_optional(s, 4, entry.point) && get(s, 5, UINT8_MAX, entry.metadata_flags) &&
         get_time(s, 6, entry.created_ms) && get_times(s, 7, entry.last) &&
         get_bytes(s, 11, kMaximumApplicationBytes, entry.application) && fault_of(entry).empty();
}

bool read(const Statement& s, HistoryRow& row) {
  HistoryEntry& entry = row.entry;
  if (!get_bytes(s, 0, kPointBytes, row.subject)) return false;
  const auto bytes = bytes_of(row.subject);
  if (bytes.size() == kPointBytes) {
    entry.of = to_point(bytes.first<kPointBytes>());
  } else if (bytes.size() == kPeerBytes) {
    std::copy(bytes.begin(), bytes.end(), entry.of.emplace<PeerId>().begin());
  } else {
    return false;
  }
  return get(s, 1, kLastNumber, row.number) && get(s, 2, UINT8_MAX, entry.kind) && get_time(s, 3, entry.time_ms) &&
         get_optional(s, 4, entry.point) && get_optional(s, 5, entry.peer) && get_reason(s, 6, entry.reason);
}

bool read(const Statement& s, Setting& setting) {
  return get_bytes(s, 0, kMaximumSettingName, setting.name) && get_bytes(s, 1, kMaximumSettingBytes, setting.value) &&
         fault_of(setting).empty();
}

bool read(const Statement& s, Point& point) {
  return get_point(s, 0, point);
}

template <typename Row>
Result<void> read_all(Database& database, const char* sql, std::size_t most, std::vector<Row>& rows,
                      std::uint64_t& left_out) {
  auto statement = database.prepare(sql);
  if (!statement) return statement.error();
  for (;;) {
    const int result = statement->step();
    if (result == SQLITE_DONE) return {};
    if (result != SQLITE_ROW) return database.failure("cannot be read");
    Row row{};
    if (rows.size() < most && read(*statement, row)) {
      rows.push_back(std::move(row));
    } else {
      ++left_out;
    }
  }
}

// ---- rules

std::string fault_of_time(std::int64_t time) {
  return time >= 0 && time <= kLastMs ? "" : "a time outside 1970 to 9999";
}

std::string fault_of_times(const StoredTimes& times) {
  for (const std::int64_t time : {times.failed_ms, times.rejected_ms, times.established_ms, times.disconnection_ms}) {
    if (auto fault = fault_of_time(time); !fault.empty()) return fault;
  }
  return {};
}

std::string first_of(std::initializer_list<std::string> faults) {
  for (const auto& fault : faults) {
    if (!fault.empty()) return fault;
  }
  return {};
}

std::string fault_when(bool broken, const char* what) {
  return broken ? what : "";
}

bool bits_beyond(std::span<const std::uint8_t, 16> bytes, std::size_t length) {
  for (std::size_t bit = length; bit < 128; ++bit) {
    if ((bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) return true;
  }
  return false;
}

std::string fault_in(const AclKey& key) {
  return first_of({fault_when(key.list > StoredList::kGrey, "an unknown list"),
                   fault_when(key.length > kLastLength, "a prefix longer than its address"),
                   fault_when(key.is_peer && key.length != kLastLength, "a part of a peer id"),
                   fault_when(key.length <= kLastLength && bits_beyond(key.subject, key.length),
                              "a prefix with bits beyond its length")});
}
std::string fault_in(const AclEntry& entry) {
  return first_of({fault_in(entry.key), fault_of_time(entry.since_ms), fault_of_time(entry.until_ms),
                   fault_when(static_cast<std::size_t>(entry.reason) >= kReasonCount, "an unknown reason"),
                   fault_when(entry.set_by > kLastSetBy, "an unknown author"),
                   fault_when(entry.text.size() > kMaximumStoredText, "a text of more than 255 bytes")});
}
std::string fault_in(const RemoveAcl& removed) {
  return fault_in(removed.key);
}
std::string fault_in(const ClearList& cleared) {
  return fault_when(cleared.list > StoredList::kGrey, "an unknown list");
}
std::string fault_in(const PointEntry& entry) {
  return first_of(
      {fault_of_times(entry.last), fault_when(entry.source_length > kLastLength, "a prefix longer than its address")});
}
std::string fault_in(const PeerEntry& entry) {
  return first_of(
      {fault_when(!std::isfinite(entry.score), "a score that is not finite"), fault_of_time(entry.score_ms),
       fault_of_time(entry.created_ms), fault_of_times(entry.last),
       fault_when(entry.application.size() > kMaximumApplicationBytes, "metadata of more than 1024 bytes")});
}
std::string fault_in(const HistoryEntry& entry) {
  return first_of(
      {fault_of_time(entry.time_ms),
       fault_when(static_cast<std::size_t>(entry.reason) >= kReasonCount, "an unknown reason"),
       fault_when(entry.number.value_or(0) > static_cast<std::uint64_t>(kLastNumber), "a number beyond all events")});
}
std::string fault_of_name(const std::string& name) {
  return fault_when(name.empty() || name.size() > kMaximumSettingName,
                    "a setting's name that is not 1 to 64 bytes long");
}
std::string fault_in(const SetAnchors& anchors) {
  return fault_when(anchors.points.size() > kMaximumAnchors, "more than 64 anchors");
}
std::string fault_in(const Setting& setting) {
  return first_of({fault_of_name(setting.name),
                   fault_when(setting.value.size() > kMaximumSettingBytes, "a setting of more than 1024 bytes")});
}
std::string fault_in(const RemoveSetting& removed) {
  return fault_of_name(removed.name);
}
std::string fault_in(const RemovePoint&) {
  return {};
}
std::string fault_in(const RemovePeer&) {
  return {};
}

// ---- schema

Result<void> make_tables(Database& database) {
  if (auto begun = database.begin(); !begun) return begun;
  Result<void> outcome;
  for (const char* sql : kTables) {
    if (outcome) outcome = database.run(sql);
  }
  for (const char* sql : {kSetApplication, kSetVersion}) {
    if (outcome) outcome = database.run(sql);
  }
  return database.end(std::move(outcome));
}

Result<void> check_tables(Database& database) {
  auto statement = database.prepare("SELECT CAST(sql AS BLOB) FROM sqlite_schema ORDER BY name");
  if (!statement) return statement.error();
  std::size_t row = 0;
  int result = statement->step();
  for (; result == SQLITE_ROW; result = statement->step(), ++row) {
    std::string sql;
    if (row >= kTables.size() || !get_bytes(*statement, 0, 2048, sql) || sql != kTables[row]) return foreign();
  }
  if (result != SQLITE_DONE) return database.failure("cannot be read");
  if (row != kTables.size()) return foreign();
  return {};
}

}  // namespace

Result<void> prepare_schema(Database& database) {
  const auto version = database.number("PRAGMA user_version");
  if (!version) return version.error();
  const auto application = database.number("PRAGMA application_id");
  if (!application) return application.error();
  const auto objects = database.number("SELECT count(*) FROM sqlite_schema");
  if (!objects) return objects.error();
  if (*version == 0 && *application == 0 && *objects == 0) {
    if (auto made = make_tables(database); !made) return made;
  } else if (*application != kApplicationId || *version < 1) {
    return foreign();
  } else if (*version > kVersion) {
    return Error{ErrorCode::kRefused, "the state database has version " + std::to_string(*version) +
                                          ", which a later version of this program made; this one knows version " +
                                          std::to_string(kVersion) + ". Use that program, or move state/ away"};
  }
  return check_tables(database);
}

std::string fault_of(const Change& change) {
  return std::visit([](const auto& value) { return fault_in(value); }, change);
}

std::string subject_of(const Point& point) {
  const PointBytes bytes = to_bytes(point);
  return {bytes.begin(), bytes.end()};
}

std::string subject_of(const PeerId& peer) {
  return {peer.begin(), peer.end()};
}

// ---- writing

namespace {

Statement& bind(Statement& s, const AclKey& key) {
  return s.integer(static_cast<std::int64_t>(key.list)).integer(key.is_peer).bytes(key.subject).integer(key.length);
}

// Prepares, binds and runs.
template <typename Bind>
Result<void> write(Database& database, const char* sql, Bind bind_values) {
  auto statement = database.prepare(sql);
  if (!statement) return statement.error();
  bind_values(*statement);
  return database.finish(*statement, "cannot be written");
}

}  // namespace

Result<void> put(Database& database, const AclEntry& entry) {
  return write(database, "INSERT OR REPLACE INTO acl VALUES(?,?,?,?,?,?,?,?,?)", [&](Statement& s) {
    bind(s, entry.key).integer(entry.since_ms).integer(entry.until_ms);
    s.integer(static_cast<std::int64_t>(entry.reason)).integer(entry.set_by).bytes(entry.text);
  });
}

Result<void> put(Database& database, const RemoveAcl& removed) {
  return write(database, "DELETE FROM acl WHERE list=? AND is_peer=? AND subject=? AND length=?",
               [&](Statement& s) { bind(s, removed.key); });
}

Result<void> put(Database& database, const ClearList& cleared) {
  return write(database, "DELETE FROM acl WHERE list=?",
               [&](Statement& s) { s.integer(static_cast<std::int64_t>(cleared.list)); });
}

Result<void> put(Database& database, const PointEntry& entry) {
  return write(database, "INSERT OR REPLACE INTO points VALUES(?,?,?,?,?,?,?,?,?,?,?)", [&](Statement& s) {
    s.bytes(to_bytes(entry.point)).integer(entry.trusted).integer(entry.known_public);
    bind(s, entry.expected_peer_id);
    bind(s, entry.last);
    if (entry.source) {
      s.bytes(entry.source->bytes);
    } else {
      s.null();
    }
    s.integer(entry.source_length).integer(entry.tried);
  });
}

Result<void> put(Database& database, const RemovePoint& removed) {
  return write(database, "DELETE FROM points WHERE point=?", [&](Statement& s) { s.bytes(to_bytes(removed.point)); });
}

Result<void> put(Database& database, const PeerEntry& entry) {
  return write(database, "INSERT OR REPLACE INTO peers VALUES(?,?,?,?,?,?,?,?,?,?,?,?)", [&](Statement& s) {
    s.bytes(entry.id).integer(entry.trusted).real(entry.score).integer(entry.score_ms);
    bind(s, entry.point);
    s.integer(entry.metadata_flags).integer(entry.created_ms);
    bind(s, entry.last);
    s.bytes(entry.application);
  });
}

Result<void> put(Database& database, const RemovePeer& removed) {
  return write(database, "DELETE FROM peers WHERE id=?", [&](Statement& s) { s.bytes(removed.id); });
}

Result<void> put(Database& database, const HistoryRow& row) {
  return write(database, "INSERT OR REPLACE INTO history VALUES(?,?,?,?,?,?,?,?)", [&](Statement& s) {
    const auto number = static_cast<std::int64_t>(row.number);
    s.bytes(row.subject).integer(row.slot).integer(number);
    s.integer(row.entry.kind).integer(row.entry.time_ms);
    bind(s, row.entry.point);
    bind(s, row.entry.peer);
    s.integer(static_cast<std::int64_t>(row.entry.reason));
  });
}

Result<void> put(Database& database, const ClearHistory& cleared) {
  return write(database, "DELETE FROM history WHERE subject=?", [&](Statement& s) { s.bytes(cleared.subject); });
}

Result<void> put(Database& database, const SetAnchors& anchors) {
  auto done = write(database, "DELETE FROM anchors", [](Statement&) {});
  std::int64_t position = 0;
  for (const Point& point : anchors.points) {
    if (!done) return done;
    done = write(database, "INSERT INTO anchors VALUES(?,?)",
                 [&](Statement& s) { s.integer(position++).bytes(to_bytes(point)); });
  }
  return done;
}

Result<void> put(Database& database, const Setting& setting) {
  return write(database, "INSERT OR REPLACE INTO settings VALUES(?,?)",
               [&](Statement& s) { s.bytes(setting.name).bytes(setting.value); });
}

Result<void> put(Database& database, const RemoveSetting& removed) {
  return write(database, "DELETE FROM settings WHERE name=?", [&](Statement& s) { s.bytes(removed.name); });
}

// ---- reading

Result<std::uint64_t> delete_expired(Database& database, std::int64_t now_ms) {
  if (auto begun = database.begin(); !begun) return begun.error();
  auto done =
      write(database, "DELETE FROM acl WHERE until_ms<>0 AND until_ms<=?", [&](Statement& s) { s.integer(now_ms); });
  const auto count = done ? database.number("SELECT changes()") : Result<std::int64_t>(done.error());
  if (done && !count) done = count.error();
  if (auto ended = database.end(std::move(done)); !ended) return ended.error();
  return static_cast<std::uint64_t>(*count);
}

Result<Rows> read_rows(Database& database, std::int64_t now_ms) {
  Rows rows;
  Stored& all = rows.stored;
  std::uint64_t& left_out = all.left_out;
  auto done = read_all(database,
                       "SELECT list, is_peer, subject, length, since_ms, until_ms, reason, set_by, text FROM acl"
                       " ORDER BY list, is_peer, subject, length",
                       kMostAcl, all.acl, left_out);
  // They are still there when they could not be deleted.
  all.expired = std::erase_if(all.acl, [&](const AclEntry& e) { return e.until_ms != 0 && e.until_ms <= now_ms; });
  if (done) done = read_all(database, "SELECT * FROM points ORDER BY point", kMostPoints, all.points, left_out);
  if (done) done = read_all(database, "SELECT * FROM peers ORDER BY id", kMostPeers, all.peers, left_out);
  if (done) {
    done = read_all(database,
                    "SELECT subject, number, kind, time_ms, point, peer, reason FROM history ORDER BY subject, number",
                    kMaximumHistory, rows.history, left_out);
  }
  if (done) {
    done = read_all(database, "SELECT point FROM anchors ORDER BY position", kMaximumAnchors, all.anchors, left_out);
  }
  if (done)
    done = read_all(database, "SELECT name, value FROM settings ORDER BY name", kMostSettings, all.settings, left_out);
  if (!done) return done.error();
  return rows;
}

}  // namespace bulkhead::controller
