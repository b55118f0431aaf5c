#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

/// What a fuzz target says about its input: aborts, so that the fuzzer keeps the input. Never compiled out.
inline void require(bool holds) {
  if (!holds) std::abort();
}

template <typename Left, typename Right>
bool same_bytes(const Left& left, const Right& right) {
  const std::span<const std::uint8_t> a(left);
  const std::span<const std::uint8_t> b(right);
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
