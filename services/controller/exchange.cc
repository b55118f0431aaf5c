#include <algorithm>

#include "services/controller/controller.h"

namespace bulkhead::controller {
namespace {

constexpr std::uint64_t kControllerDial = std::uint64_t{1} << 63;

}  // namespace

void Controller::propose_swap() {
  const auto offer = swaps_.propose(pool_, now(), [this] { return random_(); });
  Connection* connection = offer ? find(offer->to) : nullptr;
  if (connection == nullptr) return;
  parts_.counters.count(shm::Counter::kSwapRequestSent);
  send_worker(*connection, schema::SendSwapRequest{offer->point, offer->peer_id});
}

void Controller::swap_requested(Connection& connection, const Point& point) {
  parts_.counters.count(shm::Counter::kSwapRequestReceived);
  const Standing standing = acl_.of(point.address);
  if (stopping_ || standing == Standing::kBanned || standing == Standing::kGreylisted) return;
  const auto answer = swaps_.requested(pool_, connection.ref, point, now(), [this] { return random_(); });
  if (!answer) return;
  parts_.counters.count(shm::Counter::kSwapAckSent);
  send_worker(connection, schema::SendSwapAck{answer->ack.point, answer->ack.peer_id});
  begin_exchange(answer->exchange);
}

void Controller::swap_acknowledged(Connection& connection, const Point& point) {
  parts_.counters.count(shm::Counter::kSwapAckReceived);
  const Standing standing = acl_.of(point.address);
  if (stopping_ || standing == Standing::kBanned || standing == Standing::kGreylisted) return;
  if (const auto exchange = swaps_.acknowledged(pool_, connection.ref, point, now())) begin_exchange(*exchange);
}

void Controller::begin_exchange(const Swaps::Exchange& exchange) {
  const std::uint64_t dial_id = kControllerDial | next_id_++;
  const auto maintainer = services_.find(Role::kMaintainer);
  const schema::Dial dial{dial_id, exchange.dial, parts_.boot.connection_timeout_ms};
  if (maintainer == services_.end() || !maintainer->second.send(schema::ToMaintainer(dial))) return swaps_.failed();
  exchanges_[dial_id] = exchange;
}

// The new neighbour runs: the one that was offered for it goes.
void Controller::exchange_over(std::uint64_t dial_id, Reason reason) {
  const auto found = exchanges_.find(dial_id);
  if (found == exchanges_.end()) return;
  const SlotRef replaced = found->second.replaced;
  exchanges_.erase(found);
  if (reason != Reason::kNone) return swaps_.failed();
  swaps_.succeeded(now());
  Connection* connection = find(replaced);
  const Slot* slot = pool_.find(replaced);
  if (connection == nullptr || slot == nullptr || connection->step != Step::kRunning || pool_.trusted(*slot)) return;
  close(*connection, Reason::kPeerSwapped);
}

// ---- maintenance on request

bool Controller::want_maintenance(std::uint64_t id) {
  const auto maintainer = services_.find(Role::kMaintainer);
  return maintainer != services_.end() && maintainer->second.send(schema::ToMaintainer(schema::Maintain{id})).ok();
}

// Tells the client that waits for this run, or with 0 all that wait for one.
void Controller::maintained(std::uint64_t id, bool ok, const std::string& text) {
  for (auto& [client_id, client] : clients_) {
    if (client.maintain_id != 0 && (id == 0 || client.maintain_id == id)) answer(client_id, ok, text);
  }
}

// A run with nobody to dial now ends at once, and so again and again until a back-off is over or the operator names
// somebody.
void Controller::maintained(const schema::Maintained& run) {
  const std::uint32_t active = pool_.active();
  if (active >= parts_.boot.minimum_connections) return maintained(run.id, true, "maintenance is done for now");
  const Now at = now();
  std::size_t connected = 0;
  std::size_t candidates = 0;
  Nanoseconds next = 0;
  for (const auto& [point, known] : pool_.points()) {
    const Standing standing = acl_.of(point.address);
    const bool refused = standing == Standing::kBanned || standing == Standing::kGreylisted;
    if (known.state != shm::PointState::kDisconnected) {
      ++connected;
    } else if (!refused && (!parts_.boot.private_mode || pool_.trusted(point, known))) {
      const Nanoseconds due = std::max(known.next_attempt.ns, at.ns);
      next = candidates == 0 ? due : std::min(next, due);
      ++candidates;
    }
  }
  const std::string other = std::string(connected > 0 ? "other " : "") + (parts_.boot.private_mode ? "trusted " : "");
  std::string text = "too few connections, and ";
  if (candidates > 0) {
    const bool one = candidates == 1;
    text += "nobody to dial just now: " + std::to_string(active) + " of at least " +
            std::to_string(parts_.boot.minimum_connections) + " connections; " + std::to_string(candidates) + " " +
            other + (one ? "point is" : "points are") + " known, of which the next may be dialled in " +
            std::to_string((next - at.ns) / kSecond + 1) +
            " s; the node goes on by itself. `bulkhead points` shows them, `bulkhead connect address ADDRESS:PORT` "
            "dials one now";
  } else {
    text += "nobody to dial: " + std::to_string(active) + " of at least " +
            std::to_string(parts_.boot.minimum_connections) + " connections, and no " + other +
            "point is known that may be dialled; name some with --peer when the node starts, or dial one now with "
            "`bulkhead connect address ADDRESS:PORT`";
  }
  maintained(run.id, false, text);
}

}  // namespace bulkhead::controller
