#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace bulkhead {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error{ErrorCode::kInvalid, "odd"};
  return number / 2;
}

TEST(Result, HoldsAValueOrAnError) {
  const auto good = half(4);
  ASSERT_TRUE(good);
  EXPECT_TRUE(good.ok());
  EXPECT_EQ(*good, 2);
  const auto bad = half(3);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, ErrorCode::kInvalid);
  EXPECT_EQ(bad.error().text, "odd");
}

TEST(Result, ThrowsWhenTheAbsentOneIsRead) {
  EXPECT_THROW((void)half(3).value(), std::bad_variant_access);
  EXPECT_THROW((void)half(4).error(), std::bad_variant_access);
}

TEST(Result, MovesAValueThatCannotBeCopied) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(5));
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 5);
}

TEST(Result, OfVoidIsSuccessByDefault) {
  EXPECT_TRUE(Result<void>());
  const Result<void> bad = Error{ErrorCode::kClosed, "gone"};
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, ErrorCode::kClosed);
}

TEST(SystemError, KeepsErrnoAndSaysWhatFailed) {
  errno = ENOENT;
  const Error error = system_error("cannot open it");
  EXPECT_EQ(error.code, ErrorCode::kSystem);
  EXPECT_EQ(error.errno_value, ENOENT);
  EXPECT_EQ(error.text.find("cannot open it: "), 0U);
}

}  // namespace
}  // namespace bulkhead
