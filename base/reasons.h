#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace bulkhead {

/// Why a connection was refused, or ended, or an attempt failed. Each has a counter in `counters` and a name in events.
/// The values stand in shared tables and messages: append only.
#define BULKHEAD_REASONS(X)                                               \
  X(kNone, "none")                                                        \
  /* refused by the acceptor, before a worker was spent */                \
  X(kPendingLimit, "pending_limit")                                       \
  X(kProofTimeout, "proof_timeout")                                       \
  X(kBadLength, "bad_length")                                             \
  X(kNotEnoughProofOfWork, "not_enough_proof_of_work")                    \
  X(kClosedBeforeProof, "closed_before_proof")                            \
  X(kUrgentData, "urgent_data")                                           \
  X(kAcceptFailed, "accept_failed")                                       \
  /* refused by the controller, before a worker was spent */              \
  X(kTooManyIncoming, "too_many_incoming")                                \
  X(kNoFreeSlot, "no_free_slot")                                          \
  X(kSameKeyLimit, "same_key_limit")                                      \
  X(kChannelFull, "channel_full")                                         \
  X(kServiceGone, "service_gone")                                         \
  X(kForkFailed, "fork_failed")                                           \
  /* ended in the handshake */                                            \
  X(kAuthenticationTimeout, "authentication_timeout")                     \
  X(kMalformedConnectionMessage, "malformed_connection_message")          \
  X(kWeakKey, "weak_key")                                                 \
  X(kInvalidCiphertextSize, "invalid_ciphertext_size")                    \
  X(kDecipherError, "decipher_error")                                     \
  X(kMalformedMetadata, "malformed_metadata")                             \
  X(kMyself, "myself")                                                    \
  X(kPeerBanned, "peer_banned")                                           \
  X(kPeerGreylisted, "peer_greylisted")                                   \
  X(kUnexpectedPeerId, "unexpected_peer_id")                              \
  X(kUnknownChainName, "unknown_chain_name")                              \
  X(kDeprecatedDistributedDbVersion, "deprecated_distributed_db_version") \
  X(kDeprecatedP2pVersion, "deprecated_p2p_version")                      \
  X(kTooManyConnections, "too_many_connections")                          \
  X(kPrivateMode, "private_mode")                                         \
  X(kAlreadyConnected, "already_connected")                               \
  X(kRejectedByPeer, "rejected_by_peer")                                  \
  X(kMalformedAck, "malformed_ack")                                       \
  X(kClosedInHandshake, "closed_in_handshake")                            \
  /* ended while running */                                               \
  X(kClosedByPeer, "closed_by_peer")                                      \
  X(kConnectionLost, "connection_lost")                                   \
  X(kDisconnectMessage, "disconnect_message")                             \
  X(kDecodeError, "decode_error")                                         \
  X(kKicked, "kicked")                                                    \
  X(kDisconnectedByApplication, "disconnected_by_application")            \
  X(kApplicationFault, "application_fault")                               \
  X(kApplicationDiedMidMessage, "application_died_mid_message")           \
  X(kWorkerFault, "worker_fault")                                         \
  X(kWorkerKilled, "worker_killed")                                       \
  X(kWorkerUnresponsive, "worker_unresponsive")                           \
  X(kSandboxViolation, "sandbox_violation")                               \
  X(kConfinementFailed, "confinement_failed")                             \
  X(kChannelFault, "channel_fault")                                       \
  X(kControllerRestarted, "controller_restarted")                         \
  X(kNodeStopping, "node_stopping")                                       \
  /* an outgoing attempt failed before the handshake */                   \
  X(kConnectionRefused, "connection_refused")                             \
  X(kUnreachable, "unreachable")                                          \
  X(kConnectTimeout, "connect_timeout")                                   \
  X(kDialFailed, "dial_failed")                                           \
  X(kNameNotResolved, "name_not_resolved")                                \
  X(kPendingConnection, "pending_connection")                             \
  X(kPointBanned, "point_banned")                                         \
  X(kPointGreylisted, "point_greylisted")                                 \
  X(kRateLimited, "rate_limited")                                         \
  X(kBanned, "banned")                                                    \
  X(kGreylisted, "greylisted")                                            \
  X(kMaintenanceTooMany, "maintenance_too_many")                          \
  X(kPeerSwapped, "peer_swapped")                                         \
  /* why a service was started anew */                                    \
  X(kServiceKilled, "service_killed")                                     \
  X(kServiceCrashed, "service_crashed")                                   \
  X(kServiceExited, "service_exited")                                     \
  X(kServiceUnresponsive, "service_unresponsive")                         \
  X(kReplacedAfterWorkerFault, "replaced_after_worker_fault")             \
  X(kMadeRoom, "made_room_for_trusted")                                   \
  /* refused by the acceptor: too many from one address or prefix */      \
  X(kAddressRate, "address_rate")                                         \
  X(kPrefixRate, "prefix_rate")                                           \
  X(kAddressPendingLimit, "address_pending_limit")                        \
  X(kPrefixPendingLimit, "prefix_pending_limit")                          \
  /* ended by ourselves, as meant */                                      \
  X(kFeelerDone, "feeler_done")                                           \
  /* of a ban: its end has come */                                        \
  X(kExpired, "expired")

enum class Reason : std::uint16_t {
#define BULKHEAD_REASON_VALUE(value, name) value,
  BULKHEAD_REASONS(BULKHEAD_REASON_VALUE)
#undef BULKHEAD_REASON_VALUE
};

#define BULKHEAD_REASON_COUNT(value, name) +1
inline constexpr std::size_t kReasonCount = 0 BULKHEAD_REASONS(BULKHEAD_REASON_COUNT);
#undef BULKHEAD_REASON_COUNT

/// Never null; "invalid_reason" for a value outside the list.
const char* reason_name(Reason reason);
/// A value from a shared page or a message; nothing when it is outside the list.
std::optional<Reason> reason_from_value(std::uint64_t value);

}  // namespace bulkhead
