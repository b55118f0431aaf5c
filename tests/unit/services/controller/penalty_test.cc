#include "services/controller/penalty.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "services/common/offence.h"

namespace bulkhead::controller {
namespace {

TEST(Penalty, GreylistsTheAddressForWhatCannotBeReadBeforeTheVerdict) {
  for (const Reason reason : {Reason::kNotEnoughProofOfWork, Reason::kMalformedConnectionMessage, Reason::kBadLength,
                              Reason::kDecipherError, Reason::kMalformedMetadata}) {
    EXPECT_EQ(penalty_for(reason, Phase::kHandshake), Penalty::kAddress) << reason_name(reason);
  }
}

TEST(Penalty, GreylistsPeerAndAddressForAMessageThatCannotBeRead) {
  EXPECT_EQ(penalty_for(Reason::kDecodeError, Phase::kRunning), Penalty::kAddressAndPeer);
}

TEST(Penalty, GreylistsForTheDeathOfAWorkerByAFaultAtAnyTime) {
  for (const Phase phase : {Phase::kHandshake, Phase::kAck, Phase::kRunning}) {
    for (const Reason reason : {Reason::kWorkerFault, Reason::kSandboxViolation, Reason::kChannelFault})
      EXPECT_EQ(penalty_for(reason, phase), Penalty::kAddressAndPeer);
  }
}

TEST(Trap12, NeitherTimeoutsNorABadAckGreylist) {
  for (const Phase phase : {Phase::kHandshake, Phase::kAck, Phase::kRunning})
    EXPECT_EQ(penalty_for(Reason::kAuthenticationTimeout, phase), Penalty::kNone);
  for (const Reason reason : {Reason::kDecipherError, Reason::kMalformedAck, Reason::kInvalidCiphertextSize,
                              Reason::kClosedInHandshake, Reason::kRejectedByPeer}) {
    EXPECT_EQ(penalty_for(reason, Phase::kAck), Penalty::kNone) << reason_name(reason);
  }
}

TEST(Penalty, SparesEverybodyElse) {
  const std::map<Phase, std::set<Reason>> causes = {
      {Phase::kHandshake,
       {Reason::kNotEnoughProofOfWork, Reason::kMalformedConnectionMessage, Reason::kBadLength, Reason::kDecipherError,
        Reason::kMalformedMetadata}},
      {Phase::kAck, {}},
      {Phase::kRunning, {Reason::kDecodeError}}};
  for (const auto& [phase, reasons] : causes) {
    for (std::uint16_t value = 0; value < kReasonCount; ++value) {
      const auto reason = static_cast<Reason>(value);
      if (is_worker_fault(reason) || reasons.contains(reason)) continue;
      EXPECT_EQ(penalty_for(reason, phase), Penalty::kNone) << reason_name(reason);
    }
  }
}

TEST(Penalty, AtTheDoorIsForAFalseProofAndALengthThatNoMessageHas) {
  for (std::uint16_t value = 0; value < kReasonCount; ++value) {
    const auto reason = static_cast<Reason>(value);
    EXPECT_EQ(service::offends_at_the_door(reason),
              reason == Reason::kBadLength || reason == Reason::kNotEnoughProofOfWork)
        << reason_name(reason);
  }
}

}  // namespace
}  // namespace bulkhead::controller
