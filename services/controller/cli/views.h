#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/prefix.h"
#include "services/controller/cli/node_tables.h"

/// The tables as the JSON that others rely on. Numbers from live pages are the workers' own word: shown, nothing more.
namespace bulkhead::cli {

using ShownJson = nlohmann::ordered_json;

/// RFC 3339 in UTC with milliseconds.
std::string time_text(std::int64_t unix_ms);

/// One line, or indented for a person's eyes; bytes that are not UTF-8 are replaced.
std::string json_line(const ShownJson& json);
std::string json_text(const ShownJson& json);

/// Name, version and state of the node, its processes and its application.
ShownJson status_json(const NodeTables& tables);
bool is_ready(const NodeTables& tables);

/// One object for each running connection. `now` is CLOCK_MONOTONIC, for the decay of flows.
ShownJson connections_json(const NodeTables& tables, Nanoseconds now);

/// [[peer id, info]...], of the states in `filters`, or of all when that is empty.
ShownJson peers_json(const NodeTables& tables, const std::vector<std::string>& filters, Nanoseconds now);
/// [[point, info]...]
ShownJson points_json(const NodeTables& tables, const std::vector<std::string>& filters);

/// What a row of kBanned and its like is about, when that is not a single address.
std::optional<Prefix> event_prefix(const shm::EventRow& event);

ShownJson event_json(const shm::EventRow& event);

/// Sums over the running connections.
ShownJson traffic_json(const NodeTables& tables, Nanoseconds now);

}  // namespace bulkhead::cli
