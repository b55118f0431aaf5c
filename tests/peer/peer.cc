#include "tests/peer/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Result<SocketAddress> socket_address(const std::string& host, std::uint16_t port) {
  SocketAddress out;
  sockaddr_in v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&out.storage, &v4, sizeof v4);
    out.size = sizeof v4;
    return out;
  }
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&out.storage, &v6, sizeof v6);
    out.size = sizeof v6;
    return out;
  }
  return Error{ErrorCode::kInvalid, "'" + host + "' is no address"};
}

Result<SocketAddress> socket_address(const std::string& point) {
  const std::size_t colon = point.rfind(':');
  if (colon == std::string::npos) return Error{ErrorCode::kInvalid, "'" + point + "' has no port"};
  std::string host = point.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  const int port = std::atoi(point.c_str() + colon + 1);
  return socket_address(host, static_cast<std::uint16_t>(port));
}

std::string to_text(const SocketAddress& address) {
  char host[INET6_ADDRSTRLEN] = "";
  if (address.storage.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address.storage, sizeof v4);
    ::inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &address.storage, sizeof v6);
  ::inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
  return "[" + std::string(host) + "]:" + std::to_string(ntohs(v6.sin6_port));
}

Error error_from_errno(const std::string& what) {
  if (errno == ECONNRESET || errno == EPIPE) {
    return Error{ErrorCode::kClosed, what + ": " + std::strerror(errno), errno};
  }
  return system_error(what);
}

Result<void> poll_until(int fd, short events, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now()).count();
    pollfd item{fd, events, 0};
    const int ready = ::poll(&item, 1, static_cast<int>(std::max<long>(0, left)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return system_error("poll");
    if (ready == 0 && Clock::now() >= deadline) return Error{ErrorCode::kWouldBlock, "nothing happened in time"};
  }
}

Result<UniqueFd> make_socket(int family) {
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return system_error("socket");
  return socket;
}

}  // namespace

Result<Listener> Listener::open(const std::string& address, std::uint16_t port) {
  const auto wanted = socket_address(address, port);
  if (!wanted) return wanted.error();
  auto socket = make_socket(wanted->storage.ss_family);
  if (!socket) return socket.error();
  const int on = 1;
  ::setsockopt(socket->get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket->get(), wanted->get(), wanted->size) != 0) return system_error("bind " + address);
  if (::listen(socket->get(), 64) != 0) return system_error("listen " + address);
  SocketAddress bound;
  bound.size = sizeof bound.storage;
  if (::getsockname(socket->get(), bound.get(), &bound.size) != 0) return system_error("getsockname");
  Listener listener;
  listener.fd_ = std::move(*socket);
  listener.point_ = to_text(bound);
  listener.port_ = static_cast<std::uint16_t>(std::atoi(listener.point_.c_str() + listener.point_.rfind(':') + 1));
  return listener;
}

