#include "services/controller/cli/fault/echo_application.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <map>
#include <memory>
#include <new>

#include "base/fd.h"
#include "bulkhead/application.h"

namespace bulkhead::fault {
namespace {

using std::chrono::milliseconds;

constexpr int kEventsPerTurn = 256;
constexpr auto kWait = milliseconds(20);
constexpr int kRetryMs = 20;
constexpr int kExitFailed = 3;
constexpr int kExitDetached = 4;

/// The child's side.
class Echo {
 public:
  Echo(const std::string& data_dir, const Pattern& pattern, const std::vector<PeerId>& peers, EchoState& state)
      : data_dir_(data_dir),
        pattern_(pattern),
        state_(state),
        connections_(peers.size()),
        ports_(peers.size()),
        begun_(peers.size()) {
    for (std::size_t i = 0; i < peers.size(); ++i) index_[peers[i]] = i;
    incarnation_ = state_.incarnation.load();
    peers_ = peers;
  }

  [[noreturn]] void run() {
    attach();
    state_.attached.store(incarnation_);
    for (;;) {
      bool more = true;
      for (int i = 0; i < kEventsPerTurn && more; ++i) {
        const auto event = node_->next();
        more = event.has_value();
        if (more) on(*event);
      }
      // News of a connection may wait among what was not looked at yet.
      if (more) look_at_ports();
      for (std::size_t peer = 0; peer < peers_.size(); ++peer) {
        answer(peer);
        nudge(peer);
      }
      // Room in a queue that was full wakes it, too.
      (void)node_->wait(kWait);
    }
  }

 private:
  // Refused as long as the controller is being started anew, or has not seen the end of the process before this one.
  void attach() {
    for (;;) {
      auto node = client::Application::attach(data_dir_);
      if (node) {
        node_ = std::move(*node);
        return;
      }
      ::poll(nullptr, 0, kRetryMs);
    }
  }

  [[noreturn]] void fail(const std::string& text) {
    const std::size_t size = std::min(text.size(), state_.failure.size() - 1);
    std::memcpy(state_.failure.data(), text.data(), size);
    state_.failure[size] = '\0';
    state_.failed.store(1);
    ::_exit(kExitFailed);
  }

  void on(const client::Event& event) {
    if (const auto* message = std::get_if<client::MessageReceived>(&event)) {
      const auto found = index_.find(message->peer_id);
      if (found == index_.end()) fail("a message of a peer that nobody knows");
      take(found->second, *message);
    } else if (const auto* up = std::get_if<client::Connected>(&event)) {
      const auto found = index_.find(up->connection.peer_id);
      if (found == index_.end()) return;
      ++connections_[found->second];
      ports_[found->second] = up->connection.remote_port;
    } else if (const auto* down = std::get_if<client::Disconnected>(&event)) {
      if (const auto found = index_.find(down->peer_id); found != index_.end()) --connections_[found->second];
    } else if (std::holds_alternative<client::Gap>(event)) {
      state_.gaps.fetch_add(1);
      fail("messages were discarded although an application was attached within the grace");
    } else {
      ::_exit(kExitDetached);
    }
  }

  void take(std::size_t index, const client::MessageReceived& message) {
    EchoState::Peer& peer = state_.peers[index];
    const Place expected{static_cast<std::uint16_t>(index), Way::kToApplication, peer.epoch.load(),
                         peer.received.load() + 1};
    const Finding finding = judge(pattern_, expected, message.tag, message.body);
    const bool first = !begun_[index];
    begun_[index] = true;
    if (finding.right()) {
      peer.received.store(expected.number);
      state_.messages.fetch_add(1);
      return;
    }
    // The one that the process before this had in hand when it died.
    if (finding.kind == Finding::Kind::kRepeated && first) {
      state_.repeated.fetch_add(1);
      return;
    }
    if (finding.kind == Finding::Kind::kOtherEpoch) {
      if (finding.epoch > expected.epoch && finding.number == 1) {
        peer.answered.store(0);
        peer.received.store(1);
        peer.port.store(ports_[index]);
        peer.epoch.store(finding.epoch);
        state_.messages.fetch_add(1);
        return;
      }
      if (finding.epoch < expected.epoch) return;  // of a connection that is over
    }
    if (expected.epoch <= peer.distrusted.load()) return;
    // The tail of a connection that is over, while its successor is there already; it may be too short for a stamp.
    if (connections_[index] > 1) return;
    fail("the application: " + describe(finding, expected));
  }

