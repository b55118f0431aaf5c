#include "tests/integration/process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <thread>

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

int left_of(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::max<long>(0, left));
}

int status_of(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -WTERMSIG(wait_status);
}

/// Room for what a program writes to its standard error, without anybody who has to read it meanwhile.
UniqueFd make_scratch() {
  return UniqueFd(::memfd_create("stderr", MFD_CLOEXEC));
}

std::string text_of(int fd) {
  std::string text;
  char buffer[4096];
  off_t at = 0;
  for (;;) {
    const ssize_t got = ::pread(fd, buffer, sizeof buffer, at);
    if (got <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(got));
    at += got;
  }
}

std::pair<UniqueFd, UniqueFd> make_pipe() {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return {};
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

struct ProcessRow {
  pid_t parent = 0;
  pid_t session = 0;
  char state = '?';
};

std::optional<ProcessRow> process_row(pid_t pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/stat");
  // The name in parentheses may hold anything, even parentheses.
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return std::nullopt;
  std::istringstream rest(text.substr(end + 1));
  ProcessRow row;
  pid_t group = 0;
  rest >> row.state >> row.parent >> group >> row.session;
  if (!rest) return std::nullopt;
  return row;
}

std::map<pid_t, ProcessRow> all_processes() {
  std::map<pid_t, ProcessRow> all;
  std::error_code failure;
  for (std::filesystem::directory_iterator entry("/proc", failure), end; !failure && entry != end;
       entry.increment(failure)) {
    const std::string name = entry->path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const pid_t pid = static_cast<pid_t>(std::atoi(name.c_str()));
    if (const auto row = process_row(pid)) all.emplace(pid, *row);
  }
  return all;
}

}  // namespace

std::string bulkhead_program() {
  return std::string(BULKHEAD_BIN_DIR) + "/bulkhead";
}

std::string fresh_address() {
  static std::atomic<unsigned> count = 0;
  const unsigned number = count++;
  const auto pid = static_cast<unsigned>(::getpid());
  return "127." + std::to_string(1 + pid % 251) + "." + std::to_string((pid / 251 + number / 250) % 256) + "." +
         std::to_string(1 + number % 250);
}

std::uint16_t free_port(const std::string& address) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  if (::inet_pton(AF_INET, address.c_str(), &name.sin_addr) != 1) return 0;
  socklen_t size = sizeof name;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), size) != 0) return 0;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &size) != 0) return 0;
  return ntohs(name.sin_port);
}

bool eventually(const std::function<bool()>& condition, Milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    const bool last = Clock::now() >= deadline;
    if (condition()) return true;
    if (last) return false;
    std::this_thread::sleep_for(Milliseconds(5));
  }
}

std::ostream& operator<<(std::ostream& stream, const CommandResult& result) {
  const auto shortened = [](const std::string& text) {
    return text.size() <= 4000 ? text : text.substr(0, 2000) + "[...]" + text.substr(text.size() - 2000);
  };
  stream << "`" << result.command << "` ended with " << result.exit_status;
  if (result.timed_out) stream << " (killed: out of time)";
  return stream << "\nstdout: " << shortened(result.out) << "\nstderr: " << shortened(result.err) << "\n";
}

