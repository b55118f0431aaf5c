#include "tests/hostile/escape_table.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "tests/unit/sandbox/filter_machine.h"

namespace bulkhead::hostile {
namespace {

constexpr std::uint64_t kHere = static_cast<std::uint64_t>(AT_FDCWD);
constexpr std::uint64_t kNone = ~std::uint64_t{0};
constexpr std::uint64_t kPage = 4096;
constexpr std::uint64_t kRoot = 0;
// Of the kernel's interface (include/uapi/linux/seccomp.h).
constexpr std::uint64_t kStrictMode = 0;
constexpr std::uint64_t kFilterMode = 1;
constexpr std::uint64_t kNewListener = 8;
constexpr std::uint32_t kActionMask = 0xffff0000;
constexpr std::uint32_t kErrorMask = 0x0000ffff;

constexpr Expectation answered(int error_number) {
  return {Fate::kAnswered, error_number};
}
constexpr Expectation refused(int error_number) {
  return {Fate::kRefused, error_number};
}
constexpr Expectation kTask = {Fate::kTask, 0};

template <std::size_t N>
std::array<char, N> text(const char* value) {
  std::array<char, N> bytes{};
  std::strncpy(bytes.data(), value, N - 1);
  return bytes;
}

using List = std::vector<Attempt>;

List files(const Target& t) {
  const std::uint64_t file = t.data + offsetof(EscapeData, file);
  const std::uint64_t descriptor = t.data + offsetof(EscapeData, descriptor);
  const std::uint64_t made = t.data + offsetof(EscapeData, new_file);
  const std::uint64_t root = t.data + offsetof(EscapeData, root);
  const std::uint64_t scratch = t.data + offsetof(EscapeData, scratch);
  const Expectation denied = answered(EACCES);
  return {
      {"open a file", SYS_open, {file, O_RDONLY}},
      {"open a file at a directory", SYS_openat, {kHere, file, O_RDONLY}, denied},
      {"make a file", SYS_openat, {kHere, made, O_CREAT | O_RDWR, 0600}, denied},
      {"open a descriptor anew", SYS_openat, {kHere, descriptor, O_RDWR}, denied},
      {"open a file by openat2", SYS_openat2, {kHere, file, t.data + offsetof(EscapeData, how), sizeof(open_how)}},
      {"open a file by handle", SYS_open_by_handle_at, {kHere, scratch, O_RDONLY}},
      {"create a file", SYS_creat, {made, 0600}},
      {"look at a file", SYS_newfstatat, {kHere, file, scratch, 0}, denied},
      {"look at a file by statx", SYS_statx, {kHere, file, 0, STATX_BASIC_STATS, scratch}},
      {"ask whether a file is there", SYS_access, {file, R_OK}, {}, {{Role::kMaintainer, denied}}},
      {"read a link", SYS_readlink, {descriptor, scratch, 64}},
      {"make a directory", SYS_mkdir, {made, 0700}},
      {"remove a file", SYS_unlink, {made}},
      {"rename a file", SYS_rename, {file, made}},
      {"link a file", SYS_link, {file, made}},
      {"link a file by name", SYS_symlink, {file, made}},
      {"make a device", SYS_mknod, {made, S_IFCHR | 0600, 0x0101}},
      {"change a file's mode", SYS_chmod, {file, 0777}},
      {"change a descriptor's mode", SYS_fchmod, {t.descriptor, 0777}},
      {"change a file's owner", SYS_chown, {file, 0, 0}},
      {"change the directory", SYS_chdir, {root}},
      {"change the root", SYS_chroot, {root}},
      {"swap the root", SYS_pivot_root, {root, root}},
      {"mount", SYS_mount, {root, root, t.data + offsetof(EscapeData, kind), 0, 0}},
      {"unmount", SYS_umount2, {root, MNT_DETACH}},
      {"open a tree", SYS_open_tree, {kHere, root, 0}},
      {"watch files", SYS_inotify_init1, {0}},
      {"watch all files", SYS_fanotify_init, {0, 0}},
  };
}

List sockets(const Target& t) {
  const std::uint64_t internet = t.data + offsetof(EscapeData, internet);
  const std::uint64_t local = t.data + offsetof(EscapeData, local);
  const std::uint64_t scratch = t.data + offsetof(EscapeData, scratch);
  const std::vector<Exception> dials = {{Role::kMaintainer, kTask}};
  const std::vector<Exception> not_there = {{Role::kMaintainer, answered(EAFNOSUPPORT)}};
  return {
      {"make a TCP socket", SYS_socket, {AF_INET, SOCK_STREAM, 0}, {}, dials},
      {"make a TCP socket for IPv6", SYS_socket, {AF_INET6, SOCK_STREAM, 0}, {}, dials},
      {"make a UDP socket", SYS_socket, {AF_INET, SOCK_DGRAM, 0}, {}, dials},
      {"make a local socket", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, {}, not_there},
      {"make a netlink socket", SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, {}, not_there},
      {"make a packet socket", SYS_socket, {AF_PACKET, SOCK_RAW, 0}},
      {"make a raw socket", SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_ICMP}},
      {"make a socket of virtual machines", SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}},
      {"make a cryptographic socket", SYS_socket, {AF_ALG, SOCK_SEQPACKET, 0}},
      {"make a MPTCP socket", SYS_socket, {AF_INET, SOCK_STREAM, 262}},
      {"make a pair of stream sockets", SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, scratch}},
      {"connect", SYS_connect, {t.descriptor, internet, sizeof(sockaddr_in)}, {}, dials},
      {"connect to a local socket", SYS_connect, {t.descriptor, local, sizeof(sockaddr_un)}, {}, dials},
      {"bind", SYS_bind, {t.descriptor, internet, sizeof(sockaddr_in)}, {}, dials},
      {"listen", SYS_listen, {t.descriptor, 1}},
      {"accept", SYS_accept, {t.descriptor, 0, 0}},
      {"accept without flags", SYS_accept4, {t.descriptor, 0, 0, 0}},
      {"send to an address",
       SYS_sendto,
       {t.descriptor, scratch, 1, MSG_DONTWAIT | MSG_NOSIGNAL, internet, sizeof(sockaddr_in)},
       {},
       dials},
      {"send fast to a new connection",
       SYS_sendto,
       {t.descriptor, scratch, 1, MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL, internet, sizeof(sockaddr_in)},
       {},
       dials},
      {"send fast in a message", SYS_sendmsg, {t.descriptor, scratch, MSG_FASTOPEN | MSG_DONTWAIT}},
      {"look into a message", SYS_recvmsg, {t.descriptor, scratch, MSG_PEEK | MSG_DONTWAIT}},
      {"send many messages", SYS_sendmmsg, {t.descriptor, scratch, 1, 0}},
      {"receive many messages", SYS_recvmmsg, {t.descriptor, scratch, 1, 0, 0}},
      {"bind to a device", SYS_setsockopt, {t.descriptor, SOL_SOCKET, SO_BINDTODEVICE, scratch, 4}},
      {"attach a filter", SYS_setsockopt, {t.descriptor, SOL_SOCKET, SO_ATTACH_FILTER, scratch, 16}},
  };
}

