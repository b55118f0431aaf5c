#include "sandbox/inspect.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <memory>
#include <set>
#include <string_view>

#include "base/fd.h"
#include "sandbox/cgroup.h"
#include "sandbox/namespaces.h"
#include "sandbox/policy.h"

namespace bulkhead::sandbox {
namespace {

constexpr std::array<const char*, kNamespaceKinds.size()> kNamespaceFiles = {"ns/user", "ns/mnt", "ns/net",
                                                                             "ns/pid",  "ns/ipc", "ns/uts"};
constexpr std::uint32_t kOverflowId = 65534;
constexpr std::uint32_t kHighestCall = 1023;
constexpr std::size_t kMaximumFilters = 16;

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "the number of this architecture for seccomp is not written down here"
#endif

/// A small file of /proc in one read; empty when it cannot be had.
std::string read_text(int directory, const char* name) {
  const UniqueFd file(::openat(directory, name, O_RDONLY | O_CLOEXEC));
  std::string text(16384, '\0');
  const ssize_t size = file ? ::read(file.get(), text.data(), text.size()) : -1;
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return text;
}

/// The words behind `name` on its line of `text`.
std::vector<std::string_view> words_behind(std::string_view text, std::string_view name) {
  std::vector<std::string_view> words;
  std::size_t at = text.starts_with(name) ? 0 : text.find(std::string("\n").append(name));
  if (at == std::string_view::npos) return words;
  if (at != 0) ++at;
  std::string_view line = text.substr(at, text.find('\n', at) - at);
  line.remove_prefix(name.size());
  while (!line.empty()) {
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return words;
}

std::optional<std::uint64_t> number(const std::vector<std::string_view>& words, std::size_t index, int base = 10) {
  if (index >= words.size()) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(words[index].data(), words[index].data() + words[index].size(), value, base);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> inode(int directory, const char* name) {
  struct stat info {};
  if (::fstatat(directory, name, &info, 0) != 0) return std::nullopt;
  return info.st_ino;
}

std::optional<Namespaces> namespaces_in(int directory) {
  Namespaces all{};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto found = inode(directory, kNamespaceFiles[i]);
    if (!found) return std::nullopt;
    all[i] = *found;
  }
  return all;
}

/// Entries of a directory but for "." and "..", at most `most`.
std::optional<std::uint64_t> entries(int directory, const char* name, std::uint64_t most) {
  UniqueFd opened(::openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!opened) return std::nullopt;
  const std::unique_ptr<DIR, int (*)(DIR*)> list(::fdopendir(opened.get()), ::closedir);
  if (!list) return std::nullopt;
  (void)opened.release();
  std::uint64_t count = 0;
  errno = 0;
  while (count < most) {
    const dirent* entry = ::readdir(list.get());
    if (entry == nullptr) break;
    const std::string_view word(entry->d_name);
    if (word != "." && word != "..") ++count;
  }
  if (errno != 0) return std::nullopt;
  return count;
}

bool may_read(pid_t pid) {
  void* head = nullptr;
  std::size_t size = 0;
  return ::syscall(SYS_get_robust_list, pid, &head, &size) == 0;
}

/// For a process of root's, whose files in /proc belong to root either way. Another process of the same user with no
/// fewer capabilities may look into it without CAP_SYS_PTRACE exactly when it is dumpable; this one lays that
/// capability down for the question, which reads one harmless word.
std::optional<bool> ask_dumpable(pid_t pid, const Observation& seen) {
  if (::geteuid() != 0 || ::getuid() != 0 || seen.uid != 0) return std::nullopt;
  const auto mine = own_capabilities();
  if (!mine || (seen.permitted_capabilities & ~mine->permitted) != 0 || !may_read(pid)) return std::nullopt;
  if (!seen.namespaces || namespaces_of(::getpid()).value_or(Namespaces{})[0] != (*seen.namespaces)[0]) {
    return std::nullopt;
  }
  const std::uint64_t bit = std::uint64_t{1} << CAP_SYS_PTRACE;
  if (!set_own_capabilities({mine->effective & ~bit, mine->permitted})) return std::nullopt;
  const bool dumpable = may_read(pid);
  if (!set_own_capabilities(*mine)) return std::nullopt;
  return dumpable;
}

std::optional<bool> find_dumpable(pid_t pid, int directory, const Observation& seen) {
  // The kernel gives what is under /proc/PID to root when the process is not dumpable, else to the process's user.
  struct stat info {};
  if (::fstatat(directory, "status", &info, 0) != 0) return std::nullopt;
  if (info.st_uid != seen.uid) return false;
  if (seen.uid == kOverflowId) return std::nullopt;
  if (seen.uid != 0) return true;
  return ask_dumpable(pid, seen);
}

/// Holds a process still for as long as it exists.
class Stopped {
 public:
  Stopped(pid_t pid, Nanoseconds timeout) : pid_(pid) {
    ::sigemptyset(&child_);
    ::sigaddset(&child_, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child_, &before_);
    if (::ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) {
      error_ = errno;
      return;
    }
    if (::ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr) != 0) {
      error_ = errno;
      return;
    }
    const Nanoseconds until = monotonic_now() + timeout;
    for (;;) {
      int status = 0;
      const pid_t got = ::waitpid(pid, &status, WNOHANG | __WALL);
      if (got == pid) {
        stopped_ = WIFSTOPPED(status);
        error_ = stopped_ ? 0 : ESRCH;
        if (stopped_ && status >> 16 == 0) signal_ = WSTOPSIG(status);
        return;
      }
      const Nanoseconds now = monotonic_now();
      if (got < 0 || now >= until) {
        error_ = got < 0 ? errno : ETIMEDOUT;
        return;
      }
      const timespec rest{static_cast<time_t>((until - now) / kSecond), static_cast<long>((until - now) % kSecond)};
      ::sigtimedwait(&child_, nullptr, &rest);
    }
  }
  ~Stopped() {
    // A signal that came just then is passed on, else it would be lost. A process that did not stop in time cannot be
    // let go by request: the kernel does it when this process ends.
    if (stopped_) ::ptrace(PTRACE_DETACH, pid_, nullptr, signal_);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Stopped(const Stopped&) = delete;
  Stopped& operator=(const Stopped&) = delete;

  explicit operator bool() const { return stopped_; }
  int error() const { return error_; }

 private:
  pid_t pid_;
  sigset_t child_{};
  sigset_t before_{};
  bool stopped_ = false;
  long signal_ = 0;
  int error_ = 0;
};

/// Follows a filter for one number with unknown arguments.
class Walk {
 public:
  Walk(std::span<const sock_filter> code, std::uint32_t number) : code_(code), number_(number) {}

  bool reaches_pass() { return from(0, std::nullopt); }

 private:
  using Value = std::optional<std::uint32_t>;  // nothing: depends on the arguments

  bool from(std::size_t at, Value a) {
    for (; at < code_.size(); ++at) {
      if (!seen_.emplace(at, a).second) return false;
      const sock_filter& step = code_[at];
      switch (BPF_CLASS(step.code)) {
        case BPF_RET:
          return passes(BPF_RVAL(step.code) == BPF_K ? Value(step.k) : a);
        case BPF_LD:
          a = load(step);
          break;
        case BPF_ALU:
          a = compute(step, a);
          break;
        case BPF_JMP: {
          if (BPF_OP(step.code) == BPF_JA) {
            at += step.k;
            break;
          }
          const auto taken = decide(step, a);
          if (taken) {
            at += *taken ? step.jt : step.jf;
            break;
          }
          if (from(at + 1 + step.jt, a)) return true;
          at += step.jf;
          break;
        }
        case BPF_MISC:
          if (BPF_MISCOP(step.code) == BPF_TXA) a = std::nullopt;
          break;
        default:
          break;
      }
    }
    return false;
  }

  static bool passes(Value action) {
    if (!action) return true;
    const std::uint32_t kind = *action & SECCOMP_RET_ACTION_FULL;
    return kind == SECCOMP_RET_ALLOW || kind == SECCOMP_RET_LOG;
  }

  Value load(const sock_filter& step) const {
    if (BPF_MODE(step.code) == BPF_IMM) return step.k;
    if (BPF_MODE(step.code) != BPF_ABS) return std::nullopt;
    if (step.k == offsetof(seccomp_data, nr)) return number_;
    if (step.k == offsetof(seccomp_data, arch)) return kArchitecture;
    return std::nullopt;
  }

  static Value compute(const sock_filter& step, Value a) {
    if (!a || BPF_SRC(step.code) != BPF_K) return std::nullopt;
    switch (BPF_OP(step.code)) {
      case BPF_AND:
        return *a & step.k;
      case BPF_OR:
        return *a | step.k;
      case BPF_ADD:
        return *a + step.k;
      case BPF_SUB:
        return *a - step.k;
      default:
        return std::nullopt;
    }
  }

  static std::optional<bool> decide(const sock_filter& step, Value a) {
    if (!a || BPF_SRC(step.code) != BPF_K) return std::nullopt;
    switch (BPF_OP(step.code)) {
      case BPF_JEQ:
        return *a == step.k;
      case BPF_JGT:
        return *a > step.k;
      case BPF_JGE:
        return *a >= step.k;
      case BPF_JSET:
        return (*a & step.k) != 0;
      default:
        return std::nullopt;
    }
  }

  std::span<const sock_filter> code_;
  std::uint32_t number_;
  std::set<std::pair<std::size_t, Value>> seen_;
};

}  // namespace

std::optional<Namespaces> namespaces_of(pid_t pid) {
  const UniqueFd directory(::open(("/proc/" + std::to_string(pid)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  return directory ? namespaces_in(directory.get()) : std::nullopt;
}

Result<Observation> observe(pid_t pid) {
  // Everything is read through this directory: should the process end, nothing of a successor of its number gets in.
  const UniqueFd directory(::open(("/proc/" + std::to_string(pid)).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::string status = directory ? read_text(directory.get(), "status") : std::string();
  const auto uid = number(words_behind(status, "Uid:"), 1);
  const auto gid = number(words_behind(status, "Gid:"), 1);
  const auto parent = number(words_behind(status, "PPid:"), 0);
  const auto effective = number(words_behind(status, "CapEff:"), 0, 16);
  const auto permitted = number(words_behind(status, "CapPrm:"), 0, 16);
  const auto no_new_privs = number(words_behind(status, "NoNewPrivs:"), 0);
  const auto state = words_behind(status, "State:");
  if (!uid || !gid || !parent || !effective || !permitted || !no_new_privs || state.empty() || state[0] == "Z") {
    return Error{ErrorCode::kNotFound, "no process " + std::to_string(pid)};
  }
  Observation seen;
  seen.parent = static_cast<pid_t>(*parent);
  seen.uid = static_cast<std::uint32_t>(*uid);
  seen.gid = static_cast<std::uint32_t>(*gid);
  seen.no_new_privs = *no_new_privs != 0;
  seen.seccomp = static_cast<int>(number(words_behind(status, "Seccomp:"), 0).value_or(0));
  if (const auto filters = number(words_behind(status, "Seccomp_filters:"), 0)) {
    seen.seccomp_filters = static_cast<std::uint32_t>(*filters);
  }
  seen.capabilities = *effective;
  seen.permitted_capabilities = *permitted;
  // Columns: soft, hard, unit.
  const std::string limits = read_text(directory.get(), "limits");
  seen.data_limit = number(words_behind(limits, "Max data size"), 1);
  seen.file_limit = number(words_behind(limits, "Max open files"), 1);
  seen.process_limit = number(words_behind(limits, "Max processes"), 1);
  seen.file_size_limit = number(words_behind(limits, "Max file size"), 1);
  seen.core_limit = number(words_behind(limits, "Max core file size"), 1);
  seen.open_files = entries(directory.get(), "fd", UINT64_MAX);
  if (!seen.open_files) {
    // Since Linux 6.2 the directory's size is the number, which is for everybody to see.
    struct stat info {};
    if (::fstatat(directory.get(), "fd", &info, 0) == 0 && info.st_size > 0) {
      seen.open_files = static_cast<std::uint64_t>(info.st_size);
    }
  }
  seen.cgroup = memory_group_of(read_text(directory.get(), "cgroup"));
  seen.namespaces = namespaces_in(directory.get());
  if (const auto found = entries(directory.get(), "root", 1)) seen.root_empty = *found == 0;
  seen.dumpable = find_dumpable(pid, directory.get(), seen);
  return seen;
}

Result<std::vector<Program>> read_filters(pid_t pid, Nanoseconds timeout) {
  // Made before, so that the process stands still for the system calls alone.
  std::vector<sock_filter> buffer(kMaximumFilters * BPF_MAXINSNS);
  std::vector<long> sizes;
  sizes.reserve(kMaximumFilters);
  int end = 0;
  {
    const Stopped stopped(pid, timeout);
    if (!stopped) {
      errno = stopped.error();
      return system_error("cannot stop process " + std::to_string(pid));
    }
    for (std::size_t i = 0; i < kMaximumFilters; ++i) {
      const long size = ::ptrace(PTRACE_SECCOMP_GET_FILTER, pid, i, buffer.data() + i * BPF_MAXINSNS);
      if (size < 0) {
        end = errno;
        break;
      }
      sizes.push_back(size);
    }
  }
  if (end != ENOENT) {
    errno = end;
    return system_error("cannot read the filters of process " + std::to_string(pid));
  }
  std::vector<Program> filters;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const auto begin = buffer.begin() + static_cast<std::ptrdiff_t>(i * BPF_MAXINSNS);
    filters.push_back(Program{{begin, begin + sizes[i]}});
  }
  return filters;
}

bool may_pass(std::span<const Program> filters, std::uint32_t number) {
  return std::all_of(filters.begin(), filters.end(),
                     [number](const Program& filter) { return Walk(filter.instructions, number).reaches_pass(); });
}

std::size_t count_passing(std::span<const Program> filters) {
  std::size_t count = 0;
  for (std::uint32_t call = 0; call <= kHighestCall; ++call) {
    if (may_pass(filters, call)) ++count;
  }
  return count;
}

std::size_t policy_size(Role role) {
  std::set<std::string> names;
  for (const CallRule& rule : calls_of(role)) {
    if (rule.error_number == 0) names.insert(rule.name);
  }
  return names.size();
}

}  // namespace bulkhead::sandbox
