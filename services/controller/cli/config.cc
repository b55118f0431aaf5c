#include "services/controller/cli/config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/address.h"
#include "schema/messages.h"
#include "services/controller/cli/files.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/text.h"
#include "wire/point_text.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

constexpr std::uint16_t kDefaultPort = 9732;
constexpr std::size_t kMaximumListenAddresses = 4;  // as many as the table `processes` shows
constexpr std::size_t kMaximumNameServers = 8;
constexpr std::string_view kMainnet = "TEZOS_MAINNET";
constexpr std::array<std::string_view, 3> kMainnetBootstrap = {"boot.tzinit.org", "boot.tzboot.net", "boot.tzbeta.net"};

struct NetworkAlias {
  std::string_view alias;
  std::string_view chain_name;
};
constexpr std::array kNetworks = {
    NetworkAlias{"mainnet", "TEZOS_MAINNET"},
    NetworkAlias{"sandbox", "TEZOS"},
    NetworkAlias{"ghostnet", "TEZOS_ITHACANET_2022-01-25T15:00:00Z"},
    NetworkAlias{"shadownet", "TEZOS_SHADOWNET_2025-08-07T20:00:00Z"},
};

/// Sections of an Octez configuration that are not about the P2P layer.
constexpr std::array<std::string_view, 7> kForeignSections = {
    "data-dir", "rpc", "log", "internal-events", "shell", "metrics_addr", "disable-config-validation"};

/// One element of a JSON pointer; what a file says may hold any character.
std::string pointer_part(std::string_view key) {
  std::string out = "/";
  for (const char c : key.substr(0, 80)) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += '?';
    } else {
      out += c;
    }
  }
  return out;
}

std::string later_text(const SettingInfo& info) {
  return std::string(info.name) + " is not part of this version: leave it out";
}

class FileReader {
 public:
  FileReader(const std::string& file, std::vector<std::string>& notes) : file_(file), notes_(notes) {}

  Result<Values> read(const Json& root) {
    if (!root.is_object()) return error("/", "the file must hold one object: {\"p2p\": {...}, \"bulkhead\": {...}}");
    for (const auto& [key, value] : root.items()) {
      const std::string place = pointer_part(key);
      Result<void> done;
      if (key == "p2p") {
        done = read_p2p(place, value);
      } else if (key == "bulkhead") {
        done = read_bulkhead(place, value);
      } else if (key == "network") {
        done = read_network(place, value);
      } else if (std::find(kForeignSections.begin(), kForeignSections.end(), key) != kForeignSections.end()) {
        note(place, "of octez-node, not used here");
      } else {
        return unknown(place);
      }
      if (!done) return done.error();
    }
    return std::move(values_);
  }

 private:
  Error error(const std::string& place, const std::string& text) const {
    return failure(file_ + ": " + place + ": " + text);
  }

  Error unknown(const std::string& place) const {
    return error(place, "not a known name; remove it ('bulkhead config show' lists the names)");
  }

  void note(const std::string& place, const std::string& text) { notes_.push_back(file_ + ": " + place + ": " + text); }

  Result<void> take(const SettingInfo& info, const std::string& place, const Json& value) {
    auto checked = check_value(info, value);
    if (!checked) return error(place, checked.error().text);
    if (info.use == SettingUse::kLater) {
      // What Octez writes for "off" asks for nothing.
      return checked->is_null() ? Result<void>() : Result<void>(error(place, later_text(info)));
    }
    if (info.use == SettingUse::kNoEffect) {
      note(place, "has no effect here");
      return {};
    }
    const auto [position, fresh] = values_.try_emplace(std::string(info.name));
    if (!fresh) return error(place, "is set a second time, first at " + place_of(position->second) + "; keep one");
    position->second = Value{std::move(*checked), Source::kFile, file_ + ": " + place};
    return {};
  }

  std::string place_of(const Value& value) const { return value.origin.substr(file_.size() + 2); }

