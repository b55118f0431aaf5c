#include "shm/link.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>

#include "link_fixture.h"

namespace bulkhead::shm {
namespace {

using test::head_of;
using test::must;
using test::produce_inward;
using test::put_inward;
using test::TestLink;

using Bytes = std::vector<std::uint8_t>;

Bytes pattern(std::size_t size, std::uint8_t first = 1) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

/// How often a wake-up was written since the last call.
std::uint64_t wakes(const UniqueFd& fd) {
  std::uint64_t count = 0;
  return ::read(fd.get(), &count, sizeof(count)) == sizeof(count) ? count : 0;
}

std::optional<Message> next_of(ReceiverLink& receiver) {
  return must(receiver.next());
}

/// What the worker sees of the outward ring, taken and given back.
Bytes take_outward(WorkerLink& worker) {
  const auto bytes = must(worker.readable_outward());
  Bytes copy(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
  worker.outward().consume(bytes.size());
  worker.publish_outward();
  return copy;
}

Bytes encoded(std::uint16_t tag, const Bytes& body) {
  Bytes bytes(6 + body.size());
  const auto head = head_of(static_cast<std::uint32_t>(2 + body.size()), tag);
  std::memcpy(bytes.data(), head.data(), head.size());
  std::copy(body.begin(), body.end(), bytes.begin() + 6);
  return bytes;
}

// ------------------------------------------------------------------------------------------------------------ inward

TEST(ReceiverLink, GetsMessagesInOrderWithTagAndBody) {
  TestLink link;
  ReceiverLink receiver = link.receiver();
  EXPECT_FALSE(receiver.resumed());
  EXPECT_FALSE(next_of(receiver));
  ASSERT_TRUE(put_inward(*link.worker, 0x1234, pattern(5)));
  ASSERT_TRUE(put_inward(*link.worker, 0xFFFF, {}));
  EXPECT_FALSE(next_of(receiver)) << "not published yet";
  link.worker->publish_inward();
  const auto first = next_of(receiver);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->tag, 0x1234);
  EXPECT_EQ(first->body, pattern(5));
  const auto second = next_of(receiver);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->tag, 0xFFFF);
  EXPECT_TRUE(second->body.empty());
  EXPECT_FALSE(next_of(receiver));
}

TEST(ReceiverLink, GetsWhatWasSentBeforeItAttached) {
  TestLink link;
  std::size_t sent = 0;
  while (put_inward(*link.worker, static_cast<std::uint16_t>(sent + 1), pattern(100))) ++sent;
  EXPECT_EQ(sent, 16384U / 106U);
  link.worker->publish_inward();
  EXPECT_FALSE(link.worker->receiver_seen());
  ReceiverLink receiver = link.receiver();
  EXPECT_TRUE(link.worker->receiver_seen());
  for (std::size_t i = 0; i < sent; ++i) {
    const auto message = next_of(receiver);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->tag, i + 1);
  }
  EXPECT_FALSE(next_of(receiver));
  EXPECT_EQ(must(link.worker->writable_inward()).size(), 16384U);
}

TEST(ReceiverLink, KeepsTheBodysMemoryWhenItIsReused) {
  TestLink link;
  ReceiverLink receiver = link.receiver();
  Message message;
  message.body.reserve(1000);
  const auto* memory = message.body.data();
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(900)));
  link.worker->publish_inward();
  ASSERT_TRUE(must(receiver.next_into(message)));
  EXPECT_EQ(message.body.data(), memory);
  EXPECT_EQ(message.body, pattern(900));
}

TEST(ReceiverLink, SeesAGapWhereMessagesWereDiscarded) {
  TestLink link;
  ASSERT_TRUE(must(link.worker->put_gap(0x0102030405060708)));
  ASSERT_TRUE(put_inward(*link.worker, 5, pattern(8)));
  link.worker->publish_inward();
  ReceiverLink receiver = link.receiver();
  const auto gap = next_of(receiver);
  ASSERT_TRUE(gap);
  EXPECT_EQ(gap_count(*gap), 0x0102030405060708U);
  EXPECT_EQ(gap_count(*next_of(receiver)), std::nullopt);
}

