#include "tests/unit/wire/support.h"
#include "wire/ack.h"
#include "wire/metadata.h"

namespace bulkhead::wire {
namespace {

Bytes nack_of(std::size_t count) {
  Bytes list;
  for (const Point& one : longest_points(count)) append_point(list, one);
  Bytes out = {0x01, 0x00, 0x01};
  append_u32(out, static_cast<std::uint32_t>(list.size()));
  return concat({out, list});
}

TEST(Metadata, ReadsBackEveryCombination) {
  for (const bool mempool : {false, true}) {
    for (const bool is_private : {false, true}) {
      const ConnectionMetadata metadata{mempool, is_private};
      const auto decoded = decode_metadata(encode(metadata));
      ASSERT_TRUE(decoded);
      EXPECT_EQ(*decoded, metadata);
    }
  }
}

TEST(Metadata, HasExactlyTwoBytes) {
  for (const std::size_t size : {0U, 1U, 3U, 100U}) EXPECT_FALSE(decode_metadata(Bytes(size)));
}

TEST(Ack, ReadsBackEveryForm) {
  for (const AckMessage& message :
       {AckMessage(Ack{}), AckMessage(NackV0{}), AckMessage(Nack{}),
        AckMessage(Nack{Motive::kAlreadyConnected, {point("1.2.3.4:9732"), point("[2001:db8::1]:0")}}),
        AckMessage(Nack{static_cast<Motive>(-32768), longest_points(50)})}) {
    const auto decoded = decode_ack(encode(message));
    ASSERT_TRUE(decoded) << decoded.error().text;
    EXPECT_EQ(*decoded, message);
  }
}

TEST(Ack, RefusesEveryUnknownTag) {
  for (unsigned tag = 2; tag < 0xFF; ++tag) EXPECT_FALSE(decode_ack(Bytes{static_cast<std::uint8_t>(tag)}));
}

TEST(Ack, RefusesEveryTruncationAndAnyExtraByte) {
  for (const AckMessage& message : {AckMessage(Ack{}), AckMessage(NackV0{}), AckMessage(Nack{}),
                                    AckMessage(Nack{Motive::kNoMotive, {point("1.2.3.4:9732")}})}) {
    const Bytes good = encode(message);
    for (std::size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(decode_ack(std::span(good).first(size)));
    EXPECT_FALSE(decode_ack(concat({good, {0}})));
  }
}

TEST(Ack, KeepsMotivesThatNobodyKnows) {
  for (const char* code : {"0006", "7fff", "ffff", "8000"}) {
    const auto decoded = decode_ack(from_hex("01" + std::string(code) + "00000000"));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(to_hex(encode(*decoded)), "01" + std::string(code) + "00000000");
  }
}

TEST(Ack, RefusesMoreThanAHundredPoints) {
  EXPECT_EQ(nack_of(100).size(), kMaximumAckPlaintext);
  EXPECT_TRUE(decode_ack(nack_of(100)));
  EXPECT_FALSE(decode_ack(nack_of(101)));
}

TEST(Ack, RefusesAListWhoseSizeIsWrong) {
  for (const char* size : {"00000000", "0000000f", "00000011", "7fffffff", "80000000", "ffffffff"}) {
    EXPECT_FALSE(decode_ack(from_hex("010001" + std::string(size) + "0000000c312e322e332e343a39373332"))) << size;
  }
  EXPECT_TRUE(decode_ack(from_hex("010001000000100000000c312e322e332e343a39373332")));
}

TEST(Ack, RefusesAPointThatIsNone) {
  EXPECT_FALSE(decode_ack(from_hex("0100010000000700000003666f6f")));
}

}  // namespace
}  // namespace bulkhead::wire
