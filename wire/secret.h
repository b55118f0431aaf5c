#pragma once

#include <sodium.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

namespace bulkhead::wire {

/// Makes the cryptographic library ready: once for each process, before anything else of this folder and before the
/// process confines itself (it may open the kernel's random source). Throws std::runtime_error when it cannot.
void initialise();

/// Overwrites the bytes; the compiler does not leave it out.
inline void wipe(std::span<std::uint8_t> bytes) noexcept {
  sodium_memzero(bytes.data(), bytes.size());
}

/// Owns N secret bytes in memory of their own between guard pages, locked when the limits allow it, left out of core
/// dumps, wiped and freed by the destructor. Making and destroying one maps and unmaps memory, so a confined worker
/// uses Channel for its key instead. Throws std::bad_alloc. A moved-from object holds nothing: it may only be
/// destroyed, assigned to or asked by `empty()`.
template <std::size_t N>
class SecretBytes {
 public:
  /// All zero.
  SecretBytes() : bytes_(static_cast<std::uint8_t*>(sodium_malloc(N))) {
    if (bytes_ == nullptr) throw std::bad_alloc();
    std::memset(bytes_, 0, N);
  }
  explicit SecretBytes(std::span<const std::uint8_t, N> source) : SecretBytes() {
    std::memcpy(bytes_, source.data(), N);
  }
  SecretBytes(SecretBytes&& other) noexcept : bytes_(std::exchange(other.bytes_, nullptr)) {}
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes() { sodium_free(bytes_); }

  bool empty() const noexcept { return bytes_ == nullptr; }
  std::span<std::uint8_t, N> span() noexcept { return std::span<std::uint8_t, N>(bytes_, N); }
  std::span<const std::uint8_t, N> span() const noexcept { return std::span<const std::uint8_t, N>(bytes_, N); }

 private:
  std::uint8_t* bytes_;
};

/// Owns `count` objects of plain bytes, all zero, in one piece of such memory: for secrets that come and go after the
/// process was confined. Throws std::bad_alloc. No index is checked.
template <typename T>
class SecretArray {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) == 1, "the memory ends at a page and is aligned to none");

 public:
  explicit SecretArray(std::size_t count) : items_(static_cast<T*>(sodium_allocarray(count, sizeof(T)))) {
    if (!items_) throw std::bad_alloc();
    std::memset(static_cast<void*>(items_.get()), 0, count * sizeof(T));
  }

  T& operator[](std::size_t index) noexcept { return items_.get()[index]; }

 private:
  struct Free {
    void operator()(T* items) const noexcept { sodium_free(items); }
  };
  std::unique_ptr<T, Free> items_;
};

}  // namespace bulkhead::wire
