@0xf6d59adbbd1a719b;
# Controller and nursery.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("bulkhead::schema::proto");
using Types = import "types.capnp";

struct ToNursery {
  union {
    none @0 :Void;
    spawn @1 :Spawn;
    endWorker @2 :EndWorker;
  }
}

struct Spawn {
  slot @0 :Types.SlotRef;
}

struct EndWorker {
  slot @0 :Types.SlotRef;
}

struct FromNursery {
  union {
    none @0 :Void;
    spawned @1 :Spawned;
    spawnFailed @2 :SpawnFailed;
    exited @3 :Exited;
  }
}

struct Spawned {
  slot @0 :Types.SlotRef;
  pid @1 :UInt32;
}

struct SpawnFailed {
  slot @0 :Types.SlotRef;
  errorNumber @1 :UInt32;
}

struct Exited {
  slot @0 :Types.SlotRef;
  pid @1 :UInt32;
  waitStatus @2 :UInt32;
}