List processes(const Target& t) {
  const std::uint64_t program = t.data + offsetof(EscapeData, program);
  const std::uint64_t scratch = t.data + offsetof(EscapeData, scratch);
  const std::vector<Exception> forks = {{Role::kNursery, kTask}};
  // Landlock where it knows signals, or the other's user.
  const std::vector<Exception> ends_workers = {{Role::kNursery, refused(EPERM)}};
  return {
      {"fork", SYS_fork, {}},
      {"fork by vfork", SYS_vfork, {}},
      {"fork by clone", SYS_clone, {SIGCHLD}, {}, forks},
      {"make a thread", SYS_clone, {CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FS | CLONE_FILES}},
      {"clone into a user namespace", SYS_clone, {SIGCHLD | CLONE_NEWUSER | CLONE_NEWNET}},
      {"fork by clone3", SYS_clone3, {t.data + offsetof(EscapeData, clone_arguments), 88}},
      {"run a program", SYS_execve, {program, 0, 0}},
      {"run a program by descriptor", SYS_execveat, {t.descriptor, program, 0, 0, AT_EMPTY_PATH}},
      {"trace another process", SYS_ptrace, {PTRACE_SEIZE, t.other_pid, 0, 0}},
      {"attach to another process", SYS_ptrace, {PTRACE_ATTACH, t.other_pid, 0, 0}},
      {"let itself be traced", SYS_ptrace, {PTRACE_TRACEME, 0, 0, 0}},
      {"end another process", SYS_kill, {t.other_pid, SIGKILL}, {}, ends_workers},
      {"signal another process", SYS_kill, {t.other_pid, SIGTERM}},
      {"signal a thread", SYS_tkill, {t.other_pid, SIGTERM}},
      {"signal a thread of another process", SYS_tgkill, {t.other_pid, t.other_pid, SIGTERM}},
      {"queue a signal", SYS_rt_sigqueueinfo, {t.other_pid, SIGTERM, scratch}},
      {"open another process", SYS_pidfd_open, {t.other_pid, 0}},
      {"signal by descriptor", SYS_pidfd_send_signal, {t.descriptor, SIGTERM, 0, 0}},
      {"take another's descriptor", SYS_pidfd_getfd, {t.descriptor, 0, 0}},
      {"read another's memory", SYS_process_vm_readv, {t.other_pid, scratch, 1, scratch, 1, 0}},
      {"write another's memory", SYS_process_vm_writev, {t.other_pid, scratch, 1, scratch, 1, 0}},
      {"advise on another's memory", SYS_process_madvise, {t.descriptor, scratch, 1, MADV_COLD, 0}},
      {"compare itself with another", SYS_kcmp, {t.other_pid, t.other_pid, 0, 0, 0}},
      {"set another's processors", SYS_sched_setaffinity, {t.other_pid, 8, scratch}},
      {"set its own priority", SYS_setpriority, {0, 0, kNone - 19}},
      {"set another's limits", SYS_prlimit64, {t.other_pid, RLIMIT_NOFILE, t.data + offsetof(EscapeData, more), 0}},
  };
}

