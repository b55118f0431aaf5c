#include <schema/supervision.capnp.h>

#include "schema/codec_fields.h"

namespace bulkhead::schema {
namespace {

inline constexpr std::uint32_t kLastSandboxLevel = 2;

void write(Writing& w, proto::BootCommon::Builder out, const BootCommon& value) {
  out.setLogLevel(value.log_level);
  out.setLogJson(value.log_json);
  out.setSlots(value.slots);
  out.setSandbox(w.between(value.sandbox, 0, kLastSandboxLevel));
  out.setUserNamespaceError(value.user_namespace_error);
}
void read(Reading& r, proto::BootCommon::Reader in, BootCommon& value) {
  value.log_level = in.getLogLevel();
  value.log_json = in.getLogJson();
  value.slots = in.getSlots();
  value.sandbox = r.between(in.getSandbox(), 0, kLastSandboxLevel);
  value.user_namespace_error = in.getUserNamespaceError();
}

void write(Writing& w, proto::ReconnectionSettings::Builder out, const ReconnectionSettings& value) {
  out.setFactor(w.finite(value.factor));
  out.setInitialDelayS(w.finite(value.initial_delay_s));
  out.setDisconnectionDelayS(w.finite(value.disconnection_delay_s));
  out.setIncreaseCapS(w.finite(value.increase_cap_s));
}
void read(Reading& r, proto::ReconnectionSettings::Reader in, ReconnectionSettings& value) {
  value.factor = r.finite(in.getFactor());
  value.initial_delay_s = r.finite(in.getInitialDelayS());
  value.disconnection_delay_s = r.finite(in.getDisconnectionDelayS());
  value.increase_cap_s = r.finite(in.getIncreaseCapS());
}

void write_versions(capnp::List<std::uint16_t>::Builder out, const std::vector<std::uint16_t>& versions) {
  for (unsigned i = 0; i < out.size(); ++i) out.set(i, versions[i]);
}
std::vector<std::uint16_t> read_versions(Reading& r, capnp::List<std::uint16_t>::Reader in) {
  std::vector<std::uint16_t> versions(r.count(in.size(), kMaximumVersions));
  for (unsigned i = 0; i < versions.size(); ++i) versions[i] = in[i];
  return versions;
}

void write(Writing& w, proto::BootController::Builder out, const BootController& value) {
  write(w, out.initCommon(), value.common);
  out.setRecovering(value.recovering);
  out.setOwnPeerId(w.whole(value.own_peer_id));
  out.setOwnPublicKey(w.whole(value.own_public_key));
  out.setChainName(w.text(value.chain_name, kMaximumChainName));
  const unsigned db_versions = w.count(value.distributed_db_versions.size(), kMaximumVersions);
  write_versions(out.initDistributedDbVersions(db_versions), value.distributed_db_versions);
  const unsigned p2p_versions = w.count(value.p2p_versions.size(), kMaximumVersions);
  write_versions(out.initP2pVersions(p2p_versions), value.p2p_versions);
  write(w, out.initMetadata(), value.metadata);
  out.setListeningPort(value.listening_port);
  out.setAdvertisedPort(value.advertised_port);
  out.setMinimumConnections(value.minimum_connections);
  out.setExpectedConnections(value.expected_connections);
  out.setMaximumConnections(value.maximum_connections);
  out.setMaximumIncoming(value.maximum_incoming);
  out.setAuthenticationTimeoutMs(value.authentication_timeout_ms);
  out.setConnectionTimeoutMs(value.connection_timeout_ms);
  out.setPrivateMode(value.private_mode);
  out.setMaintenance(value.maintenance);
  out.setDisablePeerDiscovery(value.disable_peer_discovery);
  out.setKnownPointsMaximum(value.known_points_maximum);
  out.setKnownPointsTarget(value.known_points_target);
  out.setKnownPeersMaximum(value.known_peers_maximum);
  out.setKnownPeersTarget(value.known_peers_target);
  write(w, out.initReconnection(), value.reconnection);
  out.setApplicationGraceMs(value.application_grace_ms);
  out.setDiscardWithoutApplication(value.discard_without_application);
  w.points(out.initOwnPoints(w.packed_size(value.own_points)), value.own_points);
  out.setGreylistTimeoutS(value.greylist_timeout_s);
  out.setGreylistIpv6Length(static_cast<std::uint8_t>(w.between(value.greylist_ipv6_length, 1, kAddressBits)));
  out.setPreviousEnd(w.reason(value.previous_end));
  out.setPreviousWaitStatus(value.previous_wait_status);
  out.setHardened(value.hardened);
  out.setAllowPrivatePoints(value.allow_private_points);
  out.setSwap(value.swap);
  out.setSwapLingerS(w.finite(value.swap_linger_s));
  out.setScoreHalfLifeS(w.finite(value.score_half_life_s));
  out.setKnownPeers(w.between(value.known_peers, 0, kMaximumKnownPeers));
  out.setKnownPeerEvents(w.between(value.known_peer_events, 0, kMaximumKnownPeerEvents));
}
void read(Reading& r, proto::BootController::Reader in, BootController& value) {
  read(r, in.getCommon(), value.common);
  value.recovering = in.getRecovering();
  r.exact(in.getOwnPeerId(), value.own_peer_id);
  r.exact(in.getOwnPublicKey(), value.own_public_key);
  value.chain_name = r.text(in.getChainName(), kMaximumChainName);
  value.distributed_db_versions = read_versions(r, in.getDistributedDbVersions());
  value.p2p_versions = read_versions(r, in.getP2pVersions());
  read(r, in.getMetadata(), value.metadata);
  value.listening_port = in.getListeningPort();
  value.advertised_port = in.getAdvertisedPort();
  value.minimum_connections = in.getMinimumConnections();
  value.expected_connections = in.getExpectedConnections();
  value.maximum_connections = in.getMaximumConnections();
  value.maximum_incoming = in.getMaximumIncoming();
  value.authentication_timeout_ms = in.getAuthenticationTimeoutMs();
  value.connection_timeout_ms = in.getConnectionTimeoutMs();
  value.private_mode = in.getPrivateMode();
  value.maintenance = in.getMaintenance();
  value.disable_peer_discovery = in.getDisablePeerDiscovery();
  value.known_points_maximum = in.getKnownPointsMaximum();
  value.known_points_target = in.getKnownPointsTarget();
  value.known_peers_maximum = in.getKnownPeersMaximum();
  value.known_peers_target = in.getKnownPeersTarget();
  read(r, in.getReconnection(), value.reconnection);
  value.application_grace_ms = in.getApplicationGraceMs();
  value.discard_without_application = in.getDiscardWithoutApplication();
  value.own_points = r.points(in.getOwnPoints());
  value.greylist_timeout_s = in.getGreylistTimeoutS();
  value.greylist_ipv6_length = static_cast<std::uint8_t>(r.between(in.getGreylistIpv6Length(), 1, kAddressBits));
  value.previous_end = r.reason(in.getPreviousEnd());
  value.previous_wait_status = in.getPreviousWaitStatus();
  value.hardened = in.getHardened();
  value.allow_private_points = in.getAllowPrivatePoints();
  value.swap = in.getSwap();
  value.swap_linger_s = r.finite(in.getSwapLingerS());
  value.score_half_life_s = r.finite(in.getScoreHalfLifeS());
  value.known_peers = r.between(in.getKnownPeers(), 0, kMaximumKnownPeers);
  value.known_peer_events = r.between(in.getKnownPeerEvents(), 0, kMaximumKnownPeerEvents);
}

void write(Writing& w, proto::BootKeyholder::Builder out, const BootKeyholder& value) {
  write(w, out.initCommon(), value.common);
  out.setExpectedPow(w.finite(value.expected_pow));
  write(w, out.initAnnouncement(), value.announcement);
  write(w, out.initMetadata(), value.metadata);
  out.setIdentityPath(w.text(value.identity_path, kMaximumPath));
}
void read(Reading& r, proto::BootKeyholder::Reader in, BootKeyholder& value) {
  read(r, in.getCommon(), value.common);
  value.expected_pow = r.finite(in.getExpectedPow());
  read(r, in.getAnnouncement(), value.announcement);
  read(r, in.getMetadata(), value.metadata);
  value.identity_path = r.text(in.getIdentityPath(), kMaximumPath);
}

void write(Writing& w, proto::DoorLimits::Builder out, const DoorLimits& value) {
  out.setAcceptRateAddress(w.finite(value.accept_rate_address));
  out.setAcceptBurstAddress(value.accept_burst_address);
  out.setAcceptRatePrefix(w.finite(value.accept_rate_prefix));
  out.setAcceptBurstPrefix(value.accept_burst_prefix);
  out.setPendingPerAddress(value.pending_per_address);
  out.setPendingPerPrefix(value.pending_per_prefix);
  out.setPendingLimit(value.pending_limit);
  out.setTrustedReserve(value.trusted_reserve);
}
void read(Reading& r, proto::DoorLimits::Reader in, DoorLimits& value) {
  value.accept_rate_address = r.finite(in.getAcceptRateAddress());
  value.accept_burst_address = in.getAcceptBurstAddress();
  value.accept_rate_prefix = r.finite(in.getAcceptRatePrefix());
  value.accept_burst_prefix = in.getAcceptBurstPrefix();
  value.pending_per_address = in.getPendingPerAddress();
  value.pending_per_prefix = in.getPendingPerPrefix();
  value.pending_limit = in.getPendingLimit();
  value.trusted_reserve = in.getTrustedReserve();
}

void write(Writing&, proto::TcpSettings::Builder out, const TcpSettings& value) {
  out.setKeepaliveIdleS(value.keepalive_idle_s);
  out.setKeepaliveIntervalS(value.keepalive_interval_s);
  out.setUserTimeoutMs(value.user_timeout_ms);
}
void read(Reading&, proto::TcpSettings::Reader in, TcpSettings& value) {
  value.keepalive_idle_s = in.getKeepaliveIdleS();
  value.keepalive_interval_s = in.getKeepaliveIntervalS();
  value.user_timeout_ms = in.getUserTimeoutMs();
}

void write(Writing& w, proto::BootAcceptor::Builder out, const BootAcceptor& value) {
  write(w, out.initCommon(), value.common);
  out.setExpectedPow(w.finite(value.expected_pow));
  write(w, out.initDoor(), value.door);
  out.setAuthenticationTimeoutMs(value.authentication_timeout_ms);
  out.setListeners(w.between(value.listeners, 1, kMaximumListeners));
  write(w, out.initTcp(), value.tcp);
}
void read(Reading& r, proto::BootAcceptor::Reader in, BootAcceptor& value) {
  read(r, in.getCommon(), value.common);
  value.expected_pow = r.finite(in.getExpectedPow());
  read(r, in.getDoor(), value.door);
  value.authentication_timeout_ms = in.getAuthenticationTimeoutMs();
  value.listeners = r.between(in.getListeners(), 1, kMaximumListeners);
  read(r, in.getTcp(), value.tcp);
}

void write(Writing& w, proto::ConfiguredPeer::Builder out, const ConfiguredPeer& value) {
  out.setHost(w.text(value.host, kMaximumHost));
  out.setPort(value.port);
  write(w, out.initExpectedPeerId(), value.expected_peer_id);
}
void read(Reading& r, proto::ConfiguredPeer::Reader in, ConfiguredPeer& value) {
  value.host = r.text(in.getHost(), kMaximumHost);
  value.port = in.getPort();
  read(r, in.getExpectedPeerId(), value.expected_peer_id);
}

void write(Writing& w, proto::BootMaintainer::Builder out, const BootMaintainer& value) {
  write(w, out.initCommon(), value.common);
  out.setMaintenance(value.maintenance);
  out.setPrivateMode(value.private_mode);
  out.setMinimumConnections(value.minimum_connections);
  out.setExpectedConnections(value.expected_connections);
  out.setMaximumConnections(value.maximum_connections);
  out.setConnectionTimeoutMs(value.connection_timeout_ms);
  out.setMaintenanceIdleTimeS(w.finite(value.maintenance_idle_time_s));
  const unsigned count = w.count(value.peers.size(), kMaximumConfiguredPeers);
  auto peers = out.initPeers(count);
  for (unsigned i = 0; i < count; ++i) write(w, peers[i], value.peers[i]);
  w.points(out.initOwnPoints(w.packed_size(value.own_points)), value.own_points);
  write(w, out.initSourceAddress(), value.source_address);
  write(w, out.initTcp(), value.tcp);
  out.setMinThreshold(value.bounds.min_threshold);
  out.setMinTarget(value.bounds.min_target);
  out.setMaxTarget(value.bounds.max_target);
  out.setMaxThreshold(value.bounds.max_threshold);
  out.setDisablePeerDiscovery(value.disable_peer_discovery);
  out.setOwnPeerId(w.whole(value.own_peer_id));
  w.point(out.initDiscovery(kPackedPoint), value.discovery);
  out.setHardened(value.hardened);
  out.setSwap(value.swap);
  out.setScoreHalfLifeS(w.finite(value.score_half_life_s));
  w.points(out.initNameServers(w.packed_size(value.name_servers)), value.name_servers);
}
void read(Reading& r, proto::BootMaintainer::Reader in, BootMaintainer& value) {
  read(r, in.getCommon(), value.common);
  value.maintenance = in.getMaintenance();
  value.private_mode = in.getPrivateMode();
  value.minimum_connections = in.getMinimumConnections();
  value.expected_connections = in.getExpectedConnections();
  value.maximum_connections = in.getMaximumConnections();
  value.connection_timeout_ms = in.getConnectionTimeoutMs();
  value.maintenance_idle_time_s = r.finite(in.getMaintenanceIdleTimeS());
  const auto peers = in.getPeers();
  value.peers.resize(r.count(peers.size(), kMaximumConfiguredPeers));
  for (unsigned i = 0; i < value.peers.size(); ++i) read(r, peers[i], value.peers[i]);
  value.own_points = r.points(in.getOwnPoints());
  read(r, in.getSourceAddress(), value.source_address);
  read(r, in.getTcp(), value.tcp);
  value.bounds = {in.getMinThreshold(), in.getMinTarget(), in.getMaxTarget(), in.getMaxThreshold()};
  value.disable_peer_discovery = in.getDisablePeerDiscovery();
  r.exact(in.getOwnPeerId(), value.own_peer_id);
  value.discovery = r.point(in.getDiscovery());
  value.hardened = in.getHardened();
  value.swap = in.getSwap();
  value.score_half_life_s = r.finite(in.getScoreHalfLifeS());
  value.name_servers = r.points(in.getNameServers());
}

void write(Writing& w, proto::BootNursery::Builder out, const BootNursery& value) {
  write(w, out.initCommon(), value.common);
  out.setInwardCapacity(value.inward_capacity);
  out.setOutwardCapacity(value.outward_capacity);
}
void read(Reading& r, proto::BootNursery::Reader in, BootNursery& value) {
  read(r, in.getCommon(), value.common);
  value.inward_capacity = in.getInwardCapacity();
  value.outward_capacity = in.getOutwardCapacity();
}

void write(Writing& w, proto::ServiceChannel::Builder out, const ServiceChannel& value) {
  out.setRole(static_cast<std::uint8_t>(w.known(value.role, Role::kConn)));
  out.setCause(w.reason(value.cause));
  out.setWaitStatus(value.wait_status);
}
void read(Reading& r, proto::ServiceChannel::Reader in, ServiceChannel& value) {
  value.role = r.known(in.getRole(), Role::kConn);
  value.cause = r.reason(in.getCause());
  value.wait_status = in.getWaitStatus();
}

void write(Writing& w, proto::AdoptWorker::Builder out, const AdoptWorker& value) {
  write(w, out.initSlot(), value.slot);
}
void read(Reading& r, proto::AdoptWorker::Reader in, AdoptWorker& value) {
  read(r, in.getSlot(), value.slot);
}

void write(Writing&, proto::AdoptApplication::Builder out, const AdoptApplication& value) {
  out.setId(value.id);
  out.setPid(value.pid);
  out.setReceives(value.receives);
  out.setSends(value.sends);
}
void read(Reading&, proto::AdoptApplication::Reader in, AdoptApplication& value) {
  value.id = in.getId();
  value.pid = in.getPid();
  value.receives = in.getReceives();
  value.sends = in.getSends();
}

void write(Writing&, proto::ApplicationSegments::Builder out, const ApplicationSegments& value) {
  out.setId(value.id);
}
void read(Reading&, proto::ApplicationSegments::Reader in, ApplicationSegments& value) {
  value.id = in.getId();
}

void write(Writing&, proto::Reaped::Builder out, const Reaped& value) {
  out.setPid(value.pid);
  out.setWaitStatus(value.wait_status);
}
void read(Reading&, proto::Reaped::Reader in, Reaped& value) {
  value.pid = in.getPid();
  value.wait_status = in.getWaitStatus();
}

void write(Writing&, proto::Ping::Builder out, const Ping& value) {
  out.setNumber(value.number);
}
void read(Reading&, proto::Ping::Reader in, Ping& value) {
  value.number = in.getNumber();
}

void write(Writing& w, proto::Ready::Builder out, const Ready& value) {
  out.setPeerId(w.whole(value.peer_id));
  out.setPublicKey(w.whole(value.public_key));
}
void read(Reading& r, proto::Ready::Reader in, Ready& value) {
  r.exact(in.getPeerId(), value.peer_id);
  r.exact(in.getPublicKey(), value.public_key);
}

void write(Writing& w, proto::Failed::Builder out, const Failed& value) {
  out.setText(w.text(value.text, kMaximumText));
}
void read(Reading& r, proto::Failed::Reader in, Failed& value) {
  value.text = r.text(in.getText(), kMaximumText);
}

void write(Writing&, proto::Pong::Builder out, const Pong& value) {
  out.setNumber(value.number);
}
void read(Reading&, proto::Pong::Reader in, Pong& value) {
  value.number = in.getNumber();
}

void write(Writing& w, proto::Hold::Builder out, const Hold& value) {
  write(w, out.initSlot(), value.slot);
}
void read(Reading& r, proto::Hold::Reader in, Hold& value) {
  read(r, in.getSlot(), value.slot);
}

void write(Writing& w, proto::Release::Builder out, const Release& value) {
  write(w, out.initSlot(), value.slot);
}
void read(Reading& r, proto::Release::Reader in, Release& value) {
  read(r, in.getSlot(), value.slot);
}

void write(Writing&, proto::HoldApplication::Builder out, const HoldApplication& value) {
  out.setId(value.id);
  out.setPid(value.pid);
  out.setReceives(value.receives);
  out.setSends(value.sends);
}
void read(Reading&, proto::HoldApplication::Reader in, HoldApplication& value) {
  value.id = in.getId();
  value.pid = in.getPid();
  value.receives = in.getReceives();
  value.sends = in.getSends();
}

void write(Writing&, proto::ReleaseApplication::Builder out, const ReleaseApplication& value) {
  out.setId(value.id);
}
void read(Reading&, proto::ReleaseApplication::Reader in, ReleaseApplication& value) {
  value.id = in.getId();
}

void write(Writing&, proto::StateDamaged::Builder out, const StateDamaged& value) {
  out.setLogOnly(value.log_only);
}
void read(Reading&, proto::StateDamaged::Reader in, StateDamaged& value) {
  value.log_only = in.getLogOnly();
}

void write(Writing& w, proto::ReplaceService::Builder out, const ReplaceService& value) {
  out.setRole(static_cast<std::uint8_t>(w.known(value.role, Role::kConn)));
  out.setCause(w.reason(value.cause));
}
void read(Reading& r, proto::ReplaceService::Reader in, ReplaceService& value) {
  value.role = r.known(in.getRole(), Role::kConn);
  value.cause = r.reason(in.getCause());
}

void write(Writing&, proto::KillOrphan::Builder out, const KillOrphan& value) {
  out.setPid(value.pid);
}
void read(Reading&, proto::KillOrphan::Reader in, KillOrphan& value) {
  value.pid = in.getPid();
}

}  // namespace

#define BULKHEAD_FROM_SUPERVISOR(FIELDS, EMPTY)     \
  FIELDS(BootController, BOOT_CONTROLLER)           \
  FIELDS(BootKeyholder, BOOT_KEYHOLDER)             \
  FIELDS(BootAcceptor, BOOT_ACCEPTOR)               \
  FIELDS(BootMaintainer, BOOT_MAINTAINER)           \
  FIELDS(BootNursery, BOOT_NURSERY)                 \
  FIELDS(ServiceChannel, SERVICE_CHANNEL)           \
  FIELDS(AdoptWorker, ADOPT_WORKER)                 \
  FIELDS(AdoptApplication, ADOPT_APPLICATION)       \
  EMPTY(AdoptDone, ADOPT_DONE)                      \
  FIELDS(ApplicationSegments, APPLICATION_SEGMENTS) \
  FIELDS(Reaped, REAPED)                            \
  FIELDS(Ping, PING)                                \
  EMPTY(Stop, STOP)

#define BULKHEAD_TO_SUPERVISOR(FIELDS, EMPTY)     \
  FIELDS(Ready, READY)                            \
  FIELDS(Failed, FAILED)                          \
  FIELDS(Pong, PONG)                              \
  FIELDS(Hold, HOLD)                              \
  FIELDS(Release, RELEASE)                        \
  FIELDS(HoldApplication, HOLD_APPLICATION)       \
  FIELDS(ReleaseApplication, RELEASE_APPLICATION) \
  FIELDS(KillOrphan, KILL_ORPHAN)                 \
  FIELDS(ReplaceService, REPLACE_SERVICE)         \
  FIELDS(StateDamaged, STATE_DAMAGED)

BULKHEAD_CODEC(FromSupervisor, BULKHEAD_FROM_SUPERVISOR)
BULKHEAD_CODEC(ToSupervisor, BULKHEAD_TO_SUPERVISOR)

}  // namespace bulkhead::schema
