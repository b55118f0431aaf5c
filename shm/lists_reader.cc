#include "shm/lists_reader.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <tuple>

#include "shm/table_file.h"

namespace bulkhead::shm {
namespace {

std::uint64_t pages(std::uint64_t bytes) {
  return align_up(bytes, kPageBytes);
}

std::uint32_t rows_above(std::uint32_t rows) {
  return (rows + kFanOut - 1) / kFanOut;
}

Reason reason_of(std::uint64_t value) {
  value &= 0xffffU;
  return value < kReasonCount ? static_cast<Reason>(value) : Reason::kNone;
}

AclList list_of(std::uint64_t value) {
  return static_cast<AclList>(std::min<std::uint64_t>(value & 0xffU, kAclLists - 1));
}

SetBy set_by_of(std::uint64_t value) {
  return static_cast<SetBy>(std::min<std::uint64_t>(value & 0xffU, kSetByCount - 1));
}

ListEntry entry_of(const ListRow& row) {
  ListEntry entry;
  entry.list = row.list;
  entry.reason = row.reason;
  entry.is_peer = row.part == ListPart::kPeers;
  entry.until_ms = row.until_ms;
  if (entry.is_peer) {
    entry.peer = bytes_of(row.bits);
  } else {
    entry.prefix = Prefix{Address{bytes_of(row.bits)}, row.length};
  }
  return entry;
}

template <std::size_t Words>
std::array<char, kListTextSize> text_of(const std::uint64_t (&words)[Words]) {
  std::uint64_t copy[Words];
  for (std::size_t i = 0; i < Words; ++i) copy[i] = load_word(words[i]);
  std::array<char, kListTextSize> text{};
  static_assert(sizeof copy == sizeof text);
  std::memcpy(text.data(), copy, sizeof copy);
  text.back() = '\0';
  return text;
}

// Of `count` words, at most kFanOut, the last one that is not above; the first one is taken not to be. Without
// branches: which of them it is is as random as the addresses.
std::uint32_t last_word_not_above(const std::uint64_t* words, std::uint32_t count, std::uint64_t wanted) {
  const auto half_or_none = [&](std::uint32_t at, std::uint32_t half) {
    return half * static_cast<std::uint32_t>(load_word(words[at]) <= wanted);
  };
  std::uint32_t last = 0;
  if (count == kFanOut) {
    for (std::uint32_t half = kFanOut / 2; half > 0; half /= 2) last += half_or_none(last + half, half);
    return last;
  }
  while (count > 1) {
    const std::uint32_t half = count / 2;
    last += half_or_none(last + half, half);
    count -= half;
  }
  return last;
}

// kFanOut words.
void prefetch(const std::uint64_t* words) {
  __builtin_prefetch(words);
  __builtin_prefetch(words + kFanOut / 2);
}

}  // namespace

static_assert(std::endian::native == std::endian::little, "network order is turned over below");

Bits128 bits_of(const std::array<std::uint8_t, 16>& bytes) {
  std::array<std::uint64_t, 2> words{};
  std::memcpy(words.data(), bytes.data(), sizeof words);
  return {__builtin_bswap64(words[0]), __builtin_bswap64(words[1])};
}

std::array<std::uint8_t, 16> bytes_of(Bits128 bits) {
  const std::array<std::uint64_t, 2> words = {__builtin_bswap64(bits.high), __builtin_bswap64(bits.low)};
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), words.data(), sizeof words);
  return bytes;
}

ListPart part_of(const Prefix& prefix) {
  return is_ipv4(prefix) ? ListPart::kIpv4 : ListPart::kIpv6;
}

ListKey key_of(AclList list, const Prefix& prefix) {
  const Bits128 bits = bits_of(prefix.address.bytes);
  return {part_of(prefix), bits.high, bits.low, prefix.length, list};
}