  Result<void> read_p2p(const std::string& place, const Json& section) {
    if (!section.is_object()) return error(place, "must be an object");
    for (const auto& [key, value] : section.items()) {
      const std::string inner = place + pointer_part(key);
      Result<void> done;
      if (const SettingInfo* info = find_octez_setting(inner)) {
        done = take(*info, inner, value);
      } else if (inner == "/p2p/limits" || inner == "/p2p/greylisting_config") {
        done = read_p2p(inner, value);
      } else {
        return unknown(inner);
      }
      if (!done) return done;
    }
    return {};
  }

  Result<void> read_bulkhead(const std::string& place, const Json& section) {
    if (!section.is_object()) return error(place, "must be an object");
    for (const auto& [key, value] : section.items()) {
      const std::string inner = place + pointer_part(key);
      const SettingInfo* info = find_setting(key);
      if (info == nullptr) return unknown(inner);
      if (!info->option) return error(inner, "belongs at " + std::string(info->octez) + "; move it there");
      if (auto done = take(*info, inner, value); !done) return done;
    }
    return {};
  }

  Result<void> read_network(const std::string& place, const Json& network) {
    const SettingInfo& chain = *find_setting("chain-name");
    if (network.is_string()) {
      for (const auto& known : kNetworks) {
        if (network == known.alias) return take(chain, place, std::string(known.chain_name));
      }
      return error(place, "not a network known by name; set the name at /bulkhead/chain-name instead");
    }
    if (!network.is_object()) return error(place, "must be a name or an object");
    for (const auto& [key, value] : network.items()) {
      const std::string inner = place + pointer_part(key);
      Result<void> done;
      if (key == "chain_name") {
        done = take(chain, inner, value);
      } else if (key == "default_bootstrap_peers") {
        auto checked = check_value(*find_setting("bootstrap-peers"), value);
        if (!checked) return error(inner, checked.error().text);
        // What p2p.bootstrap-peers says goes before it, whatever the order in the file.
        values_.emplace("network-bootstrap-peers", Value{std::move(*checked), Source::kFile, file_ + ": " + inner});
      } else {
        note(inner, "of octez-node, not used here");
      }
      if (!done) return done;
    }
    return {};
  }

  const std::string& file_;
  std::vector<std::string>& notes_;
  Values values_;
};

/// nlohmann-json keeps the last of two equal names; a person who wrote two must be told. Depth is bounded too.
Result<Json> parse(std::string_view text, const std::string& file) {
  std::vector<std::set<std::string>> seen;
  std::string twice;
  bool deep = false;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start) {
      if (depth > 16) deep = true;
      seen.emplace_back();
    } else if (event == Json::parse_event_t::object_end || event == Json::parse_event_t::array_end) {
      if (!seen.empty()) seen.pop_back();
    } else if (event == Json::parse_event_t::key && !seen.empty()) {
      if (!seen.back().insert(parsed.get<std::string>()).second && twice.empty()) twice = parsed.get<std::string>();
    }
    return !deep;
  };
  Json root;
  try {
    root = Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::parse_error& problem) {
    return failure(file + ": " + line_and_column(text, problem.byte) +
                   ": this is not JSON; correct it there ('bulkhead config validate' checks it)");
  } catch (const Json::exception&) {
    return failure(file + ": a number in it is out of range");
  }
  if (deep) return failure(file + ": nested too deeply");
  if (!twice.empty()) return failure(file + ": the name " + in_quotes(twice) + " stands twice in one object; keep one");
  return root;
}

/// What a person types is meant from where that person is; what stands in a file must not depend on it.
std::vector<std::string> absolute_paths(std::vector<std::string> texts) {
  for (std::string& text : texts) {
    std::error_code error;
    const auto absolute = std::filesystem::absolute(text, error);
    if (!text.empty() && !error) text = absolute.lexically_normal().string();
  }
  return texts;
}

void derive(Values& layer, std::string_view name, Json value, const Value& from) {
  layer.try_emplace(std::string(name), Value{std::move(value), from.source, from.origin});
}

