#pragma once

#include <cstdint>

#include "base/ids.h"

namespace bulkhead::controller {

/// What the lists say of an address or a peer: black over white over grey.
enum class Standing : std::uint8_t { kNone, kTrusted, kGreylisted, kBanned };

/// Whoever decides by standing asks this; tests and the simulation answer by themselves.
class Judge {
 public:
  virtual ~Judge() = default;
  virtual Standing of(const Address& address) const = 0;
  virtual Standing of(const PeerId& peer) const = 0;
};

}  // namespace bulkhead::controller
