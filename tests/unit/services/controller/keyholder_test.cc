#include "services/controller/keyholder/keyholder.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <sodium.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "wire/peer_id.h"

// Blocks that are given back, and what was seen in them: see StateIsWiped.
namespace {
std::vector<std::uint8_t>* wanted = nullptr;
unsigned seen = 0;

void give_back(void* block) {
  if (wanted != nullptr && block != nullptr) {
    auto* watched = std::exchange(wanted, nullptr);
    const std::size_t size = ::malloc_usable_size(block);
    // Held inverted, so that the test's own copy is not found.
    for (std::size_t at = 0; at + watched->size() <= size; ++at) {
      bool equal = true;
      for (std::size_t i = 0; equal && i < watched->size(); ++i) {
        equal = static_cast<const std::uint8_t*>(block)[at + i] == static_cast<std::uint8_t>(~(*watched)[i]);
      }
      if (equal) ++seen;
    }
    wanted = watched;
  }
  std::free(block);
}
}  // namespace

void* operator new(std::size_t size) {
  if (void* block = std::calloc(1, size == 0 ? 1 : size)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept {
  give_back(block);
}
void operator delete(void* block, std::size_t) noexcept {
  give_back(block);
}

namespace bulkhead::keyholder {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::uint32_t kSlots = 4;

wire::Identity identity_of(std::uint8_t seed) {
  wire::initialise();
  wire::Identity identity;
  for (std::size_t i = 0; i < 32; ++i) identity.secret_key.span()[i] = static_cast<std::uint8_t>(seed + i);
  crypto_scalarmult_base(identity.public_key.data(), identity.secret_key.span().data());
  identity.peer_id = wire::peer_id_of(identity.public_key);
  identity.stamp.fill(seed);
  return identity;
}

Announced announced() {
  return {{9732, "TEST", 2, 1}, {true, false}};
}

bool all_zero(std::span<const std::uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](auto byte) { return byte == 0; });
}

/// The other end of a connection: a peer that keeps to the protocol unless told otherwise.
struct Peer {
  explicit Peer(std::uint8_t seed, std::string chain = "TEST") : identity(identity_of(seed)) {
    message.port = 19732;
    message.public_key = identity.public_key;
    message.stamp = identity.stamp;
    message.nonce.fill(seed);
    message.chain_name = std::move(chain);
    message.distributed_db_version = 2;
    message.p2p_version = 1;
  }

  Bytes hello() const { return wire::encode(message); }

  /// What it works out once it has our connection message; `side` is the peer's.
  void meet(const Bytes& ours, wire::Side side) {
    const auto theirs = hello();
    const auto decoded = wire::decode_connection_message(ours);
    ASSERT_TRUE(decoded);
    const auto shared = wire::channel_key(decoded->public_key, identity.secret_key.span());
    ASSERT_TRUE(shared);
    std::copy(shared->span().begin(), shared->span().end(), key.begin());
    nonces = side == wire::Side::kInitiator ? wire::derive_nonces(theirs, ours, side)
                                            : wire::derive_nonces(ours, theirs, side);
  }

  Bytes sealed(const Bytes& plaintext) const {
    Bytes chunk(wire::kChunkOverhead + plaintext.size());
    wire::seal_chunk(plaintext.data(), plaintext.size(), chunk.data(), key, nonces.local);
    return chunk;
  }

  std::optional<Bytes> opened(const Bytes& chunk) const {
    if (chunk.size() < wire::kChunkOverhead) return std::nullopt;
    Bytes plaintext(chunk.size() - wire::kChunkOverhead);
    if (!wire::open_chunk(std::span(chunk).subspan(2), plaintext.data(), key, nonces.remote)) return std::nullopt;
    return plaintext;
  }

  wire::Identity identity;
  wire::ConnectionMessage message;
  std::array<std::uint8_t, 32> key{};
  wire::SessionNonces nonces;
};

class KeyholderTest : public testing::Test {
 protected:
  KeyholderTest() : keyholder_(identity_of(200), announced(), wire::target_for(0).value(), kSlots) {}

  Bytes begin(SlotRef slot, schema::Direction direction = schema::Direction::kIncoming) {
    const auto begun = keyholder_.begin({slot, direction});
    EXPECT_TRUE(begun);
    EXPECT_EQ(begun->slot, slot);
    return begun->message;
  }
  schema::KeyHelloDone hello(SlotRef slot, const Bytes& message) {
    const auto done = keyholder_.hello({slot, message});
    EXPECT_TRUE(done);
    EXPECT_EQ(done->slot, slot);
    EXPECT_EQ(done->failure == Reason::kNone, !done->chunk.empty()) << "metadata only after a good connection message";
    return *done;
  }
  schema::KeyProofDone proof(SlotRef slot, const Bytes& chunk) {
    const auto done = keyholder_.proof({slot, chunk});
    EXPECT_TRUE(done);
    EXPECT_EQ(done->slot, slot);
    // The rule that everything else serves: no key without a proof.
    if (done->failure != Reason::kNone) {
      EXPECT_TRUE(all_zero(done->channel_key));
      EXPECT_TRUE(all_zero(done->send_nonce));
      EXPECT_TRUE(all_zero(done->receive_nonce));
      EXPECT_TRUE(done->failure == Reason::kMyself || all_zero(done->peer_id));
    }
    return *done;
  }
  /// To the state *proving*.
  void prove_up_to_metadata(SlotRef slot, Peer& peer) {
    const Bytes ours = begin(slot);
    peer.meet(ours, wire::Side::kInitiator);
    ASSERT_EQ(hello(slot, peer.hello()).failure, Reason::kNone);
  }

  Keyholder keyholder_;
  const SlotRef slot_{2, 5};
};

TEST_F(KeyholderTest, AnnouncesWhatItWasToldWithAFreshNonceEachTime) {
  const auto first = wire::decode_connection_message(begin(slot_));
  const auto second = wire::decode_connection_message(begin(slot_));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->public_key, identity_of(200).public_key);
  EXPECT_EQ(first->stamp, identity_of(200).stamp);
  EXPECT_EQ(first->port, 9732);
  EXPECT_EQ(first->chain_name, "TEST");
  EXPECT_EQ(first->distributed_db_version, 2);
  EXPECT_EQ(first->p2p_version, 1);
  EXPECT_NE(first->nonce, second->nonce);
}