/// Settings that stand for several: within one layer an explicit value goes before a derived one.
void expand(Values& layer) {
  if (const auto found = layer.find("connections"); found != layer.end()) {
    const Value from = found->second;
    const auto n = from.value.get<std::uint64_t>();
    derive(layer, "min-connections", std::max<std::uint64_t>(n / 2, 1), from);
    derive(layer, "expected-connections", n, from);
    derive(layer, "max-connections", 3 * n / 2, from);
    derive(layer, "peer-table-size", 8 * n, from);
  }
  if (const auto found = layer.find("peer-table-size"); found != layer.end()) {
    const Value from = found->second;
    const auto n = from.value.get<std::uint64_t>();
    const Json pair = Json::array({n, n / 4 * 3});
    derive(layer, "max-known-points", pair, from);
    derive(layer, "max-known-peer-ids", pair, from);
  }
}

Values defaults() {
  const Settings plain;
  Values values;
  const auto set = [&](std::string_view name, Json value) {
    values.insert_or_assign(std::string(name), Value{std::move(value), Source::kDefault, "default"});
  };
  set("net-addr", Json::array({"[::]:" + std::to_string(kDefaultPort)}));
  set("advertised-net-port", nullptr);
  set("chain-name", plain.chain_name);
  set("db-versions", plain.distributed_db_versions);
  set("peer", Json::array());
  set("name-server", Json::array());
  set("no-bootstrap-peers", false);
  set("min-connections", plain.minimum_connections);
  set("expected-connections", plain.expected_connections);
  set("max-connections", plain.maximum_connections);
  for (const char* name : {"min-threshold", "min-target", "max-target", "max-threshold"}) set(name, nullptr);
  set("max-incoming-connections", plain.maximum_incoming);
  set("backlog", plain.backlog);
  set("accept-rate-address", plain.door.accept_rate_address);
  set("accept-burst-address", plain.door.accept_burst_address);
  set("accept-rate-prefix", plain.door.accept_rate_prefix);
  set("accept-burst-prefix", plain.door.accept_burst_prefix);
  set("pending-per-address", plain.door.pending_per_address);
  set("pending-per-prefix", plain.door.pending_per_prefix);
  set("pending-limit", plain.door.pending_limit);
  set("trusted-reserve", plain.door.trusted_reserve);
  set("max-known-points", Json::array({plain.known_points_maximum, plain.known_points_target}));
  set("max-known-peer-ids", Json::array({plain.known_peers_maximum, plain.known_peers_target}));
  set("expected-pow", plain.expected_pow);
  set("private-mode", plain.private_mode);
  set("disable-mempool", plain.disable_mempool);
  set("disable-peer-discovery", plain.disable_peer_discovery);
  set("discovery-addr", nullptr);
  set("disable-p2p-maintenance", !plain.maintenance);
  set("peer-selection", "hardened");
  set("as-map", plain.as_map_file);
  set("allow-private-points", plain.allow_private_points);
  set("score-half-life", plain.score_half_life_s);
  set("disable-p2p-swap", !plain.swap);
  set("swap-linger", plain.swap_linger_s);
  set("maintenance-idle-time", plain.maintenance_idle_time_s);
  set("authentication-timeout", plain.authentication_timeout_s);
  set("connection-timeout", plain.connection_timeout_s);
  set("reconnection-factor", plain.reconnection_factor);
  set("reconnection-initial-delay", plain.reconnection_initial_delay_s);
  set("reconnection-disconnection-delay", plain.reconnection_disconnection_delay_s);
  set("reconnection-increase-cap", plain.reconnection_increase_cap_s);
  set("greylist-timeout", plain.greylist_timeout_s);
  set("greylist-ipv6-prefix", plain.greylist_ipv6_prefix);
  set("application-grace", plain.application_grace_s);
  set("no-application", "hold");
  set("application-group", plain.application_group);
  set("require-sandbox", "default");
  set("workers-memory", nullptr);
  set("log-level", "info");
  set("log-format", "text");
  return values;
}

std::string named(const Values& values, const char* name) {
  const Value& value = values.find(name)->second;
  const Json& shown = value.value.is_array() ? value.value[1] : value.value;
  return std::string(name) + (value.value.is_array() ? "'s target " : " ") + shown.dump() + " (" + value.origin + ")";
}

