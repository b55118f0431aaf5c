#include "tests/integration/node.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <iostream>
#include <sstream>

namespace bulkhead::testing {
namespace {

std::string log_path(const std::string& data_dir) {
  return data_dir + "/node.log";
}

std::string last_part(const std::string& text, std::size_t size) {
  return text.size() <= size ? text : "[...]" + text.substr(text.size() - size);
}

void give_directory(const std::string& directory, unsigned int user) {
  (void)!::chown(directory.c_str(), user, user);
  std::error_code failure;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory, failure)) {
    (void)!::chown(entry.path().c_str(), user, user);
  }
}

/// What `run` is started through.
std::vector<std::string> start_words(const NodeOptions& options) {
  if (!options.user && options.user_namespaces) return {};
  std::vector<std::string> words = {BULKHEAD_START_AS};
  if (options.user) words.insert(words.end(), {"--user", std::to_string(*options.user)});
  if (!options.user_namespaces) words.push_back("--no-user-namespaces");
  return words;
}

}  // namespace

Node::Node(NodeOptions options) : options_(std::move(options)) {
  adopt_orphans();
  if (options_.address.empty()) options_.address = fresh_address();
  port_ = free_port(options_.address);
  if (!options_.config.empty()) write_file(data_dir() + "/config.json", options_.config);
}

