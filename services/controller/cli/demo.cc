#include "services/controller/cli/demo.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <thread>

#include "bulkhead/application.h"
#include "services/controller/cli/demo_node.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/run_command.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/views.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kNodes = 3;
constexpr std::array<const char*, kNodes> kNames = {"A", "B", "C"};
constexpr const char* kChainName = "BULKHEAD_DEMO";
constexpr std::uint16_t kTag = 0x10;
constexpr auto kStartLimit = milliseconds(6000);
constexpr auto kMeshLimit = milliseconds(10000);
constexpr auto kTrafficLimit = milliseconds(4000);
constexpr auto kReconnectLimit = milliseconds(6000);
constexpr std::uint64_t kFirstMessages = 300;   ///< each way between each pair, before anything goes wrong
constexpr std::uint64_t kSecondMessages = 300;  ///< each way between the pairs that lose nothing, from the kill on
constexpr std::size_t kLargestPadding = 2000;

/// Dials again after a second, so that the lost connection is back while one watches.
constexpr const char* kConfiguration = R"({
  "p2p": {
    "limits": {"maintenance-idle-time": 1},
    "greylisting_config": {"factor": 1.2, "initial-delay": 0.3, "disconnection-delay": 1, "increase-cap": 5}
  }
}
)";

volatile std::sig_atomic_t g_interrupted = 0;

/// A message of the demo: who sends it to whom, which connection of theirs it is for, and its number on it.
struct Content {
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::uint64_t epoch = 0;
  std::uint64_t number = 0;
};

std::size_t padding_of(const Content& content) {
  return (content.number * 7919 + content.from * 31 + content.to) % kLargestPadding;
}

std::vector<std::uint8_t> encode(const Content& content) {
  std::vector<std::uint8_t> body(sizeof content + padding_of(content), static_cast<std::uint8_t>(content.number));
  std::memcpy(body.data(), &content, sizeof content);
  return body;
}

/// One direction between two nodes. Numbers start again with every connection (epoch).
struct Direction {
  std::uint64_t epoch = 0;
  std::uint64_t sent = 0;    ///< in this epoch
  std::uint64_t target = 0;  ///< to be sent in this epoch
  std::uint64_t received_epoch = 0;
  std::uint64_t received = 0;  ///< in that epoch
  bool up = false;
  bool done() const { return sent == target && received_epoch == epoch && received == target; }
};

struct Member {
  std::unique_ptr<DemoNode> node;
  std::optional<Node> tables;
  std::unique_ptr<client::Application> application;
  PeerId peer_id{};
  std::array<Direction, kNodes> to;  ///< what it sends, by receiver
};

class Demo {
 public:
  Demo(bool json, std::string sandbox) : json_(json), sandbox_(std::move(sandbox)) {}

  Result<void> play(const std::string& program, const std::string& folder) {
    if (auto done = start(program, folder); !done) return done;
    if (auto done = wait_for_mesh(); !done) return done;
    if (auto done = talk(); !done) return done;
    if (auto done = lose_a_worker(); !done) return done;
    return stop();
  }

 private:
  /// Tells what happens, with the time since the beginning.
  void tell(const std::string& text) {
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    std::array<char, 32> stamp{};
    std::snprintf(stamp.data(), stamp.size(), "[%6.2f s] ", seconds);
    const std::string line = stamp.data() + text + "\n";
    if (json_) {
      std::fputs(line.c_str(), stderr);
    } else {
      print(line);
    }
  }

  /// Runs `step` until it says true or the time is over.
  template <typename Step>
  Result<void> until(milliseconds limit, const std::string& what, Step step) {
    const auto end = Clock::now() + limit;
    for (;;) {
      Result<bool> done = step();
      if (!done) return done.error();
      if (*done) return {};
      if (g_interrupted != 0) return failure("interrupted");
      if (Clock::now() >= end)
        return failure(what + " did not happen within " + std::to_string(limit.count() / 1000) + " s");
    }
  }

