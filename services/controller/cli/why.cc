#include "services/controller/cli/why.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/address.h"
#include "services/controller/cli/acl_view.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/record_commands.h"
#include "services/controller/cli/show.h"
#include "services/controller/cli/status.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using schema::AclSubject;
using shm::ListEntry;

std::string subject_text(const AclSubject& subject, std::uint16_t port) {
  if (subject.peer_id) return wire::peer_id_text(*subject.peer_id);
  return port == 0 ? to_text(subject.prefix) : to_text(Point{subject.prefix.address, port});
}

bool lies_in(const Prefix& prefix, const ShownJson& address_text) {
  const auto address = parse_address(address_text.get<std::string>());
  return address && contains(prefix, *address);
}

bool is_about(const shm::EventRow& event, const AclSubject& subject) {
  if (subject.peer_id) return event.has_peer != 0 && event.peer_id == *subject.peer_id;
  if (event.has_address == 0) return false;
  const auto prefix = event_prefix(event);
  return prefix ? contains(*prefix, subject.prefix) || contains(subject.prefix, *prefix)
                : contains(subject.prefix, Address{event.address});
}

/// Those of the rows [name, info] that `wanted` takes.
template <typename Wanted>
ShownJson chosen(ShownJson rows, const Wanted& wanted) {
  ShownJson out = ShownJson::array();
  for (auto& row : rows) {
    if (wanted(row)) out.push_back(std::move(row));
  }
  return out;
}

ShownJson connections_of(const NodeTables& tables, const AclSubject& subject, std::uint16_t port) {
  const std::string name = subject_text(subject, 0);
  return chosen(connections_json(tables, monotonic_now()), [&](const ShownJson& row) {
    if (subject.peer_id) return row["peer_id"] == name;
    return lies_in(subject.prefix, row["id_point"]["addr"]) &&
           (port == 0 || row["id_point"]["port"] == port || row["remote_socket_port"] == port);
  });
}

ShownJson peers_of(const NodeTables& tables, const AclSubject& subject) {
  const std::string name = subject_text(subject, 0);
  return chosen(peers_json(tables, {}, monotonic_now()), [&](const ShownJson& row) {
    if (subject.peer_id) return row[0] == name;
    return row[1].contains("reachable_at") && lies_in(subject.prefix, row[1]["reachable_at"]["addr"]);
  });
}

ShownJson points_of(const NodeTables& tables, const AclSubject& subject, std::uint16_t port) {
  const std::string name = subject_text(subject, 0);
  return chosen(points_json(tables, {}), [&](const ShownJson& row) {
    if (subject.peer_id) {
      const ShownJson& info = row[1];
      return info["state"].value("p2p_peer_id", "") == name || info.value("expected_peer_id", "") == name;
    }
    const auto point = parse_point(row[0].get<std::string>());
    return point && contains(subject.prefix, point->address) && (port == 0 || point->port == port);
  });
}

/// Follows in which lists a subject stands, as far as events tell.
class Listings {
 public:
  /// Of an event about the subject.
  void note(const shm::EventRow& event) {
    if (is(event, EventKind::kGreylisted)) greylisted_ = true;
    if (is(event, EventKind::kBanned)) banned_ = true;
    const bool lifted = is(event, EventKind::kUnbanned) || is(event, EventKind::kTrusted);
    if (lifted) banned_ = false;
    // A ban that ends by itself leaves a greylisting alone.
    if (is(event, EventKind::kBanned) || (lifted && event.reason != static_cast<std::uint32_t>(Reason::kExpired)))
      greylisted_ = false;
  }

  /// Of an event that names nobody: whether it emptied a list in which the subject stood.
  bool end_with(const shm::EventRow& event) {
    const bool all = is(event, EventKind::kAclsCleared);
    if (!all && !is(event, EventKind::kGreylistCleared)) return false;
    const bool lifted = std::exchange(greylisted_, false);
    return (all && std::exchange(banned_, false)) || lifted;
  }

