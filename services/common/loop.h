#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>

namespace bulkhead::service {

/// libuv's loop and handles as owners. Callbacks must not throw (they sit under C frames); an exception ends the
/// process. One thread.
class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  uv_loop_t* get() { return &loop_; }
  /// Runs until stop().
  void run();
  void stop();

 private:
  uv_loop_t loop_{};
};

/// Watches one descriptor, which stays the caller's and must stay open while this exists.
class Poll {
 public:
  /// `events`: UV_READABLE, UV_WRITABLE, UV_DISCONNECT, UV_PRIORITIZED.
  using Callback = std::function<void(int status, int events)>;

  Poll() = default;
  Poll(Loop& loop, int fd, Callback callback);
  Poll(Poll&&) noexcept = default;
  Poll& operator=(Poll&&) noexcept = default;

  /// Watches for exactly these events; 0 stops watching.
  void watch(int events);
  int watched() const { return state_ ? state_->events : 0; }
  void close() { state_.reset(); }
  explicit operator bool() const { return static_cast<bool>(state_); }

 private:
  struct State {
    uv_poll_t* handle = nullptr;
    Callback callback;
    int events = 0;
    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State();
  };
  std::unique_ptr<State> state_;
};

class Timer {
 public:
  Timer() = default;
  Timer(Loop& loop, std::function<void()> callback);
  Timer(Timer&&) noexcept = default;
  Timer& operator=(Timer&&) noexcept = default;

  void once(std::uint64_t after_ms);
  void every(std::uint64_t period_ms);
  void stop();
  bool active() const;

 private:
  struct State {
    uv_timer_t* handle = nullptr;
    uv_loop_t* loop = nullptr;
    std::function<void()> callback;
    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State();
  };
  std::unique_ptr<State> state_;
};

/// Work in small pieces: while it is started, the callback runs once in each turn of the loop, and everything else has
/// its turn in between. The loop does not sleep meanwhile.
class Idle {
 public:
  Idle() = default;
  Idle(Loop& loop, std::function<void()> callback);
  Idle(Idle&&) noexcept = default;
  Idle& operator=(Idle&&) noexcept = default;

  void start();
  void stop();

 private:
  struct State {
    uv_idle_t* handle = nullptr;
    std::function<void()> callback;
    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State();
  };
  std::unique_ptr<State> state_;
};

}  // namespace bulkhead::service
