#include <cstring>
#include <optional>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/shm/link_fixture.h"

using namespace bulkhead;
using namespace bulkhead::shm;

namespace {

constexpr std::uint32_t kCapacity = 4096;
constexpr std::size_t kMaxBody = 20'000;

/// The input, read as numbers; zeroes behind its end.
class Script {
 public:
  Script(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
  bool done() const { return rest_.empty(); }
  template <typename T>
  T take() {
    T value{};
    const std::size_t size = std::min(sizeof(T), rest_.size());
    if (size > 0) std::memcpy(&value, rest_.data(), size);
    rest_ = rest_.subspan(size);
    return value;
  }
  /// A position: mostly one near `base`.
  std::uint64_t position(std::uint64_t base) {
    return (take<std::uint8_t>() & 7U) == 0 ? take<std::uint64_t>() : base + take<std::uint16_t>() % (kCapacity + 2);
  }

 private:
  std::span<const std::uint8_t> rest_;
};

/// A result that was refused stays refused.
template <typename Call>
auto checked(bool& broken, const Call& call) {
  auto result = call();
  if (!result) {
    require(result.error().code == ErrorCode::kBroken);
    broken = true;
  } else {
    require(!broken);
  }
  return result;
}

}  // namespace

// The input is a schedule: what the other side writes into its words and its data, and what this side calls in between,
// for a receiver and a sender with a hostile worker, and for a worker with hostile applications.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static test::ForgedInward forged(kCapacity, kCapacity);
  static test::TestLink hostile(kCapacity, kCapacity);

  Script script(data, size);
  InwardHeader& header = forged.header();
  header.in_tail = 0;
  header.in_waits = 0;
  header.out_head = 0;
  header.out_sleeps = 0;
  hostile.page().generation = 0;
  hostile.window().generation = 0;
  std::memset(forged.data().data(), 0, kCapacity);
  std::memset(hostile.window_map.data() + kPageBytes, 0, kCapacity);
  std::optional<ReceiverLink> receiver = forged.receiver(kMaxBody);
  std::optional<SenderLink> sender = forged.sender();
  bool receiver_broken = false;
  bool sender_broken = false;
  bool worker_broken_inward = false;
  bool worker_broken_outward = false;
  hostile.remake_worker();
  WorkerLink& worker = *hostile.worker;
  Message message;
  const std::vector<std::uint8_t> body(3 * kCapacity, 5);

  for (int calls = 0; calls < 2000 && !script.done(); ++calls) {
    switch (script.take<std::uint8_t>() % 20) {
      case 0:
        header.in_tail = script.position(receiver->position());
        break;
      case 1:
      case 2: {
        std::size_t at = script.take<std::uint16_t>() % kCapacity;
        for (std::size_t left = script.take<std::uint8_t>() % 16; left > 0; --left) {
          forged.data()[at] = script.take<std::byte>();
          at = (at + 1) % kCapacity;
        }
        break;
      }
      case 3:
      case 4: {
        const auto found = checked(receiver_broken, [&] { return receiver->next_into(message); });
        if (found && *found) require(message.body.size() <= kMaxBody);
        break;
      }
      case 5:
        static_cast<void>(checked(receiver_broken, [&] { return receiver->prepare_to_sleep(); }));
        break;
      case 6: {
        if (script.take<std::uint8_t>() % 2 == 0) forged.base.page().position = script.position(header.in_tail);
        if (script.take<std::uint8_t>() % 8 == 0) forged.base.page().generation = script.take<std::uint8_t>();
        auto again = ReceiverLink::attach(forged.view(), &forged.base.page(), forged.base.to_worker.get(), kMaxBody);
        receiver_broken = false;
        receiver.emplace(again ? std::move(*again) : forged.receiver(kMaxBody));
        break;
      }
      case 7:
        header.in_waits = script.take<std::uint8_t>() % 3;
        header.out_sleeps = script.take<std::uint8_t>() % 3;
        break;
      case 8:
        header.out_head = script.position(sender->position() - kCapacity);
        break;
      case 9: {
        if (!sender->finished()) break;
        const auto part = std::span(body).first(script.take<std::uint16_t>() % sender->max_whole_body());
        const auto sent = checked(sender_broken, [&] { return sender->try_send(3, part); });
        if (sent && *sent) require(sender->used() >= part.size() + kMessageHeadBytes);
        break;
      }
      case 10:
        if (sender->finished())
          static_cast<void>(
              checked(sender_broken, [&] { return sender->begin(4, script.take<std::uint32_t>() >> 4); }));
        break;
      case 11: {
        if (sender->finished()) break;
        const auto part = std::span(body).first(1 + script.take<std::uint16_t>() % (body.size() - 1));
        const auto written = checked(sender_broken, [&] { return sender->write(part); });
        if (written) require(*written <= part.size() && *written <= kCapacity);
        break;
      }
      case 12:
        static_cast<void>(
            checked(sender_broken, [&] { return sender->prepare_to_wait(script.take<std::uint16_t>()); }));
        break;
      case 13: {
        if (script.take<std::uint8_t>() % 2 == 0) forged.base.window().tail = script.position(header.out_head);
        if (script.take<std::uint8_t>() % 2 == 0) forged.base.window().streaming = 0;
        auto again = SenderLink::attach(forged.view(), forged.base.outward_fd.get(), forged.base.to_worker.get());
        if (!again) {
          // A window that is begun anew asks for a worker that has taken nothing.
          header.out_head = 0;
          again = forged.sender();
        }
        sender_broken = false;
        sender.emplace(std::move(*again));
        break;
      }
      case 14:
        hostile.page().generation = script.take<std::uint8_t>() % 8 == 0 ? 3 : hostile.geometry.generation;
        hostile.window().generation = script.take<std::uint8_t>() % 8 == 0 ? 3 : hostile.geometry.generation;
        hostile.page().sleeps = script.take<std::uint8_t>() % 3;
        hostile.window().waits = script.take<std::uint8_t>() % 3;
        break;
      case 15:
        hostile.page().position = script.position(worker.inward().published() - kCapacity);
        break;
      case 16:
        hostile.window().tail = script.position(worker.outward().published());
        break;
      case 17: {
        const auto space = checked(worker_broken_inward, [&] { return worker.writable_inward(); });
        if (!space) break;
        require(space->size() <= kCapacity);
        std::memset(space->data(), 7, space->size());
        worker.inward().produce(script.take<std::uint16_t>() % (space->size() + 1));
        worker.publish_inward();
        break;
      }
      case 18: {
        const auto bytes = checked(worker_broken_outward, [&] { return worker.readable_outward(); });
        if (!bytes) break;
        require(bytes->size() <= kCapacity);
        std::uint64_t sum = 0;
        for (const std::byte byte : *bytes) sum += std::to_integer<std::uint64_t>(byte);
        worker.outward().consume((script.take<std::uint16_t>() + sum) % (bytes->size() + 1));
        worker.publish_outward();
        worker_broken_outward = worker.outward().broken();
        break;
      }
      default:
        if (!worker_broken_inward && script.take<std::uint8_t>() % 2 == 0) {
          static_cast<void>(
              checked(worker_broken_inward, [&] { return worker.wait_for_inward_room(script.take<std::uint16_t>()); }));
        } else if (!worker_broken_outward) {
          static_cast<void>(
              checked(worker_broken_outward, [&] { return worker.sleep_until_outward(script.take<std::uint8_t>()); }));
        }
    }
  }
  return 0;
}
