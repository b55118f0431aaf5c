#include "base/reasons.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace bulkhead {
namespace {

TEST(Reasons, EachHaveANameOfTheirOwn) {
  std::set<std::string> names;
  for (std::size_t value = 0; value < kReasonCount; ++value) {
    const auto reason = reason_from_value(value);
    ASSERT_TRUE(reason);
    const std::string name = reason_name(*reason);
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string::npos) << name;
    EXPECT_NE(name, "unknown");
  }
}

TEST(Reasons, KeepTheirValues) {
  EXPECT_EQ(static_cast<int>(Reason::kNone), 0);
  EXPECT_EQ(static_cast<int>(Reason::kPendingLimit), 1);
  EXPECT_STREQ(reason_name(Reason::kMyself), "myself");
}

TEST(Reasons, RefuseValuesOutsideTheList) {
  for (const std::uint64_t value : {std::uint64_t{kReasonCount}, std::uint64_t{0x10000}, ~std::uint64_t{0}}) {
    EXPECT_FALSE(reason_from_value(value)) << value;
  }
  EXPECT_STREQ(reason_name(static_cast<Reason>(kReasonCount)), "invalid_reason");
}

}  // namespace
}  // namespace bulkhead
