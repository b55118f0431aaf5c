#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "shm/lists_reader.h"

namespace bulkhead::shm {

/// Rows by their end, the soonest first. Ones that were struck out since are for the caller to skip.
class SoonestRows {
 public:
  struct Candidate {
    std::int64_t end_ms = 0;  ///< the greatest number for an entry that has no end
    std::uint32_t row = 0;
  };

  bool empty() const { return candidates_.empty(); }
  const Candidate& top() const { return candidates_.front(); }
  void pop();
  void push(std::int64_t until_ms, std::uint32_t row);

  /// Collects of many rows the `size` that end soonest: offer() each, then close(). No push() before close().
  void offer(std::int64_t until_ms, std::uint32_t row, std::size_t size);
  void close();
  /// Whether something was not offered, or found no room.
  bool incomplete() const { return incomplete_; }
  void set_incomplete() { incomplete_ = true; }

 private:
  std::vector<Candidate> candidates_;
  bool incomplete_ = false;
};

/// What ListsWriter does. The rule of every function: whatever a reader could see changes by single stores, each with
/// the revision raised before it, in an order that leaves the lists right after each of them. Its own private memory is
/// an index of the two deltas, the state of a merge, and candidates for eviction.
class ListsEngine {
 public:
  static Result<std::unique_ptr<ListsEngine>> map(int fd, ListsWriter::Limits limits);

  const ListsTable& table() const { return table_; }

  Result<ListAddition> add(const ListEntry& entry, std::int64_t now_ms);
  std::optional<ListEntry> remove(const ListKey& key, std::int64_t now_ms);
  std::size_t clear(AclList list, std::int64_t now_ms);
  std::size_t expire(std::int64_t now_ms, std::size_t rows);
  bool merge_due() const;
  void merge(std::int64_t now_ms, std::chrono::microseconds budget);
  Result<void> rebuild(std::vector<ListEntry> entries, std::int64_t now_ms);

 private:
  enum class Layer : std::uint8_t { kActive, kFrozen, kBase };
  struct Place {
    Layer layer = Layer::kBase;
    std::uint32_t row = 0;
  };
  enum class Phase : std::uint8_t { kIdle, kCopy, kLateStrikes, kEmptyDelta };
  using DeltaIndex =
      std::map<ListKey, std::uint32_t>;  ///< to its newest row, which may be struck out or below the floor

  /// A row of the base that is being written; its text is words of shared memory or null.
  struct NewRow {
    ListKey key;
    std::int64_t until_ms = 0;
    std::int64_t since_ms = 0;
    std::uint16_t reason = 0;
    std::uint8_t by = 0;
    const std::uint64_t* text = nullptr;
  };

  struct Ancestor {
    Bits128 bits;
    std::uint8_t length = 0;
    std::uint32_t row = 0;
  };

  /// The base that is being written.
  struct NextBase {
    ListsRoot root{};  ///< which one, and its rows
    std::uint32_t texts = 0;
    std::vector<Ancestor> ancestors;  ///< the rows that contain the last one, and it: outermost first
    SoonestRows soonest;
    bool collects_soonest = true;
  };

  ListsEngine(std::shared_ptr<const ListsReader> shared, ListsWriter::Limits limits);

  // Reading
  std::uint32_t delta_of(Layer layer) const { return layer == Layer::kActive ? root_.active : root_.active ^ 1U; }
  std::uint32_t base_rows() const { return root_.end_row(); }
  ListRow row_at(Place place) const;
  ListEntry entry_at(Place place) const;
  /// Whether the row counts; it may be over.
  bool in_force(Place place, const ListRow& row) const;
  std::optional<Place> place_of(const ListKey& key) const;
  std::size_t grey_count() const;
  std::size_t total_count() const;
  /// Calls visit(Place, ListRow) for every row that counts.
  template <typename Visit>
  void for_each_row(const Visit& visit) const;

  // Steps
  void raise_revision();
  void write_root();
  void count(AclList list, ListPart part, int change);
  enum class Late : std::uint8_t { kInNextBaseToo, kNotThere };
  void strike_out(Place place, Late late = Late::kInNextBaseToo);
  void append(const ListEntry& entry);
  std::uint32_t slot_for(const ListKey& key, std::uint64_t hash) const;
  void note_length(const ListKey& key);

  // Adding
  Result<void> check(const ListEntry& entry, std::int64_t now_ms) const;
  Result<ListAddition> put(const ListEntry& entry, std::int64_t now_ms);
  Result<ListAddition> put_into_aggregate(const ListEntry& entry, const Prefix& aggregate, std::int64_t now_ms);
  std::vector<ListKey> grey_neighbours(const Prefix& aggregate, std::int64_t now_ms) const;
  void make_room(std::int64_t now_ms);

  // Evicting
  std::optional<ListEntry> evict_soonest();
  void offer_all_of_base();
  bool skip_to_valid(SoonestRows& rows, Layer layer) const;

  // Merging
  void begin_merge();
  void freeze_delta();
  void begin_base();
  void step(std::int64_t now_ms, std::size_t rows);
  void copy_rows(std::int64_t now_ms, std::size_t rows);
  bool belongs_in_next(Place place, const ListRow& row, std::int64_t now_ms);
  NewRow new_row(Place place, const ListKey& key) const;
  void begin_part(ListPart part);
  void write_next(const NewRow& row);
  void strike_late(std::size_t rows);
  void publish();
  void empty_delta();
  void abandon_merge();

  // Taking over
  void take_over();
  std::uint32_t read_delta(Layer layer, DeltaIndex& index);
  void finish_replacements();
  void recount();

  std::shared_ptr<const ListsReader> shared_;
  ListsTable table_;
  std::uint32_t grey_limit_;
  ListsRoot root_{};
  CountsRow counts_{};
  std::uint32_t active_rows_ = 0;  ///< used so far: none is used twice
  std::uint32_t frozen_rows_ = 0;
  DeltaIndex active_;
  DeltaIndex frozen_;
  std::uint32_t base_struck_out_ = 0;
  std::uint32_t expire_at_ = 0;

  Phase phase_ = Phase::kIdle;
  NextBase next_;
  std::uint32_t copy_row_ = 0;
  DeltaIndex::const_iterator copy_frozen_;
  std::vector<ListKey> late_strikes_;  ///< struck out since the merge began: the next base may have them
  std::uint32_t emptied_slots_ = 0;

  SoonestRows active_soonest_;
  SoonestRows frozen_soonest_;
  SoonestRows base_soonest_;
};

}  // namespace bulkhead::shm
