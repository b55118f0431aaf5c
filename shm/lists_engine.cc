#include "shm/lists_engine.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace bulkhead::shm {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
/// Rows between two looks at the clock.
constexpr std::size_t kRowsAtOnce = 64;
/// A base with fewer rows that do not count is left as it is.
constexpr std::uint32_t kFewStruckOut = 1024;

std::int64_t end_of(std::int64_t until_ms) {
  return until_ms == 0 ? kNever : until_ms;
}

bool sooner(const SoonestRows::Candidate& a, const SoonestRows::Candidate& b) {
  return a.end_ms < b.end_ms;
}

bool later(const SoonestRows::Candidate& a, const SoonestRows::Candidate& b) {
  return a.end_ms > b.end_ms;
}

std::int64_t last_end(std::int64_t a, std::int64_t b) {
  const std::int64_t end = std::max(end_of(a), end_of(b));
  return end == kNever ? 0 : end;
}

std::uint64_t word_of(std::int64_t value) {
  return static_cast<std::uint64_t>(value);
}

std::array<std::uint64_t, kTextWords> words_of(const std::array<char, kListTextSize>& text) {
  std::array<std::uint64_t, kTextWords> words{};
  static_assert(sizeof words == kListTextSize);
  std::memcpy(words.data(), text.data(), sizeof words);
  return words;
}

std::size_t index_of(AclList list) {
  return static_cast<std::size_t>(list);
}