TEST(WorkerLink, PutsNoGapWhereThereIsNoRoom) {
  TestLink link(4096);
  link.worker->inward().produce(4096 - 13);
  EXPECT_FALSE(must(link.worker->put_gap(1)));
  link.worker->inward().retract(1);
  EXPECT_TRUE(must(link.worker->put_gap(1)));
}

TEST(ReceiverLink, CountsAMessageAsTakenWhenTheNextIsAskedFor) {
  TestLink link;
  for (std::uint16_t tag = 1; tag <= 3; ++tag) ASSERT_TRUE(put_inward(*link.worker, tag, pattern(4)));
  link.worker->publish_inward();
  {
    ReceiverLink first = link.receiver();
    EXPECT_EQ(next_of(first)->tag, 1);
    EXPECT_EQ(next_of(first)->tag, 2);
    EXPECT_EQ(first.position(), 10U);
  }
  {
    ReceiverLink second = link.receiver();
    EXPECT_TRUE(second.resumed());
    EXPECT_EQ(next_of(second)->tag, 2) << "it was handed out, and nobody knows whether it was dealt with";
    second.commit();
  }
  ReceiverLink third = link.receiver();
  EXPECT_EQ(next_of(third)->tag, 3);
  EXPECT_FALSE(next_of(third));
}

TEST(ReceiverLink, IgnoresAPageOfAnotherGeneration) {
  TestLink link;
  link.page().position = 12345;
  link.page().sleeps = 1;
  link.page().streaming = 1;
  link.page().generation = link.geometry.generation - 1;
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(4)));
  link.worker->publish_inward();
  EXPECT_EQ(wakes(link.to_application), 0U);
  EXPECT_FALSE(link.worker->receiver_in_message());
  EXPECT_TRUE(link.worker->writable_inward().ok());
  ReceiverLink receiver = link.receiver();
  EXPECT_FALSE(receiver.resumed());
  EXPECT_EQ(link.page().position, 0U);
  EXPECT_EQ(link.page().streaming, 0U);
  EXPECT_EQ(next_of(receiver)->tag, 1);
}

TEST(ReceiverLink, GathersAMessageLargerThanTheRing) {
  TestLink link;
  ReceiverLink receiver = link.receiver();
  const Bytes body = pattern(1'000'000);
  const auto head = head_of(static_cast<std::uint32_t>(2 + body.size()), 77);
  ASSERT_TRUE(produce_inward(*link.worker, head));
  std::size_t sent = 0;
  std::optional<Message> message;
  for (int round = 0; round < 100000 && !message; ++round) {
    const auto space = must(link.worker->writable_inward());
    const std::size_t part = std::min({space.size(), body.size() - sent, std::size_t{5000}});
    std::memcpy(space.data(), body.data() + sent, part);
    link.worker->inward().produce(part);
    link.worker->publish_inward();
    sent += part;
    message = next_of(receiver);
    if (!message && sent > 10000) {
      EXPECT_TRUE(link.worker->receiver_in_message());
    }
  }
  ASSERT_TRUE(message);
  EXPECT_EQ(message->tag, 77);
  EXPECT_EQ(message->body, body);
  EXPECT_TRUE(link.worker->receiver_in_message()) << "it is not taken before the next one is asked for";
  EXPECT_FALSE(next_of(receiver));
  EXPECT_FALSE(link.worker->receiver_in_message());
  ASSERT_TRUE(put_inward(*link.worker, 78, pattern(3)));
  link.worker->publish_inward();
  EXPECT_EQ(next_of(receiver)->body, pattern(3));
}

TEST(ReceiverLink, CannotBeTakenUpInsideAMessage) {
  TestLink link;
  {
    ReceiverLink receiver = link.receiver();
    ASSERT_TRUE(produce_inward(*link.worker, head_of(100'002, 1)));
    link.worker->inward().produce(8000);
    link.worker->publish_inward();
    EXPECT_FALSE(next_of(receiver));
  }
  const auto again = link.try_receiver();
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kBroken);
}

TEST(ReceiverLink, TakesALargeMessageThatIsThereAtOnceWithoutGoingIntoIt) {
  TestLink link;
  ASSERT_TRUE(put_inward(*link.worker, 9, pattern(12000)));
  link.worker->publish_inward();
  {
    ReceiverLink receiver = link.receiver();
    EXPECT_EQ(next_of(receiver)->body, pattern(12000));
    EXPECT_FALSE(link.worker->receiver_in_message());
  }
  ReceiverLink again = link.receiver();
  EXPECT_EQ(next_of(again)->body, pattern(12000));
}

TEST(ReceiverLink, BreaksAtAMessageAboveItsLimit) {
  TestLink link;
  ReceiverLink receiver = link.receiver(100);
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(100)));
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(101)));
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(1)));
  link.worker->publish_inward();
  EXPECT_EQ(next_of(receiver)->body.size(), 100U);
  for (int i = 0; i < 3; ++i) {
    const auto refused = receiver.next();
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kBroken);
  }
  EXPECT_FALSE(receiver.prepare_to_sleep());
}

