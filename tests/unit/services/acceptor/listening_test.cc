#include "services/acceptor/listening.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <array>
#include <cerrno>
#include <deque>

#include "base/address.h"

namespace bulkhead::acceptor {
namespace {

// libuv counts whole milliseconds, so that each timer may be early by less than one.
constexpr Nanoseconds kTimerSlackMs = 4;

TEST(AcceptFailure, IsOfTheConnectionWhereOnlyThatOneDied) {
  for (const int error : {ECONNABORTED, EPROTO, EPERM, ENETDOWN, EHOSTUNREACH, ECONNRESET, ETIMEDOUT, EHOSTDOWN,
                          ENETUNREACH, ENONET, ENOPROTOOPT, EOPNOTSUPP}) {
    EXPECT_EQ(accept_failure(error), AcceptFailure::kOfConnection) << error;
  }
}

TEST(AcceptFailure, IsOfTheSystemWhereItMayLastAndWhereNobodyKnows) {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM, EINVAL, EBADF, ENOTSOCK, 4095}) {
    EXPECT_EQ(accept_failure(error), AcceptFailure::kOfSystem) << error;
  }
  EXPECT_EQ(accept_failure(EAGAIN), AcceptFailure::kNobody);
  EXPECT_EQ(accept_failure(EINTR), AcceptFailure::kAgain);
}

TEST(AcceptBackoff, GrowsFromATenthOfASecondToOneSecond) {
  AcceptBackoff backoff;
  for (const std::uint64_t expected : {100U, 200U, 400U, 800U, 1000U, 1000U}) EXPECT_EQ(backoff.failed(), expected);
  backoff.accepted();
  EXPECT_EQ(backoff.failed(), 100U);
}

