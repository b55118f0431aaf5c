#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "base/address.h"
#include "base/exit_codes.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "services/controller/controller.h"
#include "services/controller/penalty.h"
#include "wire/peer_id.h"

namespace bulkhead::controller {
namespace {

constexpr Nanoseconds kReapWait = 2 * kSecond;
// A worker passes on one message of a kind each 100 ms; half of it leaves room for late timers.
constexpr Nanoseconds kExchangePeriod = 50 * kMillisecond;
// The handshake takes three messages, a running connection at most ten of each kind of peer exchange a second, one link
// for each application that comes, and its end. What is above that is an attempt to keep the controller busy.
constexpr TokenRate kWorkerBudget{.per_second = 40, .burst = 100};
// Warnings about one configured peer that presents another identity: one a minute, however often it is dialled.
constexpr TokenRate kImpostorRate{.per_second = 1.0 / 60, .burst = 1};

void wipe(schema::Verdict& verdict) {
  ::explicit_bzero(verdict.channel_key.data(), verdict.channel_key.size());
  ::explicit_bzero(verdict.send_nonce.data(), verdict.send_nonce.size());
  ::explicit_bzero(verdict.receive_nonce.data(), verdict.receive_nonce.size());
}

// Reasons by which we turned the other side away, as against those by which it went.
bool we_refused(Reason reason) {
  switch (reason) {
    case Reason::kClosedInHandshake:
    case Reason::kRejectedByPeer:
    case Reason::kWorkerKilled:
    case Reason::kWorkerFault:
    case Reason::kNodeStopping:
    case Reason::kServiceGone:
    case Reason::kControllerRestarted:
      return false;
    default:
      return true;
  }
}

// What a worker's exit says when it did not say it itself.
Reason reason_of_exit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    if (WTERMSIG(wait_status) == SIGKILL) return Reason::kWorkerKilled;
    // Its filter does not trap but kill for a call of a foreign architecture.
    return WTERMSIG(wait_status) == SIGSYS ? Reason::kSandboxViolation : Reason::kWorkerFault;
  }
  switch (static_cast<WorkerExit>(WEXITSTATUS(wait_status))) {
    case WorkerExit::kDone:
      return Reason::kWorkerFault;  // it ends with a reason, or it did not end as it should
    case WorkerExit::kChannelClosed:
    case WorkerExit::kChannelFault:
      return Reason::kChannelFault;
    case WorkerExit::kConfinementFailed:
    case WorkerExit::kSetupFailed:
      return Reason::kConfinementFailed;
    case WorkerExit::kSandboxViolation:
      return Reason::kSandboxViolation;
  }
  return Reason::kWorkerFault;
}

}  // namespace

Controller::Connection* Controller::find(const SlotRef& ref) {
  if (ref.slot >= connections_.size() || !connections_[ref.slot]) return nullptr;
  Connection* connection = connections_[ref.slot].get();
  if (connection->ref.generation != ref.generation) {
    parts_.counters.count(shm::Counter::kStaleMessages);
    return nullptr;
  }
  return connection;
}

void Controller::on_incoming(const schema::Incoming& message, UniqueFd socket) {
  const auto refuse = [&](Reason reason) {
    parts_.counters.count(reason);
    event(shm::EventKind::kRefused, reason, message.remote, std::nullopt);
  };
  if (stopping_) return refuse(Reason::kNodeStopping);
  if (!socket) return refuse(Reason::kAcceptFailed);
  // A ban may have come while the proof of work was checked.
  const Standing standing = acl_.of(message.remote.address);
  if (standing == Standing::kBanned) return refuse(Reason::kBanned);
  if (standing == Standing::kGreylisted) return refuse(Reason::kGreylisted);
  const std::uint32_t reserve = standing == Standing::kTrusted ? schema::kTrustedHandshakes : 0;
  if (pool_.incoming_handshakes() >= parts_.boot.maximum_incoming + reserve) return refuse(Reason::kTooManyIncoming);
  if (const auto victim = pool_.same_key_victim(message.public_key)) {
    if (Connection* connection = find(*victim)) {
      close(*connection, Reason::kSameKeyLimit);
      end_process(*connection);
    }
  }
  Connection* connection = open_connection(schema::Direction::kIncoming, message.remote, message.public_key,
                                           message.deadline_ns, std::move(socket));
  if (connection == nullptr) return refuse(open_failure_);
  event(shm::EventKind::kAccepted, Reason::kNone, message.remote, std::nullopt);
}

