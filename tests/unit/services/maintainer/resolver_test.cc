#include "services/maintainer/resolver.h"

#include <gtest/gtest.h>

#include "base/address.h"
#include "tests/peer/name_server.h"

namespace bulkhead::maintainer {
namespace {

using testing::NameRecords;
using testing::NameServer;
using Manner = NameRecords::Manner;

// A loop that waits longer than this hangs; no test depends on how fast it is.
constexpr std::uint64_t kHangMs = 60'000;

Address address(const char* text) {
  return parse_address(text).value();
}

class ResolverTest : public ::testing::Test {
 protected:
  ResolverTest() {
    watchdog_ = service::Timer(loop_, [this] { loop_.stop(); });
  }

  /// The answer that comes; a failure of the test when none does.
  NameAnswer ask(const std::string& name) {
    int answers = 0;
    NameAnswer got;
    resolver_.resolve(name, [&](NameAnswer answer) {
      ++answers;
      got = std::move(answer);
      loop_.stop();
    });
    watchdog_.once(kHangMs);
    if (answers == 0) loop_.run();
    EXPECT_EQ(answers, 1) << name;
    return got;
  }

  NameServer server_;
  service::Loop loop_;
  service::Timer watchdog_;
  Resolver resolver_{
      loop_, {.servers = {Point{parse_address("127.0.0.1").value(), server_.port()}}, .timeout_ms = 50, .tries = 2}};
};

TEST_F(ResolverTest, GivesAddressesOfBothFamiliesAndTheShortestTime) {
  server_.set("both.example", {.addresses = {address("8.8.8.8"), address("2a00::1"), address("9.9.9.9")}, .ttl_s = 77});
  const NameAnswer answer = ask("both.example");
  EXPECT_EQ(answer.addresses.size(), 3U);
  for (const char* text : {"8.8.8.8", "2a00::1", "9.9.9.9"}) {
    EXPECT_EQ(std::count(answer.addresses.begin(), answer.addresses.end(), address(text)), 1) << text;
  }
  EXPECT_EQ(answer.ttl_s, 77U);
}

TEST_F(ResolverTest, GivesThoseOfANameThatHasOneFamilyAlone) {
  server_.set("four.example", {.addresses = {address("8.8.8.8")}});
  EXPECT_EQ(ask("four.example").addresses, std::vector<Address>{address("8.8.8.8")});
  server_.set("six.example", {.addresses = {address("2a00::6")}});
  EXPECT_EQ(ask("six.example").addresses, std::vector<Address>{address("2a00::6")});
}

TEST_F(ResolverTest, GivesNothingForANameThatDoesNotExistHasNoAddressOrIsRefused) {
  EXPECT_TRUE(ask("nowhere.example").addresses.empty());
  server_.set("empty.example", {});
  EXPECT_TRUE(ask("empty.example").addresses.empty());
  server_.set("broken.example", {.addresses = {address("8.8.8.8")}, .manner = Manner::kServerFailure});
  EXPECT_TRUE(ask("broken.example").addresses.empty());
}

TEST_F(ResolverTest, GivesNothingWhenNobodyAnswers) {
  server_.set("silent.example", {.addresses = {address("8.8.8.8")}, .manner = Manner::kSilence});
  EXPECT_TRUE(ask("silent.example").addresses.empty());
  EXPECT_GE(server_.asked("silent.example"), 2);
}

TEST_F(ResolverTest, SurvivesAnswersThatAreNone) {
  for (const Manner manner : {Manner::kGarbage, Manner::kLoop, Manner::kCutShort, Manner::kForeign}) {
    server_.set("odd.example", {.addresses = {address("8.8.8.8"), address("2a00::1")}, .manner = manner});
    EXPECT_TRUE(ask("odd.example").addresses.empty()) << static_cast<int>(manner);
  }
  server_.set("odd.example", {.addresses = {address("8.8.8.8")}});
  EXPECT_EQ(ask("odd.example").addresses.size(), 1U) << "and goes on";
}

TEST_F(ResolverTest, TakesALongAnswerOverTcp) {
  server_.set("long.example", {.addresses = {address("8.8.8.8")}, .manner = Manner::kOverTcp});
  EXPECT_EQ(ask("long.example").addresses, std::vector<Address>{address("8.8.8.8")});
}

TEST_F(ResolverTest, BringsManyAddressesOfWhichNamesTakesAFew) {
  NameRecords many;
  for (unsigned int i = 0; i < 200; ++i) {
    many.addresses.push_back(address("8.0.0.0"));
    many.addresses.back().bytes[15] = static_cast<std::uint8_t>(i);
  }
  server_.set("many.example", many);
  EXPECT_EQ(usable_addresses(ask("many.example").addresses).size(), kMaximumNameAddresses);
}

TEST_F(ResolverTest, AnswersManyQuestionsAtOnce) {
  int answers = 0;
  constexpr int kQuestions = 100;
  for (int i = 0; i < kQuestions; ++i) {
    const std::string name = "n" + std::to_string(i) + ".example";
    server_.set(name, {.addresses = {address("8.8.8.8")}});
    resolver_.resolve(name, [&](const NameAnswer&) {
      if (++answers == kQuestions) loop_.stop();
    });
  }
  watchdog_.once(kHangMs);
  loop_.run();
  EXPECT_EQ(answers, kQuestions);
}

TEST_F(ResolverTest, MayEndWithQuestionsOpen) {
  server_.set("silent.example", {.manner = Manner::kSilence});
  {
    service::Loop loop;
    Resolver other(loop, {.servers = {Point{address("127.0.0.1"), server_.port()}}});
    other.resolve("silent.example", [](const NameAnswer&) { ADD_FAILURE() << "called while it ends"; });
  }
}

}  // namespace
}  // namespace bulkhead::maintainer
