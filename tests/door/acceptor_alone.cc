#include "tests/door/acceptor_alone.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

#include "base/address.h"
#include "base/clock.h"
#include "base/unix_socket.h"
#include "services/controller/supervisor/listeners.h"
#include "services/controller/supervisor/service_process.h"
#include "shm/segment.h"

namespace bulkhead::testing {
namespace {

constexpr int kReadyTimeoutMs = 20'000;

std::uint32_t sandbox_level() {
  const char* level = std::getenv("BULKHEAD_TEST_SANDBOX");
  const bool off = level != nullptr && std::string(level) == "off";
  return static_cast<std::uint32_t>(off ? SandboxLevel::kOff : SandboxLevel::kDefault);
}

}  // namespace

AcceptorAlone::~AcceptorAlone() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  (void)wait_for(pid_, Milliseconds(10'000));
}

Result<void> AcceptorAlone::start() {
  auto listener = supervisor::listen_for_peers(Point{*parse_address(fresh_address()), 0}, options_.backlog);
  if (!listener) return listener.error();
  auto counters = shm::make_counters();
  if (!counters) return counters.error();
  auto lists = shm::ListsTable::make(options_.list_capacity);
  if (!lists) return lists.error();
  auto readable = reopen_read_only(lists->get());
  if (!readable) return readable.error();
  auto table = shm::CountersTable::map(counters->get());
  auto writer = shm::ListsWriter::map(lists->get());
  if (!table || !writer) return table ? writer.error() : table.error();
  counters_ = std::move(*table);
  lists_ = std::move(*writer);
  auto point = supervisor::bound_point(listener->get());
  auto up = socket_pair();
  auto across = socket_pair();
  if (!point || !up || !across) return Error{ErrorCode::kSystem, "no sockets for the acceptor"};
  point_ = *point;
  const auto started =
      supervisor::start_service(std::string(BULKHEAD_BIN_DIR) + "/bulkhead-acceptor", up->second.get());
  if (!started) return started.error();
  pid_ = started->pid;
  up->second.reset();
  supervisor_ = schema::Channel(std::move(up->first), schema::kMaximumPacket);
  controller_ = schema::Channel(std::move(across->first), schema::kMaximumPacket);
  schema::BootAcceptor boot;
  boot.common = {.log_level = static_cast<std::uint32_t>(options_.log_level), .sandbox = sandbox_level()};
  boot.door = options_.door;
  boot.expected_pow = options_.expected_pow;
  boot.authentication_timeout_ms = options_.authentication_timeout_ms;
  const std::array given = {counters->get(), readable->get(), across->second.get(), listener->get()};
  if (auto sent = supervisor_.send(schema::FromSupervisor(boot), given); !sent) return sent.error();
  schema::Descriptors none;
  const auto answer = schema::receive_blocking<schema::ToSupervisor>(supervisor_, none, kReadyTimeoutMs * kPatience);
  if (!answer) return answer.error();
  if (const auto* failed = std::get_if<schema::Failed>(&*answer)) return Error{ErrorCode::kSystem, failed->text};
  return {};
}

void AcceptorAlone::ban(const std::string& prefix) {
  const auto parsed = parse_prefix(prefix);
  if (!parsed) throw std::invalid_argument(prefix);
  if (!lists_->add(shm::ListEntry::of(shm::AclList::kBlack, *parsed), wall_now_ms()))
    throw std::runtime_error("no room");
}

std::optional<schema::FromAcceptor> AcceptorAlone::next(Milliseconds timeout) {
  schema::Descriptors descriptors;
  auto message =
      schema::receive_blocking<schema::FromAcceptor>(controller_, descriptors, static_cast<int>(timeout.count()));
  if (!message) return std::nullopt;
  return std::move(*message);
}

UniqueFd AcceptorAlone::connect(const std::string& source) const {
  UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto at = [](sockaddr_storage& storage) { return static_cast<sockaddr*>(static_cast<void*>(&storage)); };
  sockaddr_storage storage{};
  socklen_t size = to_sockaddr(Point{*parse_address(source), 0}, storage);
  if (::bind(socket.get(), at(storage), size) != 0) return {};
  size = to_sockaddr(point_, storage);
  if (::connect(socket.get(), at(storage), size) != 0) return {};
  ::fcntl(socket.get(), F_SETFL, O_NONBLOCK);
  return socket;
}

}  // namespace bulkhead::testing
