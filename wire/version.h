#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "wire/motive.h"

namespace bulkhead::wire {

/// Longest chain name that fits a connection message of the largest size taken; a configured one must obey it too.
inline constexpr std::size_t kMaximumChainName = 932;

/// Versions that this node supports, least first.
inline constexpr std::uint16_t kP2pVersions[] = {0, 1};
/// Peers that announce a p2p version from this on understand a Nack with motive and points.
inline constexpr std::uint16_t kFirstP2pVersionWithMotives = 1;

/// The chain name is raw bytes of the peer's choice, at most kMaximumChainName of them: escape it before showing it.
struct Version {
  std::string chain_name;
  std::uint16_t distributed_db_version = 0;
  std::uint16_t p2p_version = 0;
  bool operator==(const Version&) const = default;
};

/// As it ends a connection message. Throws std::length_error when the chain name is too long.
std::vector<std::uint8_t> encode(const Version& version);
/// `bytes` must be the encoding of one version, no more.
Result<Version> decode_version(std::span<const std::uint8_t> bytes);

/// What to announce: the greatest of each list. Neither list may be empty (std::invalid_argument).
Version version_to_announce(std::string_view chain_name, std::span<const std::uint16_t> distributed_db_versions,
                            std::span<const std::uint16_t> p2p_versions);

/// The version to speak with a peer that announced `remote`, or why to refuse it. The lists, in any order, are what we
/// support. A chain name that differs comes first, then the distributed db version, then the p2p version.
std::variant<Version, Motive> choose_version(std::string_view chain_name,
                                             std::span<const std::uint16_t> distributed_db_versions,
                                             std::span<const std::uint16_t> p2p_versions, const Version& remote);

}  // namespace bulkhead::wire
