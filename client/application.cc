#include "bulkhead/application.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <deque>
#include <map>

#include "base/clock.h"
#include "base/unix_socket.h"
#include "schema/channel.h"
#include "shm/link.h"

namespace bulkhead::client {
namespace {

constexpr int kAttachTimeoutMs = 5000;
// A worker that does not wake us, by fault or by malice, costs this much and no more.
constexpr long kSafetyNetNs = 100'000'000;
constexpr std::uint64_t kChannelKey = 0;
constexpr std::uint64_t kTimerKey = 1;
constexpr std::uint64_t kFirstConnectionKey = 2;
constexpr std::uint16_t kFirstApplicationTag = 0x10;
// Messages of one peer before the next has its turn.
constexpr int kTurn = 64;

}  // namespace

struct Application::State {
  struct Connection {
    std::uint64_t key = 0;
    SlotRef slot;
    ConnectionInfo info;
    UniqueFd to_application;
    UniqueFd to_worker;
    std::optional<shm::ReceiverLink> receiver;
    std::optional<shm::SenderLink> sender;
    std::vector<std::uint8_t> unsent;  ///< rest of a large message that was begun
    std::size_t unsent_at = 0;
    bool announced = false;  ///< the application may hear of it: those of the same peer before it are finished
    bool queued = false;     ///< stands in `ready`
    bool over = false;
    Reason reason = Reason::kNone;
  };

  Options options;
  schema::Channel channel;
  schema::Attached attached;
  UniqueFd outward;
  shm::Mapping taken;
  UniqueFd epoll;
  UniqueFd timer;
  std::map<std::uint64_t, Connection> connections;  ///< by key
  std::map<PeerId, std::uint64_t> by_peer;          ///< those that are not over
  std::deque<std::uint64_t> ready;
  std::deque<Event> events;
  std::uint64_t next_key = kFirstConnectionKey;
  int turn = 0;
  int since_look = 0;
  bool detached = false;

  Result<void> watch(int fd, std::uint64_t key, std::uint32_t events_wanted);
  void look(int timeout_ms);
  void on_channel();
  void on_connected(const schema::AppConnected& message, schema::Descriptors& descriptors);
  void on_disconnected(const schema::AppDisconnected& message);
  Connection* first_of(const PeerId& peer);
  void announce(Connection& connection);
  void make_ready(Connection& connection);
  void end(Connection& connection, Reason reason);
  void give_up(Connection& connection);
  std::optional<Event> take(Connection& connection);
  void finish(Connection& connection);
  Result<bool> push_unsent(Connection& connection);
  Connection* find(const PeerId& peer);
  Result<void> tell(const schema::FromApplication& message);
};

Result<void> Application::State::tell(const schema::FromApplication& message) {
  if (!channel) return Error{ErrorCode::kClosed, "the node is gone; attach again"};
  return channel.send(message);
}

Result<void> Application::State::watch(int fd, std::uint64_t key, std::uint32_t wanted) {
  epoll_event event{};
  event.events = wanted;
  event.data.u64 = key;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return system_error("cannot watch a descriptor");
  return {};
}

Application::Application(std::unique_ptr<State> state) : state_(std::move(state)) {}
// An orderly end takes what was handed out; only a process that dies leaves its last message to be read again.
Application::~Application() {
  for (auto& [key, connection] : state_->connections) {
    if (connection.receiver) connection.receiver->commit();
  }
}

Result<std::unique_ptr<Application>> Application::attach(const std::string& data_dir, const Options& options) {
  auto socket = connect_unix(data_dir + "/run", "app.sock");
  if (!socket) return socket.error();
  auto state = std::make_unique<State>();
  state->options = options;
  state->channel = schema::Channel(std::move(*socket), schema::kMaximumPacket);
  if (auto sent = state->channel.send(schema::FromApplication(schema::Attach{1, options.receive, options.send})); !sent)
    return sent.error();
  schema::Descriptors descriptors;
  auto answer = schema::receive_blocking<schema::ToApplication>(state->channel, descriptors, kAttachTimeoutMs);
  if (!answer) {
    if (answer.error().code == ErrorCode::kWouldBlock)
      return Error{ErrorCode::kRefused, "the node does not answer; see `bulkhead status`"};
    return answer.error();
  }
  if (const auto* refused = std::get_if<schema::AttachRefused>(&*answer))
    return Error{ErrorCode::kRefused, refused->text};
  const auto* attached = std::get_if<schema::Attached>(&*answer);
  if (attached == nullptr || descriptors.size() != 2)
    return Error{ErrorCode::kBroken, "the node gave an unexpected answer to the attachment"};
  state->attached = *attached;
  auto taken =
      shm::Mapping::map(descriptors[0].get(), shm::Access::kReadWrite, 0, shm::taken_segment_bytes(attached->slots));
  if (!taken) return taken.error();
  state->taken = std::move(*taken);
  state->outward = std::move(descriptors[1]);

  state->epoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  state->timer = UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!state->epoll || !state->timer) return system_error("cannot make an event queue");
  const itimerspec period{{0, kSafetyNetNs}, {0, kSafetyNetNs}};
  ::timerfd_settime(state->timer.get(), 0, &period, nullptr);
  if (auto watched = state->watch(state->channel.fd(), kChannelKey, EPOLLIN); !watched) return watched.error();
  if (auto watched = state->watch(state->timer.get(), kTimerKey, EPOLLIN); !watched) return watched.error();
  return std::unique_ptr<Application>(new Application(std::move(state)));
}

