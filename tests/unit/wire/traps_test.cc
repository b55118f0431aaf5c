// The places where implementations of this protocol are known to go wrong, one number each. Those that concern what a
// service does, not what bytes mean, are tested with the services.

#include "tests/unit/wire/support.h"
#include "wire/ack.h"
#include "wire/connection_message.h"
#include "wire/metadata.h"
#include "wire/session_crypto.h"

namespace bulkhead::wire {
namespace {

constexpr std::array<std::uint8_t, 32> kKey = {7};

std::array<std::uint8_t, 32> blake2b_256(const Bytes& input) {
  std::array<std::uint8_t, 32> digest{};
  crypto_generichash(digest.data(), digest.size(), input.data(), input.size(), nullptr, 0);
  return digest;
}

TEST(Trap01, PeerIdIsAShortDigestWhileNoncesAreATruncatedLongOne) {
  const PublicKey key{1, 2, 3};
  const auto long_digest = blake2b_256(Bytes(key.begin(), key.end()));
  PeerId truncated{};
  std::copy_n(long_digest.begin(), truncated.size(), truncated.begin());
  EXPECT_NE(peer_id_of(key), truncated);

  const auto hashed =
      blake2b_256(bytes_of("ab"
                           "Init -> Resp"));
  EXPECT_EQ(to_hex(derive_nonces(bytes_of("a"), bytes_of("b"), Side::kResponder).local),
            to_hex(std::span(hashed).first(kNonceSize)));
}

TEST(Trap02, ProofOfWorkIsALittleEndianNumberAtMostTheTarget) {
  const PublicKey key = array_from_hex<32>("94498d9416140fbc458495333daac1b4c87e419f5726717a54f9b6c67476ae1c");
  const Stamp stamp = array_from_hex<24>("bbc2300149249e1ccc84a54362236c3cbbc2cc2ffbd3b6ea");
  Bytes both(key.begin(), key.end());
  append(both, stamp);
  const auto hash = blake2b_256(both);
  EXPECT_EQ(to_hex(hash), "bebb1eb3dd8a21379f075f499f8f040e3742fc53e02bbe22038e9ca520000000");
  EXPECT_TRUE(check_proof_of_work(key, stamp, *target_for(26)));
  EXPECT_TRUE(check_proof_of_work(key, stamp, Target{hash}));
  auto one_less = Target{hash};
  --one_less.little_endian[0];
  EXPECT_FALSE(check_proof_of_work(key, stamp, one_less));
}

TEST(Trap03, NonceLabelsAreReversed) {
  const Bytes initiator = bytes_of("initiator's message");
  const Bytes responder = bytes_of("responder's message");
  const auto to_responder = blake2b_256(concat({initiator, responder, bytes_of("Init -> Resp")}));
  const auto to_initiator = blake2b_256(concat({initiator, responder, bytes_of("Resp -> Init")}));
  const SessionNonces at_initiator = derive_nonces(initiator, responder, Side::kInitiator);
  const SessionNonces at_responder = derive_nonces(initiator, responder, Side::kResponder);
  EXPECT_EQ(to_hex(at_responder.local), to_hex(std::span(to_responder).first(kNonceSize)));
  EXPECT_EQ(to_hex(at_initiator.local), to_hex(std::span(to_initiator).first(kNonceSize)));
  EXPECT_EQ(at_initiator.local, at_responder.remote);
  EXPECT_EQ(at_initiator.remote, at_responder.local);
}

TEST(Trap03, HashedMessagesIncludeTheirLength) {
  const Bytes message = encode(ConnectionMessage{});
  const Bytes without(message.begin() + kConnectionMessageHeader, message.end());
  EXPECT_NE(derive_nonces(message, message, Side::kInitiator).local,
            derive_nonces(without, without, Side::kInitiator).local);
  // What encode gives is the message with its length, so it can be hashed as it is.
  EXPECT_EQ(**connection_message_size(message), message.size());
}

TEST(Trap04, TrueIsWrittenAsFfAndReadFromAnyNonZeroByte) {
  EXPECT_EQ(to_hex(encode(ConnectionMetadata{true, false})), "ff00");
  EXPECT_EQ(to_hex(encode(ConnectionMetadata{false, true})), "00ff");
  for (unsigned byte = 0; byte <= 0xFF; ++byte) {
    const Bytes bytes = {static_cast<std::uint8_t>(byte), static_cast<std::uint8_t>(~byte)};
    const auto metadata = decode_metadata(bytes);
    ASSERT_TRUE(metadata);
    EXPECT_EQ(metadata->disable_mempool, byte != 0);
    EXPECT_EQ(metadata->private_node, byte != 0xFF);
  }
}

TEST(Trap05, TheListOfANackIsPrefixedByItsSizeInBytes) {
  const Bytes nack = encode(AckMessage(Nack{Motive::kNoMotive, {point("1.2.3.4:9732"), point("1.2.3.4:9732")}}));
  EXPECT_EQ(to_hex(std::span(nack).first(7)), "01000000000020");
}

TEST(Trap05, AnAdvertiseHasNoListPrefix) {
  EXPECT_EQ(to_hex(encode(P2pMessage(Advertise{}))), "000000020003");
  const auto decoded = decode_p2p_message(kTagAdvertise, from_hex("0000000c312e322e332e343a39373332"));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(std::get<Advertise>(*decoded).points, std::vector{point("1.2.3.4:9732")});
  EXPECT_FALSE(decode_p2p_message(kTagAdvertise, from_hex("000000100000000c312e322e332e343a39373332")));
}

TEST(Trap06, APointIsTextOfAtMostFortySevenBytes) {
  const auto advertised = [](const std::string& text) {
    Bytes payload;
    append_u32(payload, static_cast<std::uint32_t>(text.size()));
    append(payload, bytes_of(text));
    return decode_p2p_message(kTagAdvertise, payload).ok();
  };
  EXPECT_TRUE(advertised("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"));
  EXPECT_FALSE(advertised("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:065535"));
}

TEST(Trap06, ATextThatIsNoPointIsACleanDecodeError) {
  const auto decoded = decode_p2p_message(kTagAdvertise, from_hex("00000003666f6f"));
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kInvalid);
  EXPECT_FALSE(decode_p2p_message(kTagSwapRequest, concat({from_hex("00000003666f6f"), Bytes(16)})));
}

TEST(Trap07, MessagesMayCrossAndShareChunks) {
  const Bytes stream = concat({encode(P2pMessage(Bootstrap{})), encode(P2pMessage(Advertise{{point("1.2.3.4:1")}})),
                               encode(P2pMessage(Disconnect{}))});
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    Channel sealing(kKey, Nonce{});
    Channel opening(kKey, Nonce{});
    Bytes joined;
    // An empty chunk is legal and takes a nonce.
    for (const auto piece : {std::span(stream).first(cut), std::span(stream).subspan(cut)}) {
      Bytes chunk(kChunkOverhead + piece.size());
      sealing.seal(piece.data(), piece.size(), chunk.data());
      Bytes opened(piece.size());
      ASSERT_TRUE(opening.open(std::span(chunk).subspan(kChunkHeader), opened.data()));
      append(joined, opened);
    }
    std::vector<P2pMessage> messages;
    std::span<const std::uint8_t> rest = joined;
    while (!rest.empty()) {
      const auto header = parse_envelope_header(rest.first<kEnvelopeHeader>());
      ASSERT_TRUE(header);
      messages.push_back(*decode_p2p_message(header->tag, rest.subspan(kEnvelopeHeader, header->payload_size())));
      rest = rest.subspan(header->whole_size());
    }
    EXPECT_EQ(messages, (std::vector<P2pMessage>{Bootstrap{}, Advertise{{point("1.2.3.4:1")}}, Disconnect{}}));
  }
}

