#include "services/controller/cli/show.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/address.h"
#include "services/controller/cli/node_tables.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/views.h"

namespace bulkhead::cli {
namespace {

std::string cause_text(std::uint32_t value) {
  return reason_name(reason_from_value(value).value_or(Reason::kNone));
}

constexpr auto kReadyPoll = std::chrono::milliseconds(20);
constexpr auto kEventsPoll = std::chrono::milliseconds(200);
constexpr int kDone = 0;

std::string text_of(const ShownJson& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, ShownJson::error_handler_t::replace);
}

/// Names come from peers: a terminal must not obey them.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

std::string standing_of(const ShownJson& info) {
  return info["banned"].get<bool>() ? "refused" : info["trusted"].get<bool>() ? "trusted" : "-";
}

std::string point_text(const ShownJson& id_point) {
  const std::string address = id_point["addr"].get<std::string>();
  if (id_point["port"].is_null()) return address;
  const std::string port = text_of(id_point["port"]);
  return address.find(':') == std::string::npos ? address + ":" + port : "[" + address + "]:" + port;
}

/// "14:03:07", or "-": the day stands in the JSON form.
std::string clock_text(const ShownJson& info, const char* name) {
  if (!info.contains(name)) return "-";
  std::string text = info[name].get<std::string>();
  if (text.size() > 19) text.resize(19);
  std::replace(text.begin(), text.end(), 'T', ' ');
  return text;
}

std::string joined(const ShownJson& list) {
  std::string out;
  for (const auto& element : list) out += (out.empty() ? "" : ", ") + element.get<std::string>();
  return out;
}

std::string status_text(const NodeTables& tables) {
  const ShownJson json = status_json(tables);
  const auto& connections = json["connections"];
  const auto number = [&](const char* name) { return text_of(connections[name]); };
  std::string out;
  out += "node         " + std::string(json["ready"].get<bool>() ? "ready" : "not ready yet") + "\n";
  out += "peer id      " + json["peer_id"].get<std::string>() + "\n";
  out += "network      " + printable(json["chain_name"].get<std::string>()) + "\n";
  out += "listening    " + joined(json["net_addr"]) + "\n";
  out += "connections  " + number("active") + " active (" + number("incoming") + " incoming, " + number("outgoing") +
         " outgoing), " + number("pending") + " in their handshake; at least " + number("min") + ", " +
         number("expected") + " wanted, at most " + number("max") + "\n";
  const auto& lists = json["lists"];
  out += "lists        " + text_of(lists["blacklist"]) + " banned, " + text_of(lists["greylist"]) + " greylisted, " +
         text_of(lists["whitelist"]) + " trusted\n";
  const auto& application = json["application"];
  out += "application  ";
  if (application["attached"].get<bool>()) {
    const auto side = [&](const char* name) {
      return application[name] == 0 ? std::string("nobody") : "process " + text_of(application[name]);
    };
    out += "receiving: " + side("receiver_pid") + ", sending: " + side("sender_pid") + "\n\n";
  } else {
    out += "none attached\n\n";
  }
  const std::int64_t now = wall_now_ms();
  TextTable table({"PROCESS", "PID", "UP", "RESTARTS", "STATE", "LAST RESTART"}, {1, 2, 3});
  for (std::size_t i = 0; i < kServiceRoles; ++i) {
    const auto role = static_cast<Role>(i);
    const auto row = tables.processes.process(role).read();
    if (!row) continue;
    const bool running = row->pid != 0;
    table.add({role_name(role), running ? std::to_string(row->pid) : "-", running ? age_text(row->since_ms, now) : "-",
               std::to_string(row->restarts),
               !running          ? "not running"
               : row->ready != 0 ? "ready"
                                 : "starting",
               row->last_death_ms == 0 ? "" : ago_text(row->last_death_ms, now) + ": " + cause_text(row->last_cause)});
  }
  return out + table.text();
}

}  // namespace

