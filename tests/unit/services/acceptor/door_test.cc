#include "services/acceptor/door.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <set>

#include "base/address.h"

namespace bulkhead::acceptor {
namespace {

constexpr Nanoseconds kStart = 1000 * kSecond;
constexpr DoorKeys kKeys{11, 12};

Address address(const std::string& text) {
  return parse_address(text).value();
}

shm::Verdict listed(shm::AclList list) {
  shm::Verdict verdict;
  verdict.list = list;
  return verdict;
}

const shm::Verdict kUnlisted;
const shm::Verdict kBlack = listed(shm::AclList::kBlack);
const shm::Verdict kGrey = listed(shm::AclList::kGrey);
const shm::Verdict kWhite = listed(shm::AclList::kWhite);

DoorLimits small() {
  return {.accept_rate_address = 1,
          .accept_burst_address = 3,
          .accept_rate_prefix = 2,
          .accept_burst_prefix = 5,
          .pending_per_address = 100,
          .pending_per_prefix = 100,
          .pending_limit = 200,
          .trusted_reserve = 10};
}

/// A door at which connections knock that leave at once, or stay.
class Visitors {
 public:
  explicit Visitors(const DoorLimits& limits) : door(limits, kKeys) {}

  Door::Answer stay(const std::string& from, const shm::Verdict& verdict = kUnlisted, Nanoseconds now = kStart) {
    return door.knock(next_++, address(from), verdict, now + 5 * kSecond, now);
  }
  Reason pass(const std::string& from, const shm::Verdict& verdict = kUnlisted, Nanoseconds now = kStart) {
    const auto answer = stay(from, verdict, now);
    door.leave(next_ - 1);
    return answer.refused;
  }
  std::uint64_t last() const { return next_ - 1; }

  Door door;

