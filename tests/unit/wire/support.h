#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/ids.h"
#include "wire/message.h"
#include "wire/peer_id.h"
#include "wire/secret.h"

namespace bulkhead::wire {

using Bytes = std::vector<std::uint8_t>;
using Json = nlohmann::json;

Bytes from_hex(std::string_view hex);
std::string to_hex(std::span<const std::uint8_t> bytes);
// A template, as everything that is text converts to Json too.
template <std::same_as<Json> J>
Bytes from_hex(const J& hex) {
  return from_hex(std::string_view(hex.template get_ref<const std::string&>()));
}

/// Fails the test when the hex does not have N bytes.
template <std::size_t N>
std::array<std::uint8_t, N> array_from_hex(std::string_view hex) {
  std::array<std::uint8_t, N> out{};
  const Bytes bytes = from_hex(hex);
  EXPECT_EQ(bytes.size(), N);
  if (bytes.size() == N) std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

/// A file of tests/vectors.
Json load_vectors(const std::string& name);
/// A list in it; throws when it is empty. A value, so that a range-for may take it as it is.
Json load_vectors(const std::string& name, const std::string& section);

inline Point point(std::string_view text) {
  return parse_point(text).value();
}
std::vector<Point> points(const Json& texts);
inline std::string chain_name(const Json& version) {
  const Bytes bytes = from_hex(version.at("chain_name"));
  return {bytes.begin(), bytes.end()};
}

/// A message of the P2P layer as the vectors name it.
P2pMessage p2p_message(const Json& described);
/// The payload of an application message as the vectors name it.
Bytes application_payload(const Json& described);
/// (7 * k) mod 256 for k = 0 to size - 1.
Bytes generated(std::size_t size);

/// Distinct points with the longest text there is.
std::vector<Point> longest_points(std::size_t count);

inline std::string text_of(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}
inline Bytes bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}
inline Bytes concat(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

}  // namespace bulkhead::wire
