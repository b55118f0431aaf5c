#include <gtest/gtest.h>

#include <cstring>

#include "shm/table_file.h"
#include "tests/unit/shm/lists_model.h"

namespace bulkhead::shm {
namespace {

constexpr std::int64_t kNow = 1'000'000;

struct Lists {
  explicit Lists(std::uint32_t capacity = 4096, std::uint32_t grey_limit = 1000)
      : fd(ListsTable::make(capacity).value()),
        writer(ListsWriter::map(fd.get(), {.grey = grey_limit}).value()),
        table(ListsTable::map(reopen_read_only(fd.get()).value().get()).value()) {}

  void add(const ListEntry& entry) { ASSERT_TRUE(writer.add(entry, kNow)); }
  void add(AclList list, std::string_view prefix, std::int64_t until_ms = 0) { add(entry_for(list, prefix, until_ms)); }
  std::string verdict(std::string_view address, std::int64_t now_ms = kNow) const {
    const Verdict found = table.look_up(address_at(address), now_ms);
    return found.list ? std::string(acl_list_name(*found.list)) + " " + to_text(found.prefix) : "nothing";
  }
  void merge_all() {
    while (writer.merge_due()) writer.merge(kNow, std::chrono::milliseconds(10));
  }
  /// Entries until a merge is due, and the merge: what was there before is in the base then.
  void fill_and_merge() {
    for (std::uint32_t i = 0; !writer.merge_due(); ++i) {
      Address address = address_at("198.18.0.0");
      address.bytes[14] = static_cast<std::uint8_t>(i >> 8U);
      address.bytes[15] = static_cast<std::uint8_t>(i);
      add(ListEntry::of(AclList::kWhite, Prefix{address, kAddressBits}));
    }
    merge_all();
  }

