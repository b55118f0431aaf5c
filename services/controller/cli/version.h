#pragma once

#include <string>

namespace bulkhead::cli {

/// "bulkhead 0.1.0".
std::string version_text();

}  // namespace bulkhead::cli