  Result<void> start(const std::string& program, const std::string& folder) {
    std::string bootstrap;
    for (std::size_t i = 0; i < kNodes; ++i) {
      std::vector<std::string> options = {
          "--net-addr",          "127.0.0.1:0", "--chain-name",           kChainName, "--expected-pow",    "8",
          "--min-connections",   "2",           "--expected-connections", "2",        "--max-connections", "4",
          "--no-bootstrap-peers"};
      if (!bootstrap.empty()) options.insert(options.end(), {"--peer", bootstrap});
      if (!sandbox_.empty()) options.insert(options.end(), {"--require-sandbox", sandbox_});
      auto node = DemoNode::start(program, folder + "/" + kNames[i], kConfiguration, options);
      if (!node) return node.error();
      members_[i].node = std::move(*node);
      // B and C are given A's point, and nothing else.
      if (i == 0) {
        if (auto ready = wait_ready(i); !ready) return ready;
        bootstrap = status_json(members_[0].tables->tables)["net_addr"][0].get<std::string>();
        tell("node A listens on " + bootstrap + "; B and C are told of this point and of no other");
      }
    }
    for (std::size_t i = 1; i < kNodes; ++i) {
      if (auto ready = wait_ready(i); !ready) return ready;
    }
    for (std::size_t i = 0; i < kNodes; ++i) {
      auto application = client::Application::attach(members_[i].node->data_dir());
      if (!application)
        return failure(std::string("no application could attach to node ") + kNames[i] + ": " +
                       application.error().text);
      members_[i].application = std::move(*application);
      members_[i].peer_id = members_[i].application->own_peer_id();
    }
    tell("an application is attached to each of the three");
    return {};
  }

  Result<void> wait_ready(std::size_t i) {
    Member& member = members_[i];
    auto done = until(kStartLimit, std::string("the start of node ") + kNames[i], [&]() -> Result<bool> {
      auto node = member.node->ready();
      if (!node) return node.error();
      if (!node->has_value()) {
        std::this_thread::sleep_for(milliseconds(20));
        return false;
      }
      member.tables = std::move(**node);
      return true;
    });
    if (done) {
      const auto json = status_json(member.tables->tables);
      tell(std::string("node ") + kNames[i] + " is ready: " + std::to_string(json["processes"].size()) +
           " processes, " + json["peer_id"].get<std::string>());
    }
    return done;
  }

  Result<void> wait_for_mesh() {
    auto done = until(kMeshLimit, "the full mesh", [&]() -> Result<bool> {
      if (auto pumped = pump(); !pumped) return pumped.error();
      return all_up();
    });
    if (done) {
      tell("full mesh: B and C learned of each other from A; every peer has a worker process of its own");
      for (std::size_t i = 0; i < kNodes; ++i) {
        for (const auto& row : connections_json(members_[i].tables->tables, monotonic_now())) {
          tell(std::string("  ") + kNames[i] + (row["incoming"].get<bool>() ? " accepted " : " dialled  ") +
               name_of(row["peer_id"].get<std::string>()) + ", worker " + row["worker_pid"].dump());
        }
      }
    }
    return done;
  }

  Result<void> talk() {
    for_each_pair(
        [&](std::size_t, std::size_t, Direction& direction) { direction.target = direction.sent + kFirstMessages; });
    auto done = finish("the delivery of the first messages");
    if (done)
      tell(std::to_string(kFirstMessages * 6) +
           " messages, both ways between all pairs, arrived in order and complete");
    return done;
  }

  Result<void> lose_a_worker() {
    const auto worker = worker_of(0, 1);
    if (!worker) return failure("node A has no worker for B");
    const std::uint64_t before = members_[0].to[1].epoch;
    for_each_pair([&](std::size_t from, std::size_t to, Direction& direction) {
      if (!is_victim(from, to)) direction.target = direction.sent + kSecondMessages;
    });
    // The traffic of the others is under way when it happens.
    if (auto pumped = pump(); !pumped) return pumped.error();
    if (::kill(*worker, SIGKILL) != 0) return failure(system_error("cannot kill the worker").text);
    const auto killed = Clock::now();
    tell("killed worker " + std::to_string(*worker) + " of A (its connection with B) with SIGKILL");
    bool told_loss = false;
    auto lost = until(kReconnectLimit, "the return of the connection between A and B", [&]() -> Result<bool> {
      if (auto pumped = pump(); !pumped) return pumped.error();
      const bool gone = members_[0].to[1].epoch > before && members_[1].to[0].epoch > before;
      if (gone && !told_loss) {
        const auto took = std::chrono::duration_cast<milliseconds>(Clock::now() - killed);
        tell("A and B have both been told that their connection is gone, after " + std::to_string(took.count()) +
             " ms (" + reason_ + ")");
        told_loss = true;
      }
      return gone && all_up();
    });
    if (!lost) return lost;
    tell("A and B are connected again");
    for_each_pair([&](std::size_t from, std::size_t to, Direction& direction) {
      if (is_victim(from, to)) direction.target = kSecondMessages;
    });
    if (auto done = finish("the delivery of the messages around the kill"); !done) return done;
    tell("the other connections lost nothing: " + std::to_string(kSecondMessages * 4) +
         " more messages in order and complete, and " + std::to_string(kSecondMessages * 2) +
         " between A and B over the new connection");
    return {};
  }

