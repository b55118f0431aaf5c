#include "tests/unit/schema/samples.h"

namespace bulkhead::schema::test {
namespace {

/// Gives out values that differ from each other.
class Filler {
 public:
  template <typename Number>
  Number number() {
    return static_cast<Number>(++next_ * 0x0101010101010101U);
  }
  double fraction() { return static_cast<double>(++next_) + 0.125; }

  std::vector<std::uint8_t> bytes(std::size_t size) {
    std::vector<std::uint8_t> value(size);
    for (std::uint8_t& byte : value) byte = number<std::uint8_t>();
    return value;
  }
  /// Every byte value, zero and invalid UTF-8 included.
  std::string text(std::size_t size) {
    std::string value(size, '\0');
    for (char& byte : value) byte = static_cast<char>(number<std::uint8_t>());
    return value;
  }
  template <std::size_t kSize>
  std::array<std::uint8_t, kSize> array() {
    std::array<std::uint8_t, kSize> value{};
    for (std::uint8_t& byte : value) byte = number<std::uint8_t>();
    return value;
  }
  Point point() { return {Address{array<16>()}, number<std::uint16_t>()}; }
  std::vector<Point> points() {
    std::vector<Point> value(kMaximumPoints);
    for (Point& each : value) each = point();
    return value;
  }
  SlotRef slot() { return {number<std::uint32_t>(), number<std::uint64_t>()}; }
  std::vector<std::uint16_t> versions() {
    std::vector<std::uint16_t> value(kMaximumVersions);
    for (std::uint16_t& each : value) each = number<std::uint16_t>();
    return value;
  }
  Announcement announcement() {
    Announcement value;
    value.port = number<std::uint16_t>();
    value.chain_name = text(kMaximumChainName);
    value.distributed_db_version = number<std::uint16_t>();
    value.p2p_version = number<std::uint16_t>();
    return value;
  }
  BootCommon common() {
    BootCommon value;
    value.log_level = number<std::uint32_t>();
    value.log_json = true;
    value.slots = number<std::uint32_t>();
    value.sandbox = 2;
    value.user_namespace_error = number<std::uint32_t>();
    return value;
  }

