#include <dirent.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>

#include "base/carried_descriptors.h"
#include "sandbox/landlock.h"
#include "sandbox/policy.h"
#include "tests/unit/sandbox/children.h"

namespace bulkhead::sandbox {
namespace {

using test::become;
using test::describe_status;
using test::in_child;
using test::kDone;
using test::kNotConfined;
using test::leave;

constexpr std::array<Role, 6> kRoles = {Role::kConn,     Role::kKeyholder,  Role::kController,
                                        Role::kAcceptor, Role::kMaintainer, Role::kNursery};
constexpr int kSucceeded = 79;
constexpr int kWrongError = 80;

struct Act {
  const char* what;
  long number;
  std::array<std::uint64_t, 6> arguments;
  int error_number = 0;          ///< it may fail with this instead of ending the process
  std::optional<Role> but = {};  ///< a role that may make the call
};

std::uint64_t text(const char* value) {
  return reinterpret_cast<std::uint64_t>(value);
}

/// What a process that was taken over would try first. None needs anything but the call itself.
std::vector<Act> acts() {
  static const sockaddr_in address = [] {
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_port = htons(9);
    local.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return local;
  }();
  static rlimit limit{1, 1};
  static std::array<std::uint64_t, 32> scratch{};
  const auto parent = static_cast<std::uint64_t>(::getpid());
  const auto pointer = reinterpret_cast<std::uint64_t>(scratch.data());
  const std::uint64_t nowhere = ~std::uint64_t{0};
  return {
      {"open a file", SYS_openat, {nowhere - 99, text("/etc/passwd"), O_RDONLY}, EACCES},
      {"open a file the old way", SYS_open, {text("/etc/passwd"), O_RDONLY}},
      {"reopen a descriptor", SYS_openat, {nowhere - 99, text("/proc/self/fd/2"), O_RDWR}, EACCES},
      {"make a file", SYS_openat, {nowhere - 99, text("/tmp/bulkhead-escape"), O_CREAT | O_RDWR, 0600}, EACCES},
      {"make a socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}, 0, Role::kMaintainer},
      {"make a raw socket", SYS_socket, {AF_INET, SOCK_RAW, 1}},
      {"make a packet socket", SYS_socket, {AF_PACKET, SOCK_RAW, 0}},
      {"connect", SYS_connect, {2, reinterpret_cast<std::uint64_t>(&address), sizeof address}, 0, Role::kMaintainer},
      {"listen", SYS_listen, {2, 1}},
      {"run a program", SYS_execve, {text("/bin/true"), 0, 0}},
      {"run a program by descriptor", SYS_execveat, {2, text(""), 0, 0, 0x1000}},
      {"fork", SYS_fork, {}},
      {"clone a thread", SYS_clone, {CLONE_VM | CLONE_SIGHAND | CLONE_THREAD}},
      {"clone into namespaces", SYS_clone, {SIGCHLD | CLONE_NEWUSER | CLONE_NEWNET}},
      {"clone3", SYS_clone3, {pointer, 64}},
      {"trace its parent", SYS_ptrace, {PTRACE_ATTACH, parent}},
      {"read its parent's memory", SYS_process_vm_readv, {parent, pointer, 1, pointer, 1, 0}},
      {"take its parent's descriptors", SYS_pidfd_open, {parent, 0}},
      {"signal its parent", SYS_kill, {parent, SIGTERM}},
      {"set up io_uring", SYS_io_uring_setup, {4, pointer}},
      {"load a BPF program", SYS_bpf, {5, pointer, 64}},
      {"use the key ring", SYS_keyctl, {0, 0, 0}},
      {"watch page faults", SYS_userfaultfd, {0}},
      {"mount", SYS_mount, {text("none"), text("/"), text("tmpfs"), 0, 0}},
      {"leave its namespaces", SYS_unshare, {CLONE_NEWUSER}},
      {"enter a namespace", SYS_setns, {2, 0}},
      {"become root", SYS_setresuid, {0, 0, 0}},
      {"become dumpable", SYS_prctl, {PR_SET_DUMPABLE, 1}},
      {"raise its limits", SYS_setrlimit, {RLIMIT_NOFILE, reinterpret_cast<std::uint64_t>(&limit)}},
      {"set another's limits", SYS_prlimit64, {parent, RLIMIT_NOFILE, reinterpret_cast<std::uint64_t>(&limit), 0}},
      {"grow a mapping", SYS_mremap, {pointer & ~std::uint64_t{4095}, 4096, 8192, 0}, ENOMEM},
      {"map executable memory",
       SYS_mmap,
       {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, nowhere, 0},
       ENOMEM},
      {"make memory executable", SYS_mprotect, {pointer & ~std::uint64_t{4095}, 4096, PROT_READ | PROT_EXEC}},
      {"type into a terminal", SYS_ioctl, {2, TIOCSTI, pointer}},
      {"duplicate a descriptor", SYS_dup, {2}},
  };
}

long attempt(const Act& act) {
  const auto& a = act.arguments;
  return ::syscall(act.number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

TEST(Confinement, EndsOrRefusesEveryActThatWouldLeadOut) {
  SKIP_UNDER_SANITIZERS();
  const auto list = acts();
  for (const Role role : kRoles) {
    for (const Act& act : list) {
      if (act.but == role) continue;
      std::atomic<std::uint64_t> violation{0};
      const int status = in_child([&] {
        become(role, violation);
        errno = 0;
        const long result = attempt(act);
        leave(result >= 0 ? kSucceeded : errno == act.error_number ? kDone : kWrongError);
      });
      const std::string what = std::string(role_name(role)) + ", " + act.what + ": " + describe_status(status);
      const bool refused = act.error_number != 0 && WIFEXITED(status) && WEXITSTATUS(status) == kDone;
      if (refused) continue;
      if (role == Role::kConn) {
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(WorkerExit::kSandboxViolation))
            << what;
      } else {
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << what;
      }
    }
  }
}

/// Memory that a child shares with its parent, as a worker its live page.
class SharedWord {
 public:
  SharedWord()
      : word_(static_cast<std::atomic<std::uint64_t>*>(
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~SharedWord() { ::munmap(word_, 4096); }
  SharedWord(const SharedWord&) = delete;
  SharedWord& operator=(const SharedWord&) = delete;
  std::atomic<std::uint64_t>& operator*() const { return *word_; }

 private:
  std::atomic<std::uint64_t>* word_;
};

TEST(Confinement, LeavesTheNumberOfAWorkersViolationAndItsExitStatus) {
  SKIP_UNDER_SANITIZERS();
  for (const long number : {SYS_prctl, SYS_memfd_create, SYS_seccomp, SYS_capset, SYS_rt_sigaction, SYS_eventfd2}) {
    SharedWord violation;
    const int status = in_child([&] {
      become(Role::kConn, *violation);
      ::syscall(number, 0, 0, 0, 0, 0, 0);
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == static_cast<int>(WorkerExit::kSandboxViolation))
        << call_name(static_cast<std::uint64_t>(number)) << ": " << describe_status(status);
    EXPECT_EQ((*violation).load(), static_cast<std::uint64_t>(number) + 1);
  }
}

TEST(Confinement, LetsEveryRoleEndAndLog) {
  SKIP_UNDER_SANITIZERS();
  for (const Role role : kRoles) {
    std::atomic<std::uint64_t> violation{0};
    test::Line line = test::make_line();
    const int status = in_child([&] {
      ::dup2(line.write.get(), STDERR_FILENO);
      become(role, violation);
      ::syscall(SYS_write, STDERR_FILENO, "x", 1);
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone)
        << role_name(role) << ": " << describe_status(status);
    char byte = 0;
    EXPECT_EQ(::read(line.read.get(), &byte, 1), 1);
  }
}

TEST(Confinement, LetsTheKeyholderAllocateFromWhatItHas) {
  SKIP_UNDER_SANITIZERS();
  std::atomic<std::uint64_t> violation{0};
  const int status = in_child([&] {
    become(Role::kKeyholder, violation);
    for (std::size_t size = 1; size <= 256 * 1024; size *= 2) {
      void* const memory = std::malloc(size);
      if (memory == nullptr) leave(kWrongError);
      std::memset(memory, 1, size);
      std::free(memory);
    }
    // Many at a time, as far as what it was given reaches.
    std::array<void*, 32> held{};
    for (void*& memory : held) {
      memory = std::malloc(64 * 1024);
      if (memory == nullptr) leave(kWrongError);
    }
    for (void* memory : held) std::free(memory);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Confinement, EndsAKeyholderThatAsksForMoreMemoryThanItHas) {
  SKIP_UNDER_SANITIZERS();
  std::atomic<std::uint64_t> violation{0};
  const int status = in_child([&] {
    become(Role::kKeyholder, violation);
    void* const volatile memory = std::malloc(16 * 1024 * 1024);
    leave(memory == nullptr ? kWrongError : kSucceeded);
  });
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << describe_status(status);
}

TEST(Confinement, BoundsAWorkersMemory) {
  SKIP_UNDER_SANITIZERS();
  std::atomic<std::uint64_t> violation{0};
  const int status = in_child([&] {
    become(Role::kConn, violation);
    const long result = ::syscall(SYS_mmap, 0, policy_of(Role::kConn).data_bytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    leave(result == -1 && errno == ENOMEM ? kDone : kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Confinement, TakesNoDescriptorAboveAWorkersLimit) {
  SKIP_UNDER_SANITIZERS();
  std::atomic<std::uint64_t> violation{0};
  const int status = in_child([&] {
    const auto pair = socket_pair();
    const auto filter = compile_policy(Role::kConn);
    if (!pair || !filter) leave(kNotConfined);
    // Everything below the limit is taken.
    const int last = std::max(pair->first.get(), pair->second.get());
    while (::dup(STDERR_FILENO) < last) {
    }
    int carried = STDERR_FILENO;
    iovec data{&carried, sizeof carried};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    CarriedDescriptors<1> control(message, std::span(&carried, 1));
    if (::sendmsg(pair->first.get(), &message, MSG_DONTWAIT) < 0) leave(kNotConfined);
    if (!confine_worker(*filter, violation, last + 1)) leave(kNotConfined);
    message.msg_controllen = CMSG_SPACE(sizeof(int));
    const ssize_t got = ::recvmsg(pair->second.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    leave(got > 0 && (message.msg_flags & MSG_CTRUNC) != 0 && message.msg_controllen == 0 ? kDone : kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Confinement, LeavesLimitsThatCannotBeRaised) {
  SKIP_UNDER_SANITIZERS();
  // A filter that allows what the limits are to stop: they hold by themselves.
  const std::vector<CallRule> rules = {{"prlimit64"}, {"exit_group"}, {"rt_sigreturn"}};
  const auto filter = compile(rules, Violation::kTrap);
  ASSERT_TRUE(filter);
  for (const int what : {RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_NPROC, RLIMIT_NOFILE, RLIMIT_DATA}) {
    std::atomic<std::uint64_t> violation{0};
    const int status = in_child([&] {
      if (::geteuid() == 0 && !become_user(kFirstUser)) leave(kNotConfined);
      if (!keep_capabilities(0) || !confine_worker(*filter, violation, 64)) leave(kNotConfined);
      const rlimit more{RLIM_INFINITY, RLIM_INFINITY};
      const long result = ::syscall(SYS_prlimit64, 0, what, &more, nullptr);
      leave(result == -1 && errno == EPERM ? kDone : kSucceeded);
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << what << ": " << describe_status(status);
  }
}

// What c-ares does to ask a name server over UDP and TCP and to sort the addresses of its answer, and what a dial does.
TEST(Confinement, LetsTheMaintainerResolveAndDial) {
  SKIP_UNDER_SANITIZERS();
  const UniqueFd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const at = static_cast<sockaddr*>(static_cast<void*>(&address));
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(server.get(), at, size), 0);
  ASSERT_EQ(::listen(server.get(), 8), 0);
  ASSERT_EQ(::getsockname(server.get(), at, &size), 0);
  std::atomic<std::uint64_t> violation{0};
  const int status = in_child([&] {
    become(Role::kMaintainer, violation);
    for (const int protocol : {0, int{IPPROTO_UDP}}) {
      const int udp = ::socket(AF_INET, SOCK_DGRAM, protocol);
      if (udp < 0 || ::fcntl(udp, F_SETFD, FD_CLOEXEC) != 0 || ::fcntl(udp, F_SETFL, O_NONBLOCK) != 0 ||
          ::connect(udp, at, size) != 0) {
        leave(kWrongError);
      }
      sockaddr_storage own{};
      socklen_t own_size = sizeof own;
      char byte = 0;
      if (::getsockname(udp, static_cast<sockaddr*>(static_cast<void*>(&own)), &own_size) != 0) leave(kWrongError);
      if (::send(udp, "x", 1, MSG_NOSIGNAL) != 1) leave(kWrongError);
      (void)::recvfrom(udp, &byte, 1, 0, nullptr, nullptr);
      ::close(udp);
    }
    for (const int flags : {0, SOCK_NONBLOCK | SOCK_CLOEXEC}) {
      const int tcp = ::socket(AF_INET, SOCK_STREAM | flags, 0);
      sockaddr_in source{};
      source.sin_family = AF_INET;
      source.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      const int on = 1;
      if (tcp < 0 || ::bind(tcp, static_cast<const sockaddr*>(static_cast<const void*>(&source)), sizeof source) != 0 ||
          ::setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        leave(kWrongError);
      }
      if (::connect(tcp, at, size) != 0 && errno != EINPROGRESS) leave(kWrongError);
      int error = 0;
      socklen_t error_size = sizeof error;
      if (::getsockopt(tcp, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0 || error != 0) leave(kWrongError);
      char byte = 'x';
      const iovec part{&byte, 1};
      if (::writev(tcp, &part, 1) != 1 && errno != EAGAIN) leave(kWrongError);
      ::close(tcp);
    }
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Confinement, MakesAWorkerUndumpableByItself) {
  SKIP_UNDER_SANITIZERS();
  const std::vector<CallRule> rules = {{"prctl"}, {"exit_group"}, {"rt_sigreturn"}};
  const auto filter = compile(rules, Violation::kTrap);
  ASSERT_TRUE(filter);
  std::atomic<std::uint64_t> violation{0};
  const int status = in_child([&] {
    ::prctl(PR_SET_DUMPABLE, 1);
    if (!confine_worker(*filter, violation, 64)) leave(kNotConfined);
    leave(::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? kDone : kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

// It may call kill, so Landlock has to keep it to its own workers. The victim has its user.
TEST(Landlock, KeepsTheNurseryFromEndingOtherProcessesOfItsUser) {
  SKIP_UNDER_SANITIZERS();
  if (landlock_abi() < 6) GTEST_SKIP() << "this kernel's Landlock does not know signals";
  test::Line ready = test::make_line();
  const pid_t victim = ::fork();
  if (victim == 0) {
    ::alarm(test::kWaitMs / 1000);
    if (::geteuid() == 0 && !become_user(kFirstUser + policy_of(Role::kNursery).user_offset)) leave(kNotConfined);
    (void)!::write(ready.write.get(), "x", 1);
    for (;;) ::pause();
  }
  char byte = 0;
  ASSERT_EQ(::read(ready.read.get(), &byte, 1), 1);
  std::atomic<std::uint64_t> violation{0};
  const int status = in_child([&] {
    become(Role::kNursery, violation);
    leave(::kill(victim, SIGKILL) == -1 && errno == EPERM ? kDone : kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
  ::kill(victim, SIGKILL);
  ::waitpid(victim, nullptr, 0);
}

// ------------------------------------------------------------------------------------------ each layer by itself

TEST(Landlock, AloneKeepsFromFilesAndPorts) {
  SKIP_UNDER_SANITIZERS();
  const int abi = landlock_abi();
  if (abi == 0) GTEST_SKIP() << "this kernel has no Landlock";
  const int status = in_child([&] {
    const UniqueFd segment(::memfd_create("segment", MFD_CLOEXEC));
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !restrict_with_landlock(false)) leave(kNotConfined);
    if (::open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != EACCES) leave(kSucceeded);
    if (::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) >= 0 || errno != EACCES) leave(kSucceeded);
    if (::open("/tmp/bulkhead-escape", O_CREAT | O_RDWR | O_CLOEXEC, 0600) >= 0 || errno != EACCES) leave(kSucceeded);
    if (::mkdir("/tmp/bulkhead-escape", 0700) == 0) leave(kSucceeded);
    if (abi < 4) leave(kDone);
    const auto* to = static_cast<const sockaddr*>(static_cast<const void*>(&address));
    if (::bind(listener.get(), to, sizeof address) == 0 || errno != EACCES) leave(kSucceeded);
    address.sin_port = htons(9);
    if (::connect(listener.get(), to, sizeof address) == 0 || errno != EACCES) leave(kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Landlock, AloneKeepsFromSignallingOthers) {
  SKIP_UNDER_SANITIZERS();
  if (landlock_abi() < 6) GTEST_SKIP() << "this kernel's Landlock does not know signals";
  const pid_t parent = ::getpid();
  const int status = in_child([&] {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !restrict_with_landlock(false)) leave(kNotConfined);
    leave(::kill(parent, 0) == -1 && errno == EPERM ? kDone : kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Namespaces, AloneLeaveAnEmptyReadOnlyRootAndNoNetwork) {
  SKIP_UNDER_SANITIZERS();
  if (!test::has_namespaces()) GTEST_SKIP() << "namespaces are not allowed here";
  const int status = in_child([] {
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!isolate(true)) leave(kNotConfined);
    DIR* const root = ::opendir("/");
    if (root == nullptr) leave(kWrongError);
    while (const dirent* entry = ::readdir(root)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) leave(kSucceeded);
    }
    if (::open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != ENOENT) leave(kSucceeded);
    if (::open("/../../etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != ENOENT) leave(kSucceeded);
    if (::open("/file", O_CREAT | O_RDWR | O_CLOEXEC, 0600) >= 0 || errno != EROFS) leave(kSucceeded);
    if (::mkdir("/directory", 0700) == 0 || errno != EROFS) leave(kSucceeded);
    const UniqueFd inside(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(9);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto* to = static_cast<const sockaddr*>(static_cast<const void*>(&address));
    // Not even the loopback is up; a socket from before still reaches it.
    if (::connect(inside.get(), to, sizeof address) == 0 || errno != ENETUNREACH) leave(kSucceeded);
    if (::connect(socket.get(), to, sizeof address) != 0) leave(kWrongError);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Capabilities, ThatAreDroppedDoNotComeBack) {
  SKIP_UNDER_SANITIZERS();
  const int status = in_child([] {
    if (::geteuid() == 0 && !become_user(kFirstUser)) leave(kNotConfined);
    if (!keep_capabilities(0)) leave(kNotConfined);
    if (::setresuid(0, 0, 0) == 0 || errno != EPERM) leave(kSucceeded);
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0) == 0) leave(kSucceeded);
    if (::mount("none", "/", "tmpfs", 0, nullptr) == 0 || errno != EPERM) leave(kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Confinement, OfLevelStrictHoldsWhereNamespacesAreAllowed) {
  SKIP_UNDER_SANITIZERS();
  if (!test::has_namespaces()) GTEST_SKIP() << "namespaces are not allowed here";
  for (const Role role : kRoles) {
    std::atomic<std::uint64_t> violation{0};
    const int status = in_child([&] { become(role, violation, SandboxLevel::kStrict); });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone)
        << role_name(role) << ": " << describe_status(status);
  }
}

// Who lives in another root than the system's gets no user namespace from the kernel.
void move_root_away() {
  if (::geteuid() != 0 && ::unshare(CLONE_NEWUSER) != 0) leave(kNotConfined);
  if (::chroot("/usr") != 0) leave(kNotConfined);
}

TEST(Confinement, NamesTheLayerThatIsMissingAndTheRemedyAndRefuses) {
  SKIP_UNDER_SANITIZERS();
  if (!test::has_namespaces()) GTEST_SKIP() << "namespaces are not allowed here";
  const int status = in_child([] {
    move_root_away();
    const auto had = confine_service(Role::kAcceptor, SandboxLevel::kStrict);
    if (had) leave(kSucceeded);
    const std::string& text = had.error().text;
    for (const char* part : {"namespaces", "Operation not permitted", "--require-sandbox default"}) {
      if (text.find(part) == std::string::npos) leave(kWrongError);
    }
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Confinement, ReportsTheLayerThatIsMissingAndHoldsWithTheOthers) {
  SKIP_UNDER_SANITIZERS();
  if (!test::has_namespaces()) GTEST_SKIP() << "namespaces are not allowed here";
  const int reported = in_child([] {
    move_root_away();
    const auto had = confine_service(Role::kAcceptor, SandboxLevel::kDefault);
    if (!had || had->user_namespace || had->missing.size() != 1) leave(kWrongError);
    leave(had->missing[0].find("namespaces: ") == 0 ? kDone : kWrongError);
  });
  EXPECT_TRUE(WIFEXITED(reported) && WEXITSTATUS(reported) == kDone) << describe_status(reported);
  const int held = in_child([] {
    move_root_away();
    if (!confine_service(Role::kAcceptor, SandboxLevel::kDefault)) leave(kNotConfined);
    ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
  });
  EXPECT_TRUE(WIFSIGNALED(held) && WTERMSIG(held) == SIGSYS) << describe_status(held);
}

TEST(Namespaces, OfWhichAUserIsRefusedAreNamedWithTheRemedy) {
  SKIP_UNDER_SANITIZERS();
  if (!test::has_namespaces()) GTEST_SKIP() << "namespaces are not allowed here";
  const int status = in_child([] {
    if (!try_user_namespace(std::nullopt)) leave(kNotConfined);
    move_root_away();
    const auto tried = try_user_namespace(std::nullopt);
    if (tried || tried.error().errno_value != EPERM) leave(kSucceeded);
    if (tried.error().text.find("unprivileged_userns_clone") == std::string::npos) leave(kWrongError);
    if (user_namespace_refusal(ENOSPC).find("max_user_namespaces") == std::string::npos) leave(kWrongError);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Namespaces, AreMadeByRootWithoutAUserNamespace) {
  SKIP_UNDER_SANITIZERS();
  if (!test::is_full_root()) GTEST_SKIP() << "needs root";
  const int status = in_child([] {
    // Shows this process's own, wherever its root is.
    const UniqueFd list(::open("/proc/self/ns", O_PATH | O_DIRECTORY | O_CLOEXEC));
    const auto inode = [&list](const char* kind) {
      struct stat info {};
      if (::fstatat(list.get(), kind, &info, 0) != 0) leave(kWrongError);
      return info.st_ino;
    };
    std::map<std::string, ino_t> before;
    for (const char* kind : {"user", "mnt", "net", "ipc", "uts"}) before[kind] = inode(kind);
    const auto had = isolate(true, false);
    if (!had || had.user) leave(kNotConfined);
    for (const auto& [kind, number] : before) {
      if ((inode(kind.c_str()) == number) != (kind == "user")) leave(kSucceeded);
    }
    if (::open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0 || errno != ENOENT) leave(kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Confinement, HoldsForRootWithoutUserNamespacesAndSaysSo) {
  SKIP_UNDER_SANITIZERS();
  if (!test::is_full_root()) GTEST_SKIP() << "needs root";
  for (const Role role : kRoles) {
    if (role == Role::kConn) continue;
    const int status = in_child([role] {
      const auto had = confine_service(role, SandboxLevel::kDefault, EPERM);
      if (!had || had->user_namespace || had->missing.size() != 1) leave(kNotConfined);
      const std::string& text = had->missing[0];
      if (text.find("no user namespace: Operation not permitted; allow") == std::string::npos) leave(kWrongError);
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone)
        << role_name(role) << ": " << describe_status(status);
    const int refused = in_child([role] {
      const auto had = confine_service(role, SandboxLevel::kStrict, EPERM);
      if (had || had.error().text.find("--require-sandbox default") == std::string::npos) leave(kSucceeded);
    });
    EXPECT_TRUE(WIFEXITED(refused) && WEXITSTATUS(refused) == kDone)
        << role_name(role) << ": " << describe_status(refused);
  }
}

/// The supervisor as it is when it starts its services.
void become_supervisor(int user_namespace_error = 0) {
  if (!confine_supervisor(SandboxLevel::kDefault, {{"/bin/sh"}, {"/tmp"}, user_namespace_error})) leave(kNotConfined);
}

TEST(Supervisor, KeepsTheCapabilitiesOfItsRowAndWhatItNeedsBesides) {
  SKIP_UNDER_SANITIZERS();
  const std::uint64_t row = test::is_full_root() ? policy_of(Role::kSupervisor).capabilities : 0;
  const std::uint64_t more = test::is_full_root() ? kCapabilitiesForNamespaces : 0;
  for (const int error : {0, EPERM}) {
    const int status = in_child([&] {
      become_supervisor(error);
      const auto left = own_capabilities();
      const std::uint64_t expected = row | (error == 0 ? 0 : more);
      if (!left || left->permitted != expected || left->effective != expected) leave(kSucceeded);
      if (::prctl(PR_CAPBSET_READ, CAP_SYS_MODULE, 0, 0, 0) != 0 && ::geteuid() == 0) leave(kSucceeded);
      if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) leave(kSucceeded);
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
  }
}

TEST(Supervisor, KeepsTheRightToFilesOfOthersOnlyWhereItNeedsIt) {
  SKIP_UNDER_SANITIZERS();
  if (!test::is_full_root()) GTEST_SKIP() << "needs root";
  char directory[] = "/tmp/bulkhead-foreign-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  ASSERT_EQ(::chown(directory, kFirstUser, kFirstUser), 0);
  const int status = in_child([&] {
    if (!confine_supervisor(SandboxLevel::kDefault, {{"/bin/sh"}, {directory}, 0})) leave(kNotConfined);
    const auto left = own_capabilities();
    const std::uint64_t expected = policy_of(Role::kSupervisor).capabilities | kCapabilitiesForForeignFiles;
    leave(left && left->permitted == expected && ::rmdir(directory) == 0 ? kDone : kSucceeded);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
  ::rmdir(directory);
}

TEST(Supervisor, SignalsOnlyWhatItStarted) {
  SKIP_UNDER_SANITIZERS();
  if (landlock_abi() < kLandlockAbiWithSignals) GTEST_SKIP() << "this kernel's Landlock does not know signals";
  const pid_t parent = ::getpid();
  const int status = in_child([parent] {
    become_supervisor();
    const pid_t child = ::fork();
    if (child == 0) {
      if (::geteuid() == 0 && !become_user(kFirstUser)) leave(kNotConfined);
      for (;;) ::poll(nullptr, 0, -1);
    }
    if (::kill(parent, 0) == 0 || errno != EPERM) leave(kSucceeded);
    int ended = 0;
    if (::kill(child, SIGKILL) != 0 || ::waitpid(child, &ended, 0) != child) leave(kWrongError);
    leave(WIFSIGNALED(ended) ? kDone : kWrongError);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

TEST(Supervisor, EndsWhenItAsksForWhatItNeverNeeds) {
  SKIP_UNDER_SANITIZERS();
  for (const long number : {SYS_ptrace, SYS_bpf, SYS_io_uring_setup, SYS_keyctl, SYS_setns, SYS_chroot}) {
    const int status = in_child([number] {
      become_supervisor();
      ::syscall(number, 0, 0, 0, 0, 0, 0);
    });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        << call_name(static_cast<std::uint64_t>(number)) << ": " << describe_status(status);
  }
}

TEST(Supervisor, LeavesItsServicesAllThatTheirConfinementTakes) {
  SKIP_UNDER_SANITIZERS();
  if (!test::has_namespaces()) GTEST_SKIP() << "namespaces are not allowed here";
  for (const Role role : kRoles) {
    const int status = in_child([role] {
      become_supervisor();
      const pid_t service = ::fork();
      if (service == 0) {
        std::atomic<std::uint64_t> violation{0};
        become(role, violation, SandboxLevel::kStrict);
        leave(kDone);
      }
      int ended = 0;
      if (::waitpid(service, &ended, 0) != service || !WIFEXITED(ended)) leave(kWrongError);
      leave(WEXITSTATUS(ended));
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone)
        << role_name(role) << ": " << describe_status(status);
  }
}

TEST(Supervisor, RefusesAtLevelStrictWithoutUserNamespaces) {
  const auto had = confine_supervisor(SandboxLevel::kStrict, {{}, {}, EPERM});
  ASSERT_FALSE(had);
  for (const char* part : {"no user namespace", "--require-sandbox default"}) {
    EXPECT_NE(had.error().text.find(part), std::string::npos) << had.error().text;
  }
}

TEST(Confinement, OfLevelOffLeavesTheProcessAsItIs) {
  const int status = in_child([] {
    const auto had = confine_service(Role::kKeyholder, SandboxLevel::kOff);
    if (!had || had->user_namespace || ::prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 0) leave(kWrongError);
    const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!file) leave(kWrongError);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

}  // namespace
}  // namespace bulkhead::sandbox
