#include "services/controller/cli/fault/traffic.h"

#include <algorithm>
#include <cstring>
#include <optional>

namespace bulkhead::fault {
namespace {

constexpr std::uint32_t kMagic = 0x46a17b1d;
constexpr std::size_t kPoolSize = 2 * Pattern::kMaximumBody;
constexpr std::uint64_t kFirstTag = 0x1000;
constexpr std::uint64_t kTags = 0x4000;
constexpr std::uint64_t kSmallNumbers = 2;

/// The first bytes of a body, as many as fit.
struct Stamp {
  std::uint32_t magic;
  std::uint16_t peer;
  std::uint16_t way;
  std::uint32_t epoch;
  std::uint32_t incarnation;
  std::uint64_t number;
  std::uint32_t size;
  std::uint32_t reserved;
  std::uint64_t checksum;  ///< of the body with 0 in this place
};
static_assert(sizeof(Stamp) == 40);

std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

std::uint64_t mix(const Place& place, std::uint64_t salt) {
  const std::uint64_t who = std::uint64_t{place.peer} << 48 | static_cast<std::uint64_t>(place.way) << 32 | place.epoch;
  return mix(mix(mix(who) ^ place.number) ^ salt);
}

/// Bytes without a pattern, to take bodies from: making and comparing them then costs a copy.
const std::vector<std::uint8_t>& pool() {
  static const std::vector<std::uint8_t> kPool = [] {
    std::vector<std::uint8_t> bytes(kPoolSize);
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      const std::uint64_t word = mix(at);
      std::memcpy(bytes.data() + at, &word, sizeof word);
    }
    return bytes;
  }();
  return kPool;
}

std::uint64_t checksum(std::span<const std::uint8_t> bytes) {
  std::uint64_t sum = bytes.size();
  while (!bytes.empty()) {
    std::uint64_t word = 0;
    const std::size_t part = std::min(bytes.size(), sizeof word);
    std::memcpy(&word, bytes.data(), part);
    sum = (sum ^ word) * 0x9fb21c651e98df25;
    sum ^= sum >> 32;
    bytes = bytes.subspan(part);
  }
  return sum;
}

/// The stamp of a body that is whole and unaltered, whoever sent it.
std::optional<Stamp> stamp_of(std::span<const std::uint8_t> body) {
  Stamp stamp{};
  if (body.size() < sizeof stamp) return std::nullopt;
  std::memcpy(&stamp, body.data(), sizeof stamp);
  if (stamp.magic != kMagic || stamp.size != body.size()) return std::nullopt;
  std::vector<std::uint8_t> copy(body.begin(), body.end());
  std::memset(copy.data() + offsetof(Stamp, checksum), 0, sizeof stamp.checksum);
  if (checksum(copy) != stamp.checksum) return std::nullopt;
  return stamp;
}

/// The body without its stamp's incarnation and checksum: what a receiver can say beforehand.
bool is_body(const Pattern& pattern, const Place& place, std::span<const std::uint8_t> body,
             std::uint32_t& incarnation) {
  if (body.size() != body_size(pattern, place)) return false;
  const std::uint64_t at = mix(place, 2) % (kPoolSize - Pattern::kMaximumBody);
  const std::size_t head = std::min(body.size(), sizeof(Stamp));
  if (!std::equal(body.begin() + static_cast<std::ptrdiff_t>(head), body.end(), pool().data() + at)) return false;
  if (head < sizeof(Stamp)) return true;
  const auto stamp = stamp_of(body);
  if (!stamp) return false;
  incarnation = stamp->incarnation;
  return stamp->peer == place.peer && stamp->way == static_cast<std::uint16_t>(place.way) &&
         stamp->epoch == place.epoch && stamp->number == place.number;
}

}  // namespace

std::uint64_t Random::next() {
  state_ += 0x9e3779b97f4a7c15;
  return mix(state_);
}

