#include "services/conn/inbound.h"

#include "tests/unit/services/conn/stream_support.h"

namespace bulkhead::conn {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

constexpr std::uint16_t kTag = 0x10;

void expect_end(const Inward& in, Reason reason) {
  EXPECT_EQ(in.progress.state, Inbound::State::kEnded);
  EXPECT_STREQ(reason_name(in.progress.reason), reason_name(reason));
}

// -------------------------------------------------------------------------------------------------- chunks and
// messages

TEST(Inbound, BringsAMessageToTheReceiver) {
  Inward in;
  in.attach();
  EXPECT_TRUE(in.take(in.peer.chunk(message(kTag, pattern(100)))));
  in.expect_next(kTag, pattern(100));
  EXPECT_FALSE(in.next());
  EXPECT_EQ(in.inbound.messages(), 1U);
  EXPECT_TRUE(in.p2p.empty());
}

TEST(Inbound, TakesBytesOneByOneAndNothingBeforeAChunkIsWhole) {
  Inward in;
  in.attach();
  const Bytes chunk = in.peer.chunk(message(kTag, pattern(50)));
  for (std::size_t i = 0; i + 1 < chunk.size(); ++i) {
    EXPECT_TRUE(in.take({chunk[i]}));
    EXPECT_EQ(in.input.size(), i + 1);
    EXPECT_FALSE(in.next());
  }
  EXPECT_TRUE(in.take({chunk.back()}));
  EXPECT_TRUE(in.input.empty());
  in.expect_next(kTag, pattern(50));
}

// Trap 7.
TEST(Inbound, TakesMessagesThatShareOrCrossChunksAtEveryOffset) {
  const Bytes stream = joined({message(kTag, pattern(9)), message(kTag + 1, {}), message(kTag + 2, pattern(20))});
  for (std::size_t first = 0; first <= stream.size(); ++first) {
    for (const std::size_t second : {std::size_t{0}, std::size_t{1}, std::size_t{7}}) {
      Inward in;
      in.attach();
      const std::size_t middle = std::min(first + second, stream.size());
      const auto part = [&](std::size_t from, std::size_t to) {
        return in.peer.chunk(std::span(stream).subspan(from, to - from));
      };
      // Cuts at the ends make empty chunks, which are legal.
      EXPECT_TRUE(in.take(joined({part(0, first), part(first, middle), part(middle, stream.size())})));
      in.expect_next(kTag, pattern(9));
      in.expect_next(kTag + 1, {});
      in.expect_next(kTag + 2, pattern(20));
      EXPECT_FALSE(in.next());
    }
  }
}

TEST(Inbound, TakesPeerToPeerMessagesOutOfTheStreamWhereverChunksAreCut) {
  const auto points = std::vector<Point>(3, parse_point("192.0.2.7:9732").value());
  const Bytes stream =
      joined({wire::encode(wire::Bootstrap{}), message(kTag, pattern(5)), wire::encode(wire::Advertise{points}),
              wire::encode(swap(1)), message(kTag + 1, pattern(7)), wire::encode(wire::Bootstrap{})});
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    Inward in;
    in.attach();
    EXPECT_TRUE(in.take(in.peer.chunk(std::span(stream).first(cut))));
    EXPECT_TRUE(in.take(in.peer.chunk(std::span(stream).subspan(cut))));
    ASSERT_EQ(in.p2p.size(), 4U) << cut;
    EXPECT_TRUE(std::holds_alternative<wire::Bootstrap>(in.p2p[0]));
    EXPECT_EQ(std::get<wire::Advertise>(in.p2p[1]).points, points);
    EXPECT_EQ(in.p2p[2], swap(1));
    EXPECT_TRUE(std::holds_alternative<wire::Bootstrap>(in.p2p[3]));
    in.expect_next(kTag, pattern(5));
    in.expect_next(kTag + 1, pattern(7));
    EXPECT_FALSE(in.next());
    EXPECT_EQ(in.inbound.messages(), 2U);
  }
}

