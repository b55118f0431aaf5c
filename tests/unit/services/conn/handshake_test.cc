#include "services/conn/handshake.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "base/address.h"
#include "wire/ack.h"
#include "wire/connection_message.h"

namespace bulkhead::conn {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Json = nlohmann::json;
using Step = Handshake::Step;

Bytes unhex(const std::string& text) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

template <std::size_t N>
std::array<std::uint8_t, N> array_of(const Bytes& bytes) {
  std::array<std::uint8_t, N> array{};
  EXPECT_EQ(bytes.size(), N);
  std::copy_n(bytes.begin(), std::min(N, bytes.size()), array.begin());
  return array;
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

Bytes hello_of(std::uint8_t seed, std::string chain = "TEST") {
  wire::ConnectionMessage message;
  message.port = 19732;
  message.public_key.fill(seed);
  message.nonce.fill(seed);
  message.chain_name = std::move(chain);
  message.distributed_db_version = 2;
  message.p2p_version = 1;
  return wire::encode(message);
}

const Bytes kOurs = {0x4f, 0x75, 0x72, 0x73};
const Bytes kOurMetadata(20, 0x4d);

/// A worker's handshake with a controller that says yes and a peer whose end of the channel is held here.
struct Session {
  explicit Session(const Bytes& our_message = kOurs)
      : handshake([&] {
          schema::WorkerStart start;
          start.our_message = our_message;
          return start;
        }()) {
    key.fill(0x4b);
    ours.fill(0x01);
    theirs.fill(0x02);
  }

  std::size_t feed(const Bytes& bytes) { return handshake.feed(bytes); }
  Bytes output() { return handshake.take_output(); }

  Bytes sealed(const Bytes& plaintext) {
    Bytes chunk(wire::kChunkOverhead + plaintext.size());
    wire::seal_chunk(plaintext.data(), plaintext.size(), chunk.data(), key, theirs);
    return chunk;
  }
  /// Opens what the worker sealed first.
  Bytes opened(const Bytes& chunk) const {
    Bytes plaintext(chunk.size() - wire::kChunkOverhead);
    EXPECT_TRUE(wire::open_chunk(std::span(chunk).subspan(2), plaintext.data(), key, ours));
    return plaintext;
  }
  schema::Verdict verdict(schema::VerdictKind kind, Reason reason = Reason::kNone, std::int16_t motive = 0,
                          std::vector<Point> points = {}) const {
    schema::Verdict message{.kind = kind, .reason = reason, .motive = motive, .points = std::move(points)};
    if (kind != schema::VerdictKind::kSilence) {
      message.channel_key = key;
      message.send_nonce = ours;
      message.receive_nonce = theirs;
    }
    return message;
  }
  void to_metadata() {
    EXPECT_EQ(feed(hello_of(7)), hello_of(7).size());
    EXPECT_TRUE(handshake.on(schema::OurMetadata{kOurMetadata}));
    EXPECT_EQ(handshake.step(), Step::kMetadata);
  }

  std::array<std::uint8_t, 32> key{};
  wire::Nonce ours{};
  wire::Nonce theirs{};
  Handshake handshake;
};

/// A chunk of the shape of metadata, of `size` bytes behind the header.
Bytes chunk_of(std::size_t size) {
  Bytes chunk(2 + size, 0x55);
  chunk[0] = static_cast<std::uint8_t>(size >> 8);
  chunk[1] = static_cast<std::uint8_t>(size);
  return chunk;
}

void to_verdict(Session& s) {
  s.to_metadata();
  ASSERT_EQ(s.feed(chunk_of(18)), 20U);
  ASSERT_EQ(s.handshake.step(), Step::kVerdict);
  (void)s.output();
  (void)s.handshake.take_reports();
}

void to_ack(Session& s) {
  to_verdict(s);
  ASSERT_TRUE(s.handshake.on(s.verdict(schema::VerdictKind::kAccept)));
  ASSERT_EQ(s.handshake.step(), Step::kAck);
}

template <typename Report>
Report only_report(Handshake& handshake) {
  auto reports = handshake.take_reports();
  EXPECT_EQ(reports.size(), 1U);
  if (reports.size() != 1 || !std::holds_alternative<Report>(reports[0])) {
    ADD_FAILURE() << "another report than expected";
    return {};
  }
  return std::get<Report>(std::move(reports[0]));
}

void expect_end(Session& s, Reason reason) {
  EXPECT_EQ(s.handshake.step(), Step::kEnded);
  EXPECT_STREQ(reason_name(s.handshake.reason()), reason_name(reason));
  EXPECT_TRUE(s.handshake.take_reports().empty());
  EXPECT_EQ(s.feed(Bytes(100)), 0U) << "nothing is taken after the end";
  EXPECT_FALSE(s.handshake.on(schema::OurMetadata{}));
  EXPECT_FALSE(s.handshake.on(schema::Verdict{}));
}

// ------------------------------------------------------------------------------------------- sessions of the reference

struct Recorded {
  std::string name;
  Bytes ours[3];    ///< our three writes: connection message, metadata, ack
  Bytes theirs[3];  ///< the peer's
  schema::Verdict verdict;
  bool they_accept = false;
};

std::vector<Recorded> recorded_sessions() {
  std::ifstream file(BULKHEAD_SOURCE_DIR "/tests/vectors/sessions.json");
  const Json sessions = Json::parse(file).at("sessions");
  std::vector<Recorded> all;
  for (const Json& session : sessions) {
    for (const bool dialled : {false, true}) {
      const std::string us = dialled ? "initiator" : "responder";
      const std::string them = dialled ? "responder" : "initiator";
      Recorded recorded;
      recorded.name = session.at("name").get<std::string>() + ", as " + us;
      for (std::size_t i = 0; i < 3; ++i) {
        recorded.ours[i] = unhex(session.at(us + "_writes").at(i).at("wire"));
        recorded.theirs[i] = unhex(session.at(them + "_writes").at(i).at("wire"));
      }
      auto& verdict = recorded.verdict;
      verdict.channel_key = array_of<32>(unhex(session.at("channel_key")));
      // The names are of the side that opens with them or seals with them: what our first chunk opens under is ours.
      verdict.send_nonce = array_of<24>(unhex(session.at(us + "_nonce")));
      verdict.receive_nonce = array_of<24>(unhex(session.at(them + "_nonce")));
      const auto opened = [&](const Bytes& chunk, wire::Nonce nonce) {
        wire::increment(nonce);
        Bytes plaintext(chunk.size() - wire::kChunkOverhead);
        EXPECT_TRUE(wire::open_chunk(std::span(chunk).subspan(2), plaintext.data(), verdict.channel_key, nonce));
        return wire::decode_ack(plaintext).value();
      };
      const auto our_ack = opened(recorded.ours[2], verdict.send_nonce);
      recorded.they_accept = std::holds_alternative<wire::Ack>(opened(recorded.theirs[2], verdict.receive_nonce));
      wire::increment(verdict.send_nonce);
      wire::increment(verdict.receive_nonce);
      verdict.kind = schema::VerdictKind::kAccept;
      if (std::holds_alternative<wire::NackV0>(our_ack)) verdict.kind = schema::VerdictKind::kNackV0;
      if (const auto* nack = std::get_if<wire::Nack>(&our_ack)) {
        verdict.kind = schema::VerdictKind::kNack;
        verdict.motive = static_cast<std::int16_t>(nack->motive);
        verdict.points = nack->points;
      }
      if (verdict.kind != schema::VerdictKind::kAccept) verdict.reason = Reason::kTooManyConnections;
      all.push_back(std::move(recorded));
    }
  }
  return all;
}

/// Plays the controller to a worker's handshake while `input` comes in pieces of `piece` bytes.
void play(const Recorded& recorded, std::size_t piece) {
  SCOPED_TRACE(recorded.name + ", pieces of " + std::to_string(piece));
  schema::WorkerStart start;
  start.our_message = recorded.ours[0];
  Handshake handshake(start);
  const Bytes tail = {1, 2, 3};  // of a later step
  const Bytes input = joined({recorded.theirs[0], recorded.theirs[1], recorded.theirs[2], tail});
  std::size_t taken = 0;
  std::size_t there = 0;
  Bytes output;
  std::vector<schema::FromWorker> reports;
  const auto collect = [&] {
    const Bytes more = handshake.take_output();
    output.insert(output.end(), more.begin(), more.end());
    for (auto& report : handshake.take_reports()) {
      if (const auto* hello = std::get_if<schema::WorkerHello>(&report)) {
        EXPECT_EQ(hello->message, recorded.theirs[0]);
        ASSERT_TRUE(handshake.on(schema::OurMetadata{recorded.ours[1]}));
      } else if (const auto* proof = std::get_if<schema::WorkerProof>(&report)) {
        EXPECT_EQ(proof->chunk, recorded.theirs[1]);
        ASSERT_TRUE(handshake.on(recorded.verdict));
      }
      reports.push_back(std::move(report));
    }
  };
  collect();
  while (there < input.size()) {
    there = std::min(there + piece, input.size());
    for (;;) {
      const std::size_t step = handshake.feed(std::span(input).subspan(taken, there - taken));
      taken += step;
      const auto before = reports.size();
      collect();
      if (step == 0 && reports.size() == before) break;
    }
  }
  EXPECT_EQ(output, joined({recorded.ours[0], recorded.ours[1], recorded.ours[2]})) << "to the byte what was recorded";
  const bool we_accept = recorded.verdict.kind == schema::VerdictKind::kAccept;
  ASSERT_EQ(reports.size(), we_accept ? 3U : 2U);
  if (!we_accept) {
    EXPECT_EQ(handshake.step(), Step::kEnded);
    EXPECT_EQ(handshake.reason(), Reason::kTooManyConnections);
    EXPECT_EQ(taken, input.size() - tail.size() - recorded.theirs[2].size()) << "who refuses does not read the answer";
    return;
  }
  EXPECT_EQ(taken, input.size() - tail.size());
  if (!recorded.they_accept) {
    EXPECT_TRUE(std::holds_alternative<schema::Nacked>(reports[2]));
    EXPECT_EQ(handshake.reason(), Reason::kRejectedByPeer);
    return;
  }
  EXPECT_TRUE(std::holds_alternative<schema::Acked>(reports[2]));
  ASSERT_EQ(handshake.step(), Step::kRunning);
  auto [sending, receiving] = handshake.take_channels();
  auto next = recorded.verdict.send_nonce;
  wire::increment(next);
  EXPECT_EQ(sending.next_nonce(), next);
  next = recorded.verdict.receive_nonce;
  wire::increment(next);
  EXPECT_EQ(receiving.next_nonce(), next);
}

TEST(Handshake, WritesWhatTheReferenceWroteInEachRecordedSessionHoweverTheBytesCome) {
  const auto sessions = recorded_sessions();
  ASSERT_GE(sessions.size(), 34U);
  for (const auto& session : sessions) {
    for (const std::size_t piece : {1U, 2U, 7U, 50U, 100000U}) play(session, piece);
  }
}

// -------------------------------------------------------------------------------------------------------- step by step

TEST(Handshake, SpeaksFirst) {
  Session s;
  EXPECT_EQ(s.output(), kOurs);
  EXPECT_TRUE(s.output().empty());
  EXPECT_EQ(s.handshake.step(), Step::kConnectionMessage);
}

TEST(Handshake, ReportsWhatThePeerAnnounced) {
  Session s;
  s.feed(hello_of(9, "ABC"));
  const auto hello = only_report<schema::WorkerHello>(s.handshake);
  EXPECT_EQ(hello.message, hello_of(9, "ABC"));
  EXPECT_EQ(hello.announcement, (schema::Announcement{19732, "ABC", 2, 1}));
  EXPECT_EQ(s.handshake.step(), Step::kOurMetadata);
}

TEST(Handshake, ReadsNothingBeyondAStep) {
  Session s;
  const Bytes hello = hello_of(7);
  const Bytes metadata = chunk_of(18);
  const Bytes all = joined({hello, metadata, {0xaa, 0xbb}});
  EXPECT_EQ(s.feed(all), hello.size());
  const Bytes behind(all.begin() + static_cast<std::ptrdiff_t>(hello.size()), all.end());
  EXPECT_EQ(s.feed(behind), 0U) << "the controller must answer first";
  EXPECT_TRUE(s.handshake.on(schema::OurMetadata{kOurMetadata}));
  EXPECT_EQ(s.feed(behind), metadata.size());
  EXPECT_EQ(s.feed({0xaa, 0xbb}), 0U) << "the verdict must come first";
}

TEST(Handshake, TakesNoMessageOfTheControllerOutOfTurn) {
  Session s;
  EXPECT_FALSE(s.handshake.on(schema::OurMetadata{kOurMetadata}));
  EXPECT_FALSE(s.handshake.on(s.verdict(schema::VerdictKind::kAccept)));
  s.feed(hello_of(7));
  EXPECT_FALSE(s.handshake.on(s.verdict(schema::VerdictKind::kAccept)));
  EXPECT_TRUE(s.handshake.on(schema::OurMetadata{kOurMetadata}));
  EXPECT_FALSE(s.handshake.on(schema::OurMetadata{kOurMetadata}));
  EXPECT_FALSE(s.handshake.on(s.verdict(schema::VerdictKind::kAccept)));
  s.feed(chunk_of(18));
  EXPECT_FALSE(s.handshake.on(schema::OurMetadata{kOurMetadata}));
  EXPECT_TRUE(s.handshake.on(s.verdict(schema::VerdictKind::kAccept)));
  EXPECT_FALSE(s.handshake.on(s.verdict(schema::VerdictKind::kAccept)));
  EXPECT_EQ(s.output().size(), kOurs.size() + kOurMetadata.size() + 19) << "refused messages write nothing";
}

TEST(Handshake, EndsOnALengthThatNoConnectionMessageHas) {
  for (const Bytes& length : {Bytes{0, 0}, Bytes{0, 89}, Bytes{0x03, 0xff}, Bytes{0xff, 0xff}}) {
    Session s;
    EXPECT_EQ(s.feed(joined({length, Bytes(3000)})), 2U) << "two bytes say enough";
    expect_end(s, Reason::kBadLength);
  }
}

TEST(Handshake, TakesAConnectionMessageOfTheLargestSizeAndOfTheSmallest) {
  for (const std::size_t name : {0U, 932U}) {
    Session s;
    const Bytes hello = hello_of(7, std::string(name, 'x'));
    EXPECT_EQ(s.feed(hello), hello.size());
    EXPECT_EQ(s.handshake.step(), Step::kOurMetadata);
  }
}

TEST(Handshake, EndsOnAConnectionMessageThatDoesNotDecode) {
  Bytes hello = hello_of(7);
  hello[87] = static_cast<std::uint8_t>(hello[87] + 1);  // length of the chain name
  Session s;
  EXPECT_EQ(s.feed(hello), hello.size());
  expect_end(s, Reason::kMalformedConnectionMessage);
}

TEST(Handshake, EndsOnAChunkTooShortForATagWithoutWaitingForIt) {
  for (const int size : {0, 1, 15}) {
    Session s;
    s.to_metadata();
    (void)s.handshake.take_reports();
    EXPECT_EQ(s.feed({0, static_cast<std::uint8_t>(size), 1, 2, 3}), 2U);
    expect_end(s, Reason::kInvalidCiphertextSize);
  }
}

TEST(Handshake, EndsOnMetadataAboveTheLimitWithoutCollectingIt) {
  for (const std::size_t size : {1023U, 65535U}) {
    Session s;
    s.to_metadata();
    (void)s.handshake.take_reports();
    EXPECT_EQ(s.feed(chunk_of(size)), 2U);
    expect_end(s, Reason::kMalformedMetadata);
  }
}

TEST(Handshake, PassesMetadataOfAnySizeBelowTheLimitOnUnopened) {
  for (const std::size_t size : {16U, 18U, 1022U}) {
    Session s;
    s.to_metadata();
    (void)s.handshake.take_reports();
    EXPECT_EQ(s.feed(chunk_of(size)), size + 2);
    EXPECT_EQ(only_report<schema::WorkerProof>(s.handshake).chunk, chunk_of(size));
  }
}

TEST(Handshake, EndsOnAnAckThatDoesNotOpen) {
  Session s;
  to_ack(s);
  Bytes ack = s.sealed({0x00});
  ack.back() = static_cast<std::uint8_t>(ack.back() ^ 1);
  EXPECT_EQ(s.feed(ack), ack.size());
  expect_end(s, Reason::kDecipherError);
}

TEST(Handshake, EndsOnAnAckLargerThanAnyThatDecodesWithoutCollectingIt) {
  Session s;
  to_ack(s);
  EXPECT_EQ(s.feed(chunk_of(16 + wire::kMaximumAckPlaintext + 1)), 2U);
  expect_end(s, Reason::kMalformedAck);
}

TEST(Handshake, ReportsTheMotiveAndPointsOfANack) {
  Session s;
  to_ack(s);
  const std::vector<Point> points(100, parse_point("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535").value());
  Bytes nack = {0x01, 0x12, 0x34};
  Bytes list;
  for (const auto& point : points) {
    const std::string text = to_text(point);
    list.insert(list.end(), {0, 0, 0, static_cast<std::uint8_t>(text.size())});
    list.insert(list.end(), text.begin(), text.end());
  }
  nack.insert(nack.end(), {0, 0, static_cast<std::uint8_t>(list.size() >> 8), static_cast<std::uint8_t>(list.size())});
  nack.insert(nack.end(), list.begin(), list.end());
  const Bytes chunk = s.sealed(nack);
  EXPECT_EQ(s.feed(chunk), chunk.size());
  const auto nacked = only_report<schema::Nacked>(s.handshake);
  EXPECT_EQ(nacked.motive, 0x1234) << "kept as it is, though unknown";
  EXPECT_EQ(nacked.points, points);
  expect_end(s, Reason::kRejectedByPeer);
}

TEST(Handshake, ReportsANackOfTheOldFormWithoutMotive) {
  Session s;
  to_ack(s);
  EXPECT_EQ(s.feed(s.sealed({0xff})), 19U);
  const auto nacked = only_report<schema::Nacked>(s.handshake);
  EXPECT_EQ(nacked.motive, 0);
  EXPECT_TRUE(nacked.points.empty());
  expect_end(s, Reason::kRejectedByPeer);
}

// ----------------------------------------------------------------------------------------------------------------
// traps

TEST(Trap09, MetadataIsWrittenAndReadBeforeAnyVerdictAndTheVerdictTravelsSealed) {
  Session s;
  s.to_metadata();
  EXPECT_EQ(s.output(), joined({kOurs, kOurMetadata})) << "before the peer's metadata was read";
  ASSERT_EQ(s.feed(chunk_of(18)), 20U);
  ASSERT_TRUE(s.handshake.on(s.verdict(schema::VerdictKind::kNack, Reason::kUnknownChainName, 2)));
  const Bytes nack = s.output();
  EXPECT_EQ(s.opened(nack), (Bytes{0x01, 0x00, 0x02, 0, 0, 0, 0}));
}

TEST(Trap10, ANackHasTheFormThatTheControllerChoseAndAtMostFiftyPoints) {
  {
    Session s;
    to_verdict(s);
    ASSERT_TRUE(s.handshake.on(s.verdict(schema::VerdictKind::kNackV0, Reason::kTooManyConnections, 1)));
    EXPECT_EQ(s.opened(s.output()), (Bytes{0xff}));
    expect_end(s, Reason::kTooManyConnections);
  }
  Session s;
  to_verdict(s);
  const std::vector<Point> points(100, parse_point("192.0.2.1:9732").value());
  ASSERT_TRUE(s.handshake.on(s.verdict(schema::VerdictKind::kNack, Reason::kTooManyConnections, 1, points)));
  const auto nack = wire::decode_ack(s.opened(s.output())).value();
  EXPECT_EQ(std::get<wire::Nack>(nack).motive, wire::Motive::kTooManyConnections);
  EXPECT_EQ(std::get<wire::Nack>(nack).points.size(), 50U);
  expect_end(s, Reason::kTooManyConnections);
}

TEST(Trap11, SilenceWritesNothingAtAll) {
  for (const Reason reason :
       {Reason::kPeerBanned, Reason::kPeerGreylisted, Reason::kPrivateMode, Reason::kUnexpectedPeerId}) {
    Session s;
    to_verdict(s);
    ASSERT_TRUE(s.handshake.on(s.verdict(schema::VerdictKind::kSilence, reason)));
    EXPECT_TRUE(s.output().empty());
    expect_end(s, reason);
  }
}

// What greylists is told from what does not by the reason alone, or by the step that the controller knows of.
TEST(Trap12, ABadAckHasAReasonOfItsOwnThatIsNoneOfThoseThatGreylist) {
  for (const Bytes& plaintext : {Bytes{}, Bytes{0x02}, Bytes{0x00, 0x00}, Bytes{0x01, 0x00}, Bytes{0xff, 0x00}}) {
    Session s;
    to_ack(s);
    const Bytes ack = s.sealed(plaintext);
    EXPECT_EQ(s.feed(ack), ack.size());
    expect_end(s, Reason::kMalformedAck);
  }
}

TEST(Trap12, APeerThatStopsInTheMiddleIsLeftToTheDeadlineWithoutAVerdictOfItsOwn) {
  const Bytes hello = hello_of(7);
  Session s;
  for (std::size_t i = 0; i + 1 < hello.size(); ++i) EXPECT_EQ(s.feed({hello[i]}), 1U);
  EXPECT_EQ(s.handshake.step(), Step::kConnectionMessage);
  EXPECT_EQ(s.handshake.reason(), Reason::kNone);
}

}  // namespace
}  // namespace bulkhead::conn
