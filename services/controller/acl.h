#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "schema/messages.h"
#include "services/controller/judge.h"
#include "services/controller/list_ends.h"
#include "services/controller/store.h"
#include "shm/lists.h"

namespace bulkhead::controller {

/// Bans and trust whose end is noticed when it comes: some megabytes.
inline constexpr std::size_t kWatchedEnds = 16'384;

struct AclSettings {
  std::int64_t greylist_ms = 86'400'000;
  std::uint8_t greylist_ipv6_length = 64;  ///< of the prefix that an automatic greylisting covers, 1 to 128
};

/// The administrator's and the layer's lists: what a command may do, what it means, and what has to be stored of it. In
/// force in shared memory when a function returns; to be stored by the caller, who answers the command only then. One
/// thread; makes no system call but for the clock.
class Acl : public Judge {
 public:
  /// How many entries clear() or clear_greylist() lifted.
  struct Cleared {
    std::size_t bans = 0;
    std::size_t greylistings = 0;
  };
  struct Outcome {
    bool ok = true;
    std::string text;      ///< for the operator
    Changes changes;       ///< for the store
    bool changed = false;  ///< of unban() and untrust(): an entry of theirs was there; of ban(): trust was
    Cleared cleared{};     ///< of clear() and clear_greylist()
  };

  /// What ended by itself: trust, or a ban.
  struct Ended {
    schema::AclSubject subject;
    bool trust = false;
  };

  Acl(shm::ListsWriter lists, AclSettings settings) : lists_(std::move(lists)), settings_(settings) {}

  Standing of(const Address& address) const override;
  Standing of(const PeerId& peer) const override;

  /// Until `until_ms` (0: for ever). Takes back trust in exactly that entry.
  Outcome ban(const schema::AclSubject& subject, std::int64_t until_ms, const std::string& text, std::int64_t now_ms);
  /// Lifts the ban of exactly that entry and every greylisting that covers it. Not ok: a wider ban stands.
  Outcome unban(const schema::AclSubject& subject, std::int64_t now_ms);
  /// Lifts a ban of exactly that entry. Not ok, and nothing done, while a wider ban stands: trust would be without
  /// effect.
  Outcome trust(const schema::AclSubject& subject, std::int64_t until_ms, const std::string& text, std::int64_t now_ms);
  Outcome untrust(const schema::AclSubject& subject, std::int64_t now_ms);
  /// Empties black and grey.
  Outcome clear(std::int64_t now_ms);
  Outcome clear_greylist(std::int64_t now_ms);

  /// Greylists an address for the time that is set, with its /64 if it is of IPv6. Nothing happens to who is trusted or
  /// banned. `outcome.ok`: this is news, not a greylisting that is prolonged.
  Outcome greylist(const Address& address, Reason reason, shm::SetBy by, std::int64_t now_ms);
  Outcome greylist(const PeerId& peer, Reason reason, shm::SetBy by, std::int64_t now_ms);

  /// What makes this trust useless, as one line: a ban of its target or of more. Nothing: it has effect.
  std::optional<std::string> useless(const shm::ListEntry& trust, std::int64_t now_ms) const;
  /// Adds an entry as it is (import).
  Result<Changes> add(const shm::ListEntry& entry, std::int64_t now_ms);
  /// What was greylisted or prolonged since then, to be stored (again): for a successor of a controller that was killed
  /// before it had stored everything. What an operator wanted was stored before it was confirmed.
  Changes since(std::int64_t since_ms, std::int64_t now_ms) const;
  /// What has to be stored so that bans and trust in the database (`stored`, sorted by key) are those in force: for a
  /// successor of a controller whose database took no changes.
  Changes unlike(const std::vector<AclEntry>& stored, std::int64_t now_ms) const;
  /// Replaces everything, at a start.
  Result<void> restore(const std::vector<AclEntry>& stored, std::int64_t now_ms);

  /// To be called from a timer: collects what is over, and merges for about a millisecond. True: there is more to
  /// merge.
  bool tend(std::int64_t now_ms);
  /// Bans and trust whose end has come since the last call, each once: all but some of very many that end together. The
  /// first call begins the watch, when the lists are filled.
  std::vector<Ended> ended(std::int64_t now_ms);
  std::uint64_t revision() const { return lists_.table().status().revision; }
  /// Free places for entries.
  std::size_t room() const;

 private:
  void watch(const shm::ListEntry& entry);
  Outcome greylist(shm::ListEntry entry, Standing standing, std::int64_t now_ms);
  bool take_away(shm::AclList list, const schema::AclSubject& subject, std::int64_t now_ms, Changes& changes);
  bool take_greylistings(const schema::AclSubject& subject, std::int64_t now_ms, Changes& changes);
  std::optional<shm::ListEntry> wider(shm::AclList list, const schema::AclSubject& subject, std::int64_t now_ms) const;
  Outcome put(shm::AclList list, const schema::AclSubject& subject, std::int64_t until_ms, const std::string& text,
              std::int64_t now_ms, Changes changes);

  shm::ListsWriter lists_;
  AclSettings settings_;
  ListEnds ends_{kWatchedEnds};
  bool watching_ = false;
};

/// "10.0.0.0/8", "id...": how a command names it.
std::string subject_text(const schema::AclSubject& subject);
AclEntry to_stored(const shm::ListEntry& entry);
shm::ListEntry from_stored(const AclEntry& entry);

}  // namespace bulkhead::controller
