#include "services/controller/cli/fault/endpoint.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/address.h"
#include "wire/ack.h"
#include "wire/message.h"
#include "wire/metadata.h"

namespace bulkhead::fault {
namespace {

constexpr std::size_t kReadSize = 256 * 1024;
constexpr int kReadsPerPump = 2;
constexpr std::size_t kMaximumOut = 1024 * 1024;
constexpr std::size_t kSmallBody = 2048;
constexpr std::size_t kCompactFrom = 1024 * 1024;

}  // namespace

Endpoint::Endpoint(wire::Identity identity, EndpointOptions options)
    : identity_(std::move(identity)), options_(std::move(options)) {}

Result<void> Endpoint::dial(const Point& node, const Address& source) {
  close();
  // The address families of both ends must agree, whichever the node listens on.
  UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return system_error("socket");
  const int both = 0;
  (void)::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &both, sizeof both);
  sockaddr_storage storage{};
  socklen_t size = to_sockaddr(Point{source, 0}, storage);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0)
    return system_error("cannot bind to " + to_text(source));
  size = to_sockaddr(node, storage);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 && errno != EINPROGRESS)
    return system_error("cannot dial " + to_text(node));
  socket_ = std::move(socket);
  sockaddr_storage own{};
  socklen_t own_size = sizeof own;
  if (::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&own), &own_size) == 0) local_ = from_sockaddr(own);
  begin(wire::Side::kInitiator);
  return {};
}

void Endpoint::accept(UniqueFd socket) {
  close();
  socket_ = std::move(socket);
  begin(wire::Side::kResponder);
}

void Endpoint::begin(wire::Side side) {
  const int on = 1;
  (void)::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  side_ = side;
  ++epoch_;
  sent_ = answered_ = 0;
  pending_.clear();
  in_.clear();
  stream_.clear();
  out_.clear();
  in_at_ = stream_at_ = out_at_ = 0;
  sending_.reset();
  receiving_.reset();
  state_ = State::kConnecting;
  step_ = Step::kConnectionMessage;
  since_ = monotonic_now();
  reading_ = true;
  wire::ConnectionMessage message;
  message.port = options_.port;
  message.public_key = identity_.public_key;
  message.stamp = identity_.stamp;
  if (::getrandom(message.nonce.data(), message.nonce.size(), 0) < 0) raise("the kernel gave no random bytes");
  message.chain_name = options_.chain_name;
  message.distributed_db_version = 2;
  message.p2p_version = 1;
  our_message_ = wire::encode(message);
  out_ = our_message_;
}

void Endpoint::close() {
  socket_.reset();
  state_ = State::kIdle;
}

void Endpoint::end(const std::string& why) {
  ending_ = why;
  socket_.reset();
  state_ = state_ == State::kRunning ? State::kLost : State::kRefused;
  since_ = monotonic_now();
}

void Endpoint::raise(const std::string& text) {
  if (!violation_) violation_ = text;
}

void Endpoint::forget_violation() {
  violation_.reset();
  close();
}

short Endpoint::wanted() const {
  const bool reads = reading_ || state_ != State::kRunning;
  // POLLRDHUP comes without being read; a peer that does not read shall not spin on it.
  return static_cast<short>((reads ? POLLIN : 0) | (out_at_ < out_.size() ? POLLOUT : 0));
}

void Endpoint::pump(std::uint32_t incarnation) {
  latest_incarnation_ = incarnation;
  if (!socket_) return;
  if (reading_ || state_ != State::kRunning) {
    for (int i = 0; i < kReadsPerPump && socket_; ++i) {
      if (!read_some()) break;
      take();
    }
  }
  if (socket_ && state_ == State::kRunning) talk();
  while (socket_ && out_at_ < out_.size() && write_some()) {
  }
}

