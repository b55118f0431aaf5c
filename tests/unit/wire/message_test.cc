#include "wire/message.h"

#include <stdexcept>

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

/// What a receiver does with the bytes at hand: nothing yet, a message, or an error.
struct Outcome {
  std::string status;
  std::size_t consumed = 0;
  std::optional<P2pMessage> p2p = std::nullopt;
  std::uint16_t tag = 0;
  Bytes payload = {};
};

Outcome receive(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kEnvelopeSizeField) return {"await"};
  if (!parse_envelope_size(bytes.first<kEnvelopeSizeField>())) return {"error"};
  if (bytes.size() < kEnvelopeHeader) return {"await"};
  const auto header = parse_envelope_header(bytes.first<kEnvelopeHeader>());
  if (!header) return {"error"};
  if (bytes.size() < header->whole_size()) return {"await"};
  const auto payload = bytes.subspan(kEnvelopeHeader, header->payload_size());
  Outcome outcome{"ok", header->whole_size()};
  outcome.tag = header->tag;
  outcome.payload.assign(payload.begin(), payload.end());
  if (is_p2p_tag(header->tag)) {
    const auto message = decode_p2p_message(header->tag, payload);
    if (!message) return {"error"};
    outcome.p2p = *message;
  }
  return outcome;
}

Bytes with_header(std::uint16_t tag, const Bytes& payload) {
  Bytes out;
  append_u32(out, static_cast<std::uint32_t>(payload.size() + 2));
  append_u16(out, tag);
  return concat({out, payload});
}

TEST(Message, EncodesAndDecodesEveryVector) {
  for (const auto& known : load_vectors("messages.json", "valid")) {
    const Bytes bytes = from_hex(known.at("bytes"));
    const auto& described = known.at("message");
    const Outcome outcome = receive(bytes);
    ASSERT_EQ(outcome.status, "ok") << known;
    EXPECT_EQ(outcome.consumed, bytes.size());
    if (described.at("type") == "Message") {
      EXPECT_EQ(outcome.tag, described.at("tag").get<std::uint16_t>());
      EXPECT_EQ(outcome.payload, application_payload(described));
      const auto header = encode_envelope_header(outcome.tag, outcome.payload.size());
      EXPECT_EQ(concat({Bytes(header.begin(), header.end()), outcome.payload}), bytes);
    } else {
      EXPECT_EQ(outcome.p2p, p2p_message(described));
      EXPECT_EQ(encode(p2p_message(described)), bytes);
    }
  }
}

TEST(Message, JudgesEveryVectorAsTheNewerReleaseDoes) {
  for (const auto& known : load_vectors("messages.json", "verdicts")) {
    const Outcome outcome = receive(from_hex(known.at("bytes")));
    if (known.at("name") == "unknown tag 0x0011") {
      // Which tags an application knows is its own business, so for the P2P layer this one is well-formed.
      EXPECT_EQ(outcome.status, "ok");
      EXPECT_TRUE(is_application_tag(outcome.tag));
      continue;
    }
    const auto& verdict = known.at("verdict");
    EXPECT_EQ(outcome.status, verdict.at("status")) << known.at("name");
    if (outcome.status != "ok") continue;
    EXPECT_EQ(outcome.consumed, verdict.at("consumed").get<std::size_t>());
    EXPECT_EQ(outcome.p2p, p2p_message(verdict.at("message")));
  }
}

TEST(Message, RefusesEveryTruncationOfAPayloadAndAnyExtraByte) {
  const PeerId id{1, 2, 3};
  for (const P2pMessage& message :
       {P2pMessage(Disconnect{}), P2pMessage(Bootstrap{}), P2pMessage(Advertise{{point("1.2.3.4:9732")}}),
        P2pMessage(SwapRequest{point("1.2.3.4:9732"), id}), P2pMessage(SwapAck{point("[::1]:1"), id})}) {
    const Bytes whole = encode(message);
    const std::uint16_t tag = whole[5];
    const Bytes payload(whole.begin() + kEnvelopeHeader, whole.end());
    const auto decoded = decode_p2p_message(tag, payload);
    ASSERT_TRUE(decoded);
    EXPECT_EQ(*decoded, message);
    // An Advertise of no points is the one message whose payload may be cut to nothing.
    for (std::size_t size = tag == kTagAdvertise ? 1 : 0; size < payload.size(); ++size) {
      EXPECT_FALSE(decode_p2p_message(tag, std::span(payload).first(size))) << tag << " " << size;
    }
    EXPECT_FALSE(decode_p2p_message(tag, concat({payload, {0}})));
  }
}

