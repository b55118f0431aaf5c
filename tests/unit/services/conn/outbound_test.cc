#include "services/conn/outbound.h"

#include "tests/unit/services/conn/stream_support.h"

namespace bulkhead::conn {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

constexpr std::uint16_t kTag = 0x10;

TEST(Outbound, SendsNothingWhenThereIsNothing) {
  Outward out;
  EXPECT_EQ(out.fill(), 0U);
  EXPECT_EQ(out.progress.reason, Reason::kNone);
  out.sender();
  EXPECT_EQ(out.fill(), 0U);
}

TEST(Outbound, PutsManyMessagesIntoOneChunk) {
  Outward out;
  Bytes all;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(must(out.sender().try_send(kTag, pattern(100))));
    all = joined({all, message(kTag, pattern(100))});
  }
  out.fill();
  EXPECT_EQ(out.chunks, 1U);
  EXPECT_EQ(out.stream, all);
  EXPECT_EQ(out.outbound.messages(), 20U);
  EXPECT_FALSE(out.outbound.in_message());
}

TEST(Outbound, GivesTheRoomBackAndWakesASenderThatWaits) {
  Outward out;
  while (must(out.sender().try_send(kTag, pattern(1000)))) {
  }
  ASSERT_TRUE(must(out.sender().prepare_to_wait()));
  out.fill();
  std::uint64_t woken = 0;
  EXPECT_EQ(::read(out.link.to_application.get(), &woken, sizeof woken), 8);
  EXPECT_TRUE(must(out.sender().try_send(kTag, pattern(1000))));
}

TEST(Outbound, CutsAMessageOverChunksAndCallsOfAnySize) {
  for (const std::size_t room : {19U, 20U, 23U, 24U, 40U, 100U, 1000U, 70000U}) {
    Outward out;
    const Bytes all = joined({message(kTag, pattern(300)), message(kTag + 1, {}), message(kTag + 2, pattern(5))});
    ASSERT_TRUE(must(out.sender().try_send(kTag, pattern(300))));
    ASSERT_TRUE(must(out.sender().try_send(kTag + 1, {})));
    ASSERT_TRUE(must(out.sender().try_send(kTag + 2, pattern(5))));
    while (out.fill(room) > 0) {
    }
    EXPECT_EQ(out.stream, all) << room;
    EXPECT_EQ(out.outbound.messages(), 3U);
    EXPECT_FALSE(out.outbound.in_message());
  }
}

TEST(Outbound, DoesNothingWithTooLittleRoomForAChunk) {
  Outward out;
  ASSERT_TRUE(must(out.sender().try_send(kTag, pattern(10))));
  EXPECT_EQ(out.fill(0), 0U);
  EXPECT_EQ(out.fill(18), 0U);
  EXPECT_EQ(out.fill(19), 19U);
}

TEST(Outbound, StreamsAMessageLargerThanTheRing) {
  Outward out;
  const Bytes body = pattern(100000);
  ASSERT_TRUE(must(out.sender().begin(kTag, body.size())));
  std::size_t at = 0;
  for (int round = 0; round < 1000 && at < body.size(); ++round) {
    at += must(out.sender().write(std::span(body).subspan(at)));
    out.fill();
    EXPECT_EQ(out.outbound.in_message(), at < body.size());
  }
  out.fill();
  EXPECT_TRUE(out.stream == message(kTag, body));
  EXPECT_FALSE(out.link.worker->sender_in_message());
}

TEST(Outbound, PutsPeerToPeerMessagesBetweenMessagesAndNeverInside) {
  for (const std::size_t room : {19U, 30U, 64U, 70000U}) {
    Outward out;
    const Bytes body = pattern(200);
    ASSERT_TRUE(must(out.sender().try_send(kTag, body)));
    ASSERT_TRUE(must(out.sender().try_send(kTag, body)));
    out.fill(60);
    ASSERT_TRUE(out.outbound.in_message());
    ASSERT_TRUE(out.outbound.queue(swap(1)));
    ASSERT_TRUE(out.outbound.queue(wire::Bootstrap{}));
    while (out.fill(room) > 0) {
    }
    EXPECT_EQ(out.stream, joined({message(kTag, body), wire::encode(swap(1)), wire::encode(wire::Bootstrap{}),
                                  message(kTag, body)}))
        << room;
    EXPECT_FALSE(out.outbound.has_queued());
  }
}

