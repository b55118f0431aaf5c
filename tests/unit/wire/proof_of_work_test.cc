#include "wire/proof_of_work.h"

#include <cmath>
#include <limits>

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

std::string big_endian_hex(const Target& target) {
  Bytes bytes(target.little_endian.rbegin(), target.little_endian.rend());
  return to_hex(bytes);
}

TEST(Target, AgreesWithEveryVector) {
  for (const auto& known : load_vectors("identities.json", "targets")) {
    const auto target = target_for(known.at("difficulty").get<double>());
    ASSERT_TRUE(target);
    EXPECT_EQ(big_endian_hex(*target), known.at("big_endian")) << known.at("difficulty");
  }
}

TEST(Target, RefusesWhatIsNoDifficulty) {
  for (const double bad : {-1.0, -0.001, 256.001, 1e300, std::numeric_limits<double>::infinity(),
                           -std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_FALSE(target_for(bad)) << bad;
  }
}

TEST(Target, FallsAsTheDifficultyRises) {
  Target last = *target_for(0);
  for (int quarter = 1; quarter <= 4 * 256; ++quarter) {
    const Target next = *target_for(quarter / 4.0);
    EXPECT_LE(big_endian_hex(next), big_endian_hex(last)) << quarter / 4.0;
    last = next;
  }
}

TEST(ProofOfWork, AgreesWithEveryVector) {
  const Json vectors = load_vectors("identities.json");
  for (const auto& known : vectors.at("proof_of_work_checks")) {
    const auto key = array_from_hex<32>(known.at("public_key").get<std::string>());
    const auto stamp = array_from_hex<24>(known.at("stamp").get<std::string>());
    for (const auto& difficulty : known.at("passes")) {
      EXPECT_TRUE(check_proof_of_work(key, stamp, *target_for(difficulty.get<double>()))) << known << difficulty;
    }
    for (const auto& difficulty : known.at("fails")) {
      EXPECT_FALSE(check_proof_of_work(key, stamp, *target_for(difficulty.get<double>()))) << known << difficulty;
    }
  }
  for (const auto& identity : vectors.at("identities")) {
    EXPECT_TRUE(check_proof_of_work(array_from_hex<32>(identity.at("public_key").get<std::string>()),
                                    array_from_hex<24>(identity.at("stamp").get<std::string>()),
                                    *target_for(identity.at("difficulty").get<double>())));
  }
}

TEST(ProofOfWork, PassesAHashEqualToTheTargetAndFailsOneAbove) {
  const auto identity = load_vectors("identities.json", "identities").at(0);
  const auto key = array_from_hex<32>(identity.at("public_key").get<std::string>());
  const auto stamp = array_from_hex<24>(identity.at("stamp").get<std::string>());
  Target target{array_from_hex<32>(identity.at("hash").get<std::string>())};
  EXPECT_TRUE(check_proof_of_work(key, stamp, target));
  ASSERT_GT(target.little_endian[0], 0);
  --target.little_endian[0];
  EXPECT_FALSE(check_proof_of_work(key, stamp, target));
  target.little_endian[0] = 0xFF;
  EXPECT_TRUE(check_proof_of_work(key, stamp, target));
  --target.little_endian[31];
  EXPECT_FALSE(check_proof_of_work(key, stamp, target));
}

TEST(ProofOfWorkSearch, FindsAStampThatPasses) {
  const PublicKey key = array_from_hex<32>("07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c");
  const Target target = *target_for(10);
  for (const unsigned threads : {0U, 1U, 2U}) {
    std::uint64_t attempts = 0;
    const auto stamp = search_proof_of_work(key, target, threads, [&](std::uint64_t so_far) {
      attempts = so_far;
      return true;
    });
    ASSERT_TRUE(stamp);
    EXPECT_TRUE(check_proof_of_work(key, *stamp, target));
    EXPECT_GE(attempts, 1U);
  }
}

TEST(ProofOfWorkSearch, StopsWhenProgressSaysSo) {
  const PublicKey key{};
  int calls = 0;
  const auto stamp = search_proof_of_work(key, *target_for(256), 2, [&](std::uint64_t) { return ++calls < 2; });
  ASSERT_FALSE(stamp);
  EXPECT_EQ(stamp.error().code, ErrorCode::kRefused);
  EXPECT_EQ(calls, 2);
}

TEST(ProofOfWorkSearch, StopsItsThreadsWhenProgressThrows) {
  EXPECT_THROW((void)search_proof_of_work(PublicKey{}, *target_for(256), 2,
                                          [](std::uint64_t) -> bool { throw std::runtime_error("enough"); }),
               std::runtime_error);
}

}  // namespace
}  // namespace bulkhead::wire
