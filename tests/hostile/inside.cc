#include "tests/hostile/inside.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "tests/unit/sandbox/children.h"

namespace bulkhead::hostile {
namespace {

namespace fs = std::filesystem;
using testing::Json;

constexpr std::uint64_t kRedZone = 128;
constexpr std::uint64_t kAlignment = 64;

const std::map<std::string, Role> kPrograms = {{"bulkhead-controller", Role::kController},
                                               {"bulkhead-keyholder", Role::kKeyholder},
                                               {"bulkhead-acceptor", Role::kAcceptor},
                                               {"bulkhead-maintainer", Role::kMaintainer},
                                               {"bulkhead-conn", Role::kNursery}};

std::string link_text(const std::string& path) {
  std::array<char, PATH_MAX> text{};
  const ssize_t size = ::readlink(path.c_str(), text.data(), text.size());
  return size > 0 ? std::string(text.data(), static_cast<std::size_t>(size)) : "";
}

std::string process_path(pid_t pid, const char* name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

int filters_of(pid_t pid) {
  const std::string status = testing::read_file(process_path(pid, "status"));
  const std::string name = "\nSeccomp_filters:\t";
  const auto at = status.find(name);
  return at == std::string::npos ? -1 : std::atoi(status.c_str() + at + name.size());
}

// Its own beside what it has from the supervisor; a worker, which a supervisor may have adopted, has the nursery's too.
bool is_filtered_service(pid_t pid, pid_t supervisor) {
  return filters_of(pid) == filters_of(supervisor) + 1;
}

bool may_trace() {
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  const bool may = fault::SeizedProcess::seize(child).ok();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return may;
}

}  // namespace

Result<Inside> enter(pid_t pid, pid_t other, int descriptor) {
  auto process = fault::SeizedProcess::seize(pid);
  if (!process) return process.error();
  const EscapeData data = escape_data();
  Target target;
  target.data = (process->stack_pointer() - kRedZone - sizeof(data)) & ~(kAlignment - 1);
  target.other_pid = static_cast<std::uint64_t>(other);
  target.descriptor = static_cast<std::uint64_t>(descriptor);
  if (auto written = process->write(target.data, std::as_bytes(std::span(&data, 1))); !written) return written.error();
  return Inside{std::move(*process), target};
}

std::vector<MemoryRange> memory_of(pid_t pid) {
  std::vector<MemoryRange> ranges;
  std::istringstream maps(testing::read_file(process_path(pid, "maps")));
  for (std::string line; std::getline(maps, line);) {
    std::istringstream words(line);
    MemoryRange range;
    char dash = 0;
    words >> std::hex >> range.begin >> dash >> range.end >> range.permissions >> range.offset >> range.device >>
        std::dec >> range.inode >> std::ws;
    std::getline(words, range.name);
    ranges.push_back(range);
  }
  return ranges;
}

std::map<int, std::string> descriptors_of(pid_t pid) {
  std::map<int, std::string> found;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(process_path(pid, "fd"), failure)) {
    found[std::atoi(entry.path().filename().c_str())] = link_text(entry.path());
  }
  return found;
}

UniqueFd descriptor_of(pid_t pid, int fd) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
}

std::map<Role, pid_t> confined_services(const testing::Node& node) {
  std::map<Role, pid_t> found;
  for (const pid_t pid : testing::children_of(node.pid())) {
    const auto program = kPrograms.find(fs::path(link_text(process_path(pid, "exe"))).filename());
    if (program != kPrograms.end() && is_filtered_service(pid, node.pid())) found[program->second] = pid;
  }
  return found;
}

std::string ConfinedNodeTest::obstacle(const std::string& level) {
  const char* wanted = ::getenv("BULKHEAD_TEST_SANDBOX");
  if (wanted != nullptr && *wanted != '\0') return "the level of confinement is given from outside";
  if (sandbox::test::kSanitized) return "a sanitizer makes system calls that no policy allows";
  if (::geteuid() != 0) return "needs root, to get into other processes";
  if (!may_trace()) return "needs ptrace";
  if (level == "strict" && !sandbox::test::has_namespaces()) return "needs namespaces";
  return "";
}

testing::NodeOptions ConfinedNodeTest::options_of(const std::string& level, int connections) {
  testing::NodeOptions options;
  options.arguments = {"--require-sandbox", level,
                       "--max-connections", std::to_string(connections + 20),
                       "--connections",     std::to_string(connections + 10)};
  return options;
}

void ConfinedNodeTest::connect_peers(std::size_t count) {
  while (peers_.size() < count) {
    peers_.push_back(node_->make_peer());
    const auto dialled = node_->dial(peers_.back());
    ASSERT_TRUE(dialled) << dialled.error().text;
    const auto done = peers_.back().handshake();
    ASSERT_TRUE(done) << done.error().text << "\n" << node_->events();
  }
  ASSERT_TRUE(testing::eventually([&] {
    const auto pids = workers();
    return std::count(pids.begin(), pids.end(), 0) == 0;
  })) << node_->events();
}

std::vector<pid_t> ConfinedNodeTest::workers() const {
  std::map<std::string, pid_t> by_peer;
  for (const Json& row : node_->connections()) by_peer[row.value("peer_id", "")] = row.value("worker_pid", 0);
  std::vector<pid_t> pids;
  for (const testing::Peer& peer : peers_) pids.push_back(by_peer[peer.peer_id()]);
  return pids;
}

}  // namespace bulkhead::hostile
