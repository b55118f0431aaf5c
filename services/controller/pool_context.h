#pragma once

#include <functional>

#include "services/controller/judge.h"
#include "services/controller/pool_types.h"

namespace bulkhead::controller {

/// What the parts of the pool have in common: its bounds, where it shows and tells what it holds, and who answers for
/// standing and chance. The pool owns it; the parts look at it.
struct PoolContext {
  PoolLimits limits;
  const shm::PoolTable* table = nullptr;  ///< null: nothing is shown
  std::function<std::uint64_t()> random;
  const Judge* judge = nullptr;                ///< null: nobody has a standing
  PoolJournal* journal = nullptr;              ///< null: nobody is told
  const shm::HistoryTable* history = nullptr;  ///< null: nothing is remembered

  Standing standing(const Address& address) const { return judge == nullptr ? Standing::kNone : judge->of(address); }
  Standing standing(const PeerId& peer) const { return judge == nullptr ? Standing::kNone : judge->of(peer); }
  bool trusted(const Point& point, const KnownPoint& known) const {
    return known.trusted || standing(point.address) == Standing::kTrusted;
  }
  bool trusted(const PeerId& peer) const { return standing(peer) == Standing::kTrusted; }
};

}  // namespace bulkhead::controller
