#include "wire/proof_of_work.h"

#include <sodium.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "wire/nonce.h"

namespace bulkhead::wire {
namespace {

constexpr unsigned kMaximumThreads = 256;
/// Between two looks at whether the search is over; some 5 ms of hashing.
constexpr unsigned kAttemptsPerRound = 10'000;
constexpr std::chrono::milliseconds kProgressInterval{250};

/// Sets bits `shift` and up of the number to `value`.
void place(Target& target, std::uint64_t value, unsigned shift) {
  for (unsigned bit = 0; bit < 64; ++bit) {
    if ((value >> bit & 1) == 0) continue;
    const unsigned position = bit + shift;
    target.little_endian[position / 8] =
        static_cast<std::uint8_t>(target.little_endian[position / 8] | 1U << position % 8);
  }
}

struct Search {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::optional<Stamp> found;
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> attempts = 0;
};

void run(Search& search, const PublicKey& key, const Target& target) {
  Stamp stamp;
  randombytes_buf(stamp.data(), stamp.size());
  while (!search.over.load(std::memory_order_relaxed)) {
    for (unsigned attempt = 1; attempt <= kAttemptsPerRound; ++attempt) {
      if (check_proof_of_work(key, stamp, target)) {
        search.attempts.fetch_add(attempt, std::memory_order_relaxed);
        const std::lock_guard lock(search.mutex);
        search.found = stamp;
        search.over = true;
        search.changed.notify_one();
        return;
      }
      static_assert(std::is_same_v<Stamp, Nonce>);
      increment(stamp);
    }
    search.attempts.fetch_add(kAttemptsPerRound, std::memory_order_relaxed);
  }
}

}  // namespace

Result<Target> target_for(double difficulty) {
  if (!(difficulty >= 0 && difficulty <= 256)) {
    return Error{ErrorCode::kInvalid, "the difficulty of the proof of work must be from 0 to 256"};
  }
  double whole = 0;
  const double fraction = std::modf(difficulty, &whole);
  const auto bits = static_cast<unsigned>(whole);
  // 54 bits of mantissa at the top, ones below: the arithmetic is in doubles so that all nodes get the same number.
  const std::uint64_t mantissa =
      fraction == 0 ? (std::uint64_t{1} << 54) - 1 : static_cast<std::uint64_t>(std::pow(2.0, 54 - fraction));
  Target target;
  if (bits >= 202) {
    place(target, mantissa >> (bits - 202), 0);
    return target;
  }
  const unsigned shift = 202 - bits;
  place(target, mantissa, shift);
  for (unsigned bit = 0; bit < shift; ++bit) place(target, 1, bit);
  return target;
}

bool check_proof_of_work(std::span<const std::uint8_t, kKeyAndStampSize> key_and_stamp, const Target& target) {
  std::array<std::uint8_t, 32> hash{};
  crypto_generichash(hash.data(), hash.size(), key_and_stamp.data(), key_and_stamp.size(), nullptr, 0);
  // Both are little-endian: the last byte weighs most.
  return !std::lexicographical_compare(target.little_endian.rbegin(), target.little_endian.rend(), hash.rbegin(),
                                       hash.rend());
}

bool check_proof_of_work(const PublicKey& key, const Stamp& stamp, const Target& target) {
  std::array<std::uint8_t, kKeyAndStampSize> both{};
  std::copy(key.begin(), key.end(), both.begin());
  std::copy(stamp.begin(), stamp.end(), both.begin() + key.size());
  return check_proof_of_work(both, target);
}

Result<Stamp> search_proof_of_work(const PublicKey& key, const Target& target, unsigned threads,
                                   const SearchProgress& progress) {
  const unsigned wanted = std::clamp(threads != 0 ? threads : std::thread::hardware_concurrency(), 1U, kMaximumThreads);
  Search search;
  std::vector<std::jthread> workers;
  workers.reserve(wanted);
  // However this function is left, the threads have stopped before what they use is gone.
  struct Stop {
    Search& search;
    std::vector<std::jthread>& workers;
    ~Stop() {
      search.over = true;
      workers.clear();
    }
  } stop{search, workers};
  for (unsigned index = 0; index < wanted; ++index) {
    try {
      workers.emplace_back(run, std::ref(search), std::cref(key), std::cref(target));
    } catch (const std::system_error& failure) {
      if (workers.empty()) {
        return Error{ErrorCode::kSystem, "cannot start a thread for the proof of work", failure.code().value()};
      }
      break;
    }
  }
  std::unique_lock lock(search.mutex);
  while (!search.changed.wait_for(lock, kProgressInterval, [&] { return search.found.has_value(); })) {
    lock.unlock();
    if (progress && !progress(search.attempts.load(std::memory_order_relaxed))) {
      return Error{ErrorCode::kRefused, "the search for a proof of work was cancelled"};
    }
    lock.lock();
  }
  const Stamp found = *search.found;
  lock.unlock();
  if (progress) progress(search.attempts.load(std::memory_order_relaxed));
  return found;
}

}  // namespace bulkhead::wire
