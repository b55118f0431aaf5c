#include "services/controller/store.h"

#include <limits>

#include "tests/unit/services/controller/store_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

constexpr Nanoseconds kLater = 100 * kSecond;

// ---- round trips

TEST(Store, IsEmptyWhenItIsNew) {
  const DataDirectory data;
  const Stored all = data.stored();
  EXPECT_TRUE(all.acl.empty() && all.points.empty() && all.peers.empty() && all.history.empty());
  EXPECT_TRUE(all.anchors.empty() && all.settings.empty());
  EXPECT_EQ(all.expired + all.left_out, 0U);
}

TEST(Store, GivesBackEntriesOfLists) {
  const DataDirectory data;
  AclEntry wide = ban(0, std::string("a \0 byte and \xff", 14));
  wide.key.list = StoredList::kWhite;
  wide.key.subject = {0x20, 0x01, 0x0d, 0xb8};
  wide.key.length = 32;
  AclEntry everything = ban(0);
  everything.key.subject = {};
  everything.key.length = 0;
  AclEntry peer = grey(1, 99999);
  peer.key.is_peer = true;
  peer.key.subject = peer_id(200);
  peer.reason = static_cast<Reason>(kReasonCount - 1);
  peer.set_by = 15;
  peer.text = std::string(kMaximumStoredText, 'x');
  std::vector<AclEntry> entries = {wide, everything, peer, ban(7), grey(7, 253402300799999)};
  {
    Store store = data.opened();
    expect_done(store.commit({entries.begin(), entries.end()}));
  }
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  EXPECT_EQ(data.stored().acl, entries);
}

TEST(Store, GivesBackPointsPeersAnchorsAndSettings) {
  const DataDirectory data;
  PointEntry full = known("[2001:db8::1]:65535");
  full.trusted = full.known_public = true;
  full.expected_peer_id = peer_id(3);
  full.last = {1, 2, 3, 4};
  full.source = Address{{0x20, 0x01}};
  full.source_length = 16;
  const PointEntry plain = known("192.0.2.1:9732");
  PeerEntry peer;
  peer.id = peer_id(9);
  peer.trusted = true;
  peer.score = -0.1;
  peer.score_ms = 5;
  peer.point = full.point;
  peer.metadata_flags = 255;
  peer.created_ms = 6;
  peer.last = {7, 8, 9, 10};
  peer.application.assign(kMaximumApplicationBytes, 0);
  PeerEntry bare;
  bare.id = peer_id(1);
  const SetAnchors anchors{{full.point, plain.point}};
  const Setting setting{"name", {0, 1, 255}};
  const Setting empty{std::string(kMaximumSettingName, 'n'), {}};
  {
    Store store = data.opened();
    expect_done(store.commit({full, plain, peer, bare, anchors, setting, empty}));
  }
  const Stored all = data.stored();
  EXPECT_EQ(all.points, (std::vector<PointEntry>{plain, full}));
  EXPECT_EQ(all.peers, (std::vector<PeerEntry>{bare, peer}));
  EXPECT_EQ(all.anchors, anchors.points);
  EXPECT_EQ(all.settings, (std::vector<Setting>{setting, empty}));
}

TEST(Store, ReplacesAndRemoves) {
  const DataDirectory data;
  Store store = data.opened();
  const PointEntry point = known("192.0.2.1:9732");
  PeerEntry peer;
  peer.id = peer_id(1);
  expect_done(store.commit({ban(1, "old"), ban(2), point, peer, Setting{"a", {1}}, SetAnchors{{point.point}}}));
  expect_done(store.commit({ban(1, "new"), RemoveAcl{ban(2).key}, RemoveAcl{ban(3).key}, RemovePoint{point.point},
                            RemovePeer{peer.id}, RemoveSetting{"a"}, SetAnchors{}}));
  close(store);
  const Stored all = data.stored();
  EXPECT_EQ(all.acl, std::vector<AclEntry>{ban(1, "new")});
  EXPECT_TRUE(all.points.empty() && all.peers.empty() && all.settings.empty() && all.anchors.empty());
}

TEST(Store, ClearsOneListAlone) {
  const DataDirectory data;
  {
    Store store = data.opened();
    expect_done(store.commit({ban(1), grey(1), grey(2)}));
    expect_done(store.commit({ClearList{StoredList::kGrey}}));
  }
  EXPECT_EQ(data.stored().acl, std::vector<AclEntry>{ban(1)});
}

// ---- history

