#include "services/controller/cli/fault/injection.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>

#include "base/fd.h"
#include "sandbox/seccomp.h"

namespace bulkhead::fault {

void PrintTo(const Outcome& outcome, std::ostream* stream) {
  *stream << describe(outcome);
}

namespace {

using Kind = Outcome::Kind;

constexpr int kWaitMs = 20'000;
constexpr int kHandlerStatus = 14;
constexpr Nanoseconds kShort = 50 * kMillisecond;

Outcome returned(std::int64_t value) {
  return {Kind::kReturned, value};
}

/// A child that runs `body` between two pipes, and ends with this object.
class Child {
 public:
  using Body = std::function<void(int in, int out)>;

  explicit Child(const Body& body) {
    int to[2] = {-1, -1};
    int from[2] = {-1, -1};
    if (::pipe2(to, O_CLOEXEC) != 0 || ::pipe2(from, O_CLOEXEC) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      // A sanitizer has handlers of its own.
      for (const int fault : {SIGSEGV, SIGILL, SIGBUS}) ::signal(fault, SIG_DFL);
      body(to[0], from[1]);
      ::_exit(0);
    }
    in_.reset(to[1]);
    out_.reset(from[0]);
    ::close(to[0]);
    ::close(from[1]);
  }
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }

  /// Sends a byte, and gives the one that comes back; -1 when none came in time.
  int exchange(char byte) { return ::write(in_.get(), &byte, 1) == 1 ? next() : -1; }
  int next() {
    pollfd waiting{out_.get(), POLLIN, 0};
    char byte = 0;
    if (::poll(&waiting, 1, kWaitMs) != 1 || ::read(out_.get(), &byte, 1) != 1) return -1;
    return byte;
  }
  /// Its wait status when it ends by itself.
  int end() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  UniqueFd in_;
  UniqueFd out_;
};

/// Adds one to each byte. Any end of a call but the expected one ends it.
void add_one(int in, int out) {
  char byte = 0;
  while (::read(in, &byte, 1) == 1) {
    ++byte;
    if (::write(out, &byte, 1) != 1) return;
  }
}

void add_one_after_epoll(int in, int out) {
  const int epoll = ::epoll_create1(0);
  epoll_event event{EPOLLIN, {}};
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, in, &event);
  for (;;) {
    const int ready = ::epoll_wait(epoll, &event, 1, -1);
    if (ready < 0 && errno == EINTR) continue;
    char byte = 0;
    if (ready != 1 || ::read(in, &byte, 1) != 1) return;
    ++byte;
    if (::write(out, &byte, 1) != 1) return;
  }
}

void add_one_after_ppoll(int in, int out) {
  for (;;) {
    pollfd waiting{in, POLLIN, 0};
    char byte = 0;
    if (::ppoll(&waiting, 1, nullptr, nullptr) != 1 || ::read(in, &byte, 1) != 1) return;
    ++byte;
    if (::write(out, &byte, 1) != 1) return;
  }
}

void sleep_and_answer(int, int out) {
  // The system call itself: begun again, it sleeps for what is left.
  const timespec rest{0, 400'000'000};
  const char byte = ::syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &rest, nullptr) == 0 ? 'y' : 'n';
  (void)!::write(out, &byte, 1);
}

void answer_signals(int in, int out) {
  static int answer = -1;
  answer = out;
  ::signal(SIGUSR1, [](int) { (void)!::write(answer, "s", 1); });
  add_one(in, out);
}

/// Writes one byte when it is confined to reading and writing.
void live_in_filter(sandbox::Violation violation, int in, int out) {
  struct sigaction action {};
  action.sa_handler = [](int) { ::syscall(SYS_exit_group, kHandlerStatus); };
  ::sigaction(SIGSYS, &action, nullptr);
  const std::vector<sandbox::CallRule> rules = {
      {"read"}, {"write"}, {"exit_group"}, {"restart_syscall"}, {"getppid", {}, EACCES}};
  const auto filter = sandbox::compile(rules, violation);
  if (!filter || !sandbox::install(*filter)) return;
  if (::write(out, "r", 1) != 1) return;
  add_one(in, out);
}

