#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "shm/link.h"

namespace bulkhead::shm::test {

#ifdef BULKHEAD_SANITIZED
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

/// The value, or an exception that ends the test with the error's text.
template <typename T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().text);
  return std::move(result).value();
}
inline void must(Result<void> result) {
  if (!result) throw std::runtime_error(result.error().text);
}

/// The seed of this run: BULKHEAD_TEST_SEED, or a fixed one. Printed, so that a failure can be repeated.
inline std::uint64_t seed_of_run(const char* what) {
  const char* given = std::getenv("BULKHEAD_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : 20240607;
  std::printf("%s: seed %llu\n", what, static_cast<unsigned long long>(seed));
  return seed;
}

/// One object in memory that is shared with forked children. Zeroed.
template <typename T>
class SharedWith {
 public:
  SharedWith() {
    void* memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("mmap");
    object_ = new (memory) T();
  }
  SharedWith(const SharedWith&) = delete;
  SharedWith& operator=(const SharedWith&) = delete;
  ~SharedWith() { ::munmap(object_, sizeof(T)); }
  T& operator*() const { return *object_; }
  T* operator->() const { return object_; }

 private:
  T* object_;
};

/// A forked process that runs `body` and leaves with status 0, or 99 after an exception (whose text it prints). Killed
/// and reaped at the latest when the object goes, or when this process ends.
class Child {
 public:
  explicit Child(const std::function<void()>& body) {
    std::fflush(nullptr);
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("fork");
    if (pid_ > 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(98);
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      ::_exit(99);
    }
    ::_exit(0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) kill_and_reap();
  }
  pid_t pid() const { return pid_; }
  /// The status as waitpid gives it.
  int reap() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }
  int kill_and_reap() {
    ::kill(pid_, SIGKILL);
    return reap();
  }
  /// The status if it ended by itself.
  std::optional<int> ended() {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_ = -1;
};

/// Waits for a wake-up as the worker does. False after 20 s, which no test should come near.
inline bool wait_as_worker(int to_worker) {
  pollfd entry{to_worker, POLLIN, 0};
  const int ready = ::poll(&entry, 1, 20000);
  drain_wakeup(to_worker);
  return ready == 1;
}

/// Waits for a wake-up as applications do: edge-triggered, nobody reads the counter.
class ApplicationWait {
 public:
  explicit ApplicationWait(int to_application) : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, to_application, &event) != 0) throw std::runtime_error("epoll_ctl");
  }
  bool wait() {
    epoll_event event{};
    int ready = 0;
    do {
      ready = ::epoll_wait(epoll_.get(), &event, 1, 20000);
    } while (ready < 0 && errno == EINTR);
    return ready == 1;
  }

 private:
  UniqueFd epoll_;
};

/// Segments, wake-ups and the worker's end of one link; the applications' ends on demand.
class TestLink {
 public:
  explicit TestLink(std::uint32_t inward = 16384, std::uint32_t outward = 16384, SlotId slot = 1,
                    Generation generation = 7)
      : geometry{slot, generation, inward, outward},
        taken_fd(must(make_segment("test-taken", taken_segment_bytes(kSlots)))),
        outward_fd(must(make_segment("test-outward", outward_segment_bytes(kSlots, outward)))),
        to_application(must(make_wakeup())),
        to_worker(must(make_wakeup())) {
    must(seal_replaceable(taken_fd.get()));
    must(seal_replaceable(outward_fd.get()));
    taken_map = must(Mapping::map(taken_fd.get(), Access::kReadWrite, 0, taken_segment_bytes(kSlots)));
    window_map = must(Mapping::map(outward_fd.get(), Access::kReadWrite, outward_window_offset(slot, outward),
                                   outward_window_bytes(outward)));
    remake_worker();
  }

  void remake_worker() {
    worker.reset();
    worker.emplace(must(WorkerLink::create(geometry, must(reopen_read_only(taken_fd.get())).get(),
                                           must(reopen_read_only(outward_fd.get())).get(), to_application.get(),
                                           MirroredMapping::Guard::kBothSides)));
  }

  std::shared_ptr<const InwardView> view(InwardView::Part part = InwardView::Part::kAll) const {
    return must(InwardView::map(worker->inward_fd(), geometry, part));
  }
  TakenPage& page() const { return *taken_page(taken_map, geometry.slot); }
  OutwardHeader& window() const { return *reinterpret_cast<OutwardHeader*>(window_map.data()); }
  Result<ReceiverLink> try_receiver(std::size_t max_body = ReceiverLink::kDefaultMaxBody) const {
    return ReceiverLink::attach(view(), &page(), to_worker.get(), max_body);
  }
  ReceiverLink receiver(std::size_t max_body = ReceiverLink::kDefaultMaxBody) const {
    return must(try_receiver(max_body));
  }
  Result<SenderLink> try_sender() const {
    return SenderLink::attach(view(InwardView::Part::kHeader), outward_fd.get(), to_worker.get());
  }
  SenderLink sender() const { return must(try_sender()); }

