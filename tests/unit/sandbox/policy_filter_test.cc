#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <map>
#include <random>
#include <set>

#include "sandbox/confine.h"
#include "tests/unit/sandbox/filter_machine.h"

namespace bulkhead::sandbox {
namespace {

using test::Call;
using test::errno_action;
using test::evaluate;
using test::kAllow;
using test::kKillProcess;
using test::kTrap;

constexpr std::uint32_t kI386 = AUDIT_ARCH_I386;
constexpr std::uint32_t kX32Bit = 0x40000000;
constexpr int kProperties = 20000;

constexpr std::array<Role, 6> kRoles = {Role::kConn,     Role::kKeyholder,  Role::kController,
                                        Role::kAcceptor, Role::kMaintainer, Role::kNursery};

/// With the one whose filter all of them inherit.
std::vector<Role> all_roles() {
  std::vector<Role> roles(kRoles.begin(), kRoles.end());
  roles.push_back(Role::kSupervisor);
  return roles;
}

std::uint32_t otherwise(Role role) {
  return policy_of(role).violation == Violation::kTrap ? kTrap : kKillProcess;
}

std::vector<sock_filter> filter_of(Role role) {
  auto program = compile_policy(role);
  EXPECT_TRUE(program) << program.error().text;
  return program ? program->instructions : std::vector<sock_filter>();
}

Call call(long number, std::array<std::uint64_t, 6> arguments = {}) {
  return {static_cast<std::uint32_t>(number), arguments, test::kNative};
}

/// The policy itself, read as a list.
std::uint32_t meant(Role role, const std::vector<CallRule>& calls, const Call& call) {
  for (const CallRule& rule : calls) {
    if (call_number(rule.name) != static_cast<int>(call.number)) continue;
    bool holds = true;
    for (const ArgumentRule& argument : rule.arguments) {
      holds = holds && (call.arguments[argument.index] & argument.mask) == argument.value;
    }
    if (holds) return rule.error_number == 0 ? kAllow : errno_action(rule.error_number);
  }
  return otherwise(role);
}

std::string describe(Role role, const Call& call) {
  std::string text = std::string(role_name(role)) + ": " + call_name(call.number) + "(";
  for (const std::uint64_t argument : call.arguments) text += std::to_string(argument) + " ";
  return text + ")";
}

TEST(PolicyFilter, SaysWhatThePolicySays) {
  for (const Role role : all_roles()) {
    const auto calls = calls_of(role);
    const auto filter = filter_of(role);
    const unsigned seed = 20260517 + static_cast<unsigned>(role);
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::vector<std::uint64_t> values = {0, 1, 2, 0xffffffff, 0x100000000, ~std::uint64_t{0}};
    for (const CallRule& rule : calls) {
      for (const ArgumentRule& argument : rule.arguments) values.insert(values.end(), {argument.value, argument.mask});
    }
    int allowed = 0;
    for (int i = 0; i < kProperties; ++i) {
      const CallRule& rule = calls[random() % calls.size()];
      Call tried = call(call_number(rule.name));
      // Often what the rule asks for, and from there one bit further.
      for (std::uint64_t& argument : tried.arguments) argument = values[random() % values.size()];
      if (random() % 4 != 0) {
        for (const ArgumentRule& argument : rule.arguments) {
          std::uint64_t& value = tried.arguments[argument.index];
          value = (value & ~argument.mask) | argument.value;
        }
      }
      if (random() % 2 == 0) tried.arguments[random() % 6] ^= std::uint64_t{1} << random() % 64;
      const std::uint32_t expected = meant(role, calls, tried);
      if (expected == kAllow) ++allowed;
      ASSERT_EQ(evaluate(filter, tried), expected) << describe(role, tried);
    }
    EXPECT_GT(allowed, kProperties / 10) << role_name(role);
  }
}

TEST(PolicyFilter, EndsEveryCallThatThePolicyDoesNotName) {
  for (const Role role : all_roles()) {
    const auto filter = filter_of(role);
    std::set<int> named;
    for (const CallRule& rule : calls_of(role)) named.insert(call_number(rule.name));
    for (int number = 0; number < 1024; ++number) {
      if (named.contains(number)) continue;
      EXPECT_EQ(evaluate(filter, call(number)), otherwise(role)) << describe(role, call(number));
      EXPECT_EQ(evaluate(filter, call(number, {1, 1, 1, 1, 1, 1})), otherwise(role));
    }
  }
}

TEST(PolicyFilter, EndsCallsOfOtherArchitectures) {
  for (const Role role : all_roles()) {
    const auto filter = filter_of(role);
    for (std::uint32_t number = 0; number < 600; ++number) {
      Call tried = call(static_cast<long>(number));
      tried.architecture = kI386;
      ASSERT_EQ(evaluate(filter, tried), kKillProcess) << role_name(role) << ", i386, number " << number;
      tried.architecture = 0;
      ASSERT_EQ(evaluate(filter, tried), kKillProcess);
#if defined(__x86_64__)
      tried = call(static_cast<long>(number | kX32Bit));
      ASSERT_EQ(evaluate(filter, tried), kKillProcess) << role_name(role) << ", x32, number " << number;
#endif
    }
  }
}

TEST(PolicyFilter, HoldsNoRoleToMoreCallsThanItsTarget) {
  const std::map<Role, std::size_t> most = {
      {Role::kKeyholder, 6}, {Role::kConn, 20}, {Role::kAcceptor, 25}, {Role::kMaintainer, 40}};
  for (const auto& [role, limit] : most) {
    std::set<std::string> names;
    for (const CallRule& rule : policy_of(role).calls) {
      if (rule.error_number == 0) names.insert(rule.name);
    }
    EXPECT_LE(names.size(), limit) << role_name(role);
  }
}

struct Forbidden {
  Call call;
  const char* what;
  std::set<Role> but = {};            ///< roles that may
  std::set<std::uint32_t> also = {};  ///< an error number is as good as the end
};

TEST(PolicyFilter, ForbidsWhatWouldLeadOut) {
  const std::uint64_t any = 3;
  const std::uint64_t readable = PROT_READ | PROT_WRITE;
  const std::uint64_t anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  const auto refused = errno_action(EACCES);
  const std::vector<Forbidden> list = {
      {call(SYS_open), "open"},
      {call(SYS_openat, {any, any, O_RDONLY}), "openat", {}, {refused}},
      {call(SYS_openat2), "openat2"},
      {call(SYS_creat), "creat"},
      {call(SYS_open_by_handle_at), "open_by_handle_at"},
      {call(SYS_newfstatat, {any, any, any, 0}), "stat of a path", {}, {refused}},
      {call(SYS_pread64, {any}), "reading at a place"},
      {call(SYS_pwrite64, {any}), "writing at a place"},
      {call(SYS_pwrite64, {2}), "writing at a place of the log"},
      {call(SYS_pwrite64, {kDatabaseFd}), "writing the state database", {Role::kController}},
      {call(SYS_ftruncate, {2}), "cutting the log", {Role::kNursery}},
      {call(SYS_ftruncate, {kDatabaseLogFd}), "cutting the state database's log", {Role::kController, Role::kNursery}},
      {call(SYS_fdatasync, {any}), "flushing a disk"},
      {call(SYS_io_setup, {1}), "setting up asynchronous I/O"},
      {call(SYS_io_submit, {any, 1}), "asking for asynchronous I/O", {Role::kController}},
      {call(SYS_io_submit, {any, 2}), "asking for much asynchronous I/O"},
      {call(SYS_fallocate, {kDatabaseFd}), "taking room on a disk"},
      {call(SYS_unlink), "unlink"},
      {call(SYS_rename), "rename"},
      {call(SYS_mkdir), "mkdir"},
      {call(SYS_symlink), "symlink"},
      {call(SYS_chroot), "chroot"},
      {call(SYS_socket, {AF_INET, SOCK_STREAM, 0}), "a TCP socket", {Role::kMaintainer}},
      {call(SYS_socket, {AF_INET6, SOCK_STREAM, 0}), "a TCP socket of IPv6", {Role::kMaintainer}},
      {call(SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_UDP}), "a UDP socket", {Role::kMaintainer}},
      {call(SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP}), "an ICMP socket"},
      {call(SYS_socket, {AF_INET, SOCK_RAW, 1}), "a raw socket"},
      {call(SYS_socket, {AF_INET, SOCK_STREAM, 262}), "an MPTCP socket"},
      {call(SYS_socket, {AF_UNIX, SOCK_STREAM, 0}), "a local socket", {}, {errno_action(EAFNOSUPPORT)}},
      {call(SYS_socket, {AF_NETLINK, SOCK_RAW, 0}), "a netlink socket", {}, {errno_action(EAFNOSUPPORT)}},
      {call(SYS_socket, {AF_PACKET, SOCK_RAW, 0}), "a packet socket"},
      {call(SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}), "a vsock socket"},
      {call(SYS_socketpair, {AF_INET, SOCK_SEQPACKET, 0}), "a pair of another family"},
      {call(SYS_connect), "connect", {Role::kMaintainer}},
      {call(SYS_bind), "bind", {Role::kMaintainer}},
      {call(SYS_listen, {any, 1}), "listen"},
      {call(SYS_accept), "accept"},
      {call(SYS_accept4, {any, 0, 0, 0}), "accept4 without close-on-exec"},
      {call(SYS_accept4, {any, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK}), "accept4", {Role::kAcceptor, Role::kController}},
      {call(SYS_sendto, {any, any, 1, MSG_FASTOPEN, any, 16}), "connecting by fast open", {Role::kMaintainer}},
      {call(SYS_sendto, {any, any, 1, 0, any, 16}), "sending to an address", {Role::kMaintainer}},
      {call(SYS_sendmsg, {any, any, MSG_FASTOPEN}), "connecting by fast open in sendmsg"},
      {call(SYS_sendmmsg), "sendmmsg"},
      {call(SYS_setsockopt, {any, SOL_SOCKET, SO_ATTACH_FILTER}), "a socket filter"},
      {call(SYS_setsockopt, {any, SOL_SOCKET, SO_BINDTODEVICE}), "binding to a device"},
      {call(SYS_execve), "execve"},
      {call(SYS_execveat), "execveat"},
      {call(SYS_fork), "fork"},
      {call(SYS_vfork), "vfork"},
      {call(SYS_clone, {SIGCHLD}), "clone", {Role::kNursery}},
      {call(SYS_clone, {SIGCHLD | CLONE_NEWPID}), "clone into a PID namespace", {Role::kNursery}},
      {call(SYS_clone, {SIGCHLD | CLONE_NEWUSER}), "clone into a user namespace"},
      {call(SYS_clone, {SIGCHLD | CLONE_NEWNS}), "clone into a mount namespace"},
      {call(SYS_clone, {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD}), "a thread"},
      {call(SYS_clone3), "clone3"},
      {call(SYS_kill, {1, SIGTERM}), "kill with another signal than the last"},
      {call(SYS_kill, {1, SIGKILL}), "kill", {Role::kNursery}},
      {call(SYS_tgkill), "tgkill"},
      {call(SYS_tkill), "tkill"},
      {call(SYS_rt_sigqueueinfo), "rt_sigqueueinfo"},
      {call(SYS_pidfd_send_signal), "pidfd_send_signal"},
      {call(SYS_pidfd_open), "pidfd_open"},
      {call(SYS_pidfd_getfd), "pidfd_getfd"},
      {call(SYS_ptrace), "ptrace"},
      {call(SYS_process_vm_readv), "process_vm_readv"},
      {call(SYS_process_vm_writev), "process_vm_writev"},
      {call(SYS_process_madvise), "process_madvise"},
      {call(SYS_kcmp), "kcmp"},
      {call(SYS_io_uring_setup), "io_uring_setup"},
      {call(SYS_io_uring_enter), "io_uring_enter"},
      {call(SYS_bpf), "bpf"},
      {call(SYS_perf_event_open), "perf_event_open"},
      {call(SYS_userfaultfd), "userfaultfd"},
      {call(SYS_keyctl), "keyctl"},
      {call(SYS_add_key), "add_key"},
      {call(SYS_request_key), "request_key"},
      {call(SYS_mount), "mount"},
      {call(SYS_umount2), "umount2"},
      {call(SYS_pivot_root), "pivot_root"},
      {call(SYS_open_tree), "open_tree"},
      {call(SYS_move_mount), "move_mount"},
      {call(SYS_fsopen), "fsopen"},
      {call(SYS_unshare, {CLONE_NEWUSER}), "unshare"},
      {call(SYS_setns), "setns"},
      {call(SYS_init_module), "init_module"},
      {call(SYS_kexec_load), "kexec_load"},
      {call(SYS_setuid), "setuid"},
      {call(SYS_setresuid), "setresuid"},
      {call(SYS_setgroups), "setgroups"},
      {call(SYS_capset), "capset", {Role::kNursery}},
      {call(SYS_prctl, {PR_SET_DUMPABLE, 1}), "becoming dumpable"},
      {call(SYS_prctl, {PR_SET_SECCOMP, 2}), "a filter by prctl"},
      {call(SYS_prctl, {PR_SET_PTRACER, 1}), "naming a tracer"},
      {call(SYS_seccomp, {1, 8}), "a filter with a listener"},
      {call(SYS_seccomp, {1, 0}), "a further filter", {Role::kNursery}},
      {call(SYS_personality), "personality"},
      {call(SYS_modify_ldt), "modify_ldt"},
      {call(SYS_arch_prctl), "arch_prctl"},
      {call(SYS_setrlimit), "setrlimit"},
      {call(SYS_prlimit64, {1}), "another's limits"},
      {call(SYS_prlimit64, {0}), "its limits", {Role::kNursery}},
      {call(SYS_sched_setaffinity), "sched_setaffinity"},
      {call(SYS_mremap, {any, 4096, 8192, MREMAP_MAYMOVE}), "mremap", {}, {errno_action(ENOMEM)}},
      {call(SYS_mmap, {0, 4096, readable | PROT_EXEC, anonymous, ~std::uint64_t{0}, 0}),
       "executable memory",
       {},
       {errno_action(ENOMEM)}},
      {call(SYS_mmap, {0, 4096, PROT_EXEC, anonymous, ~std::uint64_t{0}, 0}),
       "memory to execute only",
       {},
       {errno_action(ENOMEM)}},
      {call(SYS_mmap, {0, 4096, readable, MAP_SHARED, any, 0}),
       "shared memory",
       {Role::kNursery},
       {errno_action(ENOMEM)}},
      {call(SYS_mmap, {0, 4096, readable, MAP_PRIVATE, any, 0}),
       "memory of a file",
       {Role::kNursery},
       {errno_action(ENOMEM)}},
      {call(SYS_mmap, {4096, 4096, readable, anonymous | MAP_FIXED, ~std::uint64_t{0}, 0}),
       "memory at a given place",
       {Role::kNursery},
       {errno_action(ENOMEM)}},
      {call(SYS_mprotect, {any, 4096, PROT_READ | PROT_EXEC}), "making memory executable"},
      {call(SYS_pkey_mprotect), "pkey_mprotect"},
      {call(SYS_remap_file_pages), "remap_file_pages"},
      {call(SYS_madvise, {any, 4096, MADV_DODUMP}), "undoing what keeps secrets out of dumps"},
      {call(SYS_madvise, {any, 4096, MADV_REMOVE}), "punching holes into shared memory"},
      {call(SYS_ioctl, {any, TIOCSTI}), "typing into a terminal"},
      {call(SYS_ioctl, {any, FIOASYNC}), "signals of a descriptor"},
      {call(SYS_fcntl, {any, F_SETOWN}), "sending signals by a descriptor"},
      {call(SYS_fcntl, {any, F_SETLEASE}), "a lease"},
      {call(SYS_fcntl, {any, F_NOTIFY}), "watching a directory"},
      {call(SYS_dup), "dup"},
      {call(SYS_dup2), "dup2"},
      {call(SYS_dup3), "dup3"},
      {call(SYS_sendfile), "sendfile"},
      {call(SYS_splice), "splice"},
      {call(SYS_vmsplice), "vmsplice"},
      {call(SYS_memfd_create, {any, 0}), "memfd_create", {Role::kNursery}},
      {call(SYS_fchmod, {any, 0777}), "opening a segment to others"},
      {call(SYS_chmod), "chmod"},
      {call(SYS_fchownat), "fchownat"},
      {call(SYS_shmget), "shmget"},
      {call(SYS_msgget), "msgget"},
      {call(SYS_mq_open), "mq_open"},
      {call(SYS_inotify_init1), "inotify_init1"},
      {call(SYS_fanotify_init), "fanotify_init"},
      {call(SYS_timer_create), "timer_create"},
      {call(SYS_settimeofday), "settimeofday"},
      {call(SYS_reboot), "reboot"},
      {call(SYS_syslog), "syslog"},
  };
  for (const Role role : kRoles) {
    const auto filter = filter_of(role);
    for (const Forbidden& act : list) {
      const auto action = evaluate(filter, act.call);
      ASSERT_TRUE(action);
      if (act.but.contains(role)) {
        EXPECT_EQ(*action, kAllow) << role_name(role) << " may do this: " << act.what;
      } else {
        EXPECT_TRUE(*action == otherwise(role) || act.also.contains(*action))
            << role_name(role) << ": " << act.what << " gives " << std::hex << *action;
      }
    }
  }
}

