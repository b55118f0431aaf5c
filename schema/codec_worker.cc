#include <schema/worker.capnp.h>

#include "schema/codec_fields.h"

namespace bulkhead::schema {
namespace {

void write(Writing& w, proto::WorkerStart::Builder out, const WorkerStart& value) {
  out.setDirection(static_cast<proto::Direction>(w.known(value.direction, Direction::kOutgoing)));
  out.setDeadlineNs(value.deadline_ns);
  out.setOurMessage(w.bytes(value.our_message, kMaximumConnectionMessage));
  out.setDiscardWithoutApplication(value.discard_without_application);
  out.setApplicationGraceMs(value.application_grace_ms);
  out.setPrivateMode(value.private_mode);
  out.setDisablePeerDiscovery(value.disable_peer_discovery);
  out.setReceiverAttached(value.receiver_attached);
  out.setSenderAttached(value.sender_attached);
}
void read(Reading& r, proto::WorkerStart::Reader in, WorkerStart& value) {
  value.direction = r.known(in.getDirection(), Direction::kOutgoing);
  value.deadline_ns = in.getDeadlineNs();
  value.our_message = r.bytes(in.getOurMessage(), kMaximumConnectionMessage);
  value.discard_without_application = in.getDiscardWithoutApplication();
  value.application_grace_ms = in.getApplicationGraceMs();
  value.private_mode = in.getPrivateMode();
  value.disable_peer_discovery = in.getDisablePeerDiscovery();
  value.receiver_attached = in.getReceiverAttached();
  value.sender_attached = in.getSenderAttached();
}

void write(Writing& w, proto::OurMetadata::Builder out, const OurMetadata& value) {
  out.setChunk(w.bytes(value.chunk, kMaximumChunk));
}
void read(Reading& r, proto::OurMetadata::Reader in, OurMetadata& value) {
  value.chunk = r.bytes(in.getChunk(), kMaximumChunk);
}

void write(Writing& w, proto::Verdict::Builder out, const Verdict& value) {
  out.setKind(static_cast<proto::VerdictKind>(w.known(value.kind, VerdictKind::kSilence)));
  out.setReason(w.reason(value.reason));
  out.setMotive(value.motive);
  w.points(out.initPoints(w.packed_size(value.points)), value.points);
  out.setChannelKey(w.whole(value.channel_key));
  out.setSendNonce(w.whole(value.send_nonce));
  out.setReceiveNonce(w.whole(value.receive_nonce));
}
void read(Reading& r, proto::Verdict::Reader in, Verdict& value) {
  value.kind = r.known(in.getKind(), VerdictKind::kSilence);
  value.reason = r.reason(in.getReason());
  value.motive = in.getMotive();
  value.points = r.points(in.getPoints());
  r.exact(in.getChannelKey(), value.channel_key);
  r.exact(in.getSendNonce(), value.send_nonce);
  r.exact(in.getReceiveNonce(), value.receive_nonce);
}

void write(Writing&, proto::ApplicationState::Builder out, const ApplicationState& value) {
  out.setReceiverAttached(value.receiver_attached);
  out.setSenderAttached(value.sender_attached);
}
void read(Reading&, proto::ApplicationState::Reader in, ApplicationState& value) {
  value.receiver_attached = in.getReceiverAttached();
  value.sender_attached = in.getSenderAttached();
}

void write(Writing& w, proto::SendAdvertise::Builder out, const SendAdvertise& value) {
  w.points(out.initPoints(w.packed_size(value.points)), value.points);
}
void read(Reading& r, proto::SendAdvertise::Reader in, SendAdvertise& value) {
  value.points = r.points(in.getPoints());
}

void write(Writing& w, proto::Close::Builder out, const Close& value) {
  out.setReason(w.reason(value.reason));
  out.setFlush(value.flush);
}
void read(Reading& r, proto::Close::Reader in, Close& value) {
  value.reason = r.reason(in.getReason());
  value.flush = in.getFlush();
}

void write(Writing&, proto::WorkerPing::Builder out, const WorkerPing& value) {
  out.setNumber(value.number);
}
void read(Reading&, proto::WorkerPing::Reader in, WorkerPing& value) {
  value.number = in.getNumber();
}

void write(Writing& w, proto::WorkerHello::Builder out, const WorkerHello& value) {
  out.setMessage(w.bytes(value.message, kMaximumConnectionMessage));
  write(w, out.initAnnouncement(), value.announcement);
}
void read(Reading& r, proto::WorkerHello::Reader in, WorkerHello& value) {
  value.message = r.bytes(in.getMessage(), kMaximumConnectionMessage);
  read(r, in.getAnnouncement(), value.announcement);
}

void write(Writing& w, proto::WorkerProof::Builder out, const WorkerProof& value) {
  out.setChunk(w.bytes(value.chunk, kMaximumChunk));
}
void read(Reading& r, proto::WorkerProof::Reader in, WorkerProof& value) {
  value.chunk = r.bytes(in.getChunk(), kMaximumChunk);
}

void write(Writing& w, proto::Nacked::Builder out, const Nacked& value) {
  out.setMotive(value.motive);
  w.points(out.initPoints(w.packed_size(value.points)), value.points);
}
void read(Reading& r, proto::Nacked::Reader in, Nacked& value) {
  value.motive = in.getMotive();
  value.points = r.points(in.getPoints());
}

void write(Writing& w, proto::AdvertiseReceived::Builder out, const AdvertiseReceived& value) {
  w.points(out.initPoints(w.packed_size(value.points)), value.points);
}
void read(Reading& r, proto::AdvertiseReceived::Reader in, AdvertiseReceived& value) {
  value.points = r.points(in.getPoints());
}

// What the four messages of a swap say.
template <typename Builder, typename Swap>
void write_swap(Writing& w, Builder out, const Swap& value) {
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setPeerId(w.whole(value.peer_id));
}
template <typename Reader, typename Swap>
void read_swap(Reading& r, Reader in, Swap& value) {
  value.point = r.point(in.getPoint());
  r.exact(in.getPeerId(), value.peer_id);
}

void write(Writing& w, proto::SwapRequestReceived::Builder out, const SwapRequestReceived& value) {
  write_swap(w, out, value);
}
void read(Reading& r, proto::SwapRequestReceived::Reader in, SwapRequestReceived& value) {
  read_swap(r, in, value);
}

void write(Writing& w, proto::SwapAckReceived::Builder out, const SwapAckReceived& value) {
  write_swap(w, out, value);
}
void read(Reading& r, proto::SwapAckReceived::Reader in, SwapAckReceived& value) {
  read_swap(r, in, value);
}

void write(Writing& w, proto::SendSwapRequest::Builder out, const SendSwapRequest& value) {
  write_swap(w, out, value);
}
void read(Reading& r, proto::SendSwapRequest::Reader in, SendSwapRequest& value) {
  read_swap(r, in, value);
}

void write(Writing& w, proto::SendSwapAck::Builder out, const SendSwapAck& value) {
  write_swap(w, out, value);
}
void read(Reading& r, proto::SendSwapAck::Reader in, SendSwapAck& value) {
  read_swap(r, in, value);
}

void write(Writing& w, proto::Closing::Builder out, const Closing& value) {
  out.setReason(w.reason(value.reason));
}
void read(Reading& r, proto::Closing::Reader in, Closing& value) {
  value.reason = r.reason(in.getReason());
}

void write(Writing&, proto::WorkerPong::Builder out, const WorkerPong& value) {
  out.setNumber(value.number);
}
void read(Reading&, proto::WorkerPong::Reader in, WorkerPong& value) {
  value.number = in.getNumber();
}

}  // namespace

#define BULKHEAD_TO_WORKER(FIELDS, EMPTY)     \
  FIELDS(WorkerStart, WORKER_START)           \
  FIELDS(OurMetadata, OUR_METADATA)           \
  FIELDS(Verdict, VERDICT)                    \
  EMPTY(GiveLink, GIVE_LINK)                  \
  FIELDS(ApplicationState, APPLICATION_STATE) \
  FIELDS(SendAdvertise, SEND_ADVERTISE)       \
  EMPTY(SendBootstrap, SEND_BOOTSTRAP)        \
  FIELDS(Close, CLOSE)                        \
  FIELDS(WorkerPing, WORKER_PING)             \
  FIELDS(SendSwapRequest, SEND_SWAP_REQUEST)  \
  FIELDS(SendSwapAck, SEND_SWAP_ACK)

#define BULKHEAD_FROM_WORKER(FIELDS, EMPTY)          \
  FIELDS(WorkerHello, WORKER_HELLO)                  \
  FIELDS(WorkerProof, WORKER_PROOF)                  \
  EMPTY(Acked, ACKED)                                \
  FIELDS(Nacked, NACKED)                             \
  EMPTY(Link, LINK)                                  \
  EMPTY(BootstrapReceived, BOOTSTRAP_RECEIVED)       \
  FIELDS(AdvertiseReceived, ADVERTISE_RECEIVED)      \
  FIELDS(SwapRequestReceived, SWAP_REQUEST_RECEIVED) \
  FIELDS(SwapAckReceived, SWAP_ACK_RECEIVED)         \
  FIELDS(Closing, CLOSING)                           \
  FIELDS(WorkerPong, WORKER_PONG)

BULKHEAD_CODEC(ToWorker, BULKHEAD_TO_WORKER)
BULKHEAD_CODEC(FromWorker, BULKHEAD_FROM_WORKER)

}  // namespace bulkhead::schema
