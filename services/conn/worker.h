#pragma once

#include <deque>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/exit_codes.h"
#include "base/fd.h"
#include "schema/channel.h"
#include "services/common/loop.h"
#include "services/conn/handshake.h"
#include "services/conn/inbound.h"
#include "services/conn/outbound.h"
#include "shm/link.h"
#include "shm/tables.h"

namespace bulkhead::conn {

/// What a worker is made of before it confines itself: everything it will ever hold.
struct WorkerParts {
  SlotRef slot;
  UniqueFd socket;
  UniqueFd to_application;
  UniqueFd to_worker;
  schema::Channel channel;
  shm::LiveWriter live;
  std::unique_ptr<shm::WorkerLink> link;
};

/// A private buffer of whole pages that takes no memory before it is touched.
class LazyBuffer {
 public:
  explicit LazyBuffer(std::size_t size);
  std::span<std::uint8_t> span() { return {data_, size_}; }
  /// The memory goes back to the kernel; what was in it is lost.
  void give_back();

 private:
  std::uint8_t* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The thin shell of one connection: carries bytes between the socket, the pure parts (Handshake, Inbound, Outbound)
/// and the channel to the controller. Lives for one connection. Makes its loop and buffers at construction; run() makes
/// no system call outside the policy of Role::kConn.
class Worker {
 public:
  explicit Worker(WorkerParts parts);

  /// Until the connection ended, or the controller's end of the channel closed. Returns the exit status.
  WorkerExit run();

 private:
  struct Throttled {
    Nanoseconds cooldown = 0;
    Nanoseconds next = 0;
    std::deque<schema::FromWorker> waiting;
  };

  // from the controller
  void on_channel(int status, int events);
  void on_message(schema::ToWorker& message);
  void start(const schema::WorkerStart& message);
  void give_links();
  void set_application(bool receiver, bool sender);
  void report(schema::FromWorker message);
  void flush_reports();

  // from and to the peer
  void on_socket(int status, int events);
  void read_socket();
  void consume_input();
  void consume_handshake();
  void consume_stream();
  void handle(wire::P2pMessage& message);
  void throttle(Throttled& kind, schema::FromWorker message);
  void release_throttled();
  void write_socket();
  bool send_pending();
  void on_wakeup();

  // the end
  void end(Reason reason);
  void end_after_output(Reason reason);
  void linger();
  void stop(WorkerExit code);

  bool awaits_controller() const;
  void update_watches();
  void show_step(shm::HandshakeStep step);
  void count_in(std::size_t bytes);
  void count_out(std::size_t bytes);
  void trim();

  WorkerParts parts_;
  service::Loop loop_;
  LazyBuffer input_;
  LazyBuffer output_;
  std::size_t input_begin_ = 0;
  std::size_t input_end_ = 0;
  std::size_t output_begin_ = 0;
  std::size_t output_end_ = 0;

  service::Poll socket_poll_;
  service::Poll channel_poll_;
  service::Poll wakeup_poll_;
  service::Timer deadline_timer_;
  service::Timer grace_timer_;
  service::Timer throttle_timer_;
  service::Timer trim_timer_;
  service::Timer link_timer_;

  std::optional<schema::WorkerStart> settings_;
  std::optional<Handshake> handshake_;
  std::optional<Inbound> inbound_;
  std::optional<Outbound> outbound_;
  std::deque<schema::FromWorker> reports_;
  std::vector<wire::P2pMessage> p2p_messages_;
  Throttled bootstraps_;
  Throttled advertises_;
  Nanoseconds last_swap_request_ = 0;
  Nanoseconds last_swap_ack_ = 0;

  enum class Phase : std::uint8_t { kWaiting, kHandshake, kRunning, kFlushing, kLingering, kStopped };
  Phase phase_ = Phase::kWaiting;
  Reason reason_ = Reason::kNone;
  WorkerExit exit_ = WorkerExit::kDone;
  bool blocked_ = false;  ///< the inward ring is full
  bool socket_full_ = false;
  std::size_t links_due_ = 0;  ///< asked for and not yet sent
  bool receiver_attached_ = false;
  bool sender_attached_ = false;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
  std::size_t busy_bytes_ = 0;  ///< moved since the trim timer was last started
  double inflow_ = 0;
  double outflow_ = 0;
  Nanoseconds last_activity_ = 0;
};

}  // namespace bulkhead::conn
