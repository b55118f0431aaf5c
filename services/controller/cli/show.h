#pragma once

#include "services/controller/cli/options.h"
#include "services/controller/cli/views.h"

/// Commands that read the node's tables and nothing else. Each returns the program's exit status.
namespace bulkhead::cli {

/// Tables for people, of what views.h gives; event_text is one line.
std::string connections_text(const ShownJson& list);
std::string peers_text(const ShownJson& list);
std::string points_text(const ShownJson& list);
std::string event_text(const ShownJson& event);

int run_status(const Arguments& arguments);
int run_connections(const Arguments& arguments);
int run_peers(const Arguments& arguments);
int run_points(const Arguments& arguments);
int run_events(const Arguments& arguments);
int run_p2p_stat(const Arguments& arguments);

}  // namespace bulkhead::cli
