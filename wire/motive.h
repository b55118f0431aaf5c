#pragma once

#include <cstdint>

namespace bulkhead::wire {

/// Why a side refuses the other, as its Nack says it. Codes outside this list are legal on the wire and kept.
enum class Motive : std::int16_t {
  kNoMotive = 0,
  kTooManyConnections = 1,
  kUnknownChainName = 2,
  kDeprecatedP2pVersion = 3,
  kDeprecatedDistributedDbVersion = 4,
  kAlreadyConnected = 5,
};

/// "too_many_connections" and so on; "unknown_motive" for a code outside the list.
const char* motive_name(Motive motive);

}  // namespace bulkhead::wire