TEST(Outbound, PutsPeerToPeerMessagesFirstWhenNoneIsUnderWay) {
  Outward out;
  ASSERT_TRUE(must(out.sender().try_send(kTag, pattern(3))));
  ASSERT_TRUE(out.outbound.queue(swap(1)));
  out.fill();
  EXPECT_EQ(out.stream, joined({wire::encode(swap(1)), message(kTag, pattern(3))}));
  EXPECT_EQ(out.chunks, 1U);
}

TEST(Outbound, HoldsABoundedNumberOfPeerToPeerMessages) {
  Outward out;
  int queued = 0;
  while (out.outbound.queue(wire::Bootstrap{}) && queued < 10000) ++queued;
  EXPECT_EQ(queued, 64);
  out.fill();
  EXPECT_TRUE(out.outbound.queue(wire::Bootstrap{}));
}

TEST(Outbound, SendsTheLargestAdvertiseOverManySmallChunks) {
  Outward out;
  const wire::P2pMessage advertise =
      wire::Advertise{std::vector<Point>(100, parse_point("[2001:db8:1111:2222:3333:4444:5555:6666]:65535").value())};
  ASSERT_TRUE(out.outbound.queue(advertise));
  ASSERT_TRUE(must(out.sender().try_send(kTag, pattern(3))));
  while (out.fill(500) > 0) {
  }
  EXPECT_EQ(out.stream, joined({wire::encode(advertise), message(kTag, pattern(3))}));
}

// ------------------------------------------------------------------------------------------------ hostile applications

void expect_fault(Outward& out, const Bytes& sent_before) {
  EXPECT_STREQ(reason_name(out.progress.reason), "application_fault");
  EXPECT_EQ(out.stream, sent_before) << "what was right went, nothing of what was not";
}

TEST(Outbound, EndsOnWhatIsNoApplicationMessage) {
  const Bytes good = message(kTag, pattern(9));
  const Bytes bad[] = {
      {0, 0, 0, 0, 0, 0x10},              // no room for a tag
      {0, 0, 0, 1, 0, 0x10},              //
      {0xff, 0xff, 0xff, 0xff, 0, 0x10},  //
      {0x06, 0x3f, 0xff, 0xfd, 0, 0x10},  // one above 100 MiB
      {0, 0, 0, 2, 0, 0},                 // a gap is not for peers
      {0, 0, 0, 2, 0, 1},                 // Disconnect, Bootstrap and the rest are the node's to say
      {0, 0, 0, 2, 0, 2},
      {0, 0, 0, 30, 0, 4},
      {0, 0, 0, 2, 0, 15},
  };
  for (const Bytes& bytes : bad) {
    Outward out;
    out.write_raw(joined({good, bytes}));
    out.fill();
    expect_fault(out, good);
    Outward first;
    first.write_raw(bytes);
    first.fill();
    expect_fault(first, {});
  }
}

TEST(Outbound, EndsOnAHeadThatIsWrongOnlyInThePartBehindAChunksEnd) {
  Outward out;
  out.write_raw({0, 0, 0, 2, 0, 1});
  EXPECT_EQ(out.fill(18 + 4), 22U);
  EXPECT_TRUE(out.outbound.in_message());
  out.fill();
  expect_fault(out, {0, 0, 0, 2});
}

TEST(Outbound, EndsOnAPositionBeyondTheRingOrBehindWhatWasTaken) {
  for (const std::uint64_t tail : {std::uint64_t{16385}, ~std::uint64_t{0}}) {
    Outward out;
    out.write_raw({});
    out.link.window().tail.store(tail);
    out.fill();
    EXPECT_EQ(out.progress.reason, Reason::kApplicationFault);
    EXPECT_EQ(out.progress.written, 0U);
  }
  Outward out;
  out.write_raw(message(kTag, pattern(100)));
  out.fill();
  EXPECT_EQ(out.progress.reason, Reason::kNone);
  out.link.window().tail.store(50);
  out.fill();
  EXPECT_EQ(out.progress.reason, Reason::kApplicationFault);
}

TEST(Outbound, SurvivesAnyBytesInTheRing) {
  const std::uint64_t seed = shm::test::seed_of_run("garbage outward");
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    Outward out;
    for (int step = 0; step < 20 && out.progress.reason == Reason::kNone; ++step) {
      Bytes bytes(random() % 300);
      for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random() % 4 == 0 ? random() : 0);
      out.write_raw(bytes);
      if (random() % 4 == 0) (void)out.outbound.queue(wire::Bootstrap{});
      out.fill(19 + random() % 600);
    }
  }
}

}  // namespace
}  // namespace bulkhead::conn
