#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "base/token_bucket.h"
#include "schema/channel.h"
#include "schema/peer_rows.h"
#include "services/common/loop.h"
#include "services/controller/acl.h"
#include "services/controller/hang_watch.h"
#include "services/controller/penalty.h"
#include "services/controller/pool.h"
#include "services/controller/store.h"
#include "services/controller/swap.h"
#include "shm/link.h"
#include "shm/lists.h"
#include "shm/tables.h"

namespace bulkhead::controller {

struct ControllerParts {
  schema::Channel supervisor;
  schema::BootController boot;
  shm::PoolTable pool_table;
  shm::EventsTable events;
  shm::CountersWriter counters;
  shm::LiveTable live;
  shm::OutwardTable outward;
  shm::ListsWriter lists;
  shm::HistoryTable history;
  UniqueFd known_peers;        ///< rows of a peers.json, when boot.known_peers is not 0
  shm::Mapping as_map_memory;  ///< of as_map
  AsMap as_map;
  UniqueFd control_listener;
  UniqueFd application_listener;
  Store* store = nullptr;  ///< open once the controller runs; outlives it
};

/// The shell around Pool: carries messages between the services, the workers, the applications and the CLI, and lets
/// Pool decide. Holds no secret but a channel key on its way from the keyholder to a worker, which it wipes. Interprets
/// no byte of a peer. Everything is done on one loop; nothing blocks.
class Controller : private PoolJournal {
 public:
  explicit Controller(ControllerParts parts);
  ~Controller() override;
  /// What is stored comes into force. Before the supervisor hears *ready*: with that the door opens, and whoever is
  /// killed from then on has a successor that goes by what stands in shared memory.
  void load_state();
  int run();
  schema::Channel& supervisor() { return parts_.supervisor; }

 private:
  /// A connection from the claim of its slot until its process is reaped.
  ///
  /// | step       | waits for                   | then                                           |
  /// |------------|-----------------------------|------------------------------------------------|
  /// | begin      | KeyBegun                    | channel, Hold, Spawn, WorkerStart              |
  /// | hello      | WorkerHello                 | KeyHello                                       |
  /// | keyHello   | KeyHelloDone                | OurMetadata, or Close                          |
  /// | proof      | WorkerProof                 | KeyProof                                       |
  /// | keyProof   | KeyProofDone                | Verdict                                        |
  /// | ack        | Acked or Nacked             | row published, link offered                    |
  /// | running    | the end                     |                                                |
  /// | ended      | the process to be reaped    | slot freed                                     |
  enum class Step : std::uint8_t { kBegin, kHello, kKeyHello, kProof, kKeyProof, kAck, kRunning, kEnded };
  struct Connection {
    SlotRef ref;
    Step step = Step::kBegin;
    UniqueFd socket;  ///< until the nursery has it
    schema::Channel channel;
    service::Poll poll;
    bool held = false;     ///< the supervisor keeps its channel's end
    bool spawned = false;  ///< the nursery was asked to fork
    bool orphan = false;   ///< its nursery is gone; the supervisor reaps it
    std::uint32_t pid = 0;
    Reason told = Reason::kNone;     ///< why, by the worker's own last message
    Reason decided = Reason::kNone;  ///< why, by the controller; wins
    std::uint64_t dial_id = 0;
    bool feeler = false;             ///< closed as soon as it runs
    std::uint64_t deadline_ns = 0;   ///< of the handshake; of the reaping once ended
    bool adopted = false;            ///< from a former controller
    bool may_answer_former = false;  ///< a link that the former controller asked for may still come
    bool link_asked = false;
    HangWatch hang;
    TokenBucket budget;            ///< of its messages
    Nanoseconds bootstrap_at = 0;  ///< when the last was taken from the worker, 0: never
    Nanoseconds advertise_at = 0;
  };
  struct Application {
    std::uint64_t id = 0;
    schema::Channel channel;
    service::Poll poll;
    std::uint32_t pid = 0;
    bool receives = false;
    bool sends = false;
    bool attached = false;
    std::map<SlotId, Generation> linked;
    std::deque<schema::ToApplication> waiting;  ///< what did not fit its channel yet
  };
  struct Client {
    schema::Channel channel;
    service::Poll poll;
    std::uint64_t dial_id = 0;
    Point dial_point{};             ///< of dial_id
    std::uint64_t maintain_id = 0;  ///< of the maintenance run that it waits for
  };
  /// Entries for the lists that a client brought: first all go into the database, or none; then into the lists.
  struct Import {
    std::uint64_t client = 0;
    UniqueFd file;
    std::vector<shm::ListEntry> entries;
    std::size_t expected = 0;
    std::size_t looked_at = 0;
    std::size_t added = 0;  ///< of those that were looked at; the others were over meanwhile
    Ticket ticket = 0;      ///< of its commit, while that waits for the disk
    Result<void> stored;
  };
  /// A change of the lists that is in force and waits for the disk.
  struct Unconfirmed {
    std::uint64_t client = 0;
    schema::ControlAnswer answer;  ///< if it is stored
  };

