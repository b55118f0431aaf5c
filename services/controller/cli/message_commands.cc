#include "services/controller/cli/message_commands.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <set>

#include "base/address.h"
#include "bulkhead/application.h"
#include "services/controller/cli/node_tables.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/text.h"
#include "services/controller/cli/views.h"
#include "wire/message.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kDone = 0;
constexpr auto kQueueWait = milliseconds(10000);
constexpr auto kSlice = milliseconds(200);
constexpr std::size_t kOutputBatch = 64 * 1024;
constexpr std::size_t kShownBody = 48;

volatile std::sig_atomic_t g_interrupted = 0;

/// Lets a command end in order on SIGINT and SIGTERM: what it has taken is then taken for good.
void watch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { g_interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

Result<std::unique_ptr<client::Application>> attach(const Arguments& arguments, bool receive) {
  client::Options options;
  options.receive = receive;
  options.send = !receive;
  auto application = client::Application::attach(arguments.data_dir, options);
  if (application) return application;
  if (application.error().code != ErrorCode::kNotFound) return failure(application.error().text);
  // Is there no node, or only no controller?
  const auto node = open_node(arguments.data_dir);
  if (!node) return node.error();
  return failure("the controller is away for the moment; try again in a second");
}

milliseconds left_until(Clock::time_point until) {
  return std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(until - Clock::now()));
}

// ---- listen

ShownJson point_json(const Point& point) {
  ShownJson json = {{"addr", to_text(point.address)}, {"port", nullptr}};
  if (point.port != 0) json["port"] = point.port;
  return json;
}

std::string body_text(const std::vector<std::uint8_t>& body) {
  std::string out = hex_text(std::span(body).first(std::min(body.size(), kShownBody)));
  return body.size() > kShownBody ? out + "..." : out;
}

/// What happens, as a line of JSON or for a person.
struct Line {
  bool json;

  std::string operator()(const client::Connected& event) const {
    const auto& connection = event.connection;
    const std::string peer = wire::peer_id_text(connection.peer_id);
    if (json) {
      return json_line({{"event", "connected"},
                        {"peer_id", peer},
                        {"incoming", connection.incoming},
                        {"id_point", point_json(connection.point)}});
    }
    return "connected     " + peer + "  " + (connection.incoming ? "from " : "to ") + to_text(connection.point) + "\n";
  }
  std::string operator()(const client::Disconnected& event) const {
    const std::string peer = wire::peer_id_text(event.peer_id);
    if (json) return json_line({{"event", "disconnected"}, {"peer_id", peer}, {"reason", reason_name(event.reason)}});
    return "disconnected  " + peer + "  " + reason_name(event.reason) + "\n";
  }
  std::string operator()(const client::MessageReceived& event) const {
    const std::string peer = wire::peer_id_text(event.peer_id);
    if (json)
      return json_line({{"event", "message"}, {"peer_id", peer}, {"tag", event.tag}, {"body", hex_text(event.body)}});
    return "message       " + peer + "  tag " + std::to_string(event.tag) + ", " + std::to_string(event.body.size()) +
           " bytes  " + body_text(event.body) + "\n";
  }
  std::string operator()(const client::Gap& event) const {
    const std::string peer = wire::peer_id_text(event.peer_id);
    if (json) return json_line({{"event", "gap"}, {"peer_id", peer}, {"messages", event.messages}});
    return "gap           " + peer + "  " + std::to_string(event.messages) +
           " messages were discarded while nobody received\n";
  }
  std::string operator()(const client::Detached&) const {
    return json ? json_line({{"event", "detached"}}) : std::string("detached      the node has ended\n");
  }
};

// ---- send

/// All of standard input, up to the largest message that the protocol has.
Result<std::vector<std::uint8_t>> read_input() {
  std::vector<std::uint8_t> body;
  std::vector<std::uint8_t> piece(64 * 1024);
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(system_error("standard input cannot be read").text);
    if (got == 0) return body;
    body.insert(body.end(), piece.begin(), piece.begin() + got);
    if (body.size() > wire::kMaximumApplicationPayload)
      return failure("BODY: more than " + std::to_string(wire::kMaximumApplicationPayload) +
                     " bytes, the most that a message carries");
  }
}