void Controller::on_dialled(const schema::Dialled& message, UniqueFd socket) {
  open_failure_ = Reason::kDialFailed;
  Connection* connection = stopping_ || !socket ? nullptr
                                                : open_connection(schema::Direction::kOutgoing, message.point, {},
                                                                  message.deadline_ns, std::move(socket));
  if (connection != nullptr) {
    connection->dial_id = message.id;
    connection->feeler = feelers_.erase(message.id) != 0;
    return;
  }
  const Reason reason = stopping_ ? Reason::kNodeStopping : open_failure_;
  pool_.dial_failed(message.point, now(), reason);
  parts_.counters.count(reason);
  event(shm::EventKind::kDialFailed, reason, message.point, std::nullopt);
  dial_over(message.id, reason);
}

Controller::Connection* Controller::open_connection(schema::Direction direction, const Point& remote,
                                                    const PublicKey& key, std::uint64_t deadline_ns, UniqueFd socket) {
  const auto ref = pool_.claim(direction, remote, key, deadline_ns, now());
  if (!ref) {
    open_failure_ = Reason::kNoFreeSlot;
    return nullptr;
  }
  auto connection = std::make_unique<Connection>();
  connection->ref = *ref;
  connection->socket = std::move(socket);
  connection->deadline_ns = deadline_ns;
  Connection* opened = connection.get();
  connections_[ref->slot] = std::move(connection);
  const auto keyholder = services_.find(Role::kKeyholder);
  if (keyholder == services_.end() || !keyholder->second.send(schema::ToKeyholder(schema::KeyBegin{*ref, direction}))) {
    connections_[ref->slot].reset();
    pool_.free(ref->slot);
    open_failure_ = Reason::kServiceGone;
    return nullptr;
  }
  return opened;
}

void Controller::spawn(Connection& connection, std::vector<std::uint8_t> our_message) {
  const auto nursery = services_.find(Role::kNursery);
  auto ends = socket_pair();
  if (nursery == services_.end() || !ends) return close(connection, ends ? Reason::kServiceGone : Reason::kForkFailed);
  // The supervisor has the channel's end before the worker exists: whoever dies in between, nobody is left without a
  // master.
  const int held = ends->first.get();
  if (!hand_to_supervisor(schema::Hold{connection.ref}, held)) return close(connection, Reason::kChannelFull);
  connection.held = true;
  const int given[] = {connection.socket.get(), ends->second.get()};
  if (!nursery->second.send(schema::ToNursery(schema::Spawn{connection.ref}), given))
    return close(connection, Reason::kChannelFull);
  connection.socket.reset();
  connection.spawned = true;
  connection.channel = schema::Channel(std::move(ends->first), schema::kMaximumWorkerPacket);
  const SlotId id = connection.ref.slot;
  connection.poll = service::Poll(loop_, connection.channel.fd(), [this, id](int, int) { on_worker(id); });
  connection.poll.watch(UV_READABLE);
  connection.step = Step::kHello;
  const Slot* slot = pool_.find(connection.ref);
  send_worker(connection, schema::WorkerStart{.direction = slot->direction,
                                              .deadline_ns = connection.deadline_ns,
                                              .our_message = std::move(our_message),
                                              .discard_without_application = parts_.boot.discard_without_application,
                                              .application_grace_ms = parts_.boot.application_grace_ms,
                                              .private_mode = parts_.boot.private_mode,
                                              .disable_peer_discovery = parts_.boot.disable_peer_discovery,
                                              .receiver_attached = receiver_attached(),
                                              .sender_attached = sender_attached()});
}

