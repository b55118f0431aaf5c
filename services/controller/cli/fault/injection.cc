#include "services/controller/cli/fault/injection.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

namespace bulkhead::fault {
namespace {

template <typename... Bytes>
constexpr auto code(Bytes... bytes) {
  return std::array<std::byte, sizeof...(bytes)>{static_cast<std::byte>(bytes)...};
}

constexpr auto kSystemCall = code(0x0f, 0x05);
constexpr auto kSystemCall32 = code(0xcd, 0x80);
constexpr auto kStoreByte = code(0x40, 0x88, 0x37);       // mov %sil, (%rdi)
constexpr auto kLoadByte = code(0x48, 0x0f, 0xb6, 0x07);  // movzbq (%rdi), %rax
constexpr auto kIllegal = code(0x0f, 0x0b);
constexpr auto kJumpToItself = code(0xeb, 0xfe);

// In the page at address zero, which no process of an ordinary kernel may map.
constexpr std::uint64_t kNowhere = 0x10;
constexpr int kMaximumPending = 32;
constexpr int kMaximumInterruptions = 3;
constexpr timespec kPause = {0, 50'000};

std::uint64_t bit(int signal) {
  return std::uint64_t{1} << (signal - 1);
}

// Those that an instruction raises must stay open: blocked, they would kill.
const std::uint64_t kAsynchronousSignals =
    ~(bit(SIGSYS) | bit(SIGTRAP) | bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGFPE));

Error trace_error(const std::string& what, pid_t pid) {
  Error error = system_error(what + " process " + std::to_string(pid));
  if (error.errno_value == ESRCH) error.code = ErrorCode::kNotFound;
  if (error.errno_value == EPERM) error.code = ErrorCode::kRefused;
  return error;
}

Error timed_out(pid_t pid) {
  errno = ETIMEDOUT;
  return trace_error("waited too long for", pid);
}

/// ptrace's glibc prototype takes pointers where the kernel takes numbers.
long trace(decltype(PTRACE_CONT) request, pid_t pid, std::uint64_t address, std::uint64_t data) {
  return ::ptrace(request, pid, address, data);
}

std::uint64_t address_of(const void* object) {
  return reinterpret_cast<std::uint64_t>(object);
}

int event_of(int status) {
  return status >> 16;
}

bool is_signal_stop(int status) {
  return WIFSTOPPED(status) && event_of(status) == 0;
}

iovec piece(std::uint64_t address, std::size_t size) {
  return {reinterpret_cast<void*>(address), size};  // NOLINT(performance-no-int-to-ptr): another process's address
}

}  // namespace

std::string describe(const Outcome& outcome) {
  const std::string value = std::to_string(outcome.value);
  switch (outcome.kind) {
    case Outcome::Kind::kReturned:
      if (outcome.value >= 0 || outcome.value < -4095) return "returned " + value;
      return "returned " + value + " (" + std::strerror(static_cast<int>(-outcome.value)) + ")";
    case Outcome::Kind::kSignal:
      return "raised signal " + value;
    case Outcome::Kind::kExited:
      return "exit status " + value;
    case Outcome::Kind::kKilled:
      return "killed by signal " + value;
  }
  return "";
}

Result<SeizedProcess> SeizedProcess::seize(pid_t pid, Nanoseconds timeout) {
  // A process that is made by an injected call is to be had before it runs.
  constexpr std::uint64_t kOptions = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;
  if (trace(PTRACE_SEIZE, pid, 0, kOptions) != 0) return trace_error("cannot trace", pid);
  SeizedProcess process(pid);
  if (auto stopped = process.stop(timeout); !stopped) {
    // One that does not stop cannot be let go by request either; the kernel does it when this thread ends.
    if (process.pid_ > 0 && stopped.error().errno_value == ETIMEDOUT) process.pid_ = -1;
    return stopped.error();
  }
  return process;
}

SeizedProcess::SeizedProcess(SeizedProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), registers_(other.registers_), signal_mask_(other.signal_mask_) {}

SeizedProcess::~SeizedProcess() {
  detach();
}

Result<int> SeizedProcess::wait(Nanoseconds timeout) {
  const Nanoseconds until = monotonic_now() + timeout;
  for (;;) {
    int status = 0;
    const pid_t got = ::waitpid(pid_, &status, WNOHANG | __WALL);
    if (got == pid_) return status;
    if (got < 0 && errno != EINTR) return trace_error("cannot wait for", pid_);
    if (monotonic_now() >= until) return timed_out(pid_);
    ::nanosleep(&kPause, nullptr);
  }
}

Result<void> SeizedProcess::stop(Nanoseconds timeout) {
  if (trace(PTRACE_INTERRUPT, pid_, 0, 0) != 0) return trace_error("cannot stop", pid_);
  for (;;) {
    const auto status = wait(timeout);
    if (!status) return status.error();
    if (!WIFSTOPPED(*status)) {
      pid_ = -1;
      return Error{ErrorCode::kNotFound, "the process ended before it stopped"};
    }
    if (event_of(*status) == PTRACE_EVENT_STOP) break;
    // On its way into a handler, or into something else that is its own: it goes on there, and stops again.
    const int signal = is_signal_stop(*status) ? WSTOPSIG(*status) : 0;
    if (trace(PTRACE_INTERRUPT, pid_, 0, 0) != 0 ||
        trace(PTRACE_CONT, pid_, 0, static_cast<std::uint64_t>(signal)) != 0) {
      return trace_error("cannot stop", pid_);
    }
  }
  if (trace(PTRACE_GETREGS, pid_, 0, address_of(&registers_)) != 0 ||
      trace(PTRACE_GETSIGMASK, pid_, sizeof(signal_mask_), address_of(&signal_mask_)) != 0) {
    return trace_error("cannot read the registers of", pid_);
  }
  return {};
}

Outcome SeizedProcess::ended(int status) {
  pid_ = -1;
  if (WIFEXITED(status)) return {Outcome::Kind::kExited, WEXITSTATUS(status)};
  return {Outcome::Kind::kKilled, WTERMSIG(status)};
}

user_regs_struct SeizedProcess::fresh_registers() const {
  user_regs_struct registers = registers_;
  // Else the kernel, on the way out of an interrupted call, would set the pointer back to begin that one again.
  registers.orig_rax = ~0ULL;
  return registers;
}

Result<Outcome> SeizedProcess::execute(std::span<const std::byte> instruction, const user_regs_struct& registers,
                                       Nanoseconds timeout) {
  if (released()) return Error{ErrorCode::kClosed, "no process is held"};
  const std::uint64_t address = registers_.rip;
  const auto before = read(address, instruction.size());
  if (!before) return before.error();
  const pid_t pid = pid_;
  if (auto written = write(address, instruction); !written) return written.error();
  if (trace(PTRACE_SETSIGMASK, pid, sizeof(kAsynchronousSignals), address_of(&kAsynchronousSignals)) != 0 ||
      trace(PTRACE_SETREGS, pid, 0, address_of(&registers)) != 0) {
    return trace_error("cannot set the registers of", pid);
  }
  auto outcome = step(timeout);
  if (released()) return outcome;
  if (auto restored = restore(address, *before); !restored) return restored.error();
  return outcome;
}

Result<void> SeizedProcess::restore(std::uint64_t address, std::span<const std::byte> code) {
  if (auto written = write(address, code); !written) return written.error();
  if (trace(PTRACE_SETSIGMASK, pid_, sizeof(signal_mask_), address_of(&signal_mask_)) != 0 ||
      trace(PTRACE_SETREGS, pid_, 0, address_of(&registers_)) != 0) {
    return trace_error("cannot restore the registers of", pid_);
  }
  return {};
}

/// Carries out one instruction. The last stop is one of signal delivery: from such a one the kernel begins an
/// interrupted call again.
Result<Outcome> SeizedProcess::step(Nanoseconds timeout) {
  int interruptions = 0;
  if (trace(PTRACE_SINGLESTEP, pid_, 0, 0) != 0) return trace_error("cannot step", pid_);
  for (;;) {
    auto status = wait(timeout);
    if (!status && status.error().errno_value == ETIMEDOUT && interruptions++ < kMaximumInterruptions) {
      if (trace(PTRACE_INTERRUPT, pid_, 0, 0) != 0) return trace_error("cannot interrupt", pid_);
      continue;
    }
    if (!status) return status.error();
    if (!WIFSTOPPED(*status)) return ended(*status);
    const int signal = is_signal_stop(*status) ? WSTOPSIG(*status) : 0;
    if (signal == SIGTRAP) break;
    if (signal != 0 && (bit(signal) & kAsynchronousSignals) == 0) return Outcome{Outcome::Kind::kSignal, signal};
    if (event_of(*status) != 0 && event_of(*status) != PTRACE_EVENT_STOP) end_new_process();
    // What is left: SIGSTOP, which nobody can block, and which counts when the process is let go; and the stop of an
    // interruption, behind which the trap of the step waits.
    if (trace(PTRACE_SINGLESTEP, pid_, 0, static_cast<std::uint64_t>(signal)) != 0) {
      return trace_error("cannot step", pid_);
    }
  }
  user_regs_struct after{};
  if (trace(PTRACE_GETREGS, pid_, 0, address_of(&after)) != 0) return trace_error("cannot read registers of", pid_);
  return Outcome{Outcome::Kind::kReturned, static_cast<std::int64_t>(after.rax)};
}

void SeizedProcess::end_new_process() {
  unsigned long made = 0;
  if (trace(PTRACE_GETEVENTMSG, pid_, 0, address_of(&made)) != 0 || made == 0) return;
  const auto child = static_cast<pid_t>(made);
  ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, __WALL) == child && WIFSTOPPED(status)) {
  }
}

