#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/fd.h"
#include "base/result.h"

namespace bulkhead::shm {

/// Everything in shared memory is laid out in pages of this size; a machine with another page size is refused when
/// something is mapped.
inline constexpr std::size_t kPageBytes = 4096;

/// Seals of a segment whose writer may be replaced, and of one whose writer never is (F_SEAL_* of fcntl.h).
/// The second set ends with FUTURE_WRITE: only mappings that were made before it was set can write.
extern const unsigned int kReplaceableSeals;  // SHRINK | GROW | SEAL
extern const unsigned int kOwnedSeals;        // SHRINK | GROW | FUTURE_WRITE | SEAL
/// Of a segment that never changes again: no mapping can write.
extern const unsigned int kConstantSeals;  // SHRINK | GROW | WRITE | SEAL

/// Makes an anonymous shared segment of `size` bytes of zeroes: close-on-exec, mode 0600, not yet sealed, not
/// executable where the kernel knows how to say so. `name` (up to 249 bytes) shows in /proc only. `size` is a multiple
/// of kPageBytes and not 0 (else kInvalid). No memory is taken before it is touched.
Result<UniqueFd> make_segment(const char* name, std::uint64_t size);

/// Seals a segment whose writer may be replaced. Whoever holds the descriptor read-write can map it for writing, now
/// and later; give readers a second one from reopen_read_only (base/fd.h).
Result<void> seal_replaceable(int fd);

/// Seals a segment whose only writer has mapped it: that mapping goes on writing, no other can be made, and its pages
/// can no longer be punched out.
Result<void> seal_owned(int fd);

/// Makes a segment that begins with `content`, filled up with zeroes, and seals it with kConstantSeals.
Result<UniqueFd> make_constant_segment(const char* name, std::span<const std::byte> content);

/// Checks a descriptor that came from a less trusted process: a regular file of exactly `expected_size` bytes that
/// carries at least `required_seals`, read back from the kernel. kBroken when it is not. After it, a mapping within
/// that size cannot fault. Says nothing of the content.
Result<void> check_segment(int fd, std::uint64_t expected_size, unsigned int required_seals);

/// Size in bytes of the file behind `fd`.
Result<std::uint64_t> segment_size(int fd);

/// Gives back the memory behind a range; it reads as zeroes from then on, in every mapping. Both numbers are multiples
/// of kPageBytes. Fails (EPERM) on a segment that is sealed with FUTURE_WRITE.
Result<void> punch_hole(int fd, std::uint64_t offset, std::uint64_t size);

enum class Access : std::uint8_t { kReadOnly, kReadWrite };

/// Owns one mapping of a part of a segment and unmaps it. Movable, not copyable. The descriptor may be closed after
/// map(). Writing through a read-only mapping ends the process.
class Mapping {
 public:
  Mapping();
  Mapping(Mapping&&) noexcept;
  Mapping& operator=(Mapping&&) noexcept;
  ~Mapping();

  /// Maps `size` bytes from `offset`, both multiples of kPageBytes. The range must lie within the file (kInvalid).
  static Result<Mapping> map(int fd, Access access, std::uint64_t offset, std::size_t size);

  /// Page-aligned; null when nothing is mapped. Stays the same when the Mapping is moved.
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  struct Region;
  std::unique_ptr<Region> region_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A header and, behind it, data that is mapped twice in a row, so that `capacity` bytes from any position below
/// `capacity` are contiguous in memory. Takes two mappings; with guard pages on both sides, four. Movable, not
/// copyable.
class MirroredMapping {
 public:
  enum class Guard : std::uint8_t { kNone, kBothSides };

  MirroredMapping();
  MirroredMapping(MirroredMapping&&) noexcept;
  MirroredMapping& operator=(MirroredMapping&&) noexcept;
  ~MirroredMapping();

  /// Maps `header_size` bytes from `offset` and the `capacity` bytes behind them, all multiples of kPageBytes, neither
  /// size 0. The range must lie within the file (kInvalid).
  static Result<MirroredMapping> map(int fd, Access access, std::uint64_t offset, std::size_t header_size,
                                     std::size_t capacity, Guard guard = Guard::kNone);

  std::byte* header() const { return header_; }
  /// 2 * capacity() bytes; byte i and byte i + capacity() are the same memory.
  std::span<std::byte> data() const { return {data_, 2 * capacity_}; }
  std::size_t capacity() const { return capacity_; }

 private:
  struct Regions;
  std::unique_ptr<Regions> regions_;
  std::byte* header_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace bulkhead::shm
