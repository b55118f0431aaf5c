#include <algorithm>
#include <cstring>
#include <iostream>
#include <random>

#include "tests/unit/schema/samples.h"

namespace bulkhead::schema::test {
namespace {

constexpr std::uint64_t kSeed = 0x62756c6b68656164;
constexpr int kRoundsEach = 16000;  // 240,000 in all

std::uint64_t draw(std::mt19937_64& random, std::uint64_t below) {
  return random() % std::max<std::uint64_t>(below, 1);
}

/// Bytes or whole pointers of the body changed; the segment table kept valid most of the time, as all is refused else.
Words mutated(const Words& valid, std::mt19937_64& random) {
  Words words = valid;
  switch (draw(random, 6)) {
    case 0:  // cut off
      words.resize(1 + draw(random, words.size()));
      break;
    case 1:  // longer
      for (std::uint64_t i = 1 + draw(random, 16); i > 0; --i) words.push_back(random());
      break;
    default:
      break;
  }
  const std::span<std::uint8_t> bytes(reinterpret_cast<std::uint8_t*>(words.data()),
                                      words.size() * sizeof(std::uint64_t));
  for (std::uint64_t i = draw(random, 6); i > 0; --i) {
    // The front holds the pointers of most messages.
    const std::uint64_t reach = draw(random, 2) == 0 ? std::min<std::uint64_t>(bytes.size(), 80) : bytes.size();
    const std::uint64_t at = draw(random, reach);
    switch (draw(random, 5)) {
      case 0:
        bytes[at] ^= static_cast<std::uint8_t>(1U << draw(random, 8));
        break;
      case 1:
        bytes[at] = static_cast<std::uint8_t>(random());
        break;
      case 2:
        bytes[at] = draw(random, 2) == 0 ? 0 : 0xff;
        break;
      case 3:
        words[at / 8] = words[draw(random, words.size())];
        break;
      default:  // a pointer of any kind to somewhere near
        words[at / 8] = draw(random, 4) | (random() & 0x3f) << 2 | draw(random, 64) << 32 | draw(random, 4) << 48;
        break;
    }
  }
  if (draw(random, 16) != 0) words[0] = static_cast<std::uint64_t>(words.size() - 1) << 32;
  return words;
}

template <typename Message>
class Mutation : public ::testing::Test {};
TYPED_TEST_SUITE(Mutation, Variants);

TYPED_TEST(Mutation, IsRefusedOrGivesAMessageWithinItsBounds) {
  std::cout << "seed " << kSeed << "\n";
  std::mt19937_64 random(kSeed);
  std::vector<Words> valid;
  for (const TypeParam& message : smallest<TypeParam>()) valid.push_back(encoded(message));
  for (const TypeParam& message : largest<TypeParam>()) valid.push_back(encoded(message));
  int taken = 0;
  for (int round = 0; round < kRoundsEach; ++round) {
    const Words words = mutated(valid[draw(random, valid.size())], random);
    const Result<TypeParam> decoded = decode<TypeParam>(words);
    if (!decoded) {
      ASSERT_EQ(decoded.error().code, ErrorCode::kBroken) << "round " << round;
      continue;
    }
    ++taken;
    // What was taken can be sent on: the sender's checks have the same bounds and are other code.
    Words again(kMaximumPacket / sizeof(std::uint64_t));
    const Result<std::size_t> used = encode(*decoded, again);
    ASSERT_TRUE(used.ok()) << "round " << round << ": " << used.error().text;
    again.resize(*used);
    const Result<TypeParam> twice = decode<TypeParam>(again);
    ASSERT_TRUE(twice.ok()) << "round " << round;
    ASSERT_TRUE(*twice == *decoded) << "round " << round;
  }
  EXPECT_GT(taken, kRoundsEach / 100) << "the mutations are too coarse to reach the fields";
  EXPECT_LT(taken, kRoundsEach) << "the mutations change nothing";
}

TYPED_TEST(Mutation, IsRefusedWhenCutAnywhere) {
  for (const TypeParam& message : largest<TypeParam>()) {
    const Words valid = encoded(message);
    for (std::size_t size = 0; size < valid.size(); ++size) {
      Words words(valid.begin(), valid.begin() + static_cast<std::ptrdiff_t>(size));
      ASSERT_FALSE(decode<TypeParam>(words).ok()) << "the table says more";
      if (size == 0) continue;
      words[0] = static_cast<std::uint64_t>(size - 1) << 32;
      // An empty member reads no more than the root.
      const Result<TypeParam> decoded = decode<TypeParam>(words);
      if (decoded.ok()) {
        ASSERT_TRUE(*decoded == message);
      }
    }
  }
}

}  // namespace
}  // namespace bulkhead::schema::test
