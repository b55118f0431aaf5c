#include "wire/session_crypto.h"

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

constexpr std::array<std::uint8_t, 32> kKey = {1, 2, 3};

TEST(Nonce, IncrementsAsEveryVector) {
  for (const auto& known : load_vectors("crypto.json", "increments")) {
    Nonce nonce = array_from_hex<24>(known.at("in").get<std::string>());
    increment(nonce);
    EXPECT_EQ(to_hex(nonce), known.at("out"));
  }
}

TEST(Hash, AgreesWithEveryVector) {
  for (const auto& known : load_vectors("crypto.json", "blake2b_256")) {
    const Bytes input = from_hex(known.at("input"));
    std::array<std::uint8_t, 32> digest{};
    crypto_generichash(digest.data(), digest.size(), input.data(), input.size(), nullptr, 0);
    EXPECT_EQ(to_hex(digest), known.at("digest"));
  }
}

TEST(ChannelKey, IsTheSameForBothSides) {
  const Json known = load_vectors("crypto.json");
  const auto hex = [&](const char* field) { return array_from_hex<32>(known.at(field).get<std::string>()); };
  for (const auto& [remote, secret] : {std::pair("public_key_b", "secret_key_a"), {"public_key_a", "secret_key_b"}}) {
    const auto key = channel_key(hex(remote), hex(secret));
    ASSERT_TRUE(key);
    EXPECT_EQ(to_hex(key->span()), known.at("channel_key"));
  }
}

TEST(ChannelKey, RefusesPublicKeysOfSmallOrder) {
  const auto secret = array_from_hex<32>("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20");
  for (const char* weak : {
           "0000000000000000000000000000000000000000000000000000000000000000",
           "0100000000000000000000000000000000000000000000000000000000000000",
           "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
           "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
           "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
           "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
       }) {
    PublicKey key = array_from_hex<32>(weak);
    EXPECT_FALSE(channel_key(key, secret)) << weak;
    // The highest bit is not part of the coordinate.
    key[31] |= 0x80;
    EXPECT_FALSE(channel_key(key, secret)) << weak;
  }
}

TEST(Chunk, SealsAndOpensEveryBoxVector) {
  const Json known = load_vectors("crypto.json");
  const auto key = array_from_hex<32>(known.at("channel_key").get<std::string>());
  for (const auto& box : known.at("boxes")) {
    const Bytes plaintext = from_hex(box.at("plaintext"));
    const Bytes body = from_hex(box.at("tag_and_ciphertext"));
    const Nonce nonce = array_from_hex<24>(box.at("nonce").get<std::string>());
    Bytes chunk(kChunkOverhead + plaintext.size());
    seal_chunk(plaintext.data(), plaintext.size(), chunk.data(), key, nonce);
    EXPECT_EQ(Bytes(chunk.begin() + kChunkHeader, chunk.end()), body);
    EXPECT_EQ(*chunk_body_size(std::span(chunk).first<kChunkHeader>()), body.size());
    Bytes opened(plaintext.size());
    ASSERT_TRUE(open_chunk(body, opened.data(), key, nonce));
    EXPECT_EQ(opened, plaintext);
  }
}

TEST(Chunk, SealsInPlaceAsItDoesApart) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{31}, std::size_t{32}, std::size_t{33},
                                 std::size_t{64}, std::size_t{1000}, kMaximumPlaintext}) {
    const Bytes plaintext = generated(size);
    Bytes apart(kChunkOverhead + size);
    seal_chunk(plaintext.data(), size, apart.data(), kKey, Nonce{});
    Bytes in_place = concat({Bytes(kChunkOverhead), plaintext});
    seal_in_place(in_place, kKey, Nonce{});
    EXPECT_EQ(in_place, apart);
    std::span<std::uint8_t> body = std::span(in_place).subspan(kChunkHeader);
    ASSERT_TRUE(open_chunk(body, body.data() + kTag, kKey, Nonce{}));
    EXPECT_EQ(Bytes(in_place.begin() + kChunkOverhead, in_place.end()), plaintext);
  }
}

