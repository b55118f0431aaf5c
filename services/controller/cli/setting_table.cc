#include "services/controller/cli/setting_table.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/address.h"
#include "base/address_group.h"
#include "services/controller/cli/status.h"
#include "wire/point_text.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

constexpr double kPorts = 65535;
constexpr double kConnections = 65535;  // uint16 in Octez
constexpr double kKnown = 1'000'000;
constexpr double kRates = 1'000'000;
constexpr double kPending = 65536;
constexpr double kDay = 86400;
constexpr double kYear = 365 * kDay;
constexpr double kInt31 = 1073741823;
constexpr std::size_t kListLimit = 256;
constexpr std::size_t kChainNameLimit = 128;
constexpr std::size_t kPathLimit = 4000;

std::optional<std::string> check_listen(const std::string& text) {
  // Octez takes a port alone for all addresses.
  const std::string full = !text.empty() && text.front() == ':' ? "[::]" + text : text;
  if (parse_point(full, 9732)) return std::nullopt;
  return in_quotes(text) + " is not a literal address with a port; write 127.0.0.1:9732 or [::]:9732";
}

std::optional<std::string> check_peer(const std::string& text) {
  const auto peer = wire::parse_peer_option(text);
  if (!peer) return peer.error().text;
  if (peer->host.empty()) return in_quotes(text) + " has no address; write ADDR:PORT or ADDR:PORT#ID";
  if (peer->port == 0) return in_quotes(text) + " has port 0; write the port that the peer listens on";
  return std::nullopt;
}

std::optional<std::string> check_discovery(const std::string& text) {
  const auto target = parse_discovery(text);
  return target ? std::nullopt : std::optional(target.error().text);
}

std::optional<std::string> check_name_server(const std::string& text) {
  const auto point = parse_point(text, kNameServerPort);
  if (point && point->port != 0 && !is_unspecified(point->address)) return std::nullopt;
  return in_quotes(text) + " is not a literal address, with or without a port; write 192.0.2.53 or [2001:db8::53]:53";
}

std::optional<std::string> check_file(const std::string& text) {
  if (text.empty()) return std::nullopt;
  if (text.size() > kPathLimit) return "more than " + std::to_string(kPathLimit) + " bytes";
  if (text.front() != '/' || text.find('\0') != std::string::npos)
    return in_quotes(text) + " is not the absolute path of a file";
  return std::nullopt;
}

std::optional<std::string> check_chain_name(const std::string& text) {
  if (text.empty() || text.size() > kChainNameLimit) {
    return "a chain name has 1 to " + std::to_string(kChainNameLimit) + " bytes, this one has " +
           std::to_string(text.size());
  }
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return in_quotes(text) + " has a control character";
  }
  return std::nullopt;
}

std::optional<std::string> one_of(const std::string& text, std::initializer_list<std::string_view> words) {
  std::string list;
  for (const auto word : words) {
    if (text == word) return std::nullopt;
    list += (list.empty() ? "" : ", ") + std::string(word);
  }
  return in_quotes(text) + " is not one of: " + list;
}

std::optional<std::string> check_no_application(const std::string& text) {
  return one_of(text, {"hold", "discard"});
}
std::optional<std::string> check_peer_selection(const std::string& text) {
  return one_of(text, {"hardened", "octez"});
}
std::optional<std::string> check_sandbox(const std::string& text) {
  return one_of(text, {"strict", "default", "off"});
}
std::optional<std::string> check_log_format(const std::string& text) {
  return one_of(text, {"text", "json"});
}
std::optional<std::string> check_log_level(const std::string& text) {
  return one_of(text, {"debug", "info", "notice", "warning", "error"});
}

using enum SettingKind;
using enum SettingUse;

