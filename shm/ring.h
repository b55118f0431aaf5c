#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "base/result.h"

namespace bulkhead::shm {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && sizeof(std::atomic<std::uint64_t>) == 8);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free && sizeof(std::atomic<std::uint32_t>) == 4);

/// The two ends of a byte ring between two processes that do not trust each other: one producer, one consumer.
///
/// Positions count bytes since the ring was made, modulo 2^64. Each end keeps its own position in private memory and
/// only publishes it; it never reads it back. The other end's position is loaded once, checked against what that end
/// may claim, and only then used. An end that finds an impossible position is broken for good: every later call returns
/// kBroken, and the caller gives the link up. Neither end leaves the data, whatever the other one writes.
///
/// `data` is 2 * capacity bytes in which byte i and byte i + capacity are the same (MirroredMapping), so that every
/// span below is in one piece. capacity is a power of two. `own` points to a word that only this end writes, `other` to
/// a word of the other end, which may lie in read-only memory. Memory is borrowed: it must outlive the object. One
/// thread for each end. Nothing here blocks, allocates (errors apart) or makes a system call.
class RingProducer {
 public:
  /// Goes on at `start`, with a consumer that was last seen at `other_start` (at most capacity behind `start`).
  RingProducer(std::span<std::byte> data, std::size_t capacity, std::atomic<std::uint64_t>* own,
               const std::atomic<std::uint64_t>* other, std::uint64_t start, std::uint64_t other_start);
  RingProducer(std::span<std::byte> data, std::size_t capacity, std::atomic<std::uint64_t>* own,
               const std::atomic<std::uint64_t>* other, std::uint64_t start)
      : RingProducer(data, capacity, own, other, start, start) {}

  /// All free space behind what was produced; empty when the ring is full. The consumer's position is looked at anew
  /// only when less than `wanted` bytes are known to be free. Valid until the next call of produce, rewind or writable.
  Result<std::span<std::byte>> writable(std::size_t wanted = std::numeric_limits<std::size_t>::max());

  /// As writable(), without an Error to build: false when the ring is broken. See free_known() and write_position().
  bool refresh(std::size_t wanted = std::numeric_limits<std::size_t>::max());

  /// Takes the first `size` bytes of what writable() gave into the ring; they become visible at publish().
  /// `size` above what is known to be free is a bug of the caller, and ends the process.
  void produce(std::size_t size);

  /// Drops what was produced since the last publish().
  void rewind() { produced_ = published_; }
  /// Drops the last `size` bytes of what was produced since the last publish(), which must be that many.
  void retract(std::size_t size);

  /// Makes what was produced visible to the consumer. Wakes nobody.
  void publish();

  /// From now on the consumer's position is read from `other` (which starts where this one stood).
  void set_other(const std::atomic<std::uint64_t>* other) { other_ = other; }

  std::uint64_t produced() const { return produced_; }
  std::uint64_t published() const { return published_; }
  std::size_t capacity() const { return capacity_; }
  /// Free bytes by the last look at the consumer's position; there may be more by now.
  std::size_t free_known() const { return capacity_ - static_cast<std::size_t>(produced_ - other_position_); }
  std::byte* write_position() const { return data_ + (static_cast<std::size_t>(produced_) & mask_); }
  bool broken() const { return broken_; }

 private:
  std::byte* data_;
  std::size_t capacity_;
  std::size_t mask_;
  std::atomic<std::uint64_t>* own_;
  const std::atomic<std::uint64_t>* other_;
  std::uint64_t produced_;
  std::uint64_t published_;
  std::uint64_t other_position_;
  bool broken_ = false;
};

/// The reading end; see RingProducer. `data` may lie in read-only memory.
/// What a span shows can change while it is looked at: copy first, then check the copy.
class RingConsumer {
 public:
  RingConsumer(std::span<const std::byte> data, std::size_t capacity, std::atomic<std::uint64_t>* own,
               const std::atomic<std::uint64_t>* other, std::uint64_t start);

  /// Everything that is published and not yet consumed; empty when there is nothing. The producer's position is looked
  /// at anew only when less than `wanted` bytes are known to be there. Valid until publish().
  Result<std::span<const std::byte>> readable(std::size_t wanted = std::numeric_limits<std::size_t>::max());

  /// As readable(), without an Error to build: false when the ring is broken.
  bool refresh(std::size_t wanted = std::numeric_limits<std::size_t>::max());

  /// Steps over the first `size` bytes of what readable() gave; their space is given back at publish().
  /// `size` above what is known to be there is a bug of the caller, and ends the process.
  void consume(std::size_t size);

  /// Goes back to what was last published.
  void rewind() { consumed_ = published_; }

  /// Gives the space of what was consumed back to the producer. Wakes nobody.
  void publish();

  /// From now on the producer's position is read from `other` (which starts where this one stood).
  void set_other(const std::atomic<std::uint64_t>* other) { other_ = other; }

  std::uint64_t consumed() const { return consumed_; }
  std::uint64_t published() const { return published_; }
  std::size_t capacity() const { return capacity_; }
  /// Bytes to read by the last look at the producer's position; there may be more by now.
  std::size_t available_known() const { return static_cast<std::size_t>(other_position_ - consumed_); }
  /// Bytes that the producer could write by the last look, given what was published.
  std::size_t free_published() const { return capacity_ - static_cast<std::size_t>(other_position_ - published_); }
  const std::byte* read_position() const { return data_ + (static_cast<std::size_t>(consumed_) & mask_); }
  bool broken() const { return broken_; }

 private:
  const std::byte* data_;
  std::size_t capacity_;
  std::size_t mask_;
  std::atomic<std::uint64_t>* own_;
  const std::atomic<std::uint64_t>* other_;
  std::uint64_t consumed_;
  std::uint64_t published_;
  std::uint64_t other_position_;
  bool broken_ = false;
};

/// Sleeping without losing a wake-up. The side that wants to sleep announces it, looks once more at what it waits for,
/// and cancels when it finds it. The other side publishes, then asks other_sleeps(). Each has a full fence between its
/// store and its load, so that at least one of the two sees the other. A flag is a hint: the worst that a hostile one
/// does is a needless wake-up, or none.
void announce_sleep(std::atomic<std::uint32_t>& flag);
void cancel_sleep(std::atomic<std::uint32_t>& flag);
bool other_sleeps(const std::atomic<std::uint32_t>& flag);

}  // namespace bulkhead::shm