Result<std::vector<std::uint8_t>> body_of(const Arguments& arguments) {
  if (arguments.body_from_input) return read_input();
  return arguments.body;
}

/// Peers with a running connection, as the node's tables say.
Result<std::set<PeerId>> running_peers(const std::string& data_dir) {
  const auto node = open_node(data_dir);
  if (!node) return node.error();
  std::set<PeerId> peers;
  for (SlotId slot = 0; slot < node->tables.pool.slots(); ++slot) {
    const auto row = node->tables.pool.slot(slot).read();
    if (row && row->state == static_cast<std::uint32_t>(shm::SlotState::kRunning)) peers.insert(row->peer_id);
  }
  return peers;
}

bool has_link(const client::Application& application, const PeerId& peer) {
  const auto connections = application.connections();
  return std::any_of(connections.begin(), connections.end(),
                     [&](const auto& connection) { return connection.peer_id == peer; });
}

/// Waits until the links of these peers have arrived, which takes a moment after attaching, and takes out of `peers`
/// whose link has. False: the node has gone.
bool wait_for_links(client::Application& application, std::set<PeerId>& peers, Clock::time_point until) {
  for (;;) {
    while (const auto event = application.next()) {
      if (std::holds_alternative<client::Detached>(*event)) return false;
      if (const auto* gone = std::get_if<client::Disconnected>(&*event)) peers.erase(gone->peer_id);
    }
    std::erase_if(peers, [&](const PeerId& peer) { return has_link(application, peer); });
    if (peers.empty() || Clock::now() >= until || g_interrupted != 0) return true;
    application.wait(std::min(kSlice, left_until(until)));
  }
}

/// Of these, those that are connected still: their workers give no link.
Result<std::set<PeerId>> without_link(const std::string& data_dir, const std::set<PeerId>& peers) {
  if (peers.empty()) return peers;
  auto still = running_peers(data_dir);
  if (still) std::erase_if(*still, [&](const PeerId& peer) { return !peers.contains(peer); });
  return still;
}

Error no_link(const PeerId& peer) {
  return failure(
      "the worker of the connection with " + wire::peer_id_text(peer) +
      " gave no link within 10 s; the message was not sent. The node ends a worker that hangs within minutes, "
      "`kick peer` within seconds");
}

/// `hanging`: those of the `failed` whose workers gave no link.
Error not_taken(std::size_t failed, const std::set<PeerId>& hanging) {
  std::string text = count_text(failed, "connection", "connections") + " did not take the message within 10 s";
  const std::size_t full = failed - std::min(failed, hanging.size());
  if (full > 0) text += "; " + count_text(full, "queue", "queues") + " stayed full";
  if (hanging.empty()) return failure(text);
  text += "; " + count_text(hanging.size(), "worker gave", "workers gave") +
          " no link. The node ends a worker that hangs within minutes, ";
  for (auto peer = hanging.begin(); peer != hanging.end(); ++peer)
    text +=
        (peer == hanging.begin() ? "`bulkhead kick peer " : ", `bulkhead kick peer ") + wire::peer_id_text(*peer) + "`";
  return failure(text + " at once");
}

Error send_error(const Error& error, const PeerId& peer) {
  const std::string name = wire::peer_id_text(peer);
  if (error.code == ErrorCode::kWouldBlock)
    return failure("the queue to " + name + " stayed full for 10 s; the message was not sent");
  if (error.code == ErrorCode::kNotFound)
    return failure("no connection with " + name + "; 'bulkhead connections' lists them");
  return failure(error.text);
}

}  // namespace

