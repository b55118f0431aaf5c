@0xdaf1d6b3dab9fb96;
# What several channels share. Keys, ids and addresses are Data of an exact length; the codec checks it.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");

struct SlotRef {
  slot @0 :UInt32;
  generation @1 :UInt64;
}

struct Announcement {
  port @0 :UInt16;                   # 0: none
  chainName @1 :Text;
  distributedDbVersion @2 :UInt16;
  p2pVersion @3 :UInt16;
}

struct ConnectionMetadata {
  disableMempool @0 :Bool;
  privateNode @1 :Bool;
}

enum Direction {
  incoming @0;
  outgoing @1;
}

struct OptionalPeerId {
  union {
    none @0 :Void;
    some @1 :Data;                   # 16 bytes
  }
}

struct OptionalAddress {
  union {
    none @0 :Void;
    some @1 :Data;                   # 16 bytes: IPv6, or IPv4 mapped
  }
}

# A point is Data of 18 bytes: the address (IPv6, or IPv4 mapped), then the port, both in network order.
# Points are Data of n times 18 bytes.
