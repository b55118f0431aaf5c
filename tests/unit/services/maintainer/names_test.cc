#include "services/maintainer/names.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/address.h"

namespace bulkhead::maintainer {
namespace {

Address address(const char* text) {
  return parse_address(text).value();
}

std::vector<Address> addresses(std::initializer_list<const char*> texts) {
  std::vector<Address> all;
  for (const char* text : texts) all.push_back(address(text));
  return all;
}

Address numbered(unsigned int number) {
  Address made = address("8.0.0.0");
  made.bytes[14] = static_cast<std::uint8_t>(number >> 8);
  made.bytes[15] = static_cast<std::uint8_t>(number);
  return made;
}

PeerId peer_id(std::uint8_t number) {
  PeerId id{};
  id[0] = number;
  return id;
}

/// Names without chance: nothing is added to a time.
struct Fixture {
  explicit Fixture(std::vector<schema::ConfiguredPeer> peers) : names(peers, [] { return std::uint64_t{0}; }) {}

  Names::Outcome answer(const std::string& name, std::vector<Address> with, std::uint32_t ttl_s = 60) {
    return names.answered(name, {std::move(with), ttl_s}, now);
  }
  Names::Outcome ask_and_answer(const std::string& name, std::vector<Address> with, std::uint32_t ttl_s = 60) {
    const auto due = names.due(now);
    EXPECT_NE(std::find(due.begin(), due.end(), name), due.end());
    return answer(name, std::move(with), ttl_s);
  }
  /// "+1.2.3.4:5 -5.6.7.8:9", and told from then on.
  std::string tell() {
    std::string text;
    for (const auto& change : names.untold()) {
      text += (text.empty() ? "" : " ") + std::string(change.configured ? "+" : "-") + to_text(change.point);
      if (change.expected_peer_id) text += "#" + std::to_string((*change.expected_peer_id)[0]);
      names.told(change);
    }
    return text;
  }
  void pass(Nanoseconds time) { now += time; }

