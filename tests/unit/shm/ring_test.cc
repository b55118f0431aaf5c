#include "shm/ring.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <thread>

#include "link_fixture.h"
#include "shm/segment.h"

namespace bulkhead::shm {
namespace {

using test::must;

/// A ring in ordinary memory. Capacities below a page cannot be mapped twice, so the mirror is kept by hand.
struct PlainRing {
  PlainRing(std::size_t size, std::uint64_t start) : capacity(size), data(2 * size), tail(start), head(start) {}

  RingProducer producer() { return RingProducer(data, capacity, &tail, &head, tail.load()); }
  RingConsumer consumer() { return RingConsumer(data, capacity, &head, &tail, head.load()); }

  /// To be called after writing `size` bytes at `place`, which lies in `data`.
  void mirror(const std::byte* place, std::size_t size) {
    const std::size_t from = static_cast<std::size_t>(place - data.data());
    for (std::size_t i = from; i < from + size; ++i) data[i < capacity ? i + capacity : i - capacity] = data[i];
  }

  std::size_t capacity;
  std::vector<std::byte> data;
  std::atomic<std::uint64_t> tail;
  std::atomic<std::uint64_t> head;
};

constexpr std::uint64_t kStarts[] = {0, 5, (std::uint64_t{1} << 32) - 100, ~std::uint64_t{0} - 99};

TEST(Ring, AgreesWithAModelWhateverTheOrderOfCalls) {
  const std::uint64_t seed = test::seed_of_run("ring model");
  std::mt19937_64 random(seed);
  for (const std::size_t capacity : {std::size_t{64}, std::size_t{128}, std::size_t{256}}) {
    for (const std::uint64_t start : kStarts) {
      PlainRing ring(capacity, start);
      RingProducer producer = ring.producer();
      RingConsumer consumer = ring.consumer();
      std::deque<std::byte> visible;   // published and not given back
      std::deque<std::byte> produced;  // not yet published
      std::size_t consumed = 0;        // of `visible`, not yet given back
      for (int step = 0; step < 20000; ++step) {
        SCOPED_TRACE(testing::Message() << "seed " << seed << " capacity " << capacity << " start " << start << " step "
                                        << step);
        switch (random() % 10) {
          case 0:
          case 1:
          case 2: {
            const auto space = must(producer.writable());
            ASSERT_EQ(space.size(), capacity - visible.size() - produced.size());
            const std::size_t size = space.empty() ? 0 : random() % (space.size() + 1);
            for (std::size_t i = 0; i < size; ++i) {
              space[i] = static_cast<std::byte>(random());
              produced.push_back(space[i]);
            }
            ring.mirror(space.data(), size);
            producer.produce(size);
            break;
          }
          case 3:
            producer.rewind();
            produced.clear();
            break;
          case 4: {
            const std::size_t size = random() % (produced.size() + 1);
            producer.retract(size);
            produced.resize(produced.size() - size);
            break;
          }
          case 5:
            producer.publish();
            visible.insert(visible.end(), produced.begin(), produced.end());
            produced.clear();
            ASSERT_EQ(ring.tail.load(), producer.published());
            break;
          case 6:
          case 7: {
            const auto bytes = must(consumer.readable());
            ASSERT_EQ(bytes.size(), visible.size() - consumed);
            ASSERT_TRUE(
                std::equal(bytes.begin(), bytes.end(), visible.begin() + static_cast<std::ptrdiff_t>(consumed)));
            const std::size_t size = random() % (bytes.size() + 1);
            consumer.consume(size);
            consumed += size;
            break;
          }
          case 8:
            if (random() % 4 == 0) {
              consumer.rewind();
              consumed = 0;
            }
            break;
          default:
            consumer.publish();
            visible.erase(visible.begin(), visible.begin() + static_cast<std::ptrdiff_t>(consumed));
            consumed = 0;
            ASSERT_EQ(ring.head.load(), consumer.published());
        }
      }
    }
  }
}

TEST(RingProducer, LooksAtTheConsumerOnlyWhenItNeedsRoom) {
  PlainRing ring(64, 0);
  RingProducer producer = ring.producer();
  ASSERT_EQ(must(producer.writable()).size(), 64U);
  ring.head = 1;  // impossible, and not looked at
  EXPECT_EQ(must(producer.writable(64)).size(), 64U);
  EXPECT_FALSE(producer.writable(65));
}

TEST(RingProducer, RejectsAPositionBeyondWhatWasPublished) {
  for (const std::uint64_t start : kStarts) {
    PlainRing ring(64, start);
    RingProducer producer = ring.producer();
    producer.produce(must(producer.writable()).size() - 10);
    producer.publish();
    ring.head = start + 54;
    EXPECT_EQ(must(producer.writable()).size(), 64U);
    ring.head = start + 55;
    const auto space = producer.writable();
    ASSERT_FALSE(space);
    EXPECT_EQ(space.error().code, ErrorCode::kBroken);
    ring.head = start + 54;
    EXPECT_FALSE(producer.writable()) << "broken is for good";
  }
}

TEST(RingProducer, RejectsAPositionThatStepsBack) {
  for (const std::uint64_t start : kStarts) {
    PlainRing ring(64, start);
    RingProducer producer = ring.producer();
    producer.produce(40);
    producer.publish();
    ring.head = start + 20;
    ASSERT_TRUE(producer.refresh());
    ring.head = start + 19;
    EXPECT_FALSE(producer.refresh());
    EXPECT_TRUE(producer.broken());
  }
}

TEST(RingProducer, DoesNotCountUnpublishedBytesAsTaken) {
  PlainRing ring(64, 0);
  RingProducer producer = ring.producer();
  producer.produce(30);
  ring.head = 1;
  EXPECT_FALSE(producer.refresh());
}

TEST(RingProducer, GoesOnWhereAnotherOneStopped) {
  PlainRing ring(64, 100);
  ring.head = 70;
  RingProducer producer(ring.data, 64, &ring.tail, &ring.head, 100, 70);
  EXPECT_EQ(producer.free_known(), 34U);
  EXPECT_EQ(must(producer.writable()).size(), 34U);
}

TEST(RingConsumer, RejectsAPositionBeyondCapacity) {
  for (const std::uint64_t start : kStarts) {
    PlainRing ring(64, start);
    RingConsumer consumer = ring.consumer();
    ring.tail = start + 64;
    EXPECT_EQ(must(consumer.readable()).size(), 64U);
    ring.tail = start + 65;
    const auto bytes = consumer.readable();
    ASSERT_FALSE(bytes);
    EXPECT_EQ(bytes.error().code, ErrorCode::kBroken);
    ring.tail = start + 64;
    EXPECT_FALSE(consumer.readable()) << "broken is for good";
  }
}

TEST(RingConsumer, RejectsAPositionThatUsesSpaceNotYetGivenBack) {
  PlainRing ring(64, 0);
  RingConsumer consumer = ring.consumer();
  ring.tail = 64;
  ASSERT_TRUE(consumer.refresh());
  consumer.consume(64);
  ring.tail = 65;
  EXPECT_FALSE(consumer.refresh()) << "consumed is not given back";
}

TEST(RingConsumer, RejectsAPositionThatStepsBack) {
  for (const std::uint64_t start : kStarts) {
    PlainRing ring(64, start);
    RingConsumer consumer = ring.consumer();
    ring.tail = start + 20;
    ASSERT_TRUE(consumer.refresh());
    ring.tail = start + 19;
    EXPECT_FALSE(consumer.refresh());
    EXPECT_TRUE(consumer.broken());
  }
}

TEST(RingConsumer, StaysInsideTheDataWhateverPositionsItMeets) {
  const std::uint64_t seed = test::seed_of_run("ring positions");
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20000; ++round) {
    PlainRing ring(64, random());
    RingConsumer consumer = ring.consumer();
    RingProducer producer(ring.data, 64, &ring.tail, &ring.head, ring.tail.load());
    const auto inside = [&](const std::byte* from, std::size_t size) {
      return from >= ring.data.data() && from + size <= ring.data.data() + ring.data.size();
    };
    for (int step = 0; step < 20; ++step) {
      const std::uint64_t near = random() % 100;
      ring.tail = random() % 4 == 0 ? random() : consumer.published() + near;
      ring.head = random() % 4 == 0 ? random() : producer.published() - near;
      if (const auto bytes = consumer.readable(); bytes) {
        ASSERT_TRUE(inside(bytes->data(), bytes->size())) << "seed " << seed;
        ASSERT_LE(bytes->size(), 64U);
        consumer.consume(random() % (bytes->size() + 1));
        consumer.publish();
      }
      if (const auto space = producer.writable(); space) {
        ASSERT_TRUE(inside(space->data(), space->size())) << "seed " << seed;
        ASSERT_LE(space->size(), 64U);
        producer.produce(random() % (space->size() + 1));
        producer.publish();
      }
    }
  }
}

TEST(RingDeathTest, MisuseByItsOwnSideEndsTheProcess) {
  if (test::kSanitized) GTEST_SKIP() << "death tests and sanitizers do not go together";
  PlainRing ring(64, 0);
  RingProducer producer = ring.producer();
  RingConsumer consumer = ring.consumer();
  EXPECT_DEATH(producer.produce(65), "room");
  EXPECT_DEATH(producer.retract(1), "retracted");
  EXPECT_DEATH(consumer.consume(1), "consumed");
  EXPECT_DEATH(RingProducer(ring.data, 63, &ring.tail, &ring.head, 0), "capacity");
  EXPECT_DEATH(RingProducer(ring.data, 64, &ring.tail, &ring.head, 65, 0), "further apart");
}

/// Two threads on a ring in a mirrored mapping: bytes in order, each once. Run under ThreadSanitizer, which sees
/// whether the positions order the accesses to the data.
TEST(Ring, CarriesABytestreamBetweenThreads) {
  constexpr std::size_t kCapacity = 4096;
  constexpr std::uint64_t kBytes = test::kSanitized ? 8'000'000 : 100'000'000;
  const std::uint64_t start = ~std::uint64_t{0} - 50'000;
  const UniqueFd fd = must(make_segment("test-ring", 2 * kPageBytes));
  const auto map = must(MirroredMapping::map(fd.get(), Access::kReadWrite, 0, kPageBytes, kCapacity));
  std::atomic<std::uint64_t> tail(start);
  std::atomic<std::uint64_t> head(start);

  std::thread writing([&] {
    RingProducer producer(map.data(), kCapacity, &tail, &head, start);
    std::minstd_rand random(1);
    for (std::uint64_t sent = 0; sent < kBytes;) {
      const auto space = producer.writable();
      if (!space) break;
      const std::size_t size =
          static_cast<std::size_t>(std::min<std::uint64_t>({space->size(), kBytes - sent, random() % kCapacity}));
      if (size == 0) std::this_thread::yield();
      for (std::size_t i = 0; i < size; ++i) (*space)[i] = static_cast<std::byte>((sent + i) * 7 % 251);
      producer.produce(size);
      producer.publish();
      sent += size;
    }
  });
  RingConsumer consumer(map.data(), kCapacity, &head, &tail, start);
  std::uint64_t received = 0;
  bool good = true;
  while (received < kBytes) {
    const auto bytes = consumer.readable();
    ASSERT_TRUE(bytes.ok());
    if (bytes->empty()) std::this_thread::yield();
    for (std::size_t i = 0; i < bytes->size(); ++i) {
      good = good && (*bytes)[i] == static_cast<std::byte>((received + i) * 7 % 251);
    }
    received += bytes->size();
    consumer.consume(bytes->size());
    consumer.publish();
  }
  writing.join();
  EXPECT_TRUE(good);
}

/// Keeps the calling thread on the `index`-th processor that this process may use. Left to itself, the scheduler puts
/// two threads that take turns on one processor, where nothing ever coincides.
void stay_on_processor(int index) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < 2) return;
  for (std::size_t processor = 0; processor < CPU_SETSIZE; ++processor) {
    if (!CPU_ISSET(processor, &allowed) || index-- > 0) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    ::pthread_setaffinity_np(::pthread_self(), sizeof(one), &one);
    return;
  }
}