pid_t spawn(const std::vector<std::string>& command, int in, int out, int err) {
  std::vector<std::string> words = command;
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  // From here on only what is allowed between fork and exec in a program with threads.
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::dup2(in >= 0 ? in : null.get(), STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

std::optional<int> wait_for(pid_t pid, Milliseconds timeout) {
  if (pid <= 0) return std::nullopt;
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    int status = 0;
    const pid_t got = ::waitpid(pid, &status, WNOHANG);
    if (got == pid) return status_of(status);
    if (got < 0 && errno != EINTR) return std::nullopt;
    if (Clock::now() >= deadline) return std::nullopt;
    pollfd item{process.get(), POLLIN, 0};
    ::poll(&item, 1, left_of(deadline));
  }
}

std::vector<std::string> sandbox_words() {
  const char* level = ::getenv("BULKHEAD_TEST_SANDBOX");
  if (level == nullptr || *level == '\0') return {};
  return {"--require-sandbox", level};
}

CommandResult run_bulkhead(const std::vector<std::string>& arguments, const std::string& input, Milliseconds timeout) {
  CommandResult result;
  std::vector<std::string> command = {bulkhead_program()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  result.command = "bulkhead";
  for (const std::string& argument : arguments) result.command += " " + argument.substr(0, 200);

  auto [in_read, in_write] = make_pipe();
  auto [out_read, out_write] = make_pipe();
  const UniqueFd errors = make_scratch();
  const pid_t pid = spawn(command, in_read.get(), out_write.get(), errors.get());
  in_read.reset();
  out_write.reset();
  if (pid < 0) return result;

  // A program that ends without reading its input must not end the test.
  ::signal(SIGPIPE, SIG_IGN);
  ::fcntl(in_write.get(), F_SETFL, O_NONBLOCK);
  const auto deadline = Clock::now() + timeout;
  std::size_t written = 0;
  if (input.empty()) in_write.reset();
  char buffer[65'536];
  for (;;) {
    pollfd items[2] = {{out_read.get(), POLLIN, 0}, {in_write.get(), POLLOUT, 0}};
    const int ready = ::poll(items, 2, left_of(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    if (items[0].revents != 0) {
      const ssize_t got = ::read(out_read.get(), buffer, sizeof buffer);
      if (got <= 0) break;
      result.out.append(buffer, static_cast<std::size_t>(got));
    }
    if (items[1].revents != 0) {
      const ssize_t sent = ::write(in_write.get(), input.data() + written, input.size() - written);
      if (sent > 0) written += static_cast<std::size_t>(sent);
      if ((sent < 0 && errno != EAGAIN) || written == input.size()) in_write.reset();
    }
  }
  in_write.reset();
  auto status = wait_for(pid, Milliseconds(left_of(deadline)));
  if (!status) {
    result.timed_out = true;
    const auto tree = tree_of(pid);
    ::kill(-pid, SIGKILL);
    status = wait_for(pid, Milliseconds(10'000));
    kill_all(tree);
  }
  result.exit_status = status.value_or(-1);
  result.err = text_of(errors.get());
  return result;
}

BackgroundCommand::BackgroundCommand(const std::vector<std::string>& arguments) : errors_(make_scratch()) {
  std::vector<std::string> command = {bulkhead_program()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  auto [out_read, out_write] = make_pipe();
  pid_ = spawn(command, -1, out_write.get(), errors_.get());
  out_ = std::move(out_read);
}

BackgroundCommand::~BackgroundCommand() {
  kill();
  wait(Milliseconds(10'000));
}

std::optional<std::string> BackgroundCommand::read_line(Milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  std::size_t searched = 0;
  std::vector<char> chunk(256 * 1024);
  for (;;) {
    const std::size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    searched = buffer_.size();
    pollfd item{out_.get(), POLLIN, 0};
    const int ready = ::poll(&item, 1, left_of(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return std::nullopt;
    const ssize_t got = ::read(out_.get(), chunk.data(), chunk.size());
    if (got <= 0) return std::nullopt;
    buffer_.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

std::string BackgroundCommand::errors() const {
  return text_of(errors_.get());
}

std::optional<int> BackgroundCommand::wait(Milliseconds timeout) {
  if (!exit_status_) exit_status_ = wait_for(pid_, timeout);
  return exit_status_;
}

void BackgroundCommand::kill() {
  if (pid_ > 0 && !exit_status_) ::kill(-pid_, SIGKILL);
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  for (const auto& [child, row] : all_processes()) {
    if (row.parent == pid && row.state != 'Z') children.push_back(child);
  }
  return children;
}

std::vector<pid_t> tree_of(pid_t pid) {
  const auto all = all_processes();
  std::vector<pid_t> tree;
  for (const auto& [candidate, row] : all) {
    if (candidate == pid || row.state == 'Z') continue;
    bool below = row.session == pid;
    for (auto at = all.find(row.parent); !below && at != all.end(); at = all.find(at->second.parent)) {
      below = at->first == pid;
    }
    if (below) tree.push_back(candidate);
  }
  return tree;
}

bool is_running(pid_t pid) {
  const auto row = process_row(pid);
  return row && row->state != 'Z' && row->state != 'X';
}

void adopt_orphans() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void kill_all(const std::vector<pid_t>& pids) {
  for (const pid_t pid : pids) ::kill(pid, SIGKILL);
  eventually(
      [&] {
        return std::none_of(pids.begin(), pids.end(), [](pid_t pid) {
          ::waitpid(pid, nullptr, WNOHANG);
          return is_running(pid);
        });
      },
      Milliseconds(10'000));
}

TemporaryDirectory::TemporaryDirectory() {
  char name[] = "/tmp/bulkhead-test-XXXXXX";
  if (::mkdtemp(name) != nullptr) path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  if (path_.empty()) return;
  if (::testing::Test::HasFailure()) {
    std::cerr << "kept: " << path_ << "\n";
    return;
  }
  std::error_code failure;
  std::filesystem::remove_all(path_, failure);
}

std::string read_file(const std::string& path) {
  // Not a stream: a process that ends while its file of /proc is read is an error, for which streams throw.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return file ? text_of(file.get()) : "";
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file) ADD_FAILURE() << "cannot write " << path;
}

}  // namespace bulkhead::testing
