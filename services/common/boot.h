#pragma once

#include <exception>
#include <functional>
#include <string>

#include "base/log.h"
#include "sandbox/confine.h"
#include "schema/channel.h"
#include "schema/messages.h"

namespace bulkhead::service {

/// Every service is started with its channel to the supervisor as descriptor 3 and nothing else above standard error.
inline constexpr int kSupervisorFd = 3;

/// What a service starts from: its channel to the supervisor, its Boot message and the descriptors that came with it.
template <typename Boot>
struct Start {
  schema::Channel supervisor;
  Boot boot;
  schema::Descriptors descriptors;
};

/// Drops the environment, closes what should not be open, receives the first message. Throws std::runtime_error when
/// that is not a `Boot` (the program was started by hand, say).
template <typename Boot>
Start<Boot> begin(Role role);

/// Tells the supervisor in one line why the service cannot go on, and logs it. The caller exits after this.
void fail(schema::Channel& supervisor, const std::string& text);

/// Confines the service (see sandbox::confine_service), lets `after` have a look, and tells the supervisor that it is
/// ready. False: it must not run; the supervisor knows why. Everything that needs what the policy forbids is made
/// before.
bool confine_and_announce(Role role, const schema::BootCommon& boot, schema::Channel& supervisor,
                          const schema::Ready& ready = {},
                          const std::function<Result<void>(sandbox::Confinement&)>& after = {});

/// Runs `body` of a service's main and turns an exception into a line of the log and exit status 1.
template <typename Body>
int guarded_main(Role role, Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    log_error(std::string(role_name(role)) + " cannot go on: " + error.what());
    return 1;
  }
}

}  // namespace bulkhead::service
