#include <cstdio>
#include <deque>

#include "tests/unit/services/conn/stream_support.h"

// What goes in comes out, whatever the schedule: random chunkings, receivers that come, go and are killed, rings that
// fill, and discarding. What is missing is exactly what gaps report.

namespace bulkhead::conn {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

constexpr std::uint16_t kTag = 0x10;

/// Messages by number: anybody can tell what number `n` looks like.
Bytes numbered_body(std::uint64_t number) {
  std::mt19937_64 random(number);
  std::size_t size = 8;
  switch (random() % 16) {
    case 0:
      size += random() % 200000;
      break;
    case 1:
      size += random() % 70000;
      break;
    case 2:
      break;
    default:
      size += random() % 3000;
  }
  Bytes body = pattern(size, static_cast<std::uint8_t>(number));
  for (std::size_t i = 0; i < 8; ++i) body[i] = static_cast<std::uint8_t>(number >> (8 * i));
  return body;
}

struct Totals {
  std::uint64_t received = 0;
  std::uint64_t gaps = 0;
  std::uint64_t streams_cut = 0;
};

class InwardModel {
 public:
  InwardModel(std::uint64_t seed, bool discard_without_receiver) : random_(seed) {
    if (discard_without_receiver) in_.inbound.set_discard_without_receiver();
  }

  /// False: a receiver was killed inside a streamed message, after which the connection ends.
  bool run(int steps, Totals& totals) {
    for (int step = 0; step < steps; ++step) {
      switch (random_() % 10) {
        case 0:
        case 1:
        case 2:
        case 3:
          feed();
          break;
        case 4:
        case 5:
        case 6:
          receive(random_() % 40);
          break;
        case 7:
          if (!in_.receiver && random_() % 3 == 0) attach();
          break;
        case 8:
          if (in_.receiver && random_() % 8 == 0) {
            if (random_() % 2 == 0) in_.receiver->commit();
            in_.kill();
            if (in_.link.worker->receiver_in_message()) {
              ++totals.streams_cut;
              totals.received += received_;
              totals.gaps += gap_total_;
              return false;
            }
            in_.go_on();
          }
          break;
        default:
          if (!grace()) {
            ++totals.streams_cut;
            totals.received += received_;
            totals.gaps += gap_total_;
            return false;
          }
      }
      check();
      if (testing::Test::HasFailure()) return false;
    }
    finish();
    totals.received += received_;
    totals.gaps += gap_total_;
    return true;
  }

 private:
  void feed() {
    // A queue of plaintext that is cut into chunks anywhere.
    while (stream_.size() < 100000 && random_() % 4 != 0) {
      if (random_() % 5 == 0) {
        const Bytes bytes = wire::encode(swap(static_cast<std::uint16_t>(++swaps_sent_ % 60000 + 1)));
        stream_.insert(stream_.end(), bytes.begin(), bytes.end());
      } else {
        const Bytes bytes = message(kTag, numbered_body(sent_++));
        stream_.insert(stream_.end(), bytes.begin(), bytes.end());
      }
    }
    // As the shell: no more of the peer while the ring is full.
    if (in_.blocked()) return;
    for (int chunk = 0; chunk < 4; ++chunk) {
      const std::size_t largest = random_() % 3 == 0 ? wire::kMaximumReceivedPlaintext : 1 + random_() % 5000;
      const std::size_t size = std::min(stream_.size(), random_() % 20 == 0 ? std::size_t{0} : largest);
      const Bytes piece(stream_.begin(), stream_.begin() + static_cast<std::ptrdiff_t>(size));
      stream_.erase(stream_.begin(), stream_.begin() + static_cast<std::ptrdiff_t>(size));
      in_.take(in_.peer.chunk(piece));
    }
  }

  void attach() {
    in_.attach();
    resumed_ = true;
    in_.go_on();
  }

  void receive(std::uint64_t count) {
    if (!in_.receiver) return;
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto found = in_.next();
      if (!found) break;
      if (const auto lost = shm::gap_count(*found)) {
        EXPECT_GT(*lost, 0U);
        // After a kill the last thing that was returned may come again, a gap too.
        if (resumed_ && last_was_gap_ && *lost == last_gap_) {
          resumed_ = false;
          continue;
        }
        expected_ += *lost;
        gap_total_ += *lost;
        last_was_gap_ = true;
        last_gap_ = *lost;
        resumed_ = false;
        continue;
      }
      std::uint64_t number = 0;
      ASSERT_GE(found->body.size(), 8U);
      for (std::size_t j = 8; j > 0; --j) number = number << 8 | found->body[j - 1];
      const bool again = resumed_ && !last_was_gap_ && number + 1 == expected_;
      if (!again) {
        ASSERT_EQ(number, expected_);
        ++expected_;
        ++received_;
      }
      ASSERT_TRUE(found->body == numbered_body(number));
      last_was_gap_ = false;
      resumed_ = false;
    }
    if (in_.blocked()) in_.go_on();
  }

  /// False: a message is half visible and nobody is there to take the rest, so the connection ends.
  bool grace() {
    if (in_.receiver || !in_.blocked()) return true;
    const Reason reason = in_.inbound.start_discarding();
    if (reason == Reason::kApplicationDiedMidMessage) return false;
    EXPECT_EQ(reason, Reason::kNone);
    in_.go_on();
    EXPECT_FALSE(in_.blocked()) << "who discards is never blocked without a receiver";
    return true;
  }

  void check() {
    ASSERT_NE(in_.progress.state, Inbound::State::kEnded) << reason_name(in_.progress.reason);
    for (const auto& got : in_.p2p) {
      ASSERT_EQ(got, swap(static_cast<std::uint16_t>(++swaps_got_ % 60000 + 1))) << "each once and in order";
    }
    in_.p2p.clear();
  }