TEST_F(KeyholderTest, TakesAPeerThroughInBothDirections) {
  for (const auto direction : {schema::Direction::kIncoming, schema::Direction::kOutgoing}) {
    Peer peer(40);
    const Bytes ours = begin(slot_, direction);
    peer.meet(ours, direction == schema::Direction::kIncoming ? wire::Side::kInitiator : wire::Side::kResponder);
    const auto answer = hello(slot_, peer.hello());
    ASSERT_EQ(answer.failure, Reason::kNone);
    EXPECT_EQ(peer.opened(answer.chunk), (Bytes{0xff, 0x00})) << "our metadata: no mempool, not private";

    const auto proved = proof(slot_, peer.sealed({0x00, 0x07}));
    ASSERT_EQ(proved.failure, Reason::kNone);
    EXPECT_EQ(proved.peer_id, peer.identity.peer_id);
    EXPECT_FALSE(proved.metadata.disable_mempool);
    EXPECT_TRUE(proved.metadata.private_node) << "anything but zero is true";
    EXPECT_EQ(proved.channel_key, peer.key);
    auto ours_next = peer.nonces.remote;
    auto theirs_next = peer.nonces.local;
    wire::increment(ours_next);
    wire::increment(theirs_next);
    EXPECT_EQ(proved.send_nonce, ours_next) << "the metadata used one nonce of each side";
    EXPECT_EQ(proved.receive_nonce, theirs_next);
  }
}

