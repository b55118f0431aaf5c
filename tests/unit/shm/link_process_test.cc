/// Links between processes: much traffic, deaths at random instants and at every instruction, and sides that lie.

#include <gtest/gtest.h>
#include <sys/ptrace.h>

#include <algorithm>
#include <cstring>

#include "link_fixture.h"
#include "shm/link.h"

namespace bulkhead::shm {
namespace {

using test::ApplicationWait;
using test::Child;
using test::ForgedInward;
using test::head_of;
using test::must;
using test::produce_inward;
using test::put_inward;
using test::Records;
using test::SharedWith;
using test::TestLink;
using test::wait_as_worker;

constexpr std::uint64_t kRecords = test::kSanitized ? 300'000 : 3'000'000;
constexpr std::size_t kCommonBody = 160;
constexpr std::size_t kRareBody = 100'000;  // more than the rings of these tests hold

[[noreturn]] void fail(const std::string& text) {
  throw std::runtime_error(text);
}

// ----------------------------------------------------------------------------------------------------------- traffic

void wait_for_inward_room(TestLink& link, std::size_t wanted) {
  while (must(link.worker->wait_for_inward_room(wanted))) {
    if (!wait_as_worker(link.to_worker.get())) fail("the worker was not woken for room");
  }
  link.worker->stop_waiting_for_inward_room();
}

/// What a worker does with a message of any size. Small ones are left unpublished, so that the caller makes batches.
void send_inward(TestLink& link, const Records::Record& record) {
  WorkerLink& worker = *link.worker;
  const std::size_t half = link.geometry.inward_capacity / 2;
  const std::size_t whole = kMessageHeadBytes + record.body.size();
  if (whole <= half) {
    while (!put_inward(worker, record.tag, record.body)) {
      worker.publish_inward();
      wait_for_inward_room(link, whole);
    }
    return;
  }
  worker.publish_inward();
  const auto head = head_of(static_cast<std::uint32_t>(2 + record.body.size()), record.tag);
  while (!produce_inward(worker, head)) wait_for_inward_room(link, head.size());
  for (auto rest = std::as_bytes(record.body); !rest.empty();) {
    const auto space = must(worker.writable_inward(1));
    const std::size_t part = std::min(space.size(), rest.size());
    if (part > 0) std::memcpy(space.data(), rest.data(), part);
    worker.inward().produce(part);
    worker.publish_inward();
    rest = rest.subspan(part);
    if (part == 0) wait_for_inward_room(link, 1);
  }
}

TEST(LinkBetweenProcesses, CarriesMillionsOfRecordsInward) {
  const std::uint64_t seed = test::seed_of_run("inward traffic");
  TestLink link(32768);
  SharedWith<std::atomic<std::uint64_t>> sleeps;
  Child worker([&] {
    Records records(seed, kCommonBody, kRareBody);
    std::minstd_rand random(1);
    std::uint64_t batch = 0;
    for (std::uint64_t sent = 0; sent < kRecords; ++sent) {
      send_inward(link, records.next());
      if (batch-- == 0) {
        link.worker->publish_inward();
        batch = random() % 16;
      }
    }
    link.worker->publish_inward();
  });
  ReceiverLink receiver = link.receiver();
  ApplicationWait wait(link.to_application.get());
  Records records(seed, kCommonBody, kRareBody);
  Message message;
  std::uint64_t slept = 0;
  for (std::uint64_t got = 0; got < kRecords;) {
    if (must(receiver.next_into(message))) {
      const auto expected = records.next();
      ASSERT_EQ(message.tag, expected.tag) << "record " << got;
      ASSERT_TRUE(std::ranges::equal(message.body, expected.body)) << "record " << got;
      ++got;
      continue;
    }
    if (!must(receiver.prepare_to_sleep())) continue;
    ++slept;
    ASSERT_TRUE(wait.wait()) << "not woken at record " << got;
  }
  EXPECT_EQ(worker.reap(), 0);
  EXPECT_FALSE(must(receiver.next_into(message)));
  std::printf("the receiver slept %llu times\n", static_cast<unsigned long long>(slept));
}

void send_outward(SenderLink& sender, ApplicationWait& wait, const Records::Record& record, bool publish) {
  const auto wait_for_room = [&](std::size_t wanted) {
    if (must(sender.prepare_to_wait(wanted)) && !wait.wait()) fail("the sender was not woken for room");
  };
  if (record.body.size() <= sender.max_whole_body()) {
    while (!must(sender.try_send(record.tag, record.body, publish))) {
      wait_for_room(kMessageHeadBytes + record.body.size());
    }
    return;
  }
  while (!must(sender.begin(record.tag, record.body.size()))) wait_for_room(kMessageHeadBytes);
  for (auto rest = record.body; !sender.finished();) {
    const std::size_t written = must(sender.write(rest));
    rest = rest.subspan(written);
    if (written == 0) wait_for_room(1);
  }
}

/// Reads the outward ring as a worker does, copying out first, and cuts messages.
class OutwardReader {
 public:
  explicit OutwardReader(WorkerLink& worker) : worker_(worker) {}