/// The registers are the old ones again, so a handler that returns goes on where the process was.
Result<Outcome> SeizedProcess::deliver(int signal, Nanoseconds timeout) {
  const Nanoseconds until = monotonic_now() + timeout;
  for (int next = signal;;) {
    if (trace(PTRACE_CONT, pid_, 0, static_cast<std::uint64_t>(next)) != 0) {
      return trace_error("cannot continue", pid_);
    }
    const Nanoseconds now = monotonic_now();
    const auto status = wait(until > now ? until - now : 0);
    if (!status && status.error().errno_value == ETIMEDOUT) break;
    if (!status) return status.error();
    if (!WIFSTOPPED(*status)) return ended(*status);
    // The trap is that of the step.
    next = is_signal_stop(*status) && WSTOPSIG(*status) != SIGTRAP ? WSTOPSIG(*status) : 0;
  }
  if (auto stopped = stop(timeout); !stopped && !released()) return stopped.error();
  return Outcome{Outcome::Kind::kSignal, signal};
}

Result<Outcome> SeizedProcess::call(const Call& call, Nanoseconds timeout) {
  const auto outcome = execute(kSystemCall, registers_of(call), timeout);
  if (!outcome || outcome->kind != Outcome::Kind::kSignal) return outcome;
  return deliver(static_cast<int>(outcome->value), timeout);
}