TEST(ReceiverLink, BreaksAtAMessageWithoutATag) {
  for (const std::uint32_t size : {0U, 1U}) {
    TestLink link;
    ReceiverLink receiver = link.receiver();
    ASSERT_TRUE(produce_inward(*link.worker, head_of(size, 1)));
    link.worker->publish_inward();
    EXPECT_FALSE(receiver.next());
  }
}

TEST(ReceiverLink, BreaksAtTheLargestSizeThatCanBeWritten) {
  TestLink link;
  ReceiverLink receiver = link.receiver(~std::size_t{0});
  ASSERT_TRUE(produce_inward(*link.worker, head_of(0xFFFFFFFF, 1)));
  link.worker->publish_inward();
  EXPECT_FALSE(must(receiver.next())) << "4 GiB less 3 bytes are within this limit: it waits";
  TestLink bounded;
  ReceiverLink strict = bounded.receiver();
  ASSERT_TRUE(produce_inward(*bounded.worker, head_of(0xFFFFFFFF, 1)));
  bounded.worker->publish_inward();
  EXPECT_FALSE(strict.next());
}

TEST(ReceiverLink, DoesNotReserveWhatWasOnlyAnnounced) {
  TestLink link;
  ReceiverLink receiver = link.receiver();
  ASSERT_TRUE(produce_inward(*link.worker, head_of(100 * 1024 * 1024, 1)));
  link.worker->inward().produce(1000);
  link.worker->publish_inward();
  const auto resident = [] {
    std::ifstream statm("/proc/self/statm");
    std::uint64_t total = 0;
    statm >> total;
    return total * kPageBytes;
  };
  const std::uint64_t before = resident();
  EXPECT_FALSE(next_of(receiver));
  EXPECT_LT(resident() - before, std::uint64_t{8} * 1024 * 1024);
}

TEST(ReceiverLink, BreaksAtAnImpossiblePosition) {
  const std::uint64_t impossible[] = {4097, ~std::uint64_t{0}, std::uint64_t{1} << 63, (std::uint64_t{1} << 32) + 5};
  for (const std::uint64_t tail : impossible) {
    test::ForgedInward forged(4096);
    ReceiverLink receiver = forged.receiver();
    forged.header().in_tail = tail;
    const auto message = receiver.next();
    ASSERT_FALSE(message) << tail;
    EXPECT_EQ(message.error().code, ErrorCode::kBroken);
    forged.header().in_tail = 0;
    EXPECT_FALSE(receiver.next()) << "broken is for good";
  }
  test::ForgedInward forged(4096);
  ReceiverLink receiver = forged.receiver();
  forged.header().in_tail = 4097;
  EXPECT_FALSE(receiver.prepare_to_sleep());
}

