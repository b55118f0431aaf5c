#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "shm/lists.h"
#include "shm/row.h"

/// Where everything stands in the segment of the lists; docs/lists-format.md explains it. For the lists' own sources.
///
/// All of it is words of 64 bits (a delta's slots: 32), loaded and stored one by one. Each store is a release and each
/// load an acquire, so that whoever meets a word of a step meets the revision that was raised before it.
namespace bulkhead::shm {

/// The parts of the base, in their order. A prefix contains prefixes of its own part alone.
enum class ListPart : std::uint8_t { kIpv4 = 0, kIpv6 = 1, kPeers = 2 };
inline constexpr std::size_t kListParts = 3;

ListPart part_of(const Prefix& prefix);

/// What an entry is filed under, in the order of the base: part by part, each prefix before all it contains, the same
/// target in the order of the lists.
struct ListKey {
  ListPart part = ListPart::kIpv4;
  std::uint64_t high = 0;  ///< of the address or peer id, read as a number of 128 bits
  std::uint64_t low = 0;
  std::uint8_t length = kAddressBits;  ///< of a peer: 128
  AclList list = AclList::kBlack;
  auto operator<=>(const ListKey&) const = default;
};

ListKey key_of(AclList list, const Prefix& prefix);
ListKey key_of(AclList list, const PeerId& peer);
ListKey key_of(const ListEntry& entry);

struct Bits128 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(const Bits128&) const = default;
};
Bits128 bits_of(const std::array<std::uint8_t, 16>& bytes);
std::array<std::uint8_t, 16> bytes_of(Bits128 bits);

inline Bits128 first_bits(Bits128 bits, unsigned int length) {
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  const std::uint64_t high = length == 0 ? 0 : length >= 64 ? kAll : kAll << (64 - length);
  const std::uint64_t low = length <= 64 ? 0 : length >= 128 ? kAll : kAll << (128 - length);
  return {bits.high & high, bits.low & low};
}

// The compiler's own functions: atomic_ref asserts alignment anew at each load, of which a look-up makes fifty.
template <typename Word>
Word load_word(const Word& word) {
  static_assert(std::atomic_ref<Word>::is_always_lock_free);
  return __atomic_load_n(&word, __ATOMIC_ACQUIRE);
}

template <typename Word>
void store_word(Word& word, Word value) {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
}

/// Stands in place of an entry's end when the entry is struck out.
inline constexpr std::int64_t kStruckOut = std::numeric_limits<std::int64_t>::min();
/// Number of this layout, in the segment's header.
inline constexpr std::uint32_t kListsLayoutNumber = 2;
/// Rows behind one key of the next level of the search tree.
inline constexpr std::uint32_t kFanOut = 16;
inline constexpr std::size_t kLevels = 6;
inline constexpr std::uint32_t kNoRow = std::numeric_limits<std::uint32_t>::max();
inline constexpr std::uint32_t kMaximumDeltaRows = 1U << 16;
inline constexpr std::size_t kTextWords = kListTextSize / sizeof(std::uint64_t);

/// Of the base: kFanOut rows in their order, with all that a look-up needs of them on one page, so that it waits for
/// memory once. The heads are what is searched: of an IPv4 prefix its last 64 bits, of others the first.
struct alignas(512) Block {
  std::uint64_t heads[kFanOut];
  std::uint64_t ends[kFanOut];   ///< until, or kStruckOut
  std::uint64_t metas[kFanOut];  ///< parent row (32 bits), length (8), list (8), reason (16)
  std::uint64_t tails[kFanOut];  ///< the other 64 bits
};
static_assert(sizeof(Block) == 512 && kPageBytes % sizeof(Block) == 0);

inline std::uint64_t head_of(ListPart part, Bits128 bits) {
  return part == ListPart::kIpv4 ? bits.low : bits.high;
}
inline std::uint64_t tail_of(ListPart part, Bits128 bits) {
  return part == ListPart::kIpv4 ? bits.high : bits.low;
}

/// Of the base: the rest, at the same index.
struct ColdRow {
  std::uint64_t since;
  std::uint64_t meta;  ///< number of its text from 1, 0: none (32 bits), who set it (8)
};
static_assert(sizeof(ColdRow) == 16);

struct TextRow {
  std::uint64_t words[kTextWords];
};
static_assert(sizeof(TextRow) == kListTextSize);

/// Of a delta. Never used again before the delta is emptied.
struct DeltaRow {
  std::uint64_t high;
  std::uint64_t low;
  std::uint64_t until;
  std::uint64_t meta;  ///< length (8 bits), list (8), who set it (8), whether a peer (8), reason (16)
  std::uint64_t since;
  std::uint64_t text[kTextWords];
};
static_assert(sizeof(DeltaRow) == 88);

