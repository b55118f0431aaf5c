#include "services/controller/cli/peers_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/address.h"
#include "base/fd.h"
#include "base/log.h"
#include "services/common/state_files.h"
#include "services/controller/cli/acl_file.h"
#include "services/controller/cli/files.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/text.h"
#include "services/controller/cli/views.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;
using schema::KnownPeerEventRow;
using schema::KnownPeerRow;

// What Octez writes has four levels, and eight with counters.
constexpr int kMaximumDepth = 32;
constexpr std::int64_t kLastMs = 253402300799999;  // the end of the year 9999
constexpr mode_t kMode = 0640;
constexpr mode_t kMarkMode = 0600;
constexpr std::size_t kMaximumMark = 256;

/// What is wrong, and where: ends the reading.
struct Fault {
  std::string text;
};

[[noreturn]] void refuse(const std::string& place, const std::string& rule) {
  throw Fault{place + ": " + rule};
}

/// A point as Octez writes one beside a time, or the part of an event that is one.
struct Seen {
  std::array<std::uint8_t, 16> address{};
  std::uint16_t port = 0;
  std::int64_t ms = 0;
};

const Json& member(const Json& object, const char* name, const std::string& place) {
  const auto found = object.find(name);
  if (found == object.end()) refuse(place, std::string(name) + " is missing");
  return *found;
}

std::int64_t time_of(const Json& value, const std::string& place) {
  constexpr const char* kRule = "must be a time, such as \"2024-01-31T12:00:00.000Z\", or seconds since 1970";
  if (value.is_number_integer()) {
    const auto seconds = value.get<std::int64_t>();
    if (seconds < 0 || seconds > kLastMs / 1000) refuse(place, kRule);
    return seconds * 1000;
  }
  const auto time = value.is_string() ? parse_time(value.get_ref<const std::string&>()) : std::nullopt;
  if (!time || *time > kLastMs) refuse(place, kRule);
  return *time;
}

void read_point(const Json& object, const std::string& place, Seen& seen) {
  const Json& addr = member(object, "addr", place);
  const auto address = addr.is_string() ? parse_address(addr.get_ref<const std::string&>()) : std::nullopt;
  if (!address) refuse(place + "/addr", "must be an IPv4 or IPv6 address, such as \"::ffff:192.0.2.7\"");
  seen.address = address->bytes;
  const auto port = object.find("port");
  if (port == object.end() || port->is_null()) return;
  if (!port->is_number_unsigned() || port->get<std::uint64_t>() > UINT16_MAX)
    refuse(place + "/port", "must be a number from 0 to 65535");
  seen.port = port->get<std::uint16_t>();
}

/// [{"addr", "port"}, time]; not there: zeros.
Seen seen_at(const Json& peer, const char* name, const std::string& place) {
  Seen seen;
  const auto found = peer.find(name);
  if (found == peer.end() || found->is_null()) return seen;
  const std::string inner = place + "/" + name;
  if (!found->is_array() || found->size() != 2 || !(*found)[0].is_object())
    refuse(inner, "must be a pair of a point and a time: [{\"addr\": ..., \"port\": ...}, \"...\"]");
  read_point((*found)[0], inner + "/0", seen);
  seen.ms = time_of((*found)[1], inner + "/1");
  return seen;
}

KnownPeerEventRow event_of(const Json& event, const std::string& place) {
  if (!event.is_object()) refuse(place, "must be an object with kind, timestamp and addr");
  const Json& kind = member(event, "kind", place);
  const auto known = kind.is_string() ? shm::history_kind_of_peer(kind.get_ref<const std::string&>()) : std::nullopt;
  if (!known || *known == shm::HistoryKind::kOutgoingRequest) {
    refuse(place + "/kind",
           "must be one of incoming_request, rejecting_request, request_rejected, connection_established, "
           "disconnection, external_disconnection");
  }
  Seen where;
  where.ms = time_of(member(event, "timestamp", place), place + "/timestamp");
  read_point(event, place, where);
  KnownPeerEventRow row{};
  row.time_ms = where.ms;
  row.address = where.address;
  row.port = where.port;
  row.kind = static_cast<std::uint8_t>(*known);
  return row;
}

