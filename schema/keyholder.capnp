@0xe909aedd6410fda4;
# Controller and keyholder: three requests of a handshake, each once and in order, and their answers.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");
using Types = import "types.capnp";

struct ToKeyholder {
  union {
    none @0 :Void;
    keyBegin @1 :KeyBegin;
    keyHello @2 :KeyHello;
    keyProof @3 :KeyProof;
  }
}

struct KeyBegin {
  slot @0 :Types.SlotRef;
  direction @1 :Types.Direction;
}

struct KeyHello {
  slot @0 :Types.SlotRef;
  message @1 :Data;
}

struct KeyProof {
  slot @0 :Types.SlotRef;
  chunk @1 :Data;
}

struct FromKeyholder {
  union {
    none @0 :Void;
    keyBegun @1 :KeyBegun;
    keyHelloDone @2 :KeyHelloDone;
    keyProofDone @3 :KeyProofDone;
  }
}

struct KeyBegun {
  slot @0 :Types.SlotRef;
  message @1 :Data;
}

struct KeyHelloDone {
  slot @0 :Types.SlotRef;
  failure @1 :UInt16;                # a Reason
  chunk @2 :Data;
}

struct KeyProofDone {
  slot @0 :Types.SlotRef;
  failure @1 :UInt16;
  peerId @2 :Data;                   # 16 bytes
  metadata @3 :Types.ConnectionMetadata;
  channelKey @4 :Data;               # 32 bytes
  sendNonce @5 :Data;                # 24 bytes
  receiveNonce @6 :Data;             # 24 bytes
}