TEST(StoreHistory, KeepsTheLastEventsOfEachPointAndPeerInOrder) {
  const DataDirectory data;
  const Point point = known("192.0.2.1:1").point;
  constexpr std::int64_t kMany = 3 * kHistoryLength + 7;
  {
    Store store = data.opened();
    ASSERT_TRUE(store.load(1));
    Changes changes;
    for (std::int64_t i = 1; i <= kMany; ++i) changes.push_back(happened(point, i));
    HistoryEntry of_peer = happened(peer_id(5), 77);
    of_peer.kind = 200;
    of_peer.point = point;
    of_peer.reason = Reason::kKicked;
    changes.push_back(of_peer);
    expect_done(store.commit(changes));
  }
  {
    Store store = data.opened();
    const auto all = store.load(1);
    ASSERT_TRUE(all);
    ASSERT_EQ(all->history.size(), kHistoryLength + 1);
    expect_done(store.later({happened(point, kMany + 1)}));
    expect_done(store.flush_all());
  }
  std::int64_t expected = kMany + 2 - kHistoryLength;
  std::size_t of_point = 0;
  for (const HistoryEntry& entry : data.stored().history) {
    if (std::holds_alternative<PeerId>(entry.of)) {
      EXPECT_EQ(entry.kind, 200);
      EXPECT_EQ(entry.point, point);
      EXPECT_EQ(entry.reason, Reason::kKicked);
      continue;
    }
    ++of_point;
    EXPECT_EQ(entry.time_ms, expected++);
  }
  EXPECT_EQ(of_point, kHistoryLength);
}

TEST(StoreHistory, GoesWithItsPointAndBeginsAnewWithIt) {
  const DataDirectory data;
  const PointEntry point = known("192.0.2.1:1");
  const PointEntry other = known("192.0.2.1:2");
  for (const bool commits : {true, false}) {
    Store store = data.opened();
    ASSERT_TRUE(store.load(1));
    const auto change = [&](const Changes& changes) {
      if (commits) {
        expect_done(store.commit(changes));
      } else {
        expect_done(store.later(changes));
      }
    };
    change({point, other, happened(point.point, 1), happened(point.point, 2), happened(other.point, 3)});
    change({RemovePoint{point.point}});
    change({point, happened(point.point, 4)});
    expect_done(store.flush_all());
    close(store);
    const Stored all = data.stored();
    EXPECT_EQ(all.points.size(), 2U);
    std::vector<std::int64_t> times;
    for (const auto& entry : all.history) {
      if (std::get<Point>(entry.of) == point.point) times.push_back(entry.time_ms);
    }
    EXPECT_EQ(times, std::vector<std::int64_t>{4}) << (commits ? "committed" : "grouped");
  }
}

// A successor knows the numbers from shared memory, and loads nothing.
TEST(StoreHistory, TakesTheNumbersOfWhoCountsItself) {
  const DataDirectory data;
  const Point point = known("192.0.2.1:1").point;
  constexpr std::uint64_t kBefore = 2 * kHistoryLength + 10;
  for (const std::uint64_t first : {std::uint64_t{0}, kBefore}) {
    Store store = data.opened();
    for (std::uint64_t number = first; number < first + kBefore; ++number) {
      HistoryEntry entry = happened(point, static_cast<std::int64_t>(number) + 1);
      entry.number = number;
      expect_done(store.later({entry}));
    }
    expect_done(store.flush_all());
  }
  std::uint64_t expected = 2 * kBefore - kHistoryLength;
  for (const HistoryEntry& entry : data.stored().history) {
    EXPECT_EQ(entry.number, expected);
    EXPECT_EQ(entry.time_ms, static_cast<std::int64_t>(++expected));
  }
  EXPECT_EQ(expected, 2 * kBefore);
}

TEST(StoreHistory, KeepsFewerWhereFewerAreWanted) {
  const DataDirectory data;
  const Point point = known("192.0.2.1:1").point;
  {
    Store store = data.opened();
    store.keep_history(7);
    for (std::int64_t i = 0; i < 30; ++i) expect_done(store.later({happened(point, i)}));
    expect_done(store.flush_all());
  }
  const auto history = data.stored().history;
  ASSERT_EQ(history.size(), 7U);
  EXPECT_EQ(history.front().number, 23U);
  EXPECT_EQ(history.back().number, 29U);
}

// ---- what may not be stored

