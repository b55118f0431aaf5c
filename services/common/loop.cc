#include "services/common/loop.h"

#include <stdexcept>
#include <string>

namespace bulkhead::service {
namespace {

void require(int status, const char* what) {
  if (status != 0) throw std::runtime_error(std::string(what) + ": " + uv_strerror(status));
}

template <typename Handle>
void close_and_delete(Handle* handle) {
  uv_close(static_cast<uv_handle_t*>(static_cast<void*>(handle)),
           [](uv_handle_t* closed) { delete static_cast<Handle*>(static_cast<void*>(closed)); });
}

}  // namespace

Loop::Loop() {
  require(uv_loop_init(&loop_), "cannot make an event loop");
}

Loop::~Loop() {
  // Handles that were closed get their callbacks, which free them.
  uv_run(&loop_, UV_RUN_NOWAIT);
  uv_loop_close(&loop_);
}

void Loop::run() {
  uv_run(&loop_, UV_RUN_DEFAULT);
}
void Loop::stop() {
  uv_stop(&loop_);
}

Poll::Poll(Loop& loop, int fd, Callback callback) : state_(std::make_unique<State>()) {
  auto handle = std::make_unique<uv_poll_t>();
  require(uv_poll_init(loop.get(), handle.get(), fd), "cannot watch a descriptor");
  state_->handle = handle.release();
  state_->handle->data = state_.get();
  state_->callback = std::move(callback);
}

Poll::State::~State() {
  if (handle == nullptr) return;
  uv_poll_stop(handle);
  handle->data = nullptr;
  close_and_delete(handle);
}

void Poll::watch(int events) {
  if (!state_ || state_->events == events) return;
  state_->events = events;
  if (events == 0) {
    uv_poll_stop(state_->handle);
    return;
  }
  require(uv_poll_start(state_->handle, events,
                        [](uv_poll_t* handle, int status, int seen) {
                          auto* state = static_cast<State*>(handle->data);
                          if (state == nullptr) return;
                          // The callback may destroy its Poll; the function object must outlive the call.
                          const auto callback = state->callback;
                          callback(status, seen);
                        }),
          "cannot watch a descriptor");
}

Timer::Timer(Loop& loop, std::function<void()> callback) : state_(std::make_unique<State>()) {
  auto handle = std::make_unique<uv_timer_t>();
  require(uv_timer_init(loop.get(), handle.get()), "cannot make a timer");
  state_->handle = handle.release();
  state_->loop = loop.get();
  state_->handle->data = state_.get();
  state_->callback = std::move(callback);
}

Timer::State::~State() {
  if (handle == nullptr) return;
  uv_timer_stop(handle);
  handle->data = nullptr;
  close_and_delete(handle);
}

void Timer::once(std::uint64_t after_ms) {
  // The loop's idea of now is as old as the last wake-up. It is not brought up to date here: timers that set each other
  // from their callbacks would be due at once, one after the other, and nothing else would ever have its turn.
  const std::uint64_t now = uv_hrtime() / 1'000'000;
  const std::uint64_t loop_now = uv_now(state_->loop);
  if (now > loop_now) after_ms += now - loop_now;
  require(uv_timer_start(
              state_->handle,
              [](uv_timer_t* handle) {
                auto* state = static_cast<State*>(handle->data);
                if (state == nullptr) return;
                const auto callback = state->callback;
                callback();
              },
              after_ms, 0),
          "cannot start a timer");
}

void Timer::every(std::uint64_t period_ms) {
  once(period_ms);
  uv_timer_set_repeat(state_->handle, period_ms);
}

void Timer::stop() {
  if (state_) uv_timer_stop(state_->handle);
}

bool Timer::active() const {
  return state_ && uv_is_active(static_cast<const uv_handle_t*>(static_cast<const void*>(state_->handle))) != 0;
}

Idle::Idle(Loop& loop, std::function<void()> callback) : state_(std::make_unique<State>()) {
  auto handle = std::make_unique<uv_idle_t>();
  require(uv_idle_init(loop.get(), handle.get()), "cannot make an idle handle");
  state_->handle = handle.release();
  state_->handle->data = state_.get();
  state_->callback = std::move(callback);
}

Idle::State::~State() {
  if (handle == nullptr) return;
  uv_idle_stop(handle);
  handle->data = nullptr;
  close_and_delete(handle);
}

void Idle::start() {
  require(uv_idle_start(state_->handle,
                        [](uv_idle_t* handle) {
                          auto* state = static_cast<State*>(handle->data);
                          if (state == nullptr) return;
                          const auto callback = state->callback;
                          callback();
                        }),
          "cannot start an idle handle");
}

void Idle::stop() {
  if (state_) uv_idle_stop(state_->handle);
}

}  // namespace bulkhead::service