TEST(Inbound, TakesManyMessagesOfOneChunk) {
  Inward in;
  in.attach();
  Bytes stream;
  const Bytes one = joined({wire::encode(wire::Bootstrap{}), message(kTag, {0x2a})});
  while (stream.size() + one.size() <= wire::kMaximumPlaintext) stream.insert(stream.end(), one.begin(), one.end());
  const std::size_t count = stream.size() / one.size();
  EXPECT_TRUE(in.take(in.peer.chunk(stream)));
  EXPECT_EQ(in.p2p.size(), count);
  for (std::size_t i = 0; i < count; ++i) in.expect_next(kTag, {0x2a});
  EXPECT_FALSE(in.next());
}

TEST(Inbound, TakesEmptyChunksAnywhere) {
  Inward in;
  in.attach();
  const Bytes stream = message(kTag, pattern(3));
  Bytes bytes = in.peer.chunk({});
  for (const std::uint8_t byte : stream) {
    const Bytes piece = {byte};
    bytes = joined({bytes, in.peer.chunk(piece), in.peer.chunk({})});
  }
  EXPECT_TRUE(in.take(bytes));
  in.expect_next(kTag, pattern(3));
}

// Trap 8: a writer makes chunks of at most 65,535 bytes with their length; a reader takes all that the length can say.
TEST(Inbound, TakesChunksOfEveryLengthThatTheirHeaderCanSay) {
  for (const std::size_t body : {65533U, 65534U, 65535U}) {
    Inward in(256 * 1024);
    in.attach();
    const Bytes stream = message(kTag, pattern(body - 16 - 6));
    const Bytes chunk = in.peer.chunk(stream);
    ASSERT_EQ(chunk.size(), 2 + body);
    EXPECT_TRUE(in.take(chunk));
    in.expect_next(kTag, pattern(body - 16 - 6));
  }
}

// ------------------------------------------------------------------------------------------------------- hostile bytes

TEST(Inbound, EndsOnAChunkTooShortForATag) {
  for (const std::uint8_t size : {std::uint8_t{0}, std::uint8_t{15}}) {
    Inward in;
    EXPECT_FALSE(in.take({0, size}));
    expect_end(in, Reason::kInvalidCiphertextSize);
  }
}

TEST(Inbound, EndsOnATagThatIsWrongAndShowsNothingOfTheChunk) {
  Inward in;
  in.attach();
  Bytes chunk = in.peer.chunk(message(kTag, pattern(40)));
  chunk[20] = static_cast<std::uint8_t>(chunk[20] ^ 0x80);
  EXPECT_FALSE(in.take(chunk));
  expect_end(in, Reason::kDecipherError);
  EXPECT_FALSE(in.next());
}

TEST(Inbound, EndsOnAChunkThatIsPlayedTwice) {
  Inward in;
  in.attach();
  const Bytes chunk = in.peer.chunk(message(kTag, pattern(40)));
  EXPECT_FALSE(in.take(joined({chunk, chunk})));
  expect_end(in, Reason::kDecipherError);
  in.expect_next(kTag, pattern(40));
  EXPECT_FALSE(in.next());
}

TEST(Inbound, EndsOnSizesAndTagsThatNoMessageHas) {
  const Bytes bad[] = {
      {0, 0, 0, 0},                                 // no room for a tag
      {0, 0, 0, 1},                                 // half a tag
      {0x80, 0, 0, 0},                              // negative
      {0xff, 0xff, 0xff, 0xff},                     //
      {0x06, 0x3f, 0xff, 0xfd},                     // 100 MiB less 3: one above the limit
      {0, 0, 0, 2, 0, 0},                           // tag 0, which means a gap in the ring
      {0, 0, 0, 10, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8},  // a gap as the ring has it
      {0, 0, 0, 2, 0, 6},                           // between the P2P layer's and the application's
      {0, 0, 0, 2, 0, 15},
      {0, 0, 0, 3, 0, 1, 0},                                // Disconnect with a payload
      {0, 0, 0, 3, 0, 2, 0},                                // Bootstrap with one
      {0, 0, 0x13, 0xef, 0, 3},                             // Advertise above 100 longest points
      {0, 0, 0, 3, 0, 3, 0},                                // Advertise with half a length
      {0, 0, 0, 2, 0, 4},                                   // Swap_request without anything
      {0, 0, 0, 10, 0, 3, 0, 0, 0, 4, 'a', ':', 'b', 'c'},  // no point
  };
  for (const bool receives : {true, false}) {
    for (const Bytes& bytes : bad) {
      Inward in;
      if (receives) in.attach();
      EXPECT_FALSE(in.take(in.peer.chunk(joined({message(kTag, pattern(4)), bytes}))));
      expect_end(in, Reason::kDecodeError);
      if (!receives) continue;
      in.expect_next(kTag, pattern(4));
      EXPECT_FALSE(in.next());
    }
  }
}

