#include "sandbox/inspect.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "sandbox/cgroup.h"
#include "sandbox/policy.h"
#include "tests/unit/sandbox/children.h"

namespace bulkhead::sandbox {
namespace {

using test::Confined;
using test::kDone;

constexpr std::array<Role, 6> kRoles = {Role::kConn,     Role::kKeyholder,  Role::kController,
                                        Role::kAcceptor, Role::kMaintainer, Role::kNursery};
constexpr Nanoseconds kStopTime = 10 * kSecond;

bool operator==(const Program& a, const Program& b) {
  return a.instructions.size() == b.instructions.size() &&
         std::memcmp(a.instructions.data(), b.instructions.data(), a.instructions.size() * sizeof(sock_filter)) == 0;
}

/// In force for a process of this role, oldest first.
std::vector<Program> expected_filters(Role role) {
  std::vector<Program> filters;
  const auto add = [&filters](Role of) {
    auto program = compile_policy(of);
    ASSERT_TRUE(program) << program.error().text;
    filters.push_back(std::move(*program));
  };
  if (role == Role::kConn) add(Role::kNursery);
  add(role);
  return filters;
}

/// Capabilities that reading filters takes.
bool may_read_filters() {
  const auto self = observe(::getpid());
  constexpr std::uint64_t kNeeded = std::uint64_t{1} << 19 | std::uint64_t{1} << 21;  // SYS_PTRACE, SYS_ADMIN
  return ::geteuid() == 0 && self && (self->capabilities & kNeeded) == kNeeded;
}

TEST(Inspect, CountsInAFilterWhatThePolicyAllows) {
  for (const Role role : kRoles) EXPECT_EQ(count_passing(expected_filters(role)), policy_size(role)) << role_name(role);
}

TEST(Inspect, CountsEveryCallWithoutAFilter) {
  EXPECT_EQ(count_passing({}), 1024U);
}

TEST(Inspect, LetsPassWhatDependsOnArguments) {
  const std::vector<CallRule> rules = {{"socket", {{0, 0xffffffff, AF_INET}}}, {"openat", {}, EACCES}};
  const auto program = compile(rules, Violation::kKillProcess);
  ASSERT_TRUE(program);
  const std::vector<Program> filters = {*program};
  EXPECT_TRUE(may_pass(filters, SYS_socket));
  EXPECT_FALSE(may_pass(filters, SYS_openat));
  EXPECT_FALSE(may_pass(filters, SYS_connect));
  EXPECT_EQ(count_passing(filters), 1U);
}

TEST(Inspect, LetsPassOnlyWhatAllFiltersLetPass) {
  const auto one = compile(std::vector<CallRule>{{"read"}, {"write"}}, Violation::kKillProcess);
  const auto other = compile(std::vector<CallRule>{{"write"}, {"close"}}, Violation::kTrap);
  ASSERT_TRUE(one && other);
  EXPECT_EQ(count_passing(std::vector<Program>{*one, *other}), 1U);
  EXPECT_TRUE(may_pass(std::vector<Program>{*one, *other}, SYS_write));
}

TEST(Inspect, TakesAFilterThatItCannotFollowForOneThatLetsPass) {
  // The action is what the caller gave as an argument.
  const std::vector<Program> filters = {
      Program{{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16), BPF_STMT(BPF_RET | BPF_A, 0)}}};
  EXPECT_TRUE(may_pass(filters, SYS_open));
}

TEST(Inspect, StopsAtTheEndOfAMalformedFilter) {
  EXPECT_FALSE(may_pass(std::vector<Program>{Program{}}, SYS_read));
  EXPECT_FALSE(may_pass(std::vector<Program>{Program{{BPF_STMT(BPF_JMP | BPF_JA, 0xffffffff)}}}, SYS_read));
}

TEST(Inspect, FindsNoProcessOfANumberThatIsNotUsed) {
  const pid_t ended = ::fork();
  if (ended == 0) ::_exit(0);
  ::waitpid(ended, nullptr, 0);
  const auto seen = observe(ended);
  ASSERT_FALSE(seen);
  EXPECT_EQ(seen.error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(read_filters(ended, kStopTime));
}

TEST(Inspect, SeesThisProcessAsItIs) {
  const auto seen = observe(::getpid());
  ASSERT_TRUE(seen) << seen.error().text;
  EXPECT_EQ(seen->parent, ::getppid());
  EXPECT_EQ(seen->uid, ::geteuid());
  EXPECT_EQ(seen->gid, ::getegid());
  EXPECT_EQ(seen->no_new_privs, ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
  EXPECT_EQ(seen->seccomp, ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
  EXPECT_EQ(seen->root_empty, std::optional(false));
  const std::string groups(std::istreambuf_iterator<char>(std::ifstream("/proc/self/cgroup").rdbuf()), {});
  EXPECT_EQ(seen->cgroup, memory_group_of(groups));
  ASSERT_TRUE(seen->open_files);
  const int more = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(observe(::getpid())->open_files, *seen->open_files + 1);
  ::close(more);
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  EXPECT_EQ(seen->file_limit, files.rlim_max == RLIM_INFINITY ? std::nullopt : std::optional(files.rlim_max));
}

TEST(Inspect, TellsADumpableProcessFromOneThatIsNot) {
  for (const bool dumpable : {true, false}) {
    test::Line up = test::make_line();
    test::Line down = test::make_line();
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_DUMPABLE, dumpable ? 1 : 0);
      (void)!::write(up.write.get(), "x", 1);
      char byte = 0;
      down.write.reset();
      (void)!::read(down.read.get(), &byte, 1);
      ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(up.read.get(), &byte, 1), 1);
    const auto seen = observe(pid);
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->dumpable, std::optional(dumpable));
    down.write.reset();
    ::waitpid(pid, nullptr, 0);
  }
}

TEST(Inspect, SeesEveryLayerOfEveryRole) {
  SKIP_UNDER_SANITIZERS();
  const auto self = namespaces_of(::getpid());
  ASSERT_TRUE(self);
  for (const Role role : kRoles) {
    SCOPED_TRACE(role_name(role));
    const Confined process(role);
    ASSERT_TRUE(process.ready());
    const auto seen = observe(process.pid());
    ASSERT_TRUE(seen);
    const RolePolicy& policy = policy_of(role);
    EXPECT_TRUE(seen->no_new_privs);
    EXPECT_EQ(seen->seccomp, 2);
    EXPECT_EQ(seen->dumpable, std::optional(false));
    EXPECT_EQ(seen->data_limit, std::optional(policy.data_bytes));
    EXPECT_EQ(seen->core_limit, std::optional<std::uint64_t>(0));
    if (!policy.may_fork) {
      EXPECT_EQ(seen->process_limit, std::optional<std::uint64_t>(0));
    }
    if (::geteuid() == 0) {
      EXPECT_EQ(seen->uid, kFirstUser + policy.user_offset);
      EXPECT_EQ(seen->gid, kFirstUser + policy.user_offset);
    } else {
      EXPECT_EQ(seen->uid, ::geteuid());
    }
    if (!test::has_namespaces()) {
      EXPECT_EQ(seen->permitted_capabilities, 0U);
      continue;
    }
    EXPECT_EQ(seen->capabilities, policy.capabilities);
    EXPECT_EQ(seen->permitted_capabilities, policy.capabilities);
    if (::geteuid() != 0) continue;  // the kernel shows the rest to root only
    EXPECT_EQ(seen->root_empty, std::optional(true));
    ASSERT_TRUE(seen->namespaces);
    for (std::size_t i = 0; i < kNamespaceKinds.size(); ++i) {
      const std::string kind = kNamespaceKinds[i];
      // A worker's PID namespace is made by the fork, which the nursery does.
      const bool own = kind != "pid" && (kind != "net" || policy.empty_network);
      EXPECT_EQ((*seen->namespaces)[i] != (*self)[i], own) << kind;
    }
  }
}

TEST(Inspect, ReadsFromTheKernelTheFiltersThatThePolicyGives) {
  SKIP_UNDER_SANITIZERS();
  if (!may_read_filters()) GTEST_SKIP() << "needs root, to be shown filters";
  for (const Role role : kRoles) {
    SCOPED_TRACE(role_name(role));
    const Confined process(role);
    ASSERT_TRUE(process.ready());
    const auto filters = read_filters(process.pid(), kStopTime);
    ASSERT_TRUE(filters) << filters.error().text;
    const auto expected = expected_filters(role);
    ASSERT_EQ(filters->size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_TRUE((*filters)[i] == expected[i]) << "filter " << i;
    EXPECT_EQ(count_passing(*filters), policy_size(role));
  }
}

TEST(Inspect, LeavesAProcessAsItFoundIt) {
  SKIP_UNDER_SANITIZERS();
  if (!may_read_filters()) GTEST_SKIP() << "needs root, to be shown filters";
  const Confined process(Role::kConn);
  ASSERT_TRUE(process.ready());
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(read_filters(process.pid(), kStopTime));
  ::kill(process.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(process.pid(), &status, WUNTRACED), process.pid());
  ASSERT_TRUE(WIFSTOPPED(status));
  // One that was stopped stays stopped.
  ASSERT_TRUE(read_filters(process.pid(), kStopTime));
  EXPECT_EQ(::waitpid(process.pid(), &status, WCONTINUED | WNOHANG), 0);
  ::kill(process.pid(), SIGCONT);
  EXPECT_EQ(::waitpid(process.pid(), &status, WCONTINUED), process.pid());
  EXPECT_TRUE(WIFCONTINUED(status));
}

}  // namespace
}  // namespace bulkhead::sandbox
