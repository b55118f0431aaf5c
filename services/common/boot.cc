#include "services/common/boot.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <stdexcept>

namespace bulkhead::service {
namespace {

constexpr int kBootTimeoutMs = 10000;

}  // namespace

template <typename Boot>
Start<Boot> begin(Role role) {
  ::clearenv();
  ::signal(SIGPIPE, SIG_IGN);
  // A terminal's interrupt goes to the whole group, and so does what some service managers send; the supervisor alone
  // decides the order of the end.
  for (const int number : {SIGINT, SIGHUP, SIGTERM}) ::signal(number, SIG_IGN);
  ::prctl(PR_SET_DUMPABLE, 0);
  std::array<int, 4> keep = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, kSupervisorFd};
  close_all_but(keep);
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(kSupervisorFd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET) {
    throw std::runtime_error(std::string("bulkhead-") + role_name(role) + " is started by `bulkhead run`, not by hand");
  }
  ::fcntl(kSupervisorFd, F_SETFD, FD_CLOEXEC);
  Start<Boot> start;
  start.supervisor = schema::Channel(UniqueFd(kSupervisorFd), schema::kMaximumPacket);
  auto message = schema::receive_blocking<schema::FromSupervisor>(start.supervisor, start.descriptors, kBootTimeoutMs);
  if (!message) throw std::runtime_error("no boot message from the supervisor: " + message.error().text);
  auto* boot = std::get_if<Boot>(&*message);
  if (boot == nullptr) throw std::runtime_error("the supervisor's first message is not the boot message of this role");
  start.boot = std::move(*boot);
  log_init(role_name(role), static_cast<LogLevel>(start.boot.common.log_level), start.boot.common.log_json);
  return start;
}

template Start<schema::BootController> begin<schema::BootController>(Role);
template Start<schema::BootKeyholder> begin<schema::BootKeyholder>(Role);
template Start<schema::BootAcceptor> begin<schema::BootAcceptor>(Role);
template Start<schema::BootMaintainer> begin<schema::BootMaintainer>(Role);
template Start<schema::BootNursery> begin<schema::BootNursery>(Role);

bool confine_and_announce(Role role, const schema::BootCommon& boot, schema::Channel& supervisor,
                          const schema::Ready& ready, const std::function<Result<void>(sandbox::Confinement&)>& after) {
  auto confined = sandbox::confine_service(role, static_cast<SandboxLevel>(boot.sandbox),
                                           static_cast<int>(boot.user_namespace_error));
  if (!confined) {
    fail(supervisor, confined.error().text);
    return false;
  }
  if (after) {
    if (const auto agreed = after(*confined); !agreed) {
      fail(supervisor, agreed.error().text);
      return false;
    }
  }
  for (const auto& missing : confined->missing) log_notice("not confined by " + missing);
  return supervisor.send(schema::ToSupervisor(ready)).ok();
}

void fail(schema::Channel& supervisor, const std::string& text) {
  // The supervisor logs it.
  if (!supervisor.send(schema::ToSupervisor(schema::Failed{text}))) log_error(text);
}

}  // namespace bulkhead::service