List memory(const Target& t) {
  const std::uint64_t page = t.data & ~(kPage - 1);
  const std::uint64_t scratch = t.data + offsetof(EscapeData, scratch);
  const std::vector<Exception> makes_rings = {{Role::kNursery, kTask}};
  const Expectation no_growth = answered(ENOMEM);
  const std::vector<Exception> keyholder_not = {{Role::kKeyholder, {}}};
  return {
      {"map executable memory", SYS_mmap, {0, kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, kNone, 0}},
      {"map memory to write and execute",
       SYS_mmap,
       {0, kPage, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, kNone, 0}},
      {"map a descriptor to execute", SYS_mmap, {0, kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE, t.descriptor, 0}},
      {"map a descriptor, shared", SYS_mmap, {0, kPage, PROT_READ, MAP_SHARED, t.descriptor, 0}, {}, makes_rings},
      {"map another part of a descriptor",
       SYS_mmap,
       {0, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, t.descriptor, 64 * kPage},
       {},
       makes_rings},
      {"map a descriptor, private", SYS_mmap, {0, kPage, PROT_READ, MAP_PRIVATE, t.descriptor, 0}, {}, makes_rings},
      {"map shared memory",
       SYS_mmap,
       {0, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, kNone, 0},
       {},
       makes_rings},
      {"map over what is there",
       SYS_mmap,
       {page, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, kNone, 0},
       {},
       makes_rings},
      {"make memory executable", SYS_mprotect, {page, kPage, PROT_READ | PROT_EXEC}},
      {"make memory writable", SYS_mprotect, {page, kPage, PROT_READ | PROT_WRITE}},
      {"make memory executable by key", SYS_pkey_mprotect, {page, kPage, PROT_READ | PROT_EXEC, kNone}},
      {"grow a mapping", SYS_mremap, {page, kPage, 2 * kPage, MREMAP_MAYMOVE}, no_growth, keyholder_not},
      {"shift a mapping", SYS_remap_file_pages, {page, kPage, 0, 1, 0}},
      {"lock memory", SYS_mlock, {page, kPage}},
      {"remove pages of a segment", SYS_madvise, {page, kPage, MADV_REMOVE}},
      {"let pages be merged", SYS_madvise, {page, kPage, MADV_MERGEABLE}},
      {"put secrets into core dumps", SYS_madvise, {page, kPage, MADV_DODUMP}},
      {"make a memory file", SYS_memfd_create, {t.data + offsetof(EscapeData, kind), 0}, {}, makes_rings},
      {"make a secret memory file", SYS_memfd_secret, {0}},
      {"resize a segment", SYS_ftruncate, {t.descriptor, 0}, {}, makes_rings},
      {"punch a hole into a segment", SYS_fallocate, {t.descriptor, 3, 0, kPage}},
      {"watch page faults", SYS_userfaultfd, {0}},
      {"make shared memory of System V", SYS_shmget, {0, kPage, 0600 | 01000}},
      {"attach shared memory of System V", SYS_shmat, {0, 0, 0}},
      {"make a queue of System V", SYS_msgget, {0, 0600 | 01000}},
      {"make a POSIX queue", SYS_mq_open, {t.data + offsetof(EscapeData, kind), O_CREAT | O_RDWR, 0600, 0}},
      {"move bytes between descriptors", SYS_splice, {t.descriptor, 0, t.descriptor, 0, 1, 0}},
      {"give pages to a pipe", SYS_vmsplice, {t.descriptor, scratch, 1, 0}},
      {"send a file", SYS_sendfile, {t.descriptor, t.descriptor, 0, 1}},
  };
}