/// The /56 that a grey entry may become part of.
std::optional<Prefix> aggregate_of(const ListEntry& entry) {
  if (entry.list != AclList::kGrey || entry.is_peer || entry.prefix.length != kGreyLength || is_ipv4(entry.prefix)) {
    return std::nullopt;
  }
  Address loopback;
  loopback.bytes.back() = 1;
  const Prefix aggregate = prefix_of(entry.prefix.address, kGreyAggregateLength);
  if (contains(aggregate, loopback)) return std::nullopt;
  return aggregate;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------- soonest rows

void SoonestRows::pop() {
  std::pop_heap(candidates_.begin(), candidates_.end(), later);
  candidates_.pop_back();
}

void SoonestRows::push(std::int64_t until_ms, std::uint32_t row) {
  candidates_.push_back({end_of(until_ms), row});
  std::push_heap(candidates_.begin(), candidates_.end(), later);
}

// While rows are offered the latest is on top, so that it makes room; close() turns the heap over.
void SoonestRows::offer(std::int64_t until_ms, std::uint32_t row, std::size_t size) {
  const Candidate candidate{end_of(until_ms), row};
  if (candidates_.size() == size) {
    incomplete_ = true;
    if (!sooner(candidate, candidates_.front())) return;
    std::pop_heap(candidates_.begin(), candidates_.end(), sooner);
    candidates_.pop_back();
  }
  candidates_.push_back(candidate);
  std::push_heap(candidates_.begin(), candidates_.end(), sooner);
}

void SoonestRows::close() {
  std::make_heap(candidates_.begin(), candidates_.end(), later);
}

// --------------------------------------------------------------------------------------------------------- reading

ListsEngine::ListsEngine(std::shared_ptr<const ListsReader> shared, ListsWriter::Limits limits)
    : shared_(shared),
      table_(std::move(shared)),
      grey_limit_(std::clamp<std::uint32_t>(limits.grey, 1, shared_->layout().capacity / 2)) {}

ListRow ListsEngine::row_at(Place place) const {
  return place.layer == Layer::kBase ? shared_->base_row(root_, place.row)
                                     : shared_->delta_row_of(delta_of(place.layer), place.row);
}

ListEntry ListsEngine::entry_at(Place place) const {
  return place.layer == Layer::kBase ? shared_->base_entry(root_, place.row)
                                     : shared_->delta_entry(delta_of(place.layer), place.row);
}

bool ListsEngine::in_force(Place place, const ListRow& row) const {
  return place.layer == Layer::kBase ? ListsReader::counts_in_base(root_, row)
                                     : ListsReader::counts_in_delta(root_, delta_of(place.layer), place.row, row);
}

std::optional<ListsEngine::Place> ListsEngine::place_of(const ListKey& key) const {
  if (const auto row = shared_->find_in_delta(root_, delta_of(Layer::kActive), key)) return Place{Layer::kActive, *row};
  if (root_.has_frozen != 0) {
    if (const auto row = shared_->find_in_delta(root_, delta_of(Layer::kFrozen), key)) {
      return Place{Layer::kFrozen, *row};
    }
  }
  if (const auto row = shared_->find_in_base(root_, key)) return Place{Layer::kBase, *row};
  return std::nullopt;
}

std::size_t ListsEngine::grey_count() const {
  constexpr auto kGrey = static_cast<std::size_t>(AclList::kGrey);
  return std::size_t{counts_.prefixes[kGrey]} + counts_.peers[kGrey];
}

std::size_t ListsEngine::total_count() const {
  std::size_t total = 0;
  for (std::size_t list = 0; list < kAclLists; ++list) total += counts_.prefixes[list] + counts_.peers[list];
  return total;
}

template <typename Visit>
void ListsEngine::for_each_row(const Visit& visit) const {
  const auto offer = [&](Place place) {
    const ListRow row = row_at(place);
    if (in_force(place, row)) visit(place, row);
  };
  for (std::uint32_t row = 0; row < base_rows(); ++row) offer({Layer::kBase, row});
  if (root_.has_frozen != 0) {
    for (const auto& [key, row] : frozen_) offer({Layer::kFrozen, row});
  }
  for (const auto& [key, row] : active_) offer({Layer::kActive, row});
}

// ----------------------------------------------------------------------------------------------------------- steps

void ListsEngine::raise_revision() {
  store_word(shared_->control().revision, shared_->revision() + 1);
}

void ListsEngine::write_root() {
  raise_revision();
  shared_->control().root.write(root_);
}

void ListsEngine::count(AclList list, ListPart part, int change) {
  auto& number = (part == ListPart::kPeers ? counts_.peers : counts_.prefixes)[index_of(list)];
  number += static_cast<std::uint32_t>(change);
  shared_->control().counts.write(counts_);
}

void ListsEngine::strike_out(Place place, Late late) {
  const ListRow row = row_at(place);
  raise_revision();
  if (place.layer == Layer::kBase) {
    store_word(shared_->end(root_.base, place.row), word_of(kStruckOut));
    ++base_struck_out_;
  } else {
    store_word(shared_->delta_row(delta_of(place.layer), place.row).until, word_of(kStruckOut));
  }
  count(row.list, row.part, -1);
  const bool merging = phase_ == Phase::kCopy || phase_ == Phase::kLateStrikes;
  if (merging && place.layer != Layer::kActive && late == Late::kInNextBaseToo) {
    late_strikes_.push_back(key_of(row));
  }
}

std::uint32_t ListsEngine::slot_for(const ListKey& key, std::uint64_t hash) const {
  const std::uint32_t delta = root_.active;
  std::uint32_t index = shared_->first_slot(hash);
  for (;; index = (index + 1) & (shared_->layout().delta_slots - 1)) {
    const std::uint32_t value = load_word(shared_->slot(delta, index));
    if (value == 0) return index;
    if ((value & ~kSlotRowMask) != ListsReader::slot_tag(hash)) continue;
    const ListRow row = shared_->delta_row_of(delta, (value & kSlotRowMask) - 1);
    if (key_of(row) == key) return index;
  }
}

void ListsEngine::note_length(const ListKey& key) {
  DeltaHead& head = shared_->delta_head(root_.active);
  const auto set = [](std::uint64_t& word, unsigned int bit) {
    store_word(word, load_word(word) | (std::uint64_t{1} << bit));
  };
  switch (key.part) {
    case ListPart::kIpv4:
      return set(head.ipv4_lengths, key.length - kMappedBits);
    case ListPart::kIpv6:
      return set(head.ipv6_lengths[key.length / 64U], key.length % 64U);
    case ListPart::kPeers:
      return set(head.peers, 0);
  }
}

void ListsEngine::append(const ListEntry& entry) {
  const ListKey key = key_of(entry);
  const std::uint32_t row = active_rows_++;
  const std::uint64_t hash = shared_->hash({key.high, key.low}, key.length, key.part);
  const std::uint32_t slot = slot_for(key, hash);
  raise_revision();
  note_length(key);
  const std::uint32_t bit = ListsReader::filter_bit(hash);
  std::uint64_t& filter = shared_->filter_word(root_.active, bit / 64);
  store_word(filter, load_word(filter) | std::uint64_t{1} << (bit % 64));
  DeltaRow& target = shared_->delta_row(root_.active, row);
  store_word(target.high, key.high);
  store_word(target.low, key.low);
  store_word(target.until, word_of(entry.until_ms));
  store_word(target.since, word_of(entry.since_ms));
  store_word(target.meta, std::uint64_t{key.length} | std::uint64_t{index_of(key.list)} << 8U |
                              static_cast<std::uint64_t>(entry.by) << 16U | std::uint64_t{entry.is_peer} << 24U |
                              static_cast<std::uint64_t>(entry.reason) << 32U);
  const auto words = words_of(entry.text);
  for (std::size_t i = 0; i < kTextWords; ++i) store_word(target.text[i], words[i]);
  store_word(shared_->slot(root_.active, slot), (row + 1) | ListsReader::slot_tag(hash));
  active_[key] = row;
  if (key.list == AclList::kGrey) active_soonest_.push(entry.until_ms, row);
  count(key.list, key.part, 1);
}

// ---------------------------------------------------------------------------------------------------------- adding

Result<void> ListsEngine::check(const ListEntry& entry, std::int64_t now_ms) const {
  const bool known = index_of(entry.list) < kAclLists && static_cast<std::size_t>(entry.by) < kSetByCount &&
                     static_cast<std::size_t>(entry.reason) < kReasonCount && entry.text.back() == '\0';
  if (!known) return Error{ErrorCode::kInvalid, "an entry of the lists has a value that does not exist"};
  if (!entry.is_peer && !is_canonical(entry.prefix)) {
    return Error{ErrorCode::kInvalid, to_text(entry.prefix) + " has bits beyond its length"};
  }
  if (is_over(entry.until_ms, now_ms) || entry.until_ms < 0) {
    return Error{ErrorCode::kInvalid, "an entry of the lists ends in the past; give it a later end, or none"};
  }
  return {};
}

Result<ListAddition> ListsEngine::add(const ListEntry& entry, std::int64_t now_ms) {
  if (const auto checked = check(entry, now_ms); !checked) return checked.error();
  if (const auto aggregate = aggregate_of(entry)) return put_into_aggregate(entry, *aggregate, now_ms);
  return put(entry, now_ms);
}

Result<ListAddition> ListsEngine::put(const ListEntry& entry, std::int64_t now_ms) {
  ListAddition addition{entry, false, {}};
  const ListKey key = key_of(entry);
  if (const auto place = place_of(key)) {
    const ListEntry standing = entry_at(*place);
    addition.replaced = !is_over(standing.until_ms, now_ms);
    if (standing == entry) return addition;
  } else if (entry.list == AclList::kGrey && grey_count() >= grey_limit_) {
    if (auto gone = evict_soonest()) addition.gone.push_back(std::move(*gone));
  } else if (total_count() >= shared_->layout().capacity) {
    return Error{ErrorCode::kTooLarge, "the lists are full: they hold " + std::to_string(shared_->layout().capacity) +
                                           " entries; remove some first"};
  }
  make_room(now_ms);
  const auto before = place_of(key);  // looked up again: making room may have moved it
  append(entry);
  if (before) strike_out(*before);
  return addition;
}

Result<ListAddition> ListsEngine::put_into_aggregate(const ListEntry& entry, const Prefix& aggregate,
                                                     std::int64_t now_ms) {
  ListEntry whole = entry;
  whole.prefix = aggregate;
  if (const auto place = place_of(key_of(whole))) {
    const ListEntry standing = entry_at(*place);
    if (!is_over(standing.until_ms, now_ms)) {
      whole.since_ms = standing.since_ms;
      whole.until_ms = last_end(standing.until_ms, entry.until_ms);
      return put(whole, now_ms);
    }
  }
  auto neighbours = grey_neighbours(aggregate, now_ms);
  const ListKey own = key_of(entry);
  const bool is_new = std::find(neighbours.begin(), neighbours.end(), own) == neighbours.end();
  if (neighbours.size() + (is_new ? 1 : 0) <= kGreyNeighbours) return put(entry, now_ms);

  std::vector<ListEntry> parts;
  for (const ListKey& key : neighbours) {
    const auto place = place_of(key);
    if (!place) continue;
    parts.push_back(entry_at(*place));
    if (key != own) whole.until_ms = last_end(whole.until_ms, parts.back().until_ms);
  }
  auto addition = put(whole, now_ms);
  if (!addition) return addition;
  // The /56 is in force, so that nothing opens while they go one by one.
  for (const ListKey& key : neighbours) {
    if (const auto place = place_of(key)) strike_out(*place);
  }
  for (auto& part : parts) {
    if (std::find(addition->gone.begin(), addition->gone.end(), part) == addition->gone.end()) {
      addition->gone.push_back(std::move(part));
    }
  }
  return addition;
}

std::vector<ListKey> ListsEngine::grey_neighbours(const Prefix& aggregate, std::int64_t now_ms) const {
  const Bits128 begin = bits_of(aggregate.address.bytes);
  const auto inside = [&](std::uint64_t high) { return first_bits({high, 0}, aggregate.length) == begin; };
  // From one /64 that has entries straight to the next: there may be any number of entries in each.
  std::vector<std::uint64_t> subnets;
  for (std::uint64_t high = begin.high; inside(high);) {
    const std::uint32_t before =
        high == 0 ? kNoRow : shared_->last_not_above(root_, ListPart::kIpv6, {high - 1, ~std::uint64_t{0}});
    const std::uint32_t row = before == kNoRow ? root_.first_row(ListPart::kIpv6) : before + 1;
    if (!root_.is_row(row) || root_.part_of_row(row) != ListPart::kIpv6) break;
    const std::uint64_t found = load_word(shared_->head(root_.base, row));
    if (!inside(found)) break;
    subnets.push_back(found);
    high = found + 1;
  }
  for (const DeltaIndex* index : {&active_, &frozen_}) {
    for (std::uint64_t high = begin.high; inside(high);) {
      const auto found = index->lower_bound(ListKey{ListPart::kIpv6, high, 0, 0, AclList::kBlack});
      if (found == index->end() || found->first.part != ListPart::kIpv6 || !inside(found->first.high)) break;
      subnets.push_back(found->first.high);
      high = found->first.high + 1;
    }
  }
  std::sort(subnets.begin(), subnets.end());
  subnets.erase(std::unique(subnets.begin(), subnets.end()), subnets.end());

  std::vector<ListKey> neighbours;
  for (const std::uint64_t high : subnets) {
    const ListKey key{ListPart::kIpv6, high, 0, kGreyLength, AclList::kGrey};
    const auto place = place_of(key);
    if (place && !is_over(row_at(*place).until_ms, now_ms)) neighbours.push_back(key);
  }
  return neighbours;
}

/// From half a delta on each new entry does its share of the merge, so that it ends before the delta does.
void ListsEngine::make_room(std::int64_t now_ms) {
  const std::uint32_t rows = shared_->layout().delta_rows;
  if (active_rows_ < rows / 2) return;
  const std::size_t share = kRowsAtOnce + std::size_t{4} * (base_rows() + rows) / rows;
  do {
    if (phase_ == Phase::kIdle) begin_merge();
    step(now_ms, share);
  } while (active_rows_ == rows);
}

// -------------------------------------------------------------------------------------------------------- evicting

/// Leaves on top a row that still is what it was when it came in; false when there is none.
bool ListsEngine::skip_to_valid(SoonestRows& rows, Layer layer) const {
  for (; !rows.empty(); rows.pop()) {
    const Place place{layer, rows.top().row};
    const ListRow row = row_at(place);
    const bool same = row.list == AclList::kGrey && end_of(row.until_ms) == rows.top().end_ms;
    if (same && in_force(place, row)) return true;
  }
  return false;
}

void ListsEngine::offer_all_of_base() {
  base_soonest_ = {};
  for (std::uint32_t number = 0; number < base_rows(); ++number) {
    const ListRow row = shared_->base_row(root_, number);
    if (row.list == AclList::kGrey && ListsReader::counts_in_base(root_, row)) {
      base_soonest_.offer(row.until_ms, number, shared_->layout().delta_rows);
    }
  }
  base_soonest_.close();
}

std::optional<ListEntry> ListsEngine::evict_soonest() {
  if (!skip_to_valid(base_soonest_, Layer::kBase) && base_soonest_.incomplete()) offer_all_of_base();
  std::optional<Place> soonest;
  std::int64_t end_ms = 0;
  const auto consider = [&](SoonestRows& rows, Layer layer) {
    if (!skip_to_valid(rows, layer)) return;
    if (soonest && rows.top().end_ms >= end_ms) return;
    soonest = Place{layer, rows.top().row};
    end_ms = rows.top().end_ms;
  };
  consider(base_soonest_, Layer::kBase);
  if (root_.has_frozen != 0) consider(frozen_soonest_, Layer::kFrozen);
  consider(active_soonest_, Layer::kActive);
  if (!soonest) return std::nullopt;
  ListEntry entry = entry_at(*soonest);
  strike_out(*soonest);
  return entry;
}

// -------------------------------------------------------------------------------------------------------- removing

std::optional<ListEntry> ListsEngine::remove(const ListKey& key, std::int64_t now_ms) {
  const auto place = place_of(key);
  if (!place) return std::nullopt;
  ListEntry entry = entry_at(*place);
  strike_out(*place);
  if (is_over(entry.until_ms, now_ms)) return std::nullopt;
  return entry;
}

std::size_t ListsEngine::clear(AclList list, std::int64_t now_ms) {
  std::size_t gone = 0;
  for_each_row([&](Place, const ListRow& row) {
    if (row.list == list && !is_over(row.until_ms, now_ms)) ++gone;
  });
  // The next base may have some of them already.
  abandon_merge();
  root_.hidden |= 1U << index_of(list);
  root_.active_floor[index_of(list)] = active_rows_;
  root_.frozen_floor[index_of(list)] = kNoRow;
  write_root();
  counts_.prefixes[index_of(list)] = 0;
  counts_.peers[index_of(list)] = 0;
  shared_->control().counts.write(counts_);
  return gone;
}

std::size_t ListsEngine::expire(std::int64_t now_ms, std::size_t rows) {
  const std::uint32_t frozen_end = base_rows() + (root_.has_frozen != 0 ? frozen_rows_ : 0);
  const std::uint32_t end = frozen_end + active_rows_;
  if (expire_at_ >= end) expire_at_ = 0;
  std::size_t gone = 0;
  for (; rows > 0 && expire_at_ < end; --rows, ++expire_at_) {
    Place place{Layer::kBase, expire_at_};
    if (expire_at_ >= frozen_end) {
      place = {Layer::kActive, expire_at_ - frozen_end};
    } else if (expire_at_ >= base_rows()) {
      place = {Layer::kFrozen, expire_at_ - base_rows()};
    }
    const ListRow row = row_at(place);
    if (!is_over(row.until_ms, now_ms) || !in_force(place, row)) continue;
    strike_out(place);
    ++gone;
  }
  return gone;
}

// --------------------------------------------------------------------------------------------------------- merging

bool ListsEngine::merge_due() const {
  return phase_ != Phase::kIdle || root_.has_frozen != 0 || active_rows_ >= shared_->layout().delta_rows / 8 ||
         (root_.hidden != 0 && base_rows() != 0) ||
         (base_struck_out_ >= kFewStruckOut && base_struck_out_ >= base_rows() / 4);
}

void ListsEngine::merge(std::int64_t now_ms, std::chrono::microseconds budget) {
  if (!merge_due()) return;
  const auto end = std::chrono::steady_clock::now() + budget;
  if (phase_ == Phase::kIdle) begin_merge();
  while (phase_ != Phase::kIdle && std::chrono::steady_clock::now() < end) step(now_ms, kRowsAtOnce);
}

void ListsEngine::begin_merge() {
  if (root_.has_frozen == 0) freeze_delta();
  begin_base();
  copy_row_ = 0;
  copy_frozen_ = frozen_.begin();
  late_strikes_.clear();
  phase_ = Phase::kCopy;
}

/// The other delta is empty: the last merge ended with that.
void ListsEngine::freeze_delta() {
  frozen_ = std::move(active_);
  frozen_soonest_ = std::move(active_soonest_);
  frozen_rows_ = active_rows_;
  active_ = {};
  active_soonest_ = {};
  active_rows_ = 0;
  root_.active ^= 1U;
  root_.has_frozen = 1;
  root_.frozen_floor = root_.active_floor;
  root_.active_floor = {};
  write_root();
}

void ListsEngine::begin_base() {
  // Whoever still reads that base from before it was replaced has to notice.
  raise_revision();
  next_ = {};
  next_.root.base = root_.base ^ 1U;
  // Far from the bound nothing has to go before the next merge.
  next_.collects_soonest = grey_count() + std::size_t{2} * shared_->layout().delta_rows >= grey_limit_;
  if (!next_.collects_soonest) next_.soonest.set_incomplete();
}

void ListsEngine::step(std::int64_t now_ms, std::size_t rows) {
  switch (phase_) {
    case Phase::kIdle:
      return;
    case Phase::kCopy:
      return copy_rows(now_ms, rows);
    case Phase::kLateStrikes:
      return strike_late(rows);
    case Phase::kEmptyDelta:
      return empty_delta();
  }
}

/// Whether the row goes into the next base. One that is over is struck out on the way.
bool ListsEngine::belongs_in_next(Place place, const ListRow& row, std::int64_t now_ms) {
  if (!in_force(place, row)) return false;
  if (!is_over(row.until_ms, now_ms)) return true;
  strike_out(place, Late::kNotThere);
  return false;
}

void ListsEngine::copy_rows(std::int64_t now_ms, std::size_t rows) {
  const std::uint32_t end = base_rows();
  for (; rows > 0; --rows) {
    const bool frozen_left = copy_frozen_ != frozen_.end();
    if (copy_row_ == end && !frozen_left) {
      phase_ = Phase::kLateStrikes;
      return;
    }
    Place place{Layer::kBase, copy_row_};
    ListRow row;
    ListKey key;
    if (copy_row_ < end) {
      row = row_at(place);
      key = key_of(row);
    }
    // Of two rows with one key at most one counts.
    if (copy_row_ == end || (frozen_left && copy_frozen_->first < key)) {
      place = {Layer::kFrozen, copy_frozen_->second};
      row = row_at(place);
      key = copy_frozen_->first;
      ++copy_frozen_;
    } else {
      ++copy_row_;
    }
    if (belongs_in_next(place, row, now_ms)) write_next(new_row(place, key));
  }
}

ListsEngine::NewRow ListsEngine::new_row(Place place, const ListKey& key) const {
  NewRow row{.key = key};
  const ListRow values = row_at(place);
  row.until_ms = values.until_ms;
  row.reason = static_cast<std::uint16_t>(values.reason);
  if (place.layer == Layer::kBase) {
    const ColdRow& cold = shared_->cold(root_.base, place.row);
    row.since_ms = static_cast<std::int64_t>(cold.since);
    row.by = static_cast<std::uint8_t>(cold.meta >> 32U);
    const auto number = static_cast<std::uint32_t>(cold.meta);
    if (number != 0 && number <= shared_->layout().capacity) row.text = shared_->text(root_.base, number - 1).words;
  } else {
    const DeltaRow& delta = shared_->delta_row(delta_of(place.layer), place.row);
    row.since_ms = static_cast<std::int64_t>(delta.since);
    row.by = static_cast<std::uint8_t>(delta.meta >> 16U);
    if (delta.text[0] != 0) row.text = delta.text;
  }
  return row;
}

/// Nothing before the part's first row contains it. What is left of the block before it is no row of any part, and
/// stands in the order as the row before it does.
void ListsEngine::begin_part(ListPart part) {
  next_.ancestors.clear();
  const std::uint32_t base = next_.root.base;
  for (std::uint32_t row = next_.root.end_row(); row < next_.root.first_row(part); ++row) {
    store_word(shared_->head(base, row), load_word(shared_->head(base, row - 1)));
    store_word(shared_->tail(base, row), load_word(shared_->tail(base, row - 1)));
    store_word(shared_->meta(base, row), load_word(shared_->meta(base, row - 1)));
    store_word(shared_->end(base, row), word_of(kStruckOut));
  }
}

/// Appends to the next base, whose rows come in order.
void ListsEngine::write_next(const NewRow& row) {
  ListsRoot& root = next_.root;
  const ListPart part = row.key.part;
  if (root.rows_of(part) == 0) begin_part(part);
  const std::uint32_t number = root.first_row(part) + root.rows_of(part);
  const Bits128 bits{row.key.high, row.key.low};
  const auto contains_row = [&](const Ancestor& ancestor) {
    return ancestor.length <= row.key.length && first_bits(bits, ancestor.length) == ancestor.bits;
  };
  while (!next_.ancestors.empty() && !contains_row(next_.ancestors.back())) next_.ancestors.pop_back();
  const std::uint32_t parent = next_.ancestors.empty() ? kNoRow : next_.ancestors.back().row;
  next_.ancestors.push_back({bits, row.key.length, number});

  const std::uint64_t head = head_of(part, bits);
  store_word(shared_->head(root.base, number), head);
  store_word(shared_->tail(root.base, number), tail_of(part, bits));
  store_word(shared_->end(root.base, number), word_of(row.until_ms));
  store_word(shared_->meta(root.base, number), std::uint64_t{parent} | std::uint64_t{row.key.length} << 32U |
                                                   std::uint64_t{index_of(row.key.list)} << 40U |
                                                   std::uint64_t{row.reason} << 48U);
  std::uint32_t text = 0;
  if (row.text != nullptr) {
    TextRow& target = shared_->text(root.base, next_.texts);
    for (std::size_t i = 0; i < kTextWords; ++i) store_word(target.words[i], row.text[i]);
    text = ++next_.texts;
  }
  ColdRow& cold = shared_->cold(root.base, number);
  store_word(cold.since, word_of(row.since_ms));
  store_word(cold.meta, std::uint64_t{text} | std::uint64_t{row.by} << 32U);

  std::uint32_t index = root.rows[static_cast<std::size_t>(part)]++;
  for (std::size_t level = 1; level < kLevels && index % kFanOut == 0; ++level) {
    index /= kFanOut;
    store_word(shared_->key(root.base, part, level, index), head);
  }
  if (next_.collects_soonest && row.key.list == AclList::kGrey) {
    next_.soonest.offer(row.until_ms, number, shared_->layout().delta_rows);
  }
}

void ListsEngine::strike_late(std::size_t rows) {
  for (; rows > 0 && !late_strikes_.empty(); --rows) {
    if (const auto row = shared_->find_in_base(next_.root, late_strikes_.back())) {
      store_word(shared_->end(next_.root.base, *row), word_of(kStruckOut));
    }
    late_strikes_.pop_back();
  }
  if (late_strikes_.empty()) publish();
}

void ListsEngine::publish() {
  root_.base = next_.root.base;
  root_.rows = next_.root.rows;
  root_.hidden = 0;
  root_.has_frozen = 0;
  root_.frozen_floor = {};
  write_root();
  base_soonest_ = std::move(next_.soonest);
  base_soonest_.close();
  next_ = {};
  frozen_soonest_ = {};
  frozen_rows_ = 0;
  base_struck_out_ = 0;
  emptied_slots_ = 0;
  phase_ = Phase::kEmptyDelta;
}

void ListsEngine::empty_delta() {
  constexpr std::uint32_t kSlotsAtOnce = 4096;
  constexpr std::size_t kNodesAtOnce = 512;
  const std::uint32_t delta = root_.active ^ 1U;
  const std::uint32_t slots = shared_->layout().delta_slots;
  if (emptied_slots_ < slots) {
    // Whoever still reads that delta from before it was dropped has to notice.
    raise_revision();
    const std::uint32_t end = std::min(slots, emptied_slots_ + kSlotsAtOnce);
    for (; emptied_slots_ < end; ++emptied_slots_) store_word(shared_->slot(delta, emptied_slots_), std::uint32_t{0});
  }
  for (std::size_t i = 0; i < kNodesAtOnce && !frozen_.empty(); ++i) frozen_.erase(frozen_.begin());
  if (emptied_slots_ < slots || !frozen_.empty()) return;
  DeltaHead& head = shared_->delta_head(delta);
  for (std::uint32_t word = 0; word < kFilterWords; ++word)
    store_word(shared_->filter_word(delta, word), std::uint64_t{0});
  store_word(head.peers, std::uint64_t{0});
  store_word(head.ipv4_lengths, std::uint64_t{0});
  for (auto& lengths : head.ipv6_lengths) store_word(lengths, std::uint64_t{0});
  phase_ = Phase::kIdle;
}

void ListsEngine::abandon_merge() {
  if (phase_ != Phase::kCopy && phase_ != Phase::kLateStrikes) return;
  late_strikes_.clear();
  next_ = {};
  phase_ = Phase::kIdle;
}

Result<void> ListsEngine::rebuild(std::vector<ListEntry> entries, std::int64_t now_ms) {
  std::vector<std::pair<ListKey, std::uint32_t>> order;
  order.reserve(entries.size());
  for (std::uint32_t i = 0; i < entries.size(); ++i) {
    if (check(entries[i], now_ms)) order.emplace_back(key_of(entries[i]), i);
  }
  std::sort(order.begin(), order.end());
  std::size_t kept = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const bool last_of_its_key = i + 1 == order.size() || order[i + 1].first != order[i].first;
    if (last_of_its_key) order[kept++] = order[i];
  }
  order.resize(kept);
  if (kept > shared_->layout().capacity) {
    return Error{ErrorCode::kTooLarge, std::to_string(kept) + " entries do not fit into lists of " +
                                           std::to_string(shared_->layout().capacity)};
  }

  abandon_merge();
  while (phase_ != Phase::kIdle) step(now_ms, kRowsAtOnce);
  begin_base();
  for (const auto& [key, index] : order) {
    const ListEntry& entry = entries[index];
    const auto words = words_of(entry.text);
    write_next({.key = key,
                .until_ms = entry.until_ms,
                .since_ms = entry.since_ms,
                .reason = static_cast<std::uint16_t>(entry.reason),
                .by = static_cast<std::uint8_t>(entry.by),
                .text = words[0] != 0 ? words.data() : nullptr});
  }
  root_.active_floor.fill(active_rows_);
  publish();
  while (phase_ != Phase::kIdle) step(now_ms, kRowsAtOnce);
  // Nothing in the active delta counts any more: the empty one takes its place.
  freeze_delta();
  root_.has_frozen = 0;
  write_root();
  emptied_slots_ = 0;
  phase_ = Phase::kEmptyDelta;
  while (phase_ != Phase::kIdle) step(now_ms, kRowsAtOnce);
  recount();
  while (grey_count() > grey_limit_ && evict_soonest()) {
  }
  return {};
}