  void look_at_ports() {
    for (const auto& connection : node_->connections()) {
      if (const auto found = index_.find(connection.peer_id); found != index_.end())
        ports_[found->second] = connection.remote_port;
    }
  }

  void nudge(std::size_t index) {
    EchoState::Peer& peer = state_.peers[index];
    if (peer.nudged.load() >= peer.nudges.load()) return;
    const std::vector<std::uint8_t> body(64);
    peer.nudged.fetch_add(1);
    (void)node_->try_send(peers_[index], 0x10, body);
  }

  void answer(std::size_t index) {
    EchoState::Peer& peer = state_.peers[index];
    while (peer.answered.load() < peer.received.load()) {
      // There may be a new connection of this peer already: an answer to the old one does not belong there.
      if (ports_[index] != peer.port.load()) return;
      const Place place{static_cast<std::uint16_t>(index), Way::kToPeer, peer.epoch.load(), peer.answered.load() + 1};
      make_body(pattern_, place, incarnation_, body_);
      const auto sent = node_->try_send(peers_[index], tag_of(place), body_);
      if (!sent || !*sent) return;
      peer.answered.store(place.number);
    }
  }

  std::string data_dir_;
  Pattern pattern_;
  EchoState& state_;
  std::vector<PeerId> peers_;
  std::map<PeerId, std::size_t> index_;
  std::vector<int> connections_;      ///< connected and not yet disconnected, by what was told
  std::vector<std::uint32_t> ports_;  ///< of the latest connection, at the peer
  std::vector<bool> begun_;           ///< a message came in this incarnation
  std::uint32_t incarnation_ = 0;
  std::unique_ptr<client::Application> node_;
  std::vector<std::uint8_t> body_;
};

}  // namespace

EchoApplication::EchoApplication(std::string data_dir, Pattern pattern, std::vector<PeerId> peers, EchoState* state)
    : data_dir_(std::move(data_dir)), pattern_(pattern), peers_(std::move(peers)), state_(state) {}

EchoApplication::~EchoApplication() {
  kill();
  ::munmap(state_, sizeof *state_);
}

Result<std::unique_ptr<EchoApplication>> EchoApplication::make(std::string data_dir, Pattern pattern,
                                                               std::vector<PeerId> peers) {
  if (peers.size() > kMaximumPeers)
    return Error{ErrorCode::kInvalid, "at most " + std::to_string(kMaximumPeers) + " peers"};
  void* memory = ::mmap(nullptr, sizeof(EchoState), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return system_error("mmap");
  auto* state = new (memory) EchoState();
  return std::unique_ptr<EchoApplication>(new EchoApplication(std::move(data_dir), pattern, std::move(peers), state));
}

Result<void> EchoApplication::start() {
  state_->incarnation.fetch_add(1);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return system_error("cannot fork the application");
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(kExitFailed);
    // What the harness holds, the peers' sockets above all, must not stay open in here.
    std::array<int, 3> keep = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    close_all_but(keep);
    Echo(data_dir_, pattern_, peers_, *state_).run();
  }
  pid_ = child;
  return {};
}

void EchoApplication::reap() {
  if (pid_ != 0) ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

void EchoApplication::kill() {
  if (pid_ != 0) ::kill(pid_, SIGKILL);
  reap();
}

std::optional<int> EchoApplication::ended() {
  int status = 0;
  if (pid_ == 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = 0;
  return status;
}

bool EchoApplication::attached() const {
  return pid_ != 0 && state_->attached.load() == state_->incarnation.load();
}
std::uint32_t EchoApplication::incarnation() const {
  return state_->incarnation.load();
}

std::optional<std::string> EchoApplication::violation() const {
  if (state_->failed.load() == 0) return std::nullopt;
  return std::string(state_->failure.data());
}

}  // namespace bulkhead::fault