/// Skipped where this user may trace nobody.
class Injection : public ::testing::Test {
 protected:
  void SetUp() override {
    const Child child(add_one);
    const auto seized = SeizedProcess::seize(child.pid());
    if (!seized && seized.error().code == ErrorCode::kRefused) GTEST_SKIP() << "needs ptrace";
  }
};

SeizedProcess seize(pid_t pid) {
  auto seized = SeizedProcess::seize(pid);
  if (!seized) throw std::runtime_error(seized.error().text);
  return std::move(*seized);
}

/// The letter in /proc: 'T' for a process that is stopped.
char state_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string number;
  std::string name;
  char state = 0;
  file >> number >> name >> state;
  return state;
}

Outcome value_of(const Result<Outcome>& outcome) {
  EXPECT_TRUE(outcome) << outcome.error().text;
  return outcome ? *outcome : Outcome{Kind::kKilled, -1};
}

TEST_F(Injection, RunsACallInAnotherProcess) {
  Child child(add_one);
  ASSERT_EQ(child.exchange('a'), 'b');
  {
    SeizedProcess process = seize(child.pid());
    EXPECT_EQ(value_of(process.call({SYS_getpid})), returned(child.pid()));
    EXPECT_EQ(value_of(process.call({SYS_close, {static_cast<std::uint64_t>(-1)}})), returned(-EBADF));
  }
  EXPECT_EQ(child.exchange('b'), 'c');
}

TEST_F(Injection, PassesAllSixArguments) {
  Child child(add_one);
  SeizedProcess process = seize(child.pid());
  const Call map = {SYS_mmap, {0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0}};
  const Outcome mapped = value_of(process.call(map));
  ASSERT_EQ(mapped.kind, Kind::kReturned);
  ASSERT_GT(mapped.value, 0);
  const auto address = static_cast<std::uint64_t>(mapped.value);

  std::vector<std::byte> pattern(4099);
  for (std::size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<std::byte>(i * 7);
  ASSERT_TRUE(process.write(address + 5, pattern));
  const auto read = process.read(address + 5, pattern.size());
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(*read, pattern);
  // The offset is the sixth: not a multiple of a page.
  EXPECT_EQ(value_of(process.call({SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 1}})),
            returned(-EINVAL));
}

class WaitingCall : public Injection,
                    public ::testing::WithParamInterface<std::pair<const char*, void (*)(int, int)>> {};

TEST_P(WaitingCall, GoesOnAsIfNothingHadBeen) {
  Child child(GetParam().second);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(child.exchange('a'), 'b') << i;
    for (int j = 0; j < 2; ++j) {
      SeizedProcess process = seize(child.pid());
      EXPECT_EQ(value_of(process.probe({SYS_getpid})), returned(child.pid()));
      EXPECT_EQ(value_of(process.probe_store(8, 1)), (Outcome{Kind::kSignal, SIGSEGV}));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Of, WaitingCall,
                         ::testing::Values(std::pair{"read", &add_one}, std::pair{"epoll", &add_one_after_epoll},
                                           std::pair{"ppoll", &add_one_after_ppoll}),
                         [](const auto& information) { return std::string(information.param.first); });

TEST_F(Injection, LetsASleeperSleepOn) {
  Child child(sleep_and_answer);
  for (int i = 0; i < 5; ++i) {
    SeizedProcess process = seize(child.pid());
    EXPECT_EQ(value_of(process.probe({SYS_getpid})), returned(child.pid()));
  }
  EXPECT_EQ(child.next(), 'y');
}

TEST_F(Injection, ChangesNoComputation) {
  const auto compute = [] {
    unsigned value = 1;
    for (int i = 0; i < 30'000'000; ++i) value = (value ^ static_cast<unsigned>(i)) * 16777619U;
    return static_cast<char>('a' + value % 26);
  };
  Child child([&](int, int out) {
    (void)!::write(out, "b", 1);
    const char result = compute();
    (void)!::write(out, &result, 1);
    ::pause();
  });
  ASSERT_EQ(child.next(), 'b');
  for (int i = 0; i < 100; ++i) {
    SeizedProcess process = seize(child.pid());
    ASSERT_EQ(value_of(process.probe({SYS_getpid})), returned(child.pid()));
  }
  EXPECT_EQ(child.next(), compute());
}

TEST_F(Injection, DeliversSignalsThatComeMeanwhileAfterwards) {
  Child child(answer_signals);
  ASSERT_EQ(child.exchange('a'), 'b');
  {
    SeizedProcess process = seize(child.pid());
    ASSERT_EQ(::kill(child.pid(), SIGUSR1), 0);
    EXPECT_EQ(value_of(process.probe({SYS_getpid})), returned(child.pid()));
  }
  EXPECT_EQ(child.next(), 's');
  EXPECT_EQ(child.exchange('a'), 'b');
}

TEST_F(Injection, LeavesAStoppedProcessStopped) {
  Child child(add_one);
  ASSERT_EQ(::kill(child.pid(), SIGSTOP), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child.pid(), &status, WUNTRACED), child.pid());
  {
    SeizedProcess process = seize(child.pid());
    EXPECT_EQ(value_of(process.probe({SYS_getpid})), returned(child.pid()));
  }
  // It stops again on its way, which takes a moment.
  for (int i = 0; i < kWaitMs && state_of(child.pid()) != 'T'; ++i) ::usleep(1000);
  EXPECT_EQ(state_of(child.pid()), 'T');
  ASSERT_EQ(::kill(child.pid(), SIGCONT), 0);
  EXPECT_EQ(child.exchange('a'), 'b');
}

