#include "base/address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

namespace bulkhead {
namespace {

Address address(std::string_view text) {
  return parse_address(text).value();
}

TEST(Address, HoldsIpv4AsAMappedIpv6Address) {
  EXPECT_EQ(address("1.2.3.4").bytes,
            (std::array<std::uint8_t, 16>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4}));
  EXPECT_EQ(address("::ffff:1.2.3.4"), address("1.2.3.4"));
  EXPECT_TRUE(is_ipv4(address("::ffff:102:304")));
  EXPECT_FALSE(is_ipv4(address("::1.2.3.4")));
}

TEST(Address, WritesTheShortestText) {
  for (const char* text : {"0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::1", "2001:db8::1:0:0:1"}) {
    EXPECT_EQ(to_text(address(text)), text);
  }
  EXPECT_EQ(to_text(address("2001:0DB8:0:0:0:0:0:1")), "2001:db8::1");
}

TEST(Address, TakesIpv6InBracketsAndNothingElseInThem) {
  EXPECT_EQ(address("[::1]"), address("::1"));
  EXPECT_FALSE(parse_address("[1.2.3.4]"));
  EXPECT_FALSE(parse_address("[::1"));
  EXPECT_FALSE(parse_address("::1]"));
  EXPECT_FALSE(parse_address("[]"));
}

TEST(Address, RefusesNamesZonesAndOtherNotations) {
  for (const std::string_view bad :
       {std::string_view(""), std::string_view("localhost"), std::string_view("1.2.3"), std::string_view("1.2.3.256"),
        std::string_view("01.2.3.4"), std::string_view("fe80::1%eth0"), std::string_view(" 1.2.3.4"),
        std::string_view("1.2.3.4 "), std::string_view("1.2.3.4\0", 8), std::string_view("1:2:3:4:5:6:7:8:9")}) {
    EXPECT_FALSE(parse_address(bad)) << bad;
  }
  EXPECT_FALSE(parse_address(std::string(1000, '1')));
}

TEST(Point, ReadsBackWhatItWrites) {
  for (const char* text : {"1.2.3.4:9732", "[2001:db8::1]:0", "[::]:65535"}) {
    const auto point = parse_point(text);
    ASSERT_TRUE(point) << text;
    EXPECT_EQ(to_text(*point), text);
  }
}

TEST(Point, TakesTheDefaultPortOnlyWhenNoneIsWritten) {
  EXPECT_EQ(parse_point("1.2.3.4", 5)->port, 5);
  EXPECT_EQ(parse_point("1.2.3.4:6", 5)->port, 6);
  EXPECT_EQ(parse_point("[::1]", 5)->port, 5);
  EXPECT_EQ(parse_point("::1", 5)->port, 5);
  EXPECT_FALSE(parse_point("1.2.3.4"));
  EXPECT_FALSE(parse_point("[::1]"));
}

TEST(Point, RefusesBadPortsAndLeftovers) {
  for (const char* bad : {"1.2.3.4:", "1.2.3.4:x", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4: 1", "[::1]1",
                          "[::1]:", "[::1", ":1", "name:1", ""}) {
    EXPECT_FALSE(parse_point(bad, 5)) << bad;
  }
}

TEST(Address, KnowsLoopbackAndUnspecified) {
  for (const char* text : {"127.0.0.1", "127.255.0.9", "::1"}) EXPECT_TRUE(is_loopback(address(text))) << text;
  for (const char* text : {"128.0.0.1", "::2", "::", "0.0.0.0"}) EXPECT_FALSE(is_loopback(address(text))) << text;
  for (const char* text : {"::", "0.0.0.0"}) EXPECT_TRUE(is_unspecified(address(text))) << text;
  for (const char* text : {"::1", "0.0.0.1"}) EXPECT_FALSE(is_unspecified(address(text))) << text;
}

TEST(Sockaddr, ReadsBackWhatItWrites) {
  for (const char* text : {"1.2.3.4:9732", "[2001:db8::1]:80"}) {
    const Point point = parse_point(text).value();
    sockaddr_storage storage{};
    EXPECT_EQ(to_sockaddr(point, storage), sizeof(sockaddr_in6));
    EXPECT_EQ(storage.ss_family, AF_INET6);
    EXPECT_EQ(from_sockaddr(storage), point);
  }
}

TEST(Sockaddr, ReadsPlainIpv4AndGivesNothingForOtherFamilies) {
  sockaddr_storage storage{};
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(9732);
  v4.sin_addr.s_addr = htonl(0x01020304);
  std::memcpy(&storage, &v4, sizeof v4);
  EXPECT_EQ(to_text(from_sockaddr(storage)), "1.2.3.4:9732");
  storage.ss_family = AF_UNIX;
  EXPECT_EQ(from_sockaddr(storage), Point{});
}

}  // namespace
}  // namespace bulkhead
