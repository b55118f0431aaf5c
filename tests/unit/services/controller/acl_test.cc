#include "services/controller/acl.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace bulkhead::controller {
namespace {

constexpr std::int64_t kHour = 3'600'000;

schema::AclSubject subject(const std::string& prefix) {
  return {std::nullopt, parse_prefix(prefix).value()};
}
Address address(const std::string& text) {
  return parse_address(text).value();
}
PeerId peer(std::uint8_t number) {
  PeerId id{};
  id.fill(number);
  return id;
}

class Lists : public ::testing::Test {
 protected:
  UniqueFd fd_ = shm::ListsTable::make(1000).value();
  Acl acl_{shm::ListsWriter::map(fd_.get()).value(), {.greylist_ms = kHour, .greylist_ipv6_length = 64}};
  std::int64_t now_ = wall_now_ms();

  bool stores(const Changes& changes, StoredList list, const std::string& prefix) {
    return std::any_of(changes.begin(), changes.end(), [&](const Change& change) {
      const auto* entry = std::get_if<AclEntry>(&change);
      return entry != nullptr && entry->key.list == list &&
             entry->key.subject == parse_prefix(prefix).value().address.bytes;
    });
  }
};

TEST_F(Lists, BanAtOnceAndSayWhatToStore) {
  const auto outcome = acl_.ban(subject("10.0.0.0/8"), 0, "abuse", now_);
  EXPECT_TRUE(outcome.ok);
  EXPECT_EQ(outcome.text, "10.0.0.0/8 is banned");
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kBanned);
  EXPECT_EQ(acl_.of(address("11.1.2.3")), Standing::kNone);
  EXPECT_TRUE(stores(outcome.changes, StoredList::kBlack, "10.0.0.0/8"));
}

TEST_F(Lists, LetABanEndByItself) {
  acl_.ban(subject("10.1.2.3"), wall_now_ms() + 5, "", now_);
  const auto until = monotonic_now() + 10 * kSecond;
  while (acl_.of(address("10.1.2.3")) == Standing::kBanned && monotonic_now() < until) {
  }
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kNone);
}

TEST_F(Lists, TakeTrustBackWithABanAndTheReverse) {
  EXPECT_TRUE(acl_.trust(subject("10.1.2.3"), 0, "", now_).ok);
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kTrusted);
  EXPECT_EQ(acl_.ban(subject("10.1.2.3"), 0, "", now_).text, "10.1.2.3 is banned and trusted no more");
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kBanned);
  EXPECT_EQ(acl_.trust(subject("10.1.2.3"), 0, "", now_).text, "10.1.2.3 is trusted and banned no more");
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kTrusted);
}

TEST_F(Lists, RefuseTrustUnderAWiderBanAndNameIt) {
  acl_.ban(subject("10.0.0.0/8"), 0, "", now_);
  const auto outcome = acl_.trust(subject("10.1.2.3"), 0, "", now_);
  EXPECT_FALSE(outcome.ok);
  EXPECT_NE(outcome.text.find("10.0.0.0/8"), std::string::npos);
  EXPECT_TRUE(outcome.changes.empty());
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kBanned);
}

TEST_F(Lists, SayWhenAWiderBanStandsAfterUnban) {
  acl_.ban(subject("10.0.0.0/8"), 0, "", now_);
  acl_.ban(subject("10.1.2.3"), 0, "", now_);
  const std::string still = " is still banned, by 10.0.0.0/8: `bulkhead unban address 10.0.0.0/8` lifts that";
  const auto outcome = acl_.unban(subject("10.1.2.3"), now_);
  EXPECT_FALSE(outcome.ok);
  EXPECT_EQ(outcome.text, "10.1.2.3 had a ban of its own, which is lifted, and" + still);
  const auto again = acl_.unban(subject("10.1.2.3"), now_);
  EXPECT_FALSE(again.ok);
  EXPECT_EQ(again.text, "10.1.2.3 had no ban of its own, and" + still);
  EXPECT_TRUE(acl_.unban(subject("10.0.0.0/8"), now_).ok);
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kNone);
}