  /// Calls `take(tag, body)` for each message that is complete. Returns whether anything was read.
  template <typename Take>
  bool read(const Take& take) {
    const auto bytes = must(worker_.readable_outward());
    if (bytes.empty()) return false;
    const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data());
    pending_.insert(pending_.end(), from, from + bytes.size());
    worker_.outward().consume(bytes.size());
    worker_.publish_outward();
    std::size_t at = 0;
    while (pending_.size() - at >= kMessageHeadBytes) {
      const std::size_t size = std::size_t{pending_[at]} << 24 | std::size_t{pending_[at + 1]} << 16 |
                               std::size_t{pending_[at + 2]} << 8 | pending_[at + 3];
      if (size < 2) fail("a message without a tag");
      if (pending_.size() - at < kMessageSizeBytes + size) break;
      take(static_cast<std::uint16_t>(pending_[at + 4] << 8 | pending_[at + 5]),
           std::span<const std::uint8_t>(pending_).subspan(at + kMessageHeadBytes, size - 2));
      at += kMessageSizeBytes + size;
    }
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(at));
    return true;
  }
  bool at_message_end() const { return pending_.empty(); }

 private:
  WorkerLink& worker_;
  std::vector<std::uint8_t> pending_;
};

TEST(LinkBetweenProcesses, CarriesMillionsOfRecordsOutward) {
  const std::uint64_t seed = test::seed_of_run("outward traffic");
  TestLink link(4096, 32768);
  Child application([&] {
    SenderLink sender = link.sender();
    ApplicationWait wait(link.to_application.get());
    Records records(seed, kCommonBody, kRareBody);
    std::minstd_rand random(1);
    for (std::uint64_t sent = 0; sent < kRecords; ++sent) {
      send_outward(sender, wait, records.next(), sent + 1 == kRecords || random() % 16 == 0);
    }
  });
  Records records(seed, kCommonBody, kRareBody);
  OutwardReader reader(*link.worker);
  std::uint64_t got = 0;
  std::uint64_t slept = 0;
  bool good = true;
  while (got < kRecords && good) {
    const bool read = reader.read([&](std::uint16_t tag, std::span<const std::uint8_t> body) {
      const auto expected = records.next();
      good = good && tag == expected.tag && std::ranges::equal(body, expected.body);
      ++got;
    });
    if (read || !must(link.worker->sleep_until_outward())) continue;
    ++slept;
    ASSERT_TRUE(wait_as_worker(link.to_worker.get())) << "not woken at record " << got;
    link.worker->stop_sleeping();
  }
  EXPECT_TRUE(good) << "before record " << got;
  EXPECT_EQ(application.reap(), 0);
  std::printf("the worker slept %llu times\n", static_cast<unsigned long long>(slept));
}