/// Both sides of a wake-up at the same moment, again and again. Returns in how many rounds neither saw the other: the
/// sleeper found nothing, and the producer found nobody asleep. `rounds` is how many to try, and then how many fitted
/// into the time.
template <typename Announce, typename Asleep>
std::uint64_t lost_wake_ups(const Announce& announce, const Asleep& asleep, std::uint64_t& rounds) {
  struct alignas(kPageBytes) Shared {
    alignas(128) std::atomic<std::uint64_t> tail{0};
    alignas(128) std::atomic<std::uint32_t> sleeps{0};
    alignas(128) std::atomic<std::uint64_t> producer_round{0};
    alignas(128) std::atomic<std::uint64_t> sleeper_round{0};
    alignas(128) std::atomic<std::uint64_t> stop_at{~std::uint64_t{0}};
  };
  const auto shared = std::make_unique<Shared>();
  std::vector<bool> woke;
  const std::uint64_t most = test::kSanitized ? rounds / 10 : rounds;
  woke.reserve(most);

  const auto meet = [](std::atomic<std::uint64_t>& mine, const std::atomic<std::uint64_t>& other, std::uint64_t round) {
    mine.store(round);
    for (int spins = 0; other.load() < round; ++spins) {
      if (spins > 2000) std::this_thread::yield();
    }
  };
  // Whoever comes last to a meeting leaves it first; a short random delay lets the two accesses coincide now and then.
  const auto delay = [](std::uint32_t& state) {
    state = state * 1664525 + 1013904223;
    for (std::uint32_t left = state >> 24; left > 0; --left) std::atomic_signal_fence(std::memory_order_seq_cst);
  };
  std::thread producer([&] {
    stay_on_processor(1);
    std::uint32_t state = 1;
    for (std::uint64_t round = 1;; ++round) {
      meet(shared->producer_round, shared->sleeper_round, 3 * round);
      if (round >= shared->stop_at.load(std::memory_order_relaxed)) return;
      // With both words in the caches of both, either store takes long enough for the load behind it to overtake.
      static_cast<void>(shared->sleeps.load());
      meet(shared->producer_round, shared->sleeper_round, 3 * round + 1);
      delay(state);
      shared->tail.store(round, std::memory_order_release);
      woke.push_back(asleep(shared->sleeps));
      meet(shared->producer_round, shared->sleeper_round, 3 * round + 2);
    }
  });
  cpu_set_t before;
  const bool restore = ::pthread_getaffinity_np(::pthread_self(), sizeof(before), &before) == 0;
  stay_on_processor(0);
  std::uint64_t lost = 0;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  std::uint64_t round = 1;
  std::uint32_t state = 2;
  for (;; ++round) {
    if (round > most || (round % 1024 == 0 && std::chrono::steady_clock::now() > deadline))
      shared->stop_at.store(round);
    cancel_sleep(shared->sleeps);
    meet(shared->sleeper_round, shared->producer_round, 3 * round);
    if (round >= shared->stop_at.load()) break;
    static_cast<void>(shared->tail.load());
    meet(shared->sleeper_round, shared->producer_round, 3 * round + 1);
    delay(state);
    announce(shared->sleeps);
    const bool found = shared->tail.load(std::memory_order_acquire) == round;
    meet(shared->sleeper_round, shared->producer_round, 3 * round + 2);
    if (!found && !woke.back()) ++lost;
  }
  producer.join();
  if (restore) ::pthread_setaffinity_np(::pthread_self(), sizeof(before), &before);
  rounds = round - 1;
  return lost;
}

