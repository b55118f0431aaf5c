#include "services/controller/cli/config.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <set>

#include "base/address.h"
#include "services/controller/cli/files.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"

namespace bulkhead::cli {
namespace {

constexpr const char* kFile = "config.json";
constexpr const char* kPeerId = "idrdoT9g6YwELhUQyshCcHwAzBS9zA";

/// What a file of this text and these options come to.
Result<Configuration> configure(const std::string& text, const OptionTexts& options = {}) {
  std::vector<std::string> notes;
  const auto file = text.empty() ? Result<Values>(Values{}) : values_from_file(text, kFile, notes);
  if (!file) return file.error();
  const auto typed = values_from_options(options);
  if (!typed) return typed.error();
  auto configuration = combine("/data", *file, *typed);
  if (configuration) configuration->notes.insert(configuration->notes.begin(), notes.begin(), notes.end());
  return configuration;
}

Settings settings_of(const std::string& text, const OptionTexts& options = {}) {
  const auto configuration = configure(text, options);
  EXPECT_TRUE(configuration) << configuration.error().text;
  return configuration ? configuration->settings : Settings{};
}

std::string origin_of(const Configuration& configuration, const char* name) {
  const auto found = configuration.values.find(name);
  return found == configuration.values.end() ? "absent" : found->second.origin;
}

/// The one line with which a file is refused.
std::string refusal(const std::string& text) {
  const auto configuration = configure(text);
  if (configuration) return "accepted";
  EXPECT_EQ(exit_of(configuration.error()), ProgramExit::kFailed) << text;
  EXPECT_EQ(configuration.error().text.find('\n'), std::string::npos);
  return configuration.error().text;
}

std::string option_refusal(const OptionTexts& options, ProgramExit status = ProgramExit::kUsage) {
  const auto configuration = configure("", options);
  if (configuration) return "accepted";
  EXPECT_EQ(exit_of(configuration.error()), status) << configuration.error().text;
  EXPECT_EQ(configuration.error().text.find('\n'), std::string::npos);
  return configuration.error().text;
}

testing::AssertionResult starts(const std::string& text, const std::string& start) {
  if (text.rfind(start, 0) == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << '"' << text << "\" does not start with \"" << start << '"';
}

TEST(Configuration, HasTheDefaultsOfTheInterface) {
  const auto configuration = configure("");
  ASSERT_TRUE(configuration);
  const Settings& settings = configuration->settings;
  EXPECT_EQ(settings.data_dir, "/data");
  ASSERT_EQ(settings.net_addresses.size(), 1U);
  EXPECT_EQ(to_text(settings.net_addresses[0]), "[::]:9732");
  EXPECT_FALSE(settings.advertised_port);
  EXPECT_EQ(settings.chain_name, "TEZOS_MAINNET");
  EXPECT_EQ(settings.distributed_db_versions, (std::vector<std::uint16_t>{0, 1, 2}));
  EXPECT_EQ(settings.expected_pow, 26.0);
  EXPECT_EQ(settings.minimum_connections, 10U);
  EXPECT_EQ(settings.expected_connections, 50U);
  EXPECT_EQ(settings.maximum_connections, 100U);
  EXPECT_EQ(settings.application_grace_s, 20);
  EXPECT_EQ(settings.maintenance_idle_time_s, 120);
  EXPECT_FALSE(settings.discard_without_application);
  EXPECT_TRUE(settings.maintenance);
  EXPECT_EQ(settings.sandbox, SandboxLevel::kDefault);
  EXPECT_EQ(settings.door, DoorLimits{});
  for (const auto& [name, value] : configuration->values) EXPECT_EQ(value.origin, "default") << name;
}

TEST(Configuration, KnowsMainnetsBootstrapHostsOnlyWhereTheyAreMeant) {
  const auto hosts = [](const Settings& settings) {
    std::vector<std::string> out;
    for (const auto& peer : settings.peers) out.push_back(peer.host + ":" + std::to_string(peer.port));
    return out;
  };
  const std::vector<std::string> mainnet = {"boot.tzinit.org:9732", "boot.tzboot.net:9732", "boot.tzbeta.net:9732"};
  EXPECT_EQ(hosts(settings_of("")), mainnet);
  EXPECT_EQ(hosts(settings_of("", {{"net-addr", {"127.0.0.1:0", "10.0.0.1:0"}}})), mainnet);
  EXPECT_TRUE(hosts(settings_of("", {{"net-addr", {"127.0.0.1:0", "[::1]:0"}}})).empty());
  EXPECT_TRUE(hosts(settings_of("", {{"chain-name", {"OTHER"}}})).empty());
  EXPECT_TRUE(hosts(settings_of("", {{"no-bootstrap-peers", {}}})).empty());
  EXPECT_EQ(hosts(settings_of(R"({"p2p": {"bootstrap-peers": ["a.example"]}})")),
            std::vector<std::string>{"a.example:9732"});
  EXPECT_TRUE(hosts(settings_of(R"({"p2p": {"bootstrap-peers": []}})")).empty());
}

TEST(Configuration, KeepsNamedPeersWithoutBootstrapPeers) {
  const Settings settings =
      settings_of(R"({"bulkhead": {"peer": ["10.1.1.1:1"]}, "p2p": {"bootstrap-peers": ["a.example"]}})",
                  {{"no-bootstrap-peers", {}}, {"peer", {std::string("[::1]:7#") + kPeerId}}});
  ASSERT_EQ(settings.peers.size(), 2U);
  EXPECT_EQ(settings.peers[0].host, "10.1.1.1");
  EXPECT_EQ(settings.peers[1].host, "::1");
  EXPECT_EQ(settings.peers[1].port, 7);
  EXPECT_TRUE(settings.peers[1].expected_peer_id);
}

TEST(Configuration, ReadsTheSectionOfOctezAsItIs) {
  const auto configuration = configure(R"({
    "data-dir": "/var/tezos", "rpc": {"listen-addrs": ["127.0.0.1:8732"]}, "shell": {}, "network": "ghostnet",
    "p2p": {
      "expected-proof-of-work": 8, "bootstrap-peers": ["1.2.3.4", "boot.example:1234"], "listen-addr": "127.0.0.1:19732",
      "advertised-net-port": 4000, "discovery-addr": null, "private-mode": true, "disable_mempool": true, "enable_testchain": false,
      "disable_peer_discovery": true,
      "greylisting_config": {"factor": 2.5, "initial-delay": 2, "disconnection-delay": 3, "increase-cap": 400},
      "limits": {
        "connection-timeout": 7, "authentication-timeout": 2.5, "greylist-timeout": 86400, "maintenance-idle-time": 9,
        "min-connections": 3, "expected-connections": 4, "max-connections": 5, "backlog": 6, "max-incoming-connections": 7,
        "max-download-speed": null, "read-buffer-size": 16384, "read-queue-size": null, "write-queue-size": 1,
        "incoming-app-message-queue-size": 1, "incoming-message-queue-size": 1, "outgoing-message-queue-size": 1,
        "max_known_points": [40, 30], "max_known_peer_ids": [50, 20], "peer_greylist_size": 1023,
        "ip_greylist_size_in_kilobytes": 2048, "ip_greylist_cleanup_delay": 86400, "swap-linger": 12.5, "binary-chunks-size": 64
      }
    }})");
  ASSERT_TRUE(configuration) << configuration.error().text;
  const Settings& settings = configuration->settings;
  EXPECT_EQ(settings.chain_name, "TEZOS_ITHACANET_2022-01-25T15:00:00Z");
  EXPECT_EQ(settings.expected_pow, 8);
  ASSERT_EQ(settings.peers.size(), 2U);
  EXPECT_EQ(settings.peers[0].port, 9732);
  EXPECT_EQ(settings.peers[1].host, "boot.example");
  EXPECT_EQ(settings.peers[1].port, 1234);
  EXPECT_EQ(to_text(settings.net_addresses[0]), "127.0.0.1:19732");
  EXPECT_EQ(settings.advertised_port, 4000);
  EXPECT_TRUE(settings.private_mode);
  EXPECT_TRUE(settings.disable_mempool);
  EXPECT_TRUE(settings.disable_peer_discovery);
  EXPECT_EQ(settings.reconnection_factor, 2.5);
  EXPECT_EQ(settings.reconnection_initial_delay_s, 2);
  EXPECT_EQ(settings.reconnection_disconnection_delay_s, 3);
  EXPECT_EQ(settings.reconnection_increase_cap_s, 400);
  EXPECT_EQ(settings.connection_timeout_s, 7);
  EXPECT_EQ(settings.authentication_timeout_s, 2.5);
  EXPECT_EQ(settings.maintenance_idle_time_s, 9);
  EXPECT_TRUE(settings.swap);
  EXPECT_EQ(settings.swap_linger_s, 12.5);
  EXPECT_EQ(settings.minimum_connections, 3U);
  EXPECT_EQ(settings.expected_connections, 4U);
  EXPECT_EQ(settings.maximum_connections, 5U);
  EXPECT_EQ(settings.backlog, 6U);
  EXPECT_EQ(settings.maximum_incoming, 7U);
  EXPECT_EQ(settings.known_points_maximum, 40U);
  EXPECT_EQ(settings.known_points_target, 30U);
  EXPECT_EQ(settings.known_peers_maximum, 50U);
  EXPECT_EQ(settings.known_peers_target, 20U);
  EXPECT_EQ(configuration->notes.size(), 14U) << "what has no effect here is noted";
}

TEST(Configuration, DoesNotFollowOctezInItsSurprisesAboutAbsentLimits) {
  const Settings settings = settings_of(R"({"p2p": {"limits": {"backlog": 5}}})");
  EXPECT_EQ(settings.connection_timeout_s, 10) << "Octez takes 5 s then";
  EXPECT_EQ(settings.known_points_maximum, 400U) << "Octez keeps any number then";
}

TEST(Configuration, TakesTheOptionsNamesInItsOwnSection) {
  const Settings settings =
      settings_of(R"({"bulkhead": {"net-addr": ["127.0.0.1:1", "[::1]:2"], "chain-name": "X", "db-versions": [2, 0],
    "peer": "10.0.0.1:5", "connections": 4, "expected-pow": 1.5, "disable-p2p-maintenance": true, "disable-p2p-swap": true,
    "application-grace": 0.5, "no-application": "discard", "application-group": "apps", "require-sandbox": "off", "workers-memory": 512, "log-level": "debug",
    "log-format": "json"}})");
  ASSERT_EQ(settings.net_addresses.size(), 2U);
  EXPECT_EQ(settings.workers_memory_mib, 512U);
  EXPECT_EQ(to_text(settings.net_addresses[1]), "[::1]:2");
  EXPECT_EQ(settings.chain_name, "X");
  EXPECT_EQ(settings.distributed_db_versions, (std::vector<std::uint16_t>{0, 2}));
  ASSERT_EQ(settings.peers.size(), 1U);
  EXPECT_EQ(settings.expected_connections, 4U);
  EXPECT_EQ(settings.expected_pow, 1.5);
  EXPECT_FALSE(settings.maintenance);
  EXPECT_FALSE(settings.swap);
  EXPECT_EQ(settings.application_grace_s, 0.5);
  EXPECT_TRUE(settings.discard_without_application);
  EXPECT_EQ(settings.application_group, "apps");
  EXPECT_EQ(settings.sandbox, SandboxLevel::kOff);
  EXPECT_EQ(settings.log_level, LogLevel::kDebug);
  EXPECT_TRUE(settings.log_json);
}

