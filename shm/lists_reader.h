#pragma once

#include <optional>
#include <span>
#include <vector>

#include "shm/lists_layout.h"
#include "shm/segment.h"
#include "shm/table_file.h"

namespace bulkhead::shm {

/// A row of the base or of a delta, unpacked, without what only people want to know.
struct ListRow {
  Bits128 bits;
  std::int64_t until_ms = 0;      ///< kStruckOut: does not count
  std::uint32_t parent = kNoRow;  ///< of the base: the nearest row before it whose prefix contains this one's
  std::uint8_t length = 0;
  AclList list = AclList::kBlack;
  ListPart part = ListPart::kIpv4;
  Reason reason = Reason::kNone;
};

/// What a look-up is for: an address (length 128), a whole prefix, or a peer.
struct ListTarget {
  Bits128 bits;
  std::uint8_t length = kAddressBits;
  ListPart part = ListPart::kIpv6;
};
ListTarget target_of(const Prefix& prefix);
ListTarget target_of(const PeerId& peer);
ListTarget target_of(const ListKey& key);

/// Reads a mapped segment of lists: the engine, which writes it, and ListsTable stand on this. Everything that takes a
/// root must run inside consistent(), or in the one writer.
class ListsReader {
 public:
  static Result<ListsReader> map(int fd, Access access);

  const ListsLayout& layout() const { return layout_; }
  ListsControl& control() const;
  std::uint64_t revision() const { return load_word(control().revision); }
  /// With every number in it bounded.
  ListsRoot root() const;

  /// The result of `look(root)` at one moment: it looks again while the lists change under it.
  template <typename Look>
  auto consistent(const Look& look) const {
    for (int attempt = 1;; ++attempt) {
      const std::uint64_t before = revision();
      auto result = look(root());
      if (revision() == before || attempt == kAttempts) return result;
    }
  }

  Block& block(std::uint32_t base, std::uint32_t row) const {
    return at<Block>(mapping_, layout_.base[base].blocks + std::uint64_t{row / kFanOut} * sizeof(Block));
  }
  std::uint64_t& head(std::uint32_t base, std::uint32_t row) const { return block(base, row).heads[row % kFanOut]; }
  std::uint64_t& end(std::uint32_t base, std::uint32_t row) const { return block(base, row).ends[row % kFanOut]; }
  std::uint64_t& meta(std::uint32_t base, std::uint32_t row) const { return block(base, row).metas[row % kFanOut]; }
  std::uint64_t& tail(std::uint32_t base, std::uint32_t row) const { return block(base, row).tails[row % kFanOut]; }
  ColdRow& cold(std::uint32_t base, std::uint32_t row) const;
  TextRow& text(std::uint32_t base, std::uint32_t number) const;
  std::uint64_t& key(std::uint32_t base, ListPart part, std::size_t level, std::uint32_t index) const {
    const std::uint64_t level_at = layout_.base[base].keys[static_cast<std::size_t>(part)][level];
    return at<std::uint64_t>(mapping_, level_at + std::uint64_t{index} * sizeof(std::uint64_t));
  }
  DeltaHead& delta_head(std::uint32_t delta) const;
  std::uint64_t& filter_word(std::uint32_t delta, std::uint32_t index) const;
  std::uint32_t& slot(std::uint32_t delta, std::uint32_t index) const;
  DeltaRow& delta_row(std::uint32_t delta, std::uint32_t row) const;

