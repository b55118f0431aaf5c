#include "base/prefix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bitset>
#include <random>
#include <set>
#include <vector>

namespace bulkhead {
namespace {

Prefix prefix(std::string_view text) {
  return parse_prefix(text).value();
}

Address address(std::string_view text) {
  return parse_address(text).value();
}

std::string error_of(std::string_view text) {
  const auto parsed = parse_prefix(text);
  return parsed ? "no error" : parsed.error().text;
}

TEST(Prefix, HoldsIpv4AsAMappedPrefix) {
  EXPECT_EQ(prefix("10.0.0.0/8"), (Prefix{address("10.0.0.0"), 104}));
  EXPECT_EQ(prefix("::ffff:10.0.0.0/104"), prefix("10.0.0.0/8"));
  EXPECT_TRUE(is_ipv4(prefix("0.0.0.0/0")));
  EXPECT_FALSE(is_ipv4(prefix("::/0")));
  EXPECT_FALSE(is_ipv4(prefix("2001:db8::/96")));
}

TEST(Prefix, WritesWhatItReads) {
  for (const char* text : {"0.0.0.0/0", "10.0.0.0/8", "10.1.2.3", "192.0.2.128/25", "::/0", "2001:db8::/48",
                           "fe80::/10", "2001:db8::1", "::1", "::/96"}) {
    EXPECT_EQ(to_text(prefix(text)), text);
  }
  EXPECT_EQ(to_text(prefix("10.1.2.3/32")), "10.1.2.3");
  EXPECT_EQ(to_text(prefix("2001:db8::1/128")), "2001:db8::1");
}

TEST(Prefix, TakesASingleAddressInEachNotationAndIgnoresItsPort) {
  for (const char* text : {"10.1.2.3:9732", "10.1.2.3:0"}) EXPECT_EQ(prefix(text), prefix("10.1.2.3"));
  for (const char* text : {"[2001:db8::1]", "[2001:db8::1]:9732"}) EXPECT_EQ(prefix(text), prefix("2001:db8::1"));
  EXPECT_EQ(prefix("[2001:db8::]/48"), prefix("2001:db8::/48"));
  EXPECT_TRUE(is_single(prefix("10.1.2.3:9732")));
}

TEST(Prefix, SuggestsThePrefixWhenBitsStandBeyondTheLength) {
  EXPECT_EQ(error_of("10.1.2.3/8"), "10.1.2.3/8 has bits beyond /8; did you mean 10.0.0.0/8?");
  EXPECT_EQ(error_of("2001:db8::1/48"), "2001:db8::1/48 has bits beyond /48; did you mean 2001:db8::/48?");
  EXPECT_EQ(error_of("10.0.0.1/0"), "10.0.0.1/0 has bits beyond /0; did you mean 0.0.0.0/0?");
  EXPECT_EQ(error_of("192.0.2.129/31"), "192.0.2.129/31 has bits beyond /31; did you mean 192.0.2.128/31?");
}

TEST(Prefix, SaysWhatItExpects) {
  for (const std::string_view bad :
       {std::string_view(""), std::string_view("/8"), std::string_view("localhost"), std::string_view("10.0.0/8"),
        std::string_view("10.0.0.0:9732/8"), std::string_view("10.1.2.3:65536"), std::string_view(" 10.0.0.0/8"),
        std::string_view("10.0.0.0\0/8", 11), std::string_view("fe80::1%eth0")}) {
    EXPECT_NE(error_of(bad).find("write it as 192.0.2.7, 10.0.0.0/8"), std::string::npos) << bad;
  }
  for (const char* bad : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.0/4294967304"}) {
    EXPECT_NE(error_of(bad).find("IPv4 prefix is a number from 0 to 32"), std::string::npos) << bad;
  }
  EXPECT_NE(error_of("2001:db8::/129").find("IPv6 prefix is a number from 0 to 128"), std::string::npos);
}

TEST(Prefix, ContainsWhatSharesItsBits) {
  EXPECT_TRUE(contains(prefix("10.0.0.0/8"), address("10.255.0.1")));
  EXPECT_FALSE(contains(prefix("10.0.0.0/8"), address("11.0.0.0")));
  EXPECT_TRUE(contains(prefix("192.0.2.128/25"), address("192.0.2.128")));
  EXPECT_FALSE(contains(prefix("192.0.2.128/25"), address("192.0.2.127")));
  EXPECT_TRUE(contains(prefix("2001:db8::/47"), address("2001:db8:1::7")));
  EXPECT_FALSE(contains(prefix("2001:db8::/47"), address("2001:db8:2::7")));
  EXPECT_TRUE(contains(prefix("10.0.0.0/8"), prefix("10.1.0.0/16")));
  EXPECT_TRUE(contains(prefix("10.0.0.0/8"), prefix("10.0.0.0/8")));
  EXPECT_FALSE(contains(prefix("10.1.0.0/16"), prefix("10.0.0.0/8")));
}

TEST(Prefix, KeepsTheFamiliesApart) {
  EXPECT_FALSE(contains(prefix("::/0"), address("10.0.0.1")));
  EXPECT_TRUE(contains(prefix("::/0"), address("2001:db8::1")));
  EXPECT_FALSE(contains(prefix("0.0.0.0/0"), address("2001:db8::1")));
  EXPECT_TRUE(contains(prefix("0.0.0.0/0"), address("255.255.255.255")));
  EXPECT_FALSE(contains(prefix("::/0"), prefix("10.0.0.0/8")));
}

TEST(Prefix, MasksLikeABitwiseReference) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 50; ++round) {
    Address value;
    for (auto& byte : value.bytes) byte = static_cast<std::uint8_t>(random());
    for (unsigned int length = 0; length <= kAddressBits; ++length) {
      Address expected;
      for (unsigned int bit = 0; bit < length; ++bit) {
        const auto mask = static_cast<std::uint8_t>(0x80U >> (bit % 8));
        expected.bytes[bit / 8] |= static_cast<std::uint8_t>(value.bytes[bit / 8] & mask);
      }
      ASSERT_EQ(masked(value, static_cast<std::uint8_t>(length)), expected) << length;
    }
  }
}