/// A listening socket on loopback, one connection in its backlog, and an accept(2) that first fails as it is told.
class ListeningTest : public ::testing::Test {
 protected:
  void SetUp() override {
    UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_storage storage{};
    const socklen_t size = to_sockaddr(Point{parse_address("127.0.0.1").value(), 0}, storage);
    ASSERT_EQ(::bind(socket.get(), address_of(storage), size), 0);
    ASSERT_EQ(::listen(socket.get(), 16), 0);
    listener_ = socket.get();
    connect();
    std::vector<UniqueFd> sockets;
    sockets.push_back(std::move(socket));
    guard_ = service::Timer(loop_, [this] {
      ADD_FAILURE() << "nothing was accepted";
      loop_.stop();
    });
    guard_.once(30'000);
    listening_ = std::make_unique<Listening>(
        loop_, std::move(sockets),
        Listening::Callbacks{.accepted = [this](std::span<Listening::Accepted> all) { on_accepted(all); },
                             .failed = [this] { ++failed_; }},
        [this](int fd, sockaddr* address, socklen_t* address_size, int flags) {
          ++calls_;
          if (left_at_ != 0) waited_ += monotonic_now() - left_at_;
          left_at_ = 0;
          if (failing_call_ == calls_) errors_ = {ENFILE};
          if (errors_.empty()) return accept(fd, address, address_size, flags);
          errno = errors_.front();
          errors_.pop_front();
          return -1;
        });
  }

  static sockaddr* address_of(sockaddr_storage& storage) {
    return static_cast<sockaddr*>(static_cast<void*>(&storage));
  }

  void connect() {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    ASSERT_EQ(::getsockname(listener_, address_of(storage), &size), 0);
    UniqueFd client(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(client.get(), address_of(storage), size), 0);
    clients_.push_back(std::move(client));
  }

  int accept(int fd, sockaddr* address, socklen_t* size, int flags) {
    const int accepted = ::accept4(fd, address, size, flags);
    if (accepted < 0 && errno == EAGAIN && flood_) {
      connect();
      left_at_ = monotonic_now();
      errno = EAGAIN;
    }
    return accepted;
  }

  void on_accepted(std::span<Listening::Accepted> all) {
    groups_.push_back(all.size());
    for (auto& [socket, remote] : all) {
      EXPECT_TRUE(socket);
      EXPECT_TRUE(is_loopback(remote.address));
      remotes_.push_back(remote);
      if (++accepted_ == wanted_) loop_.stop();
    }
  }

  Nanoseconds run() {
    const Nanoseconds begun = monotonic_now();
    listening_->start();
    loop_.run();
    return monotonic_now() - begun;
  }

  service::Loop loop_;
  service::Timer guard_;
  std::unique_ptr<Listening> listening_;
  std::vector<UniqueFd> clients_;
  std::deque<int> errors_;
  int listener_ = -1;
  int failing_call_ = 0;  ///< counted from 1; 0: none
  bool flood_ = false;    ///< whenever nobody is left, the next one comes
  Nanoseconds left_at_ = 0;
  Nanoseconds waited_ = 0;           ///< since such a one came, all together
  std::vector<std::size_t> groups_;  ///< how many came together
  std::vector<Point> remotes_;
  int wanted_ = 1;
  int accepted_ = 0;
  int failed_ = 0;
  int calls_ = 0;
};

TEST_F(ListeningTest, AcceptsWhoWaits) {
  run();
  EXPECT_EQ(accepted_, 1);
  EXPECT_EQ(failed_, 0);
}

TEST_F(ListeningTest, BringsThoseWhoWaitTogetherInTheirOrder) {
  for (int i = 0; i < 13; ++i) connect();
  errors_ = {EMFILE, ECONNABORTED};
  wanted_ = 14;
  run();
  EXPECT_EQ(groups_, std::vector<std::size_t>{14});
  std::vector<Point> expected;
  for (const UniqueFd& client : clients_) {
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    ASSERT_EQ(::getsockname(client.get(), address_of(storage), &size), 0);
    expected.push_back(from_sockaddr(storage));
  }
  EXPECT_EQ(remotes_, expected);
}

TEST_F(ListeningTest, HandsOverWhoCameBeforeAnError) {
  for (int i = 0; i < 2; ++i) connect();
  failing_call_ = 3;
  wanted_ = 3;
  run();
  EXPECT_EQ(groups_, (std::vector<std::size_t>{2, 1}));
  EXPECT_EQ(failed_, 1);
}

TEST_F(ListeningTest, WaitsAndTriesAgainAfterEveryErrorThatMayLast) {
  errors_ = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
  EXPECT_GE(run(), (100 + 200 + 400 + 800 - kTimerSlackMs) * kMillisecond);
  EXPECT_EQ(accepted_, 1);
  EXPECT_EQ(failed_, 4);
  EXPECT_EQ(calls_, 6) << "one try after each pause, and one that finds nobody else";
}

TEST_F(ListeningTest, GoesOnAtOnceAfterAConnectionThatDied) {
  errors_ = {ECONNABORTED, EPROTO, EINTR, EPERM, ENETDOWN, EHOSTUNREACH};
  run();
  EXPECT_EQ(accepted_, 1);
  EXPECT_EQ(failed_, 5) << "an interrupted call is none";
}

TEST_F(ListeningTest, DoesNotSpinWhenAllThatComeAreDead) {
  errors_.assign(200, ECONNABORTED);
  EXPECT_GE(run(), (100 + 200 + 400 - kTimerSlackMs) * kMillisecond);
  EXPECT_EQ(accepted_, 1);
  EXPECT_EQ(failed_, 200);
}

TEST_F(ListeningTest, LetsThoseGatherWhoComeOneRightAfterAnother) {
  flood_ = true;
  wanted_ = 12;
  run();
  EXPECT_GE(waited_, 5 * kMillisecond) << "a millisecond or so for each but the first";
  EXPECT_EQ(accepted_, 12);
  EXPECT_EQ(failed_, 0);
}

}  // namespace
}  // namespace bulkhead::acceptor
