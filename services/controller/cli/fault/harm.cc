#include "services/controller/cli/fault/harm.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>
#include <vector>

#include "base/address.h"
#include "sandbox/inspect.h"
#include "shm/link.h"

namespace bulkhead::fault {
namespace {

constexpr std::array<const char*, kTargets> kTargetNames = {"worker",    "acceptor",   "maintainer", "nursery",
                                                            "keyholder", "controller", "application"};
constexpr std::array<const char*, kHarms> kHarmNames = {"kill",   "segv",        "abort",   "stop", "hang", "spin",
                                                        "memory", "descriptors", "channel", "ring", "page"};
constexpr int kGarbagePackets = 8;
constexpr int kGarbageWrites = 200;
constexpr std::uint64_t kMebibyte = 1024 * 1024;
constexpr std::uint64_t kNoDescriptor = ~std::uint64_t{0};
constexpr int kMostMappings = 32;
// The harness sees nothing while it waits.
constexpr Nanoseconds kSeizeTimeout = kSecond;
constexpr std::size_t kMostDescriptors = 65536;
constexpr int kCallsAtOnce = 100;
// The acceptor holds 4,096 that have proved nothing.
constexpr std::size_t kFlood = 4500;

Error gone(pid_t pid) {
  return Error{ErrorCode::kNotFound, "process " + std::to_string(pid) + " is gone"};
}

Error of_errno(const std::string& what, pid_t pid) {
  return errno == ESRCH ? gone(pid) : system_error(what + " of process " + std::to_string(pid));
}

Result<void> send_signal(pid_t pid, int signal) {
  if (pid <= 1) return gone(pid);
  if (::kill(pid, signal) != 0) return of_errno("signal", pid);
  return {};
}

/// Makes `call` in the process until it fails, at most so often, with calls that its filter allows. `undo` gives the
/// one that takes a success back.
template <typename Undo>
Result<std::vector<Call>> repeat_inside(SeizedProcess& held, const Call& call, int times, Undo undo) {
  std::vector<Call> done;
  for (int i = 0; i < times; ++i) {
    const auto outcome = held.call(call);
    if (!outcome) return outcome.error();
    if (outcome->kind != Outcome::Kind::kReturned || outcome->value < 0) break;
    done.push_back(undo(static_cast<std::uint64_t>(outcome->value)));
  }
  return done;
}

Result<std::vector<Call>> fill_memory(pid_t pid) {
  auto held = SeizedProcess::seize(pid, kSeizeTimeout);
  if (!held) return held.error();
  std::vector<Call> undo;
  for (std::uint64_t size = 64 * kMebibyte; size >= 4096; size /= 4) {
    const Call take{.number = SYS_mmap,
                    .arguments = {0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, kNoDescriptor, 0}};
    const auto more = repeat_inside(*held, take, kMostMappings, [size](std::uint64_t address) {
      return Call{.number = SYS_munmap, .arguments = {address, size}};
    });
    if (!more) return more.error();
    undo.insert(undo.end(), more->begin(), more->end());
    if (held->released()) break;
  }
  return undo;
}

/// A call that makes a descriptor. Those whose filter knows none are ended for the attempt.
Call descriptor_call(Target target) {
  switch (target) {
    case Target::kController:
      return {.number = SYS_fcntl, .arguments = {3, F_DUPFD_CLOEXEC, 0}};
    case Target::kMaintainer:
      return {.number = SYS_socket, .arguments = {AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0}};
    case Target::kNursery:
      return {.number = SYS_eventfd2, .arguments = {0, EFD_CLOEXEC}};
    default:
      return {.number = SYS_dup, .arguments = {3}};
  }
}

/// More connections than the acceptor takes at once, which never say a word.
std::vector<UniqueFd> flood(const Point& node, Random& random) {
  std::vector<UniqueFd> silent;
  (void)raise_open_file_limit(kFlood + 1024);
  for (std::size_t i = 0; i < kFlood; ++i) {
    UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) break;
    sockaddr_storage storage{};
    Address source = node.address;
    source.bytes[13] = static_cast<std::uint8_t>(1 + random.below(254));
    source.bytes[14] = static_cast<std::uint8_t>(1 + random.below(254));
    socklen_t size = to_sockaddr(Point{source, 0}, storage);
    const auto* address = reinterpret_cast<const sockaddr*>(&storage);
    if (::bind(socket.get(), address, size) != 0) continue;
    size = to_sockaddr(node, storage);
    if (::connect(socket.get(), address, size) != 0 && errno != EINPROGRESS) continue;
    silent.push_back(std::move(socket));
  }
  return silent;
}

Result<void> raise_inside(pid_t pid, Fault fault) {
  auto held = SeizedProcess::seize(pid, kSeizeTimeout);
  if (!held) return held.error();
  return held->raise(fault);
}

/// The process's number in its own PID namespace.
pid_t number_inside(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  pid_t number = pid;
  while (status >> word) {
    if (word != "NSpid:") continue;
    std::getline(status, word);
    std::istringstream numbers(word);
    while (numbers >> number) {
    }
    break;
  }
  return number;
}

/// What abort() does first. A worker's filter does not know this call.
Result<void> abort_inside(pid_t pid) {
  auto held = SeizedProcess::seize(pid, kSeizeTimeout);
  if (!held) return held.error();
  const auto own = static_cast<std::uint64_t>(number_inside(pid));
  const auto outcome = held->call({.number = SYS_tgkill, .arguments = {own, own, SIGABRT}});
  if (!outcome) return outcome.error();
  return {};
}

Result<void> send_garbage(pid_t pid, Target target, Random& random) {
  auto channel = steal_channel(pid, target);
  if (!channel) return channel.error();
  std::array<std::uint8_t, 4096> packet{};
  for (int i = 0; i < kGarbagePackets; ++i) {
    for (auto& byte : packet) byte = static_cast<std::uint8_t>(random.next());
    const std::size_t size = 1 + random.below(packet.size());
    (void)::send(channel->get(), packet.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  return {};
}

struct Area {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// Writable shared mappings of a segment in process `pid`.
std::vector<Area> mappings_of(pid_t pid, const std::string& segment) {
  std::vector<Area> areas;
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::string line;
  while (std::getline(maps, line)) {
    if (line.find("/memfd:" + segment) == std::string::npos || line.find(" rw-s ") == std::string::npos) continue;
    char* rest = nullptr;
    Area area;
    area.begin = std::strtoull(line.c_str(), &rest, 16);
    area.end = std::strtoull(rest + 1, nullptr, 16);
    areas.push_back(area);
  }
  return areas;
}

bool poke(pid_t pid, std::uint64_t address, std::uint64_t word) {
  const iovec from{&word, sizeof word};
  const iovec to{reinterpret_cast<void*>(address), sizeof word};
  return ::process_vm_writev(pid, &from, 1, &to, 1, 0) == static_cast<ssize_t>(sizeof word);
}

/// A value as an attacker would choose it: far off, just beside, or nonsense.
std::uint64_t hostile_word(Random& random) {
  constexpr std::array<std::uint64_t, 6> kEdges = {
      0, 1, ~std::uint64_t{0}, std::uint64_t{1} << 63, 0xffffffff, shm::kDefaultRingBytes + 1};
  const std::uint64_t draw = random.below(3);
  if (draw == 0) return kEdges[random.below(kEdges.size())];
  return draw == 1 ? random.next() : random.below(std::uint64_t{4} * shm::kDefaultRingBytes);
}

Result<void> spoil(pid_t pid, const std::string& segment, std::span<const std::uint64_t> heads, Random& random) {
  const auto areas = mappings_of(pid, segment);
  if (areas.empty()) return gone(pid);
  for (int i = 0; i < kGarbageWrites; ++i) {
    const Area& area = areas[random.below(areas.size())];
    const bool head = random.below(2) == 0 && !heads.empty();
    const std::uint64_t at = head ? heads[random.below(heads.size())] : 8 * random.below((area.end - area.begin) / 8);
    if (poke(pid, area.begin + at, hostile_word(random))) continue;
    // It may have been ended for the first of them.
    if (i == 0) return gone(pid);
    break;
  }
  return {};
}

Result<void> inflict_signal(Target target, Harm harm, pid_t pid) {
  switch (harm) {
    case Harm::kKill:
      return send_signal(pid, SIGKILL);
    case Harm::kSegv:
      // The first process of a PID namespace ignores these from outside.
      return target == Target::kWorker ? raise_inside(pid, Fault::kSegmentationFault) : send_signal(pid, SIGSEGV);
    case Harm::kAbort:
      return target == Target::kWorker ? abort_inside(pid) : send_signal(pid, SIGABRT);
    default:
      return send_signal(pid, SIGSTOP);
  }
}

}  // namespace

const char* target_name(Target target) {
  return kTargetNames[static_cast<std::size_t>(target)];
}
const char* harm_name(Harm harm) {
  return kHarmNames[static_cast<std::size_t>(harm)];
}

std::optional<Target> target_of(std::string_view name) {
  for (std::size_t i = 0; i < kTargets; ++i) {
    if (kTargetNames[i] == name) return static_cast<Target>(i);
  }
  return std::nullopt;
}
std::optional<Harm> harm_of(std::string_view name) {
  for (std::size_t i = 0; i < kHarms; ++i) {
    if (kHarmNames[i] == name) return static_cast<Harm>(i);
  }
  return std::nullopt;
}

std::optional<Role> role_of(Target target) {
  switch (target) {
    case Target::kWorker:
      return Role::kConn;
    case Target::kAcceptor:
      return Role::kAcceptor;
    case Target::kMaintainer:
      return Role::kMaintainer;
    case Target::kNursery:
      return Role::kNursery;
    case Target::kKeyholder:
      return Role::kKeyholder;
    case Target::kController:
      return Role::kController;
    case Target::kApplication:
      return std::nullopt;
  }
  return std::nullopt;
}

bool applies(Target target, Harm harm) {
  switch (harm) {
    case Harm::kRing:
    case Harm::kPage:
      return target == Target::kWorker;
    case Harm::kHang:
    case Harm::kSpin:
    case Harm::kMemory:
    case Harm::kDescriptors:
      // What an application does to itself is its own affair; the node does not watch it.
      return target != Target::kApplication;
    default:
      return true;
  }
}

bool is_privileged() {
  const auto self = sandbox::observe(::getpid());
  return self && (self->capabilities & (std::uint64_t{1} << CAP_SYS_PTRACE)) != 0 && ::geteuid() == 0;
}

std::string missing(Target target, Harm harm, const Means& means) {
  const bool signals = harm == Harm::kKill || harm == Harm::kStop || harm == Harm::kHang ||
                       (target != Target::kWorker && (harm == Harm::kSegv || harm == Harm::kAbort));
  const bool floods = target == Target::kAcceptor && harm == Harm::kDescriptors;
  const bool meets_limits = harm == Harm::kMemory || harm == Harm::kDescriptors || harm == Harm::kAbort;
  if (signals || floods) return "";
  if (!means.privileged) return "needs root";
  if (meets_limits && !means.confined) return "needs a confined node";
  return "";
}

Expected expected_of(Target target, Harm harm) {
  switch (harm) {
    case Harm::kKill:
    case Harm::kSegv:
    case Harm::kAbort:
      return Expected::kDeath;
    case Harm::kChannel:
      return target == Target::kApplication ? Expected::kEither
             : target == Target::kWorker    ? Expected::kDeath
                                            : Expected::kFound;
    case Harm::kHang:
    case Harm::kSpin:
      return Expected::kFound;
    case Harm::kStop:
    case Harm::kPage:
      return Expected::kNothing;
    case Harm::kMemory:
      // It lives on memory that it has; its filter knows no call that takes more.
      return target == Target::kKeyholder ? Expected::kDeath : Expected::kEither;
    case Harm::kDescriptors:
      // No call that these are allowed makes a descriptor.
      return target == Target::kKeyholder || target == Target::kWorker ? Expected::kDeath : Expected::kEither;
    case Harm::kRing:
      return Expected::kEither;
  }
  return Expected::kNothing;
}

bool replaces_nursery(Target target, Harm harm) {
  const Expected expected = expected_of(target, harm);
  return target == Target::kWorker && harm != Harm::kKill &&
         (expected == Expected::kDeath || expected == Expected::kEither);
}

Result<Lasting> inflict(Target target, Harm harm, pid_t pid, const Point& node, Random& random) {
  // The words that only the worker may write: how far it is, and whether it sleeps.
  constexpr std::array<std::uint64_t, 4> kRingHeads = {128, 256, 384, 512};
  Result<void> done;
  Lasting lasting;
  switch (harm) {
    case Harm::kKill:
    case Harm::kSegv:
    case Harm::kAbort:
    case Harm::kStop:
    case Harm::kHang:
      done = inflict_signal(target, harm, pid);
      break;
    case Harm::kSpin:
      done = raise_inside(pid, Fault::kEndlessLoop);
      break;
    case Harm::kMemory:
    case Harm::kDescriptors: {
      if (harm == Harm::kDescriptors && target == Target::kAcceptor) {
        lasting.silent = flood(node, random);
        break;
      }
      if (harm == Harm::kDescriptors) {
        lasting.more = descriptor_call(target);
        break;
      }
      auto undo = fill_memory(pid);
      if (!undo) return undo.error();
      // A worker that lives on without memory is ended by the harness.
      if (target != Target::kWorker) lasting.undo = std::move(*undo);
      break;
    }
    case Harm::kChannel:
      done = send_garbage(pid, target, random);
      break;
    case Harm::kRing:
      done = spoil(pid, "bulkhead-inward", kRingHeads, random);
      break;
    case Harm::kPage:
      done = spoil(pid, "bulkhead-live", {}, random);
      break;
  }
  if (!done) return done.error();
  return lasting;
}

bool go_on(pid_t pid, Lasting& lasting) {
  if (!lasting.more) return true;
  auto held = SeizedProcess::seize(pid, kSeizeTimeout);
  if (!held && held.error().code != ErrorCode::kNotFound) return false;
  std::optional<Call> call = std::exchange(lasting.more, std::nullopt);
  if (!held) return true;
  const auto made = repeat_inside(*held, *call, kCallsAtOnce,
                                  [](std::uint64_t fd) { return Call{.number = SYS_close, .arguments = {fd}}; });
  if (!made || held->released()) return true;
  lasting.undo.insert(lasting.undo.end(), made->begin(), made->end());
  if (made->size() < kCallsAtOnce || lasting.undo.size() >= kMostDescriptors) return true;
  lasting.more = call;
  return false;
}

bool relieve(Harm harm, pid_t pid, Lasting& lasting) {
  lasting.silent.clear();
  if (pid <= 1) return true;
  if (harm == Harm::kStop) ::kill(pid, SIGCONT);
  if (lasting.undo.empty()) return true;
  auto held = SeizedProcess::seize(pid, kSeizeTimeout);
  if (!held) return held.error().code == ErrorCode::kNotFound;
  for (int i = 0; i < kCallsAtOnce && !lasting.undo.empty(); ++i) {
    const auto outcome = held->call(lasting.undo.back());
    if (held->released()) return true;
    if (!outcome) return false;
    lasting.undo.pop_back();
  }
  return lasting.undo.empty();
}

Result<UniqueFd> steal_channel(pid_t pid, Target target) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return of_errno("pidfd", pid);
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return gone(pid);
  std::vector<int> numbers;
  while (const dirent* entry = ::readdir(directory)) {
    if (entry->d_name[0] != '.') numbers.push_back(std::atoi(entry->d_name));
  }
  ::closedir(directory);
  std::sort(numbers.begin(), numbers.end());
  const bool service = target != Target::kWorker && target != Target::kApplication;
  for (const int number : numbers) {
    // Descriptor 3 of a service is its channel to the supervisor.
    if (service && (number == 3) != (target == Target::kController)) continue;
    UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
    int domain = 0;
    int type = 0;
    int listens = 0;
    socklen_t size = sizeof domain;
    if (!fd || ::getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || domain != AF_UNIX) continue;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) continue;
    if (::getsockopt(fd.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens != 0) continue;
    return fd;
  }
  return Error{ErrorCode::kNotFound, "process " + std::to_string(pid) + " has no channel"};
}

}  // namespace bulkhead::fault