/// Which lengths a delta has had: a bit for each, set before the first entry of that length.
struct DeltaHead {
  std::uint64_t ipv4_lengths;     ///< bit n: /n, held as 96 + n
  std::uint64_t ipv6_lengths[3];  ///< bit n % 64 of word n / 64
  std::uint64_t peers;
  std::uint64_t reserved[11];
};
static_assert(sizeof(DeltaHead) == 128);

/// What is in force. Written as one DoubleRow: the switch from one base to the next is one store.
struct ListsRoot {
  std::uint32_t base;                                 ///< 0 or 1
  std::array<std::uint32_t, kListParts> rows;         ///< of the base, by part
  std::uint32_t hidden;                               ///< bit of each list whose rows of the base do not count any more
  std::uint32_t active;                               ///< 0 or 1: the delta for new entries
  std::uint32_t has_frozen;                           ///< whether the other delta counts too: it is being merged
  std::array<std::uint32_t, kAclLists> active_floor;  ///< by list: earlier rows of the delta do not count any more
  std::array<std::uint32_t, kAclLists> frozen_floor;
  std::uint32_t reserved;

  std::uint32_t rows_of(ListPart part) const { return rows[static_cast<std::size_t>(part)]; }
  /// Each part begins with a block of its own. The rows between two parts are struck out.
  std::uint32_t first_row(ListPart part) const {
    std::uint32_t row = 0;
    for (std::size_t before = 0; before < static_cast<std::size_t>(part); ++before) row += whole_blocks(rows[before]);
    return row;
  }
  /// Behind the last row of all.
  std::uint32_t end_row() const {
    std::size_t last = kListParts - 1;
    while (last > 0 && rows[last] == 0) --last;
    return first_row(static_cast<ListPart>(last)) + rows[last];
  }
  ListPart part_of_row(std::uint32_t row) const {
    return row < first_row(ListPart::kIpv6)    ? ListPart::kIpv4
           : row < first_row(ListPart::kPeers) ? ListPart::kIpv6
                                               : ListPart::kPeers;
  }
  /// Whether it is one, and not between two parts.
  bool is_row(std::uint32_t row) const {
    const ListPart part = part_of_row(row);
    return row - first_row(part) < rows_of(part);
  }
  static std::uint32_t whole_blocks(std::uint32_t rows) { return (rows + kFanOut - 1) / kFanOut * kFanOut; }
};
static_assert(sizeof(ListsRoot) == 56);

struct CountsRow {
  std::array<std::uint32_t, kAclLists> prefixes;
  std::array<std::uint32_t, kAclLists> peers;
};

/// Second page of the segment.
struct ListsControl {
  alignas(128) std::uint64_t revision;  ///< raised before each step that a reader could see
  alignas(128) DoubleRow<ListsRoot> root;
  alignas(128) DoubleRow<CountsRow> counts;
  alignas(128) std::uint64_t hash_keys[2];  ///< random, written once by make()
};
static_assert(sizeof(ListsControl) <= kPageBytes);

/// Before its slots a delta has a bit for the hashes of its entries: clear means that it has none of that hash. Small
/// enough to stay near the processor, so that the delta costs next to nothing where it has nothing to say.
inline constexpr std::uint32_t kFilterBits = 1U << 18;
inline constexpr std::uint32_t kFilterWords = kFilterBits / 64;

/// A slot of a delta: 0, or the row's number from 1 in the low bits and a part of the hash above.
inline constexpr std::uint32_t kSlotRowBits = 17;
inline constexpr std::uint32_t kSlotRowMask = (1U << kSlotRowBits) - 1;
static_assert(kMaximumDeltaRows <= kSlotRowMask);

/// Offsets in bytes from the segment's begin, all computed from the capacity.
struct ListsLayout {
  struct Base {
    std::uint64_t blocks = 0;
    std::uint64_t cold = 0;
    std::uint64_t texts = 0;
    /// Of each part: words. Level k, from 1, has the head of each kFanOut^k-th row.
    std::array<std::array<std::uint64_t, kLevels>, kListParts> keys{};
  };
  struct Delta {
    std::uint64_t head = 0;
    std::uint64_t filter = 0;  ///< kFilterWords words
    std::uint64_t slots = 0;   ///< of 32 bits
    std::uint64_t rows = 0;
  };

  explicit ListsLayout(std::uint32_t entries);

  std::uint32_t capacity = 0;
  std::uint32_t delta_rows = 0;
  std::uint32_t delta_slots = 0;  ///< power of two, twice the rows
  std::array<Base, 2> base{};
  std::array<Delta, 2> delta{};
  std::uint64_t size = 0;
};

}  // namespace bulkhead::shm
