#include "services/controller/controller.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "services/common/offence.h"

namespace bulkhead::controller {
namespace {

constexpr std::uint64_t kSweepMs = 500;
constexpr std::uint64_t kWakeMs = 20;
constexpr std::uint64_t kStopMs = 3000;
constexpr std::uint64_t kStateMs = 100;
// Between two pieces of merging, each of about a millisecond, everything else has its turn.
constexpr std::uint64_t kMergeMs = 2;
// The worker watches its own deadline; the controller only sees to those that do not.
constexpr Nanoseconds kDeadlineSlack = kSecond;
constexpr Nanoseconds kReapWait = 2 * kSecond;
// Sweeps that are further apart than this mean that the controller itself was stopped for a while.
constexpr Nanoseconds kAway = 3 * kSecond;
// Of a service that has a successor: what fits its channel many times over.
constexpr int kMostLastWords = 4096;

PoolLimits limits_of(const schema::BootController& boot, const shm::PoolTable& table, const AsMap& as_map) {
  return {.slots = table.slots(),
          .point_rows = table.points(),
          .peer_rows = table.peers(),
          .maximum_connections = boot.maximum_connections,
          .maximum_incoming = boot.maximum_incoming,
          .known_points_maximum = boot.known_points_maximum,
          .known_points_target = boot.known_points_target,
          .known_peers_maximum = boot.known_peers_maximum,
          .known_peers_target = boot.known_peers_target,
          .private_mode = boot.private_mode,
          .disable_peer_discovery = boot.disable_peer_discovery,
          .chain_name = boot.chain_name,
          .distributed_db_versions = boot.distributed_db_versions,
          .p2p_versions = boot.p2p_versions,
          .reconnection = boot.reconnection,
          .hardened = boot.hardened,
          .allow_private_points = boot.allow_private_points,
          .score_half_life_s = boot.score_half_life_s,
          .as_map = as_map};
}

void wipe(schema::KeyProofDone& answer) {
  ::explicit_bzero(answer.channel_key.data(), answer.channel_key.size());
  ::explicit_bzero(answer.send_nonce.data(), answer.send_nonce.size());
  ::explicit_bzero(answer.receive_nonce.data(), answer.receive_nonce.size());
}

}  // namespace

Controller::Controller(ControllerParts parts)
    : parts_(std::move(parts)),
      random_(std::random_device{}()),
      acl_(std::move(parts_.lists), {.greylist_ms = std::int64_t{parts_.boot.greylist_timeout_s} * 1000,
                                     .greylist_ipv6_length = parts_.boot.greylist_ipv6_length}),
      pool_(
          limits_of(parts_.boot, parts_.pool_table, parts_.as_map), &parts_.pool_table, [this] { return random_(); },
          &acl_),
      connections_(parts_.pool_table.slots()),
      swaps_({.enabled = parts_.boot.swap,
              .linger = static_cast<Nanoseconds>(parts_.boot.swap_linger_s * static_cast<double>(kSecond))}) {
  supervisor_poll_ = service::Poll(loop_, parts_.supervisor.fd(), [this](int, int) { on_supervisor(); });
  control_poll_ = service::Poll(loop_, parts_.control_listener.get(), [this](int, int) { on_control_listener(); });
  application_poll_ =
      service::Poll(loop_, parts_.application_listener.get(), [this](int, int) { on_application_listener(); });
  sweep_timer_ = service::Timer(loop_, [this] { sweep(); });
  wake_timer_ = service::Timer(loop_, [this] {
    const auto maintainer = services_.find(Role::kMaintainer);
    if (maintainer != services_.end()) (void)maintainer->second.send(schema::ToMaintainer(schema::Wake{}));
  });
  stop_timer_ = service::Timer(loop_, [this] { loop_.stop(); });
  state_timer_ = service::Timer(loop_, [this] { tend_state(); });
  merge_timer_ = service::Timer(loop_, [this] {
    if (acl_.tend(wall_now_ms())) merge_timer_.once(kMergeMs);
  });
  import_turns_ = service::Idle(loop_, [this] { import_step(); });
  pool_.keep_history(&parts_.history);
  recovering_ = parts_.boot.recovering;
  if (recovering_) pool_.recover();
  for (const auto& point : parts_.boot.own_points) pool_.add_own_point(point);
}

Controller::~Controller() = default;

int Controller::run() {
  supervisor_poll_.watch(UV_READABLE);
  // Who comes while connections and applications are still being handed over waits until they are here: it would be
  // told that there are none.
  if (!recovering_) serve_clients();
  sweep_timer_.every(kSweepMs);
  state_timer_.every(kStateMs);
  if (parts_.store->readiness() >= 0) {
    store_poll_ = service::Poll(loop_, parts_.store->readiness(), [this](int, int) { flush_store(); });
    store_poll_.watch(UV_READABLE);
  }
  loop_.run();
  if (const auto flushed = parts_.store->flush_all(); !flushed) log_error(flushed.error().text);
  (void)tell_outcomes();
  return 0;
}

Now Controller::now() const {
  return {monotonic_now(), wall_now_ms()};
}

void Controller::event(shm::EventKind kind, Reason reason, const std::optional<Point>& point,
                       const std::optional<PeerId>& peer, std::uint32_t count, std::uint32_t detail,
                       std::uint32_t pid) {
  parts_.events.append(event_row(kind, reason, point, peer, count, detail, pid));
}

shm::EventRow Controller::event_row(shm::EventKind kind, Reason reason, const std::optional<Point>& point,
                                    const std::optional<PeerId>& peer, std::uint32_t count, std::uint32_t detail,
                                    std::uint32_t pid) {
  shm::EventRow row{};
  row.time_ms = wall_now_ms();
  row.kind = static_cast<std::uint32_t>(kind);
  row.reason = static_cast<std::uint32_t>(reason);
  row.count = count;
  row.detail = detail;
  row.worker_pid = pid;
  if (point) {
    row.address = point->address.bytes;
    row.port = point->port;
    row.has_address = 1;
  }
  if (peer) {
    row.peer_id = *peer;
    row.has_peer = 1;
  }
  return row;
}

void Controller::restarted(Role role, Reason cause, std::uint32_t wait_status) {
  shm::EventRow row{};
  row.time_ms = wall_now_ms();
  row.kind = static_cast<std::uint32_t>(shm::EventKind::kRestarted);
  row.reason = static_cast<std::uint32_t>(cause);
  row.count = 1;
  row.detail = static_cast<std::uint32_t>(role);
  row.wait_status = wait_status;
  parts_.events.append(row);
}

// ---- services

void Controller::on_supervisor() {
  flush_supervisor();
  schema::Descriptors descriptors;
  auto message = parts_.supervisor.receive<schema::FromSupervisor>(descriptors);
  if (!message) {
    // The supervisor is gone: the node ends, and workers see it by the end of their channels.
    if (message.error().code != ErrorCode::kWouldBlock) loop_.stop();
    return;
  }
  if (const auto* ping = std::get_if<schema::Ping>(&*message)) {
    (void)parts_.supervisor.send(schema::ToSupervisor(schema::Pong{ping->number}));
  } else if (const auto* service = std::get_if<schema::ServiceChannel>(&*message)) {
    adopt_service(service->role, std::move(descriptors.at(0)));
    if (service->cause != Reason::kNone && !recovering_) restarted(service->role, service->cause, service->wait_status);
  } else if (const auto* worker = std::get_if<schema::AdoptWorker>(&*message)) {
    const Slot* slot = pool_.find(worker->slot);
    if (slot == nullptr || slot->state != shm::SlotState::kRunning) {
      tell_supervisor(schema::Release{worker->slot});
      return;
    }
    auto connection = std::make_unique<Connection>();
    connection->ref = worker->slot;
    connection->step = Step::kRunning;
    connection->spawned = connection->held = true;
    connection->adopted = connection->may_answer_former = true;
    connection->hang.ask_next();
    connection->pid = slot->worker_pid;
    connection->channel = schema::Channel(std::move(descriptors.at(0)), schema::kMaximumWorkerPacket);
    const SlotId id = worker->slot.slot;
    connection->poll = service::Poll(loop_, connection->channel.fd(), [this, id](int, int) { on_worker(id); });
    connection->poll.watch(UV_READABLE);
    connections_[id] = std::move(connection);
  } else if (const auto* adopted = std::get_if<schema::AdoptApplication>(&*message)) {
    const std::uint64_t id = adopted->id;
    Application& application = applications_[id];
    application.id = id;
    application.pid = adopted->pid;
    application.receives = adopted->receives;
    application.sends = adopted->sends;
    application.attached = true;
    application.channel = schema::Channel(std::move(descriptors.at(0)), schema::kMaximumWorkerPacket);
    application.poll = service::Poll(loop_, application.channel.fd(), [this, id](int, int) { on_application(id); });
    application.poll.watch(UV_READABLE);
    next_id_ = std::max(next_id_, id + 1);
  } else if (std::holds_alternative<schema::AdoptDone>(*message)) {
    finish_recovery();
  } else if (const auto* segments = std::get_if<schema::ApplicationSegments>(&*message)) {
    attached(segments->id, descriptors);
  } else if (const auto* dead = std::get_if<schema::Reaped>(&*message)) {
    for (auto& connection : connections_) {
      if (connection && connection->pid == dead->pid) {
        reaped(*connection, static_cast<int>(dead->wait_status));
        break;
      }
    }
  } else if (std::holds_alternative<schema::Stop>(*message)) {
    stop_in_order();
  }
}

// Nothing that the supervisor must know is dropped because its queue is full for a moment, and all stays in order.
void Controller::tell_supervisor(schema::ToSupervisor message) {
  to_supervisor_.push_back(std::move(message));
  flush_supervisor();
}

bool Controller::hand_to_supervisor(const schema::ToSupervisor& message, int descriptor) {
  return to_supervisor_.empty() && parts_.supervisor.send(message, std::span(&descriptor, 1)).ok();
}

void Controller::flush_supervisor() {
  while (!to_supervisor_.empty() && parts_.supervisor.send(to_supervisor_.front())) to_supervisor_.pop_front();
  supervisor_poll_.watch(UV_READABLE | (to_supervisor_.empty() ? 0 : UV_WRITABLE));
}

void Controller::on_service(Role role) {
  switch (role) {
    case Role::kKeyholder:
      return on_keyholder();
    case Role::kAcceptor:
      return on_acceptor();
    case Role::kMaintainer:
      return on_maintainer();
    case Role::kNursery:
      return on_nursery();
    default:
      return;
  }
}

void Controller::adopt_service(Role role, UniqueFd fd) {
  // What the former one still said is heard: nobody says again that a worker began or ended.
  former_ = role;
  for (int left = kMostLastWords; left > 0 && services_.contains(role); --left) {
    const std::uint64_t before = service_messages_;
    on_service(role);
    if (service_messages_ == before) break;
  }
  former_.reset();
  service_polls_.erase(role);
  if (services_.contains(role)) service_lost(role);
  services_[role] = schema::Channel(std::move(fd), schema::kMaximumPacket);
  service_polls_[role] = service::Poll(loop_, services_[role].fd(), [this, role](int, int) { on_service(role); });
  service_polls_[role].watch(UV_READABLE);
}

// What was under way with a service that died ends here; the supervisor brings the channel of its successor.
void Controller::service_lost(Role role) {
  service_polls_.erase(role);
  if (services_.erase(role) == 0) return;
  for (auto& connection : connections_) {
    if (!connection) continue;
    if (role == Role::kKeyholder && connection->step < Step::kAck) {
      close(*connection, Reason::kServiceGone);
    } else if (role == Role::kNursery) {
      if (connection->pid == 0 && connection->spawned) {
        // Forked or not, it has no channel any more, and leaves when it sees that.
        ended(*connection, Reason::kServiceGone);
        connection->deadline_ns = monotonic_now() + kReapWait;
      }
      connection->orphan = connection->pid != 0;
    }
  }
  if (role == Role::kMaintainer) {
    for (const auto& [id, point] : std::exchange(dials_, {})) dial_over(id, Reason::kServiceGone);
    // Swaps whose dial was not taken up yet.
    while (!exchanges_.empty()) exchange_over(exchanges_.begin()->first, Reason::kServiceGone);
    feelers_.clear();
    maintained(0, false, "the maintainer was restarted; try again");
    pool_.abandon_requests(now());
  }
}

// One message for each wake-up: a busy channel cannot keep the others waiting.
template <typename Message>
std::optional<Message> Controller::take(Role role, schema::Descriptors& descriptors) {
  // A service is not to blame when there is no room here for the socket that it sends: that connection is refused.
  auto message = services_.at(role).receive<Message>(descriptors, schema::WithoutRoom::kLeavesEmpty);
  if (message) {
    ++service_messages_;
    return std::move(*message);
  }
  if (message.error().code == ErrorCode::kWouldBlock) return std::nullopt;
  if (message.error().code == ErrorCode::kBroken) {
    log_error(std::string(role_name(role)) + " broke its channel's contract: " + message.error().text);
    parts_.counters.count(shm::Counter::kChannelFaults);
    // It lives, and would go on without a channel for ever; unless it has a successor, who is not to blame.
    if (former_ != role) tell_supervisor(schema::ReplaceService{role, Reason::kChannelFault});
  }
  service_lost(role);
  return std::nullopt;
}

void Controller::on_keyholder() {
  schema::Descriptors descriptors;
  auto message = take<schema::FromKeyholder>(Role::kKeyholder, descriptors);
  if (!message) return;
  if (auto* begun = std::get_if<schema::KeyBegun>(&*message)) {
    Connection* connection = find(begun->slot);
    if (connection != nullptr && connection->step == Step::kBegin) spawn(*connection, std::move(begun->message));
  } else if (auto* hello = std::get_if<schema::KeyHelloDone>(&*message)) {
    Connection* connection = find(hello->slot);
    if (connection == nullptr || connection->step != Step::kKeyHello) return;
    if (hello->failure != Reason::kNone) {
      close(*connection, hello->failure);
      return;
    }
    connection->step = Step::kProof;
    send_worker(*connection, schema::OurMetadata{std::move(hello->chunk)});
  } else if (auto* proof = std::get_if<schema::KeyProofDone>(&*message)) {
    Connection* connection = find(proof->slot);
    if (connection != nullptr && connection->step == Step::kKeyProof) on_proved(*connection, *proof);
    wipe(*proof);
  }
}

void Controller::on_acceptor() {
  schema::Descriptors descriptors;
  auto message = take<schema::FromAcceptor>(Role::kAcceptor, descriptors);
  if (!message) return;
  if (const auto* incoming = std::get_if<schema::Incoming>(&*message)) {
    on_incoming(*incoming, std::move(descriptors.at(0)));
  } else if (const auto* refused = std::get_if<schema::Refused>(&*message)) {
    const bool summary = refused->remote == Point{};
    const bool for_the_lists_alone = refused->count == 0;
    if (!for_the_lists_alone) {
      event(shm::EventKind::kRefused, refused->reason, summary ? std::nullopt : std::optional(refused->remote),
            std::nullopt, refused->count);
    }
    if (!summary && service::offends_at_the_door(refused->reason)) {
      greylist(refused->remote, std::nullopt, refused->reason, shm::SetBy::kLayer, for_the_lists_alone);
    }
  }
}

void Controller::on_maintainer() {
  schema::Descriptors descriptors;
  auto message = take<schema::FromMaintainer>(Role::kMaintainer, descriptors);
  if (!message) return;
  auto& channel = services_.at(Role::kMaintainer);
  if (const auto* known = std::get_if<schema::KnownPoint>(&*message)) {
    if (known->trusted) {
      pool_.configure(known->point, known->expected_peer_id, now());
    } else {
      pool_.deconfigure(known->point);
    }
    wake_maintainer();
  } else if (const auto* discovered = std::get_if<schema::Discovered>(&*message)) {
    if (pool_.hear_on_lan(discovered->point, now())) wake_maintainer();
  } else if (const auto* requested = std::get_if<schema::Requested>(&*message)) {
    const Reason reason = pool_.request(requested->point, now());
    if (reason != Reason::kNone) {
      (void)channel.send(schema::ToMaintainer(schema::DialCancelled{requested->id}));
      dial_over(requested->id, reason);
      return;
    }
    dials_[requested->id] = requested->point;
    if (requested->feeler) feelers_.insert(requested->id);
  } else if (const auto* dialled = std::get_if<schema::Dialled>(&*message)) {
    // A dial that was cancelled meanwhile is closed with its descriptor.
    if (dials_.erase(dialled->id) != 0) on_dialled(*dialled, std::move(descriptors.at(0)));
  } else if (const auto* failed = std::get_if<schema::DialFailed>(&*message)) {
    feelers_.erase(failed->id);
    if (dials_.erase(failed->id) == 0) return;
    pool_.dial_failed(failed->point, now(), failed->reason);
    parts_.counters.count(failed->reason);
    event(shm::EventKind::kDialFailed, failed->reason, failed->point, std::nullopt);
    dial_over(failed->id, failed->reason);
  } else if (const auto* unwanted = std::get_if<schema::Disconnect>(&*message)) {
    Connection* connection = find(unwanted->slot);
    if (connection == nullptr || connection->step != Step::kRunning) return;
    // Trust may have come since the maintainer looked.
    const Slot* slot = pool_.find(unwanted->slot);
    if (slot != nullptr && !pool_.trusted(*slot)) close(*connection, unwanted->reason);
  } else if (std::holds_alternative<schema::ProposeSwap>(*message)) {
    propose_swap();
  } else if (const auto* run = std::get_if<schema::Maintained>(&*message)) {
    maintained(*run);
  } else if (std::holds_alternative<schema::AskForPeers>(*message)) {
    if (parts_.boot.private_mode || parts_.boot.disable_peer_discovery) return;
    for (auto& connection : connections_) {
      if (!connection || connection->step != Step::kRunning) continue;
      const Slot* slot = pool_.find(connection->ref);
      if (slot == nullptr || slot->metadata.private_node) continue;
      parts_.counters.count(shm::Counter::kBootstrapSent);
      send_worker(*connection, schema::SendBootstrap{});
    }
  }
}

void Controller::on_nursery() {
  schema::Descriptors descriptors;
  auto message = take<schema::FromNursery>(Role::kNursery, descriptors);
  if (!message) return;
  if (const auto* spawned = std::get_if<schema::Spawned>(&*message)) {
    if (Connection* connection = find(spawned->slot)) {
      connection->pid = spawned->pid;
      pool_.set_worker(spawned->slot, spawned->pid);
      parts_.counters.count(shm::Counter::kHandshakesBegun);
      // It was closed between the request and now.
      if (connection->step == Step::kEnded) end_process(*connection);
    }
  } else if (const auto* failed = std::get_if<schema::SpawnFailed>(&*message)) {
    if (Connection* connection = find(failed->slot)) {
      ended(*connection, Reason::kForkFailed);
      reaped(*connection, 0);
    }
  } else if (const auto* exited = std::get_if<schema::Exited>(&*message)) {
    reaped(exited->slot, static_cast<int>(exited->wait_status));
  }
}

// ---- the rest

void Controller::wake_maintainer() {
  if (!wake_timer_.active()) wake_timer_.once(kWakeMs);
}

void Controller::sweep() {
  const Nanoseconds at = monotonic_now();
  const bool was_away = swept_at_ != 0 && at - swept_at_ > kAway;
  swept_at_ = at;
  for (auto& holder : connections_) {
    if (!holder) continue;
    const bool runs = holder->step == Step::kRunning && holder->channel && holder->decided == Reason::kNone;
    if (runs) {
      watch_for_hang(*holder, was_away, at);
    } else {
      end_overdue(*holder, at);
    }
  }
  // Those for which there was no room.
  for (auto& [id, application] : applications_) offer_links(application);
}

void Controller::watch_for_hang(Connection& connection, bool was_away, Nanoseconds at) {
  if (was_away) connection.hang.start_waiting_anew(at);
  const auto& [slot, generation] = connection.ref;
  // What the worker claims to have taken only decides whether it is asked.
  const std::uint64_t taken = parts_.live.page(slot).outward_taken.load(std::memory_order_relaxed);
  const bool waiting = sender_attached() && parts_.outward.waits(slot, generation, taken);
  switch (connection.hang.look(waiting, taken, at)) {
    case HangWatch::Action::kNone:
      break;
    case HangWatch::Action::kAsk:
      send_worker(connection, schema::WorkerPing{connection.hang.number()});
      break;
    case HangWatch::Action::kGiveUp:
      log_warning("worker " + std::to_string(connection.pid) + " gave no answer for too long; it is ended");
      fault(connection, Reason::kWorkerUnresponsive);
      break;
  }
}

// Whoever has not come to its end in time: a worker that watches its own deadline should have, its nursery should have
// reaped it.
void Controller::end_overdue(Connection& connection, Nanoseconds at) {
  const bool going = connection.step == Step::kEnded || !connection.channel;
  const Nanoseconds limit = connection.deadline_ns + (going || connection.step == Step::kRunning ? 0 : kDeadlineSlack);
  if (at < limit) return;
  if (connection.step != Step::kEnded) {
    if (connection.decided == Reason::kNone)
      connection.decided = connection.spawned ? Reason::kWorkerUnresponsive : Reason::kAuthenticationTimeout;
    ended(connection, connection.decided);
  }
  end_process(connection);
  if (connection.spawned && (connection.pid != 0 || services_.contains(Role::kNursery)) && connection.channel) {
    // The next time round it is given up, whoever reaps it.
    connection.poll.close();
    connection.channel.close();
  } else {
    reaped(connection, 0);
  }
}

void Controller::serve_clients() {
  control_poll_.watch(UV_READABLE);
  application_poll_.watch(UV_READABLE);
}

void Controller::finish_recovery() {
  recovering_ = false;
  restarted(Role::kController, parts_.boot.previous_end, parts_.boot.previous_wait_status);
  for (SlotId id = 0; id < connections_.size(); ++id) {
    const Slot& slot = pool_.slots()[id];
    if (connections_[id] || slot.state == shm::SlotState::kFree) continue;
    auto connection = std::make_unique<Connection>();
    connection->ref = {id, slot.generation};
    connection->spawned = connection->held = connection->adopted = true;
    connection->pid = slot.worker_pid;
    connection->step = slot.state == shm::SlotState::kRunning ? Step::kRunning : Step::kHello;
    connections_[id] = std::move(connection);
    fault(*connections_[id], Reason::kControllerRestarted);
  }
  tell_workers();
  for (auto& [id, application] : applications_) offer_links(application);
  serve_clients();
}

void Controller::stop_in_order() {
  if (stopping_) return;
  stopping_ = true;
  note_anchors(monotonic_now());
  stop_timer_.once(kStopMs);
  for (auto& connection : connections_) {
    if (connection) close(*connection, Reason::kNodeStopping, connection->step == Step::kRunning);
  }
  maybe_stop();
}

void Controller::maybe_stop() {
  if (!stopping_) return;
  const bool left = std::any_of(connections_.begin(), connections_.end(),
                                [](const auto& connection) { return static_cast<bool>(connection); });
  if (!left) loop_.stop();
}

}  // namespace bulkhead::controller