 private:
  std::uint64_t next_ = 0;
};

constexpr Reason kLastReason = static_cast<Reason>(kReasonCount - 1);

}  // namespace

template <>
std::vector<FromSupervisor> largest() {
  Filler fill;
  BootController controller;
  controller.common = fill.common();
  controller.recovering = true;
  controller.own_peer_id = fill.array<16>();
  controller.own_public_key = fill.array<32>();
  controller.chain_name = fill.text(kMaximumChainName);
  controller.distributed_db_versions = fill.versions();
  controller.p2p_versions = fill.versions();
  controller.metadata = {true, false};
  controller.listening_port = fill.number<std::uint16_t>();
  controller.advertised_port = fill.number<std::uint16_t>();
  controller.minimum_connections = fill.number<std::uint32_t>();
  controller.expected_connections = fill.number<std::uint32_t>();
  controller.maximum_connections = fill.number<std::uint32_t>();
  controller.maximum_incoming = fill.number<std::uint32_t>();
  controller.authentication_timeout_ms = fill.number<std::uint32_t>();
  controller.connection_timeout_ms = fill.number<std::uint32_t>();
  controller.private_mode = true;
  controller.maintenance = false;
  controller.disable_peer_discovery = true;
  controller.known_points_maximum = fill.number<std::uint32_t>();
  controller.known_points_target = fill.number<std::uint32_t>();
  controller.known_peers_maximum = fill.number<std::uint32_t>();
  controller.known_peers_target = fill.number<std::uint32_t>();
  controller.reconnection = {fill.fraction(), fill.fraction(), fill.fraction(), fill.fraction()};
  controller.application_grace_ms = fill.number<std::uint32_t>();
  controller.discard_without_application = true;
  controller.own_points = fill.points();
  controller.greylist_timeout_s = fill.number<std::uint32_t>();
  controller.greylist_ipv6_length = 128;
  controller.hardened = false;
  controller.allow_private_points = true;
  controller.swap = false;
  controller.swap_linger_s = fill.fraction();
  controller.score_half_life_s = fill.fraction();
  controller.known_peers = kMaximumKnownPeers;
  controller.known_peer_events = kMaximumKnownPeerEvents;
  controller.previous_end = Reason::kServiceCrashed;
  controller.previous_wait_status = fill.number<std::uint32_t>();

  BootKeyholder keyholder;
  keyholder.common = fill.common();
  keyholder.expected_pow = fill.fraction();
  keyholder.announcement = fill.announcement();
  keyholder.metadata = {false, true};
  keyholder.identity_path = fill.text(kMaximumPath);

  BootAcceptor acceptor;
  acceptor.common = fill.common();
  acceptor.expected_pow = fill.fraction();
  acceptor.door = {fill.fraction(),
                   fill.number<std::uint32_t>(),
                   fill.fraction(),
                   fill.number<std::uint32_t>(),
                   fill.number<std::uint32_t>(),
                   fill.number<std::uint32_t>(),
                   fill.number<std::uint32_t>(),
                   fill.number<std::uint32_t>()};
  acceptor.authentication_timeout_ms = fill.number<std::uint32_t>();
  acceptor.listeners = kMaximumListeners;
  const TcpSettings tcp{fill.number<std::uint32_t>(), fill.number<std::uint32_t>(), fill.number<std::uint32_t>()};
  acceptor.tcp = tcp;

  BootMaintainer maintainer;
  maintainer.common = fill.common();
  maintainer.maintenance = false;
  maintainer.private_mode = true;
  maintainer.minimum_connections = fill.number<std::uint32_t>();
  maintainer.expected_connections = fill.number<std::uint32_t>();
  maintainer.maximum_connections = fill.number<std::uint32_t>();
  maintainer.connection_timeout_ms = fill.number<std::uint32_t>();
  maintainer.maintenance_idle_time_s = fill.fraction();
  maintainer.bounds = {fill.number<std::uint32_t>(), fill.number<std::uint32_t>(), fill.number<std::uint32_t>(),
                       fill.number<std::uint32_t>()};
  maintainer.disable_peer_discovery = true;
  maintainer.own_peer_id = fill.array<16>();
  maintainer.discovery = fill.point();
  maintainer.hardened = false;
  maintainer.swap = false;
  maintainer.name_servers = fill.points();
  maintainer.score_half_life_s = fill.fraction();
  for (std::size_t i = 0; i < kMaximumConfiguredPeers; ++i) {
    maintainer.peers.push_back({fill.text(kMaximumHost), fill.number<std::uint16_t>(), fill.array<16>()});
  }
  maintainer.own_points = fill.points();
  maintainer.source_address = Address{fill.array<16>()};
  maintainer.tcp = tcp;

  const BootNursery nursery{fill.common(), fill.number<std::uint32_t>(), fill.number<std::uint32_t>()};
  return {controller,
          keyholder,
          acceptor,
          maintainer,
          nursery,
          ServiceChannel{Role::kConn, Reason::kServiceExited, fill.number<std::uint32_t>()},
          AdoptWorker{fill.slot()},
          AdoptApplication{fill.number<std::uint64_t>(), fill.number<std::uint32_t>(), true, false},
          AdoptDone{},
          ApplicationSegments{fill.number<std::uint64_t>()},
          Reaped{fill.number<std::uint32_t>(), fill.number<std::uint32_t>()},
          Ping{fill.number<std::uint64_t>()},
          Stop{}};
}

template <>
std::vector<ToSupervisor> largest() {
  Filler fill;
  return {Ready{fill.array<16>(), fill.array<32>()},
          Failed{fill.text(kMaximumText)},
          Pong{fill.number<std::uint64_t>()},
          Hold{fill.slot()},
          Release{fill.slot()},
          HoldApplication{fill.number<std::uint64_t>(), fill.number<std::uint32_t>(), false, true},
          ReleaseApplication{fill.number<std::uint64_t>()},
          KillOrphan{fill.number<std::uint32_t>()},
          ReplaceService{Role::kConn, kLastReason},
          StateDamaged{true}};
}

template <>
std::vector<ToKeyholder> largest() {
  Filler fill;
  return {KeyBegin{fill.slot(), Direction::kOutgoing}, KeyHello{fill.slot(), fill.bytes(kMaximumConnectionMessage)},
          KeyProof{fill.slot(), fill.bytes(kMaximumChunk)}};
}

template <>
std::vector<FromKeyholder> largest() {
  Filler fill;
  return {KeyBegun{fill.slot(), fill.bytes(kMaximumConnectionMessage)},
          KeyHelloDone{fill.slot(), kLastReason, fill.bytes(kMaximumChunk)},
          KeyProofDone{fill.slot(),
                       kLastReason,
                       fill.array<16>(),
                       {true, false},
                       fill.array<32>(),
                       fill.array<24>(),
                       fill.array<24>()}};
}

template <>
std::vector<FromAcceptor> largest() {
  Filler fill;
  return {Incoming{fill.point(), fill.array<32>(), fill.number<std::uint64_t>()},
          Refused{fill.point(), kLastReason, fill.number<std::uint32_t>()}};
}

template <>
std::vector<FromMaintainer> largest() {
  Filler fill;
  return {KnownPoint{fill.point(), true, fill.array<16>()},
          Requested{fill.number<std::uint64_t>(), fill.point(), fill.number<std::uint64_t>(), true},
          Dialled{fill.number<std::uint64_t>(), fill.point(), fill.number<std::uint64_t>()},
          DialFailed{fill.number<std::uint64_t>(), fill.point(), kLastReason},
          AskForPeers{},
          Disconnect{fill.slot(), kLastReason},
          ProposeSwap{},
          Maintained{fill.number<std::uint64_t>()},
          Discovered{fill.point()}};
}

template <>
std::vector<ToMaintainer> largest() {
  Filler fill;
  return {Dial{fill.number<std::uint64_t>(), fill.point(), fill.number<std::uint32_t>()}, Wake{},
          DialCancelled{fill.number<std::uint64_t>()}, Maintain{fill.number<std::uint64_t>()}};
}

template <>
std::vector<ToNursery> largest() {
  Filler fill;
  return {Spawn{fill.slot()}, EndWorker{fill.slot()}};
}

template <>
std::vector<FromNursery> largest() {
  Filler fill;
  return {Spawned{fill.slot(), fill.number<std::uint32_t>()}, SpawnFailed{fill.slot(), fill.number<std::uint32_t>()},
          Exited{fill.slot(), fill.number<std::uint32_t>(), fill.number<std::uint32_t>()}};
}

template <>
std::vector<ToWorker> largest() {
  Filler fill;
  WorkerStart start;
  start.direction = Direction::kOutgoing;
  start.deadline_ns = fill.number<std::uint64_t>();
  start.our_message = fill.bytes(kMaximumConnectionMessage);
  start.discard_without_application = true;
  start.application_grace_ms = fill.number<std::uint32_t>();
  start.disable_peer_discovery = true;
  start.receiver_attached = true;
  Verdict verdict;
  verdict.kind = VerdictKind::kNackV0;
  verdict.reason = kLastReason;
  verdict.motive = -5;
  verdict.points = fill.points();
  verdict.channel_key = fill.array<32>();
  verdict.send_nonce = fill.array<24>();
  verdict.receive_nonce = fill.array<24>();
  return {start,
          OurMetadata{fill.bytes(kMaximumChunk)},
          verdict,
          GiveLink{},
          ApplicationState{true, false},
          SendAdvertise{fill.points()},
          SendBootstrap{},
          Close{kLastReason, true},
          WorkerPing{fill.number<std::uint64_t>()},
          SendSwapRequest{fill.point(), fill.array<16>()},
          SendSwapAck{fill.point(), fill.array<16>()}};
}

template <>
std::vector<FromWorker> largest() {
  Filler fill;
  return {WorkerHello{fill.bytes(kMaximumConnectionMessage), fill.announcement()},
          WorkerProof{fill.bytes(kMaximumChunk)},
          Acked{},
          Nacked{-32768, fill.points()},
          Link{},
          BootstrapReceived{},
          AdvertiseReceived{fill.points()},
          SwapRequestReceived{fill.point(), fill.array<16>()},
          SwapAckReceived{fill.point(), fill.array<16>()},
          Closing{kLastReason},
          WorkerPong{fill.number<std::uint64_t>()}};
}

template <>
std::vector<FromApplication> largest() {
  Filler fill;
  return {Attach{fill.number<std::uint32_t>(), false, true},
          AppDisconnect{fill.slot(), true},
          AppGreylistAddress{Address{fill.array<16>()}},
          AppGreylistPeer{fill.array<16>()},
          AppScore{fill.array<16>(), -1.5e300},
          AppMaintain{}};
}

template <>
std::vector<ToApplication> largest() {
  Filler fill;
  return {Attached{fill.array<16>(), fill.number<std::uint32_t>(), fill.number<std::uint32_t>(),
                   fill.number<std::uint32_t>()},
          AttachRefused{fill.text(kMaximumText), fill.number<std::uint32_t>()},
          AppConnected{fill.slot(),
                       fill.array<16>(),
                       Direction::kOutgoing,
                       fill.point(),
                       fill.number<std::uint16_t>(),
                       fill.announcement(),
                       {true, false}},
          AppDisconnected{fill.slot(), fill.array<16>(), kLastReason}};
}

template <>
std::vector<ControlRequest> largest() {
  Filler fill;
  const AclSubject peer{fill.array<16>(), {}};
  const AclSubject prefix{std::nullopt, {Address{fill.array<16>()}, 128}};
  return {ControlConnect{fill.point(), fill.number<std::uint32_t>()},
          ControlKick{fill.array<16>()},
          ControlMaintain{},
          ControlBan{prefix, fill.number<std::uint32_t>(), fill.text(kMaximumAclText)},
          ControlUnban{peer},
          ControlTrust{prefix, fill.number<std::uint16_t>(), fill.number<std::uint32_t>(), fill.text(kMaximumAclText)},
          ControlUntrust{peer},
          ControlClearAcls{},
          ControlClearGreylist{},
          ControlImport{kMaximumImport}};
}

template <>
std::vector<ControlResponse> largest() {
  Filler fill;
  return {ControlAnswer{true, fill.text(kMaximumText), fill.number<std::uint32_t>(), fill.number<std::uint32_t>(),
                        fill.number<std::uint32_t>()}};
}

}  // namespace bulkhead::schema::test
