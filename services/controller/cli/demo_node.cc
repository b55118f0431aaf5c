#include "services/controller/cli/demo_node.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "services/controller/cli/config.h"
#include "services/controller/cli/files.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/views.h"

namespace bulkhead::cli {
namespace {

constexpr std::size_t kLogLimit = 16 * 1024 * 1024;

/// In the child: only calls that are safe after fork.
[[noreturn]] void become(const std::string& program, std::vector<char*>& argv, const std::string& log, pid_t parent) {
  // The demo may be killed; its nodes must not stay.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);
  const int in = ::open("/dev/null", O_RDONLY);
  const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (in < 0 || out < 0) ::_exit(1);
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(out, STDERR_FILENO);
  // A Ctrl-C at the terminal is the demo's to handle: it stops its nodes in order.
  ::setpgid(0, 0);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

}  // namespace

DemoNode::DemoNode(std::string data_dir, pid_t pid) : data_dir_(std::move(data_dir)), pid_(pid) {}

DemoNode::~DemoNode() {
  stop();
}

Result<std::unique_ptr<DemoNode>> DemoNode::start(const std::string& program, const std::string& data_dir,
                                                  const std::string& configuration,
                                                  const std::vector<std::string>& options) {
  if (auto made = make_directories(data_dir); !made) return made.error();
  if (auto written = write_new_file(configuration_path(data_dir), configuration, 0640); !written)
    return written.error();
  std::vector<std::string> words = {program, "run", "--data-dir", data_dir};
  words.insert(words.end(), options.begin(), options.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = data_dir + "/log";
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return failure(system_error("cannot start a process").text);
  if (child == 0) become(program, argv, log, parent);
  return std::unique_ptr<DemoNode>(new DemoNode(data_dir, child));
}

Result<std::optional<Node>> DemoNode::ready() {
  int status = 0;
  if (pid_ == 0 || ::waitpid(pid_, &status, WNOHANG) == pid_) {
    pid_ = 0;
    return failure("a node of the demo ended at once: " + last_log_line());
  }
  auto node = open_node(data_dir_);
  if (!node || !is_ready(node->tables)) return std::optional<Node>();
  return std::optional<Node>(std::move(*node));
}

bool DemoNode::stop() {
  if (pid_ == 0) return false;
  ::kill(pid_, SIGTERM);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  int status = 0;
  pid_t reaped = 0;
  while ((reaped = ::waitpid(pid_, &status, WNOHANG)) == 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (reaped == 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, &status, 0);
  }
  pid_ = 0;
  return reaped > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::string DemoNode::last_log_line() const {
  auto text = read_file(data_dir_ + "/log", kLogLimit);
  if (!text || text->empty()) return "it wrote no log";
  if (text->back() == '\n') text->pop_back();
  return text->substr(text->rfind('\n') == std::string::npos ? 0 : text->rfind('\n') + 1);
}

}  // namespace bulkhead::cli