Error conflict(const Values& values, const char* one, const char* two, const std::string& text) {
  const bool typed =
      values.find(one)->second.source == Source::kOption || values.find(two)->second.source == Source::kOption;
  return Error{typed ? ErrorCode::kInvalid : ErrorCode::kRefused, text};
}

/// What follows from minimum, expected and maximum, but where it is set by itself.
Result<ConnectionBounds> connection_bounds(const Values& values) {
  const auto at = [&](const char* name) -> const Json& { return values.find(name)->second.value; };
  const auto number = [&](const char* name) { return at(name).get<std::uint32_t>(); };
  const std::uint32_t minimum = number("min-connections");
  const std::uint32_t maximum = number("max-connections");
  ConnectionBounds bounds = bounds_for(minimum, number("expected-connections"), maximum);
  const std::pair<const char*, std::uint32_t*> each[] = {{"min-threshold", &bounds.min_threshold},
                                                         {"min-target", &bounds.min_target},
                                                         {"max-target", &bounds.max_target},
                                                         {"max-threshold", &bounds.max_threshold}};
  std::string origins;
  bool typed = false;
  for (const auto& [name, bound] : each) {
    if (at(name).is_null()) continue;
    *bound = number(name);
    const Value& value = values.find(name)->second;
    origins += (origins.empty() ? " (" : ", ") + std::string(name) + " from " + value.origin;
    typed = typed || value.source == Source::kOption;
  }
  if (auto broken = broken_rule(bounds, minimum, maximum)) {
    return Error{typed ? ErrorCode::kInvalid : ErrorCode::kRefused,
                 std::move(*broken) + origins + (origins.empty() ? "" : ")")};
  }
  return bounds;
}

/// The rules of Octez's validation that tie two settings together.
Result<void> check_numbers(const Values& values) {
  const auto number = [&](const char* name) { return values.find(name)->second.value.get<std::uint64_t>(); };
  constexpr const char* kOrder =
      "set min-connections, expected-connections and max-connections in rising order, or connections alone";
  if (number("min-connections") > number("expected-connections")) {
    return conflict(
        values, "min-connections", "expected-connections",
        named(values, "min-connections") + " is above " + named(values, "expected-connections") + ": " + kOrder);
  }
  if (number("expected-connections") > number("max-connections")) {
    return conflict(
        values, "expected-connections", "max-connections",
        named(values, "expected-connections") + " is above " + named(values, "max-connections") + ": " + kOrder);
  }
  if (number("trusted-reserve") >= number("pending-limit")) {
    return conflict(values, "trusted-reserve", "pending-limit",
                    named(values, "trusted-reserve") + " leaves nobody else a place of " +
                        named(values, "pending-limit") + ": lower the first or raise the second");
  }
  for (const char* known : {"max-known-points", "max-known-peer-ids"}) {
    if (number("max-connections") > values.find(known)->second.value[1].get<std::uint64_t>()) {
      return conflict(values, "max-connections", known,
                      named(values, "max-connections") + " is above " + named(values, known) +
                          ": set peer-table-size to " + std::to_string((number("max-connections") + 2) / 3 * 4) +
                          " or more");
    }
  }
  return {};
}

Point listen_point(const std::string& text) {
  const std::string full = !text.empty() && text.front() == ':' ? "[::]" + text : text;
  return parse_point(full, kDefaultPort).value_or(Point{});
}

PeerSetting peer_setting(const std::string& text) {
  const auto parsed = wire::parse_peer_option(text);
  PeerSetting peer;
  if (!parsed) return peer;
  peer.host = parsed->host;
  peer.port = parsed->port.value_or(kDefaultPort);
  peer.expected_peer_id = parsed->peer_id;
  return peer;
}

SandboxLevel sandbox_level(const std::string& text) {
  if (text == "off") return SandboxLevel::kOff;
  return text == "strict" ? SandboxLevel::kStrict : SandboxLevel::kDefault;
}

