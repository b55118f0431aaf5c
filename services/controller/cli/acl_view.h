#pragma once

#include <string>
#include <vector>

#include "base/prefix.h"
#include "schema/messages.h"
#include "services/controller/cli/views.h"
#include "shm/lists.h"

/// Entries of the lists as people and scripts read them.
namespace bulkhead::cli {

/// "banned", "trusted", "greylisted".
const char* standing_word(shm::AclList list);

/// "blacklist", "whitelist", "greylist".
const char* list_title(shm::AclList list);

/// "10.0.0.0/8", "id...".
std::string target_text(const shm::ListEntry& entry);
/// The operator's words, else the cause by its name, else who made the entry. Never empty.
std::string why_text(const shm::ListEntry& entry);

/// {"prefix" or "peer_id", "since", "until", "reason", "by"}.
ShownJson entry_json(const shm::ListEntry& entry);
/// The same with "list" before it.
ShownJson listed_json(const shm::ListEntry& entry);
/// "blacklist  10.0.0.0/8  since ...  until ...  operator  port scans" in columns, with its line end.
std::string entry_line(const shm::ListEntry& entry);
/// What decides on an address or peer, of all entries that match, the deciding one first:
/// "banned as 10.0.0.0/8 since ... until ...: port scans", "trusted ...", or "not in any list".
std::string standing_text(const std::vector<shm::ListEntry>& matches);
/// {"banned", "list", ...}: of the deciding entry, its fields beside it.
ShownJson banned_json(const std::vector<shm::ListEntry>& matches);

/// The entries that match an address or a peer, or a prefix as a whole, the deciding one first.
std::vector<shm::ListEntry> matches_of(const shm::ListsTable& lists, const schema::AclSubject& subject,
                                       std::int64_t now_ms);
/// How many bans and greylistings are of a part of this prefix. 0 for one address.
std::size_t refusals_within(const shm::ListsTable& lists, const Prefix& prefix, std::int64_t now_ms);
/// "2 bans or greylistings are of a part of it".
std::string within_text(std::size_t refusals);

/// Bans and greylistings as "yes", all else as "no".
bool is_refused(const std::vector<shm::ListEntry>& matches);

}  // namespace bulkhead::cli