/// One record at a time, there and back: each side sleeps before each of them, and one lost wake-up would hang it.
TEST(LinkBetweenProcesses, PingPongLosesNoWakeUp) {
  constexpr std::uint64_t kRounds = test::kSanitized ? 5'000 : 50'000;
  TestLink link;
  Child worker([&] {
    OutwardReader reader(*link.worker);
    for (std::uint64_t echoed = 0; echoed < kRounds;) {
      const bool read = reader.read([&](std::uint16_t tag, std::span<const std::uint8_t> body) {
        send_inward(link, {tag, body});
        link.worker->publish_inward();
        ++echoed;
      });
      if (read || !must(link.worker->sleep_until_outward())) continue;
      if (!wait_as_worker(link.to_worker.get())) fail("the worker was not woken");
      link.worker->stop_sleeping();
    }
  });
  const auto view = link.view();
  ReceiverLink receiver = must(ReceiverLink::attach(view, &link.page(), link.to_worker.get()));
  SenderLink sender = must(SenderLink::attach(view, link.outward_fd.get(), link.to_worker.get()));
  ApplicationWait wait(link.to_application.get());
  const std::uint8_t body[] = {1, 2, 3};
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    ASSERT_TRUE(must(sender.try_send(static_cast<std::uint16_t>(round), body)));
    Message message;
    while (!must(receiver.next_into(message))) {
      if (must(receiver.prepare_to_sleep())) {
        ASSERT_TRUE(wait.wait()) << "round " << round;
      }
    }
    ASSERT_EQ(message.tag, static_cast<std::uint16_t>(round));
  }
  EXPECT_EQ(worker.reap(), 0);
}

// ------------------------------------------------------------------------------------------------------------ deaths

constexpr int kKills = test::kSanitized ? 40 : 300;

/// A body that tells which message it is, twice, and has a size of its own.
std::span<const std::uint8_t> numbered_body(std::uint64_t number, std::array<std::uint8_t, 64>& memory) {
  std::memcpy(memory.data(), &number, 8);
  for (std::size_t i = 8; i < memory.size(); ++i) memory[i] = static_cast<std::uint8_t>(number * 31 + i);
  return std::span<const std::uint8_t>(memory).first(8 + number % 50);
}

std::uint64_t number_of(std::span<const std::uint8_t> body) {
  std::uint64_t number = 0;
  if (body.size() < 8) fail("a body is too short");
  std::memcpy(&number, body.data(), 8);
  std::array<std::uint8_t, 64> memory;
  if (!std::ranges::equal(body, numbered_body(number, memory))) fail("a body is torn");
  return number;
}

void spin_until(const std::atomic<std::uint64_t>& counter, std::uint64_t target, Child& child) {
  while (counter.load(std::memory_order_acquire) < target) {
    if (const auto status = child.ended(); status) fail("a child ended with status " + std::to_string(*status));
  }
}

TEST(LinkBetweenProcesses, ReceiverKilledAgainAndAgainLosesNothingAndReadsNothingTwice) {
  const std::uint64_t seed = test::seed_of_run("receiver kills");
  std::mt19937_64 random(seed);
  TestLink link(8192);
  struct Progress {
    std::atomic<std::uint64_t> dealt_with;  // the last message that a receiver has dealt with
    std::atomic<std::uint64_t> again;       // messages that a successor got although they were dealt with
  };
  SharedWith<Progress> progress;
  Child worker([&] {
    std::array<std::uint8_t, 64> memory;
    for (std::uint64_t number = 1;; ++number) {
      send_inward(link, {1, numbered_body(number, memory)});
      if (number % 3 == 0) link.worker->publish_inward();
    }
  });
  for (int round = 0; round < kKills; ++round) {
    Child receiving([&] {
      ReceiverLink receiver = link.receiver();
      ApplicationWait wait(link.to_application.get());
      Message message;
      bool first = true;
      for (;;) {
        while (!must(receiver.next_into(message))) {
          if (must(receiver.prepare_to_sleep()) && !wait.wait()) fail("the receiver was not woken");
        }
        const std::uint64_t number = number_of(message.body);
        const std::uint64_t last = progress->dealt_with.load();
        if (number == last && first) {
          progress->again.fetch_add(1);  // handed out and dealt with, and its reader died before it asked for the next
        } else if (number != last + 1) {
          fail("message " + std::to_string(number) + " after " + std::to_string(last));
        }
        first = false;
        progress->dealt_with.store(number, std::memory_order_release);
      }
    });
    const std::uint64_t target = progress->dealt_with.load() + 1 + random() % 500;
    spin_until(progress->dealt_with, target, receiving);
    receiving.kill_and_reap();
    ASSERT_FALSE(worker.ended()) << "seed " << seed << " round " << round;
  }
  std::printf("%llu messages; %llu of %d deaths fell between dealing with a message and asking for the next\n",
              static_cast<unsigned long long>(progress->dealt_with.load()),
              static_cast<unsigned long long>(progress->again.load()), kKills);
}