TEST(Message, DecodesNoTagOutsideThePeerToPeerLayer) {
  for (unsigned tag = 0; tag <= 0xFFFF; ++tag) {
    const auto value = static_cast<std::uint16_t>(tag);
    EXPECT_EQ(is_p2p_tag(value), tag >= 1 && tag <= 5);
    EXPECT_EQ(is_application_tag(value), tag >= 0x10);
    if (!is_p2p_tag(value)) {
      ASSERT_FALSE(decode_p2p_message(value, {})) << tag;
    }
  }
}

TEST(Envelope, RefusesTagsThatNobodyHas) {
  for (unsigned tag : {0U, 6U, 7U, 0xFU}) {
    EXPECT_EQ(receive(with_header(static_cast<std::uint16_t>(tag), {})).status, "error") << tag;
  }
  for (unsigned tag : {0x10U, 0x11U, 0xFFFFU}) {
    EXPECT_EQ(receive(with_header(static_cast<std::uint16_t>(tag), {})).status, "ok") << tag;
  }
}

TEST(Envelope, AllowsSizesFromTwoToAHundredMebibytesInAll) {
  const auto verdict = [](std::uint32_t size) {
    Bytes bytes;
    append_u32(bytes, size);
    return parse_envelope_size(std::span(bytes).first<4>()).ok();
  };
  for (const std::uint32_t size : {2U, 3U, 104'857'595U, 104'857'596U}) EXPECT_TRUE(verdict(size)) << size;
  for (const std::uint32_t size :
       {0U, 1U, 104'857'597U, 0x3FFFFFFFU, 0x40000000U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
    EXPECT_FALSE(verdict(size)) << size;
  }
}

TEST(Envelope, BoundsThePayloadOfEachTagOfThePeerToPeerLayer) {
  const auto verdict = [](std::uint16_t tag, std::size_t payload) {
    Bytes bytes;
    append_u32(bytes, static_cast<std::uint32_t>(payload + 2));
    append_u16(bytes, tag);
    return parse_envelope_header(std::span(bytes).first<6>()).ok();
  };
  for (const auto& [tag, most] : {std::pair(kTagDisconnect, std::size_t{0}),
                                  {kTagBootstrap, std::size_t{0}},
                                  {kTagAdvertise, kMaximumP2pPayload},
                                  {kTagSwapRequest, std::size_t{67}},
                                  {kTagSwapAck, std::size_t{67}},
                                  {kFirstApplicationTag, kMaximumApplicationPayload}}) {
    EXPECT_TRUE(verdict(tag, most)) << tag;
    EXPECT_FALSE(verdict(tag, most + 1)) << tag;
  }
}

TEST(Envelope, HoldsTheLargestAdvertise) {
  const P2pMessage message = Advertise{longest_points(kMaximumAdvertisedPoints)};
  const Bytes bytes = encode(message);
  EXPECT_EQ(bytes.size(), kEnvelopeHeader + kMaximumP2pPayload);
  EXPECT_EQ(receive(bytes).p2p, message);
}

TEST(Envelope, IsWrittenForApplicationMessagesOnly) {
  EXPECT_EQ(to_hex(encode_envelope_header(0x1234, 0x010203)), "000102051234");
  EXPECT_NO_THROW((void)encode_envelope_header(0x10, kMaximumApplicationPayload));
  EXPECT_THROW((void)encode_envelope_header(0x10, kMaximumApplicationPayload + 1), std::length_error);
  EXPECT_THROW((void)encode_envelope_header(0x0F, 0), std::invalid_argument);
}

TEST(Advertise, RefusesToWriteMorePointsThanCanBeRead) {
  EXPECT_THROW((void)encode(P2pMessage(Advertise{longest_points(101)})), std::length_error);
}

TEST(Advertise, RefusesAHundredAndOneShortPoints) {
  Bytes payload;
  for (int i = 0; i < 100; ++i) append_point(payload, point("1.2.3.4:1"));
  EXPECT_TRUE(decode_p2p_message(kTagAdvertise, payload));
  append_point(payload, point("1.2.3.4:1"));
  EXPECT_FALSE(decode_p2p_message(kTagAdvertise, payload));
}

}  // namespace
}  // namespace bulkhead::wire
