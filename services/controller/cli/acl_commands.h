#pragma once

#include "services/controller/cli/options.h"

/// The commands of the lists. What changes them asks the controller; what shows them reads shared memory alone, and so
/// works while the controller is stopped. Each returns the exit status.
namespace bulkhead::cli {

int run_ban(const Arguments& arguments);
int run_unban(const Arguments& arguments);
int run_trust(const Arguments& arguments);
int run_untrust(const Arguments& arguments);
int run_clear_acls(const Arguments& arguments);
int run_greylist_clear(const Arguments& arguments);

int run_is_banned(const Arguments& arguments);
int run_acl(const Arguments& arguments);
int run_greylist(const Arguments& arguments);

int run_acl_import(const Arguments& arguments);
int run_acl_export(const Arguments& arguments);

}  // namespace bulkhead::cli
