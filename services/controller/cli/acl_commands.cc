#include "services/controller/cli/acl_commands.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>
#include <optional>

#include "services/controller/cli/acl_file.h"
#include "services/controller/cli/acl_view.h"
#include "services/controller/cli/control_client.h"
#include "services/controller/cli/node_tables.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"

namespace bulkhead::cli {
namespace {

using shm::AclList;
using shm::ListEntry;

constexpr int kDone = 0;
/// A change is answered when the disk has it; a list that is emptied, or filled from a file, may have a million rows.
constexpr auto kChangeWait = std::chrono::milliseconds(10'000);
constexpr auto kBulkWait = std::chrono::milliseconds(60'000);
constexpr std::size_t kPiece = 64 * 1024;

template <typename Request>
int change(const Arguments& arguments) {
  Request request;
  request.subject = arguments.subject;
  if constexpr (requires { request.duration_s; }) {
    request.duration_s = arguments.duration_s;
    request.text = arguments.reason;
  }
  if constexpr (requires { request.port; }) request.port = arguments.port;
  return report(arguments, ask_controller(arguments.data_dir, request, kChangeWait));
}

std::string one_line(const ShownJson& json) {
  return json.dump(-1, ' ', false, ShownJson::error_handler_t::replace);
}

/// The list as elements of a JSON array, one a line. False: nobody reads.
bool write_entries(PieceWriter& out, const shm::ListsTable& lists, AclList list, std::int64_t now_ms) {
  bool first = true;
  bool taken = out.add("[");
  lists.for_each(now_ms, [&](const ListEntry& entry) {
    if (entry.list != list) return true;
    taken = out.add(first ? "\n  " : ",\n  ") && out.add(one_line(entry_json(entry)));
    first = false;
    return taken;
  });
  return taken && out.add(first ? "]" : "\n]");
}

void write_acl_json(const shm::ListsTable& lists) {
  const std::int64_t now = wall_now_ms();
  PieceWriter out(STDOUT_FILENO);
  const char* before = "{";
  for (const AclList list : {AclList::kBlack, AclList::kGrey, AclList::kWhite}) {
    if (!out.add(before) || !out.add(std::string("\"") + list_title(list) + "\": ")) return;
    if (!write_entries(out, lists, list, now)) return;
    before = ",\n";
  }
  if (out.add("}\n")) out.flush();
}

/// `none`: what to tell people when there is nothing, on standard error.
void write_lines(const shm::ListsTable& lists, std::initializer_list<AclList> wanted, const char* none) {
  const std::int64_t now = wall_now_ms();
  PieceWriter out(STDOUT_FILENO);
  bool any = false;
  for (const AclList list : wanted) {
    bool taken = true;
    lists.for_each(now, [&](const ListEntry& entry) {
      if (entry.list != list) return true;
      any = true;
      taken = out.add(entry_line(entry));
      return taken;
    });
    if (!taken) return;
  }
  out.flush();
  if (!any) complain(none);
}

// ---- import and export

Result<std::string> read_all(const std::string& path) {
  const bool standard_input = path == "-";
  const std::string name = standard_input ? "standard input" : in_quotes(path);
  UniqueFd file;
  if (!standard_input) {
    file.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return failure(system_error(name + " cannot be read").text);
  }
  const int fd = standard_input ? STDIN_FILENO : file.get();
  std::string text;
  std::string piece(kPiece, '\0');
  for (;;) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(system_error(name + " cannot be read").text);
    if (got == 0) return text;
    text.append(piece, 0, static_cast<std::size_t>(got));
    if (text.size() > kMaximumImportFile) {
      return failure(name + " has more than " + std::to_string(kMaximumImportFile >> 20) + " MiB; import it in parts");
    }
  }
}

/// The rows as the controller takes them: in memory that nobody can change any more, to be read from its beginning.
Result<UniqueFd> sealed_rows(const std::vector<schema::ImportRow>& rows) {
  UniqueFd file(::memfd_create("import", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return failure(system_error("no memory for the entries").text);
  const std::string_view bytes(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(schema::ImportRow));
  if (!write_all(file.get(), bytes)) return failure(system_error("no memory for the entries").text);
  if (::lseek(file.get(), 0, SEEK_SET) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return failure(system_error("the entries cannot be sealed").text);
  }
  return file;
}

void tell_left_out(const ImportEntries& entries) {
  const auto tell = [](std::size_t count, const char* what) {
    if (count > 0) complain(std::to_string(count) + what);
  };
  tell(entries.repeated, " left out: a later line has the same target");
  tell(entries.over, " left out: over already");
  tell(entries.shortened, entries.shortened == 1 ? " reason shortened to 47 bytes" : " reasons shortened to 47 bytes");
}

Result<schema::ControlAnswer> import_entries(const Arguments& arguments, const ImportEntries& entries) {
  if (entries.rows.empty()) return schema::ControlAnswer{.ok = true, .text = "0 entries imported"};
  auto rows = sealed_rows(entries.rows);
  if (!rows) return rows.error();
  schema::ControlImport request;
  request.entries = static_cast<std::uint32_t>(entries.rows.size());
  const int descriptor = rows->get();
  int seconds = 0;
  const auto waiting = [&] {
    complain("importing " + std::to_string(entries.rows.size()) + " entries, " + std::to_string(++seconds) + " s");
  };
  return ask_controller(arguments.data_dir, request, kBulkWait, std::span(&descriptor, 1), waiting);
}

/// The ban that stands and is over this prefix or peer, if there is one.
std::optional<ListEntry> standing_ban(const shm::ListsTable& lists, const Prefix& prefix, std::int64_t now_ms) {
  const auto bans = lists.covering(AclList::kBlack, prefix, now_ms);
  return bans.empty() ? std::nullopt : std::optional(bans.front());
}
std::optional<ListEntry> standing_ban(const shm::ListsTable& lists, const PeerId& peer, std::int64_t now_ms) {
  return lists.find(AclList::kBlack, peer, now_ms);
}

/// Trust that would be without effect is refused here, where lines have numbers; the controller looks again.
Result<void> refuse_useless_trust(const Arguments& arguments, const ImportEntries& entries, const std::string& text,
                                  const std::string& name, const ImportDefaults& defaults, std::int64_t now_ms) {
  // Before anything else, so that an empty list too tells that no node runs.
  const auto node = open_node(arguments.data_dir);
  if (!node) return node.error();
  return check_trust(entries, text, name, defaults, now_ms, [&](const schema::ImportRow& row) {
    const shm::ListsTable& lists = *node->tables.lists;
    return row.is_peer != 0 ? standing_ban(lists, PeerId(row.subject), now_ms)
                            : standing_ban(lists, Prefix{Address{row.subject}, row.length}, now_ms);
  });
}

bool write_export(int fd, const shm::ListsTable& lists, bool json) {
  PieceWriter out(fd);
  bool taken = true;
  bool first = true;
  const std::int64_t now = wall_now_ms();
  lists.for_each(now, [&](const ListEntry& entry) {
    if (entry.list == AclList::kGrey) return true;
    std::optional<ListEntry> ban;
    if (entry.list == AclList::kWhite)
      ban = entry.is_peer ? standing_ban(lists, entry.peer, now) : standing_ban(lists, entry.prefix, now);
    taken = json ? out.add(first ? "[\n  " : ",\n  ") && out.add(one_line(export_json(entry, ban)))
                 : out.add(export_line(entry, ban));
    first = false;
    return taken;
  });
  if (taken && json) taken = out.add(first ? "[]\n" : "\n]\n");
  return taken && out.flush();
}

/// Replaces `path` at one blow: who reads it meanwhile sees the old file or the new one.
Result<void> export_to(const std::string& path, const shm::ListsTable& lists, bool json) {
  const std::string beside = path + ".part";
  UniqueFd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640));
  const auto wrong = [&] { return failure(system_error(in_quotes(path) + " cannot be written").text); };
  if (!file) return wrong();
  if (!write_export(file.get(), lists, json) || ::fsync(file.get()) != 0 ||
      ::rename(beside.c_str(), path.c_str()) != 0) {
    const Error error = wrong();
    ::unlink(beside.c_str());
    return error;
  }
  return {};
}

}  // namespace

int run_ban(const Arguments& arguments) {
  return change<schema::ControlBan>(arguments);
}

int run_unban(const Arguments& arguments) {
  return change<schema::ControlUnban>(arguments);
}

int run_trust(const Arguments& arguments) {
  return change<schema::ControlTrust>(arguments);
}

int run_untrust(const Arguments& arguments) {
  return change<schema::ControlUntrust>(arguments);
}

int run_clear_acls(const Arguments& arguments) {
  const auto answer = ask_controller(arguments.data_dir, schema::ControlClearAcls{}, kBulkWait);
  if (!answer) return fail(answer.error());
  return report(arguments, answer, {{"bans", answer->bans}, {"greylistings", answer->greylistings}});
}

int run_greylist_clear(const Arguments& arguments) {
  const auto answer = ask_controller(arguments.data_dir, schema::ControlClearGreylist{}, kBulkWait);
  if (!answer) return fail(answer.error());
  return report(arguments, answer, {{"greylistings", answer->greylistings}});
}

int run_is_banned(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  const std::int64_t now = wall_now_ms();
  const auto& subject = arguments.subject;
  const auto matches = matches_of(*node->tables.lists, subject, now);
  ShownJson json = banned_json(matches);
  std::string answer = is_refused(matches) ? "yes: " : "no: ";
  const bool is_prefix = !subject.peer_id && !is_single(subject.prefix);
  const std::string name = to_text(subject.prefix);
  if (is_prefix) answer += matches.empty() ? name + " as a whole is " : "all of " + name + " is ";
  answer += standing_text(matches);
  if (is_prefix) {
    const std::size_t within = refusals_within(*node->tables.lists, subject.prefix, now);
    json["refusals_within"] = within;
    if (within > 0 && !is_refused(matches)) answer += "; " + within_text(within) + ", see `bulkhead acl`";
  }
  print(arguments.json ? json_text(json) : answer + "\n");
  return kDone;
}

int run_acl(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  if (arguments.json) {
    write_acl_json(*node->tables.lists);
  } else {
    write_lines(*node->tables.lists, {AclList::kBlack, AclList::kGrey, AclList::kWhite},
                "nobody is banned, greylisted or trusted");
  }
  return kDone;
}

int run_greylist(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  if (arguments.json) {
    PieceWriter out(STDOUT_FILENO);
    if (write_entries(out, *node->tables.lists, AclList::kGrey, wall_now_ms()) && out.add("\n")) out.flush();
  } else {
    write_lines(*node->tables.lists, {AclList::kGrey}, "nobody is greylisted");
  }
  return kDone;
}

int run_acl_import(const Arguments& arguments) {
  const auto text = read_all(arguments.file);
  if (!text) return fail(text.error());
  const std::int64_t now = wall_now_ms();
  ImportDefaults defaults;
  if (arguments.white) defaults.list = schema::ImportList::kWhite;
  if (arguments.duration_s != 0) defaults.until_ms = now + std::int64_t{arguments.duration_s} * 1000;
  const std::string name = arguments.file == "-" ? "standard input" : arguments.file;
  const auto entries = parse_import(*text, name, defaults, now);
  if (!entries) return fail(entries.error());
  const auto has_effect = refuse_useless_trust(arguments, *entries, *text, name, defaults, now);
  if (!has_effect) return fail(has_effect.error());
  tell_left_out(*entries);
  const auto answer = import_entries(arguments, *entries);
  if (!answer) return fail(answer.error());
  // What was left out is told on standard error as well.
  return report(arguments, answer,
                {{"entries", answer->entries},
                 {"repeated", entries->repeated},
                 {"over", entries->over},
                 {"reasons_shortened", entries->shortened}});
}

int run_acl_export(const Arguments& arguments) {
  const auto node = open_node(arguments.data_dir);
  if (!node) return fail(node.error());
  if (arguments.file.empty() || arguments.file == "-") {
    write_export(STDOUT_FILENO, *node->tables.lists, arguments.json);
    return kDone;
  }
  const auto written = export_to(arguments.file, *node->tables.lists, arguments.json);
  return written ? kDone : fail(written.error());
}

}  // namespace bulkhead::cli