bool Endpoint::read_some() {
  const std::size_t have = in_.size();
  in_.resize(have + kReadSize);
  const ssize_t got = ::recv(socket_.get(), in_.data() + have, kReadSize, MSG_DONTWAIT);
  in_.resize(have + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  if (got > 0) return true;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  end(got == 0 ? "the node closed the connection" : std::string("the connection broke: ") + std::strerror(errno));
  return false;
}

bool Endpoint::write_some() {
  const ssize_t put = ::send(socket_.get(), out_.data() + out_at_, out_.size() - out_at_, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (put < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    // What the node said before stands in the socket still.
    if (state_ != State::kRunning || !reading_ || !read_some()) {
      if (socket_) end(std::string("the connection broke: ") + std::strerror(errno));
    } else {
      take();
    }
    return false;
  }
  out_at_ += static_cast<std::size_t>(put);
  if (out_at_ == out_.size()) {
    out_.clear();
    out_at_ = 0;
  }
  return true;
}

void Endpoint::take() {
  while (socket_ && (step_ == Step::kConnectionMessage ? take_connection_message() : take_chunk())) {
  }
  if (in_at_ == in_.size() || in_at_ >= kCompactFrom) {
    in_.erase(in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(in_at_));
    in_at_ = 0;
  }
}

bool Endpoint::take_connection_message() {
  const std::span<const std::uint8_t> rest = std::span<const std::uint8_t>(in_).subspan(in_at_);
  const auto size = wire::connection_message_size(rest);
  if (!size) {
    end("the node's connection message has an impossible length");
    return false;
  }
  if (!size->has_value() || rest.size() < **size) return false;
  const auto whole = rest.first(**size);
  const auto message = wire::decode_connection_message(whole);
  const auto key = message ? wire::channel_key(message->public_key, identity_.secret_key.span())
                           : Result<wire::SecretBytes<wire::kChannelKeySize>>(message.error());
  if (!key) {
    end("the node's connection message is wrong: " + key.error().text);
    return false;
  }
  const bool first = side_ == wire::Side::kInitiator;
  const auto nonces = wire::derive_nonces(first ? std::span<const std::uint8_t>(our_message_) : whole,
                                          first ? whole : std::span<const std::uint8_t>(our_message_), side_);
  const wire::KeySpan key_span = key->span();
  sending_.emplace(key_span, nonces.local);
  receiving_.emplace(key_span, nonces.remote);
  in_at_ += whole.size();
  seal(wire::encode(wire::ConnectionMetadata{}));
  step_ = Step::kMetadata;
  return true;
}

bool Endpoint::take_chunk() {
  const std::span<std::uint8_t> rest = std::span<std::uint8_t>(in_).subspan(in_at_);
  if (rest.size() < wire::kChunkHeader) return false;
  const auto size = wire::chunk_body_size(std::span<const std::uint8_t>(rest).first<wire::kChunkHeader>());
  if (!size) {
    raise("the node sent a chunk of impossible size");
    end(*violation_);
    return false;
  }
  if (rest.size() < wire::kChunkHeader + *size) return false;
  const auto body = rest.subspan(wire::kChunkHeader, *size);
  if (!receiving_->open(body, body.data() + wire::kTag)) {
    raise("a chunk from the node cannot be deciphered on connection " + std::to_string(epoch_) + " of peer " +
          std::to_string(options_.index));
    end(*violation_);
    return false;
  }
  const auto plaintext = body.subspan(wire::kTag);
  in_at_ += wire::kChunkHeader + *size;
  switch (step_) {
    case Step::kMetadata:
      seal(wire::encode(wire::AckMessage(wire::Ack{})));
      step_ = Step::kAck;
      break;
    case Step::kAck: {
      const auto ack = wire::decode_ack(plaintext);
      if (!ack || !std::holds_alternative<wire::Ack>(*ack)) {
        const auto* nack = ack ? std::get_if<wire::Nack>(&*ack) : nullptr;
        end(std::string("the node refused: ") + (nack != nullptr ? wire::motive_name(nack->motive) : "without motive"));
        return false;
      }
      step_ = Step::kRunning;
      state_ = State::kRunning;
      since_ = monotonic_now();
      break;
    }
    default:
      stream_.insert(stream_.end(), plaintext.begin(), plaintext.end());
      total_bytes_ += plaintext.size();
      take_messages();
  }
  return true;
}

void Endpoint::take_messages() {
  for (;;) {
    const auto rest = std::span<const std::uint8_t>(stream_).subspan(stream_at_);
    if (rest.size() < wire::kEnvelopeHeader) break;
    const auto header = wire::parse_envelope_header(rest.first<wire::kEnvelopeHeader>());
    if (!header) {
      raise("the node sent a message that no peer takes: " + header.error().text);
      end(*violation_);
      return;
    }
    if (rest.size() < header->whole_size()) break;
    if (wire::is_application_tag(header->tag))
      take_message(header->tag, rest.subspan(wire::kEnvelopeHeader, header->payload_size()));
    stream_at_ += header->whole_size();
  }
  if (stream_at_ == stream_.size() || stream_at_ >= kCompactFrom) {
    stream_.erase(stream_.begin(), stream_.begin() + static_cast<std::ptrdiff_t>(stream_at_));
    stream_at_ = 0;
  }
}

void Endpoint::take_message(std::uint16_t tag, std::span<const std::uint8_t> body) {
  const Place expected{options_.index, Way::kToPeer, epoch_, answered_ + 1};
  const Finding finding = judge(options_.pattern, expected, tag, body);
  if (finding.kind == Finding::Kind::kRepeated && incarnation_ < latest_incarnation_) {
    // Its process was killed between the sending and the note that it was sent: its successor cannot know.
    incarnation_ = latest_incarnation_;
    return;
  }
  // A late answer to a message of the connection before, handed to this one before anything of it was answered.
  if (finding.kind == Finding::Kind::kOtherEpoch && finding.epoch < epoch_ && answered_ == 0) return;
  if (!finding.right() || expected.number > sent_) {
    raise(finding.right() ? "an answer came to a message that was not sent: " + describe(finding, expected)
                          : describe(finding, expected));
    return;
  }
  incarnation_ = std::max(incarnation_, finding.incarnation);
  ++answered_;
  ++total_messages_;
  if (pending_.empty()) return;
  const Pending asked = pending_.front();
  pending_.pop_front();
  const bool small = body.size() <= kSmallBody && body_size(options_.pattern, {options_.index, Way::kToApplication,
                                                                               epoch_, asked.number}) <= kSmallBody;
  if (small && on_round_trip_) on_round_trip_(monotonic_now() - asked.at);
}

void Endpoint::talk() {
  const Nanoseconds now = monotonic_now();
  while (options_.talks && sent_ - answered_ < options_.window && now >= next_talk_ &&
         out_.size() - out_at_ < kMaximumOut) {
    const Place place{options_.index, Way::kToApplication, epoch_, sent_ + 1};
    make_body(options_.pattern, place, 0, body_);
    const auto head = wire::encode_envelope_header(tag_of(place), body_.size());
    std::vector<std::uint8_t> message(head.begin(), head.end());
    message.insert(message.end(), body_.begin(), body_.end());
    send_raw(message);
    ++sent_;
    pending_.push_back({place.number, now});
    next_talk_ = now + options_.pause;
  }
}

void Endpoint::send_raw(std::span<const std::uint8_t> plaintext) {
  if (state_ != State::kRunning) return;
  while (!plaintext.empty()) {
    const std::size_t part = std::min(plaintext.size(), wire::kMaximumPlaintext);
    seal(plaintext.first(part));
    plaintext = plaintext.subspan(part);
  }
}

void Endpoint::seal(std::span<const std::uint8_t> plaintext) {
  const std::size_t at = out_.size();
  out_.resize(at + wire::kChunkOverhead + plaintext.size());
  sending_->seal(plaintext.data(), plaintext.size(), out_.data() + at);
}

}  // namespace bulkhead::fault
