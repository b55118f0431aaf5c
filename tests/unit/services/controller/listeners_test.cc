#include "services/controller/supervisor/listeners.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

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

TEST(OpenDiscovery, SharesItsPortAndMayBroadcast) {
  const auto first = open_discovery(0);
  ASSERT_TRUE(first) << first.error().text;
  const auto where = bound_point(first->get());
  ASSERT_TRUE(where);
  EXPECT_EQ(where->address, at("0.0.0.0:1").address);
  const auto second = open_discovery(where->port);
  ASSERT_TRUE(second) << second.error().text;
  int broadcasts = 0;
  socklen_t size = sizeof broadcasts;
  EXPECT_EQ(::getsockopt(second->get(), SOL_SOCKET, SO_BROADCAST, &broadcasts, &size), 0);
  EXPECT_NE(broadcasts, 0);
}

TEST(OpenDiscovery, SaysWhatToDoWhenSomebodyHasThePortForHimself) {
  const UniqueFd other(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  ASSERT_EQ(::bind(other.get(), static_cast<sockaddr*>(static_cast<void*>(&name)), sizeof name), 0);
  const auto where = bound_point(other.get());
  ASSERT_TRUE(where);
  const auto opened = open_discovery(where->port);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().text, "cannot bind UDP port " + std::to_string(where->port) +
                                     " for LAN discovery: Address already in use; choose another with "
                                     "--discovery-addr, or leave it out");
}

}  // namespace
}  // namespace bulkhead::supervisor
