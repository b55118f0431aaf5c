// The node under a service manager: the test speaks systemd's side of its protocols.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <future>
#include <sstream>

#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

struct Notice {
  std::vector<std::string> lines;
  UniqueFd fd;
  Clock::time_point at;

  bool says(const std::string& line) const { return std::find(lines.begin(), lines.end(), line) != lines.end(); }
};

/// The manager's socket.
class Manager {
 public:
  Manager() : path_(directory_.path() + "/notify"), socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << path_;
    const int large = 1 << 20;
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
  }

  const std::string& path() const { return path_; }

  /// The next notice in time.
  std::optional<Notice> next(Milliseconds timeout) {
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(timeout.count())) != 1) return std::nullopt;
    std::array<char, 4096> bytes{};
    iovec data{bytes.data(), bytes.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    if (got < 0) return std::nullopt;
    Notice notice;
    notice.at = Clock::now();
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
      notice.fd.reset(fd);
    }
    std::istringstream text(std::string(bytes.data(), static_cast<std::size_t>(got)));
    for (std::string line; std::getline(text, line);) notice.lines.push_back(line);
    return notice;
  }

  /// The next notice with this line; others are dropped.
  std::optional<Notice> next(const std::string& line, Milliseconds timeout = Milliseconds(10'000) * kPatience) {
    const auto deadline = Clock::now() + timeout;
    while (Clock::now() < deadline) {
      auto notice = next(std::chrono::ceil<Milliseconds>(deadline - Clock::now()));
      if (notice && notice->says(line)) return notice;
    }
    return std::nullopt;
  }

 private:
  TemporaryDirectory directory_;
  std::string path_;
  UniqueFd socket_;
};

/// Words that give the node `variables`, and `listener` (when there is one) as a manager passes it.
std::vector<std::string> wrapper(const std::vector<std::string>& variables, int listener = -1,
                                 const std::string& name = "") {
  std::vector<std::string> words = {"/usr/bin/env"};
  words.insert(words.end(), variables.begin(), variables.end());
  if (listener >= 0) {
    words.push_back("LISTEN_FDS=1");
    words.push_back("LISTEN_FDNAMES=" + name);
    words.insert(words.end(),
                 {"/bin/bash", "-c", "exec 3<&" + std::to_string(listener) + "; LISTEN_PID=$$ exec \"$@\"", "bash"});
  }
  return words;
}

class ServiceManager : public NodeTest {
 protected:
  NodeOptions managed(const std::vector<std::string>& more = {}) {
    std::vector<std::string> variables = {"NOTIFY_SOCKET=" + manager_.path()};
    variables.insert(variables.end(), more.begin(), more.end());
    NodeOptions options;
    options.wrapper = wrapper(variables);
    return options;
  }

  /// Starts the node anew with the listener that it had stored.
  void start_with(const Notice& stored) {
    ASSERT_EQ(::fcntl(stored.fd.get(), F_SETFD, 0), 0);
    node_->options().wrapper = wrapper({"NOTIFY_SOCKET=" + manager_.path()}, stored.fd.get(), stored_name(stored));
    const auto started = node_->start();
    ASSERT_TRUE(started) << started.error().text << node_->log();
  }

  static std::string stored_name(const Notice& notice) {
    for (const std::string& line : notice.lines) {
      if (line.starts_with("FDNAME=")) return line.substr(7);
    }
    return "";
  }

  Manager manager_;
};

TEST_F(ServiceManager, IsToldOfTheListenersThatTheNodeIsReadyAndThatItStops) {
  ASSERT_NO_FATAL_FAILURE(start_alone(managed()));
  const auto stored = manager_.next("FDSTORE=1");
  ASSERT_TRUE(stored);
  ASSERT_TRUE(stored->fd);
  int listening = 0;
  socklen_t size = sizeof listening;
  ASSERT_EQ(::getsockopt(stored->fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listening, &size), 0);
  EXPECT_EQ(listening, 1);
  EXPECT_EQ(stored_name(*stored), "peers-" + node_->address() + "_" + std::to_string(node_->port()));
  EXPECT_TRUE(manager_.next("READY=1"));
  EXPECT_EQ(node_->stop(), 0);
  EXPECT_TRUE(manager_.next("STOPPING=1"));
}

TEST_F(ServiceManager, HearsNothingOfAWatchdogThatItDidNotAskFor) {
  ASSERT_NO_FATAL_FAILURE(start_alone(managed()));
  ASSERT_TRUE(manager_.next("READY=1"));
  EXPECT_FALSE(manager_.next("WATCHDOG=1", Milliseconds(2500)));
}

