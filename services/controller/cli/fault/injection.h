#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

/// Makes another process do what its own program never would: an instrument for tests, and for faults raised on
/// purpose. x86-64 Linux. Whoever uses it needs CAP_SYS_PTRACE, as root has it.
namespace bulkhead::fault {

/// A system call as registers hold it.
struct Call {
  std::uint64_t number = 0;
  std::array<std::uint64_t, 6> arguments = {};
};

/// What came of an instruction that another process was made to carry out.
struct Outcome {
  enum class Kind : std::uint8_t {
    kReturned,  ///< `value` is what stands in the result's register: for a call its return value, -errno on failure
    kSignal,    ///< it raised signal `value` (SIGSYS: a filter trapped the call); the process is there yet
    kExited,    ///< the process ended with exit status `value`
    kKilled,    ///< the process was ended by signal `value`
  };
  Kind kind = Kind::kReturned;
  std::int64_t value = 0;

  bool ended() const { return kind == Kind::kExited || kind == Kind::kKilled; }
  bool operator==(const Outcome&) const = default;
};

/// "returned -1 (Operation not permitted)", "raised signal 31", "exit status 14", "killed by signal 31".
std::string describe(const Outcome& outcome);

/// Faults that are raised inside a process, as its own defect would raise them.
enum class Fault : std::uint8_t {
  kSegmentationFault,   ///< jumps to where nothing is mapped: SIGSEGV
  kIllegalInstruction,  ///< SIGILL
  kEndlessLoop,         ///< spins from now on, and does nothing else
};

/// Holds a process of one thread still by ptrace, and lets it go on when this object goes, as if nothing had been: a
/// system call in which it waited is begun again or fails with EINTR, as after a signal that has no handler; signals
/// that come meanwhile are delivered then; one that was stopped stays stopped. Should the holder die while an
/// instruction is carried out, the process goes on with wrong registers.
///
/// A process in a seccomp filter stays in it: what is done here is what code inside it could do.
/// All functions are for the thread that seized. They block, each for at most its timeout. The end of a process that is
/// the caller's own child is reaped here; another's parent still learns of it.
class SeizedProcess {
 public:
  /// Stops process `pid`. kNotFound: it is gone; kRefused: it may not be traced, or is being traced already;
  /// errno_value ETIMEDOUT: it did not stop in time.
  static Result<SeizedProcess> seize(pid_t pid, Nanoseconds timeout = kDefaultTimeout);
  SeizedProcess(SeizedProcess&& other) noexcept;
  SeizedProcess& operator=(SeizedProcess&&) = delete;
  SeizedProcess(const SeizedProcess&) = delete;
  ~SeizedProcess();

  pid_t pid() const { return pid_; }
  /// True once nothing is held any more: it ended, or was let go.
  bool released() const { return pid_ <= 0; }

  /// Has it make a system call, with all that follows: a signal that the call raises is delivered, and the process's
  /// end is waited for; kSignal means that it lived on until the timeout. A call that does not return in time
  /// is interrupted, and gives -EINTR or a number of the kernel's own (-512 to -516). A process that the call makes is
  /// killed before its first instruction. After a successful execve the process cannot go on.
  Result<Outcome> call(const Call& call, Nanoseconds timeout = kDefaultTimeout);
  /// As call(), but a signal that the call raises is held back and never delivered: the process is as it was before.
  /// (One that a filter kills at once ends here too.)
  Result<Outcome> probe(const Call& call, Nanoseconds timeout = kDefaultTimeout);
  /// As probe(), by the entry of 32-bit programs (int 0x80), with the numbers that these have.
  Result<Outcome> probe_32_bit(const Call& call, Nanoseconds timeout = kDefaultTimeout);
  /// As probe(): writes one byte to `address` by an instruction of the process itself, under its page protection.
  Result<Outcome> probe_store(std::uint64_t address, std::uint8_t value);
  /// As probe(): reads one byte, which is the outcome's value.
  Result<Outcome> probe_load(std::uint64_t address);

  /// Its memory, whatever its page protection says. All of it or an error.
  Result<std::vector<std::byte>> read(std::uint64_t address, std::size_t size) const;
  Result<void> write(std::uint64_t address, std::span<const std::byte> bytes) const;
  std::uint64_t instruction_pointer() const { return registers_.rip; }
  /// Below this, its stack has room for whatever a call is to point to.
  std::uint64_t stack_pointer() const { return registers_.rsp; }

  /// Lets it go on at `address`. A system call in which it waited is forgotten.
  Result<void> jump(std::uint64_t address);
  /// Lets it go, into the fault. The kernel ends the first process of a PID namespace by a fault of its own, too.
  Result<void> raise(Fault fault);
  /// Lets it go on, now.
  void release();

 private:
  static constexpr Nanoseconds kDefaultTimeout = 10 * kSecond;

  explicit SeizedProcess(pid_t pid) : pid_(pid) {}

  Result<void> stop(Nanoseconds timeout);
  Result<int> wait(Nanoseconds timeout);
  Result<Outcome> execute(std::span<const std::byte> instruction, const user_regs_struct& registers,
                          Nanoseconds timeout);
  Result<Outcome> execute_quietly(std::span<const std::byte> instruction, const user_regs_struct& registers,
                                  Nanoseconds timeout);
  Result<Outcome> step(Nanoseconds timeout);
  Result<void> drop_trap(Nanoseconds timeout);
  Result<Outcome> deliver(int signal, Nanoseconds timeout);
  Result<void> restore(std::uint64_t address, std::span<const std::byte> code);
  user_regs_struct fresh_registers() const;
  user_regs_struct registers_of(const Call& call) const;
  void end_new_process();
  Outcome ended(int status);
  void detach();

  pid_t pid_ = -1;
  user_regs_struct registers_ = {};
  std::uint64_t signal_mask_ = 0;
};

}  // namespace bulkhead::fault