// The sessions of the reference implementation: the same keys, stamps, names and metadata, proved by its difficulty.
TEST_F(KeyholderTest, TakesThePeersOfRecordedSessionsThrough) {
  std::ifstream file(BULKHEAD_SOURCE_DIR "/tests/vectors/sessions.json");
  const auto sessions = nlohmann::json::parse(file).at("sessions");
  ASSERT_FALSE(sessions.empty());
  const auto unhex = [](const std::string& text) {
    Bytes bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
      bytes.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
    }
    return bytes;
  };
  for (const auto& session : sessions) {
    SCOPED_TRACE(session.at("name").get<std::string>());
    for (const char* role : {"initiator", "responder"}) {
      const auto& described = session.at(role);
      Peer peer(0);
      const Bytes secret = unhex(described.at("secret_key"));
      std::copy(secret.begin(), secret.end(), peer.identity.secret_key.span().begin());
      const Bytes recorded = unhex(session.at(std::string(role) + "_writes").at(0).at("wire"));
      peer.message = wire::decode_connection_message(recorded).value();
      const bool dialled_by_peer = role == std::string("initiator");
      const Bytes ours = begin(slot_, dialled_by_peer ? schema::Direction::kIncoming : schema::Direction::kOutgoing);
      peer.meet(ours, dialled_by_peer ? wire::Side::kInitiator : wire::Side::kResponder);
      ASSERT_EQ(hello(slot_, recorded).failure, Reason::kNone);
      const auto proved = proof(slot_, peer.sealed({0, 0}));
      EXPECT_EQ(proved.failure, Reason::kNone);
      EXPECT_EQ(proved.peer_id, wire::peer_id_of(peer.message.public_key));
      EXPECT_EQ(proved.channel_key, peer.key);
    }
  }
}

TEST_F(KeyholderTest, AnswersNothingForASlotOutOfRange) {
  const SlotRef outside{kSlots, 1};
  EXPECT_FALSE(keyholder_.begin({outside, schema::Direction::kIncoming}));
  EXPECT_FALSE(keyholder_.hello({outside, Peer(40).hello()}));
  EXPECT_FALSE(keyholder_.proof({outside, Bytes(20)}));
  EXPECT_FALSE(keyholder_.begin({{0xffffffff, 1}, schema::Direction::kIncoming}));
  EXPECT_TRUE(keyholder_.begin({{kSlots - 1, 1}, schema::Direction::kIncoming}));
}

TEST_F(KeyholderTest, RefusesAnythingBeforeItsTurn) {
  Peer peer(40);
  EXPECT_EQ(hello(slot_, peer.hello()).failure, Reason::kChannelFault) << "hello before begin";
  EXPECT_EQ(proof(slot_, Bytes(20)).failure, Reason::kChannelFault) << "proof before begin";
  const Bytes ours = begin(slot_);
  peer.meet(ours, wire::Side::kInitiator);
  EXPECT_EQ(proof(slot_, peer.sealed({0, 0})).failure, Reason::kChannelFault) << "proof before hello";
  EXPECT_EQ(hello(slot_, peer.hello()).failure, Reason::kChannelFault) << "a proof out of turn ended the handshake";
}

TEST_F(KeyholderTest, TakesEachStepOnce) {
  Peer peer(40);
  prove_up_to_metadata(slot_, peer);
  EXPECT_EQ(hello(slot_, peer.hello()).failure, Reason::kChannelFault);
  EXPECT_EQ(proof(slot_, peer.sealed({0, 0})).failure, Reason::kChannelFault) << "a second hello ended the handshake";

  Peer again(41);
  prove_up_to_metadata(slot_, again);
  const Bytes chunk = again.sealed({0, 0});
  EXPECT_EQ(proof(slot_, chunk).failure, Reason::kNone);
  EXPECT_EQ(proof(slot_, chunk).failure, Reason::kChannelFault) << "the key is given once";
  EXPECT_EQ(hello(slot_, again.hello()).failure, Reason::kChannelFault);
}

TEST_F(KeyholderTest, BeginsAnewWhereAHandshakeWasGivenUp) {
  Peer first(40);
  prove_up_to_metadata(slot_, first);
  const Bytes stale = first.sealed({0, 0});
  Peer second(41);
  const SlotRef next{slot_.slot, slot_.generation + 1};
  prove_up_to_metadata(next, second);
  EXPECT_EQ(proof(slot_, stale).failure, Reason::kChannelFault) << "of the former generation";
  EXPECT_EQ(proof(next, second.sealed({0, 0})).failure, Reason::kNone) << "which the latter does not feel";
}

