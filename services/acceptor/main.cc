#include <random>
#include <stdexcept>

#include "services/acceptor/acceptor.h"
#include "services/common/boot.h"
#include "wire/secret.h"

namespace bulkhead::acceptor {
namespace {

constexpr std::size_t kSpareDescriptors = 512;

DoorKeys draw_keys() {
  std::random_device random;
  const auto word = [&random] { return (std::uint64_t{random()} << 32U) | random(); };
  return {word(), word()};
}

int run() {
  wire::initialise();
  auto start = service::begin<schema::BootAcceptor>(Role::kAcceptor);
  if (start.descriptors.size() < 4) throw std::runtime_error("the boot message lacks descriptors");
  auto counters = shm::CountersWriter::map(start.descriptors[0].get(), Role::kAcceptor);
  auto lists = shm::ListsTable::map(start.descriptors[1].get());
  auto target = wire::target_for(start.boot.expected_pow);
  auto files = raise_open_file_limit(start.boot.door.pending_limit + kSpareDescriptors);
  for (const Error* error : {counters ? nullptr : &counters.error(), lists ? nullptr : &lists.error(),
                             target ? nullptr : &target.error(), files ? nullptr : &files.error()}) {
    if (error == nullptr) continue;
    service::fail(start.supervisor, error->text);
    return 1;
  }
  AcceptorParts parts{.supervisor = std::move(start.supervisor),
                      .controller = schema::Channel(std::move(start.descriptors[2]), schema::kMaximumPacket),
                      .listeners = {},
                      .counters = std::move(*counters),
                      .lists = std::move(*lists),
                      .target = *target,
                      .door_keys = draw_keys(),
                      .boot = start.boot};
  for (std::size_t i = 3; i < start.descriptors.size(); ++i) parts.listeners.push_back(std::move(start.descriptors[i]));
  start.descriptors.clear();
  Acceptor acceptor(std::move(parts));
  return service::confine_and_announce(Role::kAcceptor, start.boot.common, acceptor.supervisor()) ? acceptor.run() : 1;
}

}  // namespace
}  // namespace bulkhead::acceptor

int main() {
  return bulkhead::service::guarded_main(bulkhead::Role::kAcceptor, bulkhead::acceptor::run);
}
