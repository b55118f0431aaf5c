#include <sys/socket.h>

#include "base/address.h"
#include "services/controller/controller.h"

namespace bulkhead::controller {
namespace {

constexpr std::size_t kMaximumClients = 64;
constexpr std::uint64_t kControllerDial = std::uint64_t{1} << 63;

}  // namespace

void Controller::on_control_listener() {
  UniqueFd socket(::accept4(parts_.control_listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || clients_.size() >= kMaximumClients) return;
  const std::uint64_t id = next_id_++;
  Client& client = clients_[id];
  client.channel = schema::Channel(std::move(socket), schema::kMaximumWorkerPacket);
  client.poll = service::Poll(loop_, client.channel.fd(), [this, id](int, int) { on_client(id); });
  client.poll.watch(UV_READABLE);
}

void Controller::answer(std::uint64_t id, bool ok, const std::string& text) {
  answer(id, {.ok = ok, .text = text});
}

void Controller::answer(std::uint64_t id, schema::ControlAnswer&& answer) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;
  found->second.dial_id = 0;
  found->second.maintain_id = 0;
  (void)found->second.channel.send(schema::ControlResponse(std::move(answer)));
}

void Controller::on_client(std::uint64_t id) {
  const auto found = clients_.find(id);
  if (found == clients_.end()) return;
  schema::Descriptors descriptors;
  auto request = found->second.channel.receive<schema::ControlRequest>(descriptors);
  if (!request) {
    if (request.error().code != ErrorCode::kWouldBlock) clients_.erase(found);
    return;
  }
  if (const auto* connect = std::get_if<schema::ControlConnect>(&*request)) {
    on_connect(found->second, id, *connect);
  } else if (const auto* kick = std::get_if<schema::ControlKick>(&*request)) {
    on_kick(id, *kick);
  } else if (std::holds_alternative<schema::ControlMaintain>(*request)) {
    if (!parts_.boot.maintenance)
      return answer(id, false, "maintenance is off; start without --disable-p2p-maintenance");
    found->second.maintain_id = next_id_++;
    if (!want_maintenance(found->second.maintain_id)) answer(id, false, "the maintainer is being restarted; try again");
  } else {
    on_acl_request(id, *request, descriptors);
  }
}

void Controller::on_connect(Client& client, std::uint64_t id, const schema::ControlConnect& request) {
  const std::string where = to_text(request.point);
  const KnownPoint* known = pool_.find_point(request.point);
  if (pool_.is_own(request.point)) return answer(id, false, where + " is this node itself");
  if (known != nullptr && known->state == shm::PointState::kRunning)
    return answer(id, true, "already connected to " + where);
  if (known != nullptr && known->state != shm::PointState::kDisconnected)
    return answer(id, true, "already connecting to " + where);
  const Standing standing = acl_.of(request.point.address);
  if (standing == Standing::kBanned || standing == Standing::kGreylisted) {
    return answer(id, false,
                  std::string("cannot connect to ") + where + ": its address is " +
                      (standing == Standing::kBanned ? "banned" : "greylisted") + "; see `bulkhead why " +
                      to_text(request.point.address) + "`");
  }
  if (pool_.active() >= parts_.boot.maximum_connections) {
    return answer(id, false,
                  "cannot connect to " + where +
                      ": the maximum of connections is reached; kick a peer or raise --max-connections");
  }
  if (parts_.boot.private_mode && (known == nullptr || !pool_.trusted(request.point, *known))) {
    return answer(id, false, "cannot connect to " + where + ": private mode dials trusted points only");
  }
  const auto maintainer = services_.find(Role::kMaintainer);
  const std::uint64_t dial_id = kControllerDial | next_id_++;
  const schema::Dial dial{dial_id, request.point, request.timeout_ms};
  if (maintainer == services_.end() || !maintainer->second.send(schema::ToMaintainer(dial))) {
    return answer(id, false, "the maintainer is being restarted; try again");
  }
  client.dial_id = dial_id;
  client.dial_point = request.point;
}

void Controller::on_kick(std::uint64_t id, const schema::ControlKick& request) {
  const auto running = pool_.running(request.peer_id);
  Connection* connection = running ? find(*running) : nullptr;
  if (connection == nullptr) return answer(id, false, "no connection with that peer; see `bulkhead connections`");
  close(*connection, Reason::kKicked);
  answer(id, true, "disconnected");
}

// A dial came to its end, by whatever way; who asked for it hears.
void Controller::dial_over(std::uint64_t dial_id, Reason reason) {
  if (dial_id == 0) return;
  exchange_over(dial_id, reason);
  for (auto& [id, client] : clients_) {
    if (client.dial_id != dial_id) continue;
    if (reason == Reason::kNone) {
      answer(id, true, "connected");
    } else if (reason == Reason::kPendingConnection || reason == Reason::kAlreadyConnected) {
      answer(id, reason == Reason::kPendingConnection, std::string("not connected anew: ") + reason_name(reason));
    } else {
      const bool listed = reason == Reason::kBanned || reason == Reason::kGreylisted || reason == Reason::kPeerBanned ||
                          reason == Reason::kPeerGreylisted;
      answer(id, false,
             std::string("connection failed: ") + reason_name(reason) +
                 (listed ? "; see `bulkhead why " + to_text(client.dial_point) + "`" : ""));
    }
    return;
  }
}

}  // namespace bulkhead::controller