 private:
  std::uint64_t next_ = 1;
};

TEST(Door, LetsAStrangerIn) {
  Visitors visitors(DoorLimits{});
  EXPECT_EQ(visitors.stay("198.51.100.1").refused, Reason::kNone);
  EXPECT_EQ(visitors.door.pending().size(), 1U);
}

TEST(Door, RefusesWhoIsBlackOrGreyEachWithItsReason) {
  Visitors visitors(DoorLimits{});
  EXPECT_EQ(visitors.stay("198.51.100.1", kBlack).refused, Reason::kBanned);
  EXPECT_EQ(visitors.stay("198.51.100.1", kGrey).refused, Reason::kGreylisted);
  EXPECT_EQ(visitors.door.pending().size(), 0U);
}

TEST(Door, AsksTheListsBeforeItCountsAnything) {
  Visitors visitors(small());
  for (int i = 0; i < 50; ++i) EXPECT_EQ(visitors.pass("198.51.100.1", kBlack), Reason::kBanned);
  EXPECT_EQ(visitors.pass("198.51.100.1"), Reason::kNone);
}

TEST(Door, BoundsTheRateOfAnAddressThenThatOfItsPrefix) {
  Visitors visitors(small());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(visitors.pass("198.51.100.1"), Reason::kNone);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(visitors.pass("198.51.100.1"), Reason::kAddressRate);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(visitors.pass("198.51.100.2"), Reason::kNone) << "refusals cost nothing";
  EXPECT_EQ(visitors.pass("198.51.100.2"), Reason::kPrefixRate);
  EXPECT_EQ(visitors.pass("198.51.101.1"), Reason::kNone) << "another prefix";
  EXPECT_EQ(visitors.pass("198.51.100.1", kUnlisted, kStart + kSecond), Reason::kNone);
}

TEST(Door, TakesAnIpv6NeighbourhoodAsOnePrefixAndAMappedAddressAsIpv4) {
  Visitors visitors(small());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(visitors.pass("2001:db8:0:100::" + std::to_string(i + 1)), Reason::kNone);
  EXPECT_EQ(visitors.pass("2001:db8:0:1ff::1"), Reason::kPrefixRate);
  EXPECT_EQ(visitors.pass("2001:db8:0:200::1"), Reason::kNone);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(visitors.pass("::ffff:192.0.2." + std::to_string(i + 1)), Reason::kNone);
  EXPECT_EQ(visitors.pass("192.0.2.77"), Reason::kPrefixRate);
}

TEST(Door, CountsLoopbackAddressesSingly) {
  Visitors visitors(small());
  for (int i = 1; i < 200; ++i) EXPECT_EQ(visitors.pass("127.0.0." + std::to_string(i)), Reason::kNone);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(visitors.pass("127.0.0.1"), Reason::kNone);
  EXPECT_EQ(visitors.pass("127.0.0.1"), Reason::kAddressRate);
}

TEST(Door, AsksATrustedAddressForNoRate) {
  Visitors visitors(small());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(visitors.pass("198.51.100.1", kWhite), Reason::kNone);
  EXPECT_EQ(visitors.pass("198.51.100.1"), Reason::kNone) << "nor does it use up anybody's";
}

TEST(Door, BoundsThoseAtOnceAndSaysWhoGoes) {
  DoorLimits limits = small();
  limits.pending_per_address = 2;
  limits.pending_per_prefix = 3;
  Visitors visitors(limits);
  visitors.stay("198.51.100.1");
  visitors.stay("198.51.100.1");
  auto answer = visitors.stay("198.51.100.1");
  EXPECT_EQ(answer.refused, Reason::kNone);
  EXPECT_EQ(answer.victim, 1U);
  EXPECT_EQ(answer.victim_reason, Reason::kAddressPendingLimit);
  EXPECT_EQ(visitors.door.pending().size(), 2U);
  visitors.stay("198.51.100.2");
  answer = visitors.stay("198.51.100.2");
  EXPECT_EQ(answer.victim, 2U);
  EXPECT_EQ(answer.victim_reason, Reason::kPrefixPendingLimit);
  EXPECT_EQ(visitors.door.pending().size(), 3U);
}

TEST(Door, HasAPlaceForATrustedOneHoweverManyStrangersCome) {
  DoorLimits limits;
  limits.pending_limit = 100;
  limits.trusted_reserve = 10;
  Visitors visitors(limits);
  for (int i = 0; i < 400; ++i) visitors.stay("10." + std::to_string(i / 200) + "." + std::to_string(i % 200) + ".1");
  EXPECT_EQ(visitors.door.pending().size(), 90U);
  std::set<std::uint64_t> trusted;
  for (int i = 0; i < 10; ++i) {
    const auto answer = visitors.stay("192.0.2.1", kWhite);
    EXPECT_EQ(answer.refused, Reason::kNone);
    EXPECT_EQ(answer.victim, std::nullopt);
    trusted.insert(visitors.last());
  }
  for (int i = 0; i < 400; ++i) {
    const auto answer = visitors.stay("11." + std::to_string(i / 200) + "." + std::to_string(i % 200) + ".1");
    ASSERT_TRUE(answer.victim);
    ASSERT_FALSE(trusted.contains(*answer.victim));
  }
}

TEST(Door, HoldsAPrefixAlsoWhenItsAddressesOverflowTheMemoryOfAddresses) {
  DoorLimits limits;
  limits.accept_burst_prefix = 500;
  limits.accept_rate_prefix = 1;
  Visitors visitors(limits);
  Address from = address("2001:db8::");
  int in = 0;
  for (std::uint32_t i = 0; i < 3 * kRememberedAddresses; ++i) {
    for (std::size_t byte = 0; byte < 4; ++byte)
      from.bytes[12 + byte] = static_cast<std::uint8_t>(i >> (24 - 8 * byte));
    if (visitors.door.knock(i, from, kUnlisted, kStart, kStart).refused == Reason::kNone) ++in;
    visitors.door.leave(i);
  }
  EXPECT_EQ(in, 500);
}

// The defaults are meant for these; they are what docs/operating.md says.
TEST(DoorDefaults, SuitAHouseholdWhoseNodesComeBackAtOnce) {
  Visitors visitors(DoorLimits{});
  for (int i = 0; i < 100; ++i) EXPECT_EQ(visitors.pass("198.51.100.1"), Reason::kNone);
  Nanoseconds now = kStart;
  for (int second = 0; second < 600; ++second) {
    now += kSecond;
    for (int i = 0; i < 10; ++i) ASSERT_EQ(visitors.pass("198.51.100.1", kUnlisted, now), Reason::kNone);
  }
}

TEST(DoorDefaults, SuitADataCentreOfHundredsOfNodes) {
  Visitors visitors(DoorLimits{});
  for (int round = 0; round < 5; ++round) {
    for (int host = 0; host < 256; ++host)
      ASSERT_EQ(visitors.pass("198.51.100." + std::to_string(host)), Reason::kNone);
  }
}

TEST(DoorDefaults, BoundWhatOneAddressMayCost) {
  Visitors visitors(DoorLimits{});
  int in = 0;
  for (int ms = 0; ms < 10'000; ++ms) {
    for (int i = 0; i < 10; ++i) {
      const auto now = kStart + static_cast<Nanoseconds>(ms) * kMillisecond;
      if (visitors.pass("198.51.100.1", kUnlisted, now) == Reason::kNone) ++in;
    }
  }
  EXPECT_GE(in, 200);
  EXPECT_LE(in, 200 + 10 * 20);
}

TEST(Door, KeepsItsBoundsOverManyRandomKnocks) {
  constexpr std::uint64_t kSeed = 3;
  std::printf("seed %llu\n", static_cast<unsigned long long>(kSeed));
  std::mt19937_64 random(kSeed);
  DoorLimits limits = small();
  limits.accept_rate_prefix = 1000;
  limits.accept_burst_prefix = 1000;
  limits.pending_per_address = 6;
  limits.pending_limit = 40;
  Door door(limits, {random(), random()});
  std::map<std::uint64_t, std::pair<Address, bool>> inside;
  Nanoseconds now = kStart;
  for (std::uint64_t id = 1; id <= 5000; ++id) {
    now += random() % (100 * kMillisecond);
    Address from = address("127.0.0.1");
    from.bytes[15] = static_cast<std::uint8_t>(1 + random() % 20);
    const shm::Verdict& verdict = from.bytes[15] == 1 ? kBlack : from.bytes[15] == 2 ? kWhite : kUnlisted;
    const auto answer = door.knock(id, from, verdict, now + kSecond, now);
    if (answer.victim) {
      ASSERT_TRUE(inside.contains(*answer.victim));
      ASSERT_FALSE(inside.at(*answer.victim).second) << "a trusted one went";
      inside.erase(*answer.victim);
    }
    ASSERT_EQ(answer.refused == Reason::kBanned, verdict == kBlack);
    if (verdict.trusted()) {
      ASSERT_TRUE(answer.refused == Reason::kNone || answer.refused == Reason::kPendingLimit);
    }
    if (answer.refused == Reason::kNone) inside[id] = {from, verdict.trusted()};
    if (!inside.empty() && random() % 3 == 0) {
      const auto gone = std::next(inside.begin(), static_cast<std::ptrdiff_t>(random() % inside.size()));
      door.leave(gone->first);
      inside.erase(gone);
    }
    ASSERT_EQ(door.pending().size(), inside.size());
    ASSERT_LE(inside.size(), limits.pending_limit);
    ASSERT_LE(std::count_if(inside.begin(), inside.end(),
                            [&](const auto& entry) { return entry.second.first == from && !entry.second.second; }),
              6);
  }
}

}  // namespace
}  // namespace bulkhead::acceptor