user_regs_struct SeizedProcess::registers_of(const Call& call) const {
  user_regs_struct registers = fresh_registers();
  registers.rax = call.number;
  registers.rdi = call.arguments[0];
  registers.rsi = call.arguments[1];
  registers.rdx = call.arguments[2];
  registers.r10 = call.arguments[3];
  registers.r8 = call.arguments[4];
  registers.r9 = call.arguments[5];
  return registers;
}

Result<Outcome> SeizedProcess::probe(const Call& call, Nanoseconds timeout) {
  return execute_quietly(kSystemCall, registers_of(call), timeout);
}

Result<Outcome> SeizedProcess::execute_quietly(std::span<const std::byte> instruction,
                                               const user_regs_struct& registers, Nanoseconds timeout) {
  auto outcome = execute(instruction, registers, timeout);
  if (!outcome || outcome->kind != Outcome::Kind::kSignal) return outcome;
  if (auto done = drop_trap(timeout); !done) return done.error();
  return outcome;
}

/// A filter's signal comes before the trap of the step, which is then still to come, and would be the next step's.
Result<void> SeizedProcess::drop_trap(Nanoseconds timeout) {
  std::array<siginfo_t, kMaximumPending> pending{};
  __ptrace_peeksiginfo_args which{0, 0, kMaximumPending};
  const long count = trace(PTRACE_PEEKSIGINFO, pid_, address_of(&which), address_of(pending.data()));
  if (count < 0) return trace_error("cannot read the signals of", pid_);
  const auto found = std::span(pending).first(static_cast<std::size_t>(count));
  if (std::none_of(found.begin(), found.end(), [](const siginfo_t& one) { return one.si_signo == SIGTRAP; })) return {};
  if (trace(PTRACE_CONT, pid_, 0, 0) != 0) return trace_error("cannot continue", pid_);
  const auto status = wait(timeout);
  if (!status) return status.error();
  if (!WIFSTOPPED(*status)) pid_ = -1;
  return {};
}

