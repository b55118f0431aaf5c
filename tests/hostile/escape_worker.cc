#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include "base/exit_codes.h"
#include "sandbox/seccomp.h"
#include "services/controller/cli/node_tables.h"
#include "tests/hostile/inside.h"

namespace bulkhead::fault {

void PrintTo(const Outcome& outcome, std::ostream* stream) {
  *stream << describe(outcome);
}

}  // namespace bulkhead::fault

namespace bulkhead::hostile {
namespace {

using fault::Outcome;
using testing::eventually;
using testing::host_of;
using testing::Json;

constexpr std::uint64_t kCalls = 512;
constexpr std::uint64_t kX32 = 0x40000000;
constexpr std::uint64_t kGetPid32 = 20;
// uretprobe and uprobe: newer kernels ask no filter about them. Called from anywhere but the kernel's own trampoline
// they do nothing.
const std::set<std::uint64_t> kUnfilteredCalls = {335, 336};
constexpr Outcome kViolated = {Outcome::Kind::kExited, static_cast<int>(WorkerExit::kSandboxViolation)};
constexpr Outcome kTrapped = {Outcome::Kind::kSignal, SIGSYS};
constexpr Outcome kIllegal = {Outcome::Kind::kSignal, SIGILL};
constexpr Outcome kFaulted = {Outcome::Kind::kSignal, SIGSEGV};

Outcome returned(std::int64_t value) {
  return {Outcome::Kind::kReturned, value};
}

class EscapeFromWorker : public ConfinedNodeTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    if (const std::string why = obstacle(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }

  void start_with(std::size_t count) {
    ASSERT_NO_FATAL_FAILURE(start(options_of(GetParam(), static_cast<int>(count) + 1)));
    ASSERT_NO_FATAL_FAILURE(connect_peers(count));
    workers_ = workers();
  }

  Inside inside(std::size_t peer) {
    const pid_t pid = workers_[peer];
    const auto held = descriptors_of(pid);
    int socket = -1;
    for (const auto& [fd, what] : held) {
      if (!what.starts_with("socket:")) continue;
      const int domain = domain_of(pid, fd);
      if (domain == AF_INET || domain == AF_INET6) socket = fd;
    }
    auto entered = enter(pid, workers_[(peer + 1) % workers_.size()], socket);
    if (!entered) throw std::runtime_error(entered.error().text);
    return std::move(*entered);
  }

  static int domain_of(pid_t pid, int fd) {
    int domain = -1;
    socklen_t size = sizeof domain;
    const UniqueFd copy = descriptor_of(pid, fd);
    return ::getsockopt(copy.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 ? domain : -1;
  }

  /// A descriptor of a worker that refers to this; -1 when there is none.
  static int find_descriptor(pid_t pid, const std::string& what) {
    for (const auto& [fd, name] : descriptors_of(pid)) {
      if (name.find(what) != std::string::npos) return fd;
    }
    return -1;
  }

  std::uint64_t violations() const {
    const auto open = cli::open_node(node_->data_dir());
    return open ? open->tables.counters.get(Role::kController, Reason::kSandboxViolation) : 0;
  }

  std::vector<pid_t> workers_;
};

TEST_P(EscapeFromWorker, EndsItAndIsSeenCountedAndNamed) {
  std::vector<std::size_t> forbidden;
  const auto count = attempts({}).size();
  for (std::size_t i = 0; i < count; ++i) {
    if (attempts({})[i].of(Role::kConn).fate == Fate::kViolation) forbidden.push_back(i);
  }
  ASSERT_NO_FATAL_FAILURE(start_with(forbidden.size()));
  const pid_t nursery = confined_services(*node_)[Role::kNursery];

  std::map<std::string, std::pair<std::string, std::string>> expected;  // by address: what, and the call
  for (std::size_t i = 0; i < forbidden.size(); ++i) {
    Inside held = inside(i);
    const Attempt attempt = attempts(held.target)[forbidden[i]];
    const auto outcome = held.process.call({attempt.number, attempt.arguments});
    ASSERT_TRUE(outcome) << attempt.what << ": " << outcome.error().text;
    EXPECT_EQ(*outcome, kViolated) << attempt.what;
    expected[host_of(peers_[i].local_point())] = {attempt.what, sandbox::call_name(attempt.number)};
  }

  std::map<std::string, std::string> seen;
  const bool all = eventually([&] {
    for (const Json& event : node_->json_lines({"events"})) {
      if (event.value("event", "") != "disconnected" || event.value("reason", "") != "sandbox_violation") continue;
      seen[event.value("addr", "")] = event.value("syscall", "");
    }
    return seen.size() >= expected.size();
  });
  EXPECT_TRUE(all) << seen.size() << " of " << expected.size() << " were seen";
  for (const auto& [address, attempt] : expected) {
    EXPECT_EQ(seen[address], attempt.second) << attempt.first << " from " << address;
  }
  EXPECT_EQ(violations(), expected.size());
  for (const testing::Peer& peer : peers_) EXPECT_TRUE(eventually([&] { return !peer.is_open(); }));
  EXPECT_TRUE(eventually([&] {
    const pid_t now = confined_services(*node_)[Role::kNursery];
    return now > 0 && now != nursery;
  })) << "the workers' common memory layout was not replaced";
}

TEST_P(EscapeFromWorker, ByAnyOtherCallIsTrapped) {
  ASSERT_NO_FATAL_FAILURE(start_with(2));
  const auto named = passing_calls(Role::kConn);
  const std::set<std::string> passing(named.begin(), named.end());
  {
    Inside held = inside(0);
    for (std::uint64_t number = 0; number < kCalls; ++number) {
      const std::string name = sandbox::call_name(number);
      if (passing.contains(name) || name == "openat" || name == "newfstatat" || name == "mremap") continue;
      const auto outcome = held.process.probe({number, {held.target.data, held.target.data, 0, 0, 0, 0}});
      ASSERT_TRUE(outcome) << name << ": " << outcome.error().text;
      if (kUnfilteredCalls.contains(number)) {
        EXPECT_TRUE(*outcome == kTrapped || *outcome == kIllegal || outcome->value < 0);
        continue;
      }
      EXPECT_EQ(*outcome, kTrapped) << name;
    }
  }
  // Nothing of all this left a trace in it.
  EXPECT_EQ(check_alive(*node_, peers_[0]), "");
  EXPECT_EQ(violations(), 0U);
}

TEST_P(EscapeFromWorker, ByWhatLibrariesAskForIsAnsweredWithAnError) {
  ASSERT_NO_FATAL_FAILURE(start_with(2));
  {
    Inside held = inside(0);
    for (const Attempt& attempt : attempts(held.target)) {
      const Expectation expected = attempt.of(Role::kConn);
      if (expected.fate != Fate::kAnswered && expected.fate != Fate::kRefused) continue;
      const auto outcome = held.process.probe({attempt.number, attempt.arguments});
      ASSERT_TRUE(outcome) << attempt.what << ": " << outcome.error().text;
      EXPECT_EQ(*outcome, returned(-expected.error_number)) << attempt.what;
    }
  }
  EXPECT_EQ(check_alive(*node_, peers_[0]), "");
}

TEST_P(EscapeFromWorker, ByAForeignArchitectureEndsIt) {
  ASSERT_NO_FATAL_FAILURE(start_with(2));
  {
    Inside held = inside(0);
    const auto outcome = held.process.call({kX32 | SYS_getpid});
    ASSERT_TRUE(outcome) << outcome.error().text;
    EXPECT_EQ(*outcome, (Outcome{Outcome::Kind::kKilled, SIGSYS}));
  }
  expect_event("sandbox_violation", host_of(peers_[0].local_point()));
  {
    Inside held = inside(1);
    const auto outcome = held.process.probe_32_bit({kGetPid32});
    ASSERT_TRUE(outcome) << outcome.error().text;
    // A kernel without that entry raises a fault.
    if (*outcome == kFaulted) return;
    EXPECT_EQ(*outcome, (Outcome{Outcome::Kind::kKilled, SIGSYS}));
  }
  expect_event("sandbox_violation", host_of(peers_[1].local_point()));
}

TEST_P(EscapeFromWorker, ReachesNoPageThatAnotherWorkerHas) {
  ASSERT_NO_FATAL_FAILURE(start_with(4));
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    for (const MemoryRange& own : memory_of(workers_[i])) {
      if (!own.shared()) continue;
      for (std::size_t j = 0; j < workers_.size(); ++j) {
        if (i == j) continue;
        for (const MemoryRange& other : memory_of(workers_[j])) {
          const bool same_file = other.shared() && other.inode == own.inode && other.device == own.device;
          const bool apart = other.offset + other.size() <= own.offset || own.offset + own.size() <= other.offset;
          EXPECT_TRUE(!same_file || apart || (own.offset == 0 && !own.writable() && !other.writable()))
              << own.name << " at " << own.offset << " of " << own.size() << " bytes is another worker's too";
        }
      }
    }
  }
}

TEST_P(EscapeFromWorker, WritesNoTableThatItMayOnlyRead) {
  ASSERT_NO_FATAL_FAILURE(start_with(2));
  std::size_t tables = 0;
  {
    Inside held = inside(0);
    for (const MemoryRange& range : memory_of(workers_[0])) {
      if (!range.shared() || range.writable()) continue;
      ++tables;
      for (const std::uint64_t at : {range.begin, range.end - 1}) {
        const auto outcome = held.process.probe_store(at, 1);
        ASSERT_TRUE(outcome) << outcome.error().text;
        EXPECT_EQ(*outcome, kFaulted) << range.name;
      }
      const auto read = held.process.probe_load(range.begin);
      ASSERT_TRUE(read) << read.error().text;
      EXPECT_EQ(read->kind, Outcome::Kind::kReturned) << range.name;
      // The neighbour's part of the same table.
      for (const std::uint64_t size : {range.size() + 4096, 16 * range.size()}) {
        const auto grown = held.process.probe({SYS_mremap, {range.begin, range.size(), size, MREMAP_MAYMOVE}});
        ASSERT_TRUE(grown) << grown.error().text;
        EXPECT_EQ(*grown, returned(-ENOMEM)) << range.name;
      }
    }
  }
  EXPECT_GE(tables, 2U) << "its page of taken and its window of outward";
  EXPECT_EQ(check_alive(*node_, peers_[0]), "");
}

/// A message with one descriptor beside it, as it stands in the memory of who sends it.
struct Parcel {
  msghdr message = {};
  iovec part = {};
  std::array<std::uint64_t, 8> data = {};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control = {};

