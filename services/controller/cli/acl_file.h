#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "schema/import_row.h"
#include "services/controller/cli/views.h"
#include "shm/lists.h"

/// Lists as text, one entry a line:
///
///     PREFIX|PEER_ID [until=RFC3339 | for=DURATION] [list=black|white] [reason, to the end of the line]
///
/// A reason may also begin with "reason=", and has to if its first word would be taken for something else: "WORD=", or
/// a comment. '#' or ';' where a
/// field or the reason would begin starts a comment. Line ends may be LF or CRLF, and a byte order mark may come first.
/// Pure; reads no clock.
namespace bulkhead::cli {

inline constexpr std::size_t kMaximumImportLine = 1024;
inline constexpr std::size_t kMaximumImportFile = std::size_t{1} << 29;

/// Milliseconds of the Unix epoch from "2030-01-01T00:00:00Z", with or without a fraction of a second, in UTC or with
/// an offset ("+01:00"). Years 1970 to 9999.
std::optional<std::int64_t> parse_time(std::string_view text);

struct ImportEntries {
  std::vector<schema::ImportRow> rows;  ///< in the order of list, kind, target, length; each target of a list once
  std::size_t repeated = 0;             ///< left out: a later line has the same list and target
  std::size_t over = 0;                 ///< left out: ended already
  std::size_t shortened = 0;            ///< reasons that were cut to kMaximumAclText
};

/// For lines that say nothing else.
struct ImportDefaults {
  schema::ImportList list = schema::ImportList::kBlack;
  std::int64_t until_ms = 0;  ///< 0: for ever
};

/// `name` stands in messages: "NAME:LINE: what is wrong". kRefused: a line is not as above, or there are more than
/// kMaximumImport.
Result<ImportEntries> parse_import(std::string_view text, const std::string& name, const ImportDefaults& defaults,
                                   std::int64_t now_ms);

/// The ban that stands and is over the target of this row, if there is one.
using StandingBan = std::function<std::optional<shm::ListEntry>(const schema::ImportRow&)>;

/// Whether everything that the entries of parse_import(), with the same arguments, trust can be trusted. kRefused: a
/// ban that stands, or that is among the entries, makes a line useless; both are named.
Result<void> check_trust(const ImportEntries& entries, std::string_view text, const std::string& name,
                         const ImportDefaults& defaults, std::int64_t now_ms, const StandingBan& standing);

/// The line that parse_import() reads as this entry, with its line end. `ban`: what makes the entry useless; the line
/// is a comment then, so that the whole can be imported again.
std::string export_line(const shm::ListEntry& entry, const std::optional<shm::ListEntry>& ban = std::nullopt);
/// The same for programs, to be read and not to be imported: {"list", ...} and the fields of entry_json(), and
/// "without_effect_under" with the ban's target if there is one.
ShownJson export_json(const shm::ListEntry& entry, const std::optional<shm::ListEntry>& ban = std::nullopt);

}  // namespace bulkhead::cli
