#include "services/controller/supervisor/listeners.h"

#include <gtest/gtest.h>

#include "base/address.h"

namespace bulkhead::supervisor {
namespace {

using Found = std::vector<std::optional<Point>>;
using Matches = std::vector<std::optional<std::size_t>>;

Point at(const char* text) {
  return *parse_point(text);
}

Matches match(const std::vector<Point>& wanted, const Found& found) {
  return match_listeners(wanted, found);
}

TEST(MatchListeners, FindsEachPointWhereverItsSocketStands) {
  EXPECT_EQ(match({at("127.0.0.1:1"), at("[::]:2")}, {at("[::]:2"), at("127.0.0.1:1")}), (Matches{1, 0}));
}

TEST(MatchListeners, TakesTheVerySameAddressAndPortOnly) {
  EXPECT_EQ(match({at("127.0.0.1:1")}, {at("127.0.0.1:2"), at("127.0.0.2:1"), at("[::]:1"), at("0.0.0.0:1")}),
            (Matches{std::nullopt}));
}

TEST(MatchListeners, TakesNoSocketTwice) {
  EXPECT_EQ(match({at("127.0.0.1:1"), at("127.0.0.1:1")}, {at("127.0.0.1:1")}), (Matches{0, std::nullopt}));
}

TEST(MatchListeners, PassesOverWhatIsNoListeningSocket) {
  EXPECT_EQ(match({at("127.0.0.1:1")}, {std::nullopt, at("127.0.0.1:1")}), (Matches{1}));
}

TEST(MatchListeners, MakesAnewWhatMayHaveAnyPort) {
  EXPECT_EQ(match({at("127.0.0.1:0")}, {at("127.0.0.1:0"), at("127.0.0.1:7")}), (Matches{std::nullopt}));
}

TEST(MatchListeners, FindsNothingInNothing) {
  EXPECT_EQ(match({at("127.0.0.1:1")}, {}), (Matches{std::nullopt}));
  EXPECT_EQ(match({}, {at("127.0.0.1:1")}), Matches{});
}

TEST(StoredName, HasNoColonAndTellsPointsApart) {
  EXPECT_EQ(stored_name(at("127.0.0.1:9732")), "peers-127.0.0.1_9732");
  EXPECT_EQ(stored_name(at("[2001:db8::1]:9732")), "peers-[2001_db8__1]_9732");
}

}  // namespace
}  // namespace bulkhead::supervisor