  std::uint64_t hash(Bits128 bits, std::uint8_t length, ListPart part) const;
  std::uint32_t first_slot(std::uint64_t hash) const {
    return static_cast<std::uint32_t>(hash) & (layout_.delta_slots - 1);
  }
  static std::uint32_t filter_bit(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 20U) % kFilterBits; }
  static std::uint32_t slot_tag(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32U) & ~kSlotRowMask; }

  ListRow base_row(const ListsRoot& root, std::uint32_t row) const;
  /// Without its end.
  static ListRow row_of(ListPart part, Bits128 bits, std::uint64_t meta_word);
  static bool contains(ListPart part, const Block& rows, std::uint32_t at, std::uint8_t length, Bits128 bits);
  ListRow delta_row_of(std::uint32_t delta, std::uint32_t row) const;
  ListEntry base_entry(const ListsRoot& root, std::uint32_t row) const;
  ListEntry delta_entry(std::uint32_t delta, std::uint32_t row) const;

  /// The last row of that part of the base whose address is not above `bits`; kNoRow when there is none.
  std::uint32_t last_not_above(const ListsRoot& root, ListPart part, Bits128 bits) const;

  /// Calls visit(row number, ListRow) for the rows of the base that contain the target, longest first, until it returns
  /// false. Struck-out and hidden rows are left out.
  template <typename Visit>
  void visit_base(const ListsRoot& root, const ListTarget& target, const Visit& visit) const;
  /// The same for one of the deltas; of several of the same length in no order.
  template <typename Visit>
  void visit_delta(const ListsRoot& root, std::uint32_t delta, const ListTarget& target, const Visit& visit) const;
  /// Calls visit(row number, ListRow) for the rows of a delta of exactly that length that count.
  template <typename Visit>
  bool probe(const ListsRoot& root, std::uint32_t delta, Bits128 bits, std::uint8_t length, ListPart part,
             const Visit& visit) const;

  std::optional<std::uint32_t> find_in_base(const ListsRoot& root, const ListKey& key) const;
  std::optional<std::uint32_t> find_in_delta(const ListsRoot& root, std::uint32_t delta, const ListKey& key) const;
  std::optional<ListEntry> find(const ListsRoot& root, const ListKey& key) const;

  static const std::array<std::uint32_t, kAclLists>& floors(const ListsRoot& root, std::uint32_t delta) {
    return delta == root.active ? root.active_floor : root.frozen_floor;
  }
  static bool counts_in_delta(const ListsRoot& root, std::uint32_t delta, std::uint32_t row, const ListRow& values) {
    return values.until_ms != kStruckOut && row >= floors(root, delta)[static_cast<std::size_t>(values.list)];
  }
  static bool counts_in_base(const ListsRoot& root, const ListRow& values) {
    return values.until_ms != kStruckOut && ((root.hidden >> static_cast<unsigned int>(values.list)) & 1U) == 0;
  }

  Verdict look_up(const ListTarget& target, std::int64_t now_ms) const;
  /// The same for up to kLookUpsAtOnce, all at one moment; `verdicts` has their number.
  void look_up(std::span<const ListTarget> targets, std::int64_t now_ms, std::span<Verdict> verdicts) const;
  /// As many as memory answers at the same time.
  static constexpr std::size_t kLookUpsAtOnce = 16;
  /// Of all lists, in the order in which they win, each the longest first.
  std::vector<ListEntry> matches(const ListTarget& target, std::int64_t now_ms) const;
  /// All that count in both deltas, by key.
  std::vector<ListEntry> delta_entries(std::int64_t now_ms) const;

  /// A row of the base behind `after`, in order; without an entry when it does not count and no delta replaced it.
  struct Walked {
    ListKey key;
    std::optional<ListEntry> entry;
  };
  std::vector<Walked> walk_base(const std::optional<ListKey>& after, std::size_t rows) const;

 private:
  /// Of one part of the base: the levels of its search tree, how many words each has, and where they stand. Level 0 is
  /// the heads, in blocks.
  struct Shape {
    ListPart part = ListPart::kIpv4;
    std::uint32_t first_row = 0;
    const Block* blocks = nullptr;
    std::size_t top = 0;
    std::array<std::uint32_t, kLevels> counts{};
    std::array<const std::uint64_t*, kLevels> keys{};  ///< from level 1
  };
  Shape shape(const ListsRoot& root, ListPart part) const;

  /// On the way down the search tree, a level at each step, which asks for the memory that the next one needs. So
  /// several can go down side by side and wait together.
  class Descent {
   public:
    Descent() = default;
    Descent(const Shape& shape, Bits128 bits);
    void step(const Shape& shape);
    /// After as many steps as there are levels above the heads: asks for the rest of its block.
    void prefetch_rest(const Shape& shape) const;
    /// Then: the last row whose head is not above, or kNoRow.
    std::uint32_t row(const Shape& shape) const;

   private:
    std::uint64_t wanted_ = 0;
    std::uint32_t level_ = 0;
    std::uint32_t begin_ = 0;
    std::uint32_t count_ = 0;  ///< words of the node; 0: there is no such row
  };

  template <std::size_t kMost>
  void look_up_some(std::span<const ListTarget> targets, std::int64_t now_ms, std::span<Verdict> verdicts) const;
  template <typename Visit>
  void visit_base_from(const ListsRoot& root, std::uint32_t row, const ListTarget& target, const Visit& visit) const;
  std::uint32_t step_back(const ListsRoot& root, ListPart part, std::uint32_t row, Bits128 bits) const;

  /// Being overtaken once takes a writer that is at it in these few hundred nanoseconds.
  static constexpr int kAttempts = 64;

  explicit ListsReader(std::uint32_t capacity) : layout_(capacity) {}

  Mapping mapping_;
  ListsLayout layout_;
  std::uint64_t hash_key0_ = 0;
  std::uint64_t hash_key1_ = 0;
};

