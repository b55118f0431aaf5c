#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <future>
#include <sstream>
#include <string>
#include <vector>

#include "tests/integration/application.h"
#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

constexpr std::size_t kMebibyte = 1024 * 1024;

/// Around what fills one chunk, two chunks, and the sizes that a user may send.
const std::vector<std::size_t> kSizes = {
    0,
    1,
    100,
    kMaximumPiece - 7,
    kMaximumPiece - 6,  // the whole message fills one chunk
    kMaximumPiece - 5,
    kMaximumPiece,
    2 * kMaximumPiece - 6,
    2 * kMaximumPiece - 5,
    kMebibyte,
    8 * kMebibyte,
};

std::string as_text(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

class Messages : public NodeTest {
 protected:
  /// The next message that the application receives is this one.
  void expect_received(ListenCommand& listen, const Peer& from, std::uint16_t tag, const Bytes& body) {
    const Json line = listen.next("message");
    ASSERT_TRUE(line.is_object()) << "no message of " << body.size() << " bytes came\n"
                                  << listen.errors() << node_->events();
    EXPECT_EQ(line["peer_id"], from.peer_id());
    EXPECT_EQ(line["tag"], tag);
    // Not EXPECT_EQ: it would print megabytes.
    EXPECT_TRUE(line["body"] == to_hex(body)) << "the body of " << body.size() << " bytes is not the same";
  }

  /// After the handshake, sends `stream` from a peer of its own; that connection ends for this reason.
  void expect_stream_ends(const Bytes& stream, const std::string& reason) {
    Peer peer = node_->make_peer();
    ASSERT_NO_FATAL_FAILURE(shake_hands(peer));
    // The node may have seen enough before all is sent.
    const auto sent = peer.send_stream(stream);
    ASSERT_TRUE(sent || sent.error().code == ErrorCode::kClosed) << sent.error().text;
    expect_ended(peer, reason);
    EXPECT_TRUE(node_->wait_gone(peer.peer_id()));
  }
};

TEST_F(Messages, ReachTheApplicationWhateverTheirSize) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  witness_->options().timeout = Milliseconds(20'000) * kPatience;

  for (const std::size_t size : kSizes) {
    const Bytes body = pattern(size, static_cast<std::uint8_t>(size));
    ASSERT_TRUE(witness_->send_message(0x10, body)) << size;
    ASSERT_NO_FATAL_FAILURE(expect_received(listen, *witness_, 0x10, body));
  }
}

TEST_F(Messages, ReachThePeerWhateverTheirSize) {
  ASSERT_NO_FATAL_FAILURE(start());
  witness_->options().timeout = Milliseconds(20'000) * kPatience;

  for (const std::size_t size : kSizes) {
    const Bytes body = pattern(size, static_cast<std::uint8_t>(size + 1));
    auto command = std::async(std::launch::async, [&] {
      return node_->cli({"send", witness_->peer_id(), "-", "--tag", "17"}, as_text(body), Milliseconds(30'000));
    });
    const auto got = witness_->read_application_message();
    const auto result = command.get();
    ASSERT_TRUE(got) << size << ": " << got.error().text << "\n" << result;
    EXPECT_EQ(result.exit_status, 0) << result;
    EXPECT_EQ(got->tag, 17);
    EXPECT_TRUE(got->body == body) << "the body of " << size << " bytes is not the same";
  }
}

TEST_F(Messages, TakeHexOnTheCommandLineAndTag16ByDefault) {
  ASSERT_NO_FATAL_FAILURE(start());

  const auto sent = node_->cli({"send", witness_->peer_id(), "00ff10"});
  const auto got = witness_->read_application_message();
  const auto odd = node_->cli({"send", witness_->peer_id(), "00ff1"});
  const auto stranger = node_->cli({"send", Peer().peer_id(), "00"});

  EXPECT_EQ(sent.exit_status, 0) << sent;
  ASSERT_TRUE(got) << got.error().text;
  EXPECT_EQ(got->tag, 0x10);
  EXPECT_EQ(to_hex(got->body), "00ff10");
  EXPECT_NE(odd.exit_status, 0) << odd;
  EXPECT_EQ(stranger.exit_status, 1) << stranger;
}

TEST_F(Messages, ReachEveryPeerByBroadcast) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::deque<Peer> peers;
  for (int i = 0; i < 3; ++i) {
    peers.push_back(node_->make_peer());
    ASSERT_NO_FATAL_FAILURE(shake_hands(peers.back()));
  }

  const auto sent = node_->cli({"broadcast", "c0ffee", "--tag", "32"});

  EXPECT_EQ(sent.exit_status, 0) << sent;
  peers.push_back(std::move(*witness_));
  for (Peer& peer : peers) {
    const auto got = peer.read_application_message();
    ASSERT_TRUE(got) << got.error().text << "\n" << sent;
    EXPECT_EQ(got->tag, 32);
    EXPECT_EQ(to_hex(got->body), "c0ffee");
  }
  witness_.reset();
}

TEST_F(Messages, KeepTheirOrderHoweverTheyAreCut) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  std::vector<Bytes> bodies;
  Bytes stream;
  for (std::size_t i = 0; i < 60; ++i) {
    bodies.push_back(pattern(i * 37 % 500, static_cast<std::uint8_t>(i)));
    const Bytes message = encode_message(0x10, bodies.back());
    stream.insert(stream.end(), message.begin(), message.end());
  }

  // All in one chunk; across chunk borders everywhere; a byte a chunk.
  for (const std::size_t piece : {kMaximumPiece, std::size_t{101}, std::size_t{7}, std::size_t{1}}) {
    ASSERT_TRUE(witness_->send_stream(stream, piece)) << piece;
    for (const Bytes& body : bodies) ASSERT_NO_FATAL_FAILURE(expect_received(listen, *witness_, 0x10, body));
  }
}

TEST_F(Messages, MayHaveEmptyChunksAnywhere) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  const Bytes body = pattern(300);
  const Bytes message = encode_message(0x21, body);

  for (const ByteView part : cut(message, 3)) {
    ASSERT_TRUE(witness_->send_chunk({}));
    ASSERT_TRUE(witness_->send_chunk(part));
    ASSERT_TRUE(witness_->send_chunk({}));
  }
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(witness_->send_chunk({}));
  ASSERT_TRUE(witness_->send_message(0x22, {}));

  ASSERT_NO_FATAL_FAILURE(expect_received(listen, *witness_, 0x21, body));
  ASSERT_NO_FATAL_FAILURE(expect_received(listen, *witness_, 0x22, {}));
}

TEST_F(Messages, MayComeInChunksLargerThanAWriterMakes) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();

  for (const std::size_t plaintext : {kMaximumReadable - 1, kMaximumReadable}) {
    const Bytes body = pattern(plaintext - 6, 9);
    ASSERT_TRUE(witness_->send_chunk(encode_message(0x10, body)));
    ASSERT_NO_FATAL_FAILURE(expect_received(listen, *witness_, 0x10, body));
  }
}

