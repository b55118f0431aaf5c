#include "services/controller/cli/acl_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/address.h"
#include "base/duration.h"
#include "base/prefix.h"
#include "services/controller/cli/acl_view.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using schema::ImportList;
using schema::ImportRow;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::string_view kUntil = "until=";
constexpr std::string_view kFor = "for=";
constexpr std::string_view kList = "list=";
constexpr std::string_view kReason = "reason=";

bool is_space(char c) {
  return c == ' ' || c == '\t';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && (is_space(text.back()) || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

bool is_comment(std::string_view text) {
  return text.starts_with('#') || text.starts_with(';');
}

/// The first word; `text` is what follows it, without the space between.
std::string_view take_word(std::string_view& text) {
  std::size_t size = 0;
  while (size < text.size() && !is_space(text[size])) ++size;
  const std::string_view word = text.substr(0, size);
  text = trimmed(text.substr(size));
  return word;
}

/// Exactly `digits` decimal digits at the front of `text`, taken away from it.
std::optional<int> take_number(std::string_view& text, std::size_t digits) {
  if (text.size() < digits) return std::nullopt;
  int value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, char wanted) {
  if (text.empty() || text.front() != wanted) return false;
  text.remove_prefix(1);
  return true;
}

/// ".25" as 250; what is finer than a millisecond is dropped. Nothing when a point has no digit behind it.
std::optional<int> take_milliseconds(std::string_view& text) {
  if (!take(text, '.')) return 0;
  int value = 0;
  int unit = 100;
  std::size_t digits = 0;
  for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1), ++digits) {
    value += (text.front() - '0') * unit;
    unit /= 10;
  }
  return digits == 0 ? std::nullopt : std::optional(value);
}

/// "Z", or "+01:00" as minutes, to the end of the text.
std::optional<int> take_offset(std::string_view text) {
  if (text == "Z" || text == "z") return 0;
  const bool west = text.starts_with('-');
  if (!west && !text.starts_with('+')) return std::nullopt;
  text.remove_prefix(1);
  const auto hours = take_number(text, 2);
  if (!hours || !take(text, ':')) return std::nullopt;
  const auto minutes = take_number(text, 2);
  if (!minutes || !text.empty() || *hours > 23 || *minutes > 59) return std::nullopt;
  const int total = *hours * 60 + *minutes;
  return west ? -total : total;
}

/// "lst=white": what looks like a field. Its name is of letters, '-' and '_' alone, so that the parameters of an
/// address of the web do not.
bool looks_like_field(std::string_view word) {
  const std::size_t size = word.find('=');
  if (size == 0 || size == std::string_view::npos) return false;
  return std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(size),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_'; });
}

/// One line, field by field. `error` is what is wrong, if anything is.
struct Line {
  ImportRow row{};
  bool names_list = false;
  bool shortened = false;
  std::string error;
};

void set_target(Line& line, std::string_view word) {
  if (const auto prefix = parse_prefix(word)) {
    line.row.subject = prefix->address.bytes;
    line.row.length = prefix->length;
    return;
  } else if (const auto peer = wire::parse_peer_id(word)) {
    line.row.subject = *peer;
    line.row.length = kAddressBits;
    line.row.is_peer = 1;
  } else {
    line.error = in_quotes(std::string(word.substr(0, 80))) + ": " + prefix.error().text +
                 "; a line begins with a prefix, an address or a peer id, or with # when it is a comment";
  }
}

void set_end(Line& line, std::int64_t until_ms) {
  if (line.row.until_ms != 0) line.error = "two ends; give one of until= and for=";
  line.row.until_ms = until_ms;
}

/// Takes the word if it is a field, or looks like one and is none. False: the reason begins with it.
bool set_field(Line& line, std::string_view word, std::int64_t now_ms) {
  const auto quoted = [&] { return in_quotes(std::string(word.substr(0, 80))); };
  if (word.starts_with(kUntil)) {
    const auto time = parse_time(word.substr(kUntil.size()));
    if (time) {
      // 0 would be for ever.
      set_end(line, std::max<std::int64_t>(*time, 1));
    } else {
      line.error = quoted() + ": write it as until=2030-01-01T00:00:00Z";
    }
  } else if (word.starts_with(kFor)) {
    const auto duration = parse_duration(word.substr(kFor.size()));
    if (duration) {
      set_end(line, now_ms + std::chrono::milliseconds(*duration).count());
    } else {
      line.error = quoted() + ": " + duration.error().text;
    }
  } else if (word.starts_with(kList)) {
    const std::string_view name = word.substr(kList.size());
    if (name != "black" && name != "white") line.error = quoted() + ": list=black or list=white";
    if (std::exchange(line.names_list, true)) line.error = "two lists; give list= once";
    line.row.list = static_cast<std::uint8_t>(name == "white" ? ImportList::kWhite : ImportList::kBlack);
  } else if (looks_like_field(word)) {
    // As the beginning of a reason it would make of trust a ban, or of an hour for ever.
    line.error = quoted() +
                 " is no field; there are until=, for=, list= and reason=, and a reason that begins so is written "
                 "behind reason=";
  } else {
    return false;
  }
  return true;
}