TEST(Configuration, SwitchesSwapsOffByANullAsOctezDoes) {
  EXPECT_TRUE(settings_of("{}").swap);
  EXPECT_EQ(settings_of("{}").swap_linger_s, 30);
  EXPECT_FALSE(settings_of(R"({"p2p": {"limits": {"swap-linger": null}}})").swap);
  EXPECT_EQ(settings_of("{}", {{"swap-linger", {"7"}}}).swap_linger_s, 7);
  EXPECT_FALSE(settings_of("{}", {{"swap-linger", {"7"}}, {"disable-p2p-swap", {}}}).swap);
  EXPECT_FALSE(configure(R"({"p2p": {"limits": {"swap-linger": 0}}})"));
}

TEST(Configuration, TakesNameServersWithOrWithoutAPort) {
  const Settings settings = settings_of(R"({"bulkhead": {"name-server": "192.0.2.53"}})");
  ASSERT_EQ(settings.name_servers.size(), 1U);
  EXPECT_EQ(to_text(settings.name_servers[0]), "192.0.2.53:53");
  EXPECT_EQ(to_text(settings_of("{}", {{"name-server", {"[::1]:5353"}}}).name_servers.at(0)), "[::1]:5353");
  for (const char* bad : {"ns.example", "192.0.2.53:0", "0.0.0.0", ""}) {
    EXPECT_FALSE(values_from_options({{"name-server", {bad}}})) << bad;
  }
  const std::vector<std::string> nine(9, "192.0.2.53");
  EXPECT_FALSE(combine("/d", {}, *values_from_options({{"name-server", nine}})));
}

