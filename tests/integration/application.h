#pragma once

#include <optional>
#include <string>

#include "tests/integration/node.h"

namespace bulkhead::testing {

/// `bulkhead listen --json` beside a node: the receiving application of a test.
class ListenCommand {
 public:
  explicit ListenCommand(const Node& node) : command_(node.command({"listen", "--json"})) {}

  BackgroundCommand& process() { return command_; }

  /// The next line; null when none came in time or it was no JSON.
  Json next(Milliseconds timeout = Milliseconds(10'000) * kPatience) {
    const auto line = command_.read_line(timeout);
    if (!line) return nullptr;
    Json value = Json::parse(*line, nullptr, false);
    return value.is_discarded() ? Json(nullptr) : value;
  }

  /// The next line of this kind; others that come before it are dropped. Null as above.
  Json next(const std::string& event) {
    for (;;) {
      Json line = next();
      if (line.is_null() || (line.is_object() && line.value("event", "") == event)) return line;
    }
  }

  /// True once it holds the receiving side.
  bool wait_attached() { return !next("attached").is_null(); }

  std::string errors() const { return "listen says: " + command_.errors(); }

 private:
  BackgroundCommand command_;
};

}  // namespace bulkhead::testing