LogLevel log_level(const std::string& text) {
  if (text == "debug") return LogLevel::kDebug;
  if (text == "notice") return LogLevel::kNotice;
  if (text == "warning") return LogLevel::kWarning;
  if (text == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

Result<std::vector<Point>> listen_points(const Value& value) {
  const ErrorCode code = value.source == Source::kOption ? ErrorCode::kInvalid : ErrorCode::kRefused;
  std::vector<Point> points;
  for (const Json& text : value.value) {
    const Point point = listen_point(text.get<std::string>());
    if (point.port != 0 && std::find(points.begin(), points.end(), point) != points.end()) {
      return Error{code, value.origin + ": " + to_text(point) + " stands there twice"};
    }
    points.push_back(point);
  }
  if (points.empty() || points.size() > kMaximumListenAddresses) {
    return Error{code, value.origin + ": " + std::to_string(points.size()) + " addresses; 1 to " +
                           std::to_string(kMaximumListenAddresses) + " are allowed"};
  }
  return points;
}

/// What takes LAN discovery back, or makes less of it than was asked for.
void check_discovery(Settings& settings, std::vector<std::string>& notes) {
  const char* against = settings.private_mode             ? "private-mode is set"
                        : settings.disable_peer_discovery ? "disable_peer_discovery is set"
                        : !settings.maintenance           ? "maintenance is off"
                                                          : nullptr;
  if (against != nullptr) {
    notes.push_back(std::string("LAN discovery (discovery-addr) stays off, as ") + against +
                    ": leave one of the two out");
    settings.discovery.reset();
    return;
  }
  const bool announces = std::any_of(settings.net_addresses.begin(), settings.net_addresses.end(),
                                     [](const Point& p) { return is_unspecified(p.address) || is_ipv4(p.address); });
  if (!announces)
    notes.push_back(
        "LAN discovery is of IPv4: this node listens on no such address, so it hears others and announces nothing");
}

/// Whose peers are known before any was met: the configuration's own, else the network's.
Value bootstrap_peers(const Values& values, const Settings& settings) {
  for (const char* name : {"bootstrap-peers", "network-bootstrap-peers"}) {
    if (const auto found = values.find(name); found != values.end()) return found->second;
  }
  Value value{Json::array(), Source::kDefault, "default"};
  const bool reaches_out = !std::all_of(settings.net_addresses.begin(), settings.net_addresses.end(),
                                        [](const Point& point) { return is_loopback(point.address); });
  if (settings.chain_name == kMainnet && reaches_out) {
    for (const auto host : kMainnetBootstrap)
      value.value.push_back(std::string(host) + ":" + std::to_string(kDefaultPort));
  }
  return value;
}

}  // namespace

std::string default_data_dir() {
  if (const char* named_dir = std::getenv("BULKHEAD_DATA_DIR"); named_dir != nullptr && *named_dir != 0)
    return named_dir;
  if (::geteuid() == 0) return "/var/lib/bulkhead";
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/') {
    return std::string(state) + "/bulkhead";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return std::string(home) + "/.local/state/bulkhead";
  }
  return {};
}

std::string configuration_path(const std::string& data_dir) {
  return data_dir + "/config.json";
}

Result<Values> values_from_options(const OptionTexts& options) {
  Values values;
  for (const auto& [name, texts] : options) {
    const SettingInfo* info = find_setting(name);
    const std::string origin = "--" + name;
    if (info == nullptr || !info->option) return usage_error(origin + ": not an option");
    auto value = value_from_texts(*info, name == "as-map" ? absolute_paths(texts) : texts);
    if (!value) return usage_error(origin + ": " + value.error().text);
    if (info->use == SettingUse::kLater) return failure("--" + later_text(*info));
    values.emplace(name, Value{std::move(*value), Source::kOption, origin});
  }
  return values;
}

Result<Values> values_from_file(std::string_view text, const std::string& file, std::vector<std::string>& notes) {
  const auto root = parse(text, file);
  if (!root) return root.error();
  return FileReader(file, notes).read(*root);
}