TEST(PolicyFilter, LetsNoActionOfTheNurseryHideAWorkersViolation) {
  const auto own = filter_of(Role::kConn);
  const auto inherited = filter_of(Role::kNursery);
  for (int number = 0; number < 1024; ++number) {
    const auto action = evaluate(own, call(number));
    ASSERT_TRUE(action);
    // The kernel takes the least of both, as signed numbers.
    if (*action == kTrap) {
      EXPECT_NE(evaluate(inherited, call(number)), kKillProcess) << call_name(static_cast<std::uint64_t>(number));
    }
  }
}

// What the supervisor's filter refuses, no process that it started has: it must not get in the way of any.
TEST(PolicyFilter, OfTheSupervisorTakesNothingFromAnyRole) {
  const auto inherited = filter_of(Role::kSupervisor);
  for (const Role role : kRoles) {
    const auto own = filter_of(role);
    const unsigned seed = 20261122 + static_cast<unsigned>(role);
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const auto& calls = policy_of(role).calls;
    for (int i = 0; i < kProperties; ++i) {
      const CallRule& rule = calls[random() % calls.size()];
      Call tried = call(call_number(rule.name), {random() % 64, random(), random() % 64, random(), 0, 0});
      for (const ArgumentRule& argument : rule.arguments) {
        std::uint64_t& value = tried.arguments[argument.index];
        value = (value & ~argument.mask) | argument.value;
      }
      ASSERT_EQ(evaluate(inherited, tried), kAllow) << describe(role, tried);
    }
    // Nor does it change how a violation ends: the kernel takes the least of both, as signed numbers.
    for (int number = 0; number < 1024; ++number) {
      const auto action = evaluate(own, call(number));
      if (action == kKillProcess || action == kTrap) {
        EXPECT_NE(evaluate(inherited, call(number)), kKillProcess) << call_name(static_cast<std::uint64_t>(number));
      }
    }
  }
}

