#include "services/controller/cli/control_client.h"

#include <algorithm>
#include <cerrno>

#include "base/unix_socket.h"
#include "schema/channel.h"
#include "services/controller/cli/node_tables.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/views.h"

namespace bulkhead::cli {
namespace {

/// What Octez's client gives a dial, and the time for the answer to arrive.
constexpr std::uint32_t kDialTimeoutMs = 10000;
constexpr auto kConnectWait = std::chrono::milliseconds(12000);
constexpr auto kAnswerWait = std::chrono::milliseconds(5000);
constexpr double kMaintainWaitS = 60;
constexpr auto kWaitingStep = std::chrono::milliseconds(1000);

/// The controller did not take the question: is it away, or is there no node at all?
Error unreachable(const std::string& data_dir) {
  const auto node = open_node(data_dir);
  if (!node) return node.error();
  return failure("the controller is away for the moment; try again in a second");
}

Result<schema::ControlResponse> wait_for_answer(schema::Channel& channel, std::chrono::milliseconds timeout,
                                                const std::function<void()>& waiting) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    const auto slice = std::clamp(left, std::chrono::milliseconds(0), kWaitingStep);
    schema::Descriptors descriptors;
    auto response =
        schema::receive_blocking<schema::ControlResponse>(channel, descriptors, static_cast<int>(slice.count()));
    if (response || response.error().code != ErrorCode::kWouldBlock || left <= kWaitingStep) return response;
    if (waiting) waiting();
  }
}

}  // namespace

Result<schema::ControlAnswer> ask_controller(const std::string& data_dir, const schema::ControlRequest& request,
                                             std::chrono::milliseconds timeout, std::span<const int> descriptors,
                                             const std::function<void()>& waiting) {
  auto socket = connect_unix(data_dir + "/run", "control.sock");
  if (!socket) {
    if (socket.error().errno_value == EACCES || socket.error().errno_value == EPERM) {
      return failure("the node on " + data_dir + " takes no orders from this user; be the node's user");
    }
    return socket.error().code == ErrorCode::kNotFound ? unreachable(data_dir) : failure(socket.error().text);
  }
  if (auto done = set_nonblocking(socket->get(), true); !done) return failure(done.error().text);
  schema::Channel channel(std::move(*socket), schema::kMaximumPacket);
  if (auto sent = channel.send(request, descriptors); !sent) return unreachable(data_dir);
  auto response = wait_for_answer(channel, timeout, waiting);
  if (!response) {
    if (response.error().code == ErrorCode::kClosed) return unreachable(data_dir);
    Error late =
        failure("the controller gave no answer within " + std::to_string(timeout.count() / 1000) + " s; try again");
    late.code = response.error().code;
    return late;
  }
  auto& answer = std::get<schema::ControlAnswer>(*response);
  if (!answer.ok) return failure(answer.text.empty() ? "the node refused" : answer.text);
  if (answer.text.empty()) answer.text = "done";
  return std::move(answer);
}

int report(const Arguments& arguments, const Result<schema::ControlAnswer>& answer, const AnswerNumbers& numbers) {
  if (!answer) return fail(answer.error());
  if (arguments.json) {
    ShownJson json = {{"ok", true}, {"text", answer->text}};
    for (const auto& [name, number] : numbers) json[name] = number;
    print(json_text(json));
  } else {
    print(answer->text + "\n");
  }
  return exit_status(ProgramExit::kDone);
}

int run_connect_address(const Arguments& arguments) {
  schema::ControlConnect request;
  request.point = arguments.point;
  request.timeout_ms = kDialTimeoutMs;
  return report(arguments, ask_controller(arguments.data_dir, request, kConnectWait));
}

int run_kick_peer(const Arguments& arguments) {
  schema::ControlKick request;
  request.peer_id = arguments.peer;
  return report(arguments, ask_controller(arguments.data_dir, request, kAnswerWait));
}

int run_maintain(const Arguments& arguments) {
  const std::chrono::duration<double> wait(arguments.timeout_s.value_or(kMaintainWaitS));
  auto done =
      ask_controller(arguments.data_dir, schema::ControlMaintain{}, std::chrono::ceil<std::chrono::milliseconds>(wait));
  if (!done && done.error().code == ErrorCode::kWouldBlock) {
    done = failure(
        "the run goes on: after " + std::to_string(static_cast<long>(wait.count())) +
        " s the connections are not within their bounds yet. `bulkhead status` shows how many there are, `bulkhead "
        "points` whom the node could dial; --timeout waits for longer");
  }
  return report(arguments, std::move(done));
}

}  // namespace bulkhead::cli