// A worker that does not take what it is sent is of no use: it ends.
void Controller::send_worker(Connection& connection, const schema::ToWorker& message) {
  if (!connection.channel) return;
  const auto sent = connection.channel.send(message);
  if (!sent && sent.error().code != ErrorCode::kClosed) fault(connection, Reason::kWorkerUnresponsive);
}

void Controller::on_worker(SlotId slot) {
  if (!connections_[slot] || !connections_[slot]->channel) return;
  Connection& connection = *connections_[slot];
  schema::Descriptors descriptors;
  auto message = connection.channel.receive<schema::FromWorker>(descriptors, schema::WithoutRoom::kLeavesEmpty);
  if (message) {
    if (connection.budget.take(kWorkerBudget, monotonic_now())) {
      on_worker_message(connection, *message, descriptors);
    } else {
      break_contract(connection, "it sends more messages than its work can need");
    }
  } else if (message.error().code == ErrorCode::kClosed) {
    // Its process is going or gone. The reason comes with its exit, unless it said it.
    connection.poll.close();
    connection.channel.close();
    if (connection.told != Reason::kNone || connection.decided != Reason::kNone) ended(connection, connection.told);
    connection.deadline_ns = std::min<std::uint64_t>(connection.deadline_ns, monotonic_now() + kReapWait);
    if (connection.step == Step::kRunning) connection.deadline_ns = monotonic_now() + kReapWait;
  } else if (message.error().code != ErrorCode::kWouldBlock) {
    break_contract(connection, message.error().text);
  }
}

void Controller::break_contract(Connection& connection, const std::string& how) {
  parts_.counters.count(shm::Counter::kChannelFaults);
  log_warning("worker " + std::to_string(connection.pid) + " broke its channel's contract: " + how);
  fault(connection, Reason::kChannelFault);
}

void Controller::on_worker_message(Connection& connection, schema::FromWorker& message,
                                   schema::Descriptors& descriptors) {
  if (connection.step == Step::kEnded) return;
  const auto keyholder = services_.find(Role::kKeyholder);
  const auto ask = [&](schema::ToKeyholder request, Step next) {
    connection.step = next;
    if (keyholder == services_.end() || !keyholder->second.send(request)) close(connection, Reason::kServiceGone);
  };
  const auto expect = [&](Step step) {
    if (connection.step == step) return true;
    break_contract(connection, "a message that makes no sense at this step");
    return false;
  };
  if (auto* closing = std::get_if<schema::Closing>(&message)) {
    connection.told = closing->reason == Reason::kNone ? Reason::kWorkerFault : closing->reason;
    ended(connection, connection.told);
  } else if (auto* hello = std::get_if<schema::WorkerHello>(&message)) {
    if (!expect(Step::kHello)) return;
    pool_.announced(connection.ref, hello->announcement);
    ask(schema::KeyHello{connection.ref, std::move(hello->message)}, Step::kKeyHello);
  } else if (auto* proof = std::get_if<schema::WorkerProof>(&message)) {
    if (!expect(Step::kProof)) return;
    ask(schema::KeyProof{connection.ref, std::move(proof->chunk)}, Step::kKeyProof);
  } else if (std::holds_alternative<schema::Acked>(message)) {
    if (!expect(Step::kAck)) return;
    // A worker that says so after it was told to refuse tries to overrule the verdict.
    if (connection.decided != Reason::kNone) return break_contract(connection, "it overrules the verdict");
    established(connection);
  } else if (auto* nacked = std::get_if<schema::Nacked>(&message)) {
    if (!expect(Step::kAck)) return;
    if (connection.decided != Reason::kNone) return break_contract(connection, "it overrules the verdict");
    // Only Closing may follow.
    connection.decided = Reason::kRejectedByPeer;
    if (!parts_.boot.disable_peer_discovery) {
      pool_.hear(connection.ref, nacked->points, now());
      wake_maintainer();
    }
  } else if (std::holds_alternative<schema::Link>(message)) {
    if (!expect(Step::kRunning)) return;
    if (!connection.link_asked && !std::exchange(connection.may_answer_former, false))
      return break_contract(connection, "a link that nobody asked for");
    link_came(connection, descriptors);
  } else if (std::holds_alternative<schema::BootstrapReceived>(message)) {
    if (!expect(Step::kRunning) || !may_exchange(connection, connection.bootstrap_at)) return;
    parts_.counters.count(shm::Counter::kBootstrapReceived);
    const Slot* slot = pool_.find(connection.ref);
    if (slot == nullptr || slot->metadata.private_node) return;
    auto points = pool_.list_known_points();
    if (points.empty()) return;
    parts_.counters.count(shm::Counter::kAdvertiseSent);
    send_worker(connection, schema::SendAdvertise{std::move(points)});
  } else if (auto* advertise = std::get_if<schema::AdvertiseReceived>(&message)) {
    if (!expect(Step::kRunning) || !may_exchange(connection, connection.advertise_at)) return;
    parts_.counters.count(shm::Counter::kAdvertiseReceived);
    pool_.hear(connection.ref, advertise->points, now());
    wake_maintainer();
  } else if (const auto* request = std::get_if<schema::SwapRequestReceived>(&message)) {
    if (expect(Step::kRunning)) swap_requested(connection, request->point);
  } else if (const auto* ack = std::get_if<schema::SwapAckReceived>(&message)) {
    if (expect(Step::kRunning)) swap_acknowledged(connection, ack->point);
  } else if (const auto* pong = std::get_if<schema::WorkerPong>(&message)) {
    if (!connection.hang.answered(pong->number, monotonic_now()) && !connection.adopted)
      break_contract(connection, "an answer that nobody asked for");
  }
}

