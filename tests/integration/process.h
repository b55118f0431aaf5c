#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

/// Programs started, watched and ended by a test.
namespace bulkhead::testing {

using Milliseconds = std::chrono::milliseconds;

/// Factor for deadlines: sanitizers and a loaded machine make everything slower, not wrong.
#ifdef BULKHEAD_SANITIZED
inline constexpr int kPatience = 4;
#else
inline constexpr int kPatience = 1;
#endif

/// The program under test.
std::string bulkhead_program();

/// What `run` and `demo` get besides: `--require-sandbox` as BULKHEAD_TEST_SANDBOX says, which a sanitizer's build
/// needs off, as its run time makes calls of its own.
std::vector<std::string> sandbox_words();

/// An address of 127.0.0.0/8 that no other test of the machine is likely to use at the same time; another one each
/// call.
std::string fresh_address();

/// A port of `address` that was free a moment ago. 0 when there is none.
std::uint16_t free_port(const std::string& address);

/// Asks every few milliseconds until `condition` holds (true) or the time is over (false). Asks at least once.
bool eventually(const std::function<bool()>& condition, Milliseconds timeout = Milliseconds(5000) * kPatience);

struct CommandResult {
  std::string command;     ///< for messages
  int exit_status = -1;    ///< or minus the signal that ended it
  bool timed_out = false;  ///< it was killed then
  std::string out;
  std::string err;
};

/// For a test's messages: the command, how it ended and what it said.
std::ostream& operator<<(std::ostream& stream, const CommandResult& result);

/// Runs the program with `arguments`, feeds it `input`, and waits for its end.
CommandResult run_bulkhead(const std::vector<std::string>& arguments, const std::string& input = "",
                           Milliseconds timeout = Milliseconds(15000) * kPatience);

/// The program running in the background, its standard output read line by line. Killed when this object goes.
/// Start it in the thread of the test: the child is killed when the thread that started it ends.
class BackgroundCommand {
 public:
  explicit BackgroundCommand(const std::vector<std::string>& arguments);
  ~BackgroundCommand();
  BackgroundCommand(const BackgroundCommand&) = delete;
  BackgroundCommand& operator=(const BackgroundCommand&) = delete;

  pid_t pid() const { return pid_; }
  /// Without its line end. Nothing when the program ended, closed its output, or said nothing in time.
  std::optional<std::string> read_line(Milliseconds timeout = Milliseconds(10000) * kPatience);
  /// What it wrote to standard error so far.
  std::string errors() const;
  /// Waits for its end; nothing when it still runs after that time. Minus the signal when one ended it.
  std::optional<int> wait(Milliseconds timeout = Milliseconds(10000) * kPatience);
  /// SIGKILL.
  void kill();

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_status_;
  UniqueFd out_;
  UniqueFd errors_;
  std::string buffer_;
};

/// Starts a process in a session of its own. `out` and `err` become its standard output and error, /dev/null its input
/// unless `in` is given. It gets SIGKILL when the calling thread ends. -1 when it could not be forked.
pid_t spawn(const std::vector<std::string>& command, int in, int out, int err);
/// Waits for `pid`, a child. Nothing when it still runs after that time. Minus the signal when one ended it.
std::optional<int> wait_for(pid_t pid, Milliseconds timeout);

/// The processes whose parent is `pid`, from /proc.
std::vector<pid_t> children_of(pid_t pid);
/// All processes below `pid`, and those of its session that lost their parent; `pid` itself is not among them.
std::vector<pid_t> tree_of(pid_t pid);
/// False for a zombie, too.
bool is_running(pid_t pid);
/// Makes orphans of what this process starts its own children, so that none of them outlives the test.
void adopt_orphans();
/// Kills `pids` and waits until they are gone.
void kill_all(const std::vector<pid_t>& pids);

/// A directory under /tmp that is removed with this object, or kept when the test failed.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// What can be read of it; empty when there is no such file.
std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& text);

}  // namespace bulkhead::testing
