#include "services/controller/cli/views.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>

#include "base/address.h"
#include "base/address_group.h"
#include "base/reasons.h"
#include "sandbox/seccomp.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using shm::LivePage;
using shm::PeerRow;
using shm::PointRow;
using shm::SlotRow;
using shm::SlotState;

struct Flow {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t outflow = 0;
  std::uint64_t inflow = 0;
};

std::uint64_t word(const std::atomic<std::uint64_t>& value) {
  return value.load(std::memory_order_relaxed);
}

/// The page of a slot's worker, unless it still holds another connection's numbers.
const LivePage* page_of(const NodeTables& tables, SlotId slot, const SlotRow& row) {
  const LivePage& page = tables.live.page(slot);
  return page.generation.load(std::memory_order_acquire) == row.generation ? &page : nullptr;
}

Flow flow_of(const LivePage* page, Nanoseconds now) {
  Flow flow;
  if (page == nullptr) return flow;
  const std::uint64_t last = word(page->last_activity_ns);
  flow.sent = word(page->bytes_out);
  flow.received = word(page->bytes_in);
  flow.outflow = shm::flow_now(word(page->outflow), last, now);
  flow.inflow = shm::flow_now(word(page->inflow), last, now);
  return flow;
}

ShownJson flow_json(const Flow& flow) {
  return {{"total_sent", flow.sent},
          {"total_recv", flow.received},
          {"current_inflow", flow.inflow},
          {"current_outflow", flow.outflow}};
}

void for_each_slot(const NodeTables& tables, const std::function<void(SlotId, const SlotRow&)>& visit) {
  for (SlotId slot = 0; slot < tables.pool.slots(); ++slot) {
    if (const auto row = tables.pool.slot(slot).read()) visit(slot, *row);
  }
}

bool is_running(const SlotRow& row) {
  return row.state == static_cast<std::uint32_t>(SlotState::kRunning);
}

/// On its way to running: claimed, in its handshake, or accepted by us and not yet by the peer.
bool is_pending(const SlotRow& row) {
  return row.state >= static_cast<std::uint32_t>(SlotState::kClaimed) &&
         row.state <= static_cast<std::uint32_t>(SlotState::kAccepted);
}

ShownJson id_point(const std::array<std::uint8_t, 16>& address, std::uint32_t port) {
  ShownJson point = {{"addr", to_text(Address{address})}, {"port", nullptr}};
  if (port != 0) point["port"] = port;
  return point;
}

std::string chain_name(const shm::NodeRow& node) {
  const std::size_t size = std::min<std::size_t>(node.chain_name_size, node.chain_name.size());
  return {node.chain_name.begin(), node.chain_name.begin() + static_cast<std::ptrdiff_t>(size)};
}

void set_time(ShownJson& info, const char* name, std::int64_t unix_ms) {
  if (unix_ms != 0) info[name] = time_text(unix_ms);
}

bool wanted(const std::vector<std::string>& filters, const std::string& state) {
  return filters.empty() || std::find(filters.begin(), filters.end(), state) != filters.end();
}

const char* peer_state(std::uint32_t state) {
  constexpr std::array kNames = {"disconnected", "accepted", "running"};
  return state < kNames.size() ? kNames[state] : "disconnected";
}

const char* point_state(std::uint32_t state) {
  constexpr std::array kNames = {"disconnected", "requested", "accepted", "running"};
  return state < kNames.size() ? kNames[state] : "disconnected";
}

/// How a process ended, as waitpid tells it.
std::string end_text(std::uint32_t wait_status) {
  const int status = static_cast<int>(wait_status);
  if (!WIFSIGNALED(status)) return "exit status " + std::to_string(WEXITSTATUS(status));
  const char* name = ::sigabbrev_np(WTERMSIG(status));
  return name != nullptr ? std::string("signal SIG") + name : "signal " + std::to_string(WTERMSIG(status));
}

std::string reason_text(std::uint32_t value) {
  const auto reason = reason_from_value(value);
  return reason ? reason_name(*reason) : "invalid_reason";
}

