#pragma once

#include <capnp/message.h>
#include <kj/exception.h>
#include <schema/types.capnp.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/reasons.h"
#include "base/result.h"
#include "schema/codec.h"

/// What the codecs of all channels are made of. For codec_*.cc only.
namespace bulkhead::schema {

static_assert(std::endian::native == std::endian::little, "the frame is written as it lies in memory");

inline constexpr std::size_t kPackedPoint = 18;

/// Keeps KJ from taking a stack trace (which may load libraries) and from writing to stderr: both would end a confined
/// process. Must live on the stack.
class QuietExceptions final : public kj::ExceptionCallback {
 public:
  StackTraceMode stackTraceMode() override { return StackTraceMode::NONE; }
  void logMessage(kj::LogSeverity, const char*, int, int, kj::String&&) override {}
};

/// A builder over caller's memory that never has a second segment.
class OneSegmentBuilder final : public capnp::MessageBuilder {
 public:
  explicit OneSegmentBuilder(std::span<std::uint64_t> zeroed) : words_(zeroed) {}

  kj::ArrayPtr<capnp::word> allocateSegment(unsigned minimum_size) override {
    if (given_ || minimum_size > words_.size()) {
      kj::throwFatalException(
          kj::Exception(kj::Exception::Type::FAILED, __FILE__, __LINE__, kj::heapString("message too large")));
    }
    given_ = true;
    return {reinterpret_cast<capnp::word*>(words_.data()), words_.size()};
  }

 private:
  std::span<std::uint64_t> words_;
  bool given_ = false;
};

/// The sender's side of the bounds. Remembers the first field that breaks one; the message is not sent then.
class Writing {
 public:
  const Error* error() const { return failed_ ? &error_ : nullptr; }

  capnp::Text::Reader text(const std::string& value, std::size_t maximum) {
    if (!fits(value.size(), maximum)) return {};
    return {value.c_str(), value.size()};
  }

  capnp::Data::Reader bytes(const std::vector<std::uint8_t>& value, std::size_t maximum) {
    if (!fits(value.size(), maximum)) return {};
    return {value.data(), value.size()};
  }

  template <std::size_t kSize>
  static capnp::Data::Reader whole(const std::array<std::uint8_t, kSize>& value) {
    return {value.data(), value.size()};
  }

  /// The length of a list, or 0 when it is too long.
  unsigned count(std::size_t size, std::size_t maximum) {
    return fits(size, maximum) ? static_cast<unsigned>(size) : 0;
  }

  /// `out` has packed_size(points) bytes.
  unsigned packed_size(const std::vector<Point>& points) {
    return count(points.size(), kMaximumPoints) * static_cast<unsigned>(kPackedPoint);
  }
  void points(capnp::Data::Builder out, const std::vector<Point>& points) {
    for (std::size_t i = 0; (i + 1) * kPackedPoint <= out.size(); ++i) pack(out.begin() + i * kPackedPoint, points[i]);
  }
  void point(capnp::Data::Builder out, const Point& point) { pack(out.begin(), point); }

  double finite(double value) {
    if (std::isfinite(value)) return value;
    fail({ErrorCode::kInvalid, "a number of a message is not finite"});
    return 0;
  }

  template <typename Enum>
  auto known(Enum value, Enum last) {
    const auto raw = static_cast<std::uint16_t>(value);
    if (raw <= static_cast<std::uint16_t>(last)) return raw;
    fail({ErrorCode::kInvalid, "an enumerator of a message is unknown"});
    return std::uint16_t{0};
  }

  std::uint16_t reason(Reason value) {
    const auto raw = static_cast<std::uint16_t>(value);
    if (reason_from_value(raw)) return raw;
    fail({ErrorCode::kInvalid, "the reason in a message is unknown"});
    return 0;
  }

  const Prefix& canonical(const Prefix& prefix) {
    if (!is_canonical(prefix)) fail({ErrorCode::kInvalid, "a prefix of a message has bits beyond its length"});
    return prefix;
  }

  std::uint32_t between(std::uint32_t value, std::uint32_t least, std::uint32_t most) {
    if (value >= least && value <= most) return value;
    fail({ErrorCode::kInvalid, "a number of a message is out of range"});
    return least;
  }

 private:
  static void pack(std::uint8_t* out, const Point& point) {
    std::memcpy(out, point.address.bytes.data(), point.address.bytes.size());
    out[16] = static_cast<std::uint8_t>(point.port >> 8);
    out[17] = static_cast<std::uint8_t>(point.port & 0xff);
  }

  bool fits(std::size_t size, std::size_t maximum) {
    if (size <= maximum) return true;
    fail({ErrorCode::kTooLarge, "a field of a message is longer than its limit"});
    return false;
  }

  void fail(Error error) {
    if (failed_) return;
    failed_ = true;
    error_ = std::move(error);
  }

  bool failed_ = false;
  Error error_;
};

/// The receiver's side: each helper takes what was read once, checks it and copies it. Remembers the first fault and
/// answers an empty value; the message is discarded then.
class Reading {
 public:
  /// One line without any byte of the message; null: no fault.
  const char* fault() const { return fault_; }

