#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace bulkhead {

/// What kind of failure an Error is, for callers that act on it.
enum class ErrorCode : std::uint8_t {
  kInvalid,     ///< the input breaks a rule
  kTooLarge,    ///< a length is above its limit
  kTruncated,   ///< the input ends too early
  kClosed,      ///< the other side is gone
  kWouldBlock,  ///< nothing to do now; try again when woken
  kRefused,     ///< the other side, or a rule, says no
  kNotFound,    ///< what was asked for is not there
  kBroken,      ///< the other side of shared memory or of a channel broke its contract
  kSystem,      ///< a system call failed; errno_value says why
};

/// A failure as a value. `text` is one line for a person: what, where and the remedy; it never holds a secret.
struct Error {
  ErrorCode code = ErrorCode::kInvalid;
  std::string text;
  int errno_value = 0;
};

/// Builds a kSystem error from the current errno: "what: strerror".
Error system_error(std::string what);

/// A value or an Error. Reading the absent one is a bug of the caller and throws std::bad_variant_access.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const { return state_.index() == 0; }
  bool ok() const { return state_.index() == 0; }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

struct Nothing {};

/// Success without a value, or an Error.
template <>
class [[nodiscard]] Result<void> : public Result<Nothing> {
 public:
  Result() : Result<Nothing>(Nothing{}) {}
  Result(Error error) : Result<Nothing>(std::move(error)) {}
};

}  // namespace bulkhead