 private:
  using EventKind = shm::EventKind;
  static bool is(const shm::EventRow& event, EventKind kind) { return event.kind == static_cast<std::uint32_t>(kind); }

  bool banned_ = false;
  bool greylisted_ = false;
};

struct Concerning {
  shm::EventRow event;
  std::uint64_t times;
};

/// In their order.
std::vector<Concerning> events_of(const shm::EventsTable& events, const AclSubject& subject) {
  std::vector<Concerning> found;
  Listings listings;
  const std::uint64_t last = events.newest();
  for (std::uint64_t number = last > shm::kEventRows ? last - shm::kEventRows + 1 : 1; number <= last; ++number) {
    const auto event = events.read(number);
    if (!event) continue;
    if (is_about(*event, subject)) {
      listings.note(*event);
      found.push_back({*event, event->count});
    } else if (listings.end_with(*event)) {
      found.push_back({*event, 1});
    }
  }
  return found;
}

/// How often each kind of event came with each reason, and the newest ones.
void add_events(ShownJson& json, const shm::EventsTable& events, const AclSubject& subject) {
  struct Count {
    std::uint64_t count = 0;
    std::int64_t last_ms = 0;
  };
  std::map<std::pair<std::string, std::string>, Count> counts;
  ShownJson newest = ShownJson::array();
  const auto found = events_of(events, subject);
  for (auto one = found.rbegin(); one != found.rend(); ++one) {
    ShownJson shown = event_json(one->event);
    Count& count = counts[{shown["event"].get<std::string>(), shown["reason"].get<std::string>()}];
    count.count += one->times;
    count.last_ms = std::max(count.last_ms, one->event.time_ms);
    if (newest.size() < kWhyEvents) newest.push_back(std::move(shown));
  }
  ShownJson list = ShownJson::array();
  for (const auto& [name, count] : counts) {
    list.push_back(
        {{"event", name.first}, {"reason", name.second}, {"count", count.count}, {"last", time_text(count.last_ms)}});
  }
  json["counts"] = std::move(list);
  json["events"] = std::move(newest);
}

/// What the histories of these points and peers have from before the node started, the newest first: what came since is
/// among the events.
ShownJson past_of(const NodeTables& tables, const ShownJson& points, const ShownJson& peers) {
  const auto node = tables.processes.node().read();
  const std::string start = time_text(node ? node->started_ms : 0);
  std::vector<ShownJson> past;
  const auto take = [&](const ShownJson& of, const ShownJson& time, const ShownJson& event, ShownJson shown) {
    // Times are of one form, so that their texts compare as they do.
    if (time.get<std::string>() >= start) return;
    ShownJson row = {{"time", time}, {"of", of}, {"event", event}};
    row.update(shown);
    past.push_back(std::move(row));
  };
  for (const auto& row : points) {
    const auto point = parse_point(row[0].get<std::string>());
    const auto log = point ? point_log_json(tables, *point) : Result<ShownJson>(ShownJson::array());
    if (!log) continue;
    for (ShownJson entry : *log) {
      const ShownJson kind = entry[1]["event_kind"];
      entry[1].erase("event_kind");
      take(row[0], entry[0], kind, entry[1]);
    }
  }
  for (const auto& row : peers) {
    const auto peer = wire::parse_peer_id(row[0].get<std::string>());
    const auto log = peer ? peer_log_json(tables, *peer) : Result<ShownJson>(ShownJson::array());
    if (!log) continue;
    for (ShownJson entry : *log) {
      const ShownJson kind = entry["kind"];
      const ShownJson time = entry["timestamp"];
      entry.erase("kind");
      entry.erase("timestamp");
      take(row[0], time, kind, entry);
    }
  }
  std::stable_sort(past.begin(), past.end(), [](const ShownJson& a, const ShownJson& b) {
    return a["time"].get<std::string>() > b["time"].get<std::string>();
  });
  if (past.size() > kWhyEvents) past.resize(kWhyEvents);
  return past;
}