TEST(Store, RefusesValuesOutsideTheirRangesAndDoesNothing) {
  const DataDirectory data;
  std::vector<Change> faulty;
  AclEntry acl = ban(1);
  const auto with = [&](const auto& alter) {
    AclEntry entry = acl;
    alter(entry);
    faulty.push_back(entry);
  };
  with([](AclEntry& e) { e.key.length = 129; });
  with([](AclEntry& e) { e.key.length = 127; });  // the last bit is set
  with([](AclEntry& e) { e.key.list = static_cast<StoredList>(3); });
  with([](AclEntry& e) { e.since_ms = -1; });
  with([](AclEntry& e) { e.until_ms = 253402300800000; });
  with([](AclEntry& e) { e.reason = static_cast<Reason>(kReasonCount); });
  with([](AclEntry& e) { e.set_by = 16; });
  with([](AclEntry& e) { e.text.assign(kMaximumStoredText + 1, 'x'); });
  with([](AclEntry& e) { e.key.is_peer = true, e.key.length = 64; });
  PeerEntry peer;
  peer.score = std::numeric_limits<double>::quiet_NaN();
  faulty.emplace_back(peer);
  peer.score = std::numeric_limits<double>::infinity();
  faulty.emplace_back(peer);
  peer.score = 0;
  peer.application.resize(kMaximumApplicationBytes + 1);
  faulty.emplace_back(peer);
  PointEntry point = known("192.0.2.1:1");
  point.source_length = 200;
  faulty.emplace_back(point);
  faulty.emplace_back(Setting{"", {}});
  faulty.emplace_back(Setting{std::string(kMaximumSettingName + 1, 'n'), {}});
  faulty.emplace_back(Setting{"n", std::vector<std::uint8_t>(kMaximumSettingBytes + 1)});
  faulty.emplace_back(SetAnchors{std::vector<Point>(kMaximumAnchors + 1)});
  faulty.emplace_back(happened(peer_id(1), -5));
  {
    Store store = data.opened();
    for (std::size_t i = 0; i < faulty.size(); ++i) {
      SCOPED_TRACE(i);
      expect_error(store.commit({ban(2), faulty[i]}), ErrorCode::kInvalid);
      expect_error(store.later({ban(2), faulty[i]}), ErrorCode::kInvalid);
    }
    EXPECT_EQ(store.pending(), 0U);
  }
  EXPECT_TRUE(data.stored().acl.empty());
}

// ---- grouping

TEST(StoreGroups, WriteNothingBeforeTheFlushAndEverythingWithIt) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.later({grey(1), grey(2), grey(3)}));
  EXPECT_EQ(store.pending(), 3U);
  close(store);
  EXPECT_TRUE(data.stored().acl.empty());

  store = data.opened();
  expect_done(store.later({grey(1), grey(2), grey(3)}));
  expect_done(store.flush(kLater));
  EXPECT_EQ(store.pending(), 0U);
  close(store);
  EXPECT_EQ(data.stored().acl.size(), 3U);
}

TEST(StoreGroups, KeepTheLastChangeOfAKey) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.later({ban(1, "first"), ban(2), ban(1, "second"), RemoveAcl{ban(2).key}, ban(3), ban(1, "third")}));
  EXPECT_EQ(store.pending(), 3U);
  expect_done(store.flush_all());
  close(store);
  EXPECT_EQ(data.stored().acl, (std::vector<AclEntry>{ban(1, "third"), ban(3)}));
}

TEST(StoreGroups, ClearWhatCameBeforeAndKeepWhatCameAfter) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.commit({grey(1), ban(1)}));
  expect_done(
      store.later({grey(2), ban(2), ClearList{StoredList::kGrey}, grey(3), ClearList{StoredList::kGrey}, grey(4)}));
  expect_done(store.flush_all());
  close(store);
  EXPECT_EQ(data.stored().acl, (std::vector<AclEntry>{ban(1), ban(2), grey(4)}));
}

TEST(StoreGroups, AreSupersededByACommitUnderTheSameKey) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.later({ban(1, "noted"), ban(2, "noted"), grey(5)}));
  expect_done(store.commit({ban(1, "committed"), RemoveAcl{ban(2).key}, ClearList{StoredList::kGrey}}));
  EXPECT_EQ(store.pending(), 0U);
  expect_done(store.later({ban(1, "noted later")}));
  expect_done(store.flush_all());
  close(store);
  EXPECT_EQ(data.stored().acl, std::vector<AclEntry>{ban(1, "noted later")});
}

