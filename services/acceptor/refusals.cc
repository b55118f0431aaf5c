#include "services/acceptor/refusals.h"

#include <limits>

namespace bulkhead::acceptor {

void Refusals::leave_out(Reason reason) {
  auto& count = left_out_[static_cast<std::size_t>(reason)];
  if (count < std::numeric_limits<std::uint32_t>::max()) ++count;
  any_ = true;
}

void Refusals::tell_left_out(const std::function<bool(Reason reason, std::uint32_t count)>& told) {
  any_ = false;
  for (std::size_t i = 0; i < left_out_.size(); ++i) {
    if (left_out_[i] == 0) continue;
    if (told(static_cast<Reason>(i), left_out_[i])) {
      left_out_[i] = 0;
    } else {
      any_ = true;
    }
  }
}

}  // namespace bulkhead::acceptor
