#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "base/clock.h"
#include "base/connection_bounds.h"
#include "base/ids.h"
#include "services/common/choice.h"
#include "services/maintainer/selection.h"

namespace bulkhead::maintainer {

struct MaintenanceSettings {
  ConnectionBounds bounds;
  std::uint32_t minimum = 0;
  std::uint32_t maximum = 0;
  Nanoseconds idle = 120 * kSecond;  ///< a run at least this often
  std::uint32_t at_once = 32;        ///< dials under way
  bool enabled = true;
  bool private_mode = false;  ///< trusted points only; nobody is asked, no swaps, no feelers
  bool exchange = true;       ///< whether neighbours may be asked for points
  bool announces = false;     ///< LAN discovery is on
  bool swap = true;
  bool hardened = true;
  double score_half_life_s = 0;
  Nanoseconds feeler_period = 120 * kSecond;  ///< on average
  std::vector<Point> own_points = {};
};

/// What a look at the pool asks of the shell, in this order: the closing ones give their places to those dialled.
struct Work {
  std::vector<SlotRef> closes;  ///< too many
  std::vector<Point> dials;
  std::optional<Point> feeler;      ///< dialled to see whether it answers, and closed when it did
  bool ask_for_peers = false;       ///< Bootstrap to all neighbours that are not private
  bool announce = false;            ///< on the LAN, often again: neighbours are missing
  bool propose_swap = false;        ///< one Swap_request
  std::vector<std::uint64_t> done;  ///< requests whose run is over, or can get no further for now
  Nanoseconds look_again_at = 0;    ///< at the latest; earlier when the pool changes
};

/// The maintenance worker's decisions: runs that bring the number of connections into its bounds. Pure: it keeps what
/// it has begun, and is given the pool, the time and chance. One thread. Source: the maintenance of Octez.
///
/// A run begins at the start, when `idle` has passed since the last one, on request, below `minimum` and on reaching
/// `maximum`, whichever is first; there is one at a time, and what asks meanwhile waits for its end. In a run:
///
/// | connections                  | done                                                      | the run               |
/// |------------------------------|-----------------------------------------------------------|-----------------------|
/// | above max_threshold          | close down to max_target (choose_victims)                 | goes on               |
/// | below min_threshold          | dial (choose_dials) up to max_target in sum with those on | goes on to min_target |
/// |                              | their way; too few candidates: ask, wait 5 s, start over  |                       |
/// | between                      | one Swap_request                                          | ends                  |
///
/// Hardened, a run that finds enough connections also
///
/// - dials as long as there are fewer than min_target, or fewer than a third of it are outgoing, as incoming ones are
///   chosen by others;
/// - asks its neighbours while it knows fewer than three points for each connection that it may have, so that dials
///   spread over more than the few that all know.
///
/// Between runs one known point that was never tried is dialled now and then, and mostly closed at once (a feeler).
/// Those that stay are how the parts of a network that was cut find together again. Where there are more than
/// min_target, what a node dials of its own choice (the first of these, and a feeler that stays) takes the place of an
/// incoming connection: else numbers would rise until others are pushed out.
class Maintenance {
 public:
  Maintenance(MaintenanceSettings settings, std::function<std::uint64_t()> random);

  /// Somebody wants a run; `id` comes back in Work::done.
  void request(std::uint64_t id) { waiting_.push_back(id); }

  /// `busy`: dials of the shell that the pool may not show yet, the feeler's among them.
  Work look(const PoolView& view, const std::set<Point>& busy, Nanoseconds now, std::int64_t now_ms);

  /// Runs that have ended.
  std::uint64_t runs() const { return runs_; }
  bool running() const { return running_; }

 private:
  struct Counts {
    std::uint32_t occupied = 0;  ///< accepted and running
    std::uint32_t active = 0;    ///< those less the ones that were told to close
    std::uint32_t outgoing = 0;
    std::uint32_t under_way = 0;                   ///< dials and outgoing handshakes
    std::map<AddressGroup, std::uint32_t> groups;  ///< of outgoing ones and of dials
    std::vector<service::Neighbour> neighbours;
  };
  Counts count(const PoolView& view, const std::set<Point>& busy, std::int64_t now_ms);
  void begin_if_due(const Counts& counts, Nanoseconds now);
  /// Whether those of its own choice that came since the last look had others closed.
  bool replace(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Work& work);
  void close(const std::vector<SlotRef>& victims, Work& work);
  void run(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now, Work& work);
  void close_some(const Counts& counts, Work& work);
  void fill(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now, Work& work);
  void ask(const Counts& counts, Nanoseconds now, Work& work);
  void add_outgoing(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now,
                    Work& work);
  std::vector<Point> choose_freely(const PoolView& view, const std::set<Point>& excluded, const Counts& counts,
                                   std::uint32_t count, Nanoseconds now);
  void feel(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now, Work& work);
  void finish(Nanoseconds now, Work& work);
  void look_by(Nanoseconds at, Work& work) const;
  std::set<Point> excluded(const std::set<Point>& busy) const;

  MaintenanceSettings settings_;
  std::function<std::uint64_t()> random_;
  bool running_ = false;
  bool filling_ = false;   ///< below min_threshold once, so on to min_target
  bool was_full_ = false;  ///< the maximum was reached at the last look
  std::uint64_t runs_ = 0;
  std::optional<Nanoseconds> next_run_;  ///< of the idle timer; nothing: never run yet
  std::optional<Nanoseconds> next_feeler_;
  std::vector<std::uint64_t> waiting_;
  std::set<SlotRef> closing_;   ///< told to close, and running still
  std::set<Point> own_choice_;  ///< on their way, to take the place of incoming ones
  std::set<Point> seen_;        ///< dialled in this round
  std::optional<Nanoseconds> round_at_;
  std::optional<Nanoseconds> asked_at_;
  bool asked_in_run_ = false;
  std::uint32_t asked_active_ = 0;
  std::optional<Nanoseconds> announced_at_;
};

}  // namespace bulkhead::maintainer
