#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/connection_bounds.h"
#include "base/ids.h"
#include "base/prefix.h"
#include "base/reasons.h"
#include "base/settings.h"

/// The messages of the channels between processes, as plain values. schema/*.capnp gives their bytes, schema/codec
/// turns one into the other and bounds every length; nobody else sees Cap'n Proto. A comment `+ fds` names the
/// descriptors that travel beside a message, in order; a message with another number of them is a fault of its sender.
namespace bulkhead::schema {

inline constexpr std::size_t kMaximumPacket = 65536;       ///< from a trusted process, header included
inline constexpr std::size_t kMaximumWorkerPacket = 4096;  ///< from a worker or an application, header included
inline constexpr std::size_t kMaximumChainName = 1024;
inline constexpr std::size_t kMaximumConnectionMessage = 1024;  ///< as P2: a longer one is a decode error
inline constexpr std::size_t kMaximumChunk = 1024;              ///< of a handshake's sealed metadata
inline constexpr std::size_t kMaximumPoints = 100;
inline constexpr std::size_t kMaximumText = 1024;
inline constexpr std::size_t kMaximumAclText = 47;           ///< an operator's words on an entry of a list
inline constexpr std::uint32_t kMaximumImport = 4'000'000;   ///< entries
inline constexpr std::uint32_t kMaximumKnownPeers = 65'536;  ///< of a peers.json
inline constexpr std::uint32_t kMaximumKnownPeerEvents = 1'000'000;
inline constexpr std::size_t kMaximumVersions = 64;          ///< of one protocol
inline constexpr std::size_t kMaximumConfiguredPeers = 128;  ///< so that BootMaintainer fits a packet
inline constexpr std::size_t kMaximumHost = 255;             ///< RFC 1035
inline constexpr std::size_t kMaximumPath = 4096;
inline constexpr std::uint32_t kMaximumListeners = 16;
/// Handshakes of incoming connections from trusted addresses beside `maximum_incoming`.
inline constexpr std::uint32_t kTrustedHandshakes = 16;

enum class Direction : std::uint8_t { kIncoming = 0, kOutgoing = 1 };

struct Announcement {
  std::uint16_t port = 0;  ///< 0: none
  std::string chain_name;
  std::uint16_t distributed_db_version = 0;
  std::uint16_t p2p_version = 0;
  auto operator<=>(const Announcement&) const = default;
};

struct ConnectionMetadata {
  bool disable_mempool = false;
  bool private_node = false;
  auto operator<=>(const ConnectionMetadata&) const = default;
};

// ---- supervisor -> service
// The first message on descriptor 3 of every service is its Boot.

/// What every service needs to map its page of counters.
struct BootCommon {
  std::uint32_t log_level = 1;
  bool log_json = false;
  std::uint32_t slots = 0;    ///< rows in `pool` and `live`, windows in `outward`, pages in `taken`
  std::uint32_t sandbox = 1;  ///< 0 off, 1 default, 2 strict
  /// Why a service started as root gets no user namespace (an errno), as the supervisor found out; 0: it gets one.
  std::uint32_t user_namespace_error = 0;
  bool operator==(const BootCommon&) const = default;
};

struct ReconnectionSettings {
  double factor = 1.2;
  double initial_delay_s = 1;
  double disconnection_delay_s = 60;
  double increase_cap_s = 172800;
  bool operator==(const ReconnectionSettings&) const = default;
};

/// + fds: pool (writable), events (writable), counters (writable), live (read-only), control socket, application
/// socket, state.db, state.db-wal, outward (read-only), lists (writable), history (writable), AS map (read-only; empty
/// without one), and, when known_peers is not 0, a sealed memfd of rows as schema/peer_rows.h has them
struct BootController {
  BootCommon common;
  bool recovering = false;  ///< tables and channels of an earlier controller follow; else they are new
  PeerId own_peer_id{};
  PublicKey own_public_key{};
  std::string chain_name;
  std::vector<std::uint16_t> distributed_db_versions;
  std::vector<std::uint16_t> p2p_versions;
  ConnectionMetadata metadata;
  std::uint16_t listening_port = 0;
  std::uint16_t advertised_port = 0;
  std::uint32_t minimum_connections = 10;
  std::uint32_t expected_connections = 50;
  std::uint32_t maximum_connections = 100;
  std::uint32_t maximum_incoming = 20;
  std::uint32_t authentication_timeout_ms = 5000;
  std::uint32_t connection_timeout_ms = 10000;
  bool private_mode = false;
  bool maintenance = true;
  bool disable_peer_discovery = false;
  std::uint32_t known_points_maximum = 400;
  std::uint32_t known_points_target = 300;
  std::uint32_t known_peers_maximum = 400;
  std::uint32_t known_peers_target = 300;
  ReconnectionSettings reconnection;
  std::uint32_t application_grace_ms = 20000;
  bool discard_without_application = false;
  std::vector<Point> own_points;  ///< the addresses the node listens on
  std::uint32_t greylist_timeout_s = 86400;
  std::uint8_t greylist_ipv6_length = 64;  ///< 1 to 128
  Reason previous_end = Reason::kNone;     ///< recovering: why there is a new controller
  std::uint32_t previous_wait_status = 0;
  bool hardened = true;               ///< choice of neighbours
  bool allow_private_points = false;  ///< points that peers tell of may be private or loopback ones
  bool swap = true;
  double swap_linger_s = 30;     ///< between two swaps, and for the answer to one
  double score_half_life_s = 0;  ///< 0: scores do not decay
  /// Of a peers.json, for a node that knows no peers yet: how many, and how many events of theirs.
  std::uint32_t known_peers = 0;
  std::uint32_t known_peer_events = 0;
  bool operator==(const BootController&) const = default;
};

/// + fds: identity.json (read-only), counters (writable), channel to the controller
struct BootKeyholder {
  BootCommon common;
  double expected_pow = 26.0;
  Announcement announcement;
  ConnectionMetadata metadata;
  std::string identity_path;  ///< for messages only
  bool operator==(const BootKeyholder&) const = default;
};

/// + fds: counters (writable), lists (read-only), channel to the controller, then `listeners` listening sockets
struct BootAcceptor {
  BootCommon common;
  double expected_pow = 26.0;
  DoorLimits door;
  std::uint32_t authentication_timeout_ms = 5000;
  std::uint32_t listeners = 1;  ///< listening sockets that come beside: 1 to kMaximumListeners
  TcpSettings tcp;
  bool operator==(const BootAcceptor&) const = default;
};

struct ConfiguredPeer {
  std::string host;  ///< name or literal address
  std::uint16_t port = 9732;
  std::optional<PeerId> expected_peer_id;
  bool operator==(const ConfiguredPeer&) const = default;
};

/// + fds: counters (writable), pool (read-only), channel to the controller; when `discovery` has a port, a bound UDP
/// socket
struct BootMaintainer {
  BootCommon common;
  bool maintenance = true;
  bool private_mode = false;
  std::uint32_t minimum_connections = 10;
  std::uint32_t expected_connections = 50;
  std::uint32_t maximum_connections = 100;
  std::uint32_t connection_timeout_ms = 10000;
  double maintenance_idle_time_s = 120;
  std::vector<ConfiguredPeer> peers;
  std::vector<Point> own_points;
  std::optional<Address> source_address;  ///< when the node listens on one address alone, it dials from there
  TcpSettings tcp;
  ConnectionBounds bounds;
  bool disable_peer_discovery = false;
  PeerId own_peer_id{};
  Point discovery;  ///< where this node announces itself on its LAN, by UDP over IPv4; port 0: it does not, nor hears
                    ///< others
  bool hardened = true;
  bool swap = true;
  double score_half_life_s = 0;
  std::vector<Point> name_servers;  ///< asked for names; none: those of the machine
  bool operator==(const BootMaintainer&) const = default;
};

/// + fds: counters (writable), live (writable), taken (read-only), outward (read-only), channel to the controller
struct BootNursery {
  BootCommon common;
  std::uint32_t inward_capacity = 0;  ///< bytes of ring data, a power of two
  std::uint32_t outward_capacity = 0;
  bool operator==(const BootNursery&) const = default;
};

/// To the controller: the channel to a service. When it was started anew, `cause` says why, and `wait_status` how the
/// old one ended, as waitpid gives it; kNone: it is the first. + fds: channel
struct ServiceChannel {
  Role role = Role::kController;
  Reason cause = Reason::kNone;
  std::uint32_t wait_status = 0;
  bool operator==(const ServiceChannel&) const = default;
};
/// To a recovering controller: one connection's channel that the supervisor held. + fds: channel
struct AdoptWorker {
  SlotRef slot;
  bool operator==(const AdoptWorker&) const = default;
};
/// To a recovering controller: one attached application's channel. + fds: channel
struct AdoptApplication {
  std::uint64_t id = 0;
  std::uint32_t pid = 0;
  bool receives = false;
  bool sends = false;
  bool operator==(const AdoptApplication&) const = default;
};
/// To a recovering controller: all that was held has been handed over.
struct AdoptDone {
  bool operator==(const AdoptDone&) const = default;
};
/// To the controller, answer to HoldApplication. + fds: taken (writable), outward (writable)
struct ApplicationSegments {
  std::uint64_t id = 0;
  bool operator==(const ApplicationSegments&) const = default;
};
/// To the controller: an orphan of a dead nursery was reaped.
struct Reaped {
  std::uint32_t pid = 0;
  std::uint32_t wait_status = 0;
  bool operator==(const Reaped&) const = default;
};
/// The supervisor's question whether the service lives.
struct Ping {
  std::uint64_t number = 0;
  bool operator==(const Ping&) const = default;
};
/// To the controller: close everything in order, then exit.
struct Stop {
  bool operator==(const Stop&) const = default;
};

using FromSupervisor =
    std::variant<BootController, BootKeyholder, BootAcceptor, BootMaintainer, BootNursery, ServiceChannel, AdoptWorker,
                 AdoptApplication, AdoptDone, ApplicationSegments, Reaped, Ping, Stop>;

// ---- service -> supervisor

/// The service is confined and in its loop. Peer id and key come from the keyholder alone.
struct Ready {
  PeerId peer_id{};
  PublicKey public_key{};
  bool operator==(const Ready&) const = default;
};
/// The service cannot start; `text` is one line for the operator. It exits after this.
struct Failed {
  std::string text;
  bool operator==(const Failed&) const = default;
};
struct Pong {
  std::uint64_t number = 0;
  bool operator==(const Pong&) const = default;
};
/// From the controller: keep this end for a successor. + fds: the controller's end of a worker's channel
struct Hold {
  SlotRef slot;
  bool operator==(const Hold&) const = default;
};
/// From the controller: the connection is over. Drop its channel and punch out what the slot held.
struct Release {
  SlotRef slot;
  bool operator==(const Release&) const = default;
};
/// From the controller. + fds: the controller's end of an application's channel
struct HoldApplication {
  std::uint64_t id = 0;
  std::uint32_t pid = 0;
  bool receives = false;
  bool sends = false;
  bool operator==(const HoldApplication&) const = default;
};
struct ReleaseApplication {
  std::uint64_t id = 0;
  bool operator==(const ReleaseApplication&) const = default;
};
/// From the controller: end a worker whose nursery is gone.
struct KillOrphan {
  std::uint32_t pid = 0;
  bool operator==(const KillOrphan&) const = default;
};
/// From the controller: end this service and start it anew. kReplacedAfterWorkerFault: the nursery, whose memory layout
/// a worker that died by a fault shared (P3); kChannelFault: it broke the contract of its channel to the controller.
struct ReplaceService {
  Role role = Role::kNursery;
  Reason cause = Reason::kReplacedAfterWorkerFault;
  bool operator==(const ReplaceService&) const = default;
};

/// From the controller, which ends after this: the state database is damaged. Set it aside; the successor gets new
/// files.
struct StateDamaged {
  bool log_only = false;  ///< state.db is whole without its log
  bool operator==(const StateDamaged&) const = default;
};

using ToSupervisor = std::variant<Ready, Failed, Pong, Hold, Release, HoldApplication, ReleaseApplication, KillOrphan,
                                  ReplaceService, StateDamaged>;

// ---- controller <->
// keyholder

struct KeyBegin {
  SlotRef slot;
  Direction direction = Direction::kIncoming;
  bool operator==(const KeyBegin&) const = default;
};
struct KeyHello {
  SlotRef slot;
  std::vector<std::uint8_t> message;  ///< the peer's connection message, header included
  bool operator==(const KeyHello&) const = default;
};
struct KeyProof {
  SlotRef slot;
  std::vector<std::uint8_t> chunk;  ///< the peer's metadata chunk, header included
  bool operator==(const KeyProof&) const = default;
};
using ToKeyholder = std::variant<KeyBegin, KeyHello, KeyProof>;

struct KeyBegun {
  SlotRef slot;
  std::vector<std::uint8_t> message;  ///< our connection message, header included
  bool operator==(const KeyBegun&) const = default;
};
struct KeyHelloDone {
  SlotRef slot;
  Reason failure = Reason::kNone;   ///< kNone: go on
  std::vector<std::uint8_t> chunk;  ///< our metadata, sealed
  bool operator==(const KeyHelloDone&) const = default;
};
struct KeyProofDone {
  SlotRef slot;
  Reason failure =
      Reason::kNone;  ///< kNone, or kMyself (then peer id and metadata are set, key and nonces are zero), or why not
  PeerId peer_id{};
  ConnectionMetadata metadata;
  std::array<std::uint8_t, 32> channel_key{};
  std::array<std::uint8_t, 24> send_nonce{};
  std::array<std::uint8_t, 24> receive_nonce{};
  bool operator==(const KeyProofDone&) const = default;
};
using FromKeyholder = std::variant<KeyBegun, KeyHelloDone, KeyProofDone>;

// ---- acceptor -> controller

/// A connection that sent a valid proof of work. + fds: its socket
struct Incoming {
  Point remote;  ///< address and source port
  PublicKey public_key{};
  std::uint64_t deadline_ns = 0;  ///< CLOCK_MONOTONIC, begun at accept
  bool operator==(const Incoming&) const = default;
};
/// Connections refused since the last such message, by address and reason; bounded in rate, `count` covers what was
/// left out. 0: one that is in such a number; what it did is told for the lists alone.
struct Refused {
  Point remote;
  Reason reason = Reason::kNone;
  std::uint32_t count = 1;
  bool operator==(const Refused&) const = default;
};
using FromAcceptor = std::variant<Incoming, Refused>;

// ---- controller <->
// maintainer

/// A configured peer's address, resolved. Not `trusted`: its name no longer has this address.
struct KnownPoint {
  Point point;
  bool trusted = false;
  std::optional<PeerId> expected_peer_id;
  bool operator==(const KnownPoint&) const = default;
};
/// The maintainer is about to dial. The point is *requested* until Dialled or DialFailed with the same id.
struct Requested {
  std::uint64_t id = 0;
  Point point;
  std::uint64_t deadline_ns = 0;
  bool feeler = false;  ///< to see whether it answers: the connection is closed as soon as it runs
  bool operator==(const Requested&) const = default;
};
/// + fds: the connected socket
struct Dialled {
  std::uint64_t id = 0;
  Point point;
  std::uint64_t deadline_ns = 0;
  bool operator==(const Dialled&) const = default;
};
struct DialFailed {
  std::uint64_t id = 0;
  Point point;
  Reason reason = Reason::kNone;
  bool operator==(const DialFailed&) const = default;
};
/// More neighbours are wanted and no candidate is left: ask those that we have.
struct AskForPeers {
  bool operator==(const AskForPeers&) const = default;
};
/// A connection to close, chosen by maintenance.
struct Disconnect {
  SlotRef slot;
  Reason reason = Reason::kNone;
  bool operator==(const Disconnect&) const = default;
};
/// Somebody on the LAN announced a node there.
struct Discovered {
  Point point;
  bool operator==(const Discovered&) const = default;
};
/// One Swap_request to one neighbour, if there is a pair for it.
struct ProposeSwap {
  bool operator==(const ProposeSwap&) const = default;
};
/// The run that Maintain asked for is over, or can get no further for now.
struct Maintained {
  std::uint64_t id = 0;
  bool operator==(const Maintained&) const = default;
};
using FromMaintainer = std::variant<KnownPoint, Requested, Dialled, DialFailed, AskForPeers, Disconnect, ProposeSwap,
                                    Maintained, Discovered>;

/// Dial now, whatever the back-off: an operator's or an application's wish. The maintainer answers with Requested and
/// the rest, under this id (ids of the controller have the top bit set).
struct Dial {
  std::uint64_t id = 0;
  Point point;
  std::uint32_t timeout_ms = 10000;
  bool operator==(const Dial&) const = default;
};
/// The pool changed; look at it again.
struct Wake {
  bool operator==(const Wake&) const = default;
};
/// The controller does not allow a dial that was requested; give it up.
struct DialCancelled {
  std::uint64_t id = 0;
  bool operator==(const DialCancelled&) const = default;
};
/// A maintenance run is wanted now; answered by Maintained with the same id.
struct Maintain {
  std::uint64_t id = 0;
  bool operator==(const Maintain&) const = default;
};
using ToMaintainer = std::variant<Dial, Wake, DialCancelled, Maintain>;

// ---- controller <-> nursery

/// + fds: the TCP socket, the worker's end of its channel
struct Spawn {
  SlotRef slot;
  bool operator==(const Spawn&) const = default;
};
struct EndWorker {
  SlotRef slot;
  bool operator==(const EndWorker&) const = default;
};
using ToNursery = std::variant<Spawn, EndWorker>;

struct Spawned {
  SlotRef slot;
  std::uint32_t pid = 0;
  bool operator==(const Spawned&) const = default;
};
struct SpawnFailed {
  SlotRef slot;
  std::uint32_t error_number = 0;
  bool operator==(const SpawnFailed&) const = default;
};
struct Exited {
  SlotRef slot;
  std::uint32_t pid = 0;
  std::uint32_t wait_status = 0;
  bool operator==(const Exited&) const = default;
};
using FromNursery = std::variant<Spawned, SpawnFailed, Exited>;

// ---- controller -> worker

struct WorkerStart {
  Direction direction = Direction::kIncoming;
  std::uint64_t deadline_ns = 0;          ///< of the whole handshake
  std::vector<std::uint8_t> our_message;  ///< our connection message
  bool discard_without_application = false;
  std::uint32_t application_grace_ms = 20000;
  bool private_mode = false;
  bool disable_peer_discovery = false;
  bool receiver_attached = false;
  bool sender_attached = false;
  bool operator==(const WorkerStart&) const = default;
};
/// The keyholder took the peer's connection message: send this.
struct OurMetadata {
  std::vector<std::uint8_t> chunk;
  bool operator==(const OurMetadata&) const = default;
};
enum class VerdictKind : std::uint8_t { kAccept = 0, kNack = 1, kNackV0 = 2, kSilence = 3 };
struct Verdict {
  VerdictKind kind = VerdictKind::kSilence;
  Reason reason = Reason::kNone;  ///< why not, to be given back in Closing
  std::int16_t motive = 0;
  std::vector<Point> points;
  std::array<std::uint8_t, 32> channel_key{};
  std::array<std::uint8_t, 24> send_nonce{};
  std::array<std::uint8_t, 24> receive_nonce{};
  bool operator==(const Verdict&) const = default;
};
/// Asks for Link.
struct GiveLink {
  bool operator==(const GiveLink&) const = default;
};
/// Whether an application holds the receiving and the sending side now.
struct ApplicationState {
  bool receiver_attached = false;
  bool sender_attached = false;
  bool operator==(const ApplicationState&) const = default;
};
/// Send these points as an Advertise message.
struct SendAdvertise {
  std::vector<Point> points;
  bool operator==(const SendAdvertise&) const = default;
};
struct SendBootstrap {
  bool operator==(const SendBootstrap&) const = default;
};
/// Offer the peer this neighbour of ours, in a Swap_request or in answer to one of its.
struct SendSwapRequest {
  Point point;
  PeerId peer_id{};
  bool operator==(const SendSwapRequest&) const = default;
};
struct SendSwapAck {
  Point point;
  PeerId peer_id{};
  bool operator==(const SendSwapAck&) const = default;
};
/// Close: write what waits in the outward ring first if `flush`, bounded by 3 s.
struct Close {
  Reason reason = Reason::kNone;
  bool flush = false;
  bool operator==(const Close&) const = default;
};
struct WorkerPing {
  std::uint64_t number = 0;
  bool operator==(const WorkerPing&) const = default;
};
using ToWorker = std::variant<WorkerStart, OurMetadata, Verdict, GiveLink, ApplicationState, SendAdvertise,
                              SendBootstrap, Close, WorkerPing, SendSwapRequest, SendSwapAck>;

// ---- worker -> controller

struct WorkerHello {
  std::vector<std::uint8_t> message;  ///< the peer's connection message
  Announcement announcement;          ///< what it says
  bool operator==(const WorkerHello&) const = default;
};
struct WorkerProof {
  std::vector<std::uint8_t> chunk;
  bool operator==(const WorkerProof&) const = default;
};
/// The peer accepted; the connection runs.
struct Acked {
  bool operator==(const Acked&) const = default;
};
/// The peer refused; the worker closes after this.
struct Nacked {
  std::int16_t motive = 0;
  std::vector<Point> points;
  bool operator==(const Nacked&) const = default;
};
/// + fds: inward segment, wake-up of the application, wake-up of the worker
struct Link {
  bool operator==(const Link&) const = default;
};
struct BootstrapReceived {
  bool operator==(const BootstrapReceived&) const = default;
};
struct AdvertiseReceived {
  std::vector<Point> points;
  bool operator==(const AdvertiseReceived&) const = default;
};
struct SwapRequestReceived {
  Point point;
  PeerId peer_id{};
  bool operator==(const SwapRequestReceived&) const = default;
};
struct SwapAckReceived {
  Point point;
  PeerId peer_id{};
  bool operator==(const SwapAckReceived&) const = default;
};
/// The last message of a worker.
struct Closing {
  Reason reason = Reason::kNone;
  bool operator==(const Closing&) const = default;
};
struct WorkerPong {
  std::uint64_t number = 0;
  bool operator==(const WorkerPong&) const = default;
};
using FromWorker = std::variant<WorkerHello, WorkerProof, Acked, Nacked, Link, BootstrapReceived, AdvertiseReceived,
                                SwapRequestReceived, SwapAckReceived, Closing, WorkerPong>;

// ---- application <->
// controller

/// The first message of an application on run/app.sock.
struct Attach {
  std::uint32_t version = 1;
  bool receive = false;
  bool send = false;
  bool operator==(const Attach&) const = default;
};
/// The application wants this connection closed.
struct AppDisconnect {
  SlotRef slot;
  bool flush = false;
  bool operator==(const AppDisconnect&) const = default;
};
/// What the application has against an address, or against a peer and the address where it was seen last: a
/// greylisting, which ends by itself.
struct AppGreylistAddress {
  Address address;
  bool operator==(const AppGreylistAddress&) const = default;
};
struct AppGreylistPeer {
  PeerId peer_id{};
  bool operator==(const AppGreylistPeer&) const = default;
};
/// What a peer is worth to the application, finite; 1 is what it starts with.
struct AppScore {
  PeerId peer_id{};
  double score = 1.0;
  bool operator==(const AppScore&) const = default;
};
/// The application wants more neighbours looked for now.
struct AppMaintain {
  bool operator==(const AppMaintain&) const = default;
};
using FromApplication = std::variant<Attach, AppDisconnect, AppGreylistAddress, AppGreylistPeer, AppScore, AppMaintain>;

/// + fds: taken (writable), outward (writable)
struct Attached {
  PeerId own_peer_id{};
  std::uint32_t slots = 0;
  std::uint32_t inward_capacity = 0;
  std::uint32_t outward_capacity = 0;
  bool operator==(const Attached&) const = default;
};
struct AttachRefused {
  std::string text;
  std::uint32_t holder_pid = 0;  ///< 0: another cause
  bool operator==(const AttachRefused&) const = default;
};
/// + fds: inward segment, wake-up of the application, wake-up of the worker. May come twice for one connection (after a
/// controller's restart); the second is ignored.
struct AppConnected {
  SlotRef slot;
  PeerId peer_id{};
  Direction direction = Direction::kIncoming;
  Point point;  ///< port 0 when the peer announced none
  std::uint16_t remote_port = 0;
  Announcement announcement;
  ConnectionMetadata metadata;
  bool operator==(const AppConnected&) const = default;
};
struct AppDisconnected {
  SlotRef slot;
  PeerId peer_id{};
  Reason reason = Reason::kNone;
  bool operator==(const AppDisconnected&) const = default;
};
using ToApplication = std::variant<Attached, AttachRefused, AppConnected, AppDisconnected>;

// ---- control clients <->
// controller

struct ControlConnect {
  Point point;
  std::uint32_t timeout_ms = 10000;
  bool operator==(const ControlConnect&) const = default;
};
struct ControlKick {
  PeerId peer_id{};
  bool operator==(const ControlKick&) const = default;
};
struct ControlMaintain {
  bool operator==(const ControlMaintain&) const = default;
};
/// What an entry of a list is about: a peer, or the addresses of a prefix.
struct AclSubject {
  std::optional<PeerId> peer_id;
  Prefix prefix;  ///< canonical; of no meaning beside a peer id
  bool operator==(const AclSubject&) const = default;
};
struct ControlBan {
  AclSubject subject;
  std::uint32_t duration_s = 0;  ///< 0: for ever
  std::string text;              ///< the operator's reason
  bool operator==(const ControlBan&) const = default;
};
struct ControlUnban {
  AclSubject subject;
  bool operator==(const ControlUnban&) const = default;
};
struct ControlTrust {
  AclSubject subject;
  std::uint16_t port = 0;  ///< of a single address: the point of that port is trusted too; 0: none
  std::uint32_t duration_s = 0;
  std::string text;
  bool operator==(const ControlTrust&) const = default;
};
struct ControlUntrust {
  AclSubject subject;
  bool operator==(const ControlUntrust&) const = default;
};
/// Empties black and grey.
struct ControlClearAcls {
  bool operator==(const ControlClearAcls&) const = default;
};
struct ControlClearGreylist {
  bool operator==(const ControlClearGreylist&) const = default;
};
/// Entries for the lists, all or none: rows as schema/import_row.h has them. + fds: memfd, sealed
struct ControlImport {
  std::uint32_t entries = 1;  ///< 1 to kMaximumImport
  bool operator==(const ControlImport&) const = default;
};
using ControlRequest =
    std::variant<ControlConnect, ControlKick, ControlMaintain, ControlBan, ControlUnban, ControlTrust, ControlUntrust,
                 ControlClearAcls, ControlClearGreylist, ControlImport>;

struct ControlAnswer {
  bool ok = false;
  std::string text;  ///< what happened, for a person
  // Of commands that change many entries: how many.
  std::uint32_t bans = 0;          ///< lifted
  std::uint32_t greylistings = 0;  ///< lifted
  std::uint32_t entries = 0;       ///< imported
  bool operator==(const ControlAnswer&) const = default;
};
using ControlResponse = std::variant<ControlAnswer>;

}  // namespace bulkhead::schema
