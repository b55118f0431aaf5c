#include "tests/unit/wire/support.h"
#include "wire/ack.h"
#include "wire/connection_message.h"
#include "wire/metadata.h"
#include "wire/session_crypto.h"

namespace bulkhead::wire {
namespace {

ConnectionMessage connection_message(const Json& side) {
  ConnectionMessage message;
  message.port = side.at("port").get<std::uint16_t>();
  message.public_key = array_from_hex<32>(side.at("public_key").get<std::string>());
  message.stamp = array_from_hex<24>(side.at("stamp").get<std::string>());
  message.nonce = array_from_hex<24>(side.at("nonce").get<std::string>());
  message.chain_name = chain_name(side.at("version"));
  message.distributed_db_version = side.at("version").at("distributed_db_version").get<std::uint16_t>();
  message.p2p_version = side.at("version").at("p2p_version").get<std::uint16_t>();
  return message;
}

std::string sha256(std::span<const std::uint8_t> bytes) {
  std::array<std::uint8_t, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256(hash.data(), bytes.data(), bytes.size());
  return to_hex(hash);
}

/// What `side` answers to a peer that announced `remote`.
AckMessage answer_of(const Json& side, const ConnectionMessage& remote) {
  if (!side.contains("refuses")) return Ack{};
  const auto& refusal = side.at("refuses");
  return nack_for(remote.p2p_version, static_cast<Motive>(refusal.at("motive").get<std::int16_t>()),
                  points(refusal.at("points")));
}

/// All messages of one side after the handshake, one behind the other.
Bytes stream_of(const Json& side) {
  Bytes out;
  for (const auto& described : side.at("messages")) {
    if (described.at("type") != "Message") {
      append(out, encode(p2p_message(described)));
      continue;
    }
    const Bytes payload = application_payload(described);
    append(out, encode_envelope_header(described.at("tag").get<std::uint16_t>(), payload.size()));
    append(out, payload);
  }
  return out;
}

struct Keys {
  Channel seals;
  Channel opens;
};

Keys keys_of(const Json& session, Side ours) {
  const Bytes initiator = from_hex(session.at("initiator_writes").at(0).at("wire"));
  const Bytes responder = from_hex(session.at("responder_writes").at(0).at("wire"));
  const Json& us = session.at(ours == Side::kInitiator ? "initiator" : "responder");
  const auto remote = decode_connection_message(ours == Side::kInitiator ? responder : initiator);
  const auto key = channel_key(remote->public_key, array_from_hex<32>(us.at("secret_key").get<std::string>()));
  EXPECT_TRUE(key);
  EXPECT_EQ(to_hex(key->span()), session.at("channel_key"));
  const SessionNonces nonces = derive_nonces(initiator, responder, ours);
  const char* names[] = {"initiator_nonce", "responder_nonce"};
  EXPECT_EQ(to_hex(nonces.local), session.at(names[ours == Side::kInitiator ? 0 : 1]));
  EXPECT_EQ(to_hex(nonces.remote), session.at(names[ours == Side::kInitiator ? 1 : 0]));
  return {Channel(key->span(), nonces.local), Channel(key->span(), nonces.remote)};
}

/// Seals `plaintext`, compares nonce and bytes with the vector, and opens them at the other side.
void check_chunk(const Json& write, const Bytes& plaintext, Channel& seals, Channel& opens) {
  ASSERT_EQ(plaintext.size(), write.at("plaintext_size").get<std::size_t>());
  EXPECT_EQ(to_hex(seals.next_nonce()), write.at("nonce"));
  Bytes chunk = concat({Bytes(kChunkOverhead), plaintext});
  seals.seal_in_place(chunk);
  if (write.contains("wire")) {
    EXPECT_EQ(to_hex(plaintext), write.at("plaintext"));
    EXPECT_EQ(to_hex(chunk), write.at("wire"));
  } else {
    EXPECT_EQ(sha256(plaintext), write.at("plaintext_sha256"));
    EXPECT_EQ(sha256(chunk), write.at("wire_sha256"));
  }
  const auto body = chunk_body_size(std::span(chunk).first<kChunkHeader>());
  ASSERT_TRUE(body);
  ASSERT_EQ(*body, chunk.size() - kChunkHeader);
  Bytes opened(plaintext.size());
  ASSERT_TRUE(opens.open(std::span(chunk).subspan(kChunkHeader), opened.data()));
  EXPECT_EQ(opened, plaintext);
}

void check_side(const Json& writes, const Json& us, const Json& them, Channel& seals, Channel& opens) {
  const ConnectionMessage ours = connection_message(us);
  EXPECT_EQ(to_hex(encode(ours)), writes.at(0).at("wire"));
  const auto decoded = decode_connection_message(from_hex(writes.at(0).at("wire")));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, ours);

