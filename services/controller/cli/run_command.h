#pragma once

#include <string>

#include "services/controller/cli/options.h"

namespace bulkhead::cli {

/// Starts a node in the foreground; returns when it has ended.
int run_node(const Arguments& arguments);

/// The directory that holds the services: that of the program itself if they stand beside it (a build tree), else
/// ../libexec/bulkhead from there (installed). An error when they are in neither.
Result<std::string> find_services(const std::string& program);

/// Path of this program, as the kernel knows it.
Result<std::string> own_path();

}  // namespace bulkhead::cli
