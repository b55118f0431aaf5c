#pragma once

#include "base/result.h"

namespace bulkhead::sandbox {

/// From this version on Landlock knows signals.
inline constexpr int kLandlockAbiWithSignals = 6;

/// The kernel's Landlock ABI version; 0 when it has none, or it is switched off.
int landlock_abi();

/// Takes every right that the kernel's Landlock knows from this process and its descendants: files, TCP ports, abstract
/// sockets and signals to others. `may_connect_tcp` leaves connecting. Needs no_new_privs. Does nothing where the
/// kernel has no Landlock.
Result<void> restrict_with_landlock(bool may_connect_tcp);

/// Takes from this process and its descendants the right to signal any other process, and nothing else. Needs
/// no_new_privs. Does nothing where the kernel's Landlock does not know signals.
Result<void> restrict_signals_with_landlock();

}  // namespace bulkhead::sandbox
