#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "services/controller/cli/node_tables.h"

namespace bulkhead::cli {

/// A node of the demo: `bulkhead run` as a child process with a data directory of its own, its log in `log` there. Ends
/// with this object, and with this process.
class DemoNode {
 public:
  /// `options` go behind the data directory. The directory is made; `configuration` becomes its config.json.
  static Result<std::unique_ptr<DemoNode>> start(const std::string& program, const std::string& data_dir,
                                                 const std::string& configuration,
                                                 const std::vector<std::string>& options);
  ~DemoNode();
  DemoNode(const DemoNode&) = delete;
  DemoNode& operator=(const DemoNode&) = delete;

  const std::string& data_dir() const { return data_dir_; }

  /// The node's tables once it is ready, nothing yet, or why it never will be (with the last line of its log).
  Result<std::optional<Node>> ready();

  /// Ends the node in order: at most five seconds, then by force. True when it ended by itself with status 0.
  bool stop();

 private:
  DemoNode(std::string data_dir, pid_t pid);
  std::string last_log_line() const;

  std::string data_dir_;
  pid_t pid_;  ///< 0: ended and reaped
};

}  // namespace bulkhead::cli
