#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>

namespace bulkhead {

/// Nanoseconds of CLOCK_MONOTONIC: the same for every process of the machine, so deadlines may travel between them.
using Nanoseconds = std::uint64_t;

inline constexpr Nanoseconds kMillisecond = 1'000'000;
inline constexpr Nanoseconds kSecond = 1'000'000'000;

inline Nanoseconds monotonic_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<Nanoseconds>(now.tv_sec) * kSecond + static_cast<Nanoseconds>(now.tv_nsec);
}

/// Milliseconds of the Unix epoch (UTC), for what people read. Never used for deadlines.
inline std::int64_t wall_now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace bulkhead
