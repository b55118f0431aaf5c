#pragma once

#include <functional>
#include <list>

#include "base/prefix.h"
#include "services/controller/pool_context.h"
#include "services/controller/pool_ending.h"

namespace bulkhead::controller {

/// The known points: who may come among them and who goes, their states with the back-off between two attempts, their
/// histories, and their rows. A pointer to one is good until it is forgotten, which adding another may cause.
class PoolPoints {
 public:
  explicit PoolPoints(const PoolContext& context);

  const KnownPoints& all() const { return points_; }
  KnownPoint* find(const Point& point);
  const KnownPoint* find(const Point& point) const;
  bool contains(const Point& point) const { return points_.contains(point); }
  /// Dials that have not led to a connection yet.
  std::uint32_t requested() const;

  // What it begins with.
  /// What a former controller left in the table: all disconnected.
  void recover();
  /// As Pool::restore().
  void restore(const Point& point, KnownPoint known, Now now);
  void restore(const Point& point, std::uint64_t number, const shm::HistoryEvent& event);

  // Who is known.
  /// Adds a point by our own wish, or finds it. Null for a port of 0, an own point, or a full table.
  KnownPoint* add(const Point& point, bool trusted, Now now);
  /// Finds it, or adds what we did not choose to know: bounded, when hardened, by who told of it and by what it is.
  KnownPoint* learn(const Point& point, AddressGroup source, Now now);
  /// What somebody on the local network announced. True: it is new.
  bool hear_on_lan(const Point& point, Now now);
  void forget(const Point& point);
  void set_anchor(const Point& point, Now now);
  /// Takes trust from every point of the prefix; shows nothing of it yet. Whether there was one.
  bool untrust(const Prefix& prefix);

  // Which are ourselves.
  void add_own(const Point& point);
  void met_myself(const Point& point);
  bool is_own(const Point& point) const;
  /// See Pool::dialable().
  bool dialable(const Point& point) const;

  // What happens to one.
  void request(const Point& point, KnownPoint& known, Now now);
  void dial_failed(const Point& point, Reason reason, Now now);
  /// The maintainer is gone: requests but those that `goes_on` are over.
  void abandon_requests(const std::function<bool(const Point&)>& goes_on, Now now);
  void accepted(const Point& point, KnownPoint& known, const PeerId& peer, Now now);
  void established(const Point& point, const PeerId& peer, bool dialled, Now now);
  void ended(const Point& point, const Ending& ending, Now now);

  /// Shows and tells it as it is.
  void publish(const Point& point, const KnownPoint& known);

 private:
  KnownPoint* put(const Point& point, bool trusted, AddressGroup source, Now now);
  void collect(Now now);
  void mark_tried(KnownPoint& known);
  void back_off(KnownPoint& known, bool was_running, Now now);
  void remember(const Point& point, const KnownPoint& known, shm::HistoryKind kind, const std::optional<PeerId>& peer,
                Reason reason, Now now);

  const PoolContext& context_;
  KnownPoints points_;
  std::vector<std::uint32_t> free_rows_;
  std::list<Point> own_;  ///< listening addresses, for ever
  std::list<Point> met_;  ///< points that led to ourselves, the latest seven
  TokenBucket lan_hearsay_;
};

}  // namespace bulkhead::controller
