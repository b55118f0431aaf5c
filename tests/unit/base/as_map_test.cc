#include "base/as_map.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <random>

#include "base/address.h"
#include "base/prefix.h"

namespace bulkhead {
namespace {

Address address(const char* text) {
  return parse_address(text).value();
}
AddressGroup group(const char* text) {
  return group_of(address(text));
}

TEST(AsMap, TakesTheLongestPrefixAndFallsBackToTheFirstBits) {
  const auto map = AsMap::parse("# a map\n8.0.0.0/8 3356\n8.8.8.0/24 AS15169\r\n\n2a00:1450::/32 15169\n").value();
  EXPECT_EQ(map.size(), 3U);
  const auto of = [&](const char* text) { return map.group_of(address(text)); };
  EXPECT_EQ(of("8.8.8.8"), of("2a00:1450::5")) << "one autonomous system";
  EXPECT_NE(of("8.8.8.8"), of("8.8.9.8"));
  EXPECT_EQ(of("8.8.9.8"), of("8.200.0.1"));
  EXPECT_EQ(of("9.9.9.9"), group("9.9.9.9"));
  EXPECT_EQ(of("2a01::1"), group("2a01::1"));
}

TEST(AsMap, KeepsTheFamiliesApart) {
  const auto map = AsMap::parse("::/0 1\n").value();
  EXPECT_EQ(map.group_of(address("8.8.8.8")), group("8.8.8.8"));
  EXPECT_NE(map.group_of(address("2a00::1")), group("2a00::1"));
}

TEST(AsMap, LetsTheLaterOfTwoLinesCount) {
  const auto map = AsMap::parse("8.0.0.0/8 1\n9.0.0.0/8 2\n8.0.0.0/8 2\n").value();
  EXPECT_EQ(map.size(), 2U);
  EXPECT_EQ(map.group_of(address("8.1.1.1")), map.group_of(address("9.1.1.1")));
}

TEST(AsMap, NamesTheLineThatItDoesNotUnderstand) {
  for (const char* bad : {"8.0.0.0/8", "8.0.0.0/8 0", "8.0.0.0/8 -1", "8.0.0.0/8 4294967296", "8.0.0.0/8 1 2",
                          "8.0.0.0/33 1", "here 1", "8.0.0.0/8 AS"}) {
    const auto map = AsMap::parse(std::string("9.0.0.0/8 7\n") + bad + "\n");
    ASSERT_FALSE(map) << bad;
    EXPECT_EQ(map.error().code, ErrorCode::kInvalid);
    EXPECT_TRUE(map.error().text.starts_with("line 2: ")) << map.error().text;
  }
}

TEST(AsMap, PassesOverCommentsAndEmptyLines) {
  const auto map = AsMap::parse("# all\n\n  \t\r\n8.0.0.0/8\tAS1 # one\n9.0.0.0/8 2# two").value();
  EXPECT_EQ(map.size(), 2U);
  EXPECT_EQ(map.number_of(address("9.0.0.1")), 2U);
}

TEST(AsMap, WithoutALineKnowsNobody) {
  for (const AsMap& map : {AsMap(), AsMap::parse("").value(), AsMap::parse("# none\n").value()}) {
    EXPECT_EQ(map.size(), 0U);
    EXPECT_EQ(map.number_of(address("8.8.8.8")), std::nullopt);
    EXPECT_EQ(map.group_of(address("2a00::1")), group("2a00::1"));
  }
}

TEST(AsMap, ReachesFromTheFirstAddressToTheLast) {
  const auto map = AsMap::parse("0.0.0.0/1 1\n255.255.255.255 2\n::/128 3\nffff::/16 4\n").value();
  EXPECT_EQ(map.number_of(address("0.0.0.0")), 1U);
  EXPECT_EQ(map.number_of(address("127.255.255.255")), 1U);
  EXPECT_EQ(map.number_of(address("128.0.0.0")), std::nullopt);
  EXPECT_EQ(map.number_of(address("255.255.255.254")), std::nullopt);
  EXPECT_EQ(map.number_of(address("255.255.255.255")), 2U);
  EXPECT_EQ(map.number_of(address("::")), 3U);
  EXPECT_EQ(map.number_of(address("::1")), std::nullopt);
  EXPECT_EQ(map.number_of(address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")), 4U);
  EXPECT_EQ(AsMap::parse("0.0.0.0/0 9\n").value().number_of(address("255.255.255.255")), 9U);
}

// Against a look at every prefix, of many that lie in one another.
TEST(AsMap, FindsWhatALookAtEveryPrefixFinds) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto draw = [&](bool ipv4) {
    Address drawn{};
    // Few values in each byte, so that prefixes meet.
    for (auto& byte : drawn.bytes) byte = static_cast<std::uint8_t>(random() % 3 == 0 ? 0xff : random() % 2 * 0x81);
    if (ipv4) {
      for (std::size_t i = 0; i < 12; ++i) drawn.bytes[i] = i < 10 ? 0 : 0xff;
    } else {
      drawn.bytes[0] |= 0x20;
    }
    return drawn;
  };
  for (int round = 0; round < 30; ++round) {
    std::map<Prefix, std::uint32_t> truth;
    std::string text;
    for (int i = 0; i < 200; ++i) {
      const bool ipv4 = random() % 2 == 0;
      const Prefix prefix =
          prefix_of(draw(ipv4), static_cast<std::uint8_t>(ipv4 ? 96 + random() % 33 : random() % 129));
      const auto number = static_cast<std::uint32_t>(1 + random() % 5);
      truth[prefix] = number;
      text += to_text(prefix) + " " + std::to_string(number) + "\n";
    }
    const auto map = AsMap::parse(text).value();
    ASSERT_EQ(map.size(), truth.size());
    for (int i = 0; i < 300; ++i) {
      const Address drawn = draw(random() % 2 == 0);
      std::optional<std::uint32_t> expected;
      int longest = -1;
      for (const auto& [prefix, number] : truth) {
        if (!contains(prefix, drawn) || prefix.length <= longest) continue;
        longest = prefix.length;
        expected = number;
      }
      ASSERT_EQ(map.number_of(drawn), expected) << to_text(drawn) << "\n" << text;
    }
  }
}

TEST(AsMap, ViewsItsFlatFormAndRefusesAnythingShorterOrElse) {
  const auto map = AsMap::parse("8.0.0.0/8 1\n2a00::/16 2\n").value();
  const std::vector<std::byte> flat(map.flat().begin(), map.flat().end());
  auto longer = flat;
  longer.resize(8192);
  const auto same = AsMap::view(longer).value();
  EXPECT_EQ(same.size(), 2U);
  EXPECT_EQ(same.flat().size(), flat.size());
  EXPECT_EQ(same.number_of(address("8.9.9.9")), 1U);
  EXPECT_EQ(same.number_of(address("2a00::9")), 2U);
  for (std::size_t size = 0; size < flat.size(); ++size) {
    EXPECT_FALSE(AsMap::view(std::span(flat).first(size))) << size;
  }
  auto other = flat;
  other[0] ^= std::byte{1};
  EXPECT_FALSE(AsMap::view(other));
  EXPECT_FALSE(AsMap::view(std::vector<std::byte>(8192)));
}

TEST(AsMap, WhateverItsFlatFormHoldsALookUpStaysInside) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto map = AsMap::parse("8.0.0.0/8 1\n2a00::/16 2\n").value();
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::byte> flat(map.flat().begin(), map.flat().end());
    for (int i = 0; i < 4; ++i) flat[random() % flat.size()] = static_cast<std::byte>(random());
    const auto seen = AsMap::view(flat);
    if (!seen) continue;
    (void)seen->number_of(address("8.8.8.8"));
    (void)seen->number_of(address("2a00::1"));
  }
}

// What the header states: at most 16 bytes for a prefix of IPv4, 8 MB for 500,000.
TEST(AsMap, TakesTheMemoryThatIsStated) {
  std::string text;
  for (unsigned int i = 0; i < 50'000; ++i) {
    // Every second /24, so that nothing can be put together.
    const unsigned int at = 0x01000000U + i * 512;
    text += std::to_string(at >> 24) + "." + std::to_string(at >> 16 & 255) + "." + std::to_string(at >> 8 & 255) +
            ".0/24 " + std::to_string(1 + i % 1000) + "\n";
  }
  const auto map = AsMap::parse(text).value();
  EXPECT_EQ(map.size(), 50'000U);
  EXPECT_LE(map.flat().size(), 800'100U);
  EXPECT_EQ(map.number_of(address("1.0.0.9")), 1U);
  EXPECT_EQ(map.number_of(address("1.0.1.9")), std::nullopt);
  EXPECT_EQ(map.number_of(address("1.0.2.9")), 2U);
}

class AsMapFile : public testing::Test {
 protected:
  ~AsMapFile() override { ::unlink(path_.c_str()); }
  std::string path_ = testing::TempDir() + "as_map_test." + std::to_string(::getpid());
};

TEST_F(AsMapFile, IsReadAndItsErrorsNameFileAndLine) {
  std::ofstream(path_) << "8.0.0.0/8 1\n";
  EXPECT_EQ(AsMap::load(path_).value().size(), 1U);
  std::ofstream(path_) << "8.0.0.0/8 1\n\n9.0.0.0/7 2\n";
  const auto bad = AsMap::load(path_);
  ASSERT_FALSE(bad);
  EXPECT_TRUE(bad.error().text.starts_with(path_ + ": line 3: ")) << bad.error().text;
}

TEST_F(AsMapFile, IsRefusedWhenItIsMissingNoFileOrTooLarge) {
  EXPECT_TRUE(AsMap::load(path_).error().text.starts_with(path_ + ": "));
  EXPECT_TRUE(AsMap::load(testing::TempDir()).error().text.ends_with("must be a regular file"));
  std::ofstream(path_) << "";
  ASSERT_EQ(::truncate(path_.c_str(), static_cast<off_t>(AsMap::kMaximumText) + 1), 0);
  EXPECT_TRUE(AsMap::load(path_).error().text.ends_with("more than 128 MiB")) << AsMap::load(path_).error().text;
}

}  // namespace
}  // namespace bulkhead
