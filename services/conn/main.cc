#include <stdexcept>

#include "sandbox/confine.h"
#include "services/common/boot.h"
#include "services/conn/nursery.h"
#include "shm/link.h"
#include "wire/secret.h"

namespace bulkhead::conn {
namespace {

int run() {
  // What every worker needs is made ready once, before the first fork; nothing in it is secret.
  wire::initialise();
  auto start = service::begin<schema::BootNursery>(Role::kNursery);
  if (start.descriptors.size() != 5) throw std::runtime_error("the boot message lacks descriptors");
  auto counters = shm::CountersWriter::map(start.descriptors[0].get(), Role::kNursery);
  auto filter = sandbox::compile_policy(Role::kConn);
  for (const Error* error : {counters ? nullptr : &counters.error(), filter ? nullptr : &filter.error()}) {
    if (error == nullptr) continue;
    service::fail(start.supervisor, error->text);
    return 1;
  }
  NurseryParts parts{.supervisor = std::move(start.supervisor),
                     .controller = schema::Channel(std::move(start.descriptors[4]), schema::kMaximumPacket),
                     .live = std::move(start.descriptors[1]),
                     .taken = std::move(start.descriptors[2]),
                     .outward = std::move(start.descriptors[3]),
                     .counters = std::move(*counters),
                     .boot = std::move(start.boot),
                     .worker_filter = std::move(*filter)};
  start.descriptors.clear();
  const auto confined = service::confine_and_announce(
      Role::kNursery, parts.boot.common, parts.supervisor, {}, [&](sandbox::Confinement& had) -> Result<void> {
        const auto level = static_cast<SandboxLevel>(parts.boot.common.sandbox);
        parts.pid_namespaces = had.user_namespace && Nursery::can_make_pid_namespaces();
        if (parts.pid_namespaces || level == SandboxLevel::kOff) return {};
        const std::string text = "PID namespaces of its workers: they take a user namespace of the nursery's own";
        if (level == SandboxLevel::kStrict) {
          return Error{ErrorCode::kRefused,
                       "nursery: " + text + "; allow user namespaces or say --require-sandbox default"};
        }
        had.missing.push_back(text);
        return {};
      });
  return confined ? Nursery(std::move(parts)).run() : 1;
}

}  // namespace
}  // namespace bulkhead::conn

int main() {
  return bulkhead::service::guarded_main(bulkhead::Role::kNursery, bulkhead::conn::run);
}