TEST(SenderLink, BreaksAtAnImpossiblePosition) {
  for (const std::uint64_t head : {std::uint64_t{5000}, ~std::uint64_t{0}}) {
    test::ForgedInward forged(4096);
    SenderLink sender = forged.sender();
    ASSERT_TRUE(must(sender.try_send(1, pattern(5))));
    forged.header().out_head = head;
    ASSERT_TRUE(must(sender.try_send(1, pattern(2030)))) << "there is room without looking";
    ASSERT_TRUE(must(sender.try_send(1, pattern(2030))));
    EXPECT_EQ(sender.try_send(1, pattern(2040)).error().code, ErrorCode::kBroken) << head;
    forged.header().out_head = 4083;
    EXPECT_EQ(sender.try_send(1, pattern(5)).error().code, ErrorCode::kBroken) << "broken is for good";
    EXPECT_EQ(sender.begin(1, 100'000).error().code, ErrorCode::kBroken);
    EXPECT_EQ(sender.prepare_to_wait().error().code, ErrorCode::kBroken);
  }
}

TEST(ReceiverLink, IsNotTakenUpAtAnImpossiblePosition) {
  TestLink link;
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(94)));
  link.worker->publish_inward();
  { const ReceiverLink receiver = link.receiver(); }
  for (const std::uint64_t position : {std::uint64_t{101}, ~std::uint64_t{0}, std::uint64_t{100} - 16385}) {
    link.page().position = position;
    const auto again = link.try_receiver();
    ASSERT_FALSE(again) << position;
    EXPECT_EQ(again.error().code, ErrorCode::kBroken);
  }
  link.page().position = 100;
  EXPECT_TRUE(link.try_receiver().ok());
}

TEST(InwardView, RefusesWhatIsNotTheInwardSegmentOfTheLink) {
  TestLink link;
  const auto refused = [&](int fd, LinkGeometry geometry) {
    const auto view = InwardView::map(fd, geometry, InwardView::Part::kAll);
    return !view && view.error().code == ErrorCode::kBroken;
  };
  LinkGeometry other = link.geometry;
  other.slot += 1;
  EXPECT_TRUE(refused(link.worker->inward_fd(), other));
  other = link.geometry;
  other.generation += 1;
  EXPECT_TRUE(refused(link.worker->inward_fd(), other));
  other = link.geometry;
  other.inward_capacity *= 2;
  EXPECT_TRUE(refused(link.worker->inward_fd(), other));
  EXPECT_TRUE(refused(link.taken_fd.get(), link.geometry));
  EXPECT_TRUE(refused(link.to_worker.get(), link.geometry));

  // The right size and content, but its writer could still resize it, or another one map it for writing.
  const std::uint64_t size = inward_segment_bytes(link.geometry.inward_capacity);
  const UniqueFd unsealed = must(make_segment("test", size));
  const Mapping map = must(Mapping::map(unsealed.get(), Access::kReadWrite, 0, size));
  std::memcpy(map.data(), &link.view()->header(), 32);
  EXPECT_TRUE(refused(unsealed.get(), link.geometry));
  ASSERT_EQ(::fcntl(unsealed.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
  EXPECT_TRUE(refused(unsealed.get(), link.geometry));

  const UniqueFd sealed = must(make_segment("test", size));
  const Mapping content = must(Mapping::map(sealed.get(), Access::kReadWrite, 0, size));
  std::memcpy(content.data(), &link.view()->header(), 32);
  must(seal_owned(sealed.get()));
  EXPECT_TRUE(InwardView::map(sealed.get(), link.geometry, InwardView::Part::kAll).ok());
  for (const std::size_t offset : std::initializer_list<std::size_t>{0, 8, 12, 16, 20, 24}) {
    content.data()[offset] ^= std::byte{1};
    EXPECT_TRUE(refused(sealed.get(), link.geometry)) << offset;
    content.data()[offset] ^= std::byte{1};
  }
}

TEST(InwardView, RefusesGeometryThatNoLinkHas) {
  TestLink link;
  for (const std::uint32_t capacity : {0U, 2048U, 4096U + 4096U + 4096U, 128U * 1024 * 1024}) {
    LinkGeometry geometry = link.geometry;
    geometry.inward_capacity = capacity;
    EXPECT_FALSE(InwardView::map(link.worker->inward_fd(), geometry, InwardView::Part::kAll)) << capacity;
    EXPECT_FALSE(WorkerLink::create(geometry, link.taken_fd.get(), link.outward_fd.get(), -1)) << capacity;
  }
}

TEST(WorkerLink, RefusesASlotOutsideTheSegments) {
  TestLink link;
  LinkGeometry geometry = link.geometry;
  geometry.slot = TestLink::kSlots;
  EXPECT_FALSE(WorkerLink::create(geometry, link.taken_fd.get(), link.outward_fd.get(), -1));
  EXPECT_EQ(taken_page(link.taken_map, TestLink::kSlots), nullptr);
  EXPECT_NE(taken_page(link.taken_map, TestLink::kSlots - 1), nullptr);
  geometry.slot = 0xFFFFFFFF;
  EXPECT_FALSE(WorkerLink::create(geometry, link.taken_fd.get(), link.outward_fd.get(), -1));
}

TEST(WorkerLink, BreaksAtAnImpossiblePositionOfTheReceiver) {
  TestLink link;
  const ReceiverLink receiver = link.receiver();
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(94)));
  link.worker->publish_inward();
  link.page().position = 101;
  EXPECT_EQ(link.worker->writable_inward().error().code, ErrorCode::kBroken);
  link.page().position = 100;
  EXPECT_FALSE(link.worker->writable_inward()) << "broken is for good";
  EXPECT_FALSE(link.worker->wait_for_inward_room(1));
}