TEST(Configuration, TakesThePathOfAnAsMapFromWhereItIsTyped) {
  EXPECT_EQ(settings_of("{}").as_map_file, "");
  EXPECT_EQ(settings_of(R"({"bulkhead": {"as-map": "/etc/as.map"}})").as_map_file, "/etc/as.map");
  EXPECT_EQ(settings_of("{}", {{"as-map", {"maps/../as.map"}}}).as_map_file,
            (std::filesystem::current_path() / "as.map").string());
  EXPECT_FALSE(configure(R"({"bulkhead": {"as-map": "as.map"}})")) << "a file would mean another one elsewhere";
}

TEST(Configuration, TakesNoMorePeersThanTheMaintainerDoes) {
  std::vector<std::string> peers;
  for (int i = 0; i < 129; ++i) peers.push_back("n" + std::to_string(i) + ".example");
  const auto configuration = combine("/d", {}, *values_from_options({{"peer", peers}, {"no-bootstrap-peers", {}}}));
  ASSERT_FALSE(configuration);
  EXPECT_NE(configuration.error().text.find("at most 128"), std::string::npos) << configuration.error().text;
  peers.pop_back();
  EXPECT_TRUE(combine("/d", {}, *values_from_options({{"peer", peers}, {"no-bootstrap-peers", {}}})));
}

