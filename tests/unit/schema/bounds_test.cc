#include <capnp/message.h>
#include <capnp/serialize.h>
#include <schema/acceptor.capnp.h>
#include <schema/application.capnp.h>
#include <schema/control.capnp.h>
#include <schema/keyholder.capnp.h>
#include <schema/maintainer.capnp.h>
#include <schema/nursery.capnp.h>
#include <schema/supervision.capnp.h>
#include <schema/worker.capnp.h>

#include <cstring>
#include <limits>

#include "tests/unit/schema/samples.h"

namespace bulkhead::schema::test {
namespace {

/// The codec's message for `Sample`'s variant, changed by somebody who keeps to Cap'n Proto but not to the bounds.
template <typename Root, typename Message, typename Change>
Result<Message> decode_changed(const Message& message, Change change) {
  const Words words = encoded(message);
  const kj::ArrayPtr<const capnp::word> source(reinterpret_cast<const capnp::word*>(words.data()), words.size());
  capnp::FlatArrayMessageReader reader(source);
  capnp::MallocMessageBuilder builder(kMaximumPacket / sizeof(capnp::word));
  builder.setRoot(reader.getRoot<Root>());
  change(builder.getRoot<Root>());
  const kj::Array<capnp::word> flat = capnp::messageToFlatArray(builder);
  Words changed(flat.size());
  std::memcpy(changed.data(), flat.begin(), flat.asBytes().size());
  return decode<Message>(changed);
}

template <typename Message>
void expect_fault(const Result<Message>& result, const char* what, const char* fault) {
  ASSERT_FALSE(result.ok()) << what << " was taken";
  EXPECT_EQ(result.error().code, ErrorCode::kBroken) << what;
  EXPECT_EQ(result.error().text, fault) << what;
}

kj::Array<kj::byte> bytes(std::size_t size) {
  auto value = kj::heapArray<kj::byte>(size);
  std::memset(value.begin(), 'x', size);
  return value;
}
std::string text(std::size_t size) {
  return std::string(size, 'x');
}

// `setter` is applied to the member `getter` of a message of `Member`, once with the limit and once with one more.
#define EXPECT_LIMIT(Variant, Member, setter, make, limit)                                            \
  do {                                                                                                \
    auto with = [](std::size_t size) {                                                                \
      return decode_changed<proto::Variant>(Variant(Member{}), [size](proto::Variant::Builder root) { \
        const auto value = make(size);                                                                \
        root.get##Member().setter;                                                                    \
      });                                                                                             \
    };                                                                                                \
    EXPECT_TRUE(with(limit).ok()) << #Member "." #setter;                                             \
    expect_fault(with((limit) + 1), #Member "." #setter, "a field longer than its limit");            \
  } while (false)

#define EXPECT_EXACT(Variant, Member, setter, size_wanted, fault)                                     \
  do {                                                                                                \
    auto with = [](std::size_t size) {                                                                \
      return decode_changed<proto::Variant>(Variant(Member{}), [size](proto::Variant::Builder root) { \
        const auto value = bytes(size);                                                               \
        root.get##Member().setter;                                                                    \
      });                                                                                             \
    };                                                                                                \
    EXPECT_TRUE(with(size_wanted).ok()) << #Member "." #setter;                                       \
    expect_fault(with((size_wanted) + 1), #Member "." #setter, fault);                                \
    expect_fault(with((size_wanted)-1), #Member "." #setter, fault);                                  \
    expect_fault(with(0), #Member "." #setter, fault);                                                \
  } while (false)

#define EXPECT_KEY(Variant, Member, setter, size) \
  EXPECT_EXACT(Variant, Member, setter, size, "a key or id of another length")
#define EXPECT_POINT(Variant, Member, setter) EXPECT_EXACT(Variant, Member, setter, 18, "a point of another length")

// 100 points are taken, 101 are too many, and a part of a point is none.
#define EXPECT_POINTS(Variant, Member, setter)                                                           \
  do {                                                                                                   \
    auto with = [](std::size_t size) {                                                                   \
      return decode_changed<proto::Variant>(Variant(Member{}), [size](proto::Variant::Builder root) {    \
        const auto value = bytes(size);                                                                  \
        root.get##Member().setter;                                                                       \
      });                                                                                                \
    };                                                                                                   \
    EXPECT_TRUE(with(18 * kMaximumPoints).ok()) << #Member "." #setter;                                  \
    expect_fault(with(18 * (kMaximumPoints + 1)), #Member "." #setter, "a field longer than its limit"); \
    expect_fault(with(18 * kMaximumPoints - 1), #Member "." #setter, "points of another length");        \
  } while (false)

#define EXPECT_REASON(Variant, Member, setter)                                                                     \
  do {                                                                                                             \
    auto with = [](std::uint16_t value) {                                                                          \
      return decode_changed<proto::Variant>(Variant(Member{}),                                                     \
                                            [value](proto::Variant::Builder root) { root.get##Member().setter; }); \
    };                                                                                                             \
    EXPECT_TRUE(with(kReasonCount - 1).ok()) << #Member;                                                           \
    expect_fault(with(kReasonCount), #Member, "an unknown reason");                                                \
    expect_fault(with(0xffff), #Member, "an unknown reason");                                                      \
  } while (false)

#define EXPECT_FINITE(Variant, Member, setter)                                                                    \
  do {                                                                                                            \
    for (const double value : {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), \
                               std::numeric_limits<double>::quiet_NaN()}) {                                       \
      expect_fault(decode_changed<proto::Variant>(                                                                \
                       Variant(Member{}), [value](proto::Variant::Builder root) { root.get##Member().setter; }),  \
                   #Member "." #setter, "a number that is not finite");                                           \
    }                                                                                                             \
  } while (false)

#define EXPECT_RANGE(Variant, Member, Type, setter, good, bad, fault)                                              \
  do {                                                                                                             \
    auto with = [](Type value) {                                                                                   \
      return decode_changed<proto::Variant>(Variant(Member{}),                                                     \
                                            [value](proto::Variant::Builder root) { root.get##Member().setter; }); \
    };                                                                                                             \
    EXPECT_TRUE(with(good).ok()) << #Member "." #setter;                                                           \
    expect_fault(with(bad), #Member "." #setter, fault);                                                           \
  } while (false)

template <typename Enum>
Enum enumerator(std::uint16_t value) {
  return static_cast<Enum>(value);
}

TEST(DecodeBounds, HoldForTheSupervisorsMessages) {
  EXPECT_LIMIT(FromSupervisor, BootController, setChainName(value), text, kMaximumChainName);
  EXPECT_LIMIT(FromSupervisor, BootController, initDistributedDbVersions(static_cast<unsigned>(value)), std::size_t,
               kMaximumVersions);
  EXPECT_LIMIT(FromSupervisor, BootController, initP2pVersions(static_cast<unsigned>(value)), std::size_t,
               kMaximumVersions);
  EXPECT_POINTS(FromSupervisor, BootController, setOwnPoints(value));
  EXPECT_KEY(FromSupervisor, BootController, setOwnPeerId(value), 16);
  EXPECT_KEY(FromSupervisor, BootController, setOwnPublicKey(value), 32);
  EXPECT_FINITE(FromSupervisor, BootController, getReconnection().setFactor(value));
  EXPECT_FINITE(FromSupervisor, BootController, getReconnection().setInitialDelayS(value));
  EXPECT_FINITE(FromSupervisor, BootController, getReconnection().setDisconnectionDelayS(value));
  EXPECT_FINITE(FromSupervisor, BootController, getReconnection().setIncreaseCapS(value));
  EXPECT_FINITE(FromSupervisor, BootController, setSwapLingerS(value));
  EXPECT_RANGE(FromSupervisor, BootController, std::uint32_t, getCommon().setSandbox(value), 2, 3,
               "a number out of range");
  EXPECT_RANGE(FromSupervisor, BootController, std::uint32_t, setKnownPeers(value), kMaximumKnownPeers,
               kMaximumKnownPeers + 1, "a number out of range");
  EXPECT_RANGE(FromSupervisor, BootController, std::uint32_t, setKnownPeerEvents(value), kMaximumKnownPeerEvents,
               kMaximumKnownPeerEvents + 1, "a number out of range");

  EXPECT_LIMIT(FromSupervisor, BootKeyholder, getAnnouncement().setChainName(value), text, kMaximumChainName);
  EXPECT_LIMIT(FromSupervisor, BootKeyholder, setIdentityPath(value), text, kMaximumPath);
  EXPECT_FINITE(FromSupervisor, BootKeyholder, setExpectedPow(value));

  EXPECT_FINITE(FromSupervisor, BootAcceptor, setExpectedPow(value));
  EXPECT_FINITE(FromSupervisor, BootAcceptor, getDoor().setAcceptRateAddress(value));
  EXPECT_FINITE(FromSupervisor, BootAcceptor, getDoor().setAcceptRatePrefix(value));
  EXPECT_RANGE(FromSupervisor, BootAcceptor, std::uint32_t, setListeners(value), kMaximumListeners,
               kMaximumListeners + 1, "a number out of range");
  EXPECT_RANGE(FromSupervisor, BootAcceptor, std::uint32_t, setListeners(value), 1, 0, "a number out of range");

  EXPECT_LIMIT(FromSupervisor, BootMaintainer, initPeers(static_cast<unsigned>(value)), std::size_t,
               kMaximumConfiguredPeers);
  EXPECT_LIMIT(FromSupervisor, BootMaintainer, initPeers(2)[1].setHost(value), text, kMaximumHost);
  EXPECT_KEY(FromSupervisor, BootMaintainer, initPeers(2)[1].initExpectedPeerId().setSome(value), 16);
  EXPECT_KEY(FromSupervisor, BootMaintainer, initSourceAddress().setSome(value), 16);
  EXPECT_POINTS(FromSupervisor, BootMaintainer, setOwnPoints(value));
  EXPECT_KEY(FromSupervisor, BootMaintainer, setOwnPeerId(value), 16);
  EXPECT_POINT(FromSupervisor, BootMaintainer, setDiscovery(value));
  EXPECT_POINTS(FromSupervisor, BootMaintainer, setNameServers(value));
  EXPECT_FINITE(FromSupervisor, BootMaintainer, setMaintenanceIdleTimeS(value));

  EXPECT_RANGE(FromSupervisor, ServiceChannel, std::uint8_t, setRole(value), 7, 8, "an unknown enumerator");
}

TEST(DecodeBounds, HoldForTheMessagesToTheSupervisor) {
  EXPECT_KEY(ToSupervisor, Ready, setPeerId(value), 16);
  EXPECT_KEY(ToSupervisor, Ready, setPublicKey(value), 32);
  EXPECT_LIMIT(ToSupervisor, Failed, setText(value), text, kMaximumText);
}

TEST(DecodeBounds, HoldForTheKeyholder) {
  EXPECT_RANGE(ToKeyholder, KeyBegin, std::uint16_t, setDirection(enumerator<proto::Direction>(value)), 1, 2,
               "an unknown enumerator");
  EXPECT_LIMIT(ToKeyholder, KeyHello, setMessage(value), bytes, kMaximumConnectionMessage);
  EXPECT_LIMIT(ToKeyholder, KeyProof, setChunk(value), bytes, kMaximumChunk);

  EXPECT_LIMIT(FromKeyholder, KeyBegun, setMessage(value), bytes, kMaximumConnectionMessage);
  EXPECT_LIMIT(FromKeyholder, KeyHelloDone, setChunk(value), bytes, kMaximumChunk);
  EXPECT_REASON(FromKeyholder, KeyHelloDone, setFailure(value));
  EXPECT_REASON(FromKeyholder, KeyProofDone, setFailure(value));
  EXPECT_KEY(FromKeyholder, KeyProofDone, setPeerId(value), 16);
  EXPECT_KEY(FromKeyholder, KeyProofDone, setChannelKey(value), 32);
  EXPECT_KEY(FromKeyholder, KeyProofDone, setSendNonce(value), 24);
  EXPECT_KEY(FromKeyholder, KeyProofDone, setReceiveNonce(value), 24);
}

TEST(DecodeBounds, HoldForTheAcceptor) {
  EXPECT_POINT(FromAcceptor, Incoming, setRemote(value));
  EXPECT_KEY(FromAcceptor, Incoming, setPublicKey(value), 32);
  EXPECT_POINT(FromAcceptor, Refused, setRemote(value));
  EXPECT_REASON(FromAcceptor, Refused, setReason(value));
}

TEST(DecodeBounds, HoldForTheMaintainer) {
  EXPECT_POINT(FromMaintainer, KnownPoint, setPoint(value));
  EXPECT_KEY(FromMaintainer, KnownPoint, getExpectedPeerId().setSome(value), 16);
  EXPECT_POINT(FromMaintainer, Discovered, setPoint(value));
  EXPECT_POINT(FromMaintainer, Requested, setPoint(value));
  EXPECT_POINT(FromMaintainer, Dialled, setPoint(value));
  EXPECT_POINT(FromMaintainer, DialFailed, setPoint(value));
  EXPECT_REASON(FromMaintainer, DialFailed, setReason(value));
  EXPECT_POINT(ToMaintainer, Dial, setPoint(value));
}

TEST(DecodeBounds, HoldForTheMessagesToAWorker) {
  EXPECT_RANGE(ToWorker, WorkerStart, std::uint16_t, setDirection(enumerator<proto::Direction>(value)), 1, 2,
               "an unknown enumerator");
  EXPECT_LIMIT(ToWorker, WorkerStart, setOurMessage(value), bytes, kMaximumConnectionMessage);
  EXPECT_LIMIT(ToWorker, OurMetadata, setChunk(value), bytes, kMaximumChunk);
  EXPECT_RANGE(ToWorker, Verdict, std::uint16_t, setKind(enumerator<proto::VerdictKind>(value)), 3, 4,
               "an unknown enumerator");
  EXPECT_REASON(ToWorker, Verdict, setReason(value));
  EXPECT_POINTS(ToWorker, Verdict, setPoints(value));
  EXPECT_KEY(ToWorker, Verdict, setChannelKey(value), 32);
  EXPECT_KEY(ToWorker, Verdict, setSendNonce(value), 24);
  EXPECT_KEY(ToWorker, Verdict, setReceiveNonce(value), 24);
  EXPECT_POINTS(ToWorker, SendAdvertise, setPoints(value));
  EXPECT_REASON(ToWorker, Close, setReason(value));
}

TEST(DecodeBounds, HoldForTheMessagesOfAWorker) {
  EXPECT_LIMIT(FromWorker, WorkerHello, setMessage(value), bytes, kMaximumConnectionMessage);
  EXPECT_LIMIT(FromWorker, WorkerHello, getAnnouncement().setChainName(value), text, kMaximumChainName);
  EXPECT_LIMIT(FromWorker, WorkerProof, setChunk(value), bytes, kMaximumChunk);
  EXPECT_POINTS(FromWorker, Nacked, setPoints(value));
  EXPECT_POINTS(FromWorker, AdvertiseReceived, setPoints(value));
  EXPECT_POINT(FromWorker, SwapRequestReceived, setPoint(value));
  EXPECT_KEY(FromWorker, SwapRequestReceived, setPeerId(value), 16);
  EXPECT_POINT(FromWorker, SwapAckReceived, setPoint(value));
  EXPECT_KEY(FromWorker, SwapAckReceived, setPeerId(value), 16);
  EXPECT_REASON(FromWorker, Closing, setReason(value));
  EXPECT_POINT(ToWorker, SendSwapRequest, setPoint(value));
  EXPECT_KEY(ToWorker, SendSwapAck, setPeerId(value), 16);
}

TEST(DecodeBounds, HoldForTheLists) {
  EXPECT_KEY(FromApplication, AppGreylistAddress, setAddress(value), 16);
  EXPECT_KEY(FromApplication, AppGreylistPeer, setPeerId(value), 16);
  EXPECT_KEY(FromApplication, AppScore, setPeerId(value), 16);
  EXPECT_FINITE(FromApplication, AppScore, setScore(value));
  EXPECT_KEY(ControlRequest, ControlBan, getSubject().setAddress(value), 16);
  EXPECT_KEY(ControlRequest, ControlUnban, getSubject().getPeerId().setSome(value), 16);
  EXPECT_RANGE(ControlRequest, ControlBan, std::uint8_t, getSubject().setLength(value), 128, 129,
               "a prefix that is none");
  EXPECT_LIMIT(ControlRequest, ControlBan, setText(value), text, kMaximumAclText);
  EXPECT_LIMIT(ControlRequest, ControlTrust, setText(value), text, kMaximumAclText);
  EXPECT_RANGE(ControlRequest, ControlImport, std::uint32_t, setEntries(value), kMaximumImport, kMaximumImport + 1,
               "a number out of range");
}

TEST(DecodeBounds, HoldForTheApplicationAndControl) {
  EXPECT_KEY(ToApplication, Attached, setOwnPeerId(value), 16);
  EXPECT_LIMIT(ToApplication, AttachRefused, setText(value), text, kMaximumText);
  EXPECT_KEY(ToApplication, AppConnected, setPeerId(value), 16);
  EXPECT_RANGE(ToApplication, AppConnected, std::uint16_t, setDirection(enumerator<proto::Direction>(value)), 1, 2,
               "an unknown enumerator");
  EXPECT_POINT(ToApplication, AppConnected, setPoint(value));
  EXPECT_LIMIT(ToApplication, AppConnected, getAnnouncement().setChainName(value), text, kMaximumChainName);
  EXPECT_KEY(ToApplication, AppDisconnected, setPeerId(value), 16);
  EXPECT_REASON(ToApplication, AppDisconnected, setReason(value));

  EXPECT_POINT(ControlRequest, ControlConnect, setPoint(value));
  EXPECT_KEY(ControlRequest, ControlKick, setPeerId(value), 16);
  EXPECT_LIMIT(ControlResponse, ControlAnswer, setText(value), text, kMaximumText);
}

// -------------------------------------------------------------------------------------------------- the sender's side

template <typename Message>
ErrorCode encode_error(const Message& message) {
  Words words(kMaximumPacket / sizeof(std::uint64_t));
  const Result<std::size_t> used = encode(message, words);
  EXPECT_FALSE(used.ok());
  return used.ok() ? ErrorCode::kRefused : used.error().code;
}

TEST(EncodeBounds, RefusesAFieldAboveItsLimit) {
  EXPECT_EQ(encode_error(ToSupervisor(Failed{text(kMaximumText + 1)})), ErrorCode::kTooLarge);
  EXPECT_EQ(encode_error(FromWorker(WorkerProof{std::vector<std::uint8_t>(kMaximumChunk + 1)})), ErrorCode::kTooLarge);
  EXPECT_EQ(encode_error(FromWorker(AdvertiseReceived{std::vector<Point>(kMaximumPoints + 1)})), ErrorCode::kTooLarge);
  BootMaintainer boot;
  boot.peers.resize(kMaximumConfiguredPeers + 1);
  EXPECT_EQ(encode_error(FromSupervisor(boot)), ErrorCode::kTooLarge);
  BootController controller;
  controller.p2p_versions.resize(kMaximumVersions + 1);
  EXPECT_EQ(encode_error(FromSupervisor(controller)), ErrorCode::kTooLarge);
}

TEST(EncodeBounds, RefusesANumberThatNoReceiverTakes) {
  EXPECT_EQ(encode_error(FromWorker(Closing{static_cast<Reason>(kReasonCount)})), ErrorCode::kInvalid);
  EXPECT_EQ(encode_error(FromSupervisor(ServiceChannel{static_cast<Role>(8)})), ErrorCode::kInvalid);
  BootAcceptor acceptor;
  acceptor.listeners = 0;
  EXPECT_EQ(encode_error(FromSupervisor(acceptor)), ErrorCode::kInvalid);
  acceptor.listeners = 1;
  acceptor.expected_pow = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(encode_error(FromSupervisor(acceptor)), ErrorCode::kInvalid);
}

TEST(EncodeBounds, TakesExactlyTheSpaceThatTheMessageNeeds) {
  const FromWorker message = largest<FromWorker>().front();
  const std::size_t needed = encoded(message).size();
  Words exact(needed);
  const Result<std::size_t> used = encode(message, exact);
  ASSERT_TRUE(used.ok());
  EXPECT_EQ(*used, needed);
  for (std::size_t size = 0; size < needed; ++size) {
    Words smaller(size);
    const Result<std::size_t> refused = encode(message, smaller);
    ASSERT_FALSE(refused.ok()) << size;
    EXPECT_EQ(refused.error().code, ErrorCode::kTooLarge);
  }
}

}  // namespace
}  // namespace bulkhead::schema::test
