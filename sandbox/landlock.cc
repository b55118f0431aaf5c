#include "sandbox/landlock.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/fd.h"

// Debian 12's headers end at ABI 2: what later kernels know is written down here (include/uapi/linux/landlock.h).
namespace bulkhead::sandbox {
namespace {

constexpr long kCreateRuleset = 444;
constexpr long kRestrictSelf = 446;
constexpr unsigned kVersionQuery = 1;

struct RulesetAttributes {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;
  std::uint64_t scoped;
};

constexpr std::uint64_t kFsAbi1 = (1U << 13) - 1;
constexpr std::uint64_t kFsRefer = 1U << 13;       // ABI 2
constexpr std::uint64_t kFsTruncate = 1U << 14;    // ABI 3
constexpr std::uint64_t kFsIoctlDev = 1U << 15;    // ABI 5
constexpr std::uint64_t kNetBindTcp = 1;           // ABI 4
constexpr std::uint64_t kNetConnectTcp = 2;        // ABI 4
constexpr std::uint64_t kScopeAbstractSocket = 1;  // ABI 6
constexpr std::uint64_t kScopeSignal = 2;          // ABI 6

Result<void> enforce(const RulesetAttributes& attributes, std::size_t size) {
  const UniqueFd ruleset(static_cast<int>(::syscall(kCreateRuleset, &attributes, size, 0)));
  if (!ruleset) return system_error("cannot make a Landlock ruleset");
  if (::syscall(kRestrictSelf, ruleset.get(), 0) != 0) return system_error("cannot enforce the Landlock ruleset");
  return {};
}

}  // namespace

int landlock_abi() {
  const long version = ::syscall(kCreateRuleset, nullptr, 0, kVersionQuery);
  return version < 0 ? 0 : static_cast<int>(version);
}

Result<void> restrict_with_landlock(bool may_connect_tcp) {
  const int abi = landlock_abi();
  if (abi == 0) return {};
  RulesetAttributes attributes{};
  attributes.handled_access_fs =
      kFsAbi1 | (abi >= 2 ? kFsRefer : 0) | (abi >= 3 ? kFsTruncate : 0) | (abi >= 5 ? kFsIoctlDev : 0);
  std::size_t size = sizeof attributes.handled_access_fs;
  if (abi >= 4) {
    // Binding stays free for one that dials from a given address: it may not listen, which its system calls see to.
    attributes.handled_access_net = may_connect_tcp ? 0 : kNetBindTcp | kNetConnectTcp;
    size = sizeof attributes.handled_access_fs + sizeof attributes.handled_access_net;
  }
  if (abi >= 6) {
    attributes.scoped = kScopeAbstractSocket | kScopeSignal;
    size = sizeof attributes;
  }
  return enforce(attributes, size);
}

Result<void> restrict_signals_with_landlock() {
  if (landlock_abi() < kLandlockAbiWithSignals) return {};
  RulesetAttributes attributes{};
  attributes.scoped = kScopeSignal;
  return enforce(attributes, sizeof attributes);
}

}  // namespace bulkhead::sandbox
