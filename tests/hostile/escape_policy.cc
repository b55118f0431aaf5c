#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "sandbox/confine.h"
#include "sandbox/inspect.h"
#include "tests/hostile/escape_table.h"

namespace bulkhead::hostile {
namespace {

constexpr std::uint32_t kCalls = 1024;

/// All in force for a process of the role.
std::vector<sandbox::Program> filters_of(Role role) {
  std::vector<sandbox::Program> filters;
  const auto add = [&filters](Role of) {
    auto program = sandbox::compile_policy(of);
    ASSERT_TRUE(program) << program.error().text;
    filters.push_back(std::move(*program));
  };
  if (role == Role::kConn) add(Role::kNursery);
  add(role);
  return filters;
}

TEST(EscapeTable, SaysOfEveryAttemptWhatThePolicySays) {
  const Target target{0x7ffc00001000, 4711, 4};
  for (const Role role : kConfinedRoles) {
    const auto filters = filters_of(role);
    const Answer hard = role == Role::kConn || role == Role::kNursery ? Answer::kTrap : Answer::kKill;
    for (const Attempt& attempt : attempts(target)) {
      const Expectation expected = attempt.of(role);
      const Judgement said = judge(filters, attempt.number, attempt.arguments);
      const std::string what = std::string(role_name(role)) + ": " + attempt.what;
      switch (expected.fate) {
        case Fate::kViolation:
          EXPECT_EQ(said.answer, hard) << what;
          break;
        case Fate::kAnswered:
          EXPECT_EQ(said.answer, Answer::kError) << what;
          EXPECT_EQ(said.error_number, expected.error_number) << what;
          break;
        case Fate::kRefused:
        case Fate::kTask:
          EXPECT_EQ(said.answer, Answer::kAllow) << what;
          break;
      }
    }
  }
}

TEST(EscapeTable, NamesEveryCallThatARoleMayMake) {
  for (const Role role : kConfinedRoles) {
    const auto filters = filters_of(role);
    std::set<std::string> passing;
    for (std::uint32_t number = 0; number < kCalls; ++number) {
      if (sandbox::may_pass(filters, number)) passing.insert(sandbox::call_name(number));
    }
    const auto named = passing_calls(role);
    EXPECT_EQ(passing, std::set<std::string>(named.begin(), named.end()))
        << role_name(role) << ": a call that is newly allowed needs attempts to misuse it in escape_table.cc";
  }
}

TEST(EscapeTable, HasEachAttemptOnce) {
  std::set<std::string> names;
  for (const Attempt& attempt : attempts({})) EXPECT_TRUE(names.insert(attempt.what).second) << attempt.what;
  EXPECT_GT(names.size(), 100U);
}

}  // namespace
}  // namespace bulkhead::hostile
