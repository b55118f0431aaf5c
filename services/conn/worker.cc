#include "services/conn/worker.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <new>

namespace bulkhead::conn {
namespace {

// Reads of 512 KiB are measurably better than 256; behind one there must be room for the rest of a chunk.
constexpr std::size_t kReadSize = 512 * 1024;
constexpr std::size_t kInputSize = kReadSize + 128 * 1024;
constexpr std::size_t kOutputSize = 512 * 1024;
// What is read ahead of a handshake's step; the kernel keeps the rest.
constexpr std::size_t kHandshakeRead = 4096;
// One wake-up serves this many reads or writes, so that the channel and the other direction get their turn.
constexpr int kRoundsPerWakeup = 4;
// Octez waits this long between messages of these kinds from one connection.
constexpr Nanoseconds kExchangeCooldown = 100 * kMillisecond;
// After traffic, this long without any gives the buffers' memory back: an idle connection shall cost little. The timer
// runs once for each busy time; an idle worker has none.
constexpr std::uint64_t kTrimMs = 1000;
constexpr std::size_t kTrimFrom = 64 * 1024;
constexpr Nanoseconds kSwapCooldown = 60 * kSecond;
constexpr std::size_t kMaximumThrottled = 64;
// How long what waits for the peer is still written once the connection ends, and its close is waited for.
constexpr std::uint64_t kFlushMs = 3000;
constexpr std::uint64_t kLingerMs = 250;
// Soon enough for an application that attaches; the controller takes thousands of links a second.
constexpr std::uint64_t kLinkRetryMs = 5;
// Time constant of the moving averages: as an average that takes 20 % of each new second.
constexpr double kAverageSeconds = 4.5;

}  // namespace

LazyBuffer::LazyBuffer(std::size_t size) : size_(size) {
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  data_ = static_cast<std::uint8_t*>(memory);
}

void LazyBuffer::give_back() {
  ::madvise(data_, size_, MADV_DONTNEED);
}

Worker::Worker(WorkerParts parts) : parts_(std::move(parts)), input_(kInputSize), output_(kOutputSize) {
  bootstraps_.cooldown = kExchangeCooldown;
  advertises_.cooldown = kExchangeCooldown;
  socket_poll_ =
      service::Poll(loop_, parts_.socket.get(), [this](int status, int events) { on_socket(status, events); });
  channel_poll_ =
      service::Poll(loop_, parts_.channel.fd(), [this](int status, int events) { on_channel(status, events); });
  wakeup_poll_ = service::Poll(loop_, parts_.to_worker.get(), [this](int, int) { on_wakeup(); });
  deadline_timer_ = service::Timer(loop_, [this] {
    if (phase_ == Phase::kFlushing) {
      linger();
    } else if (phase_ == Phase::kLingering) {
      end(reason_);
    } else {
      end(Reason::kAuthenticationTimeout);
    }
  });
  grace_timer_ = service::Timer(loop_, [this] {
    if (!blocked_ || receiver_attached_ || !inbound_) return;
    const Reason reason = inbound_->start_discarding();
    if (reason != Reason::kNone) {
      end(reason);
      return;
    }
    consume_input();
    update_watches();
  });
  trim_timer_ = service::Timer(loop_, [this] { trim(); });
  link_timer_ = service::Timer(loop_, [this] { give_links(); });
  throttle_timer_ = service::Timer(loop_, [this] {
    release_throttled();
    consume_input();
    update_watches();
  });
}

WorkerExit Worker::run() {
  channel_poll_.watch(UV_READABLE);
  loop_.run();
  return exit_;
}

void Worker::stop(WorkerExit code) {
  if (phase_ == Phase::kStopped) return;
  phase_ = Phase::kStopped;
  exit_ = code;
  loop_.stop();
}

// ---- from the controller

void Worker::on_channel(int status, int events) {
  if (status < 0) events = UV_READABLE;
  if ((events & UV_WRITABLE) != 0) flush_reports();
  if ((events & UV_READABLE) != 0) {
    schema::Descriptors descriptors;
    auto message = parts_.channel.receive<schema::ToWorker>(descriptors);
    if (message) {
      on_message(*message);
    } else if (message.error().code == ErrorCode::kClosed) {
      stop(WorkerExit::kChannelClosed);
    } else if (message.error().code != ErrorCode::kWouldBlock) {
      stop(WorkerExit::kChannelFault);
    }
  }
  if (phase_ != Phase::kStopped) update_watches();
}

void Worker::on_message(schema::ToWorker& message) {
  bool fits = true;
  if (auto* first = std::get_if<schema::WorkerStart>(&message)) {
    fits = phase_ == Phase::kWaiting;
    if (fits) start(*first);
  } else if (phase_ == Phase::kWaiting) {
    fits = std::holds_alternative<schema::Close>(message) || std::holds_alternative<schema::ApplicationState>(message);
    if (std::holds_alternative<schema::Close>(message)) end(std::get<schema::Close>(message).reason);
  } else if (auto* metadata = std::get_if<schema::OurMetadata>(&message)) {
    fits = phase_ != Phase::kHandshake || handshake_->on(*metadata);
    consume_input();
  } else if (auto* verdict = std::get_if<schema::Verdict>(&message)) {
    fits = phase_ != Phase::kHandshake || handshake_->on(*verdict);
    wire::wipe(verdict->channel_key);
    wire::wipe(verdict->send_nonce);
    wire::wipe(verdict->receive_nonce);
    consume_input();
  } else if (std::holds_alternative<schema::GiveLink>(message)) {
    ++links_due_;
    give_links();
  } else if (auto* application = std::get_if<schema::ApplicationState>(&message)) {
    set_application(application->receiver_attached, application->sender_attached);
  } else if (auto* advertise = std::get_if<schema::SendAdvertise>(&message)) {
    if (phase_ == Phase::kRunning && outbound_->queue(wire::Advertise{std::move(advertise->points)})) write_socket();
  } else if (std::holds_alternative<schema::SendBootstrap>(message)) {
    if (phase_ == Phase::kRunning && outbound_->queue(wire::Bootstrap{})) write_socket();
  } else if (auto* request = std::get_if<schema::SendSwapRequest>(&message)) {
    if (phase_ == Phase::kRunning && outbound_->queue(wire::SwapRequest{request->point, request->peer_id}))
      write_socket();
  } else if (auto* ack = std::get_if<schema::SendSwapAck>(&message)) {
    if (phase_ == Phase::kRunning && outbound_->queue(wire::SwapAck{ack->point, ack->peer_id})) write_socket();
  } else if (auto* close = std::get_if<schema::Close>(&message)) {
    if (close->flush && phase_ == Phase::kRunning) {
      end_after_output(close->reason);
    } else if (phase_ != Phase::kFlushing && phase_ != Phase::kLingering) {
      end(close->reason);
    }
  } else if (auto* ping = std::get_if<schema::WorkerPing>(&message)) {
    report(schema::WorkerPong{ping->number});
  }
  if (!fits) stop(WorkerExit::kChannelFault);
}

void Worker::start(const schema::WorkerStart& message) {
  settings_ = message;
  receiver_attached_ = message.receiver_attached;
  sender_attached_ = message.sender_attached;
  handshake_.emplace(message);
  phase_ = Phase::kHandshake;
  show_step(shm::HandshakeStep::kConnectionMessage);
  const Nanoseconds now = monotonic_now();
  deadline_timer_.once(message.deadline_ns > now ? (message.deadline_ns - now) / kMillisecond + 1 : 0);
  consume_input();
}

void Worker::give_links() {
  const int descriptors[] = {parts_.link->inward_fd(), parts_.to_application.get(), parts_.to_worker.get()};
  while (links_due_ > 0) {
    const auto sent = parts_.channel.send(schema::FromWorker(schema::Link{}), descriptors);
    if (!sent) {
      // The kernel bounds the descriptors that are on their way for all workers together, and tells nobody when there
      // is room.
      if (sent.error().code == ErrorCode::kWouldBlock) link_timer_.once(kLinkRetryMs);
      return;
    }
    --links_due_;
  }
}

void Worker::set_application(bool receiver, bool sender) {
  const bool receiver_went = receiver_attached_ && !receiver;
  const bool sender_went = sender_attached_ && !sender;
  receiver_attached_ = receiver;
  sender_attached_ = sender;
  if (phase_ != Phase::kRunning) return;
  inbound_->set_receiver(receiver);
  if (receiver_went && parts_.link->receiver_in_message()) {
    end(Reason::kApplicationDiedMidMessage);
    return;
  }
  if (sender_went) {
    write_socket();
    if (phase_ == Phase::kRunning && parts_.link->sender_in_message()) {
      end(Reason::kApplicationDiedMidMessage);
      return;
    }
  }
  if (receiver) grace_timer_.stop();
  consume_input();
}

void Worker::report(schema::FromWorker message) {
  reports_.push_back(std::move(message));
  flush_reports();
}

void Worker::flush_reports() {
  while (!reports_.empty()) {
    const auto sent = parts_.channel.send(reports_.front());
    if (!sent) {
      if (sent.error().code == ErrorCode::kWouldBlock) return;
      stop(WorkerExit::kChannelClosed);
      return;
    }
    reports_.pop_front();
  }
}

// ---- from and to the peer

void Worker::on_socket(int status, int events) {
  // An error on the socket shows as such to the next read.
  if (status < 0) events = UV_READABLE;
  if ((events & UV_WRITABLE) != 0) {
    socket_full_ = false;
    write_socket();
  }
  if ((events & (UV_READABLE | UV_DISCONNECT)) != 0 && phase_ != Phase::kStopped) read_socket();
  if (phase_ != Phase::kStopped) update_watches();
}

void Worker::read_socket() {
  for (int round = 0; round < kRoundsPerWakeup; ++round) {
    if (phase_ == Phase::kStopped || blocked_ || reports_.size() >= kMaximumThrottled) return;
    if (awaits_controller()) return;
    if (input_begin_ == input_end_) input_begin_ = input_end_ = 0;
    const auto buffer = input_.span();
    if (input_begin_ > 0 && buffer.size() - input_end_ < kReadSize) {
      std::memmove(buffer.data(), buffer.data() + input_begin_, input_end_ - input_begin_);
      input_end_ -= input_begin_;
      input_begin_ = 0;
    }
    // A handshake's messages are small: no reason to touch more pages.
    const std::size_t wanted = phase_ == Phase::kHandshake ? kHandshakeRead : kReadSize;
    if (phase_ == Phase::kHandshake && input_end_ - input_begin_ >= kHandshakeRead) return;
    const std::size_t size = std::min(wanted, buffer.size() - input_end_);
    const ssize_t got = ::recv(parts_.socket.get(), buffer.data() + input_end_, size, MSG_DONTWAIT);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      const bool lost = errno == ETIMEDOUT;
      if (phase_ == Phase::kLingering || phase_ == Phase::kFlushing) {
        end(reason_);
      } else {
        end(phase_ != Phase::kRunning ? Reason::kClosedInHandshake
            : lost                    ? Reason::kConnectionLost
                                      : Reason::kClosedByPeer);
      }
      return;
    }
    if (got == 0) {
      const bool ending = phase_ == Phase::kLingering || phase_ == Phase::kFlushing;
      end(ending ? reason_ : phase_ == Phase::kRunning ? Reason::kClosedByPeer : Reason::kClosedInHandshake);
      return;
    }
    count_in(static_cast<std::size_t>(got));
    if (phase_ == Phase::kLingering || phase_ == Phase::kFlushing) continue;
    input_end_ += static_cast<std::size_t>(got);
    consume_input();
    if (static_cast<std::size_t>(got) < size) return;
  }
}

