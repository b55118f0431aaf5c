#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"

namespace bulkhead::supervisor {

/// The file name of a service's program; empty for who has none of its own.
const char* program_of(Role role);

/// Starts `program` with `channel` as its descriptor 3, standard error shared, standard input and output /dev/null, and
/// no other descriptor. Returns its process id; an exec that fails is an error here.
Result<pid_t> start_service(const std::string& program, int channel);

/// Runs a program with this process's standard error, to its end. Returns its exit status, or 128 plus the signal.
Result<int> run_program(const std::string& program, const std::vector<std::string>& arguments);

}  // namespace bulkhead::supervisor