TEST(Configuration, TakesTheLimitsOfTheFrontDoor) {
  const Settings settings = settings_of(R"({"bulkhead": {"accept-rate-address": 0.5, "accept-burst-address": 2,
    "accept-rate-prefix": 3.5, "accept-burst-prefix": 4, "pending-per-address": 5, "pending-per-prefix": 6,
    "pending-limit": 8, "trusted-reserve": 7}})");
  EXPECT_EQ(settings.door, (DoorLimits{.accept_rate_address = 0.5,
                                       .accept_burst_address = 2,
                                       .accept_rate_prefix = 3.5,
                                       .accept_burst_prefix = 4,
                                       .pending_per_address = 5,
                                       .pending_per_prefix = 6,
                                       .pending_limit = 8,
                                       .trusted_reserve = 7}));
}

TEST(Configuration, RefusesLimitsOfTheFrontDoorThatLockEverybodyOut) {
  EXPECT_TRUE(
      starts(refusal(R"({"bulkhead": {"pending-limit": 256}})"), "trusted-reserve 256 (default) leaves nobody"));
  EXPECT_NE(refusal(R"({"bulkhead": {"accept-rate-address": 0}})"), "");
  EXPECT_NE(refusal(R"({"bulkhead": {"accept-burst-prefix": 0}})"), "");
  EXPECT_NE(refusal(R"({"bulkhead": {"pending-per-address": 0}})"), "");
}

TEST(Configuration, TakesNullForMaintenanceIdleTimeAsOff) {
  EXPECT_FALSE(settings_of(R"({"p2p": {"limits": {"maintenance-idle-time": null}}})").maintenance);
}

TEST(Configuration, DerivesBoundsFromConnections) {
  const auto bounds = [](const char* n) {
    const Settings s = settings_of("", {{"connections", {n}}});
    return std::array{s.minimum_connections, s.expected_connections, s.maximum_connections, s.known_points_maximum,
                      s.known_points_target};
  };
  EXPECT_EQ(bounds("50"), (std::array{25U, 50U, 75U, 400U, 300U}));
  EXPECT_EQ(bounds("10"), (std::array{5U, 10U, 15U, 80U, 60U}));
  EXPECT_EQ(bounds("1"), (std::array{1U, 1U, 1U, 8U, 6U}));
  EXPECT_EQ(bounds("3"), (std::array{1U, 3U, 4U, 24U, 18U}));
  EXPECT_EQ(bounds("10000"), (std::array{5000U, 10000U, 15000U, 80000U, 60000U}));
}

TEST(Configuration, PrefersAnExplicitBoundToADerivedOneOfTheSameLayer) {
  const Settings settings = settings_of(
      R"({"bulkhead": {"connections": 50, "peer-table-size": 1000}, "p2p": {"limits": {"max-connections": 60}}})");
  EXPECT_EQ(settings.minimum_connections, 25U);
  EXPECT_EQ(settings.maximum_connections, 60U);
  EXPECT_EQ(settings.known_peers_maximum, 1000U);
  EXPECT_EQ(settings.known_peers_target, 750U);
}

TEST(Configuration, LetsOptionsGoBeforeTheFileAndRemembersWhereEachValueIsFrom) {
  const auto configuration =
      configure(R"({"p2p": {"expected-proof-of-work": 8, "limits": {"max-connections": 77, "backlog": 3}}})",
                {{"connections", {"4"}}, {"expected-pow", {"9.25"}}, {"private-mode", {}}});
  ASSERT_TRUE(configuration) << configuration.error().text;
  EXPECT_EQ(configuration->settings.expected_pow, 9.25);
  EXPECT_EQ(configuration->settings.maximum_connections, 6U);
  EXPECT_EQ(origin_of(*configuration, "expected-pow"), "--expected-pow");
  EXPECT_EQ(origin_of(*configuration, "max-connections"), "--connections");
  EXPECT_EQ(origin_of(*configuration, "backlog"), "config.json: /p2p/limits/backlog");
  EXPECT_EQ(origin_of(*configuration, "private-mode"), "--private-mode");
  EXPECT_EQ(origin_of(*configuration, "log-level"), "default");
}

TEST(ConfigurationFile, NamesThePlaceOfAnUnknownName) {
  EXPECT_TRUE(starts(refusal(R"({"p2p": {"limits": {"foo": 1}}})"), "config.json: /p2p/limits/foo: "));
  EXPECT_TRUE(starts(refusal(R"({"p2p": {"expected-pow": 1}})"), "config.json: /p2p/expected-pow: "));
  EXPECT_TRUE(
      starts(refusal(R"({"p2p": {"greylisting_config": {"x": 1}}})"), "config.json: /p2p/greylisting_config/x: "));
  EXPECT_TRUE(starts(refusal(R"({"bulkhead": {"x/y~z": 1}})"), "config.json: /bulkhead/x~1y~0z: "));
  EXPECT_TRUE(starts(refusal(R"({"p2pp": {}})"), "config.json: /p2pp: "));
  EXPECT_TRUE(starts(refusal(R"({"bulkhead": {"backlog": 4}})"),
                     "config.json: /bulkhead/backlog: belongs at /p2p/limits/backlog"));
}