// ----------------------------------------------------------------------------------------------------- taking over

Result<std::unique_ptr<ListsEngine>> ListsEngine::map(int fd, ListsWriter::Limits limits) {
  auto reader = ListsReader::map(fd, Access::kReadWrite);
  if (!reader) return reader.error();
  std::unique_ptr<ListsEngine> engine(new ListsEngine(std::make_shared<const ListsReader>(std::move(*reader)), limits));
  engine->take_over();
  return engine;
}

void ListsEngine::take_over() {
  root_ = shared_->root();
  active_rows_ = read_delta(Layer::kActive, active_);
  if (root_.has_frozen != 0) {
    frozen_rows_ = read_delta(Layer::kFrozen, frozen_);
  } else {
    phase_ = Phase::kEmptyDelta;
    while (phase_ != Phase::kIdle) empty_delta();
  }
  finish_replacements();
  recount();
}

/// Fills the index, and returns how many rows are used.
std::uint32_t ListsEngine::read_delta(Layer layer, DeltaIndex& index) {
  const std::uint32_t delta = delta_of(layer);
  std::uint32_t used = 0;
  for (const std::uint32_t floor : ListsReader::floors(root_, delta)) {
    if (floor <= shared_->layout().delta_rows) used = std::max(used, floor);
  }
  std::vector<bool> has_slot(shared_->layout().delta_rows);
  for (std::uint32_t i = 0; i < shared_->layout().delta_slots; ++i) {
    const std::uint32_t row = (load_word(shared_->slot(delta, i)) & kSlotRowMask) - 1;
    if (row >= has_slot.size()) continue;
    const ListRow values = shared_->delta_row_of(delta, row);
    index[key_of(values)] = row;
    has_slot[row] = true;
    used = std::max(used, row + 1);
  }
  // Rows whose slot went to a newer one, before they were struck out.
  for (std::uint32_t row = 0; row < used; ++row) {
    if (!has_slot[row]) store_word(shared_->delta_row(delta, row).until, word_of(kStruckOut));
  }
  return used;
}