PeerId Application::own_peer_id() const {
  return state_->attached.own_peer_id;
}
int Application::fd() const {
  return state_->epoll.get();
}

void Application::State::make_ready(Connection& connection) {
  if (connection.queued || !connection.announced) return;
  connection.queued = true;
  ready.push_back(connection.key);
}

// Takes what the kernel has to say; waits for it at most so long.
void Application::State::look(int timeout_ms) {
  since_look = 0;
  std::array<epoll_event, 64> seen{};
  const int count = ::epoll_wait(epoll.get(), seen.data(), static_cast<int>(seen.size()), timeout_ms);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t key = seen[static_cast<std::size_t>(i)].data.u64;
    if (key == kChannelKey) {
      on_channel();
    } else if (key == kTimerKey) {
      std::uint64_t expirations = 0;
      [[maybe_unused]] const auto got = ::read(timer.get(), &expirations, sizeof expirations);
      for (auto& [id, connection] : connections) make_ready(connection);
    } else if (const auto found = connections.find(key); found != connections.end()) {
      make_ready(found->second);
    }
  }
}

void Application::State::on_channel() {
  for (;;) {
    schema::Descriptors descriptors;
    auto message = channel.receive<schema::ToApplication>(descriptors);
    if (!message) {
      if (message.error().code == ErrorCode::kWouldBlock) return;
      ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, channel.fd(), nullptr);
      channel.close();
      for (auto& [id, connection] : connections) {
        if (connection.over) continue;
        connection.over = true;
        connection.reason = Reason::kNodeStopping;
        make_ready(connection);
      }
      by_peer.clear();
      detached = true;
      return;
    }
    if (const auto* connected = std::get_if<schema::AppConnected>(&*message)) on_connected(*connected, descriptors);
    if (const auto* disconnected = std::get_if<schema::AppDisconnected>(&*message)) on_disconnected(*disconnected);
  }
}

void Application::State::on_connected(const schema::AppConnected& message, schema::Descriptors& descriptors) {
  for (const auto& [id, known] : connections) {
    if (known.slot == message.slot) return;
  }
  if (message.slot.slot >= attached.slots) return;
  const shm::LinkGeometry geometry{message.slot.slot, message.slot.generation, attached.inward_capacity,
                                   attached.outward_capacity};
  auto view = shm::InwardView::map(descriptors[0].get(), geometry,
                                   options.receive ? shm::InwardView::Part::kAll : shm::InwardView::Part::kHeader);
  Connection connection;
  connection.key = next_key++;
  connection.slot = message.slot;
  connection.info = {.peer_id = message.peer_id,
                     .incoming = message.direction == schema::Direction::kIncoming,
                     .point = message.point,
                     .remote_port = message.remote_port,
                     .chain_name = message.announcement.chain_name,
                     .distributed_db_version = message.announcement.distributed_db_version,
                     .p2p_version = message.announcement.p2p_version,
                     .private_node = message.metadata.private_node,
                     .disable_mempool = message.metadata.disable_mempool};
  connection.to_application = std::move(descriptors[1]);
  connection.to_worker = std::move(descriptors[2]);
  bool good = view.ok();
  if (good && options.receive) {
    auto receiver = shm::ReceiverLink::attach(*view, shm::taken_page(taken, message.slot.slot),
                                              connection.to_worker.get(), options.maximum_body);
    good = receiver.ok();
    if (good) connection.receiver.emplace(std::move(*receiver));
  }
  if (good && options.send) {
    auto sender = shm::SenderLink::attach(*view, outward.get(), connection.to_worker.get());
    good = sender.ok();
    if (good) connection.sender.emplace(std::move(*sender));
  }
  good = good && watch(connection.to_application.get(), connection.key, EPOLLIN | EPOLLET).ok();
  if (!good) {
    // A link that cannot be taken up is of no use to anybody.
    if (channel) (void)channel.send(schema::FromApplication(schema::AppDisconnect{message.slot, false}));
    return;
  }
  // A peer has one connection: the end of another one was lost with a controller that died.
  if (Connection* former = find(message.peer_id); former != nullptr) end(*former, Reason::kControllerRestarted);
  const bool only = first_of(message.peer_id) == nullptr;
  by_peer[message.peer_id] = connection.key;
  auto& kept = connections.emplace(connection.key, std::move(connection)).first->second;
  if (only) announce(kept);
}

