#include "tests/unit/shm/lists_model.h"

#include <gtest/gtest.h>

#include <random>

namespace bulkhead::shm {
namespace {

constexpr std::int64_t kStart = 1'000'000;

struct Setting {
  std::uint64_t seed;
  std::uint32_t capacity;
  std::uint32_t grey_limit;
  std::uint32_t lifetime_ms;
  int rounds;
};

/// Does the same to the lists and to the model, and compares.
class Comparison {
 public:
  explicit Comparison(const Setting& setting)
      : random_(setting.seed), limit_(setting.grey_limit), lifetime_ms_(setting.lifetime_ms) {
    fd_ = ListsTable::make(setting.capacity).value();
    take_over();
    table_.emplace(ListsTable::map(fd_.get()).value());
  }

  void change() {
    switch (pick(20)) {
      case 0:
      case 1:
      case 2:
        return remove();
      case 3:
        return pass_time();
      case 4:
        writer_->expire(now_, 1 + pick(40));
        return;
      case 5:
        return pick(100) == 0 ? clear() : pass_time();
      case 6:
        return pick(5) == 0 ? take_over() : add();
      case 7:
        if (pick(20) == 0) return rebuild();
        return pick(20) == 0 ? add_neighbours() : add();
      case 8:
      case 9:
        return writer_->merge(now_, std::chrono::microseconds(pick(30)));
      default:
        return add();
    }
  }

  void compare() {
    const Address address = some_address();
    const PeerId peer = some_peer();
    ASSERT_EQ(table_->look_up(address, now_), model_.look_up(address, now_));
    ASSERT_EQ(table_->look_up(peer, now_), model_.look_up(peer, now_));
    ASSERT_EQ(table_->match_all(address, now_), model_.match_all(address, now_));
    ASSERT_EQ(table_->match_all(peer, now_), model_.match_all(peer, now_));
    const Prefix prefix = some_prefix();
    const AclList list = some_list();
    ASSERT_EQ(table_->covering(list, prefix, now_), model_.covering(list, prefix, now_));
    ASSERT_EQ(table_->find(list, prefix, now_), model_.find(ListEntry::of(list, prefix), now_));
    ASSERT_EQ(table_->find(list, peer, now_), model_.find(ListEntry::of(list, peer), now_));
  }

  /// More at once than go down the tree side by side, of both families.
  void compare_together() {
    std::vector<Address> addresses;
    for (std::size_t i = pick(40); i > 0; --i) addresses.push_back(some_address());
    std::vector<Verdict> verdicts(addresses.size());
    table_->look_up(addresses, now_, verdicts);
    for (std::size_t i = 0; i < addresses.size(); ++i) {
      ASSERT_EQ(verdicts[i], model_.look_up(addresses[i], now_)) << i << " of " << addresses.size();
    }
  }