  UniqueFd fd;
  ListsWriter writer;
  ListsTable table;
};

PeerId peer_of(std::uint8_t number) {
  PeerId peer{};
  peer.back() = number;
  return peer;
}

TEST(Lists, MatchNothingWhenTheyAreEmpty) {
  Lists lists;
  EXPECT_EQ(lists.table.look_up(address_at("10.0.0.1"), kNow), Verdict{});
  EXPECT_EQ(lists.table.look_up(peer_of(1), kNow), Verdict{});
  EXPECT_TRUE(every_entry(lists.table, kNow).empty());
  EXPECT_FALSE(lists.writer.merge_due());
  EXPECT_EQ(lists.table.status().counts, (std::array<ListCounts, kAclLists>{}));
}

TEST(Lists, LetBlackWinOverWhiteAndWhiteOverGreyWhateverTheLengths) {
  Lists lists;
  lists.add(AclList::kGrey, "10.1.2.3");
  EXPECT_EQ(lists.verdict("10.1.2.3"), "grey 10.1.2.3");
  lists.add(AclList::kWhite, "10.0.0.0/8");
  EXPECT_EQ(lists.verdict("10.1.2.3"), "white 10.0.0.0/8");
  lists.add(AclList::kBlack, "0.0.0.0/0");
  EXPECT_EQ(lists.verdict("10.1.2.3"), "black 0.0.0.0/0");
  EXPECT_TRUE(lists.table.look_up(address_at("10.1.2.3"), kNow).refused());
}

TEST(Lists, LetLengthDecideInsideOneList) {
  Lists lists;
  for (const char* prefix : {"2001:db8::/32", "2001:db8::/48", "2001:db8::/47", "2001:db8::1"}) {
    lists.add(AclList::kBlack, prefix);
  }
  for (int merged = 0; merged < 2; ++merged) {
    EXPECT_EQ(lists.verdict("2001:db8::1"), "black 2001:db8::1");
    EXPECT_EQ(lists.verdict("2001:db8::2"), "black 2001:db8::/48");
    EXPECT_EQ(lists.verdict("2001:db8:1::"), "black 2001:db8::/47");
    EXPECT_EQ(lists.verdict("2001:db8:2::"), "black 2001:db8::/32");
    EXPECT_EQ(lists.verdict("2001:db9::"), "nothing");
    lists.fill_and_merge();
  }
}

TEST(Lists, LetADeltaAndABaseDecideTogether) {
  Lists lists;
  lists.add(AclList::kBlack, "10.1.0.0/16");
  lists.add(AclList::kGrey, "10.2.0.0/16");
  lists.fill_and_merge();
  lists.add(AclList::kBlack, "10.0.0.0/8");
  lists.add(AclList::kWhite, "10.2.2.0/24");
  EXPECT_EQ(lists.verdict("10.1.1.1"), "black 10.1.0.0/16");
  EXPECT_EQ(lists.verdict("10.3.1.1"), "black 10.0.0.0/8");
  ASSERT_TRUE(lists.writer.remove(AclList::kBlack, prefix_at("10.0.0.0/8"), kNow));
  EXPECT_EQ(lists.verdict("10.2.2.2"), "white 10.2.2.0/24");
  EXPECT_EQ(lists.verdict("10.2.3.2"), "grey 10.2.0.0/16");
}

TEST(Lists, DoNotMatchFromTheMomentAtWhichAnEntryEnds) {
  Lists lists;
  lists.add(AclList::kBlack, "10.0.0.0/8", kNow + 200);
  lists.add(AclList::kBlack, "10.1.0.0/16", kNow + 100);
  for (int merged = 0; merged < 2; ++merged) {
    EXPECT_EQ(lists.verdict("10.1.1.1", kNow + 99), "black 10.1.0.0/16");
    EXPECT_EQ(lists.verdict("10.1.1.1", kNow + 100), "black 10.0.0.0/8");
    EXPECT_EQ(lists.verdict("10.1.1.1", kNow + 200), "nothing");
    EXPECT_FALSE(lists.table.find(AclList::kBlack, prefix_at("10.1.0.0/16"), kNow + 100));
    lists.fill_and_merge();
  }
}

TEST(Lists, KeepTheFamiliesApart) {
  Lists lists;
  lists.add(AclList::kBlack, "::/0");
  for (int merged = 0; merged < 2; ++merged) {
    EXPECT_EQ(lists.verdict("10.0.0.1"), "nothing");
    EXPECT_EQ(lists.verdict("2001:db8::1"), "black ::/0");
    lists.fill_and_merge();
  }
}

TEST(Lists, HoldTheFirstAndTheLastAddress) {
  Lists lists;
  for (const char* prefix : {"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0", "255.255.255.255"}) {
    lists.add(AclList::kBlack, prefix);
  }
  for (int merged = 0; merged < 2; ++merged) {
    for (const char* address : {"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "0.0.0.0", "255.255.255.255"}) {
      EXPECT_EQ(lists.verdict(address), std::string("black ") + address);
    }
    EXPECT_EQ(lists.verdict("::1"), "nothing");
    lists.fill_and_merge();
  }
}

TEST(Lists, KeepPeersApartFromAddresses) {
  Lists lists;
  PeerId peer{};
  std::memcpy(peer.data(), address_at("2001:db8::1").bytes.data(), peer.size());
  ListEntry entry = ListEntry::of(AclList::kBlack, peer);
  entry.reason = Reason::kPeerBanned;
  lists.add(entry);
  for (int merged = 0; merged < 2; ++merged) {
    EXPECT_EQ(lists.verdict("2001:db8::1"), "nothing");
    EXPECT_EQ(lists.table.look_up(peer, kNow).list, AclList::kBlack);
    EXPECT_EQ(lists.table.look_up(peer, kNow).reason, Reason::kPeerBanned);
    EXPECT_EQ(lists.table.find(AclList::kBlack, peer, kNow), entry);
    lists.fill_and_merge();
  }
  EXPECT_EQ(lists.writer.remove(AclList::kBlack, peer, kNow), entry);
  EXPECT_EQ(lists.table.look_up(peer, kNow), Verdict{});
}

TEST(Lists, GiveBackAWholeEntry) {
  Lists lists;
  ListEntry entry = entry_for(AclList::kBlack, "10.0.0.0/8", kNow + 1000);
  entry.by = SetBy::kApplication;
  entry.reason = Reason::kDecodeError;
  entry.since_ms = kNow - 7;
  entry.set_text("scans us since Monday");
  lists.add(entry);
  for (int merged = 0; merged < 2; ++merged) {
    EXPECT_EQ(lists.table.find(AclList::kBlack, entry.prefix, kNow), entry);
    EXPECT_EQ(lists.table.match_all(address_at("10.1.1.1"), kNow), std::vector{entry});
    lists.fill_and_merge();
  }
}

TEST(Lists, GiveEveryMatchInTheOrderInWhichTheyDecide) {
  Lists lists;
  const std::vector expected = {entry_for(AclList::kBlack, "10.0.0.0/8"), entry_for(AclList::kWhite, "10.1.2.3"),
                                entry_for(AclList::kWhite, "10.1.0.0/16"), entry_for(AclList::kGrey, "10.1.2.3")};
  lists.add(expected[2]);
  lists.add(expected[3]);
  lists.fill_and_merge();
  lists.add(expected[0]);
  lists.add(expected[1]);
  EXPECT_EQ(lists.table.match_all(address_at("10.1.2.3"), kNow), expected);
}

TEST(Lists, FindWhatCoversAPrefixEntirely) {
  Lists lists;
  for (const char* prefix : {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3"})
    lists.add(AclList::kBlack, prefix);
  const auto covering = lists.table.covering(AclList::kBlack, prefix_at("10.1.2.0/24"), kNow);
  EXPECT_EQ(covering, (std::vector{entry_for(AclList::kBlack, "10.1.2.0/24"), entry_for(AclList::kBlack, "10.1.0.0/16"),
                                   entry_for(AclList::kBlack, "10.0.0.0/8")}));
  EXPECT_TRUE(lists.table.covering(AclList::kWhite, prefix_at("10.1.2.0/24"), kNow).empty());
}

TEST(Lists, ReplaceAnEntryOfTheSameTarget) {
  Lists lists;
  lists.add(AclList::kGrey, "10.0.0.1", kNow + 100);
  for (int merged = 0; merged < 2; ++merged) {
    const auto again = lists.writer.add(entry_for(AclList::kGrey, "10.0.0.1", kNow + 200 + merged), kNow);
    ASSERT_TRUE(again);
    EXPECT_TRUE(again->replaced);
    EXPECT_EQ(lists.table.look_up(address_at("10.0.0.1"), kNow).until_ms, kNow + 200 + merged);
    EXPECT_EQ(lists.table.status().counts[2].prefixes, 1U);
    EXPECT_EQ(lists.table.match_all(address_at("10.0.0.1"), kNow).size(), 1U);
    lists.fill_and_merge();
  }
}

TEST(Lists, RemoveExactlyOneEntry) {
  Lists lists;
  for (int merged = 0; merged < 2; ++merged) {
    lists.add(AclList::kBlack, "10.0.0.0/8");
    lists.add(AclList::kGrey, "10.0.0.0/8");
    lists.add(AclList::kBlack, "10.0.0.0/9");
    if (merged == 1) lists.fill_and_merge();
    EXPECT_FALSE(lists.writer.remove(AclList::kBlack, prefix_at("10.0.0.0/10"), kNow));
    EXPECT_EQ(lists.writer.remove(AclList::kBlack, prefix_at("10.0.0.0/8"), kNow),
              entry_for(AclList::kBlack, "10.0.0.0/8"));
    EXPECT_FALSE(lists.writer.remove(AclList::kBlack, prefix_at("10.0.0.0/8"), kNow));
    EXPECT_EQ(lists.verdict("10.1.1.1"), "black 10.0.0.0/9");
    EXPECT_EQ(lists.verdict("10.200.1.1"), "grey 10.0.0.0/8");
  }
}

TEST(Lists, AreClearedAtOnceAndOneByOne) {
  Lists lists;
  for (int merged = 0; merged < 2; ++merged) {
    lists.add(AclList::kBlack, "10.0.0.0/8", kNow + 50);
    lists.add(AclList::kBlack, "11.0.0.0/8");
    lists.add(ListEntry::of(AclList::kBlack, peer_of(1)));
    lists.add(AclList::kGrey, "10.0.0.1");
    if (merged == 1) lists.fill_and_merge();
    EXPECT_EQ(lists.writer.clear(AclList::kBlack, kNow + 50), 2U) << "one is over already";
    EXPECT_EQ(lists.verdict("10.0.0.1"), "grey 10.0.0.1");
    EXPECT_EQ(lists.verdict("11.0.0.1"), "nothing");
    EXPECT_EQ(lists.table.look_up(peer_of(1), kNow), Verdict{});
    EXPECT_EQ(lists.table.status().counts[0], ListCounts{});
    lists.add(AclList::kBlack, "11.0.0.0/8");
    EXPECT_EQ(lists.verdict("11.0.0.1"), "black 11.0.0.0/8");
    EXPECT_EQ(lists.writer.clear(AclList::kBlack, kNow), 1U);
  }
}

TEST(Lists, StayClearedWhenTheMergeThatWasUnderWayEnds) {
  Lists lists;
  lists.add(AclList::kBlack, "10.0.0.0/8");
  for (int i = 0; !lists.writer.merge_due(); ++i) {
    lists.add(AclList::kBlack, "11.0.0." + std::to_string(i));
  }
  lists.writer.merge(kNow, std::chrono::microseconds(1));
  lists.writer.clear(AclList::kBlack, kNow);
  lists.merge_all();
  EXPECT_EQ(lists.verdict("10.0.0.1"), "nothing");
  EXPECT_TRUE(every_entry(lists.table, kNow).empty());
}

TEST(Lists, LetTheGreyEntryGoThatEndsSoonest) {
  for (const bool merged : {false, true}) {
    Lists lists(4096, 20);
    for (int i = 0; i < 20; ++i) {
      lists.add(AclList::kGrey, "10.0.0." + std::to_string(i), kNow + 1000 + (i * 7) % 20);
    }
    if (merged) lists.fill_and_merge();
    for (int i = 0; i < 20; ++i) {
      const auto added = lists.writer.add(entry_for(AclList::kGrey, "10.0.1." + std::to_string(i)), kNow);
      ASSERT_TRUE(added);
      ASSERT_EQ(added->gone.size(), 1U);
      EXPECT_EQ(added->gone[0].until_ms, kNow + 1000 + i);
      EXPECT_EQ(lists.table.status().counts[2].prefixes, 20U);
    }
  }
}

TEST(Lists, BoundGreyPrefixesAndPeersTogetherAndNothingElse) {
  Lists lists(4096, 2);
  lists.add(AclList::kGrey, "10.0.0.1");
  lists.add(ListEntry::of(AclList::kGrey, peer_of(1)));
  for (int i = 0; i < 10; ++i) lists.add(AclList::kBlack, "11.0.0." + std::to_string(i));
  const auto added = lists.writer.add(entry_for(AclList::kGrey, "10.0.0.2"), kNow);
  ASSERT_TRUE(added);
  EXPECT_EQ(added->gone.size(), 1U);
  EXPECT_EQ(every_entry(lists.table, kNow).size(), 12U);
}

TEST(Lists, RefuseMoreThanTheirCapacityAndTakeAReplacement) {
  Lists lists(64, 10);
  for (int i = 0; i < 64; ++i) lists.add(AclList::kBlack, "10.0.0." + std::to_string(i));
  const auto refused = lists.writer.add(entry_for(AclList::kBlack, "11.0.0.1"), kNow);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
  EXPECT_TRUE(lists.writer.add(entry_for(AclList::kBlack, "10.0.0.1", kNow + 5), kNow));
  ASSERT_TRUE(lists.writer.remove(AclList::kBlack, prefix_at("10.0.0.2"), kNow));
  EXPECT_TRUE(lists.writer.add(entry_for(AclList::kBlack, "11.0.0.1"), kNow));
  EXPECT_EQ(every_entry(lists.table, kNow).size(), 64U);
}

TEST(Lists, RefuseAnEntryThatIsOverOrNotCanonical) {
  Lists lists;
  EXPECT_FALSE(lists.writer.add(entry_for(AclList::kBlack, "10.0.0.1", kNow), kNow));
  EXPECT_FALSE(lists.writer.add(ListEntry::of(AclList::kBlack, Prefix{address_at("10.0.0.1"), 104}), kNow));
  ListEntry unknown = entry_for(AclList::kBlack, "10.0.0.1");
  unknown.list = static_cast<AclList>(3);
  EXPECT_FALSE(lists.writer.add(unknown, kNow));
  EXPECT_TRUE(every_entry(lists.table, kNow).empty());
}

// -------------------------------------------------------------------------------------------------- grey neighbours

std::string subnet(int number) {
  char text[32];
  std::snprintf(text, sizeof text, "2001:db8:0:%x::/64", static_cast<unsigned int>(number));
  return text;
}

TEST(Lists, TurnMoreThan64GreyNeighboursIntoTheirPrefix) {
  for (const bool merged : {false, true}) {
    Lists lists;
    for (int i = 0; i < 64; ++i) lists.add(AclList::kGrey, subnet(i), kNow + 1000 - i);
    lists.add(AclList::kGrey, "2001:db8:0:100::/64", kNow + 9999);
    if (merged) lists.fill_and_merge();
    EXPECT_EQ(lists.verdict("2001:db8:0:ff::1"), "nothing");

    const auto added = lists.writer.add(entry_for(AclList::kGrey, subnet(200), kNow + 500), kNow);
    ASSERT_TRUE(added);
    EXPECT_EQ(to_text(added->entry.prefix), "2001:db8::/56");
    EXPECT_EQ(added->entry.until_ms, kNow + 1000);
    EXPECT_EQ(added->gone.size(), 64U);
    EXPECT_EQ(lists.verdict("2001:db8:0:ff::1"), "grey 2001:db8::/56");
    EXPECT_EQ(lists.verdict("2001:db8:0:0::1"), "grey 2001:db8::/56");
    EXPECT_EQ(lists.verdict("2001:db8:0:100::1"), "grey 2001:db8:0:100::/64");
    EXPECT_EQ(lists.table.status().counts[2].prefixes, 2U);

    const auto later = lists.writer.add(entry_for(AclList::kGrey, subnet(3), kNow + 5000), kNow);
    ASSERT_TRUE(later);
    EXPECT_TRUE(later->replaced);
    EXPECT_EQ(later->entry.until_ms, kNow + 5000);
    EXPECT_EQ(lists.table.status().counts[2].prefixes, 2U);
  }
}

TEST(Lists, CountAGreyNeighbourOnceHoweverOftenItComes) {
  Lists lists;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 64; ++i) lists.add(AclList::kGrey, subnet(i), kNow + 1000 + round);
  }
  EXPECT_EQ(lists.table.status().counts[2].prefixes, 64U);
  EXPECT_EQ(lists.verdict("2001:db8:0:ff::1"), "nothing");
}

TEST(Lists, LeaveOtherListsAndOtherLengthsOutOfTheCount) {
  Lists lists;
  for (int i = 0; i < 64; ++i) {
    lists.add(AclList::kGrey, subnet(i), kNow + 1000);
    lists.add(AclList::kBlack, subnet(100 + i));
    lists.add(AclList::kGrey, "2001:db8:0:1::" + std::to_string(i + 1));
  }
  EXPECT_EQ(lists.verdict("2001:db8:0:ff::1"), "nothing");
}

TEST(Lists, NeverTakeLoopbackIntoAGreyPrefix) {
  EXPECT_EQ(grey_prefix(address_at("::1")), prefix_at("::1"));
  EXPECT_EQ(grey_prefix(address_at("::2")), prefix_at("::2"));
  EXPECT_EQ(grey_prefix(address_at("127.0.0.9")), prefix_at("127.0.0.9"));
  Lists lists;
  for (int i = 1; i < 100; ++i) {
    Address address;
    address.bytes[7] = static_cast<std::uint8_t>(i);
    lists.add(ListEntry::of(AclList::kGrey, grey_prefix(address)));
  }
  EXPECT_EQ(lists.verdict("::1"), "nothing");
  EXPECT_EQ(lists.table.status().counts[2].prefixes, 99U);
}

TEST(GreyPrefix, CoversAnIpv4AddressAndAnIpv6Subnet) {
  EXPECT_EQ(grey_prefix(address_at("192.0.2.7")), prefix_at("192.0.2.7"));
  EXPECT_EQ(grey_prefix(address_at("2001:db8:1:2:3::4")), prefix_at("2001:db8:1:2::/64"));
  EXPECT_EQ(grey_prefix(address_at("2001:db8:1:2:3::4"), 48), prefix_at("2001:db8:1::/48"));
  EXPECT_EQ(grey_prefix(address_at("2001:db8:1:2:3::4"), 128), prefix_at("2001:db8:1:2:3::4"));
  EXPECT_EQ(grey_prefix(address_at("192.0.2.7"), 48), prefix_at("192.0.2.7"));
}

// ------------------------------------------------------------------------------------------------- ends and merges

TEST(Lists, CollectWhatIsOver) {
  for (const bool merged : {false, true}) {
    Lists lists;
    lists.add(AclList::kGrey, "10.0.0.1", kNow + 10);
    lists.add(AclList::kGrey, "10.0.0.2", kNow + 20);
    if (merged) lists.fill_and_merge();
    EXPECT_EQ(lists.writer.expire(kNow + 9, 1000), 0U);
    EXPECT_EQ(lists.writer.expire(kNow + 10, 1000), 1U);
    EXPECT_EQ(lists.table.status().counts[2].prefixes, 1U);
    EXPECT_EQ(lists.writer.expire(kNow + 10, 1000), 0U);
    EXPECT_EQ(lists.verdict("10.0.0.2", kNow + 10), "grey 10.0.0.2");
  }
}

TEST(Lists, CollectInBoundedSteps) {
  Lists lists;
  for (int i = 0; i < 10; ++i) lists.add(AclList::kGrey, "10.0.0." + std::to_string(i), kNow + 1);
  std::size_t gone = 0;
  for (int step = 0; step < 5; ++step) {
    const std::size_t now_gone = lists.writer.expire(kNow + 1, 2);
    EXPECT_LE(now_gone, 2U);
    gone += now_gone;
  }
  EXPECT_EQ(gone, 10U);
}

TEST(Lists, MergeInBoundedSteps) {
  Lists lists(65536, 30000);
  for (int i = 0; i < 20000; ++i) {
    Address address = address_at("10.0.0.0");
    address.bytes[14] = static_cast<std::uint8_t>(i / 256);
    address.bytes[15] = static_cast<std::uint8_t>(i % 256);
    lists.add(ListEntry::of(AclList::kBlack, Prefix{address, kAddressBits}));
  }
  int calls = 0;
  for (; lists.writer.merge_due() && calls < 1'000'000; ++calls) lists.writer.merge(kNow, std::chrono::microseconds(1));
  EXPECT_FALSE(lists.writer.merge_due());
  EXPECT_GT(calls, 10);
  EXPECT_EQ(every_entry(lists.table, kNow).size(), 20000U);
}

TEST(Lists, CarryAllThatIsDoneDuringAMergeIntoTheNextBase) {
  Lists lists;
  for (const char* prefix : {"10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"}) lists.add(AclList::kBlack, prefix);
  lists.fill_and_merge();
  lists.add(AclList::kBlack, "13.0.0.0/8");
  lists.add(AclList::kBlack, "14.0.0.0/8");
  for (int i = 0; !lists.writer.merge_due(); ++i) lists.add(AclList::kWhite, "20.0.0." + std::to_string(i));
  lists.writer.merge(kNow, std::chrono::microseconds(1));
  ASSERT_TRUE(lists.writer.merge_due()) << "the first step was all of it";
  ASSERT_TRUE(lists.writer.remove(AclList::kBlack, prefix_at("10.0.0.0/8"), kNow));
  ASSERT_TRUE(lists.writer.remove(AclList::kBlack, prefix_at("13.0.0.0/8"), kNow));
  lists.add(AclList::kBlack, "11.0.0.0/8", kNow + 5);
  lists.add(AclList::kBlack, "15.0.0.0/8");
  for (int merged = 0; merged < 2; ++merged) {
    EXPECT_EQ(lists.verdict("10.0.0.1"), "nothing");
    EXPECT_EQ(lists.verdict("13.0.0.1"), "nothing");
    EXPECT_EQ(lists.verdict("11.0.0.1"), "black 11.0.0.0/8");
    EXPECT_EQ(lists.verdict("11.0.0.1", kNow + 5), "nothing");
    EXPECT_EQ(lists.verdict("12.0.0.1"), "black 12.0.0.0/8");
    EXPECT_EQ(lists.verdict("14.0.0.1"), "black 14.0.0.0/8");
    EXPECT_EQ(lists.verdict("15.0.0.1"), "black 15.0.0.0/8");
    lists.merge_all();
  }
}

// ----------------------------------------------------------------------------------------------- taking over, bulk

TEST(Lists, AreTakenOverByASuccessor) {
  Lists lists(4096, 5);
  lists.add(AclList::kBlack, "10.0.0.0/8");
  for (int i = 0; i < 5; ++i) lists.add(AclList::kGrey, "11.0.0." + std::to_string(i), kNow + 10 + i);
  lists.fill_and_merge();
  lists.add(ListEntry::of(AclList::kWhite, peer_of(1)));
  const auto before = every_entry(lists.table, kNow);
  const auto counts = lists.table.status().counts;

  lists.writer = ListsWriter::map(lists.fd.get(), {.grey = 5}).value();
  EXPECT_EQ(every_entry(lists.table, kNow), before);
  EXPECT_EQ(lists.table.status().counts, counts);
  const auto added = lists.writer.add(entry_for(AclList::kGrey, "12.0.0.1"), kNow);
  ASSERT_TRUE(added);
  ASSERT_EQ(added->gone.size(), 1U);
  EXPECT_EQ(to_text(added->gone[0].prefix), "11.0.0.0");
}

TEST(Lists, AreRebuiltFromEntries) {
  Lists lists(4096, 3);
  lists.add(AclList::kBlack, "10.0.0.0/8");
  lists.fill_and_merge();
  lists.add(AclList::kBlack, "11.0.0.0/8");
  const std::vector<ListEntry> entries = {
      entry_for(AclList::kBlack, "12.0.0.0/8"),
      entry_for(AclList::kGrey, "13.0.0.1", kNow + 4),
      entry_for(AclList::kGrey, "13.0.0.2", kNow + 3),
      entry_for(AclList::kGrey, "13.0.0.3", kNow + 2),
      entry_for(AclList::kGrey, "13.0.0.4", kNow + 1),
      entry_for(AclList::kGrey, "13.0.0.5", kNow),
      ListEntry::of(AclList::kBlack, Prefix{address_at("1.1.1.1"), 104}),
      entry_for(AclList::kBlack, "12.0.0.0/8", kNow + 9),
      ListEntry::of(AclList::kWhite, peer_of(1)),
  };
  ASSERT_TRUE(lists.writer.rebuild(entries, kNow));
  EXPECT_EQ(every_entry(lists.table, kNow), (std::vector{entries[7], entries[1], entries[2], entries[3], entries[8]}));
  EXPECT_FALSE(lists.writer.merge_due());
  lists.add(AclList::kBlack, "11.0.0.0/8");
  EXPECT_EQ(lists.verdict("11.0.0.1"), "black 11.0.0.0/8");
  EXPECT_EQ(lists.verdict("10.0.0.1"), "nothing");

  ASSERT_TRUE(lists.writer.rebuild({}, kNow));
  EXPECT_TRUE(every_entry(lists.table, kNow).empty());
}

TEST(Lists, AreNotRebuiltFromMoreThanTheyHold) {
  Lists lists(64, 10);
  lists.add(AclList::kBlack, "10.0.0.0/8");
  std::vector<ListEntry> entries;
  for (int i = 0; i < 65; ++i) entries.push_back(entry_for(AclList::kBlack, "11.0.0." + std::to_string(i)));
  EXPECT_FALSE(lists.writer.rebuild(entries, kNow));
  EXPECT_EQ(lists.verdict("10.0.0.1"), "black 10.0.0.0/8");
  entries.pop_back();
  EXPECT_TRUE(lists.writer.rebuild(entries, kNow));
  EXPECT_EQ(every_entry(lists.table, kNow), entries);
}

TEST(Lists, AreWalkedInOrderUntilTheVisitorHasEnough) {
  Lists lists;
  const std::vector expected = {entry_for(AclList::kBlack, "10.0.0.0/8"),   entry_for(AclList::kGrey, "10.0.0.0/8"),
                                entry_for(AclList::kGrey, "10.0.0.0/16"),   entry_for(AclList::kBlack, "::/0"),
                                ListEntry::of(AclList::kWhite, peer_of(1)), ListEntry::of(AclList::kWhite, peer_of(2))};
  for (const int i : {4, 2, 0}) lists.add(expected[static_cast<std::size_t>(i)]);
  while (!lists.writer.merge_due()) {
    lists.add(AclList::kWhite, "9.9.9.9", kNow + 1 + static_cast<std::int64_t>(lists.table.status().revision));
  }
  lists.merge_all();
  ASSERT_TRUE(lists.writer.remove(AclList::kWhite, prefix_at("9.9.9.9"), kNow));
  for (const int i : {5, 3, 1}) lists.add(expected[static_cast<std::size_t>(i)]);
  EXPECT_EQ(every_entry(lists.table, kNow), expected);
  int visited = 0;
  lists.table.for_each(kNow, [&](const ListEntry&) { return ++visited < 3; });
  EXPECT_EQ(visited, 3);
}

TEST(Lists, KeepTheirPartsApartWhateverTheSizesOfThem) {
  // Blocks have 16 rows: parts that are empty, end with a block, one before it and one behind it.
  for (const std::size_t ipv4 : {0U, 1U, 15U, 16U, 17U}) {
    for (const std::size_t ipv6 : {0U, 1U, 15U, 16U, 17U, 300U}) {
      for (const std::size_t peers : {0U, 1U, 16U, 17U}) {
        SCOPED_TRACE(testing::Message() << ipv4 << " IPv4, " << ipv6 << " IPv6, " << peers << " peers");
        Lists lists;
        std::vector<ListEntry> expected;
        for (std::size_t i = 0; i < ipv4; ++i) {
          Address address = address_at("10.0.0.0");
          address.bytes[15] = static_cast<std::uint8_t>(2 * i);
          expected.push_back(ListEntry::of(AclList::kGrey, Prefix{address}));
        }
        for (std::size_t i = 0; i < ipv6; ++i) {
          // All alike in their first 64 bits.
          Address address = address_at("2001:db8::");
          address.bytes[14] = static_cast<std::uint8_t>(i >> 7U);
          address.bytes[15] = static_cast<std::uint8_t>(2 * i);
          expected.push_back(ListEntry::of(AclList::kBlack, Prefix{address}));
        }
        for (std::size_t i = 0; i < peers; ++i) {
          expected.push_back(ListEntry::of(AclList::kWhite, peer_of(static_cast<std::uint8_t>(2 * i))));
        }
        // What stood in these rows before is no entry.
        std::vector<ListEntry> others;
        for (std::uint8_t i = 0; i < 100; ++i) others.push_back(ListEntry::of(AclList::kWhite, peer_of(i)));
        for (int base = 0; base < 2; ++base) ASSERT_TRUE(lists.writer.rebuild(others, kNow));
        ASSERT_TRUE(lists.writer.rebuild(expected, kNow));
        EXPECT_EQ(every_entry(lists.table, kNow), expected);
        for (const ListEntry& entry : expected) {
          const Verdict verdict =
              entry.is_peer ? lists.table.look_up(entry.peer, kNow) : lists.table.look_up(entry.prefix.address, kNow);
          EXPECT_EQ(verdict.list, entry.list);
          Address next = entry.prefix.address;
          ++next.bytes[15];
          if (!entry.is_peer) {
            EXPECT_FALSE(lists.table.look_up(next, kNow).list) << to_text(next);
          }
        }
        for (const char* text : {"0.0.0.0", "9.255.255.255", "255.255.255.255", "::", "2001:db7::", "ffff::"}) {
          EXPECT_FALSE(lists.table.look_up(address_at(text), kNow).list) << text;
        }
        auto successor = ListsWriter::map(lists.fd.get());
        ASSERT_TRUE(successor);
        EXPECT_EQ(every_entry(successor->table(), kNow), expected);
      }
    }
  }
}

TEST(Lists, RaiseTheRevisionWithEachChange) {
  Lists lists;
  auto last = lists.table.status().revision;
  const auto raised = [&] {
    const auto now = lists.table.status().revision;
    return std::exchange(last, now) != now;
  };
  lists.add(AclList::kBlack, "10.0.0.0/8");
  EXPECT_TRUE(raised());
  lists.add(AclList::kBlack, "10.0.0.0/8");
  EXPECT_FALSE(raised()) << "nothing changed";
  lists.writer.remove(AclList::kBlack, prefix_at("10.0.0.0/8"), kNow);
  EXPECT_TRUE(raised());
  lists.writer.clear(AclList::kBlack, kNow);
  EXPECT_TRUE(raised());
}

// ------------------------------------------------------------------------------------------------- texts, mapping

TEST(ListEntry, CutsItsTextAtACharacter) {
  ListEntry entry;
  entry.set_text(std::string(46, 'a') + "\xc3\xa4\xc3\xa4");
  EXPECT_EQ(entry.words(), std::string(46, 'a'));
  entry.set_text(std::string(45, 'a') + "\xc3\xa4\xc3\xa4");
  EXPECT_EQ(entry.words(), std::string(45, 'a') + "\xc3\xa4");
  entry.set_text(
      "a\nb\x7f"
      "c");
  EXPECT_EQ(entry.words(), "a?b?c");
  entry.set_text("");
  EXPECT_EQ(entry.words(), "");
  EXPECT_EQ(entry, ListEntry{});
}

TEST(ListsTable, RefusesACapacityOutOfBounds) {
  EXPECT_FALSE(ListsTable::make(kMinimumListCapacity - 1));
  EXPECT_TRUE(ListsTable::make(kMinimumListCapacity));
  EXPECT_TRUE(ListsTable::make(kMaximumListCapacity));
  EXPECT_FALSE(ListsTable::make(kMaximumListCapacity + 1));
}

TEST(ListsTable, RefusesAGeometryThatIsNotItsSegments) {
  const auto fd = ListsTable::make(4096).value();
  const auto poke = [&](std::size_t offset, std::uint32_t value) {
    auto page = Mapping::map(fd.get(), Access::kReadWrite, 0, kPageBytes).value();
    std::uint32_t before = 0;
    std::memcpy(&before, page.data() + offset, sizeof before);
    std::memcpy(page.data() + offset, &value, sizeof value);
    return before;
  };
  const std::size_t rows = offsetof(TableHeader, rows);
  ASSERT_TRUE(ListsTable::map(fd.get()));
  for (const auto& [offset, wrong] :
       std::vector<std::pair<std::size_t, std::uint32_t>>{{rows, 4097},
                                                          {rows, 2048},
                                                          {rows, 0},
                                                          {rows, 0xffffffff},
                                                          {rows, 8192},
                                                          {rows + 4, 64},
                                                          {rows + 4, 0},
                                                          {offsetof(TableHeader, kind), 2},
                                                          {offsetof(TableHeader, version), 99},
                                                          {0, 1}}) {
    const std::uint32_t right = poke(offset, wrong);
    EXPECT_FALSE(ListsTable::map(fd.get())) << offset << " " << wrong;
    EXPECT_FALSE(ListsWriter::map(fd.get())) << offset << " " << wrong;
    poke(offset, right);
  }
  EXPECT_TRUE(ListsTable::map(fd.get()));
}

TEST(ListsTable, RefusesASegmentThatIsNotSealed) {
  const auto sealed = ListsTable::make(64).value();
  const auto size = segment_size(sealed.get()).value();
  const auto copy = make_segment("copy", size).value();
  auto from = Mapping::map(sealed.get(), Access::kReadOnly, 0, kPageBytes).value();
  auto to = Mapping::map(copy.get(), Access::kReadWrite, 0, kPageBytes).value();
  std::memcpy(to.data(), from.data(), kPageBytes);
  EXPECT_FALSE(ListsTable::map(copy.get()));
}

TEST(ListsTable, CannotBeWrittenThroughAReadOnlyDescriptor) {
  const auto fd = ListsTable::make(64).value();
  EXPECT_FALSE(ListsWriter::map(reopen_read_only(fd.get()).value().get()));
}

}  // namespace
}  // namespace bulkhead::shm