  Result<void> stop() {
    for (Member& member : members_) member.application.reset();
    bool in_order = true;
    for (Member& member : members_) in_order = member.node->stop() && in_order;
    if (!in_order) return failure("a node did not stop in order");
    tell("all three nodes stopped in order");
    return {};
  }

  Result<void> finish(const std::string& what) {
    return until(kTrafficLimit, what, [&]() -> Result<bool> {
      if (auto pumped = pump(); !pumped) return pumped.error();
      bool done = true;
      for_each_pair([&](std::size_t, std::size_t, const Direction& direction) { done = done && direction.done(); });
      return done;
    });
  }

  /// Takes what came, sends what fits, then waits a moment if there was nothing to do.
  Result<void> pump() {
    bool busy = false;
    for (std::size_t i = 0; i < kNodes; ++i) {
      Member& member = members_[i];
      for (int taken = 0; taken < 256; ++taken) {
        auto event = member.application->next();
        if (!event) break;
        busy = true;
        if (auto done = handle(i, *event); !done) return done;
      }
      for (std::size_t j = 0; j < kNodes; ++j) {
        if (auto sent = send_some(i, j, busy); !sent) return sent;
      }
    }
    if (!busy) wait();
    return {};
  }

  Result<void> send_some(std::size_t from, std::size_t to, bool& busy) {
    Direction& direction = members_[from].to[to];
    for (int burst = 0; burst < 16 && direction.up && direction.sent < direction.target; ++burst) {
      const Content content{static_cast<std::uint32_t>(from), static_cast<std::uint32_t>(to), direction.epoch,
                            direction.sent};
      const auto sent = members_[from].application->try_send(members_[to].peer_id, kTag, encode(content));
      if (!sent) {
        if (sent.error().code == ErrorCode::kNotFound || sent.error().code == ErrorCode::kClosed) return {};
        return failure(sent.error().text);
      }
      if (!*sent) return {};
      ++direction.sent;
      busy = true;
    }
    return {};
  }

  void wait() {
    std::array<pollfd, kNodes> waiting{};
    for (std::size_t i = 0; i < kNodes; ++i) waiting[i] = pollfd{members_[i].application->fd(), POLLIN, 0};
    ::poll(waiting.data(), waiting.size(), 10);
  }

  Result<void> handle(std::size_t i, const client::Event& event) {
    if (const auto* message = std::get_if<client::MessageReceived>(&event)) return take(i, *message);
    if (const auto* up = std::get_if<client::Connected>(&event)) {
      const auto other = index_of(up->connection.peer_id);
      if (!other) return failure("a stranger connected to the demo");
      members_[i].to[*other].up = true;
      return {};
    }
    if (const auto* down = std::get_if<client::Disconnected>(&event)) return lose(i, *down);
    if (std::holds_alternative<client::Gap>(event)) return failure("messages were discarded");
    return failure(std::string("node ") + kNames[i] + " has ended: " + "the demo's applications are detached");
  }

  Result<void> lose(std::size_t i, const client::Disconnected& down) {
    const auto other = index_of(down.peer_id);
    if (!other) return {};
    // Simultaneous dials and refusals come and go before the mesh stands; after that only the killed pair may lose a
    // connection.
    if (mesh_ && !is_victim(i, *other)) {
      return failure(std::string("the connection of ") + kNames[i] + " with " + kNames[*other] +
                     " was lost too: " + reason_name(down.reason));
    }
    Direction& direction = members_[i].to[*other];
    direction.up = false;
    ++direction.epoch;
    direction.sent = 0;
    direction.target = 0;
    if (i == 0) reason_ = reason_name(down.reason);
    return {};
  }