// The oldest connection with that peer that is not finished.
Application::State::Connection* Application::State::first_of(const PeerId& peer) {
  for (auto& [id, connection] : connections) {
    if (connection.info.peer_id == peer) return &connection;
  }
  return nullptr;
}

void Application::State::announce(Connection& connection) {
  connection.announced = true;
  events.emplace_back(Connected{connection.info});
  make_ready(connection);
}

void Application::State::end(Connection& connection, Reason reason) {
  connection.over = true;
  connection.reason = reason;
  if (const auto found = by_peer.find(connection.info.peer_id);
      found != by_peer.end() && found->second == connection.key)
    by_peer.erase(found);
  make_ready(connection);
}

void Application::State::on_disconnected(const schema::AppDisconnected& message) {
  for (auto& [id, connection] : connections) {
    if (connection.slot == message.slot && !connection.over) end(connection, message.reason);
  }
}

void Application::State::give_up(Connection& connection) {
  if (connection.over) return;
  if (channel) (void)channel.send(schema::FromApplication(schema::AppDisconnect{connection.slot, false}));
  connection.over = true;
  connection.reason = Reason::kChannelFault;
  by_peer.erase(connection.info.peer_id);
}

// One message, or the end of a connection; nothing when it has nothing now, and then it is not ready any more.
std::optional<Event> Application::State::take(Connection& connection) {
  if (connection.sender && !connection.over && connection.unsent_at < connection.unsent.size()) {
    if (!push_unsent(connection)) give_up(connection);
  }
  while (connection.receiver) {
    auto message = connection.receiver->next();
    if (!message) {
      give_up(connection);
      break;
    }
    if (message->has_value()) {
      if (const auto lost = shm::gap_count(**message)) return Gap{connection.info.peer_id, *lost};
      return MessageReceived{connection.info.peer_id, (*message)->tag, std::move((*message)->body)};
    }
    const auto asleep = connection.receiver->prepare_to_sleep();
    if (!asleep) {
      give_up(connection);
      break;
    }
    if (*asleep) break;
  }
  if (!connection.over) return std::nullopt;
  return Disconnected{connection.info.peer_id, connection.reason};
}

void Application::State::finish(Connection& connection) {
  ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, connection.to_application.get(), nullptr);
  const PeerId peer = connection.info.peer_id;
  connections.erase(connection.key);
  if (Connection* next = first_of(peer); next != nullptr && !next->announced) announce(*next);
}

std::optional<Event> Application::next() {
  State& s = *state_;
  if (++s.since_look >= 256 || (s.events.empty() && s.ready.empty())) s.look(0);
  for (;;) {
    if (!s.events.empty()) {
      Event event = std::move(s.events.front());
      s.events.pop_front();
      return event;
    }
    if (s.ready.empty()) {
      if (!s.detached) return std::nullopt;
      s.detached = false;
      return Detached{};
    }
    const std::uint64_t key = s.ready.front();
    const auto found = s.connections.find(key);
    if (found == s.connections.end()) {
      s.ready.pop_front();
      continue;
    }
    auto& connection = found->second;
    auto event = s.take(connection);
    if (!event || std::holds_alternative<Disconnected>(*event)) {
      s.ready.pop_front();
      s.turn = 0;
      connection.queued = false;
      if (event) s.finish(connection);
    } else if (++s.turn >= kTurn) {
      s.turn = 0;
      s.ready.pop_front();
      s.ready.push_back(key);
    }
    if (event) return event;
  }
}

bool Application::wait(std::chrono::milliseconds timeout) {
  State& s = *state_;
  if (!s.events.empty() || !s.ready.empty() || s.detached) return true;
  s.look(static_cast<int>(std::clamp<std::int64_t>(timeout.count(), 0, 1 << 30)));
  return !s.events.empty() || !s.ready.empty() || s.detached;
}

std::vector<ConnectionInfo> Application::connections() const {
  std::vector<ConnectionInfo> list;
  for (const auto& [peer, key] : state_->by_peer) list.push_back(state_->connections.at(key).info);
  return list;
}