TEST_F(ServiceManager, HearsTheWatchdogOnlyWhileEveryServiceAnswers) {
  ASSERT_NO_FATAL_FAILURE(start(managed({"WATCHDOG_USEC=3000000"})));
  for (int count = 0; count < 3; ++count) ASSERT_TRUE(manager_.next("WATCHDOG=1"));
  // The acceptor answers nothing until the supervisor loses patience, after 5 seconds, and replaces it.
  const pid_t acceptor = node_->service_pid("acceptor");
  ASSERT_GT(acceptor, 0);
  ASSERT_EQ(::kill(acceptor, SIGSTOP), 0);
  Clock::time_point last = Clock::now();
  Milliseconds longest{0};
  const auto deadline = last + Milliseconds(30'000) * kPatience;
  while (longest < Milliseconds(1900) && Clock::now() < deadline) {
    const auto fed = manager_.next("WATCHDOG=1");
    ASSERT_TRUE(fed);
    longest = std::max(longest, std::chrono::floor<Milliseconds>(fed->at - last));
    last = fed->at;
  }
  EXPECT_GE(longest, Milliseconds(1900));
  EXPECT_TRUE(eventually([&] { return node_->service_pid("acceptor") != acceptor; }));
  EXPECT_TRUE(manager_.next("WATCHDOG=1"));
}

TEST_F(ServiceManager, GivesTheIdentityAsACredentialThatIsNeverCopied) {
  TemporaryDirectory credentials;
  const auto made = run_bulkhead({"identity", "generate", "1", "--data-dir", credentials.path(), "--json"});
  ASSERT_EQ(made.exit_status, 0) << made;
  const std::string text = read_file(credentials.path() + "/identity.json");
  NodeOptions options = managed({"CREDENTIALS_DIRECTORY=" + credentials.path()});
  options.identity = false;
  ASSERT_NO_FATAL_FAILURE(start(options));
  EXPECT_NE(text.find(node_->peer_id()), std::string::npos) << text;
  EXPECT_NE(::access((node_->data_dir() + "/identity.json").c_str(), F_OK), 0);
  // Another keyholder gets it as well.
  const pid_t keyholder = node_->service_pid("keyholder");
  ASSERT_EQ(::kill(keyholder, SIGKILL), 0);
  EXPECT_TRUE(eventually([&] {
    const pid_t next = node_->service_pid("keyholder");
    return next != 0 && next != keyholder;
  }));
  Peer peer = node_->make_peer();
  EXPECT_TRUE(eventually([&] { return node_->dial(peer) && peer.handshake(); })) << node_->log();
}

TEST_F(ServiceManager, DoesNotOverruleTheIdentityOfTheDataDirectory) {
  TemporaryDirectory credentials;
  const auto made = run_bulkhead({"identity", "generate", "1", "--data-dir", credentials.path()});
  ASSERT_EQ(made.exit_status, 0) << made;
  ASSERT_NO_FATAL_FAILURE(start_alone(managed({"CREDENTIALS_DIRECTORY=" + credentials.path()})));
  EXPECT_NE(read_file(node_->data_dir() + "/identity.json").find(node_->peer_id()), std::string::npos);
}

TEST_F(ServiceManager, KeepsWhoWaitsInTheBacklogWhileTheNodeIsGone) {
  ASSERT_NO_FATAL_FAILURE(start_alone(managed()));
  const auto stored = manager_.next("FDSTORE=1");
  ASSERT_TRUE(stored && stored->fd);
  ASSERT_EQ(node_->stop(), 0);
  Peer waiting = node_->make_peer();
  ASSERT_TRUE(node_->dial(waiting));
  ASSERT_TRUE(waiting.send_connection_message());
  ASSERT_NO_FATAL_FAILURE(start_with(*stored));
  ASSERT_TRUE(waiting.read_connection_message()) << node_->log();
  ASSERT_TRUE(waiting.send_metadata());
  ASSERT_TRUE(waiting.read_metadata());
  ASSERT_TRUE(waiting.send_ack());
  ASSERT_TRUE(waiting.read_ack());
  EXPECT_TRUE(node_->wait_connected(waiting.peer_id()));
  // It is still in the store: nothing was stored or taken out again.
  ASSERT_TRUE(manager_.next("READY=1"));
  ASSERT_EQ(node_->stop(), 0);
  while (const auto notice = manager_.next(Milliseconds(100))) {
    EXPECT_FALSE(notice->says("FDSTORE=1"));
    EXPECT_FALSE(notice->says("FDSTOREREMOVE=1"));
  }
}

TEST_F(ServiceManager, GetsAListenerBackThatIsNoLongerWanted) {
  ASSERT_NO_FATAL_FAILURE(start_alone(managed()));
  const auto stored = manager_.next("FDSTORE=1");
  ASSERT_TRUE(stored && stored->fd);
  const std::string name = stored_name(*stored);
  ASSERT_EQ(node_->stop(), 0);
  // Another node takes over the store of this one: the same manager, another address.
  Node other(managed());
  ASSERT_EQ(::fcntl(stored->fd.get(), F_SETFD, 0), 0);
  other.options().wrapper = wrapper({"NOTIFY_SOCKET=" + manager_.path()}, stored->fd.get(), name);
  // The node waits until the manager has closed it, and the manager shows that by reading.
  auto reading = std::async(std::launch::async, [&] {
    auto notice = manager_.next("FDSTOREREMOVE=1");
    manager_.next("BARRIER=1");
    return notice;
  });
  const auto started = other.start();
  const auto removed = reading.get();
  ASSERT_TRUE(started) << started.error().text << other.log();
  ASSERT_TRUE(removed);
  EXPECT_TRUE(removed->says("FDNAME=" + name));
  const auto anew = manager_.next("FDSTORE=1");
  ASSERT_TRUE(anew);
  EXPECT_NE(stored_name(*anew), name);
  EXPECT_EQ(other.stop(), 0);
}

TEST_F(ServiceManager, IsNotInTheServicesEnvironment) {
  ASSERT_NO_FATAL_FAILURE(start_alone(managed({"CREDENTIALS_DIRECTORY=/nowhere", "WATCHDOG_USEC=60000000"})));
  const std::string text = read_file("/proc/" + std::to_string(node_->service_pid("nursery")) + "/environ");
  EXPECT_EQ(text.find("NOTIFY_SOCKET"), std::string::npos);
  EXPECT_EQ(text.find("CREDENTIALS"), std::string::npos);
}

}  // namespace
}  // namespace bulkhead::testing