Result<Configuration> combine(const std::string& data_dir, const Values& file, const Values& options) {
  Configuration configuration;
  Values& values = configuration.values;
  values = defaults();
  for (const Values* given : {&file, &options}) {
    Values layer = *given;
    expand(layer);
    for (auto& [name, value] : layer) {
      Value& present = values[name];
      if (name == "peer" && given == &options && present.source == Source::kFile) {
        // --peer names peers beside the configured ones.
        for (const Json& peer : value.value) present.value.push_back(peer);
        present.origin += ", --peer";
        present.source = Source::kOption;
      } else {
        present = value;
      }
    }
  }
  if (auto checked = check_numbers(values); !checked) return checked.error();

  Settings& settings = configuration.settings;
  const auto get = [&](const char* name) -> const Json& { return values.find(name)->second.value; };
  const auto number = [&](const char* name) { return get(name).get<std::uint32_t>(); };
  settings.data_dir = data_dir;
  auto points = listen_points(values.find("net-addr")->second);
  if (!points) return points.error();
  settings.net_addresses = std::move(*points);
  if (!get("advertised-net-port").is_null()) settings.advertised_port = get("advertised-net-port").get<std::uint16_t>();
  settings.chain_name = get("chain-name").get<std::string>();
  settings.distributed_db_versions = get("db-versions").get<std::vector<std::uint16_t>>();
  settings.expected_pow = get("expected-pow").get<double>();
  settings.private_mode = get("private-mode").get<bool>();
  settings.disable_mempool = get("disable-mempool").get<bool>();
  settings.disable_peer_discovery = get("disable-peer-discovery").get<bool>();
  if (!get("discovery-addr").is_null()) {
    const auto target = parse_discovery(get("discovery-addr").get<std::string>());
    if (!target) return target.error();
    settings.discovery = *target;
  }
  settings.swap = !get("disable-p2p-swap").get<bool>() && !get("swap-linger").is_null();
  if (!get("swap-linger").is_null()) settings.swap_linger_s = get("swap-linger").get<double>();
  settings.as_map_file = get("as-map").get<std::string>();
  settings.hardened = get("peer-selection") == "hardened";
  settings.allow_private_points = get("allow-private-points").get<bool>();
  settings.score_half_life_s = get("score-half-life").get<double>();
  settings.maintenance = !get("disable-p2p-maintenance").get<bool>() && !get("maintenance-idle-time").is_null();
  if (!get("maintenance-idle-time").is_null())
    settings.maintenance_idle_time_s = get("maintenance-idle-time").get<double>();
  settings.minimum_connections = number("min-connections");
  settings.expected_connections = number("expected-connections");
  settings.maximum_connections = number("max-connections");
  auto bounds = connection_bounds(values);
  if (!bounds) return bounds.error();
  settings.bounds = *bounds;
  settings.maximum_incoming = number("max-incoming-connections");
  settings.backlog = number("backlog");
  settings.door = {.accept_rate_address = get("accept-rate-address").get<double>(),
                   .accept_burst_address = number("accept-burst-address"),
                   .accept_rate_prefix = get("accept-rate-prefix").get<double>(),
                   .accept_burst_prefix = number("accept-burst-prefix"),
                   .pending_per_address = number("pending-per-address"),
                   .pending_per_prefix = number("pending-per-prefix"),
                   .pending_limit = number("pending-limit"),
                   .trusted_reserve = number("trusted-reserve")};
  settings.authentication_timeout_s = get("authentication-timeout").get<double>();
  settings.connection_timeout_s = get("connection-timeout").get<double>();
  settings.known_points_maximum = get("max-known-points")[0].get<std::uint32_t>();
  settings.known_points_target = get("max-known-points")[1].get<std::uint32_t>();
  settings.known_peers_maximum = get("max-known-peer-ids")[0].get<std::uint32_t>();
  settings.known_peers_target = get("max-known-peer-ids")[1].get<std::uint32_t>();
  settings.reconnection_factor = get("reconnection-factor").get<double>();
  settings.reconnection_initial_delay_s = get("reconnection-initial-delay").get<double>();
  settings.reconnection_disconnection_delay_s = get("reconnection-disconnection-delay").get<double>();
  settings.reconnection_increase_cap_s = get("reconnection-increase-cap").get<double>();
  settings.greylist_timeout_s = get("greylist-timeout").get<double>();
  settings.greylist_ipv6_prefix = get("greylist-ipv6-prefix").get<std::uint8_t>();
  settings.application_grace_s = get("application-grace").get<double>();
  settings.discard_without_application = get("no-application") == "discard";
  settings.application_group = get("application-group").get<std::string>();
  settings.sandbox = sandbox_level(get("require-sandbox").get<std::string>());
  if (!get("workers-memory").is_null()) settings.workers_memory_mib = number("workers-memory");
  settings.log_level = log_level(get("log-level").get<std::string>());
  settings.log_json = get("log-format") == "json";

  Value bootstrap = bootstrap_peers(values, settings);
  if (get("no-bootstrap-peers").get<bool>()) {
    bootstrap = Value{Json::array(), values.find("no-bootstrap-peers")->second.source,
                      values.find("no-bootstrap-peers")->second.origin};
  }
  values.erase("network-bootstrap-peers");
  values.insert_or_assign("bootstrap-peers", std::move(bootstrap));
  for (const char* list : {"bootstrap-peers", "peer"}) {
    for (const Json& text : get(list)) settings.peers.push_back(peer_setting(text.get<std::string>()));
  }

  if (settings.peers.size() > schema::kMaximumConfiguredPeers) {
    return failure(std::to_string(settings.peers.size()) +
                   " peers are configured (bootstrap-peers and peer); at most " +
                   std::to_string(schema::kMaximumConfiguredPeers) + " may be");
  }
  const Value& servers = values.find("name-server")->second;
  if (servers.value.size() > kMaximumNameServers) {
    return Error{servers.source == Source::kOption ? ErrorCode::kInvalid : ErrorCode::kRefused,
                 servers.origin + ": " + std::to_string(servers.value.size()) + " name servers; at most " +
                     std::to_string(kMaximumNameServers) + " are allowed"};
  }
  for (const Json& text : servers.value)
    settings.name_servers.push_back(parse_point(text.get<std::string>(), kNameServerPort).value());

  if (!settings.maintenance)
    configuration.notes.push_back("maintenance is off: nothing keeps the number of connections in bounds");
  if (settings.discovery) check_discovery(settings, configuration.notes);
  if (settings.private_mode && settings.peers.empty()) {
    configuration.notes.push_back(
        "private mode without a configured peer: nobody will be connected to; name some with --peer");
  }
  return configuration;
}

