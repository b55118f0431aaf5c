#include "services/controller/supervisor/service_manager.h"

#include <gtest/gtest.h>

#include <map>

namespace bulkhead::supervisor {
namespace {

constexpr pid_t kSelf = 4711;

using Texts = std::map<std::string, std::string>;

ManagerEnvironment read(const Texts& texts) {
  return read_manager_environment(
      [&](const char* name) -> const char* {
        const auto found = texts.find(name);
        return found == texts.end() ? nullptr : found->second.c_str();
      },
      kSelf);
}

TEST(ManagerEnvironment, SaysNothingWhereNothingIsSet) {
  const auto environment = read({});
  EXPECT_EQ(environment.notify_socket, "");
  EXPECT_EQ(environment.watchdog, 0u);
  EXPECT_EQ(environment.credentials, "");
  EXPECT_TRUE(environment.given.empty());
}

TEST(ManagerEnvironment, HasEverythingThatAManagerSays) {
  const auto environment = read({{"NOTIFY_SOCKET", "/run/systemd/notify"},
                                 {"WATCHDOG_USEC", "30000000"},
                                 {"WATCHDOG_PID", "4711"},
                                 {"CREDENTIALS_DIRECTORY", "/run/credentials/bulkhead.service"},
                                 {"LISTEN_PID", "4711"},
                                 {"LISTEN_FDS", "3"},
                                 {"LISTEN_FDNAMES", "a::peers-c"}});
  EXPECT_EQ(environment.notify_socket, "/run/systemd/notify");
  EXPECT_EQ(environment.watchdog, 30 * kSecond);
  EXPECT_EQ(environment.credentials, "/run/credentials/bulkhead.service");
  EXPECT_EQ(environment.given, (std::vector<std::string>{"a", "", "peers-c"}));
}

TEST(ManagerEnvironment, TakesAnAbstractSocketAndNoOtherThanUnixOnes) {
  EXPECT_EQ(read({{"NOTIFY_SOCKET", "@name"}}).notify_socket, "@name");
  for (const char* wrong : {"", "@", "/", "relative", "vsock:2:1234"}) {
    EXPECT_EQ(read({{"NOTIFY_SOCKET", wrong}}).notify_socket, "") << wrong;
  }
}

TEST(ManagerEnvironment, LeavesAPathOutThatNoSocketAddressHolds) {
  EXPECT_EQ(read({{"NOTIFY_SOCKET", "/" + std::string(106, 'x')}}).notify_socket.size(), 107u);
  EXPECT_EQ(read({{"NOTIFY_SOCKET", "/" + std::string(107, 'x')}}).notify_socket, "");
}

TEST(ManagerEnvironment, LeavesOutWhatIsMeantForAnotherProcess) {
  EXPECT_EQ(read({{"WATCHDOG_USEC", "1000000"}, {"WATCHDOG_PID", "1"}}).watchdog, 0u);
  EXPECT_EQ(read({{"WATCHDOG_USEC", "1000000"}}).watchdog, kSecond);
  EXPECT_TRUE(read({{"LISTEN_PID", "1"}, {"LISTEN_FDS", "1"}}).given.empty());
  EXPECT_TRUE(read({{"LISTEN_FDS", "1"}}).given.empty());
}

TEST(ManagerEnvironment, LeavesOutNumbersThatAreNone) {
  for (const char* wrong : {"", "x", "-1", "1x", " 1", "18446744073709551616"}) {
    EXPECT_EQ(read({{"WATCHDOG_USEC", wrong}}).watchdog, 0u) << wrong;
    EXPECT_TRUE(read({{"LISTEN_PID", "4711"}, {"LISTEN_FDS", wrong}}).given.empty()) << wrong;
  }
}

TEST(ManagerEnvironment, BoundsTheWatchdogToADay) {
  EXPECT_EQ(read({{"WATCHDOG_USEC", "18446744073709551615"}}).watchdog, 86400 * kSecond);
}

TEST(ManagerEnvironment, TakesAtMost64Descriptors) {
  EXPECT_EQ(read({{"LISTEN_PID", "4711"}, {"LISTEN_FDS", "64"}}).given.size(), 64u);
  EXPECT_TRUE(read({{"LISTEN_PID", "4711"}, {"LISTEN_FDS", "65"}}).given.empty());
}

TEST(ManagerEnvironment, GivesNoNamesWhereTheListIsTooShortAndForgetsThoseTooMany) {
  const Texts two = {{"LISTEN_PID", "4711"}, {"LISTEN_FDS", "2"}};
  const auto names = [&](const char* list) {
    Texts texts = two;
    texts["LISTEN_FDNAMES"] = list;
    return read(texts).given;
  };
  EXPECT_EQ(names("a"), (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(names("a:"), (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(names("a:b:c"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(read(two).given, (std::vector<std::string>{"", ""}));
}

TEST(Watchdog, IsFedWhenHalfOfTheTimeWillHavePassed) {
  const Nanoseconds fed = 100 * kSecond;
  EXPECT_FALSE(watchdog_due(fed + 13 * kSecond, fed, 30 * kSecond, kSecond));
  EXPECT_TRUE(watchdog_due(fed + 14 * kSecond, fed, 30 * kSecond, kSecond));
}

TEST(Watchdog, IsFedAtEveryTickWhenItsTimeIsShort) {
  EXPECT_TRUE(watchdog_due(kSecond, 0, 2 * kSecond, kSecond));
  EXPECT_TRUE(watchdog_due(kSecond, kSecond, kSecond, kSecond));
}

TEST(Watchdog, IsNotFedWhenNobodyAskedForIt) {
  EXPECT_FALSE(watchdog_due(1000 * kSecond, 0, 0, kSecond));
}

}  // namespace
}  // namespace bulkhead::supervisor