TEST(StoreGroups, AreWrittenInBoundedSteps) {
  const DataDirectory data;
  Store store = data.opened();
  constexpr std::uint32_t kMany = 5000;
  Changes changes;
  for (std::uint32_t i = 0; i < kMany; ++i) changes.push_back(grey(i * 7919));
  expect_done(store.later(changes));
  std::size_t before = store.pending();
  ASSERT_EQ(before, kMany);
  int steps = 0;
  for (; store.pending() != 0; ++steps) {
    expect_done(store.flush(kLater));
    ASSERT_LT(store.pending(), before) << "a step that writes nothing";
    ASSERT_LE(before - store.pending(), 1024U);
    before = store.pending();
  }
  EXPECT_GE(steps, 5);
  close(store);
  EXPECT_EQ(data.stored().acl.size(), kMany);
}

TEST(StoreGroups, AreBoundedInMemory) {
  const DataDirectory data;
  Store store = data.opened();
  for (std::uint32_t i = 0; i < Store::kMaximumPending + 10; ++i) expect_done(store.later({grey(i)}));
  EXPECT_EQ(store.pending(), Store::kMaximumPending);
  EXPECT_EQ(store.dropped(), 10U);
}

// ---- expiry

TEST(StoreExpiry, GoesOnWhileTheNodeIsDown) {
  const DataDirectory data;
  {
    Store store = data.opened();
    expect_done(store.commit({grey(1, 5000), grey(2, 5001), ban(3), grey(4, 100)}));
  }
  const Stored at = data.stored(5000);
  EXPECT_EQ(at.acl, (std::vector<AclEntry>{ban(3), grey(2, 5001)}));
  EXPECT_EQ(at.expired, 2U);
  // They are gone for good, even if the clock goes back.
  const Stored before = data.stored(1);
  EXPECT_EQ(before.acl.size(), 2U);
  EXPECT_EQ(before.expired, 0U);
}

// ---- import

std::vector<AclEntry> bans(std::uint32_t from, std::uint32_t to) {
  std::vector<AclEntry> entries;
  for (std::uint32_t i = from; i < to; ++i) entries.push_back(ban(i, "import"));
  return entries;
}

TEST(StoreImport, AddsAllEntries) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.commit({ban(5, "before")}));
  expect_done(store.begin_import());
  EXPECT_TRUE(store.importing());
  for (std::uint32_t i = 0; i < 2000; i += 500) expect_done(store.import(bans(i, i + 500)));
  expect_done(store.finish_import());
  EXPECT_FALSE(store.importing());
  close(store);
  EXPECT_EQ(data.stored().acl, bans(0, 2000));
}

TEST(StoreImport, ChangesNothingWhenItIsCancelledOrFails) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.commit({ban(5, "before")}));
  expect_done(store.begin_import());
  expect_done(store.import(bans(0, 1000)));
  store.cancel_import();
  EXPECT_FALSE(store.importing());
  expect_error(store.import(bans(0, 1)), ErrorCode::kInvalid);
  expect_error(store.finish_import(), ErrorCode::kInvalid);

  expect_done(store.begin_import());
  expect_done(store.import(bans(0, 1000)));
  auto faulty = bans(1000, 1002);
  faulty.back().key.length = 129;
  expect_error(store.import(faulty), ErrorCode::kInvalid);
  EXPECT_FALSE(store.importing());

  expect_done(store.begin_import());
  expect_done(store.import(bans(0, 1000)));
  // And when the process ends in the middle of it.
  close(store);
  EXPECT_EQ(data.stored().acl, std::vector<AclEntry>{ban(5, "before")});
}

TEST(StoreImport, HasCommitsRefusedAndGroupsWait) {
  const DataDirectory data;
  Store store = data.opened();
  expect_done(store.later({ban(1, "older than the import")}));
  expect_done(store.begin_import());
  expect_error(store.commit({ban(1, "not confirmed")}), ErrorCode::kWouldBlock);
  expect_error(store.flush_all(), ErrorCode::kWouldBlock);
  expect_error(store.begin_import(), ErrorCode::kWouldBlock);
  expect_done(store.import(bans(0, 3)));
  expect_done(store.later({ban(2, "newer than the import")}));
  expect_done(store.flush(kLater));
  EXPECT_EQ(store.pending(), 2U);
  expect_done(store.finish_import());
  expect_done(store.flush(kLater));
  close(store);
  const auto acl = data.stored().acl;
  ASSERT_EQ(acl.size(), 3U);
  EXPECT_EQ(acl[0].text, "import");
  EXPECT_EQ(acl[1].text, "not confirmed");
  EXPECT_EQ(acl[2].text, "newer than the import");
}

}  // namespace
}  // namespace bulkhead::controller