/// How many entries stand in each.
ShownJson lists_json(const shm::ListsTable& lists) {
  const auto counts = lists.status().counts;
  const auto sum = [&](shm::AclList list) {
    const auto& count = counts[static_cast<std::size_t>(list)];
    return count.prefixes + count.peers;
  };
  return {{"blacklist", sum(shm::AclList::kBlack)},
          {"greylist", sum(shm::AclList::kGrey)},
          {"whitelist", sum(shm::AclList::kWhite)}};
}

/// As Octez sums up a row's times: when it was seen last, and when it was found missing.
template <typename Row>
void set_times(ShownJson& info, const Row& row) {
  set_time(info, "last_failed_connection", row.last_failed_ms);
  set_time(info, "last_rejected_connection", row.last_rejected_ms);
  set_time(info, "last_established_connection", row.last_established_ms);
  set_time(info, "last_disconnection", row.last_disconnection_ms);
  set_time(info, "last_seen", std::max({row.last_established_ms, row.last_rejected_ms, row.last_disconnection_ms}));
  set_time(info, "last_miss", std::max({row.last_failed_ms, row.last_rejected_ms, row.last_disconnection_ms}));
}

}  // namespace

std::string time_text(std::int64_t unix_ms) {
  const auto seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 96> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1,
                utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, static_cast<int>(unix_ms % 1000));
  return text.data();
}

std::string json_line(const ShownJson& json) {
  return json.dump(-1, ' ', false, ShownJson::error_handler_t::replace) + "\n";
}

std::string json_text(const ShownJson& json) {
  return json.dump(2, ' ', false, ShownJson::error_handler_t::replace) + "\n";
}

bool is_ready(const NodeTables& tables) {
  const auto node = tables.processes.node().read();
  return node && node->ready != 0;
}

ShownJson status_json(const NodeTables& tables) {
  const auto node = tables.processes.node().read().value_or(shm::NodeRow{});
  std::uint32_t incoming = 0;
  std::uint32_t outgoing = 0;
  std::uint32_t pending = 0;
  for_each_slot(tables, [&](SlotId, const SlotRow& row) {
    if (is_running(row)) {
      ++(row.direction == 0 ? incoming : outgoing);
    } else if (is_pending(row)) {
      ++pending;
    }
  });
  ShownJson addresses = ShownJson::array();
  for (std::size_t i = 0; i < std::min<std::size_t>(node.net_count, node.net_addresses.size()); ++i) {
    addresses.push_back(to_text(Point{Address{node.net_addresses[i]}, node.net_ports[i]}));
  }
  ShownJson processes = ShownJson::array();
  for (std::size_t i = 0; i < kServiceRoles; ++i) {
    const auto role = static_cast<Role>(i);
    const auto row = tables.processes.process(role).read();
    if (!row) continue;
    ShownJson process = {{"role", role_name(role)},
                         {"pid", row->pid},
                         {"restarts", row->restarts},
                         {"since", time_text(row->since_ms)},
                         {"ready", row->ready != 0}};
    if (row->last_death_ms != 0) {
      process["last_restart"] = {{"time", time_text(row->last_death_ms)},
                                 {"reason", reason_text(row->last_cause)},
                                 {"end", end_text(row->last_wait_status)}};
    }
    processes.push_back(std::move(process));
  }
  const std::uint32_t holder = node.receiver_pid != 0 ? node.receiver_pid : node.sender_pid;
  return {{"ready", node.ready != 0},
          {"peer_id", wire::peer_id_text(node.peer_id)},
          {"chain_name", chain_name(node)},
          {"net_addr", addresses},
          {"since", time_text(node.started_ms)},
          {"connections",
           {{"active", incoming + outgoing},
            {"incoming", incoming},
            {"outgoing", outgoing},
            {"pending", pending},
            {"min", node.minimum},
            {"expected", node.expected},
            {"max", node.maximum}}},
          {"lists", lists_json(*tables.lists)},
          {"processes", processes},
          {"application",
           {{"attached", holder != 0},
            {"pid", holder},
            {"receiver_pid", node.receiver_pid},
            {"sender_pid", node.sender_pid}}}};
}