Application::State::Connection* Application::State::find(const PeerId& peer) {
  const auto key = by_peer.find(peer);
  if (key == by_peer.end()) return nullptr;
  return &connections.at(key->second);
}

// True: nothing is left to write.
Result<bool> Application::State::push_unsent(Connection& connection) {
  for (;;) {
    const auto rest = std::span<const std::uint8_t>(connection.unsent).subspan(connection.unsent_at);
    if (rest.empty()) {
      connection.unsent.clear();
      connection.unsent.shrink_to_fit();
      connection.unsent_at = 0;
      return true;
    }
    const auto written = connection.sender->write(rest);
    if (!written) return written.error();
    connection.unsent_at += *written;
    if (*written > 0) continue;
    const auto waiting = connection.sender->prepare_to_wait();
    if (!waiting) return waiting.error();
    if (*waiting) return false;
  }
}

Result<bool> Application::try_send(const PeerId& peer, std::uint16_t tag, std::span<const std::uint8_t> body) {
  State& s = *state_;
  if (!s.options.send) return Error{ErrorCode::kRefused, "attached without the sending side"};
  if (tag < kFirstApplicationTag) return Error{ErrorCode::kInvalid, "tags of application messages begin at 0x10"};
  auto* connection = s.find(peer);
  if (connection == nullptr) return Error{ErrorCode::kNotFound, "no connection with that peer"};
  if (!connection->unsent.empty()) {
    const auto pushed = s.push_unsent(*connection);
    if (!pushed) return pushed.error();
    if (!*pushed) return false;
  }
  if (body.size() > 100 * 1024 * 1024 - shm::kMessageHeadBytes)
    return Error{ErrorCode::kTooLarge, "a message has at most 100 MiB, head included"};
  for (;;) {
    const bool whole = body.size() <= connection->sender->max_whole_body();
    const auto sent = whole ? connection->sender->try_send(tag, body) : connection->sender->begin(tag, body.size());
    if (!sent) return sent.error();
    if (*sent) {
      if (whole) return true;
      connection->unsent.assign(body.begin(), body.end());
      connection->unsent_at = 0;
      const auto pushed = s.push_unsent(*connection);
      if (!pushed) return pushed.error();
      return true;
    }
    const auto waiting = connection->sender->prepare_to_wait(
        std::min(body.size() + shm::kMessageHeadBytes, connection->sender->max_whole_body()));
    if (!waiting) return waiting.error();
    if (*waiting) return false;
  }
}

Result<void> Application::send(const PeerId& peer, std::uint16_t tag, std::span<const std::uint8_t> body,
                               std::chrono::milliseconds timeout) {
  State& s = *state_;
  const Nanoseconds until = monotonic_now() + static_cast<Nanoseconds>(timeout.count()) * kMillisecond;
  bool begun = false;
  std::uint64_t key = 0;
  for (;;) {
    if (!begun) {
      const auto sent = try_send(peer, tag, body);
      if (!sent) return sent.error();
      begun = *sent;
    }
    auto* connection = s.find(peer);
    // Another connection of the same peer is not the one that the message went to.
    if (key == 0 && connection != nullptr) key = connection->key;
    if (connection == nullptr || connection->key != key)
      return Error{ErrorCode::kClosed, "the connection ended while the message was being queued"};
    if (begun) {
      const auto pushed = s.push_unsent(*connection);
      if (!pushed) return pushed.error();
      if (*pushed) return {};
    }
    const Nanoseconds now = monotonic_now();
    if (now >= until) {
      if (begun) s.give_up(*connection);
      return Error{ErrorCode::kWouldBlock, "the connection's queue stayed full: the peer does not read"};
    }
    s.look(static_cast<int>((until - now) / kMillisecond + 1));
  }
}

Result<void> Application::disconnect(const PeerId& peer, bool flush) {
  State& s = *state_;
  auto* connection = s.find(peer);
  if (connection == nullptr) return Error{ErrorCode::kNotFound, "no connection with that peer"};
  return s.tell(schema::AppDisconnect{connection->slot, flush});
}

Result<void> Application::greylist_address(const Address& address) {
  return state_->tell(schema::AppGreylistAddress{address});
}

Result<void> Application::greylist_peer(const PeerId& peer) {
  return state_->tell(schema::AppGreylistPeer{peer});
}

Result<void> Application::set_score(const PeerId& peer, double score) {
  if (!std::isfinite(score)) return Error{ErrorCode::kInvalid, "a score is a finite number"};
  return state_->tell(schema::AppScore{peer, score});
}

Result<void> Application::maintain() {
  return state_->tell(schema::AppMaintain{});
}

}  // namespace bulkhead::client
