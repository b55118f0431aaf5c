@0xa3678b26cbcab6e7;
# Acceptor to controller.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");

struct FromAcceptor {
  union {
    none @0 :Void;
    incoming @1 :Incoming;
    refused @2 :Refused;
  }
}

struct Incoming {
  remote @0 :Data;                   # 18 bytes
  publicKey @1 :Data;                # 32 bytes
  deadlineNs @2 :UInt64;             # CLOCK_MONOTONIC
}

struct Refused {
  remote @0 :Data;
  reason @1 :UInt16;
  count @2 :UInt32;
}