TEST(Chunk, RefusesToSealMoreThanFits) {
  Bytes chunk(kChunkOverhead + kMaximumPlaintext + 1);
  EXPECT_THROW(seal_in_place(chunk, kKey, Nonce{}), std::length_error);
  EXPECT_THROW(seal_in_place(std::span(chunk).first(kChunkOverhead - 1), kKey, Nonce{}), std::length_error);
}

TEST(Chunk, RefusesEveryFlippedBitAndWritesNothing) {
  Bytes chunk = concat({Bytes(kChunkOverhead), bytes_of("sealed")});
  seal_in_place(chunk, kKey, Nonce{});
  const Bytes good(chunk.begin() + kChunkHeader, chunk.end());
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bad = good;
    bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ (1U << bit % 8));
    Bytes out(6, 0xAA);
    EXPECT_FALSE(open_chunk(bad, out.data(), kKey, Nonce{}));
    EXPECT_EQ(out, Bytes(6, 0xAA));
  }
}

TEST(Chunk, RefusesBodiesShorterThanATagAndOtherKeysAndNonces) {
  Bytes chunk(kChunkOverhead);
  seal_in_place(chunk, kKey, Nonce{});
  const std::span<const std::uint8_t> body = std::span(chunk).subspan(kChunkHeader);
  std::uint8_t none = 0;
  EXPECT_TRUE(open_chunk(body, &none, kKey, Nonce{}));
  EXPECT_TRUE(open_chunk(body, nullptr, kKey, Nonce{}));
  for (std::size_t size = 0; size < kTag; ++size) EXPECT_FALSE(open_chunk(body.first(size), &none, kKey, Nonce{}));
  EXPECT_FALSE(open_chunk(body, &none, kKey, Nonce{1}));
  EXPECT_FALSE(open_chunk(body, &none, std::array<std::uint8_t, 32>{9}, Nonce{}));
}

TEST(ChunkHeader, NeedsRoomForTheTag) {
  for (unsigned size = 0; size <= 0xFFFF; ++size) {
    const std::array<std::uint8_t, 2> header = {static_cast<std::uint8_t>(size >> 8), static_cast<std::uint8_t>(size)};
    const auto body = chunk_body_size(header);
    ASSERT_EQ(body.ok(), size >= 16) << size;
    if (body) {
      ASSERT_EQ(*body, size);
    }
  }
}

TEST(Channel, AdvancesItsNonceWithEachChunk) {
  Channel sealing(kKey, Nonce{});
  Channel opening(kKey, Nonce{});
  for (int i = 0; i < 300; ++i) {
    Bytes chunk(kChunkOverhead + 3);
    sealing.seal(bytes_of("abc").data(), 3, chunk.data());
    Bytes out(3);
    ASSERT_TRUE(opening.open(std::span(chunk).subspan(kChunkHeader), out.data()));
    ASSERT_EQ(text_of(out), "abc");
  }
  EXPECT_EQ(to_hex(sealing.next_nonce()), "00000000000000000000000000000000000000000000012c");
  EXPECT_EQ(opening.next_nonce(), sealing.next_nonce());
}

TEST(Channel, AdvancesItsNonceEvenWhenOpeningFails) {
  Channel sealing(kKey, Nonce{});
  Channel opening(kKey, Nonce{});
  Bytes first(kChunkOverhead);
  Bytes second(kChunkOverhead);
  sealing.seal_in_place(first);
  sealing.seal_in_place(second);
  first.back() ^= 1;
  std::uint8_t none = 0;
  EXPECT_FALSE(opening.open(std::span(first).subspan(kChunkHeader), &none));
  EXPECT_TRUE(opening.open(std::span(second).subspan(kChunkHeader), &none));
}

TEST(Channel, LeavesNoKeyBehindWhenItMoves) {
  alignas(Channel) std::array<unsigned char, sizeof(Channel)> memory{};
  auto* first = new (memory.data()) Channel(kKey, Nonce{});
  Channel second(std::move(*first));
  EXPECT_EQ(std::count(memory.begin(), memory.end(), 3), 0);
  first->~Channel();
  Bytes chunk(kChunkOverhead);
  second.seal_in_place(chunk);
  std::uint8_t none = 0;
  EXPECT_TRUE(open_chunk(std::span(chunk).subspan(kChunkHeader), &none, kKey, Nonce{}));
}

}  // namespace
}  // namespace bulkhead::wire
