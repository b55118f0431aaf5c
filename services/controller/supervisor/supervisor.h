#pragma once

#include <string>

#include "base/settings.h"

namespace bulkhead::supervisor {

/// Runs a node in the foreground until SIGINT or SIGTERM. Checks and takes the data directory, makes an identity when
/// there is none (in another process: this one never has the key in its memory), binds, makes the tables, starts the
/// services and keeps what must outlive them. `service_directory` holds bulkhead-controller and the others. Returns the
/// program's exit status; says in one line on standard error what went wrong.
int run(const Settings& settings, const std::string& service_directory);

}  // namespace bulkhead::supervisor