Result<Outcome> SeizedProcess::probe_32_bit(const Call& call, Nanoseconds timeout) {
  user_regs_struct registers = fresh_registers();
  registers.rax = call.number;
  registers.rbx = call.arguments[0];
  registers.rcx = call.arguments[1];
  registers.rdx = call.arguments[2];
  registers.rsi = call.arguments[3];
  registers.rdi = call.arguments[4];
  registers.rbp = call.arguments[5];
  return execute_quietly(kSystemCall32, registers, timeout);
}

Result<Outcome> SeizedProcess::probe_store(std::uint64_t address, std::uint8_t value) {
  user_regs_struct registers = fresh_registers();
  registers.rdi = address;
  registers.rsi = value;
  return execute_quietly(kStoreByte, registers, kDefaultTimeout);
}

Result<Outcome> SeizedProcess::probe_load(std::uint64_t address) {
  user_regs_struct registers = fresh_registers();
  registers.rdi = address;
  return execute_quietly(kLoadByte, registers, kDefaultTimeout);
}

Result<std::vector<std::byte>> SeizedProcess::read(std::uint64_t address, std::size_t size) const {
  std::vector<std::byte> bytes(size);
  const iovec here{bytes.data(), size};
  const iovec there = piece(address, size);
  if (::process_vm_readv(pid_, &here, 1, &there, 1, 0) != static_cast<ssize_t>(size)) {
    return trace_error("cannot read memory of", pid_);
  }
  return bytes;
}

Result<void> SeizedProcess::write(std::uint64_t address, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    // A word at a time: so the kernel writes past the page protection.
    const std::size_t size = bytes.size() < sizeof(long) ? bytes.size() : sizeof(long);
    errno = 0;
    auto word = static_cast<std::uint64_t>(trace(PTRACE_PEEKDATA, pid_, address, 0));
    if (errno != 0) return trace_error("cannot read memory of", pid_);
    std::memcpy(&word, bytes.data(), size);
    if (trace(PTRACE_POKEDATA, pid_, address, word) != 0) return trace_error("cannot write memory of", pid_);
    address += size;
    bytes = bytes.subspan(size);
  }
  return {};
}

Result<void> SeizedProcess::jump(std::uint64_t address) {
  if (released()) return Error{ErrorCode::kClosed, "no process is held"};
  user_regs_struct registers = fresh_registers();
  registers.rip = address;
  if (trace(PTRACE_SETREGS, pid_, 0, address_of(&registers)) != 0) {
    return trace_error("cannot set the registers of", pid_);
  }
  detach();
  return {};
}

Result<void> SeizedProcess::raise(Fault fault) {
  if (released()) return Error{ErrorCode::kClosed, "no process is held"};
  if (fault == Fault::kSegmentationFault) return jump(kNowhere);
  const auto& instruction = fault == Fault::kIllegalInstruction ? kIllegal : kJumpToItself;
  if (auto written = write(registers_.rip, instruction); !written) return written.error();
  return jump(registers_.rip);
}

void SeizedProcess::release() {
  detach();
}

void SeizedProcess::detach() {
  // No signal goes along: those that came wait in the queue.
  if (pid_ > 0) trace(PTRACE_DETACH, pid_, 0, 0);
  pid_ = -1;
}

}  // namespace bulkhead::fault