TEST(Inbound, EndsOnABadSizeBeforeTheTagHasCome) {
  Inward in;
  EXPECT_TRUE(in.take(in.peer.chunk(Bytes{0x06, 0x40, 0x00})));
  EXPECT_FALSE(in.take(in.peer.chunk(Bytes{0x00})));
  expect_end(in, Reason::kDecodeError);
}

TEST(Inbound, EndsOnHostileSizesWhileItDiscardsToo) {
  for (const Bytes& bytes : {Bytes{0, 0, 0, 1}, Bytes{0, 0, 0, 2, 0, 0}, Bytes{0, 0, 0, 3, 0, 2, 0}}) {
    Inward in;
    in.inbound.set_discard_without_receiver();
    EXPECT_FALSE(in.take(in.peer.chunk(joined({message(kTag, pattern(4)), bytes}))));
    expect_end(in, Reason::kDecodeError);
  }
}

TEST(Inbound, EndsWhenTheApplicationClaimsAnImpossiblePosition) {
  Inward in;
  in.attach();
  EXPECT_TRUE(in.take(in.peer.chunk(message(kTag, pattern(4)))));
  in.link.page().position.store(std::uint64_t{1} << 40);
  // It is looked at once there is not enough room by the last look.
  Bytes stream = message(kTag, Bytes(kRing / 4));
  for (int i = 0; i < 6 && in.progress.state != Inbound::State::kEnded; ++i) in.take(in.peer.chunks(stream));
  expect_end(in, Reason::kApplicationFault);
}

// ----------------------------------------------------------------------------------------------------- a full ring

/// Fills the ring with messages of `body` bytes; how many went in.
std::size_t fill_ring(Inward& in, std::size_t body) {
  std::size_t sent = 0;
  while (!in.blocked() && sent < 100000) {
    in.take(in.peer.chunk(message(kTag, pattern(body))));
    ++sent;
  }
  EXPECT_EQ(in.progress.state, Inbound::State::kBlocked);
  return sent;
}

TEST(Inbound, BlocksOnAFullRingAndGoesOnWhenThereIsRoom) {
  Inward in;
  in.attach();
  const std::size_t sent = fill_ring(in, 1000);
  EXPECT_EQ(sent, kRing / 1006U + 1) << "the last one stays with the caller";
  EXPECT_EQ(in.input.size(), 1024U);
  for (std::size_t i = 0; i + 1 < sent; ++i) in.expect_next(kTag, pattern(1000));
  EXPECT_FALSE(in.next());
  std::uint64_t woken = 0;
  EXPECT_EQ(::read(in.link.to_worker.get(), &woken, sizeof woken), 8) << "the receiver woke the worker";
  EXPECT_TRUE(in.go_on());
  in.expect_next(kTag, pattern(1000));
  EXPECT_EQ(in.inbound.discarded(), 0U);
}

TEST(Inbound, DoesNotSpinWhenThereIsALittleRoom) {
  Inward in;
  in.attach();
  fill_ring(in, 1000);
  in.expect_next(kTag, pattern(1000));
  in.receiver->commit();
  EXPECT_FALSE(in.go_on() && in.blocked());
}