TEST_F(Messages, AreNeverInChunksLargerThanAReaderOfOldAllows) {
  ASSERT_NO_FATAL_FAILURE(start());
  const Bytes body = pattern(300'000);
  auto command = std::async(std::launch::async, [&] {
    return node_->cli({"send", witness_->peer_id(), "-"}, as_text(body));
  });

  Bytes stream;
  while (stream.size() < body.size() + 6) {
    const auto chunk = witness_->read_chunk();
    ASSERT_TRUE(chunk) << chunk.error().text;
    EXPECT_LE(chunk->size(), kMaximumPiece);
    stream.insert(stream.end(), chunk->begin(), chunk->end());
  }

  EXPECT_EQ(command.get().exit_status, 0);
}

TEST_F(Messages, WaitForTheApplicationThatComesLater) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(witness_->send_message(0x10, from_text("early " + std::to_string(i))));
  }

  const auto listen = node_->cli({"listen", "--json", "--count", "3", "--timeout", "10"});

  EXPECT_EQ(listen.exit_status, 0) << listen;
  std::vector<std::string> bodies;
  std::istringstream lines(listen.out);
  for (std::string line; std::getline(lines, line);) {
    const Json value = Json::parse(line, nullptr, false);
    ASSERT_TRUE(value.is_object()) << line;
    if (value.value("event", "") == "message") bodies.push_back(value["body"]);
  }
  EXPECT_EQ(bodies, (std::vector<std::string>{to_hex(from_text("early 0")), to_hex(from_text("early 1")),
                                              to_hex(from_text("early 2"))}));
}

