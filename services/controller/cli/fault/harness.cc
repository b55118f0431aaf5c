#include "services/controller/cli/fault/harness.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>

#include "base/address.h"
#include "base/unix_socket.h"
#include "schema/channel.h"
#include "services/controller/cli/views.h"
#include "wire/message.h"
#include "wire/peer_id.h"
#include "wire/secret.h"

namespace bulkhead::fault {
namespace {

constexpr const char* kChainName = "BULKHEAD_FAULT";
constexpr Nanoseconds kStartLimit = 30 * kSecond * kPatience;
constexpr Nanoseconds kTrafficLimit = 20 * kSecond * kPatience;
constexpr Nanoseconds kReturnLimit = 30 * kSecond * kPatience;
constexpr Nanoseconds kStrikeLimit = 15 * kSecond * kPatience;
constexpr Nanoseconds kCommandLimit = 10 * kSecond * kPatience;
constexpr Nanoseconds kLeakLimit = 10 * kSecond * kPatience;
constexpr Nanoseconds kRedialPause = 30 * kMillisecond;
constexpr Nanoseconds kForgivePeriod = 100 * kMillisecond;
constexpr Nanoseconds kJudgeAfter = 3 * kSecond;
// Time for a victim to show that it lives, once it was let go.
constexpr Nanoseconds kUnharmedAfter = 300 * kMillisecond;
constexpr Nanoseconds kLastingHarm = 1500 * kMillisecond;
// To take thousands of descriptors, one by one, on a busy machine.
constexpr Nanoseconds kLastingLimit = 120 * kSecond * kPatience;
constexpr Nanoseconds kReadPeriod = 500 * kMillisecond;
constexpr Nanoseconds kReadLimit = kSecond * kPatience;
// An application's death shows to a worker by the controller, which may be gone itself.
constexpr Nanoseconds kCutWithin = 10 * kSecond * kPatience;
constexpr std::uint64_t kTalkAfterSettling = 3;
constexpr int kAdvertises = 60;
constexpr rlim_t kFewFiles = 1024;

std::string milliseconds(Nanoseconds time) {
  return std::to_string(time / kMillisecond) + " ms";
}

bool stands_still(Harm harm) {
  return harm == Harm::kStop || harm == Harm::kHang || harm == Harm::kSpin || harm == Harm::kMemory ||
         harm == Harm::kDescriptors || harm == Harm::kChannel;
}

}  // namespace

Harness::Harness(HarnessOptions options)
    : options_(std::move(options)),
      random_(options_.seed),
      connected_event_(options_.peers),
      established_(options_.peers),
      redial_at_(options_.peers),
      down_since_(options_.peers) {}

Harness::~Harness() {
  // What was stopped must not stay so: the node could not end in order.
  for (Strike& strike : strikes_) {
    if (!strike.over && strike.harm == Harm::kStop) (void)relieve(strike.harm, strike.pid, strike.lasting);
  }
}

void Harness::tell(const std::string& text) const {
  if (options_.tell) options_.tell(text);
}

void Harness::violate(const std::string& text) {
  violations_.push_back(text);
  tell("VIOLATION: " + text);
}

// ---- the beginning

Result<void> Harness::start() {
  if (auto started = start_node(); !started) return started;
  if (auto made = make_peers(); !made) return made;
  std::vector<PeerId> ids;
  for (const auto& peer : peers_) ids.push_back(peer->peer_id());
  auto application = EchoApplication::make(options_.data_dir, options_.pattern, std::move(ids));
  if (!application) return application.error();
  application_ = std::move(*application);
  if (auto started = application_->start(); !started) return started;
  for (std::size_t i = 0; i < peers_.size(); ++i) redial(i);
  const bool up = pump_until([&] { return application_->attached() && all_talk(); }, kStartLimit);
  if (!up) {
    return Error{ErrorCode::kRefused, "the peers did not get to talk with the application: " +
                                          (violations_.empty() ? peers_.front()->ending() : violations_.front())};
  }
  if (!settle()) return Error{ErrorCode::kRefused, violations_.front()};
  for (const Role role : kServices) restarts_[role] = observer_->service(role).restarts;
  baseline_ = observer_->use();
  ready_ = true;
  return {};
}

Result<void> Harness::start_node() {
  const std::size_t most = options_.peers + 8;
  const Address address = fresh_address();
  std::vector<std::string> words = {"--net-addr",
                                    to_text(Point{address, 0}),
                                    "--chain-name",
                                    kChainName,
                                    "--expected-pow",
                                    "0",
                                    "--no-bootstrap-peers",
                                    "--min-connections",
                                    "1",
                                    "--expected-connections",
                                    std::to_string(options_.peers),
                                    "--max-connections",
                                    std::to_string(most)};
  if (!options_.sandbox.empty()) words.insert(words.end(), {"--require-sandbox", options_.sandbox});
  // All peers connect at once.
  const std::string configuration =
      R"({"p2p": {"limits": {"max-incoming-connections": )" + std::to_string(most) + "}}}\n";
  // The node raises its limit to what it needs; from there its services are sooner filled.
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const rlimit fewer{std::min<rlim_t>(files.rlim_cur, kFewFiles), files.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &fewer);
  auto node = cli::DemoNode::start(options_.program, options_.data_dir, configuration, words);
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (!node) return node.error();
  node_ = std::move(*node);
  const Nanoseconds until = monotonic_now() + kStartLimit;
  while (monotonic_now() < until) {
    auto ready = node_->ready();
    if (!ready) return ready.error();
    if (ready->has_value()) {
      observer_.emplace(std::move(**ready));
      const auto row = observer_->tables().processes.node().read();
      if (!row) return Error{ErrorCode::kRefused, "the node's table cannot be read"};
      node_point_ = {Address{row->net_addresses[0]}, row->net_ports[0]};
      tell("the node is ready at " + to_text(node_point_) + ", supervisor " + std::to_string(observer_->supervisor()));
      return {};
    }
    ::poll(nullptr, 0, 20);
  }
  return Error{ErrorCode::kRefused, "the node did not become ready"};
}

Result<void> Harness::make_peers() {
  const auto target = wire::target_for(0);
  if (!target) return target.error();
  for (std::size_t i = 0; i <= options_.peers; ++i) {
    auto identity = wire::generate_identity(*target, 1);
    if (!identity) return identity.error();
    EndpointOptions endpoint{.index = static_cast<std::uint16_t>(i),
                             .chain_name = kChainName,
                             .pattern = options_.pattern,
                             .window = options_.window,
                             .pause = options_.pause,
                             .port = 0,
                             .talks = i < options_.peers};
    auto made = std::make_unique<Endpoint>(std::move(*identity), endpoint);
    (i < options_.peers ? peers_.emplace_back() : callee_) = std::move(made);
  }
  callee_listener_ = UniqueFd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int both = 0;
  (void)::setsockopt(callee_listener_.get(), IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
  sockaddr_storage storage{};
  socklen_t size = to_sockaddr(Point{fresh_address(), 0}, storage);
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (::bind(callee_listener_.get(), address, size) != 0 || ::listen(callee_listener_.get(), 16) != 0)
    return system_error("cannot listen on loopback");
  size = sizeof storage;
  if (::getsockname(callee_listener_.get(), address, &size) != 0) return system_error("getsockname");
  callee_point_ = from_sockaddr(storage);
  return {};
}

Address Harness::fresh_address() {
  // Each its own, so that no limit for an address or a prefix is met, and no penalty of another connection's address.
  Address address;
  address.bytes[10] = address.bytes[11] = 0xff;
  address.bytes[12] = 127;
  address.bytes[13] = static_cast<std::uint8_t>(1 + random_.below(254));
  address.bytes[14] = static_cast<std::uint8_t>(1 + random_.below(254));
  address.bytes[15] = static_cast<std::uint8_t>(1 + random_.below(254));
  return address;
}

void Harness::redial(std::size_t index) {
  redial_at_[index] = 0;
  if (auto dialled = peers_[index]->dial(node_point_, fresh_address()); !dialled)
    redial_at_[index] = monotonic_now() + kRedialPause;
}

// A worker's death by a fault has its peer greylisted, as it should. Here peers have to come back: the list is cleared.
// The answer is not waited for: a controller that is away is asked again.
void Harness::forgive() {
  const Nanoseconds now = monotonic_now();
  if (now - forgiven_at_ < kForgivePeriod || active(Target::kController) != nullptr) return;
  forgiven_at_ = now;
  auto socket = connect_unix(options_.data_dir + "/run", "control.sock");
  if (!socket || !set_nonblocking(socket->get(), true)) return;
  schema::Channel channel(std::move(*socket), schema::kMaximumPacket);
  (void)channel.send(schema::ControlRequest(schema::ControlClearGreylist{}));
}

// ---- a moment

void Harness::pump() {
  std::vector<pollfd> waiting;
  for (const auto& peer : peers_) waiting.push_back({peer->fd(), peer->wanted(), 0});
  waiting.push_back({callee_->fd(), callee_->wanted(), 0});
  waiting.push_back({callee_listener_.get(), POLLIN, 0});
  ::poll(waiting.data(), waiting.size(), 1);
  const std::uint32_t incarnation = application_ ? application_->incarnation() : 0;
  for (auto& peer : peers_) peer->pump(incarnation);
  callee_->pump(incarnation);
  UniqueFd caller(::accept4(callee_listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (caller) callee_->accept(std::move(caller));
  watch_application();
  if (ready_) watch_services();
  for (Strike& strike : strikes_) {
    if (!strike.over) advance(strike);
  }
  watch_peers();
  judge_losses();
  watch_reading();
}

bool Harness::pump_until(const std::function<bool()>& done, Nanoseconds limit) {
  const Nanoseconds until = monotonic_now() + limit;
  const std::size_t wrong = violations_.size();
  while (!done()) {
    if (monotonic_now() > until || violations_.size() > wrong) return false;
    pump();
  }
  return true;
}

void Harness::watch_peers() {
  const Nanoseconds now = monotonic_now();
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    Endpoint& peer = *peers_[i];
    if (peer.violation()) {
      violate(*peer.violation());
      // Said once; the connection goes on from a new beginning.
      peer.forget_violation();
      established_[i] = false;
    }
    if (peer.state() == Endpoint::State::kRunning) {
      if (down_since_[i] != 0) connected_event_[i] = observer_->newest_event();
      down_since_[i] = 0;
      // The node has to hear from its worker that the handshake is over, and may die before.
      if (!established_[i]) established_[i] = observer_->connection_of(peer.peer_id()).has_value();
      continue;
    }
    if (peer.state() == Endpoint::State::kConnecting) continue;
    if (down_since_[i] == 0) down_since_[i] = now;
    if (established_[i] && redial_at_[i] == 0 && active(Target::kWorker, i) == nullptr)
      lost_.push_back({i, now, connected_event_[i], peer.ending()});
    established_[i] = false;
    if (redial_at_[i] == 0) redial_at_[i] = now + kRedialPause;
    if (peer.state() == Endpoint::State::kRefused) forgive();
    if (now >= redial_at_[i]) redial(i);
    if (now - down_since_[i] > kReturnLimit) {
      violate("peer " + std::to_string(i) + " could not connect again: " + peer.ending());
      down_since_[i] = now;
    }
  }
}

// Rightly ended, by an application that died inside a message. Its death may be seen after the loss that it caused.
bool Harness::is_cut(std::optional<Reason> reason, Nanoseconds at) const {
  return reason == Reason::kApplicationDiedMidMessage && application_killed_at_ != 0 &&
         at < application_killed_at_ + kCutWithin;
}

// A connection that ended although nothing was done to it; its reason tells whether that is right.
void Harness::judge_losses() {
  const Nanoseconds now = monotonic_now();
  std::erase_if(lost_, [&](const Lost& lost) {
    const auto reason = observer_->disconnection(peers_[lost.peer]->peer_id(), lost.event);
    if (!reason && now - lost.at < kJudgeAfter) return false;
    const bool cut = is_cut(reason, lost.at);
    if (cut) {
      ++streams_cut_;
    } else {
      ++other_losses_;
      if (!strikes_.empty()) ++strikes_.back().others;
      violate("peer " + std::to_string(lost.peer) + " lost its connection although nothing was done to it: " +
              (reason ? reason_name(*reason) : "no event says why") + " (" + lost.ending + ")");
    }
    return true;
  });
}

void Harness::watch_application() {
  if (!application_) return;
  if (const auto wrong = application_->violation()) {
    violate(*wrong);
    application_->kill();
    application_->forget_violation();
    (void)application_->start();
    return;
  }
  if (application_struck()) return;
  if (const auto status = application_->ended()) {
    violate("the application ended by itself: " + (WIFSIGNALED(*status)
                                                       ? "signal " + std::to_string(WTERMSIG(*status))
                                                       : "exit status " + std::to_string(WEXITSTATUS(*status))));
    (void)application_->start();
  }
}

void Harness::watch_services() {
  for (const Role role : kServices) {
    const auto row = observer_->service(role);
    std::uint32_t& expected = restarts_[role];
    if (row.restarts <= expected) continue;
    const bool replaced =
        role == Role::kNursery && last_worker_fault_ != 0 && monotonic_now() - last_worker_fault_ < kNurseryDeadline;
    const bool struck = std::any_of(strikes_.begin(), strikes_.end(), [&](const Strike& strike) {
      return !strike.over && role_of(strike.target) == role;
    });
    if (!replaced && !struck) {
      const int status = static_cast<int>(row.last_wait_status);
      violate(std::string("the ") + role_name(role) + " was restarted although nothing was done to it: it ended by " +
              (WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                   : "exit status " + std::to_string(WEXITSTATUS(status))));
    }
    expected = row.restarts;
  }
}

// While the controller stands still, what needs it not must go on.
void Harness::watch_reading() {
  const Strike* strike = active(Target::kController);
  const Nanoseconds now = monotonic_now();
  if (strike == nullptr || now - read_at_ < kReadPeriod) return;
  read_at_ = now;
  auto node = cli::open_node(options_.data_dir);
  if (!node) {
    violate("while the controller is dead the tables cannot be read: " + node.error().text);
    return;
  }
  (void)cli::status_json(node->tables);
  const std::size_t shown = cli::connections_json(node->tables, now).size();
  std::size_t running = 0;
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    const bool counts = established_[i] && peers_[i]->state() == Endpoint::State::kRunning;
    if (counts && active(Target::kWorker, i) == nullptr) ++running;
  }
  if (monotonic_now() - now > kReadLimit) violate("while the controller is dead the tables take too long to read");
  if (shown < running) {
    violate("while the controller is dead " + std::to_string(shown) + " connections are shown, of " +
            std::to_string(running));
  }
}

// ---- strikes

const Strike* Harness::active(Target target, std::size_t peer) const {
  for (const Strike& strike : strikes_) {
    if (!strike.over && strike.target == target && (target != Target::kWorker || strike.peer == peer)) return &strike;
  }
  return nullptr;
}

bool Harness::application_struck() const {
  return active(Target::kApplication) != nullptr;
}

bool Harness::may_strike(Target target) const {
  if (active(target) != nullptr) return false;
  if (target == Target::kApplication) return application_->attached();
  const auto role = role_of(target);
  if (!role || *role == Role::kConn) return false;
  const auto row = observer_->service(*role);
  const std::int64_t age_ms = wall_now_ms() - row.since_ms;
  return row.pid > 1 && row.ready != 0 && age_ms > static_cast<std::int64_t>(kServicePause / kMillisecond);
}

bool Harness::may_strike_worker(std::size_t peer) const {
  if (active(Target::kWorker, peer) != nullptr || peers_[peer]->state() != Endpoint::State::kRunning) return false;
  const auto connection = observer_->connection_of(peers_[peer]->peer_id());
  return connection && connection->worker > 1;
}

Result<void> Harness::strike(Target target, Harm harm, std::size_t peer) {
  return strike(target, harm, peer, [&](pid_t pid) { return inflict(target, harm, pid, node_point_, random_); });
}

Result<void> Harness::strike(Target target, Harm harm, std::size_t peer, const Deed& deed) {
  Strike strike{.target = target, .harm = harm, .peer = peer};
  if (target == Target::kWorker) {
    const auto connection = observer_->connection_of(peers_[peer]->peer_id());
    if (!connection || connection->worker <= 1) return Error{ErrorCode::kNotFound, "that peer has no worker"};
    strike.pid = connection->worker;
    strike.ref = connection->ref;
    strike.epoch = peers_[peer]->epoch();
    strike.event = connected_event_[peer];
  } else if (target == Target::kApplication) {
    strike.pid = application_->pid();
    application_killed_at_ = monotonic_now();
  } else {
    const auto row = observer_->service(*role_of(target));
    strike.pid = static_cast<pid_t>(row.pid);
    strike.restarts = row.restarts;
    if (target == Target::kController) before_controller_ = {observer_->connections(), observer_->counters()};
  }
  if (target == Target::kWorker && harm == Harm::kRing) application_->distrust(peer, strike.epoch);
  const Nanoseconds begin = monotonic_now();
  strike.struck_ms = wall_now_ms();
  auto done = deed(strike.pid);
  if (!done) {
    tell(std::string(harm_name(harm)) + " " + target_name(target) + ": not done: " + done.error().text);
    return done.error();
  }
  strike.lasting = std::move(*done);
  strike.at = monotonic_now();
  excuse(strike.at - begin);
  strike.waited = waits();
  strike.stolen = stolen_from_machine();
  if (replaces_nursery(strike.target, strike.harm)) last_worker_fault_ = strike.at;
  const Nanoseconds lasts =
      harm == Harm::kStop ? 100 * kMillisecond + random_.below(1900) * kMillisecond : kLastingHarm;
  strike.relieve_at = strike.at + lasts;
  if (target == Target::kWorker) {
    // An allocation, for one that has no memory left; something to send, for one that does not move.
    if (harm == Harm::kMemory) ask_for_memory(peer);
    if (expected_of(target, harm) == Expected::kFound) application_->nudge(peer);
  }
  tell(std::string(harm_name(harm)) + " " + target_name(target) + " " + std::to_string(strike.pid) +
       (target == Target::kWorker ? " of peer " + std::to_string(peer) : ""));
  strikes_.push_back(std::move(strike));
  return {};
}

// Messages that a worker has to keep for a while: it passes on one in 100 ms.
void Harness::ask_for_memory(std::size_t peer) {
  const std::vector<Point> points(wire::kMaximumAdvertisedPoints, Point{fresh_address(), 9732});
  for (int i = 0; i < kAdvertises; ++i) peers_[peer]->send_raw(wire::encode(wire::P2pMessage(wire::Advertise{points})));
}

/// For each process that has to act on a death, and for this one.
std::map<pid_t, Nanoseconds> Harness::waits() const {
  std::map<pid_t, Nanoseconds> list = {{::getpid(), 0}, {observer_->supervisor(), 0}};
  for (const Role role : kServices) list[static_cast<pid_t>(observer_->service(role).pid)] = 0;
  for (auto& [pid, time] : list) time = waited_for_processor(pid);
  return list;
}

/// How long those who act on this strike had no processor, or had one that others ran on. The victim itself has to run
/// to its end, too, and cannot be asked any more: it had to wait about as long as the one that waited most.
Nanoseconds Harness::starved(const Strike& strike) const {
  std::vector<pid_t> who = {::getpid(), observer_->supervisor()};
  if (strike.target == Target::kWorker) {
    for (const Role role : {Role::kController, Role::kNursery})
      who.push_back(static_cast<pid_t>(observer_->service(role).pid));
  } else if (const auto role = role_of(strike.target)) {
    who.push_back(static_cast<pid_t>(observer_->service(*role).pid));
  }
  Nanoseconds sum = 0;
  Nanoseconds most = 0;
  for (const pid_t pid : who) {
    const auto found = strike.waited.find(pid);
    const Nanoseconds before = found == strike.waited.end() ? 0 : found->second;
    const Nanoseconds now = waited_for_processor(pid);
    if (now < before) continue;
    sum += now - before;
    most = std::max(most, now - before);
  }
  return sum + most + (std::max(stolen_from_machine(), strike.stolen) - strike.stolen);
}

bool Harness::is_late(const Strike& strike, Nanoseconds took, Nanoseconds limit) const {
  return took > limit && took > limit + starved(strike);
}

std::string Harness::lateness(const Strike& strike, Nanoseconds took, Nanoseconds limit) const {
  return milliseconds(took) + ", not within " + milliseconds(limit) + " and " + milliseconds(starved(strike)) +
         " for which there was no processor";
}

// Nothing was observed in this time: what is waited for may have come in it.
void Harness::excuse(Nanoseconds blind) {
  if (last_worker_fault_ != 0) last_worker_fault_ += blind;
  for (Strike& strike : strikes_) {
    if (strike.over) continue;
    strike.at += blind;
    if (strike.died) *strike.died += blind;
  }
}

void Harness::end_strike(Strike& strike, const std::string& failure) {
  strike.over = true;
  if (failure.empty()) return;
  strike.failure = failure;
  violate(std::string(harm_name(strike.harm)) + " of the " + target_name(strike.target) + " " +
          std::to_string(strike.pid) + ": " + failure);
}

void Harness::advance(Strike& strike) {
  if (strike.lasting.more && !strike.died) {
    const Nanoseconds begin = monotonic_now();
    (void)go_on(strike.pid, strike.lasting);
    strike.relieve_at = monotonic_now() + kLastingHarm;
    excuse(monotonic_now() - begin);
  }
  if (!strike.relieved && monotonic_now() >= strike.relieve_at) {
    const Nanoseconds begin = monotonic_now();
    strike.relieved = relieve(strike.harm, strike.pid, strike.lasting);
    if (strike.relieved) strike.relieve_at = monotonic_now();
    excuse(monotonic_now() - begin);
  }
  const Expected expected = expected_of(strike.target, strike.harm);
  if (expected == Expected::kNothing) {
    advance_unharmed(strike);
  } else if (strike.target == Target::kWorker) {
    advance_worker(strike);
  } else if (strike.target == Target::kApplication) {
    advance_application(strike);
  } else {
    advance_service(strike);
  }
}

void Harness::advance_unharmed(Strike& strike) {
  bool same = true;
  if (strike.target == Target::kWorker) {
    same = observer_->runs(strike.ref) && peers_[strike.peer]->epoch() == strike.epoch &&
           peers_[strike.peer]->state() == Endpoint::State::kRunning;
  } else if (strike.target == Target::kApplication) {
    same = application_->pid() == strike.pid && !application_->ended();
  } else {
    same = static_cast<pid_t>(observer_->service(*role_of(strike.target)).pid) == strike.pid;
  }
  if (!same && strike.target == Target::kWorker) {
    const auto reason = observer_->disconnection(peers_[strike.peer]->peer_id(), strike.event);
    if (!reason && monotonic_now() - strike.at < kJudgeAfter + kLastingHarm) return;
    if (is_cut(reason, strike.at)) {
      ++streams_cut_;
      strike.back = monotonic_now();
      return end_strike(strike);
    }
  }
  if (!same) return end_strike(strike, "it should have gone on as if nothing had been, and did not");
  if (monotonic_now() > strike.relieve_at + kUnharmedAfter) {
    strike.back = strike.relieve_at;
    end_strike(strike);
  }
}

void Harness::advance_worker(Strike& strike) {
  const Nanoseconds now = monotonic_now();
  const Expected expected = expected_of(strike.target, strike.harm);
  if (!strike.died) {
    if (replaces_nursery(strike.target, strike.harm)) last_worker_fault_ = now;
    // Who reaps, and who frees the slot.
    const Strike* nursery = active(Target::kNursery);
    strike.controller_down = strike.controller_down || !observer_->service_up(Role::kController) ||
                             active(Target::kController) != nullptr ||
                             (nursery != nullptr && stands_still(nursery->harm));
    // A controller that is new begins to watch anew.
    if (!observer_->service_up(Role::kController)) strike.watched_from = now;
    if (!observer_->holds(strike.ref)) {
      strike.died = now;
      const Nanoseconds took = now - strike.at;
      const Nanoseconds limit = expected == Expected::kFound ? kWorkerSilenceDeadline : kSlotDeadline;
      if (expected != Expected::kEither && !strike.controller_down && is_late(strike, took, limit))
        return end_strike(strike, "its slot was free after " + lateness(strike, took, limit));
    } else if (expected == Expected::kEither && strike.relieved) {
      // It lives on without memory, or with a ring full of nonsense. That was its choice; its end comes now.
      ::kill(strike.pid, SIGKILL);
      strike.relieved = false;
      strike.relieve_at = now + kStrikeLimit;
    } else if (expected == Expected::kFound
                   ? now - std::max(strike.at, strike.watched_from) > 2 * kWorkerSilenceDeadline
                   : now - strike.at > kStrikeLimit) {
      end_strike(strike, "its slot was not freed");
    }
    return;
  }
  const Endpoint& peer = *peers_[strike.peer];
  if (!strike.back) {
    if (peer.state() == Endpoint::State::kRunning && peer.epoch() > strike.epoch) {
      strike.back = now;
    } else if (now - *strike.died > kReturnLimit + kWorkerSilenceDeadline) {
      return end_strike(strike, "its peer is not connected again: " + peer.ending());
    }
    return;
  }
  const bool must_replace = strike.harm == Harm::kSegv || strike.harm == Harm::kAbort;
  // That a replacement is due is known to the controller alone, and goes with it.
  const bool known = !strike.controller_down && observer_->service(Role::kController).since_ms < strike.struck_ms;
  if (must_replace && known && observer_->service(Role::kNursery).since_ms + 1 < strike.struck_ms) {
    if (now - *strike.died > kNurseryDeadline) end_strike(strike, "the nursery was not replaced");
    return;
  }
  end_strike(strike);
}

void Harness::advance_service(Strike& strike) {
  const Nanoseconds now = monotonic_now();
  const Role role = *role_of(strike.target);
  const Expected expected = expected_of(strike.target, strike.harm);
  const auto row = observer_->service(role);
  if (!strike.died) {
    if (row.restarts > strike.restarts) {
      strike.died = now;
      restarts_[role] = std::max(restarts_[role], row.restarts);
      if (expected == Expected::kFound && now - strike.at > kSilenceDeadline)
        return end_strike(strike, "it was found after " + milliseconds(now - strike.at));
    } else if (expected == Expected::kEither && strike.relieved && now > strike.relieve_at + kUnharmedAfter) {
      strike.back = strike.relieve_at;
      return end_strike(strike);
    } else if (now - strike.at > (expected == Expected::kEither ? kLastingLimit : kStrikeLimit)) {
      return end_strike(strike, "it was not replaced");
    }
  }
  if (!strike.died) return;
  if (row.pid == 0 || row.ready == 0) {
    if (now - *strike.died > kStrikeLimit) end_strike(strike, "it did not come back");
    return;
  }
  strike.back = now;
  const Nanoseconds begin = expected == Expected::kDeath ? strike.at : *strike.died;
  const Nanoseconds limit = strike.target == Target::kController ? kControllerDeadline : kServiceDeadline;
  if (is_late(strike, now - begin, limit))
    return end_strike(strike, "it was back after " + lateness(strike, now - begin, limit));
  end_strike(strike);
  if (strike.target == Target::kController) check_recovery(strike);
}

void Harness::advance_application(Strike& strike) {
  const Nanoseconds now = monotonic_now();
  if (!strike.died) {
    if (application_->pid() == strike.pid && !application_->ended()) {
      if (now - strike.at > kStrikeLimit) end_strike(strike, "it was not let go");
      return;
    }
    strike.died = now;
    application_killed_at_ = now;
    (void)application_->start();
    return;
  }
  if (const auto status = application_->ended()) return end_strike(strike, "its successor ended");
  if (application_->attached()) {
    strike.back = now;
    return end_strike(strike);
  }
  if (now - *strike.died > kStrikeLimit) end_strike(strike, "its successor could not attach");
}

// The same connections and counters as before; whose worker was struck meanwhile, or ended rightly, is not looked at.
void Harness::check_recovery(const Strike& strike) {
  for (const Connection& connection : before_controller_.connections) {
    const auto peer = std::find_if(peers_.begin(), peers_.end(),
                                   [&](const auto& one) { return one->peer_id() == connection.peer_id; });
    if (peer == peers_.end()) continue;
    const bool untouched = (*peer)->state() == Endpoint::State::kRunning && (*peer)->since() < strike.at;
    const auto index = static_cast<std::size_t>(peer - peers_.begin());
    if (!untouched || active(Target::kWorker, index) != nullptr) continue;
    if (!observer_->runs(connection.ref))
      violate("after the controller's restart the connection of peer " + std::to_string(index) +
              " is not in its table");
  }
  const auto counters = observer_->counters();
  for (std::size_t i = 0; i < counters.size(); ++i) {
    if (counters[i] < before_controller_.counters[i]) {
      violate("a counter went back in the controller's restart: from " +
              std::to_string(before_controller_.counters[i]) + " to " + std::to_string(counters[i]));
    }
  }
}

// ---- the end of a round

bool Harness::all_talk() {
  return std::all_of(peers_.begin(), peers_.end(), [&](const auto& peer) {
    return peer->state() == Endpoint::State::kRunning && peer->answered() >= kTalkAfterSettling;
  });
}

bool Harness::settle(bool all) {
  const auto slow = [](const Strike& strike) {
    return strike.target == Target::kWorker && expected_of(strike.target, strike.harm) == Expected::kFound;
  };
  const std::size_t wrong = violations_.size();
  pump_until(
      [&] {
        return lost_.empty() && std::all_of(strikes_.begin(), strikes_.end(), [&](const Strike& strike) {
                 return strike.over || (!all && slow(strike));
               });
      },
      2 * kWorkerSilenceDeadline + kReturnLimit);
  std::vector<std::uint64_t> marks;
  for (const auto& peer : peers_) marks.push_back(peer->total_messages());
  std::size_t silent = 0;
  const bool talk = pump_until(
      [&] {
        for (std::size_t i = 0; i < peers_.size(); ++i) {
          silent = i;
          if (active(Target::kWorker, i) != nullptr) continue;
          if (peers_[i]->state() != Endpoint::State::kRunning) return false;
          if (peers_[i]->total_messages() < marks[i] + kTalkAfterSettling) return false;
        }
        return true;
      },
      kTrafficLimit);
  if (!talk && violations_.size() == wrong) {
    violate("peer " + std::to_string(silent) + " gets no answers: " + std::to_string(peers_[silent]->sent()) +
            " sent, " + std::to_string(peers_[silent]->answered()) + " answered on connection " +
            std::to_string(peers_[silent]->epoch()));
  }
  return violations_.size() == wrong;
}

bool Harness::run_command(const std::vector<std::string>& words, Nanoseconds limit) {
  std::vector<std::string> all = {options_.program};
  all.insert(all.end(), words.begin(), words.end());
  all.insert(all.end(), {"--data-dir", options_.data_dir});
  std::vector<char*> argv;
  for (std::string& word : all) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string log = options_.data_dir + "/commands";
  const pid_t child = ::fork();
  if (child < 0) return false;
  if (child == 0) {
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  int status = -1;
  bool ended = false;
  pump_until(
      [&] {
        ended = ::waitpid(child, &status, WNOHANG) == child;
        return ended;
      },
      limit);
  if (!ended) {
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
  }
  return ended && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool Harness::check_control() {
  // A service that is being started anew refuses for a moment.
  const auto again = [&](const std::vector<std::string>& words) {
    const Nanoseconds until = monotonic_now() + kCommandLimit;
    while (!run_command(words, kCommandLimit)) {
      if (monotonic_now() > until) return false;
      const Nanoseconds pause = monotonic_now() + 100 * kMillisecond;
      while (monotonic_now() < pause) pump();
    }
    return true;
  };
  if (!again({"connect", "address", to_text(callee_point_)}) ||
      !pump_until([&] { return callee_->state() == Endpoint::State::kRunning; }, kCommandLimit)) {
    violate("`connect address` does not work");
    return false;
  }
  if (!again({"kick", "peer", wire::peer_id_text(callee_->peer_id())}) ||
      !pump_until([&] { return callee_->state() == Endpoint::State::kLost; }, kCommandLimit)) {
    violate("`kick peer` does not work");
    return false;
  }
  return true;
}

void Harness::finish() {
  settle();
  std::vector<std::string> leaked;
  const bool clean = pump_until(
      [&] {
        leaked = leaks(baseline_, observer_->use());
        return leaked.empty();
      },
      kLeakLimit);
  if (!clean) {
    for (const std::string& leak : leaked) violate("leaked: " + leak);
  }
  std::vector<pid_t> all = {observer_->supervisor()};
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (const pid_t child : children_of(all[i])) all.push_back(child);
  }
  application_->kill();
  for (auto& peer : peers_) peer->close();
  callee_->close();
  if (!node_->stop()) violate("the node did not stop in order");
  for (const pid_t pid : all) {
    if (process_state(pid) != '\0' && process_state(pid) != 'Z')
      violate("process " + std::to_string(pid) + " outlives the node");
  }
  node_.reset();
}

std::uint64_t Harness::messages() const {
  std::uint64_t sum = application_ ? application_->state().messages.load() : 0;
  for (const auto& peer : peers_) sum += peer->total_messages();
  return sum;
}

std::uint64_t Harness::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& peer : peers_) sum += peer->total_bytes();
  return sum;
}

}  // namespace bulkhead::fault
