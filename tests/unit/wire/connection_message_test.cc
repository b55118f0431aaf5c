#include "wire/connection_message.h"

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

ConnectionMessage sample(const std::string& name = "TEZOS_MAINNET") {
  ConnectionMessage message;
  message.port = 9732;
  message.public_key.fill(0x11);
  message.stamp.fill(0x22);
  message.nonce.fill(0x33);
  message.chain_name = name;
  message.distributed_db_version = 2;
  message.p2p_version = 1;
  return message;
}

TEST(ConnectionMessage, PutsEachFieldAtItsOffset) {
  const Bytes bytes = encode(sample());
  ASSERT_EQ(bytes.size(), 105U);
  EXPECT_EQ(to_hex(std::span(bytes).first(4)), "00672604");
  EXPECT_EQ(to_hex(std::span(bytes).subspan(kKeyOffset, 2)), "1111");
  EXPECT_EQ(to_hex(std::span(bytes).subspan(kStampOffset - 1, 2)), "1122");
  EXPECT_EQ(to_hex(std::span(bytes).subspan(kNonceOffset - 1, 2)), "2233");
  EXPECT_EQ(to_hex(std::span(bytes).subspan(84)), "0000000d54455a4f535f4d41494e4e455400020001");
}

TEST(ConnectionMessage, ReadsBackWhatItWrites) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{13}, kMaximumChainName}) {
    const ConnectionMessage message = sample(std::string(size, 'x'));
    const auto decoded = decode_connection_message(encode(message));
    ASSERT_TRUE(decoded) << decoded.error().text;
    EXPECT_EQ(*decoded, message);
  }
}

TEST(ConnectionMessage, KeepsAChainNameOfAnyBytes) {
  const ConnectionMessage message = sample(std::string("\0\xff\n\"", 4));
  const auto decoded = decode_connection_message(encode(message));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->chain_name, message.chain_name);
}

TEST(ConnectionMessage, RefusesToWriteAChainNameThatIsTooLong) {
  EXPECT_THROW((void)encode(sample(std::string(kMaximumChainName + 1, 'x'))), std::length_error);
}

TEST(ConnectionMessage, RefusesEveryTruncationAndAnyExtraByte) {
  const Bytes good = encode(sample());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(decode_connection_message(std::span(good).first(size))) << size;
  }
  EXPECT_FALSE(decode_connection_message(concat({good, {0}})));
}

TEST(ConnectionMessage, RefusesAChainNameLengthThatDisagreesWithTheMessage) {
  for (const std::uint32_t length : {0U, 12U, 14U, 17U, 933U, 0x3FFFFFFFU, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
    Bytes bad = encode(sample());
    for (std::size_t i = 0; i < 4; ++i) bad[84 + i] = static_cast<std::uint8_t>(length >> (24 - 8 * i));
    EXPECT_FALSE(decode_connection_message(bad)) << length;
  }
}

TEST(ConnectionMessageSize, WaitsForTwoBytes) {
  for (const Bytes& early : {Bytes{}, Bytes{0}, Bytes{0xFF}}) {
    const auto size = connection_message_size(early);
    ASSERT_TRUE(size);
    EXPECT_FALSE(*size);
  }
}

TEST(ConnectionMessageSize, AllowsNinetyToOneThousandTwentyTwoBytesOfBody) {
  for (unsigned body = 0; body <= 0xFFFF; ++body) {
    const Bytes header = {static_cast<std::uint8_t>(body >> 8), static_cast<std::uint8_t>(body), 7};
    const auto size = connection_message_size(header);
    if (body < 90 || body > 1022) {
      ASSERT_FALSE(size) << body;
    } else {
      ASSERT_TRUE(size && *size) << body;
      EXPECT_EQ(**size, body + 2);
    }
  }
}

TEST(ConnectionMessageSize, DoesNotBlameAShortMessageOnItsLength) {
  Bytes bytes = encode(sample());
  bytes.pop_back();
  const auto decoded = decode_connection_message(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kTruncated);
}

TEST(ConnectionMessage, ShowsKeyAndStampInItsFirstSixtyBytes) {
  const Bytes bytes = encode(sample());
  const auto covered = key_and_stamp(std::span(bytes).first<kProofPrefixSize>());
  EXPECT_EQ(to_hex(covered), to_hex(sample().public_key) + to_hex(sample().stamp));
}

}  // namespace
}  // namespace bulkhead::wire