void set_reason(Line& line, std::string_view words) {
  shm::ListEntry entry;
  entry.set_text(words);
  const std::string_view kept = entry.words();
  line.shortened = kept.size() < words.size();
  line.row.text_size = static_cast<std::uint8_t>(kept.size());
  std::copy(kept.begin(), kept.end(), line.row.text.begin());
}

/// A field behind the first word of a reason would silently be words: a ban for an hour would be one for ever.
void refuse_fields_in(Line& line, std::string_view words) {
  while (!words.empty()) {
    const std::string_view word = take_word(words);
    if (!word.starts_with(kUntil) && !word.starts_with(kFor) && !word.starts_with(kList)) continue;
    line.error = in_quotes(std::string(word.substr(0, 80))) +
                 " stands in the reason; put it before the reason, or begin that with reason= if it belongs there";
    return;
  }
}

/// `text` is not empty and no comment.
Line parse_line(std::string_view text, const ImportDefaults& defaults, std::int64_t now_ms) {
  Line line;
  line.row.list = static_cast<std::uint8_t>(defaults.list);
  set_target(line, take_word(text));
  while (line.error.empty() && !text.empty() && !is_comment(text)) {
    if (text.starts_with(kReason)) {
      set_reason(line, text.substr(kReason.size()));
      break;
    }
    std::string_view rest = text;
    if (!set_field(line, take_word(rest), now_ms)) {
      refuse_fields_in(line, text);
      set_reason(line, text);
      break;
    }
    text = rest;
  }
  if (line.row.until_ms == 0) line.row.until_ms = defaults.until_ms;
  return line;
}

/// Every line that has an entry. `visit` takes its number, the whole of it, and what is in it, and says whether to go
/// on.
template <typename Visit>
void for_each_line(std::string_view text, const Visit& visit) {
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t size = std::min(text.find('\n'), text.size());
    const std::string_view whole = text.substr(0, size);
    text.remove_prefix(std::min(size + 1, text.size()));
    const std::string_view content = trimmed(whole);
    if (content.empty() || is_comment(content)) continue;
    if (!visit(number, whole, content)) return;
  }
}

auto key_of(const ImportRow& row) {
  return std::tie(row.list, row.is_peer, row.subject, row.length);
}

/// Sorts, and leaves of equal ones the last.
void sort_and_thin(ImportEntries& entries) {
  auto& rows = entries.rows;
  std::stable_sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return key_of(a) < key_of(b); });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i + 1 < rows.size() && key_of(rows[i]) == key_of(rows[i + 1])) continue;
    rows[kept++] = rows[i];
  }
  entries.repeated = rows.size() - kept;
  rows.resize(kept);
}

Error refusal(const std::string& name, std::size_t line, const std::string& what) {
  return failure(name + ":" + std::to_string(line) + ": " + what + "; nothing was changed");
}

shm::ListEntry entry_of(const ImportRow& row) {
  const auto list = static_cast<shm::AclList>(row.list);
  return row.is_peer != 0 ? shm::ListEntry::of(list, row.subject)
                          : shm::ListEntry::of(list, Prefix{Address{row.subject}, row.length});
}

/// The bans of sorted rows, to be asked for the one that is over a target.
class Bans {
 public:
  explicit Bans(const std::vector<ImportRow>& rows) : rows_(rows) {
    for (const ImportRow& row : rows) {
      if (row.list != static_cast<std::uint8_t>(ImportList::kBlack)) break;
      if (row.is_peer == 0) lengths_[row.length] = true;
    }
  }

  /// The longest; null when there is none.
  const ImportRow* over(const ImportRow& target) const {
    ImportRow wanted = target;
    wanted.list = static_cast<std::uint8_t>(ImportList::kBlack);
    if (target.is_peer != 0) return find(wanted);
    for (int length = target.length; length >= 0; --length) {
      if (!lengths_[static_cast<std::size_t>(length)]) continue;
      wanted.length = static_cast<std::uint8_t>(length);
      const Prefix wide = prefix_of(Address{target.subject}, wanted.length);
      wanted.subject = wide.address.bytes;
      // The families are apart.
      if (!contains(wide, Address{target.subject})) break;
      if (const ImportRow* found = find(wanted)) return found;
    }
    return nullptr;
  }

 private:
  const ImportRow* find(const ImportRow& wanted) const {
    const auto found = std::lower_bound(rows_.begin(), rows_.end(), wanted,
                                        [](const auto& a, const auto& b) { return key_of(a) < key_of(b); });
    return found != rows_.end() && key_of(*found) == key_of(wanted) ? &*found : nullptr;
  }

