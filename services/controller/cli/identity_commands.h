#pragma once

#include "services/controller/cli/options.h"

namespace bulkhead::cli {

/// identity.json of the data directory. The secret key is in this process's memory while a command runs, in pages that
/// are locked where the limits allow it and wiped at the end; nothing of it is ever printed.
int run_identity_generate(const Arguments& arguments);
int run_identity_show(const Arguments& arguments);
int run_identity_check(const Arguments& arguments);

}  // namespace bulkhead::cli
