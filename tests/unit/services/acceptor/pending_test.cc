#include "services/acceptor/pending.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <tuple>
#include <vector>

#include "base/address.h"

namespace bulkhead::acceptor {
namespace {

constexpr std::size_t kNoLimit = 1000;

Address address(const char* text) {
  return parse_address(text).value();
}

PendingLimits only_total(std::size_t total) {
  return {.total = total, .trusted_reserve = 0, .per_address = kNoLimit, .per_prefix = kNoLimit};
}

const Address kNewcomer = address("203.0.113.1");

std::optional<std::uint64_t> victim(const PendingTable& table, const Address& newcomer = kNewcomer) {
  return table.room_for(newcomer, false).victim;
}

TEST(Neighbourhood, IsTheFirst24BitsOfAnIpv4AddressAnd56OfAnIpv6One) {
  EXPECT_EQ(neighbourhood(address("198.51.100.7")), neighbourhood(address("198.51.100.250")));
  EXPECT_NE(neighbourhood(address("198.51.100.7")), neighbourhood(address("198.51.101.7")));
  EXPECT_EQ(neighbourhood(address("2001:db8:1:2200::1")), neighbourhood(address("2001:db8:1:22ff:ffff::9")));
  EXPECT_NE(neighbourhood(address("2001:db8:1:2200::1")), neighbourhood(address("2001:db8:1:2300::1")));
}

TEST(Neighbourhood, IsTheWholeAddressForLoopback) {
  EXPECT_TRUE(is_single(neighbourhood(address("127.0.0.1"))));
  EXPECT_NE(neighbourhood(address("127.0.0.1")), neighbourhood(address("127.0.0.2")));
  EXPECT_TRUE(is_single(neighbourhood(address("::1"))));
}

TEST(PendingTable, NamesNobodyWhileThereIsRoom) {
  PendingTable table(only_total(2));
  EXPECT_EQ(victim(table), std::nullopt);
  table.add(1, address("10.0.0.1"), false, 100);
  EXPECT_EQ(victim(table), std::nullopt);
  table.add(2, address("10.0.0.1"), false, 200);
  EXPECT_TRUE(victim(table));
  EXPECT_EQ(table.room_for(kNewcomer, false).reason, Reason::kPendingLimit);
}

TEST(PendingTable, NamesTheOldestSilentOneOfTheBusiestPrefix) {
  PendingTable table(only_total(4));
  table.add(1, address("10.0.0.1"), false, 100);
  table.add(2, address("10.0.1.1"), false, 200);
  table.add(3, address("10.0.1.2"), false, 300);
  table.add(4, address("10.0.1.3"), false, 400);
  EXPECT_EQ(victim(table), 2U);
  table.spoke(2);
  EXPECT_EQ(victim(table), 3U);
}

TEST(PendingTable, NamesTheOldestOfThePrefixWhenNoneOfItIsSilent) {
  PendingTable table(only_total(3));
  table.add(1, address("10.0.0.1"), false, 100);
  table.add(2, address("10.0.1.1"), false, 200);
  table.add(3, address("10.0.1.2"), false, 300);
  table.spoke(2);
  table.spoke(3);
  EXPECT_EQ(victim(table), 2U);
}

// With a prefix chosen by its number, whoever holds the higher ones would make all others turn each other out.
TEST(PendingTable, NamesTheOldestWhenPrefixesAreEquallyBusyWhateverTheirNumbers) {
  PendingTable table(only_total(3));
  table.add(1, address("2001:db8:1::1"), false, 100);
  table.add(2, address("2001:db8:2::1"), false, 200);
  table.add(3, address("198.51.100.1"), false, 300);
  EXPECT_EQ(victim(table), 1U);
  table.remove(1);
  table.add(4, address("192.0.2.1"), false, 400);
  EXPECT_EQ(victim(table), 2U);
}

TEST(PendingTable, SparesOfEquallyBusyPrefixesThoseThatSpoke) {
  PendingTable table(only_total(2));
  table.add(1, address("10.0.0.1"), false, 100);
  table.add(2, address("10.0.1.1"), false, 200);
  table.spoke(1);
  EXPECT_EQ(victim(table), 2U);
}

TEST(PendingTable, MakesRoomWithinAnAddressThatIsAtItsLimit) {
  PendingTable table({.total = kNoLimit, .trusted_reserve = 0, .per_address = 2, .per_prefix = kNoLimit});
  table.add(1, address("10.0.0.1"), false, 100);
  table.add(2, address("10.0.0.1"), false, 200);
  EXPECT_EQ(victim(table, address("10.0.0.2")), std::nullopt);
  EXPECT_EQ(victim(table, address("10.0.0.1")), 1U);
  EXPECT_EQ(table.room_for(address("10.0.0.1"), false).reason, Reason::kAddressPendingLimit);
  table.spoke(1);
  EXPECT_EQ(victim(table, address("10.0.0.1")), 2U) << "the silent one goes";
}

TEST(PendingTable, MakesRoomWithinAPrefixThatIsAtItsLimit) {
  PendingTable table({.total = kNoLimit, .trusted_reserve = 0, .per_address = kNoLimit, .per_prefix = 2});
  table.add(1, address("2001:db8:0:100::1"), false, 100);
  table.add(2, address("2001:db8:0:1ff::2"), false, 200);
  EXPECT_EQ(victim(table, address("2001:db8:0:200::1")), std::nullopt);
  EXPECT_EQ(victim(table, address("2001:db8:0:180::1")), 1U);
  EXPECT_EQ(table.room_for(address("2001:db8:0:180::1"), false).reason, Reason::kPrefixPendingLimit);
}

TEST(PendingTable, DoesNotTakeLoopbackForAPrefix) {
  PendingTable table({.total = kNoLimit, .trusted_reserve = 0, .per_address = 3, .per_prefix = 2});
  table.add(1, address("127.0.0.1"), false, 100);
  table.add(2, address("127.0.0.1"), false, 200);
  EXPECT_EQ(victim(table, address("127.0.0.1")), std::nullopt);
}

TEST(PendingTable, KeepsTheReserveForTrustedOnes) {
  PendingTable table({.total = 4, .trusted_reserve = 2, .per_address = kNoLimit, .per_prefix = kNoLimit});
  table.add(1, address("10.0.0.1"), false, 100);
  table.add(2, address("10.0.1.1"), false, 200);
  EXPECT_EQ(victim(table), 1U) << "two places are not for strangers";
  EXPECT_EQ(table.room_for(kNewcomer, true).victim, std::nullopt);
  table.add(3, address("10.0.2.1"), true, 300);
  table.add(4, address("10.0.2.1"), true, 400);
  EXPECT_EQ(table.room_for(kNewcomer, true).victim, 1U) << "beyond the reserve they take a stranger's place";
  EXPECT_EQ(victim(table), 1U);
}

TEST(PendingTable, NeverNamesATrustedOne) {
  PendingTable table({.total = 2, .trusted_reserve = 1, .per_address = 1, .per_prefix = 1});
  table.add(1, address("10.0.0.1"), true, 100);
  table.add(2, address("10.0.0.1"), true, 200);
  for (const bool trusted : {false, true}) {
    const auto room = table.room_for(address("10.0.0.1"), trusted);
    EXPECT_FALSE(room.here);
    EXPECT_EQ(room.victim, std::nullopt);
    EXPECT_EQ(room.reason, Reason::kPendingLimit);
  }
  table.remove(1);
  EXPECT_TRUE(table.room_for(address("10.0.0.1"), true).here);
}

TEST(PendingTable, KnowsWhoseDeadlineComesFirst) {
  PendingTable table(only_total(9));
  EXPECT_EQ(table.earliest(), std::nullopt);
  table.add(5, address("10.0.0.1"), false, 500);
  table.add(6, address("10.0.0.1"), true, 600);
  EXPECT_EQ(table.earliest(), std::pair(std::uint64_t{5}, Nanoseconds{500}));
  table.remove(5);
  EXPECT_EQ(table.earliest(), std::pair(std::uint64_t{6}, Nanoseconds{600}));
}

TEST(PendingTable, IgnoresIdsThatItDoesNotHold) {
  PendingTable table(only_total(1));
  table.add(1, address("10.0.0.1"), false, 100);
  table.remove(7);
  table.spoke(7);
  EXPECT_EQ(table.size(), 1U);
  table.remove(1);
  table.remove(1);
  EXPECT_EQ(table.size(), 0U);
}

/// The same rules over a plain list: slow, and plain to see.
class PlainTable {
 public:
  explicit PlainTable(PendingLimits limits) : limits_(limits) {}