  ASSERT_EQ(writes.at(1).at("what"), "metadata");
  const ConnectionMetadata metadata{us.at("disable_mempool").get<bool>(), us.at("private_node").get<bool>()};
  const auto written = encode(metadata);
  check_chunk(writes.at(1), Bytes(written.begin(), written.end()), seals, opens);
  EXPECT_EQ(*decode_metadata(written), metadata);

  ASSERT_EQ(writes.at(2).at("what"), "ack_or_nack");
  const AckMessage answer = answer_of(us, connection_message(them));
  check_chunk(writes.at(2), encode(answer), seals, opens);
  EXPECT_EQ(*decode_ack(encode(answer)), answer);

  const Bytes stream = stream_of(us);
  std::size_t position = 0;
  for (std::size_t i = 3; i < writes.size(); ++i) {
    const auto size = writes.at(i).at("plaintext_size").get<std::size_t>();
    ASSERT_LE(position + size, stream.size());
    const auto piece = std::span(stream).subspan(position, size);
    check_chunk(writes.at(i), Bytes(piece.begin(), piece.end()), seals, opens);
    position += size;
  }
  EXPECT_EQ(position, stream.size());
}

TEST(SessionVectors, AreReproducedByteForByte) {
  const Json sessions = load_vectors("sessions.json", "sessions");
  EXPECT_EQ(sessions.size(), 17U);
  for (const auto& session : sessions) {
    SCOPED_TRACE(session.at("name").get<std::string>() + " " + session.at("releases").dump());
    Keys initiator = keys_of(session, Side::kInitiator);
    Keys responder = keys_of(session, Side::kResponder);
    const Json& i = session.at("initiator");
    const Json& r = session.at("responder");
    check_side(session.at("initiator_writes"), i, r, initiator.seals, responder.opens);
    check_side(session.at("responder_writes"), r, i, responder.seals, initiator.opens);
  }
}

TEST(SessionVectors, ShowTheLargestChunkOfEachRelease) {
  for (const auto& session : load_vectors("sessions.json", "sessions")) {
    if (session.at("name") != "accept_accept_multi_chunk") continue;
    std::size_t largest = 0;
    for (const auto& write : session.at("initiator_writes")) {
      largest = std::max(largest, write.value("plaintext_size", std::size_t{0}));
    }
    EXPECT_EQ(largest, session.at("releases") == Json({"12.4"}) ? kMaximumPlaintext : 65503U);
  }
}

// A whole session of two nodes with fixed keys, as the protocol's description gives it.
class FixedSession : public testing::Test {
 protected:
  FixedSession() {
    for (std::size_t i = 0; i < 32; ++i) {
      initiator_secret_[i] = static_cast<std::uint8_t>(i + 1);
      responder_secret_[i] = static_cast<std::uint8_t>(i + 0x21);
    }
    initiator_.port = 9732;
    initiator_.public_key = array_from_hex<32>("07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c");
    initiator_.nonce.fill(0xA1);
    responder_.public_key = array_from_hex<32>("5869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67b");
    responder_.stamp.fill(0xFF);
    responder_.nonce.fill(0xB2);
    for (ConnectionMessage* message : {&initiator_, &responder_}) {
      message->chain_name = "TEZOS_MAINNET";
      message->distributed_db_version = 2;
      message->p2p_version = 1;
    }
  }
  Channel sealing(Side side) {
    const auto& secret = side == Side::kInitiator ? initiator_secret_ : responder_secret_;
    const auto& remote = side == Side::kInitiator ? responder_ : initiator_;
    const auto key = channel_key(remote.public_key, secret);
    EXPECT_EQ(to_hex(key->span()), "ec88f6e13b22bf9f04d480e0d8525c08ac7e2f48e212742bcbcafa104a74b08d");
    return Channel(key->span(), derive_nonces(encode(initiator_), encode(responder_), side).local);
  }
  static std::string seal(Channel& channel, const Bytes& plaintext) {
    Bytes chunk(kChunkOverhead + plaintext.size());
    channel.seal(plaintext.data(), plaintext.size(), chunk.data());
    return to_hex(chunk);
  }
  static Bytes bytes(const ConnectionMetadata& metadata) {
    const auto encoded = encode(metadata);
    return {encoded.begin(), encoded.end()};
  }