TEST(LinkBetweenProcesses, EverythingThatAKilledWorkerPublishedStaysReadableAndWhole) {
  const std::uint64_t seed = test::seed_of_run("worker kills");
  std::mt19937_64 random(seed);
  for (int round = 0; round < kKills; ++round) {
    TestLink link(4096);
    SharedWith<std::atomic<std::uint64_t>> published;
    Child worker([&] {
      std::array<std::uint8_t, 64> memory;
      for (std::uint64_t number = 1;; ++number) {
        send_inward(link, {1, numbered_body(number, memory)});
        if (number % 3 != 0) continue;
        link.worker->publish_inward();
        published->store(number, std::memory_order_release);
      }
    });
    ReceiverLink receiver = link.receiver();
    const std::uint64_t target = random() % 300;
    std::uint64_t last = 0;
    while (last < target) {
      const auto message = must(receiver.next());
      if (message) {
        ASSERT_EQ(number_of(message->body), ++last);
      }
    }
    worker.kill_and_reap();
    while (const auto message = must(receiver.next())) ASSERT_EQ(number_of(message->body), ++last);
    ASSERT_GE(last, published->load()) << "seed " << seed << " round " << round;
    // It publishes at every third message, and when the ring is full.
    ASSERT_FALSE(link.worker->receiver_in_message());
  }
}

TEST(LinkBetweenProcesses, SenderKilledAgainAndAgainIsTakenUpAtTheRightMessage) {
  const std::uint64_t seed = test::seed_of_run("sender kills");
  std::mt19937_64 random(seed);
  constexpr std::uint64_t kSize = kMessageHeadBytes + 8;
  TestLink link(4096, 4096);
  std::uint64_t last = 0;
  OutwardReader reader(*link.worker);
  for (int round = 0; round < kKills; ++round) {
    Child sending([&] {
      SenderLink sender = link.sender();
      ApplicationWait wait(link.to_application.get());
      for (std::uint64_t number = sender.position() / kSize + 1;; ++number) {
        std::array<std::uint8_t, 8> body;
        std::memcpy(body.data(), &number, 8);
        while (!must(sender.try_send(7, body))) {
          if (must(sender.prepare_to_wait()) && !wait.wait()) fail("the sender was not woken");
        }
      }
    });
    const auto take = [&](std::uint16_t, std::span<const std::uint8_t> body) {
      std::uint64_t number = 0;
      if (body.size() != 8) fail("a torn message");
      std::memcpy(&number, body.data(), 8);
      if (number != last + 1) fail("message " + std::to_string(number) + " after " + std::to_string(last));
      last = number;
    };
    const std::uint64_t target = last + 1 + random() % 1000;
    while (last < target) {
      reader.read(take);
      const auto status = sending.ended();
      ASSERT_FALSE(status) << "status " << *status;
    }
    sending.kill_and_reap();
    while (reader.read(take)) {
    }
    ASSERT_TRUE(reader.at_message_end()) << "seed " << seed << " round " << round;
    ASSERT_FALSE(link.worker->sender_in_message());
  }
}

