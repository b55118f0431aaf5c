#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "shm/history.h"
#include "shm/lists.h"
#include "shm/tables.h"

namespace bulkhead::cli {

/// The tables of a running node, mapped read-only. They stay readable after the node has ended.
struct NodeTables {
  shm::ProcessesTable processes;
  shm::PoolTable pool;
  shm::LiveTable live;
  shm::CountersTable counters;
  shm::EventsTable events;
  shm::HistoryTable history;
  std::optional<shm::ListsTable> lists;  ///< always there once map_tables() gave them
};

/// Maps the descriptors in the order of tables_protocol.h.
Result<NodeTables> map_tables(std::span<const UniqueFd> descriptors);

/// A node found through its data directory. Needs the supervisor alone: works while every service is dead or stopped.
struct Node {
  NodeTables tables;
  pid_t supervisor = 0;  ///< as this process sees it, 0: in another PID namespace
};

/// Fetches the tables from run/tables.sock. kNotFound: no node runs there. Waits at most `timeout` for the answer.
Result<Node> open_node(const std::string& data_dir, std::chrono::milliseconds timeout = std::chrono::milliseconds(900));

/// Tells when a node ends, without asking anything of it.
class NodeWatch {
 public:
  NodeWatch(const Node& node, std::string data_dir);
  bool alive();

 private:
  UniqueFd process_;
  std::string data_dir_;
};

}  // namespace bulkhead::cli