TEST(PolicyFilter, OfTheSupervisorForbidsWhatStartingAndEndingTakesNot) {
  const auto filter = filter_of(Role::kSupervisor);
  const std::uint64_t any = 3;
  const std::vector<Forbidden> list = {
      {call(SYS_ptrace), "ptrace"},
      {call(SYS_process_vm_readv), "process_vm_readv"},
      {call(SYS_process_vm_writev), "process_vm_writev"},
      {call(SYS_pidfd_getfd), "pidfd_getfd"},
      {call(SYS_kcmp), "kcmp"},
      {call(SYS_bpf), "bpf"},
      {call(SYS_io_uring_setup), "io_uring_setup"},
      {call(SYS_perf_event_open), "perf_event_open"},
      {call(SYS_userfaultfd), "userfaultfd"},
      {call(SYS_keyctl), "keyctl"},
      {call(SYS_add_key), "add_key"},
      {call(SYS_init_module), "init_module"},
      {call(SYS_finit_module), "finit_module"},
      {call(SYS_kexec_load), "kexec_load"},
      {call(SYS_reboot), "reboot"},
      {call(SYS_settimeofday), "settimeofday"},
      {call(SYS_clock_settime), "clock_settime"},
      {call(SYS_swapon), "swapon"},
      {call(SYS_mknodat), "mknodat"},
      {call(SYS_chroot), "chroot"},
      {call(SYS_setns), "setns"},
      {call(SYS_open_tree), "open_tree"},
      {call(SYS_move_mount), "move_mount"},
      {call(SYS_fsopen), "fsopen"},
      {call(SYS_open_by_handle_at), "open_by_handle_at"},
      {call(SYS_fanotify_init), "fanotify_init"},
      {call(SYS_chown), "chown"},
      {call(SYS_lchown), "lchown"},
      {call(SYS_fchownat), "fchownat"},
      {call(SYS_setxattr), "setxattr"},
      {call(SYS_symlink), "symlink"},
      {call(SYS_linkat), "linkat"},
      {call(SYS_personality), "personality"},
      {call(SYS_execveat), "execveat"},
      {call(SYS_clone, {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD}), "a thread"},
      {call(SYS_clone, {SIGCHLD | CLONE_NEWUSER}), "clone into a user namespace"},
      {call(SYS_unshare, {CLONE_NEWPID}), "a PID namespace for what it starts"},
      {call(SYS_unshare, {CLONE_NEWCGROUP}), "a cgroup namespace"},
      {call(SYS_socket, {AF_PACKET, SOCK_RAW, 0}), "a packet socket"},
      {call(SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}), "a vsock socket"},
      {call(SYS_ioctl, {any, TIOCSTI}), "typing into a terminal"},
  };
  for (const Forbidden& act : list) EXPECT_EQ(evaluate(filter, act.call), kTrap) << act.what;
}