TEST(ConfigurationFile, NamesThePlaceOfAValueOutOfRange) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"p2p": {"expected-proof-of-work": 256.5}})", "/p2p/expected-proof-of-work: 256.5 is out of range"},
      {R"({"p2p": {"expected-proof-of-work": -1}})", "/p2p/expected-proof-of-work: -1 is out of range"},
      {R"({"p2p": {"expected-proof-of-work": "26"}})", "/p2p/expected-proof-of-work: \"26\" is not a number"},
      {R"({"p2p": {"limits": {"authentication-timeout": 0}}})",
       "/p2p/limits/authentication-timeout: 0 is out of range"},
      {R"({"p2p": {"limits": {"max-connections": 65536}}})", "/p2p/limits/max-connections: 65536 is out of range"},
      {R"({"p2p": {"limits": {"max-connections": 18446744073709551615}}})", "/p2p/limits/max-connections: 1844"},
      {R"({"p2p": {"limits": {"max-connections": -9223372036854775808}}})", "/p2p/limits/max-connections: -922"},
      {R"({"p2p": {"limits": {"max-connections": 5.5}}})", "/p2p/limits/max-connections: 5.5 is not an integer"},
      {R"({"p2p": {"limits": {"max-connections": null}}})", "/p2p/limits/max-connections: null is not an integer"},
      {R"({"p2p": {"limits": {"max_known_points": [10]}}})",
       "/p2p/limits/max_known_points: [10] is not [maximum, target]"},
      {R"({"p2p": {"limits": {"max_known_points": [200, 300]}}})", "/p2p/limits/max_known_points: the target 300"},
      {R"({"p2p": {"limits": []}})", "/p2p/limits: must be an object"},
      {R"({"p2p": 5})", "/p2p: must be an object"},
      {R"({"p2p": {"listen-addr": "localhost:9732"}})", "/p2p/listen-addr: 'localhost:9732' is not a literal address"},
      {R"({"p2p": {"listen-addr": "127.0.0.1:99999"}})", "/p2p/listen-addr: '127.0.0.1:99999' is not"},
      {R"({"p2p": {"bootstrap-peers": ["1.2.3.4:0"]}})", "/p2p/bootstrap-peers: '1.2.3.4:0' has port 0"},
      {R"({"p2p": {"bootstrap-peers": ["a b"]}})", "/p2p/bootstrap-peers: "},
      {R"({"p2p": {"bootstrap-peers": ["1.2.3.4#idxx"]}})", "/p2p/bootstrap-peers: "},
      {R"({"p2p": {"bootstrap-peers": [5]}})", "/p2p/bootstrap-peers: 5 is not a text"},
      {R"({"p2p": {"private-mode": "yes"}})", "/p2p/private-mode: \"yes\" is not true or false"},
      {R"({"p2p": {"advertised-net-port": 0}})", "/p2p/advertised-net-port: 0 is out of range"},
      {R"({"bulkhead": {"chain-name": ""}})", "/bulkhead/chain-name: a chain name has 1 to 128 bytes"},
      {R"({"bulkhead": {"chain-name": "a\u0007"}})", "/bulkhead/chain-name: 'a\\x07' has a control character"},
      {R"({"bulkhead": {"db-versions": []}})", "/bulkhead/db-versions: [] is not an array of one integer or more"},
      {R"({"bulkhead": {"db-versions": [1, 1]}})", "/bulkhead/db-versions: a number stands there twice"},
      {R"({"bulkhead": {"log-level": "loud"}})", "/bulkhead/log-level: 'loud' is not one of: debug"},
      {R"({"bulkhead": {"net-addr": []}})", "/bulkhead/net-addr: 0 addresses"},
      {R"({"bulkhead": {"net-addr": ["[::1]:5", "[::1]:5"]}})", "/bulkhead/net-addr: [::1]:5 stands there twice"},
      {R"({"network": "dailynet"})", "/network: not a network known by name"},
  };
  for (const auto& [text, place] : cases) EXPECT_TRUE(starts(refusal(text), "config.json: " + place)) << text;
}

