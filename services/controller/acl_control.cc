#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>

#include "base/address.h"
#include "base/log.h"
#include "schema/import_row.h"
#include "services/controller/controller.h"

/// The controller's part that has to do with the lists.
namespace bulkhead::controller {
namespace {

// A piece of an import takes a few milliseconds.
constexpr std::size_t kImportRows = 2000;

// Ends of bans and trust that have an event each: those of a feed that end together must not push all others out.
constexpr TokenRate kEndsRate{.per_second = 10, .burst = 100};

std::int64_t until(std::uint32_t duration_s, std::int64_t now_ms) {
  return duration_s == 0 ? 0 : now_ms + std::int64_t{duration_s} * 1000;
}

// Every field of a row is checked: it comes from a client.
std::optional<shm::ListEntry> entry_of(const schema::ImportRow& row, std::int64_t now_ms) {
  if (row.list > static_cast<std::uint8_t>(schema::ImportList::kWhite) || row.is_peer > 1 ||
      row.text_size > schema::kMaximumAclText || row.until_ms < 0) {
    return std::nullopt;
  }
  const auto list =
      row.list == static_cast<std::uint8_t>(schema::ImportList::kWhite) ? shm::AclList::kWhite : shm::AclList::kBlack;
  const Prefix prefix{Address{row.subject}, row.length};
  if (row.is_peer == 0 && !is_canonical(prefix)) return std::nullopt;
  shm::ListEntry entry =
      row.is_peer != 0 ? shm::ListEntry::of(list, PeerId(row.subject)) : shm::ListEntry::of(list, prefix);
  entry.since_ms = now_ms;
  entry.until_ms = row.until_ms;
  entry.set_text({row.text.data(), row.text_size});
  return entry;
}

}  // namespace

// ---- commands

void Controller::on_acl_request(std::uint64_t client, const schema::ControlRequest& request,
                                schema::Descriptors& descriptors) {
  const std::int64_t at = wall_now_ms();
  if (import_) return answer(client, false, "an import is under way; try again when it is done");
  if (const auto* ban = std::get_if<schema::ControlBan>(&request)) {
    auto outcome = acl_.ban(ban->subject, until(ban->duration_s, at), ban->text, at);
    if (outcome.ok) {
      const bool points = !ban->subject.peer_id && pool_.untrust_points(ban->subject.prefix);
      // A configured peer is trusted without an entry.
      if (points && !is_single(ban->subject.prefix)) {
        outcome.text += "; points in it that were trusted are trusted no more";
      } else if (points && !outcome.changed) {
        outcome.text += " and trusted no more";
      }
      acl_event(shm::EventKind::kBanned, Reason::kBanned, ban->subject, at, ban->duration_s);
      close_banned();
    }
    complete(client, std::move(outcome));
  } else if (const auto* unban = std::get_if<schema::ControlUnban>(&request)) {
    auto outcome = acl_.unban(unban->subject, at);
    if (outcome.changed) acl_event(shm::EventKind::kUnbanned, Reason::kNone, unban->subject, at);
    complete(client, std::move(outcome));
  } else if (const auto* trust = std::get_if<schema::ControlTrust>(&request)) {
    auto outcome = acl_.trust(trust->subject, until(trust->duration_s, at), trust->text, at);
    if (outcome.ok) {
      acl_event(shm::EventKind::kTrusted, Reason::kNone, trust->subject, at, trust->duration_s);
      if (!trust->subject.peer_id && trust->port != 0 && is_single(trust->subject.prefix))
        pool_.trust_point({trust->subject.prefix.address, trust->port}, now());
    }
    complete(client, std::move(outcome));
  } else if (const auto* untrust = std::get_if<schema::ControlUntrust>(&request)) {
    const bool points = !untrust->subject.peer_id && pool_.untrust_points(untrust->subject.prefix);
    auto outcome = acl_.untrust(untrust->subject, at);
    // A configured peer is trusted without an entry.
    if (outcome.ok && !outcome.changed && points) outcome.text = subject_text(untrust->subject) + " is trusted no more";
    if (outcome.changed || points) acl_event(shm::EventKind::kUntrusted, Reason::kNone, untrust->subject, at);
    complete(client, std::move(outcome));
  } else if (std::holds_alternative<schema::ControlClearAcls>(request)) {
    auto outcome = acl_.clear(at);
    event(shm::EventKind::kAclsCleared, Reason::kNone, std::nullopt, std::nullopt,
          static_cast<std::uint32_t>(outcome.cleared.bans), static_cast<std::uint32_t>(outcome.cleared.greylistings));
    complete(client, std::move(outcome));
  } else if (std::holds_alternative<schema::ControlClearGreylist>(request)) {
    auto outcome = acl_.clear_greylist(at);
    event(shm::EventKind::kGreylistCleared, Reason::kNone, std::nullopt, std::nullopt, 1,
          static_cast<std::uint32_t>(outcome.cleared.greylistings));
    complete(client, std::move(outcome));
  } else if (const auto* import = std::get_if<schema::ControlImport>(&request)) {
    begin_import(client, *import, std::move(descriptors.at(0)));
  }
}

// The change is in force; the answer says whether it will be after a power cut as well, and so waits for the disk.
void Controller::complete(std::uint64_t client, Acl::Outcome outcome) {
  lists_changed();
  schema::ControlAnswer said{.ok = outcome.ok,
                             .text = std::move(outcome.text),
                             .bans = static_cast<std::uint32_t>(outcome.cleared.bans),
                             .greylistings = static_cast<std::uint32_t>(outcome.cleared.greylistings)};
  if (outcome.changes.empty()) return answer(client, std::move(said));
  const auto ticket = parts_.store->commit(outcome.changes);
  if (!ticket) return stored({client, std::move(said)}, ticket.error());
  unconfirmed_.emplace(*ticket, Unconfirmed{client, std::move(said)});
  flush_store();
}

void Controller::stored(Unconfirmed change, const Result<void>& outcome) {
  if (outcome) return answer(change.client, std::move(change.answer));
  log_error(outcome.error().text);
  parts_.counters.set(shm::Counter::kChangesUnstored, 1);
  answer(change.client, false, change.answer.text + ", from now on, but not stored: " + outcome.error().text);
}

// With the entry's own time, so that the end that follows from it is the entry's.
void Controller::acl_event(shm::EventKind kind, Reason reason, const schema::AclSubject& subject, std::int64_t at,
                           std::uint32_t lasts_s) {
  const std::uint32_t length = is_single(subject.prefix) ? 0 : std::uint32_t{subject.prefix.length} + 1;
  shm::EventRow row = subject.peer_id
                          ? event_row(kind, reason, std::nullopt, subject.peer_id, 1, 0, 0)
                          : event_row(kind, reason, Point{subject.prefix.address, 0}, std::nullopt, 1, length, 0);
  row.time_ms = at;
  row.lasts_s = lasts_s;
  parts_.events.append(row);
}

void Controller::tell_ended() {
  const Nanoseconds at = monotonic_now();
  const std::int64_t at_ms = wall_now_ms();
  std::uint32_t more_bans = 0;
  std::uint32_t more_trust = 0;
  bool trust_ended = false;
  for (const auto& [subject, trust] : acl_.ended(at_ms)) {
    trust_ended = trust_ended || trust;
    if (ends_told_.take(kEndsRate, at)) {
      acl_event(trust ? shm::EventKind::kUntrusted : shm::EventKind::kUnbanned, Reason::kExpired, subject, at_ms);
    } else {
      ++(trust ? more_trust : more_bans);
    }
  }
  const auto tell_more = [&](shm::EventKind kind, std::uint32_t more) {
    if (more > 0) event(kind, Reason::kExpired, std::nullopt, std::nullopt, more);
  };
  tell_more(shm::EventKind::kUnbanned, more_bans);
  tell_more(shm::EventKind::kUntrusted, more_trust);
  if (trust_ended) pool_.standings_changed();
}

void Controller::lists_changed() {
  pool_.standings_changed();
  wake_maintainer();
  if (!merge_timer_.active()) merge_timer_.once(1);
}

// Whatever step they are at, and whether or not they told us a port.
void Controller::close_banned() {
  for (auto& connection : connections_) {
    if (!connection || connection->step == Step::kEnded) continue;
    const Slot* slot = pool_.find(connection->ref);
    if (slot == nullptr) continue;
    if (acl_.of(slot->remote.address) == Standing::kBanned) {
      close(*connection, Reason::kBanned);
    } else if (slot->has_peer && acl_.of(slot->peer_id) == Standing::kBanned) {
      close(*connection, Reason::kPeerBanned);
    }
  }
}

void Controller::greylist(const std::optional<Point>& point, const std::optional<PeerId>& peer, Reason reason,
                          shm::SetBy by, bool without_event) {
  const std::int64_t at = wall_now_ms();
  bool news = false;
  const auto note = [&](Acl::Outcome outcome) {
    news = news || outcome.ok;
    // An import that is under way and full lists cost the entry, not the node.
    (void)parts_.store->later(outcome.changes);
  };
  if (point) note(acl_.greylist(point->address, reason, by, at));
  if (peer) note(acl_.greylist(*peer, reason, by, at));
  if (!news) return;
  parts_.counters.count(shm::Counter::kGreylisted);
  if (!without_event) event(shm::EventKind::kGreylisted, reason, point, peer);
  if (!merge_timer_.active()) merge_timer_.once(1);
}

// ---- import

void Controller::begin_import(std::uint64_t client, const schema::ControlImport& request, UniqueFd file) {
  const std::uint64_t size = std::uint64_t{request.entries} * sizeof(schema::ImportRow);
  const auto sealed = shm::check_segment(file.get(), size, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
  if (!sealed) return answer(client, false, "the entries came in a file that may still change; nothing was done");
  if (request.entries > acl_.room()) {
    return answer(client, false,
                  "the lists have room for " + std::to_string(acl_.room()) + " more entries, not for " +
                      std::to_string(request.entries) + "; nothing was done");
  }
  if (const auto begun = parts_.store->begin_import(); !begun) {
    return answer(client, false, begun.error().text + "; nothing was done");
  }
  parts_.counters.set(shm::Counter::kImportUnderWay, 1);
  import_.emplace();
  import_->client = client;
  import_->file = std::move(file);
  import_->expected = request.entries;
  import_->entries.reserve(request.entries);
  import_turns_.start();
}

void Controller::import_failed(const std::string& text) {
  import_turns_.stop();
  parts_.store->cancel_import();
  parts_.counters.set(shm::Counter::kImportUnderWay, 0);
  answer(import_->client, false, text + "; nothing was done");
  import_.reset();
}

// Reads, checks and stores a piece. False: the import is over, by a failure.
bool Controller::read_import_rows() {
  std::vector<schema::ImportRow> rows(kImportRows);
  const std::size_t wanted = std::min(kImportRows, import_->expected - import_->entries.size());
  const ssize_t got = ::read(import_->file.get(), rows.data(), wanted * sizeof(schema::ImportRow));
  if (got < 0 && errno == EINTR) return true;
  if (got <= 0 || static_cast<std::size_t>(got) % sizeof(schema::ImportRow) != 0) {
    import_failed("the file of entries cannot be read");
    return false;
  }
  const std::int64_t at = wall_now_ms();
  std::vector<AclEntry> stored;
  for (const auto& row : std::span(rows).first(static_cast<std::size_t>(got) / sizeof(schema::ImportRow))) {
    auto entry = entry_of(row, at);
    if (!entry) {
      import_failed("entry " + std::to_string(import_->entries.size() + 1) + " is none");
      return false;
    }
    if (const auto useless = entry->list == shm::AclList::kWhite ? acl_.useless(*entry, at) : std::nullopt) {
      import_failed(*useless);
      return false;
    }
    stored.push_back(to_stored(*entry));
    import_->entries.push_back(std::move(*entry));
  }
  if (const auto done = parts_.store->import(stored); !done) {
    import_failed(done.error().text);
    return false;
  }
  return true;
}

void Controller::import_step() {
  if (!import_) return;
  if (import_->entries.size() < import_->expected) {
    if (!read_import_rows()) return;
    if (import_->entries.size() == import_->expected) {
      tell_alive();
      const auto ticket = parts_.store->finish_import();
      if (!ticket) return import_failed(ticket.error().text);
      import_->ticket = *ticket;
      flush_store();
    }
    return;
  }
  const std::int64_t at = wall_now_ms();
  for (std::size_t i = 0; i < kImportRows && import_->looked_at < import_->expected; ++i, ++import_->looked_at) {
    if (acl_.add(import_->entries[import_->looked_at], at)) ++import_->added;
  }
  if (import_->looked_at < import_->expected) return;
  import_turns_.stop();
  finish_import();
}

// When all are in force and the disk has them, or failed.
void Controller::finish_import() {
  if (!import_ || import_->ticket != 0 || import_->looked_at < import_->expected) return;
  const Import done = std::move(*import_);
  import_.reset();
  parts_.counters.set(shm::Counter::kImportUnderWay, 0);
  if (done.added < done.expected)
    log_debug(std::to_string(done.expected - done.added) + " entries of an import were over already");
  event(shm::EventKind::kAclsImported, Reason::kNone, std::nullopt, std::nullopt,
        static_cast<std::uint32_t>(done.added));
  lists_changed();
  close_banned();
  stored({done.client,
          {.ok = true,
           .text = std::to_string(done.added) + (done.added == 1 ? " entry" : " entries") + " imported",
           .entries = static_cast<std::uint32_t>(done.added)}},
         done.stored);
}

// It is in the database, whatever the disk says, and so it comes into force.
void Controller::import_stored(const Result<void>& outcome) {
  import_->ticket = 0;
  import_->stored = outcome;
  finish_import();
}

}  // namespace bulkhead::controller
