#include "tests/peer/codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::testing {
namespace {

template <std::size_t kSize>
std::array<std::uint8_t, kSize> fixed(std::string_view hex) {
  const Bytes bytes = from_hex(hex);
  if (bytes.size() != kSize) throw std::invalid_argument("wrong size");
  std::array<std::uint8_t, kSize> out{};
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

template <typename T>
std::string fill(std::uint8_t byte) {
  T value{};
  value.fill(byte);
  return to_hex(value);
}

Key secret_from(std::uint8_t first) {
  Key key{};
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::uint8_t>(first + i);
  return key;
}

constexpr std::string_view kSent =
    "00874d1b98317bd6efad8352a7144c9eb0b218c9130e0a875973908ddc894b764ffc0d7f176cf800b978af9e919bdc35122585168475096d"
    "0ebcaca1f2a1172412b91b363ff484d1c64c03417e0e755e696c386a0000002d53414e44424f5845445f54455a4f535f414c5048414e45"
    "545f323031382d31312d33305431353a33303a35365a00000000";
constexpr std::string_view kReceived =
    "00874d1ab3845960b32b039fef38ca5c9f8f867df1d522f27a83e07d9dfbe3b296a6c076412d98b369ab015d57247e5380d708b9edfcca0c"
    "a2c865346ef9c3d7ed00182cf4f613a6303c9b2a28cda8ff93687bd20000002d53414e44424f5845445f54455a4f535f414c5048414e45"
    "545f323031382d31312d33305431353a33303a35365a00000000";

constexpr std::string_view kInitiatorMessage =
    "0067260407a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c0000000000000000000000000000000000000000"
    "00000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a10000000d54455a4f535f4d41494e4e455400020001";
constexpr std::string_view kResponderMessage =
    "006700005869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67bffffffffffffffffffffffffffffffffffffffff"
    "ffffffffb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b20000000d54455a4f535f4d41494e4e455400020001";

/// The whole session of the reference at difficulty 0: both sides' state after the connection messages.
struct Session {
  KeyPair initiator = key_pair_of(secret_from(0x01));
  KeyPair responder = key_pair_of(secret_from(0x21));
  Key key = *shared_key(responder.public_key, initiator.secret_key);
  NoncePair nonces = derive_nonces(from_hex(kInitiatorMessage), from_hex(kResponderMessage), true);

  /// The `index`th chunk of a direction, as hex.
  std::string chunk(bool from_initiator, int index, std::string_view plaintext_hex) const {
    NonceBytes nonce = from_initiator ? nonces.local : nonces.remote;
    for (int i = 0; i < index; ++i) increment(nonce);
    return to_hex(seal_chunk(from_hex(plaintext_hex), key, nonce));
  }
};

TEST(PeerCodec, ComputesPeerIdsAsTheReferenceDoes) {
  const Key key = fixed<32>("94498d9416140fbc458495333daac1b4c87e419f5726717a54f9b6c67476ae1c");

  EXPECT_EQ(to_hex(peer_id_of(key)), "56cde7b29892029dd5835a755384b154");
  EXPECT_EQ(peer_id_text(key), "idrdoT9g6YwELhUQyshCcHwAzBS9zA");
  EXPECT_EQ(peer_id_text(key_pair_of(secret_from(0x01)).public_key), "idrDhFF62HJ9vKaYrH3oSxbRXH1zdk");
  EXPECT_EQ(peer_id_text(key_pair_of(secret_from(0x21)).public_key), "idtzWh5BgjWifVTnXfVjAS1iPqNLcB");
}

TEST(PeerCodec, DerivesThePublicKeyFromTheSecretOne) {
  const KeyPair pair = key_pair_of(fixed<32>("ac7acf3afed7637be10f8fc76a2eb6b3359c78adb1d813b41cbab3fae954f4b1"));

  EXPECT_EQ(to_hex(pair.public_key), "94498d9416140fbc458495333daac1b4c87e419f5726717a54f9b6c67476ae1c");
}

TEST(PeerCodec, ChecksProofsOfWorkAsLittleEndianNumbers) {
  const Key first = fixed<32>("94498d9416140fbc458495333daac1b4c87e419f5726717a54f9b6c67476ae1c");
  const ProofStamp first_stamp = fixed<24>("bbc2300149249e1ccc84a54362236c3cbbc2cc2ffbd3b6ea");
  const Key second = fixed<32>("d8246d13d0270cbfff4046b6d94b05ab19920bc5ad9fb77f3e945c40b340e874");
  const ProofStamp second_stamp = fixed<24>("d1d0ebd55784bc92852d913dbf0fb5152d505b567d930fb2");

  EXPECT_TRUE(proof_of_work_holds(first, first_stamp, 26.0));
  EXPECT_TRUE(proof_of_work_holds(first, first_stamp, 26.9));
  EXPECT_FALSE(proof_of_work_holds(first, first_stamp, 27.0));
  EXPECT_TRUE(proof_of_work_holds(second, second_stamp, 24.0));
  EXPECT_FALSE(proof_of_work_holds(first, second_stamp, 24.0));
}

TEST(PeerCodec, ComputesTargetsOfWholeAndFractionalDifficulties) {
  EXPECT_EQ(to_hex(proof_of_work_target(0)), std::string(64, 'f'));
  EXPECT_EQ(to_hex(proof_of_work_target(256)), std::string(64, '0'));
  EXPECT_EQ(to_hex(proof_of_work_target(26)), std::string(56, 'f') + "3f" + "000000");
  EXPECT_EQ(to_hex(proof_of_work_target(8.5)).substr(60), "b500");
}

TEST(PeerCodec, FindsStampsThatPassAndStampsThatDoNot) {
  const KeyPair pair = fresh_key_pair();

  EXPECT_TRUE(proof_of_work_holds(pair.public_key, find_stamp(pair.public_key, 6), 6));
  EXPECT_FALSE(proof_of_work_holds(pair.public_key, find_bad_stamp(pair.public_key, 1), 1));
}

TEST(PeerCodec, DerivesTheNoncesOfBothDirections) {
  const Bytes sent = from_hex(kSent);
  const Bytes received = from_hex(kReceived);

  const NoncePair outgoing = derive_nonces(sent, received, true);
  const NoncePair incoming = derive_nonces(sent, received, false);

  EXPECT_EQ(to_hex(outgoing.local), "8dde158c55cff52f4be9352787d333e616a67853640d72c5");
  EXPECT_EQ(to_hex(outgoing.remote), "e67481a23cf9b404626a12bd405066e161b32dc53f469153");
  EXPECT_EQ(to_hex(incoming.local), "ff0451d94af9f75a46d74a2a9f685cff20222a15829f121d");
  EXPECT_EQ(to_hex(incoming.remote), "8a09a2c43a61aa6eccee084aa66da9bc94b441b17615be58");
}

TEST(PeerCodec, SealsAndOpensAsTheReferenceDoes) {
  const Key remote = fixed<32>("96678b88756dd6cfd6c129980247b70a6e44da77823c3672a2ec0eae870d8646");
  const Key secret = fixed<32>("a18dc11cb480ebd31081e1541df8bd70c57da0fa419b5036242f8619d605e75a");
  const NonceBytes nonce = fixed<24>("8dde158c55cff52f4be9352787d333e616a67853640d72c5");
  const std::string sealed =
      "45d82d5c4067f5c32748596c1bbc93a9f87b5b1f2058ddd82b6f081ca484b672395c7473ab897c64c01c33878ac1ccb6919a75c9938d8bcf"
      "0e7917ddac13a787cfb5c9a5aea50d24502cf86b5c9b000358c039334ec077afe98936feec0dabfff35f14cafd2cd3173bbd56a7c6e5bf6f"
      "5f57c92b59b129918a5895e883e7d999b191aad078c4a5b164144c1beaed58b49ba9be094abf3a3bd9";

  const auto key = shared_key(remote, secret);

  ASSERT_TRUE(key);
  EXPECT_EQ(to_hex(*key), "5228751a6f5a6494e38e1042f578e3a64ae3462b7899356f49e50be846c9609c");
  EXPECT_EQ(to_hex(seal_chunk(from_hex(kSent), *key, nonce)), "0099" + sealed);
  const auto opened = open_chunk(from_hex(sealed), *key, nonce);
  ASSERT_TRUE(opened);
  EXPECT_EQ(to_hex(*opened), kSent);
}

TEST(PeerCodec, EncodesConnectionMessages) {
  const Session session;
  Announcement initiator{9732, session.initiator.public_key, {}, {}, "TEZOS_MAINNET", 2, 1};
  initiator.nonce.fill(0xA1);
  Announcement responder{0, session.responder.public_key, {}, {}, "TEZOS_MAINNET", 2, 1};
  responder.stamp.fill(0xFF);
  responder.nonce.fill(0xB2);

  EXPECT_EQ(to_hex(encode_announcement(initiator)), kInitiatorMessage);
  EXPECT_EQ(to_hex(encode_announcement(responder)), kResponderMessage);
}

TEST(PeerCodec, DecodesConnectionMessagesAndRefusesWrongLengths) {
  const auto decoded = decode_announcement(from_hex(kInitiatorMessage));
  Bytes longer = from_hex(kInitiatorMessage);
  longer[1] = static_cast<std::uint8_t>(longer[1] + 1);
  longer.push_back(0);
  Bytes shorter = from_hex(kInitiatorMessage);
  shorter[1] = static_cast<std::uint8_t>(shorter[1] - 1);
  shorter.pop_back();

  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->port, 9732);
  EXPECT_EQ(decoded->chain_name, "TEZOS_MAINNET");
  EXPECT_EQ(decoded->distributed_db_version, 2);
  EXPECT_EQ(decoded->p2p_version, 1);
  EXPECT_EQ(to_hex(decoded->nonce), fill<NonceBytes>(0xA1));
  EXPECT_FALSE(decode_announcement(longer));
  EXPECT_FALSE(decode_announcement(shorter));
}

TEST(PeerCodec, ReproducesAWholeSession) {
  const Session session;

  EXPECT_EQ(to_hex(session.key), "ec88f6e13b22bf9f04d480e0d8525c08ac7e2f48e212742bcbcafa104a74b08d");
  EXPECT_EQ(to_hex(session.nonces.local), "045acae289b5146ec9e04946d5bd465530a0572df6f41c81");
  EXPECT_EQ(to_hex(session.nonces.remote), "0df661fe728312b8245985f6c1edd14ace5a63dba270f20f");
  EXPECT_EQ(session.chunk(true, 0, to_hex(encode_metadata({}))), "0012976c8cb81f9e373897c5d66a0baa108d574c");
  EXPECT_EQ(session.chunk(false, 0, to_hex(encode_metadata({true, false}))),
            "001256ea55fabe9ee9729ea48837045ffd514402");
  EXPECT_EQ(session.chunk(true, 1, to_hex(encode_ack({}))), "00115a718da2f3ea58ebfabec7148e733921b8");
  EXPECT_EQ(session.chunk(false, 1, to_hex(encode_ack({}))), "001172039f3656ba9c053bbd597cb97d8f807a");
  EXPECT_EQ(session.chunk(false, 1, to_hex(encode_ack({AckKind::kNack, kTooManyConnections, {"1.2.3.4:9732"}}))),
            "0027b5c2e1a06aae6619bc093f83f63a86577b58dd6f3ca56e28992098a8d4680b8b91589b375baa18");
  EXPECT_EQ(session.chunk(true, 2, to_hex(encode_bootstrap())), "00165fe59d5e7cf3077aedae484cce903019b4c7c01beccc");
  EXPECT_EQ(session.chunk(false, 2, to_hex(encode_advertise(std::vector<std::string>{"1.2.3.4:9732"}))),
            "0026a56d4b5046893d334b5e8afb1ab353d26a30e2dab9003d64d2840f578b11b2c0d4ced781af70");
}

TEST(PeerCodec, EncodesMessagesOfTheP2pLayer) {
  const std::vector<std::string> points = {"1.2.3.4:9732"};
  const IdBytes responder = peer_id_of(key_pair_of(secret_from(0x21)).public_key);

  EXPECT_EQ(to_hex(encode_ack({AckKind::kNack, 1, points})), "010001000000100000000c312e322e332e343a39373332");
  EXPECT_EQ(to_hex(encode_bootstrap()), "000000020002");
  EXPECT_EQ(to_hex(encode_disconnect()), "000000020001");
  EXPECT_EQ(to_hex(encode_advertise(points)), "0000001200030000000c312e322e332e343a39373332");
  EXPECT_EQ(to_hex(encode_swap_request(points[0], responder)),
            "0000002200040000000c312e322e332e343a39373332fffe4879ce71723a32bf403ca98562ba");
  EXPECT_EQ(to_hex(encode_swap_ack(points[0], responder)).substr(8, 4), "0005");
  EXPECT_EQ(to_hex(encode_message(0x10, from_text("hello"))), "00000007001068656c6c6f");
}

TEST(PeerCodec, IncrementsNoncesWithCarryAndWrapsSilently) {
  NonceBytes carries{};
  carries[22] = carries[23] = 0xFF;
  NonceBytes wraps{};
  wraps.fill(0xFF);

  increment(carries);
  increment(wraps);

  EXPECT_EQ(to_hex(carries), std::string(42, '0') + "010000");
  EXPECT_EQ(to_hex(wraps), std::string(48, '0'));
}

TEST(PeerCodec, TreatsAnyNonZeroByteOfMetadataAsTrue) {
  const auto odd = decode_metadata(from_hex("0001"));

  ASSERT_TRUE(odd);
  EXPECT_FALSE(odd->disable_mempool);
  EXPECT_TRUE(odd->private_node);
  EXPECT_FALSE(decode_metadata(from_hex("000000")));
  EXPECT_FALSE(decode_metadata(from_hex("00")));
}

TEST(PeerCodec, DecodesEveryKindOfAck) {
  const auto nack = decode_ack(from_hex("010005000000100000000c312e322e332e343a39373332"));

  ASSERT_TRUE(nack);
  EXPECT_EQ(nack->kind, AckKind::kNack);
  EXPECT_EQ(nack->motive, kAlreadyConnected);
  EXPECT_EQ(nack->points, std::vector<std::string>{"1.2.3.4:9732"});
  EXPECT_EQ(decode_ack(from_hex("00"))->kind, AckKind::kAck);
  EXPECT_EQ(decode_ack(from_hex("ff"))->kind, AckKind::kNackV0);
  EXPECT_EQ(decode_ack(from_hex("01ffff00000000"))->motive, -1);
}

TEST(PeerCodec, RefusesMalformedAcks) {
  const std::vector<std::string> many(101, "10.0.0.1:1");
  for (const std::string_view text :
       {"", "02", "0000", "ff00", "0100", "010001", "01000100000001", "0100010000000000"}) {
    EXPECT_FALSE(decode_ack(from_hex(text))) << text;
  }
  EXPECT_FALSE(decode_ack(encode_ack({AckKind::kNack, 1, many})));
  EXPECT_FALSE(decode_ack(encode_ack({AckKind::kNack, 1, {std::string(48, '1')}})));
}

TEST(PeerCodec, TakesMessagesOffAStreamOnlyWhenTheyAreWhole) {
  Bytes stream = concat({encode_message(0x10, from_text("a")), encode_bootstrap()});
  stream.pop_back();

  const auto first = take_message(stream);
  const auto second = take_message(stream);
  stream.push_back(0x02);
  const auto third = take_message(stream);

  ASSERT_TRUE(first && second && third);
  ASSERT_TRUE(first->has_value());
  EXPECT_EQ((*first)->tag, 0x10);
  EXPECT_EQ((*first)->body, from_text("a"));
  EXPECT_FALSE(second->has_value());
  ASSERT_TRUE(third->has_value());
  EXPECT_EQ((*third)->tag, kBootstrapTag);
  EXPECT_TRUE(stream.empty());
}

TEST(PeerCodec, RefusesSizesOutsideTheLimits) {
  for (const std::string_view text : {"00000000", "00000001", "063ffffd", "7fffffff", "ffffffff"}) {
    Bytes stream = from_hex(text);
    EXPECT_FALSE(take_message(stream)) << text;
  }
  Bytes largest = from_hex("063ffffc");
  EXPECT_TRUE(take_message(largest));
}

TEST(PeerCodec, KnowsKeysThatGiveNoSharedSecret) {
  const KeyPair own = fresh_key_pair();
  for (const Key& key : low_order_keys()) EXPECT_FALSE(shared_key(key, own.secret_key)) << to_hex(key);
}

TEST(PeerCodec, RefusesAForgedChunk) {
  const Session session;
  Bytes chunk = seal_chunk(from_text("text"), session.key, session.nonces.local);
  chunk.back() ^= 1;

  EXPECT_FALSE(open_chunk(ByteView(chunk).subspan(2), session.key, session.nonces.local));
  EXPECT_FALSE(open_chunk(ByteView(chunk).first(15), session.key, session.nonces.local));
}

TEST(PeerCodec, CutsStreamsIntoFullPiecesAndARest) {
  const Bytes stream = pattern(10);
  const auto pieces = cut(stream, 4);

  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].size(), 4u);
  EXPECT_EQ(pieces[2].size(), 2u);
  EXPECT_TRUE(cut({}, 4).empty());
}

}  // namespace
}  // namespace bulkhead::testing