// ------------------------------------------------------------------------------------------------- wake-ups, inward

TEST(WorkerLink, WakesAReceiverOnlyWhenItSleeps) {
  TestLink link;
  ReceiverLink receiver = link.receiver();
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(4)));
  link.worker->publish_inward();
  EXPECT_EQ(wakes(link.to_application), 0U);
  EXPECT_FALSE(must(receiver.prepare_to_sleep())) << "a message is there";
  EXPECT_TRUE(next_of(receiver));
  EXPECT_TRUE(must(receiver.prepare_to_sleep()));
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(4)));
  EXPECT_EQ(wakes(link.to_application), 0U);
  link.worker->publish_inward();
  EXPECT_EQ(wakes(link.to_application), 1U);
  link.worker->publish_inward();
  EXPECT_EQ(wakes(link.to_application), 0U) << "nothing was published";
  EXPECT_TRUE(next_of(receiver));
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(4)));
  link.worker->publish_inward();
  EXPECT_EQ(wakes(link.to_application), 0U) << "next() is awake";
}

TEST(ReceiverLink, SleepsOnAPartOfAMessage) {
  TestLink link;
  ReceiverLink receiver = link.receiver();
  link.worker->inward().produce(5);
  link.worker->publish_inward();
  EXPECT_FALSE(next_of(receiver));
  EXPECT_TRUE(must(receiver.prepare_to_sleep())) << "or a hostile worker would keep it busy with 5 bytes";
}

TEST(ReceiverLink, SleepsInsideASmallMessageAndGoesOnWhenItsRestComes) {
  TestLink link;
  ReceiverLink receiver = link.receiver();
  const Bytes body = pattern(10);
  ASSERT_TRUE(produce_inward(*link.worker, head_of(12, 3)));
  link.worker->publish_inward();
  EXPECT_FALSE(next_of(receiver));
  EXPECT_TRUE(must(receiver.prepare_to_sleep()));
  ASSERT_TRUE(produce_inward(*link.worker, std::as_bytes(std::span<const std::uint8_t>(body))));
  link.worker->publish_inward();
  EXPECT_EQ(wakes(link.to_application), 1U);
  EXPECT_EQ(next_of(receiver)->body, pattern(10));
}

TEST(ReceiverLink, WakesAWorkerThatWaitsOnceHalfTheRingIsFree) {
  TestLink link(4096);
  ReceiverLink receiver = link.receiver();
  int sent = 0;
  while (put_inward(*link.worker, 1, pattern(250))) ++sent;
  link.worker->publish_inward();
  EXPECT_TRUE(must(link.worker->wait_for_inward_room(256)));
  int taken = 0;
  while (wakes(link.to_worker) == 0) {
    ASSERT_TRUE(next_of(receiver));
    ++taken;
  }
  EXPECT_EQ(taken, sent / 2 + 1) << "half of them, and the call that counts the last as taken";
  EXPECT_FALSE(must(link.worker->wait_for_inward_room(256)));
  EXPECT_FALSE(must(link.worker->wait_for_inward_room(2048)));
}

TEST(ReceiverLink, WakesAWorkerThatWaitsWhenTheRingIsEmpty) {
  TestLink link(4096);
  ReceiverLink receiver = link.receiver();
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(2500)));
  link.worker->publish_inward();
  EXPECT_TRUE(must(link.worker->wait_for_inward_room(2000)));
  EXPECT_TRUE(next_of(receiver));
  EXPECT_EQ(wakes(link.to_worker), 0U);
  EXPECT_FALSE(next_of(receiver));
  EXPECT_EQ(wakes(link.to_worker), 1U);
  link.worker->stop_waiting_for_inward_room();
  EXPECT_FALSE(next_of(receiver));
  EXPECT_EQ(wakes(link.to_worker), 0U);
}