void Worker::consume_input() {
  if (phase_ == Phase::kHandshake) consume_handshake();
  if (phase_ == Phase::kRunning) consume_stream();
}

void Worker::consume_handshake() {
  input_begin_ += handshake_->feed(input_.span().subspan(input_begin_, input_end_ - input_begin_));
  const auto out = handshake_->take_output();
  if (!out.empty()) std::memcpy(output_.span().data() + output_end_, out.data(), out.size());
  output_end_ += out.size();
  // First what was learnt: a write that fails ends this.
  for (auto& message : handshake_->take_reports()) report(std::move(message));
  if (!send_pending()) return;
  switch (handshake_->step()) {
    case Handshake::Step::kConnectionMessage:
      break;
    case Handshake::Step::kOurMetadata:
    case Handshake::Step::kMetadata:
      show_step(shm::HandshakeStep::kMetadata);
      break;
    case Handshake::Step::kVerdict:
      show_step(shm::HandshakeStep::kVerdict);
      break;
    case Handshake::Step::kAck:
      show_step(shm::HandshakeStep::kAck);
      break;
    case Handshake::Step::kEnded:
      end_after_output(handshake_->reason());
      break;
    case Handshake::Step::kRunning: {
      deadline_timer_.stop();
      auto [sending, receiving] = handshake_->take_channels();
      handshake_.reset();
      inbound_.emplace(std::move(receiving), *parts_.link);
      outbound_.emplace(std::move(sending), *parts_.link);
      inbound_->set_receiver(receiver_attached_);
      if (settings_->discard_without_application) inbound_->set_discard_without_receiver();
      phase_ = Phase::kRunning;
      show_step(shm::HandshakeStep::kRunning);
      wakeup_poll_.watch(UV_READABLE);
      write_socket();
      break;
    }
  }
}

