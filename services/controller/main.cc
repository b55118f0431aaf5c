#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <stdexcept>

#include "base/log.h"
#include "sandbox/policy.h"
#include "services/common/boot.h"
#include "services/controller/controller.h"

namespace bulkhead::controller {
namespace {

// To where the filter allows the calls of the store.
UniqueFd move_to(int number, UniqueFd fd) {
  if (::fcntl(number, F_GETFD) != -1) throw std::runtime_error("a descriptor of the state database is taken");
  UniqueFd moved(::dup3(fd.get(), number, O_CLOEXEC));
  if (!moved) throw std::runtime_error(system_error("cannot move a descriptor of the state database").text);
  return moved;
}

// In the confined process: what stands in the file is read here for the first time.
Result<void> take_over_state(Store& store, Controller& controller) {
  auto opened = store.open();
  if (opened) {
    controller.load_state();
  } else if (opened.error().code == ErrorCode::kBroken) {
    (void)controller.supervisor().send(schema::ToSupervisor(schema::StateDamaged{store.log_damaged()}));
  }
  return opened;
}

struct MappedAsMap {
  shm::Mapping memory;
  AsMap map;
};

Result<MappedAsMap> map_as_map(int fd) {
  const auto size = shm::segment_size(fd);
  if (!size) return size.error();
  if (const auto sealed = shm::check_segment(fd, *size, shm::kConstantSeals); !sealed) return sealed.error();
  auto memory = shm::Mapping::map(fd, shm::Access::kReadOnly, 0, static_cast<std::size_t>(*size));
  if (!memory) return memory.error();
  auto map = AsMap::view({memory->data(), memory->size()});
  if (!map) return map.error();
  return MappedAsMap{std::move(*memory), std::move(*map)};
}

int run() {
  // A limit of file size is an error of the store, not the end of the process.
  ::signal(SIGXFSZ, SIG_IGN);
  auto start = service::begin<schema::BootController>(Role::kController);
  if (start.descriptors.size() != (start.boot.known_peers == 0 ? 12 : 13))
    throw std::runtime_error("the boot message lacks descriptors");
  auto& given = start.descriptors;
  auto pool = shm::PoolTable::map(given[0].get(), shm::Access::kReadWrite);
  auto events = shm::EventsTable::map(given[1].get(), shm::Access::kReadWrite);
  auto counters = shm::CountersWriter::map(given[2].get(), Role::kController);
  auto live = shm::LiveTable::map(given[3].get(), start.boot.common.slots);
  auto outward = shm::OutwardTable::map(given[8].get(), start.boot.common.slots, shm::kDefaultRingBytes);
  auto lists = shm::ListsWriter::map(given[9].get());
  auto history = pool ? shm::HistoryTable::map(given[10].get(), shm::Access::kReadWrite, pool->points(), pool->peers())
                      : Result<shm::HistoryTable>(pool.error());
  auto as_map = map_as_map(given[11].get());
  // One channel for each connection, and what a hand-over holds for a moment.
  auto files = raise_open_file_limit(start.boot.common.slots * 2 + 256);
  for (const Error* error :
       {pool ? nullptr : &pool.error(), events ? nullptr : &events.error(), counters ? nullptr : &counters.error(),
        live ? nullptr : &live.error(), outward ? nullptr : &outward.error(), lists ? nullptr : &lists.error(),
        history ? nullptr : &history.error(), as_map ? nullptr : &as_map.error(), files ? nullptr : &files.error()}) {
    if (error == nullptr) continue;
    service::fail(start.supervisor, error->text);
    return 1;
  }
  auto disk = KernelDiskFlush::make();
  if (!disk) log_notice("a slow disk can hold up the controller: " + disk.error().text);
  Store store(
      {move_to(sandbox::kDatabaseFd, std::move(given[6])), move_to(sandbox::kDatabaseLogFd, std::move(given[7]))},
      disk ? std::move(*disk) : nullptr);
  ControllerParts parts{.supervisor = std::move(start.supervisor),
                        .boot = std::move(start.boot),
                        .pool_table = std::move(*pool),
                        .events = std::move(*events),
                        .counters = std::move(*counters),
                        .live = std::move(*live),
                        .outward = std::move(*outward),
                        .lists = std::move(*lists),
                        .history = std::move(*history),
                        .known_peers = given.size() > 12 ? std::move(given[12]) : UniqueFd(),
                        .as_map_memory = std::move(as_map->memory),
                        .as_map = std::move(as_map->map),
                        .control_listener = std::move(given[4]),
                        .application_listener = std::move(given[5]),
                        .store = &store};
  given.clear();
  const schema::BootCommon common = parts.boot.common;
  Controller controller(std::move(parts));
  const auto after = [&](sandbox::Confinement&) { return take_over_state(store, controller); };
  if (!service::confine_and_announce(Role::kController, common, controller.supervisor(), {}, after)) return 1;
  return controller.run();
}

}  // namespace
}  // namespace bulkhead::controller

int main() {
  return bulkhead::service::guarded_main(bulkhead::Role::kController, bulkhead::controller::run);
}
