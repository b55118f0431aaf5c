#include "services/controller/cli/acl_view.h"

#include <algorithm>

#include "base/reasons.h"
#include "services/controller/cli/text.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using shm::AclList;
using shm::ListEntry;

std::string until_text(const ListEntry& entry) {
  return entry.until_ms == 0 ? "for ever" : "until " + time_text(entry.until_ms);
}

}  // namespace

const char* standing_word(AclList list) {
  switch (list) {
    case AclList::kBlack:
      return "banned";
    case AclList::kWhite:
      return "trusted";
    case AclList::kGrey:
      return "greylisted";
  }
  return "?";
}

const char* list_title(AclList list) {
  switch (list) {
    case AclList::kBlack:
      return "blacklist";
    case AclList::kWhite:
      return "whitelist";
    case AclList::kGrey:
      return "greylist";
  }
  return "?";
}

std::string target_text(const ListEntry& entry) {
  return entry.is_peer ? wire::peer_id_text(entry.peer) : to_text(entry.prefix);
}

std::string why_text(const ListEntry& entry) {
  if (!entry.words().empty()) return std::string(entry.words());
  if (entry.reason != Reason::kNone) return reason_name(entry.reason);
  return std::string("set by the ") + shm::set_by_name(entry.by);
}

ShownJson entry_json(const ListEntry& entry) {
  ShownJson json = {{entry.is_peer ? "peer_id" : "prefix", target_text(entry)},
                    {"since", time_text(entry.since_ms)},
                    {"until", nullptr},
                    {"reason", why_text(entry)},
                    {"by", shm::set_by_name(entry.by)}};
  if (entry.until_ms != 0) json["until"] = time_text(entry.until_ms);
  return json;
}

ShownJson listed_json(const ListEntry& entry) {
  ShownJson json = {{"list", list_title(entry.list)}};
  json.update(entry_json(entry));
  return json;
}

std::string entry_line(const ListEntry& entry) {
  std::string line;
  const auto column = [&](const std::string& text, std::size_t width) {
    line += text;
    line.append(width > text.size() ? width - text.size() : 0, ' ');
    line += "  ";
  };
  column(list_title(entry.list), 9);
  column(target_text(entry), 30);
  column("since " + time_text(entry.since_ms), 30);
  column(until_text(entry), 30);
  column(shm::set_by_name(entry.by), 11);
  return line + why_text(entry) + "\n";
}

std::string standing_text(const std::vector<ListEntry>& matches) {
  if (matches.empty()) return "not in any list";
  const ListEntry& entry = matches.front();
  return std::string(standing_word(entry.list)) + " as " + target_text(entry) + " since " + time_text(entry.since_ms) +
         ", " + until_text(entry) + ": " + why_text(entry);
}

ShownJson banned_json(const std::vector<ListEntry>& matches) {
  const bool refused = is_refused(matches);
  ShownJson json = {
      {"banned", refused}, {"list", nullptr}, {"trusted", !matches.empty() && matches.front().list == AclList::kWhite}};
  if (refused) json["list"] = list_title(matches.front().list);
  if (!matches.empty()) json.update(entry_json(matches.front()));
  return json;
}

std::vector<ListEntry> matches_of(const shm::ListsTable& lists, const schema::AclSubject& subject,
                                  std::int64_t now_ms) {
  if (subject.peer_id) return lists.match_all(*subject.peer_id, now_ms);
  std::vector<ListEntry> matches;
  // In the order in which the lists decide.
  for (const AclList list : {AclList::kBlack, AclList::kWhite, AclList::kGrey}) {
    const auto covering = lists.covering(list, subject.prefix, now_ms);
    matches.insert(matches.end(), covering.begin(), covering.end());
  }
  return matches;
}

std::size_t refusals_within(const shm::ListsTable& lists, const Prefix& prefix, std::int64_t now_ms) {
  if (is_single(prefix)) return 0;
  std::size_t count = 0;
  lists.for_each(now_ms, [&](const ListEntry& entry) {
    const bool part = !entry.is_peer && entry.prefix != prefix && contains(prefix, entry.prefix);
    if (part && entry.list != AclList::kWhite) ++count;
    return true;
  });
  return count;
}

std::string within_text(std::size_t refusals) {
  return std::to_string(refusals) + (refusals == 1 ? " ban or greylisting is" : " bans or greylistings are") +
         " of a part of it";
}

bool is_refused(const std::vector<ListEntry>& matches) {
  return !matches.empty() && matches.front().list != AclList::kWhite;
}

}  // namespace bulkhead::cli
