#pragma once

#include <linux/openat2.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/un.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "sandbox/seccomp.h"

/// What code that took over a process would try, and what becomes of it: the list that all escape tests share.
namespace bulkhead::hostile {

inline constexpr std::array<Role, 6> kConfinedRoles = {Role::kConn,     Role::kKeyholder,  Role::kController,
                                                       Role::kAcceptor, Role::kMaintainer, Role::kNursery};

enum class Fate : std::uint8_t {
  kViolation,  ///< the filter ends the process
  kAnswered,   ///< the filter answers with an error
  kRefused,    ///< the filter lets it pass, another layer answers with an error
  kTask,       ///< it is what the role is there for; not tried
};

struct Expectation {
  Fate fate = Fate::kViolation;
  int error_number = 0;  ///< of kAnswered and kRefused
};

struct Exception {
  Role role;
  Expectation expectation;
};

struct Attempt {
  const char* what;
  std::uint64_t number;
  std::array<std::uint64_t, 6> arguments = {};
  Expectation usually = {};
  std::vector<Exception> but = {};

  Expectation of(Role role) const;
};

/// Data that attempts point to; it is written into the memory of the process that makes them.
struct EscapeData {
  std::array<char, 16> file = {};
  std::array<char, 24> descriptor = {};
  std::array<char, 24> new_file = {};
  std::array<char, 8> root = {};
  std::array<char, 16> program = {};
  std::array<char, 8> kind = {};
  sockaddr_in internet = {};
  sockaddr_un local = {};
  rlimit more = {};
  open_how how = {};
  std::array<std::uint64_t, 11> clone_arguments = {};
  std::array<std::uint32_t, 2> capability_header = {};
  std::array<std::uint32_t, 6> capability_data = {};
  std::array<std::uint64_t, 16> scratch = {};
};
EscapeData escape_data();

/// What an attempt refers to, as the process that makes it sees it.
struct Target {
  std::uint64_t data = 0;        ///< where its EscapeData stands, in private memory that may be written
  std::uint64_t other_pid = 0;   ///< of another process of the node
  std::uint64_t descriptor = 0;  ///< of a descriptor that it holds
};

std::vector<Attempt> attempts(const Target& target);

/// The calls that some argument lets pass the filters of the role, by name, in order. Whoever gives a role a further
/// call writes it down here, and above what must not come of it.
std::vector<std::string> passing_calls(Role role);

/// What the filters, all in force for a process, do to a call: the hardest action wins. Nothing for a broken filter.
enum class Answer : std::uint8_t { kAllow, kError, kTrap, kKill };
struct Judgement {
  Answer answer = Answer::kAllow;
  int error_number = 0;
};
Judgement judge(const std::vector<sandbox::Program>& filters, std::uint64_t number,
                const std::array<std::uint64_t, 6>& arguments);

}  // namespace bulkhead::hostile
