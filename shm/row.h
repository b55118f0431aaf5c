#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

namespace bulkhead::shm {

static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free);

/// A row of a shared table: two copies of a T, written in turn, so that one is whole wherever the writer died.
///
/// One writer at a time; any number of readers, in any process, through read-only mappings. No side ever waits for
/// another. A page of zeroes is a row that was never written: nothing has to be initialised. A writer that takes over
/// from one that was killed in the middle of write() just goes on.
///
/// A sequence number that is even and not 0 marks a whole copy, an odd one a copy that is being written; the greater of
/// the even ones is the newest.
///
/// T: trivially copyable, no padding, a multiple of 8 bytes; fixed-width integers and arrays of them, nothing with an
/// address in it. Align is the distance that keeps two rows (and the two copies) off each other's cache lines: 64 or
/// 128.
template <typename T, std::size_t Align = 64>
class alignas(Align) DoubleRow {
 public:
  static_assert(std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>);
  static_assert(std::has_unique_object_representations_v<T>, "padding would hold what a writer's memory held before");
  static_assert(sizeof(T) % sizeof(std::uint64_t) == 0);
  static_assert(Align == 64 || Align == 128);

  /// For the one writer. Never blocks, no system call.
  void write(const T& value) {
    const std::uint64_t first = load(copies_[0].sequence);
    const std::uint64_t second = load(copies_[1].sequence);
    // The copy to overwrite is the older one, or the one that a predecessor left half written. Both are odd only when
    // something else than a writer was here; the readers then find nothing until this write is done.
    const bool overwrite_first = is_odd(first) || (!is_odd(second) && first <= second);
    Copy& target = copies_[overwrite_first ? 0 : 1];
    const std::uint64_t newest = overwrite_first ? second : first;
    const std::uint64_t next = (newest | 1U) + 1;

    Words words;
    std::memcpy(words.data(), &value, sizeof(T));
    std::atomic_ref<std::uint64_t>(target.sequence).store(next - 1, std::memory_order_relaxed);
    // Each word is released, and acquired in read(): a reader that meets a word of this write therefore meets the odd
    // sequence number, or a later one, too. (Fences would do as well, but ThreadSanitizer does not know them.)
    for (std::size_t i = 0; i < kWords; ++i) {
      std::atomic_ref<std::uint64_t>(target.words[i]).store(words[i], std::memory_order_release);
    }
    std::atomic_ref<std::uint64_t>(target.sequence).store(next, std::memory_order_release);
  }

  /// The newest whole copy. Nothing when the row was never written, or when it changed under each of kReadAttempts
  /// attempts, which takes a hostile writer. Never blocks, no system call. What it holds is as trusted as its writer.
  std::optional<T> read() const {
    for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
      const std::uint64_t first = load(copies_[0].sequence);
      const std::uint64_t second = load(copies_[1].sequence);
      const bool first_whole = first != 0 && !is_odd(first);
      const bool second_whole = second != 0 && !is_odd(second);
      if (!first_whole && !second_whole) {
        if (first <= 1 && second <= 1) return std::nullopt;
        continue;
      }
      const bool take_first = first_whole && (!second_whole || first > second);
      const Copy& source = copies_[take_first ? 0 : 1];
      Words words;
      for (std::size_t i = 0; i < kWords; ++i) words[i] = load(source.words[i]);
      if (load(source.sequence) != (take_first ? first : second)) continue;
      T value;
      std::memcpy(&value, words.data(), sizeof(T));
      return value;
    }
    return std::nullopt;
  }

 private:
  static constexpr int kReadAttempts = 64;
  static constexpr std::size_t kWords = sizeof(T) / sizeof(std::uint64_t);
  using Words = std::array<std::uint64_t, kWords>;

  struct alignas(Align) Copy {
    std::uint64_t sequence;
    std::uint64_t words[kWords];
  };

  static bool is_odd(std::uint64_t sequence) { return (sequence & 1U) != 0; }

  static std::uint64_t load(const std::uint64_t& word) {
    // atomic_ref takes no const object in C++20. A lock-free load does not write, so read-only memory serves.
    return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(word)).load(std::memory_order_acquire);
  }

  Copy copies_[2];
};

}  // namespace bulkhead::shm
