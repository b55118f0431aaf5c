#include "services/conn/handshake.h"

#include <algorithm>

#include "wire/ack.h"
#include "wire/connection_message.h"

namespace bulkhead::conn {

Handshake::Handshake(const schema::WorkerStart& start) : output_(start.our_message) {}

void Handshake::end(Reason reason) {
  step_ = Step::kEnded;
  reason_ = reason;
  sending_.reset();
  receiving_.reset();
}

bool Handshake::collect(std::span<const std::uint8_t>& bytes, std::size_t wanted) {
  if (received_.size() < wanted) {
    const std::size_t take = std::min(wanted - received_.size(), bytes.size());
    received_.insert(received_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(take));
    bytes = bytes.subspan(take);
  }
  return received_.size() >= wanted;
}

bool Handshake::collect_chunk(std::span<const std::uint8_t>& bytes, std::size_t largest, Reason too_large) {
  if (!collect(bytes, wire::kChunkHeader)) return false;
  const auto body = wire::chunk_body_size(std::span<const std::uint8_t>(received_).first<wire::kChunkHeader>());
  if (!body) {
    end(Reason::kInvalidCiphertextSize);
    return false;
  }
  if (*body > largest) {
    end(too_large);
    return false;
  }
  return collect(bytes, wire::kChunkHeader + *body);
}

std::size_t Handshake::feed(std::span<const std::uint8_t> bytes) {
  const std::size_t given = bytes.size();
  for (bool more = true; more;) {
    more = false;
    switch (step_) {
      case Step::kConnectionMessage: {
        if (!collect(bytes, wire::kConnectionMessageHeader)) break;
        const auto size = wire::connection_message_size(received_);
        if (!size || !size->has_value()) {
          end(Reason::kBadLength);
          break;
        }
        if (!collect(bytes, **size)) break;
        take_connection_message();
        break;
      }
      case Step::kMetadata:
        if (!collect_chunk(bytes, schema::kMaximumChunk - wire::kChunkHeader, Reason::kMalformedMetadata)) break;
        reports_.emplace_back(schema::WorkerProof{std::move(received_)});
        received_.clear();
        step_ = Step::kVerdict;
        break;
      case Step::kAck:
        if (!collect_chunk(bytes, wire::kTag + wire::kMaximumAckPlaintext, Reason::kMalformedAck)) break;
        take_ack();
        break;
      default:
        break;
    }
  }
  return given - bytes.size();
}

void Handshake::take_connection_message() {
  const auto message = wire::decode_connection_message(received_);
  if (!message) {
    end(Reason::kMalformedConnectionMessage);
    return;
  }
  reports_.emplace_back(
      schema::WorkerHello{std::move(received_),
                          {message->port, message->chain_name, message->distributed_db_version, message->p2p_version}});
  received_.clear();
  step_ = Step::kOurMetadata;
}

bool Handshake::on(const schema::OurMetadata& message) {
  if (step_ != Step::kOurMetadata) return false;
  output_.insert(output_.end(), message.chunk.begin(), message.chunk.end());
  step_ = Step::kMetadata;
  return true;
}

void Handshake::write_sealed(std::span<const std::uint8_t> plaintext) {
  const std::size_t at = output_.size();
  output_.resize(at + wire::kChunkOverhead + plaintext.size());
  sending_->seal(plaintext.data(), plaintext.size(), output_.data() + at);
}

bool Handshake::on(const schema::Verdict& verdict) {
  if (step_ != Step::kVerdict) return false;
  if (verdict.kind == schema::VerdictKind::kSilence) {
    end(verdict.reason);
    return true;
  }
  sending_.emplace(wire::KeySpan(verdict.channel_key), verdict.send_nonce);
  receiving_.emplace(wire::KeySpan(verdict.channel_key), verdict.receive_nonce);
  switch (verdict.kind) {
    case schema::VerdictKind::kAccept:
      write_sealed(wire::encode(wire::AckMessage(wire::Ack{})));
      step_ = Step::kAck;
      break;
    case schema::VerdictKind::kNackV0:
      write_sealed(wire::encode(wire::AckMessage(wire::NackV0{})));
      end(verdict.reason);
      break;
    default:
      write_sealed(
          wire::encode(wire::AckMessage(wire::Nack{static_cast<wire::Motive>(verdict.motive), verdict.points})));
      end(verdict.reason);
      break;
  }
  return true;
}

void Handshake::take_ack() {
  const std::span<const std::uint8_t> body = std::span<const std::uint8_t>(received_).subspan(wire::kChunkHeader);
  std::vector<std::uint8_t> plaintext(body.size() - wire::kTag);
  if (!receiving_->open(body, plaintext.data())) {
    end(Reason::kDecipherError);
    return;
  }
  auto ack = wire::decode_ack(plaintext);
  received_.clear();
  received_.shrink_to_fit();
  if (!ack) {
    end(Reason::kMalformedAck);
  } else if (std::holds_alternative<wire::Ack>(*ack)) {
    reports_.emplace_back(schema::Acked{});
    step_ = Step::kRunning;
  } else {
    schema::Nacked nacked;
    if (auto* nack = std::get_if<wire::Nack>(&*ack)) {
      nacked.motive = static_cast<std::int16_t>(nack->motive);
      nacked.points = std::move(nack->points);
    }
    reports_.emplace_back(std::move(nacked));
    end(Reason::kRejectedByPeer);
  }
}

std::vector<std::uint8_t> Handshake::take_output() {
  return std::exchange(output_, {});
}
std::vector<schema::FromWorker> Handshake::take_reports() {
  return std::exchange(reports_, {});
}

std::pair<wire::Channel, wire::Channel> Handshake::take_channels() {
  std::pair channels(std::move(*sending_), std::move(*receiving_));
  sending_.reset();
  receiving_.reset();
  return channels;
}

}  // namespace bulkhead::conn