/// Lets a child run instruction by instruction until `done`, and calls `look` after each. False: ptrace is not allowed.
template <typename Done, typename Look>
bool step_through(Child& child, const Done& done, const Look& look, long& steps) {
  int status = 0;
  if (::waitpid(child.pid(), &status, 0) != child.pid() || !WIFSTOPPED(status)) return false;
  while (!done()) {
    if (::ptrace(PTRACE_SINGLESTEP, child.pid(), nullptr, nullptr) != 0) fail("ptrace");
    if (::waitpid(child.pid(), &status, 0) != child.pid() || !WIFSTOPPED(status)) fail("the child ended");
    ++steps;
    look();
  }
  return true;
}

void be_stepped() {
  if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
  ::raise(SIGSTOP);
}

TEST(LinkBetweenProcesses, ReceiverCanBeReplacedAfterEachOfItsInstructions) {
  TestLink link(4096);
  std::array<std::uint8_t, 64> memory;
  for (std::uint64_t number = 1; number <= 8; ++number) {
    ASSERT_TRUE(put_inward(*link.worker, 1, numbered_body(number, memory)));
  }
  link.worker->publish_inward();
  SharedWith<std::atomic<std::uint64_t>> dealt_with;
  Child receiving([&] {
    const auto view = link.view();
    be_stepped();
    ReceiverLink receiver = must(ReceiverLink::attach(view, &link.page(), link.to_worker.get()));
    Message message;
    message.body.reserve(100);
    while (must(receiver.next_into(message))) dealt_with->store(number_of(message.body));
  });
  const auto view = link.view();
  long steps = 0;
  const auto left = std::make_unique<TakenPage>();
  const bool allowed = step_through(
      receiving, [&] { return dealt_with->load() == 5; },
      [&] {
        std::memcpy(static_cast<void*>(left.get()), &link.page(), sizeof(TakenPage));
        auto successor = ReceiverLink::attach(view, left.get(), link.to_worker.get());
        ASSERT_TRUE(successor.ok()) << "step " << steps << ": " << successor.error().text;
        const auto message = must(successor->next());
        ASSERT_TRUE(message) << "step " << steps;
        const std::uint64_t number = number_of(message->body);
        const std::uint64_t last = dealt_with->load();
        ASSERT_TRUE(number == last || number == last + 1) << number << " after " << last << ", step " << steps;
      },
      steps);
  if (!allowed) GTEST_SKIP() << "ptrace is not allowed here";
  EXPECT_GT(steps, 500);
}

TEST(LinkBetweenProcesses, SenderShowsOnlyWholeMessagesAfterEachOfItsInstructions) {
  TestLink link(4096, 4096);
  SharedWith<std::atomic<std::uint64_t>> sent;
  Child sending([&] {
    const auto view = link.view(InwardView::Part::kHeader);
    be_stepped();
    SenderLink sender = must(SenderLink::attach(view, link.outward_fd.get(), link.to_worker.get()));
    std::array<std::uint8_t, 64> memory;
    for (std::uint64_t number = 1;; ++number) {
      if (!must(sender.try_send(1, numbered_body(number, memory)))) fail("no room");
      sent->store(number);
    }
  });
  // The worker never consumes, so that each look begins at the beginning.
  long steps = 0;
  const bool allowed = step_through(
      sending, [&] { return sent->load() == 5; },
      [&] {
        const auto bytes = must(link.worker->readable_outward());
        std::uint64_t count = 0;
        for (std::size_t at = 0; at < bytes.size();) {
          ASSERT_GE(bytes.size() - at, kMessageHeadBytes) << "step " << steps;
          const std::size_t body = std::to_integer<std::size_t>(bytes[at + 3]) - 2;
          ASSERT_GE(bytes.size() - at, kMessageHeadBytes + body) << "step " << steps;
          const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data() + at + kMessageHeadBytes);
          ASSERT_EQ(number_of({from, body}), ++count) << "step " << steps;
          at += kMessageHeadBytes + body;
        }
        ASSERT_TRUE(count == sent->load() || count == sent->load() + 1) << "step " << steps;
      },
      steps);
  if (!allowed) GTEST_SKIP() << "ptrace is not allowed here";
  EXPECT_GT(steps, 500);
}

// ------------------------------------------------------------------------------------------------------------- liars