TEST(Inbound, CountsWhatItHoldsOfAMessageAsTaken) {
  Inward in;
  in.attach();
  // Half of a message that would fit, then a ring full of nothing: room must not be reported that is not there.
  const Bytes big = message(kTag, pattern(60000));
  EXPECT_TRUE(in.take(in.peer.chunk(std::span(big).first(50000))));
  EXPECT_TRUE(in.take(in.peer.chunk(std::span(big).subspan(50000))));
  EXPECT_TRUE(in.take(in.peer.chunk(std::span(big).first(50000))));
  EXPECT_FALSE(in.take(in.peer.chunk(joined({Bytes(big.begin() + 50000, big.end()), message(kTag, pattern(50000))}))));
  EXPECT_TRUE(in.blocked());
  in.expect_next(kTag, pattern(60000));
  EXPECT_FALSE(in.next());
  EXPECT_TRUE(in.go_on());
  in.expect_next(kTag, pattern(60000));
  in.expect_next(kTag, pattern(50000));
}

// ------------------------------------------------------------------------------------------------------------
// streaming

TEST(Inbound, StreamsAMessageLargerThanHalfTheRing) {
  for (const std::size_t size : {std::size_t{kRing / 2 - 5}, std::size_t{kRing}, std::size_t{1000000}}) {
    Inward in;
    in.attach();
    const Bytes body = pattern(size);
    const Bytes all =
        joined({message(kTag, {1}), message(kTag, body), wire::encode(wire::Bootstrap{}), message(kTag, {2})});
    Bytes pending = in.peer.chunks(all);
    in.take(pending);
    std::vector<Bytes> got;
    for (int round = 0; round < 100 && got.size() < 3; ++round) {
      while (auto found = in.next()) got.push_back(std::move(found->body));
      in.go_on();
    }
    ASSERT_EQ(got.size(), 3U);
    EXPECT_EQ(got[0], Bytes{1});
    EXPECT_TRUE(got[1] == body);
    EXPECT_EQ(got[2], Bytes{2});
    EXPECT_EQ(in.p2p.size(), 1U);
    EXPECT_EQ(in.inbound.messages(), 3U);
    EXPECT_FALSE(in.link.worker->receiver_in_message());
  }
}

TEST(Inbound, MakesALargestMessageThatFitsVisibleWhole) {
  Inward in;
  const Bytes body = pattern(kRing / 2 - 6);
  const Bytes bytes = in.peer.chunks(message(kTag, body));
  EXPECT_TRUE(in.take(bytes)) << "nobody has to receive for that";
  in.attach();
  in.expect_next(kTag, body);
}

TEST(Inbound, DoesNotBeginALargeMessageWhileNobodyReceives) {
  Inward in;
  const Bytes body = pattern(200000);
  EXPECT_FALSE(in.take(in.peer.chunks(message(kTag, body))));
  EXPECT_TRUE(in.blocked());
  EXPECT_EQ(in.link.worker->inward().published(), 0U);
  in.attach();
  std::optional<shm::Message> found;
  for (int round = 0; round < 100 && !found; ++round) {
    in.go_on();
    found = in.next();
  }
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->body == body);
}

TEST(Inbound, SaysThatAReceiverDiedInTheMiddleOfAStreamedMessage) {
  Inward in;
  in.attach();
  const Bytes body = pattern(400000);
  in.take(in.peer.chunks(message(kTag, body)));
  EXPECT_FALSE(in.next());
  EXPECT_TRUE(in.link.worker->receiver_in_message());
  in.kill();
  in.go_on();
  EXPECT_TRUE(in.blocked());
  EXPECT_EQ(in.inbound.start_discarding(), Reason::kApplicationDiedMidMessage);
}

TEST(Inbound, LetsTheNextReceiverHaveAStreamedMessageThatTheFirstNeverLookedAt) {
  Inward in;
  in.inbound.set_receiver(true);
  const Bytes body = pattern(300000);
  in.take(in.peer.chunks(message(kTag, body)));
  in.inbound.set_receiver(false);
  in.attach();
  std::optional<shm::Message> found;
  for (int round = 0; round < 100 && !found; ++round) {
    in.go_on();
    found = in.next();
  }
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->body == body);
}

// -----------------------------------------------------------------------------------------------------------
// discarding