  void compare_all() {
    compare_together();
    ASSERT_EQ(every_entry(*table_, now_), model_.sorted(now_));
    while (writer_->expire(now_, 100'000) != 0) {
    }
    writer_->expire(now_, 100'000);
    model_.expire(now_);
    const auto status = table_->status();
    std::array<ListCounts, kAclLists> expected{};
    for (const ListEntry& entry : model_.entries) {
      auto& counts = expected[static_cast<std::size_t>(entry.list)];
      ++(entry.is_peer ? counts.peers : counts.prefixes);
    }
    ASSERT_EQ(status.counts, expected);
  }

 private:
  std::uint32_t pick(std::size_t below) { return static_cast<std::uint32_t>(random_() % below); }
  AclList some_list() { return static_cast<AclList>(pick(4) == 0 ? pick(3) : 2); }

  /// Few enough that entries meet, nest and come again.
  Address some_address() {
    Address address = address_at(pick(2) == 0 ? "10.0.0.0" : "2001:db8::");
    const bool ipv4 = is_ipv4(address);
    for (std::size_t i = ipv4 ? 13 : 5; i < 16; ++i) {
      if (pick(3) == 0) address.bytes[i] = static_cast<std::uint8_t>(pick(2) == 0 ? pick(4) : 1U << pick(8));
    }
    if (!ipv4 && pick(2) == 0) {
      address = address_at("2001:db8::");
      address.bytes[7] = static_cast<std::uint8_t>(pick(100));
    }
    if (pick(50) == 0) address.bytes.fill(pick(2) == 0 ? 0 : 0xff);
    return address;
  }

  Prefix some_prefix() {
    const Address address = some_address();
    if (!is_ipv4(address) && pick(2) == 0) return prefix_of(address, pick(200) == 0 ? 56 : 64);
    const std::uint32_t length = is_ipv4(address) ? kMappedBits + pick(33) : pick(129);
    return prefix_of(address, static_cast<std::uint8_t>(length));
  }

  PeerId some_peer() {
    PeerId peer{};
    peer.front() = static_cast<std::uint8_t>(pick(40));
    peer.back() = static_cast<std::uint8_t>(pick(2));
    return peer;
  }

  ListEntry some_entry() {
    ListEntry entry =
        pick(5) == 0 ? ListEntry::of(some_list(), some_peer()) : ListEntry::of(some_list(), some_prefix());
    entry.by = static_cast<SetBy>(pick(kSetByCount));
    entry.reason = static_cast<Reason>(pick(kReasonCount));
    entry.since_ms = now_;
    if (pick(8) != 0) entry.until_ms = now_ + 1 + pick(lifetime_ms_);
    if (pick(3) == 0) entry.set_text("text " + std::to_string(random_()));
    return entry;
  }

  /// Those that are over and were not met yet included.
  std::size_t greys_held() const {
    const ListCounts counts = table_->status().counts[static_cast<std::size_t>(AclList::kGrey)];
    return counts.prefixes + counts.peers;
  }

  /// What the rule makes of a new entry: itself, or a /56.
  ListEntry with_aggregate(ListEntry entry, std::vector<ListEntry>& parts) const {
    const bool counts = entry.list == AclList::kGrey && !entry.is_peer && entry.prefix.length == 64 &&
                        !is_ipv4(entry.prefix) && !contains(prefix_of(entry.prefix.address, 56), address_at("::1"));
    if (!counts) return entry;
    ListEntry whole = entry;
    whole.prefix = prefix_of(entry.prefix.address, 56);
    const auto later = [](std::int64_t a, std::int64_t b) { return a == 0 || b == 0 ? 0 : std::max(a, b); };
    if (const auto standing = model_.find(whole, now_)) {
      whole.since_ms = standing->since_ms;
      whole.until_ms = later(whole.until_ms, standing->until_ms);
      return whole;
    }
    parts = model_.all(now_, [&](const ListEntry& e) {
      return e.list == AclList::kGrey && !e.is_peer && e.prefix.length == 64 && contains(whole.prefix, e.prefix);
    });
    const bool is_new = !model_.find(entry, now_);
    if (parts.size() + (is_new ? 1 : 0) <= 64) {
      parts.clear();
      return entry;
    }
    for (const ListEntry& part : parts) {
      if (!same_target(part, entry)) whole.until_ms = later(whole.until_ms, part.until_ms);
    }
    return whole;
  }

  void add() { add(some_entry()); }

  /// Many neighbours in one /56.
  void add_neighbours() {
    Address address = address_at("2001:db8::");
    address.bytes[6] = static_cast<std::uint8_t>(pick(4));
    for (int i = 0; i < 100; ++i) {
      address.bytes[7] = static_cast<std::uint8_t>(pick(100));
      ListEntry entry = ListEntry::of(AclList::kGrey, prefix_of(address, 64));
      entry.until_ms = now_ + 1 + pick(lifetime_ms_);
      ASSERT_NO_FATAL_FAILURE(add(entry));
    }
  }

  void add(const ListEntry& given) {
    std::vector<ListEntry> parts;
    const ListEntry entry = with_aggregate(given, parts);
    const auto before = model_.find(entry, now_);
    const std::size_t greys_before = greys_held();
    const auto added = writer_->add(given, now_);
    ASSERT_TRUE(added) << added.error().text;
    ASSERT_EQ(added->entry, entry);
    ASSERT_EQ(added->replaced, before.has_value());
    for (const ListEntry& gone : added->gone) {
      const bool part = std::find(parts.begin(), parts.end(), gone) != parts.end();
      if (!part) {
        ++evictions_;
        ASSERT_EQ(greys_before, limit_);
        if (!is_over(gone.until_ms, now_)) {
          ASSERT_EQ(end_of(gone), soonest_grey());
        }
      }
      model_.drop(gone);
    }
    for (const ListEntry& part : parts) {
      ASSERT_TRUE(std::find(added->gone.begin(), added->gone.end(), part) != added->gone.end());
    }
    model_.put(entry);
    ASSERT_LE(greys_held(), limit_);
    if (!parts.empty()) ++aggregates_;
  }

  static std::int64_t end_of(const ListEntry& entry) { return entry.until_ms == 0 ? INT64_MAX : entry.until_ms; }
  std::int64_t soonest_grey() const {
    std::int64_t soonest = INT64_MAX;
    for (const ListEntry& entry : model_.entries) {
      if (entry.list == AclList::kGrey && !is_over(entry.until_ms, now_)) soonest = std::min(soonest, end_of(entry));
    }
    return soonest;
  }

  void remove() {
    const ListEntry target =
        !model_.entries.empty() && pick(3) != 0 ? model_.entries[pick(model_.entries.size())] : some_entry();
    const auto expected = model_.find(target, now_);
    const auto removed = target.is_peer ? writer_->remove(target.list, target.peer, now_)
                                        : writer_->remove(target.list, target.prefix, now_);
    ASSERT_EQ(removed, expected);
    model_.drop(target);
  }

  void pass_time() { now_ += pick(60); }

  void clear() {
    const AclList list = some_list();
    const auto expected = model_.all(now_, [&](const ListEntry& entry) { return entry.list == list; });
    ASSERT_EQ(writer_->clear(list, now_), expected.size());
    model_.clear(list);
  }

  void take_over() {
    writer_.reset();
    writer_.emplace(ListsWriter::map(fd_.get(), {.grey = limit_}).value());
  }

  void rebuild() {
    std::shuffle(model_.entries.begin(), model_.entries.end(), random_);
    ASSERT_TRUE(writer_->rebuild(model_.entries, now_));
    model_.expire(now_);
  }

 public:
  int aggregates() const { return aggregates_; }
  int evictions() const { return evictions_; }

 private:
  std::mt19937_64 random_;
  std::uint32_t limit_;
  std::uint32_t lifetime_ms_;
  std::int64_t now_ = kStart;
  UniqueFd fd_;
  std::optional<ListsWriter> writer_;
  std::optional<ListsTable> table_;
  ListModel model_;
  int aggregates_ = 0;
  int evictions_ = 0;
};

class ListsModel : public ::testing::TestWithParam<Setting> {};

TEST_P(ListsModel, AnswersAsAPlainSequenceDoesWhateverIsDoneToIt) {
  const Setting setting = GetParam();
  std::printf("seed %lu\n", static_cast<unsigned long>(setting.seed));
  Comparison comparison(setting);
  for (int round = 0; round < setting.rounds && !HasFatalFailure(); ++round) {
    ASSERT_NO_FATAL_FAILURE(comparison.change()) << "round " << round;
    ASSERT_NO_FATAL_FAILURE(comparison.compare()) << "round " << round;
    if (round % 50 == 0) {
      ASSERT_NO_FATAL_FAILURE(comparison.compare_all()) << "round " << round;
    }
  }
  std::printf("%d evictions, %d aggregations\n", comparison.evictions(), comparison.aggregates());
}

INSTANTIATE_TEST_SUITE_P(Seeds, ListsModel,
                         ::testing::Values(Setting{1, 64, 30, 100, 4000}, Setting{2, 4096, 60, 400, 2500},
                                           Setting{3, 4096, 200, 20000, 1500}, Setting{4, 4096, 600, 500000, 1500},
                                           Setting{5, 16384, 150, 2000, 1500}, Setting{6, 16384, 8000, 200000, 1500}));

}  // namespace
}  // namespace bulkhead::shm