  Result<void> take(std::size_t i, const client::MessageReceived& message) {
    const auto other = index_of(message.peer_id);
    Content content;
    if (!other || message.tag != kTag || message.body.size() < sizeof content)
      return failure("a message that nobody sent");
    std::memcpy(&content, message.body.data(), sizeof content);
    Direction& direction = members_[*other].to[i];
    if (content.epoch > direction.received_epoch) {
      direction.received_epoch = content.epoch;
      direction.received = 0;
    }
    const bool right = content.from == *other && content.to == i && content.epoch == direction.received_epoch &&
                       content.number == direction.received && message.body == encode(content);
    if (!right) {
      return failure(std::string("message ") + std::to_string(direction.received) + " from " + kNames[*other] + " to " +
                     kNames[i] + " was expected, another one came");
    }
    ++direction.received;
    return {};
  }

  bool all_up() {
    bool up = true;
    for_each_pair([&](std::size_t, std::size_t, const Direction& direction) { up = up && direction.up; });
    mesh_ = mesh_ || up;
    return up;
  }

  static bool is_victim(std::size_t from, std::size_t to) { return from + to == 1; }

  template <typename Visit>
  void for_each_pair(Visit visit) {
    for (std::size_t i = 0; i < kNodes; ++i) {
      for (std::size_t j = 0; j < kNodes; ++j) {
        if (i != j) visit(i, j, members_[i].to[j]);
      }
    }
  }

  std::optional<std::size_t> index_of(const PeerId& peer) const {
    for (std::size_t i = 0; i < kNodes; ++i) {
      if (members_[i].peer_id == peer) return i;
    }
    return std::nullopt;
  }

  std::string name_of(const std::string& peer_text) const {
    for (std::size_t i = 0; i < kNodes; ++i) {
      if (wire::peer_id_text(members_[i].peer_id) == peer_text) return kNames[i];
    }
    return peer_text;
  }

  std::optional<pid_t> worker_of(std::size_t node, std::size_t peer) const {
    const std::string text = wire::peer_id_text(members_[peer].peer_id);
    for (const auto& row : connections_json(members_[node].tables->tables, monotonic_now())) {
      const auto pid = row["worker_pid"].get<pid_t>();
      if (row["peer_id"] == text && pid > 1) return pid;
    }
    return std::nullopt;
  }

  bool json_;
  std::string sandbox_;
  bool mesh_ = false;
  std::string reason_;
  Clock::time_point begin_ = Clock::now();
  std::array<Member, kNodes> members_;
};

}  // namespace

int run_demo(const Arguments& arguments) {
  struct sigaction action {};
  action.sa_handler = [](int) { g_interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);

  const auto program = own_path();
  if (!program) return fail(program.error());
  if (const auto services = find_services(*program); !services) return fail(services.error());
  std::error_code error;
  std::string folder = (std::filesystem::temp_directory_path(error) / "bulkhead-demo-XXXXXX").string();
  if (error || ::mkdtemp(folder.data()) == nullptr)
    return fail(failure("no temporary directory can be made in $TMPDIR or /tmp"));

  const auto begin = Clock::now();
  Result<void> played;
  {
    Demo demo(arguments.json, arguments.sandbox);
    played = demo.play(*program, folder);
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  if (!arguments.keep) {
    std::filesystem::remove_all(folder, error);
  } else {
    std::fprintf(stderr, "kept: %s\n", folder.c_str());
  }
  if (arguments.json)
    print(json_text({{"ok", played.ok()}, {"seconds", seconds}, {"reason", played ? "" : played.error().text}}));
  if (!played)
    return fail(failure("the demo failed: " + played.error().text +
                        (arguments.keep ? "" : "; 'bulkhead demo --keep' leaves the logs")));
  if (!arguments.json) print("All of it worked.\n");
  return exit_status(ProgramExit::kDone);
}

}  // namespace bulkhead::cli
