#pragma once

#include "base/exit_codes.h"
#include "base/result.h"

/// The command line program. Everything here runs in the caller's process, on one thread unless said otherwise.
namespace bulkhead::cli {

/// How an Error of this folder becomes an exit status: kInvalid is wrong usage, kNotFound is "no node runs there",
/// everything else is a failure. Errors of other folders are given one of these codes where they are passed on.
inline ProgramExit exit_of(const Error& error) {
  if (error.code == ErrorCode::kInvalid) return ProgramExit::kUsage;
  if (error.code == ErrorCode::kNotFound) return ProgramExit::kNoNode;
  return ProgramExit::kFailed;
}

inline Error usage_error(std::string text) {
  return Error{ErrorCode::kInvalid, std::move(text)};
}
inline Error failure(std::string text) {
  return Error{ErrorCode::kRefused, std::move(text)};
}

}  // namespace bulkhead::cli