List descriptors(const Target& t) {
  const std::uint64_t scratch = t.data + offsetof(EscapeData, scratch);
  const std::vector<Exception> keeps_flags = {
      {Role::kController, kTask}, {Role::kMaintainer, kTask}, {Role::kNursery, kTask}};
  const std::vector<Exception> loops = {{Role::kNursery, kTask}};
  const std::vector<Exception> writes = {{Role::kConn, kTask},
                                         {Role::kController, kTask},
                                         {Role::kAcceptor, kTask},
                                         {Role::kMaintainer, kTask},
                                         {Role::kNursery, kTask}};
  return {
      {"duplicate a descriptor", SYS_dup, {t.descriptor}},
      {"replace a descriptor", SYS_dup2, {t.descriptor, 2}},
      {"replace a descriptor by dup3", SYS_dup3, {t.descriptor, 2, 0}},
      {"duplicate a descriptor by fcntl", SYS_fcntl, {t.descriptor, F_DUPFD, 0}},
      {"set a descriptor's flags", SYS_fcntl, {t.descriptor, F_SETFL, O_ASYNC}, {}, keeps_flags},
      {"own a descriptor's signals", SYS_fcntl, {t.descriptor, F_SETOWN, t.other_pid}},
      {"choose a descriptor's signal", SYS_fcntl, {t.descriptor, F_SETSIG, SIGKILL}},
      {"lock a file", SYS_fcntl, {t.descriptor, F_SETLK, scratch}},
      {"add seals", SYS_fcntl, {t.descriptor, F_ADD_SEALS, F_SEAL_WRITE}, {}, loops},
      {"grow a pipe", SYS_fcntl, {t.descriptor, F_SETPIPE_SZ, 1 << 20}},
      {"type into a terminal", SYS_ioctl, {t.descriptor, TIOCSTI, scratch}},
      {"paste into a console", SYS_ioctl, {t.descriptor, TIOCLINUX, scratch}},
      {"take a terminal", SYS_ioctl, {t.descriptor, TIOCSCTTY, 0}},
      {"find interfaces", SYS_ioctl, {t.descriptor, 0x8912, scratch}},
      {"write to a descriptor", SYS_write, {t.descriptor, scratch, 0}, {}, writes},
      {"write parts to a descriptor", SYS_writev, {t.descriptor, scratch, 0}, {}, {{Role::kMaintainer, kTask}}},
      {"write at an offset", SYS_pwrite64, {t.descriptor, scratch, 1, 0}},
      {"read at an offset", SYS_pread64, {t.descriptor, scratch, 1, 0}},
      {"write a file out", SYS_fdatasync, {t.descriptor}},
      {"make a pipe", SYS_pipe2, {scratch, 0}, {}, loops},
      {"make a wake-up", SYS_eventfd2, {0, 0}, {}, loops},
      {"make a timer", SYS_timerfd_create, {0, 0}},
      {"read signals by descriptor", SYS_signalfd4, {kNone, scratch, 8, 0}},
  };
}

