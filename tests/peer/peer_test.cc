#include "tests/peer/peer.h"

#include <gtest/gtest.h>

#include <future>
#include <string>
#include <utility>
#include <vector>

namespace bulkhead::testing {
namespace {

std::string text_of(const Result<void>& result) {
  return result ? "" : result.error().text;
}

/// Two peers on one TCP connection of the loopback interface.
class PeerPair : public ::testing::Test {
 protected:
  void SetUp() override {
    auto listener = Listener::open("127.0.0.1");
    ASSERT_TRUE(listener) << listener.error().text;
    auto connected = initiator_.connect(listener->point());
    ASSERT_TRUE(connected) << connected.error().text;
    auto accepted = responder_.accept(*listener);
    ASSERT_TRUE(accepted) << accepted.error().text;
  }

  void shake_hands() {
    auto other = std::async(std::launch::async, [this] { return responder_.handshake(); });
    const auto mine = initiator_.handshake();
    const auto theirs = other.get();
    ASSERT_TRUE(mine) << mine.error().text;
    ASSERT_TRUE(theirs) << theirs.error().text;
  }

  Peer initiator_;
  Peer responder_;
};

TEST_F(PeerPair, ShakesHands) {
  initiator_.options().chain_name = "TEZOS_LAB";
  initiator_.options().advertised_port = 9732;

  shake_hands();

  EXPECT_EQ(responder_.remote().chain_name, "TEZOS_LAB");
  EXPECT_EQ(responder_.remote().port, 9732);
  EXPECT_EQ(responder_.remote_peer_id(), initiator_.peer_id());
  EXPECT_EQ(initiator_.remote_peer_id(), responder_.peer_id());
}

TEST_F(PeerPair, CarriesMessagesBothWays) {
  shake_hands();
  const Bytes large = pattern(300'000, 3);

  const auto sent = initiator_.send_message(0x10, large);
  const auto got = responder_.read_message();
  ASSERT_TRUE(responder_.send_message(0x11, {}));
  const auto answer = initiator_.read_message();

  ASSERT_TRUE(sent) << sent.error().text;
  ASSERT_TRUE(got) << got.error().text;
  EXPECT_EQ(got->tag, 0x10);
  EXPECT_EQ(got->body, large);
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_EQ(answer->tag, 0x11);
  EXPECT_TRUE(answer->body.empty());
}

TEST_F(PeerPair, ReadsMessagesHoweverTheyAreCut) {
  shake_hands();
  const Bytes stream =
      concat({encode_message(0x10, from_text("one")), encode_bootstrap(), encode_message(0x10, pattern(500))});

  ASSERT_TRUE(initiator_.send_stream(stream));
  ASSERT_TRUE(initiator_.send_chunk({}));
  ASSERT_TRUE(initiator_.send_stream(stream, 1));

  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(responder_.read_message()->body, from_text("one"));
    EXPECT_EQ(responder_.read_message()->tag, kBootstrapTag);
    EXPECT_EQ(responder_.read_application_message()->body, pattern(500));
  }
}

TEST_F(PeerPair, ReadsTheLargestChunkThatALengthCanName) {
  shake_hands();
  const Bytes plaintext = encode_message(0x10, pattern(kMaximumReadable - 6));

  ASSERT_TRUE(initiator_.send_chunk(plaintext));
  const auto got = responder_.read_message();

  ASSERT_EQ(plaintext.size(), kMaximumReadable);
  ASSERT_TRUE(got) << got.error().text;
  EXPECT_EQ(got->body.size(), kMaximumReadable - 6);
}

TEST_F(PeerPair, ReportsANackWithMotiveAndPoints) {
  auto other = std::async(std::launch::async, [this] {
    auto done = responder_.introduce();
    return done ? responder_.send_nack(kTooManyConnections, {"10.0.0.1:9732"}) : done;
  });

  const auto answer = initiator_.negotiate();

  ASSERT_TRUE(other.get());
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_EQ(answer->kind, AckKind::kNack);
  EXPECT_EQ(answer->motive, kTooManyConnections);
  EXPECT_EQ(answer->points, std::vector<std::string>{"10.0.0.1:9732"});
}

TEST_F(PeerPair, HandshakeFailsOnTheOldNack) {
  auto other = std::async(std::launch::async, [this] {
    auto done = responder_.introduce();
    return done ? responder_.send_nack_v0() : done;
  });

  const auto mine = initiator_.handshake();

  ASSERT_TRUE(other.get());
  ASSERT_FALSE(mine);
  EXPECT_EQ(mine.error().code, ErrorCode::kRefused);
}

TEST_F(PeerPair, CannotDecipherAfterAReplayedConnectionMessage) {
  // The responder claims to be the initiator by sending its message back: without the secret key the nonces may agree,
  // the channel key does not.
  ASSERT_TRUE(initiator_.send_connection_message());
  ASSERT_TRUE(responder_.send_connection_message(initiator_.connection_message()));
  ASSERT_TRUE(responder_.read_connection_message());
  ASSERT_TRUE(initiator_.read_connection_message());

  ASSERT_TRUE(responder_.send_metadata());
  const auto metadata = initiator_.read_metadata();

  ASSERT_FALSE(metadata);
  EXPECT_EQ(metadata.error().text, "decipher error");
}

TEST_F(PeerPair, RefusesAKeyOfLowOrder) {
  Announcement weak;
  weak.chain_name = "TEZOS_MAINNET";
  weak.public_key = low_order_keys()[2];
  ASSERT_TRUE(initiator_.send_connection_message());
  ASSERT_TRUE(responder_.send_connection_message(encode_announcement(weak)));

  EXPECT_FALSE(initiator_.read_connection_message());
}

TEST_F(PeerPair, GivesUpAtItsDeadline) {
  initiator_.options().timeout = Milliseconds(20);

  const auto nothing = initiator_.read_raw(1);
  const auto open = initiator_.read_until_closed();

  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, ErrorCode::kWouldBlock);
  ASSERT_FALSE(open);
  EXPECT_EQ(open.error().code, ErrorCode::kWouldBlock);
}

TEST_F(PeerPair, TellsAnEndOfStreamFromAReset) {
  ASSERT_TRUE(initiator_.send_raw(from_text("rest")));
  ASSERT_TRUE(initiator_.half_close());
  const auto end = responder_.read_until_closed();
  responder_.reset();
  const auto reset = initiator_.read_until_closed();

  ASSERT_TRUE(end) << end.error().text;
  EXPECT_EQ(end->bytes, from_text("rest"));
  EXPECT_FALSE(end->reset);
  ASSERT_TRUE(reset) << reset.error().text;
  EXPECT_TRUE(reset->reset);
}

TEST_F(PeerPair, TricklesUntilTheOtherSideCloses) {
  const Bytes bytes = pattern(20);

  const auto all = initiator_.trickle(ByteView(bytes).first(5), Milliseconds(1));
  ASSERT_TRUE(responder_.read_raw(5));
  responder_.close();
  const auto some = initiator_.trickle(bytes, Milliseconds(1000));

  ASSERT_TRUE(all) << all.error().text;
  EXPECT_EQ(*all, 5u);
  ASSERT_TRUE(some) << some.error().text;
  EXPECT_LT(*some, bytes.size());
  EXPECT_FALSE(initiator_.is_open());
}

TEST_F(PeerPair, SendsUrgentDataBesideTheStream) {
  ASSERT_TRUE(initiator_.send_raw(from_text("ab")));
  ASSERT_TRUE(initiator_.send_urgent('!'));
  ASSERT_TRUE(initiator_.send_raw(from_text("cd")));

  const auto got = responder_.read_raw(4);

  ASSERT_TRUE(got) << got.error().text;
  EXPECT_EQ(*got, from_text("abcd"));
}

TEST_F(PeerPair, KeepsItsConnectionMessageUntilTheNextConnection) {
  const Bytes first = initiator_.connection_message();
  EXPECT_EQ(initiator_.connection_message(), first);

  auto listener = Listener::open("127.0.0.1");
  ASSERT_TRUE(listener);
  ASSERT_TRUE(initiator_.connect(listener->point(), "127.0.0.9"));

  EXPECT_NE(initiator_.connection_message(), first);
  EXPECT_EQ(initiator_.local_point().rfind("127.0.0.9:", 0), 0u) << initiator_.local_point();
}

TEST(Peer, SaysThatNobodyListens) {
  std::string point;
  {
    auto listener = Listener::open("127.0.0.1");
    ASSERT_TRUE(listener);
    point = listener->point();
  }
  Peer peer;

  const auto connected = peer.connect(point);

  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().errno_value, ECONNREFUSED) << text_of(connected);
}

TEST(Peer, HasABadStampWhenAskedForOne) {
  Peer good(PeerOptions{.difficulty = 4});
  Peer bad(PeerOptions{.difficulty = 4, .bad_stamp = true});

  EXPECT_TRUE(proof_of_work_holds(good.identity().keys.public_key, good.identity().stamp, 4));
  EXPECT_FALSE(proof_of_work_holds(bad.identity().keys.public_key, bad.identity().stamp, 4));
}

}  // namespace
}  // namespace bulkhead::testing
