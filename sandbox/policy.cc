#include "sandbox/policy.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <stdexcept>
#include <string_view>

namespace bulkhead::sandbox {
namespace {

constexpr std::uint64_t kMebibyte = 1024 * 1024;

// The kernel looks at the low half of an int argument.
constexpr std::uint64_t kInt = 0xffffffff;

ArgumentRule is(unsigned int index, std::uint64_t value) {
  return {index, kInt, value};
}
// No other bits of an int argument than these.
ArgumentRule within(unsigned int index, std::uint64_t bits) {
  return {index, kInt & ~bits, 0};
}
ArgumentRule null(unsigned int index) {
  return {index, ~std::uint64_t{0}, 0};
}

// Memory for malloc: private, anonymous, never executable.
const CallRule kPrivateMemory = {"mmap",
                                 {within(2, PROT_READ | PROT_WRITE),
                                  {3, kInt & ~std::uint64_t{MAP_NORESERVE | MAP_STACK}, MAP_PRIVATE | MAP_ANONYMOUS}}};
// Mapping a segment that came over a channel: shared, never executable.
const CallRule kAnyMemoryButCode = {"mmap", {within(2, PROT_READ | PROT_WRITE)}};
const CallRule kGiveBack = {"madvise", {is(2, MADV_DONTNEED)}};
const CallRule kGiveBackLazily = {"madvise", {is(2, MADV_FREE)}};
// realloc copies when this fails; allowed, it could grow a mapping of a shared segment over its neighbour's page.
const CallRule kNoMremap = {"mremap", {}, ENOMEM};
// libc and c-ares probe files (locale, time zone, hosts); they can do without.
const CallRule kNoOpen = {"openat", {}, EACCES};
const CallRule kNoStat = {"newfstatat", {}, EACCES};
// Of an open descriptor: what a path would need is not there.
const CallRule kStatOpen = {"newfstatat", {{3, AT_EMPTY_PATH, AT_EMPTY_PATH}}};
const CallRule kNoStatByPath = {"newfstatat", {{3, AT_EMPTY_PATH, 0}}, EACCES};
const CallRule kNonBlocking = {"ioctl", {is(1, FIONBIO)}};
const CallRule kAccept = {"accept4", {is(3, SOCK_CLOEXEC | SOCK_NONBLOCK)}};
// Without an address and without MSG_FASTOPEN, which would be a way to connect.
const CallRule kSend = {"sendto", {within(3, MSG_DONTWAIT | MSG_NOSIGNAL), null(4), is(5, 0)}};
const CallRule kReceive = {"recvfrom", {within(3, MSG_DONTWAIT), null(4), null(5)}};
const CallRule kLookAtFirst = {"recvfrom", {is(3, MSG_PEEK | MSG_DONTWAIT), null(4), null(5)}};

using Calls = std::vector<CallRule>;

Calls operator+(Calls left, const Calls& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

const Calls kLoop = {{"epoll_wait"}, {"epoll_pwait"}, {"epoll_ctl"}, {"read"}, {"write"}, {"close"}, {"clock_gettime"}};
const Calls kChannel = {{"recvmsg", {within(2, MSG_DONTWAIT | MSG_CMSG_CLOEXEC)}},
                        {"sendmsg", {within(2, MSG_DONTWAIT | MSG_NOSIGNAL)}}};
const Calls kMemory = {{"brk"}, kPrivateMemory, {"munmap"}, kGiveBack, kGiveBackLazily, kNoMremap};
const Calls kEnd = {{"exit_group"}};
const Calls kProbes = {kNoOpen, kNoStat};
// The options of a peer's connection (services/common/tcp_options.h).
const Calls kPeerOptions = {{"setsockopt", {is(1, IPPROTO_TCP), is(2, TCP_NODELAY)}},
                            {"setsockopt", {is(1, IPPROTO_TCP), is(2, TCP_KEEPIDLE)}},
                            {"setsockopt", {is(1, IPPROTO_TCP), is(2, TCP_KEEPINTVL)}},
                            {"setsockopt", {is(1, IPPROTO_TCP), is(2, TCP_USER_TIMEOUT)}},
                            {"setsockopt", {is(1, SOL_SOCKET), is(2, SO_KEEPALIVE)}}};

CallRule command(std::uint64_t which) {
  return {"fcntl", {is(1, which)}};
}

// On the controller's database and its log alone.
Calls on_database(const char* name) {
  return {{name, {is(0, kDatabaseFd)}}, {name, {is(0, kDatabaseLogFd)}}};
}

CallRule internet_socket(std::uint64_t family, std::uint64_t type, std::uint64_t protocol) {
  return {"socket", {is(0, family), {1, kInt & ~std::uint64_t{SOCK_CLOEXEC | SOCK_NONBLOCK}, type}, is(2, protocol)}};
}

constexpr std::uint64_t capability(int number) {
  return std::uint64_t{1} << number;
}

Calls any_arguments(std::initializer_list<const char*> names) {
  Calls calls;
  for (const char* name : names) calls.push_back({name});
  return calls;
}

// The kinds of namespaces that a service makes for itself.
constexpr std::uint64_t kServiceNamespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;

// What the supervisor does once it runs.
const Calls kSupervise =
    any_arguments({"wait4",
                   "waitid",
                   "kill",
                   "dup2",
                   "dup3",
                   "pipe2",
                   "poll",
                   "rt_sigaction",
                   "rt_sigprocmask",
                   "rt_sigreturn",
                   "fallocate",
                   "unlink",
                   "unlinkat",
                   "rmdir",
                   "sendto",
                   "socketpair",
                   "getsockopt",
                   "execve",
                   "getpid",
                   "getppid",
                   "getuid",
                   "geteuid",
                   "clock_nanosleep",
                   "restart_syscall",
                   "gettimeofday",
                   "exit_group",
                   "exit",
                   "tgkill",
                   "gettid",
                   "setsid"}) +
    Calls{// fork of libc, or a process in a PID namespace of its own; no thread, no other namespace.
          {"clone", {{0, ~std::uint64_t{CLONE_NEWPID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID}, SIGCHLD}}},
          // libc tries it first where it starts threads, and does with clone.
          {"clone3", {}, ENOSYS},
          {"socket", {is(0, AF_UNIX)}},
          {"socket", {is(0, AF_INET)}},
          {"socket", {is(0, AF_INET6)}},
          {"socket", {is(0, AF_NETLINK)}},
          {"ioctl", {is(1, FIONBIO)}},
          {"ioctl", {is(1, FIOCLEX)}}};

// What a service does from its exec to its own filter.
const Calls kBecomeService =
    any_arguments({// the loader and libc
                   "access", "faccessat", "faccessat2", "arch_prctl", "getrandom", "lseek", "mmap", "mprotect",
                   "pread64", "prlimit64", "getrlimit", "readlink", "readlinkat", "rseq", "set_robust_list",
                   "set_tid_address", "uname", "sysinfo", "sched_getaffinity", "sched_yield", "sigaltstack", "openat",
                   "open", "newfstatat", "fstat", "stat", "lstat", "statx", "statfs", "fstatfs", "getdents64", "getcwd",
                   "fcntl", "futex", "dup", "readv", "getegid", "getgid", "getgroups",
                   // its files, where it has some, and memory that does not leave the machine
                   "pwrite64", "fchown", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "chmod", "fchmod",
                   "fchmodat", "flock", "fsync", "fdatasync", "ftruncate", "umask", "mlock", "mlock2", "munlock",
                   "io_setup", "io_submit", "io_getevents",
                   // its loop and segments
                   "epoll_create1", "eventfd2", "timerfd_create", "timerfd_settime", "signalfd4", "memfd_create",
                   "listen", "getpeername", "close_range", "prctl",
                   // its confinement
                   "setgroups", "setresgid", "setresuid", "capget", "capset", "mount", "umount2", "pivot_root", "chdir",
                   "setrlimit", "landlock_create_ruleset", "landlock_restrict_self", "seccomp"}) +
    Calls{{"unshare", {{0, kInt & ~kServiceNamespaces, 0}}}};

std::vector<RolePolicy> table() {
  return {
      {.role = Role::kSupervisor,
       .capabilities = capability(CAP_SETUID) | capability(CAP_SETGID) | capability(CAP_KILL),
       .own_namespaces = false,
       .empty_network = false,
       .may_connect_tcp = true,
       .may_fork = true,
       .data_bytes = 1024 * kMebibyte,
       .calls = kSupervise + kBecomeService,
       .starts_others = true,
       // A harder action would hide those of its children's filters.
       .violation = Violation::kTrap},
      {.role = Role::kConn,
       .user_offset = 5,
       .data_bytes = 64 * kMebibyte,
       .calls = kLoop + kChannel + kMemory + kEnd + kProbes + Calls{kReceive, kSend, {"shutdown"}},
       .violation = Violation::kTrap},
      {.role = Role::kKeyholder,
       .user_offset = 1,
       .data_bytes = 64 * kMebibyte,
       // It lives on memory that it has: an answer takes some kilobytes, one after the other.
       .heap_bytes = 4 * kMebibyte,
       .calls = kChannel + kEnd + kProbes +
                Calls{{"ppoll"},
                      {"getrandom"},
                      {"write", {is(0, STDERR_FILENO)}},
                      // Where the vDSO cannot tell the time, a line of the log goes without.
                      {"clock_gettime", {}, EPERM}}},
      {.role = Role::kController,
       .user_offset = 2,
       .data_bytes = 1024 * kMebibyte,
       .calls = kLoop + kChannel + kMemory + kEnd + on_database("pread64") + on_database("pwrite64") +
                on_database("fdatasync") + on_database("ftruncate") +
                // Flushes that do not block. They could read and write too, what the controller can in any case.
                Calls{{"io_submit", {is(1, 1)}}, {"io_getevents", {is(1, 1), is(2, 1)}}} +
                Calls{kAccept,
                      {"socketpair", {is(0, AF_UNIX), is(1, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK), is(2, 0)}},
                      {"getsockopt", {is(1, SOL_SOCKET)}},
                      kStatOpen,
                      kNoStatByPath,
                      command(F_GETFL),
                      command(F_SETFL),
                      command(F_DUPFD_CLOEXEC),
                      command(F_GET_SEALS),
                      {"getrandom"},
                      kNonBlocking,
                      kNoOpen}},
      {.role = Role::kAcceptor,
       .user_offset = 3,
       .data_bytes = 256 * kMebibyte,
       .calls = kLoop + kChannel + kMemory + kEnd + kProbes + kPeerOptions +
                Calls{kAccept, {"setsockopt", {is(1, SOL_SOCKET), is(2, SO_RCVLOWAT)}}, kLookAtFirst, kNonBlocking}},
      {.role = Role::kMaintainer,
       .user_offset = 4,
       .empty_network = false,
       .may_connect_tcp = true,
       .data_bytes = 256 * kMebibyte,
       .calls = kLoop + kChannel + kMemory + kEnd + kProbes + kPeerOptions +
                Calls{internet_socket(AF_INET, SOCK_STREAM, 0),
                      internet_socket(AF_INET6, SOCK_STREAM, 0),
                      internet_socket(AF_INET, SOCK_DGRAM, 0),
                      internet_socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP),
                      internet_socket(AF_INET6, SOCK_DGRAM, 0),
                      internet_socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP),
                      // libc asks for these to find interfaces and a name service daemon.
                      {"socket", {is(0, AF_NETLINK)}, EAFNOSUPPORT},
                      {"socket", {is(0, AF_UNIX)}, EAFNOSUPPORT},
                      {"connect"},
                      {"bind"},
                      {"getsockopt", {is(1, SOL_SOCKET), is(2, SO_ERROR)}},
                      {"getsockname"},
                      kNonBlocking,
                      command(F_GETFD),
                      command(F_SETFD),
                      command(F_GETFL),
                      command(F_SETFL),
                      // c-ares: answers and questions, over UDP and TCP.
                      {"sendto"},
                      {"recvfrom"},
                      {"writev"},
                      {"gettimeofday"},
                      {"access", {}, EACCES}}},
      {.role = Role::kNursery,
       .user_offset = 5,
       // A PID namespace for each worker needs it; the worker drops it before its first byte.
       .capabilities = capability(CAP_SYS_ADMIN),
       .may_fork = true,
       .data_bytes = 256 * kMebibyte,
       // Its own loop, and everything that a worker does from the fork to its own filter, and then under both.
       .calls = kLoop + kChannel + kEnd +
                Calls{{"ppoll"},
                      {"clone", {{0, ~std::uint64_t{CLONE_NEWPID}, SIGCHLD}}},
                      {"waitid"},
                      {"wait4"},
                      {"kill", {is(1, SIGKILL)}},
                      {"rt_sigreturn"},
                      {"brk"},
                      kAnyMemoryButCode,
                      {"munmap"},
                      kGiveBack,
                      kGiveBackLazily,
                      kNoMremap,
                      kNoOpen,
                      kStatOpen,
                      kNoStatByPath,
                      {"rt_sigaction"},
                      {"rt_sigprocmask"},
                      {"close_range", {is(2, 0)}},
                      {"memfd_create"},
                      {"fchmod", {is(1, 0600)}},
                      {"ftruncate"},
                      command(F_GETFL),
                      command(F_SETFL),
                      command(F_ADD_SEALS),
                      command(F_GET_SEALS),
                      {"eventfd2"},
                      {"epoll_create1"},
                      {"pipe2"},
                      {"futex"},
                      kNonBlocking,
                      {"prctl", {is(0, PR_SET_DUMPABLE), is(1, 0)}},
                      {"prctl", {is(0, PR_SET_NO_NEW_PRIVS)}},
                      {"capset"},
                      {"prlimit64", {is(0, 0)}},
                      {"seccomp", {is(0, SECCOMP_SET_MODE_FILTER), is(1, 0)}},
                      kReceive,
                      kSend,
                      {"shutdown"}},
       .violation = Violation::kTrap},
  };
}

const std::vector<RolePolicy>& rows() {
  static const std::vector<RolePolicy> kTable = table();
  return kTable;
}

}  // namespace

const std::uint64_t kCapabilitiesForNamespaces = capability(CAP_SYS_ADMIN) | capability(CAP_SETPCAP);
const std::uint64_t kCapabilitiesForForeignFiles = capability(CAP_DAC_OVERRIDE) | capability(CAP_CHOWN);

const RolePolicy& policy_of(Role role) {
  for (const auto& row : rows()) {
    if (row.role == role) return row;
  }
  throw std::logic_error("this role has no policy");
}

std::vector<CallRule> calls_of(Role role) {
  Calls calls = policy_of(role).calls;
  if (!policy_of(role).starts_others) return calls;
  std::set<std::string_view> named;
  for (const auto& call : calls) named.insert(call.name);
  for (const auto& other : rows()) {
    for (const auto& call : other.calls) {
      if (named.insert(call.name).second) calls.push_back({call.name});
    }
  }
  return calls;
}

}  // namespace bulkhead::sandbox