TEST(ReceiverLink, WakesAWorkerWhoseWakeUpTheLastReceiverOwed) {
  TestLink link(4096);
  {
    ReceiverLink receiver = link.receiver();
    ASSERT_TRUE(put_inward(*link.worker, 1, pattern(2500)));
    link.worker->publish_inward();
    EXPECT_TRUE(must(link.worker->wait_for_inward_room(2000)));
  }
  link.page().position = 2506;  // published, and then it died
  const ReceiverLink receiver = link.receiver();
  EXPECT_EQ(wakes(link.to_worker), 1U);
}

TEST(Wakeup, ThatIsFullCountsAsWritten) {
  const UniqueFd fd = must(make_wakeup());
  const std::uint64_t most = ~std::uint64_t{0} - 1;
  ASSERT_EQ(::write(fd.get(), &most, sizeof(most)), static_cast<ssize_t>(sizeof(most)));
  wake(fd.get());
  drain_wakeup(fd.get());
  EXPECT_EQ(wakes(fd), 0U);
  drain_wakeup(fd.get());
}

// ----------------------------------------------------------------------------------------------------------- outward

TEST(SenderLink, SendsMessagesInTheEnvelopeOfTheWire) {
  TestLink link;
  SenderLink sender = link.sender();
  EXPECT_FALSE(sender.resumed());
  ASSERT_TRUE(must(sender.try_send(0x10, pattern(5))));
  ASSERT_TRUE(must(sender.try_send(0xABCD, {})));
  Bytes expected = encoded(0x10, pattern(5));
  const Bytes second = encoded(0xABCD, {});
  expected.insert(expected.end(), second.begin(), second.end());
  EXPECT_EQ(take_outward(*link.worker), expected);
  EXPECT_EQ(sender.position(), expected.size());
}

TEST(SenderLink, SendsAllOrNothing) {
  TestLink link(4096, 4096);
  SenderLink sender = link.sender();
  ASSERT_EQ(sender.max_whole_body(), 2042U);
  EXPECT_EQ(sender.try_send(1, pattern(2043)).error().code, ErrorCode::kTooLarge);
  ASSERT_TRUE(must(sender.try_send(1, pattern(2042))));
  ASSERT_TRUE(must(sender.try_send(2, pattern(2041))));
  EXPECT_FALSE(must(sender.try_send(3, {})));
  EXPECT_EQ(sender.used(), 4095U);
  EXPECT_EQ(take_outward(*link.worker).size(), 4095U);
  EXPECT_TRUE(must(sender.try_send(3, {})));
}

TEST(SenderLink, ShowsMessagesOfABatchAtItsEnd) {
  TestLink link;
  SenderLink sender = link.sender();
  ASSERT_TRUE(must(sender.try_send(1, pattern(5), false)));
  ASSERT_TRUE(must(sender.try_send(2, pattern(5), false)));
  EXPECT_TRUE(take_outward(*link.worker).empty());
  sender.publish();
  EXPECT_EQ(take_outward(*link.worker).size(), 22U);
}

