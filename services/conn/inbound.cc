#include "services/conn/inbound.h"

#include <algorithm>
#include <cstring>
#include <iterator>

namespace bulkhead::conn {
namespace {

// While discarding, at most an incomplete head or P2P message is held beside one chunk.
constexpr std::size_t kScratchSize = wire::kEnvelopeHeader + wire::kMaximumP2pPayload + wire::kMaximumReceivedPlaintext;

constexpr std::size_t kGapSize = wire::kEnvelopeHeader + sizeof(std::uint64_t);

std::uint8_t* bytes_at(std::byte* position) {
  return static_cast<std::uint8_t*>(static_cast<void*>(position));
}

}  // namespace

Inbound::Inbound(wire::Channel channel, shm::WorkerLink& link) : channel_(std::move(channel)), link_(link) {}

void Inbound::set_receiver(bool attached) {
  receiver_ = attached;
}

Reason Inbound::start_discarding() {
  if (discarding_) return Reason::kNone;
  link_.inward().rewind();
  if (streaming_left_ > 0) return Reason::kApplicationDiedMidMessage;
  discarding_ = true;
  // The ring holds the beginning of a message, or one that is too large to be shown to nobody and what followed it.
  // What is left when these are dropped is less than a message of the P2P layer.
  std::uint8_t* stream = bytes_at(link_.inward().write_position());
  if (const Reason reason = parse(stream, found_); reason != Reason::kNone) return reason;
  scratch_.resize(kScratchSize);
  std::memcpy(scratch_.data(), stream, held_);
  return Reason::kNone;
}

bool Inbound::leave_discarding() {
  const auto room = link_.writable_inward(held_ + kGapSize);
  if (!room || room->size() < held_ + kGapSize) return false;
  if (gap_ > 0) {
    const auto put = link_.put_gap(gap_);
    if (!put || !*put) return false;
    link_.publish_inward();
    gap_ = 0;
  }
  std::memcpy(bytes_at(link_.inward().write_position()), scratch_.data(), held_);
  scratch_.clear();
  scratch_.shrink_to_fit();
  discarding_ = false;
  return true;
}

Result<bool> Inbound::wait_for_room() {
  // The ring counts what is held as taken, or it would report room that is not there, again and again.
  if (!discarding_) link_.inward().produce(held_);
  // Room is not what is lacking: whoever tells of a receiver wakes this process.
  if (lacks_receiver_) return true;
  return link_.wait_for_inward_room(std::min(wanted_, link_.inward().capacity() / 2));
}

Inbound::Progress Inbound::process(std::span<const std::uint8_t> input, std::vector<wire::P2pMessage>& messages) {
  Progress progress;
  const auto ended = [&progress](Reason reason) {
    progress.state = State::kEnded;
    progress.reason = reason;
    return progress;
  };
  const auto blocked = [&progress] {
    progress.state = State::kBlocked;
    return progress;
  };
  link_.stop_waiting_for_inward_room();
  link_.inward().rewind();
  for (;;) {
    if (!receiver_ && discard_without_receiver_ && !discarding_ && streaming_left_ == 0) {
      if (const Reason reason = start_discarding(); reason != Reason::kNone) return ended(reason);
    }
    std::move(found_.begin(), found_.end(), std::back_inserter(messages));
    found_.clear();
    if (discarding_ && skip_left_ == 0 && receiver_ && !leave_discarding()) {
      if (link_.inward().broken()) return ended(Reason::kApplicationFault);
      wanted_ = held_ + kGapSize;
      return blocked();
    }
    // A receiver that came while a large message was being held lets it flow.
    if (!discarding_ && held_ > 0) {
      const Reason reason = parse(bytes_at(link_.inward().write_position()), messages);
      if (reason != Reason::kNone) return ended(reason);
    }
    if (lacks_receiver_) return blocked();
    const auto rest = input.subspan(progress.taken);
    if (rest.size() < wire::kChunkHeader) return progress;
    const auto body_size = wire::chunk_body_size(rest.first<wire::kChunkHeader>());
    if (!body_size) return ended(Reason::kInvalidCiphertextSize);
    if (rest.size() < wire::kChunkHeader + *body_size) return progress;
    const std::size_t plaintext = *body_size - wire::kTag;
    std::uint8_t* stream = nullptr;
    if (discarding_) {
      stream = scratch_.data();
    } else {
      const auto room = link_.writable_inward(held_ + plaintext);
      if (!room) return ended(Reason::kApplicationFault);
      if (room->size() < held_ + plaintext) {
        wanted_ = plaintext;
        return blocked();
      }
      stream = bytes_at(room->data());
    }
    if (!channel_.open(rest.subspan(wire::kChunkHeader, *body_size), stream + held_))
      return ended(Reason::kDecipherError);
    held_ += plaintext;
    progress.taken += wire::kChunkHeader + *body_size;
    if (const Reason reason = parse(stream, messages); reason != Reason::kNone) return ended(reason);
  }
}

// Each byte is moved at most once for a call, however many messages are taken out: a peer may put ten thousand into one
// chunk.
Reason Inbound::parse(std::uint8_t* stream, std::vector<wire::P2pMessage>& messages) {
  std::size_t at = 0;     // bytes looked at
  std::size_t ready = 0;  // of these, the bytes that stay, closed up: they may be made visible
  Step step{.more = true};
  lacks_receiver_ = false;
  while (step.more) {
    step = look({stream + at, held_ - at}, messages);
    if (step.kept) {
      if (at != ready) std::memmove(stream + ready, stream + at, step.size);
      ready += step.size;
    }
    at += step.size;
  }
  if (at != ready) std::memmove(stream + ready, stream + at, held_ - at);
  held_ -= at - ready;
  if (ready > 0) {
    link_.inward().produce(ready);
    link_.publish_inward();
    held_ -= ready;
  }
  return step.reason;
}

// Looks at one message, or a part of one, at the front of what is held. The ring is written by this process alone, so
// what was checked here stays.
Inbound::Step Inbound::look(std::span<const std::uint8_t> rest, std::vector<wire::P2pMessage>& messages) {
  if (streaming_left_ > 0 || skip_left_ > 0) {
    std::uint64_t& left = skip_left_ > 0 ? skip_left_ : streaming_left_;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, rest.size()));
    const bool kept = skip_left_ == 0;
    left -= size;
    return {.size = size, .kept = kept, .more = left == 0};
  }
  if (rest.size() < wire::kEnvelopeSizeField) return {};
  if (!wire::parse_envelope_size(rest.first<wire::kEnvelopeSizeField>())) return {.reason = Reason::kDecodeError};
  if (rest.size() < wire::kEnvelopeHeader) return {};
  const auto header = wire::parse_envelope_header(rest.first<wire::kEnvelopeHeader>());
  if (!header) return {.reason = Reason::kDecodeError};
  const std::size_t whole = header->whole_size();
  if (wire::is_p2p_tag(header->tag)) {
    if (header->payload_size() > wire::kMaximumP2pPayload) return {.reason = Reason::kDecodeError};
    if (rest.size() < whole) return {};
    auto message = wire::decode_p2p_message(header->tag, rest.subspan(wire::kEnvelopeHeader, header->payload_size()));
    if (!message) return {.reason = Reason::kDecodeError};
    messages.push_back(std::move(*message));
    return {.size = whole, .more = true};
  }
  if (!wire::is_application_tag(header->tag)) return {.reason = Reason::kDecodeError};
  if (discarding_) {
    skip_left_ = whole;
    ++messages_;
    ++gap_;
    ++discarded_;
    return {.more = true};
  }
  if (whole > link_.inward().capacity() / 2) {
    lacks_receiver_ = !receiver_;
    if (lacks_receiver_) return {};
    streaming_left_ = whole;
    ++messages_;
    return {.more = true};
  }
  if (rest.size() < whole) return {};
  ++messages_;
  return {.size = whole, .kept = true, .more = true};
}

}  // namespace bulkhead::conn
