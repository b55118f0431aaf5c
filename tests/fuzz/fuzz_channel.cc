#include <cstring>
#include <vector>

#include "schema/codec.h"
#include "tests/fuzz/fuzz.h"

using namespace bulkhead;
using namespace bulkhead::schema;

namespace {

// What was decoded is within the limits of messages.h: the sender's own checks let it pass, and it reads back.
template <typename Message>
void check(std::span<const std::uint64_t> words) {
  const Result<Message> message = decode<Message>(words);
  if (!message) return require(message.error().code == ErrorCode::kBroken);
  require(descriptors_due(*message) <= 3);
  std::vector<std::uint64_t> again(kMaximumWorkerPacket / sizeof(std::uint64_t));
  const Result<std::size_t> used = encode(*message, again);
  require(used.ok());
  const Result<Message> twice = decode<Message>(std::span(again).first(*used));
  require(twice.ok() && *twice == *message);
}

}  // namespace

// The first byte says whose message it is, and whether the segment table is made to fit, as little else is reached with
// one that does not.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::uint8_t choice = data[0];
  std::vector<std::uint64_t> words((size - 1) / sizeof(std::uint64_t));
  if (!words.empty()) std::memcpy(words.data(), data + 1, words.size() * sizeof(std::uint64_t));
  if ((choice & 0x80) == 0 && !words.empty()) words[0] = static_cast<std::uint64_t>(words.size() - 1) << 32;
  switch (choice % 4) {
    case 0:
      check<FromWorker>(words);
      break;
    case 1:
      check<FromApplication>(words);
      break;
    case 2:
      check<ControlRequest>(words);
      break;
    default:
      break;
  }
  return 0;
}
