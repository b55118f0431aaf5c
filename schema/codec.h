#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "schema/messages.h"

/// Turns the messages of a channel into Cap'n Proto's flat form (a segment table of one segment, then the segment) and
/// back. `Message` is one of the variants of messages.h. Thread-safe; never blocks; makes no system call of its own.
namespace bulkhead::schema {

/// Writes `message` to the front of `zeroed`, whose words must all be zero, and returns how many words it took.
/// Allocates nothing. kTooLarge: a field is longer than messages.h allows, or the message than `zeroed`; kInvalid: a
/// number that no receiver would take. After an error `zeroed` holds anything.
template <typename Message>
Result<std::size_t> encode(const Message& message, std::span<std::uint64_t> zeroed);

/// Reads what encode() wrote. `words` is hostile, must be all of the packet behind its header, and must be memory of
/// this process alone. kBroken: not exactly one segment that fills `words`, a pointer out of bounds, an unknown union
/// member or enumerator, a length that messages.h does not allow, a number that is not finite. Allocates no more than
/// the limits of messages.h.
template <typename Message>
Result<Message> decode(std::span<const std::uint64_t> words);

/// The number of descriptors that must come beside `message`.
template <typename Message>
std::size_t descriptors_due(const Message& message);

}  // namespace bulkhead::schema