const std::array kSettings = {
    SettingInfo{.name = "net-addr",
                .octez = "/p2p/listen-addr",
                .kind = kTexts,
                .value_name = "ADDR:PORT",
                .description = "Address to listen on (port 0: any free one); repeatable, up to 4",
                .check = check_listen},
    SettingInfo{.name = "advertised-net-port",
                .octez = "/p2p/advertised-net-port",
                .kind = kInteger,
                .low = 1,
                .high = kPorts,
                .nullable = true,
                .value_name = "PORT",
                .description = "Port told to peers, when it is not the one listened on"},
    SettingInfo{.name = "chain-name",
                .octez = "/network",
                .kind = kText,
                .value_name = "NAME",
                .description = "Name of the network; peers of another are refused",
                .check = check_chain_name},
    SettingInfo{.name = "db-versions",
                .kind = kIntegers,
                .high = 65535,
                .value_name = "N,N...",
                .description = "Distributed-db versions spoken; the greatest is announced"},
    SettingInfo{.name = "peer",
                .kind = kTexts,
                .value_name = "ADDR:PORT[#ID]",
                .description = "A peer to stay connected to, trusted, with the peer id expected there; repeatable",
                .check = check_peer},
    SettingInfo{.name = "bootstrap-peers",
                .octez = "/p2p/bootstrap-peers",
                .kind = kTexts,
                .option = false,
                .description = "Peers to find the network by; all become trusted",
                .check = check_peer},
    SettingInfo{.name = "name-server",
                .kind = kTexts,
                .value_name = "ADDR[:PORT]",
                .description =
                    "Asked for the names among the peers, instead of the machine's name servers; repeatable, up to 8",
                .check = check_name_server},
    SettingInfo{.name = "no-bootstrap-peers",
                .kind = kFlag,
                .description = "Leave the configured and built-in bootstrap peers out"},
    SettingInfo{.name = "connections",
                .kind = kInteger,
                .low = 1,
                .high = 43690,
                .value_name = "N",
                .description = "Sets minimum N/2, expected N, maximum 3N/2 and a peer table of 8N"},
    SettingInfo{.name = "min-connections",
                .octez = "/p2p/limits/min-connections",
                .kind = kInteger,
                .high = kConnections,
                .value_name = "N",
                .description = "Below this many, peers are looked for at once"},
    SettingInfo{.name = "expected-connections",
                .octez = "/p2p/limits/expected-connections",
                .kind = kInteger,
                .high = kConnections,
                .value_name = "N",
                .description = "Connections to aim for"},
    SettingInfo{.name = "max-connections",
                .octez = "/p2p/limits/max-connections",
                .kind = kInteger,
                .low = 1,
                .high = kConnections,
                .value_name = "N",
                .description = "Connections never exceeded"},
    SettingInfo{.name = "min-threshold",
                .kind = kInteger,
                .high = kConnections,
                .nullable = true,
                .value_name = "N",
                .description = "Connections below which a maintenance run dials"},
    SettingInfo{.name = "min-target",
                .kind = kInteger,
                .high = kConnections,
                .nullable = true,
                .value_name = "N",
                .description = "Connections that it dials for at least"},
    SettingInfo{.name = "max-target",
                .kind = kInteger,
                .high = kConnections,
                .nullable = true,
                .value_name = "N",
                .description = "Connections that it dials for at most, and closes down to"},
    SettingInfo{.name = "max-threshold",
                .kind = kInteger,
                .high = kConnections,
                .nullable = true,
                .value_name = "N",
                .description = "Connections above which it closes some"},
    SettingInfo{.name = "max-incoming-connections",
                .octez = "/p2p/limits/max-incoming-connections",
                .kind = kInteger,
                .option = false,
                .low = 1,
                .high = kConnections,
                .description = "Incoming connections in their handshake"},
    SettingInfo{.name = "backlog",
                .octez = "/p2p/limits/backlog",
                .kind = kInteger,
                .option = false,
                .low = 1,
                .high = 4096,
                .description = "Connections that the kernel keeps until they are accepted"},
    SettingInfo{.name = "accept-rate-address",
                .kind = kNumber,
                .high = kRates,
                .above_low = true,
                .value_name = "N",
                .description = "Incoming connections each second from one address, in the long run"},
    SettingInfo{.name = "accept-burst-address",
                .kind = kInteger,
                .low = 1,
                .high = kRates,
                .value_name = "N",
                .description = "Incoming connections at once from one address"},
    SettingInfo{.name = "accept-rate-prefix",
                .kind = kNumber,
                .high = kRates,
                .above_low = true,
                .value_name = "N",
                .description = "The same rate for a prefix, /24 of IPv4 or /56 of IPv6"},
    SettingInfo{.name = "accept-burst-prefix",
                .kind = kInteger,
                .low = 1,
                .high = kRates,
                .value_name = "N",
                .description = "The same burst for a prefix"},
    SettingInfo{.name = "pending-per-address",
                .kind = kInteger,
                .low = 1,
                .high = kPending,
                .value_name = "N",
                .description = "Connections without proof of work yet, of one address"},
    SettingInfo{.name = "pending-per-prefix",
                .kind = kInteger,
                .low = 1,
                .high = kPending,
                .value_name = "N",
                .description = "The same of one prefix"},
    SettingInfo{.name = "pending-limit",
                .kind = kInteger,
                .low = 1,
                .high = kPending,
                .value_name = "N",
                .description = "The same of all addresses together"},
    SettingInfo{.name = "trusted-reserve",
                .kind = kInteger,
                .high = kPending,
                .value_name = "N",
                .description = "Of pending-limit, for trusted addresses alone"},
    SettingInfo{.name = "peer-table-size",
                .kind = kInteger,
                .low = 1,
                .high = kKnown,
                .value_name = "N",
                .description = "Known points and known peers kept (trimmed to N/4*3)"},
    SettingInfo{.name = "max-known-points",
                .octez = "/p2p/limits/max_known_points",
                .kind = kPair,
                .option = false,
                .low = 1,
                .high = kKnown,
                .description = "Known points: maximum, and what is left after trimming"},
    SettingInfo{.name = "max-known-peer-ids",
                .octez = "/p2p/limits/max_known_peer_ids",
                .kind = kPair,
                .option = false,
                .low = 1,
                .high = kKnown,
                .description = "Known peers: maximum, and what is left after trimming"},
    SettingInfo{.name = "expected-pow",
                .octez = "/p2p/expected-proof-of-work",
                .kind = kNumber,
                .high = 256,
                .value_name = "BITS",
                .description = "Proof of work asked of identities"},
    SettingInfo{.name = "private-mode",
                .octez = "/p2p/private-mode",
                .kind = kFlag,
                .description = "Connect to trusted peers only, and stay unannounced"},
    SettingInfo{.name = "disable-mempool",
                .octez = "/p2p/disable_mempool",
                .kind = kFlag,
                .description = "Tell peers that this node wants no mempool"},
    SettingInfo{.name = "disable-peer-discovery",
                .octez = "/p2p/disable_peer_discovery",
                .kind = kFlag,
                .option = false,
                .description = "Neither ask for nor give known points"},
    SettingInfo{.name = "disable-p2p-maintenance",
                .kind = kFlag,
                .description = "Never dial or close to keep the number of connections in bounds"},
    SettingInfo{
        .name = "peer-selection",
        .kind = kText,
        .value_name = "hardened|octez",
        .description = "How neighbours are chosen: so that an attacker cannot easily be all of them, or as in Octez",
        .check = check_peer_selection},
    SettingInfo{.name = "as-map",
                .kind = kText,
                .value_name = "FILE",
                .description = "Which autonomous system announces which prefix, a line \"PREFIX ASN\" each: neighbours "
                               "are spread over these instead of over /16 and /32 prefixes",
                .check = check_file},
    SettingInfo{.name = "allow-private-points",
                .kind = kFlag,
                .description = "Dial private and loopback addresses that peers tell of, also when listening on none"},
    SettingInfo{
        .name = "score-half-life",
        .kind = kNumber,
        .high = kYear,
        .value_name = "S",
        .description = "Seconds after which half of what the application thinks of a peer is left; 0: all stays"},
    SettingInfo{.name = "disable-p2p-swap", .kind = kFlag, .description = "Never exchange a neighbour for another"},
    SettingInfo{
        .name = "swap-linger",
        .octez = "/p2p/limits/swap-linger",
        .kind = kNumber,
        .high = kYear,
        .above_low = true,
        .nullable = true,
        .value_name = "S",
        .description = "Seconds between two exchanges that are agreed to, and for the answer to one that was proposed"},
    SettingInfo{.name = "maintenance-idle-time",
                .octez = "/p2p/limits/maintenance-idle-time",
                .kind = kNumber,
                .high = kYear,
                .above_low = true,
                .nullable = true,
                .value_name = "S",
                .description = "Seconds between two maintenance runs without a cause"},
    SettingInfo{.name = "authentication-timeout",
                .octez = "/p2p/limits/authentication-timeout",
                .kind = kNumber,
                .option = false,
                .high = 3600,
                .above_low = true,
                .description = "Seconds that an incoming connection has for its handshake"},
    SettingInfo{.name = "connection-timeout",
                .octez = "/p2p/limits/connection-timeout",
                .kind = kNumber,
                .option = false,
                .high = 3600,
                .above_low = true,
                .description = "Seconds that an outgoing connection has, dialling and handshake"},
    SettingInfo{.name = "reconnection-factor",
                .octez = "/p2p/greylisting_config/factor",
                .kind = kNumber,
                .option = false,
                .low = 1,
                .high = 1000,
                .description = "Growth of the delay before a point is dialled again"},
    SettingInfo{.name = "reconnection-initial-delay",
                .octez = "/p2p/greylisting_config/initial-delay",
                .kind = kNumber,
                .option = false,
                .high = kYear,
                .description = "Seconds of that delay after a first failure"},
    SettingInfo{.name = "reconnection-disconnection-delay",
                .octez = "/p2p/greylisting_config/disconnection-delay",
                .kind = kNumber,
                .option = false,
                .high = kYear,
                .description = "Seconds of that delay after a connection that ran"},
    SettingInfo{.name = "reconnection-increase-cap",
                .octez = "/p2p/greylisting_config/increase-cap",
                .kind = kNumber,
                .option = false,
                .high = kYear,
                .description = "Seconds that the delay never exceeds"},
    SettingInfo{.name = "application-grace",
                .kind = kNumber,
                .high = kDay,
                .value_name = "S",
                .description = "Seconds that a full queue waits for an application before messages are discarded"},
    SettingInfo{.name = "no-application",
                .kind = kText,
                .value_name = "hold|discard",
                .description = "What happens to messages while no application is attached",
                .check = check_no_application},
    SettingInfo{.name = "application-group",
                .kind = kText,
                .value_name = "GROUP",
                .description = "Group that may attach applications and read the tables"},
    SettingInfo{.name = "require-sandbox",
                .kind = kText,
                .value_name = "strict|default|off",
                .description = "Layers of confinement without which the node does not start",
                .check = check_sandbox},
    SettingInfo{
        .name = "workers-memory",
        .kind = kInteger,
        .low = 16,
        .high = kInt31,
        .nullable = true,
        .value_name = "MIB",
        .description = "Memory of all workers together (by default enough for all, at most 3/4 of the machine's)"},
    SettingInfo{.name = "log-level",
                .kind = kText,
                .value_name = "LEVEL",
                .description = "debug, info, notice, warning or error",
                .check = check_log_level},
    SettingInfo{.name = "log-format",
                .kind = kText,
                .value_name = "text|json",
                .description = "Form of the log on standard error",
                .check = check_log_format},

    SettingInfo{.name = "max-download-speed",
                .octez = "/p2p/limits/max-download-speed",
                .kind = kInteger,
                .use = kLater,
                .high = kInt31,
                .nullable = true,
                .value_name = "KIB/S"},
    SettingInfo{.name = "max-upload-speed",
                .octez = "/p2p/limits/max-upload-speed",
                .kind = kInteger,
                .use = kLater,
                .high = kInt31,
                .nullable = true,
                .value_name = "KIB/S"},
    SettingInfo{.name = "discovery-addr",
                .octez = "/p2p/discovery-addr",
                .kind = kText,
                .nullable = true,
                .value_name = "ADDR:PORT",
                .description = "Find nodes of the local network by UDP: the broadcast address to announce this one at",
                .check = check_discovery},
    SettingInfo{.name = "metrics-addr", .kind = kTexts, .use = kLater, .value_name = "ADDR:PORT"},
    SettingInfo{.name = "rpc-addr", .kind = kTexts, .use = kLater, .value_name = "ADDR:PORT"},
    SettingInfo{.name = "greylist-timeout",
                .octez = "/p2p/limits/greylist-timeout",
                .kind = kNumber,
                .low = 1,
                .high = kYear,
                .value_name = "S",
                .description = "How long the node itself refuses who misbehaved (default 86400)"},
    SettingInfo{.name = "greylist-ipv6-prefix",
                .kind = kInteger,
                .low = 1,
                .high = 128,
                .value_name = "BITS",
                .description = "Length of the prefix that an automatic greylisting of an IPv6 address covers "
                               "(default 64)"},

    SettingInfo{.name = "read-buffer-size",
                .octez = "/p2p/limits/read-buffer-size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = kInt31},
    SettingInfo{.name = "read-queue-size",
                .octez = "/p2p/limits/read-queue-size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = kInt31,
                .nullable = true},
    SettingInfo{.name = "write-queue-size",
                .octez = "/p2p/limits/write-queue-size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = kInt31,
                .nullable = true},
    SettingInfo{.name = "incoming-app-message-queue-size",
                .octez = "/p2p/limits/incoming-app-message-queue-size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = kInt31,
                .nullable = true},
    SettingInfo{.name = "incoming-message-queue-size",
                .octez = "/p2p/limits/incoming-message-queue-size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = kInt31,
                .nullable = true},
    SettingInfo{.name = "outgoing-message-queue-size",
                .octez = "/p2p/limits/outgoing-message-queue-size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = kInt31,
                .nullable = true},
    SettingInfo{.name = "peer-greylist-size",
                .octez = "/p2p/limits/peer_greylist_size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = 65535},
    SettingInfo{.name = "ip-greylist-size",
                .octez = "/p2p/limits/ip_greylist_size_in_kilobytes",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = 65535},
    SettingInfo{.name = "ip-greylist-cleanup-delay",
                .octez = "/p2p/limits/ip_greylist_cleanup_delay",
                .kind = kNumber,
                .use = kNoEffect,
                .option = false,
                .high = kYear},
    SettingInfo{.name = "binary-chunks-size",
                .octez = "/p2p/limits/binary-chunks-size",
                .kind = kInteger,
                .use = kNoEffect,
                .option = false,
                .high = 65535},
    SettingInfo{
        .name = "enable-testchain", .octez = "/p2p/enable_testchain", .kind = kFlag, .use = kNoEffect, .option = false},
};

std::string number_text(double value) {
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return error == std::errc{} ? std::string(buffer.data(), end) : std::string("?");
}

std::string range_text(const SettingInfo& info) {
  if (info.above_low) return "above " + number_text(info.low) + ", at most " + number_text(info.high);
  return number_text(info.low) + " to " + number_text(info.high);
}

bool in_range(const SettingInfo& info, double value) {
  return std::isfinite(value) && (info.above_low ? value > info.low : value >= info.low) && value <= info.high;
}

Error range_error(const SettingInfo& info, const std::string& text) {
  return usage_error(text + " is out of range; allowed: " + range_text(info));
}

/// A number as it stands in a file, shortened: a text of any length may stand there.
std::string shown(const Json& value) {
  if (value.is_number_float()) return number_text(value.get<double>());
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

Result<Json> check_integer(const SettingInfo& info, const Json& value) {
  if (!value.is_number_integer()) return usage_error(shown(value) + " is not an integer; allowed: " + range_text(info));
  // In doubles: exact for every range here, and safe for any 64-bit value.
  if (!in_range(info, value.get<double>())) return range_error(info, shown(value));
  return value;
}

Result<Json> check_text(const SettingInfo& info, const Json& value) {
  if (!value.is_string()) return usage_error(shown(value) + " is not a text in quotes");
  if (info.check != nullptr) {
    if (auto wrong = info.check(value.get_ref<const std::string&>())) return usage_error(*wrong);
  }
  return value;
}

Result<Json> check_texts(const SettingInfo& info, const Json& value) {
  const Json list = value.is_string() ? Json::array({value}) : value;
  if (!list.is_array()) return usage_error(shown(value) + " is not a text or an array of texts");
  if (list.size() > kListLimit) return usage_error("more than " + std::to_string(kListLimit) + " elements");
  for (const Json& element : list) {
    if (auto checked = check_text(info, element); !checked) return checked.error();
  }
  return list;
}

Result<Json> check_integers(const SettingInfo& info, const Json& value) {
  if (!value.is_array() || value.empty()) return usage_error(shown(value) + " is not an array of one integer or more");
  if (value.size() > kListLimit) return usage_error("more than " + std::to_string(kListLimit) + " elements");
  std::vector<std::uint64_t> numbers;
  for (const Json& element : value) {
    if (auto checked = check_integer(info, element); !checked) return checked.error();
    numbers.push_back(element.get<std::uint64_t>());
  }
  std::sort(numbers.begin(), numbers.end());
  if (std::adjacent_find(numbers.begin(), numbers.end()) != numbers.end())
    return usage_error("a number stands there twice");
  return Json(numbers);
}

Result<Json> check_pair(const SettingInfo& info, const Json& value) {
  if (!value.is_array() || value.size() != 2) return usage_error(shown(value) + " is not [maximum, target]");
  for (const Json& element : value) {
    if (auto checked = check_integer(info, element); !checked) return checked.error();
  }
  if (value[1].get<std::uint64_t>() > value[0].get<std::uint64_t>()) {
    return usage_error("the target " + shown(value[1]) + " is above the maximum " + shown(value[0]));
  }
  return value;
}

}  // namespace

std::string in_quotes(std::string_view text) {
  constexpr std::size_t kShown = 80;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\x%02x", byte);
      out += escape.data();
    } else {
      out += c;
    }
  }
  if (text.size() > kShown) out += "...";
  return out + "'";
}