/// A predecessor may have died after it added an entry and before it struck out the older one.
void ListsEngine::finish_replacements() {
  const auto strike_older = [this](const DeltaIndex& index, Layer layer) {
    for (const auto& [key, row] : index) {
      const Place place{layer, row};
      if (!in_force(place, row_at(place))) continue;
      if (layer == Layer::kActive && root_.has_frozen != 0) {
        const auto older = shared_->find_in_delta(root_, delta_of(Layer::kFrozen), key);
        if (older) strike_out({Layer::kFrozen, *older});
      }
      if (const auto older = shared_->find_in_base(root_, key)) strike_out({Layer::kBase, *older});
    }
  };
  strike_older(active_, Layer::kActive);
  if (root_.has_frozen != 0) strike_older(frozen_, Layer::kFrozen);
}

void ListsEngine::recount() {
  counts_ = {};
  for_each_row([this](Place place, const ListRow& row) {
    ++(row.part == ListPart::kPeers ? counts_.peers : counts_.prefixes)[index_of(row.list)];
    if (row.list != AclList::kGrey || place.layer == Layer::kBase) return;
    (place.layer == Layer::kActive ? active_soonest_ : frozen_soonest_).push(row.until_ms, place.row);
  });
  shared_->control().counts.write(counts_);
  base_struck_out_ = 0;
  for (std::uint32_t row = 0; row < base_rows(); ++row) {
    if (!ListsReader::counts_in_base(root_, shared_->base_row(root_, row))) ++base_struck_out_;
  }
  base_soonest_ = {};
  base_soonest_.set_incomplete();
}