std::string connections_text(const ShownJson& list) {
  TextTable table({"PEER", "DIR", "POINT", "WORKER", "SENT", "RECEIVED", "OUT/S", "IN/S", "QUEUED", "FLAGS"},
                  {3, 4, 5, 6, 7, 8});
  for (const auto& row : list) {
    const auto& stat = row["stat"];
    const auto size = [&](const char* name) { return size_text(stat[name].get<std::uint64_t>()); };
    std::string flags = row["trusted"].get<bool>() ? "trusted" : "";
    if (row["private"].get<bool>()) flags += flags.empty() ? "private" : ",private";
    table.add({row["peer_id"].get<std::string>(), row["incoming"].get<bool>() ? "in" : "out",
               point_text(row["id_point"]), text_of(row["worker_pid"]), size("total_sent"), size("total_recv"),
               size("current_outflow"), size("current_inflow"),
               size_text(stat["queue_in"].get<std::uint64_t>() + stat["queue_out"].get<std::uint64_t>()), flags});
  }
  return table.text();
}

std::string peers_text(const ShownJson& list) {
  TextTable table({"PEER", "STATE", "REACHABLE AT", "SCORE", "LISTED", "LAST SEEN (UTC)"}, {3});
  for (const auto& row : list) {
    const auto& info = row[1];
    table.add({row[0].get<std::string>(), info["state"].get<std::string>(),
               info.contains("reachable_at") ? point_text(info["reachable_at"]) : "-", text_of(info["score"]),
               standing_of(info), clock_text(info, "last_seen")});
  }
  return table.text();
}

std::string points_text(const ShownJson& list) {
  TextTable table({"POINT", "STATE", "PEER", "LISTED", "NEXT TRY (UTC)", "LAST FAILED (UTC)"});
  for (const auto& row : list) {
    const auto& info = row[1];
    const auto& state = info["state"];
    // What is connected is not dialled, whatever its back-off was.
    const bool connected = state["event_kind"] == "running";
    table.add({row[0].get<std::string>(), state["event_kind"].get<std::string>(),
               state.contains("p2p_peer_id") ? state["p2p_peer_id"].get<std::string>() : "-", standing_of(info),
               connected ? "-" : clock_text(info, "greylisted_until"), clock_text(info, "last_failed_connection")});
  }
  return table.text();
}

std::string event_text(const ShownJson& json) {
  std::string where = json["addr"].get<std::string>();
  if (where.empty()) {
    where = "-";
  } else if (json.contains("prefix")) {
    where = json["prefix"].get<std::string>();
  } else if (json["port"] != 0) {
    where = point_text(json);
  }
  std::string line = json["time"].get<std::string>() + "  " + json["event"].get<std::string>();
  const auto column = [&](std::size_t width) { line.resize(std::max(line.size() + 2, width), ' '); };
  column(48);
  line += where;
  column(74);
  line += json.contains("role")       ? json["role"].get<std::string>()
          : json["peer_id"].is_null() ? "-"
                                      : json["peer_id"].get<std::string>();
  column(106);
  line += json["reason"].get<std::string>();
  if (json.contains("syscall")) line += " (" + json["syscall"].get<std::string>() + ")";
  if (json.contains("until") && json["until"].is_string()) line += " (until " + json["until"].get<std::string>() + ")";
  std::string numbers;
  for (const char* name : {"bans", "greylistings", "entries"}) {
    if (json.contains(name)) numbers += (numbers.empty() ? "" : ", ") + std::string(name) + ": " + text_of(json[name]);
  }
  if (!numbers.empty()) {
    line += " (" + numbers + ")";
  } else if (json["count"] > 1) {
    line += " (" + text_of(json["count"]) + " times)";
  }
  return line + "\n";
}