ShownJson connections_json(const NodeTables& tables, Nanoseconds now) {
  const auto node = tables.processes.node().read().value_or(shm::NodeRow{});
  const std::string name = chain_name(node);
  ShownJson list = ShownJson::array();
  for_each_slot(tables, [&](SlotId slot, const SlotRow& row) {
    if (!is_running(row)) return;
    const LivePage* page = page_of(tables, slot, row);
    ShownJson stat = flow_json(flow_of(page, now));
    stat["messages_sent"] = page == nullptr ? 0 : word(page->messages_out);
    stat["messages_received"] = page == nullptr ? 0 : word(page->messages_in);
    stat["queue_in"] = page == nullptr ? 0 : word(page->queue_in);
    stat["queue_out"] = page == nullptr ? 0 : word(page->queue_out);
    stat["messages_discarded"] = page == nullptr ? 0 : word(page->discarded);
    list.push_back(
        {{"peer_id", wire::peer_id_text(row.peer_id)},
         {"incoming", row.direction == 0},
         {"id_point", id_point(row.address, row.port)},
         {"remote_socket_port", row.remote_port},
         {"announced_version",
          {{"chain_name", name},
           {"distributed_db_version", row.distributed_db_version},
           {"p2p_version", row.p2p_version}}},
         {"private", row.private_node != 0},
         {"remote_metadata", {{"disable_mempool", row.disable_mempool != 0}, {"private_node", row.private_node != 0}}},
         {"trusted", row.trusted != 0},
         {"group", group_text(row.group)},
         {"worker_pid", row.worker_pid},
         {"since", time_text(row.since_ms)},
         {"weight", static_cast<double>(row.weight_milli) / 1000},
         {"stat", stat}});
  });
  return list;
}

ShownJson peers_json(const NodeTables& tables, const std::vector<std::string>& filters, Nanoseconds now) {
  std::map<PeerId, Flow> flows;
  for_each_slot(tables, [&](SlotId slot, const SlotRow& row) {
    if (is_running(row)) flows.emplace(row.peer_id, flow_of(page_of(tables, slot, row), now));
  });
  const std::int64_t at = wall_now_ms();
  ShownJson list = ShownJson::array();
  for (std::uint32_t i = 0; i < tables.pool.peers(); ++i) {
    const auto row = tables.pool.peer(i).read();
    if (!row || row->used == 0) continue;
    const std::string state = peer_state(row->state);
    if (!wanted(filters, state)) continue;
    ShownJson info = {{"score", static_cast<double>(row->score_milli) / 1000},
                      {"trusted", row->trusted != 0},
                      {"banned", tables.lists->look_up(row->peer_id, at).refused()}};
    if (row->has_metadata != 0) {
      info["conn_metadata"] = {{"disable_mempool", row->disable_mempool != 0},
                               {"private_node", row->private_node != 0}};
    }
    info["peer_metadata"] = ShownJson::object();
    info["state"] = state;
    if (Address{row->address} != Address{}) info["reachable_at"] = id_point(row->address, row->port);
    const auto flow = flows.find(row->peer_id);
    info["stat"] = flow_json(flow == flows.end() ? Flow{} : flow->second);
    set_time(info, "created", row->created_ms);
    set_times(info, *row);
    list.push_back(ShownJson::array({wire::peer_id_text(row->peer_id), info}));
  }
  return list;
}