TEST(ConfigurationFile, RefusesWhatIsSaidTwice) {
  EXPECT_EQ(
      refusal(R"({"p2p": {"expected-proof-of-work": 8}, "bulkhead": {"expected-pow": 8}})"),
      "config.json: /p2p/expected-proof-of-work: is set a second time, first at /bulkhead/expected-pow; keep one");
  EXPECT_EQ(refusal(R"({"bulkhead": {}, "bulkhead": {}})"),
            "config.json: the name 'bulkhead' stands twice in one object; keep one");
  EXPECT_EQ(refusal(R"({"p2p": {"limits": {"backlog": 5}, "limits": {"backlog": 6}}})"),
            "config.json: the name 'limits' stands twice in one object; keep one");
}

TEST(ConfigurationFile, NamesLineAndColumnOfWhatIsNotJson) {
  EXPECT_TRUE(starts(refusal("{\n  \"p2p\": {,}\n}"), "config.json: line 2, column 11: this is not JSON"));
  EXPECT_TRUE(starts(refusal("{"), "config.json: line 1, column "));
  EXPECT_TRUE(starts(refusal("not json"), "config.json: line 1, column "));
  EXPECT_TRUE(starts(refusal("{} trailing"), "config.json: line 1, column "));
  EXPECT_TRUE(starts(refusal("{\"p2p\": {\"limits\": {\"backlog\": 1e999}}}"), "config.json: "));
  EXPECT_TRUE(starts(refusal("[]"), "config.json: /: the file must hold one object"));
  EXPECT_TRUE(starts(refusal(std::string(100000, '[')), "config.json: "));
  EXPECT_TRUE(starts(refusal("{\"network\": \"\xff\"}"), "config.json: line 1"));
}

TEST(ConfigurationFile, RefusesWhatALaterVersionBrings) {
  EXPECT_TRUE(starts(refusal(R"({"p2p": {"limits": {"max-download-speed": 100}}})"),
                     "config.json: /p2p/limits/max-download-speed: max-download-speed is not part of this version"));
  EXPECT_TRUE(
      starts(refusal(R"({"bulkhead": {"metrics-addr": "127.0.0.1:1"}})"), "config.json: /bulkhead/metrics-addr: "));
}