List kernel(const Target& t) {
  const std::uint64_t scratch = t.data + offsetof(EscapeData, scratch);
  const std::uint64_t more = t.data + offsetof(EscapeData, more);
  const std::uint64_t kind = t.data + offsetof(EscapeData, kind);
  return {
      {"set up asynchronous I/O", SYS_io_setup, {1, scratch}},
      {"ask for asynchronous I/O", SYS_io_submit, {0, 2, scratch}},
      {"set up io_uring", SYS_io_uring_setup, {4, scratch}},
      {"enter io_uring", SYS_io_uring_enter, {t.descriptor, 1, 0, 0, 0, 0}},
      {"register with io_uring", SYS_io_uring_register, {t.descriptor, 0, 0, 0}},
      {"set up old asynchronous input", SYS_io_setup, {1, scratch}},
      {"load a BPF program", SYS_bpf, {5, scratch, 64}},
      {"open a performance counter", SYS_perf_event_open, {scratch, 0, kNone, kNone, 0}},
      {"use the key ring", SYS_keyctl, {KEYCTL_GET_KEYRING_ID, kNone - 2, 0}},
      {"add a key", SYS_add_key, {kind, kind, scratch, 8, kNone - 2}},
      {"ask for a key", SYS_request_key, {kind, kind, 0, 0}},
      {"leave its namespaces", SYS_unshare, {CLONE_NEWUSER | CLONE_NEWNS}},
      {"enter a namespace", SYS_setns, {t.descriptor, 0}},
      {"become root", SYS_setuid, {kRoot}},
      {"become root in all ways", SYS_setresuid, {kRoot, kRoot, kRoot}},
      {"join root's group", SYS_setgid, {0}},
      {"choose its groups", SYS_setgroups, {0, 0}},
      {"gain capabilities",
       SYS_capset,
       {t.data + offsetof(EscapeData, capability_header), t.data + offsetof(EscapeData, capability_data)},
       {},
       {{Role::kNursery, refused(EPERM)}}},
      {"become dumpable", SYS_prctl, {PR_SET_DUMPABLE, 1}},
      {"raise an ambient capability", SYS_prctl, {PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0}},
      {"choose its tracer", SYS_prctl, {PR_SET_PTRACER, kNone}},
      {"change its memory's map", SYS_prctl, {PR_SET_MM, PR_SET_MM_ARG_START, t.data, 0, 0}},
      {"lose a filter", SYS_prctl, {PR_SET_SECCOMP, 0, 0}},
      {"watch its own filter", SYS_seccomp, {kFilterMode, kNewListener, scratch}},
      {"go into strict mode", SYS_seccomp, {kStrictMode, 0, 0}},
      {"raise its limits by setrlimit", SYS_setrlimit, {RLIMIT_NOFILE, more}},
      {"raise its limits", SYS_prlimit64, {0, RLIMIT_DATA, more, 0}, {}, {{Role::kNursery, refused(EPERM)}}},
      {"take over the handler of violations", SYS_rt_sigaction, {SIGSYS, 0, scratch, 8}, {}, {{Role::kNursery, kTask}}},
      {"block the signal of violations", SYS_rt_sigprocmask, {0, scratch, 0, 8}, {}, {{Role::kNursery, kTask}}},
      {"change its segments", SYS_modify_ldt, {1, scratch, 16}},
      {"change its thread's base", SYS_arch_prctl, {0x1002, t.data}},
      {"use ports of the machine", SYS_ioperm, {0, 1, 1}},
      {"change its personality", SYS_personality, {0x0400000}},
      {"load a kernel", SYS_kexec_load, {0, 0, 0, 0}},
      {"load a module", SYS_init_module, {scratch, 1, kind}},
      {"restart the machine", SYS_reboot, {0xfee1dead, 672274793, 0}},
      {"set the clock", SYS_settimeofday, {scratch, 0}},
      {"name the machine", SYS_sethostname, {kind, 3}},
      {"read the kernel's log", SYS_syslog, {3, scratch, 8}},
      {"make rules of Landlock", SYS_landlock_create_ruleset, {0, 0, 1}},
  };
}