  const std::vector<ImportRow>& rows_;
  std::array<bool, kAddressBits + 1> lengths_{};  ///< which lengths of prefixes there are
};

}  // namespace

std::optional<std::int64_t> parse_time(std::string_view text) {
  const auto year = take_number(text, 4);
  if (!year || *year < 1970 || !take(text, '-')) return std::nullopt;
  const auto month = take_number(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  const auto day = take_number(text, 2);
  if (!day || (!take(text, 'T') && !take(text, 't'))) return std::nullopt;
  const auto hour = take_number(text, 2);
  if (!hour || *hour > 23 || !take(text, ':')) return std::nullopt;
  const auto minute = take_number(text, 2);
  if (!minute || *minute > 59 || !take(text, ':')) return std::nullopt;
  const auto second = take_number(text, 2);
  // 60: a leap second.
  if (!second || *second > 60) return std::nullopt;
  const auto milliseconds = take_milliseconds(text);
  if (!milliseconds) return std::nullopt;
  const auto offset = take_offset(text);
  const std::chrono::year_month_day date{std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!offset || !date.ok()) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch();
  const auto time = std::chrono::milliseconds(days) + std::chrono::hours(*hour) +
                    std::chrono::minutes(*minute - *offset) + std::chrono::seconds(*second) +
                    std::chrono::milliseconds(*milliseconds);
  return time.count() < 0 ? std::nullopt : std::optional<std::int64_t>(time.count());
}

Result<ImportEntries> parse_import(std::string_view text, const std::string& name, const ImportDefaults& defaults,
                                   std::int64_t now_ms) {
  ImportEntries entries;
  Result<void> taken;
  for_each_line(text, [&](std::size_t number, std::string_view whole, std::string_view content) {
    const auto refused = [&](const std::string& what) {
      taken = refusal(name, number, what);
      return false;
    };
    if (whole.size() > kMaximumImportLine) {
      return refused("the line has " + std::to_string(whole.size()) + " bytes; at most " +
                     std::to_string(kMaximumImportLine));
    }
    const Line line = parse_line(content, defaults, now_ms);
    if (!line.error.empty()) return refused(line.error);
    if (shm::is_over(line.row.until_ms, now_ms)) {
      ++entries.over;
      return true;
    }
    if (entries.rows.size() == schema::kMaximumImport) {
      return refused("more than " + std::to_string(schema::kMaximumImport) + " entries, the most of one import");
    }
    entries.shortened += line.shortened ? 1 : 0;
    entries.rows.push_back(line.row);
    return true;
  });
  if (!taken) return taken.error();
  sort_and_thin(entries);
  return entries;
}

Result<void> check_trust(const ImportEntries& entries, std::string_view text, const std::string& name,
                         const ImportDefaults& defaults, std::int64_t now_ms, const StandingBan& standing) {
  const auto line_of = [&](const ImportRow& row) {
    std::size_t found = 0;
    for_each_line(text, [&](std::size_t number, std::string_view, std::string_view content) {
      const Line line = parse_line(content, defaults, now_ms);
      // Of lines with one target the last one counts.
      if (!shm::is_over(line.row.until_ms, now_ms) && key_of(line.row) == key_of(row)) found = number;
      return true;
    });
    return found;
  };
  const Bans bans(entries.rows);
  for (const ImportRow& row : entries.rows) {
    if (row.list != static_cast<std::uint8_t>(ImportList::kWhite)) continue;
    const auto stands = standing(row);
    const ImportRow* ban = stands ? nullptr : bans.over(row);
    if (!stands && ban == nullptr) continue;
    const std::string useless = target_text(entry_of(row)) + " cannot be trusted while ";
    const std::string by = stands ? target_text(*stands) + " is banned"
                                  : "line " + std::to_string(line_of(*ban)) + " bans " + target_text(entry_of(*ban));
    const char* unban = stands && stands->is_peer ? ": `bulkhead unban peer " : ": `bulkhead unban address ";
    return refusal(name, line_of(row), useless + by + (stands ? unban + target_text(*stands) + "` first" : ""));
  }
  return {};
}

std::string export_line(const shm::ListEntry& entry, const std::optional<shm::ListEntry>& ban) {
  std::string line = ban ? "# without effect while " + target_text(*ban) + " is banned: " : "";
  line += target_text(entry);
  if (entry.until_ms != 0) line += " until=" + time_text(entry.until_ms);
  if (entry.list == shm::AclList::kWhite) line += " list=white";
  if (!entry.words().empty()) line += " reason=" + std::string(entry.words());
  return line + "\n";
}

ShownJson export_json(const shm::ListEntry& entry, const std::optional<shm::ListEntry>& ban) {
  ShownJson json = listed_json(entry);
  if (ban) json["without_effect_under"] = target_text(*ban);
  return json;
}

}  // namespace bulkhead::cli
