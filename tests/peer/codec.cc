#include "tests/peer/codec.h"

#include <sodium.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <stdexcept>

namespace bulkhead::testing {
namespace {

constexpr std::size_t kMaximumPoints = 100;
constexpr std::size_t kMaximumPointText = 47;
constexpr std::size_t kMaximumMessageSize = 100u * 1024 * 1024 - 4;

void need_sodium() {
  static const int ready = sodium_init();
  if (ready < 0) throw std::runtime_error("libsodium cannot be initialised");
}

Error invalid(std::string text) {
  return Error{ErrorCode::kInvalid, std::move(text)};
}
Error truncated(std::string text) {
  return Error{ErrorCode::kTruncated, std::move(text)};
}

void append_u16(Bytes& out, std::size_t value) {
  out.push_back(static_cast<std::uint8_t>(value >> 8 & 0xFF));
  out.push_back(static_cast<std::uint8_t>(value & 0xFF));
}

void append_u32(Bytes& out, std::size_t value) {
  append_u16(out, value >> 16 & 0xFFFF);
  append_u16(out, value & 0xFFFF);
}

void append(Bytes& out, ByteView bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_sized_text(Bytes& out, std::string_view text) {
  append_u32(out, text.size());
  out.insert(out.end(), text.begin(), text.end());
}

class Cursor {
 public:
  explicit Cursor(ByteView bytes) : rest_(bytes) {}

  std::size_t left() const { return rest_.size(); }

  std::optional<ByteView> take(std::size_t size) {
    if (size > rest_.size()) return std::nullopt;
    const ByteView taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }

  std::optional<std::size_t> number(std::size_t width) {
    const auto bytes = take(width);
    if (!bytes) return std::nullopt;
    std::size_t value = 0;
    for (const std::uint8_t byte : *bytes) value = value << 8 | byte;
    return value;
  }

  template <std::size_t kSize>
  bool copy(std::array<std::uint8_t, kSize>& into) {
    const auto bytes = take(kSize);
    if (bytes) std::copy(bytes->begin(), bytes->end(), into.begin());
    return bytes.has_value();
  }

 private:
  ByteView rest_;
};

Result<std::string> take_point(Cursor& cursor) {
  const auto size = cursor.number(4);
  if (!size) return truncated("the length of a point is cut off");
  if (*size > kMaximumPointText) return Error{ErrorCode::kTooLarge, "a point of " + std::to_string(*size) + " bytes"};
  const auto text = cursor.take(*size);
  if (!text) return truncated("a point is cut off");
  return std::string(text->begin(), text->end());
}

Result<std::vector<std::string>> take_points(Cursor& cursor) {
  std::vector<std::string> points;
  while (cursor.left() > 0) {
    if (points.size() == kMaximumPoints) return invalid("more than 100 points");
    auto point = take_point(cursor);
    if (!point) return point.error();
    points.push_back(std::move(*point));
  }
  return points;
}

std::array<std::uint8_t, 32> blake2b_256(ByteView bytes) {
  need_sodium();
  std::array<std::uint8_t, 32> hash{};
  crypto_generichash(hash.data(), hash.size(), bytes.data(), bytes.size(), nullptr, 0);
  return hash;
}

}  // namespace

Bytes from_hex(std::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    throw std::invalid_argument("not a hex digit");
  };
  if (text.size() % 2 != 0) throw std::invalid_argument("an odd number of hex digits");
  Bytes out;
  out.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    out.push_back(static_cast<std::uint8_t>(digit(text[i]) << 4 | digit(text[i + 1])));
  }
  return out;
}

std::string to_hex(ByteView bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(bytes.size() * 2);
  for (const std::uint8_t byte : bytes) {
    out.push_back(kDigits[byte >> 4]);
    out.push_back(kDigits[byte & 0xF]);
  }
  return out;
}

Bytes from_text(std::string_view text) {
  return {text.begin(), text.end()};
}

Bytes concat(std::initializer_list<ByteView> parts) {
  Bytes out;
  for (const ByteView part : parts) append(out, part);
  return out;
}

Bytes pattern(std::size_t size, std::uint8_t seed) {
  Bytes out(size);
  for (std::size_t k = 0; k < size; ++k) out[k] = static_cast<std::uint8_t>((7 * k + seed) & 0xFF);
  return out;
}

KeyPair fresh_key_pair() {
  need_sodium();
  Key secret{};
  randombytes_buf(secret.data(), secret.size());
  return key_pair_of(secret);
}

