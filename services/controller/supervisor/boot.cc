#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "base/address.h"
#include "base/address_group.h"
#include "base/unix_socket.h"
#include "schema/channel.h"
#include "services/controller/supervisor/node_supervisor.h"
#include "shm/history.h"
#include "shm/link.h"
#include "shm/tables.h"

namespace bulkhead::supervisor {

void Supervisor::boot(Role role) {
  Service& service = services_[role];
  std::vector<UniqueFd> given;
  if (role == Role::kController) {
    boot_controller(service);
    return;
  }
  auto pair = require(socket_pair());
  service.controller_end = std::move(pair.first);
  if (services_.contains(Role::kController) && services_[Role::kController].pid != 0) {
    std::vector<UniqueFd> end;
    end.push_back(copy(service.controller_end.get()));
    send(Role::kController,
         schema::ServiceChannel{role, service.cause, static_cast<std::uint32_t>(service.last_status)}, std::move(end));
  }
  const Point& first = listening_.front();
  switch (role) {
    case Role::kKeyholder: {
      given.push_back(copy(identity_.get()));
      given.push_back(copy(counters_.writable.get()));
      given.push_back(std::move(pair.second));
      const schema::Announcement announcement{
          settings_.advertised_port.value_or(first.port), settings_.chain_name,
          *std::max_element(settings_.distributed_db_versions.begin(), settings_.distributed_db_versions.end()),
          *std::max_element(settings_.p2p_versions.begin(), settings_.p2p_versions.end())};
      send(role,
           schema::BootKeyholder{.common = common(),
                                 .expected_pow = settings_.expected_pow,
                                 .announcement = announcement,
                                 .metadata = {settings_.disable_mempool, settings_.private_mode},
                                 .identity_path = identity_path_},
           std::move(given));
      break;
    }
    case Role::kAcceptor: {
      given.push_back(copy(counters_.writable.get()));
      given.push_back(copy(lists_.readable.get()));
      given.push_back(std::move(pair.second));
      for (const auto& listener : listeners_) given.push_back(copy(listener.get()));
      schema::BootAcceptor message;
      message.common = common();
      message.expected_pow = settings_.expected_pow;
      message.door = settings_.door;
      message.authentication_timeout_ms = static_cast<std::uint32_t>(settings_.authentication_timeout_s * 1000);
      message.listeners = static_cast<std::uint32_t>(listeners_.size());
      message.tcp = tcp_;
      send(role, message, std::move(given));
      break;
    }
    case Role::kMaintainer: {
      given.push_back(copy(counters_.writable.get()));
      given.push_back(copy(pool_.readable.get()));
      given.push_back(std::move(pair.second));
      schema::BootMaintainer message;
      message.common = common();
      message.maintenance = settings_.maintenance;
      message.private_mode = settings_.private_mode;
      message.minimum_connections = settings_.minimum_connections;
      message.expected_connections = settings_.expected_connections;
      message.maximum_connections = settings_.maximum_connections;
      message.connection_timeout_ms = static_cast<std::uint32_t>(settings_.connection_timeout_s * 1000);
      message.maintenance_idle_time_s = settings_.maintenance_idle_time_s;
      message.bounds = settings_.bounds;
      message.disable_peer_discovery = settings_.disable_peer_discovery;
      message.own_peer_id = identity_answer_.peer_id;
      if (discovery_) {
        message.discovery = *settings_.discovery;
        given.push_back(copy(discovery_.get()));
      }
      message.hardened = settings_.hardened;
      message.swap = settings_.swap;
      message.score_half_life_s = settings_.score_half_life_s;
      message.name_servers = settings_.name_servers;
      for (const auto& peer : settings_.peers) message.peers.push_back({peer.host, peer.port, peer.expected_peer_id});
      message.own_points = listening_;
      if (listening_.size() == 1 && !is_unspecified(first.address)) message.source_address = first.address;
      message.tcp = tcp_;
      send(role, message, std::move(given));
      break;
    }
    case Role::kNursery:
      given.push_back(copy(counters_.writable.get()));
      given.push_back(copy(live_.writable.get()));
      given.push_back(copy(taken_.readable.get()));
      given.push_back(copy(outward_.readable.get()));
      given.push_back(std::move(pair.second));
      send(role, schema::BootNursery{common(), shm::kDefaultRingBytes, shm::kDefaultRingBytes}, std::move(given));
      break;
    default:
      break;
  }
}

void Supervisor::boot_controller(Service& controller) {
  const Settings& s = settings_;
  schema::BootController message;
  message.common = common();
  message.recovering = controller_was_up_;
  message.previous_end = controller.cause;
  message.previous_wait_status = static_cast<std::uint32_t>(controller.last_status);
  message.own_peer_id = identity_answer_.peer_id;
  message.own_public_key = identity_answer_.public_key;
  message.chain_name = s.chain_name;
  message.distributed_db_versions = s.distributed_db_versions;
  message.p2p_versions = s.p2p_versions;
  message.metadata = {s.disable_mempool, s.private_mode};
  message.listening_port = listening_.front().port;
  message.advertised_port = s.advertised_port.value_or(listening_.front().port);
  message.minimum_connections = s.minimum_connections;
  message.expected_connections = s.expected_connections;
  message.maximum_connections = s.maximum_connections;
  message.maximum_incoming = s.maximum_incoming;
  message.authentication_timeout_ms = static_cast<std::uint32_t>(s.authentication_timeout_s * 1000);
  message.connection_timeout_ms = static_cast<std::uint32_t>(s.connection_timeout_s * 1000);
  message.private_mode = s.private_mode;
  message.maintenance = s.maintenance;
  message.hardened = s.hardened;
  // Whoever listens where no host of the internet is expects its neighbours there.
  message.allow_private_points =
      s.allow_private_points || std::any_of(listening_.begin(), listening_.end(), [](const Point& point) {
        return !is_unspecified(point.address) && !is_routable(point.address);
      });
  message.swap = s.swap;
  message.swap_linger_s = s.swap_linger_s;
  message.score_half_life_s = s.score_half_life_s;
  message.disable_peer_discovery = s.disable_peer_discovery;
  message.known_points_maximum = s.known_points_maximum;
  message.known_points_target = s.known_points_target;
  message.known_peers_maximum = s.known_peers_maximum;
  message.known_peers_target = s.known_peers_target;
  message.reconnection = {s.reconnection_factor, s.reconnection_initial_delay_s, s.reconnection_disconnection_delay_s,
                          s.reconnection_increase_cap_s};
  message.greylist_timeout_s = static_cast<std::uint32_t>(std::ceil(s.greylist_timeout_s));
  message.greylist_ipv6_length = s.greylist_ipv6_prefix;
  message.application_grace_ms = static_cast<std::uint32_t>(s.application_grace_s * 1000);
  message.discard_without_application = s.discard_without_application;
  for (const auto& point : listening_) {
    if (!is_unspecified(point.address)) message.own_points.push_back(point);
  }
  std::vector<UniqueFd> given;
  for (const int fd : {pool_.writable.get(), events_.writable.get(), counters_.writable.get(), live_.readable.get(),
                       control_listener_.get(), application_listener_.get(), state_.database.get(), state_.log.get(),
                       outward_.readable.get(), lists_.writable.get(), history_.writable.get(), as_map_.get()}) {
    given.push_back(copy(fd));
  }
  if (peers_file_.peers != 0) {
    // Copies share one position; an earlier controller may have read some of it.
    (void)::lseek(peers_file_.rows.get(), 0, SEEK_SET);
    given.push_back(copy(peers_file_.rows.get()));
    message.known_peers = peers_file_.peers;
    message.known_peer_events = peers_file_.events;
  }
  state_replaced_ = false;
  send(Role::kController, std::move(message), std::move(given));
  // Those that bring connections come last.
  for (const Role role : {Role::kKeyholder, Role::kNursery, Role::kMaintainer, Role::kAcceptor}) {
    const auto found = services_.find(role);
    if (found == services_.end() || !found->second.controller_end || found->second.pid == 0) continue;
    std::vector<UniqueFd> end;
    end.push_back(copy(found->second.controller_end.get()));
    send(Role::kController, schema::ServiceChannel{role}, std::move(end));
  }
  if (!controller_was_up_) return;
  for (const auto& [slot, channel] : held_) {
    std::vector<UniqueFd> end;
    end.push_back(copy(channel.get()));
    send(Role::kController, schema::AdoptWorker{slot}, std::move(end));
  }
  for (const auto& [id, application] : applications_) {
    std::vector<UniqueFd> end;
    end.push_back(copy(application.channel.get()));
    send(Role::kController,
         schema::AdoptApplication{id, application.what.pid, application.what.receives, application.what.sends},
         std::move(end));
  }
  send(Role::kController, schema::AdoptDone{});
}

}  // namespace bulkhead::supervisor