namespace {

/// `none`: what to tell people when there are no rows. On standard error: what reads standard output finds rows alone.
int show(const Arguments& arguments, const ShownJson& json, std::string (*text)(const ShownJson&),
         const std::string& none) {
  print(arguments.json ? json_text(json) : text(json));
  if (!arguments.json && json.empty()) complain(none);
  return kDone;
}

std::string in_state(const Arguments& arguments) {
  return arguments.filters.empty() ? "" : " in that state";
}

/// Prints the events from `next` to the newest that can still be read. Returns the number after them, nothing when
/// nobody reads standard output any more.
std::optional<std::uint64_t> print_events(const Arguments& arguments, const shm::EventsTable& events,
                                          std::uint64_t next) {
  const std::uint64_t newest = events.newest();
  if (newest >= shm::kEventRows) next = std::max(next, newest - shm::kEventRows + 1);
  std::string out;
  for (; next <= newest; ++next) {
    const auto event = events.read(next);
    if (event) out += arguments.json ? json_line(event_json(*event)) : event_text(event_json(*event));
  }
  if (!print(out)) return std::nullopt;
  return next;
}

}  // namespace

int run_status(const Arguments& arguments) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(arguments.wait_s.value_or(0));
  auto node = open_node(arguments.data_dir);
  while (arguments.wait_s && (!node || !is_ready(node->tables))) {
    if (std::chrono::steady_clock::now() >= until) {
      complain("no node is ready on " + arguments.data_dir + " within the time; look at its log");
      return exit_status(ProgramExit::kNoNode);
    }
    std::this_thread::sleep_for(kReadyPoll);
    // The tables stay mapped when their node ends; the one to wait for may be its successor.
    node = open_node(arguments.data_dir);
  }
  if (!node) return fail(node.error());
  print(arguments.json ? json_text(status_json(node->tables)) : status_text(node->tables));
  return kDone;
}

int run_connections(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  return show(arguments, connections_json(node->tables, monotonic_now()), connections_text, "no connections");
}

int run_peers(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  return show(arguments, peers_json(node->tables, arguments.filters, monotonic_now()), peers_text,
              "no known peers" + in_state(arguments));
}

int run_points(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  return show(arguments, points_json(node->tables, arguments.filters), points_text,
              "no known points" + in_state(arguments));
}

int run_events(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const auto& events = node->tables.events;
  const bool none = events.newest() == 0;
  auto next = print_events(arguments, events, 1);
  if (!arguments.follow) {
    if (none && !arguments.json) complain("no events since the node started");
    return kDone;
  }
  NodeWatch watch(*node, arguments.data_dir);
  while (next) {
    const bool alive = watch.alive();
    next = print_events(arguments, events, *next);
    if (!alive) break;
    std::this_thread::sleep_for(kEventsPoll);
  }
  return kDone;
}

int run_p2p_stat(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const Nanoseconds now = monotonic_now();
  ShownJson stat = traffic_json(node->tables, now);
  ShownJson incoming = ShownJson::array();
  ShownJson outgoing = ShownJson::array();
  for (auto& connection : connections_json(node->tables, now)) {
    (connection["incoming"].get<bool>() ? incoming : outgoing).push_back(std::move(connection));
  }
  ShownJson peers = peers_json(node->tables, {}, now);
  ShownJson points = points_json(node->tables, {});
  if (arguments.json) {
    print(json_text({{"stat", std::move(stat)},
                     {"incoming_connections", std::move(incoming)},
                     {"outgoing_connections", std::move(outgoing)},
                     {"peers", std::move(peers)},
                     {"points", std::move(points)}}));
    return kDone;
  }
  const auto size = [&](const char* name) { return size_text(stat[name].get<std::uint64_t>()); };
  print("GLOBAL STATS\n  sent " + size("total_sent") + " (" + size("current_outflow") + "/s), received " +
        size("total_recv") + " (" + size("current_inflow") + "/s)\n\nINCOMING CONNECTIONS\n" +
        connections_text(incoming) + "\nOUTGOING CONNECTIONS\n" + connections_text(outgoing) + "\nKNOWN PEERS\n" +
        peers_text(peers) + "\nKNOWN POINTS\n" + points_text(points));
  return kDone;
}

}  // namespace bulkhead::cli
