#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sandbox/inspect.h"
#include "sandbox/landlock.h"
#include "tests/hostile/inside.h"

namespace bulkhead::hostile {
namespace {

using fault::Outcome;
using testing::eventually;
using testing::Node;

constexpr std::array<Role, 4> kKilledByTheFilter = {Role::kKeyholder, Role::kController, Role::kAcceptor,
                                                    Role::kMaintainer};
// Of each service on one node: one more and the node gives up on it.
constexpr std::size_t kDeathsOnANode = 4;
constexpr std::uint64_t kCalls = 512;
constexpr std::uint64_t kX32 = 0x40000000;
constexpr Outcome kKilled = {Outcome::Kind::kKilled, SIGSYS};
constexpr Outcome kTrapped = {Outcome::Kind::kSignal, SIGSYS};
constexpr Nanoseconds kStopTime = 10 * kSecond;
constexpr int kChannel = 3;

Outcome returned(std::int64_t value) {
  return {Outcome::Kind::kReturned, value};
}

Inside inside(const Node& node, Role role) {
  auto services = confined_services(node);
  const pid_t other = services[role == Role::kController ? Role::kAcceptor : Role::kController];
  auto entered = enter(services[role], other, kChannel);
  if (!entered) throw std::runtime_error(std::string(role_name(role)) + ": " + entered.error().text);
  return std::move(*entered);
}

bool wait_for_services(const Node& node) {
  return eventually([&] { return confined_services(node).size() == kConfinedRoles.size() - 1; },
                    testing::Milliseconds(20'000));
}

class EscapeFromService : public ConfinedNodeTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (const std::string why = obstacle(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
};

/// Where the kernel's Landlock does not know signals and all roles are one user, nothing stops the nursery.
bool may_end_others(Role role, const Attempt& attempt) {
#ifdef BULKHEAD_WITHOUT_NAMESPACES
  constexpr int kKnowsSignals = 6;
  return role == Role::kNursery && attempt.number == SYS_kill && sandbox::landlock_abi() < kKnowsSignals;
#else
  (void)role;
  (void)attempt;
  return false;
#endif
}

/// Makes every attempt that does not cost the process its life.
void attempt_quietly(const Node& node, Role role) {
  Inside held = inside(node, role);
  for (const Attempt& attempt : attempts(held.target)) {
    const Expectation expected = attempt.of(role);
    const bool trap = expected.fate == Fate::kViolation && role == Role::kNursery;
    if (may_end_others(role, attempt)) continue;
    if (expected.fate == Fate::kTask || (expected.fate == Fate::kViolation && !trap)) continue;
    const auto outcome = held.process.probe({attempt.number, attempt.arguments});
    ASSERT_TRUE(outcome) << role_name(role) << ", " << attempt.what << ": " << outcome.error().text;
    EXPECT_EQ(*outcome, trap ? kTrapped : returned(-expected.error_number)) << role_name(role) << ", " << attempt.what;
  }
}

TEST_P(EscapeFromService, ByWhatIsAnsweredLeavesItAlive) {
  ASSERT_NO_FATAL_FAILURE(start(options_of(GetParam(), 2)));
  auto before = confined_services(*node_);
  ASSERT_EQ(before.size(), kConfinedRoles.size() - 1);
  for (const auto& [role, pid] : before) ASSERT_NO_FATAL_FAILURE(attempt_quietly(*node_, role));
  EXPECT_EQ(confined_services(*node_), before);
  testing::Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));
}

TEST_P(EscapeFromService, FailsByTheFiltersThatAreInForce) {
  ASSERT_NO_FATAL_FAILURE(start(options_of(GetParam(), 2)));
  for (const auto& [role, pid] : confined_services(*node_)) {
    const auto filters = sandbox::read_filters(pid, kStopTime);
    if (!filters && filters.error().errno_value == EACCES) GTEST_SKIP() << "needs root, to be shown filters";
    ASSERT_TRUE(filters) << role_name(role) << ": " << filters.error().text;
    const auto names = passing_calls(role);
    for (std::uint64_t number = 0; number < kCalls; ++number) {
      const std::string name = sandbox::call_name(number);
      const bool named = std::find(names.begin(), names.end(), name) != names.end();
      EXPECT_EQ(sandbox::may_pass(*filters, static_cast<std::uint32_t>(number)), named)
          << role_name(role) << ": " << name;
      EXPECT_EQ(judge(*filters, kX32 | number, {}).answer, Answer::kKill) << role_name(role) << ": x32 " << name;
    }
    for (const Attempt& attempt : attempts({0x7ffc00001000, 4711, kChannel})) {
      if (attempt.of(role).fate != Fate::kViolation) continue;
      EXPECT_GE(judge(*filters, attempt.number, attempt.arguments).answer, Answer::kTrap)
          << role_name(role) << ", " << attempt.what;
    }
  }
}

TEST_P(EscapeFromService, OfTheNurseryEndsIt) {
  ASSERT_NO_FATAL_FAILURE(start(options_of(GetParam(), 2)));
  for (const std::uint64_t number : {std::uint64_t{SYS_ptrace}, kX32 | SYS_getpid}) {
    const pid_t before = confined_services(*node_)[Role::kNursery];
    Inside held = inside(*node_, Role::kNursery);
    const auto outcome = held.process.call({number});
    ASSERT_TRUE(outcome) << outcome.error().text;
    EXPECT_EQ(*outcome, kKilled) << describe(*outcome);
    EXPECT_TRUE(eventually([&] {
      auto now = confined_services(*node_);
      return now.contains(Role::kNursery) && now[Role::kNursery] != before;
    }));
  }
}

/// What is left to try for a service.
struct Agenda {
  Role role;
  std::vector<std::size_t> attempts;  ///< the last first
};

/// Each violation costs a start of the service, so a run makes a share of the attempts: of every two one at each level,
/// and where there are no namespaces, which do not touch the filter, each by one of the services. The filters
/// themselves are looked at whole, by FailsByTheFiltersThatAreInForce.
bool is_due([[maybe_unused]] const std::string& level, std::size_t attempt, [[maybe_unused]] std::size_t service) {
#ifdef BULKHEAD_WITHOUT_NAMESPACES
  return attempt % kKilledByTheFilter.size() == service;
#else
  return attempt % 2 == (level == "strict" ? 1U : 0U);
#endif
}

std::vector<Agenda> agendas(const std::string& level) {
  const auto list = attempts({});
  std::vector<Agenda> all;
  for (std::size_t service = 0; service < kKilledByTheFilter.size(); ++service) {
    const Role role = kKilledByTheFilter[service];
    Agenda agenda{role, {}};
    for (std::size_t i = list.size(); i-- > 0;) {
      if (!is_due(level, i, service)) continue;
      if (list[i].of(role).fate == Fate::kViolation) agenda.attempts.push_back(i);
    }
    all.push_back(std::move(agenda));
  }
  return all;
}

void attempt_one(const Node& node, Role role, std::size_t index) {
  Inside held = inside(node, role);
  const Attempt attempt = attempts(held.target)[index];
  const auto outcome = held.process.call({attempt.number, attempt.arguments});
  ASSERT_TRUE(outcome) << role_name(role) << ", " << attempt.what << ": " << outcome.error().text;
  EXPECT_EQ(*outcome, kKilled) << role_name(role) << ", " << attempt.what << ": " << describe(*outcome);
}

// Many nodes, because one gives up on a service that dies again and again; side by side, because it waits between.
TEST_P(EscapeFromService, EndsIt) {
  auto left = agendas(GetParam());
  const std::size_t longest = std::max_element(left.begin(), left.end(), [](const Agenda& a, const Agenda& b) {
                                return a.attempts.size() < b.attempts.size();
                              })->attempts.size();
  std::vector<std::unique_ptr<Node>> nodes;
  for (std::size_t i = 0; i * kDeathsOnANode < longest; ++i) {
    nodes.push_back(std::make_unique<Node>(options_of(GetParam(), 2)));
    const auto started = nodes.back()->start();
    ASSERT_TRUE(started) << started.error().text;
  }
  std::size_t made = 0;
  for (std::size_t round = 0; round < kDeathsOnANode; ++round) {
    for (const auto& node : nodes) {
      ASSERT_TRUE(wait_for_services(*node)) << node->log();
      for (Agenda& agenda : left) {
        if (agenda.attempts.empty()) continue;
        ASSERT_NO_FATAL_FAILURE(attempt_one(*node, agenda.role, agenda.attempts.back()));
        agenda.attempts.pop_back();
        ++made;
      }
    }
  }
  EXPECT_GE(made, 100U);
  for (const Agenda& agenda : left) EXPECT_TRUE(agenda.attempts.empty()) << role_name(agenda.role);
  for (const auto& node : nodes) {
    ASSERT_TRUE(wait_for_services(*node)) << node->log();
    testing::Peer peer = node->make_peer();
    EXPECT_TRUE(eventually([&] { return node->dial(peer) && peer.handshake(); })) << node->log();
  }
}

BULKHEAD_AT_EACH_LEVEL(EscapeFromService);

}  // namespace
}  // namespace bulkhead::hostile