// The worker keeps the rules of peer exchange; one that does not is not believed to.
bool Controller::may_exchange(Connection& connection, Nanoseconds& last) {
  if (parts_.boot.private_mode || parts_.boot.disable_peer_discovery) {
    break_contract(connection, "peer exchange that is switched off");
    return false;
  }
  const Nanoseconds at = monotonic_now();
  if (last != 0 && at - last < kExchangePeriod) return false;
  last = at;
  return true;
}

void Controller::on_proved(Connection& connection, schema::KeyProofDone& answer) {
  if (answer.failure == Reason::kMyself) pool_.met_myself(connection.ref);
  if (answer.failure != Reason::kNone) {
    close(connection, answer.failure);
    return;
  }
  const Decision decision = pool_.decide(connection.ref, {answer.peer_id, answer.metadata}, now());
  if (decision.makes_room) {
    if (Connection* victim = find(*decision.makes_room)) close(*victim, Reason::kMadeRoom);
  }
  schema::Verdict verdict{.kind = decision.kind,
                          .reason = decision.reason,
                          .motive = decision.motive,
                          .points = decision.points,
                          .channel_key = answer.channel_key,
                          .send_nonce = answer.send_nonce,
                          .receive_nonce = answer.receive_nonce};
  if (decision.kind == schema::VerdictKind::kSilence) wipe(verdict);
  connection.step = Step::kAck;
  schema::ToWorker message(std::move(verdict));
  send_worker(connection, message);
  wipe(std::get<schema::Verdict>(message));
  if (decision.kind != schema::VerdictKind::kAccept) {
    connection.decided = decision.reason;
    // The point is free for another attempt from the verdict on; the worker still writes its Nack.
    const Slot* slot = pool_.find(connection.ref);
    log_debug("refused " + to_text(slot->remote) + ": " + reason_name(decision.reason));
    if (decision.reason == Reason::kUnexpectedPeerId && slot->point) warn_of_impostor(*slot->point, slot->peer_id);
  }
}

