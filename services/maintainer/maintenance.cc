#include "services/maintainer/maintenance.h"

#include <algorithm>

namespace bulkhead::maintainer {
namespace {

// Octez waits this long between two rounds of asking its neighbours for more.
constexpr Nanoseconds kAskPeriod = 5 * kSecond;
// Of the connections that a hardened node goes for at least, one in three is its own choice.
constexpr std::uint32_t kOutgoingShare = 3;
// One feeler in so many stays: else the halves of a network that was cut for long would never find together again.
constexpr std::uint64_t kKeptFeelers = 10;
// Points that a hardened node wants to know for each connection that it may have. Who knows only the few that all
// others know dials those, however many they have.
constexpr std::size_t kKnownPerConnection = 3;

bool is_active(const shm::SlotRow& row) {
  return row.state == static_cast<std::uint32_t>(shm::SlotState::kAccepted) ||
         row.state == static_cast<std::uint32_t>(shm::SlotState::kRunning);
}

std::uint32_t less(std::uint32_t a, std::uint32_t b) {
  return a > b ? a - b : 0;
}

}  // namespace

Maintenance::Maintenance(MaintenanceSettings settings, std::function<std::uint64_t()> random)
    : settings_(std::move(settings)), random_(std::move(random)) {}

Work Maintenance::look(const PoolView& view, const std::set<Point>& busy, Nanoseconds now, std::int64_t now_ms) {
  Work work;
  if (!settings_.enabled) {
    work.done = std::exchange(waiting_, {});
    return work;
  }
  Counts counts = count(view, busy, now_ms);
  if (replace(view, busy, counts, work)) counts = count(view, busy, now_ms);
  begin_if_due(counts, now);
  if (running_) {
    run(view, busy, counts, now, work);
  } else {
    feel(view, busy, counts, now, work);
  }
  if (!running_) {
    look_by(*next_run_, work);
    if (next_feeler_) look_by(*next_feeler_, work);
  }
  return work;
}

Maintenance::Counts Maintenance::count(const PoolView& view, const std::set<Point>& busy, std::int64_t now_ms) {
  Counts counts;
  std::set<SlotRef> still_closing;
  for (SlotId id = 0; id < view.slots.size(); ++id) {
    const shm::SlotRow& row = view.slots[id];
    if (!is_active(row)) continue;
    ++counts.occupied;
    const SlotRef ref{id, row.generation};
    if (closing_.contains(ref)) {
      still_closing.insert(ref);
      continue;
    }
    ++counts.active;
    const bool outgoing = row.direction != 0;
    if (outgoing) {
      ++counts.outgoing;
      ++counts.groups[row.group];
    }
    if (row.state != static_cast<std::uint32_t>(shm::SlotState::kRunning)) continue;
    const double score = static_cast<double>(row.score_milli) / 1000;
    counts.neighbours.push_back({ref, outgoing, row.trusted != 0, row.group, row.since_ms, row.handshake_us,
                                 service::decayed_score(score, row.score_ms, now_ms, settings_.score_half_life_s)});
  }
  closing_ = std::move(still_closing);
  std::set<Point> unseen = busy;
  for (const auto& row : view.points) {
    const Point point{Address{row.address}, row.port};
    const auto state = static_cast<shm::PointState>(row.state);
    if (state == shm::PointState::kRequested) {
      ++counts.under_way;
      ++counts.groups[row.group];
    }
    if (state != shm::PointState::kDisconnected) unseen.erase(point);
  }
  counts.under_way += static_cast<std::uint32_t>(unseen.size());
  return counts;
}

void Maintenance::begin_if_due(const Counts& counts, Nanoseconds now) {
  const bool full = counts.active >= settings_.maximum;
  const bool reached_maximum = full && !was_full_;
  was_full_ = full;
  if (running_) return;
  running_ =
      !next_run_ || now >= *next_run_ || !waiting_.empty() || counts.active < settings_.minimum || reached_maximum;
}

bool Maintenance::replace(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Work& work) {
  if (own_choice_.empty()) return false;
  std::set<Point> on_their_way;
  std::uint32_t came = 0;
  for (const auto& row : view.points) {
    const Point point{Address{row.address}, row.port};
    if (!own_choice_.contains(point)) continue;
    const auto state = static_cast<shm::PointState>(row.state);
    if (state == shm::PointState::kRunning) {
      ++came;
    } else if (state != shm::PointState::kDisconnected || busy.contains(point)) {
      on_their_way.insert(point);
    }
  }
  own_choice_ = std::move(on_their_way);
  const std::uint32_t surplus = std::min(came, less(counts.active, settings_.bounds.min_target));
  if (surplus == 0) return false;
  std::vector<service::Neighbour> incoming = counts.neighbours;
  std::erase_if(incoming, [](const auto& one) { return one.outgoing; });
  close(service::choose_victims(incoming, surplus, true, random_), work);
  return true;
}

void Maintenance::close(const std::vector<SlotRef>& victims, Work& work) {
  work.closes.insert(work.closes.end(), victims.begin(), victims.end());
  closing_.insert(victims.begin(), victims.end());
}

void Maintenance::run(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now,
                      Work& work) {
  const auto& bounds = settings_.bounds;
  if (counts.active > bounds.max_threshold) {
    close_some(counts, work);
    add_outgoing(view, busy, counts, now, work);
    // The others are trusted: nothing more can be done.
    if (work.closes.empty()) finish(now, work);
    return;
  }
  filling_ = counts.active < bounds.min_threshold || (filling_ && counts.active < bounds.min_target);
  if (filling_) {
    fill(view, busy, counts, now, work);
    return;
  }
  // Those that were told to close are still there.
  if (!closing_.empty()) return;
  work.propose_swap = settings_.swap && !settings_.private_mode && counts.active > 0;
  add_outgoing(view, busy, counts, now, work);
  const bool knows_few = view.points.size() < std::size_t{settings_.maximum} * kKnownPerConnection;
  work.ask_for_peers =
      settings_.hardened && settings_.exchange && !settings_.private_mode && counts.active > 0 && knows_few;
  finish(now, work);
}

void Maintenance::close_some(const Counts& counts, Work& work) {
  close(service::choose_victims(counts.neighbours, counts.active - settings_.bounds.max_target, settings_.hardened,
                                random_),
        work);
}

void Maintenance::fill(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now,
                       Work& work) {
  const std::uint32_t reached = counts.occupied + counts.under_way;
  const std::uint32_t wanted = less(settings_.bounds.max_target, reached);
  if (round_at_ && now - *round_at_ >= kAskPeriod) {
    seen_.clear();
    round_at_.reset();
  }
  auto candidates = candidates_of(view, settings_.private_mode, excluded(busy), now);
  // Trusted points are the way into the network: of these the back-off alone decides.
  std::erase_if(candidates.now, [&](const auto& one) { return !one.trusted && seen_.contains(one.point); });
  const std::uint32_t room = std::min(wanted, less(settings_.at_once, counts.under_way));
  work.dials = choose_dials(candidates.now, room, settings_.hardened, counts.groups, random_);
  seen_.insert(work.dials.begin(), work.dials.end());
  if (!seen_.empty() && !round_at_) round_at_ = now;
  // Whom nobody answered, or who told nothing new, has got no further.
  const bool asked_in_vain = asked_in_run_ && now - *asked_at_ >= kAskPeriod;
  if (candidates.now.size() < wanted) {
    ask(counts, now, work);
    if (round_at_) look_by(*round_at_ + kAskPeriod, work);
  }
  if (wanted > 0 && candidates.next > now) look_by(candidates.next, work);
  look_by(now + settings_.idle, work);
  const bool stuck = work.dials.empty() && counts.under_way == 0;
  const bool answers_may_come = !asked_in_vain && asked_at_ && now - *asked_at_ < kAskPeriod;
  if (stuck && !answers_may_come) work.done = std::exchange(waiting_, {});
}

void Maintenance::ask(const Counts& counts, Nanoseconds now, Work& work) {
  if (settings_.private_mode || !settings_.exchange) return;
  if (settings_.announces) {
    work.announce = !announced_at_ || now - *announced_at_ >= kAskPeriod;
    if (work.announce) announced_at_ = now;
    look_by(*announced_at_ + kAskPeriod, work);
  }
  if (counts.active == 0) return;
  // A neighbour that was not asked yet is asked at once.
  const bool due = !asked_at_ || now - *asked_at_ >= kAskPeriod || counts.active > asked_active_;
  if (due) {
    work.ask_for_peers = true;
    asked_at_ = now;
    asked_in_run_ = true;
    asked_active_ = counts.active;
  }
  look_by(*asked_at_ + kAskPeriod, work);
}

void Maintenance::add_outgoing(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now,
                               Work& work) {
  if (!settings_.hardened || settings_.private_mode) return;
  const std::uint32_t share = settings_.bounds.min_target / kOutgoingShare;
  const std::uint32_t missing = std::max(less(share, counts.outgoing + counts.under_way),
                                         less(settings_.bounds.min_target, counts.active + counts.under_way));
  // What is closed is gone before what is dialled is asked for: nobody can take the place in between.
  const std::uint32_t stay = less(counts.occupied, static_cast<std::uint32_t>(work.closes.size()));
  const std::uint32_t free = less(settings_.maximum, stay + counts.under_way);
  const std::uint32_t room = std::min({missing, free, less(settings_.at_once, counts.under_way)});
  if (room == 0) return;
  work.dials = choose_freely(view, excluded(busy), counts, room, now);
  own_choice_.insert(work.dials.begin(), work.dials.end());
}

// All of a network trust the same few: who can do without them leaves them to those that cannot.
std::vector<Point> Maintenance::choose_freely(const PoolView& view, const std::set<Point>& excluded,
                                              const Counts& counts, std::uint32_t count, Nanoseconds now) {
  auto candidates = candidates_of(view, false, excluded, now);
  for (auto& candidate : candidates.now) candidate.trusted = false;
  return choose_dials(candidates.now, count, true, counts.groups, random_);
}

void Maintenance::feel(const PoolView& view, const std::set<Point>& busy, const Counts& counts, Nanoseconds now,
                       Work& work) {
  if (!settings_.hardened || settings_.private_mode || settings_.feeler_period == 0) return;
  if (!next_feeler_) next_feeler_ = now + settings_.feeler_period;
  if (now < *next_feeler_) return;
  // Not at fixed times, so that nobody can lie in wait.
  next_feeler_ = now + settings_.feeler_period / 2 + random_() % settings_.feeler_period;
  const bool has_room =
      counts.active >= settings_.bounds.min_threshold && counts.active < settings_.bounds.max_threshold;
  if (!has_room || counts.occupied + counts.under_way >= settings_.maximum) return;
  auto candidates = candidates_of(view, false, excluded(busy), now);
  std::erase_if(candidates.now, [](const auto& one) { return one.tried || one.trusted; });
  const auto chosen = choose_dials(candidates.now, 1, true, {}, random_);
  if (chosen.empty()) return;
  const bool kept = counts.active + counts.under_way < settings_.bounds.max_target && random_() % kKeptFeelers == 0;
  if (kept) {
    work.dials = chosen;
    own_choice_.insert(chosen.front());
  } else {
    work.feeler = chosen.front();
  }
}

void Maintenance::finish(Nanoseconds now, Work& work) {
  running_ = false;
  filling_ = false;
  asked_in_run_ = false;
  ++runs_;
  next_run_ = now + settings_.idle;
  seen_.clear();
  round_at_.reset();
  for (const auto id : std::exchange(waiting_, {})) work.done.push_back(id);
}

void Maintenance::look_by(Nanoseconds at, Work& work) const {
  work.look_again_at = work.look_again_at == 0 ? at : std::min(work.look_again_at, at);
}

std::set<Point> Maintenance::excluded(const std::set<Point>& busy) const {
  std::set<Point> points = busy;
  points.insert(settings_.own_points.begin(), settings_.own_points.end());
  return points;
}

}  // namespace bulkhead::maintainer
