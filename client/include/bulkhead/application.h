#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/reasons.h"
#include "base/result.h"

/// The raw application interface: attach to a running node, learn of its connections, receive and send messages as a
/// tag and bytes. Payload goes through shared memory alone.
namespace bulkhead::client {

struct ConnectionInfo {
  PeerId peer_id{};
  bool incoming = false;
  Point point;  ///< where the peer listens; port 0 when it did not say
  std::uint16_t remote_port = 0;
  std::string chain_name;
  std::uint16_t distributed_db_version = 0;  ///< announced by the peer
  std::uint16_t p2p_version = 0;
  bool private_node = false;
  bool disable_mempool = false;
};

/// Comes after Disconnected of the connection that the peer had before.
struct Connected {
  ConnectionInfo connection;
};
/// Comes after the last message of that peer.
struct Disconnected {
  PeerId peer_id{};
  Reason reason = Reason::kNone;
};
struct MessageReceived {
  PeerId peer_id{};
  std::uint16_t tag = 0;  ///< 0x10 and above
  std::vector<std::uint8_t> body;
};
/// Messages of this peer that were discarded while nobody received.
struct Gap {
  PeerId peer_id{};
  std::uint64_t messages = 0;
};
/// The node has gone; nothing comes after this.
struct Detached {};

using Event = std::variant<Connected, Disconnected, MessageReceived, Gap, Detached>;

struct Options {
  bool receive = true;
  bool send = true;
  std::size_t maximum_body = 100 * 1024 * 1024;  ///< a peer that sends more loses its connection
};

/// One attachment to a node. One thread. Nothing blocks but wait() and send().
///
/// A message counts as taken when next() is called again, or when this object goes: a process that dies while it
/// handles a message gets that one again when it attaches anew, and loses none.
class Application {
 public:
  /// Attaches to the node of `data_dir`. kNotFound: no node runs there. kRefused: a side that was asked for is taken;
  /// the text names the process that holds it. Waits for the node's answer for at most five seconds.
  static Result<std::unique_ptr<Application>> attach(const std::string& data_dir, const Options& options = {});
  ~Application();

  PeerId own_peer_id() const;

  /// Readable when next() may have something: to be watched by any event loop, level-triggered. Stays the library's.
  int fd() const;

  /// The next event, or nothing now. Messages of many peers take turns.
  std::optional<Event> next();

  /// Waits until next() may have something, at most so long. False: it has nothing.
  bool wait(std::chrono::milliseconds timeout);

  std::vector<ConnectionInfo> connections() const;

  /// Puts a message into the connection's queue. False: there is no room now; fd() becomes readable when there is.
  /// kNotFound: no connection with that peer. kRefused: attached without the sending side. Tags below 0x10 are
  /// kInvalid.
  Result<bool> try_send(const PeerId& peer, std::uint16_t tag, std::span<const std::uint8_t> body);

  /// As try_send, and waits for room, at most so long. On a time-out (kWouldBlock) nothing was sent; of a message that
  /// is larger than half the queue a part may have gone, and then the connection is closed.
  Result<void> send(const PeerId& peer, std::uint16_t tag, std::span<const std::uint8_t> body,
                    std::chrono::milliseconds timeout);

  /// Asks the node to close the connection; with `flush`, after what is queued was written. Disconnected follows.
  Result<void> disconnect(const PeerId& peer, bool flush = true);

  /// What the application has against an address, or against a peer and the address where it was seen last: the node
  /// refuses it and closes its connection, for the time that `greylist-timeout` has. Who is trusted stays. Asks, and
  /// does not wait for the node: kClosed when it is gone.
  Result<void> greylist_address(const Address& address);
  Result<void> greylist_peer(const PeerId& peer);

  /// What a peer is worth to the application; 1 is what it starts with. The node prefers the higher score when it
  /// chooses neighbours. kInvalid: not finite.
  Result<void> set_score(const PeerId& peer, double score);

  /// Asks the node to look for more neighbours now.
  Result<void> maintain();

 private:
  struct State;
  explicit Application(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace bulkhead::client