/// Values that are wrong in interesting ways, near `truth` or nowhere.
std::uint64_t lie(std::mt19937_64& random, std::uint64_t truth, std::uint64_t capacity) {
  switch (random() % 8) {
    case 0:
      return random();
    case 1:
      return truth + capacity;
    case 2:
      return truth + capacity + 1;
    case 3:
      return truth - 1;
    case 4:
      return ~std::uint64_t{0} - random() % 16;
    case 5:
      return truth + (std::uint64_t{1} << 32);
    default:
      return truth + random() % capacity;
  }
}

constexpr int kLies = test::kSanitized ? 60 : 400;

TEST(HostileWorker, CannotLeadAnApplicationOutOfTheRingOrKeepItInside) {
  const std::uint64_t seed = test::seed_of_run("hostile worker");
  ForgedInward forged(4096, 4096);
  // Made before the worker turns hostile: it goes on to change what was checked.
  const auto view = forged.view();
  SharedWith<std::atomic<std::uint64_t>> turns;
  Child liar([&] {
    std::mt19937_64 random(seed);
    InwardHeader& header = forged.header();
    for (;;) {
      const std::uint64_t position = forged.base.page().position.load(std::memory_order_relaxed);
      const auto put = [&](std::uint64_t at, std::byte value) {
        auto& byte = reinterpret_cast<std::atomic<std::byte>&>(forged.data()[static_cast<std::size_t>(at % 4096)]);
        byte.store(value, std::memory_order_relaxed);
      };
      // Sizes that pass, from where the receiver stands, and now and then anything anywhere.
      std::uint64_t at = position;
      for (int i = 0; i < 20; ++i) {
        const std::uint64_t size = 2 + random() % 200;
        for (std::uint64_t high = 0; high < 3; ++high) put(at + high, std::byte{0});
        put(at + 3, static_cast<std::byte>(size));
        at += kMessageSizeBytes + size;
      }
      if (random() % 8 == 0) put(random(), static_cast<std::byte>(random()));
      // Mostly positions that pass, so that lengths and bodies are reached.
      header.in_tail.store(random() % 64 != 0 ? position + 4096 : lie(random, position, 4096),
                           std::memory_order_relaxed);
      header.in_waits.store(static_cast<std::uint32_t>(random() % 3), std::memory_order_relaxed);
      header.out_sleeps.store(static_cast<std::uint32_t>(random()), std::memory_order_relaxed);
      const std::uint64_t tail = forged.base.window().tail.load(std::memory_order_relaxed);
      header.out_head.store(random() % 64 != 0 ? tail : lie(random, tail, 4096), std::memory_order_relaxed);
      header.capacity = static_cast<std::uint32_t>(random());
      header.generation = random();
      turns->fetch_add(1);
    }
  });
  spin_until(*turns, 1, liar);
  std::mt19937_64 random(seed + 1);
  std::uint64_t broken = 0;
  std::uint64_t messages = 0;
  for (int round = 0; round < kLies || (messages == 0 && round < 100 * kLies); ++round) {
    if (random() % 4 != 0) forged.base.page().generation = 0;
    auto receiver = ReceiverLink::attach(view, &forged.base.page(), forged.base.to_worker.get(), 50'000);
    if (!receiver) {
      ++broken;
      forged.base.page().generation = 0;
      continue;
    }
    Message message;
    for (int call = 0; call < 2000; ++call) {
      const auto found = receiver->next_into(message);
      if (!found) {
        ASSERT_EQ(found.error().code, ErrorCode::kBroken);
        ASSERT_FALSE(receiver->next_into(message));
        ++broken;
        break;
      }
      if (*found) {
        ASSERT_LE(message.body.size(), 50'000U);
        ++messages;
      } else if (!receiver->prepare_to_sleep()) {
        ++broken;
        break;
      }
    }
    if (random() % 4 != 0) forged.base.window().generation = 0;
    auto sender = SenderLink::attach(view, forged.base.outward_fd.get(), forged.base.to_worker.get());
    if (!sender) {
      forged.base.window().generation = 0;
      ++broken;
      continue;
    }
    const std::vector<std::uint8_t> body(1000, 7);
    for (int call = 0; call < 200; ++call) {
      const auto sent = sender->try_send(1, std::span(body).first(random() % 1000));
      if (!sent || (!*sent && !sender->prepare_to_wait())) {
        ++broken;
        break;
      }
    }
  }
  ASSERT_FALSE(liar.ended());
  std::printf("%llu messages taken, link broken %llu times\n", static_cast<unsigned long long>(messages),
              static_cast<unsigned long long>(broken));
  EXPECT_GT(broken, 0U);
  EXPECT_GT(messages, 0U);
}

TEST(HostileApplication, CannotLeadAWorkerOutOfItsRings) {
  const std::uint64_t seed = test::seed_of_run("hostile application");
  TestLink link(4096, 4096);
  SharedWith<std::atomic<std::uint64_t>> turns;
  SharedWith<std::atomic<std::uint64_t>> tail;
  SharedWith<std::atomic<std::uint64_t>> head;
  Child liar([&] {
    std::mt19937_64 random(seed);
    for (;;) {
      TakenPage& page = link.page();
      OutwardHeader& window = link.window();
      page.position.store(random() % 64 != 0 ? tail->load() : lie(random, tail->load(), 4096),
                          std::memory_order_relaxed);
      page.sleeps.store(static_cast<std::uint32_t>(random()), std::memory_order_relaxed);
      page.streaming.store(static_cast<std::uint32_t>(random()), std::memory_order_relaxed);
      page.generation.store(random() % 4 == 0 ? random() : 7, std::memory_order_relaxed);
      window.tail.store(random() % 64 != 0 ? head->load() + random() % 4097 : lie(random, head->load(), 4096),
                        std::memory_order_relaxed);
      window.waits.store(static_cast<std::uint32_t>(random() % 3), std::memory_order_relaxed);
      window.streaming.store(static_cast<std::uint32_t>(random()), std::memory_order_relaxed);
      window.generation.store(random() % 4 == 0 ? random() : 7, std::memory_order_relaxed);
      turns->fetch_add(1);
    }
  });
  spin_until(*turns, 1, liar);
  std::mt19937_64 random(seed + 1);
  std::uint64_t broken = 0;
  std::uint64_t worked = 0;
  for (int round = 0; round < kLies; ++round) {
    tail->store(0);
    head->store(0);
    link.remake_worker();
    WorkerLink& worker = *link.worker;
    for (int call = 0; call < 500; ++call) {
      const auto space = worker.writable_inward();
      const auto bytes = worker.readable_outward();
      if (!space || !bytes) {
        ASSERT_FALSE(worker.writable_inward().ok() && worker.readable_outward().ok());
        ++broken;
        break;
      }
      ASSERT_LE(space->size(), 4096U);
      ASSERT_LE(bytes->size(), 4096U);
      // Touches all of both: the guard pages end the test if a span leaves the mapping.
      const std::size_t size = random() % (space->size() + 1);
      std::memset(space->data(), 1, space->size());
      worker.inward().produce(size);
      worker.publish_inward();
      tail->store(worker.inward().published());
      std::uint64_t sum = 0;
      for (const std::byte& byte : *bytes) sum += std::to_integer<std::uint64_t>(byte);
      worked += sum + 1;
      worker.outward().consume(random() % (bytes->size() + 1));
      worker.publish_outward();
      head->store(worker.outward().published());
      if (const auto waits = worker.wait_for_inward_room(100); waits) worker.stop_waiting_for_inward_room();
      if (const auto sleeping = worker.sleep_until_outward(); sleeping) worker.stop_sleeping();
      static_cast<void>(worker.receiver_in_message());
      static_cast<void>(worker.sender_in_message());
    }
  }
  ASSERT_FALSE(liar.ended());
  std::printf("link broken %llu times of %d\n", static_cast<unsigned long long>(broken), kLies);
  EXPECT_GT(broken, 0U);
  EXPECT_GT(worked, 0U);
}

}  // namespace
}  // namespace bulkhead::shm