  // channels of services
  void on_supervisor();
  void tell_supervisor(schema::ToSupervisor message);
  bool hand_to_supervisor(const schema::ToSupervisor& message, int descriptor);
  void flush_supervisor();
  void on_service(Role role);
  void adopt_service(Role role, UniqueFd fd);
  void service_lost(Role role);
  template <typename Message>
  std::optional<Message> take(Role role, schema::Descriptors& descriptors);
  void on_keyholder();
  void on_acceptor();
  void on_maintainer();
  bool want_maintenance(std::uint64_t id);
  void maintained(std::uint64_t id, bool ok, const std::string& text);
  void maintained(const schema::Maintained& run);
  void on_nursery();

  // swaps
  void propose_swap();
  void swap_requested(Connection& connection, const Point& point);
  void swap_acknowledged(Connection& connection, const Point& point);
  void begin_exchange(const Swaps::Exchange& exchange);
  void exchange_over(std::uint64_t dial_id, Reason reason);

  // connections
  void on_incoming(const schema::Incoming& message, UniqueFd socket);
  void on_dialled(const schema::Dialled& message, UniqueFd socket);
  Connection* open_connection(schema::Direction direction, const Point& remote, const PublicKey& key,
                              std::uint64_t deadline_ns, UniqueFd socket);
  void spawn(Connection& connection, std::vector<std::uint8_t> our_message);
  void on_worker(SlotId slot);
  void on_worker_message(Connection& connection, schema::FromWorker& message, schema::Descriptors& descriptors);
  void break_contract(Connection& connection, const std::string& how);
  bool may_exchange(Connection& connection, Nanoseconds& last);
  void on_proved(Connection& connection, schema::KeyProofDone& answer);
  void warn_of_impostor(const Point& point, const PeerId& presented);
  void established(Connection& connection);
  void close(Connection& connection, Reason reason, bool flush = false);
  void penalise(const Slot& slot, Reason reason, Phase phase);
  void fault(Connection& connection, Reason reason);
  void end_process(Connection& connection);
  void ended(Connection& connection, Reason reason);
  void reaped(const SlotRef& ref, int wait_status);
  void reaped(Connection& connection, int wait_status);
  Connection* find(const SlotRef& ref);
  void send_worker(Connection& connection, const schema::ToWorker& message);

  // applications
  void on_application_listener();
  void on_application(std::uint64_t id);
  void attach(Application& application, const schema::Attach& request);
  void attached(std::uint64_t id, schema::Descriptors& segments);
  void drop_application(std::uint64_t id);
  void application_event(shm::EventKind kind, std::uint32_t pid);
  void tell_workers();
  void offer_links(Application& application);
  void link_came(Connection& connection, const schema::Descriptors& descriptors);
  void tell_application(Application& application, schema::ToApplication message);
  void flush_application(Application& application);
  bool receiver_attached() const;
  bool sender_attached() const;

  // control
  void serve_clients();
  void on_control_listener();
  void on_client(std::uint64_t id);
  void answer(std::uint64_t client, bool ok, const std::string& text);
  void answer(std::uint64_t client, schema::ControlAnswer&& answer);
  void dial_over(std::uint64_t dial_id, Reason reason);
  void on_connect(Client& client, std::uint64_t id, const schema::ControlConnect& request);
  void on_kick(std::uint64_t id, const schema::ControlKick& request);

  // lists (acl_control.cc)
  void on_acl_request(std::uint64_t client, const schema::ControlRequest& request, schema::Descriptors& descriptors);
  void complete(std::uint64_t client, Acl::Outcome outcome);
  void stored(Unconfirmed change, const Result<void>& outcome);
  void acl_event(shm::EventKind kind, Reason reason, const schema::AclSubject& subject, std::int64_t at,
                 std::uint32_t lasts_s = 0);
  void tell_ended();
  void lists_changed();
  void close_banned();
  void greylist(const std::optional<Point>& point, const std::optional<PeerId>& peer, Reason reason, shm::SetBy by,
                bool without_event = false);
  void begin_import(std::uint64_t client, const schema::ControlImport& request, UniqueFd file);
  void import_step();
  bool read_import_rows();
  void import_failed(const std::string& text);
  void import_stored(const Result<void>& outcome);
  void finish_import();