/// Is told of each value of the text as it is read, and keeps none.
class Reader {
 public:
  bool take(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > kMaximumDepth) throw Fault{place() + ": nested too deeply"};
    if (depth == 0) {
      if (event != Event::array_start && event != Event::array_end)
        refuse("/", "the file must hold one array of peers, as octez-node writes it");
      return true;
    }
    // An application's counters, which nobody here can use.
    if (depth == 2 && event == Event::key) return parsed.get_ref<const std::string&>() != "peer_metadata";
    if (depth > 1 || event == Event::object_start) return true;
    if (event != Event::object_end) refuse(place(), "must be an object, which describes one peer");
    take_peer(parsed);
    return false;
  }

  KnownPeers result() { return std::move(peers_); }

 private:
  std::string place() const { return "/" + std::to_string(peers_.peers.size()); }

  void take_peer(const Json& peer) {
    const std::string here = place();
    if (peers_.peers.size() >= schema::kMaximumKnownPeers)
      refuse(here, "more than " + std::to_string(schema::kMaximumKnownPeers) + " peers; leave some out");
    KnownPeerRow row{};
    const Json& name = member(peer, "peer_id", here);
    const auto id = name.is_string() ? wire::parse_peer_id(name.get_ref<const std::string&>()) : std::nullopt;
    if (!id) refuse(here + "/peer_id", "must be a peer id, which has 30 characters, id first");
    if (!ids_.insert(*id).second) refuse(here + "/peer_id", "stands there a second time; keep one");
    row.peer_id = *id;
    row.created_ms = time_of(member(peer, "created", here), here + "/created");
    if (const auto trusted = peer.find("trusted"); trusted != peer.end()) {
      if (!trusted->is_boolean()) refuse(here + "/trusted", "must be true or false");
      row.trusted = trusted->get<bool>() ? 1 : 0;
    }
    const Seen failed = seen_at(peer, "last_failed_connection", here);
    const Seen rejected = seen_at(peer, "last_rejected_connection", here);
    const Seen established = seen_at(peer, "last_established_connection", here);
    const Seen disconnection = seen_at(peer, "last_disconnection", here);
    row.failed_ms = failed.ms;
    row.rejected_ms = rejected.ms;
    row.established_ms = established.ms;
    row.disconnection_ms = disconnection.ms;
    // A failed attempt is no sight of it.
    const Seen& last =
        std::max({rejected, established, disconnection}, [](const Seen& a, const Seen& b) { return a.ms < b.ms; });
    row.address = last.address;
    row.port = last.port;
    take_events(peer, here);
    peers_.peers.push_back(row);
  }

  void take_events(const Json& peer, const std::string& here) {
    const auto found = peer.find("events");
    if (found == peer.end()) return;
    if (!found->is_array()) refuse(here + "/events", "must be an array");
    for (std::size_t i = 0; i < found->size(); ++i) {
      KnownPeerEventRow row = event_of((*found)[i], here + "/events/" + std::to_string(i));
      row.peer = static_cast<std::uint32_t>(peers_.peers.size());
      const bool wanted = found->size() - i <= shm::kHistoryEvents;
      if (wanted && peers_.events.size() < schema::kMaximumKnownPeerEvents) peers_.events.push_back(row);
    }
  }

  KnownPeers peers_;
  std::set<PeerId> ids_;
};

// ---- writing

using Out = nlohmann::ordered_json;

/// As Octez prints addresses: those of IPv4 too are in the form of IPv6.
std::string octez_address(const std::array<std::uint8_t, 16>& bytes) {
  const Address address{bytes};
  return (is_ipv4(address) ? "::ffff:" : "") + to_text(address);
}

Out zeros(std::initializer_list<const char*> names) {
  Out object = Out::object();
  for (const char* name : names) object[name] = "0";
  return object;
}