ShownJson points_json(const NodeTables& tables, const std::vector<std::string>& filters) {
  const std::int64_t at = wall_now_ms();
  ShownJson list = ShownJson::array();
  for (std::uint32_t i = 0; i < tables.pool.points(); ++i) {
    const auto row = tables.pool.point(i).read();
    if (!row || row->used == 0) continue;
    const std::string state = point_state(row->state);
    if (!wanted(filters, state)) continue;
    ShownJson info = {{"trusted", row->trusted != 0},
                      {"banned", tables.lists->look_up(Address{row->address}, at).refused()},
                      {"group", group_text(row->group)}};
    if (row->next_attempt_ms != 0) info["greylisted_until"] = time_text(row->next_attempt_ms);
    info["state"] = {{"event_kind", state}};
    if (row->has_peer != 0) info["state"]["p2p_peer_id"] = wire::peer_id_text(row->peer_id);
    set_times(info, *row);
    if (row->reconnect_delay_ms != 0) {
      info["reconnection_delay"] = static_cast<double>(row->reconnect_delay_ms) / 1000;
    }
    if (row->has_expected != 0) info["expected_peer_id"] = wire::peer_id_text(row->expected_peer_id);
    list.push_back(ShownJson::array({to_text(Point{Address{row->address}, row->port}), info}));
  }
  return list;
}

std::optional<Prefix> event_prefix(const shm::EventRow& event) {
  using shm::EventKind;
  const auto is = [&](EventKind kind) { return event.kind == static_cast<std::uint32_t>(kind); };
  const bool of_lists = is(EventKind::kBanned) || is(EventKind::kUnbanned) || is(EventKind::kTrusted) ||
                        is(EventKind::kUntrusted) || is(EventKind::kGreylisted);
  // The length plus one; 0 is a single address.
  if (!of_lists || event.has_address == 0 || event.detail == 0 || event.detail > kAddressBits + 1U) return std::nullopt;
  return prefix_of(Address{event.address}, static_cast<std::uint8_t>(event.detail - 1));
}

ShownJson event_json(const shm::EventRow& event) {
  ShownJson json = {{"time", time_text(event.time_ms)},
                    {"event", shm::event_name(event.kind)},
                    {"addr", event.has_address != 0 ? to_text(Address{event.address}) : std::string()},
                    {"peer_id", nullptr},
                    {"reason", reason_text(event.reason)},
                    {"number", event.number},
                    {"port", event.port},
                    {"count", event.count},
                    {"worker_pid", event.worker_pid}};
  if (event.has_peer != 0) json["peer_id"] = wire::peer_id_text(event.peer_id);
  if (event.kind == static_cast<std::uint32_t>(shm::EventKind::kRestarted) && event.detail < kServiceRoles) {
    json["role"] = role_name(static_cast<Role>(event.detail));
    json["end"] = end_text(event.wait_status);
  } else if (event.reason == static_cast<std::uint32_t>(Reason::kSandboxViolation) && event.detail != 0) {
    // The worker's own word.
    json["syscall"] = sandbox::call_name(event.detail - 1);
  } else if (event.kind == static_cast<std::uint32_t>(shm::EventKind::kAclsCleared)) {
    json["bans"] = event.count;
    json["greylistings"] = event.detail;
  } else if (event.kind == static_cast<std::uint32_t>(shm::EventKind::kGreylistCleared)) {
    json["greylistings"] = event.detail;
  } else if (event.kind == static_cast<std::uint32_t>(shm::EventKind::kAclsImported)) {
    json["entries"] = event.count;
  } else if (const auto prefix = event_prefix(event)) {
    json["prefix"] = to_text(*prefix);
  } else if (event.detail != 0) {
    json["detail"] = event.detail;
  }
  if (event.kind == static_cast<std::uint32_t>(shm::EventKind::kBanned) ||
      event.kind == static_cast<std::uint32_t>(shm::EventKind::kTrusted)) {
    json["until"] = nullptr;
    if (event.lasts_s != 0) json["until"] = time_text(event.time_ms + std::int64_t{event.lasts_s} * 1000);
  }
  return json;
}

ShownJson traffic_json(const NodeTables& tables, Nanoseconds now) {
  Flow sum;
  for_each_slot(tables, [&](SlotId slot, const SlotRow& row) {
    if (!is_running(row)) return;
    const Flow flow = flow_of(page_of(tables, slot, row), now);
    sum.sent += flow.sent;
    sum.received += flow.received;
    sum.outflow += flow.outflow;
    sum.inflow += flow.inflow;
  });
  return flow_json(sum);
}

}  // namespace bulkhead::cli