TEST(ConfigurationFile, SetsLanDiscovery) {
  const auto target = [](const std::string& text) {
    const auto configuration = configure(R"({"p2p": {"discovery-addr": ")" + text + R"("}})");
    EXPECT_TRUE(configuration) << configuration.error().text;
    return configuration && configuration->settings.discovery ? to_text(*configuration->settings.discovery) : "off";
  };
  EXPECT_EQ(target("192.168.1.255:20000"), "192.168.1.255:20000");
  EXPECT_EQ(target("192.168.1.255"), "192.168.1.255:10732");
  EXPECT_EQ(target(":20000"), "255.255.255.255:20000");
  EXPECT_EQ(target("255.255.255.255:65535"), "255.255.255.255:65535");
  EXPECT_EQ(target("127.255.255.255:10732"), "127.255.255.255:10732");
  EXPECT_FALSE(configure("{}")->settings.discovery) << "off by default";
  EXPECT_FALSE(configure(R"({"p2p": {"discovery-addr": null}})")->settings.discovery);
  for (const char* wrong : {"0.0.0.0:10732", "8.8.8.8:10732", "224.0.0.1:10732", "[::1]:10732", "fe80::1", "lan:10732",
                            "", ":", "10.0.0.255:0", "10.0.0.255:65536", "10.0.0.255:x"}) {
    EXPECT_TRUE(starts(refusal(std::string(R"({"p2p": {"discovery-addr": ")") + wrong + R"("}})"),
                       "config.json: /p2p/discovery-addr: '" + std::string(wrong) + "' is "))
        << wrong;
  }
}

TEST(Combination, TurnsLanDiscoveryOffBesideWhatForbidsItAndSaysSo) {
  const std::string discovery = R"("discovery-addr": "10.0.0.255:10732")";
  for (const auto& [file, why] :
       {std::pair("{\"p2p\": {" + discovery + R"(, "private-mode": true}})", "private-mode is set"),
        std::pair("{\"p2p\": {" + discovery + R"(, "disable_peer_discovery": true}})", "disable_peer_discovery is set"),
        std::pair("{\"p2p\": {" + discovery + R"(, "limits": {"maintenance-idle-time": null}}})",
                  "maintenance is off")}) {
    const auto configuration = configure(file);
    ASSERT_TRUE(configuration) << configuration.error().text;
    EXPECT_FALSE(configuration->settings.discovery);
    EXPECT_EQ(
        std::count(configuration->notes.begin(), configuration->notes.end(),
                   std::string("LAN discovery (discovery-addr) stays off, as ") + why + ": leave one of the two out"),
        1)
        << file;
  }
  const auto ipv6 = configure("{\"p2p\": {" + discovery + R"(, "listen-addr": "[::1]:9732"}})");
  ASSERT_TRUE(ipv6);
  EXPECT_TRUE(ipv6->settings.discovery);
  EXPECT_FALSE(ipv6->notes.empty());
}

TEST(ConfigurationFile, SetsTheGreylist) {
  EXPECT_TRUE(starts(refusal(R"({"p2p": {"limits": {"greylist-timeout": 0}}})"),
                     "config.json: /p2p/limits/greylist-timeout: "));
  EXPECT_TRUE(starts(refusal(R"({"bulkhead": {"greylist-ipv6-prefix": 129}})"),
                     "config.json: /bulkhead/greylist-ipv6-prefix: "));
  const auto configuration =
      configure(R"({"p2p": {"limits": {"greylist-timeout": 60}}, "bulkhead": {"greylist-ipv6-prefix": 56}})");
  ASSERT_TRUE(configuration) << configuration.error().text;
  EXPECT_EQ(configuration->settings.greylist_timeout_s, 60);
  EXPECT_EQ(configuration->settings.greylist_ipv6_prefix, 56);
}

TEST(ConfigurationBounds, MustRise) {
  EXPECT_TRUE(starts(
      refusal(R"({"p2p": {"limits": {"min-connections": 60}}})"),
      "min-connections 60 (config.json: /p2p/limits/min-connections) is above expected-connections 50 (default): "));
  EXPECT_TRUE(starts(option_refusal({{"max-connections", {"20"}}}),
                     "expected-connections 50 (default) is above max-connections 20 (--max-connections): "));
  EXPECT_TRUE(starts(option_refusal({{"max-connections", {"1000"}}}),
                     "max-connections 1000 (--max-connections) is above max-known-points's target 300"));
  EXPECT_EQ(settings_of("", {{"max-connections", {"1000"}}, {"peer-table-size", {"1336"}}}).known_points_target, 1002U);
}

// Each contradiction by itself, as it stands in a file.
TEST(ConfigurationBounds, ThatContradictEachOtherAreRefusedWithPlaceAndRule) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"p2p": {"limits": {"min-connections": 11, "expected-connections": 10, "max-connections": 20}}})",
       "min-connections 11 (config.json: /p2p/limits/min-connections) is above expected-connections 10 (config.json: "
       "/p2p/limits/expected-connections): set "},
      {R"({"p2p": {"limits": {"min-connections": 5, "expected-connections": 21, "max-connections": 20}}})",
       "expected-connections 21 (config.json: /p2p/limits/expected-connections) is above max-connections 20 "
       "(config.json: /p2p/limits/max-connections): set "},
      {R"({"p2p": {"limits": {"max-connections": 100, "max_known_points": [120, 99]}}})",
       "max-connections 100 (config.json: /p2p/limits/max-connections) is above max-known-points's target 99 "
       "(config.json: /p2p/limits/max_known_points): set peer-table-size to "},
      {R"({"p2p": {"limits": {"max-connections": 100, "max_known_peer_ids": [120, 99]}}})",
       "max-connections 100 (config.json: /p2p/limits/max-connections) is above max-known-peer-ids's target 99 "
       "(config.json: /p2p/limits/max_known_peer_ids): set peer-table-size to "},
      {R"({"p2p": {"limits": {"max_known_peer_ids": [200, 300]}}})",
       "config.json: /p2p/limits/max_known_peer_ids: the target 300 is above the maximum 200"},
  };
  for (const auto& [text, start] : cases) EXPECT_TRUE(starts(refusal(text), start)) << text;
}

// With 10, 50 and 100 connections the four are 23, 36, 68 and 84.
TEST(ConfigurationBounds, SetOneByOneMustRiseToo) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"bulkhead": {"min-threshold": 9}})", "min-connections 10 is above min-threshold 9: "},
      {R"({"bulkhead": {"min-threshold": 37}})", "min-threshold 37 is above min-target 36: "},
      {R"({"bulkhead": {"min-target": 69}})", "min-target 69 is above max-target 68: "},
      {R"({"bulkhead": {"max-target": 35}})", "min-target 36 is above max-target 35: "},
      {R"({"bulkhead": {"max-target": 85}})", "max-target 85 is above max-threshold 84: "},
      {R"({"bulkhead": {"max-threshold": 101}})", "max-threshold 101 is above max-connections 100: "},
  };
  for (const auto& [text, start] : cases) {
    const std::string said = refusal(text);
    EXPECT_TRUE(starts(said, start)) << text;
    EXPECT_NE(said.find("from config.json: /bulkhead/m"), std::string::npos) << said;
    EXPECT_NE(said.find("the order is min-connections <= min-threshold"), std::string::npos) << said;
  }
  EXPECT_TRUE(starts(option_refusal({{"min-target", {"69"}}}), "min-target 69 is above max-target 68: "));
  EXPECT_EQ(settings_of(R"({"bulkhead": {"min-target": 68}})").bounds, (ConnectionBounds{23, 68, 68, 84}));
}