  struct Entry {
    std::uint64_t id;
    Address address;
    bool trusted;
    bool silent;
  };

  PendingTable::Room room_for(const Address& from, bool trusted) const {
    const auto same_address = [&](const Entry& entry) { return entry.address == from; };
    const auto same_prefix = [&](const Entry& entry) { return contains(neighbourhood(from), entry.address); };
    if (!trusted && count(same_address) >= limits_.per_address)
      return {true, oldest(same_address), Reason::kAddressPendingLimit};
    if (!trusted && !is_loopback(from) && count(same_prefix) >= limits_.per_prefix)
      return {true, oldest(same_prefix), Reason::kPrefixPendingLimit};
    const std::size_t strangers = count([](const Entry&) { return true; });
    const std::size_t trusted_ones = entries.size() - strangers;
    const bool room = trusted ? entries.size() < limits_.total
                              : strangers + std::max(trusted_ones, limits_.trusted_reserve) < limits_.total;
    if (room) return {};
    const Entry* best = nullptr;
    for (const auto& entry : entries) {
      if (!entry.trusted && (best == nullptr || rank(entry) > rank(*best))) best = &entry;
    }
    if (best == nullptr) return {false, std::nullopt, Reason::kPendingLimit};
    return {true, best->id, Reason::kPendingLimit};
  }

