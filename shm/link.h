#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"
#include "shm/ring.h"
#include "shm/segment.h"

/// A connection's link: two byte rings and two wake-ups between its worker and the applications.
/// docs/ring-format.md is the contract; the structs below are its bytes. All integers are little-endian.
namespace bulkhead::shm {

inline constexpr std::uint64_t kLinkMagic = 0x314b4e494c484b42;  ///< "BKHLINK1" in memory
inline constexpr std::uint32_t kLinkVersion = 1;

/// Rings of 512 KiB and more are equally fast; 256 KiB costs about 10 % of bulk throughput.
inline constexpr std::uint32_t kDefaultRingBytes = 512 * 1024;
inline constexpr std::uint32_t kMinRingBytes = kPageBytes;
/// No reason for more is known, and an application maps what a worker offers.
inline constexpr std::uint32_t kMaxRingBytes = 64 * 1024 * 1024;

/// A message is a u32 big-endian size (of tag and body), a u16 big-endian tag, and the body.
inline constexpr std::size_t kMessageSizeBytes = 4;
inline constexpr std::size_t kMessageHeadBytes = 6;
/// In the inward ring: the 8-byte big-endian body says how many messages were discarded at this place.
inline constexpr std::uint16_t kGapTag = 0x0000;

/// Words that different processes write, or that change at different times, are this far apart: two cache lines,
/// because the processor fetches lines in pairs.
inline constexpr std::size_t kWordSpacing = 128;

/// First page of the inward segment. Written by the worker alone; what stands before in_tail is written once, before
/// the segment is handed out, and readers copy it once.
struct InwardHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_size;
  std::uint32_t capacity;
  std::uint32_t slot;
  std::uint64_t generation;
  alignas(kWordSpacing) std::atomic<std::uint64_t> in_tail;     ///< bytes published to the receiver
  alignas(kWordSpacing) std::atomic<std::uint32_t> in_waits;    ///< 1: the worker waits for room in the inward ring
  alignas(kWordSpacing) std::atomic<std::uint64_t> out_head;    ///< bytes taken from the outward ring
  alignas(kWordSpacing) std::atomic<std::uint32_t> out_sleeps;  ///< 1: the worker sleeps until something comes outward
  alignas(kWordSpacing) std::byte reserved[kPageBytes - 5 * kWordSpacing];
};

/// A slot's page of the `taken` segment. Written by the receiving application alone. A generation that is not the
/// worker's means: no receiver, position 0, awake.
struct TakenPage {
  std::atomic<std::uint64_t> generation;
  alignas(kWordSpacing) std::atomic<std::uint64_t> position;   ///< bytes taken from the inward ring
  alignas(kWordSpacing) std::atomic<std::uint32_t> sleeps;     ///< 1: the receiver sleeps until something comes inward
  alignas(kWordSpacing) std::atomic<std::uint32_t> streaming;  ///< 1: `position` may stand inside a message
  alignas(kWordSpacing) std::byte reserved[kPageBytes - 4 * kWordSpacing];
};

/// First page of a slot's window of the `outward` segment. Written by the sending application alone. A generation that
/// is not the worker's means: no sender, tail 0, not waiting.
struct OutwardHeader {
  std::atomic<std::uint64_t> generation;
  alignas(kWordSpacing) std::atomic<std::uint64_t> tail;       ///< bytes published to the worker
  alignas(kWordSpacing) std::atomic<std::uint32_t> waits;      ///< 1: the sender waits for room in the outward ring
  alignas(kWordSpacing) std::atomic<std::uint32_t> streaming;  ///< 1: `tail` may stand inside a message
  alignas(kWordSpacing) std::byte reserved[kPageBytes - 4 * kWordSpacing];
};

static_assert(sizeof(InwardHeader) == kPageBytes && sizeof(TakenPage) == kPageBytes &&
              sizeof(OutwardHeader) == kPageBytes);
static_assert(std::is_standard_layout_v<InwardHeader> && std::is_standard_layout_v<TakenPage> &&
              std::is_standard_layout_v<OutwardHeader>);
static_assert(offsetof(InwardHeader, magic) == 0 && offsetof(InwardHeader, version) == 8 &&
              offsetof(InwardHeader, header_size) == 12 && offsetof(InwardHeader, capacity) == 16 &&
              offsetof(InwardHeader, slot) == 20 && offsetof(InwardHeader, generation) == 24);
static_assert(offsetof(InwardHeader, in_tail) == 128 && offsetof(InwardHeader, in_waits) == 256 &&
              offsetof(InwardHeader, out_head) == 384 && offsetof(InwardHeader, out_sleeps) == 512);
static_assert(offsetof(TakenPage, generation) == 0 && offsetof(TakenPage, position) == 128 &&
              offsetof(TakenPage, sleeps) == 256 && offsetof(TakenPage, streaming) == 384);
