@0xa5c629a039ca2395;
# Supervisor and service: descriptor 3 of every service. The first message is the service's boot.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");
using Types = import "types.capnp";

struct FromSupervisor {
  union {
    none @0 :Void;                   # an empty message is no message
    bootController @1 :BootController;
    bootKeyholder @2 :BootKeyholder;
    bootAcceptor @3 :BootAcceptor;
    bootMaintainer @4 :BootMaintainer;
    bootNursery @5 :BootNursery;
    serviceChannel @6 :ServiceChannel;
    adoptWorker @7 :AdoptWorker;
    adoptApplication @8 :AdoptApplication;
    adoptDone @9 :Void;
    applicationSegments @10 :ApplicationSegments;
    reaped @11 :Reaped;
    ping @12 :Ping;
    stop @13 :Void;
  }
}

struct BootCommon {
  logLevel @0 :UInt32;
  logJson @1 :Bool;
  slots @2 :UInt32;
  sandbox @3 :UInt32;
  userNamespaceError @4 :UInt32;
}

struct ReconnectionSettings {
  factor @0 :Float64;
  initialDelayS @1 :Float64;
  disconnectionDelayS @2 :Float64;
  increaseCapS @3 :Float64;
}

struct BootController {
  common @0 :BootCommon;
  recovering @1 :Bool;
  ownPeerId @2 :Data;                # 16 bytes
  ownPublicKey @3 :Data;             # 32 bytes
  chainName @4 :Text;
  distributedDbVersions @5 :List(UInt16);
  p2pVersions @6 :List(UInt16);
  metadata @7 :Types.ConnectionMetadata;
  listeningPort @8 :UInt16;
  advertisedPort @9 :UInt16;
  minimumConnections @10 :UInt32;
  expectedConnections @11 :UInt32;
  maximumConnections @12 :UInt32;
  maximumIncoming @13 :UInt32;
  authenticationTimeoutMs @14 :UInt32;
  connectionTimeoutMs @15 :UInt32;
  privateMode @16 :Bool;
  maintenance @17 :Bool;
  disablePeerDiscovery @18 :Bool;
  knownPointsMaximum @19 :UInt32;
  knownPointsTarget @20 :UInt32;
  knownPeersMaximum @21 :UInt32;
  knownPeersTarget @22 :UInt32;
  reconnection @23 :ReconnectionSettings;
  applicationGraceMs @24 :UInt32;
  discardWithoutApplication @25 :Bool;
  ownPoints @26 :Data;               # n * 18 bytes
  previousEnd @27 :UInt16;
  previousWaitStatus @28 :UInt32;
  greylistTimeoutS @29 :UInt32;
  greylistIpv6Length @30 :UInt8;
  hardened @31 :Bool;
  allowPrivatePoints @32 :Bool;
  swap @33 :Bool;
  scoreHalfLifeS @34 :Float64;
  knownPeers @35 :UInt32;
  knownPeerEvents @36 :UInt32;
  swapLingerS @37 :Float64;
}

struct BootKeyholder {
  common @0 :BootCommon;
  expectedPow @1 :Float64;
  announcement @2 :Types.Announcement;
  metadata @3 :Types.ConnectionMetadata;
  identityPath @4 :Text;
}

struct DoorLimits {
  acceptRateAddress @0 :Float64;
  acceptBurstAddress @1 :UInt32;
  acceptRatePrefix @2 :Float64;
  acceptBurstPrefix @3 :UInt32;
  pendingPerAddress @4 :UInt32;
  pendingPerPrefix @5 :UInt32;
  pendingLimit @6 :UInt32;
  trustedReserve @7 :UInt32;
}

struct TcpSettings {
  keepaliveIdleS @0 :UInt32;
  keepaliveIntervalS @1 :UInt32;
  userTimeoutMs @2 :UInt32;
}

struct BootAcceptor {
  common @0 :BootCommon;
  expectedPow @1 :Float64;
  door @2 :DoorLimits;
  authenticationTimeoutMs @3 :UInt32;
  listeners @4 :UInt32;
  tcp @5 :TcpSettings;
}

struct ConfiguredPeer {
  host @0 :Text;
  port @1 :UInt16;
  expectedPeerId @2 :Types.OptionalPeerId;
}

struct BootMaintainer {
  common @0 :BootCommon;
  maintenance @1 :Bool;
  privateMode @2 :Bool;
  minimumConnections @3 :UInt32;
  expectedConnections @4 :UInt32;
  maximumConnections @5 :UInt32;
  connectionTimeoutMs @6 :UInt32;
  maintenanceIdleTimeS @7 :Float64;
  peers @8 :List(ConfiguredPeer);
  ownPoints @9 :Data;                # n * 18 bytes
  sourceAddress @10 :Types.OptionalAddress;
  tcp @11 :TcpSettings;
  minThreshold @12 :UInt32;
  minTarget @13 :UInt32;
  maxTarget @14 :UInt32;
  maxThreshold @15 :UInt32;
  disablePeerDiscovery @16 :Bool;
  ownPeerId @20 :Data;               # 16 bytes
  discovery @21 :Data;               # a point; port 0: LAN discovery is off
  hardened @17 :Bool;
  swap @18 :Bool;
  scoreHalfLifeS @19 :Float64;
  nameServers @22 :Data;             # n * 18 bytes
}

struct BootNursery {
  common @0 :BootCommon;
  inwardCapacity @1 :UInt32;
  outwardCapacity @2 :UInt32;
}

struct ServiceChannel {
  role @0 :UInt8;
  cause @1 :UInt16;
  waitStatus @2 :UInt32;
}

struct AdoptWorker {
  slot @0 :Types.SlotRef;
}

struct AdoptApplication {
  id @0 :UInt64;
  pid @1 :UInt32;
  receives @2 :Bool;
  sends @3 :Bool;
}

struct ApplicationSegments {
  id @0 :UInt64;
}

struct Reaped {
  pid @0 :UInt32;
  waitStatus @1 :UInt32;
}

struct Ping {
  number @0 :UInt64;
}

struct ToSupervisor {
  union {
    none @0 :Void;
    ready @1 :Ready;
    failed @2 :Failed;
    pong @3 :Pong;
    hold @4 :Hold;
    release @5 :Release;
    holdApplication @6 :HoldApplication;
    releaseApplication @7 :ReleaseApplication;
    killOrphan @8 :KillOrphan;
    replaceService @9 :ReplaceService;
    stateDamaged @10 :StateDamaged;
  }
}

struct Ready {
  peerId @0 :Data;                   # 16 bytes
  publicKey @1 :Data;                # 32 bytes
}

struct Failed {
  text @0 :Text;
}

struct Pong {
  number @0 :UInt64;
}

struct Hold {
  slot @0 :Types.SlotRef;
}

struct Release {
  slot @0 :Types.SlotRef;
}

struct HoldApplication {
  id @0 :UInt64;
  pid @1 :UInt32;
  receives @2 :Bool;
  sends @3 :Bool;
}

struct ReleaseApplication {
  id @0 :UInt64;
}

struct KillOrphan {
  pid @0 :UInt32;
}

struct StateDamaged {
  logOnly @0 :Bool;
}

struct ReplaceService {
  role @0 :UInt8;
  cause @1 :UInt16;
}
