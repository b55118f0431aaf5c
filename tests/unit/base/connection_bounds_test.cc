#include "base/connection_bounds.h"

#include <gtest/gtest.h>

namespace bulkhead {
namespace {

TEST(ConnectionBounds, AreThoseOfOctezInIntegerDivision) {
  EXPECT_EQ(bounds_for(10, 50, 100), (ConnectionBounds{23, 36, 68, 84}));
  EXPECT_EQ(bounds_for(25, 50, 75), (ConnectionBounds{33, 41, 59, 67}));
  EXPECT_EQ(bounds_for(5, 10, 15), (ConnectionBounds{6, 7, 13, 14}));
  EXPECT_EQ(bounds_for(1, 1, 1), (ConnectionBounds{1, 1, 1, 1}));
  EXPECT_EQ(bounds_for(0, 0, 0), (ConnectionBounds{0, 0, 0, 0}));
}

TEST(ConnectionBounds, ThatFollowFromTheNumbersKeepTheRule) {
  for (std::uint32_t minimum = 0; minimum < 12; ++minimum) {
    for (std::uint32_t expected = minimum; expected < 24; ++expected) {
      for (std::uint32_t maximum = expected; maximum < 36; ++maximum)
        EXPECT_FALSE(broken_rule(bounds_for(minimum, expected, maximum), minimum, maximum));
    }
  }
}

TEST(ConnectionBounds, ThatContradictEachOtherAreNamedWithTheRule) {
  const auto text = broken_rule({23, 36, 30, 84}, 10, 100);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("min-target 36 is above max-target 30"), std::string::npos) << *text;
  EXPECT_TRUE(broken_rule({9, 36, 68, 84}, 10, 100));
  EXPECT_TRUE(broken_rule({37, 36, 68, 84}, 10, 100));
  EXPECT_TRUE(broken_rule({23, 36, 85, 84}, 10, 100));
  EXPECT_TRUE(broken_rule({23, 36, 68, 101}, 10, 100));
  EXPECT_FALSE(broken_rule({10, 10, 100, 100}, 10, 100));
}

}  // namespace
}  // namespace bulkhead
