#include "base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

namespace bulkhead {
namespace {

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

UniqueFd make_memory() {
  return UniqueFd(::memfd_create("test", MFD_CLOEXEC));
}

TEST(UniqueFd, ClosesWhatItOwns) {
  int number = -1;
  {
    const UniqueFd fd = make_memory();
    number = fd.get();
    ASSERT_TRUE(fd);
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, HandsItsDescriptorOverWhenMoved) {
  UniqueFd first = make_memory();
  const int number = first.get();
  UniqueFd second(std::move(first));
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): a moved-from UniqueFd owns nothing
  UniqueFd third = make_memory();
  const int replaced = third.get();
  third = std::move(second);
  EXPECT_EQ(third.get(), number);
  EXPECT_FALSE(is_open(replaced));
  EXPECT_TRUE(is_open(number));
}

TEST(UniqueFd, SurvivesAMoveToItself) {
  UniqueFd fd = make_memory();
  UniqueFd& same = fd;
  fd = std::move(same);
  EXPECT_TRUE(is_open(fd.get()));
}

TEST(UniqueFd, LetsGoOfAReleasedDescriptor) {
  UniqueFd fd = make_memory();
  const int number = fd.release();
  EXPECT_FALSE(fd);
  EXPECT_TRUE(is_open(number));
  fd.reset(number);
  fd.reset();
  EXPECT_FALSE(is_open(number));
}

TEST(Duplicate, ClosesOnExec) {
  const UniqueFd fd = make_memory();
  const auto copy = duplicate(fd.get());
  ASSERT_TRUE(copy);
  EXPECT_NE(copy->get(), fd.get());
  EXPECT_EQ(::fcntl(copy->get(), F_GETFD), FD_CLOEXEC);
  EXPECT_FALSE(duplicate(-1));
}

TEST(ReopenReadOnly, GivesADescriptorThatCannotWrite) {
  const UniqueFd fd = make_memory();
  ASSERT_EQ(::write(fd.get(), "x", 1), 1);
  const auto reader = reopen_read_only(fd.get());
  ASSERT_TRUE(reader) << reader.error().text;
  char byte = 0;
  EXPECT_EQ(::read(reader->get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
  EXPECT_EQ(::write(reader->get(), "y", 1), -1);
}

TEST(SocketPair, KeepsPacketsApartAndNeverBlocks) {
  const auto pair = socket_pair();
  ASSERT_TRUE(pair);
  char buffer[8];
  EXPECT_EQ(::recv(pair->second.get(), buffer, sizeof buffer, 0), -1);
  EXPECT_EQ(errno, EAGAIN);
  ASSERT_EQ(::send(pair->first.get(), "ab", 2, MSG_NOSIGNAL), 2);
  ASSERT_EQ(::send(pair->first.get(), "c", 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(::recv(pair->second.get(), buffer, sizeof buffer, 0), 2);
  EXPECT_EQ(::recv(pair->second.get(), buffer, sizeof buffer, 0), 1);
  EXPECT_EQ(::fcntl(pair->first.get(), F_GETFD), FD_CLOEXEC);
}

TEST(SetNonblocking, TurnsTheFlagOnAndOff) {
  const auto pair = socket_pair();
  ASSERT_TRUE(pair);
  for (const bool on : {false, true, true, false}) {
    ASSERT_TRUE(set_nonblocking(pair->first.get(), on));
    EXPECT_EQ((::fcntl(pair->first.get(), F_GETFL) & O_NONBLOCK) != 0, on);
  }
  EXPECT_FALSE(set_nonblocking(-1, true));
}

TEST(CloseAllBut, LeavesExactlyWhatIsListed) {
  // In a child, since it closes what the test program needs.
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (int fd = 10; fd <= 20; ++fd) ::dup2(0, fd);
    std::array<int, 4> keep = {17, 12, -1, 12};
    close_all_but(keep);
    bool good = true;
    for (int fd = 0; fd < 64; ++fd) good = good && is_open(fd) == (fd == 12 || fd == 17);
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(CloseAllBut, ClosesEverythingWhenNothingIsListed) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    close_all_but({});
    bool good = true;
    for (int fd = 0; fd < 64; ++fd) good = good && !is_open(fd);
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(OpenFileLimit, IsRaisedAsFarAsTheHardLimitAllows) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 64;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(*raise_open_file_limit(32), 64U);
  EXPECT_EQ(*raise_open_file_limit(65), 65U);
  EXPECT_EQ(*raise_open_file_limit(static_cast<std::size_t>(before.rlim_max) + 1), before.rlim_max);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace bulkhead
