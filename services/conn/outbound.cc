#include "services/conn/outbound.h"

#include <algorithm>
#include <cstring>

namespace bulkhead::conn {
namespace {
constexpr std::size_t kMaximumQueued = 64;
}

Outbound::Outbound(wire::Channel channel, shm::WorkerLink& link) : channel_(std::move(channel)), link_(link) {}

bool Outbound::queue(const wire::P2pMessage& message) {
  if (queued_.size() >= kMaximumQueued) return false;
  queued_.push_back(wire::encode(message));
  return true;
}

Outbound::Progress Outbound::fill(std::span<std::uint8_t> out) {
  Progress progress;
  while (out.size() - progress.written > wire::kChunkOverhead) {
    std::uint8_t* chunk = out.data() + progress.written;
    const std::size_t room = std::min(out.size() - progress.written - wire::kChunkOverhead, wire::kMaximumPlaintext);
    std::uint8_t* plaintext = chunk + wire::kChunkOverhead;
    std::size_t size = 0;
    if (!in_message()) size += take_queued(plaintext, room);
    // A queued message that did not fit goes on in the next chunk; nothing may come between its parts.
    if (queued_offset_ == 0) size += take_ring(plaintext + size, room - size, progress.reason);
    if (size == 0) break;
    channel_.seal_in_place(std::span(chunk, wire::kChunkOverhead + size));
    progress.written += wire::kChunkOverhead + size;
    if (progress.reason != Reason::kNone) break;
  }
  if (link_.outward().consumed() != link_.outward().published()) link_.publish_outward();
  return progress;
}

std::size_t Outbound::take_queued(std::uint8_t* plaintext, std::size_t room) {
  std::size_t size = 0;
  while (!queued_.empty() && size < room) {
    const auto& message = queued_.front();
    const std::size_t take = std::min(message.size() - queued_offset_, room - size);
    std::memcpy(plaintext + size, message.data() + queued_offset_, take);
    size += take;
    queued_offset_ += take;
    if (queued_offset_ < message.size()) break;
    queued_.pop_front();
    queued_offset_ = 0;
  }
  return size;
}

// The ring is written by the application at any time: bytes are copied first, and the copy is what is looked at and
// sent.
std::size_t Outbound::take_ring(std::uint8_t* plaintext, std::size_t room, Reason& reason) {
  const auto readable = link_.readable_outward(room);
  if (!readable) {
    reason = Reason::kApplicationFault;
    return 0;
  }
  const std::size_t size = std::min(readable->size(), room);
  std::memcpy(plaintext, readable->data(), size);
  std::size_t at = 0;
  while (at < size) {
    if (message_left_ > 0) {
      const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(message_left_, size - at));
      message_left_ -= step;
      at += step;
      if (message_left_ > 0) break;
      ++messages_;
      // A message of the P2P layer that waits goes between this message and the next.
      if (!queued_.empty()) break;
      continue;
    }
    const std::size_t take = std::min(sizeof head_ - head_size_, size - at);
    std::memcpy(head_ + head_size_, plaintext + at, take);
    head_size_ += take;
    at += take;
    if (head_size_ < sizeof head_) break;
    head_size_ = 0;
    const auto header = wire::parse_envelope_header(head_);
    if (!header || !wire::is_application_tag(header->tag)) {
      // Nothing of a broken message leaves; what was sealed before it does.
      at -= std::min(at, sizeof head_);
      reason = Reason::kApplicationFault;
      break;
    }
    message_left_ = header->payload_size();
    if (message_left_ == 0) {
      ++messages_;
      if (!queued_.empty()) break;
    }
  }
  link_.outward().consume(at);
  return at;
}

}  // namespace bulkhead::conn
