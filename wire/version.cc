#include "wire/version.h"

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "wire/bytes.h"

namespace bulkhead::wire {
namespace {

std::uint16_t greatest(std::span<const std::uint16_t> versions) {
  if (versions.empty()) throw std::invalid_argument("a list of versions must not be empty");
  return *std::max_element(versions.begin(), versions.end());
}

std::optional<std::uint16_t> choose(std::span<const std::uint16_t> ours, std::uint16_t announced) {
  if (ours.empty()) return std::nullopt;
  const std::uint16_t best = greatest(ours);
  if (best <= announced) return best;
  if (std::find(ours.begin(), ours.end(), announced) != ours.end()) return announced;
  return std::nullopt;
}

}  // namespace

const char* motive_name(Motive motive) {
  switch (motive) {
    case Motive::kNoMotive:
      return "no_motive";
    case Motive::kTooManyConnections:
      return "too_many_connections";
    case Motive::kUnknownChainName:
      return "unknown_chain_name";
    case Motive::kDeprecatedP2pVersion:
      return "deprecated_p2p_version";
    case Motive::kDeprecatedDistributedDbVersion:
      return "deprecated_distributed_db_version";
    case Motive::kAlreadyConnected:
      return "already_connected";
  }
  return "unknown_motive";
}

std::vector<std::uint8_t> encode(const Version& version) {
  if (version.chain_name.size() > kMaximumChainName) throw std::length_error("the chain name is too long");
  std::vector<std::uint8_t> out;
  append_u32(out, static_cast<std::uint32_t>(version.chain_name.size()));
  append(out, as_byte_span(version.chain_name));
  append_u16(out, version.distributed_db_version);
  append_u16(out, version.p2p_version);
  return out;
}

Result<Version> decode_version(std::span<const std::uint8_t> bytes) {
  Reader reader(bytes);
  const std::uint32_t size = reader.take_u32();
  if (size > kMaximumChainName) return Error{ErrorCode::kTooLarge, "the chain name is too long"};
  const auto chain_name = reader.take(size);
  Version version;
  version.distributed_db_version = reader.take_u16();
  version.p2p_version = reader.take_u16();
  if (reader.failed()) return Error{ErrorCode::kTruncated, "the version ends too early"};
  if (!reader.finished()) return Error{ErrorCode::kInvalid, "bytes follow the version"};
  version.chain_name.assign(chain_name.begin(), chain_name.end());
  return version;
}

Version version_to_announce(std::string_view chain_name, std::span<const std::uint16_t> distributed_db_versions,
                            std::span<const std::uint16_t> p2p_versions) {
  return {std::string(chain_name), greatest(distributed_db_versions), greatest(p2p_versions)};
}

std::variant<Version, Motive> choose_version(std::string_view chain_name,
                                             std::span<const std::uint16_t> distributed_db_versions,
                                             std::span<const std::uint16_t> p2p_versions, const Version& remote) {
  if (chain_name != remote.chain_name) return Motive::kUnknownChainName;
  const auto distributed_db = choose(distributed_db_versions, remote.distributed_db_version);
  if (!distributed_db) return Motive::kDeprecatedDistributedDbVersion;
  const auto p2p = choose(p2p_versions, remote.p2p_version);
  if (!p2p) return Motive::kDeprecatedP2pVersion;
  return Version{remote.chain_name, *distributed_db, *p2p};
}

}  // namespace bulkhead::wire
