#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shm/lists.h"

namespace bulkhead::shm {

inline Prefix prefix_at(std::string_view text) {
  return parse_prefix(text).value();
}

inline Address address_at(std::string_view text) {
  return parse_address(text).value();
}

inline ListEntry entry_for(AclList list, std::string_view prefix, std::int64_t until_ms = 0) {
  ListEntry entry = ListEntry::of(list, prefix_at(prefix));
  entry.until_ms = until_ms;
  return entry;
}

inline bool same_target(const ListEntry& a, const ListEntry& b) {
  return a.list == b.list && a.is_peer == b.is_peer && (a.is_peer ? a.peer == b.peer : a.prefix == b.prefix);
}

/// The lists as a plain sequence of entries: slow, and plainly right.
class ListModel {
 public:
  std::vector<ListEntry> entries;

  void put(const ListEntry& entry) {
    drop(entry);
    entries.push_back(entry);
  }
  void drop(const ListEntry& target) {
    std::erase_if(entries, [&](const ListEntry& entry) { return same_target(entry, target); });
  }
  void clear(AclList list) {
    std::erase_if(entries, [&](const ListEntry& entry) { return entry.list == list; });
  }
  void expire(std::int64_t now_ms) {
    std::erase_if(entries, [&](const ListEntry& entry) { return is_over(entry.until_ms, now_ms); });
  }
  std::optional<ListEntry> find(const ListEntry& target, std::int64_t now_ms) const {
    for (const ListEntry& entry : entries) {
      if (same_target(entry, target) && !is_over(entry.until_ms, now_ms)) return entry;
    }
    return std::nullopt;
  }
  template <typename Matches>
  std::vector<ListEntry> all(std::int64_t now_ms, const Matches& matches) const {
    std::vector<ListEntry> found;
    for (const ListEntry& entry : entries) {
      if (!is_over(entry.until_ms, now_ms) && matches(entry)) found.push_back(entry);
    }
    std::sort(found.begin(), found.end(), [](const ListEntry& a, const ListEntry& b) {
      return a.list != b.list ? a.list < b.list : a.prefix.length > b.prefix.length;
    });
    return found;
  }
  std::vector<ListEntry> match_all(const Address& address, std::int64_t now_ms) const {
    return all(now_ms, [&](const ListEntry& entry) { return !entry.is_peer && contains(entry.prefix, address); });
  }
  std::vector<ListEntry> match_all(const PeerId& peer, std::int64_t now_ms) const {
    return all(now_ms, [&](const ListEntry& entry) { return entry.is_peer && entry.peer == peer; });
  }
  std::vector<ListEntry> covering(AclList list, const Prefix& prefix, std::int64_t now_ms) const {
    return all(now_ms, [&](const ListEntry& entry) {
      return !entry.is_peer && entry.list == list && contains(entry.prefix, prefix);
    });
  }
  template <typename Target>
  Verdict look_up(const Target& target, std::int64_t now_ms) const {
    const auto found = match_all(target, now_ms);
    if (found.empty()) return {};
    const ListEntry& first = found.front();
    return {first.list, first.reason, first.is_peer ? Prefix{} : first.prefix, first.until_ms};
  }
  std::vector<ListEntry> sorted(std::int64_t now_ms) const {
    auto found = all(now_ms, [](const ListEntry&) { return true; });
    std::sort(found.begin(), found.end(), [](const ListEntry& a, const ListEntry& b) {
      if (a.is_peer != b.is_peer) return b.is_peer;
      if (a.is_peer && a.peer != b.peer) return a.peer < b.peer;
      if (!a.is_peer && is_ipv4(a.prefix) != is_ipv4(b.prefix)) return is_ipv4(a.prefix);
      if (!a.is_peer && a.prefix != b.prefix) return a.prefix < b.prefix;
      return a.list < b.list;
    });
    return found;
  }
};

inline std::vector<ListEntry> every_entry(const ListsTable& table, std::int64_t now_ms) {
  std::vector<ListEntry> entries;
  table.for_each(now_ms, [&](const ListEntry& entry) {
    entries.push_back(entry);
    return true;
  });
  return entries;
}

inline void PrintTo(const ListEntry& entry, std::ostream* out) {
  *out << acl_list_name(entry.list) << " " << (entry.is_peer ? "peer" : to_text(entry.prefix)) << " " << entry.since_ms
       << ".." << entry.until_ms << " " << reason_name(entry.reason) << " " << set_by_name(entry.by) << " '"
       << entry.words() << "'";
}

inline void PrintTo(const Verdict& verdict, std::ostream* out) {
  *out << (verdict.list ? acl_list_name(*verdict.list) : "nothing") << " " << to_text(verdict.prefix) << " until "
       << verdict.until_ms << " " << reason_name(verdict.reason);
}

}  // namespace bulkhead::shm