TEST(Trap07, MessagesOfTheHandshakeFillTheirChunkExactly) {
  EXPECT_FALSE(decode_metadata(Bytes{0, 0, 0}));
  EXPECT_FALSE(decode_metadata(Bytes{0}));
  EXPECT_FALSE(decode_ack(Bytes{0, 0}));
  EXPECT_FALSE(decode_ack(Bytes{0xFF, 0}));
  EXPECT_FALSE(decode_ack(concat({encode(AckMessage(Nack{})), {0}})));
}

TEST(Trap08, AChunkOfTheLargestSizesIsReadThoughNeverWritten) {
  for (const std::size_t size : {std::size_t{65518}, kMaximumReceivedPlaintext}) {
    const Bytes plaintext = generated(size);
    Bytes body(kTag + size);
    crypto_box_easy_afternm(body.data(), plaintext.data(), size, Nonce{}.data(), kKey.data());
    const std::array<std::uint8_t, 2> header = {static_cast<std::uint8_t>(body.size() >> 8),
                                                static_cast<std::uint8_t>(body.size())};
    EXPECT_EQ(*chunk_body_size(header), body.size());
    Bytes opened(size);
    ASSERT_TRUE(Channel(kKey, Nonce{}).open(body, opened.data()));
    EXPECT_EQ(opened, plaintext);
    Bytes chunk(kChunkOverhead + size);
    EXPECT_THROW(seal_chunk(plaintext.data(), size, chunk.data(), kKey, Nonce{}), std::length_error);
  }
  EXPECT_EQ(kMaximumChunkBody, 0xFFFFU);
}

TEST(Trap10, TheFormOfANackFollowsTheAnnouncedVersion) {
  EXPECT_EQ(to_hex(encode(nack_for(0, Motive::kAlreadyConnected, {point("1.2.3.4:1")}))), "ff");
  for (const std::uint16_t announced : {std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{65535}}) {
    EXPECT_EQ(to_hex(encode(nack_for(announced, Motive::kAlreadyConnected, {}))), "01000500000000");
  }
}

TEST(Trap10, FiftyPointsAreSentAndAHundredAreRead) {
  const auto sent = decode_ack(encode(nack_for(1, Motive::kTooManyConnections, longest_points(80))));
  ASSERT_TRUE(sent);
  EXPECT_EQ(std::get<Nack>(*sent).points, longest_points(50));
  for (const std::size_t count : {std::size_t{100}, std::size_t{101}}) {
    Bytes list;
    for (const Point& one : longest_points(count)) append_point(list, one);
    Bytes nack = {0x01, 0x00, 0x01};
    append_u32(nack, static_cast<std::uint32_t>(list.size()));
    EXPECT_EQ(decode_ack(concat({nack, list})).ok(), count == 100) << count;
  }
}

}  // namespace
}  // namespace bulkhead::wire
