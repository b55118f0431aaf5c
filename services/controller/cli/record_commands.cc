#include "services/controller/cli/record_commands.h"

#include <unistd.h>

#include <cerrno>

#include "base/address.h"
#include "services/controller/cli/files.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/peers_file.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

constexpr mode_t kExportMode = 0640;

/// Rows may pass to another record while they are looked at: `is_it` is asked before and after.
template <typename Row, typename IsIt>
std::optional<std::vector<shm::HistoryEvent>> events_of(const shm::DoubleRow<Row>& row, const shm::History& history,
                                                        const IsIt& is_it) {
  const auto holds_it = [&] {
    const auto now = row.read();
    return now && now->used != 0 && is_it(*now);
  };
  if (!holds_it()) return std::nullopt;
  auto events = history.read();
  if (!holds_it()) return std::nullopt;
  return events;
}

void add_reason(ShownJson& json, const shm::HistoryEvent& event) {
  const auto reason = reason_from_value(event.reason);
  if (reason != Reason::kNone) json["reason"] = reason ? reason_name(*reason) : "invalid_reason";
}

std::string text_or_dash(const ShownJson& json, const char* name) {
  return json.contains(name) ? json[name].get<std::string>() : "-";
}

int show(const Arguments& arguments, const ShownJson& json, const TextTable& table) {
  print(arguments.json ? json_text(json) : table.text());
  return exit_status(ProgramExit::kDone);
}

}  // namespace

Result<ShownJson> point_log_json(const NodeTables& tables, const Point& point) {
  for (std::uint32_t i = 0; i < tables.pool.points(); ++i) {
    const auto events = events_of(tables.pool.point(i), tables.history.point(i), [&](const shm::PointRow& row) {
      return Point{Address{row.address}, row.port} == point;
    });
    if (!events) continue;
    ShownJson list = ShownJson::array();
    for (const auto& event : *events) {
      ShownJson json = {{"event_kind", shm::history_name_of_point(event.kind)}};
      if (event.has_other != 0) json["p2p_peer_id"] = wire::peer_id_text(event.other);
      add_reason(json, event);
      list.push_back(ShownJson::array({time_text(event.time_ms), std::move(json)}));
    }
    return list;
  }
  return failure(to_text(point) + " is not a known point; see 'bulkhead points'");
}

Result<ShownJson> peer_log_json(const NodeTables& tables, const PeerId& peer) {
  for (std::uint32_t i = 0; i < tables.pool.peers(); ++i) {
    const auto events = events_of(tables.pool.peer(i), tables.history.peer(i),
                                  [&](const shm::PeerRow& row) { return row.peer_id == peer; });
    if (!events) continue;
    ShownJson list = ShownJson::array();
    for (const auto& event : *events) {
      ShownJson json = {{"kind", shm::history_name_of_peer(event.kind)}, {"timestamp", time_text(event.time_ms)}};
      if (event.has_other != 0) json["addr"] = to_text(Address{event.other});
      if (event.port != 0) json["port"] = event.port;
      add_reason(json, event);
      list.push_back(std::move(json));
    }
    return list;
  }
  return failure(wire::peer_id_text(peer) + " is not a known peer; see 'bulkhead peers'");
}

int run_points_log(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const auto log = point_log_json(node->tables, arguments.point);
  if (!log) return fail(log.error());
  TextTable table({"TIME (UTC)", "EVENT", "PEER", "REASON"});
  for (const auto& row : *log) {
    table.add({row[0].get<std::string>(), row[1]["event_kind"].get<std::string>(), text_or_dash(row[1], "p2p_peer_id"),
               text_or_dash(row[1], "reason")});
  }
  return show(arguments, *log, table);
}

int run_peers_log(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const auto log = peer_log_json(node->tables, arguments.peer);
  if (!log) return fail(log.error());
  TextTable table({"TIME (UTC)", "EVENT", "ADDRESS", "PORT", "REASON"}, {3});
  for (const auto& row : *log) {
    table.add({row["timestamp"].get<std::string>(), row["kind"].get<std::string>(), text_or_dash(row, "addr"),
               row.contains("port") ? row["port"].dump() : "-", text_or_dash(row, "reason")});
  }
  return show(arguments, *log, table);
}

int run_peers_export(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const NodeTables& tables = node->tables;
  if (arguments.file.empty() || arguments.file == "-") {
    // Who reads may have enough before the end.
    if (write_peers(STDOUT_FILENO, tables.pool, tables.history) || errno == EPIPE)
      return exit_status(ProgramExit::kDone);
    return fail(system_error("standard output: cannot write all of it"));
  }
  const auto written =
      replace_file(arguments.file, kExportMode, [&](int fd) { return write_peers(fd, tables.pool, tables.history); });
  return written ? exit_status(ProgramExit::kDone) : fail(written.error());
}

}  // namespace bulkhead::cli