TEST(PolicyFilter, LetsNoWorkerReturnFromAForgedSignal) {
  EXPECT_EQ(evaluate(filter_of(Role::kConn), call(SYS_rt_sigreturn)), kTrap);
  EXPECT_EQ(evaluate(filter_of(Role::kConn), call(SYS_rt_sigaction)), kTrap);
}

TEST(PolicyFilter, LetsTheKeyholderWriteToItsLogAlone) {
  const auto filter = filter_of(Role::kKeyholder);
  EXPECT_EQ(evaluate(filter, call(SYS_write, {2})), kAllow);
  for (const std::uint64_t fd : {0U, 1U, 3U, 4U, 5U}) EXPECT_EQ(evaluate(filter, call(SYS_write, {fd})), kKillProcess);
  EXPECT_EQ(evaluate(filter, call(SYS_read, {3})), kKillProcess);
}

TEST(PolicyFilter, KnowsCallsByNumberAndName) {
  EXPECT_EQ(call_number("openat"), SYS_openat);
  EXPECT_LT(call_number("no_such_call"), 0);
  EXPECT_EQ(call_name(SYS_openat), "openat");
  EXPECT_EQ(call_name(999999), "call 999999");
  EXPECT_EQ(call_name(~std::uint64_t{0}), "call 18446744073709551615");
}

}  // namespace
}  // namespace bulkhead::sandbox
