#include "services/controller/list_ends.h"

#include <gtest/gtest.h>

namespace bulkhead::controller {
namespace {

AclKey ban(std::uint8_t number) {
  AclKey key;
  key.subject.fill(number);
  return key;
}
using Keys = std::vector<AclKey>;

TEST(ListEnds, AreToldOnceInTheirOrderWhenTheyHaveCome) {
  ListEnds ends(10);
  ends.note(ban(1), 300);
  ends.note(ban(2), 100);
  ends.note(ban(3), 0);
  EXPECT_EQ(ends.take_over(99), Keys{});
  EXPECT_EQ(ends.take_over(100), Keys{ban(2)});
  EXPECT_EQ(ends.take_over(1000), Keys{ban(1)});
  EXPECT_EQ(ends.take_over(1000), Keys{});
}

TEST(ListEnds, FollowABanThatChangesOrGoes) {
  ListEnds ends(10);
  for (std::uint8_t number = 1; number <= 3; ++number) ends.note(ban(number), 100);
  ends.note(ban(1), 200);
  ends.note(ban(2), 0);
  ends.forget(ban(3));
  EXPECT_EQ(ends.take_over(199), Keys{});
  EXPECT_EQ(ends.take_over(200), Keys{ban(1)});
  ends.note(ban(1), 300);
  ends.clear();
  EXPECT_EQ(ends.take_over(300), Keys{});
}

TEST(ListEnds, AreWatchedAsFarAsThereIsRoomTheSoonestFirst) {
  ListEnds ends(2);
  ends.note(ban(3), 300);
  ends.note(ban(1), 100);
  EXPECT_FALSE(ends.wants_refill());
  ends.note(ban(2), 200);
  EXPECT_FALSE(ends.wants_refill());
  EXPECT_EQ(ends.take_over(1000), (Keys{ban(1), ban(2)}));
  EXPECT_TRUE(ends.wants_refill());
  ends.clear();
  ends.note(ban(3), 300);
  EXPECT_FALSE(ends.wants_refill());
}

}  // namespace
}  // namespace bulkhead::controller