KeyPair key_pair_of(const Key& secret_key) {
  need_sodium();
  KeyPair pair;
  pair.secret_key = secret_key;
  if (crypto_scalarmult_base(pair.public_key.data(), secret_key.data()) != 0) {
    throw std::runtime_error("no public key for this secret key");
  }
  return pair;
}

std::array<std::uint8_t, 32> proof_of_work_target(double difficulty) {
  if (!(difficulty >= 0 && difficulty <= 256)) throw std::invalid_argument("a difficulty is 0 to 256");
  double whole = 0;
  const double part = std::modf(difficulty, &whole);
  std::uint64_t mantissa = (std::uint64_t{1} << 54) - 1;
  if (part != 0) mantissa = static_cast<std::uint64_t>(std::exp2(54 - part));
  const int shift = 202 - static_cast<int>(whole);
  std::array<std::uint8_t, 32> target{};
  for (int bit = 0; bit < 256; ++bit) {
    const int from = bit - shift;
    bool set = from < 0;
    if (from >= 0) set = from < 64 && (mantissa >> from & 1) != 0;
    if (set) target[static_cast<std::size_t>(bit / 8)] |= static_cast<std::uint8_t>(1u << (bit % 8));
  }
  return target;
}

bool proof_of_work_holds(const Key& public_key, const ProofStamp& stamp, double difficulty) {
  const auto hash = blake2b_256(concat({public_key, stamp}));
  const auto target = proof_of_work_target(difficulty);
  // Little-endian: the last byte weighs most.
  return !std::lexicographical_compare(target.rbegin(), target.rend(), hash.rbegin(), hash.rend());
}

ProofStamp find_stamp(const Key& public_key, double difficulty) {
  need_sodium();
  ProofStamp stamp{};
  randombytes_buf(stamp.data(), stamp.size());
  while (!proof_of_work_holds(public_key, stamp, difficulty)) sodium_increment(stamp.data(), stamp.size());
  return stamp;
}

ProofStamp find_bad_stamp(const Key& public_key, double difficulty) {
  if (difficulty < 1) throw std::invalid_argument("nearly every stamp passes below difficulty 1");
  need_sodium();
  ProofStamp stamp{};
  randombytes_buf(stamp.data(), stamp.size());
  while (proof_of_work_holds(public_key, stamp, difficulty)) sodium_increment(stamp.data(), stamp.size());
  return stamp;
}

TestIdentity fresh_identity(double difficulty) {
  TestIdentity identity;
  identity.keys = fresh_key_pair();
  identity.stamp = find_stamp(identity.keys.public_key, difficulty);
  return identity;
}

IdBytes peer_id_of(const Key& public_key) {
  need_sodium();
  IdBytes id{};
  crypto_generichash(id.data(), id.size(), public_key.data(), public_key.size(), nullptr, 0);
  return id;
}

