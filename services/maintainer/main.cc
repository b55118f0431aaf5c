#include <stdexcept>

#include "services/common/boot.h"
#include "services/maintainer/maintainer.h"

namespace bulkhead::maintainer {
namespace {

int run() {
  auto start = service::begin<schema::BootMaintainer>(Role::kMaintainer);
  const bool discovers = start.boot.discovery.port != 0;
  if (start.descriptors.size() != (discovers ? 4 : 3)) throw std::runtime_error("the boot message lacks descriptors");
  auto counters = shm::CountersWriter::map(start.descriptors[0].get(), Role::kMaintainer);
  auto pool = shm::PoolTable::map(start.descriptors[1].get(), shm::Access::kReadOnly);
  for (const Error* error : {counters ? nullptr : &counters.error(), pool ? nullptr : &pool.error()}) {
    if (error == nullptr) continue;
    service::fail(start.supervisor, error->text);
    return 1;
  }
  MaintainerParts parts{.supervisor = std::move(start.supervisor),
                        .controller = schema::Channel(std::move(start.descriptors[2]), schema::kMaximumPacket),
                        .counters = std::move(*counters),
                        .pool = std::move(*pool),
                        .boot = start.boot,
                        .discovery = discovers ? std::move(start.descriptors[3]) : UniqueFd()};
  start.descriptors.clear();
  Maintainer maintainer(std::move(parts));
  return service::confine_and_announce(Role::kMaintainer, start.boot.common, maintainer.supervisor()) ? maintainer.run()
                                                                                                      : 1;
}

}  // namespace
}  // namespace bulkhead::maintainer

int main() {
  return bulkhead::service::guarded_main(bulkhead::Role::kMaintainer, bulkhead::maintainer::run);
}
