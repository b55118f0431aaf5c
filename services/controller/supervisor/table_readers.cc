#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/carried_descriptors.h"
#include "base/unix_socket.h"
#include "services/common/loop.h"
#include "services/controller/cli/tables_protocol.h"
#include "services/controller/supervisor/node_supervisor.h"
#include "shm/history.h"
#include "shm/tables.h"

namespace bulkhead::supervisor {
namespace {

constexpr std::size_t kMaximumTableClients = 64;

}  // namespace

bool Supervisor::in_application_group(int socket, const PeerCredentials& who) const {
  if (application_gid_ == static_cast<gid_t>(-1)) return false;
  std::array<gid_t, 256> groups{};
  socklen_t size = sizeof groups;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) != 0) size = 0;
  const auto end = groups.begin() + static_cast<std::ptrdiff_t>(size / sizeof(gid_t));
  return who.gid == application_gid_ || std::find(groups.begin(), end, application_gid_) != end;
}

void Supervisor::on_table_client() {
  UniqueFd socket(::accept4(tables_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || table_clients_.size() >= kMaximumTableClients) return;
  const auto who = peer_credentials(socket.get());
  const bool permitted = who && (who->uid == 0 || who->uid == ::geteuid() || in_application_group(socket.get(), *who));
  if (!permitted) return;
  const std::uint64_t id = next_client_++;
  TableClient& client = table_clients_[id];
  client.poll = service::Poll(*loop_, socket.get(), [this, id](int, int) { answer_table_client(id); });
  client.socket = std::move(socket);
  client.poll.watch(UV_READABLE);
}

void Supervisor::answer_table_client(std::uint64_t id) {
  const auto found = table_clients_.find(id);
  if (found == table_clients_.end()) return;
  TableClient& client = found->second;
  std::array<std::uint8_t, 16> request{};
  const ssize_t got = ::recv(client.socket.get(), request.data(), request.size(), MSG_DONTWAIT);
  const bool valid = got == static_cast<ssize_t>(kTablesRequest.size()) &&
                     std::equal(kTablesRequest.begin(), kTablesRequest.end(), request.begin());
  if (valid) {
    const int given[kTablesDescriptors] = {processes_segment_.readable.get(),
                                           pool_.readable.get(),
                                           live_.readable.get(),
                                           counters_.readable.get(),
                                           events_.readable.get(),
                                           lists_.readable.get(),
                                           history_.readable.get()};
    auto answer = kTablesRequest;
    iovec data{answer.data(), answer.size()};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    const CarriedDescriptors<kTablesDescriptors> carried(message, given);
    (void)::sendmsg(client.socket.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  client.poll.close();
  table_clients_.erase(found);
}

void Supervisor::publish() {
  if (!processes_) return;
  for (const auto& [role, service] : services_) {
    shm::ProcessRow row{};
    row.role = static_cast<std::uint32_t>(role);
    row.pid = static_cast<std::uint32_t>(service.pid);
    row.restarts = service.restarts;
    row.ready = service.ready ? 1 : 0;
    row.since_ms = service.since_ms;
    row.last_death_ms = service.last_death_ms;
    row.last_wait_status = static_cast<std::uint32_t>(service.last_status);
    row.last_cause = static_cast<std::uint32_t>(service.cause);
    processes_->process(role).write(row);
  }
  shm::ProcessRow self{};
  self.role = static_cast<std::uint32_t>(Role::kSupervisor);
  self.pid = static_cast<std::uint32_t>(::getpid());
  self.ready = 1;
  self.since_ms = started_ms_;
  processes_->process(Role::kSupervisor).write(self);
  shm::NodeRow node{};
  node.peer_id = identity_answer_.peer_id;
  node.started_ms = started_ms_;
  node.ready = ready_ ? 1 : 0;
  for (const auto& [id, application] : applications_) {
    if (application.what.receives) node.receiver_pid = application.what.pid;
    if (application.what.sends) node.sender_pid = application.what.pid;
  }
  node.minimum = settings_.minimum_connections;
  node.expected = settings_.expected_connections;
  node.maximum = settings_.maximum_connections;
  node.chain_name_size = static_cast<std::uint32_t>(std::min(settings_.chain_name.size(), node.chain_name.size()));
  std::copy_n(settings_.chain_name.begin(), node.chain_name_size, node.chain_name.begin());
  node.net_count = static_cast<std::uint32_t>(std::min(listening_.size(), node.net_ports.size()));
  for (std::uint32_t i = 0; i < node.net_count; ++i) {
    node.net_addresses[i] = listening_[i].address.bytes;
    node.net_ports[i] = listening_[i].port;
  }
  processes_->node().write(node);
}

}  // namespace bulkhead::supervisor