TEST(Sleep, NoWakeUpIsLostWhenBothSidesMeet) {
  std::uint64_t rounds = 2'000'000;
  const std::uint64_t lost = lost_wake_ups([](auto& flag) { announce_sleep(flag); },
                                           [](const auto& flag) { return other_sleeps(flag); }, rounds);
  std::printf("%llu rounds\n", static_cast<unsigned long long>(rounds));
  EXPECT_EQ(lost, 0U);
}

/// Not a property of the code but of the test above: without the fences it finds lost wake-ups. Whether it does in one
/// run depends on the machine, so the number is only shown. Always 0 where nothing is inlined: the compiler then takes
/// every order for the strongest.
TEST(Sleep, WithoutFencesTheSameTestCountsLostWakeUps) {
  const auto bare_announce = [](auto& flag) { flag.store(1, std::memory_order_relaxed); };
  const auto bare_asleep = [](const auto& flag) { return flag.load(std::memory_order_relaxed) != 0; };
  const auto show = [](const char* what, std::uint64_t lost, std::uint64_t rounds) {
    std::printf("%s: %llu of %llu rounds lost\n", what, static_cast<unsigned long long>(lost),
                static_cast<unsigned long long>(rounds));
  };
  constexpr std::uint64_t kRounds = 300'000;
  std::uint64_t rounds = kRounds;
  std::uint64_t lost = lost_wake_ups(bare_announce, bare_asleep, rounds);
  show("no fence", lost, rounds);
  rounds = kRounds;
  lost = lost_wake_ups([](auto& flag) { announce_sleep(flag); }, bare_asleep, rounds);
  show("a fence where it sleeps only", lost, rounds);
  rounds = kRounds;
  lost = lost_wake_ups(
      bare_announce, [](const auto& flag) { return other_sleeps(flag); }, rounds);
  show("a fence where it wakes only", lost, rounds);
}

}  // namespace
}  // namespace bulkhead::shm