void Worker::consume_stream() {
  for (;;) {
    const auto progress =
        inbound_->process(input_.span().subspan(input_begin_, input_end_ - input_begin_), p2p_messages_);
    input_begin_ += progress.taken;
    auto& page = parts_.live.page();
    page.messages_in.store(inbound_->messages(), std::memory_order_relaxed);
    page.discarded.store(inbound_->discarded(), std::memory_order_relaxed);
    page.queue_in.store(parts_.link->inward_used(), std::memory_order_relaxed);
    // What the application takes of it wakes nobody here.
    if (parts_.link->inward_used() != 0 && !trim_timer_.active()) trim_timer_.once(kTrimMs);
    for (auto& message : p2p_messages_) {
      if (phase_ == Phase::kRunning) handle(message);
    }
    p2p_messages_.clear();
    if (phase_ != Phase::kRunning) return;
    if (progress.state == Inbound::State::kEnded) {
      end(progress.reason);
      return;
    }
    blocked_ = progress.state == Inbound::State::kBlocked;
    if (!blocked_) {
      grace_timer_.stop();
      return;
    }
    const auto waiting = inbound_->wait_for_room();
    if (!waiting) {
      end(Reason::kApplicationFault);
      return;
    }
    if (*waiting) {
      if (!receiver_attached_ && !grace_timer_.active()) grace_timer_.once(settings_->application_grace_ms);
      return;
    }
  }
}