Result<UniqueFd> Listener::accept(Milliseconds timeout, std::string* from) {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    if (auto ready = poll_until(fd_.get(), POLLIN, deadline); !ready) return ready.error();
    SocketAddress other;
    other.size = sizeof other.storage;
    UniqueFd socket(::accept4(fd_.get(), other.get(), &other.size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (socket) {
      if (from != nullptr) *from = to_text(other);
      return socket;
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) return system_error("accept");
  }
}

Peer::Peer(PeerOptions options) : options_(std::move(options)) {
  if (options_.identity) {
    identity_ = *options_.identity;
  } else {
    identity_.keys = fresh_key_pair();
    identity_.stamp = options_.bad_stamp ? find_bad_stamp(identity_.keys.public_key, options_.difficulty)
                                         : find_stamp(identity_.keys.public_key, options_.difficulty);
  }
}

void Peer::adopt(UniqueFd socket, bool initiator) {
  socket_ = std::move(socket);
  initiator_ = initiator;
  const int on = 1;
  ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  own_message_.clear();
  sent_message_.clear();
  received_message_.clear();
  remote_ = Announcement{};
  stream_.clear();
}

Result<void> Peer::connect(const std::string& point, const std::string& source_address) {
  const auto target = socket_address(point);
  if (!target) return target.error();
  auto socket = make_socket(target->storage.ss_family);
  if (!socket) return socket.error();
  if (!source_address.empty()) {
    const auto source = socket_address(source_address, 0);
    if (!source) return source.error();
    if (::bind(socket->get(), source->get(), source->size) != 0) return system_error("bind " + source_address);
  }
  if (::connect(socket->get(), target->get(), target->size) != 0) {
    if (errno != EINPROGRESS) return system_error("connect " + point);
    if (auto ready = poll_until(socket->get(), POLLOUT, Clock::now() + options_.timeout); !ready) return ready.error();
    int failure = 0;
    socklen_t size = sizeof failure;
    ::getsockopt(socket->get(), SOL_SOCKET, SO_ERROR, &failure, &size);
    errno = failure;
    if (failure != 0) return system_error("connect " + point);
  }
  adopt(std::move(*socket), true);
  return {};
}

Result<void> Peer::accept(Listener& listener) {
  auto socket = listener.accept(options_.timeout);
  if (!socket) return socket.error();
  adopt(std::move(*socket), false);
  return {};
}

std::string Peer::local_point() const {
  SocketAddress own;
  own.size = sizeof own.storage;
  if (!socket_ || ::getsockname(socket_.get(), own.get(), &own.size) != 0) return "";
  return to_text(own);
}

const Bytes& Peer::connection_message() {
  if (own_message_.empty()) {
    Announcement announcement;
    announcement.port = options_.advertised_port;
    announcement.public_key = identity_.keys.public_key;
    announcement.stamp = identity_.stamp;
    randombytes_buf(announcement.nonce.data(), announcement.nonce.size());
    announcement.chain_name = options_.chain_name;
    announcement.distributed_db_version = options_.distributed_db_version;
    announcement.p2p_version = options_.p2p_version;
    own_message_ = encode_announcement(announcement);
  }
  return own_message_;
}

Result<void> Peer::send_connection_message(Bytes whole) {
  sent_message_ = std::move(whole);
  return send_raw(sent_message_);
}

Result<void> Peer::read_connection_message() {
  Bytes whole(2);
  if (auto done = read_exactly(whole); !done) return done;
  const std::size_t length = static_cast<std::size_t>(whole[0]) << 8 | whole[1];
  whole.resize(2 + length);
  if (auto done = read_exactly(std::span(whole).subspan(2)); !done) return done;
  auto announcement = decode_announcement(whole);
  if (!announcement) return announcement.error();
  received_message_ = std::move(whole);
  remote_ = std::move(*announcement);
  const auto key = shared_key(remote_.public_key, identity_.keys.secret_key);
  if (!key) return key.error();
  key_ = *key;
  nonces_ = derive_nonces(sent_message_, received_message_, initiator_);
  return {};
}

Result<void> Peer::send_metadata() {
  return send_chunk(encode_metadata(options_.metadata));
}

Result<Metadata> Peer::read_metadata() {
  const auto chunk = read_chunk();
  if (!chunk) return chunk.error();
  return decode_metadata(*chunk);
}

Result<void> Peer::send_ack() {
  return send_chunk(encode_ack({}));
}

Result<void> Peer::send_nack(std::int16_t motive, std::vector<std::string> points) {
  return send_chunk(encode_ack({AckKind::kNack, motive, std::move(points)}));
}

Result<void> Peer::send_nack_v0() {
  return send_chunk(encode_ack({AckKind::kNackV0, 0, {}}));
}

Result<AckMessage> Peer::read_ack() {
  const auto chunk = read_chunk();
  if (!chunk) return chunk.error();
  return decode_ack(*chunk);
}

Result<void> Peer::introduce() {
  if (auto done = send_connection_message(); !done) return done;
  if (auto done = read_connection_message(); !done) return done;
  if (auto done = send_metadata(); !done) return done;
  if (const auto metadata = read_metadata(); !metadata) return metadata.error();
  return {};
}

Result<AckMessage> Peer::negotiate() {
  if (auto done = introduce(); !done) return done.error();
  // The other side may have refused and closed already; then its answer counts, not that the Ack went nowhere.
  if (auto done = send_ack(); !done && done.error().code != ErrorCode::kClosed) return done.error();
  return read_ack();
}

Result<void> Peer::handshake() {
  const auto answer = negotiate();
  if (!answer) return answer.error();
  if (answer->kind == AckKind::kAck) return {};
  return Error{ErrorCode::kRefused, answer->kind == AckKind::kNackV0
                                        ? "answered by Nack without motive"
                                        : "answered by Nack, motive " + std::to_string(answer->motive)};
}

Bytes Peer::seal(ByteView plaintext) {
  Bytes chunk = seal_chunk(plaintext, key_, nonces_.local);
  increment(nonces_.local);
  return chunk;
}

Result<void> Peer::send_stream(ByteView stream, std::size_t piece) {
  Bytes batch;
  for (const ByteView part : cut(stream, piece)) {
    const Bytes chunk = seal(part);
    batch.insert(batch.end(), chunk.begin(), chunk.end());
    if (batch.size() < 512 * 1024) continue;
    if (auto done = send_raw(batch); !done) return done;
    batch.clear();
  }
  return send_raw(batch);
}

Result<Bytes> Peer::read_chunk() {
  std::array<std::uint8_t, 2> header{};
  if (auto done = read_exactly(header); !done) return done.error();
  Bytes body(static_cast<std::size_t>(header[0]) << 8 | header[1]);
  if (auto done = read_exactly(body); !done) return done.error();
  auto plaintext = open_chunk(body, key_, nonces_.remote);
  increment(nonces_.remote);
  return plaintext;
}

Result<Message> Peer::read_message() {
  for (;;) {
    auto message = take_message(stream_);
    if (!message) return message.error();
    if (*message) return std::move(**message);
    const auto chunk = read_chunk();
    if (!chunk) return chunk.error();
    stream_.insert(stream_.end(), chunk->begin(), chunk->end());
  }
}

Result<Message> Peer::read_message(std::uint16_t tag) {
  for (;;) {
    auto message = read_message();
    if (!message || message->tag == tag) return message;
  }
}

Result<Message> Peer::read_application_message() {
  for (;;) {
    auto message = read_message();
    if (!message || message->tag >= kFirstApplicationTag) return message;
  }
}

Result<void> Peer::wait(short events, Clock::time_point deadline) const {
  if (!socket_) return Error{ErrorCode::kClosed, "this side has no socket"};
  return poll_until(socket_.get(), events, deadline);
}

Result<void> Peer::send_raw(ByteView bytes) {
  const auto deadline = Clock::now() + options_.timeout;
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (auto ready = wait(POLLOUT, deadline); !ready) return ready;
    } else if (errno != EINTR) {
      return error_from_errno("send");
    }
  }
  return {};
}