TEST_F(Lists, SayWhenWiderTrustStandsAfterUntrust) {
  acl_.trust(subject("10.0.0.0/8"), 0, "", now_);
  acl_.trust(subject("10.1.2.3"), 0, "", now_);
  const std::string still = " is still trusted, by 10.0.0.0/8: `bulkhead untrust address 10.0.0.0/8` ends that";
  EXPECT_EQ(acl_.untrust(subject("10.1.2.3"), now_).text, "10.1.2.3 had trust of its own, which is ended, and" + still);
  EXPECT_EQ(acl_.untrust(subject("10.1.2.3"), now_).text, "10.1.2.3 had no trust of its own, and" + still);
}

TEST_F(Lists, LiftTheGreylistingThatCoversAnUnbannedAddress) {
  acl_.greylist(address("2001:db8::1"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  EXPECT_EQ(acl_.of(address("2001:db8::2")), Standing::kGreylisted);
  EXPECT_TRUE(acl_.unban(subject("2001:db8::2"), now_).ok);
  EXPECT_EQ(acl_.of(address("2001:db8::1")), Standing::kNone);
}

TEST_F(Lists, PutBlackOverWhiteOverGreyWhateverTheLengths) {
  acl_.greylist(address("10.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kGreylisted);
  acl_.trust(subject("10.1.0.0/16"), 0, "", now_);
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kTrusted);
  acl_.ban(subject("10.0.0.0/8"), 0, "", now_);
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kBanned);
}

TEST_F(Lists, GreylistNeitherTheTrustedNorTheBanned) {
  acl_.trust(subject("10.1.2.3"), 0, "", now_);
  EXPECT_FALSE(acl_.greylist(address("10.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_).ok);
  acl_.untrust(subject("10.1.2.3"), now_);
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kNone);
}

TEST_F(Lists, TellAGreylistingThatIsProlongedFromANewOne) {
  EXPECT_TRUE(acl_.greylist(address("10.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_).ok);
  const auto again = acl_.greylist(address("10.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_ + 1);
  EXPECT_FALSE(again.ok);
  EXPECT_FALSE(again.changes.empty()) << "its end moved";
}

TEST_F(Lists, GreylistLoopbackSinglyAndIpv6ByItsPrefix) {
  acl_.greylist(address("127.0.0.5"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  EXPECT_EQ(acl_.of(address("127.0.0.5")), Standing::kGreylisted);
  EXPECT_EQ(acl_.of(address("127.0.0.6")), Standing::kNone);
  acl_.greylist(address("::1"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  EXPECT_EQ(acl_.of(address("::2")), Standing::kNone);
}

TEST_F(Lists, SayWhenThereWasNothingToTakeBack) {
  acl_.ban(subject("10.1.0.0/16"), 0, "", now_);
  acl_.trust(subject("11.1.2.3"), 0, "", now_);
  acl_.greylist(address("12.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  EXPECT_FALSE(acl_.unban(subject("10.1.2.3"), now_).changed) << "a wider ban stands";
  EXPECT_TRUE(acl_.unban(subject("10.1.0.0/16"), now_).changed);
  const auto again = acl_.unban(subject("10.1.0.0/16"), now_);
  EXPECT_FALSE(again.changed);
  EXPECT_EQ(again.text, "10.1.0.0/16 was not banned");
  EXPECT_TRUE(acl_.unban(subject("12.1.2.3"), now_).changed) << "a greylisting goes with it";
  EXPECT_TRUE(acl_.untrust(subject("11.1.2.3"), now_).changed);
  EXPECT_EQ(acl_.untrust(subject("11.1.2.3"), now_).text, "11.1.2.3 was not trusted");
  EXPECT_FALSE(acl_.untrust(subject("11.1.2.3"), now_).changed);
}

// Trap 16: clearing the greylist must not clear the bans.
TEST_F(Lists, ClearTheGreylistAndLeaveABanAlone) {
  acl_.ban(subject("10.1.2.3"), 0, "", now_);
  acl_.greylist(address("10.1.2.4"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  const auto outcome = acl_.clear_greylist(now_);
  EXPECT_EQ(outcome.text, "1 greylisting lifted");
  EXPECT_EQ(outcome.cleared.greylistings, 1U);
  EXPECT_EQ(acl_.of(address("10.1.2.3")), Standing::kBanned);
  EXPECT_EQ(acl_.of(address("10.1.2.4")), Standing::kNone);
}

TEST_F(Lists, ClearBlackAndGreyAndSayHowManyBansWent) {
  acl_.ban(subject("10.0.0.0/8"), 0, "", now_);
  acl_.ban({peer(7), {}}, 0, "", now_);
  acl_.trust(subject("11.1.2.3"), 0, "", now_);
  EXPECT_EQ(acl_.clear(now_).text, "2 bans and 0 greylistings lifted");
  EXPECT_EQ(acl_.of(peer(7)), Standing::kNone);
  EXPECT_EQ(acl_.of(address("11.1.2.3")), Standing::kTrusted);
}

TEST_F(Lists, ComeBackFromWhatWasStored) {
  Changes changes = acl_.ban(subject("10.0.0.0/8"), 0, "abuse", now_).changes;
  std::vector<AclEntry> stored;
  for (const auto& change : changes) {
    if (const auto* entry = std::get_if<AclEntry>(&change)) stored.push_back(*entry);
  }
  const UniqueFd fd = shm::ListsTable::make(1000).value();
  Acl again(shm::ListsWriter::map(fd.get()).value(), {});
  ASSERT_TRUE(again.restore(stored, now_));
  EXPECT_EQ(again.of(address("10.1.2.3")), Standing::kBanned);
  again.ban(subject("11.0.0.0/8"), 0, "", now_ + 1000);
  again.greylist(address("12.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  again.greylist(address("12.1.2.4"), Reason::kBadLength, shm::SetBy::kLayer, now_ + 1000);
  const auto late = again.since(now_ + 500, now_ + 1000);
  ASSERT_EQ(late.size(), 1U);
  EXPECT_TRUE(stores(late, StoredList::kGrey, "12.1.2.4"));
}

TEST_F(Lists, NameTheBanThatMakesTrustUseless) {
  const auto useless = [&](const shm::ListEntry& entry) { return acl_.useless(entry, now_).value_or(""); };
  const auto white = [](const auto& target) { return shm::ListEntry::of(shm::AclList::kWhite, target); };
  acl_.ban(subject("10.0.0.0/8"), 0, "", now_);
  acl_.ban(subject("::/0"), 0, "", now_);
  acl_.ban({peer(7), {}}, 0, "", now_);
  EXPECT_EQ(useless(white(parse_prefix("10.1.2.3").value())), "10.1.2.3 cannot be trusted while 10.0.0.0/8 is banned");
  EXPECT_NE(useless(white(parse_prefix("10.0.0.0/8").value())), "") << "an import does not lift it";
  EXPECT_NE(useless(white(peer(7))), "");
  EXPECT_EQ(useless(white(parse_prefix("0.0.0.0/0").value())), "") << "most of it can be trusted";
  EXPECT_EQ(useless(white(parse_prefix("11.1.2.3").value())), "");
  EXPECT_EQ(useless(white(peer(8))), "");
}

TEST_F(Lists, NoticeABanThatEndsByItselfAndNoOther) {
  EXPECT_TRUE(acl_.ended(now_).empty());
  for (const char* one : {"10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"})
    acl_.ban(subject(one), now_ + 100, "", now_);
  acl_.ban({peer(7), {}}, now_ + 200, "", now_);
  acl_.greylist(address("12.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_);
  acl_.unban(subject("10.2.0.0/16"), now_);
  acl_.trust(subject("10.3.0.0/16"), 0, "", now_);
  acl_.ban(subject("10.4.0.0/16"), 0, "", now_);
  EXPECT_TRUE(acl_.ended(now_ + 99).empty());
  const auto first = acl_.ended(now_ + 100);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(subject_text(first[0].subject), "10.1.0.0/16");
  EXPECT_FALSE(first[0].trust);
  const auto second = acl_.ended(now_ + 2 * kHour);
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].subject.peer_id, peer(7));
}

TEST_F(Lists, NoticeTrustThatEndsByItselfAlsoWhenTheBansWereCleared) {
  EXPECT_TRUE(acl_.ended(now_).empty());
  for (const char* one : {"10.1.2.3", "10.1.2.4", "10.1.2.5"}) acl_.trust(subject(one), now_ + 100, "", now_);
  acl_.untrust(subject("10.1.2.4"), now_);
  acl_.trust(subject("10.1.2.5"), 0, "", now_);
  acl_.ban(subject("10.2.0.0/16"), now_ + 100, "", now_);
  acl_.clear(now_);
  EXPECT_TRUE(acl_.ended(now_ + 99).empty());
  const auto ended = acl_.ended(now_ + 100);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(subject_text(ended[0].subject), "10.1.2.3");
  EXPECT_TRUE(ended[0].trust);
}

TEST_F(Lists, NoticeTheEndOfABanThatAFormerControllerMade) {
  acl_.ban(subject("10.1.2.3"), now_ + 100, "", now_);
  Acl successor(shm::ListsWriter::map(fd_.get()).value(), {});
  EXPECT_TRUE(successor.ended(now_).empty());
  EXPECT_EQ(successor.ended(now_ + 100).size(), 1U);
}

TEST_F(Lists, SayWhatTheDatabaseLacksOfBansAndTrust) {
  std::vector<AclEntry> stored;
  const auto store = [&](const Changes& changes) {
    for (const auto& change : changes) {
      if (const auto* entry = std::get_if<AclEntry>(&change)) stored.push_back(*entry);
    }
  };
  store(acl_.ban(subject("10.1.2.3"), 0, "the same", now_).changes);
  store(acl_.ban(subject("10.2.2.3"), 0, "lifted", now_).changes);
  store(acl_.ban(subject("10.3.2.3"), 0, "changed", now_).changes);
  EXPECT_TRUE(acl_.unlike(stored, now_).empty());
  acl_.unban(subject("10.2.2.3"), now_);
  acl_.ban(subject("10.3.2.3"), now_ + kHour, "changed", now_);
  acl_.ban(subject("10.4.2.3"), 0, "new", now_);
  acl_.trust(subject("10.5.2.3"), 0, "new", now_);
  acl_.greylist(address("12.1.2.3"), Reason::kBadLength, shm::SetBy::kLayer, now_);

  const auto changes = acl_.unlike(stored, now_);

  ASSERT_EQ(changes.size(), 4U);
  EXPECT_TRUE(stores(changes, StoredList::kBlack, "10.3.2.3"));
  EXPECT_TRUE(stores(changes, StoredList::kBlack, "10.4.2.3"));
  EXPECT_TRUE(stores(changes, StoredList::kWhite, "10.5.2.3"));
  const auto* removed = std::get_if<RemoveAcl>(&changes.back());
  ASSERT_NE(removed, nullptr);
  EXPECT_EQ(removed->key.subject, address("10.2.2.3").bytes);
}

TEST_F(Lists, RefuseWhatTheyHaveNoRoomFor) {
  bool refused = false;
  for (int i = 0; i < 2000 && !refused; ++i) {
    const auto one = "10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250);
    const auto outcome = acl_.ban(subject(one), 0, "", now_);
    refused = !outcome.ok;
    if (refused) {
      EXPECT_NE(outcome.text.find(one), std::string::npos);
    }
  }
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace bulkhead::controller