Node::~Node() {
  stop();
  if (::testing::Test::HasFailure()) {
    std::cerr << "---- log of the node on " << point() << " ----\n" << last_part(log(), 20'000) << "----\n";
  }
}

Result<void> Node::start() {
  if (auto launched = launch(); !launched) return launched;
  return wait_ready();
}

Result<void> Node::launch() {
  const std::string difficulty = std::to_string(options_.difficulty);
  if (options_.identity && ::access((data_dir() + "/identity.json").c_str(), F_OK) != 0) {
    const auto made = cli({"identity", "generate", difficulty});
    if (made.exit_status != 0) {
      return Error{ErrorCode::kRefused, "no identity: " + ::testing::PrintToString(made)};
    }
  }
  if (options_.user) give_directory(data_dir(), *options_.user);
  std::vector<std::string> words = start_words(options_);
  words.insert(words.end(), options_.wrapper.begin(), options_.wrapper.end());
  words.insert(words.end(), {bulkhead_program(), "run", "--net-addr", point(), "--expected-pow", difficulty,
                             "--no-bootstrap-peers", "--data-dir", data_dir()});
  words.insert(words.end(), options_.arguments.begin(), options_.arguments.end());
  const auto sandbox =
      options_.sandbox.empty() ? sandbox_words() : std::vector<std::string>{"--require-sandbox", options_.sandbox};
  words.insert(words.end(), sandbox.begin(), sandbox.end());
  const UniqueFd log(::open(log_path(data_dir()).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  pid_ = spawn(words, -1, log.get(), log.get());
  if (pid_ < 0) return system_error("fork");
  return {};
}

Result<void> Node::wait_ready() {
  CommandResult ready;
  for (int second = 0; second < 10 * kPatience && ready.exit_status != 0; ++second) {
    ready = cli({"status", "--wait", "1", "--json"});
    if (const auto ended = wait_for(pid_, Milliseconds(0))) {
      pid_ = -1;
      return Error{ErrorCode::kClosed, "the node ended with " + std::to_string(*ended)};
    }
  }
  if (ready.exit_status != 0) {
    return Error{ErrorCode::kRefused, "the node is not ready: " + ::testing::PrintToString(ready)};
  }
  const Json status = Json::parse(ready.out, nullptr, false);
  if (status.is_object()) peer_id_ = status.value("peer_id", "");
  return {};
}

std::optional<int> Node::stop(int signal) {
  if (pid_ <= 0) return std::nullopt;
  const auto tree = tree_of(pid_);
  ::kill(pid_, signal);
  auto status = wait_for(pid_, Milliseconds(10'000) * kPatience);
  if (!status) ::kill(pid_, SIGKILL);
  if (!status) wait_for(pid_, Milliseconds(10'000));
  auto left = tree_of(pid_);
  for (const pid_t pid : tree) {
    if (is_running(pid) && std::find(left.begin(), left.end(), pid) == left.end()) left.push_back(pid);
  }
  // A process of an orderly stop may still be on its way out.
  if (!left.empty() && status) {
    eventually([&] { return std::none_of(left.begin(), left.end(), [](pid_t pid) { return is_running(pid); }); },
               Milliseconds(1000) * kPatience);
  }
  for (const pid_t pid : left) {
    if (status && is_running(pid)) ADD_FAILURE() << "process " << pid << " outlived its node";
  }
  kill_all(left);
  pid_ = -1;
  return status;
}

std::string Node::log() const {
  return read_file(log_path(data_dir()));
}

std::vector<std::string> Node::command(std::vector<std::string> arguments) const {
  arguments.push_back("--data-dir");
  arguments.push_back(data_dir());
  return arguments;
}

CommandResult Node::cli(std::vector<std::string> arguments, const std::string& input, Milliseconds timeout) const {
  return run_bulkhead(command(std::move(arguments)), input, timeout);
}

Json Node::json(std::vector<std::string> arguments) const {
  arguments.push_back("--json");
  const auto result = cli(std::move(arguments));
  EXPECT_EQ(result.exit_status, 0) << result;
  if (result.exit_status != 0) return nullptr;
  Json value = Json::parse(result.out, nullptr, false);
  EXPECT_FALSE(value.is_discarded()) << result;
  return value.is_discarded() ? Json(nullptr) : value;
}

std::vector<Json> Node::json_lines(std::vector<std::string> arguments) const {
  arguments.push_back("--json");
  const auto result = cli(std::move(arguments));
  EXPECT_EQ(result.exit_status, 0) << result;
  std::vector<Json> lines;
  std::istringstream stream(result.out);
  for (std::string line; std::getline(stream, line);) {
    Json value = Json::parse(line, nullptr, false);
    EXPECT_FALSE(value.is_discarded()) << "no JSON: " << line;
    if (!value.is_discarded()) lines.push_back(std::move(value));
  }
  return lines;
}

std::map<std::string, Json> Node::sandbox() const {
  std::map<std::string, Json> found;
  const Json list = json({"sandbox"});
  for (const Json& row : list) {
    std::string name = row.value("role", "");
    if (name == "conn") name += " " + std::to_string(row.value("pid", 0));
    EXPECT_TRUE(found.emplace(name, row).second) << name << " twice\n" << list.dump(2);
  }
  return found;
}

Json Node::connection(const std::string& peer_id) const {
  for (const Json& row : connections()) {
    if (row.is_object() && row.value("peer_id", "") == peer_id) return row;
  }
  return nullptr;
}

bool Node::wait_connected(const std::string& peer_id) const {
  return eventually([&] { return !connection(peer_id).is_null(); });
}

bool Node::wait_gone(const std::string& peer_id) const {
  return eventually([&] { return connection(peer_id).is_null(); });
}

pid_t Node::service_pid(const std::string& role) const {
  const Json status = json({"status"});
  if (!status.is_object()) return 0;
  for (const Json& row : status.value("processes", Json::array())) {
    if (row.value("role", "") == role) return row.value("pid", 0);
  }
  return 0;
}

int Node::service_restarts(const std::string& role) const {
  const Json status = json({"status"});
  if (!status.is_object()) return -1;
  for (const Json& row : status.value("processes", Json::array())) {
    if (row.value("role", "") == role) return row.value("restarts", -1);
  }
  return -1;
}

Json Node::wait_event(const std::string& reason, const std::string& address, Milliseconds timeout) const {
  Json found = nullptr;
  eventually(
      [&] {
        for (const Json& event : json_lines({"events"})) {
          if (!event.is_object() || event.value("reason", Json()) != reason) continue;
          const std::string about = event.contains("addr") && event["addr"].is_string() ? event["addr"] : "";
          if (!address.empty() && about != address && host_of(about) != address) continue;
          found = event;
          return true;
        }
        return false;
      },
      timeout);
  return found;
}

std::string Node::events() const {
  const auto result = cli({"events", "--json"});
  return "events:\n" + last_part(result.out, 8000);
}

Peer Node::make_peer(PeerOptions options) const {
  options.difficulty = options_.difficulty;
  return Peer(std::move(options));
}

Result<void> Node::dial(Peer& peer) const {
  return peer.connect(point(), fresh_address());
}

std::string host_of(const std::string& point) {
  const std::size_t colon = point.rfind(':');
  if (colon == std::string::npos) return point;
  std::string host = point.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

bool mentions_point(const Json& value, const std::string& point) {
  if (value.is_string()) return value.get<std::string>() == point;
  if (value.is_object() && value.contains("addr") && value.contains("port") && value["port"].is_number()) {
    const Json& addr = value["addr"];
    if (addr.is_string() && addr.get<std::string>() + ":" + std::to_string(value["port"].get<int>()) == point) {
      return true;
    }
  }
  if (value.is_object()) {
    for (const auto& [name, part] : value.items()) {
      if (name == point || mentions_point(part, point)) return true;
    }
  }
  if (value.is_array()) {
    return std::any_of(value.begin(), value.end(), [&](const Json& part) { return mentions_point(part, point); });
  }
  return false;
}

std::string config_with_timeouts(double authentication, double connection) {
  Json limits = {{"authentication-timeout", authentication}, {"connection-timeout", connection}};
  return Json{{"p2p", {{"limits", limits}}}}.dump(2);
}

std::string check_alive(const Node& node, Peer& peer) {
  static std::atomic<int> count = 0;
  const std::string text = "alive " + std::to_string(count++);
  const auto sent = node.cli({"send", peer.peer_id(), "-", "--tag", "18"}, text);
  if (sent.exit_status != 0) return ::testing::PrintToString(sent);
  const auto got = peer.read_message(18);
  if (!got) return "the message did not arrive: " + got.error().text;
  return got->body == from_text(text) ? "" : "another message arrived";
}

}  // namespace bulkhead::testing
