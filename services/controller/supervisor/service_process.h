#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"

namespace bulkhead::supervisor {

/// The file name of a service's program; empty for who has none of its own.
const char* program_of(Role role);

/// A process between fork and exec, or after it.
struct StartedProcess {
  pid_t pid = 0;
  UniqueFd report;  ///< non-blocking; what went wrong on the way to the program, and its end when there is no more
};

/// What went wrong on the way to a program.
struct StartFailure {
  enum class Step : std::uint8_t { kGroup, kExec };
  Step step = Step::kExec;
  int errno_value = 0;
};

/// Forks, and returns without waiting for the exec: on a loaded machine that takes its time, and other children end
/// meanwhile. The child enters the control groups whose cgroup.procs files `groups` are, and becomes `program` with
/// `channel` as its descriptor 3, standard error shared, standard input and output /dev/null, and no other descriptor.
/// A group that does not take it is reported, and it goes on; an exec that fails is reported, and it ends.
Result<StartedProcess> start_service(const std::string& program, int channel, std::span<const int> groups = {});

/// The next failure of a process that was started; none when there is none, or none yet. Does not block.
std::optional<StartFailure> start_failure(const StartedProcess& started);

/// Of a program that could not be started, for the operator.
std::string cannot_start(const std::string& program, int errno_value);

/// Runs a program with this process's standard error, to its end. Returns its exit status, or 128 plus the signal.
Result<int> run_program(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace bulkhead::supervisor