Result<void> Peer::read_exactly(std::span<std::uint8_t> into) {
  const auto deadline = Clock::now() + options_.timeout;
  while (!into.empty()) {
    const ssize_t got = ::recv(socket_.get(), into.data(), into.size(), 0);
    if (got > 0) {
      into = into.subspan(static_cast<std::size_t>(got));
    } else if (got == 0) {
      return Error{ErrorCode::kClosed, "closed by the other side, " + std::to_string(into.size()) + " bytes missing"};
    } else if (errno == EAGAIN) {
      if (auto ready = wait(POLLIN, deadline); !ready) return ready;
    } else if (errno != EINTR) {
      return error_from_errno("recv");
    }
  }
  return {};
}

Result<Bytes> Peer::read_raw(std::size_t size) {
  Bytes bytes(size);
  if (auto done = read_exactly(bytes); !done) return done.error();
  return bytes;
}

Result<Ending> Peer::read_until_closed(Milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  Ending ending;
  std::array<std::uint8_t, 65'536> buffer{};
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got > 0) {
      ending.bytes.insert(ending.bytes.end(), buffer.begin(), buffer.begin() + got);
    } else if (got == 0) {
      return ending;
    } else if (errno == EAGAIN) {
      if (auto ready = wait(POLLIN, deadline); !ready) {
        return Error{ErrorCode::kWouldBlock, "still open after " + std::to_string(timeout.count()) +
                                                 " ms, having sent " + to_hex(ending.bytes)};
      }
    } else if (errno == ECONNRESET || errno == EPIPE) {
      ending.reset = true;
      return ending;
    } else if (errno != EINTR) {
      return system_error("recv");
    }
  }
}

Result<std::size_t> Peer::trickle(ByteView bytes, Milliseconds pause) {
  for (std::size_t sent = 0; sent < bytes.size(); ++sent) {
    if (auto done = send_raw(bytes.subspan(sent, 1)); !done) {
      if (done.error().code == ErrorCode::kClosed) return sent;
      return done.error();
    }
    // Waits for an end of stream or reset, which arrive behind any bytes that are not read here.
    const auto ended = wait(POLLRDHUP, Clock::now() + pause);
    if (ended) return sent + 1;
    if (ended.error().code != ErrorCode::kWouldBlock) return ended.error();
  }
  return bytes.size();
}

Result<void> Peer::send_urgent(std::uint8_t byte) {
  if (::send(socket_.get(), &byte, 1, MSG_OOB | MSG_NOSIGNAL) != 1) return error_from_errno("send urgent data");
  return {};
}

Result<void> Peer::half_close() {
  if (::shutdown(socket_.get(), SHUT_WR) != 0) return error_from_errno("shutdown");
  return {};
}

void Peer::reset() {
  const linger now{1, 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  socket_.reset();
}

bool Peer::is_open() const {
  if (!socket_) return false;
  pollfd item{socket_.get(), POLLRDHUP, 0};
  return ::poll(&item, 1, 0) == 0;
}

}  // namespace bulkhead::testing
