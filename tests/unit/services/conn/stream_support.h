#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

#include "base/address.h"
#include "services/conn/inbound.h"
#include "services/conn/outbound.h"
#include "tests/unit/shm/link_fixture.h"

namespace bulkhead::conn::test {

using Bytes = std::vector<std::uint8_t>;
using shm::test::must;

/// Half of it holds the largest chunk, as in a node.
inline constexpr std::uint32_t kRing = 128 * 1024;

inline std::array<std::uint8_t, 32> key() {
  std::array<std::uint8_t, 32> key{};
  key.fill(0x6b);
  return key;
}
/// Both ends of one direction of a channel.
inline wire::Channel channel() {
  const auto bytes = key();
  return {wire::KeySpan(bytes), wire::Nonce{}};
}

inline Bytes pattern(std::size_t size, std::uint8_t first = 1) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

inline Bytes message(std::uint16_t tag, const Bytes& body) {
  const auto head = wire::encode_envelope_header(tag, body.size());
  Bytes bytes(head.begin(), head.end());
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

inline Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

inline wire::P2pMessage swap(std::uint16_t number) {
  return wire::SwapRequest{{parse_address("192.0.2.1").value(), number}, PeerId{}};
}

/// The peer's end of the inward direction: seals what it is given.
class Sealer {
 public:
  Bytes chunk(std::span<const std::uint8_t> plaintext) {
    // A writer makes no chunk above kMaximumPlaintext; a reader takes two bytes more.
    Bytes bytes(wire::kChunkOverhead + plaintext.size());
    const std::size_t body = wire::kTag + plaintext.size();
    bytes[0] = static_cast<std::uint8_t>(body >> 8);
    bytes[1] = static_cast<std::uint8_t>(body);
    crypto_secretbox_easy(bytes.data() + wire::kChunkHeader, plaintext.data(), plaintext.size(), nonce_.data(),
                          key().data());
    wire::increment(nonce_);
    return bytes;
  }
  /// Cut into chunks of at most `largest`.
  Bytes chunks(const Bytes& stream, std::size_t largest = wire::kMaximumPlaintext) {
    Bytes all;
    for (std::size_t at = 0; at < stream.size(); at += largest) {
      const Bytes one = chunk(std::span(stream).subspan(at, std::min(largest, stream.size() - at)));
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

 private:
  wire::Nonce nonce_{};
};

/// A worker's inward half as its shell drives it, over a real link.
class Inward {
 public:
  explicit Inward(std::uint32_t ring = kRing) : link(ring, 16384), inbound(channel(), *link.worker) {}

  /// Bytes of the peer come; everything that can be done with them is done. True: it wants more.
  bool take(const Bytes& bytes) {
    input.insert(input.end(), bytes.begin(), bytes.end());
    return go_on();
  }
  bool go_on() {
    for (int round = 0; round < 10000; ++round) {
      progress = inbound.process(input, p2p);
      input.erase(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(progress.taken));
      if (progress.state == Inbound::State::kHungry) return true;
      if (progress.state == Inbound::State::kEnded) return false;
      const auto waiting = inbound.wait_for_room();
      if (!waiting) {
        progress.state = Inbound::State::kEnded;
        progress.reason = Reason::kApplicationFault;
        return false;
      }
      if (*waiting) return false;
    }
    ADD_FAILURE() << "room is reported and not used, again and again";
    return false;
  }
  bool blocked() const { return progress.state == Inbound::State::kBlocked; }
  void attach() {
    receiver.emplace(link.receiver());
    inbound.set_receiver(true);
  }
  /// As by a kill: what was returned last is not counted as taken.
  void kill() {
    receiver.reset();
    inbound.set_receiver(false);
  }
  /// The next message, as an application asks for it: until there is nothing to do.
  std::optional<shm::Message> next() {
    for (;;) {
      auto found = must(receiver->next());
      if (found) return found;
      if (must(receiver->prepare_to_sleep())) return std::nullopt;
    }
  }
  void expect_next(std::uint16_t tag, const Bytes& body) {
    const auto found = next();
    ASSERT_TRUE(found);
    EXPECT_EQ(found->tag, tag);
    EXPECT_TRUE(found->body == body) << found->body.size() << " against " << body.size();
  }
  void expect_gap(std::uint64_t count) {
    const auto found = next();
    ASSERT_TRUE(found);
    EXPECT_EQ(shm::gap_count(*found), count);
  }

  shm::test::TestLink link;
  Sealer peer;
  Inbound inbound;
  Bytes input;
  std::vector<wire::P2pMessage> p2p;
  Inbound::Progress progress;
  std::optional<shm::ReceiverLink> receiver;
};

/// A worker's outward half, with the peer that opens what comes.
class Outward {
 public:
  explicit Outward(std::uint32_t ring = 16384)
      : link(4096, ring), outbound(channel(), *link.worker), opening_(channel()) {}

  shm::SenderLink& sender() {
    if (!sender_) sender_.emplace(link.sender());
    return *sender_;
  }
  /// One call of fill() with a buffer of `room` bytes; what the peer got is appended to `stream`.
  std::size_t fill(std::size_t room = 512 * 1024) {
    Bytes out(room);
    progress = outbound.fill(out);
    EXPECT_LE(progress.written, room);
    out.resize(progress.written);
    std::size_t at = 0;
    while (at < out.size()) {
      const std::size_t body = static_cast<std::size_t>(out[at]) << 8 | out[at + 1];
      EXPECT_GT(body, wire::kTag) << "no empty chunk";
      EXPECT_LE(body + 2, 65535U);
      EXPECT_LE(at + 2 + body, out.size()) << "whole chunks only";
      if (at + 2 + body > out.size() || body < wire::kTag) break;
      Bytes plaintext(body - wire::kTag);
      EXPECT_TRUE(opening_.open(std::span(out).subspan(at + 2, body), plaintext.data()));
      stream.insert(stream.end(), plaintext.begin(), plaintext.end());
      at += 2 + body;
      ++chunks;
    }
    return progress.written;
  }
  /// What a hostile or buggy application writes where messages should be.
  void write_raw(const Bytes& bytes) {
    auto& window = link.window();
    if (window.generation.load() != link.geometry.generation) window.generation.store(link.geometry.generation);
    const auto tail = window.tail.load();
    auto* data = reinterpret_cast<std::uint8_t*>(link.window_map.data()) + shm::kPageBytes;
    for (std::size_t i = 0; i < bytes.size(); ++i) data[(tail + i) % link.geometry.outward_capacity] = bytes[i];
    window.tail.store(tail + bytes.size());
  }

  shm::test::TestLink link;
  Outbound outbound;
  Outbound::Progress progress;
  Bytes stream;
  std::size_t chunks = 0;

 private:
  wire::Channel opening_;
  std::optional<shm::SenderLink> sender_;
};

}  // namespace bulkhead::conn::test