int run_listen(const Arguments& arguments) {
  watch_signals();
  auto application = attach(arguments, true);
  if (!application) return fail(application.error());
  const Line line{arguments.json};
  std::string out =
      arguments.json ? json_line({{"event", "attached"}}) : std::string("attached      waiting for messages\n");
  const auto until = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(arguments.timeout_s.value_or(0)));
  std::uint64_t messages = 0;
  const auto complete = [&] { return arguments.count && messages >= *arguments.count; };
  while (!complete() && g_interrupted == 0) {
    const auto event = (*application)->next();
    if (event) {
      out += std::visit(line, *event);
      if (std::holds_alternative<client::MessageReceived>(*event)) ++messages;
      if (std::holds_alternative<client::Detached>(*event)) {
        print(out);
        complain("the node on " + arguments.data_dir + " has ended");
        return exit_status(ProgramExit::kNoNode);
      }
      if (out.size() < kOutputBatch) continue;
    }
    if (!out.empty() && !print(out)) return exit_status(ProgramExit::kFailed);
    out.clear();
    if (event) continue;
    if (arguments.timeout_s && Clock::now() >= until) break;
    (*application)->wait(arguments.timeout_s ? std::min(kSlice, left_until(until)) : kSlice);
  }
  print(out);
  if (arguments.count && !complete() && g_interrupted == 0) {
    complain(std::to_string(messages) + " of " + std::to_string(*arguments.count) + " messages came within the time");
    return exit_status(ProgramExit::kFailed);
  }
  return kDone;
}

int run_send(const Arguments& arguments) {
  const auto body = body_of(arguments);
  if (!body) return fail(body.error());
  const auto peers = running_peers(arguments.data_dir);
  if (!peers) return fail(peers.error());
  if (!peers->contains(arguments.peer)) return fail(send_error(Error{ErrorCode::kNotFound, {}}, arguments.peer));
  auto application = attach(arguments, false);
  if (!application) return fail(application.error());
  const auto until = Clock::now() + kQueueWait;
  std::set<PeerId> wanted = {arguments.peer};
  if (!wait_for_links(**application, wanted, until))
    return fail(failure("the node has ended; the message was not sent"));
  if (g_interrupted != 0) return fail(failure("interrupted; the message was not sent"));
  const auto hanging = without_link(arguments.data_dir, wanted);
  if (!hanging) return fail(hanging.error());
  if (!hanging->empty()) return fail(no_link(arguments.peer));
  const auto sent = (*application)->send(arguments.peer, arguments.tag, *body, left_until(until));
  if (!sent) return fail(send_error(sent.error(), arguments.peer));
  const std::string peer = wire::peer_id_text(arguments.peer);
  print(arguments.json ? json_text({{"sent", true}, {"peer_id", peer}, {"tag", arguments.tag}, {"bytes", body->size()}})
                       : "queued " + count_text(body->size(), "byte", "bytes") + " for " + peer + "\n");
  return kDone;
}

int run_broadcast(const Arguments& arguments) {
  const auto body = body_of(arguments);
  if (!body) return fail(body.error());
  auto peers = running_peers(arguments.data_dir);
  if (!peers) return fail(peers.error());
  auto application = attach(arguments, false);
  if (!application) return fail(application.error());
  const auto until = Clock::now() + kQueueWait;
  if (!wait_for_links(**application, *peers, until))
    return fail(failure("the node has ended; the message was not sent"));
  if (g_interrupted != 0) return fail(failure("interrupted; the message was not sent"));
  const auto hanging = without_link(arguments.data_dir, *peers);
  if (!hanging) return fail(hanging.error());
  ShownJson reached = ShownJson::array();
  ShownJson missed = ShownJson::array();
  for (const auto& connection : (*application)->connections()) {
    const auto sent = (*application)->send(connection.peer_id, arguments.tag, *body, left_until(until));
    // A connection that ended in this moment is nobody to reach any more.
    if (!sent && sent.error().code == ErrorCode::kNotFound) continue;
    (sent ? reached : missed).push_back(wire::peer_id_text(connection.peer_id));
  }
  for (const PeerId& peer : *hanging) missed.push_back(wire::peer_id_text(peer));
  const std::size_t count = reached.size();
  const std::size_t failed = missed.size();
  print(arguments.json ? json_text({{"sent", count}, {"peers", std::move(reached)}, {"failed", std::move(missed)}})
                       : "queued " + count_text(body->size(), "byte", "bytes") + " for " +
                             count_text(count, "peer", "peers") + "\n");
  return failed == 0 ? kDone : fail(not_taken(failed, *hanging));
}

}  // namespace bulkhead::cli
