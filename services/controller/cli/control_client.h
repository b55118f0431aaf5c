#pragma once

#include <chrono>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "schema/messages.h"
#include "services/controller/cli/options.h"

namespace bulkhead::cli {

/// Asks the controller at run/control.sock and waits for its answer. kNotFound: no node runs there; kRefused: the node
/// said no, or its controller did not answer in time (it may be starting anew), with one line that says which.
/// `descriptors` go with the request and stay the caller's. `waiting` is called about every second.
Result<schema::ControlAnswer> ask_controller(const std::string& data_dir, const schema::ControlRequest& request,
                                             std::chrono::milliseconds timeout, std::span<const int> descriptors = {},
                                             const std::function<void()>& waiting = {});

/// Prints the answer, or complains. Returns the exit status. `numbers`: of what the answer says how many, to stand in
/// JSON as fields of these names.
using AnswerNumbers = std::vector<std::pair<const char*, std::uint64_t>>;
int report(const Arguments& arguments, const Result<schema::ControlAnswer>& answer, const AnswerNumbers& numbers = {});

int run_connect_address(const Arguments& arguments);
int run_kick_peer(const Arguments& arguments);
int run_maintain(const Arguments& arguments);

}  // namespace bulkhead::cli