  std::array<std::uint8_t, 32> initiator_secret_{};
  std::array<std::uint8_t, 32> responder_secret_{};
  ConnectionMessage initiator_;
  ConnectionMessage responder_;
};

TEST_F(FixedSession, HasThePeerIdsThatAreKnown) {
  EXPECT_EQ(peer_id_text(peer_id_of(initiator_.public_key)), "idrDhFF62HJ9vKaYrH3oSxbRXH1zdk");
  EXPECT_EQ(peer_id_text(peer_id_of(responder_.public_key)), "idtzWh5BgjWifVTnXfVjAS1iPqNLcB");
}

TEST_F(FixedSession, HasTheConnectionMessagesThatAreKnown) {
  EXPECT_EQ(
      to_hex(encode(initiator_)),
      "0067260407a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c000000000000000000000000000000000000"
      "000000000000a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a10000000d54455a4f535f4d41494e4e455400020001");
  EXPECT_EQ(
      to_hex(encode(responder_)),
      "006700005869aff450549732cbaaed5e5df9b30a6da31cb0e5742bad5ad4a1a768f1a67bffffffffffffffffffffffffffffffffffff"
      "ffffffffffffb2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b20000000d54455a4f535f4d41494e4e455400020001");
}

TEST_F(FixedSession, SealsTheInitiatorsChunksAsKnown) {
  Channel channel = sealing(Side::kInitiator);
  EXPECT_EQ(to_hex(channel.next_nonce()), "045acae289b5146ec9e04946d5bd465530a0572df6f41c81");
  EXPECT_EQ(seal(channel, bytes(ConnectionMetadata{false, false})), "0012976c8cb81f9e373897c5d66a0baa108d574c");
  EXPECT_EQ(seal(channel, encode(AckMessage(Ack{}))), "00115a718da2f3ea58ebfabec7148e733921b8");
  EXPECT_EQ(to_hex(encode(P2pMessage(Bootstrap{}))), "000000020002");
  EXPECT_EQ(seal(channel, encode(P2pMessage(Bootstrap{}))), "00165fe59d5e7cf3077aedae484cce903019b4c7c01beccc");
}

TEST_F(FixedSession, SealsTheRespondersChunksAsKnown) {
  Channel channel = sealing(Side::kResponder);
  EXPECT_EQ(to_hex(channel.next_nonce()), "0df661fe728312b8245985f6c1edd14ace5a63dba270f20f");
  EXPECT_EQ(seal(channel, bytes(ConnectionMetadata{true, false})), "001256ea55fabe9ee9729ea48837045ffd514402");
  EXPECT_EQ(seal(channel, encode(AckMessage(Ack{}))), "001172039f3656ba9c053bbd597cb97d8f807a");
  const P2pMessage advertise = Advertise{{point("1.2.3.4:9732")}};
  EXPECT_EQ(to_hex(encode(advertise)), "0000001200030000000c312e322e332e343a39373332");
  EXPECT_EQ(seal(channel, encode(advertise)),
            "0026a56d4b5046893d334b5e8afb1ab353d26a30e2dab9003d64d2840f578b11b2c0d4ced781af70");
}

TEST_F(FixedSession, SealsANackAsKnown) {
  Channel channel = sealing(Side::kResponder);
  (void)seal(channel, bytes(ConnectionMetadata{true, false}));
  const Bytes nack = encode(nack_for(1, Motive::kTooManyConnections, {point("1.2.3.4:9732")}));
  EXPECT_EQ(to_hex(nack), "010001000000100000000c312e322e332e343a39373332");
  EXPECT_EQ(seal(channel, nack), "0027b5c2e1a06aae6619bc093f83f63a86577b58dd6f3ca56e28992098a8d4680b8b91589b375baa18");
}

TEST_F(FixedSession, EncodesASwapRequestAsKnown) {
  const P2pMessage swap = SwapRequest{point("1.2.3.4:9732"), peer_id_of(responder_.public_key)};
  EXPECT_EQ(to_hex(encode(swap)), "0000002200040000000c312e322e332e343a39373332fffe4879ce71723a32bf403ca98562ba");
}

constexpr const char* kSent =
    "00874d1b98317bd6efad8352a7144c9eb0b218c9130e0a875973908ddc894b764ffc0d7f176cf800b978af9e919bdc35122585168475096d0e"
    "bcaca1f2a1172412b91b363ff484d1c64c03417e0e755e696c386a0000002d53414e44424f5845445f54455a4f535f414c5048414e45545f32"
    "3031382d31312d33305431353a33303a35365a00000000";
constexpr const char* kReceived =
    "00874d1ab3845960b32b039fef38ca5c9f8f867df1d522f27a83e07d9dfbe3b296a6c076412d98b369ab015d57247e5380d708b9edfcca0ca2"
    "c865346ef9c3d7ed00182cf4f613a6303c9b2a28cda8ff93687bd20000002d53414e44424f5845445f54455a4f535f414c5048414e45545f32"
    "3031382d31312d33305431353a33303a35365a00000000";

TEST(OtherImplementation, AgreesOnNonces) {
  const SessionNonces outgoing = derive_nonces(from_hex(kSent), from_hex(kReceived), Side::kInitiator);
  EXPECT_EQ(to_hex(outgoing.local), "8dde158c55cff52f4be9352787d333e616a67853640d72c5");
  EXPECT_EQ(to_hex(outgoing.remote), "e67481a23cf9b404626a12bd405066e161b32dc53f469153");
  const SessionNonces incoming = derive_nonces(from_hex(kReceived), from_hex(kSent), Side::kResponder);
  EXPECT_EQ(to_hex(incoming.local), "ff0451d94af9f75a46d74a2a9f685cff20222a15829f121d");
  EXPECT_EQ(to_hex(incoming.remote), "8a09a2c43a61aa6eccee084aa66da9bc94b441b17615be58");
}

TEST(OtherImplementation, AgreesOnTheChannelKeyAndABox) {
  const auto key = channel_key(array_from_hex<32>("96678b88756dd6cfd6c129980247b70a6e44da77823c3672a2ec0eae870d8646"),
                               array_from_hex<32>("a18dc11cb480ebd31081e1541df8bd70c57da0fa419b5036242f8619d605e75a"));
  ASSERT_TRUE(key);
  EXPECT_EQ(to_hex(key->span()), "5228751a6f5a6494e38e1042f578e3a64ae3462b7899356f49e50be846c9609c");
  const Bytes plaintext = from_hex(kSent);
  Bytes chunk(kChunkOverhead + plaintext.size());
  seal_chunk(plaintext.data(), plaintext.size(), chunk.data(), key->span(),
             array_from_hex<24>("8dde158c55cff52f4be9352787d333e616a67853640d72c5"));
  EXPECT_EQ(
      to_hex(std::span(chunk).subspan(kChunkHeader)),
      "45d82d5c4067f5c32748596c1bbc93a9f87b5b1f2058ddd82b6f081ca484b672395c7473ab897c64c01c33878ac1ccb6919a75c9938d8b"
      "cf0e7917ddac13a787cfb5c9a5aea50d24502cf86b5c9b000358c039334ec077afe98936feec0dabfff35f14cafd2cd3173bbd56a7c6e5"
      "bf6f5f57c92b59b129918a5895e883e7d999b191aad078c4a5b164144c1beaed58b49ba9be094abf3a3bd9");
}

TEST(OtherImplementation, AgreesOnIdentityAndProofOfWork) {
  const PublicKey key = array_from_hex<32>("94498d9416140fbc458495333daac1b4c87e419f5726717a54f9b6c67476ae1c");
  const Stamp stamp = array_from_hex<24>("bbc2300149249e1ccc84a54362236c3cbbc2cc2ffbd3b6ea");
  EXPECT_EQ(to_hex(peer_id_of(key)), "56cde7b29892029dd5835a755384b154");
  EXPECT_EQ(peer_id_text(peer_id_of(key)), "idrdoT9g6YwELhUQyshCcHwAzBS9zA");
  EXPECT_TRUE(check_proof_of_work(key, stamp, *target_for(26)));
  EXPECT_FALSE(check_proof_of_work(key, stamp, *target_for(27)));
  const PublicKey other = array_from_hex<32>("d8246d13d0270cbfff4046b6d94b05ab19920bc5ad9fb77f3e945c40b340e874");
  const Stamp other_stamp = array_from_hex<24>("d1d0ebd55784bc92852d913dbf0fb5152d505b567d930fb2");
  EXPECT_TRUE(check_proof_of_work(other, other_stamp, *target_for(24)));
  EXPECT_FALSE(check_proof_of_work(other, other_stamp, *target_for(27)));
}

}  // namespace
}  // namespace bulkhead::wire
