#include "shm/ring.h"

#include <bit>
#include <cstdio>
#include <cstdlib>

namespace bulkhead::shm {
namespace {

/// A bug of this process, never something that the other side did.
void require(bool condition, const char* what) {
  if (condition) [[likely]]
    return;
  std::fprintf(stderr, "bulkhead: bug in the use of a ring: %s\n", what);
  std::abort();
}

Error broken_error() {
  return Error{ErrorCode::kBroken, "the other side of a ring claims an impossible position"};
}

}  // namespace

RingProducer::RingProducer(std::span<std::byte> data, std::size_t capacity, std::atomic<std::uint64_t>* own,
                           const std::atomic<std::uint64_t>* other, std::uint64_t start, std::uint64_t other_start)
    : data_(data.data()),
      capacity_(capacity),
      mask_(capacity - 1),
      own_(own),
      other_(other),
      produced_(start),
      published_(start),
      other_position_(other_start) {
  require(std::has_single_bit(capacity) && data.size() == 2 * capacity, "the capacity does not fit the data");
  require(start - other_start <= capacity, "the two positions are further apart than the capacity");
}

bool RingProducer::refresh(std::size_t wanted) {
  if (broken_) return false;
  if (free_known() >= wanted) return true;
  const std::uint64_t head = other_->load(std::memory_order_acquire);
  // Between where it was and what it was shown; anything else is a step back or a step beyond.
  if (head - other_position_ > published_ - other_position_) {
    broken_ = true;
    return false;
  }
  other_position_ = head;
  return true;
}

Result<std::span<std::byte>> RingProducer::writable(std::size_t wanted) {
  if (!refresh(wanted)) return broken_error();
  return std::span<std::byte>(write_position(), free_known());
}

void RingProducer::produce(std::size_t size) {
  require(size <= free_known(), "more produced than there was room for");
  produced_ += size;
}

void RingProducer::retract(std::size_t size) {
  require(size <= produced_ - published_, "more retracted than was produced");
  produced_ -= size;
}

void RingProducer::publish() {
  if (produced_ == published_) return;
  published_ = produced_;
  own_->store(published_, std::memory_order_release);
}

RingConsumer::RingConsumer(std::span<const std::byte> data, std::size_t capacity, std::atomic<std::uint64_t>* own,
                           const std::atomic<std::uint64_t>* other, std::uint64_t start)
    : data_(data.data()),
      capacity_(capacity),
      mask_(capacity - 1),
      own_(own),
      other_(other),
      consumed_(start),
      published_(start),
      other_position_(start) {
  require(std::has_single_bit(capacity) && data.size() == 2 * capacity, "the capacity does not fit the data");
}

bool RingConsumer::refresh(std::size_t wanted) {
  if (broken_) return false;
  if (available_known() >= wanted) return true;
  const std::uint64_t tail = other_->load(std::memory_order_acquire);
  // Not before where it was, and not further than the space that it was given.
  if (tail - other_position_ > free_published()) {
    broken_ = true;
    return false;
  }
  other_position_ = tail;
  return true;
}

Result<std::span<const std::byte>> RingConsumer::readable(std::size_t wanted) {
  if (!refresh(wanted)) return broken_error();
  return std::span<const std::byte>(read_position(), available_known());
}

void RingConsumer::consume(std::size_t size) {
  require(size <= available_known(), "more consumed than there was");
  consumed_ += size;
}

void RingConsumer::publish() {
  if (consumed_ == published_) return;
  published_ = consumed_;
  own_->store(published_, std::memory_order_release);
}

void announce_sleep(std::atomic<std::uint32_t>& flag) {
  flag.store(1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

void cancel_sleep(std::atomic<std::uint32_t>& flag) {
  flag.store(0, std::memory_order_relaxed);
}

bool other_sleeps(const std::atomic<std::uint32_t>& flag) {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return flag.load(std::memory_order_relaxed) != 0;
}

}  // namespace bulkhead::shm
