@0xf7a81c537af99ec7;
# Application and controller. What an application sends is hostile.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");
using Types = import "types.capnp";

struct FromApplication {
  union {
    none @0 :Void;
    attach @1 :Attach;
    appDisconnect @2 :AppDisconnect;
    appGreylistAddress @3 :AppGreylistAddress;
    appGreylistPeer @4 :AppGreylistPeer;
    appScore @5 :AppScore;
    appMaintain @6 :Void;
  }
}

struct AppGreylistAddress {
  address @0 :Data;                  # 16 bytes
}

struct AppGreylistPeer {
  peerId @0 :Data;                   # 16 bytes
}

struct AppScore {
  peerId @0 :Data;                   # 16 bytes
  score @1 :Float64;
}

struct Attach {
  version @0 :UInt32;
  receive @1 :Bool;
  send @2 :Bool;
}

struct AppDisconnect {
  slot @0 :Types.SlotRef;
  flush @1 :Bool;
}

struct ToApplication {
  union {
    none @0 :Void;
    attached @1 :Attached;
    attachRefused @2 :AttachRefused;
    appConnected @3 :AppConnected;
    appDisconnected @4 :AppDisconnected;
  }
}

struct Attached {
  ownPeerId @0 :Data;                # 16 bytes
  slots @1 :UInt32;
  inwardCapacity @2 :UInt32;
  outwardCapacity @3 :UInt32;
}

struct AttachRefused {
  text @0 :Text;
  holderPid @1 :UInt32;
}

struct AppConnected {
  slot @0 :Types.SlotRef;
  peerId @1 :Data;                   # 16 bytes
  direction @2 :Types.Direction;
  point @3 :Data;                    # 18 bytes
  remotePort @4 :UInt16;
  announcement @5 :Types.Announcement;
  metadata @6 :Types.ConnectionMetadata;
}

struct AppDisconnected {
  slot @0 :Types.SlotRef;
  peerId @1 :Data;
  reason @2 :UInt16;
}
