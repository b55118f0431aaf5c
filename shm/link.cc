#include "shm/link.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

namespace bulkhead::shm {
namespace {

static_assert(std::endian::native == std::endian::little, "the words of a link are little-endian");

/// How much a body that is still arriving may take at once beyond what has arrived.
constexpr std::size_t kBodyStepBytes = 1024 * 1024;
constexpr std::size_t kGapBodyBytes = 8;

/// Where an application's position is read from while there is none.
const std::atomic<std::uint64_t> kNoPosition{0};

bool valid_capacity(std::uint32_t capacity) {
  return std::has_single_bit(capacity) && capacity >= kMinRingBytes && capacity <= kMaxRingBytes;
}

Result<void> check_geometry(const LinkGeometry& geometry) {
  if (!valid_capacity(geometry.inward_capacity) || !valid_capacity(geometry.outward_capacity)) {
    return Error{ErrorCode::kInvalid, "a ring's capacity is not a power of two from 4 KiB to 64 MiB"};
  }
  if (geometry.generation == 0) return Error{ErrorCode::kInvalid, "a link of generation 0 stands for an unused slot"};
  return {};
}

struct Head {
  std::uint32_t size;  ///< of tag and body
  std::uint16_t tag;
};

void store_head(std::byte* to, std::uint32_t size, std::uint16_t tag) {
  const std::uint32_t wire_size = __builtin_bswap32(size);
  const std::uint16_t wire_tag = __builtin_bswap16(tag);
  std::memcpy(to, &wire_size, sizeof(wire_size));
  std::memcpy(to + kMessageSizeBytes, &wire_tag, sizeof(wire_tag));
}

/// The head of a message, fetched from shared memory exactly once.
Head load_head(const std::byte* from) {
  const auto* bytes = reinterpret_cast<const volatile unsigned char*>(from);
  std::uint32_t size = 0;
  for (std::size_t i = 0; i < kMessageSizeBytes; ++i) size = size << 8 | bytes[i];
  const unsigned int high = bytes[kMessageSizeBytes];
  const unsigned int low = bytes[kMessageSizeBytes + 1];
  return Head{size, static_cast<std::uint16_t>(high << 8 | low)};
}

/// The condition on which a writer that waits for room is woken: any less, and it would be woken for each message.
bool worth_waking(std::size_t free, std::size_t capacity) {
  return free >= capacity / 2;
}

}  // namespace

std::uint64_t inward_segment_bytes(std::uint32_t inward_capacity) {
  return std::uint64_t{sizeof(InwardHeader)} + inward_capacity;
}
std::uint64_t taken_segment_bytes(std::uint32_t slots) {
  return std::uint64_t{slots} * sizeof(TakenPage);
}
std::uint64_t outward_window_bytes(std::uint32_t outward_capacity) {
  return std::uint64_t{sizeof(OutwardHeader)} + outward_capacity;
}
std::uint64_t outward_segment_bytes(std::uint32_t slots, std::uint32_t outward_capacity) {
  return slots * outward_window_bytes(outward_capacity);
}
std::uint64_t taken_page_offset(SlotId slot) {
  return std::uint64_t{slot} * sizeof(TakenPage);
}
std::uint64_t outward_window_offset(SlotId slot, std::uint32_t outward_capacity) {
  return slot * outward_window_bytes(outward_capacity);
}

TakenPage* taken_page(const Mapping& taken, SlotId slot) {
  if (slot >= taken.size() / sizeof(TakenPage)) return nullptr;
  return reinterpret_cast<TakenPage*>(taken.data() + taken_page_offset(slot));
}

Result<OutwardTable> OutwardTable::map(int fd, std::uint32_t slots, std::uint32_t outward_capacity) {
  auto mapping = Mapping::map(fd, Access::kReadOnly, 0, outward_segment_bytes(slots, outward_capacity));
  if (!mapping) return mapping.error();
  OutwardTable table;
  table.mapping_ = std::move(*mapping);
  table.slots_ = slots;
  table.capacity_ = outward_capacity;
  return table;
}

bool OutwardTable::waits(SlotId slot, Generation generation, std::uint64_t taken) const {
  if (slot >= slots_) return false;
  const auto* window = reinterpret_cast<const OutwardHeader*>(mapping_.data() + outward_window_offset(slot, capacity_));
  if (window->generation.load(std::memory_order_acquire) != generation) return false;
  return window->tail.load(std::memory_order_relaxed) != taken;
}

Result<UniqueFd> make_wakeup() {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return system_error("cannot make a wake-up");
  return UniqueFd(fd);
}

void wake(int wakeup_fd) {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full, so a wake-up is pending. Nothing else can be done about another failure than to go on.
  while (::write(wakeup_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

void drain_wakeup(int wakeup_fd) {
  std::uint64_t count = 0;
  while (::read(wakeup_fd, &count, sizeof(count)) < 0 && errno == EINTR) {
  }
}

std::optional<std::uint64_t> gap_count(const Message& message) {
  if (message.tag != kGapTag || message.body.size() != kGapBodyBytes) return std::nullopt;
  std::uint64_t count = 0;
  for (const std::uint8_t byte : message.body) count = count << 8 | byte;
  return count;
}

// ---------------------------------------------------------------------------------------------------------- worker

Result<WorkerLink> WorkerLink::create(const LinkGeometry& geometry, int taken_fd, int outward_fd, int to_application,
                                      MirroredMapping::Guard guard) {
  if (const auto checked = check_geometry(geometry); !checked) return checked.error();
  auto segment = make_segment("bulkhead-inward", inward_segment_bytes(geometry.inward_capacity));
  if (!segment) return segment.error();
  auto inward = MirroredMapping::map(segment->get(), Access::kReadWrite, 0, sizeof(InwardHeader),
                                     geometry.inward_capacity, guard);
  if (!inward) return inward.error();

  auto* header = reinterpret_cast<InwardHeader*>(inward->header());
  header->magic = kLinkMagic;
  header->version = kLinkVersion;
  header->header_size = sizeof(InwardHeader);
  header->capacity = geometry.inward_capacity;
  header->slot = geometry.slot;
  header->generation = geometry.generation;
  if (const auto sealed = seal_owned(segment->get()); !sealed) return sealed.error();

  auto taken = Mapping::map(taken_fd, Access::kReadOnly, taken_page_offset(geometry.slot), sizeof(TakenPage));
  if (!taken) return taken.error();
  auto outward = MirroredMapping::map(outward_fd, Access::kReadOnly,
                                      outward_window_offset(geometry.slot, geometry.outward_capacity),
                                      sizeof(OutwardHeader), geometry.outward_capacity, guard);
  if (!outward) return outward.error();
  return WorkerLink(std::move(*segment), std::move(*inward), std::move(*taken), std::move(*outward), geometry,
                    to_application);
}

WorkerLink::WorkerLink(UniqueFd inward_fd, MirroredMapping inward_map, Mapping taken_map, MirroredMapping outward_map,
                       const LinkGeometry& geometry, int to_application)
    : inward_fd_(std::move(inward_fd)),
      inward_map_(std::move(inward_map)),
      taken_map_(std::move(taken_map)),
      outward_map_(std::move(outward_map)),
      generation_(geometry.generation),
      to_application_(to_application),
      inward_(inward_map_.data(), geometry.inward_capacity, &header().in_tail, &kNoPosition, 0),
      outward_(outward_map_.data(), geometry.outward_capacity, &header().out_head, &kNoPosition, 0) {}

InwardHeader& WorkerLink::header() const {
  return *reinterpret_cast<InwardHeader*>(inward_map_.header());
}
const TakenPage& WorkerLink::taken() const {
  return *reinterpret_cast<const TakenPage*>(taken_map_.data());
}
const OutwardHeader& WorkerLink::window() const {
  return *reinterpret_cast<const OutwardHeader*>(outward_map_.header());
}

bool WorkerLink::receiver_seen() {
  if (!receiver_seen_ && taken().generation.load(std::memory_order_acquire) == generation_) {
    receiver_seen_ = true;
    inward_.set_other(&taken().position);
  }
  return receiver_seen_;
}

bool WorkerLink::sender_seen() {
  if (!sender_seen_ && window().generation.load(std::memory_order_acquire) == generation_) {
    sender_seen_ = true;
    outward_.set_other(&window().tail);
  }
  return sender_seen_;
}

bool WorkerLink::receiver_in_message() {
  return receiver_seen() && taken().streaming.load(std::memory_order_acquire) != 0;
}

bool WorkerLink::sender_in_message() {
  return sender_seen() && window().streaming.load(std::memory_order_acquire) != 0;
}

Result<std::span<std::byte>> WorkerLink::writable_inward(std::size_t wanted) {
  receiver_seen();
  return inward_.writable(wanted);
}

void WorkerLink::publish_inward() {
  if (inward_.produced() == inward_.published()) return;
  inward_.publish();
  // A receiver sets its generation before it says that it sleeps, so the order of these two cannot miss it.
  if (other_sleeps(taken().sleeps) && receiver_seen()) wake(to_application_);
}

Result<bool> WorkerLink::put_gap(std::uint64_t messages) {
  constexpr std::size_t kSize = kMessageHeadBytes + kGapBodyBytes;
  const auto space = writable_inward(kSize);
  if (!space) return space.error();
  if (space->size() < kSize) return false;
  store_head(space->data(), static_cast<std::uint32_t>(kSize - kMessageSizeBytes), kGapTag);
  const std::uint64_t count = __builtin_bswap64(messages);
  std::memcpy(space->data() + kMessageHeadBytes, &count, sizeof(count));
  inward_.produce(kSize);
  return true;
}

Result<bool> WorkerLink::wait_for_inward_room(std::size_t wanted) {
  waiting_ = true;
  announce_sleep(header().in_waits);
  receiver_seen();
  const auto space = inward_.writable();
  if (!space) return space.error();
  // Room enough to be woken for is room enough to go on: the receiver may have looked before the announcement.
  if (space->size() >= wanted || worth_waking(space->size(), inward_.capacity())) {
    stop_waiting_for_inward_room();
    return false;
  }
  return true;
}

void WorkerLink::stop_waiting_for_inward_room() {
  if (!waiting_) return;
  waiting_ = false;
  cancel_sleep(header().in_waits);
}

Result<std::span<const std::byte>> WorkerLink::readable_outward(std::size_t wanted) {
  sender_seen();
  return outward_.readable(wanted);
}

void WorkerLink::publish_outward() {
  if (outward_.consumed() == outward_.published()) return;
  outward_.publish();
  // Nothing was consumed before the sender was seen.
  if (!other_sleeps(window().waits)) return;
  // A broken ring is reported by the next readable_outward().
  if (outward_.refresh() && worth_waking(outward_.free_published(), outward_.capacity())) wake(to_application_);
}

Result<bool> WorkerLink::sleep_until_outward(std::size_t known) {
  sleeping_ = true;
  announce_sleep(header().out_sleeps);
  sender_seen();
  const auto bytes = outward_.readable();
  if (!bytes) return bytes.error();
  if (bytes->size() > known) {
    stop_sleeping();
    return false;
  }
  return true;
}

void WorkerLink::stop_sleeping() {
  if (!sleeping_) return;
  sleeping_ = false;
  cancel_sleep(header().out_sleeps);
}

// ------------------------------------------------------------------------------------------------------ inward view

Result<std::shared_ptr<const InwardView>> InwardView::map(int inward_fd, const LinkGeometry& geometry, Part part) {
  if (const auto checked = check_geometry(geometry); !checked) return checked.error();
  if (const auto checked = check_segment(inward_fd, inward_segment_bytes(geometry.inward_capacity), kOwnedSeals);
      !checked) {
    return checked.error();
  }
  std::shared_ptr<InwardView> view(new InwardView());
  view->geometry_ = geometry;
  if (part == Part::kAll) {
    auto all = MirroredMapping::map(inward_fd, Access::kReadOnly, 0, sizeof(InwardHeader), geometry.inward_capacity);
    if (!all) return all.error();
    view->all_map_ = std::move(*all);
    view->header_ = reinterpret_cast<const InwardHeader*>(view->all_map_.header());
    view->data_ = view->all_map_.data();
  } else {
    auto page = Mapping::map(inward_fd, Access::kReadOnly, 0, sizeof(InwardHeader));
    if (!page) return page.error();
    view->header_map_ = std::move(*page);
    view->header_ = reinterpret_cast<const InwardHeader*>(view->header_map_.data());
  }
  // The worker can change these at any time. Nothing but this check reads them: what counts is the caller's geometry.
  const InwardHeader& header = *view->header_;
  if (header.magic != kLinkMagic || header.version != kLinkVersion || header.header_size != sizeof(InwardHeader) ||
      header.capacity != geometry.inward_capacity || header.slot != geometry.slot ||
      header.generation != geometry.generation) {
    return Error{ErrorCode::kBroken, "an inward segment is not the one of this link"};
  }
  return std::shared_ptr<const InwardView>(std::move(view));
}

// --------------------------------------------------------------------------------------------------------- receiver

Result<ReceiverLink> ReceiverLink::attach(std::shared_ptr<const InwardView> view, TakenPage* page, int to_worker,
                                          std::size_t max_body) {
  if (!view || view->data().empty() || page == nullptr) {
    return Error{ErrorCode::kInvalid, "a receiver needs the whole inward segment and a page of its slot"};
  }
  const Generation generation = view->geometry().generation;
  const bool resumed = page->generation.load(std::memory_order_acquire) == generation;
  std::uint64_t position = 0;
  if (resumed) {
    position = page->position.load(std::memory_order_relaxed);
    const std::uint64_t tail = view->header().in_tail.load(std::memory_order_acquire);
    if (position > tail || tail - position > view->geometry().inward_capacity) {
      return Error{ErrorCode::kBroken, "a link was left at an impossible position"};
    }
    if (page->streaming.load(std::memory_order_relaxed) != 0) {
      return Error{ErrorCode::kBroken, "the last receiver of a link died inside a message"};
    }
    page->sleeps.store(0, std::memory_order_relaxed);
  } else {
    // While these change, a page that still carries another generation means nothing to the worker.
    page->position.store(0, std::memory_order_relaxed);
    page->sleeps.store(0, std::memory_order_relaxed);
    page->streaming.store(0, std::memory_order_relaxed);
    page->generation.store(generation, std::memory_order_release);
  }
  ReceiverLink link(std::move(view), page, to_worker, max_body, position, resumed);
  // The one before may have died between giving room and saying so.
  if (resumed && other_sleeps(link.view_->header().in_waits)) wake(to_worker);
  return link;
}

ReceiverLink::ReceiverLink(std::shared_ptr<const InwardView> view, TakenPage* page, int to_worker, std::size_t max_body,
                           std::uint64_t start, bool resumed)
    : view_(std::move(view)),
      page_(page),
      to_worker_(to_worker),
      max_body_(std::min<std::size_t>(max_body, std::numeric_limits<std::uint32_t>::max() - sizeof(std::uint16_t))),
      resumed_(resumed),
      checked_(start),
      ring_(view_->data(), view_->geometry().inward_capacity, &page->position, &view_->header().in_tail, start) {}

Error ReceiverLink::broken(const char* text) {
  failed_ = true;
  return Error{ErrorCode::kBroken, text};
}

void ReceiverLink::publish_taken() {
  if (ring_.consumed() == ring_.published()) return;
  if (partial_ && !streaming_) {
    streaming_ = true;
    page_->streaming.store(1, std::memory_order_relaxed);
  }
  ring_.publish();
  if (streaming_ && !partial_) {
    streaming_ = false;
    page_->streaming.store(0, std::memory_order_release);
  }
}

void ReceiverLink::wake_worker_for_room() {
  // A worker that has announced itself since the last time has found this position when it looked once more.
  if (checked_ == ring_.published()) return;
  checked_ = ring_.published();
  if (!other_sleeps(view_->header().in_waits)) return;
  if (ring_.refresh() && worth_waking(ring_.free_published(), ring_.capacity())) wake(to_worker_);
}

void ReceiverLink::commit() {
  if (failed_) return;
  publish_taken();
  if (ring_.published() - checked_ >= ring_.capacity() / 2) wake_worker_for_room();
}

Result<bool> ReceiverLink::next_into(Message& message) {
  if (failed_) return broken("the link is broken");
  if (sleeping_) {
    sleeping_ = false;
    cancel_sleep(page_->sleeps);
  }
  commit();
  constexpr const char* kImpossible = "a worker claims an impossible position";

  if (!partial_) {
    needed_ = kMessageHeadBytes;
    if (!ring_.refresh(needed_)) return broken(kImpossible);
    if (ring_.available_known() < needed_) return nothing();
    const Head head = load_head(ring_.read_position());
    if (head.size < sizeof(head.tag)) return broken("a worker sent a message without a tag");
    const std::size_t body = head.size - sizeof(head.tag);
    if (body > max_body_) return broken("a worker sent a message above the limit");
    const std::size_t whole = kMessageHeadBytes + body;
    if (whole <= ring_.capacity() / 2) {
      if (!ring_.refresh(whole)) return broken(kImpossible);
      if (ring_.available_known() < whole) {
        needed_ = whole;
        return nothing();
      }
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(ring_.read_position() + kMessageHeadBytes);
      message.tag = head.tag;
      message.body.assign(bytes, bytes + body);
      ring_.consume(whole);
      return true;
    }
    ring_.consume(kMessageHeadBytes);
    partial_ = true;
    partial_missing_ = body;
    partial_message_.tag = head.tag;
    partial_message_.body = std::move(message.body);
    partial_message_.body.clear();
  }

  needed_ = 1;
  if (!ring_.refresh(needed_)) return broken(kImpossible);
  std::vector<std::uint8_t>& gathered = partial_message_.body;
  const std::size_t part = std::min(ring_.available_known(), partial_missing_);
  if (part > 0) {
    if (gathered.capacity() - gathered.size() < part) {
      const std::size_t step = std::max({part, gathered.size(), kBodyStepBytes});
      gathered.reserve(gathered.size() + std::min(step, partial_missing_));
    }
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(ring_.read_position());
    gathered.insert(gathered.end(), bytes, bytes + part);
    ring_.consume(part);
    partial_missing_ -= part;
  }
  if (partial_missing_ > 0) return nothing();
  // The last part is not published yet, and page_->streaming stays as it is, until the application has seen the
  // message.
  partial_ = false;
  needed_ = kMessageHeadBytes;
  message.tag = partial_message_.tag;
  message.body = std::move(partial_message_.body);
  return true;
}

bool ReceiverLink::nothing() {
  commit();
  return false;
}

Result<std::optional<Message>> ReceiverLink::next() {
  Message message;
  const auto found = next_into(message);
  if (!found) return found.error();
  if (!*found) return std::optional<Message>();
  return std::optional<Message>(std::move(message));
}

Result<bool> ReceiverLink::prepare_to_sleep() {
  if (failed_) return broken("the link is broken");
  publish_taken();
  wake_worker_for_room();
  sleeping_ = true;
  announce_sleep(page_->sleeps);
  if (!ring_.refresh(needed_)) return broken("a worker claims an impossible position");
  if (ring_.available_known() < needed_) return true;
  sleeping_ = false;
  cancel_sleep(page_->sleeps);
  return false;
}

// ----------------------------------------------------------------------------------------------------------- sender

Result<SenderLink> SenderLink::attach(std::shared_ptr<const InwardView> view, int outward_fd, int to_worker) {
  if (!view) return Error{ErrorCode::kInvalid, "a sender needs the header of the inward segment"};
  const LinkGeometry geometry = view->geometry();
  auto map = MirroredMapping::map(outward_fd, Access::kReadWrite,
                                  outward_window_offset(geometry.slot, geometry.outward_capacity),
                                  sizeof(OutwardHeader), geometry.outward_capacity);
  if (!map) return map.error();
  auto& window = *reinterpret_cast<OutwardHeader*>(map->header());
  const bool resumed = window.generation.load(std::memory_order_acquire) == geometry.generation;
  std::uint64_t tail = 0;
  const std::uint64_t head = view->header().out_head.load(std::memory_order_acquire);
  if (resumed) {
    tail = window.tail.load(std::memory_order_relaxed);
    if (window.streaming.load(std::memory_order_relaxed) != 0) {
      return Error{ErrorCode::kBroken, "the last sender of a link died inside a message"};
    }
  }
  if (head > tail || tail - head > geometry.outward_capacity) {
    return Error{ErrorCode::kBroken, "a worker claims an impossible position"};
  }
  if (resumed) {
    window.waits.store(0, std::memory_order_relaxed);
  } else {
    // While these change, a window that still carries another generation means nothing to the worker.
    window.tail.store(0, std::memory_order_relaxed);
    window.waits.store(0, std::memory_order_relaxed);
    window.streaming.store(0, std::memory_order_relaxed);
    window.generation.store(geometry.generation, std::memory_order_release);
  }
  SenderLink link(std::move(view), std::move(*map), to_worker, tail, head, resumed);
  // The one before may have died between publishing and saying so.
  if (resumed && other_sleeps(link.view_->header().out_sleeps)) wake(to_worker);
  return link;
}

SenderLink::SenderLink(std::shared_ptr<const InwardView> view, MirroredMapping map, int to_worker, std::uint64_t tail,
                       std::uint64_t head, bool resumed)
    : view_(std::move(view)),
      map_(std::move(map)),
      to_worker_(to_worker),
      resumed_(resumed),
      ring_(map_.data(), map_.capacity(), &window().tail, &view_->header().out_head, tail, head) {}

OutwardHeader& SenderLink::window() const {
  return *reinterpret_cast<OutwardHeader*>(map_.header());
}

Error SenderLink::broken() const {
  return Error{ErrorCode::kBroken, "a worker claims an impossible position"};
}

void SenderLink::stop_waiting() {
  if (!waiting_) return;
  waiting_ = false;
  cancel_sleep(window().waits);
}

Result<bool> SenderLink::try_send(std::uint16_t tag, std::span<const std::uint8_t> body) {
  return try_send(tag, body, true);
}

Result<bool> SenderLink::try_send(std::uint16_t tag, std::span<const std::uint8_t> body, bool publish_now) {
  if (missing_ > 0) return Error{ErrorCode::kRefused, "another message is begun and not finished"};
  if (body.size() > max_whole_body())
    return Error{ErrorCode::kTooLarge, "a message above half the ring must be streamed"};
  const std::size_t whole = kMessageHeadBytes + body.size();
  if (!ring_.refresh(whole)) return broken();
  if (ring_.free_known() < whole) {
    publish();
    return false;
  }
  stop_waiting();
  std::byte* to = ring_.write_position();
  store_head(to, static_cast<std::uint32_t>(whole - kMessageSizeBytes), tag);
  if (!body.empty()) std::memcpy(to + kMessageHeadBytes, body.data(), body.size());
  ring_.produce(whole);
  if (publish_now) publish();
  return true;
}

void SenderLink::publish() {
  if (ring_.produced() == ring_.published()) return;
  // The begun part of a message that is not streamed waits for its end.
  if (missing_ > 0 && !streaming_) return;
  ring_.publish();
  if (other_sleeps(view_->header().out_sleeps)) wake(to_worker_);
}

Result<bool> SenderLink::begin(std::uint16_t tag, std::uint64_t body_size) {
  if (missing_ > 0) return Error{ErrorCode::kRefused, "another message is begun and not finished"};
  if (body_size > std::numeric_limits<std::uint32_t>::max() - sizeof(tag)) {
    return Error{ErrorCode::kTooLarge, "a message does not fit its 32-bit size"};
  }
  const bool streamed = body_size > max_whole_body();
  // A message that is not streamed has room for all of it from the start: it is published at its end.
  const std::size_t wanted = kMessageHeadBytes + (streamed ? 0 : static_cast<std::size_t>(body_size));
  if (!ring_.refresh(wanted)) return broken();
  if (ring_.free_known() < wanted) {
    publish();
    return false;
  }
  stop_waiting();
  if (streamed) {
    // What was left unpublished before this message must not count as a part of it.
    publish();
    streaming_ = true;
    window().streaming.store(1, std::memory_order_relaxed);
  }
  store_head(ring_.write_position(), static_cast<std::uint32_t>(body_size + sizeof(tag)), tag);
  ring_.produce(kMessageHeadBytes);
  missing_ = body_size;
  if (missing_ == 0) publish();
  return true;
}

Result<std::size_t> SenderLink::write(std::span<const std::uint8_t> part) {
  const std::size_t wanted = static_cast<std::size_t>(std::min<std::uint64_t>(part.size(), missing_));
  if (wanted == 0) return std::size_t{0};
  if (!ring_.refresh(wanted)) return broken();
  const std::size_t size = std::min(wanted, ring_.free_known());
  if (size == 0) {
    publish();
    return std::size_t{0};
  }
  stop_waiting();
  std::memcpy(ring_.write_position(), part.data(), size);
  ring_.produce(size);
  missing_ -= size;
  if (streaming_ || missing_ == 0) publish();
  if (streaming_ && missing_ == 0) {
    streaming_ = false;
    window().streaming.store(0, std::memory_order_release);
  }
  return size;
}

Result<bool> SenderLink::prepare_to_wait(std::size_t wanted) {
  publish();
  waiting_ = true;
  announce_sleep(window().waits);
  if (!ring_.refresh()) return broken();
  // Room enough to be woken for is room enough to go on: the worker may have looked before the announcement.
  if (ring_.free_known() >= wanted || worth_waking(ring_.free_known(), ring_.capacity())) {
    stop_waiting();
    return false;
  }
  return true;
}

}  // namespace bulkhead::shm