  static constexpr std::uint32_t kSlots = 3;
  LinkGeometry geometry;
  UniqueFd taken_fd;
  UniqueFd outward_fd;
  UniqueFd to_application;
  UniqueFd to_worker;
  Mapping taken_map;
  Mapping window_map;
  std::optional<WorkerLink> worker;
};

/// A link whose worker is hostile: a well-formed inward segment in which the test writes what it likes.
struct ForgedInward {
  explicit ForgedInward(std::uint32_t inward, std::uint32_t outward = 4096)
      : base(inward, outward), fd(must(make_segment("test-forged", inward_segment_bytes(inward)))) {
    map = must(Mapping::map(fd.get(), Access::kReadWrite, 0, inward_segment_bytes(inward)));
    std::memcpy(map.data(), &base.view()->header(), kWordSpacing);
    must(seal_owned(fd.get()));
  }
  InwardHeader& header() const { return *reinterpret_cast<InwardHeader*>(map.data()); }
  std::span<std::byte> data() const { return {map.data() + kPageBytes, map.size() - kPageBytes}; }
  std::shared_ptr<const InwardView> view() const {
    return must(InwardView::map(fd.get(), base.geometry, InwardView::Part::kAll));
  }
  /// Ends with empty pages of their own, as if none had ever been attached.
  ReceiverLink receiver(std::size_t max_body = ReceiverLink::kDefaultMaxBody) const {
    base.page().generation = 0;
    return must(ReceiverLink::attach(view(), &base.page(), base.to_worker.get(), max_body));
  }
  SenderLink sender() const {
    base.window().generation = 0;
    return must(SenderLink::attach(view(), base.outward_fd.get(), base.to_worker.get()));
  }

  TestLink base;
  UniqueFd fd;
  Mapping map;
};

inline std::array<std::byte, kMessageHeadBytes> head_of(std::uint32_t size, std::uint16_t tag) {
  const auto byte = [](std::uint32_t value, int shift) { return static_cast<std::byte>(value >> shift & 0xFFU); };
  return {byte(size, 24), byte(size, 16), byte(size, 8), byte(size, 0), byte(tag, 8), byte(tag, 0)};
}

/// Copies bytes into the inward ring as a worker does; false when there is no room for all of them.
inline bool produce_inward(WorkerLink& worker, std::span<const std::byte> bytes) {
  const auto space = must(worker.writable_inward(bytes.size()));
  if (space.size() < bytes.size()) return false;
  std::copy(bytes.begin(), bytes.end(), space.begin());
  worker.inward().produce(bytes.size());
  return true;
}

/// Puts one whole message into the inward ring, unpublished; false when there is no room.
inline bool put_inward(WorkerLink& worker, std::uint16_t tag, std::span<const std::uint8_t> body) {
  const std::size_t whole = kMessageHeadBytes + body.size();
  if (must(worker.writable_inward(whole)).size() < whole) return false;
  return produce_inward(worker, head_of(static_cast<std::uint32_t>(2 + body.size()), tag)) &&
         produce_inward(worker, std::as_bytes(body));
}

/// Messages of random sizes that both processes can work out from the seed.
class Records {
 public:
  struct Record {
    std::uint16_t tag;
    std::span<const std::uint8_t> body;
  };

  /// Bodies of up to `common` bytes, and now and then one of up to `rare`.
  Records(std::uint64_t seed, std::size_t common, std::size_t rare) : random_(seed), common_(common), rare_(rare) {
    pool_.resize(2 * rare + 4096);
    std::mt19937_64 bytes(seed ^ 0x5eed);
    for (auto& byte : pool_) byte = static_cast<std::uint8_t>(bytes());
  }

  Record next() {
    const std::uint64_t draw = random_();
    const bool is_rare = (draw & 0xFFFU) == 0;
    const std::size_t size = static_cast<std::size_t>((draw >> 12) % ((is_rare ? rare_ : common_) + 1));
    const std::size_t offset = static_cast<std::size_t>((draw >> 40) % (pool_.size() - size));
    return Record{static_cast<std::uint16_t>(++count_), std::span(pool_).subspan(offset, size)};
  }

 private:
  std::mt19937_64 random_;
  std::size_t common_;
  std::size_t rare_;
  std::uint64_t count_ = 0;
  std::vector<std::uint8_t> pool_;
};

}  // namespace bulkhead::shm::test
