#include "services/conn/nursery.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/clock.h"
#include "base/log.h"
#include "sandbox/confine.h"
#include "services/conn/worker.h"

namespace bulkhead::conn {
namespace {

// Reports that wait for the controller; it may be down for seconds while every worker ends.
constexpr std::size_t kMaximumReports = 65536;

void quiet_child_signal(int) {}

// As waitpid would give it.
std::uint32_t wait_status_of(const siginfo_t& end) {
  const auto value = static_cast<std::uint32_t>(end.si_status);
  if (end.si_code == CLD_EXITED) return (value & 0xff) << 8;
  return value | (end.si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

/// The whole life of a worker, from the fork on. Everything foreign comes after the filter is in force.
WorkerExit live_as_worker(NurseryParts& nursery, const SlotRef& slot, UniqueFd socket, UniqueFd channel,
                          Nanoseconds born) {
  std::array<int, 5> first = {socket.get(), channel.get(), nursery.live.get(), nursery.taken.get(),
                              nursery.outward.get()};
  close_all_but(first);
  ::signal(SIGCHLD, SIG_DFL);

  WorkerParts parts;
  parts.slot = slot;
  parts.socket = std::move(socket);
  parts.channel = schema::Channel(std::move(channel), schema::kMaximumPacket);
  auto live = shm::LiveWriter::map(nursery.live.get(), slot.slot);
  if (!live) return WorkerExit::kSetupFailed;
  parts.live = std::move(*live);
  auto to_application = shm::make_wakeup();
  auto to_worker = shm::make_wakeup();
  if (!to_application || !to_worker) return WorkerExit::kSetupFailed;
  parts.to_application = std::move(*to_application);
  parts.to_worker = std::move(*to_worker);
  const shm::LinkGeometry geometry{slot.slot, slot.generation, nursery.boot.inward_capacity,
                                   nursery.boot.outward_capacity};
  auto link = shm::WorkerLink::create(geometry, nursery.taken.get(), nursery.outward.get(), parts.to_application.get(),
                                      shm::MirroredMapping::Guard::kBothSides);
  if (!link) return WorkerExit::kSetupFailed;
  parts.link = std::make_unique<shm::WorkerLink>(std::move(*link));
  auto& page = parts.live.page();
  const int inward = parts.link->inward_fd();
  const int wake_application = parts.to_application.get();
  const int wake_worker = parts.to_worker.get();
  const int tcp = parts.socket.get();
  const int control = parts.channel.fd();

  std::unique_ptr<Worker> worker;
  try {
    worker = std::make_unique<Worker>(std::move(parts));
  } catch (const std::exception&) {
    return WorkerExit::kSetupFailed;
  }
  // What is open now is the loop's own; segments of others, known from before the fork, must go.
  nursery.live.reset();
  nursery.taken.reset();
  nursery.outward.reset();
  {
    // A page that all workers could write to would be a way from one to another.
    const shm::CountersWriter gone = std::move(nursery.counters);
  }
  // The limit of descriptors bounds as well how many of this user's may be on their way at once, in links of all
  // workers together: room for 64 links.
  const int highest = std::max({inward, wake_application, wake_worker, tcp, control}) + 3 * 64;

  if (nursery.boot.common.sandbox != static_cast<std::uint32_t>(SandboxLevel::kOff)) {
    if (!sandbox::confine_worker(nursery.worker_filter, page.violation, highest)) return WorkerExit::kConfinementFailed;
  }
  page.step.store(0, std::memory_order_relaxed);
  page.reason.store(0, std::memory_order_relaxed);
  page.confined_ns.store(monotonic_now() - born, std::memory_order_relaxed);
  page.generation.store(slot.generation, std::memory_order_release);
  return worker->run();
}

}  // namespace

Nursery::Nursery(NurseryParts parts) : parts_(std::move(parts)), children_(parts_.boot.common.slots) {
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child, nullptr);
  struct sigaction action {};
  action.sa_handler = quiet_child_signal;
  ::sigaction(SIGCHLD, &action, nullptr);
}

bool Nursery::can_make_pid_namespaces() {
  const long pid =
      ::syscall(SYS_clone, static_cast<unsigned long>(SIGCHLD) | CLONE_NEWPID, nullptr, nullptr, nullptr, nullptr);
  if (pid == 0) ::_exit(0);
  if (pid < 0) return false;
  ::waitpid(static_cast<pid_t>(pid), nullptr, 0);
  return true;
}

int Nursery::run() {
  sigset_t open;
  ::sigemptyset(&open);
  while (running_) {
    const auto controller_events = static_cast<short>(POLLIN | (reports_.empty() && !untold_ ? 0 : POLLOUT));
    // A negative descriptor is skipped: the controller is gone and its successor's channel has not come yet.
    pollfd waits[2] = {{parts_.supervisor.fd(), POLLIN, 0},
                       {parts_.controller ? parts_.controller.fd() : -1, controller_events, 0}};
    if (::ppoll(waits, 2, nullptr, &open) < 0 && errno != EINTR) return 1;
    reap();
    if (waits[0].revents != 0) on_supervisor();
    if (waits[1].revents != 0) {
      flush();
      if (untold_) reap();
      on_controller();
    }
  }
  if (asked_to_stop_) end_all();
  return 0;
}

// The node stops in order: each worker was asked to go. One that is stopped, or spins, did not. (A nursery that ends
// for any other reason leaves its workers to the supervisor.)
void Nursery::end_all() {
  for (const Child& child : children_) {
    if (child.pid != 0) ::kill(child.pid, SIGKILL);
  }
}

void Nursery::on_supervisor() {
  schema::Descriptors descriptors;
  auto message = parts_.supervisor.receive<schema::FromSupervisor>(descriptors);
  if (!message) {
    if (message.error().code != ErrorCode::kWouldBlock) running_ = false;
    return;
  }
  if (const auto* ping = std::get_if<schema::Ping>(&*message))
    (void)parts_.supervisor.send(schema::ToSupervisor(schema::Pong{ping->number}));
  if (std::holds_alternative<schema::Stop>(*message)) {
    asked_to_stop_ = true;
    running_ = false;
  }
}

void Nursery::on_controller() {
  if (!parts_.controller) return;
  schema::Descriptors descriptors;
  auto message = parts_.controller.receive<schema::ToNursery>(descriptors);
  if (!message) {
    if (message.error().code == ErrorCode::kWouldBlock) return;
    // Both the controller and the supervisor have let go of the other end: the node stops.
    running_ = false;
    return;
  }
  if (const auto* request = std::get_if<schema::Spawn>(&*message)) spawn(*request, descriptors);
  if (const auto* request = std::get_if<schema::EndWorker>(&*message)) end_worker(*request);
}

void Nursery::spawn(const schema::Spawn& request, schema::Descriptors& descriptors) {
  if (request.slot.slot >= children_.size() || descriptors.size() != 2) return;
  Child& child = children_[request.slot.slot];
  if (child.pid != 0) {
    // The slot's former worker was told to go and has not been reaped; the controller counts this as a failed fork.
    report(schema::SpawnFailed{request.slot, EBUSY});
    return;
  }
  const Nanoseconds born = monotonic_now();
  const long pid =
      ::syscall(SYS_clone, static_cast<unsigned long>(SIGCHLD) | (parts_.pid_namespaces ? CLONE_NEWPID : 0UL), nullptr,
                nullptr, nullptr, nullptr);
  if (pid == 0) {
    const WorkerExit code =
        live_as_worker(parts_, request.slot, std::move(descriptors[0]), std::move(descriptors[1]), born);
    ::_exit(static_cast<int>(code));
  }
  if (pid < 0) {
    report(schema::SpawnFailed{request.slot, static_cast<std::uint32_t>(errno)});
    return;
  }
  child = {request.slot.generation, static_cast<int>(pid)};
  parts_.counters.count(shm::Counter::kWorkersStarted);
  report(schema::Spawned{request.slot, static_cast<std::uint32_t>(pid)});
}

void Nursery::end_worker(const schema::EndWorker& request) {
  if (request.slot.slot >= children_.size()) return;
  const Child& child = children_[request.slot.slot];
  if (child.pid == 0 || child.generation != request.slot.generation) return;
  // Not reaped yet, so the number is still its own.
  ::kill(child.pid, SIGKILL);
}

// A worker's end is told before it is reaped: of a nursery that dies in between, the supervisor inherits the dead child
// and tells. The controller makes nothing of being told twice. Whose end cannot be told now stays a dead child.
void Nursery::reap() {
  untold_ = false;
  for (;;) {
    siginfo_t end{};
    if (::waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) != 0 || end.si_pid == 0) return;
    const auto child =
        std::find_if(children_.begin(), children_.end(), [&](const Child& one) { return one.pid == end.si_pid; });
    if (child != children_.end()) {
      const auto slot = static_cast<SlotId>(child - children_.begin());
      flush();
      untold_ = !reports_.empty() ||
                !parts_.controller.send(schema::FromNursery(schema::Exited{
                    {slot, child->generation}, static_cast<std::uint32_t>(end.si_pid), wait_status_of(end)}));
      if (untold_) return;
      parts_.counters.count(shm::Counter::kWorkersEnded);
      *child = {};
    }
    ::waitpid(end.si_pid, nullptr, 0);
  }
}

void Nursery::report(schema::FromNursery message) {
  if (reports_.size() >= kMaximumReports) reports_.pop_front();
  reports_.push_back(std::move(message));
  flush();
}

void Nursery::flush() {
  while (!reports_.empty() && parts_.controller) {
    if (!parts_.controller.send(reports_.front())) return;
    reports_.pop_front();
  }
}

}  // namespace bulkhead::conn