ListKey key_of(AclList list, const PeerId& peer) {
  const Bits128 bits = bits_of(peer);
  return {ListPart::kPeers, bits.high, bits.low, kAddressBits, list};
}

ListKey key_of(const ListEntry& entry) {
  return entry.is_peer ? key_of(entry.list, entry.peer) : key_of(entry.list, entry.prefix);
}

ListKey key_of(const ListRow& row) {
  return {row.part, row.bits.high, row.bits.low, row.length, row.list};
}

ListTarget target_of(const Prefix& prefix) {
  return {bits_of(prefix.address.bytes), prefix.length, part_of(prefix)};
}

ListTarget target_of(const PeerId& peer) {
  return {bits_of(peer), kAddressBits, ListPart::kPeers};
}

ListTarget target_of(const ListKey& key) {
  return {{key.high, key.low}, key.length, key.part};
}

ListsLayout::ListsLayout(std::uint32_t entries) : capacity(entries) {
  delta_rows = std::clamp(std::bit_ceil(entries / 32), kMinimumListCapacity, kMaximumDeltaRows);
  delta_slots = 2 * delta_rows;
  std::uint64_t next = 2 * kPageBytes;
  const auto take = [&next](std::uint64_t count, std::uint64_t bytes) {
    const std::uint64_t begin = next;
    next += pages(count * bytes);
    return begin;
  };
  for (auto& part : delta) {
    part.head = take(1, sizeof(DeltaHead));
    part.filter = take(kFilterWords, sizeof(std::uint64_t));
    part.slots = take(delta_slots, sizeof(std::uint32_t));
    part.rows = take(delta_rows, sizeof(DeltaRow));
  }
  for (auto& part : base) {
    const std::uint32_t all_rows = ListsRoot::whole_blocks(entries) + (kListParts - 1) * kFanOut;
    part.blocks = take(all_rows / kFanOut, sizeof(Block));
    part.cold = take(all_rows, sizeof(ColdRow));
    part.texts = take(entries, sizeof(TextRow));
    for (auto& levels : part.keys) {
      std::uint32_t rows = entries;
      for (std::size_t level = 1; level < kLevels; ++level) {
        rows = rows_above(rows);
        levels[level] = take(rows, sizeof(std::uint64_t));
      }
    }
  }
  size = next;
}

Result<ListsReader> ListsReader::map(int fd, Access access) {
  const auto header = read_header(fd, "lists", Kind::kLists);
  if (!header) return header.error();
  const std::uint32_t capacity = header->rows[0];
  if (capacity < kMinimumListCapacity || capacity > kMaximumListCapacity) {
    return broken("lists", "too many or too few rows");
  }
  ListsReader reader(capacity);
  if (header->rows[1] != reader.layout_.delta_rows) return broken("lists", "another size of the deltas");
  if (header->rows[2] != kListsLayoutNumber) return broken("lists", "another layout");
  auto mapping = map_checked(fd, access, reader.layout_.size);
  if (!mapping) return mapping.error();
  reader.mapping_ = std::move(*mapping);
  reader.hash_key0_ = reader.control().hash_keys[0];
  reader.hash_key1_ = reader.control().hash_keys[1];
  return reader;
}

ListsControl& ListsReader::control() const {
  return at<ListsControl>(mapping_, kPageBytes);
}

ListsRoot ListsReader::root() const {
  ListsRoot root = control().root.read().value_or(ListsRoot{});
  root.base &= 1U;
  root.active &= 1U;
  std::uint32_t left = layout_.capacity;
  for (auto& rows : root.rows) left -= rows = std::min(rows, left);
  return root;
}

ColdRow& ListsReader::cold(std::uint32_t base, std::uint32_t row) const {
  return at<ColdRow>(mapping_, layout_.base[base].cold + std::uint64_t{row} * sizeof(ColdRow));
}

TextRow& ListsReader::text(std::uint32_t base, std::uint32_t number) const {
  return at<TextRow>(mapping_, layout_.base[base].texts + std::uint64_t{number} * sizeof(TextRow));
}