// The operator has to act on it: either who answers there has a new identity, or it is somebody else.
void Controller::warn_of_impostor(const Point& point, const PeerId& presented) {
  const KnownPoint* known = pool_.find_point(point);
  if (known == nullptr || !known->expected_peer_id) return;
  const Nanoseconds at = monotonic_now();
  std::erase_if(impostors_told_, [at](const auto& told) { return told.second.full(kImpostorRate, at); });
  if (!impostors_told_[point].take(kImpostorRate, at)) return;
  log_warning("the configured peer " + to_text(point) + " presents the identity " + wire::peer_id_text(presented) +
              " instead of " + wire::peer_id_text(*known->expected_peer_id) +
              " and was refused; correct the id behind # of --peer if its identity is a new one, else find out who "
              "answers there");
}

void Controller::established(Connection& connection) {
  connection.step = Step::kRunning;
  pool_.established(connection.ref, now());
  const Slot* slot = pool_.find(connection.ref);
  parts_.counters.count(shm::Counter::kConnectionsMade);
  event(shm::EventKind::kConnected, Reason::kNone, slot->point ? slot->point : slot->remote, slot->peer_id, 1, 0,
        connection.pid);
  dial_over(connection.dial_id, Reason::kNone);
  if (connection.feeler) {
    // It answered: that is all that was to be known.
    close(connection, Reason::kFeelerDone);
    return;
  }
  const bool wanted =
      std::any_of(applications_.begin(), applications_.end(), [](const auto& entry) { return entry.second.attached; });
  if (wanted) {
    connection.link_asked = true;
    send_worker(connection, schema::GiveLink{});
  }
  wake_maintainer();
}

void Controller::close(Connection& connection, Reason reason, bool flush) {
  if (connection.step == Step::kEnded) return;
  connection.decided = reason;
  if (connection.channel) {
    const auto sent = connection.channel.send(schema::ToWorker(schema::Close{reason, flush}));
    if (sent) {
      // Its own Closing, or its end, completes this; a worker that does neither is ended by the sweep.
      connection.deadline_ns = monotonic_now() + (flush ? kReapWait + 3 * kSecond : kReapWait);
      if (connection.step != Step::kRunning || !flush) ended(connection, reason);
      return;
    }
  }
  ended(connection, reason);
  if (connection.spawned) {
    end_process(connection);
  } else {
    reaped(connection, 0);
  }
}

void Controller::fault(Connection& connection, Reason reason) {
  connection.decided = reason;
  ended(connection, reason);
  end_process(connection);
}

void Controller::end_process(Connection& connection) {
  connection.deadline_ns = monotonic_now() + kReapWait;
  // Whose child it is, its nursery's or the supervisor's since that one died, is not known of one that was taken over
  // from a former controller: each ends its own children only.
  const bool perhaps_orphan = connection.orphan || connection.adopted;
  if (perhaps_orphan && connection.pid != 0) tell_supervisor(schema::KillOrphan{connection.pid});
  if (connection.orphan) return;
  const auto nursery = services_.find(Role::kNursery);
  if (nursery != services_.end()) (void)nursery->second.send(schema::ToNursery(schema::EndWorker{connection.ref}));
}

