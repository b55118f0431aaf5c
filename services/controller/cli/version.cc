#include "services/controller/cli/version.h"

namespace bulkhead::cli {

std::string version_text() {
  return "bulkhead " BULKHEAD_VERSION;
}

}  // namespace bulkhead::cli
