#include "services/common/tcp_options.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/fd.h"

namespace bulkhead::service {
namespace {

int option(const UniqueFd& socket, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(socket.get(), level, name, &value, &size), 0);
  return value;
}

UniqueFd tcp_socket() {
  return UniqueFd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

TEST(PeerSocketOptions, AreReadBackInTheKernelsUnits) {
  const UniqueFd socket = tcp_socket();
  set_peer_socket_options(socket.get(), TcpSettings{});
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(option(socket, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_KEEPIDLE), 10) << "seconds";
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_KEEPINTVL), 5) << "seconds";
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT), 45000) << "milliseconds";
}

TEST(PeerSocketOptions, CanBeSwitchedOff) {
  const UniqueFd socket = tcp_socket();
  set_peer_socket_options(socket.get(), {.keepalive_idle_s = 0, .keepalive_interval_s = 5, .user_timeout_ms = 0});
  EXPECT_EQ(option(socket, SOL_SOCKET, SO_KEEPALIVE), 0);
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_NODELAY), 1);
}

TEST(PeerSocketOptions, TakeTheLongestTimesThatTheEnvironmentMayAskFor) {
  const auto settings = tcp_settings("2147483647", "32767000,32767000");
  ASSERT_TRUE(settings) << settings.error().text;
  const UniqueFd socket = tcp_socket();
  set_peer_socket_options(socket.get(), *settings);
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_KEEPIDLE), 32767);
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_KEEPINTVL), 32767);
  EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT), 2147483647);
}

TEST(TcpSettings, AreTheDefaultsWithoutTheVariables) {
  EXPECT_EQ(tcp_settings(nullptr, nullptr).value(), TcpSettings{});
  EXPECT_EQ(tcp_settings("", "").value(), TcpSettings{});
}

TEST(TcpSettings, CountTheVariablesInMilliseconds) {
  EXPECT_EQ(tcp_settings("1500", nullptr).value(), (TcpSettings{.user_timeout_ms = 1500}));
  EXPECT_EQ(tcp_settings(nullptr, "20000").value(), (TcpSettings{.keepalive_idle_s = 20}));
  EXPECT_EQ(tcp_settings(nullptr, "20000,1001").value(),
            (TcpSettings{.keepalive_idle_s = 20, .keepalive_interval_s = 2}))
      << "a part of a second is a whole one";
}

TEST(TcpSettings, AreOffWithZero) {
  EXPECT_EQ(tcp_settings("0", "0").value(), (TcpSettings{.keepalive_idle_s = 0, .user_timeout_ms = 0}));
}

TEST(TcpSettings, NameTheVariableThatMakesNoSense) {
  for (const char* wrong : {"x", "-1", "1 ", " 1", "1.5", "2147483648", "99999999999999999999"}) {
    const auto settings = tcp_settings(wrong, nullptr);
    ASSERT_FALSE(settings) << wrong;
    EXPECT_NE(settings.error().text.find(kUserTimeoutVariable), std::string::npos) << settings.error().text;
  }
  for (const char* wrong : {"x", "1,", ",1", "1,2,3", "1000,0", "32767001", "1,32767001"}) {
    const auto settings = tcp_settings(nullptr, wrong);
    ASSERT_FALSE(settings) << wrong;
    EXPECT_NE(settings.error().text.find(kKeepaliveVariable), std::string::npos) << settings.error().text;
  }
}

}  // namespace
}  // namespace bulkhead::service
