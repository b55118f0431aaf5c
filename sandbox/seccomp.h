#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace bulkhead::sandbox {

/// One condition on an argument: (argument & mask) == value. Equality alone: libseccomp 2.5.4 can merge ordered
/// comparisons of one argument into a wrong filter (GHSA-4q85-33p6-j5g6).
struct ArgumentRule {
  unsigned int index = 0;
  std::uint64_t mask = ~std::uint64_t{0};
  std::uint64_t value = 0;
};

/// A system call that a role may make, when all conditions hold; or one that fails with `error_number` instead of
/// ending the process, where a library asks for it and can do without.
struct CallRule {
  const char* name = nullptr;
  std::vector<ArgumentRule> arguments = {};
  int error_number = 0;  ///< 0: allowed
};

enum class Violation : std::uint8_t {
  kKillProcess,  ///< the process ends with SIGSYS
  kTrap,         ///< SIGSYS is delivered: a handler set before may note the call's number before it ends the process
};

/// A compiled filter. It is built once, by one who may still allocate and open, and installed by many.
struct Program {
  std::vector<sock_filter> instructions;
};

Result<Program> compile(std::span<const CallRule> rules, Violation violation);

/// The number of a system call on this machine; negative when it has none of this name.
int call_number(const char* name);

/// The name of a system call, for people; "call 1234" when the number is not known.
std::string call_name(std::uint64_t number);

/// Sets no_new_privs and installs the filter for this process, which must have one thread. Makes no other call.
Result<void> install(const Program& program);

}  // namespace bulkhead::sandbox