/// The counters of an application of Octez. Octez reads no peer without them.
const Out& no_counters() {
  static const Out kNone = [] {
    const Out messages = zeros({"branch", "head", "block_header", "operations", "protocols",
                                "operation_hashes_for_block", "operations_for_block", "other"});
    const Out kinds = zeros({"head", "branch"});
    return Out{
        {"responses",
         {{"sent", messages}, {"failed", messages}, {"received", messages}, {"unexpected", "0"}, {"outdated", "0"}}},
        {"requests", {{"sent", messages}, {"received", messages}, {"failed", messages}, {"scheduled", messages}}},
        {"valid_blocks", "0"},
        {"old_heads", "0"},
        {"prevalidator_results",
         zeros({"cannot_download", "cannot_parse", "refused_by_prefilter", "refused_by_postfilter", "applied",
                "branch_delayed", "branch_refused", "refused", "duplicate", "outdated"})},
        {"unactivated_chains", "0"},
        {"inactive_chains", "0"},
        {"future_blocks_advertised", "0"},
        {"unadvertised", zeros({"block", "operations", "protocol"})},
        {"advertisements", {{"sent", kinds}, {"received", kinds}}}};
  }();
  return kNone;
}

Out point_json(const std::array<std::uint8_t, 16>& address, std::uint16_t port) {
  Out point = {{"addr", octez_address(address)}};
  if (port != 0) point["port"] = port;
  return point;
}

Out events_json(const shm::History& history, std::size_t most) {
  Out list = Out::array();
  const auto events = history.read();
  for (std::size_t i = events.size() - std::min(events.size(), most); i < events.size(); ++i) {
    const shm::HistoryEvent& event = events[i];
    if (event.has_other == 0 || event.kind >= shm::kHistoryKinds) continue;
    Out json = {{"kind", shm::history_name_of_peer(event.kind)}, {"timestamp", time_text(event.time_ms)}};
    json.update(point_json(event.other, event.port));
    list.push_back(std::move(json));
  }
  return list;
}

Out peer_json(const shm::PeerRow& row, Out events) {
  Out peer = {{"peer_id", wire::peer_id_text(row.peer_id)},
              {"created", time_text(row.created_ms)},
              {"trusted", row.trusted != 0},
              {"peer_metadata", no_counters()},
              {"events", std::move(events)}};
  if (Address{row.address} == Address{}) return peer;
  const auto set = [&](const char* name, std::int64_t ms) {
    if (ms != 0) peer[name] = Out::array({point_json(row.address, row.port), time_text(ms)});
  };
  set("last_failed_connection", row.last_failed_ms);
  set("last_rejected_connection", row.last_rejected_ms);
  set("last_established_connection", row.last_established_ms);
  set("last_disconnection", row.last_disconnection_ms);
  return peer;
}

std::string peers_path(const std::string& data_dir) {
  return data_dir + "/peers.json";
}

/// Where it says which peers.json is this node's own work.
std::string mark_path(const std::string& data_dir) {
  return data_dir + "/state/" + service::kPeersMark;
}

/// Another text for each content of a file, as far as its size, its time and its place tell; empty: there is none.
std::string stamp_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return {};
  return std::to_string(status.st_size) + " " + std::to_string(status.st_mtim.tv_sec) + "." +
         std::to_string(status.st_mtim.tv_nsec) + " " + std::to_string(status.st_ino) + "\n";
}
std::string stamp_of(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW));
  return fd ? stamp_of(fd.get()) : std::string();
}

/// A name beside it that nothing has yet.
std::string name_to_keep(const std::string& path) {
  std::string name = path + ".old";
  for (int number = 2; exists(name); ++number) name = path + ".old-" + std::to_string(number);
  return name;
}

Result<void> save_peers(const std::string& path, const std::string& mark, int pool_fd, int history_fd) {
  const auto pool = shm::PoolTable::map(pool_fd, shm::Access::kReadOnly);
  if (!pool) return pool.error();
  const auto history = shm::HistoryTable::map(history_fd, shm::Access::kReadOnly, pool->points(), pool->peers());
  if (!history) return history.error();
  std::string stamp;
  auto saved = replace_file(path, kMode, [&](int fd) {
    const bool written = write_peers(fd, *pool, *history);
    stamp = stamp_of(fd);
    return written;
  });
  if (!saved) return saved;
  // Without it the file is looked at as any other is: nothing is lost by that.
  (void)replace_file(mark, kMarkMode, [&](int fd) { return write_all(fd, stamp); });
  return {};
}