  Parcel(std::uint64_t at, int descriptor) {
    const auto pointer = [at](std::size_t offset) {
      return reinterpret_cast<void*>(at + offset);  // NOLINT(performance-no-int-to-ptr): another process's address
    };
    part = {pointer(offsetof(Parcel, data)), sizeof(data)};
    message.msg_iov = static_cast<iovec*>(pointer(offsetof(Parcel, part)));
    message.msg_iovlen = 1;
    message.msg_control = pointer(offsetof(Parcel, control));
    message.msg_controllen = CMSG_SPACE(sizeof(int));
    cmsghdr header{};
    header.cmsg_len = CMSG_LEN(sizeof descriptor);
    header.cmsg_level = SOL_SOCKET;
    header.cmsg_type = SCM_RIGHTS;
    std::memcpy(control.data(), &header, sizeof header);
    std::memcpy(control.data() + CMSG_LEN(0), &descriptor, sizeof descriptor);
  }
};

// The mapping that it made before the seal is the only way; which rule says no first, the kernel decides.
TEST_P(EscapeFromWorker, WritesItsRingByNoCall) {
  ASSERT_NO_FATAL_FAILURE(start_with(1));
  const int ring = find_descriptor(workers_[0], "bulkhead-inward");
  ASSERT_GE(ring, 0);
  Inside held = inside(0);
  const auto written = held.process.probe({SYS_write, {static_cast<std::uint64_t>(ring), held.target.data, 8}});
  ASSERT_TRUE(written) << written.error().text;
  EXPECT_TRUE(*written == returned(-EPERM) || *written == returned(-EFBIG)) << describe(*written);
}

TEST_P(EscapeFromWorker, GivesNobodyADescriptor) {
  ASSERT_NO_FATAL_FAILURE(start_with(2));
  const pid_t controller = confined_services(*node_)[Role::kController];
  std::string given;
  {
    Inside held = inside(0);
    int channel = -1;
    for (const auto& [fd, what] : descriptors_of(workers_[0])) {
      if (what.starts_with("socket:") && domain_of(workers_[0], fd) == AF_UNIX) channel = fd;
    }
    ASSERT_GE(channel, 0);
    given = descriptors_of(workers_[0])[static_cast<int>(held.target.descriptor)];
    const Parcel parcel(held.target.data, static_cast<int>(held.target.descriptor));
    ASSERT_TRUE(held.process.write(held.target.data, std::as_bytes(std::span(&parcel, 1))));
    const auto sent = held.process.probe(
        {SYS_sendmsg, {static_cast<std::uint64_t>(channel), held.target.data, MSG_DONTWAIT | MSG_NOSIGNAL}});
    // The controller may be quicker to end it than the call to return.
    if (sent) {
      EXPECT_TRUE(*sent == returned(sizeof(parcel.data)) || sent->kind == Outcome::Kind::kKilled) << describe(*sent);
    } else {
      EXPECT_EQ(sent.error().errno_value, ESRCH) << sent.error().text;
    }
  }
  // What it is not due to send ends it, and nobody keeps it.
  expect_event("channel_fault", host_of(peers_[0].local_point()));
  for (const auto& [fd, what] : descriptors_of(controller)) EXPECT_NE(what, given) << "the controller kept it";
}

TEST_P(EscapeFromWorker, GetsNoDescriptor) {
  ASSERT_NO_FATAL_FAILURE(start_with(2));
  const auto before = descriptors_of(workers_[0]);
  {
    Inside held = inside(0);
    for (const auto& [fd, what] : before) {
      const Parcel parcel(held.target.data, 0);
      ASSERT_TRUE(held.process.write(held.target.data, std::as_bytes(std::span(&parcel, 1))));
      const auto got = held.process.probe(
          {SYS_recvmsg, {static_cast<std::uint64_t>(fd), held.target.data, MSG_DONTWAIT | MSG_CMSG_CLOEXEC}});
      ASSERT_TRUE(got) << got.error().text;
      EXPECT_TRUE(*got == returned(-EAGAIN) || *got == returned(-ENOTSOCK)) << what << ": " << describe(*got);
    }
  }
  EXPECT_EQ(descriptors_of(workers_[0]), before);
  EXPECT_EQ(check_alive(*node_, peers_[0]), "");
}

BULKHEAD_AT_EACH_LEVEL(EscapeFromWorker);

}  // namespace
}  // namespace bulkhead::hostile