void Worker::handle(wire::P2pMessage& message) {
  if (std::holds_alternative<wire::Disconnect>(message)) {
    end(Reason::kDisconnectMessage);
    return;
  }
  // A private node takes part in no exchange of peers, whatever it is told.
  if (settings_->private_mode) return;
  if (std::holds_alternative<wire::Bootstrap>(message)) {
    if (!settings_->disable_peer_discovery) throttle(bootstraps_, schema::BootstrapReceived{});
  } else if (auto* advertise = std::get_if<wire::Advertise>(&message)) {
    if (!settings_->disable_peer_discovery)
      throttle(advertises_, schema::AdvertiseReceived{std::move(advertise->points)});
  } else {
    // Each kind for itself: the answer to our request may follow a request of the peer's.
    Nanoseconds& last = std::holds_alternative<wire::SwapRequest>(message) ? last_swap_request_ : last_swap_ack_;
    const Nanoseconds now = monotonic_now();
    if (last != 0 && now - last < kSwapCooldown) return;
    last = now;
    if (auto* request = std::get_if<wire::SwapRequest>(&message))
      report(schema::SwapRequestReceived{request->point, request->peer_id});
    if (auto* ack = std::get_if<wire::SwapAck>(&message)) report(schema::SwapAckReceived{ack->point, ack->peer_id});
  }
}

void Worker::throttle(Throttled& kind, schema::FromWorker message) {
  kind.waiting.push_back(std::move(message));
  release_throttled();
}

