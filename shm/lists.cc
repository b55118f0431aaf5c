#include "shm/lists.h"

#include <algorithm>
#include <random>
#include <string>

#include "shm/lists_reader.h"
#include "shm/table_file.h"

namespace bulkhead::shm {
namespace {

std::optional<ListEntry> not_over(std::optional<ListEntry> entry, std::int64_t now_ms) {
  if (entry && is_over(entry->until_ms, now_ms)) entry.reset();
  return entry;
}

}  // namespace

const char* acl_list_name(AclList list) {
  constexpr std::array<const char*, kAclLists> kNames = {"black", "white", "grey"};
  const auto index = static_cast<std::size_t>(list);
  return index < kNames.size() ? kNames[index] : "invalid_list";
}

const char* set_by_name(SetBy by) {
  constexpr std::array<const char*, kSetByCount> kNames = {"operator", "configuration", "layer", "application"};
  const auto index = static_cast<std::size_t>(by);
  return index < kNames.size() ? kNames[index] : "invalid_setter";
}

ListEntry ListEntry::of(AclList list, const Prefix& prefix) {
  ListEntry entry;
  entry.list = list;
  entry.prefix = prefix;
  return entry;
}

ListEntry ListEntry::of(AclList list, const PeerId& peer) {
  ListEntry entry;
  entry.list = list;
  entry.is_peer = true;
  entry.peer = peer;
  return entry;
}

void ListEntry::set_text(std::string_view words) {
  const auto is_continuation = [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) == 0x80U; };
  std::size_t size = words.size();
  if (size > kListTextSize - 1) {
    size = kListTextSize - 1;
    while (size > 0 && is_continuation(words[size])) --size;
  }
  text = {};
  std::transform(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(size), text.begin(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20U || byte == 0x7fU ? '?' : c;
  });
}

std::string_view ListEntry::words() const {
  const auto end = std::find(text.begin(), text.end(), '\0');
  return {text.data(), static_cast<std::size_t>(end - text.begin())};
}

Prefix grey_prefix(const Address& address, std::uint8_t ipv6_length) {
  const Prefix single{address, kAddressBits};
  if (is_ipv4(address)) return single;
  Address loopback;
  loopback.bytes.back() = 1;
  const Prefix prefix = prefix_of(address, std::min(ipv6_length, kAddressBits));
  return contains(prefix, loopback) ? single : prefix;
}

Result<UniqueFd> ListsTable::make(std::uint32_t capacity) {
  if (capacity < kMinimumListCapacity || capacity > kMaximumListCapacity) {
    return Error{ErrorCode::kInvalid, "the lists hold " + std::to_string(kMinimumListCapacity) + " to " +
                                          std::to_string(kMaximumListCapacity) + " entries"};
  }
  const ListsLayout layout(capacity);
  auto fd =
      make_table("bulkhead-lists", Kind::kLists, layout.size, {capacity, layout.delta_rows, kListsLayoutNumber, 0});
  if (!fd) return fd.error();
  auto control = Mapping::map(fd->get(), Access::kReadWrite, kPageBytes, kPageBytes);
  if (!control) return control.error();
  std::random_device random;
  for (auto& key : at<ListsControl>(*control, 0).hash_keys) key = (std::uint64_t{random()} << 32U) | random();
  return fd;
}

Result<ListsTable> ListsTable::map(int fd) {
  auto reader = ListsReader::map(fd, Access::kReadOnly);
  if (!reader) return reader.error();
  return ListsTable(std::make_shared<const ListsReader>(std::move(*reader)));
}

ListsTable::ListsTable(std::shared_ptr<const ListsReader> reader) : reader_(std::move(reader)) {}
ListsTable::ListsTable(ListsTable&&) noexcept = default;
ListsTable& ListsTable::operator=(ListsTable&&) noexcept = default;
ListsTable::~ListsTable() = default;

Verdict ListsTable::look_up(const Address& address, std::int64_t now_ms) const {
  return reader_->look_up(target_of(Prefix{address, kAddressBits}), now_ms);
}

Verdict ListsTable::look_up(const PeerId& peer, std::int64_t now_ms) const {
  return reader_->look_up(target_of(peer), now_ms);
}

void ListsTable::look_up(std::span<const Address> addresses, std::int64_t now_ms, std::span<Verdict> verdicts) const {
  constexpr std::size_t kAtOnce = ListsReader::kLookUpsAtOnce;
  std::array<ListTarget, kAtOnce> targets;
  for (std::size_t done = 0; done < addresses.size(); done += kAtOnce) {
    const std::size_t size = std::min(kAtOnce, addresses.size() - done);
    for (std::size_t i = 0; i < size; ++i) targets[i] = target_of(Prefix{addresses[done + i], kAddressBits});
    reader_->look_up(std::span(targets).first(size), now_ms, verdicts.subspan(done, size));
  }
}

std::vector<ListEntry> ListsTable::match_all(const Address& address, std::int64_t now_ms) const {
  return reader_->matches(target_of(Prefix{address, kAddressBits}), now_ms);
}

std::vector<ListEntry> ListsTable::match_all(const PeerId& peer, std::int64_t now_ms) const {
  return reader_->matches(target_of(peer), now_ms);
}

std::optional<ListEntry> ListsTable::find(AclList list, const Prefix& prefix, std::int64_t now_ms) const {
  return not_over(reader_->consistent([&](const ListsRoot& root) { return reader_->find(root, key_of(list, prefix)); }),
                  now_ms);
}

std::optional<ListEntry> ListsTable::find(AclList list, const PeerId& peer, std::int64_t now_ms) const {
  return not_over(reader_->consistent([&](const ListsRoot& root) { return reader_->find(root, key_of(list, peer)); }),
                  now_ms);
}

std::vector<ListEntry> ListsTable::covering(AclList list, const Prefix& prefix, std::int64_t now_ms) const {
  auto entries = reader_->matches(target_of(prefix), now_ms);
  std::erase_if(entries, [list](const ListEntry& entry) { return entry.list != list; });
  return entries;
}

void ListsTable::for_each(std::int64_t now_ms, const std::function<bool(const ListEntry&)>& visit) const {
  constexpr std::size_t kRowsAtOnce = 64;
  const auto added = reader_->delta_entries(now_ms);
  auto next_added = added.begin();
  std::optional<ListKey> last;
  for (;;) {
    const auto rows = reader_->walk_base(last, kRowsAtOnce);
    if (rows.empty()) break;
    for (const auto& row : rows) {
      for (; next_added != added.end() && key_of(*next_added) < row.key; ++next_added) {
        if (!visit(*next_added)) return;
      }
      last = row.key;
      const bool in_delta = next_added != added.end() && key_of(*next_added) == row.key;
      if (in_delta) {
        if (!visit(*next_added++)) return;
      } else if (row.entry && !is_over(row.entry->until_ms, now_ms)) {
        if (!visit(*row.entry)) return;
      }
    }
  }
  for (; next_added != added.end(); ++next_added) {
    if (!visit(*next_added)) return;
  }
}

ListsStatus ListsTable::status() const {
  ListsStatus status;
  status.revision = reader_->revision();
  status.capacity = reader_->layout().capacity;
  const auto counts = reader_->control().counts.read().value_or(CountsRow{});
  for (std::size_t list = 0; list < kAclLists; ++list) {
    status.counts[list] = {counts.prefixes[list], counts.peers[list]};
  }
  return status;
}

}  // namespace bulkhead::shm