static_assert(offsetof(OutwardHeader, generation) == 0 && offsetof(OutwardHeader, tail) == 128 &&
              offsetof(OutwardHeader, waits) == 256 && offsetof(OutwardHeader, streaming) == 384);

/// What both sides of a link know of it before they meet. Comes from the controller and the supervisor, never from the
/// other side. Capacities are powers of two from kMinRingBytes to kMaxRingBytes.
struct LinkGeometry {
  SlotId slot = 0;
  Generation generation = 0;
  std::uint32_t inward_capacity = kDefaultRingBytes;
  std::uint32_t outward_capacity = kDefaultRingBytes;
};

/// Sizes in bytes of the segments, for whoever makes or checks them.
std::uint64_t inward_segment_bytes(std::uint32_t inward_capacity);
std::uint64_t taken_segment_bytes(std::uint32_t slots);
std::uint64_t outward_segment_bytes(std::uint32_t slots, std::uint32_t outward_capacity);
/// Where a slot's part begins, and how long it is (taken: one page).
std::uint64_t taken_page_offset(SlotId slot);
std::uint64_t outward_window_offset(SlotId slot, std::uint32_t outward_capacity);
std::uint64_t outward_window_bytes(std::uint32_t outward_capacity);

/// The slot's page in a mapping of the whole `taken` segment; null when the slot lies outside.
TakenPage* taken_page(const Mapping& taken, SlotId slot);

/// All windows of `outward`, read-only, for whoever watches over workers. Movable; one thread.
class OutwardTable {
 public:
  static Result<OutwardTable> map(int fd, std::uint32_t slots, std::uint32_t outward_capacity);
  /// Whether a sender has published, under this generation, what lies behind `taken`. The window's page is touched,
  /// which costs its memory: not to be asked of a slot that no sender holds. False for a slot outside.
  bool waits(SlotId slot, Generation generation, std::uint64_t taken) const;

 private:
  Mapping mapping_;
  std::uint32_t slots_ = 0;
  std::uint32_t capacity_ = 0;
};

/// An eventfd, non-blocking and close-on-exec: the two wake-ups of a link. `to_application` is written by the worker
/// and read by nobody: applications wait for it edge-triggered (EPOLLET). `to_worker` is written by applications, read
/// by the worker.
Result<UniqueFd> make_wakeup();
/// Adds 1. A counter that a hostile holder has filled is as good as woken: no error.
void wake(int wakeup_fd);
/// Sets the counter back to 0. For the worker's loop, before it looks at its rings.
void drain_wakeup(int wakeup_fd);

/// The worker's end of both rings. Movable; one thread. Does not own the wake-ups.
///
/// An application's page or window counts from the moment it carries this link's generation; until then the inward ring
/// simply fills and the outward ring is empty. Functions that return a Result give kBroken, and go on doing so, once an
/// application has claimed an impossible position.
class WorkerLink {
 public:
  /// Makes, maps and seals the inward segment, and maps this slot's page of `taken_fd` and window of `outward_fd`
  /// read-only. Five mappings; with `guard`, nine. `taken_fd` and `outward_fd` may be closed afterwards.
  /// `to_application` is borrowed for as long as the object lives.
  static Result<WorkerLink> create(const LinkGeometry& geometry, int taken_fd, int outward_fd, int to_application,
                                   MirroredMapping::Guard guard = MirroredMapping::Guard::kNone);

  /// The inward segment: for the message that offers the link to an application. Owned by the object.
  int inward_fd() const { return inward_fd_.get(); }

  // Inward: from the worker to the receiving application.

  /// Free space behind what was produced; see RingProducer::writable().
  Result<std::span<std::byte>> writable_inward(std::size_t wanted = std::numeric_limits<std::size_t>::max());
  /// For produce(), retract() and rewind(). Its own writable() and publish() know nothing of receivers: use those here.
  RingProducer& inward() { return inward_; }
  /// Makes what was produced visible and wakes a receiver that sleeps. To be called at message ends only, except within
  /// a message that is larger than half the ring (size field included), which is published as it goes.
  void publish_inward();
  /// Produces a gap (see kGapTag) for `messages` discarded ones, at a message's end. False: no room. Not published.
  Result<bool> put_gap(std::uint64_t messages);
  /// True: `wanted` bytes (at most half the ring) are not free and the receiver was told to write `to_worker` when half
  /// the ring, or all of it, is. False: there is room now.
  Result<bool> wait_for_inward_room(std::size_t wanted);
  void stop_waiting_for_inward_room();
  /// A receiver has taken this link up at some time. It may be dead by now.
  bool receiver_seen();
  /// The receiver took a part of a message, or says so. When the process is known to be dead, the link is of no use.
  bool receiver_in_message();
  /// Bytes in the ring that the receiver has not yet taken, produced ones included, by the last look.
  std::size_t inward_used() const { return inward_.capacity() - inward_.free_known(); }