TEST(Inbound, DropsApplicationMessagesAfterTheGraceAndAnswersTheRest) {
  Inward in;
  const std::size_t sent = fill_ring(in, 1018);
  EXPECT_EQ(in.inbound.start_discarding(), Reason::kNone);
  EXPECT_TRUE(in.go_on()) << "the one that waited is dropped";
  EXPECT_TRUE(in.inbound.discarding());
  EXPECT_EQ(in.inbound.discarded(), 1U);
  EXPECT_TRUE(in.take(in.peer.chunks(joined(
      {message(kTag, pattern(5)), wire::encode(swap(1)), message(kTag, pattern(500000)), wire::encode(swap(2))}))));
  EXPECT_EQ(in.inbound.discarded(), 3U);
  EXPECT_EQ(in.p2p, (std::vector<wire::P2pMessage>{swap(1), swap(2)}));
  EXPECT_EQ(in.inbound.messages(), sent + 2);

  in.attach();
  EXPECT_FALSE(in.go_on()) << "the gap waits for room";
  for (std::size_t i = 0; i + 1 < sent; ++i) in.expect_next(kTag, pattern(1018));
  in.next();
  EXPECT_TRUE(in.go_on());
  in.expect_gap(3);
  EXPECT_TRUE(in.take(in.peer.chunk(message(kTag, pattern(6)))));
  in.expect_next(kTag, pattern(6));
  EXPECT_FALSE(in.inbound.discarding());
}

TEST(Inbound, DropsTheRestOfAMessageWhoseBeginningItHolds) {
  Inward in;
  const Bytes whole = message(kTag, pattern(3000));
  // The ring is full but for less than the next chunk, and holds the beginning of a message.
  std::size_t sent = 0;
  while (in.take(in.peer.chunk(message(kTag, pattern(1000))))) ++sent;
  in.attach();
  for (int i = 0; i < 2; ++i) in.expect_next(kTag, pattern(1000));
  in.receiver->commit();
  in.kill();
  EXPECT_TRUE(in.go_on());
  EXPECT_TRUE(in.take(in.peer.chunk(std::span(whole).first(700))));
  EXPECT_FALSE(in.take(in.peer.chunk(std::span(whole).subspan(700))));
  EXPECT_EQ(in.inbound.start_discarding(), Reason::kNone);
  EXPECT_EQ(in.inbound.discarded(), 1U);
  EXPECT_TRUE(in.take(in.peer.chunk(joined({wire::encode(swap(9)), message(kTag, pattern(8))}))));
  EXPECT_EQ(in.p2p, (std::vector<wire::P2pMessage>{swap(9)}));
  EXPECT_EQ(in.inbound.discarded(), 2U);
}

TEST(Inbound, KeepsTheBeginningOfAPeerToPeerMessageOverTheTurnToDiscardingAndBack) {
  const Bytes advertise = wire::encode(
      wire::Advertise{std::vector<Point>(100, parse_point("[2001:db8:1111:2222:3333:4444:5555:6666]:65535").value())});
  for (const std::size_t cut :
       {std::size_t{1}, std::size_t{5}, std::size_t{6}, std::size_t{700}, advertise.size() - 1}) {
    Inward in;
    EXPECT_TRUE(in.take(in.peer.chunk(std::span(advertise).first(cut))));
    EXPECT_EQ(in.inbound.start_discarding(), Reason::kNone);
    const Bytes message_in_between = message(kTag, pattern(10));
    EXPECT_TRUE(in.take(in.peer.chunk(std::span(advertise).subspan(cut))));
    EXPECT_EQ(in.p2p.size(), 1U) << cut;
    EXPECT_TRUE(in.take(in.peer.chunk(
        joined({message_in_between, Bytes(advertise.begin(), advertise.begin() + static_cast<std::ptrdiff_t>(cut))}))));
    in.attach();
    EXPECT_TRUE(in.go_on());
    EXPECT_FALSE(in.inbound.discarding());
    EXPECT_TRUE(in.take(in.peer.chunk(std::span(advertise).subspan(cut))));
    EXPECT_EQ(in.p2p.size(), 2U) << cut;
    in.expect_gap(1);
    EXPECT_FALSE(in.next());
  }
}