DeltaHead& ListsReader::delta_head(std::uint32_t delta) const {
  return at<DeltaHead>(mapping_, layout_.delta[delta].head);
}

std::uint64_t& ListsReader::filter_word(std::uint32_t delta, std::uint32_t index) const {
  return at<std::uint64_t>(mapping_, layout_.delta[delta].filter + std::uint64_t{index} * sizeof(std::uint64_t));
}

std::uint32_t& ListsReader::slot(std::uint32_t delta, std::uint32_t index) const {
  return at<std::uint32_t>(mapping_, layout_.delta[delta].slots + std::uint64_t{index} * sizeof(std::uint32_t));
}

DeltaRow& ListsReader::delta_row(std::uint32_t delta, std::uint32_t row) const {
  return at<DeltaRow>(mapping_, layout_.delta[delta].rows + std::uint64_t{row} * sizeof(DeltaRow));
}

std::uint64_t ListsReader::hash(Bits128 bits, std::uint8_t length, ListPart part) const {
  const std::uint64_t number = std::uint64_t{length} | (part == ListPart::kPeers ? 0x100U : 0U);
  return keyed_hash(bits.high, bits.low, number, hash_key0_, hash_key1_);
}

ListRow ListsReader::base_row(const ListsRoot& root, std::uint32_t row) const {
  const ListPart part = root.part_of_row(row);
  const std::uint64_t head_word = load_word(head(root.base, row));
  const std::uint64_t tail_word = load_word(tail(root.base, row));
  const Bits128 bits = part == ListPart::kIpv4 ? Bits128{tail_word, head_word} : Bits128{head_word, tail_word};
  ListRow values = row_of(part, bits, load_word(meta(root.base, row)));
  values.until_ms = static_cast<std::int64_t>(load_word(end(root.base, row)));
  return values;
}

ListRow ListsReader::row_of(ListPart part, Bits128 bits, std::uint64_t meta_word) {
  ListRow values;
  values.part = part;
  values.bits = bits;
  values.parent = static_cast<std::uint32_t>(meta_word);
  values.length = static_cast<std::uint8_t>(meta_word >> 32U);
  values.list = list_of(meta_word >> 40U);
  values.reason = reason_of(meta_word >> 48U);
  return values;
}

ListRow ListsReader::delta_row_of(std::uint32_t delta, std::uint32_t row) const {
  const DeltaRow& source = delta_row(delta, row);
  const std::uint64_t meta = load_word(source.meta);
  ListRow values;
  values.bits = {load_word(source.high), load_word(source.low)};
  values.until_ms = static_cast<std::int64_t>(load_word(source.until));
  values.length = static_cast<std::uint8_t>(meta);
  values.list = list_of(meta >> 8U);
  const bool is_peer = ((meta >> 24U) & 1U) != 0;
  values.part = is_peer ? ListPart::kPeers : part_of(Prefix{Address{bytes_of(values.bits)}, values.length});
  values.reason = reason_of(meta >> 32U);
  return values;
}

ListEntry ListsReader::base_entry(const ListsRoot& root, std::uint32_t row) const {
  ListEntry entry = entry_of(base_row(root, row));
  const ColdRow& rest = cold(root.base, row);
  const std::uint64_t meta = load_word(rest.meta);
  entry.since_ms = static_cast<std::int64_t>(load_word(rest.since));
  entry.by = set_by_of(meta >> 32U);
  const auto number = static_cast<std::uint32_t>(meta);
  if (number != 0 && number <= layout_.capacity) entry.text = text_of(text(root.base, number - 1).words);
  return entry;
}

ListEntry ListsReader::delta_entry(std::uint32_t delta, std::uint32_t row) const {
  const ListRow values = delta_row_of(delta, row);
  const DeltaRow& source = delta_row(delta, row);
  ListEntry entry = entry_of(values);
  entry.since_ms = static_cast<std::int64_t>(load_word(source.since));
  entry.by = set_by_of(load_word(source.meta) >> 16U);
  entry.text = text_of(source.text);
  return entry;
}