  std::vector<Entry> entries;

 private:
  template <typename Matches>
  std::size_t count(Matches matches) const {
    return static_cast<std::size_t>(std::count_if(
        entries.begin(), entries.end(), [&](const Entry& entry) { return !entry.trusted && matches(entry); }));
  }

  template <typename Matches>
  std::uint64_t oldest(Matches matches) const {
    for (const bool silent : {true, false}) {
      for (const auto& entry : entries) {
        if (!entry.trusted && matches(entry) && entry.silent == silent) return entry.id;
      }
    }
    return 0;
  }

  std::tuple<std::size_t, bool, std::uint64_t> rank(const Entry& entry) const {
    const auto crowd =
        count([&](const Entry& other) { return neighbourhood(other.address) == neighbourhood(entry.address); });
    return {crowd, entry.silent, ~entry.id};
  }

  PendingLimits limits_;
};

TEST(PendingTable, AgreesWithAPlainListOverManyRandomOperations) {
  constexpr std::uint64_t kSeed = 1;
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  std::mt19937_64 random(kSeed);
  constexpr PendingLimits kLimits{.total = 24, .trusted_reserve = 5, .per_address = 4, .per_prefix = 7};
  PlainTable plain(kLimits);
  PendingTable table(kLimits);
  const char* const bases[] = {"10.0.0.1", "127.0.0.1", "2001:db8::1"};
  for (std::uint64_t id = 1; id <= 5000; ++id) {
    Address from = address(bases[random() % 3]);
    from.bytes[14] = static_cast<std::uint8_t>(random() % 5);
    from.bytes[15] = static_cast<std::uint8_t>(1 + random() % 3);
    const bool trusted = random() % 8 == 0;
    const auto room = table.room_for(from, trusted);
    const auto expected = plain.room_for(from, trusted);
    ASSERT_EQ(room.here, expected.here) << id;
    ASSERT_EQ(room.reason, expected.reason) << id;
    ASSERT_EQ(room.victim, expected.victim) << id;
    if (room.victim) {
      table.remove(*room.victim);
      std::erase_if(plain.entries, [&](const auto& entry) { return entry.id == *room.victim; });
    }
    if (room.here) {
      table.add(id, from, trusted, id * 10);
      plain.entries.push_back({id, from, trusted, true});
    }
    if (plain.entries.empty()) continue;
    if (random() % 2 == 0) {
      auto& entry = plain.entries[random() % plain.entries.size()];
      entry.silent = false;
      table.spoke(entry.id);
    }
    if (random() % 4 == 0) {
      const auto gone = plain.entries.begin() + static_cast<std::ptrdiff_t>(random() % plain.entries.size());
      table.remove(gone->id);
      plain.entries.erase(gone);
    }
    ASSERT_EQ(table.size(), plain.entries.size());
    ASSERT_LE(table.size(), kLimits.total);
    if (plain.entries.empty()) continue;
    const auto& first = plain.entries.front();
    ASSERT_EQ(table.earliest(), std::pair(first.id, first.id * 10));
  }
}

}  // namespace
}  // namespace bulkhead::acceptor