  void fail(const char* fault) {
    if (fault_ == nullptr) fault_ = fault;
  }

  std::string text(capnp::Text::Reader value, std::size_t maximum) {
    if (!fits(value.size(), maximum)) return {};
    return {value.begin(), value.size()};
  }

  std::vector<std::uint8_t> bytes(capnp::Data::Reader value, std::size_t maximum) {
    if (!fits(value.size(), maximum)) return {};
    return {value.begin(), value.end()};
  }

  template <std::size_t kSize>
  void exact(capnp::Data::Reader value, std::array<std::uint8_t, kSize>& out) {
    if (value.size() != kSize) return fail("a key or id of another length");
    std::memcpy(out.data(), value.begin(), kSize);
  }

  unsigned count(unsigned size, std::size_t maximum) { return fits(size, maximum) ? size : 0; }

  Point point(capnp::Data::Reader value) {
    if (value.size() == kPackedPoint) return unpack(value.begin());
    fail("a point of another length");
    return {};
  }

  std::vector<Point> points(capnp::Data::Reader value) {
    const std::size_t number = value.size() / kPackedPoint;
    if (value.size() % kPackedPoint != 0) fail("points of another length");
    if (fault_ != nullptr || !fits(number, kMaximumPoints)) return {};
    std::vector<Point> points(number);
    for (std::size_t i = 0; i < number; ++i) points[i] = unpack(value.begin() + i * kPackedPoint);
    return points;
  }

  double finite(double value) {
    if (std::isfinite(value)) return value;
    fail("a number that is not finite");
    return 0;
  }

  /// `Enum` has the values 0 to `last`.
  template <typename Enum, typename Raw>
  Enum known(Raw value, Enum last) {
    const auto raw = static_cast<std::uint16_t>(value);
    if (raw <= static_cast<std::uint16_t>(last)) return static_cast<Enum>(raw);
    fail("an unknown enumerator");
    return Enum{};
  }

  Reason reason(std::uint16_t value) {
    const std::optional<Reason> reason = reason_from_value(value);
    if (!reason) fail("an unknown reason");
    return reason.value_or(Reason::kNone);
  }

  std::uint32_t between(std::uint32_t value, std::uint32_t least, std::uint32_t most) {
    if (value >= least && value <= most) return value;
    fail("a number out of range");
    return least;
  }

 private:
  static Point unpack(const std::uint8_t* in) {
    Point point;
    std::memcpy(point.address.bytes.data(), in, point.address.bytes.size());
    point.port = static_cast<std::uint16_t>((in[16] << 8) | in[17]);
    return point;
  }

  bool fits(std::size_t size, std::size_t maximum) {
    if (size <= maximum) return true;
    fail("a field longer than its limit");
    return false;
  }