TEST(Prefix, KnowsWhetherBitsStandBeyondTheLength) {
  EXPECT_TRUE(is_canonical(prefix("10.0.0.0/8")));
  EXPECT_FALSE(is_canonical(Prefix{address("10.0.0.1"), 104}));
  EXPECT_FALSE(is_canonical(Prefix{address("10.0.0.1"), 129}));
}

TEST(Prefix, StandsBeforeAllThatItContains) {
  std::vector<Prefix> sorted = {prefix("10.1.0.0/16"), prefix("11.0.0.0/8"), prefix("10.0.0.0/8"),
                                prefix("10.0.0.0"),    prefix("::/0"),       prefix("2001:db8::/32")};
  std::sort(sorted.begin(), sorted.end());
  const std::vector<Prefix> expected = {prefix("::/0"),        prefix("10.0.0.0/8"), prefix("10.0.0.0"),
                                        prefix("10.1.0.0/16"), prefix("11.0.0.0/8"), prefix("2001:db8::/32")};
  EXPECT_EQ(sorted, expected);
}

TEST(PrefixHash, DependsOnAddressLengthAndKey) {
  const Prefix one = prefix("10.0.0.0/8");
  EXPECT_EQ(PrefixHash()(one), PrefixHash()(one));
  EXPECT_EQ(PrefixHash(1, 2)(one), PrefixHash(1, 2)(one));
  std::set<std::size_t> seen;
  for (const auto& other : {one, prefix("10.0.0.0/9"), prefix("11.0.0.0/8"), prefix("::/0")}) {
    for (const auto& hash : {PrefixHash(1, 2), PrefixHash(2, 2), PrefixHash(1, 3)}) seen.insert(hash(other));
  }
  EXPECT_EQ(seen.size(), 12U);
}

TEST(PrefixHash, SpreadsNeighboursOverAllBits) {
  constexpr int kCount = 4096;
  std::array<int, 64> ones{};
  for (int i = 0; i < kCount; ++i) {
    Address neighbour = address("10.0.0.0");
    neighbour.bytes[14] = static_cast<std::uint8_t>(i / 256);
    neighbour.bytes[15] = static_cast<std::uint8_t>(i % 256);
    const std::bitset<64> bits(PrefixHash(11, 12)(Prefix{neighbour, 128}));
    for (std::size_t bit = 0; bit < 64; ++bit) ones[bit] += bits[bit] ? 1 : 0;
  }
  for (const int count : ones) {
    EXPECT_GT(count, kCount * 2 / 5);
    EXPECT_LT(count, kCount * 3 / 5);
  }
}

}  // namespace
}  // namespace bulkhead