TEST_F(Messages, GoToOneReceiverAtATime) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();

  const auto second = node_->cli({"listen", "--json", "--timeout", "5"});

  EXPECT_EQ(second.exit_status, 1) << second;
  EXPECT_NE(second.err.find(std::to_string(listen.process().pid())), std::string::npos)
      << "it names the holder, " << listen.process().pid() << "\n"
      << second;
  // The sending side is another one.
  EXPECT_EQ(check_alive(*node_, *witness_), "");
}

TEST_F(Messages, SurviveAReceiverThatIsKilledBetweenTwoOfThem) {
  ASSERT_NO_FATAL_FAILURE(start());
  {
    ListenCommand first(*node_);
    ASSERT_TRUE(first.wait_attached()) << first.errors();
    ASSERT_TRUE(witness_->send_message(0x10, from_text("before")));
    ASSERT_NO_FATAL_FAILURE(expect_received(first, *witness_, 0x10, from_text("before")));
    first.process().kill();
    ASSERT_EQ(first.process().wait(), -9);
  }
  ASSERT_TRUE(witness_->send_message(0x10, from_text("after")));

  ListenCommand second(*node_);
  ASSERT_TRUE(second.wait_attached()) << second.errors();
  // The last message may be given twice: the first receiver died before it said that it had it.
  Json line = second.next("message");
  if (line.is_object() && line["body"] == to_hex(from_text("before"))) line = second.next("message");
  ASSERT_TRUE(line.is_object()) << second.errors();
  EXPECT_EQ(line["body"], to_hex(from_text("after")));
}

TEST_F(Messages, AreToldWithTheComingAndGoingOfPeers) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));

  Json line;
  do {
    line = listen.next("connected");
  } while (line.is_object() && line["peer_id"] == witness_->peer_id());
  ASSERT_TRUE(line.is_object()) << listen.errors();
  EXPECT_EQ(line["peer_id"], peer.peer_id());
  EXPECT_EQ(line["incoming"], true);
  EXPECT_EQ(line["id_point"]["addr"], host_of(peer.local_point()));

  ASSERT_TRUE(peer.send_message(0x10, from_text("last words")));
  peer.close();
  ASSERT_NO_FATAL_FAILURE(expect_received(listen, peer, 0x10, from_text("last words")));
  line = listen.next("disconnected");
  ASSERT_TRUE(line.is_object()) << listen.errors();
  EXPECT_EQ(line["peer_id"], peer.peer_id());
  EXPECT_EQ(line["reason"], "closed_by_peer");
}

TEST_F(Messages, OfThePeerToPeerLayerNeverReachTheApplication) {
  ASSERT_NO_FATAL_FAILURE(start());
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  const std::vector<std::string> points = {"127.252.0.1:9", "[::1]:9"};

  ASSERT_TRUE(witness_->send_stream(concat(
      {encode_bootstrap(), encode_advertise(points), encode_advertise({}), encode_message(0x10, from_text("mine"))})));

  ASSERT_NO_FATAL_FAILURE(expect_received(listen, *witness_, 0x10, from_text("mine")));
  EXPECT_TRUE(eventually([&] {
    const Json known = node_->json({"points"});
    return mentions_point(known, points[0]) && (mentions_point(known, points[1]) || mentions_point(known, "::1:9"));
  })) << node_->json({"points"});
}

