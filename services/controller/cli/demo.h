#pragma once

#include "services/controller/cli/options.h"

namespace bulkhead::cli {

/// Three nodes on loopback that find each other, exchange messages and lose a worker, told as it happens. Uses no node
/// of the caller's and leaves nothing behind unless `keep` is set. kDone only when all of it worked.
int run_demo(const Arguments& arguments);

}  // namespace bulkhead::cli