/// Nothing when there is no file.
Result<std::optional<KnownPeers>> read_peers(const std::string& path) {
  const auto text = read_file(path, kMaximumPeersText);
  if (!text && text.error().code == ErrorCode::kNotFound) return std::optional<KnownPeers>();
  if (!text) return text.error();
  auto peers = parse_peers(*text, path);
  if (!peers) return peers.error();
  return std::optional(std::move(*peers));
}

Result<UniqueFd> sealed_rows(const KnownPeers& peers) {
  UniqueFd file(::memfd_create("bulkhead-known-peers", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const auto bytes = [](const auto& rows) {
    return std::string_view(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(rows[0]));
  };
  if (!file || !write_all(file.get(), bytes(peers.peers)) || !write_all(file.get(), bytes(peers.events)) ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return failure(system_error("no memory for the peers of peers.json").text);
  }
  return file;
}

}  // namespace

Result<KnownPeers> parse_peers(std::string_view text, const std::string& file) {
  Reader reader;
  try {
    [[maybe_unused]] const Json nothing = Json::parse(
        text.begin(), text.end(),
        [&](int depth, Json::parse_event_t event, Json& parsed) { return reader.take(depth, event, parsed); });
  } catch (const Fault& fault) {
    return failure(file + ": " + fault.text);
  } catch (const Json::parse_error& problem) {
    return failure(file + ": " + line_and_column(text, problem.byte) +
                   ": this is not JSON; correct it there, or move the file away");
  } catch (const Json::exception&) {
    return failure(file + ": a number in it is out of range");
  }
  return reader.result();
}

// Two lines with brackets.
constexpr std::size_t kEndOfFile = 8;

bool write_peers(int fd, const shm::PoolTable& pool, const shm::HistoryTable& history) {
  // With them the file stays one that can be read again.
  const std::size_t most_events =
      std::min<std::size_t>(shm::kHistoryEvents, schema::kMaximumKnownPeerEvents / std::max(pool.peers(), 1U));
  PieceWriter out(fd);
  const char* before = "[\n";
  std::size_t bytes = 0;
  std::uint32_t written = 0;
  for (std::uint32_t i = 0; i < pool.peers() && written < schema::kMaximumKnownPeers; ++i) {
    const auto row = pool.peer(i).read();
    if (!row || row->used == 0) continue;
    Out events = events_json(history.peer(i), most_events);
    // The row may have become another peer's meanwhile.
    const auto again = pool.peer(i).read();
    if (!again || again->peer_id != row->peer_id) events = Out::array();
    const std::string text = peer_json(*row, std::move(events)).dump();
    bytes += text.size() + 2;
    if (bytes + kEndOfFile > kMaximumPeersText) break;
    if (!out.add(before) || !out.add(text)) return false;
    before = ",\n";
    ++written;
  }
  return out.add(*before == '[' ? "[]\n" : "\n]\n") && out.flush();
}

Result<std::string> check_peers_file(const std::string& data_dir) {
  const std::string path = peers_path(data_dir);
  const auto read = read_peers(path);
  if (!read) return read.error();
  return *read ? path : std::string();
}

Result<supervisor::PeersFile> open_peers_file(const std::string& data_dir) {
  const std::string path = peers_path(data_dir);
  const std::string mark = mark_path(data_dir);
  supervisor::PeersFile file;
  const std::string stamp = stamp_of(path);
  const auto marked = read_file(mark, kMaximumMark);
  file.ours = !stamp.empty() && marked && *marked == stamp;
  file.kept_as = name_to_keep(path);
  file.save = [path, mark, stamp](int pool, int history, bool spent) -> Result<void> {
    const std::string now = stamp_of(path);
    if (!now.empty() && !(spent && now == stamp)) {
      const std::string kept = name_to_keep(path);
      if (auto renamed = rename_file(path, kept); !renamed) return renamed;
      log_notice("the peers.json that was there is kept as " + kept);
    }
    return save_peers(path, mark, pool, history);
  };
  const auto read = read_peers(path);
  if (!read) return read.error();
  if (!*read || (*read)->peers.empty()) return file;
  const KnownPeers& peers = **read;
  auto rows = sealed_rows(peers);
  if (!rows) return rows.error();
  file.rows = std::move(*rows);
  file.peers = static_cast<std::uint32_t>(peers.peers.size());
  file.events = static_cast<std::uint32_t>(peers.events.size());
  return file;
}

}  // namespace bulkhead::cli