TEST_F(KeyholderTest, DoesNotLetAStaleGenerationTouchTheHandshake) {
  Peer peer(40);
  const Bytes ours = begin(slot_);
  peer.meet(ours, wire::Side::kInitiator);
  const SlotRef stale{slot_.slot, slot_.generation - 1};
  EXPECT_EQ(hello(stale, peer.hello()).failure, Reason::kChannelFault);
  ASSERT_EQ(hello(slot_, peer.hello()).failure, Reason::kNone);
  EXPECT_EQ(hello(stale, peer.hello()).failure, Reason::kChannelFault);
  EXPECT_EQ(proof(stale, peer.sealed({0, 0})).failure, Reason::kChannelFault);
  EXPECT_EQ(proof(slot_, peer.sealed({0, 0})).failure, Reason::kNone);
}

TEST_F(KeyholderTest, KeepsSlotsApart) {
  Peer first(40);
  Peer second(41);
  const SlotRef other{3, 9};
  prove_up_to_metadata(slot_, first);
  prove_up_to_metadata(other, second);
  EXPECT_EQ(proof(other, first.sealed({0, 0})).failure, Reason::kDecipherError);
  EXPECT_EQ(proof(slot_, first.sealed({0, 0})).failure, Reason::kNone);
}

TEST_F(KeyholderTest, DoesNotTakeTheMetadataOfAnEarlierConnection) {
  Peer peer(40);
  prove_up_to_metadata(slot_, peer);
  const Bytes recorded_hello = peer.hello();
  const Bytes recorded = peer.sealed({0, 0});
  ASSERT_EQ(proof(slot_, recorded).failure, Reason::kNone);
  begin(slot_);
  ASSERT_EQ(hello(slot_, recorded_hello).failure, Reason::kNone);
  EXPECT_EQ(proof(slot_, recorded).failure, Reason::kDecipherError);
}

TEST_F(KeyholderTest, RefusesKeysOfSmallOrder) {
  const std::array<std::uint8_t, 32> zero{};
  std::array<std::uint8_t, 32> one{};
  one[0] = 1;
  // p - 1, p and p + 1.
  std::array<std::uint8_t, 32> p{};
  p.fill(0xff);
  p[31] = 0x7f;
  p[0] = 0xec;
  auto p_same = p;
  p_same[0] = 0xed;
  auto p_one = p;
  p_one[0] = 0xee;
  const std::array<std::uint8_t, 32> order_eight = {0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3,
                                                    0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32,
                                                    0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00};
  for (const auto& key : {zero, one, p, p_same, p_one, order_eight}) {
    Peer peer(40);
    peer.message.public_key = key;
    begin(slot_);
    EXPECT_EQ(hello(slot_, peer.hello()).failure, Reason::kWeakKey);
    EXPECT_EQ(proof(slot_, Bytes(20)).failure, Reason::kChannelFault);
  }
}

TEST_F(KeyholderTest, RefusesAStampWithoutEnoughWorkBeforeItTouchesTheKey) {
  Keyholder strict(identity_of(200), announced(), wire::target_for(256).value(), kSlots);
  Peer peer(40);
  peer.message.public_key = {};
  ASSERT_TRUE(strict.begin({slot_, schema::Direction::kIncoming}));
  const auto done = strict.hello({slot_, peer.hello()});
  EXPECT_EQ(done->failure, Reason::kNotEnoughProofOfWork);
  EXPECT_TRUE(done->chunk.empty());
  EXPECT_EQ(strict.hello({slot_, peer.hello()})->failure, Reason::kChannelFault);
}

TEST_F(KeyholderTest, RefusesConnectionMessagesOfAWrongSize) {
  const Bytes good = Peer(40).hello();
  Bytes longer = good;
  longer.push_back(0);
  Bytes lying = good;
  ++lying[1];
  Bytes huge(1025);
  huge[0] = 1023 >> 8;
  huge[1] = 1023 & 0xff;
  Bytes shorter(good.begin(), good.end() - 1);
  for (const Bytes& message : {longer, lying, huge, shorter, Bytes{}, Bytes{0}, Bytes{0, 90}, Bytes(60)}) {
    begin(slot_);
    EXPECT_EQ(hello(slot_, message).failure, Reason::kMalformedConnectionMessage) << message.size();
    EXPECT_EQ(hello(slot_, good).failure, Reason::kChannelFault) << "a failure ends the handshake";
  }
}

