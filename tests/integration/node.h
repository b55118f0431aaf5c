#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tests/integration/process.h"
#include "tests/peer/peer.h"

namespace bulkhead::testing {

using Json = nlohmann::json;

struct NodeOptions {
  std::vector<std::string>
      arguments{};        ///< of `run`, beside data directory, address, difficulty and no bootstrap peers
  int difficulty = 1;     ///< of its identity, and expected of peers
  std::string address{};  ///< to listen on; a fresh one when empty
  std::string config{};   ///< text of config.json; none when empty
  std::string sandbox{};  ///< --require-sandbox; when empty, as the environment has it for all tests
  /// Whose node it is, and whose data directory; only a test that runs as root may name another than its own.
  std::optional<unsigned int> user{};
  bool user_namespaces = true;         ///< false: the kernel gives none, as in many containers
  bool identity = true;                ///< made before the node starts, unless there is one
  std::vector<std::string> wrapper{};  ///< words before the node's own, a program that becomes it in the end
};

/// A node as its user runs it: `bulkhead run` on a data directory of its own, asked and told by the command line alone.
/// When a test failed, the log is printed and the directory kept. No process of it outlives the object.
/// Start it in the thread of the test.
class Node {
 public:
  explicit Node(NodeOptions options = {});
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Makes the identity unless there is one, runs the node and waits until it says that it is ready.
  Result<void> start();
  /// The two halves of start(), for nodes that come up side by side.
  Result<void> launch();
  Result<void> wait_ready();
  /// SIGTERM, and waits for the end. The exit status; minus the signal; nothing if it did not end in time (it is killed
  /// then) or does not run.
  std::optional<int> stop(int signal = 15);
  bool runs() const { return pid_ > 0; }

  const std::string& data_dir() const { return directory_.path(); }
  /// For the next start.
  NodeOptions& options() { return options_; }
  const std::string& address() const { return options_.address; }
  std::uint16_t port() const { return port_; }
  std::string point() const { return options_.address + ":" + std::to_string(port_); }
  /// Of the supervisor.
  pid_t pid() const { return pid_; }
  /// The node's peer id, once it was started.
  const std::string& peer_id() const { return peer_id_; }
  /// What the node wrote so far.
  std::string log() const;

  /// Runs a command on this node's data directory.
  CommandResult cli(std::vector<std::string> arguments, const std::string& input = "",
                    Milliseconds timeout = Milliseconds(15000) * kPatience) const;
  /// The command's words with this node's data directory, for BackgroundCommand.
  std::vector<std::string> command(std::vector<std::string> arguments) const;
  /// What a command with --json prints. Null, and a failure of the test, when it fails or prints no JSON.
  Json json(std::vector<std::string> arguments) const;
  /// The lines that a command with --json prints, each JSON of its own. Failures as above.
  std::vector<Json> json_lines(std::vector<std::string> arguments) const;

  /// The rows of `sandbox`, by role; of workers by role and number ("conn 4711").
  std::map<std::string, Json> sandbox() const;
  Json connections() const { return json({"connections"}); }
  /// The row of `peer_id` in `connections`; null when there is none.
  Json connection(const std::string& peer_id) const;
  /// Waits until `peer_id` is (or is no more) in `connections`.
  bool wait_connected(const std::string& peer_id) const;
  bool wait_gone(const std::string& peer_id) const;
  /// Process id of a service, from `status`; 0 when there is none.
  pid_t service_pid(const std::string& role) const;
  int service_restarts(const std::string& role) const;

  /// Waits for an event with this reason about this address (with or without a port; any when empty). Null when none
  /// came in time: the message of the failing test should then say events().
  Json wait_event(const std::string& reason, const std::string& address = "",
                  Milliseconds timeout = Milliseconds(5000) * kPatience) const;
  /// All events, one a line, for messages.
  std::string events() const;

  /// A peer that dials this node from an address of its own. Not connected yet.
  Peer make_peer(PeerOptions options = {}) const;
  /// Dials this node from a fresh address.
  Result<void> dial(Peer& peer) const;

 private:
  NodeOptions options_;
  TemporaryDirectory directory_;
  std::uint16_t port_ = 0;
  pid_t pid_ = -1;
  std::string peer_id_;
};

/// "127.0.0.1" of "127.0.0.1:9732".
std::string host_of(const std::string& point);

/// True when `value` holds the point anywhere: as text, or as an object with "addr" and "port".
bool mentions_point(const Json& value, const std::string& point);

/// The configuration file of a node whose deadlines for handshakes are these, in seconds.
std::string config_with_timeouts(double authentication, double connection);

/// Sends a message from the node to `peer` with the command line, and reads it there: the connection works.
/// Returns an empty text, or what is wrong.
std::string check_alive(const Node& node, Peer& peer);

}  // namespace bulkhead::testing
