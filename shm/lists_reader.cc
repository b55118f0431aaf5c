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

ListEntry entry_of(const ListRow& row, bool is_peer) {
  ListEntry entry;
  entry.list = row.list;
  entry.reason = row.reason;
  entry.is_peer = is_peer;
  entry.until_ms = row.until_ms;
  if (is_peer) {
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

ListKey key_of(AclList list, const Prefix& prefix) {
  const Bits128 bits = bits_of(prefix.address.bytes);
  return {false, bits.high, bits.low, prefix.length, list};
}

ListKey key_of(AclList list, const PeerId& peer) {
  const Bits128 bits = bits_of(peer);
  return {true, bits.high, bits.low, kAddressBits, list};
}

ListKey key_of(const ListEntry& entry) {
  return entry.is_peer ? key_of(entry.list, entry.peer) : key_of(entry.list, entry.prefix);
}

ListKey key_of(const ListRow& row, bool is_peer) {
  return {is_peer, row.bits.high, row.bits.low, row.length, row.list};
}

ListTarget target_of(const Prefix& prefix) {
  return {bits_of(prefix.address.bytes), prefix.length, false, is_ipv4(prefix)};
}

ListTarget target_of(const PeerId& peer) {
  return {bits_of(peer), kAddressBits, true, false};
}

ListTarget target_of(const ListKey& key) {
  const Bits128 bits{key.high, key.low};
  const bool mapped = !key.is_peer && is_ipv4(Prefix{Address{bytes_of(bits)}, key.length});
  return {bits, key.length, key.is_peer, mapped};
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
    part.hot = take(entries, sizeof(HotRow));
    part.cold = take(entries, sizeof(ColdRow));
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
  root.prefixes = std::min(root.prefixes, layout_.capacity);
  root.peers = std::min(root.peers, layout_.capacity - root.prefixes);
  return root;
}

HotRow& ListsReader::hot(std::uint32_t base, std::uint32_t row) const {
  return at<HotRow>(mapping_, layout_.base[base].hot + std::uint64_t{row} * sizeof(HotRow));
}

ColdRow& ListsReader::cold(std::uint32_t base, std::uint32_t row) const {
  return at<ColdRow>(mapping_, layout_.base[base].cold + std::uint64_t{row} * sizeof(ColdRow));
}

TextRow& ListsReader::text(std::uint32_t base, std::uint32_t number) const {
  return at<TextRow>(mapping_, layout_.base[base].texts + std::uint64_t{number} * sizeof(TextRow));
}

std::uint64_t& ListsReader::key(std::uint32_t base, bool peers, std::size_t level, std::uint32_t index) const {
  return at<std::uint64_t>(
      mapping_, layout_.base[base].keys[peers ? 1 : 0][level] + std::uint64_t{index} * sizeof(std::uint64_t));
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

std::uint64_t ListsReader::hash(Bits128 bits, std::uint8_t length, bool is_peer) const {
  return keyed_hash(bits.high, bits.low, std::uint64_t{length} | (is_peer ? 0x100U : 0U), hash_key0_, hash_key1_);
}

ListRow ListsReader::base_row(std::uint32_t base, std::uint32_t row) const {
  const HotRow& source = hot(base, row);
  const std::uint64_t meta = load_word(source.meta);
  ListRow values;
  values.bits = {load_word(source.high), load_word(source.low)};
  values.until_ms = static_cast<std::int64_t>(load_word(source.until));
  values.parent = static_cast<std::uint32_t>(meta);
  values.length = static_cast<std::uint8_t>(meta >> 32U);
  values.list = list_of(meta >> 40U);
  values.reason = reason_of(meta >> 48U);
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
  values.is_peer = ((meta >> 24U) & 1U) != 0;
  values.reason = reason_of(meta >> 32U);
  return values;
}

ListEntry ListsReader::base_entry(const ListsRoot& root, std::uint32_t row) const {
  ListEntry entry = entry_of(base_row(root.base, row), row >= root.prefixes);
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
  ListEntry entry = entry_of(values, values.is_peer);
  entry.since_ms = static_cast<std::int64_t>(load_word(source.since));
  entry.by = set_by_of(load_word(source.meta) >> 16U);
  entry.text = text_of(source.text);
  return entry;
}

std::uint32_t ListsReader::last_not_above(const ListsRoot& root, bool peers, Bits128 bits) const {
  const std::uint32_t first_row = peers ? root.prefixes : 0;
  std::array<std::uint32_t, kLevels> counts{};
  counts[0] = peers ? root.peers : root.prefixes;
  if (counts[0] == 0) return kNoRow;
  std::size_t top = 0;
  while (counts[top] > kFanOut && top + 1 < kLevels) {
    counts[top + 1] = rows_above(counts[top]);
    ++top;
  }
  const std::uint64_t wanted = search_key(bits);
  std::uint32_t begin = 0;
  std::uint32_t end = counts[top];
  for (std::size_t level = top; level > 0; --level) {
    if (level == 1) {
      // The row will be on one of these two pages: its address is translated while the keys are fetched.
      __builtin_prefetch(&hot(root.base, first_row + begin * kFanOut));
      __builtin_prefetch(&hot(root.base, first_row + (end - 1) * kFanOut));
    }
    // All of a node's keys, without branches: which of them is the one is as random as the addresses.
    std::uint32_t above = begin;
    const std::uint64_t* const keys = &key(root.base, peers, level, 0);
    for (std::uint32_t index = begin; index < end; ++index) above += load_word(keys[index]) <= wanted ? 1U : 0U;
    if (above == begin) return kNoRow;
    begin = (above - 1) * kFanOut;
    end = std::min(begin + kFanOut, counts[level - 1]);
    if (begin >= end) return kNoRow;
  }
  // The rows lie on several cache lines: asked for together, they come together.
  for (std::uint32_t row = begin; row < end; row += 2) __builtin_prefetch(&hot(root.base, first_row + row));
  std::uint32_t above = begin;
  for (std::uint32_t row = begin; row < end; ++row) {
    const HotRow& values = hot(root.base, first_row + row);
    const std::uint64_t high = load_word(values.high);
    const auto equal = static_cast<unsigned int>(high == bits.high);
    above += static_cast<unsigned int>(high < bits.high) |
             (equal & static_cast<unsigned int>(load_word(values.low) <= bits.low));
  }
  if (above > begin) return first_row + above - 1;
  return begin == 0 ? kNoRow : step_back(root.base, first_row, first_row + begin - 1, bits);
}

/// The last row from `first` to `row` that is not above `bits`; the search keys cannot tell the last ones apart.
std::uint32_t ListsReader::step_back(std::uint32_t base, std::uint32_t first, std::uint32_t row, Bits128 bits) const {
  const auto is_above = [&](std::uint32_t number) {
    const HotRow& values = hot(base, number);
    return Bits128{load_word(values.high), load_word(values.low)} > bits;
  };
  if (!is_above(row)) return row;
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
  probe(root, delta, {key.high, key.low}, key.length, key.is_peer, [&](std::uint32_t row, const ListRow& values) {
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
  struct Best {
    int length = -1;
    Bits128 bits;
    std::int64_t until_ms = 0;
    Reason reason = Reason::kNone;
  };
  const auto best = consistent([&](const ListsRoot& root) {
    std::array<Best, kAclLists> found;
    const auto take = [&](std::uint32_t, const ListRow& row) {
      if (is_over(row.until_ms, now_ms)) return true;
      Best& of_list = found[static_cast<std::size_t>(row.list)];
      if (row.length > of_list.length) of_list = {row.length, row.bits, row.until_ms, row.reason};
      // Nothing wins over black, and what follows is shorter.
      return row.list != AclList::kBlack;
    };
    visit_delta(root, root.active, target, take);
    if (root.has_frozen != 0) visit_delta(root, root.active ^ 1U, target, take);
    visit_base(root, target, take);
    return found;
  });
  for (std::size_t list = 0; list < kAclLists; ++list) {
    const Best& row = best[list];
    if (row.length < 0) continue;
    Verdict verdict{static_cast<AclList>(list), row.reason, {}, row.until_ms};
    if (!target.is_peer) verdict.prefix = Prefix{Address{bytes_of(row.bits)}, static_cast<std::uint8_t>(row.length)};
    return verdict;
  }
  return {};
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
        entries.try_emplace(key_of(values, values.is_peer), delta_entry(delta, row));
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
    const auto key_at = [&](std::uint32_t row) { return key_of(base_row(root.base, row), row >= root.prefixes); };
    std::uint32_t row = 0;
    if (after) {
      row = last_not_above(root, after->is_peer, {after->high, after->low});
      // Before all of its part: none but the first row can follow.
      row = row == kNoRow ? (after->is_peer ? root.prefixes : 0) : row + 1;
      while (row > 0 && key_at(row - 1) > *after) --row;
    }
    std::vector<Walked> walked;
    for (; row < root.prefixes + root.peers && walked.size() < rows; ++row) {
      const ListRow values = base_row(root.base, row);
      Walked one{key_at(row), std::nullopt};
      one.entry = counts_in_base(root, values) ? base_entry(root, row) : find(root, one.key);
      walked.push_back(one);
    }
    return walked;
  });
}

}  // namespace bulkhead::shm