// ------------------------------------------------------------------------------------------------------ the writer

Result<ListsWriter> ListsWriter::map(int fd, Limits limits) {
  auto engine = ListsEngine::map(fd, limits);
  if (!engine) return engine.error();
  return ListsWriter(std::move(*engine));
}

ListsWriter::ListsWriter(std::unique_ptr<ListsEngine> engine) : engine_(std::move(engine)) {}
ListsWriter::ListsWriter(ListsWriter&&) noexcept = default;
ListsWriter& ListsWriter::operator=(ListsWriter&&) noexcept = default;
ListsWriter::~ListsWriter() = default;

const ListsTable& ListsWriter::table() const {
  return engine_->table();
}

Result<ListAddition> ListsWriter::add(const ListEntry& entry, std::int64_t now_ms) {
  return engine_->add(entry, now_ms);
}

std::optional<ListEntry> ListsWriter::remove(AclList list, const Prefix& prefix, std::int64_t now_ms) {
  return engine_->remove(key_of(list, prefix), now_ms);
}

std::optional<ListEntry> ListsWriter::remove(AclList list, const PeerId& peer, std::int64_t now_ms) {
  return engine_->remove(key_of(list, peer), now_ms);
}

std::size_t ListsWriter::clear(AclList list, std::int64_t now_ms) {
  return engine_->clear(list, now_ms);
}

std::size_t ListsWriter::expire(std::int64_t now_ms, std::size_t rows) {
  return engine_->expire(now_ms, rows);
}

bool ListsWriter::merge_due() const {
  return engine_->merge_due();
}

void ListsWriter::merge(std::int64_t now_ms, std::chrono::microseconds budget) {
  engine_->merge(now_ms, budget);
}

Result<void> ListsWriter::rebuild(std::vector<ListEntry> entries, std::int64_t now_ms) {
  return engine_->rebuild(std::move(entries), now_ms);
}

}  // namespace bulkhead::shm