std::size_t body_size(const Pattern& pattern, const Place& place) {
  const std::uint64_t draw = mix(place, 1);
  const std::uint64_t kind = draw % 100;
  const auto between = [&](std::uint64_t least, std::uint64_t most) {
    return static_cast<std::size_t>(std::min<std::uint64_t>(least + (draw >> 8) % (most - least), pattern.largest));
  };
  if (place.number <= kSmallNumbers) return between(sizeof(Stamp), 512);
  if (kind < 8) return 0;
  if (kind < 68) return between(sizeof(Stamp), 1024);
  if (kind < 92) return between(1024, 16 * 1024);
  if (kind < 99) return between(16 * 1024, 100 * 1024);
  return between(257 * 1024, Pattern::kDefaultLargest);
}

std::uint16_t tag_of(const Place& place) {
  return static_cast<std::uint16_t>(kFirstTag + place.number % kTags);
}

void make_body(const Pattern& pattern, const Place& place, std::uint32_t incarnation, std::vector<std::uint8_t>& body) {
  const std::uint64_t at = mix(place, 2) % (kPoolSize - Pattern::kMaximumBody);
  body.resize(body_size(pattern, place));
  const std::size_t head = std::min(body.size(), sizeof(Stamp));
  std::copy_n(pool().data() + at, body.size() - head, body.begin() + static_cast<std::ptrdiff_t>(head));
  if (head < sizeof(Stamp)) return;
  Stamp stamp{.magic = kMagic,
              .peer = place.peer,
              .way = static_cast<std::uint16_t>(place.way),
              .epoch = place.epoch,
              .incarnation = incarnation,
              .number = place.number,
              .size = static_cast<std::uint32_t>(body.size()),
              .reserved = 0,
              .checksum = 0};
  std::memcpy(body.data(), &stamp, sizeof stamp);
  stamp.checksum = checksum(body);
  std::memcpy(body.data(), &stamp, sizeof stamp);
}

Finding judge(const Pattern& pattern, const Place& expected, std::uint16_t tag, std::span<const std::uint8_t> body) {
  Finding finding{.epoch = expected.epoch, .number = expected.number};
  if (tag == tag_of(expected) && is_body(pattern, expected, body, finding.incarnation)) {
    finding.kind = Finding::Kind::kRight;
    return finding;
  }
  Place before = expected;
  --before.number;
  if (before.number > 0 && tag == tag_of(before) && is_body(pattern, before, body, finding.incarnation)) {
    finding.kind = Finding::Kind::kRepeated;
    finding.number = before.number;
    return finding;
  }
  finding = {};
  const auto stamp = stamp_of(body);
  if (!stamp || stamp->peer != expected.peer || stamp->way != static_cast<std::uint16_t>(expected.way)) return finding;
  const Place said{stamp->peer, expected.way, stamp->epoch, stamp->number};
  std::uint32_t incarnation = 0;
  if (tag != tag_of(said) || !is_body(pattern, said, body, incarnation)) return finding;
  finding.epoch = said.epoch;
  finding.number = said.number;
  finding.incarnation = incarnation;
  finding.kind = said.epoch != expected.epoch    ? Finding::Kind::kOtherEpoch
                 : said.number > expected.number ? Finding::Kind::kLater
                                                 : Finding::Kind::kEarlier;
  return finding;
}

std::string describe(const Finding& finding, const Place& expected) {
  const std::string wanted = "message " + std::to_string(expected.number) + " of connection " +
                             std::to_string(expected.epoch) + " of peer " + std::to_string(expected.peer) +
                             (expected.way == Way::kToApplication ? " to the application" : " from the application") +
                             " was expected, ";
  const std::string came = std::to_string(finding.number) + " came";
  switch (finding.kind) {
    case Finding::Kind::kRight:
      return wanted + "and came";
    case Finding::Kind::kRepeated:
      return wanted + came + " a second time";
    case Finding::Kind::kOtherEpoch:
      return wanted + came + " of connection " + std::to_string(finding.epoch);
    case Finding::Kind::kEarlier:
      return wanted + came + ": doubled, or out of order";
    case Finding::Kind::kLater:
      return wanted + came + ": " + std::to_string(finding.number - expected.number) + " are lost, or out of order";
    case Finding::Kind::kAltered:
      return wanted + "one came that nobody sent so: it was altered, or an empty one is out of its place";
  }
  return wanted;
}

}  // namespace bulkhead::fault