void Worker::release_throttled() {
  const Nanoseconds now = monotonic_now();
  Nanoseconds next = 0;
  for (Throttled* kind : {&bootstraps_, &advertises_}) {
    if (kind->waiting.empty()) continue;
    if (now >= kind->next) {
      report(std::move(kind->waiting.front()));
      kind->waiting.pop_front();
      kind->next = now + kind->cooldown;
    }
    if (!kind->waiting.empty()) next = next == 0 ? kind->next : std::min(next, kind->next);
  }
  if (next != 0 && !throttle_timer_.active()) throttle_timer_.once(next > now ? (next - now) / kMillisecond + 1 : 1);
}

void Worker::on_wakeup() {
  shm::drain_wakeup(parts_.to_worker.get());
  if (blocked_) consume_input();
  if (phase_ == Phase::kRunning) write_socket();
  // A socket that takes nothing kept write_socket() from looking at what waits.
  if (phase_ == Phase::kRunning && socket_full_) {
    (void)parts_.link->readable_outward();
    parts_.live.page().queue_out.store(parts_.link->outward_used(), std::memory_order_relaxed);
  }
  if (phase_ != Phase::kStopped) update_watches();
}

// Writes what is sealed. False when the connection ended.
bool Worker::send_pending() {
  while (output_begin_ < output_end_) {
    const auto rest = output_.span().subspan(output_begin_, output_end_ - output_begin_);
    const ssize_t sent = ::send(parts_.socket.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        socket_full_ = true;
        return true;
      }
      const bool lost = errno == ETIMEDOUT;
      if (phase_ == Phase::kFlushing) {
        end(reason_);
      } else if (phase_ == Phase::kRunning) {
        // What the peer sent before it closed may still wait to be read, and tells more than the failed write.
        read_socket();
        if (phase_ == Phase::kRunning) end(lost ? Reason::kConnectionLost : Reason::kClosedByPeer);
      } else {
        end(Reason::kClosedInHandshake);
      }
      return false;
    }
    output_begin_ += static_cast<std::size_t>(sent);
    count_out(static_cast<std::size_t>(sent));
  }
  output_begin_ = output_end_ = 0;
  socket_full_ = false;
  return true;
}

void Worker::write_socket() {
  for (int round = 0; round < kRoundsPerWakeup; ++round) {
    if (!send_pending() || socket_full_) return;
    if (phase_ == Phase::kFlushing) {
      // What waits shows when it is filled in: the last look may be old.
      const bool more = outbound_ && reason_ != Reason::kApplicationFault;
      if (!more) {
        linger();
        return;
      }
    } else if (phase_ != Phase::kRunning) {
      return;
    }
    const auto progress = outbound_->fill(output_.span());
    output_end_ = progress.written;
    auto& page = parts_.live.page();
    page.messages_out.store(outbound_->messages(), std::memory_order_relaxed);
    page.queue_out.store(parts_.link->outward_used(), std::memory_order_relaxed);
    page.outward_taken.store(parts_.link->outward_taken(), std::memory_order_relaxed);
    if (progress.reason != Reason::kNone) {
      end_after_output(progress.reason);
      return;
    }
    if (progress.written > 0) continue;
    if (phase_ == Phase::kFlushing) {
      linger();
      return;
    }
    const auto asleep = parts_.link->sleep_until_outward();
    if (!asleep) {
      end(Reason::kApplicationFault);
      return;
    }
    if (*asleep) return;
    parts_.link->stop_sleeping();
  }
  // There is more; the socket is writable at once, so the loop comes back after the other descriptors had their turn.
  socket_full_ = true;
}

// ---- the end

void Worker::end(Reason reason) {
  if (phase_ == Phase::kStopped) return;
  auto& page = parts_.live.page();
  page.reason.store(static_cast<std::uint64_t>(reason), std::memory_order_relaxed);
  show_step(shm::HandshakeStep::kClosing);
  ::shutdown(parts_.socket.get(), SHUT_RDWR);
  flush_reports();
  (void)parts_.channel.send(schema::FromWorker(schema::Closing{reason}));
  stop(WorkerExit::kDone);
}

void Worker::end_after_output(Reason reason) {
  if (phase_ == Phase::kStopped || phase_ == Phase::kFlushing || phase_ == Phase::kLingering) return;
  reason_ = reason;
  phase_ = Phase::kFlushing;
  input_begin_ = input_end_ = 0;
  grace_timer_.stop();
  deadline_timer_.once(kFlushMs);
  show_step(shm::HandshakeStep::kClosing);
  if (outbound_ && reason != Reason::kApplicationFault) {
    write_socket();
  } else if (send_pending() && !socket_full_) {
    linger();
  }
}

