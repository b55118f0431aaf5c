@0xefc4d90f43757c0c;
# Control client (the command line) and controller.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");
using Types = import "types.capnp";

struct ControlRequest {
  union {
    none @0 :Void;
    controlConnect @1 :ControlConnect;
    controlKick @2 :ControlKick;
    controlMaintain @3 :Void;
    controlBan @4 :ControlBan;
    controlUnban @5 :ControlUnban;
    controlTrust @6 :ControlTrust;
    controlUntrust @7 :ControlUntrust;
    controlClearAcls @8 :Void;
    controlClearGreylist @9 :Void;
    controlImport @10 :ControlImport;
  }
}

struct AclSubject {
  peerId @0 :Types.OptionalPeerId;
  address @1 :Data;                  # 16 bytes
  length @2 :UInt8;                  # 0 to 128
}

struct ControlBan {
  subject @0 :AclSubject;
  durationS @1 :UInt32;
  text @2 :Text;
}

struct ControlUnban {
  subject @0 :AclSubject;
}

struct ControlTrust {
  subject @0 :AclSubject;
  port @1 :UInt16;
  durationS @2 :UInt32;
  text @3 :Text;
}

struct ControlUntrust {
  subject @0 :AclSubject;
}

struct ControlImport {
  entries @0 :UInt32;
}

struct ControlConnect {
  point @0 :Data;                    # 18 bytes
  timeoutMs @1 :UInt32;
}

struct ControlKick {
  peerId @0 :Data;                   # 16 bytes
}

struct ControlResponse {
  union {
    none @0 :Void;
    controlAnswer @1 :ControlAnswer;
  }
}

struct ControlAnswer {
  ok @0 :Bool;
  text @1 :Text;
  bans @2 :UInt32;                   # that were lifted
  greylistings @3 :UInt32;           # that were lifted
  entries @4 :UInt32;                # that were imported
}