TEST_F(Messages, OfBootstrapAreAnsweredWithTheKnownPublicPoints) {
  PeerOptions open;
  open.advertised_port = 19'001;
  ASSERT_NO_FATAL_FAILURE(start({}, open));
  PeerOptions hidden;
  hidden.advertised_port = 19'002;
  hidden.metadata.private_node = true;
  Peer secretive = node_->make_peer(hidden);
  ASSERT_NO_FATAL_FAILURE(shake_hands(secretive));
  Peer curious = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(curious));
  const std::string known = host_of(witness_->local_point()) + ":19001";
  const std::string unknown = host_of(secretive.local_point()) + ":19002";

  ASSERT_TRUE(curious.send_stream(encode_bootstrap()));
  const auto answer = curious.read_message(kAdvertiseTag);

  ASSERT_TRUE(answer) << answer.error().text << "\n" << node_->events();
  const auto points = decode_advertise(answer->body);
  ASSERT_TRUE(points) << points.error().text;
  EXPECT_LE(points->size(), 50u);
  EXPECT_NE(std::find(points->begin(), points->end(), known), points->end()) << known;
  EXPECT_EQ(std::find(points->begin(), points->end(), unknown), points->end()) << unknown << " is private";
}

TEST_F(Messages, OfSwapDoNotEndAConnection) {
  ASSERT_NO_FATAL_FAILURE(start());
  const IdBytes id = peer_id_of(fresh_key_pair().public_key);

  ASSERT_TRUE(witness_->send_stream(encode_swap_request("127.252.0.2:9", id)));
  ASSERT_TRUE(witness_->send_stream(encode_swap_ack("127.252.0.3:9", id)));

  EXPECT_EQ(check_alive(*node_, *witness_), "");
}

TEST_F(Messages, OfDisconnectEndTheConnection) {
  ASSERT_NO_FATAL_FAILURE(start());
  expect_stream_ends(encode_disconnect(), "disconnect_message");
}

TEST_F(Messages, ThatAreMalformedEndTheirConnectionOnly) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::vector<std::string> too_many(101, "10.0.0.1:1");
  const IdBytes id{};
  const std::vector<std::pair<std::string, Bytes>> cases = {
      {"size 0", from_hex("00000000")},
      {"size 1", from_hex("0000000110")},
      {"size beyond 100 MiB", from_hex("063ffffd0010")},
      {"size 2^30", from_hex("400000000010")},
      {"size with the top bit set", from_hex("ffffffff0010")},
      {"tag 0", encode_message(0x00, {})},
      {"tag 6", encode_message(0x06, {})},
      {"tag 15", encode_message(0x0F, {})},
      {"a byte behind Disconnect", encode_message(kDisconnectTag, from_hex("00"))},
      {"a byte behind Bootstrap", encode_message(kBootstrapTag, from_hex("00"))},
      {"101 points", encode_advertise(too_many)},
      {"a point of 48 bytes", encode_advertise(std::vector<std::string>{std::string(48, '1')})},
      {"a point longer than its message", from_hex("0000000a0003000000ff3132332e")},
      {"a cut-off length of a point", encode_message(kAdvertiseTag, from_hex("000000"))},
      {"no point at all", encode_advertise(std::vector<std::string>{"foo"})},
      {"a host name", encode_advertise(std::vector<std::string>{"localhost:1"})},
      {"a point without port", encode_advertise(std::vector<std::string>{"1.2.3.4"})},
      {"a port above 65535", encode_advertise(std::vector<std::string>{"1.2.3.4:99999"})},
      {"an unparsable point in Swap_request", encode_swap_request("foo", id)},
      {"a short peer id in Swap_request", from_hex("0000001800040000000b312e322e332e343a31303000112233445566")},
      {"a byte behind Swap_ack",
       encode_message(kSwapAckTag, concat({from_hex("0000000c"), from_text("1.2.3.4:9732"), id, from_hex("00")}))},
      {"a Swap_ack without peer id",
       encode_message(kSwapAckTag, concat({from_hex("0000000c"), from_text("1.2.3.4:9732")}))},
      {"an Advertise of a megabyte", encode_message(kAdvertiseTag, Bytes(kMebibyte))},
  };
  for (const auto& [name, stream] : cases) {
    SCOPED_TRACE(name);
    ASSERT_NO_FATAL_FAILURE(expect_stream_ends(stream, "decode_error"));
  }
}