// A close while the peer's bytes wait unread would reset the connection, and the reset may overtake what was just
// written.
void Worker::linger() {
  if (phase_ != Phase::kFlushing) return;
  if (output_begin_ < output_end_) {
    end(reason_);
    return;
  }
  phase_ = Phase::kLingering;
  ::shutdown(parts_.socket.get(), SHUT_WR);
  deadline_timer_.once(kLingerMs);
  read_socket();
}

// ---- helpers

// While a question is with the controller, the peer's next bytes, and its end above all, wait: the answer may tell more
// than a closed socket (that we met ourselves, for one: both ends are ours then, and one of them learns it first).
bool Worker::awaits_controller() const {
  if (phase_ != Phase::kHandshake) return false;
  const auto step = handshake_->step();
  return step == Handshake::Step::kOurMetadata || step == Handshake::Step::kVerdict;
}

void Worker::update_watches() {
  const bool exchange_full =
      bootstraps_.waiting.size() + advertises_.waiting.size() >= kMaximumThrottled || !reports_.empty();
  const bool reads =
      phase_ == Phase::kLingering || phase_ == Phase::kFlushing ||
      (phase_ == Phase::kHandshake && !awaits_controller() && input_end_ - input_begin_ < kHandshakeRead) ||
      (phase_ == Phase::kRunning && !blocked_ && !exchange_full);
  const bool writes = socket_full_;
  socket_poll_.watch((reads ? UV_READABLE : 0) | (writes ? UV_WRITABLE : 0));
  channel_poll_.watch(UV_READABLE | (reports_.empty() ? 0 : UV_WRITABLE));
}

void Worker::show_step(shm::HandshakeStep step) {
  parts_.live.page().step.store(static_cast<std::uint64_t>(step), std::memory_order_relaxed);
}

void Worker::count_in(std::size_t bytes) {
  const Nanoseconds now = monotonic_now();
  const double elapsed = static_cast<double>(now - last_activity_) / static_cast<double>(kSecond);
  const double decay = last_activity_ == 0 ? 0 : std::exp(-elapsed / kAverageSeconds);
  last_activity_ = now;
  bytes_in_ += bytes;
  inflow_ = inflow_ * decay + static_cast<double>(bytes) / kAverageSeconds;
  outflow_ *= decay;
  busy_bytes_ += bytes;
  if (busy_bytes_ >= kTrimFrom && !trim_timer_.active()) {
    busy_bytes_ = 0;
    trim_timer_.once(kTrimMs);
  }
  auto& page = parts_.live.page();
  page.bytes_in.store(bytes_in_, std::memory_order_relaxed);
  page.inflow.store(static_cast<std::uint64_t>(inflow_), std::memory_order_relaxed);
  page.outflow.store(static_cast<std::uint64_t>(outflow_), std::memory_order_relaxed);
  page.last_activity_ns.store(now, std::memory_order_relaxed);
}

void Worker::trim() {
  if (monotonic_now() - last_activity_ < kTrimMs * kMillisecond) {
    trim_timer_.once(kTrimMs);
    return;
  }
  if (input_begin_ == input_end_) input_.give_back();
  if (output_begin_ == output_end_) output_.give_back();
  if (phase_ != Phase::kRunning || blocked_) return;
  // What the application has taken since shows in the statistics.
  (void)parts_.link->writable_inward();
  parts_.live.page().queue_in.store(parts_.link->inward_used(), std::memory_order_relaxed);
  if (parts_.link->inward_used() != 0) trim_timer_.once(kTrimMs);
}

void Worker::count_out(std::size_t bytes) {
  busy_bytes_ += bytes;
  count_in(0);
  bytes_out_ += bytes;
  outflow_ += static_cast<double>(bytes) / kAverageSeconds;
  auto& page = parts_.live.page();
  page.bytes_out.store(bytes_out_, std::memory_order_relaxed);
  page.outflow.store(static_cast<std::uint64_t>(outflow_), std::memory_order_relaxed);
}

}  // namespace bulkhead::conn