// The connection is over for everybody but its process.
void Controller::ended(Connection& connection, Reason reason) {
  if (connection.step == Step::kEnded) return;
  const bool was_running = connection.step == Step::kRunning;
  const Phase phase = was_running ? Phase::kRunning : connection.step == Step::kAck ? Phase::kAck : Phase::kHandshake;
  connection.step = Step::kEnded;
  connection.socket.reset();
  if (connection.decided != Reason::kNone) reason = connection.decided;
  if (reason == Reason::kNone) reason = Reason::kWorkerFault;
  connection.decided = reason;
  const Slot* slot = pool_.find(connection.ref);
  if (slot == nullptr) return;
  parts_.counters.count(reason);
  const std::optional<PeerId> peer = slot->has_peer ? std::optional(slot->peer_id) : std::nullopt;
  const Point shown = slot->point && slot->direction == schema::Direction::kOutgoing ? *slot->point : slot->remote;
  std::uint32_t detail = 0;
  if (reason == Reason::kSandboxViolation) {
    detail =
        static_cast<std::uint32_t>(parts_.live.page(connection.ref.slot).violation.load(std::memory_order_relaxed));
  }
  const auto kind = was_running          ? shm::EventKind::kDisconnected
                    : we_refused(reason) ? shm::EventKind::kRefused
                                         : shm::EventKind::kHandshakeFailed;
  event(kind, reason, shown, peer, 1, detail, connection.pid);
  log_debug(std::string(was_running ? "disconnected " : "handshake ended ") + to_text(shown) + ": " +
            reason_name(reason));
  penalise(*slot, reason, phase);
  const PeerId peer_id = slot->peer_id;
  pool_.ended(connection.ref, reason, now());
  swaps_.forget(connection.ref);
  dial_over(connection.dial_id, reason);
  for (auto& [id, application] : applications_) {
    // Whether it has the link is not known of one that was taken over from a former controller; it ignores what it does
    // not know.
    application.linked.erase(connection.ref.slot);
    if (was_running && application.attached)
      tell_application(application, schema::AppDisconnected{connection.ref, peer_id, reason});
  }
  wake_maintainer();
}

void Controller::penalise(const Slot& slot, Reason reason, Phase phase) {
  const Penalty penalty = penalty_for(reason, phase);
  if (penalty == Penalty::kNone) return;
  const bool with_peer = penalty == Penalty::kAddressAndPeer && slot.has_peer;
  greylist(slot.remote, with_peer ? std::optional(slot.peer_id) : std::nullopt, reason, shm::SetBy::kLayer);
}

void Controller::reaped(const SlotRef& ref, int wait_status) {
  if (Connection* connection = find(ref)) reaped(*connection, wait_status);
}

// The process is gone: what it still said is heard, then its slot is free.
void Controller::reaped(Connection& connection, int wait_status) {
  while (connection.channel && connection.step != Step::kEnded) {
    schema::Descriptors descriptors;
    auto message = connection.channel.receive<schema::FromWorker>(descriptors);
    if (!message) break;
    if (const auto* closing = std::get_if<schema::Closing>(&*message)) connection.told = closing->reason;
  }
  if (connection.told == Reason::kNone && wait_status == 0 && connection.pid != 0) {
    // Its last message did not fit the channel; its page says as much, and is worth as much.
    const auto& page = parts_.live.page(connection.ref.slot);
    const auto shown = reason_from_value(page.reason.load(std::memory_order_relaxed));
    if (shown && page.generation.load(std::memory_order_acquire) == connection.ref.generation) connection.told = *shown;
  }
  const Reason by_exit = reason_of_exit(wait_status);
  const Slot* slot = pool_.find(connection.ref);
  const std::string who =
      "worker " + std::to_string(connection.pid) + (slot != nullptr ? " of " + to_text(slot->remote) : "");
  if (connection.step != Step::kEnded) ended(connection, connection.told != Reason::kNone ? connection.told : by_exit);
  const bool faulty = connection.pid != 0 && is_worker_fault(by_exit) && connection.told == Reason::kNone &&
                      connection.decided == by_exit;
  if (faulty) {
    parts_.counters.count(shm::Counter::kWorkerFaults);
    log_warning(who + " died by a fault (" + reason_name(connection.decided) +
                "); please report it with its event (SECURITY.md)");
    tell_supervisor(schema::ReplaceService{});
  } else if (connection.pid != 0 && by_exit == Reason::kWorkerKilled && connection.decided == by_exit) {
    log_warning(who + " was killed: by somebody's SIGKILL, or by the kernel for want of memory (see dmesg)");
  }
  const SlotRef ref = connection.ref;
  if (connection.held) tell_supervisor(schema::Release{ref});
  connection.poll.close();
  connections_[ref.slot].reset();
  pool_.free(ref.slot);
  maybe_stop();
}

}  // namespace bulkhead::controller
