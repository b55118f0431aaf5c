#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace bulkhead::cli {

/// Two lower-case digits a byte.
inline std::string hex_text(std::span<const std::uint8_t> bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (const std::uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

}  // namespace bulkhead::cli
