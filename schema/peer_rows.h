#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "schema/messages.h"

/// What the supervisor hands the controller of a peers.json: in a sealed file beside BootController, `known_peers` rows
/// of the first kind, then `known_peer_events` of the second, without a header. Whoever reads them checks every field.
namespace bulkhead::schema {

struct KnownPeerRow {
  PeerId peer_id;
  std::array<std::uint8_t, 16> address;  ///< where it was seen last, zeros: unknown
  std::int64_t created_ms;               ///< of the Unix epoch, as all times; of these four 0: never
  std::int64_t failed_ms;
  std::int64_t rejected_ms;
  std::int64_t established_ms;
  std::int64_t disconnection_ms;
  std::uint16_t port;    ///< 0: unknown
  std::uint8_t trusted;  ///< 0 or 1
  std::uint8_t reserved[5];
};
static_assert(sizeof(KnownPeerRow) == 80 && std::has_unique_object_representations_v<KnownPeerRow>);

/// Sorted by peer, oldest first.
struct KnownPeerEventRow {
  std::int64_t time_ms;
  std::array<std::uint8_t, 16> address;
  std::uint32_t peer;  ///< its row above, counted from 0
  std::uint16_t port;  ///< 0: unknown
  std::uint8_t kind;   ///< shm::HistoryKind
  std::uint8_t reserved;
};
static_assert(sizeof(KnownPeerEventRow) == 32 && std::has_unique_object_representations_v<KnownPeerEventRow>);

/// What became of the file, as the controller says in its counter kPeersFileUse.
enum class PeersFileUse : std::uint64_t {
  kUnknown = 0,
  kWhole = 1,    ///< every peer in it is known, and trusted if it is there
  kNotRead = 2,  ///< the database goes before it, and does not know all of that
  kInPart = 3,   ///< there was no room for all of them
};

}  // namespace bulkhead::schema