TEST_F(Injection, InterruptsACallThatDoesNotReturn) {
  Child child(add_one);
  ASSERT_EQ(child.exchange('a'), 'b');
  {
    SeizedProcess process = seize(child.pid());
    const Outcome outcome = value_of(process.probe({SYS_pause}, kShort));
    EXPECT_EQ(outcome.kind, Kind::kReturned);
    EXPECT_LT(outcome.value, 0);
  }
  EXPECT_EQ(child.exchange('a'), 'b');
}

TEST_F(Injection, TellsTheExitStatus) {
  Child child(add_one);
  SeizedProcess process = seize(child.pid());
  EXPECT_EQ(value_of(process.call({SYS_exit_group, {42}})), (Outcome{Kind::kExited, 42}));
  EXPECT_TRUE(process.released());
  EXPECT_FALSE(process.call({SYS_getpid}));
}

TEST_F(Injection, HoldsBackTheSignalOfAFilter) {
  Child child([](int in, int out) { live_in_filter(sandbox::Violation::kTrap, in, out); });
  ASSERT_EQ(child.next(), 'r');
  {
    SeizedProcess process = seize(child.pid());
    EXPECT_EQ(value_of(process.probe({SYS_getpid})), (Outcome{Kind::kSignal, SIGSYS}));
    EXPECT_EQ(value_of(process.probe({SYS_getppid})), returned(-EACCES));
    EXPECT_EQ(value_of(process.probe({SYS_getuid})), (Outcome{Kind::kSignal, SIGSYS}));
  }
  EXPECT_EQ(child.exchange('a'), 'b');
}

TEST_F(Injection, DeliversTheSignalOfAFilter) {
  Child child([](int in, int out) { live_in_filter(sandbox::Violation::kTrap, in, out); });
  ASSERT_EQ(child.next(), 'r');
  SeizedProcess process = seize(child.pid());
  EXPECT_EQ(value_of(process.call({SYS_getpid})), (Outcome{Kind::kExited, kHandlerStatus}));
}

TEST_F(Injection, TellsOfAFilterThatKills) {
  Child child([](int in, int out) { live_in_filter(sandbox::Violation::kKillProcess, in, out); });
  ASSERT_EQ(child.next(), 'r');
  SeizedProcess process = seize(child.pid());
  EXPECT_EQ(value_of(process.probe({SYS_getpid})), (Outcome{Kind::kKilled, SIGSYS}));
}