  // what is stored (state.cc)
  void finish_former_import();
  void store_former_changes();
  void tell_alive();
  void restore(const Stored& stored);
  void tend_state();
  void flush_store();
  bool tell_outcomes();
  void note_anchors(Nanoseconds at);
  void noted(const Point& point, const KnownPoint& known) override;
  void noted(const PeerId& peer, const KnownPeer& known) override;
  void forgotten(const Point& point) override;
  void forgotten(const PeerId& peer) override;
  void happened(const Point& point, std::uint64_t number, const shm::HistoryEvent& event) override;
  void happened(const PeerId& peer, std::uint64_t number, const shm::HistoryEvent& event) override;

  // what a peers.json knew (known_peers.cc)
  void take_known_peers();
  void compare_known_peers();
  bool is_whole(int file) const;
  void note_use(schema::PeersFileUse use, std::size_t left_out);
  Result<std::vector<std::optional<PeerId>>> take_peer_rows(int file);
  Result<void> take_peer_events(int file, const std::vector<std::optional<PeerId>>& peers);
  Result<void> store_if_many();

  // the rest
  void sweep();
  void end_overdue(Connection& connection, Nanoseconds at);
  void watch_for_hang(Connection& connection, bool was_away, Nanoseconds at);
  void wake_maintainer();
  void finish_recovery();
  void stop_in_order();
  void maybe_stop();
  void restarted(Role role, Reason cause, std::uint32_t wait_status);
  void event(shm::EventKind kind, Reason reason, const std::optional<Point>& point, const std::optional<PeerId>& peer,
             std::uint32_t count = 1, std::uint32_t detail = 0, std::uint32_t pid = 0);
  static shm::EventRow event_row(shm::EventKind kind, Reason reason, const std::optional<Point>& point,
                                 const std::optional<PeerId>& peer, std::uint32_t count, std::uint32_t detail,
                                 std::uint32_t pid);
  Now now() const;

  ControllerParts parts_;
  service::Loop loop_;
  std::mt19937_64 random_;
  Acl acl_;
  Pool pool_;
  service::Poll supervisor_poll_;
  std::deque<schema::ToSupervisor> to_supervisor_;  ///< what did not fit its channel yet
  std::map<Role, schema::Channel> services_;
  std::map<Role, service::Poll> service_polls_;
  service::Poll control_poll_;
  service::Poll application_poll_;
  service::Timer sweep_timer_;
  service::Timer wake_timer_;
  service::Timer stop_timer_;
  service::Timer state_timer_;
  service::Timer merge_timer_;
  service::Idle import_turns_;
  std::optional<Import> import_;
  std::map<Ticket, Unconfirmed> unconfirmed_;
  service::Poll store_poll_;
  TokenBucket ends_told_;
  TokenBucket application_events_told_;
  std::map<shm::EventKind, std::uint32_t> untold_application_events_;
  std::map<Point, TokenBucket> impostors_told_;  ///< of configured points: as many as these at most
  Nanoseconds store_complained_at_ = 0;
  Nanoseconds anchors_noted_at_ = 0;
  std::vector<Point> anchors_;                            ///< as they were stored last
  std::vector<std::unique_ptr<Connection>> connections_;  ///< by slot
  std::map<std::uint64_t, Application> applications_;
  std::map<std::uint64_t, Client> clients_;
  std::uint64_t service_messages_ = 0;    ///< taken from services
  std::optional<Role> former_;            ///< whose last words are heard, its successor being there
  std::map<std::uint64_t, Point> dials_;  ///< requested by the maintainer, not yet connected
  Swaps swaps_;
  std::map<std::uint64_t, Swaps::Exchange> exchanges_;  ///< by the dial
  std::set<std::uint64_t> feelers_;                     ///< of dials_
  std::uint64_t next_id_ = 1;
  Reason open_failure_ = Reason::kNone;  ///< why open_connection() gave none
  Nanoseconds swept_at_ = 0;
  bool recovering_ = false;  ///< what the supervisor held of a former controller's is still being handed over
  bool stopping_ = false;
};

}  // namespace bulkhead::controller
