#include "wire/discovery.h"

#include <gtest/gtest.h>

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

const PeerId kPeer = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

Bytes datagram(std::uint16_t port = 9732) {
  const auto encoded = encode(Discovery{kPeer, port});
  return Bytes(encoded.begin(), encoded.end());
}

TEST(Discovery, IsMagicPeerIdAndPort) {
  EXPECT_EQ(to_hex(datagram(9732)),
            "444953434f4d41474943"
            "00112233445566778899aabbccddeeff"
            "2604");
}

TEST(Discovery, ReadsBackEveryPort) {
  for (unsigned port = 1; port <= 0xFFFF; ++port) {
    const Discovery discovery{kPeer, static_cast<std::uint16_t>(port)};
    const auto decoded = decode_discovery(encode(discovery));
    ASSERT_TRUE(decoded) << port;
    ASSERT_EQ(*decoded, discovery);
  }
}

// Octez reads these as negative numbers.
TEST(Discovery, ReadsPortsAbove32767AsUnsigned) {
  for (const auto& [hex, port] : {std::pair("8000", 32768), std::pair("9c40", 40000), std::pair("ffff", 65535)}) {
    const auto decoded = decode_discovery(concat({from_hex("444953434f4d41474943"), Bytes(16), from_hex(hex)}));
    ASSERT_TRUE(decoded) << hex;
    EXPECT_EQ(decoded->port, port);
  }
}

TEST(Discovery, RefusesPort0) {
  EXPECT_FALSE(decode_discovery(datagram(0)));
}

TEST(Discovery, RefusesEveryOtherLength) {
  Bytes longest = datagram();
  longest.resize(2000, 0x2a);
  for (std::size_t size = 0; size <= longest.size(); ++size)
    EXPECT_EQ(decode_discovery(std::span(longest).first(size)).ok(), size == kDiscoverySize) << size;
}

// There is one version of the datagram; another magic is somebody else's.
TEST(Discovery, RefusesAnyOtherMagic) {
  for (std::size_t i = 0; i < 10; ++i) {
    for (unsigned flip = 1; flip <= 0xFF; ++flip) {
      Bytes other = datagram();
      other[i] ^= static_cast<std::uint8_t>(flip);
      EXPECT_FALSE(decode_discovery(other));
    }
  }
}

}  // namespace
}  // namespace bulkhead::wire