TEST(SenderLink, StreamsAMessageLargerThanTheRing) {
  TestLink link(4096, 4096);
  SenderLink sender = link.sender();
  const Bytes body = pattern(50'000);
  ASSERT_TRUE(must(sender.begin(9, body.size())));
  EXPECT_EQ(sender.begin(9, 1).error().code, ErrorCode::kRefused);
  EXPECT_EQ(sender.try_send(9, {}).error().code, ErrorCode::kRefused);
  Bytes arrived;
  std::size_t written = 0;
  while (!sender.finished()) {
    const std::size_t part = must(sender.write(std::span(body).subspan(written)));
    EXPECT_EQ(link.worker->sender_in_message(), written + part < body.size());
    written += part;
    const Bytes bytes = take_outward(*link.worker);
    ASSERT_FALSE(bytes.empty());
    arrived.insert(arrived.end(), bytes.begin(), bytes.end());
  }
  EXPECT_EQ(arrived, encoded(9, body));
  EXPECT_FALSE(link.worker->sender_in_message());
  EXPECT_TRUE(must(sender.try_send(9, {})));
}

TEST(SenderLink, ShowsAMessageThatWasBegunAndIsNotStreamedAtItsEnd) {
  TestLink link;
  SenderLink sender = link.sender();
  ASSERT_TRUE(must(sender.begin(3, 10)));
  EXPECT_EQ(must(sender.write(pattern(4))), 4U);
  sender.publish();
  EXPECT_FALSE(must(sender.prepare_to_wait(1)));
  EXPECT_TRUE(take_outward(*link.worker).empty());
  EXPECT_EQ(must(sender.write(pattern(100, 5))), 6U) << "more than it lacks is not taken";
  EXPECT_TRUE(sender.finished());
  EXPECT_EQ(take_outward(*link.worker), encoded(3, pattern(10)));
  ASSERT_TRUE(must(sender.begin(4, 0)));
  EXPECT_TRUE(sender.finished());
  EXPECT_EQ(take_outward(*link.worker), encoded(4, {}));
}

TEST(SenderLink, BeginsNothingAboveTheSizeOfTheWire) {
  TestLink link;
  SenderLink sender = link.sender();
  EXPECT_EQ(sender.begin(1, 0xFFFFFFFE).error().code, ErrorCode::kTooLarge);
  EXPECT_TRUE(must(sender.begin(1, 0xFFFFFFFD)));
}

TEST(SenderLink, GoesOnWhereAnotherOneStopped) {
  TestLink link;
  {
    SenderLink first = link.sender();
    ASSERT_TRUE(must(first.try_send(1, pattern(5))));
    ASSERT_TRUE(must(first.try_send(2, pattern(5), false))) << "and never published";
  }
  SenderLink second = link.sender();
  EXPECT_TRUE(second.resumed());
  EXPECT_EQ(second.used(), 11U);
  ASSERT_TRUE(must(second.try_send(3, pattern(5))));
  Bytes expected = encoded(1, pattern(5));
  const Bytes rest = encoded(3, pattern(5));
  expected.insert(expected.end(), rest.begin(), rest.end());
  EXPECT_EQ(take_outward(*link.worker), expected);
}

TEST(SenderLink, CannotBeTakenUpInsideAMessage) {
  TestLink link;
  {
    SenderLink first = link.sender();
    ASSERT_TRUE(must(first.begin(1, 100'000)));
    EXPECT_GT(must(first.write(pattern(5000))), 0U);
  }
  EXPECT_TRUE(link.worker->sender_in_message());
  EXPECT_EQ(link.try_sender().error().code, ErrorCode::kBroken);
}

TEST(SenderLink, IsNotTakenUpAtAnImpossiblePosition) {
  TestLink link;
  { const SenderLink first = link.sender(); }
  for (const std::uint64_t tail : {std::uint64_t{16385}, ~std::uint64_t{0}}) {
    link.window().tail = tail;
    EXPECT_EQ(link.try_sender().error().code, ErrorCode::kBroken) << tail;
  }
}

TEST(WorkerLink, SeesNothingInAWindowOfAnotherGeneration) {
  TestLink link;
  link.window().tail = 100;
  link.window().waits = 1;
  link.window().generation = link.geometry.generation + 1;
  EXPECT_TRUE(must(link.worker->readable_outward()).empty());
  EXPECT_FALSE(link.worker->sender_seen());
  EXPECT_TRUE(must(link.worker->sleep_until_outward()));
  const SenderLink sender = link.sender();
  EXPECT_EQ(link.window().tail, 0U);
  EXPECT_TRUE(link.worker->sender_seen());
}

TEST(WorkerLink, BreaksAtAnImpossiblePositionOfTheSender) {
  TestLink link;
  const SenderLink sender = link.sender();
  link.window().tail = 16385;
  EXPECT_EQ(link.worker->readable_outward().error().code, ErrorCode::kBroken);
  link.window().tail = 0;
  EXPECT_FALSE(link.worker->readable_outward()) << "broken is for good";
  EXPECT_FALSE(link.worker->sleep_until_outward());
}

TEST(SenderLink, WakesAWorkerOnlyWhenItSleeps) {
  TestLink link;
  SenderLink sender = link.sender();
  ASSERT_TRUE(must(sender.try_send(1, pattern(5))));
  EXPECT_EQ(wakes(link.to_worker), 0U);
  EXPECT_FALSE(must(link.worker->sleep_until_outward()));
  EXPECT_TRUE(must(link.worker->sleep_until_outward(11))) << "it knows these 11 bytes";
  ASSERT_TRUE(must(sender.try_send(1, pattern(5))));
  EXPECT_EQ(wakes(link.to_worker), 1U);
  link.worker->stop_sleeping();
  ASSERT_TRUE(must(sender.try_send(1, pattern(5))));
  EXPECT_EQ(wakes(link.to_worker), 0U);
}

TEST(WorkerLink, WakesASenderThatWaitsOnceHalfTheRingIsFree) {
  TestLink link(4096, 4096);
  SenderLink sender = link.sender();
  EXPECT_FALSE(must(sender.prepare_to_wait(100))) << "the ring is empty";
  while (must(sender.try_send(1, pattern(94)))) {
  }
  EXPECT_TRUE(must(sender.prepare_to_wait(100)));
  const auto take = [&](std::size_t size) {
    static_cast<void>(must(link.worker->readable_outward()));
    link.worker->outward().consume(size);
    link.worker->publish_outward();
  };
  take(1900);
  EXPECT_EQ(wakes(link.to_application), 0U);
  EXPECT_FALSE(must(sender.prepare_to_wait(100))) << "there is room for what it wants";
  EXPECT_TRUE(must(sender.prepare_to_wait(2040)));
  take(100);
  EXPECT_EQ(wakes(link.to_application), 1U);
  ASSERT_TRUE(must(sender.try_send(1, pattern(94))));
  take(100);
  EXPECT_EQ(wakes(link.to_application), 0U) << "it waits no longer";
}

TEST(SenderLink, WakesAWorkerWhoseWakeUpTheLastSenderOwed) {
  TestLink link;
  { const SenderLink first = link.sender(); }
  EXPECT_TRUE(must(link.worker->sleep_until_outward()));
  const SenderLink second = link.sender();
  EXPECT_EQ(wakes(link.to_worker), 1U);
}

TEST(Link, CostsAnApplicationFourMappingsForBothEnds) {
  TestLink link;
  const auto mappings = [] {
    std::ifstream maps("/proc/self/maps");
    std::size_t found = 0;
    for (std::string line; std::getline(maps, line);) {
      if (line.find("/memfd:") != std::string::npos) ++found;
    }
    return found;
  };
  const std::size_t before = mappings();
  const auto view = link.view();
  const auto receiver = must(ReceiverLink::attach(view, &link.page(), link.to_worker.get()));
  const auto sender = must(SenderLink::attach(view, link.outward_fd.get(), link.to_worker.get()));
  EXPECT_EQ(mappings() - before, 4U);
}

TEST(ReceiverLink, NeedsTheWholeSegment) {
  TestLink link;
  const auto header_only = link.view(InwardView::Part::kHeader);
  EXPECT_EQ(ReceiverLink::attach(header_only, &link.page(), -1).error().code, ErrorCode::kInvalid);
  EXPECT_EQ(ReceiverLink::attach(nullptr, &link.page(), -1).error().code, ErrorCode::kInvalid);
  EXPECT_EQ(ReceiverLink::attach(link.view(), nullptr, -1).error().code, ErrorCode::kInvalid);
  EXPECT_EQ(SenderLink::attach(nullptr, link.outward_fd.get(), -1).error().code, ErrorCode::kInvalid);
}

TEST(Link, EndsCanBeMovedWhileTheyAreInUse) {
  TestLink link;
  ASSERT_TRUE(put_inward(*link.worker, 1, pattern(4)));
  WorkerLink worker = std::move(*link.worker);
  ReceiverLink receiver = must(ReceiverLink::attach(
      must(InwardView::map(worker.inward_fd(), link.geometry, InwardView::Part::kAll)), &link.page(), -1));
  worker.publish_inward();
  ReceiverLink moved = std::move(receiver);
  EXPECT_EQ(next_of(moved)->tag, 1);
  EXPECT_FALSE(next_of(moved));
  WorkerLink again = std::move(worker);
  EXPECT_EQ(must(again.writable_inward()).size(), 16384U);
}

}  // namespace
}  // namespace bulkhead::shm
