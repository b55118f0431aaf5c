#pragma once

#include <string>
#include <vector>

namespace bulkhead::cli {

/// The program `bulkhead` with these arguments (without its name). Returns its exit status.
int run_program(const std::vector<std::string>& arguments);

}  // namespace bulkhead::cli