TEST_F(Injection, OfACallOfAForeignArchitectureEndsAFilteredProcess) {
  Child child([](int in, int out) { live_in_filter(sandbox::Violation::kTrap, in, out); });
  ASSERT_EQ(child.next(), 'r');
  SeizedProcess process = seize(child.pid());
  constexpr std::uint64_t kGetPid32 = 20;
  const Outcome outcome = value_of(process.probe_32_bit({kGetPid32}));
  // SIGSEGV where the kernel has no such entry.
  EXPECT_TRUE(outcome == (Outcome{Kind::kKilled, SIGSYS}) || outcome == (Outcome{Kind::kSignal, SIGSEGV}))
      << describe(outcome);
}

TEST_F(Injection, ReadsAndWritesUnderThePageProtection) {
  void* const page = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  static volatile char g_byte = 'x';
  Child child(add_one);
  ::munmap(page, 4096);
  SeizedProcess process = seize(child.pid());
  const auto address = reinterpret_cast<std::uint64_t>(page);
  EXPECT_EQ(value_of(process.probe_store(address, 1)), (Outcome{Kind::kSignal, SIGSEGV}));
  EXPECT_EQ(value_of(process.probe_load(address)), returned(0));
  const auto variable = reinterpret_cast<std::uint64_t>(&g_byte);
  EXPECT_EQ(value_of(process.probe_store(variable, 'y')).kind, Kind::kReturned);
  EXPECT_EQ(value_of(process.probe_load(variable)), returned('y'));
  EXPECT_EQ(value_of(process.probe_load(8)), (Outcome{Kind::kSignal, SIGSEGV}));
}

TEST_F(Injection, KillsWhatACallForks) {
  Child child(add_one);
  ASSERT_EQ(child.exchange('a'), 'b');
  {
    SeizedProcess process = seize(child.pid());
    for (const std::uint64_t number : {std::uint64_t{SYS_fork}, std::uint64_t{SYS_vfork}}) {
      const Outcome outcome = value_of(process.call({number}));
      EXPECT_EQ(outcome.kind, Kind::kReturned);
      EXPECT_GT(outcome.value, 0);
      // What is left of it is for its parent to reap.
      EXPECT_EQ(value_of(process.call({SYS_wait4, {~0ULL, 0, 0, 0}})), outcome);
    }
  }
  EXPECT_EQ(child.exchange('b'), 'c');
}

TEST_F(Injection, RaisesTrueFaults) {
  for (const auto& [fault, signal] :
       {std::pair{Fault::kSegmentationFault, SIGSEGV}, std::pair{Fault::kIllegalInstruction, SIGILL}}) {
    Child child(add_one);
    ASSERT_EQ(child.exchange('a'), 'b');
    SeizedProcess process = seize(child.pid());
    ASSERT_TRUE(process.raise(fault));
    EXPECT_TRUE(process.released());
    const int status = child.end();
    EXPECT_TRUE(WIFSIGNALED(status)) << status;
    EXPECT_EQ(WTERMSIG(status), signal);
  }
}

TEST_F(Injection, MakesAProcessSpin) {
  Child child(add_one);
  ASSERT_EQ(child.exchange('a'), 'b');
  SeizedProcess process = seize(child.pid());
  const std::uint64_t address = process.instruction_pointer();
  ASSERT_TRUE(process.raise(Fault::kEndlessLoop));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(seize(child.pid()).instruction_pointer(), address);
}

TEST_F(Injection, SaysThatAProcessIsGone) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(pid, nullptr, 0), pid);
  const auto seized = SeizedProcess::seize(pid);
  ASSERT_FALSE(seized);
  EXPECT_EQ(seized.error().code, ErrorCode::kNotFound);
}

TEST_F(Injection, SaysThatAProcessIsTracedAlready) {
  Child child(add_one);
  const SeizedProcess process = seize(child.pid());
  const auto second = SeizedProcess::seize(child.pid());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kRefused);
}

TEST_F(Injection, DescribesItsOutcomes) {
  EXPECT_EQ(describe(returned(7)), "returned 7");
  EXPECT_EQ(describe(returned(-EPERM)), "returned -1 (Operation not permitted)");
  EXPECT_EQ(describe({Kind::kSignal, 31}), "raised signal 31");
  EXPECT_EQ(describe({Kind::kExited, 14}), "exit status 14");
  EXPECT_EQ(describe({Kind::kKilled, 9}), "killed by signal 9");
}

}  // namespace
}  // namespace bulkhead::fault