  const char* fault_ = nullptr;
};

// -------------------------------------------------------------------------------------------------- types.capnp

inline void write(Writing&, proto::SlotRef::Builder out, const SlotRef& value) {
  out.setSlot(value.slot);
  out.setGeneration(value.generation);
}
inline void read(Reading&, proto::SlotRef::Reader in, SlotRef& value) {
  value.slot = in.getSlot();
  value.generation = in.getGeneration();
}

inline void write(Writing& w, proto::Announcement::Builder out, const Announcement& value) {
  out.setPort(value.port);
  out.setChainName(w.text(value.chain_name, kMaximumChainName));
  out.setDistributedDbVersion(value.distributed_db_version);
  out.setP2pVersion(value.p2p_version);
}
inline void read(Reading& r, proto::Announcement::Reader in, Announcement& value) {
  value.port = in.getPort();
  value.chain_name = r.text(in.getChainName(), kMaximumChainName);
  value.distributed_db_version = in.getDistributedDbVersion();
  value.p2p_version = in.getP2pVersion();
}

inline void write(Writing&, proto::ConnectionMetadata::Builder out, const ConnectionMetadata& value) {
  out.setDisableMempool(value.disable_mempool);
  out.setPrivateNode(value.private_node);
}
inline void read(Reading&, proto::ConnectionMetadata::Reader in, ConnectionMetadata& value) {
  value.disable_mempool = in.getDisableMempool();
  value.private_node = in.getPrivateNode();
}

inline void write(Writing& w, proto::OptionalPeerId::Builder out, const std::optional<PeerId>& value) {
  if (value) {
    out.setSome(w.whole(*value));
  } else {
    out.setNone();
  }
}
inline void read(Reading& r, proto::OptionalPeerId::Reader in, std::optional<PeerId>& value) {
  switch (in.which()) {
    case proto::OptionalPeerId::NONE:
      return value.reset();
    case proto::OptionalPeerId::SOME:
      return r.exact(in.getSome(), value.emplace());
    default:
      return r.fail("an unknown kind of optional peer id");
  }
}

inline void write(Writing& w, proto::OptionalAddress::Builder out, const std::optional<Address>& value) {
  if (value) {
    out.setSome(w.whole(value->bytes));
  } else {
    out.setNone();
  }
}
inline void read(Reading& r, proto::OptionalAddress::Reader in, std::optional<Address>& value) {
  switch (in.which()) {
    case proto::OptionalAddress::NONE:
      return value.reset();
    case proto::OptionalAddress::SOME:
      return r.exact(in.getSome(), value.emplace().bytes);
    default:
      return r.fail("an unknown kind of optional address");
  }
}

// -------------------------------------------------------------------------------------------------- whole messages

template <typename Root, template <typename> typename Writer, typename Message>
Result<std::size_t> encode_root(const Message& message, std::span<std::uint64_t> zeroed) {
  const Error too_large{ErrorCode::kTooLarge, "the message is larger than its packet"};
  if (zeroed.size() < 2) return too_large;
  const QuietExceptions quiet;
  Writing writing;
  try {
    OneSegmentBuilder builder(zeroed.subspan(1));
    std::visit(Writer<typename Root::Builder>{writing, builder.initRoot<Root>()}, message);
    if (writing.error() != nullptr) return *writing.error();
    const std::size_t used = builder.getSegmentsForOutput()[0].size();
    // Two 32-bit words: the number of segments less one, and the length of the only one.
    zeroed[0] = static_cast<std::uint64_t>(used) << 32;
    return used + 1;
  } catch (const kj::Exception&) {
    return too_large;
  }
}

template <typename Message, typename Root, typename Reader>
Result<Message> decode_root(std::span<const std::uint64_t> words, Reader read_member) {
  // Checked here, as 0.9.2 multiplies the number of segments before it looks at it.
  if (words.size() < 2 || words.size() > kMaximumPacket / sizeof(std::uint64_t) ||
      words[0] != static_cast<std::uint64_t>(words.size() - 1) << 32) {
    return Error{ErrorCode::kBroken, "a message that is not one segment of the packet's length"};
  }
  const QuietExceptions quiet;
  try {
    const kj::ArrayPtr<const capnp::word> segment(reinterpret_cast<const capnp::word*>(words.data() + 1),
                                                  words.size() - 1);
    capnp::ReaderOptions options;
    // Each field is read once, so a message that needs more than this refers to the same words many times.
    options.traversalLimitInWords = 4 * words.size();
    options.nestingLimit = 8;
    capnp::SegmentArrayMessageReader reader(kj::arrayPtr(&segment, 1), options);
    Reading reading;
    Message message;
    read_member(reading, reader.getRoot<Root>(), message);
    if (reading.fault() != nullptr) return Error{ErrorCode::kBroken, reading.fault()};
    return message;
  } catch (const kj::Exception&) {
    return Error{ErrorCode::kBroken, "a malformed message"};
  }
}

}  // namespace bulkhead::schema

// BULKHEAD_CODEC(Variant, LIST) defines encode and decode of a variant of messages.h. LIST(FIELDS, EMPTY) names its
// members: FIELDS(Name, ENUMERATOR) for one with fields, whose write() and read() are declared before, and
// EMPTY(Name, ENUMERATOR) for one without. The names are the same in messages.h and in the .capnp file.

#define BULKHEAD_WRITE_FIELDS(Name, ENUMERATOR) \
  void operator()(const Name& value) {          \
    write(writing, root.init##Name(), value);   \
  }
#define BULKHEAD_WRITE_EMPTY(Name, ENUMERATOR) \
  void operator()(const Name&) {               \
    root.set##Name();                          \
  }
#define BULKHEAD_READ_FIELDS(Name, ENUMERATOR)                              \
  case Root::ENUMERATOR:                                                    \
    if (!root.has##Name()) return reading.fail("a message without fields"); \
    return read(reading, root.get##Name(), message.emplace<Name>());
#define BULKHEAD_READ_EMPTY(Name, ENUMERATOR) \
  case Root::ENUMERATOR:                      \
    message.emplace<Name>();                  \
    return;

#define BULKHEAD_CODEC(Variant, LIST)                                                            \
  namespace {                                                                                    \
  template <typename RootBuilder>                                                                \
  struct Variant##Writer {                                                                       \
    Writing& writing;                                                                            \
    RootBuilder root;                                                                            \
    LIST(BULKHEAD_WRITE_FIELDS, BULKHEAD_WRITE_EMPTY)                                            \
  };                                                                                             \
  void read_##Variant(Reading& reading, proto::Variant::Reader root, Variant& message) {         \
    using Root = proto::Variant;                                                                 \
    switch (root.which()) {                                                                      \
      LIST(BULKHEAD_READ_FIELDS, BULKHEAD_READ_EMPTY)                                            \
      default:                                                                                   \
        return reading.fail("an unknown message");                                               \
    }                                                                                            \
  }                                                                                              \
  }                                                                                              \
  template <>                                                                                    \
  Result<std::size_t> encode<Variant>(const Variant& message, std::span<std::uint64_t> zeroed) { \
    return encode_root<proto::Variant, Variant##Writer>(message, zeroed);                        \
  }                                                                                              \
  template <>                                                                                    \
  Result<Variant> decode<Variant>(std::span<const std::uint64_t> words) {                        \
    return decode_root<Variant, proto::Variant>(words, read_##Variant);                          \
  }