Result<Point> parse_discovery(std::string_view text) {
  constexpr std::string_view kEverybody = "255.255.255.255";
  constexpr std::uint16_t kDiscoveryPort = 10732;
  const bool port_alone = text.starts_with(':');
  const auto point = parse_point(port_alone ? std::string(kEverybody) + std::string(text) : text, kDiscoveryPort);
  if (!point || !is_ipv4(point->address) || point->port == 0) {
    return usage_error(in_quotes(text) + " is not an IPv4 address with a port; write 255.255.255.255:10732, or the " +
                       "broadcast address of the local network");
  }
  if (point->address != parse_address(kEverybody) && !is_local_network(point->address)) {
    return usage_error(in_quotes(text) + " is no address of a local network; write 255.255.255.255:" +
                       std::to_string(point->port) + ", or the local network's broadcast address");
  }
  return *point;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_integer(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::span<const SettingInfo> all_settings() {
  return kSettings;
}

const SettingInfo* find_setting(std::string_view name) {
  const auto found =
      std::find_if(kSettings.begin(), kSettings.end(), [&](const auto& info) { return info.name == name; });
  return found == kSettings.end() ? nullptr : &*found;
}

const SettingInfo* find_octez_setting(std::string_view pointer) {
  const auto found = std::find_if(kSettings.begin(), kSettings.end(),
                                  [&](const auto& info) { return !info.octez.empty() && info.octez == pointer; });
  return found == kSettings.end() ? nullptr : &*found;
}

Result<Json> check_value(const SettingInfo& info, const Json& value) {
  if (value.is_null() && info.nullable) return value;
  switch (info.kind) {
    case kFlag:
      if (!value.is_boolean()) return usage_error(shown(value) + " is not true or false");
      return value;
    case kInteger:
      return check_integer(info, value);
    case kNumber:
      if (!value.is_number()) return usage_error(shown(value) + " is not a number; allowed: " + range_text(info));
      if (!in_range(info, value.get<double>())) return range_error(info, shown(value));
      return Json(value.get<double>());
    case kText:
      return check_text(info, value);
    case kTexts:
      return check_texts(info, value);
    case kIntegers:
      return check_integers(info, value);
    case kPair:
      return check_pair(info, value);
  }
  return value;
}

Result<Json> value_from_texts(const SettingInfo& info, const std::vector<std::string>& texts) {
  if (info.kind == kFlag) return Json(true);
  if (info.kind == kTexts) return check_value(info, Json(texts));
  if (texts.size() != 1) return usage_error("given " + std::to_string(texts.size()) + " times; give it once");
  const std::string& text = texts.front();
  if (info.kind == kText) return check_value(info, Json(text));
  if (info.kind == kNumber) {
    const auto number = parse_number(text);
    if (!number) return usage_error(in_quotes(text) + " is not a number; allowed: " + range_text(info));
    return check_value(info, Json(*number));
  }
  if (info.kind == kInteger) {
    const auto number = parse_integer(text);
    if (!number) return usage_error(in_quotes(text) + " is not an integer; allowed: " + range_text(info));
    return check_value(info, Json(*number));
  }
  Json list = Json::array();
  for (std::string_view rest = text;;) {
    const auto comma = rest.find(',');
    const auto number = parse_integer(rest.substr(0, comma));
    if (!number) return usage_error(in_quotes(text) + " is not a list of integers such as 0,1,2");
    list.push_back(*number);
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return check_value(info, list);
}

}  // namespace bulkhead::cli
