#include "wire/secret.h"

#include <stdexcept>

namespace bulkhead::wire {

void initialise() {
  if (sodium_init() < 0) throw std::runtime_error("the cryptographic library could not be initialised");
}

}  // namespace bulkhead::wire
