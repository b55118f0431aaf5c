#pragma once

#include "services/controller/cli/options.h"

namespace bulkhead::cli {

int run_config_init(const Arguments& arguments);
int run_config_show(const Arguments& arguments);
int run_config_validate(const Arguments& arguments);

}  // namespace bulkhead::cli