  Nanoseconds now = 1000 * kSecond;
  Names names;
};

TEST(Names, OfLiteralAddressesAreToldWithoutALookUp) {
  Fixture fixture({{"10.0.0.1", 5, {}}, {"::1", 9732, peer_id(7)}});
  EXPECT_TRUE(fixture.names.due(fixture.now).empty());
  EXPECT_EQ(fixture.names.next(), std::nullopt);
  EXPECT_EQ(fixture.tell(), "+[::1]:9732#7 +10.0.0.1:5");
  EXPECT_EQ(fixture.tell(), "");
}

TEST(Names, AreAskedForOnceHoweverManyPeersHaveThem) {
  Fixture fixture({{"a.example", 1, {}}, {"a.example", 2, peer_id(3)}});
  EXPECT_EQ(fixture.names.due(fixture.now), std::vector<std::string>{"a.example"});
  EXPECT_TRUE(fixture.names.due(fixture.now).empty()) << "under way";
  EXPECT_EQ(fixture.names.next(), std::nullopt);
  fixture.answer("a.example", addresses({"8.8.8.8"}));
  EXPECT_EQ(fixture.tell(), "+8.8.8.8:1 +8.8.8.8:2#3");
}

TEST(Names, AreAskedForAgainWhenTheirAnswerIsOverWithinBounds) {
  Fixture fixture({{"a.example", 1, {}}});
  const auto wait_after = [&](std::uint32_t ttl_s) {
    fixture.ask_and_answer("a.example", addresses({"8.8.8.8"}), ttl_s);
    const Nanoseconds wait = *fixture.names.next() - fixture.now;
    EXPECT_TRUE(fixture.names.due(fixture.now + wait - 1).empty());
    fixture.pass(wait);
    return wait;
  };
  EXPECT_EQ(wait_after(300), 300 * kSecond);
  EXPECT_EQ(wait_after(0), kShortestRefresh);
  EXPECT_EQ(wait_after(1), kShortestRefresh);
  EXPECT_EQ(wait_after(86400), kLongestRefresh);
  EXPECT_EQ(wait_after(UINT32_MAX), kLongestRefresh);
}

TEST(Names, ThatFailAreAskedForWithPausesThatDoubleAndLoseNothing) {
  Fixture fixture({{"a.example", 1, {}}});
  EXPECT_EQ(fixture.ask_and_answer("a.example", addresses({"8.8.8.8"})), Names::Outcome::kUsual);
  EXPECT_EQ(fixture.tell(), "+8.8.8.8:1");
  fixture.pass(kShortestRefresh);
  EXPECT_EQ(fixture.ask_and_answer("a.example", {}), Names::Outcome::kFailed);
  Nanoseconds expected = kFirstRetry;
  for (int failure = 0; failure < 20; ++failure) {
    EXPECT_EQ(*fixture.names.next() - fixture.now, expected);
    fixture.pass(expected);
    EXPECT_EQ(fixture.ask_and_answer("a.example", {}), Names::Outcome::kStillFailed);
    expected = std::min(expected * 2, kLongestRetry);
  }
  EXPECT_EQ(fixture.tell(), "") << "a failure takes no address away";
  fixture.pass(kLongestRetry);
  EXPECT_EQ(fixture.ask_and_answer("a.example", addresses({"8.8.8.8"})), Names::Outcome::kWellAgain);
  fixture.pass(kShortestRefresh);
  EXPECT_EQ(fixture.ask_and_answer("a.example", {}), Names::Outcome::kFailed) << "from the first pause again";
  EXPECT_EQ(*fixture.names.next() - fixture.now, kFirstRetry);
}

TEST(Names, AreNotAskedForAtTheSameMomentByEverybody) {
  std::uint64_t drawn = 0;
  Names names({{"a.example", 1, {}}}, [&] { return drawn; });
  drawn = ~std::uint64_t{0};
  names.due(0);
  names.answered("a.example", {addresses({"8.8.8.8"}), 100}, 0);
  EXPECT_GE(*names.next(), 100 * kSecond);
  EXPECT_LE(*names.next(), 125 * kSecond);
}

TEST(Names, LoseAnAddressThatAnswersLackForAnHour) {
  Fixture fixture({{"a.example", 1, {}}});
  fixture.ask_and_answer("a.example", addresses({"8.8.8.8", "9.9.9.9"}));
  EXPECT_EQ(fixture.tell(), "+8.8.8.8:1 +9.9.9.9:1");
  const Nanoseconds seen = fixture.now;
  while (fixture.now + kShortestRefresh < seen + kForgetAddress) {
    fixture.pass(kShortestRefresh);
    fixture.ask_and_answer("a.example", addresses({"9.9.9.9"}));
    ASSERT_EQ(fixture.tell(), "");
  }
  fixture.pass(kShortestRefresh);
  fixture.ask_and_answer("a.example", addresses({"9.9.9.9", "2a00::1"}));
  EXPECT_EQ(fixture.tell(), "-8.8.8.8:1 +[2a00::1]:1");
}

TEST(Names, KeepAnAddressThatAnotherPeerHas) {
  Fixture fixture({{"a.example", 1, {}}, {"b.example", 1, {}}, {"9.9.9.9", 1, {}}});
  fixture.names.due(fixture.now);
  fixture.answer("a.example", addresses({"8.8.8.8", "9.9.9.9"}), UINT32_MAX);
  fixture.answer("b.example", addresses({"8.8.8.8"}), UINT32_MAX);
  fixture.tell();
  fixture.pass(kLongestRefresh);
  fixture.names.due(fixture.now);
  fixture.answer("a.example", addresses({"7.7.7.7"}));
  EXPECT_EQ(fixture.tell(), "+7.7.7.7:1") << "a's others are still b's, and configured";
  fixture.answer("b.example", addresses({"7.7.7.7"}));
  EXPECT_EQ(fixture.tell(), "-8.8.8.8:1");
}

TEST(Names, HaveSoManyAddressesAtMostAndThoseOfTheLatestAnswer) {
  Fixture fixture({{"a.example", 1, {}}});
  std::vector<Address> many;
  for (unsigned int i = 0; i < 1000; ++i) many.push_back(numbered(i));
  fixture.ask_and_answer("a.example", many);
  EXPECT_EQ(fixture.names.untold().size(), kMaximumNameAddresses);
  fixture.tell();
  fixture.pass(kShortestRefresh);
  // Others each time, as a server with a thousand would give.
  fixture.ask_and_answer("a.example", {many.begin() + 100, many.begin() + 104});
  const auto changes = fixture.names.untold();
  ASSERT_EQ(changes.size(), 8U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_FALSE(changes[i].configured);
  for (unsigned int i = 0; i < 4; ++i) EXPECT_EQ(changes[4 + i].point.address, numbered(100 + i));
}

TEST(Names, TogetherHaveSoManyPointsAtMost) {
  std::vector<schema::ConfiguredPeer> peers;
  for (unsigned int i = 0; i < 128; ++i) peers.push_back({"n" + std::to_string(i), 1, {}});
  Fixture fixture(peers);
  unsigned int next = 0;
  for (;;) {
    const auto due = fixture.names.due(fixture.now);
    if (due.empty()) break;
    EXPECT_LE(due.size(), kLookupsAtOnce);
    for (const auto& name : due) {
      std::vector<Address> some;
      for (int i = 0; i < 16; ++i) some.push_back(numbered(next++));
      fixture.answer(name, some);
    }
  }
  EXPECT_EQ(next, 128U * 16U);
  EXPECT_EQ(fixture.names.untold().size(), kMaximumConfiguredPoints);
}

TEST(Names, AreToldUntilItWorked) {
  Fixture fixture({{"a.example", 1, {}}});
  fixture.ask_and_answer("a.example", addresses({"8.8.8.8"}));
  EXPECT_EQ(fixture.names.untold().size(), 1U);
  EXPECT_EQ(fixture.names.untold().size(), 1U) << "nobody said that it was told";
  fixture.tell();
  EXPECT_TRUE(fixture.names.untold().empty());
}

TEST(UsableAddresses, AreThoseThatAHostCanHaveAndOfBothFamiliesInTurn) {
  EXPECT_EQ(usable_addresses(addresses({"0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "240.0.0.1", "0.1.2.3",
                                        "ff02::1", "127.0.0.1", "::1", "10.0.0.1", "127.0.0.1"})),
            addresses({"127.0.0.1", "::1", "10.0.0.1"}));
  std::vector<Address> flood;
  for (unsigned int i = 0; i < 100; ++i) flood.push_back(numbered(i));
  flood.push_back(address("2a00::1"));
  const auto usable = usable_addresses(flood);
  ASSERT_EQ(usable.size(), kMaximumNameAddresses);
  EXPECT_EQ(usable[1], address("2a00::1"));
}

}  // namespace
}  // namespace bulkhead::maintainer
