#include "tests/unit/schema/samples.h"

namespace bulkhead::schema::test {
namespace {

// Flat form: word 0 is the segment table, word 1 the root pointer, word 2 the root's data, whose low 16 bits name the
// union member, word 3 the root's only pointer.
constexpr std::size_t kTable = 0;
constexpr std::size_t kRoot = 1;
constexpr std::size_t kRootData = 2;
constexpr std::size_t kMember = 3;

std::uint64_t table_for(std::size_t words) {
  return static_cast<std::uint64_t>(words - 1) << 32;
}

std::uint64_t struct_pointer(std::int64_t offset, std::uint64_t data_words, std::uint64_t pointers) {
  return (static_cast<std::uint64_t>(offset) << 2 & 0xfffffffc) | data_words << 32 | pointers << 48;
}
/// `size_class`: 0 void, 2 byte, 7 composite.
std::uint64_t list_pointer(std::int64_t offset, std::uint64_t size_class, std::uint64_t count) {
  return 1 | (static_cast<std::uint64_t>(offset) << 2 & 0xfffffffc) | size_class << 32 | count << 35;
}
std::uint64_t far_pointer(bool double_landing, std::uint64_t word, std::uint64_t segment) {
  return 2 | (double_landing ? 4U : 0U) | word << 3 | segment << 32;
}

template <typename Message>
void expect_broken(const Words& words) {
  const Result<Message> decoded = decode<Message>(words);
  ASSERT_FALSE(decoded.ok());
  EXPECT_EQ(decoded.error().code, ErrorCode::kBroken);
}

Words pong() {
  return encoded(FromWorker(WorkerPong{5}));
}

TEST(SegmentTable, RefusesEveryCountButOne) {
  for (const std::uint64_t count_less_one : {1U, 2U, 3U, 0x7fffffffU, 0xfffffffeU, 0xffffffffU}) {
    Words words = pong();
    words[kTable] |= count_less_one;
    expect_broken<FromWorker>(words);
  }
}

TEST(SegmentTable, RefusesALengthThatIsNotThePackets) {
  for (const std::uint64_t length : {0ULL, 1ULL, 0x1fffffffULL, 0xffffffffULL}) {
    Words words = pong();
    words[kTable] = length << 32;
    expect_broken<FromWorker>(words);
  }
  Words words = pong();
  words.push_back(0);
  expect_broken<FromWorker>(words);
  words.resize(words.size() - 2);
  expect_broken<FromWorker>(words);
}

TEST(SegmentTable, RefusesAMessageWithoutASegment) {
  expect_broken<FromWorker>({});
  expect_broken<FromWorker>({0});
}

TEST(SegmentTable, RefusesTwoRealSegments) {
  Words words = pong();
  const std::uint64_t length = words.size() - 1;
  words[kTable] = 1 | length << 32;
  words.insert(words.begin() + 1, 1);
  words.push_back(0);
  expect_broken<FromWorker>(words);
}

TEST(SegmentTable, RefusesMoreWordsThanAPacketHas) {
  Words words = pong();
  words.resize(kMaximumPacket / sizeof(std::uint64_t) + 1);
  words[kTable] = table_for(words.size());
  expect_broken<FromWorker>(words);
}

TEST(Union, RefusesAMessageWithoutAMember) {
  Words words = pong();
  words[kRootData] = 0;
  expect_broken<FromWorker>(words);
  words[kRoot] = 0;
  expect_broken<FromWorker>(words);
}

TEST(Union, RefusesAnUnknownMember) {
  Words words = pong();
  for (const std::uint64_t member : {12ULL, 999ULL, 0xffffULL}) {
    words[kRootData] = member;
    expect_broken<FromWorker>(words);
  }
}

TEST(Union, RefusesAMemberWithoutItsFields) {
  Words words = pong();
  words[kMember] = 0;
  expect_broken<FromWorker>(words);
}

TEST(Union, RefusesAMemberThatIsNoStruct) {
  Words words = pong();
  words[kMember] = list_pointer(0, 2, 8);
  expect_broken<FromWorker>(words);
}

TEST(Pointer, RefusesFarPointersOutOfTheMessage) {
  for (const bool double_landing : {false, true}) {
    for (const std::uint64_t segment : {0ULL, 1ULL, 0xffffffffULL}) {
      for (const std::uint64_t word : {3ULL, 4ULL, 0x1fffffffULL}) {
        Words words = pong();
        words[kMember] = far_pointer(double_landing, word, segment);
        const Result<FromWorker> decoded = decode<FromWorker>(words);
        // One that lands inside the only segment may be read; it then must land on something valid.
        if (decoded.ok()) {
          EXPECT_EQ(segment, 0U);
          EXPECT_EQ(word, 3U);
        }
        words = pong();
        words[kRoot] = far_pointer(double_landing, word, segment);
        const Result<FromWorker> from_root = decode<FromWorker>(words);
        if (from_root.ok()) {
          EXPECT_EQ(segment, 0U);
        }
      }
    }
  }
}

TEST(Pointer, RefusesAStructBeyondTheEnd) {
  Words words = pong();
  words[kMember] = struct_pointer(1, 1, 0);
  expect_broken<FromWorker>(words);
  words[kMember] = struct_pointer(-100, 1, 0);
  expect_broken<FromWorker>(words);
  words[kMember] = struct_pointer(0, 0xffff, 0xffff);
  expect_broken<FromWorker>(words);
}

TEST(Pointer, RefusesACapability) {
  Words words = pong();
  words[kMember] = 3;
  expect_broken<FromWorker>(words);
}

TEST(HugeList, IsRefusedWhateverItsElements) {
  const Words valid = encoded(FromWorker(WorkerProof{{1, 2, 3}}));
  ASSERT_EQ(valid.size(), 6U);
  constexpr std::size_t kChunk = 4;
  for (std::uint64_t size_class = 0; size_class <= 7; ++size_class) {
    for (const std::uint64_t count : {1025ULL, 0x10000ULL, 0x1fffffffULL}) {
      Words words = valid;
      words[kChunk] = list_pointer(0, size_class, count);
      expect_broken<FromWorker>(words);
    }
  }
}

TEST(HugeList, IsRefusedWhenItsElementsHaveNoSize) {
  BootMaintainer boot;
  boot.peers.resize(1);
  const Words valid = encoded(FromSupervisor(boot));
  std::size_t found = 0;
  for (std::size_t i = kMember; i + 1 < valid.size(); ++i) {
    // The list of peers: composite, one element of one data word and two pointers.
    if ((valid[i] & 3) != 1 || valid[i] >> 32 != (3U << 3 | 7U)) continue;
    const std::size_t tag = i + 1 + ((valid[i] & 0xffffffff) >> 2);
    ASSERT_LT(tag, valid.size());
    for (const std::uint64_t count : {129ULL, 0x10000ULL, 0x1fffffffULL}) {
      Words words = valid;
      words[i] = list_pointer(static_cast<std::int64_t>((valid[i] & 0xffffffff) >> 2), 7, 0);
      words[tag] = count << 2;
      expect_broken<FromSupervisor>(words);
      ++found;
    }
  }
  EXPECT_EQ(found, 3U);
}

TEST(Aliasing, IsRefusedWhenManyFieldsShareTheSameBytes) {
  BootMaintainer boot;
  boot.peers.resize(kMaximumConfiguredPeers);
  boot.peers[0].host = std::string(kMaximumHost, 'h');
  Words words = encoded(FromSupervisor(boot));
  constexpr std::uint64_t kHostPointer = (kMaximumHost + 1) << 3 | 2;
  constexpr std::size_t kPeerWords = 3;
  std::size_t first = 0;
  for (std::size_t i = kMember; i < words.size() && first == 0; ++i) {
    if ((words[i] & 3) == 1 && words[i] >> 32 == kHostPointer) first = i;
  }
  ASSERT_NE(first, 0U);
  const std::size_t target = first + 1 + ((words[first] & 0xffffffff) >> 2);
  auto share_among = [&](std::size_t peers) {
    Words shared = words;
    for (std::size_t i = 1; i < peers; ++i) {
      const std::size_t at = first + kPeerWords * i;
      shared[at] =
          list_pointer(static_cast<std::int64_t>(target) - static_cast<std::int64_t>(at) - 1, 2, kMaximumHost + 1);
    }
    return decode<FromSupervisor>(shared);
  };
  const Result<FromSupervisor> few = share_among(2);
  ASSERT_TRUE(few.ok());
  EXPECT_EQ(std::get<BootMaintainer>(*few).peers[1].host, boot.peers[0].host);
  const Result<FromSupervisor> all = share_among(kMaximumConfiguredPeers);
  ASSERT_FALSE(all.ok());
  EXPECT_EQ(all.error().code, ErrorCode::kBroken);
}

TEST(DeepNesting, IsNotFollowedInFieldsThatNobodyReads) {
  Words words = pong();
  // The member gets one pointer more than the schema has, to a chain of a thousand structs.
  const std::uint64_t number = words[kMember + 1];
  words.resize(kMember + 1);
  words[kMember] = struct_pointer(0, 1, 1);
  words.push_back(number);
  for (int i = 0; i < 1000; ++i) words.push_back(struct_pointer(0, 0, 1));
  words.push_back(0);
  words[kTable] = table_for(words.size());
  const Result<FromWorker> decoded = decode<FromWorker>(words);
  ASSERT_TRUE(decoded.ok());
  EXPECT_TRUE(*decoded == FromWorker(WorkerPong{5}));
}

TEST(DeepNesting, EndsWhenAStructContainsItself) {
  for (std::int64_t back = 1; back <= 4; ++back) {
    for (std::uint64_t pointers = 1; pointers <= 4; ++pointers) {
      Words words = encoded(FromWorker(largest<FromWorker>().front()));
      words[kMember] = struct_pointer(-back, 0, pointers);
      (void)decode<FromWorker>(words).ok();
      words[kRoot] = struct_pointer(-back, 1, pointers);
      (void)decode<FromWorker>(words).ok();
    }
  }
}

TEST(Text, RefusesOneWithoutItsEnd) {
  Words words = encoded(ToSupervisor(Failed{"1234567"}));
  ASSERT_EQ(words.back() >> 56, 0U);
  words.back() |= std::uint64_t{'8'} << 56;
  expect_broken<ToSupervisor>(words);
}

}  // namespace
}  // namespace bulkhead::schema::test