  // Outward: from the sending application to the worker.

  /// Everything that is published and not yet consumed; see RingConsumer::readable(). Hostile bytes that may change.
  Result<std::span<const std::byte>> readable_outward(std::size_t wanted = std::numeric_limits<std::size_t>::max());
  /// For consume() and rewind(). Its own readable() and publish() know nothing of senders: use those here.
  RingConsumer& outward() { return outward_; }
  /// Gives back what was consumed, and wakes a sender that waits when half the ring, or all of it, is free.
  void publish_outward();
  /// True: no more than `known` bytes are to be read, and the sender was told to write `to_worker` when more come.
  /// False: there are more. `known`: bytes that were seen and left, because the rest of their message was missing.
  Result<bool> sleep_until_outward(std::size_t known = 0);
  void stop_sleeping();
  bool sender_seen();
  bool sender_in_message();
  std::size_t outward_used() const { return outward_.available_known(); }
  /// What was given back so far, as a position in the ring.
  std::uint64_t outward_taken() const { return outward_.published(); }

 private:
  WorkerLink(UniqueFd inward_fd, MirroredMapping inward_map, Mapping taken_map, MirroredMapping outward_map,
             const LinkGeometry& geometry, int to_application);

  InwardHeader& header() const;
  const TakenPage& taken() const;
  const OutwardHeader& window() const;

  UniqueFd inward_fd_;
  MirroredMapping inward_map_;
  Mapping taken_map_;
  MirroredMapping outward_map_;
  Generation generation_;
  int to_application_;
  bool receiver_seen_ = false;
  bool sender_seen_ = false;
  bool waiting_ = false;
  bool sleeping_ = false;
  RingProducer inward_;
  RingConsumer outward_;
};

/// An application's read-only mapping of a link's inward segment, checked when it was made. A process that receives and
/// sends shares one between both ends, to save mappings.
class InwardView {
 public:
  enum class Part : std::uint8_t { kHeader, kAll };  ///< a sender needs the header only: one mapping instead of two

  /// Checks size, seals (kOwnedSeals) and header of a descriptor that a worker made, then maps it. kBroken: it is not
  /// the inward segment of this link; the worker is hostile. The descriptor may be closed afterwards.
  static Result<std::shared_ptr<const InwardView>> map(int inward_fd, const LinkGeometry& geometry, Part part);

  const InwardHeader& header() const { return *header_; }
  std::span<const std::byte> data() const { return data_; }  ///< mirrored; empty with Part::kHeader
  const LinkGeometry& geometry() const { return geometry_; }

 private:
  InwardView() = default;

  Mapping header_map_;
  MirroredMapping all_map_;
  const InwardHeader* header_ = nullptr;
  std::span<const std::byte> data_;
  LinkGeometry geometry_;
};

/// A message, copied out of the ring. `body` is as hostile as the peer.
struct Message {
  std::uint16_t tag = 0;
  std::vector<std::uint8_t> body;
};

/// How many messages a gap stands for; nothing when `message` is no gap.
std::optional<std::uint64_t> gap_count(const Message& message);

/// The receiving application's end of the inward ring. Movable; one thread, and one such object for a link at any time.
///
/// A message counts as taken when the next one is asked for, or at commit(): an application that dies before gets that
/// one message again when it attaches anew, and loses none. When it dies inside a message larger than half the ring,
/// the link cannot be taken up again.
class ReceiverLink {
 public:
  /// The largest body that Octez sends is far below this.
  static constexpr std::size_t kDefaultMaxBody = 100 * 1024 * 1024;

  /// Takes up where the last receiver of this link stopped, or begins. `page` (of this slot, in a read-write mapping of
  /// the `taken` segment) and `to_worker` are borrowed for as long as the object lives. kInvalid: `view` maps the
  /// header only. kBroken: what the last receiver left, or the worker's position, is impossible, or it died inside a
  /// message. `max_body`: a longer message breaks the link.
  static Result<ReceiverLink> attach(std::shared_ptr<const InwardView> view, TakenPage* page, int to_worker,
                                     std::size_t max_body = kDefaultMaxBody);

  /// The next message, or nothing when no whole one is there. A call does a bounded amount of work (one ring's worth of
  /// copying); a message larger than half the ring is gathered over several calls, each of which returns nothing: go on
  /// until prepare_to_sleep() says that there is nothing to do. Memory grows with the bytes that arrive, not with the
  /// size that was announced. kBroken: the worker broke the contract; drop the link.
  Result<std::optional<Message>> next();
  /// As next(), into `message`, whose body keeps its memory. True: there is one. What `message` holds is lost in any
  /// case.
  Result<bool> next_into(Message& message);
  /// Counts what was returned so far as taken.
  void commit();

