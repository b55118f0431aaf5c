#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

/// What the harness sends over each connection, in both directions: messages whose size and every byte follow from
/// their place in the sequence, so that a receiver knows what must come next. Pure.
namespace bulkhead::fault {

enum class Way : std::uint16_t { kToApplication = 0, kToPeer = 1 };

/// Names one message of a run.
struct Place {
  std::uint16_t peer = 0;
  Way way = Way::kToApplication;
  std::uint32_t epoch = 0;   ///< which connection of that peer, from 1
  std::uint64_t number = 0;  ///< on that connection, from 1; an answer has the number of what it answers
  bool operator==(const Place&) const = default;
};

/// Sizes of a run's messages. Both sides of it must agree.
struct Pattern {
  std::uint32_t largest = kDefaultLargest;  ///< of a body, in bytes; at most kMaximumBody

  static constexpr std::uint32_t kDefaultLargest = 400 * 1024;
  static constexpr std::uint32_t kMaximumBody = 512 * 1024;
};

/// Most bodies are below 1 KiB, some are empty, a few larger than half a ring (the first two of a connection are small
/// and never empty, so that they say which connection they are of).
std::size_t body_size(const Pattern& pattern, const Place& place);

/// Tells numbers that are close to each other apart where a body is too short to hold one.
std::uint16_t tag_of(const Place& place);

/// The body, into `body`. `incarnation`: which process of the application sends, 0: a peer does.
void make_body(const Pattern& pattern, const Place& place, std::uint32_t incarnation, std::vector<std::uint8_t>& body);

/// What a message turned out to be, as against the one that must come next.
struct Finding {
  enum class Kind : std::uint8_t {
    kRight,
    kRepeated,    ///< the one before again
    kOtherEpoch,  ///< of another connection of this peer
    kEarlier,     ///< came before: doubled, or out of order
    kLater,       ///< those in between are missing
    kAltered,     ///< not a message of this run as it was sent
  };
  Kind kind = Kind::kAltered;
  std::uint32_t epoch = 0;        ///< as it says itself; 0: it does not say
  std::uint64_t number = 0;       ///< the same
  std::uint32_t incarnation = 0;  ///< the same

  bool right() const { return kind == Kind::kRight; }
};
Finding judge(const Pattern& pattern, const Place& expected, std::uint16_t tag, std::span<const std::uint8_t> body);

/// "message 12 of connection 3 was expected, 14 came: 2 are lost".
std::string describe(const Finding& finding, const Place& expected);

/// A small generator with the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  /// 0 to `count` less one; `count` at least 1.
  std::uint64_t below(std::uint64_t count) { return next() % count; }

 private:
  std::uint64_t state_;
};

}  // namespace bulkhead::fault
