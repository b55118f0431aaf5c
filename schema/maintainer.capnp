@0xf87fd365b42b9b21;
# Controller and maintainer.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");
using Types = import "types.capnp";

struct FromMaintainer {
  union {
    none @0 :Void;
    knownPoint @1 :KnownPoint;
    requested @2 :Requested;
    dialled @3 :Dialled;
    dialFailed @4 :DialFailed;
    askForPeers @5 :Void;
    disconnect @6 :Disconnect;
    proposeSwap @7 :Void;
    maintained @8 :Maintained;
    discovered @9 :Discovered;
  }
}

struct KnownPoint {
  point @0 :Data;                    # 18 bytes
  trusted @1 :Bool;
  expectedPeerId @2 :Types.OptionalPeerId;
}

struct Discovered {
  point @0 :Data;                    # 18 bytes
}

struct Requested {
  id @0 :UInt64;
  point @1 :Data;
  deadlineNs @2 :UInt64;
  feeler @3 :Bool;
}

struct Dialled {
  id @0 :UInt64;
  point @1 :Data;
  deadlineNs @2 :UInt64;
}

struct DialFailed {
  id @0 :UInt64;
  point @1 :Data;
  reason @2 :UInt16;
}

struct ToMaintainer {
  union {
    none @0 :Void;
    dial @1 :Dial;
    wake @2 :Void;
    dialCancelled @3 :DialCancelled;
    maintain @4 :Maintain;
  }
}

struct Dial {
  id @0 :UInt64;
  point @1 :Data;
  timeoutMs @2 :UInt32;
}

struct DialCancelled {
  id @0 :UInt64;
}

struct Disconnect {
  slot @0 :Types.SlotRef;
  reason @1 :UInt16;
}

struct Maintained {
  id @0 :UInt64;
}

struct Maintain {
  id @0 :UInt64;
}
