#include "wire/version.h"

#include <stdexcept>

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

Version version(const Json& json) {
  return {chain_name(json), json.at("distributed_db_version").get<std::uint16_t>(),
          json.at("p2p_version").get<std::uint16_t>()};
}

TEST(Version, EncodesAsEveryVector) {
  for (const auto& known : load_vectors("versions.json", "encodings")) {
    EXPECT_EQ(to_hex(encode(version(known.at("value")))), known.at("bytes"));
    const auto decoded = decode_version(from_hex(known.at("bytes")));
    ASSERT_TRUE(decoded) << decoded.error().text;
    EXPECT_EQ(*decoded, version(known.at("value")));
  }
}

TEST(Version, DecodesOrRefusesAsEveryVector) {
  for (const auto& known : load_vectors("versions.json", "decode")) {
    const auto decoded = decode_version(from_hex(known.at("bytes")));
    ASSERT_EQ(decoded.ok(), !known.at("value").is_null()) << known;
    if (decoded) {
      EXPECT_EQ(*decoded, version(known.at("value")));
    }
  }
}

TEST(Version, RefusesAChainNameThatNoConnectionMessageHolds) {
  Version version{std::string(kMaximumChainName, 'x'), 0, 0};
  Bytes bytes = encode(version);
  EXPECT_TRUE(decode_version(bytes));
  // One character more, with the length that belongs to it.
  bytes.insert(bytes.begin() + 4, 'x');
  ++bytes[3];
  const auto decoded = decode_version(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kTooLarge);
  version.chain_name += 'x';
  EXPECT_THROW((void)encode(version), std::length_error);
}

TEST(VersionChoice, AgreesWithEveryVector) {
  for (const auto& known : load_vectors("versions.json", "choose")) {
    const auto distributed_db = known.at("distributed_db_versions").get<std::vector<std::uint16_t>>();
    const auto p2p = known.at("p2p_versions").get<std::vector<std::uint16_t>>();
    const auto chosen = choose_version(chain_name(known), distributed_db, p2p, version(known.at("remote")));
    if (known.contains("chosen")) {
      ASSERT_TRUE(std::holds_alternative<Version>(chosen)) << known;
      EXPECT_EQ(std::get<Version>(chosen), version(known.at("chosen")));
    } else {
      ASSERT_TRUE(std::holds_alternative<Motive>(chosen)) << known;
      EXPECT_EQ(static_cast<int>(std::get<Motive>(chosen)), known.at("motive").get<int>());
    }
  }
}

TEST(VersionChoice, DoesNotDependOnTheOrderOfTheLists) {
  const std::uint16_t up[] = {0, 1, 2};
  const std::uint16_t down[] = {2, 1, 0};
  for (std::uint16_t announced = 0; announced < 4; ++announced) {
    const Version remote{"N", announced, announced};
    EXPECT_EQ(choose_version("N", up, up, remote), choose_version("N", down, down, remote));
  }
}

TEST(VersionChoice, RefusesWithAnEmptyList) {
  const std::uint16_t some[] = {0};
  const auto chosen = choose_version("N", {}, some, {"N", 0, 0});
  EXPECT_EQ(std::get<Motive>(chosen), Motive::kDeprecatedDistributedDbVersion);
}

TEST(VersionToAnnounce, IsTheGreatestOfEachList) {
  const std::uint16_t distributed_db[] = {1, 2, 0};
  EXPECT_EQ(version_to_announce("N", distributed_db, kP2pVersions), (Version{"N", 2, 1}));
  EXPECT_THROW((void)version_to_announce("N", {}, kP2pVersions), std::invalid_argument);
}

TEST(MotiveName, IsKnownForEveryCode) {
  EXPECT_STREQ(motive_name(Motive::kAlreadyConnected), "already_connected");
  EXPECT_STREQ(motive_name(static_cast<Motive>(-1)), "unknown_motive");
  EXPECT_STREQ(motive_name(static_cast<Motive>(6)), "unknown_motive");
}

}  // namespace
}  // namespace bulkhead::wire