  /// True: next() has nothing to return, everything before counts as taken, and the worker was told to write
  /// `to_application` when more comes. False: call next(). Look again after at most 100 ms even so: a hostile worker
  /// need not wake anybody.
  Result<bool> prepare_to_sleep();

  /// Position up to which messages count as taken; bytes since the connection began.
  std::uint64_t position() const { return ring_.published(); }
  /// This object went on where another one had stopped.
  bool resumed() const { return resumed_; }

 private:
  ReceiverLink(std::shared_ptr<const InwardView> view, TakenPage* page, int to_worker, std::size_t max_body,
               std::uint64_t start, bool resumed);

  Error broken(const char* text);
  bool nothing();
  void publish_taken();
  void wake_worker_for_room();

  std::shared_ptr<const InwardView> view_;
  TakenPage* page_;
  int to_worker_;
  std::size_t max_body_;
  bool resumed_;
  bool failed_ = false;
  bool sleeping_ = false;
  bool streaming_ = false;                  // page_->streaming is 1
  bool partial_ = false;                    // partial_message_ is being gathered
  std::size_t partial_missing_ = 0;         // bytes of its body that have not come yet
  std::size_t needed_ = kMessageHeadBytes;  // next() has nothing to do while fewer bytes than this are there
  std::uint64_t checked_ = 0;               // position at which the worker was last asked whether it waits
  Message partial_message_;
  RingConsumer ring_;
};

/// The sending application's end of the outward ring. Movable; one thread, and one such object for a link at any time.
class SenderLink {
 public:
  /// Maps this slot's window of `outward_fd` (open read-write; may be closed afterwards) and takes up where the last
  /// sender of this link stopped, or begins. `to_worker` is borrowed for as long as the object lives. kBroken: what the
  /// last sender left, or the worker's position, is impossible, or it died inside a message.
  static Result<SenderLink> attach(std::shared_ptr<const InwardView> view, int outward_fd, int to_worker);

  /// Sends a message of at most max_whole_body() bytes, all or nothing, and wakes the worker if it sleeps. False: there
  /// is no room for it now; see prepare_to_wait(). kTooLarge: use begin(). kRefused: a message is begun and not
  /// finished.
  Result<bool> try_send(std::uint16_t tag, std::span<const std::uint8_t> body);
  /// With `publish` false the message becomes visible at the next publish() or try_send: many messages, one fence.
  Result<bool> try_send(std::uint16_t tag, std::span<const std::uint8_t> body, bool publish);
  void publish();

  /// Begins a message of any size, to be passed to write() in pieces. False: no room for its head now. One that is
  /// larger than half the ring is published as it goes: if this process dies inside it, the link is of no use any more.
  /// kTooLarge: tag and body do not fit the 32-bit size. kRefused: another is begun and not finished.
  Result<bool> begin(std::uint16_t tag, std::uint64_t body_size);
  /// Takes as much of `part` as there is room for and returns how much; 0: see prepare_to_wait(). More than the message
  /// lacks is not taken.
  Result<std::size_t> write(std::span<const std::uint8_t> part);
  /// Every byte of the message that was begun last is written (true when none was).
  bool finished() const { return missing_ == 0; }

  /// True: fewer than `wanted` bytes (at most half the ring) and less than half the ring are free, and the worker was
  /// told to write `to_application` when that changes. False: try again now.
  Result<bool> prepare_to_wait(std::size_t wanted = std::numeric_limits<std::size_t>::max());

  /// Largest body that try_send() takes: half the ring, less the head.
  std::size_t max_whole_body() const { return ring_.capacity() / 2 - kMessageHeadBytes; }
  /// Bytes that the worker has not yet taken, by the last look.
  std::size_t used() const { return ring_.capacity() - ring_.free_known(); }
  /// Bytes since the connection began that were made visible.
  std::uint64_t position() const { return ring_.published(); }
  bool resumed() const { return resumed_; }

 private:
  SenderLink(std::shared_ptr<const InwardView> view, MirroredMapping map, int to_worker, std::uint64_t tail,
             std::uint64_t head, bool resumed);

  OutwardHeader& window() const;
  Error broken() const;
  void stop_waiting();

  std::shared_ptr<const InwardView> view_;
  MirroredMapping map_;
  int to_worker_;
  bool resumed_;
  bool waiting_ = false;
  bool streaming_ = false;     // window().streaming is 1
  std::uint64_t missing_ = 0;  // bytes of the begun message's body that were not written yet
  RingProducer ring_;
};

}  // namespace bulkhead::shm