ListKey key_of(const ListRow& row);

template <typename Visit>
void ListsReader::visit_base(const ListsRoot& root, const ListTarget& target, const Visit& visit) const {
  visit_base_from(root, last_not_above(root, target.part, target.bits), target, visit);
}

template <typename Visit>
void ListsReader::visit_base_from(const ListsRoot& root, std::uint32_t row, const ListTarget& target,
                                  const Visit& visit) const {
  while (row != kNoRow) {
    const Block& rows = block(root.base, row);
    const std::uint32_t at = row % kFanOut;
    const std::uint64_t meta_word = load_word(rows.metas[at]);
    const auto parent = static_cast<std::uint32_t>(meta_word);
    const auto length = static_cast<std::uint8_t>(meta_word >> 32U);
    if (length <= target.length && contains(target.part, rows, at, length, target.bits)) {
      ListRow values = row_of(target.part, first_bits(target.bits, length), meta_word);
      values.until_ms = static_cast<std::int64_t>(load_word(rows.ends[at]));
      if (counts_in_base(root, values) && !visit(row, values)) return;
    }
    // Parents stand before their rows: the walk ends whatever a page that is being written again holds.
    if (parent >= row) return;
    row = parent;
  }
}

/// Whether the row's prefix of that length contains these bits. Its tail is looked at only if the head does not decide.
inline bool ListsReader::contains(ListPart part, const Block& rows, std::uint32_t at, std::uint8_t length,
                                  Bits128 bits) {
  const std::uint64_t difference = load_word(rows.heads[at]) ^ head_of(part, bits);
  // A page that is being written again may hold a row of another part here.
  if (part == ListPart::kIpv4) return length >= kMappedBits && (difference >> (kAddressBits - length)) == 0;
  if (length <= 64) return length == 0 || (difference >> (64U - length)) == 0;
  return difference == 0 && ((load_word(rows.tails[at]) ^ bits.low) >> (kAddressBits - length)) == 0;
}

template <typename Visit>
bool ListsReader::probe(const ListsRoot& root, std::uint32_t delta, Bits128 bits, std::uint8_t length, ListPart part,
                        const Visit& visit) const {
  const std::uint64_t hashed = hash(bits, length, part);
  const std::uint32_t bit = filter_bit(hashed);
  if (((load_word(filter_word(delta, bit / 64)) >> (bit % 64)) & 1U) == 0) return true;
  const std::uint32_t tag = slot_tag(hashed);
  std::uint32_t index = first_slot(hashed);
  for (std::uint32_t tried = 0; tried < layout_.delta_slots; ++tried) {
    const std::uint32_t value = load_word(slot(delta, index));
    if (value == 0) return true;
    const std::uint32_t row = (value & kSlotRowMask) - 1;
    if ((value & ~kSlotRowMask) == tag && row < layout_.delta_rows) {
      const ListRow values = delta_row_of(delta, row);
      const bool same = values.bits == bits && values.length == length && values.part == part;
      if (same && counts_in_delta(root, delta, row, values) && !visit(row, values)) return false;
    }
    index = (index + 1) & (layout_.delta_slots - 1);
  }
  return true;
}

template <typename Visit>
void ListsReader::visit_delta(const ListsRoot& root, std::uint32_t delta, const ListTarget& target,
                              const Visit& visit) const {
  const DeltaHead& head = delta_head(delta);
  if (target.part == ListPart::kPeers) {
    if (load_word(head.peers) != 0) probe(root, delta, target.bits, kAddressBits, target.part, visit);
    return;
  }
  // From the longest of each 64 lengths down.
  const auto probe_lengths = [&](std::uint64_t lengths, unsigned int offset) {
    while (lengths != 0) {
      const auto bit = static_cast<unsigned int>(63 - std::countl_zero(lengths));
      lengths &= ~(std::uint64_t{1} << bit);
      const unsigned int length = offset + bit;
      if (length > target.length) continue;
      const Bits128 first = first_bits(target.bits, length);
      if (!probe(root, delta, first, static_cast<std::uint8_t>(length), target.part, visit)) return false;
    }
    return true;
  };
  if (target.part == ListPart::kIpv4) {
    probe_lengths(load_word(head.ipv4_lengths), kMappedBits);
    return;
  }
  for (unsigned int word = 3; word-- > 0;) {
    if (!probe_lengths(load_word(head.ipv6_lengths[word]), word * 64)) return;
  }
}

}  // namespace bulkhead::shm