// A message too large to be shown to nobody stands at the front, whole, with others behind it in the same chunk: what
// is skipped is each of them, and no more.
TEST(Inbound, DropsEachOfTheMessagesBehindALargeOneThatNobodyTook) {
  Inward in(64 * 1024);
  const Bytes large = message(kTag, pattern(33000));
  const Bytes behind =
      joined({large, wire::encode(swap(1)), message(kTag, pattern(10)), wire::encode(swap(2)), Bytes{0, 0, 0}});
  EXPECT_FALSE(in.take(in.peer.chunk(behind)));
  EXPECT_TRUE(in.blocked());
  EXPECT_TRUE(in.p2p.empty());
  EXPECT_EQ(in.inbound.start_discarding(), Reason::kNone);
  EXPECT_TRUE(in.go_on());
  EXPECT_EQ(in.p2p, (std::vector<wire::P2pMessage>{swap(1), swap(2)}));
  EXPECT_EQ(in.inbound.discarded(), 2U);
  // The three bytes of the next message's size were kept.
  EXPECT_TRUE(in.take(in.peer.chunk(Bytes{2, 0, 2})));
  EXPECT_EQ(in.p2p.size(), 3U);
  in.attach();
  EXPECT_TRUE(in.go_on());
  in.expect_gap(2);
  EXPECT_TRUE(in.take(in.peer.chunk(message(kTag, pattern(3)))));
  in.expect_next(kTag, pattern(3));
}

TEST(Inbound, EndsWhenWhatItHeldBehindALargeMessageIsNone) {
  Inward in(64 * 1024);
  EXPECT_FALSE(in.take(in.peer.chunk(joined({message(kTag, pattern(33000)), Bytes{0, 0, 0, 0}}))));
  EXPECT_EQ(in.inbound.start_discarding(), Reason::kDecodeError);
}

TEST(Inbound, DropsAtOnceWhenTheNodeIsMeantToRunWithoutAnApplication) {
  Inward in;
  in.inbound.set_discard_without_receiver();
  EXPECT_TRUE(in.take(in.peer.chunks(joined({message(kTag, pattern(10)), message(kTag, pattern(300000)),
                                             wire::encode(swap(1)), message(kTag, pattern(10))}))));
  EXPECT_EQ(in.inbound.discarded(), 3U);
  EXPECT_EQ(in.link.worker->inward().published(), 0U);
  EXPECT_EQ(in.p2p.size(), 1U);
  in.attach();
  EXPECT_TRUE(in.go_on());
  in.expect_gap(3);
  EXPECT_TRUE(in.take(in.peer.chunk(message(kTag, pattern(4)))));
  in.expect_next(kTag, pattern(4));
  in.kill();
  EXPECT_TRUE(in.take(in.peer.chunk(message(kTag, pattern(4)))));
  EXPECT_EQ(in.inbound.discarded(), 4U);
}

TEST(Inbound, GivesNoGapWhereNothingWasLost) {
  Inward in;
  EXPECT_EQ(in.inbound.start_discarding(), Reason::kNone);
  EXPECT_EQ(in.inbound.start_discarding(), Reason::kNone);
  in.attach();
  EXPECT_TRUE(in.take(in.peer.chunk(message(kTag, pattern(4)))));
  in.expect_next(kTag, pattern(4));
  EXPECT_FALSE(in.next());
}

TEST(Inbound, DropsToTheEndOfAMessageThatIsUnderWayWhenAReceiverComes) {
  Inward in;
  in.inbound.set_discard_without_receiver();
  const Bytes large = message(kTag, pattern(100000));
  EXPECT_TRUE(in.take(in.peer.chunk(std::span(large).first(50000))));
  in.attach();
  EXPECT_TRUE(in.go_on());
  EXPECT_TRUE(in.inbound.discarding());
  EXPECT_TRUE(in.take(in.peer.chunk(joined({Bytes(large.begin() + 50000, large.end()), message(kTag, pattern(7))}))));
  EXPECT_FALSE(in.inbound.discarding());
  in.expect_gap(2);
}

}  // namespace
}  // namespace bulkhead::conn
