#pragma once

#include "services/controller/cli/node_tables.h"
#include "services/controller/cli/options.h"
#include "services/controller/cli/views.h"

namespace bulkhead::cli {

/// What confines each process of the node: one object for the supervisor, each service and each worker that runs now.
/// Who they are is taken from the tables, what confines them from the kernel alone. A field is null where the kernel
/// does not show it to this user. Asks no process of the node; stops a process for some 50 microseconds to read its
/// filters, when it is root who asks (see sandbox::read_filters).
ShownJson sandbox_json(const Node& node);

/// The command. Returns the program's exit status.
int run_sandbox(const Arguments& arguments);

}  // namespace bulkhead::cli