ListsReader::Shape ListsReader::shape(const ListsRoot& root, ListPart part) const {
  Shape shape;
  shape.part = part;
  shape.first_row = root.first_row(part);
  shape.blocks = &block(root.base, shape.first_row);
  shape.counts[0] = root.rows_of(part);
  while (shape.counts[shape.top] > kFanOut && shape.top + 1 < kLevels) {
    const std::size_t level = ++shape.top;
    shape.counts[level] = rows_above(shape.counts[level - 1]);
    shape.keys[level] = &key(root.base, part, level, 0);
  }
  return shape;
}

ListsReader::Descent::Descent(const Shape& shape, Bits128 bits)
    : wanted_(head_of(shape.part, bits)),
      level_(static_cast<std::uint32_t>(shape.top)),
      count_(shape.counts[shape.top]) {
  if (count_ == 0) return;
  const std::uint64_t first = load_word(level_ == 0 ? shape.blocks->heads[0] : shape.keys[level_][0]);
  if (first > wanted_) count_ = 0;
}

void ListsReader::Descent::step(const Shape& shape) {
  if (level_ == 0) return;
  begin_ = (begin_ + last_word_not_above(shape.keys[level_] + begin_, count_, wanted_)) * kFanOut;
  const std::uint32_t words = shape.counts[--level_];
  count_ = count_ == 0 || begin_ >= words ? 0 : std::min(kFanOut, words - begin_);
  if (level_ > 0) {
    prefetch(shape.keys[level_] + begin_);
    return;
  }
  prefetch(shape.blocks[begin_ / kFanOut].heads);
}

void ListsReader::Descent::prefetch_rest(const Shape& shape) const {
  if (count_ == 0) return;
  const Block& rows = shape.blocks[begin_ / kFanOut];
  prefetch(rows.metas);
  prefetch(rows.ends);
}

std::uint32_t ListsReader::Descent::row(const Shape& shape) const {
  if (count_ == 0) return kNoRow;
  return shape.first_row + begin_ + last_word_not_above(shape.blocks[begin_ / kFanOut].heads, count_, wanted_);
}

std::uint32_t ListsReader::last_not_above(const ListsRoot& root, ListPart part, Bits128 bits) const {
  const Shape part_shape = shape(root, part);
  Descent descent(part_shape, bits);
  for (std::size_t level = part_shape.top; level > 0; --level) descent.step(part_shape);
  descent.prefetch_rest(part_shape);
  return step_back(root, part, descent.row(part_shape), bits);
}

/// The last row of the part that is not above `bits`, where `row` is the last one by the heads alone, or kNoRow.
std::uint32_t ListsReader::step_back(const ListsRoot& root, ListPart part, std::uint32_t row, Bits128 bits) const {
  if (row == kNoRow || part == ListPart::kIpv4) return row;
  const auto is_above = [&](std::uint32_t number) {
    const std::uint64_t high = load_word(head(root.base, number));
    return high > bits.high || (high == bits.high && load_word(tail(root.base, number)) > bits.low);
  };
  if (!is_above(row)) return row;
  const std::uint32_t first = root.first_row(part);
  // In growing steps to one that is not above, then by halves: there may be any number of them.
  std::uint32_t above = row;
  std::uint32_t step = 1;
  while (above - first >= step && is_above(above - step)) {
    above -= step;
    step *= 2;
  }
  std::uint32_t begin = above - first >= step ? above - step : first;
  if (begin == first && is_above(first)) return kNoRow;
  while (above - begin > 1) {
    const std::uint32_t middle = begin + (above - begin) / 2;
    (is_above(middle) ? above : begin) = middle;
  }
  return begin;
}