Result<Configuration> load_configuration(const std::string& data_dir, const OptionTexts& options) {
  const auto typed = values_from_options(options);
  if (!typed) return typed.error();
  Values written;
  std::vector<std::string> notes;
  const std::string path = configuration_path(data_dir);
  const auto text = read_file(path, kMaximumConfigurationText);
  if (text) {
    auto read = values_from_file(*text, path, notes);
    if (!read) return read.error();
    written = std::move(*read);
  } else if (text.error().code != ErrorCode::kNotFound) {
    return text.error();
  }
  auto configuration = combine(data_dir, written, *typed);
  if (configuration) configuration->notes.insert(configuration->notes.begin(), notes.begin(), notes.end());
  return configuration;
}

std::string configuration_text(const Values& options) {
  nlohmann::ordered_json root = {{"p2p", nlohmann::ordered_json::object()},
                                 {"bulkhead", nlohmann::ordered_json::object()}};
  for (const SettingInfo& info : all_settings()) {
    const auto found = options.find(info.name);
    if (found == options.end()) continue;
    const bool octez_can_say = !info.octez.empty() && info.name != "chain-name" &&
                               (info.name != "net-addr" || found->second.value.size() == 1);
    nlohmann::ordered_json value = found->second.value;
    if (octez_can_say) {
      if (info.name == "net-addr") value = value[0];
      root[nlohmann::ordered_json::json_pointer(std::string(info.octez))] = value;
    } else {
      root["bulkhead"][std::string(info.name)] = value;
    }
  }
  return root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace bulkhead::cli
