#pragma once

#include "services/controller/cli/options.h"

namespace bulkhead::cli {

/// Commands that are applications for as long as they run: listen takes the receiving side, send and broadcast the
/// sending side.
int run_listen(const Arguments& arguments);
int run_send(const Arguments& arguments);
int run_broadcast(const Arguments& arguments);

}  // namespace bulkhead::cli