/// The address where a peer was seen last.
std::optional<Address> address_of(const ShownJson& peers) {
  if (peers.empty() || !peers[0][1].contains("reachable_at")) return std::nullopt;
  return parse_address(peers[0][1]["reachable_at"]["addr"].get<std::string>());
}

/// Whether the subject is the node that answers.
bool is_itself(const NodeTables& tables, const AclSubject& subject, std::uint16_t port) {
  const auto node = tables.processes.node().read();
  if (!node) return false;
  if (subject.peer_id) return *subject.peer_id == PeerId(node->peer_id);
  if (port == 0 || !is_single(subject.prefix)) return false;
  for (std::size_t i = 0; i < std::min<std::size_t>(node->net_count, node->net_addresses.size()); ++i) {
    if (node->net_ports[i] == port && Address{node->net_addresses[i]} == subject.prefix.address) return true;
  }
  return false;
}

/// "; its peer id... is banned": what keeps out who was seen last at this address, although the address is welcome.
std::string refused_peers(const NodeTables& tables, const ShownJson& peers, std::uint16_t port) {
  std::string first;
  std::size_t count = 0;
  for (const auto& row : peers) {
    if (!row[1]["banned"].get<bool>()) continue;
    const ShownJson& seen_port = row[1]["reachable_at"]["port"];
    if (port != 0 && !seen_port.is_null() && seen_port != port) continue;
    const std::string name = row[0].get<std::string>();
    const auto peer = wire::parse_peer_id(name);
    const auto matches = peer ? tables.lists->match_all(*peer, wall_now_ms()) : std::vector<ListEntry>();
    if (!is_refused(matches)) continue;
    if (count++ > 0) continue;
    first = "; its peer " + name + " is " + standing_word(matches.front().list) + ", see `bulkhead why " + name + "`";
  }
  return count < 2 ? first : first + ", and so are " + std::to_string(count - 1) + " more seen there";
}

std::string summary(const ShownJson& json, const std::vector<ListEntry>& own, const std::vector<ListEntry>& of_address,
                    const std::string& peers) {
  if (is_refused(own)) return "would be refused: " + standing_text(own);
  if (is_refused(of_address)) return "would be refused from where it was seen last: " + standing_text(of_address);
  const std::string trusted = own.empty() ? "" : "; " + standing_text(own);
  if (!json["connections"].empty()) {
    return "is connected since " + json["connections"][0]["since"].get<std::string>() + trusted;
  }
  for (const auto& point : json["points"]) {
    // Times are of one form, so that their texts compare as they do.
    if (point[1].contains("greylisted_until") && point[1]["greylisted_until"] > time_text(wall_now_ms())) {
      return "would be let in; the node dials " + point[0].get<std::string>() + " again from " +
             point[1]["greylisted_until"].get<std::string>() + " on" + peers + trusted;
    }
  }
  const bool known = !json["points"].empty() || !json["peers"].empty() || !json["events"].empty();
  return std::string("would be let in: no list refuses it") + (known ? "" : "; nothing else is known about it") +
         peers + trusted;
}

/// Of a prefix with many addresses, of which each may have a fate of its own.
std::string prefix_summary(const std::vector<ListEntry>& own, std::size_t refusals) {
  if (is_refused(own)) return "would all be refused: " + standing_text(own);
  return "would be let in: no list refuses all of it" +
         (refusals == 0 ? "" : "; " + within_text(refusals) + ", see `bulkhead acl`") +
         (own.empty() ? "" : "; " + standing_text(own));
}

std::string section(const char* title, const std::string& text) {
  return std::string("\n") + title + "\n" + text;
}

