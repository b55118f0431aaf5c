#pragma once

#include "services/controller/pool_context.h"

/// Which points are worth their place: what others may tell, what is kept because it worked, what goes first, and what
/// is told to others. Functions of what is known; none of them changes it.
namespace bulkhead::controller {

/// Hardened: whether there is room for one more that somebody of `source` told of, by who told of it and by what it is.
/// Else always.
bool may_be_heard(const KnownPoints& points, const PoolContext& context, AddressGroup source, AddressGroup group);

/// At most `count` that go first when there are too many; nothing trusted or connected.
std::vector<Point> least_wanted(const KnownPoints& points, const PoolContext& context, std::size_t count, Now now);

/// What a point that worked does to those that worked before.
struct TriedPlace {
  bool granted = false;
  std::optional<Point> instead_of;  ///< fails now, and is one point among others from here on
};
/// A point that worked is kept, but only so many are, and of one group only a few; a new one takes the place of one
/// that fails now.
TriedPlace place_among_tried(const KnownPoints& points, const PoolContext& context, const KnownPoint& newcomer);

/// At most 50 public points for an Advertise or a Nack.
std::vector<Point> worth_telling(const KnownPoints& points, const PoolContext& context);

}  // namespace bulkhead::controller
