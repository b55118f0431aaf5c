#include <schema/acceptor.capnp.h>
#include <schema/keyholder.capnp.h>
#include <schema/maintainer.capnp.h>
#include <schema/nursery.capnp.h>

#include "schema/codec_fields.h"

namespace bulkhead::schema {
namespace {

// ---- keyholder

void write(Writing& w, proto::KeyBegin::Builder out, const KeyBegin& value) {
  write(w, out.initSlot(), value.slot);
  out.setDirection(static_cast<proto::Direction>(w.known(value.direction, Direction::kOutgoing)));
}
void read(Reading& r, proto::KeyBegin::Reader in, KeyBegin& value) {
  read(r, in.getSlot(), value.slot);
  value.direction = r.known(in.getDirection(), Direction::kOutgoing);
}

void write(Writing& w, proto::KeyHello::Builder out, const KeyHello& value) {
  write(w, out.initSlot(), value.slot);
  out.setMessage(w.bytes(value.message, kMaximumConnectionMessage));
}
void read(Reading& r, proto::KeyHello::Reader in, KeyHello& value) {
  read(r, in.getSlot(), value.slot);
  value.message = r.bytes(in.getMessage(), kMaximumConnectionMessage);
}

void write(Writing& w, proto::KeyProof::Builder out, const KeyProof& value) {
  write(w, out.initSlot(), value.slot);
  out.setChunk(w.bytes(value.chunk, kMaximumChunk));
}
void read(Reading& r, proto::KeyProof::Reader in, KeyProof& value) {
  read(r, in.getSlot(), value.slot);
  value.chunk = r.bytes(in.getChunk(), kMaximumChunk);
}

void write(Writing& w, proto::KeyBegun::Builder out, const KeyBegun& value) {
  write(w, out.initSlot(), value.slot);
  out.setMessage(w.bytes(value.message, kMaximumConnectionMessage));
}
void read(Reading& r, proto::KeyBegun::Reader in, KeyBegun& value) {
  read(r, in.getSlot(), value.slot);
  value.message = r.bytes(in.getMessage(), kMaximumConnectionMessage);
}

void write(Writing& w, proto::KeyHelloDone::Builder out, const KeyHelloDone& value) {
  write(w, out.initSlot(), value.slot);
  out.setFailure(w.reason(value.failure));
  out.setChunk(w.bytes(value.chunk, kMaximumChunk));
}
void read(Reading& r, proto::KeyHelloDone::Reader in, KeyHelloDone& value) {
  read(r, in.getSlot(), value.slot);
  value.failure = r.reason(in.getFailure());
  value.chunk = r.bytes(in.getChunk(), kMaximumChunk);
}

void write(Writing& w, proto::KeyProofDone::Builder out, const KeyProofDone& value) {
  write(w, out.initSlot(), value.slot);
  out.setFailure(w.reason(value.failure));
  out.setPeerId(w.whole(value.peer_id));
  write(w, out.initMetadata(), value.metadata);
  out.setChannelKey(w.whole(value.channel_key));
  out.setSendNonce(w.whole(value.send_nonce));
  out.setReceiveNonce(w.whole(value.receive_nonce));
}
void read(Reading& r, proto::KeyProofDone::Reader in, KeyProofDone& value) {
  read(r, in.getSlot(), value.slot);
  value.failure = r.reason(in.getFailure());
  r.exact(in.getPeerId(), value.peer_id);
  read(r, in.getMetadata(), value.metadata);
  r.exact(in.getChannelKey(), value.channel_key);
  r.exact(in.getSendNonce(), value.send_nonce);
  r.exact(in.getReceiveNonce(), value.receive_nonce);
}

// ---- acceptor

void write(Writing& w, proto::Incoming::Builder out, const Incoming& value) {
  w.point(out.initRemote(kPackedPoint), value.remote);
  out.setPublicKey(w.whole(value.public_key));
  out.setDeadlineNs(value.deadline_ns);
}
void read(Reading& r, proto::Incoming::Reader in, Incoming& value) {
  value.remote = r.point(in.getRemote());
  r.exact(in.getPublicKey(), value.public_key);
  value.deadline_ns = in.getDeadlineNs();
}

void write(Writing& w, proto::Refused::Builder out, const Refused& value) {
  w.point(out.initRemote(kPackedPoint), value.remote);
  out.setReason(w.reason(value.reason));
  out.setCount(value.count);
}
void read(Reading& r, proto::Refused::Reader in, Refused& value) {
  value.remote = r.point(in.getRemote());
  value.reason = r.reason(in.getReason());
  value.count = in.getCount();
}

// ---- maintainer

void write(Writing& w, proto::KnownPoint::Builder out, const KnownPoint& value) {
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setTrusted(value.trusted);
  write(w, out.initExpectedPeerId(), value.expected_peer_id);
}
void read(Reading& r, proto::KnownPoint::Reader in, KnownPoint& value) {
  value.point = r.point(in.getPoint());
  value.trusted = in.getTrusted();
  read(r, in.getExpectedPeerId(), value.expected_peer_id);
}

void write(Writing& w, proto::Discovered::Builder out, const Discovered& value) {
  w.point(out.initPoint(kPackedPoint), value.point);
}
void read(Reading& r, proto::Discovered::Reader in, Discovered& value) {
  value.point = r.point(in.getPoint());
}

void write(Writing& w, proto::Requested::Builder out, const Requested& value) {
  out.setId(value.id);
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setDeadlineNs(value.deadline_ns);
  out.setFeeler(value.feeler);
}
void read(Reading& r, proto::Requested::Reader in, Requested& value) {
  value.id = in.getId();
  value.point = r.point(in.getPoint());
  value.deadline_ns = in.getDeadlineNs();
  value.feeler = in.getFeeler();
}

void write(Writing& w, proto::Dialled::Builder out, const Dialled& value) {
  out.setId(value.id);
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setDeadlineNs(value.deadline_ns);
}
void read(Reading& r, proto::Dialled::Reader in, Dialled& value) {
  value.id = in.getId();
  value.point = r.point(in.getPoint());
  value.deadline_ns = in.getDeadlineNs();
}

void write(Writing& w, proto::DialFailed::Builder out, const DialFailed& value) {
  out.setId(value.id);
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setReason(w.reason(value.reason));
}
void read(Reading& r, proto::DialFailed::Reader in, DialFailed& value) {
  value.id = in.getId();
  value.point = r.point(in.getPoint());
  value.reason = r.reason(in.getReason());
}

void write(Writing& w, proto::Disconnect::Builder out, const Disconnect& value) {
  write(w, out.initSlot(), value.slot);
  out.setReason(w.reason(value.reason));
}
void read(Reading& r, proto::Disconnect::Reader in, Disconnect& value) {
  read(r, in.getSlot(), value.slot);
  value.reason = r.reason(in.getReason());
}

void write(Writing&, proto::Maintained::Builder out, const Maintained& value) {
  out.setId(value.id);
}
void read(Reading&, proto::Maintained::Reader in, Maintained& value) {
  value.id = in.getId();
}

void write(Writing& w, proto::Dial::Builder out, const Dial& value) {
  out.setId(value.id);
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setTimeoutMs(value.timeout_ms);
}
void read(Reading& r, proto::Dial::Reader in, Dial& value) {
  value.id = in.getId();
  value.point = r.point(in.getPoint());
  value.timeout_ms = in.getTimeoutMs();
}

void write(Writing&, proto::DialCancelled::Builder out, const DialCancelled& value) {
  out.setId(value.id);
}
void read(Reading&, proto::DialCancelled::Reader in, DialCancelled& value) {
  value.id = in.getId();
}

void write(Writing&, proto::Maintain::Builder out, const Maintain& value) {
  out.setId(value.id);
}
void read(Reading&, proto::Maintain::Reader in, Maintain& value) {
  value.id = in.getId();
}

// ---- nursery

void write(Writing& w, proto::Spawn::Builder out, const Spawn& value) {
  write(w, out.initSlot(), value.slot);
}
void read(Reading& r, proto::Spawn::Reader in, Spawn& value) {
  read(r, in.getSlot(), value.slot);
}

void write(Writing& w, proto::EndWorker::Builder out, const EndWorker& value) {
  write(w, out.initSlot(), value.slot);
}
void read(Reading& r, proto::EndWorker::Reader in, EndWorker& value) {
  read(r, in.getSlot(), value.slot);
}

void write(Writing& w, proto::Spawned::Builder out, const Spawned& value) {
  write(w, out.initSlot(), value.slot);
  out.setPid(value.pid);
}
void read(Reading& r, proto::Spawned::Reader in, Spawned& value) {
  read(r, in.getSlot(), value.slot);
  value.pid = in.getPid();
}

void write(Writing& w, proto::SpawnFailed::Builder out, const SpawnFailed& value) {
  write(w, out.initSlot(), value.slot);
  out.setErrorNumber(value.error_number);
}
void read(Reading& r, proto::SpawnFailed::Reader in, SpawnFailed& value) {
  read(r, in.getSlot(), value.slot);
  value.error_number = in.getErrorNumber();
}

void write(Writing& w, proto::Exited::Builder out, const Exited& value) {
  write(w, out.initSlot(), value.slot);
  out.setPid(value.pid);
  out.setWaitStatus(value.wait_status);
}
void read(Reading& r, proto::Exited::Reader in, Exited& value) {
  read(r, in.getSlot(), value.slot);
  value.pid = in.getPid();
  value.wait_status = in.getWaitStatus();
}

}  // namespace

#define BULKHEAD_TO_KEYHOLDER(FIELDS, EMPTY) \
  FIELDS(KeyBegin, KEY_BEGIN)                \
  FIELDS(KeyHello, KEY_HELLO)                \
  FIELDS(KeyProof, KEY_PROOF)

#define BULKHEAD_FROM_KEYHOLDER(FIELDS, EMPTY) \
  FIELDS(KeyBegun, KEY_BEGUN)                  \
  FIELDS(KeyHelloDone, KEY_HELLO_DONE)         \
  FIELDS(KeyProofDone, KEY_PROOF_DONE)

#define BULKHEAD_FROM_ACCEPTOR(FIELDS, EMPTY) \
  FIELDS(Incoming, INCOMING)                  \
  FIELDS(Refused, REFUSED)

#define BULKHEAD_FROM_MAINTAINER(FIELDS, EMPTY) \
  FIELDS(KnownPoint, KNOWN_POINT)               \
  FIELDS(Requested, REQUESTED)                  \
  FIELDS(Dialled, DIALLED)                      \
  FIELDS(DialFailed, DIAL_FAILED)               \
  EMPTY(AskForPeers, ASK_FOR_PEERS)             \
  FIELDS(Disconnect, DISCONNECT)                \
  EMPTY(ProposeSwap, PROPOSE_SWAP)              \
  FIELDS(Maintained, MAINTAINED)                \
  FIELDS(Discovered, DISCOVERED)

#define BULKHEAD_TO_MAINTAINER(FIELDS, EMPTY) \
  FIELDS(Dial, DIAL)                          \
  EMPTY(Wake, WAKE)                           \
  FIELDS(DialCancelled, DIAL_CANCELLED)       \
  FIELDS(Maintain, MAINTAIN)

#define BULKHEAD_TO_NURSERY(FIELDS, EMPTY) \
  FIELDS(Spawn, SPAWN)                     \
  FIELDS(EndWorker, END_WORKER)

#define BULKHEAD_FROM_NURSERY(FIELDS, EMPTY) \
  FIELDS(Spawned, SPAWNED)                   \
  FIELDS(SpawnFailed, SPAWN_FAILED)          \
  FIELDS(Exited, EXITED)

BULKHEAD_CODEC(ToKeyholder, BULKHEAD_TO_KEYHOLDER)
BULKHEAD_CODEC(FromKeyholder, BULKHEAD_FROM_KEYHOLDER)
BULKHEAD_CODEC(FromAcceptor, BULKHEAD_FROM_ACCEPTOR)
BULKHEAD_CODEC(FromMaintainer, BULKHEAD_FROM_MAINTAINER)
BULKHEAD_CODEC(ToMaintainer, BULKHEAD_TO_MAINTAINER)
BULKHEAD_CODEC(ToNursery, BULKHEAD_TO_NURSERY)
BULKHEAD_CODEC(FromNursery, BULKHEAD_FROM_NURSERY)

}  // namespace bulkhead::schema
