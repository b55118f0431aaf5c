#include "base/duration.h"

#include <gtest/gtest.h>

namespace bulkhead {
namespace {

TEST(Duration, TakesSecondsAndEachUnit) {
  EXPECT_EQ(parse_duration("90").value().count(), 90);
  EXPECT_EQ(parse_duration("90s").value().count(), 90);
  EXPECT_EQ(parse_duration("15m").value().count(), 15 * 60);
  EXPECT_EQ(parse_duration("24h").value().count(), 24 * 3600);
  EXPECT_EQ(parse_duration("7d").value().count(), 7 * 24 * 3600);
  EXPECT_EQ(parse_duration("2w").value().count(), 14 * 24 * 3600);
}

TEST(Duration, TakesNothingBeyondItsBounds) {
  EXPECT_EQ(parse_duration("1").value().count(), 1);
  EXPECT_EQ(parse_duration("3650d").value(), kLongestDuration);
  for (const char* bad :
       {"0", "0d", "3651d", "522w", "315360001", "18446744073709551616", "99999999999999999999w", "30500568904944w"}) {
    const auto parsed = parse_duration(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_NE(parsed.error().text.find("at most 3650 days"), std::string::npos) << bad;
  }
}

TEST(Duration, RefusesOtherNotationsAndSaysWhatIsExpected) {
  for (const std::string_view bad :
       {std::string_view(""), std::string_view("s"), std::string_view("-1"), std::string_view("+1"),
        std::string_view("1.5h"), std::string_view("1h30m"), std::string_view("1 h"), std::string_view(" 1"),
        std::string_view("1H"), std::string_view("1y"), std::string_view("1s\0", 3), std::string_view("0x10")}) {
    const auto parsed = parse_duration(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_NE(parsed.error().text.find("90s, 15m"), std::string::npos) << bad;
  }
}

}  // namespace
}  // namespace bulkhead
