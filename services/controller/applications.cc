#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/unix_socket.h"
#include "services/controller/controller.h"
#include "shm/link.h"

namespace bulkhead::controller {
namespace {

constexpr std::size_t kMaximumApplications = 16;
constexpr TokenRate kApplicationEventsRate{.per_second = 1, .burst = 100};

// An eventfd, and no other kind of descriptor, takes eight zero bytes: it adds nothing to its counter.
bool is_wakeup(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || (info.st_mode & S_IFMT) != 0) return false;
  const std::uint64_t nothing = 0;
  return ::write(fd, &nothing, sizeof nothing) == static_cast<ssize_t>(sizeof nothing);
}

}  // namespace

bool Controller::receiver_attached() const {
  return std::any_of(applications_.begin(), applications_.end(),
                     [](const auto& entry) { return entry.second.attached && entry.second.receives; });
}
bool Controller::sender_attached() const {
  return std::any_of(applications_.begin(), applications_.end(),
                     [](const auto& entry) { return entry.second.attached && entry.second.sends; });
}

void Controller::on_application_listener() {
  UniqueFd socket(::accept4(parts_.application_listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket || applications_.size() >= kMaximumApplications) return;
  const auto credentials = peer_credentials(socket.get());
  if (!credentials) return;
  const std::uint64_t id = next_id_++;
  Application& application = applications_[id];
  application.id = id;
  application.pid = static_cast<std::uint32_t>(credentials->pid);
  application.channel = schema::Channel(std::move(socket), schema::kMaximumWorkerPacket);
  application.poll = service::Poll(loop_, application.channel.fd(), [this, id](int, int) { on_application(id); });
  application.poll.watch(UV_READABLE);
}

void Controller::on_application(std::uint64_t id) {
  const auto found = applications_.find(id);
  if (found == applications_.end()) return;
  Application& application = found->second;
  flush_application(application);
  schema::Descriptors descriptors;
  auto message = application.channel.receive<schema::FromApplication>(descriptors);
  if (!message) {
    if (message.error().code != ErrorCode::kWouldBlock) drop_application(id);
    return;
  }
  if (const auto* request = std::get_if<schema::Attach>(&*message)) {
    attach(application, *request);
  } else if (const auto* wish = std::get_if<schema::AppDisconnect>(&*message)) {
    if (!application.attached) return drop_application(id);
    Connection* connection = find(wish->slot);
    if (connection != nullptr && connection->step == Step::kRunning)
      close(*connection, Reason::kDisconnectedByApplication, wish->flush);
  } else if (!application.attached) {
    drop_application(id);
  } else if (const auto* address = std::get_if<schema::AppGreylistAddress>(&*message)) {
    greylist(Point{address->address, 0}, std::nullopt, Reason::kGreylisted, shm::SetBy::kApplication);
  } else if (const auto* peer = std::get_if<schema::AppGreylistPeer>(&*message)) {
    const auto known = pool_.peers().find(peer->peer_id);
    const bool seen = known != pool_.peers().end() && known->second.address;
    greylist(seen ? std::optional(Point{*known->second.address, 0}) : std::nullopt, peer->peer_id, Reason::kGreylisted,
             shm::SetBy::kApplication);
  } else if (const auto* score = std::get_if<schema::AppScore>(&*message)) {
    pool_.set_score(score->peer_id, score->score, now());
  } else if (std::holds_alternative<schema::AppMaintain>(*message)) {
    want_maintenance(next_id_++);
  }
}

void Controller::attach(Application& application, const schema::Attach& request) {
  const auto refuse = [&](const std::string& text, std::uint32_t holder) {
    (void)application.channel.send(schema::ToApplication(schema::AttachRefused{text, holder}));
    drop_application(application.id);
  };
  if (application.receives || application.sends) return drop_application(application.id);
  if (request.version != 1)
    return refuse("this node speaks version 1 of the application interface; link against its library", 0);
  if (!request.receive && !request.send) return refuse("ask for the receiving side, the sending side or both", 0);
  for (const auto& [id, other] : applications_) {
    if (id == application.id) continue;
    if (request.receive && other.receives)
      return refuse("the receiving side is held by process " + std::to_string(other.pid), other.pid);
    if (request.send && other.sends)
      return refuse("the sending side is held by process " + std::to_string(other.pid), other.pid);
  }
  application.receives = request.receive;
  application.sends = request.send;
  const int descriptor = application.channel.fd();
  const schema::HoldApplication hold{application.id, application.pid, request.receive, request.send};
  if (!hand_to_supervisor(hold, descriptor)) refuse("the node is busy; try again", 0);
}

void Controller::attached(std::uint64_t id, schema::Descriptors& segments) {
  const auto found = applications_.find(id);
  if (found == applications_.end() || segments.size() != 2) return;
  Application& application = found->second;
  application.attached = true;
  const int given[] = {segments[0].get(), segments[1].get()};
  const schema::Attached message{parts_.boot.own_peer_id, parts_.pool_table.slots(), shm::kDefaultRingBytes,
                                 shm::kDefaultRingBytes};
  if (!application.channel.send(schema::ToApplication(message), given)) {
    drop_application(id);
    return;
  }
  application_event(shm::EventKind::kApplicationAttached, application.pid);
  tell_workers();
  offer_links(application);
}

// A script that sends by a process for each message must not push all other events out: the next one that is told
// counts those that were not.
void Controller::application_event(shm::EventKind kind, std::uint32_t pid) {
  std::uint32_t& untold = untold_application_events_[kind];
  ++untold;
  if (!application_events_told_.take(kApplicationEventsRate, monotonic_now())) return;
  event(kind, Reason::kNone, std::nullopt, std::nullopt, std::exchange(untold, 0), 0, pid);
}

void Controller::drop_application(std::uint64_t id) {
  const auto found = applications_.find(id);
  if (found == applications_.end()) return;
  const bool was_attached = found->second.attached;
  const bool was_held = found->second.receives || found->second.sends;
  const std::uint32_t pid = found->second.pid;
  found->second.poll.close();
  applications_.erase(found);
  if (was_held) tell_supervisor(schema::ReleaseApplication{id});
  if (was_attached) {
    application_event(shm::EventKind::kApplicationDetached, pid);
    tell_workers();
  }
}

void Controller::tell_workers() {
  for (auto& connection : connections_) {
    if (connection && connection->channel && connection->step != Step::kEnded) {
      send_worker(*connection, schema::ApplicationState{receiver_attached(), sender_attached()});
    }
  }
}

void Controller::offer_links(Application& application) {
  if (!application.attached || !application.waiting.empty()) return;
  for (auto& connection : connections_) {
    if (!connection || connection->step != Step::kRunning || connection->link_asked) continue;
    const auto linked = application.linked.find(connection->ref.slot);
    if (linked != application.linked.end() && linked->second == connection->ref.generation) continue;
    connection->link_asked = true;
    send_worker(*connection, schema::GiveLink{});
  }
}

// Descriptors of a hostile process: nothing but a sealed segment of the right size and two wake-ups is passed on.
void Controller::link_came(Connection& connection, const schema::Descriptors& descriptors) {
  connection.link_asked = false;
  // No room for them here; the sweep asks again.
  if (std::any_of(descriptors.begin(), descriptors.end(), [](const UniqueFd& fd) { return !fd; })) return;
  const auto segment =
      shm::check_segment(descriptors[0].get(), shm::inward_segment_bytes(shm::kDefaultRingBytes), shm::kOwnedSeals);
  if (!segment || !is_wakeup(descriptors[1].get()) || !is_wakeup(descriptors[2].get())) {
    parts_.counters.count(shm::Counter::kChannelFaults);
    return fault(connection, Reason::kChannelFault);
  }
  const Slot* slot = pool_.find(connection.ref);
  if (slot == nullptr) return;
  const schema::AppConnected message{.slot = connection.ref,
                                     .peer_id = slot->peer_id,
                                     .direction = slot->direction,
                                     .point = slot->point.value_or(Point{slot->remote.address, 0}),
                                     .remote_port = slot->remote.port,
                                     .announcement = slot->announcement,
                                     .metadata = slot->metadata};
  const int given[] = {descriptors[0].get(), descriptors[1].get(), descriptors[2].get()};
  for (auto& [id, application] : applications_) {
    if (!application.attached || !application.waiting.empty()) continue;
    const auto linked = application.linked.find(connection.ref.slot);
    if (linked != application.linked.end() && linked->second == connection.ref.generation) continue;
    if (application.channel.send(schema::ToApplication(message), given)) {
      application.linked[connection.ref.slot] = connection.ref.generation;
    } else {
      application.poll.watch(UV_READABLE | UV_WRITABLE);
    }
  }
}

void Controller::tell_application(Application& application, schema::ToApplication message) {
  application.waiting.push_back(std::move(message));
  flush_application(application);
}

void Controller::flush_application(Application& application) {
  while (!application.waiting.empty()) {
    if (!application.channel.send(application.waiting.front())) {
      application.poll.watch(UV_READABLE | UV_WRITABLE);
      return;
    }
    application.waiting.pop_front();
  }
  if (application.poll.watched() != UV_READABLE) {
    application.poll.watch(UV_READABLE);
    offer_links(application);
  }
}

}  // namespace bulkhead::controller