TEST_F(KeyholderTest, RefusesMetadataChunksOfAWrongSize) {
  const std::vector<Bytes> chunks = {{}, {0}, {0, 16}, Bytes(17), Bytes(1025), Bytes(1024)};
  for (const Bytes& chunk : chunks) {
    Peer peer(40);
    prove_up_to_metadata(slot_, peer);
    EXPECT_EQ(proof(slot_, chunk).failure, Reason::kInvalidCiphertextSize) << chunk.size();
    EXPECT_EQ(proof(slot_, peer.sealed({0, 0})).failure, Reason::kChannelFault) << "there is one attempt";
  }
}

TEST_F(KeyholderTest, RefusesMetadataThatIsNoTwoBytes) {
  for (const Bytes& plaintext : {Bytes{}, Bytes{0}, Bytes{0, 0, 0}, Bytes(1006)}) {
    Peer peer(40);
    prove_up_to_metadata(slot_, peer);
    EXPECT_EQ(proof(slot_, peer.sealed(plaintext)).failure, Reason::kMalformedMetadata) << plaintext.size();
  }
}

TEST_F(KeyholderTest, RefusesAChunkInWhichAnyBitIsWrong) {
  for (const std::size_t bit : {16U, 100U, 143U, 144U, 159U}) {
    Peer peer(40);
    prove_up_to_metadata(slot_, peer);
    Bytes chunk = peer.sealed({0, 0});
    chunk[bit / 8] = static_cast<std::uint8_t>(chunk[bit / 8] ^ (1U << (bit % 8)));
    EXPECT_EQ(proof(slot_, chunk).failure, Reason::kDecipherError) << bit;
  }
}

// Trap 9: who plays our own messages back to us must not make us take ourselves for the other end, or any peer could
// have our own address forgotten; and metadata comes before that check.
TEST(Trap09, OurOwnConnectionMessageReplayedIsADecipherErrorAndNeverMyself) {
  for (const auto direction : {schema::Direction::kIncoming, schema::Direction::kOutgoing}) {
    Keyholder keyholder(identity_of(200), announced(), wire::target_for(0).value(), kSlots);
    const SlotRef slot{0, 1};
    const auto begun = keyholder.begin({slot, direction});
    const auto answer = keyholder.hello({slot, begun->message});
    ASSERT_EQ(answer->failure, Reason::kNone) << "our metadata goes out before anything is known of the other end";
    ASSERT_FALSE(answer->chunk.empty());
    const auto proof = keyholder.proof({slot, answer->chunk});
    EXPECT_EQ(proof->failure, Reason::kDecipherError);
    EXPECT_EQ(proof->peer_id, PeerId{});
  }
}

TEST(Trap09, AnOldMessageOfOursReplayedOnAnotherConnectionIsADecipherErrorToo) {
  Keyholder keyholder(identity_of(200), announced(), wire::target_for(0).value(), kSlots);
  const auto old = keyholder.begin({{0, 1}, schema::Direction::kOutgoing});
  const auto old_answer = keyholder.hello({{0, 1}, Peer(40).hello()});
  ASSERT_TRUE(keyholder.begin({{1, 1}, schema::Direction::kIncoming}));
  ASSERT_EQ(keyholder.hello({{1, 1}, old->message})->failure, Reason::kNone);
  EXPECT_EQ(keyholder.proof({{1, 1}, old_answer->chunk})->failure, Reason::kDecipherError);
}

TEST(Trap09, AConnectionWithOurselvesIsFoundAtBothEndsAndNoKeyIsGiven) {
  Keyholder keyholder(identity_of(200), announced(), wire::target_for(0).value(), kSlots);
  const SlotRef dialled{0, 1};
  const SlotRef accepted{1, 1};
  const auto first = keyholder.begin({dialled, schema::Direction::kOutgoing});
  const auto second = keyholder.begin({accepted, schema::Direction::kIncoming});
  const auto from_dialled = keyholder.hello({dialled, second->message});
  const auto from_accepted = keyholder.hello({accepted, first->message});
  ASSERT_EQ(from_dialled->failure, Reason::kNone);
  ASSERT_EQ(from_accepted->failure, Reason::kNone);
  for (const auto& [slot, chunk] :
       {std::pair(dialled, from_accepted->chunk), std::pair(accepted, from_dialled->chunk)}) {
    const auto proof = keyholder.proof({slot, chunk});
    EXPECT_EQ(proof->failure, Reason::kMyself);
    EXPECT_EQ(proof->peer_id, keyholder.peer_id());
    EXPECT_TRUE(proof->metadata.disable_mempool);
    EXPECT_TRUE(all_zero(proof->channel_key));
    EXPECT_TRUE(all_zero(proof->send_nonce));
  }
}

