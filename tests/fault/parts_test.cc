#include <gtest/gtest.h>

#include <map>
#include <set>

#include "services/controller/cli/fault/campaign.h"
#include "services/controller/cli/fault/traffic.h"

namespace bulkhead::fault {
namespace {

constexpr Pattern kPattern{};

Place place(std::uint64_t number, std::uint32_t epoch = 1) {
  return {.peer = 3, .way = Way::kToPeer, .epoch = epoch, .number = number};
}

std::vector<std::uint8_t> body(const Place& of, std::uint32_t incarnation = 1) {
  std::vector<std::uint8_t> bytes;
  make_body(kPattern, of, incarnation, bytes);
  return bytes;
}

Finding judge_as(const Place& expected, const Place& came) {
  return judge(kPattern, expected, tag_of(came), body(came));
}

/// The first number from `from` on whose body is empty, or is not.
std::uint64_t find_number(std::uint64_t from, bool empty) {
  while ((body_size(kPattern, place(from)) == 0) != empty) ++from;
  return from;
}

TEST(FaultTraffic, HasAllSizesUpToMoreThanHalfARing) {
  std::map<std::string, int> seen;
  for (std::uint64_t number = 1; number <= 3000; ++number) {
    const std::size_t size = body_size(kPattern, place(number));
    ASSERT_LE(size, Pattern::kMaximumBody);
    ++seen[size == 0 ? "empty" : size <= 1024 ? "small" : size <= 100 * 1024 ? "middle" : "large"];
  }
  EXPECT_EQ(seen.size(), 4U);
  EXPECT_GT(seen["small"], seen["middle"]);
  EXPECT_GT(seen["middle"], seen["large"]);
}

TEST(FaultTraffic, KnowsTheMessageThatMustCome) {
  for (std::uint64_t number = 1; number <= 300; ++number) {
    const Finding finding = judge_as(place(number), place(number));
    ASSERT_TRUE(finding.right()) << number;
  }
  EXPECT_EQ(judge(kPattern, place(1), tag_of(place(1)), body(place(1), 7)).incarnation, 7U);
}

TEST(FaultTraffic, TellsLossFromRepetition) {
  const std::uint64_t number = find_number(50, false);
  EXPECT_EQ(judge_as(place(number + 1), place(number)).kind, Finding::Kind::kRepeated);
  EXPECT_EQ(judge_as(place(number + 5), place(number)).kind, Finding::Kind::kEarlier);
  EXPECT_EQ(judge_as(place(number - 2), place(number)).kind, Finding::Kind::kLater);
  EXPECT_EQ(judge_as(place(1, 2), place(number)).kind, Finding::Kind::kOtherEpoch);
  EXPECT_NE(describe(judge_as(place(number - 2), place(number)), place(number - 2)).find("2 are lost"),
            std::string::npos);
}

TEST(FaultTraffic, NoticesOneByteThatIsNotAsItWasSent) {
  const Place here = place(find_number(10, false));
  for (const std::size_t at : {std::size_t{0}, std::size_t{17}, body(here).size() - 1}) {
    auto bytes = body(here);
    bytes[at] ^= 1;
    EXPECT_EQ(judge(kPattern, here, tag_of(here), bytes).kind, Finding::Kind::kAltered) << at;
  }
  auto shorter = body(here);
  shorter.pop_back();
  EXPECT_EQ(judge(kPattern, here, tag_of(here), shorter).kind, Finding::Kind::kAltered);
}

TEST(FaultTraffic, NoticesAnEmptyMessageOutOfItsPlace) {
  const Place here = place(find_number(10, true));
  EXPECT_TRUE(judge_as(here, here).right());
  Place before = here;
  --before.number;
  EXPECT_FALSE(judge_as(before, here).right());
}

TEST(FaultTraffic, BeginsEachConnectionWithMessagesThatSayWhichItIs) {
  for (std::uint32_t epoch = 1; epoch < 200; ++epoch) {
    ASSERT_GE(body_size(kPattern, place(1, epoch)), 40U);
    ASSERT_GE(body_size(kPattern, place(2, epoch)), 40U);
  }
}

TEST(FaultCampaign, NamesWhatAnOrdinaryUserCannotDo) {
  const CampaignOptions all{.means = {.privileged = false}};
  const auto omitted = left_out(all);
  const auto contains = [&](const std::string& text) {
    return std::find(omitted.begin(), omitted.end(), text) != omitted.end();
  };
  EXPECT_TRUE(contains("segv worker (needs root)"));
  EXPECT_TRUE(contains("ring worker (needs root)"));
  EXPECT_FALSE(contains("kill worker (needs root)"));
  for (const auto& [target, harm] : kinds(all)) EXPECT_TRUE(missing(target, harm, all.means).empty());
  EXPECT_TRUE(left_out({.means = {.privileged = true}}).empty());
}

TEST(FaultCampaign, KeepsToWhatWasAskedFor) {
  const CampaignOptions some{.targets = {Target::kWorker}, .means = {}, .harms = {Harm::kKill, Harm::kStop}};
  const auto chosen = kinds(some);
  ASSERT_EQ(chosen.size(), 2U);
  for (const auto& [target, harm] : chosen) EXPECT_EQ(target, Target::kWorker);
}

TEST(FaultCampaign, NamesWhatWasAskedForAndDoesNotApplyOrDidNotCome) {
  const CampaignOptions some{.targets = {Target::kApplication, Target::kWorker},
                             .means = {.privileged = true, .confined = true},
                             .harms = {Harm::kHang, Harm::kRing}};
  EXPECT_EQ(left_out(some), (std::vector<std::string>{"hang application (does not apply to this role)",
                                                      "ring application (does not apply to this role)"}));
  CampaignRow rings;
  rings.harm = Harm::kRing;
  EXPECT_EQ(not_struck(some, {rings}), (std::vector<std::string>{"hang"}));
  EXPECT_TRUE(not_struck({.means = some.means}, {}).empty()) << "nothing was asked for by name";
}

TEST(FaultCampaign, DoesEverythingInTurn) {
  const auto all = kinds({.means = {.privileged = true}});
  std::map<std::pair<Target, Harm>, std::uint64_t> done;
  Random random(5);
  for (int i = 0; i < 400; ++i) {
    const auto harm = next_harm(all, done, Target::kController, true, random.next());
    ASSERT_TRUE(harm);
    ++done[{Target::kController, *harm}];
  }
  for (const auto& kind : all) {
    if (kind.first != Target::kController) continue;
    EXPECT_GT(done[kind], 0U) << harm_name(kind.second);
  }
  const std::uint64_t kills = done[std::pair(Target::kController, Harm::kKill)];
  EXPECT_GT(kills, 2 * done[std::pair(Target::kController, Harm::kStop)]);
  EXPECT_FALSE(next_harm({{Target::kWorker, Harm::kHang}}, {}, Target::kWorker, false, 1)) << "a slow one, not now";
}

TEST(FaultCampaign, SumsUpByRoleAndFault) {
  std::vector<Strike> strikes(3);
  strikes[0].at = strikes[1].at = 10;
  strikes[0].died = 12;
  strikes[0].back = 20;
  strikes[1].died = 11;
  strikes[1].failure = "too late";
  strikes[2].target = Target::kNursery;
  const auto rows = sum_up(strikes);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].times, 2U);
  EXPECT_EQ(rows[0].failures, 1U);
  EXPECT_EQ(rows[0].gone, (std::vector<Nanoseconds>{1, 2}));
  EXPECT_EQ(rows[0].back, (std::vector<Nanoseconds>{10}));
}

TEST(FaultLeaks, AreNamed) {
  NodeUse before;
  before.processes = 9;
  before.slots = 4;
  before.services["acceptor"] = {.descriptors = 12, .descriptors_known = true, .private_bytes = 1000};
  NodeUse after = before;
  EXPECT_TRUE(leaks(before, after).empty());
  after.services["acceptor"].descriptors = 13;
  after.slots = 5;
  const auto found = leaks(before, after);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_NE((found[0] + found[1]).find("descriptors of the acceptor: 12 before, 13 after"), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::fault
