#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "base/address_group.h"
#include "base/clock.h"
#include "base/ids.h"
#include "shm/tables.h"

/// Whom to dial. Pure.
namespace bulkhead::maintainer {

/// What a decision is made from: copies of the pool's rows, of slots at the index of the slot.
struct PoolView {
  std::vector<shm::SlotRow> slots;
  std::vector<shm::PointRow> points;
};

/// Copies the rows that can be read. Does not block.
PoolView view_of(const shm::PoolTable& table);

struct Candidate {
  Point point;
  AddressGroup group = 0;
  std::int64_t last_miss_ms = 0;  ///< 0: never missed
  bool trusted = false;
  bool tried = false;
  bool anchor = false;
};

/// Latest of failed, rejected and disconnected, 0: never.
std::int64_t last_miss_ms(const shm::PointRow& row);

struct Candidates {
  std::vector<Candidate> now;
  Nanoseconds next = 0;  ///< when the next back-off of another one ends; 0: there is none
};

/// Points that may be dialled: used, disconnected, past their back-off, not in `excluded` and, when `trusted_only`,
/// trusted.
Candidates candidates_of(const PoolView& view, bool trusted_only, const std::set<Point>& excluded, Nanoseconds now);

/// At most `count` of the candidates, the best first.
///
/// Not `hardened`, as Octez: never missed first, then the longest ago, of equals by chance. Hardened: trusted ones and
/// anchors come first. Then each place goes, by the toss of a coin, to a point that worked before or to one that never
/// did (to the other kind when there is none), and of these to a group of which there are fewest in `in_use` and among
/// those chosen here, by chance. So neither a flood of fresh addresses nor many addresses of few owners get more than
/// their share, and no place stays empty for want of groups.
std::vector<Point> choose_dials(const std::vector<Candidate>& candidates, std::size_t count, bool hardened,
                                std::map<AddressGroup, std::uint32_t> in_use,
                                const std::function<std::uint64_t()>& random);

}  // namespace bulkhead::maintainer
