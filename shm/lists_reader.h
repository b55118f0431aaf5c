#pragma once

#include <optional>
#include <vector>

#include "shm/lists_layout.h"
#include "shm/segment.h"

namespace bulkhead::shm {

/// A row of the base or of a delta, unpacked, without what only people want to know.
struct ListRow {
  Bits128 bits;
  std::int64_t until_ms = 0;      ///< kStruckOut: does not count
  std::uint32_t parent = kNoRow;  ///< of the base: the nearest row before it whose prefix contains this one's
  std::uint8_t length = 0;
  AclList list = AclList::kBlack;
  bool is_peer = false;  ///< of a delta
  Reason reason = Reason::kNone;
};

/// What a look-up is for: an address (length 128), a whole prefix, or a peer.
struct ListTarget {
  Bits128 bits;
  std::uint8_t length = kAddressBits;
  bool is_peer = false;
  bool is_ipv4 = false;
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

  HotRow& hot(std::uint32_t base, std::uint32_t row) const;
  ColdRow& cold(std::uint32_t base, std::uint32_t row) const;
  TextRow& text(std::uint32_t base, std::uint32_t number) const;
  std::uint64_t& key(std::uint32_t base, bool peers, std::size_t level, std::uint32_t index) const;
  DeltaHead& delta_head(std::uint32_t delta) const;
  std::uint64_t& filter_word(std::uint32_t delta, std::uint32_t index) const;
  std::uint32_t& slot(std::uint32_t delta, std::uint32_t index) const;
  DeltaRow& delta_row(std::uint32_t delta, std::uint32_t row) const;

  std::uint64_t hash(Bits128 bits, std::uint8_t length, bool is_peer) const;
  std::uint32_t first_slot(std::uint64_t hash) const {
    return static_cast<std::uint32_t>(hash) & (layout_.delta_slots - 1);
  }
  static std::uint32_t filter_bit(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 20U) % kFilterBits; }
  static std::uint32_t slot_tag(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32U) & ~kSlotRowMask; }

  ListRow base_row(std::uint32_t base, std::uint32_t row) const;
  ListRow delta_row_of(std::uint32_t delta, std::uint32_t row) const;
  ListEntry base_entry(const ListsRoot& root, std::uint32_t row) const;
  ListEntry delta_entry(std::uint32_t delta, std::uint32_t row) const;

  /// The last row of its part of the base whose address is not above `bits`; kNoRow when there is none.
  std::uint32_t last_not_above(const ListsRoot& root, bool peers, Bits128 bits) const;

  /// Calls visit(row number, ListRow) for the rows of the base that contain the target, longest first, until it returns
  /// false. Struck-out and hidden rows are left out.
  template <typename Visit>
  void visit_base(const ListsRoot& root, const ListTarget& target, const Visit& visit) const;
  /// The same for one of the deltas; of several of the same length in no order.
  template <typename Visit>
  void visit_delta(const ListsRoot& root, std::uint32_t delta, const ListTarget& target, const Visit& visit) const;
  /// Calls visit(row number, ListRow) for the rows of a delta of exactly that length that count.
  template <typename Visit>
  bool probe(const ListsRoot& root, std::uint32_t delta, Bits128 bits, std::uint8_t length, bool is_peer,
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
  std::uint32_t step_back(std::uint32_t base, std::uint32_t first, std::uint32_t row, Bits128 bits) const;

  /// Being overtaken once takes a writer that is at it in these few hundred nanoseconds.
  static constexpr int kAttempts = 64;

  explicit ListsReader(std::uint32_t capacity) : layout_(capacity) {}

  Mapping mapping_;
  ListsLayout layout_;
  std::uint64_t hash_key0_ = 0;
  std::uint64_t hash_key1_ = 0;
};

ListKey key_of(const ListRow& row, bool is_peer);

template <typename Visit>
void ListsReader::visit_base(const ListsRoot& root, const ListTarget& target, const Visit& visit) const {
  std::uint32_t row = last_not_above(root, target.is_peer, target.bits);
  while (row != kNoRow) {
    const ListRow values = base_row(root.base, row);
    const bool matches = values.length <= target.length && (!target.is_ipv4 || values.length >= kMappedBits) &&
                         first_bits(target.bits, values.length) == values.bits;
    if (matches && counts_in_base(root, values) && !visit(row, values)) return;
    // Parents stand before their rows: the walk ends whatever a page that is being written again holds.
    if (values.parent >= row) return;
    row = values.parent;
  }
}

template <typename Visit>
bool ListsReader::probe(const ListsRoot& root, std::uint32_t delta, Bits128 bits, std::uint8_t length, bool is_peer,
                        const Visit& visit) const {
  const std::uint64_t hashed = hash(bits, length, is_peer);
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
      const bool same = values.bits == bits && values.length == length && values.is_peer == is_peer;
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
  if (target.is_peer) {
    if (load_word(head.peers) != 0) probe(root, delta, target.bits, kAddressBits, true, visit);
    return;
  }
  // From the longest of each 64 lengths down.
  const auto probe_lengths = [&](std::uint64_t lengths, unsigned int offset) {
    while (lengths != 0) {
      const auto bit = static_cast<unsigned int>(63 - std::countl_zero(lengths));
      lengths &= ~(std::uint64_t{1} << bit);
      const unsigned int length = offset + bit;
      if (length > target.length) continue;
      if (!probe(root, delta, first_bits(target.bits, length), static_cast<std::uint8_t>(length), false, visit)) {
        return false;
      }
    }
    return true;
  };
  if (target.is_ipv4) {
    probe_lengths(load_word(head.ipv4_lengths), kMappedBits);
    return;
  }
  for (unsigned int word = 3; word-- > 0;) {
    if (!probe_lengths(load_word(head.ipv6_lengths[word]), word * 64)) return;
  }
}

}  // namespace bulkhead::shm
