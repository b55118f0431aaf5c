#include "base/address_group.h"

#include <gtest/gtest.h>

#include <set>

#include "base/address.h"

namespace bulkhead {
namespace {

AddressGroup group(const char* text) {
  return group_of(parse_address(text).value());
}
bool routable(const char* text) {
  return is_routable(parse_address(text).value());
}

TEST(AddressGroup, IsTheFirst16BitsOfIpv4AndTheFirst32OfIpv6) {
  EXPECT_EQ(group("8.8.8.8"), group("8.8.4.4"));
  EXPECT_NE(group("8.8.8.8"), group("8.9.8.8"));
  EXPECT_EQ(group("::ffff:8.8.8.8"), group("8.8.0.1"));
  EXPECT_EQ(group("2a00:1450:1::1"), group("2a00:1450:2::1"));
  EXPECT_NE(group("2a00:1450::1"), group("2a00:1451::1"));
  EXPECT_NE(group("8.8.8.8"), 0U);
}

TEST(AddressGroup, OfAnAddressThatIsNotRoutableIsTheAddressItself) {
  std::set<AddressGroup> groups;
  for (const char* text :
       {"127.0.0.1", "127.0.0.2", "10.0.0.1", "10.0.0.2", "192.168.1.1", "::1", "fd00::1", "fd00::2", "fd01::1"}) {
    EXPECT_TRUE(groups.insert(group(text)).second) << text;
  }
}

TEST(IsRoutable, RefusesWhatNoHostOfTheInternetHas) {
  for (const char* text :
       {"0.0.0.0",   "10.1.2.3",    "100.64.0.1",  "127.0.0.1",    "169.254.1.1", "172.16.0.1", "172.31.9.9",
        "192.0.2.1", "192.168.0.1", "198.18.0.1",  "198.51.100.7", "203.0.113.9", "224.0.0.1",  "255.255.255.255",
        "::",        "::1",         "2001:db8::1", "fc00::1",      "fe80::1",     "ff02::1"}) {
    EXPECT_FALSE(routable(text)) << text;
  }
  for (const char* text : {"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.0.1",
                           "172.32.0.1", "192.0.1.1", "223.255.255.255", "2606:4700::1111", "2001:db9::1"}) {
    EXPECT_TRUE(routable(text)) << text;
  }
}

TEST(IsLocalNetwork, IsLoopbackPrivateAndLinkLocal) {
  const auto local = [](const char* text) { return is_local_network(parse_address(text).value()); };
  for (const char* text : {"10.0.0.0", "10.255.255.255", "127.0.0.1", "169.254.0.1", "172.16.0.0", "172.31.255.255",
                           "192.168.0.0", "192.168.255.255", "::1", "fc00::1", "fdff::1", "fe80::1", "febf::1"}) {
    EXPECT_TRUE(local(text)) << text;
    EXPECT_FALSE(routable(text)) << text;
  }
  for (const char* text :
       {"0.0.0.0", "9.255.255.255", "11.0.0.0", "100.64.0.1", "172.15.255.255", "172.32.0.0", "192.167.255.255",
        "192.169.0.0", "224.0.0.1", "255.255.255.255", "::", "fec0::1", "ff02::1", "2606:4700::1111"}) {
    EXPECT_FALSE(local(text)) << text;
  }
}

TEST(AddressGroup, OfLanTellersIsNoAddresss) {
  for (const char* text : {"0.0.0.0", "0.0.0.1", "127.0.0.1", "8.8.8.8", "::", "::1", "2606:4700::1111"})
    EXPECT_NE(group(text), kLanTellers) << text;
}

TEST(AddressGroup, HasATextForPeople) {
  EXPECT_EQ(group_text(group("8.8.4.4")), "8.8.0.0/16");
  EXPECT_EQ(group_text(group("2a00:1450:1::1")), "2a00:1450::/32");
  EXPECT_EQ(group_text(group("127.0.0.1")), "alone");
  EXPECT_EQ(group_text(group("fd00::1")), "alone");
  EXPECT_EQ(group_text(group_of_as(4294967295)), "AS4294967295");
  EXPECT_EQ(group_text(0), "");
}

}  // namespace
}  // namespace bulkhead