std::string peer_id_text(const IdBytes& id) {
  need_sodium();
  Bytes payload = {0x99, 0x67};
  append(payload, id);
  std::array<std::uint8_t, 32> checksum{};
  crypto_hash_sha256(checksum.data(), payload.data(), payload.size());
  crypto_hash_sha256(checksum.data(), checksum.data(), checksum.size());
  append(payload, ByteView(checksum).first(4));

  static constexpr char kAlphabet[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
  std::string text;
  // Long division by 58; the payload never starts with a zero byte, so no leading "1" is due.
  while (!payload.empty()) {
    unsigned remainder = 0;
    Bytes quotient;
    for (const std::uint8_t byte : payload) {
      const unsigned value = remainder * 256 + byte;
      remainder = value % 58;
      if (!quotient.empty() || value / 58 != 0) quotient.push_back(static_cast<std::uint8_t>(value / 58));
    }
    text.push_back(kAlphabet[remainder]);
    payload = std::move(quotient);
  }
  std::reverse(text.begin(), text.end());
  return text;
}

std::string peer_id_text(const Key& public_key) {
  return peer_id_text(peer_id_of(public_key));
}

std::vector<Key> low_order_keys() {
  // The points of order 1, 2, 4 and 8 of Curve25519, reduced and not.
  static constexpr std::string_view kTexts[] = {
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
      "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  };
  std::vector<Key> keys;
  for (const std::string_view text : kTexts) {
    const Bytes bytes = from_hex(text);
    Key key{};
    std::copy(bytes.begin(), bytes.end(), key.begin());
    keys.push_back(key);
  }
  return keys;
}

Bytes encode_announcement(const Announcement& announcement) {
  Bytes body;
  append_u16(body, announcement.port);
  append(body, announcement.public_key);
  append(body, announcement.stamp);
  append(body, announcement.nonce);
  append_sized_text(body, announcement.chain_name);
  append_u16(body, announcement.distributed_db_version);
  append_u16(body, announcement.p2p_version);
  Bytes whole;
  append_u16(whole, body.size());
  append(whole, body);
  return whole;
}

Result<Announcement> decode_announcement(ByteView whole) {
  Cursor cursor(whole);
  const auto length = cursor.number(2);
  if (!length || *length != cursor.left()) return invalid("the length of the connection message is not its size");
  Announcement out;
  const auto port = cursor.number(2);
  if (!port || !cursor.copy(out.public_key) || !cursor.copy(out.stamp) || !cursor.copy(out.nonce)) {
    return truncated("the connection message ends too early");
  }
  out.port = static_cast<std::uint16_t>(*port);
  const auto name_size = cursor.number(4);
  if (!name_size) return truncated("the connection message ends before the chain name");
  const auto name = cursor.take(*name_size);
  if (!name) return truncated("the connection message ends within the chain name");
  out.chain_name.assign(name->begin(), name->end());
  const auto db = cursor.number(2);
  const auto p2p = cursor.number(2);
  if (!db || !p2p) return truncated("the connection message ends before the versions");
  if (cursor.left() != 0) return invalid("bytes are left in the connection message");
  out.distributed_db_version = static_cast<std::uint16_t>(*db);
  out.p2p_version = static_cast<std::uint16_t>(*p2p);
  return out;
}

NoncePair derive_nonces(ByteView sent, ByteView received, bool initiator) {
  const ByteView first = initiator ? sent : received;
  const ByteView second = initiator ? received : sent;
  const auto nonce = [&](std::string_view label) {
    const auto hash = blake2b_256(concat({first, second, from_text(label)}));
    NonceBytes out{};
    std::copy_n(hash.begin(), out.size(), out.begin());
    return out;
  };
  const NonceBytes responder_sends = nonce("Init -> Resp");
  const NonceBytes initiator_sends = nonce("Resp -> Init");
  if (initiator) return {initiator_sends, responder_sends};
  return {responder_sends, initiator_sends};
}

void increment(NonceBytes& nonce) {
  for (auto byte = nonce.rbegin(); byte != nonce.rend(); ++byte) {
    *byte = static_cast<std::uint8_t>(*byte + 1);
    if (*byte != 0) return;
  }
}

Result<Key> shared_key(const Key& remote_public_key, const Key& secret_key) {
  need_sodium();
  Key key{};
  if (crypto_box_beforenm(key.data(), remote_public_key.data(), secret_key.data()) != 0) {
    return invalid("the public key has a low order");
  }
  return key;
}

Bytes seal_chunk(ByteView plaintext, const Key& key, const NonceBytes& nonce) {
  need_sodium();
  if (plaintext.size() > kMaximumReadable) throw std::invalid_argument("no chunk holds that much");
  Bytes chunk;
  append_u16(chunk, plaintext.size() + kTagSize);
  chunk.resize(2 + kTagSize + plaintext.size());
  crypto_box_easy_afternm(chunk.data() + 2, plaintext.data(), plaintext.size(), nonce.data(), key.data());
  return chunk;
}

Result<Bytes> open_chunk(ByteView body, const Key& key, const NonceBytes& nonce) {
  need_sodium();
  if (body.size() < kTagSize)
    return invalid("a chunk of " + std::to_string(body.size()) + " bytes has no room for a tag");
  Bytes plaintext(body.size() - kTagSize);
  if (crypto_box_open_easy_afternm(plaintext.data(), body.data(), body.size(), nonce.data(), key.data()) != 0) {
    return invalid("decipher error");
  }
  return plaintext;
}

Bytes encode_metadata(const Metadata& metadata) {
  const auto flag = [](bool on) { return static_cast<std::uint8_t>(on ? 0xFF : 0x00); };
  return {flag(metadata.disable_mempool), flag(metadata.private_node)};
}

Result<Metadata> decode_metadata(ByteView bytes) {
  if (bytes.size() != 2) return invalid("metadata of " + std::to_string(bytes.size()) + " bytes");
  return Metadata{bytes[0] != 0, bytes[1] != 0};
}

Bytes encode_ack(const AckMessage& ack) {
  if (ack.kind == AckKind::kAck) return {0x00};
  if (ack.kind == AckKind::kNackV0) return {0xFF};
  Bytes list;
  for (const std::string& point : ack.points) append_sized_text(list, point);
  Bytes out = {0x01};
  append_u16(out, static_cast<std::uint16_t>(ack.motive));
  append_u32(out, list.size());
  append(out, list);
  return out;
}

Result<AckMessage> decode_ack(ByteView bytes) {
  Cursor cursor(bytes);
  const auto tag = cursor.number(1);
  if (!tag) return truncated("the ack is empty");
  AckMessage ack;
  if (*tag == 0x00 || *tag == 0xFF) {
    if (cursor.left() != 0) return invalid("bytes are left behind the ack");
    ack.kind = *tag == 0 ? AckKind::kAck : AckKind::kNackV0;
    return ack;
  }
  if (*tag != 0x01) return invalid("an ack of tag " + std::to_string(*tag));
  ack.kind = AckKind::kNack;
  const auto motive = cursor.number(2);
  const auto size = cursor.number(4);
  if (!motive || !size) return truncated("the nack is cut off");
  if (*size != cursor.left()) return invalid("the list of the nack is not as long as it says");
  ack.motive = static_cast<std::int16_t>(*motive);
  auto points = take_points(cursor);
  if (!points) return points.error();
  ack.points = std::move(*points);
  return ack;
}

Bytes encode_message(std::uint16_t tag, ByteView body) {
  Bytes out;
  out.reserve(6 + body.size());
  append_u32(out, body.size() + 2);
  append_u16(out, tag);
  append(out, body);
  return out;
}

Bytes encode_disconnect() {
  return encode_message(kDisconnectTag, {});
}
Bytes encode_bootstrap() {
  return encode_message(kBootstrapTag, {});
}

Bytes encode_advertise(std::span<const std::string> points) {
  Bytes body;
  for (const std::string& point : points) append_sized_text(body, point);
  return encode_message(kAdvertiseTag, body);
}

namespace {

Bytes encode_swap(std::uint16_t tag, std::string_view point, const IdBytes& id) {
  Bytes body;
  append_sized_text(body, point);
  append(body, id);
  return encode_message(tag, body);
}

}  // namespace

Bytes encode_swap_request(std::string_view point, const IdBytes& id) {
  return encode_swap(kSwapRequestTag, point, id);
}
Bytes encode_swap_ack(std::string_view point, const IdBytes& id) {
  return encode_swap(kSwapAckTag, point, id);
}

Result<std::optional<Message>> take_message(Bytes& stream) {
  Cursor cursor(stream);
  const auto size = cursor.number(4);
  if (!size) return std::optional<Message>();
  if (*size > kMaximumMessageSize)
    return Error{ErrorCode::kTooLarge, "a message of " + std::to_string(*size) + " bytes"};
  if (*size < 2) return invalid("a message of " + std::to_string(*size) + " bytes has no room for its tag");
  if (cursor.left() < *size) return std::optional<Message>();
  Message message;
  message.tag = static_cast<std::uint16_t>(*cursor.number(2));
  const ByteView body = *cursor.take(*size - 2);
  message.body.assign(body.begin(), body.end());
  stream.erase(stream.begin(), stream.begin() + static_cast<std::ptrdiff_t>(4 + *size));
  return std::optional<Message>(std::move(message));
}

Result<std::vector<std::string>> decode_advertise(ByteView body) {
  Cursor cursor(body);
  return take_points(cursor);
}

Result<SwapBody> decode_swap(ByteView body) {
  Cursor cursor(body);
  auto point = take_point(cursor);
  if (!point) return point.error();
  SwapBody swap;
  swap.point = std::move(*point);
  if (!cursor.copy(swap.id)) return truncated("the peer id of a swap is cut off");
  if (cursor.left() != 0) return invalid("bytes are left behind a swap");
  return swap;
}

std::vector<ByteView> cut(ByteView stream, std::size_t piece) {
  if (piece == 0) throw std::invalid_argument("pieces of nothing never end");
  std::vector<ByteView> pieces;
  while (!stream.empty()) {
    const std::size_t size = std::min(piece, stream.size());
    pieces.push_back(stream.first(size));
    stream = stream.subspan(size);
  }
  return pieces;
}

}  // namespace bulkhead::testing