  void finish() {
    if (!in_.receiver) attach();
    for (int round = 0; round < 100000 && expected_ < sent_; ++round) {
      const Bytes rest(stream_.begin(),
                       stream_.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(stream_.size(), 60000)));
      if (!in_.blocked()) {
        stream_.erase(stream_.begin(), stream_.begin() + static_cast<std::ptrdiff_t>(rest.size()));
        in_.take(in_.peer.chunk(rest));
      }
      receive(1000);
      in_.go_on();
      check();
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_EQ(expected_, sent_) << "received and reported as lost make all";
    EXPECT_EQ(received_ + gap_total_, sent_);
    EXPECT_EQ(in_.inbound.discarded(), gap_total_);
    EXPECT_EQ(in_.inbound.messages(), sent_);
    EXPECT_EQ(swaps_got_, swaps_sent_);
  }

  std::mt19937_64 random_;
  Inward in_;
  std::deque<std::uint8_t> stream_;
  std::uint64_t sent_ = 0;
  std::uint64_t expected_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t gap_total_ = 0;
  std::uint64_t swaps_sent_ = 0;
  std::uint64_t swaps_got_ = 0;
  bool resumed_ = false;
  bool last_was_gap_ = false;
  std::uint64_t last_gap_ = 0;
};

void run_inward(bool discard_without_receiver) {
  const std::uint64_t seed = shm::test::seed_of_run("inward");
  constexpr int kRounds = shm::test::kSanitized ? 6 : 25;
  Totals totals;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    InwardModel(seed + static_cast<std::uint64_t>(round), discard_without_receiver).run(400, totals);
    if (testing::Test::HasFailure()) return;
  }
  std::printf("received %llu, lost in gaps %llu, streams cut by a kill %llu\n",
              static_cast<unsigned long long>(totals.received), static_cast<unsigned long long>(totals.gaps),
              static_cast<unsigned long long>(totals.streams_cut));
  EXPECT_GT(totals.received, 0U);
  EXPECT_GT(totals.gaps, 0U);
}

TEST(InwardModelTest, BringsEverythingInOrderLessTheGapsThatItReports) {
  run_inward(false);
}

TEST(InwardModelTest, DoesSoInANodeThatIsMeantToRunWithoutAnApplication) {
  run_inward(true);
}

TEST(OutwardModelTest, SendsEverythingInOrderWithPeerToPeerMessagesInBetween) {
  const std::uint64_t seed = shm::test::seed_of_run("outward");
  constexpr int kRounds = shm::test::kSanitized ? 4 : 15;
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    std::mt19937_64 random(seed + static_cast<std::uint64_t>(round));
    Outward out;
    std::uint64_t sent = 0;
    std::uint64_t queued = 0;
    Bytes streaming;
    std::size_t streaming_at = 0;
    // What the peer reads: messages by number, and swaps by number.
    std::uint64_t read = 0;
    std::uint64_t read_swaps = 0;
    const auto read_stream = [&] {
      std::size_t at = 0;
      while (out.stream.size() - at >= wire::kEnvelopeHeader) {
        const auto header =
            wire::parse_envelope_header(std::span(out.stream).subspan(at).first<wire::kEnvelopeHeader>());
        ASSERT_TRUE(header);
        if (out.stream.size() - at < header->whole_size()) break;
        const auto payload = std::span(out.stream).subspan(at + wire::kEnvelopeHeader, header->payload_size());
        if (wire::is_p2p_tag(header->tag)) {
          ASSERT_EQ(wire::decode_p2p_message(header->tag, payload).value(),
                    swap(static_cast<std::uint16_t>(++read_swaps)));
        } else {
          ASSERT_TRUE(Bytes(payload.begin(), payload.end()) == numbered_body(read++));
        }
        at += header->whole_size();
      }
      out.stream.erase(out.stream.begin(), out.stream.begin() + static_cast<std::ptrdiff_t>(at));
    };
    const auto push = [&] {
      if (streaming_at < streaming.size()) {
        streaming_at += must(out.sender().write(std::span(streaming).subspan(streaming_at)));
        return;
      }
      const Bytes body = numbered_body(sent);
      if (body.size() <= out.sender().max_whole_body()) {
        if (must(out.sender().try_send(kTag, body))) ++sent;
      } else if (must(out.sender().begin(kTag, body.size()))) {
        ++sent;
        streaming = body;
        streaming_at = 0;
      }
    };
    for (int step = 0; step < 2000; ++step) {
      switch (random() % 4) {
        case 0:
          for (std::uint64_t i = random() % 20; i > 0; --i) push();
          break;
        case 1:
          if (random() % 3 == 0 && out.outbound.queue(swap(static_cast<std::uint16_t>(queued + 1)))) ++queued;
          break;
        default:
          out.fill(random() % 3 == 0 ? 19 + random() % 40 : 19 + random() % 100000);
          ASSERT_EQ(out.progress.reason, Reason::kNone);
          read_stream();
      }
      if (testing::Test::HasFailure()) return;
    }
    while (streaming_at < streaming.size() || out.fill() > 0) {
      push();
      out.fill();
      read_stream();
      if (testing::Test::HasFailure() || sent > 100000) return;
      if (streaming_at >= streaming.size() && sent > read + 500) break;
    }
    for (int i = 0; i < 10000 && out.fill() > 0; ++i) read_stream();
    read_stream();
    EXPECT_EQ(read_swaps, queued);
    EXPECT_EQ(read + (streaming_at < streaming.size() ? 1 : 0), sent);
    EXPECT_GT(sent, 0U);
    EXPECT_EQ(out.outbound.messages(), read);
  }
}

}  // namespace
}  // namespace bulkhead::conn