std::vector<std::string> sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Expectation Attempt::of(Role role) const {
  for (const Exception& exception : but) {
    if (exception.role == role) return exception.expectation;
  }
  return usually;
}

EscapeData escape_data() {
  EscapeData data;
  data.file = text<16>("/etc/passwd");
  data.descriptor = text<24>("/proc/self/fd/2");
  data.new_file = text<24>("/tmp/bulkhead-escape");
  data.root = text<8>("/");
  data.program = text<16>("/bin/true");
  data.kind = text<8>("tmpfs");
  data.internet.sin_family = AF_INET;
  data.internet.sin_port = htons(9);
  data.internet.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  data.local.sun_family = AF_UNIX;
  std::memcpy(data.local.sun_path + 1, "bulkhead-escape", 16);
  data.more = {RLIM_INFINITY, RLIM_INFINITY};
  data.how.flags = O_RDONLY;
  data.clone_arguments[4] = SIGCHLD;
  data.capability_header = {_LINUX_CAPABILITY_VERSION_3, 0};
  data.capability_data.fill(~std::uint32_t{0});
  return data;
}

List attempts(const Target& target) {
  List all;
  for (const auto& part :
       {files(target), sockets(target), processes(target), memory(target), descriptors(target), kernel(target)}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

std::vector<std::string> passing_calls(Role role) {
  const auto with = [](std::vector<std::string> names, const std::vector<std::string>& others) {
    names.insert(names.end(), others.begin(), others.end());
    return sorted(std::move(names));
  };
  const std::vector<std::string> keyholder = {"recvmsg", "sendmsg", "exit_group", "ppoll", "getrandom", "write"};
  const std::vector<std::string> loop = {"epoll_wait",    "epoll_pwait", "epoll_ctl", "read",      "write",
                                         "close",         "recvmsg",     "sendmsg",   "brk",       "mmap",
                                         "clock_gettime", "munmap",      "madvise",   "exit_group"};
  switch (role) {
    case Role::kConn:
      return with(loop, {"recvfrom", "sendto", "shutdown"});
    case Role::kKeyholder:
      return sorted(keyholder);
    case Role::kController:
      return with(loop, {"io_submit", "io_getevents", "pread64", "pwrite64", "fdatasync", "ftruncate", "accept4",
                         "socketpair", "getsockopt", "newfstatat", "fcntl", "getrandom", "ioctl"});
    case Role::kAcceptor:
      return with(loop, {"setsockopt", "accept4", "recvfrom", "ioctl"});
    case Role::kMaintainer:
      return with(loop, {"setsockopt", "socket", "connect", "bind", "getsockopt", "getsockname", "ioctl", "fcntl",
                         "sendto", "recvfrom", "writev", "gettimeofday"});
    case Role::kNursery:
      return with(loop, {"ppoll",          "clone",     "wait4",  "waitid",       "kill",   "rt_sigreturn",
                         "newfstatat",     "futex",     "pipe2",  "rt_sigaction", "ioctl",  "close_range",
                         "rt_sigprocmask", "fchmod",    "fcntl",  "memfd_create", "prctl",  "eventfd2",
                         "epoll_create1",  "ftruncate", "capset", "prlimit64",    "sendto", "seccomp",
                         "recvfrom",       "shutdown"});
    default:
      return {};
  }
}

Judgement judge(const std::vector<sandbox::Program>& filters, std::uint64_t number,
                const std::array<std::uint64_t, 6>& arguments) {
  Judgement hardest;
  for (const sandbox::Program& filter : filters) {
    sandbox::test::Call call;
    call.number = static_cast<std::uint32_t>(number);
    call.arguments = arguments;
    const std::uint32_t said = sandbox::test::evaluate(filter.instructions, call).value_or(sandbox::test::kKillProcess);
    Judgement one;
    if ((said & kActionMask) == sandbox::test::errno_action(0)) {
      one = {Answer::kError, static_cast<int>(said & kErrorMask)};
    } else if (said == sandbox::test::kTrap) {
      one = {Answer::kTrap, 0};
    } else if (said != sandbox::test::kAllow) {
      one = {Answer::kKill, 0};
    }
    if (one.answer > hardest.answer) hardest = one;
  }
  return hardest;
}

}  // namespace bulkhead::hostile
