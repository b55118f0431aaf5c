#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include "base/log.h"
#include "services/common/boot.h"
#include "services/controller/keyholder/keyholder.h"
#include "shm/tables.h"

namespace bulkhead::keyholder {
namespace {

Result<wire::Identity> read_identity(int fd, const std::string& path) {
  std::string text(wire::kMaximumIdentityText + 1, '\0');
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  if (size < 0) return system_error("cannot read " + path);
  auto identity = wire::parse_identity(std::string_view(text).substr(0, static_cast<std::size_t>(size)), path);
  sodium_memzero(text.data(), text.size());
  return identity;
}

// The node runs all the same: there are networks with other demands than ours, and peers that dial may not mind.
void warn_if_weak(const wire::Identity& identity, const schema::BootKeyholder& boot, const wire::Target& target) {
  if (wire::check_proof_of_work(identity.public_key, identity.stamp, target)) return;
  std::array<char, 16> bits{};
  std::snprintf(bits.data(), bits.size(), "%.4g", boot.expected_pow);
  log_warning(boot.identity_path + ": its proof of work is below " + bits.data() +
              ", so peers that ask for as much as this node does refuse it; move the file away and make another with "
              "`bulkhead identity generate " +
              bits.data() + "`");
}

void wipe(schema::KeyProofDone& answer) {
  sodium_memzero(answer.channel_key.data(), answer.channel_key.size());
  sodium_memzero(answer.send_nonce.data(), answer.send_nonce.size());
  sodium_memzero(answer.receive_nonce.data(), answer.receive_nonce.size());
}

/// Waits on the two channels for ever. Ends when the supervisor's closes; a lost controller gets a successor, whose
/// channel comes with a new keyholder's start, so the end of its channel ends this process too: a new one has no
/// half-done handshakes.
int serve(schema::Channel& supervisor, schema::Channel& controller, Keyholder& keyholder,
          const shm::CountersWriter& counters) {
  for (;;) {
    pollfd waits[2] = {{supervisor.fd(), POLLIN, 0}, {controller.fd(), POLLIN, 0}};
    if (::ppoll(waits, 2, nullptr, nullptr) < 0) {
      if (errno == EINTR) continue;
      return 1;
    }
    schema::Descriptors descriptors;
    if (waits[0].revents != 0) {
      auto message = supervisor.receive<schema::FromSupervisor>(descriptors);
      if (message) {
        if (const auto* ping = std::get_if<schema::Ping>(&*message))
          (void)supervisor.send(schema::ToSupervisor(schema::Pong{ping->number}));
        if (std::holds_alternative<schema::Stop>(*message)) return 0;
      } else if (message.error().code != ErrorCode::kWouldBlock) {
        return 0;
      }
    }
    if (waits[1].revents == 0) continue;
    auto message = controller.receive<schema::ToKeyholder>(descriptors);
    if (!message) {
      if (message.error().code == ErrorCode::kWouldBlock) continue;
      return 0;
    }
    counters.count(shm::Counter::kKeyRequests);
    // An answer that does not fit the channel's queue is dropped: the handshake then runs into its deadline.
    if (const auto* begin = std::get_if<schema::KeyBegin>(&*message)) {
      if (auto answer = keyholder.begin(*begin)) (void)controller.send(schema::FromKeyholder(std::move(*answer)));
    } else if (const auto* hello = std::get_if<schema::KeyHello>(&*message)) {
      auto answer = keyholder.hello(*hello);
      if (answer && answer->failure != Reason::kNone) counters.count(answer->failure);
      if (answer) (void)controller.send(schema::FromKeyholder(std::move(*answer)));
    } else if (const auto* proof = std::get_if<schema::KeyProof>(&*message)) {
      if (auto answer = keyholder.proof(*proof)) {
        if (answer->failure != Reason::kNone) counters.count(answer->failure);
        schema::FromKeyholder wrapped(*answer);
        (void)controller.send(wrapped);
        wipe(*answer);
        wipe(std::get<schema::KeyProofDone>(wrapped));
      }
    }
  }
}

int run() {
  wire::initialise();
  auto start = service::begin<schema::BootKeyholder>(Role::kKeyholder);
  if (start.descriptors.size() != 3) throw std::runtime_error("the boot message lacks descriptors");
  auto identity = read_identity(start.descriptors[0].get(), start.boot.identity_path);
  const auto target = wire::target_for(start.boot.expected_pow);
  const auto counters = shm::CountersWriter::map(start.descriptors[1].get(), Role::kKeyholder);
  for (const Error* error : {identity ? nullptr : &identity.error(), target ? nullptr : &target.error(),
                             counters ? nullptr : &counters.error()}) {
    if (error == nullptr) continue;
    service::fail(start.supervisor, error->text);
    return 1;
  }
  warn_if_weak(*identity, start.boot, *target);
  schema::Channel controller(std::move(start.descriptors[2]), schema::kMaximumPacket);
  start.descriptors.clear();
  Keyholder keyholder(std::move(*identity), {start.boot.announcement, start.boot.metadata}, *target,
                      start.boot.common.slots);
  const schema::Ready ready{keyholder.peer_id(), keyholder.public_key()};
  if (!service::confine_and_announce(Role::kKeyholder, start.boot.common, start.supervisor, ready)) return 1;
  const int status = serve(start.supervisor, controller, keyholder, *counters);
  // Closing and unmapping takes system calls that it no longer has; the kernel does both.
  if (start.boot.common.sandbox != static_cast<std::uint32_t>(SandboxLevel::kOff)) ::_exit(status);
  return status;
}

}  // namespace
}  // namespace bulkhead::keyholder

int main() {
  return bulkhead::service::guarded_main(bulkhead::Role::kKeyholder, bulkhead::keyholder::run);
}
