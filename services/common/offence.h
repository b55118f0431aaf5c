#pragma once

#include "base/reasons.h"

namespace bulkhead::service {

/// Whether what had a connection refused before it became one greylists its address: what nobody does by accident.
/// Source: the connect handler of Octez.
constexpr bool offends_at_the_door(Reason reason) {
  return reason == Reason::kBadLength || reason == Reason::kNotEnoughProofOfWork;
}

}  // namespace bulkhead::service
