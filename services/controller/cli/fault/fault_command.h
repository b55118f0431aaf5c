#pragma once

#include "services/controller/cli/options.h"

namespace bulkhead::cli {

/// Strikes the processes of a node of its own, on a scratch directory, while peers and an application talk over it.
/// kDone only when nothing was lost that may not be.
int run_fault(const Arguments& arguments);

}  // namespace bulkhead::cli
