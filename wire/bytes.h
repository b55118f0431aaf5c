#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace bulkhead::wire {

/// Takes fields off the front of bytes that the caller holds in private memory; everything is big-endian.
/// Trust: the bytes are hostile. A field that does not fit sets `failed()` for good and yields zero or an empty span,
/// so a decoder may read several fields and check once, before it acts on any of them. Nothing is copied or allocated.
class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> bytes) noexcept : rest_(bytes) {}

  bool failed() const noexcept { return failed_; }
  /// True when every byte was taken and nothing failed: what a strict decoder ends with.
  bool finished() const noexcept { return !failed_ && rest_.empty(); }
  std::size_t remaining() const noexcept { return rest_.size(); }

  std::span<const std::uint8_t> take(std::size_t count) noexcept {
    if (failed_ || count > rest_.size()) {
      failed_ = true;
      return {};
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  std::uint8_t take_u8() noexcept { return static_cast<std::uint8_t>(take_number(1)); }
  std::uint16_t take_u16() noexcept { return static_cast<std::uint16_t>(take_number(2)); }
  std::uint32_t take_u32() noexcept { return static_cast<std::uint32_t>(take_number(4)); }
  template <std::size_t N>
  void take_into(std::array<std::uint8_t, N>& out) noexcept {
    const auto taken = take(N);
    if (taken.size() == N) std::memcpy(out.data(), taken.data(), N);
  }

 private:
  std::uint64_t take_number(std::size_t size) noexcept {
    std::uint64_t value = 0;
    for (const std::uint8_t byte : take(size)) value = value << 8 | byte;
    return value;
  }

  std::span<const std::uint8_t> rest_;
  bool failed_ = false;
};

inline void append_u16(std::vector<std::uint8_t>& out, std::uint16_t value) {
  out.push_back(static_cast<std::uint8_t>(value >> 8));
  out.push_back(static_cast<std::uint8_t>(value));
}

inline void append_u32(std::vector<std::uint8_t>& out, std::uint32_t value) {
  append_u16(out, static_cast<std::uint16_t>(value >> 16));
  append_u16(out, static_cast<std::uint16_t>(value));
}

inline void append(std::vector<std::uint8_t>& out, std::span<const std::uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

inline std::span<const std::uint8_t> as_byte_span(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace bulkhead::wire