std::optional<std::uint32_t> ListsReader::find_in_base(const ListsRoot& root, const ListKey& key) const {
  std::optional<std::uint32_t> found;
  visit_base(root, target_of(key), [&](std::uint32_t row, const ListRow& values) {
    if (values.length == key.length && values.list == key.list) found = row;
    return !found && values.length >= key.length;
  });
  return found;
}

std::optional<std::uint32_t> ListsReader::find_in_delta(const ListsRoot& root, std::uint32_t delta,
                                                        const ListKey& key) const {
  std::optional<std::uint32_t> found;
  probe(root, delta, {key.high, key.low}, key.length, key.part, [&](std::uint32_t row, const ListRow& values) {
    if (values.list == key.list) found = row;
    return !found;
  });
  return found;
}

std::optional<ListEntry> ListsReader::find(const ListsRoot& root, const ListKey& key) const {
  if (const auto row = find_in_delta(root, root.active, key)) return delta_entry(root.active, *row);
  if (root.has_frozen != 0) {
    if (const auto row = find_in_delta(root, root.active ^ 1U, key)) return delta_entry(root.active ^ 1U, *row);
  }
  if (const auto row = find_in_base(root, key)) return base_entry(root, *row);
  return std::nullopt;
}

Verdict ListsReader::look_up(const ListTarget& target, std::int64_t now_ms) const {
  Verdict verdict;
  look_up_some<1>(std::span(&target, 1), now_ms, std::span(&verdict, 1));
  return verdict;
}

void ListsReader::look_up(std::span<const ListTarget> targets, std::int64_t now_ms, std::span<Verdict> verdicts) const {
  look_up_some<kLookUpsAtOnce>(targets, now_ms, verdicts);
}

template <std::size_t kMost>
void ListsReader::look_up_some(std::span<const ListTarget> targets, std::int64_t now_ms,
                               std::span<Verdict> verdicts) const {
  require(targets.size() <= kMost && verdicts.size() == targets.size());
  // Of each the row that decides, by its list first and then by its length; until there is one, that of no list.
  std::array<ListRow, kMost> best;
  constexpr auto kNone = static_cast<AclList>(kAclLists);
  (void)consistent([&](const ListsRoot& root) {
    std::array<Shape, kMost == 1 ? 1 : kListParts> shapes;
    const auto shape_of = [&](std::size_t i) -> Shape& {
      return shapes[kMost == 1 ? 0 : static_cast<std::size_t>(targets[i].part)];
    };
    std::array<Descent, kMost> descents;
    std::size_t levels = 0;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      Shape& part = shape_of(i);
      if (part.blocks == nullptr) part = shape(root, targets[i].part);
      levels = std::max(levels, part.top);
      descents[i] = Descent(part, targets[i].bits);
    }
    // Level by level for all of them: while one waits for memory so do the others.
    for (std::size_t level = 0; level < levels; ++level) {
      for (std::size_t i = 0; i < targets.size(); ++i) descents[i].step(shape_of(i));
    }
    // A single one waits once for all that it may want of its block, several rather ask for what they do want.
    if constexpr (kMost == 1) descents[0].prefetch_rest(shape_of(0));
    std::array<std::uint32_t, kMost> rows;
    for (std::size_t i = 0; i < targets.size(); ++i) {
      rows[i] = descents[i].row(shape_of(i));
      if (kMost == 1 || rows[i] == kNoRow) continue;
      __builtin_prefetch(&meta(root.base, rows[i]));
      __builtin_prefetch(&end(root.base, rows[i]));
    }
    for (std::size_t i = 0; i < targets.size(); ++i) {
      ListRow& found = best[i];
      found.list = kNone;
      const auto take = [&](std::uint32_t, const ListRow& row) {
        if (is_over(row.until_ms, now_ms)) return true;
        if (row.list < found.list || (row.list == found.list && row.length > found.length)) found = row;
        // Nothing wins over black, and what follows is shorter.
        return row.list != AclList::kBlack;
      };
      visit_delta(root, root.active, targets[i], take);
      if (root.has_frozen != 0) visit_delta(root, root.active ^ 1U, targets[i], take);
      const std::uint32_t row = step_back(root, targets[i].part, rows[i], targets[i].bits);
      visit_base_from(root, row, targets[i], take);
    }
    return true;
  });
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const ListRow& row = best[i];
    verdicts[i] = {};
    if (row.list == kNone) continue;
    verdicts[i] = {row.list, row.reason, {}, row.until_ms};
    if (row.part != ListPart::kPeers) verdicts[i].prefix = Prefix{Address{bytes_of(row.bits)}, row.length};
  }
}

