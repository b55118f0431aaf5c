#include <schema/application.capnp.h>
#include <schema/control.capnp.h>

#include "schema/codec_fields.h"

namespace bulkhead::schema {
namespace {

void write(Writing&, proto::Attach::Builder out, const Attach& value) {
  out.setVersion(value.version);
  out.setReceive(value.receive);
  out.setSend(value.send);
}
void read(Reading&, proto::Attach::Reader in, Attach& value) {
  value.version = in.getVersion();
  value.receive = in.getReceive();
  value.send = in.getSend();
}

void write(Writing& w, proto::AppDisconnect::Builder out, const AppDisconnect& value) {
  write(w, out.initSlot(), value.slot);
  out.setFlush(value.flush);
}
void read(Reading& r, proto::AppDisconnect::Reader in, AppDisconnect& value) {
  read(r, in.getSlot(), value.slot);
  value.flush = in.getFlush();
}

void write(Writing& w, proto::Attached::Builder out, const Attached& value) {
  out.setOwnPeerId(w.whole(value.own_peer_id));
  out.setSlots(value.slots);
  out.setInwardCapacity(value.inward_capacity);
  out.setOutwardCapacity(value.outward_capacity);
}
void read(Reading& r, proto::Attached::Reader in, Attached& value) {
  r.exact(in.getOwnPeerId(), value.own_peer_id);
  value.slots = in.getSlots();
  value.inward_capacity = in.getInwardCapacity();
  value.outward_capacity = in.getOutwardCapacity();
}

void write(Writing& w, proto::AttachRefused::Builder out, const AttachRefused& value) {
  out.setText(w.text(value.text, kMaximumText));
  out.setHolderPid(value.holder_pid);
}
void read(Reading& r, proto::AttachRefused::Reader in, AttachRefused& value) {
  value.text = r.text(in.getText(), kMaximumText);
  value.holder_pid = in.getHolderPid();
}

void write(Writing& w, proto::AppConnected::Builder out, const AppConnected& value) {
  write(w, out.initSlot(), value.slot);
  out.setPeerId(w.whole(value.peer_id));
  out.setDirection(static_cast<proto::Direction>(w.known(value.direction, Direction::kOutgoing)));
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setRemotePort(value.remote_port);
  write(w, out.initAnnouncement(), value.announcement);
  write(w, out.initMetadata(), value.metadata);
}
void read(Reading& r, proto::AppConnected::Reader in, AppConnected& value) {
  read(r, in.getSlot(), value.slot);
  r.exact(in.getPeerId(), value.peer_id);
  value.direction = r.known(in.getDirection(), Direction::kOutgoing);
  value.point = r.point(in.getPoint());
  value.remote_port = in.getRemotePort();
  read(r, in.getAnnouncement(), value.announcement);
  read(r, in.getMetadata(), value.metadata);
}

void write(Writing& w, proto::AppDisconnected::Builder out, const AppDisconnected& value) {
  write(w, out.initSlot(), value.slot);
  out.setPeerId(w.whole(value.peer_id));
  out.setReason(w.reason(value.reason));
}
void read(Reading& r, proto::AppDisconnected::Reader in, AppDisconnected& value) {
  read(r, in.getSlot(), value.slot);
  r.exact(in.getPeerId(), value.peer_id);
  value.reason = r.reason(in.getReason());
}

void write(Writing& w, proto::ControlConnect::Builder out, const ControlConnect& value) {
  w.point(out.initPoint(kPackedPoint), value.point);
  out.setTimeoutMs(value.timeout_ms);
}
void read(Reading& r, proto::ControlConnect::Reader in, ControlConnect& value) {
  value.point = r.point(in.getPoint());
  value.timeout_ms = in.getTimeoutMs();
}

void write(Writing& w, proto::ControlKick::Builder out, const ControlKick& value) {
  out.setPeerId(w.whole(value.peer_id));
}
void read(Reading& r, proto::ControlKick::Reader in, ControlKick& value) {
  r.exact(in.getPeerId(), value.peer_id);
}

void write(Writing& w, proto::ControlAnswer::Builder out, const ControlAnswer& value) {
  out.setOk(value.ok);
  out.setText(w.text(value.text, kMaximumText));
  out.setBans(value.bans);
  out.setGreylistings(value.greylistings);
  out.setEntries(value.entries);
}
void write(Writing& w, proto::AppGreylistAddress::Builder out, const AppGreylistAddress& value) {
  out.setAddress(w.whole(value.address.bytes));
}
void read(Reading& r, proto::AppGreylistAddress::Reader in, AppGreylistAddress& value) {
  r.exact(in.getAddress(), value.address.bytes);
}

void write(Writing& w, proto::AppGreylistPeer::Builder out, const AppGreylistPeer& value) {
  out.setPeerId(w.whole(value.peer_id));
}
void read(Reading& r, proto::AppGreylistPeer::Reader in, AppGreylistPeer& value) {
  r.exact(in.getPeerId(), value.peer_id);
}

void write(Writing& w, proto::AppScore::Builder out, const AppScore& value) {
  out.setPeerId(w.whole(value.peer_id));
  out.setScore(w.finite(value.score));
}
void read(Reading& r, proto::AppScore::Reader in, AppScore& value) {
  r.exact(in.getPeerId(), value.peer_id);
  value.score = r.finite(in.getScore());
}

void write(Writing& w, proto::AclSubject::Builder out, const AclSubject& value) {
  write(w, out.initPeerId(), value.peer_id);
  out.setAddress(w.whole(w.canonical(value.prefix).address.bytes));
  out.setLength(value.prefix.length);
}
void read(Reading& r, proto::AclSubject::Reader in, AclSubject& value) {
  read(r, in.getPeerId(), value.peer_id);
  r.exact(in.getAddress(), value.prefix.address.bytes);
  value.prefix.length = in.getLength();
  if (!is_canonical(value.prefix)) r.fail("a prefix that is none");
}

void write(Writing& w, proto::ControlBan::Builder out, const ControlBan& value) {
  write(w, out.initSubject(), value.subject);
  out.setDurationS(value.duration_s);
  out.setText(w.text(value.text, kMaximumAclText));
}
void read(Reading& r, proto::ControlBan::Reader in, ControlBan& value) {
  read(r, in.getSubject(), value.subject);
  value.duration_s = in.getDurationS();
  value.text = r.text(in.getText(), kMaximumAclText);
}

void write(Writing& w, proto::ControlUnban::Builder out, const ControlUnban& value) {
  write(w, out.initSubject(), value.subject);
}
void read(Reading& r, proto::ControlUnban::Reader in, ControlUnban& value) {
  read(r, in.getSubject(), value.subject);
}

void write(Writing& w, proto::ControlTrust::Builder out, const ControlTrust& value) {
  write(w, out.initSubject(), value.subject);
  out.setPort(value.port);
  out.setDurationS(value.duration_s);
  out.setText(w.text(value.text, kMaximumAclText));
}
void read(Reading& r, proto::ControlTrust::Reader in, ControlTrust& value) {
  read(r, in.getSubject(), value.subject);
  value.port = in.getPort();
  value.duration_s = in.getDurationS();
  value.text = r.text(in.getText(), kMaximumAclText);
}

void write(Writing& w, proto::ControlUntrust::Builder out, const ControlUntrust& value) {
  write(w, out.initSubject(), value.subject);
}
void read(Reading& r, proto::ControlUntrust::Reader in, ControlUntrust& value) {
  read(r, in.getSubject(), value.subject);
}

void write(Writing& w, proto::ControlImport::Builder out, const ControlImport& value) {
  out.setEntries(w.between(value.entries, 1, kMaximumImport));
}
void read(Reading& r, proto::ControlImport::Reader in, ControlImport& value) {
  value.entries = r.between(in.getEntries(), 1, kMaximumImport);
}

void read(Reading& r, proto::ControlAnswer::Reader in, ControlAnswer& value) {
  value.ok = in.getOk();
  value.text = r.text(in.getText(), kMaximumText);
  value.bans = in.getBans();
  value.greylistings = in.getGreylistings();
  value.entries = in.getEntries();
}

}  // namespace

#define BULKHEAD_FROM_APPLICATION(FIELDS, EMPTY)   \
  FIELDS(Attach, ATTACH)                           \
  FIELDS(AppDisconnect, APP_DISCONNECT)            \
  FIELDS(AppGreylistAddress, APP_GREYLIST_ADDRESS) \
  FIELDS(AppGreylistPeer, APP_GREYLIST_PEER)       \
  FIELDS(AppScore, APP_SCORE)                      \
  EMPTY(AppMaintain, APP_MAINTAIN)

#define BULKHEAD_TO_APPLICATION(FIELDS, EMPTY) \
  FIELDS(Attached, ATTACHED)                   \
  FIELDS(AttachRefused, ATTACH_REFUSED)        \
  FIELDS(AppConnected, APP_CONNECTED)          \
  FIELDS(AppDisconnected, APP_DISCONNECTED)

#define BULKHEAD_CONTROL_REQUEST(FIELDS, EMPTY)       \
  FIELDS(ControlConnect, CONTROL_CONNECT)             \
  FIELDS(ControlKick, CONTROL_KICK)                   \
  EMPTY(ControlMaintain, CONTROL_MAINTAIN)            \
  FIELDS(ControlBan, CONTROL_BAN)                     \
  FIELDS(ControlUnban, CONTROL_UNBAN)                 \
  FIELDS(ControlTrust, CONTROL_TRUST)                 \
  FIELDS(ControlUntrust, CONTROL_UNTRUST)             \
  EMPTY(ControlClearAcls, CONTROL_CLEAR_ACLS)         \
  EMPTY(ControlClearGreylist, CONTROL_CLEAR_GREYLIST) \
  FIELDS(ControlImport, CONTROL_IMPORT)

#define BULKHEAD_CONTROL_RESPONSE(FIELDS, EMPTY) FIELDS(ControlAnswer, CONTROL_ANSWER)

BULKHEAD_CODEC(FromApplication, BULKHEAD_FROM_APPLICATION)
BULKHEAD_CODEC(ToApplication, BULKHEAD_TO_APPLICATION)
BULKHEAD_CODEC(ControlRequest, BULKHEAD_CONTROL_REQUEST)
BULKHEAD_CODEC(ControlResponse, BULKHEAD_CONTROL_RESPONSE)

}  // namespace bulkhead::schema
