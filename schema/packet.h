#pragma once

#include <cstddef>
#include <cstdint>

#include "schema/messages.h"

/// The frame of a message on a channel, and what each kind of channel may carry. For schema/ and its tests.
namespace bulkhead::schema {

/// Precedes the Cap'n Proto words, little-endian as they are. A receiver takes no packet whose header differs in any
/// field from what it expects.
struct PacketHeader {
  std::uint16_t magic;
  std::uint8_t kind;  ///< ChannelTraits::kKind: a message of one channel is never read as one of another
  std::uint8_t version;
  std::uint32_t body_bytes;  ///< what follows, a multiple of 8
  std::uint64_t sequence;    ///< from 0, counted by each sender
};
static_assert(sizeof(PacketHeader) == 16);

inline constexpr std::uint16_t kPacketMagic = 0x4b42;  ///< "BK"
inline constexpr std::uint8_t kPacketVersion = 1;

/// For each variant of messages.h: kKind, kPacketLimit (the largest packet, header included) and kMostDescriptors (the
/// most that one message carries; what comes above is discarded by the kernel and the packet refused).
template <typename Message>
struct ChannelTraits;

template <std::uint8_t kind, std::size_t packet_limit, std::size_t most_descriptors>
struct ChannelTraitsOf {
  static constexpr std::uint8_t kKind = kind;
  static constexpr std::size_t kPacketLimit = packet_limit;
  static constexpr std::size_t kMostDescriptors = most_descriptors;
};

template <>
struct ChannelTraits<FromSupervisor> : ChannelTraitsOf<1, kMaximumPacket, 3 + kMaximumListeners> {};
template <>
struct ChannelTraits<ToSupervisor> : ChannelTraitsOf<2, kMaximumPacket, 1> {};
template <>
struct ChannelTraits<ToKeyholder> : ChannelTraitsOf<3, kMaximumPacket, 0> {};
template <>
struct ChannelTraits<FromKeyholder> : ChannelTraitsOf<4, kMaximumPacket, 0> {};
template <>
struct ChannelTraits<FromAcceptor> : ChannelTraitsOf<5, kMaximumPacket, 1> {};
template <>
struct ChannelTraits<FromMaintainer> : ChannelTraitsOf<6, kMaximumPacket, 1> {};
template <>
struct ChannelTraits<ToMaintainer> : ChannelTraitsOf<7, kMaximumPacket, 0> {};
template <>
struct ChannelTraits<ToNursery> : ChannelTraitsOf<8, kMaximumPacket, 2> {};
template <>
struct ChannelTraits<FromNursery> : ChannelTraitsOf<9, kMaximumPacket, 0> {};
template <>
struct ChannelTraits<ToWorker> : ChannelTraitsOf<10, kMaximumPacket, 0> {};
template <>
struct ChannelTraits<FromWorker> : ChannelTraitsOf<11, kMaximumWorkerPacket, 3> {};
template <>
struct ChannelTraits<FromApplication> : ChannelTraitsOf<12, kMaximumWorkerPacket, 0> {};
template <>
struct ChannelTraits<ToApplication> : ChannelTraitsOf<13, kMaximumPacket, 3> {};
template <>
struct ChannelTraits<ControlRequest> : ChannelTraitsOf<14, kMaximumWorkerPacket, 1> {};
template <>
struct ChannelTraits<ControlResponse> : ChannelTraitsOf<15, kMaximumPacket, 0> {};

}  // namespace bulkhead::schema
