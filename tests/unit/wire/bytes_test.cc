#include "wire/bytes.h"

#include <gtest/gtest.h>

namespace bulkhead::wire {
namespace {

TEST(Reader, TakesBigEndianFieldsInOrder) {
  const std::vector<std::uint8_t> bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  Reader reader(bytes);
  EXPECT_EQ(reader.take_u8(), 1);
  EXPECT_EQ(reader.take_u16(), 0x0203);
  EXPECT_EQ(reader.take_u32(), 0x04050607U);
  std::array<std::uint8_t, 2> rest{};
  reader.take_into(rest);
  EXPECT_EQ(rest, (std::array<std::uint8_t, 2>{8, 9}));
  EXPECT_TRUE(reader.finished());
}

TEST(Reader, StaysFailedAfterAFieldThatDoesNotFit) {
  const std::vector<std::uint8_t> bytes = {1, 2, 3};
  Reader reader(bytes);
  EXPECT_EQ(reader.take_u32(), 0U);
  EXPECT_TRUE(reader.failed());
  EXPECT_EQ(reader.take_u8(), 0);
  EXPECT_TRUE(reader.take(0).empty());
  EXPECT_FALSE(reader.finished());
}

TEST(Reader, RefusesACountBeyondAnyBuffer) {
  const std::vector<std::uint8_t> bytes = {1};
  Reader reader(bytes);
  EXPECT_TRUE(reader.take(static_cast<std::size_t>(-1)).empty());
  EXPECT_TRUE(reader.failed());
}

TEST(Reader, IsNotFinishedWhileBytesAreLeft) {
  const std::vector<std::uint8_t> bytes = {1, 2};
  Reader reader(bytes);
  reader.take_u8();
  EXPECT_FALSE(reader.finished());
  EXPECT_FALSE(reader.failed());
  EXPECT_EQ(reader.remaining(), 1U);
}

TEST(Append, WritesBigEndian) {
  std::vector<std::uint8_t> out;
  append_u16(out, 0x0102);
  append_u32(out, 0x03040506);
  append(out, as_byte_span("ab"));
  EXPECT_EQ(out, (std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6, 'a', 'b'}));
}

}  // namespace
}  // namespace bulkhead::wire