std::vector<ListEntry> ListsReader::matches(const ListTarget& target, std::int64_t now_ms) const {
  // Lists in their order, each the longest first. What a delta has replaced comes second and is left out.
  using Place = std::pair<AclList, int>;
  const auto found = consistent([&](const ListsRoot& root) {
    std::map<Place, ListEntry> entries;
    const auto place = [](const ListRow& row) { return Place{row.list, -row.length}; };
    for (const std::uint32_t delta : {root.active, root.active ^ 1U}) {
      if (delta != root.active && root.has_frozen == 0) continue;
      visit_delta(root, delta, target, [&](std::uint32_t row, const ListRow& values) {
        if (!is_over(values.until_ms, now_ms)) entries.try_emplace(place(values), delta_entry(delta, row));
        return true;
      });
    }
    visit_base(root, target, [&](std::uint32_t row, const ListRow& values) {
      if (!is_over(values.until_ms, now_ms)) entries.try_emplace(place(values), base_entry(root, row));
      return true;
    });
    return entries;
  });
  std::vector<ListEntry> entries;
  for (const auto& [place, entry] : found) entries.push_back(entry);
  return entries;
}

std::vector<ListEntry> ListsReader::delta_entries(std::int64_t now_ms) const {
  auto found = consistent([&](const ListsRoot& root) {
    std::map<ListKey, ListEntry> entries;
    for (const std::uint32_t delta : {root.active, root.active ^ 1U}) {
      if (delta != root.active && root.has_frozen == 0) continue;
      for (std::uint32_t index = 0; index < layout_.delta_slots; ++index) {
        const std::uint32_t row = (load_word(slot(delta, index)) & kSlotRowMask) - 1;
        if (row >= layout_.delta_rows) continue;
        const ListRow values = delta_row_of(delta, row);
        if (!counts_in_delta(root, delta, row, values) || is_over(values.until_ms, now_ms)) continue;
        entries.try_emplace(key_of(values), delta_entry(delta, row));
      }
    }
    return entries;
  });
  std::vector<ListEntry> entries;
  for (const auto& [key, entry] : found) entries.push_back(entry);
  return entries;
}

std::vector<ListsReader::Walked> ListsReader::walk_base(const std::optional<ListKey>& after, std::size_t rows) const {
  return consistent([&](const ListsRoot& root) {
    const auto key_at = [&](std::uint32_t row) { return key_of(base_row(root, row)); };
    std::uint32_t row = 0;
    if (after) {
      row = last_not_above(root, after->part, {after->high, after->low});
      // Before all of its part: none but the first row can follow.
      row = row == kNoRow ? root.first_row(after->part) : row + 1;
      while (row > 0 && key_at(row - 1) > *after) --row;
    }
    std::vector<Walked> walked;
    for (; row < root.end_row() && walked.size() < rows; ++row) {
      if (!root.is_row(row)) continue;
      const ListRow values = base_row(root, row);
      Walked one{key_at(row), std::nullopt};
      one.entry = counts_in_base(root, values) ? base_entry(root, row) : find(root, one.key);
      walked.push_back(one);
    }
    return walked;
  });
}

}  // namespace bulkhead::shm
