#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "tests/peer/codec.h"

namespace bulkhead::testing {

using Milliseconds = std::chrono::milliseconds;
inline constexpr Milliseconds kPeerTimeout{5000};

/// A listening TCP socket. Points are texts: "127.0.0.1:9732" or "[::1]:9732".
class Listener {
 public:
  /// Port 0 takes a free one.
  static Result<Listener> open(const std::string& address = "127.0.0.1", std::uint16_t port = 0);

  const std::string& point() const { return point_; }
  std::uint16_t port() const { return port_; }
  /// kWouldBlock when nobody connected in time. `from`, when given, is set to the point of the other side.
  Result<UniqueFd> accept(Milliseconds timeout = kPeerTimeout, std::string* from = nullptr);

 private:
  UniqueFd fd_;
  std::string point_;
  std::uint16_t port_ = 0;
};

struct PeerOptions {
  std::optional<TestIdentity> identity{};  ///< fresh when absent, with a stamp for `difficulty`
  double difficulty = 1;
  bool bad_stamp = false;  ///< a stamp that does not pass at `difficulty`
  std::string chain_name = "TEZOS_MAINNET";
  std::uint16_t distributed_db_version = 2;
  std::uint16_t p2p_version = 1;
  std::uint16_t advertised_port = 0;
  Metadata metadata{};
  Milliseconds timeout = kPeerTimeout;  ///< of each call that takes none
};

/// How the other side ended the connection.
struct Ending {
  Bytes bytes;         ///< what it still sent, undeciphered
  bool reset = false;  ///< by a reset, not by an end of stream
};

/// One connection of a peer which does what the test says, in the order that it says, right or wrong.
/// Every call that waits has a deadline. Errors: kWouldBlock when it passed, kClosed when the other side closed or
/// reset the connection, kInvalid when what came breaks the protocol, kSystem otherwise. Not thread-safe.
class Peer {
 public:
  explicit Peer(PeerOptions options = {});

  /// What this peer is, in text.
  std::string peer_id() const { return peer_id_text(identity_.keys.public_key); }
  const TestIdentity& identity() const { return identity_; }
  PeerOptions& options() { return options_; }

  /// Dials; this side is then the initiator. The socket is bound to `source_address` first, unless that is empty.
  Result<void> connect(const std::string& point, const std::string& source_address = "");
  /// Waits for a connection; this side is then the responder.
  Result<void> accept(Listener& listener);
  /// Takes over a connected socket.
  void adopt(UniqueFd socket, bool initiator);
  /// Of this side's socket; empty without one.
  std::string local_point() const;
  bool has_socket() const { return static_cast<bool>(socket_); }
  int fd() const { return socket_.get(); }

  // Handshake, step by step.

  /// This connection's message: the same bytes every time it is asked, until connect, accept or adopt.
  const Bytes& connection_message();
  Result<void> send_connection_message() { return send_connection_message(connection_message()); }
  /// Sends any bytes as the connection message (a foreign or broken one); the nonces follow from them.
  Result<void> send_connection_message(Bytes whole);
  /// The same for a message whose bytes the test sends, or sent, by other means.
  void assume_sent(Bytes whole) { sent_message_ = std::move(whole); }
  /// Reads the other side's and derives channel key and nonces. Needs that this side's was sent.
  Result<void> read_connection_message();
  const Announcement& remote() const { return remote_; }
  std::string remote_peer_id() const { return peer_id_text(remote_.public_key); }
  /// The bytes of the other side's connection message, as they came.
  const Bytes& remote_connection_message() const { return received_message_; }

  /// The connection's key, once the other side's message was read.
  const Key& channel_key() const { return key_; }

  Result<void> send_metadata();
  Result<Metadata> read_metadata();
  Result<void> send_ack();
  Result<void> send_nack(std::int16_t motive, std::vector<std::string> points = {});
  Result<void> send_nack_v0();
  Result<AckMessage> read_ack();

  /// Connection messages and metadata, both ways.
  Result<void> introduce();
  /// introduce(), then this side's Ack; what the other side answered.
  Result<AckMessage> negotiate();
  /// negotiate(), and the answer must be Ack.
  Result<void> handshake();

  // After that.

  /// The chunk of `plaintext`; counts as sent, so it must be, and in this order.
  Bytes seal(ByteView plaintext);
  Result<void> send_chunk(ByteView plaintext) { return send_raw(seal(plaintext)); }
  /// `stream` in chunks of `piece` bytes of plaintext at most.
  Result<void> send_stream(ByteView stream, std::size_t piece = kMaximumPiece);
  Result<void> send_message(std::uint16_t tag, ByteView body) { return send_stream(encode_message(tag, body)); }

  /// The plaintext of the next chunk.
  Result<Bytes> read_chunk();
  /// The next message, from as many chunks as it takes.
  Result<Message> read_message();
  /// The next message with this tag; others that come before it are dropped.
  Result<Message> read_message(std::uint16_t tag);
  /// The next message of the application; those of the P2P layer that come before it are dropped.
  Result<Message> read_application_message();

  // Raw bytes.

  Result<void> send_raw(ByteView bytes);
  Result<Bytes> read_raw(std::size_t size);
  /// Everything until the other side closes.
  Result<Ending> read_until_closed() { return read_until_closed(options_.timeout); }
  Result<Ending> read_until_closed(Milliseconds timeout);
  /// Sends one byte at a time, `pause` apart, until all are sent or the other side closed. Returns how many were sent.
  Result<std::size_t> trickle(ByteView bytes, Milliseconds pause);
  /// One byte of TCP urgent data.
  Result<void> send_urgent(std::uint8_t byte);
  /// Ends this side's stream; the other's stays open.
  Result<void> half_close();
  void close() { socket_.reset(); }
  /// Closes with a TCP reset.
  void reset();
  /// False once the other side's end of stream or reset has arrived, even with bytes before it unread. Does not wait.
  bool is_open() const;

 private:
  Result<void> wait(short events, std::chrono::steady_clock::time_point deadline) const;
  Result<void> read_exactly(std::span<std::uint8_t> into);

  PeerOptions options_;
  TestIdentity identity_;
  UniqueFd socket_;
  bool initiator_ = true;
  Bytes own_message_;
  Bytes sent_message_;
  Bytes received_message_;
  Announcement remote_;
  Key key_{};
  NoncePair nonces_;
  Bytes stream_;
};

}  // namespace bulkhead::testing