/// How often `bytes` stands in guarded memory of this process: small mappings that are left out of core dumps.
unsigned guarded_copies(std::span<const std::uint8_t> bytes) {
  constexpr std::uintptr_t kLargest = 1 << 20;
  std::ifstream smaps("/proc/self/smaps");
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  char writable = '-';
  unsigned found = 0;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    char permission = '-';
    if (std::sscanf(line.c_str(), "%lx-%lx r%c", &from, &to, &permission) == 3) {
      begin = from;
      end = to;
      writable = permission;
    }
    if (!line.starts_with("VmFlags:") || line.find(" dd ") == std::string::npos) continue;
    if (writable != 'w' || end - begin > kLargest) continue;
    const auto* const memory = reinterpret_cast<const std::uint8_t*>(begin);  // NOLINT(performance-no-int-to-ptr)
    for (std::size_t at = 0; at + bytes.size() <= end - begin; ++at) {
      if (std::equal(bytes.begin(), bytes.end(), memory + at)) ++found;
    }
  }
  return found;
}

TEST(KeyholderMemory, HoldsNoKeyOfAHandshakeThatIsOver) {
  Peer peer(40);
  enum class End { kProved, kWrongProof, kSecondHello, kBegunAnew };
  for (const End end : {End::kProved, End::kWrongProof, End::kSecondHello, End::kBegunAnew}) {
    auto keyholder = std::make_unique<Keyholder>(identity_of(200), announced(), wire::target_for(0).value(), kSlots);
    const SlotRef slot{0, 1};
    const auto begun = keyholder->begin({slot, schema::Direction::kIncoming});
    peer.meet(begun->message, wire::Side::kInitiator);
    ASSERT_EQ(keyholder->hello({slot, peer.hello()})->failure, Reason::kNone);
    switch (end) {
      case End::kProved:
        EXPECT_EQ(keyholder->proof({slot, peer.sealed({0, 0})})->failure, Reason::kNone);
        break;
      case End::kWrongProof:
        EXPECT_NE(keyholder->proof({slot, Bytes(20)})->failure, Reason::kNone);
        break;
      case End::kSecondHello:
        EXPECT_NE(keyholder->hello({slot, peer.hello()})->failure, Reason::kNone);
        break;
      default:
        ASSERT_TRUE(keyholder->begin({{0, 2}, schema::Direction::kIncoming}));
    }
    EXPECT_EQ(guarded_copies(peer.key), 0U) << static_cast<int>(end);
    std::vector<std::uint8_t> inverted(peer.key.begin(), peer.key.end());
    for (auto& byte : inverted) byte = static_cast<std::uint8_t>(~byte);
    seen = 0;
    wanted = &inverted;
    keyholder.reset();
    wanted = nullptr;
    EXPECT_EQ(seen, 0U) << static_cast<int>(end);
  }
}

TEST(KeyholderMemory, HoldsAKeyInGuardedMemoryAloneWhileTheProofIsAwaited) {
  Peer peer(40);
  auto keyholder = std::make_unique<Keyholder>(identity_of(200), announced(), wire::target_for(0).value(), kSlots);
  const auto begun = keyholder->begin({{0, 1}, schema::Direction::kIncoming});
  peer.meet(begun->message, wire::Side::kInitiator);
  ASSERT_EQ(keyholder->hello({{0, 1}, peer.hello()})->failure, Reason::kNone);
  EXPECT_EQ(guarded_copies(peer.key), 1U);
  std::vector<std::uint8_t> inverted(peer.key.begin(), peer.key.end());
  for (auto& byte : inverted) byte = static_cast<std::uint8_t>(~byte);
  seen = 0;
  wanted = &inverted;
  keyholder.reset();
  wanted = nullptr;
  EXPECT_EQ(seen, 0U);
}

}  // namespace
}  // namespace bulkhead::keyholder
