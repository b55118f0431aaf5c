#include "services/controller/acl.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/address.h"
#include "wire/peer_id.h"

namespace bulkhead::controller {
namespace {

using schema::AclSubject;
using shm::AclList;
using shm::ListEntry;

// Of all entries, what one call looks at for their end: a million have been looked at within some seconds.
constexpr std::size_t kExpireRows = 20'000;

Standing standing_of(const shm::Verdict& verdict) {
  if (!verdict.list) return Standing::kNone;
  switch (*verdict.list) {
    case AclList::kBlack:
      return Standing::kBanned;
    case AclList::kWhite:
      return Standing::kTrusted;
    case AclList::kGrey:
      return Standing::kGreylisted;
  }
  return Standing::kNone;
}

ListEntry entry_of(AclList list, const AclSubject& subject) {
  return subject.peer_id ? ListEntry::of(list, *subject.peer_id) : ListEntry::of(list, subject.prefix);
}

AclKey key_of(const ListEntry& entry) {
  return {.list = static_cast<StoredList>(entry.list),
          .is_peer = entry.is_peer,
          .subject = entry.is_peer ? entry.peer : entry.prefix.address.bytes,
          .length = entry.is_peer ? kAddressBits : entry.prefix.length};
}

std::string entry_text(const ListEntry& entry) {
  return entry.is_peer ? wire::peer_id_text(entry.peer) : to_text(entry.prefix);
}

std::string plural(std::size_t number, const char* one, const char* many) {
  return std::to_string(number) + " " + (number == 1 ? one : many);
}

void note(Changes& changes, const shm::ListAddition& addition) {
  for (const auto& gone : addition.gone) changes.emplace_back(RemoveAcl{key_of(gone)});
  changes.emplace_back(to_stored(addition.entry));
}

}  // namespace

std::string subject_text(const AclSubject& subject) {
  return subject.peer_id ? wire::peer_id_text(*subject.peer_id) : to_text(subject.prefix);
}

AclEntry to_stored(const ListEntry& entry) {
  return {.key = key_of(entry),
          .since_ms = entry.since_ms,
          .until_ms = entry.until_ms,
          .reason = entry.reason,
          .set_by = static_cast<std::uint8_t>(entry.by),
          .text = std::string(entry.words())};
}

ListEntry from_stored(const AclEntry& stored) {
  ListEntry entry;
  entry.list = static_cast<AclList>(stored.key.list);
  entry.by = stored.set_by < shm::kSetByCount ? static_cast<shm::SetBy>(stored.set_by) : shm::SetBy::kLayer;
  entry.reason = stored.reason;
  entry.is_peer = stored.key.is_peer;
  if (entry.is_peer) {
    entry.peer = stored.key.subject;
  } else {
    entry.prefix = {Address{stored.key.subject}, stored.key.length};
  }
  entry.since_ms = stored.since_ms;
  entry.until_ms = stored.until_ms;
  entry.set_text(stored.text);
  return entry;
}

Standing Acl::of(const Address& address) const {
  return standing_of(lists_.table().look_up(address, wall_now_ms()));
}

Standing Acl::of(const PeerId& peer) const {
  return standing_of(lists_.table().look_up(peer, wall_now_ms()));
}

// ---- commands

bool Acl::take_away(AclList list, const AclSubject& subject, std::int64_t now_ms, Changes& changes) {
  const auto gone =
      subject.peer_id ? lists_.remove(list, *subject.peer_id, now_ms) : lists_.remove(list, subject.prefix, now_ms);
  // What the table does not have may still stand in the database.
  const AclKey key = key_of(entry_of(list, subject));
  changes.emplace_back(RemoveAcl{key});
  ends_.forget(key);
  return gone.has_value();
}

// An automatic greylisting covers more than the address that caused it.
bool Acl::take_greylistings(const AclSubject& subject, std::int64_t now_ms, Changes& changes) {
  bool any = take_away(AclList::kGrey, subject, now_ms, changes);
  if (subject.peer_id) return any;
  for (const auto& entry : lists_.table().covering(AclList::kGrey, subject.prefix, now_ms)) {
    any = take_away(AclList::kGrey, {std::nullopt, entry.prefix}, now_ms, changes) || any;
  }
  return any;
}

std::optional<ListEntry> Acl::wider(AclList list, const AclSubject& subject, std::int64_t now_ms) const {
  if (subject.peer_id) return std::nullopt;
  for (const auto& entry : lists_.table().covering(list, subject.prefix, now_ms)) {
    if (entry.prefix != subject.prefix) return entry;
  }
  return std::nullopt;
}

std::optional<std::string> Acl::useless(const ListEntry& trust, std::int64_t now_ms) const {
  std::optional<ListEntry> ban;
  if (trust.is_peer) {
    ban = lists_.table().find(AclList::kBlack, trust.peer, now_ms);
  } else if (const auto bans = lists_.table().covering(AclList::kBlack, trust.prefix, now_ms); !bans.empty()) {
    ban = bans.front();
  }
  if (!ban) return std::nullopt;
  return entry_text(trust) + " cannot be trusted while " + entry_text(*ban) + " is banned";
}

Acl::Outcome Acl::put(AclList list, const AclSubject& subject, std::int64_t until_ms, const std::string& text,
                      std::int64_t now_ms, Changes changes) {
  ListEntry entry = entry_of(list, subject);
  entry.since_ms = now_ms;
  entry.until_ms = until_ms;
  entry.set_text(text);
  const auto added = lists_.add(entry, now_ms);
  if (!added) return {false, subject_text(subject) + ": " + added.error().text, std::move(changes)};
  note(changes, *added);
  watch(entry);
  return {true, "", std::move(changes)};
}

Acl::Outcome Acl::ban(const AclSubject& subject, std::int64_t until_ms, const std::string& text, std::int64_t now_ms) {
  Changes changes;
  // The ban first: at no moment is the address welcome again.
  Outcome outcome = put(AclList::kBlack, subject, until_ms, text, now_ms, std::move(changes));
  if (!outcome.ok) return outcome;
  outcome.changed = take_away(AclList::kWhite, subject, now_ms, outcome.changes);
  take_away(AclList::kGrey, subject, now_ms, outcome.changes);
  outcome.text = subject_text(subject) + " is banned" + (outcome.changed ? " and trusted no more" : "");
  return outcome;
}

Acl::Outcome Acl::unban(const AclSubject& subject, std::int64_t now_ms) {
  Outcome outcome;
  const bool was_banned = take_away(AclList::kBlack, subject, now_ms, outcome.changes);
  const bool was_grey = take_greylistings(subject, now_ms, outcome.changes);
  outcome.changed = was_banned || was_grey;
  const std::string name = subject_text(subject);
  if (const auto wide = wider(AclList::kBlack, subject, now_ms)) {
    outcome.ok = false;
    const std::string own = was_banned ? " had a ban of its own, which is lifted, and"
                            : was_grey ? " is greylisted no more, and"
                                       : " had no ban of its own, and";
    outcome.text = name + own + " is still banned, by " + entry_text(*wide) + ": `bulkhead unban address " +
                   entry_text(*wide) + "` lifts that";
  } else {
    outcome.text = name + (was_banned ? " is banned no more" : was_grey ? " is greylisted no more" : " was not banned");
  }
  return outcome;
}

Acl::Outcome Acl::trust(const AclSubject& subject, std::int64_t until_ms, const std::string& text,
                        std::int64_t now_ms) {
  const std::string name = subject_text(subject);
  if (const auto wide = wider(AclList::kBlack, subject, now_ms)) {
    return {false,
            name + " cannot be trusted while " + entry_text(*wide) + " is banned: `bulkhead unban address " +
                entry_text(*wide) + "` first",
            {}};
  }
  Outcome outcome = put(AclList::kWhite, subject, until_ms, text, now_ms, {});
  if (!outcome.ok) return outcome;
  const bool was_banned = take_away(AclList::kBlack, subject, now_ms, outcome.changes);
  take_greylistings(subject, now_ms, outcome.changes);
  outcome.text = name + " is trusted" + (was_banned ? " and banned no more" : "");
  return outcome;
}

Acl::Outcome Acl::untrust(const AclSubject& subject, std::int64_t now_ms) {
  Outcome outcome;
  outcome.changed = take_away(AclList::kWhite, subject, now_ms, outcome.changes);
  const std::string name = subject_text(subject);
  if (const auto wide = wider(AclList::kWhite, subject, now_ms)) {
    outcome.ok = false;
    outcome.text = name +
                   (outcome.changed ? " had trust of its own, which is ended, and" : " had no trust of its own, and") +
                   " is still trusted, by " + entry_text(*wide) + ": `bulkhead untrust address " + entry_text(*wide) +
                   "` ends that";
  } else {
    outcome.text = name + (outcome.changed ? " is trusted no more" : " was not trusted");
  }
  return outcome;
}

Acl::Outcome Acl::clear(std::int64_t now_ms) {
  const Cleared cleared{lists_.clear(AclList::kBlack, now_ms), lists_.clear(AclList::kGrey, now_ms)};
  ends_.forget_all(StoredList::kBlack);
  return {.text = plural(cleared.bans, "ban", "bans") + " and " +
                  plural(cleared.greylistings, "greylisting", "greylistings") + " lifted",
          .changes = {ClearList{StoredList::kBlack}, ClearList{StoredList::kGrey}},
          .cleared = cleared};
}

Acl::Outcome Acl::clear_greylist(std::int64_t now_ms) {
  const Cleared cleared{.greylistings = lists_.clear(AclList::kGrey, now_ms)};
  return {.text = plural(cleared.greylistings, "greylisting", "greylistings") + " lifted",
          .changes = {ClearList{StoredList::kGrey}},
          .cleared = cleared};
}

// ---- the layer's own

Acl::Outcome Acl::greylist(ListEntry entry, Standing standing, std::int64_t now_ms) {
  if (standing == Standing::kBanned || standing == Standing::kTrusted) return {false, "", {}};
  entry.since_ms = now_ms;
  entry.until_ms = now_ms + settings_.greylist_ms;
  const auto added = lists_.add(entry, now_ms);
  if (!added) return {false, added.error().text, {}};
  Outcome outcome{!added->replaced && standing == Standing::kNone, "", {}};
  note(outcome.changes, *added);
  return outcome;
}

Acl::Outcome Acl::greylist(const Address& address, Reason reason, shm::SetBy by, std::int64_t now_ms) {
  ListEntry entry = ListEntry::of(AclList::kGrey, shm::grey_prefix(address, settings_.greylist_ipv6_length));
  entry.reason = reason;
  entry.by = by;
  return greylist(std::move(entry), of(address), now_ms);
}

Acl::Outcome Acl::greylist(const PeerId& peer, Reason reason, shm::SetBy by, std::int64_t now_ms) {
  ListEntry entry = ListEntry::of(AclList::kGrey, peer);
  entry.reason = reason;
  entry.by = by;
  return greylist(std::move(entry), of(peer), now_ms);
}

// ---- upkeep

Result<Changes> Acl::add(const ListEntry& entry, std::int64_t now_ms) {
  const auto added = lists_.add(entry, now_ms);
  if (!added) return added.error();
  watch(entry);
  Changes changes;
  note(changes, *added);
  return changes;
}

Changes Acl::since(std::int64_t since_ms, std::int64_t now_ms) const {
  Changes changes;
  lists_.table().for_each(now_ms, [&](const ListEntry& entry) {
    if (entry.since_ms >= since_ms && entry.by != shm::SetBy::kOperator) changes.emplace_back(to_stored(entry));
    return true;
  });
  return changes;
}

Changes Acl::unlike(const std::vector<AclEntry>& stored, std::int64_t now_ms) const {
  Changes changes;
  std::vector<bool> in_force(stored.size(), false);
  lists_.table().for_each(now_ms, [&](const ListEntry& entry) {
    if (entry.list == AclList::kGrey) return true;
    AclEntry wanted = to_stored(entry);
    const auto found = std::lower_bound(stored.begin(), stored.end(), wanted.key,
                                        [](const AclEntry& one, const AclKey& key) { return one.key < key; });
    const bool there = found != stored.end() && found->key == wanted.key;
    if (there) in_force[static_cast<std::size_t>(found - stored.begin())] = true;
    if (!there || *found != wanted) changes.emplace_back(std::move(wanted));
    return true;
  });
  for (std::size_t i = 0; i < stored.size(); ++i) {
    if (stored[i].key.list != StoredList::kGrey && !in_force[i]) changes.emplace_back(RemoveAcl{stored[i].key});
  }
  return changes;
}

Result<void> Acl::restore(const std::vector<AclEntry>& stored, std::int64_t now_ms) {
  std::vector<ListEntry> entries;
  entries.reserve(stored.size());
  for (const auto& entry : stored) entries.push_back(from_stored(entry));
  return lists_.rebuild(std::move(entries), now_ms);
}

void Acl::watch(const ListEntry& entry) {
  if (entry.list != AclList::kGrey) ends_.note(key_of(entry), entry.until_ms);
}

std::vector<Acl::Ended> Acl::ended(std::int64_t now_ms) {
  std::vector<Ended> ended;
  for (const AclKey& key : ends_.take_over(now_ms)) {
    AclSubject subject;
    if (key.is_peer) {
      subject.peer_id = key.subject;
    } else {
      subject.prefix = {Address{key.subject}, key.length};
    }
    ended.push_back({subject, key.list == StoredList::kWhite});
  }
  if (std::exchange(watching_, true) && !ends_.wants_refill()) return ended;
  ends_.clear();
  lists_.table().for_each(now_ms, [this](const ListEntry& entry) {
    watch(entry);
    return true;
  });
  return ended;
}

bool Acl::tend(std::int64_t now_ms) {
  lists_.expire(now_ms, kExpireRows);
  if (lists_.merge_due()) lists_.merge(now_ms);
  return lists_.merge_due();
}

std::size_t Acl::room() const {
  const auto status = lists_.table().status();
  std::size_t used = 0;
  for (const auto& counts : status.counts) used += counts.prefixes + counts.peers;
  return status.capacity > used ? status.capacity - used : 0;
}

}  // namespace bulkhead::controller
