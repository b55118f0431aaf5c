#include "tests/unit/wire/support.h"

#include <fstream>
#include <stdexcept>

namespace bulkhead::wire {
namespace {

class LibraryReady : public testing::Environment {
 public:
  void SetUp() override { initialise(); }
};
const testing::Environment* const kLibraryReady = testing::AddGlobalTestEnvironment(new LibraryReady);

int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  throw std::invalid_argument("not a hex digit");
}

}  // namespace

Bytes from_hex(std::string_view hex) {
  if (hex.size() % 2 != 0) throw std::invalid_argument("odd number of hex digits");
  Bytes out;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    out.push_back(static_cast<std::uint8_t>(digit(hex[i]) * 16 + digit(hex[i + 1])));
  }
  return out;
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
  std::string out;
  for (const std::uint8_t byte : bytes) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

Json load_vectors(const std::string& name) {
  std::ifstream file(std::string(BULKHEAD_SOURCE_DIR) + "/tests/vectors/" + name);
  return Json::parse(file);
}

Json load_vectors(const std::string& name, const std::string& section) {
  Json list = load_vectors(name).at(section);
  if (!list.is_array() || list.empty()) throw std::runtime_error(name + " has no " + section);
  return list;
}

std::vector<Point> points(const Json& texts) {
  std::vector<Point> out;
  for (const auto& text : texts) out.push_back(point(text.get<std::string>()));
  return out;
}

P2pMessage p2p_message(const Json& described) {
  const auto type = described.at("type").get<std::string>();
  if (type == "Disconnect") return Disconnect{};
  if (type == "Bootstrap") return Bootstrap{};
  if (type == "Advertise") return Advertise{points(described.at("points"))};
  const Point swapped = point(described.at("point").get<std::string>());
  const PeerId id = parse_peer_id(described.at("peer_id").get<std::string>()).value();
  if (type == "Swap_request") return SwapRequest{swapped, id};
  if (type == "Swap_ack") return SwapAck{swapped, id};
  throw std::invalid_argument("unknown message type " + type);
}

Bytes application_payload(const Json& described) {
  if (described.contains("generated")) return generated(described.at("generated").get<std::size_t>());
  return from_hex(described.at("payload"));
}

Bytes generated(std::size_t size) {
  Bytes out(size);
  for (std::size_t k = 0; k < size; ++k) out[k] = static_cast<std::uint8_t>(7 * k);
  return out;
}

std::vector<Point> longest_points(std::size_t count) {
  std::vector<Point> out;
  for (std::size_t i = 0; i < count; ++i) {
    Point one{{}, 65535};
    one.address.bytes.fill(0xFF);
    one.address.bytes[15] = static_cast<std::uint8_t>(0x10 + i % 0xF0);
    out.push_back(one);
  }
  return out;
}

}  // namespace bulkhead::wire