/// As why_json gives it, for people.
std::string story(const ShownJson& json, const std::vector<ListEntry>& entries) {
  std::string out = json["subject"].get<std::string>() + " " + json["summary"].get<std::string>() + "\n";
  if (!entries.empty()) {
    std::string lines;
    for (const auto& entry : entries) lines += entry_line(entry);
    out += section("ENTRIES OF THE LISTS", lines);
  }
  if (!json["connections"].empty()) out += section("CONNECTIONS", connections_text(json["connections"]));
  if (!json["points"].empty()) out += section("POINTS", points_text(json["points"]));
  if (!json["peers"].empty()) out += section("PEERS", peers_text(json["peers"]));
  if (!json["past"].empty()) {
    TextTable past({"TIME (UTC)", "OF", "EVENT", "REASON"});
    for (const auto& row : json["past"]) {
      past.add({row["time"].get<std::string>(), row["of"].get<std::string>(), row["event"].get<std::string>(),
                row.value("reason", "-")});
    }
    out += section("BEFORE THE LAST START, THE NEWEST FIRST", past.text());
  }
  if (json["counts"].empty()) return out;
  TextTable counts({"EVENT", "REASON", "TIMES", "LAST"}, {2});
  for (const auto& count : json["counts"]) {
    counts.add({count["event"].get<std::string>(), count["reason"].get<std::string>(), count["count"].dump(),
                count["last"].get<std::string>()});
  }
  std::string events;
  for (const auto& event : json["events"]) events += event_text(event);
  return out + section("WHAT HAPPENED", counts.text()) + section("EVENTS, THE NEWEST FIRST", events);
}

struct Matches {
  std::vector<ListEntry> own;
  std::vector<ListEntry> of_address;  ///< of a peer
  std::vector<ListEntry> all() const {
    auto both = own;
    both.insert(both.end(), of_address.begin(), of_address.end());
    return both;
  }
};

Matches matches_of(const NodeTables& tables, const AclSubject& subject) {
  const std::int64_t now = wall_now_ms();
  Matches matches{cli::matches_of(*tables.lists, subject, now), {}};
  if (!subject.peer_id) return matches;
  if (const auto address = address_of(peers_of(tables, subject))) {
    matches.of_address = tables.lists->match_all(*address, now);
  }
  return matches;
}

ShownJson why_json(const NodeTables& tables, const AclSubject& subject, std::uint16_t port, const Matches& matches) {
  ShownJson json = {{"subject", subject_text(subject, port)}, {"summary", ""}};
  json.update(
      banned_json(is_refused(matches.own) || !is_refused(matches.of_address) ? matches.own : matches.of_address));
  json["entries"] = ShownJson::array();
  for (const auto& entry : matches.all()) json["entries"].push_back(listed_json(entry));
  json["connections"] = connections_of(tables, subject, port);
  json["points"] = points_of(tables, subject, port);
  json["peers"] = peers_of(tables, subject);
  add_events(json, tables.events, subject);
  json["past"] = past_of(tables, json["points"], json["peers"]);
  if (is_itself(tables, subject, port)) {
    json["summary"] = "is this node itself" + (matches.own.empty() ? "" : "; " + standing_text(matches.own));
  } else if (subject.peer_id || is_single(subject.prefix)) {
    const std::string peers = subject.peer_id ? "" : refused_peers(tables, json["peers"], port);
    json["summary"] = summary(json, matches.own, matches.of_address, peers);
  } else {
    const std::size_t within = refusals_within(*tables.lists, subject.prefix, wall_now_ms());
    json["refusals_within"] = within;
    json["summary"] = prefix_summary(matches.own, within);
  }
  return json;
}

}  // namespace

ShownJson why_json(const NodeTables& tables, const AclSubject& subject, std::uint16_t port) {
  return why_json(tables, subject, port, matches_of(tables, subject));
}

int run_why(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const Matches matches = matches_of(node->tables, arguments.subject);
  const ShownJson json = why_json(node->tables, arguments.subject, arguments.port, matches);
  print(arguments.json ? json_text(json) : story(json, matches.all()));
  return exit_status(ProgramExit::kDone);
}

}  // namespace bulkhead::cli
