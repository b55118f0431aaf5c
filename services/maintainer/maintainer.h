#pragma once

#include <map>
#include <optional>
#include <random>
#include <set>

#include "schema/channel.h"
#include "services/common/loop.h"
#include "services/maintainer/dialer.h"
#include "services/maintainer/discovery.h"
#include "services/maintainer/maintenance.h"
#include "services/maintainer/names.h"
#include "services/maintainer/resolver.h"
#include "shm/tables.h"

namespace bulkhead::maintainer {

struct MaintainerParts {
  schema::Channel supervisor;
  schema::Channel controller;
  shm::CountersWriter counters;
  shm::PoolTable pool;
  schema::BootMaintainer boot;
  UniqueFd discovery;  ///< UDP socket of LAN discovery; empty: it is off
};

/// Resolves the configured peers, dials what the plan says and what the controller asks for, and hands connected
/// sockets to the controller. The shell around Maintenance.
class Maintainer {
 public:
  explicit Maintainer(MaintainerParts parts);
  int run();
  schema::Channel& supervisor() { return parts_.supervisor; }

 private:
  void on_supervisor();
  void on_controller();
  void look_up_names();
  void answered(const std::string& name, const NameAnswer& answer);
  void tell_names();
  void look();
  void look_soon(std::uint64_t after_ms);
  void begin_dial(std::uint64_t id, const Point& point, std::uint64_t timeout_ms, bool feeler = false);
  void on_outcome(Dialer::Outcome outcome);
  bool tell(const schema::FromMaintainer& message, std::span<const int> descriptors = {});

  MaintainerParts parts_;
  service::Loop loop_;
  service::Poll supervisor_poll_;
  service::Poll controller_poll_;
  service::Timer look_timer_;
  service::Timer names_timer_;
  Dialer dialer_;
  Resolver resolver_;
  std::map<Point, Nanoseconds> busy_;  ///< dialled by this process: until when the table may not show it yet
  std::mt19937_64 random_;
  Names names_;
  Maintenance maintenance_;
  std::optional<LanDiscovery> discovery_;
  std::uint64_t next_id_ = 1;
};

}  // namespace bulkhead::maintainer