TEST_F(Messages, ThatAreMalformedAreFoundAcrossChunks) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));

  ASSERT_TRUE(peer.send_stream(concat({encode_message(0x10, pattern(100)), encode_message(0x07, {})}), 3));

  expect_ended(peer, "decode_error");
}

TEST_F(Messages, InChunksThatDoNotDecipherEndTheConnection) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer forged = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(forged));
  Bytes chunk = forged.seal(encode_message(0x10, pattern(100)));
  chunk[50] ^= 1;
  ASSERT_TRUE(forged.send_raw(chunk));
  expect_ended(forged, "decipher_error");

  Peer skipped = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(skipped));
  skipped.seal({});
  ASSERT_TRUE(skipped.send_chunk(encode_message(0x10, {})));
  expect_ended(skipped, "decipher_error");

  Peer truncated = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(truncated));
  ASSERT_TRUE(truncated.send_raw(from_hex("000f000000000000000000000000000000")));
  expect_ended(truncated, "invalid_ciphertext_size");
}

TEST_F(Messages, ThatAreOnlyAnnouncedCostNoMemory) {
#ifdef BULKHEAD_SANITIZED
  GTEST_SKIP() << "a sanitizer's memory is not the program's";
#endif
  ASSERT_NO_FATAL_FAILURE(start());
  const auto resident = [&] {
    const pid_t worker = node_->connection(witness_->peer_id()).value("worker_pid", 0);
    std::istringstream status(read_file("/proc/" + std::to_string(worker) + "/status"));
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("VmHWM:", 0) == 0) return std::atol(line.c_str() + 6);
    }
    return -1L;
  };
  const long before = resident();
  ASSERT_GT(before, 0);

  Peer announces = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(announces));
  ASSERT_TRUE(witness_->send_chunk(from_hex("063ffffc0010")));
  ASSERT_TRUE(witness_->send_chunk(pattern(1000)));
  // Something that the worker does after it read that.
  EXPECT_EQ(check_alive(*node_, *witness_), "");

  EXPECT_LT(resident() - before, 2048) << "KiB more";
}

TEST_F(Messages, ThatAPeerDoesNotReadLeaveOthersAlone) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer lazy = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(lazy));
  const std::string body(4 * kMebibyte, 'x');

  // The sockets' buffers and the queue fill up; the command then says so or waits: it must not stop the others.
  auto command = std::async(std::launch::async, [&] {
    return node_->cli({"send", lazy.peer_id(), "-"}, body + body + body, Milliseconds(4000) * kPatience);
  });
  ListenCommand listen(*node_);
  ASSERT_TRUE(listen.wait_attached()) << listen.errors();
  for (int i = 0; i < 20; ++i) {
    const Bytes text = from_text("meanwhile " + std::to_string(i));
    ASSERT_TRUE(witness_->send_message(0x10, text));
    ASSERT_NO_FATAL_FAILURE(expect_received(listen, *witness_, 0x10, text));
  }
  lazy.close();
  command.wait();
}

}  // namespace
}  // namespace bulkhead::testing