TEST(Options, NameThemselvesWhenTheyAreWrong) {
  EXPECT_TRUE(starts(option_refusal({{"expected-pow", {"x"}}}), "--expected-pow: 'x' is not a number"));
  EXPECT_TRUE(starts(option_refusal({{"expected-pow", {"nan"}}}), "--expected-pow: 'nan' is not a number"));
  EXPECT_TRUE(starts(option_refusal({{"expected-pow", {"8", "9"}}}), "--expected-pow: given 2 times"));
  EXPECT_TRUE(starts(option_refusal({{"min-connections", {"-1"}}}), "--min-connections: '-1' is not an integer"));
  EXPECT_TRUE(starts(option_refusal({{"min-connections", {"99999999999999999999"}}}), "--min-connections: "));
  EXPECT_TRUE(starts(option_refusal({{"db-versions", {"0,,1"}}}), "--db-versions: '0,,1' is not a list"));
  EXPECT_TRUE(starts(option_refusal({{"db-versions", {"65536"}}}), "--db-versions: 65536 is out of range"));
  EXPECT_TRUE(starts(
      option_refusal({{"net-addr", {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4", "127.0.0.1:5"}}}),
      "--net-addr: 5 addresses"));
  EXPECT_TRUE(starts(option_refusal({{"net-addr", {"127.0.0.1:1\n"}}}), "--net-addr: '127.0.0.1:1\\x0a' is not"));
  EXPECT_TRUE(starts(option_refusal({{"rpc-addr", {"127.0.0.1:1"}}}, ProgramExit::kFailed), "--rpc-addr is not part"));
  EXPECT_TRUE(starts(option_refusal({{"backlog", {"1"}}}), "--backlog: not an option"));
}

TEST(Options, MayAskForAnyFreePortMoreThanOnce) {
  EXPECT_EQ(settings_of("", {{"net-addr", {"127.0.0.1:0", "127.0.0.1:0"}}}).net_addresses.size(), 2U);
}

TEST(ConfigurationText, IsReadBackAsWhatWasTyped) {
  const OptionTexts options = {{"net-addr", {"127.0.0.1:5"}}, {"chain-name", {"X"}},
                               {"connections", {"8"}},        {"expected-pow", {"3.5"}},
                               {"peer", {"10.0.0.1:5"}},      {"private-mode", {}},
                               {"log-level", {"error"}},      {"no-application", {"discard"}},
                               {"db-versions", {"1,2"}},      {"disable-p2p-maintenance", {}}};
  const auto typed = values_from_options(options);
  ASSERT_TRUE(typed);
  const std::string text = configuration_text(*typed);
  std::vector<std::string> notes;
  const auto read = values_from_file(text, kFile, notes);
  ASSERT_TRUE(read) << read.error().text << text;
  ASSERT_EQ(read->size(), typed->size()) << text;
  for (const auto& [name, value] : *typed) {
    ASSERT_TRUE(read->contains(name)) << name;
    EXPECT_EQ(read->find(name)->second.value, value.value) << name;
  }
}

TEST(ExampleConfigurations, AreValid) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(BULKHEAD_SOURCE_DIR "/deploy/config")) {
    const auto text = read_file(entry.path(), kMaximumConfigurationText);
    ASSERT_TRUE(text) << entry.path();
    const auto configuration = configure(*text);
    EXPECT_TRUE(configuration) << entry.path() << ": " << configuration.error().text;
    ++files;
  }
  EXPECT_GT(files, 0);
}

TEST(SettingTable, HasEachNameAndPlaceOnce) {
  std::set<std::string_view> names;
  std::set<std::string_view> places;
  for (const SettingInfo& info : all_settings()) {
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    if (!info.octez.empty()) {
      EXPECT_TRUE(places.insert(info.octez).second) << info.octez;
    }
    if (info.option && info.use == SettingUse::kUsed) {
      EXPECT_FALSE(info.description.empty()) << info.name;
    }
    if (!info.option) {
      EXPECT_FALSE(info.octez.empty()) << info.name << " can be set nowhere";
    }
  }
}

TEST(DataDirectory, ComesFromTheEnvironmentFirst) {
  ::setenv("BULKHEAD_DATA_DIR", "/somewhere", 1);
  EXPECT_EQ(default_data_dir(), "/somewhere");
  ::unsetenv("BULKHEAD_DATA_DIR");
  if (::geteuid() == 0) {
    EXPECT_EQ(default_data_dir(), "/var/lib/bulkhead");
  } else {
    ::setenv("XDG_STATE_HOME", "/state", 1);
    EXPECT_EQ(default_data_dir(), "/state/bulkhead");
    ::unsetenv("XDG_STATE_HOME");
    ::setenv("HOME", "/home/x", 1);
    EXPECT_EQ(default_data_dir(), "/home/x/.local/state/bulkhead");
  }
}

}  // namespace
}  // namespace bulkhead::cli
