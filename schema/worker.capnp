@0x8c44b41628e9caf8;
# Controller and a connection's worker. The worker interprets a peer's bytes: what it sends is hostile.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");
using Types = import "types.capnp";

struct ToWorker {
  union {
    none @0 :Void;
    workerStart @1 :WorkerStart;
    ourMetadata @2 :OurMetadata;
    verdict @3 :Verdict;
    giveLink @4 :Void;
    applicationState @5 :ApplicationState;
    sendAdvertise @6 :SendAdvertise;
    sendBootstrap @7 :Void;
    close @8 :Close;
    workerPing @9 :WorkerPing;
    sendSwapRequest @10 :SendSwapRequest;
    sendSwapAck @11 :SendSwapAck;
  }
}

struct WorkerStart {
  direction @0 :Types.Direction;
  deadlineNs @1 :UInt64;
  ourMessage @2 :Data;
  discardWithoutApplication @3 :Bool;
  applicationGraceMs @4 :UInt32;
  privateMode @5 :Bool;
  disablePeerDiscovery @6 :Bool;
  receiverAttached @7 :Bool;
  senderAttached @8 :Bool;
}

struct OurMetadata {
  chunk @0 :Data;
}

enum VerdictKind {
  accept @0;
  nack @1;
  nackV0 @2;
  silence @3;
}

struct Verdict {
  kind @0 :VerdictKind;
  reason @1 :UInt16;
  motive @2 :Int16;
  points @3 :Data;                   # n * 18 bytes
  channelKey @4 :Data;               # 32 bytes
  sendNonce @5 :Data;                # 24 bytes
  receiveNonce @6 :Data;             # 24 bytes
}

struct ApplicationState {
  receiverAttached @0 :Bool;
  senderAttached @1 :Bool;
}

struct SendAdvertise {
  points @0 :Data;
}

struct Close {
  reason @0 :UInt16;
  flush @1 :Bool;
}

struct WorkerPing {
  number @0 :UInt64;
}

struct FromWorker {
  union {
    none @0 :Void;
    workerHello @1 :WorkerHello;
    workerProof @2 :WorkerProof;
    acked @3 :Void;
    nacked @4 :Nacked;
    link @5 :Void;
    bootstrapReceived @6 :Void;
    advertiseReceived @7 :AdvertiseReceived;
    swapRequestReceived @8 :SwapRequestReceived;
    swapAckReceived @9 :SwapAckReceived;
    closing @10 :Closing;
    workerPong @11 :WorkerPong;
  }
}

struct WorkerHello {
  message @0 :Data;
  announcement @1 :Types.Announcement;
}

struct WorkerProof {
  chunk @0 :Data;
}

struct Nacked {
  motive @0 :Int16;
  points @1 :Data;
}

struct AdvertiseReceived {
  points @0 :Data;
}

struct SendSwapRequest {
  point @0 :Data;                    # 18 bytes
  peerId @1 :Data;                   # 16 bytes
}

struct SendSwapAck {
  point @0 :Data;
  peerId @1 :Data;
}

struct SwapRequestReceived {
  point @0 :Data;                    # 18 bytes
  peerId @1 :Data;                   # 16 bytes
}

struct SwapAckReceived {
  point @0 :Data;
  peerId @1 :Data;
}

struct Closing {
  reason @0 :UInt16;
}

struct WorkerPong {
  number @0 :UInt64;
}
