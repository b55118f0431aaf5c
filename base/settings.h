#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/connection_bounds.h"
#include "base/ids.h"
#include "base/log.h"

namespace bulkhead {

enum class SandboxLevel : std::uint8_t { kOff = 0, kDefault = 1, kStrict = 2 };

struct PeerSetting {
  std::string host;  ///< name or literal address, without brackets
  std::uint16_t port = 9732;
  std::optional<PeerId> expected_peer_id;
};

/// What strangers may do before they have proved any work (services/acceptor/door.h). A prefix is a /24 of IPv4 or a
/// /56 of IPv6.
struct DoorLimits {
  double accept_rate_address = 20;  ///< connections each second, in the long run
  std::uint32_t accept_burst_address = 200;
  double accept_rate_prefix = 200;
  std::uint32_t accept_burst_prefix = 2000;
  std::uint32_t pending_per_address = 256;  ///< at once
  std::uint32_t pending_per_prefix = 1024;
  std::uint32_t pending_limit = 4096;   ///< of all together
  std::uint32_t trusted_reserve = 256;  ///< of pending_limit, for trusted addresses alone
  bool operator==(const DoorLimits&) const = default;
};

/// Options of every connection to a peer, in the units that the kernel takes. The defaults are those that Octez
/// intends: a peer that is gone is found by keepalive when idle, by the user time-out while data is unacknowledged.
struct TcpSettings {
  std::uint32_t keepalive_idle_s = 10;  ///< 0: no keepalive
  std::uint32_t keepalive_interval_s = 5;
  std::uint32_t user_timeout_ms = 45000;  ///< 0: as the kernel does without
  bool operator==(const TcpSettings&) const = default;
};

/// What `run` works with: the defaults, then config.json, then the command line. Filled by
/// services/controller/cli/config, where every name, range and origin stands.
struct Settings {
  std::string data_dir;

  std::vector<Point> net_addresses;  ///< default [::]:9732
  std::optional<std::uint16_t> advertised_port;
  std::string chain_name = "TEZOS_MAINNET";
  std::vector<std::uint16_t> distributed_db_versions = {0, 1, 2};
  std::vector<std::uint16_t> p2p_versions = {0, 1};
  std::vector<PeerSetting> peers;   ///< `--peer` and `bootstrap-peers`, all trusted
  std::vector<Point> name_servers;  ///< asked for the names among them; none: those of the machine
  double expected_pow = 26.0;
  bool private_mode = false;
  bool disable_mempool = false;
  bool disable_peer_discovery = false;
  std::optional<Point> discovery;  ///< LAN discovery: where to announce the node, IPv4, UDP; nothing: off
  bool maintenance = true;         ///< off by --disable-p2p-maintenance
  double maintenance_idle_time_s = 120;
  bool swap = true;  ///< off by --disable-p2p-swap
  double swap_linger_s = 30;
  bool hardened = true;               ///< --peer-selection hardened
  std::string as_map_file;            ///< empty: none
  bool allow_private_points = false;  ///< also where the node listens on a private address
  double score_half_life_s = 259200;

  std::uint32_t minimum_connections = 10;
  std::uint32_t expected_connections = 50;
  std::uint32_t maximum_connections = 100;
  ConnectionBounds bounds = bounds_for(10, 50, 100);
  std::uint32_t maximum_incoming = 20;  ///< workers in their handshake, incoming
  std::uint32_t backlog = 4096;         ///< Octez has 20: what does not fit comes again after a second
  DoorLimits door;
  double authentication_timeout_s = 5;
  double connection_timeout_s = 10;

  std::uint32_t known_points_maximum = 400;
  std::uint32_t known_points_target = 300;
  std::uint32_t known_peers_maximum = 400;
  std::uint32_t known_peers_target = 300;

  double reconnection_factor = 1.2;
  double reconnection_initial_delay_s = 1;
  double reconnection_disconnection_delay_s = 60;
  double reconnection_increase_cap_s = 172800;

  double greylist_timeout_s = 86400;
  std::uint8_t greylist_ipv6_prefix = 64;  ///< length of what an automatic greylisting of an IPv6 address covers

  double application_grace_s = 20;
  bool discard_without_application = false;  ///< --no-application discard
  std::string application_group;             ///< group of run/app.sock and run/tables.sock; empty: the node's own

  SandboxLevel sandbox = SandboxLevel::kDefault;
  std::optional<std::uint32_t> workers_memory_mib;  ///< of all workers together; nothing: see docs/security.md
  LogLevel log_level = LogLevel::kInfo;
  bool log_json = false;
};

}  // namespace bulkhead
