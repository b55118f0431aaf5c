#include "services/controller/cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <functional>
#include <memory>

#include "base/address.h"
#include "base/duration.h"
#include "base/prefix.h"
#include "services/controller/cli/fault/harm.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/version.h"
#include "wire/message.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

constexpr std::uint16_t kDefaultPort = 9732;
constexpr double kLongestWait = 365.0 * 86400;

/// Texts as CLI11 collects them; they are converted here, so that every message has the same form.
struct Raw {
  std::string data_dir;
  bool json = false;
  bool follow = false;
  bool keep = false;
  std::string sandbox;
  std::vector<std::string> wait, tag, count, timeout, filters;
  bool scratch = false;
  std::vector<std::string> kills, peers, seed, faults, roles;
  std::string difficulty, address, peer, body, file, list;
  std::vector<std::string> duration, reason;
  std::optional<std::string> subject_address, subject_peer, subject;
  std::map<std::string, std::vector<std::string>, std::less<>> settings;
  std::map<std::string, bool, std::less<>> flags;
};

/// A command's place in the tree.
struct Entry {
  CLI::App* app = nullptr;
  Command command = Command::kStatus;
};

struct LaterCommand {
  const char* words;
  const char* what;
};
/// Commands of the interface that come with later versions, by their words.
constexpr LaterCommand kLaterCommands[] = {
    {"top", "the live view"},
};

class Tree {
 public:
  explicit Tree(Raw& raw) : raw_(raw), root_("A Tezos P2P node whose peers are compartments of their own", "bulkhead") {
    root_.set_version_flag("--version", version_text(), "Show the version and exit");
    root_.set_help_flag("--help,-h", "Show this help and exit");
    root_.require_subcommand(1);
    root_.footer(
        "Examples:\n  bulkhead run --data-dir /tmp/a --net-addr 127.0.0.1:9732 --expected-pow 8\n"
        "  bulkhead status --data-dir /tmp/a\n  bulkhead COMMAND --help");
    common(root_);
    add_run();
    add_tables();
    add_identity();
    add_config();
    add_control();
    add_lists();
    add_messages();
    add_fault();
    add_later();
  }

  CLI::App& root() { return root_; }

  /// The command that was named, deepest first.
  std::optional<Command> chosen() const {
    for (const Entry& entry : entries_) {
      if (entry.app->parsed()) return entry.command;
    }
    return std::nullopt;
  }

  const LaterCommand* later() const {
    for (const auto& [app, command] : later_) {
      if (app->parsed()) return command;
    }
    return nullptr;
  }

  /// The innermost command that was reached.
  const CLI::App& deepest() const {
    const CLI::App* app = &root_;
    while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
    return *app;
  }

  /// "bulkhead identity generate": what to ask for help with.
  std::string path() const {
    std::string text;
    for (const CLI::App* app = &deepest(); app != nullptr; app = app->get_parent()) {
      text = app->get_name() + (text.empty() ? "" : " " + text);
    }
    return text;
  }

 private:
  void common(CLI::App& app) {
    app.add_option("--data-dir,-d", raw_.data_dir,
                   "Directory of the node (default: $BULKHEAD_DATA_DIR, else /var/lib/bulkhead for root, else "
                   "$XDG_STATE_HOME/bulkhead)")
        ->option_text("DIR");
    app.add_flag("--json", raw_.json, "Print JSON on standard output, and nothing else there")->disable_flag_override();
  }

  CLI::App& leaf(CLI::App& parent, Command command, const char* name, const char* description, const char* example) {
    CLI::App* app = parent.add_subcommand(name, description);
    common(*app);
    app->footer(std::string("Example:\n  ") + example);
    entries_.push_back(Entry{app, command});
    return *app;
  }

  CLI::App& group(const char* name, const char* description, const char* example) {
    CLI::App* app = root_.add_subcommand(name, description);
    app->require_subcommand(1);
    app->footer(std::string("Example:\n  ") + example);
    common(*app);
    return *app;
  }

  /// CLI11 would take "[::1]" for a list of its own otherwise, and several words behind one option.
  static CLI::Option* single(CLI::Option* option) {
    return option->allow_extra_args(false)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }

  void texts(CLI::App& app, const std::string& name, std::vector<std::string>& target, const std::string& description,
             const std::string& value_name) {
    single(app.add_option(name, target, description))->option_text(value_name);
  }

  void setting_options(CLI::App& app) {
    for (const SettingInfo& info : all_settings()) {
      if (!info.option) continue;
      const std::string name(info.name);
      CLI::Option* option = nullptr;
      if (info.kind == SettingKind::kFlag) {
        option = app.add_flag("--" + name, raw_.flags[name], std::string(info.description))->disable_flag_override();
      } else {
        option = single(app.add_option("--" + name, raw_.settings[name], std::string(info.description)))
                     ->option_text(std::string(info.value_name));
      }
      // Options of later versions are known, to be refused by name, and not offered.
      option->group(info.use == SettingUse::kLater ? "" : "Settings");
    }
  }

  void add_run() {
    setting_options(
        leaf(root_, Command::kRun, "run", "Start a node in the foreground; stops in order on SIGINT and SIGTERM",
             "bulkhead run --data-dir /tmp/a --net-addr 127.0.0.1:9732 --peer 127.0.0.2:9732 --expected-pow 8"));
  }

  void add_tables() {
    auto& status = leaf(root_, Command::kStatus, "status", "Show the node at a glance", "bulkhead status --wait 10");
    texts(status, "--wait", raw_.wait, "Return as soon as the node is ready, or with status 3 after that many seconds",
          "S");
    leaf(root_, Command::kConnections, "connections", "List the running connections", "bulkhead connections --json");
    CLI::App& peers = showing_group("peers", "List the known peers", "bulkhead peers --filter running");
    leaf(peers, Command::kPeersLog, "log", "Show what happened to a peer, at most the last 100 events",
         "bulkhead peers log idrdoT9g6YwELhUQyshCcHwAzBS9zA")
        .add_option("PEER", raw_.peer, "Peer id")
        ->required();
    leaf(peers, Command::kPeersExport, "export", "Write the known peers as octez-node does in peers.json",
         "bulkhead peers export peers.json")
        .add_option("FILE", raw_.file, "The file, replaced if it is there (default: standard output)");
    entries_.push_back(Entry{&peers, Command::kPeers});
    texts(peers, "--filter", raw_.filters, "Only these: accepted, running or disconnected; repeatable", "STATE");
    CLI::App& points = showing_group("points", "List the known points", "bulkhead points --filter disconnected");
    leaf(points, Command::kPointsLog, "log", "Show what happened to a point, at most the last 100 events",
         "bulkhead points log 127.0.0.2:9732")
        .add_option("ADDRESS", raw_.address, "IPv4 or IPv6 address, with a port or the default 9732")
        ->required();
    entries_.push_back(Entry{&points, Command::kPoints});
    texts(points, "--filter", raw_.filters, "Only these: requested, accepted, running or disconnected; repeatable",
          "STATE");
    auto& events = leaf(root_, Command::kEvents, "events", "Show connections, refusals and closures with their reasons",
                        "bulkhead events --follow --json");
    events.add_flag("--follow,-f", raw_.follow, "Go on with what happens, until the node ends")
        ->disable_flag_override();
    leaf(root_, Command::kSandbox, "sandbox", "Show what confines each process, read from the kernel",
         "bulkhead sandbox --json");
    auto& p2p = group("p2p", "The network at a glance", "bulkhead p2p stat");
    leaf(p2p, Command::kP2pStat, "stat", "Show traffic, connections, known peers and known points",
         "bulkhead p2p stat");
  }

  void add_identity() {
    auto& identity = group("identity", "Make, show or check identity.json", "bulkhead identity generate 26");
    auto& generate = leaf(identity, Command::kIdentityGenerate, "generate", "Make identity.json, never replacing one",
                          "bulkhead identity generate 26 --data-dir /tmp/a");
    leaf(identity, Command::kIdentityShow, "show", "Show peer id and public key", "bulkhead identity show --json");
    auto& check =
        leaf(identity, Command::kIdentityCheck, "check", "Check keys and proof of work", "bulkhead identity check 26");
    for (CLI::App* app : {&generate, &check}) {
      app->add_option("DIFFICULTY", raw_.difficulty,
                      "Bits of proof of work (default: expected-pow of the configuration)");
      texts(*app, "--expected-pow", raw_.settings["expected-pow"], "The same", "BITS");
    }
  }

  void add_config() {
    auto& config = group("config", "Write, show or check config.json", "bulkhead config show");
    setting_options(leaf(config, Command::kConfigInit, "init",
                         "Write config.json from the options given, never replacing one",
                         "bulkhead config init --net-addr 127.0.0.1:9732 --connections 20"));
    setting_options(leaf(config, Command::kConfigShow, "show", "Show every setting with its value and origin",
                         "bulkhead config show --json"));
    setting_options(leaf(config, Command::kConfigValidate, "validate",
                         "Check config.json, options with it, and peers.json if there is one",
                         "bulkhead config validate"));
  }

  void add_control() {
    auto& connect = group("connect", "Connect to an address", "bulkhead connect address 127.0.0.2:9732");
    auto& address = leaf(connect, Command::kConnectAddress, "address", "Dial now, whatever the back-off",
                         "bulkhead connect address 127.0.0.2:9732");
    address.add_option("ADDRESS", raw_.address, "IPv4 or IPv6 address, with a port or the default 9732")->required();
    auto& kick = group("kick", "Close a peer's connection", "bulkhead kick peer idrdoT9g6YwELhUQyshCcHwAzBS9zA");
    auto& peer = leaf(kick, Command::kKickPeer, "peer", "Close the connection of a peer",
                      "bulkhead kick peer idrdoT9g6YwELhUQyshCcHwAzBS9zA");
    peer.add_option("PEER", raw_.peer, "Peer id")->required();
    auto& maintain = leaf(root_, Command::kMaintain, "maintain",
                          "Have the number of connections brought into its bounds now, and wait until that is done",
                          "bulkhead maintain --timeout 10");
    texts(maintain, "--timeout", raw_.timeout, "Wait that many seconds at most (default 60); then status 1", "S");
  }

  /// "ban address", "ban peer" and their like.
  std::array<CLI::App*, 2> subject_commands(Command command, const std::string& verb, const char* description,
                                            const char* address_example) {
    const std::string on_address = "bulkhead " + verb + " address " + address_example;
    const std::string on_peer = "bulkhead " + verb + " peer idrdoT9g6YwELhUQyshCcHwAzBS9zA";
    auto& parent = group(verb.c_str(), description, on_address.c_str());
    auto& address = leaf(parent, command, "address", description, on_address.c_str());
    address
        .add_option("ADDRESS", raw_.subject_address,
                    "An address (a port is ignored where it has no meaning) or a prefix: 192.0.2.7, 10.0.0.0/8, "
                    "2001:db8::/48")
        ->required();
    auto& peer = leaf(parent, command, "peer", description, on_peer.c_str());
    peer.add_option("PEER", raw_.subject_peer, "Peer id")->required();
    return {&address, &peer};
  }

  void add_lists() {
    for (CLI::App* app : subject_commands(Command::kBan, "ban", "Refuse an address, a prefix or a peer, from now on",
                                          "10.0.0.0/8 --for 24h --reason 'port scans'")) {
      entry_options(*app);
    }
    subject_commands(Command::kUnban, "unban", "Lift a ban, and greylistings of the same", "10.0.0.0/8");
    for (CLI::App* app : subject_commands(Command::kTrust, "trust",
                                          "Trust an address, a prefix or a peer: never greylisted, never crowded out",
                                          "192.0.2.7:9732")) {
      entry_options(*app);
    }
    subject_commands(Command::kUntrust, "untrust", "End the trust in an address, a prefix or a peer", "192.0.2.7");

    auto& is = group("is", "Ask whether an address or a peer is refused", "bulkhead is address banned 192.0.2.7");
    const auto question = [&](const char* name, const char* example) -> CLI::App& {
      CLI::App* parent = is.add_subcommand(name, "Ask about one");
      parent->require_subcommand(1);
      common(*parent);
      return leaf(*parent, Command::kIsBanned, "banned", "Say whether it is banned or greylisted, and why", example);
    };
    question("address", "bulkhead is address banned 192.0.2.7")
        .add_option("ADDRESS", raw_.subject_address,
                    "An address (a port is ignored) or a prefix, which is banned when one ban covers all of it")
        ->required();
    question("peer", "bulkhead is peer banned idrdoT9g6YwELhUQyshCcHwAzBS9zA --json")
        .add_option("PEER", raw_.subject_peer, "Peer id")
        ->required();

    CLI::App& acl = showing_group("acl", "Show what is in the lists, why and until when", "bulkhead acl --json");
    auto& import =
        leaf(acl, Command::kAclImport, "import", "Add entries from a file, all or none",
             "bulkhead acl import banned.txt\n\nA line: PREFIX|PEER [until=TIME | for=DURATION] "
             "[list=black|white] [[reason=]words to the end of the line]\n  10.0.0.0/8\n  2001:db8::/48 for=30d abuse "
             "feed\n  192.0.2.7 "
             "until=2030-01-01T00:00:00Z reason=port=22 scanned\nA reason whose first word looks like a field, as "
             "here, needs reason=. Empty lines are left out, and what follows '#' or ';' at the beginning of a "
             "line, of a field or of the reason;\nwithin a reason these characters belong to it.");
    import.add_option("FILE", raw_.file, "The file; - for standard input")->required();
    texts(import, "--for", raw_.duration,
          "Lines that name no end end after this time: 90s, 15m, 24h, 7d, 2w; a number alone is seconds", "DURATION");
    import.add_option("--list", raw_.list, "The list for lines that name none: black (the default) or white")
        ->check(CLI::IsMember({"black", "white"}));
    auto& export_ = leaf(acl, Command::kAclExport, "export", "Write bans and trust as 'acl import' reads them",
                         "bulkhead acl export | ssh other bulkhead acl import -");
    export_.add_option("FILE", raw_.file, "The file, replaced if it is there (default: standard output)");
    export_.footer(
        "Example:\n  bulkhead acl export | ssh other bulkhead acl import -\n\nWith --json a list of the entries, to be "
        "read by programs and not by 'acl import'.");
    entries_.push_back(Entry{&acl, Command::kAcl});

    CLI::App& greylist =
        showing_group("greylist", "Show what the node itself refuses for a while", "bulkhead greylist --json");
    leaf(greylist, Command::kGreylistClear, "clear", "Lift every greylisting; bans stay", "bulkhead greylist clear");
    entries_.push_back(Entry{&greylist, Command::kGreylist});

    leaf(root_, Command::kWhy, "why", "Tell what the node knows about an address or a peer, and what happens to it now",
         "bulkhead why 192.0.2.7")
        .add_option("SUBJECT", raw_.subject, "An address, with or without a port, a prefix or a peer id")
        ->required();

    auto& clear = group("clear", "Empty the lists", "bulkhead clear acls");
    leaf(clear, Command::kClearAcls, "acls", "Lift every ban and every greylisting; trust stays",
         "bulkhead clear acls");
  }

  /// A command of its own that has others below it. Its entry follows theirs: the deepest one is what was asked for.
  CLI::App& showing_group(const char* name, const char* description, const char* example) {
    CLI::App& app = group(name, description, example);
    app.require_subcommand(0, 1);
    return app;
  }

  void entry_options(CLI::App& app) {
    texts(app, "--for", raw_.duration,
          "It ends by itself after this time: 90s, 15m, 24h, 7d, 2w; a number alone is seconds", "DURATION");
    texts(app, "--reason", raw_.reason, "Words that the lists show, at most 47 bytes", "TEXT");
  }

  void add_messages() {
    auto& send = leaf(root_, Command::kSend, "send", "Send one application message to a peer",
                      "bulkhead send idrdoT9g6YwELhUQyshCcHwAzBS9zA 48656c6c6f --tag 0x11");
    send.add_option("PEER", raw_.peer, "Peer id")->required();
    auto& broadcast = leaf(root_, Command::kBroadcast, "broadcast", "Send one application message to every connection",
                           "bulkhead broadcast 48656c6c6f");
    for (CLI::App* app : {&send, &broadcast}) {
      app->add_option("BODY", raw_.body, "The message in hex, or - for raw bytes from standard input")->required();
      texts(*app, "--tag", raw_.tag, "Tag of the message, 0x10 to 0xffff (default 0x10)", "N");
    }
    auto& listen =
        leaf(root_, Command::kListen, "listen", "Receive as the application and print what happens, a line each",
             "bulkhead listen --json --count 1 --timeout 10");
    texts(listen, "--count", raw_.count, "End after that many messages", "N");
    texts(listen, "--timeout", raw_.timeout, "End after that many seconds; with --count this is a failure", "S");
    auto& demo = leaf(root_, Command::kDemo, "demo",
                      "Three nodes on loopback that find each other, talk and lose a worker", "bulkhead demo");
    demo.add_flag("--keep", raw_.keep, "Leave the nodes' directories behind")->disable_flag_override();
    demo.add_option("--require-sandbox", raw_.sandbox, "How the nodes are confined: strict, default or off")
        ->check(CLI::IsMember({"strict", "default", "off"}));
  }

  void add_fault() {
    auto& fault = leaf(root_, Command::kFault, "fault",
                       "Strike the processes of a node of its own while peers talk over it, and see what is lost",
                       "bulkhead fault --scratch --kills 200 --peers 8 --roles worker,controller");
    fault.add_flag("--scratch", raw_.scratch, "Yes, on a scratch directory; without it nothing is done")
        ->disable_flag_override();
    texts(fault, "--kills", raw_.kills, "How many strikes (default 100)", "N");
    texts(fault, "--peers", raw_.peers, "How many peers, 2 to 128 (default 16)", "N");
    texts(fault, "--seed", raw_.seed, "The choice of an earlier run (default: a new one, which is told)", "S");
    texts(fault, "--faults", raw_.faults,
          "Only these: kill, segv, abort, stop, hang, spin, memory, descriptors, channel, ring, page", "LIST");
    texts(fault, "--roles", raw_.roles,
          "Only these: worker, acceptor, maintainer, nursery, keyholder, controller, application", "LIST");
    fault.add_flag("--keep", raw_.keep, "Leave the node's directory behind")->disable_flag_override();
    fault.add_option("--require-sandbox", raw_.sandbox, "How the node is confined: strict, default or off")
        ->check(CLI::IsMember({"strict", "default", "off"}));
  }

  void add_later() {
    for (const LaterCommand& command : kLaterCommands) {
      CLI::App* app = root_.add_subcommand(command.words, "")->group("");
      app->prefix_command();
      app->set_help_flag();
      later_.emplace_back(app, &command);
    }
  }

  Raw& raw_;
  CLI::App root_;
  std::vector<Entry> entries_;
  std::vector<std::pair<CLI::App*, const LaterCommand*>> later_;
};

Ending usage(const std::string& text) {
  return Ending{ProgramExit::kUsage, text};
}

std::optional<std::string> wrong_seconds(const char* name, const std::vector<std::string>& texts,
                                         std::optional<double>& out) {
  if (texts.empty()) return std::nullopt;
  if (texts.size() > 1) return std::string(name) + ": given " + std::to_string(texts.size()) + " times; give it once";
  out = parse_number(texts.front());
  if (out && *out >= 0 && *out <= kLongestWait) return std::nullopt;
  return std::string(name) + ": " + in_quotes(texts.front()) + " is not a number of seconds";
}

std::optional<std::uint64_t> parse_tag(const std::string& text) {
  if (text.starts_with("0x") || text.starts_with("0X")) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data() + 2, text.data() + text.size(), value, 16);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
  }
  return parse_integer(text);
}

std::optional<std::vector<std::uint8_t>> parse_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::vector<std::uint8_t> bytes;
  bytes.reserve(text.size() / 2);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]);
    const int low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    bytes.push_back(static_cast<std::uint8_t>(high * 16 + low));
  }
  return bytes;
}

std::optional<std::string> wrong_address(const std::string& text, Point& point) {
  const auto parsed = parse_point(text, kDefaultPort);
  if (parsed && parsed->port != 0 && !is_unspecified(parsed->address)) {
    point = *parsed;
    return std::nullopt;
  }
  if (text.find('/') != std::string::npos)
    return in_quotes(text) + " is a prefix; name one address, such as 127.0.0.2:9732";
  return in_quotes(text) + " is not a literal address with a port; write it as 127.0.0.2:9732 or [::1]:9732";
}

/// "a,b" and repeated options alike.
std::vector<std::string> split_list(const std::vector<std::string>& texts) {
  std::vector<std::string> names;
  for (const std::string& text : texts) {
    for (std::size_t at = 0; at <= text.size();) {
      const std::size_t comma = std::min(text.find(',', at), text.size());
      names.push_back(text.substr(at, comma - at));
      at = comma + 1;
    }
  }
  return names;
}

std::optional<std::string> wrong_number(const char* name, const std::vector<std::string>& texts, std::uint64_t least,
                                        std::uint64_t most, std::optional<std::uint64_t>& out) {
  if (texts.empty()) return std::nullopt;
  out = parse_integer(texts.back());
  if (out && *out >= least && *out <= most) return std::nullopt;
  return std::string(name) + ": " + in_quotes(texts.back()) + " is not a number from " + std::to_string(least) +
         " to " + std::to_string(most);
}

std::optional<std::string> wrong_fault(const Raw& raw, Arguments& out) {
  out.scratch = raw.scratch;
  if (auto wrong = wrong_number("--kills", raw.kills, 1, 1'000'000, out.kills)) return wrong;
  if (auto wrong = wrong_number("--peers", raw.peers, 2, 128, out.peers)) return wrong;
  if (auto wrong = wrong_number("--seed", raw.seed, 0, ~std::uint64_t{0}, out.seed)) return wrong;
  out.faults = split_list(raw.faults);
  out.roles = split_list(raw.roles);
  for (const std::string& name : out.faults) {
    if (!fault::harm_of(name)) return "--faults: " + in_quotes(name) + " is not a fault; see 'bulkhead fault --help'";
  }
  for (const std::string& name : out.roles) {
    if (!fault::target_of(name)) return "--roles: " + in_quotes(name) + " is not a role; see 'bulkhead fault --help'";
  }
  return std::nullopt;
}

std::optional<std::string> wrong_peer(const std::string& text, PeerId& peer) {
  const auto parsed = wire::parse_peer_id(text);
  if (!parsed) return in_quotes(text) + " is not a peer id, which has 30 characters, id first";
  peer = *parsed;
  return std::nullopt;
}

/// Of the commands that change or ask the lists.
std::optional<std::string> convert_lists(const Raw& raw, Arguments& out) {
  if (raw.subject_address) {
    const auto prefix = parse_prefix(*raw.subject_address);
    if (!prefix) return "ADDRESS: " + in_quotes(*raw.subject_address) + ": " + prefix.error().text;
    out.subject.prefix = *prefix;
    if (const auto point = parse_point(*raw.subject_address, 0)) out.port = point->port;
  }
  if (raw.subject_peer) {
    if (auto wrong = wrong_peer(*raw.subject_peer, out.subject.peer_id.emplace())) return "PEER: " + *wrong;
  }
  if (raw.subject) {
    if (const auto peer = wire::parse_peer_id(*raw.subject)) {
      out.subject.peer_id = *peer;
    } else if (const auto point = parse_point(*raw.subject, 0)) {
      out.subject.prefix = prefix_of(point->address, kAddressBits);
      out.port = point->port;
    } else if (const auto prefix = parse_prefix(*raw.subject)) {
      out.subject.prefix = *prefix;
    } else {
      return "SUBJECT: " + in_quotes(*raw.subject) + ": " + prefix.error().text + ", or a peer id";
    }
  }
  if (raw.duration.size() > 1 || raw.reason.size() > 1) return "--for and --reason: give each once";
  if (!raw.duration.empty()) {
    const auto duration = parse_duration(raw.duration.front());
    if (!duration) return "--for: " + in_quotes(raw.duration.front()) + ": " + duration.error().text;
    out.duration_s = static_cast<std::uint32_t>(duration->count());
  }
  if (!raw.reason.empty()) {
    out.reason = raw.reason.front();
    if (out.reason.size() > schema::kMaximumAclText) {
      return "--reason: " + std::to_string(out.reason.size()) + " bytes; at most " +
             std::to_string(schema::kMaximumAclText);
    }
  }
  out.file = raw.file;
  out.white = raw.list == "white";
  return std::nullopt;
}

/// Texts into values. Returns the one line that says what is wrong.
std::optional<std::string> convert(const Raw& raw, Arguments& out) {
  out.json = raw.json;
  out.follow = raw.follow;
  out.keep = raw.keep;
  out.sandbox = raw.sandbox;
  out.filters = raw.filters;
  for (const auto& [name, texts] : raw.settings) {
    if (!texts.empty()) out.settings.emplace(name, texts);
  }
  for (const auto& [name, set] : raw.flags) {
    if (set) out.settings.emplace(name, std::vector<std::string>{});
  }
  if (auto wrong = wrong_fault(raw, out)) return wrong;
  if (auto wrong = wrong_seconds("--wait", raw.wait, out.wait_s)) return wrong;
  if (auto wrong = wrong_seconds("--timeout", raw.timeout, out.timeout_s)) return wrong;
  if (!raw.count.empty()) {
    out.count = parse_integer(raw.count.back());
    if (!out.count || *out.count == 0)
      return "--count: " + in_quotes(raw.count.back()) + " is not a number of messages, 1 or more";
  }
  if (!raw.tag.empty()) {
    const auto tag = parse_tag(raw.tag.back());
    if (!tag || *tag > 65535 || !wire::is_application_tag(static_cast<std::uint16_t>(*tag)))
      return "--tag: " + in_quotes(raw.tag.back()) +
             " is not a tag from 0x10 to 0xffff; lower ones belong to the P2P layer";
    out.tag = static_cast<std::uint16_t>(*tag);
  }
  if (!raw.difficulty.empty()) {
    out.difficulty = parse_number(raw.difficulty);
    if (!out.difficulty || *out.difficulty < 0 || *out.difficulty > 256) {
      return "DIFFICULTY: " + in_quotes(raw.difficulty) + " is not a number of bits from 0 to 256";
    }
  }
  const bool points = out.command == Command::kPoints;
  for (const std::string& filter : out.filters) {
    if (filter == "accepted" || filter == "running" || filter == "disconnected" || (points && filter == "requested"))
      continue;
    return "--filter: " + in_quotes(filter) + " is not one of: accepted, running, disconnected" +
           (points ? ", requested" : "");
  }
  if (out.command == Command::kConnectAddress || out.command == Command::kPointsLog) {
    if (auto wrong = wrong_address(raw.address, out.point)) return "ADDRESS: " + *wrong;
  }
  if (out.command == Command::kPeersLog) {
    if (auto wrong = wrong_peer(raw.peer, out.peer)) return "PEER: " + *wrong;
  }
  if (out.command == Command::kKickPeer || out.command == Command::kSend) {
    const auto peer = wire::parse_peer_id(raw.peer);
    if (!peer)
      return "PEER: " + in_quotes(raw.peer) +
             " is not a peer id; 'bulkhead connections' shows those of the running connections";
    out.peer = *peer;
  }
  if (auto wrong = convert_lists(raw, out)) return wrong;
  if (out.command == Command::kSend || out.command == Command::kBroadcast) {
    out.body_from_input = raw.body == "-";
    if (!out.body_from_input) {
      auto body = parse_hex(raw.body);
      if (!body)
        return "BODY: " + in_quotes(raw.body) +
               " is not hex (two digits a byte); for raw bytes write - and give them on standard input";
      out.body = std::move(*body);
    }
  }
  return std::nullopt;
}

std::string first_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text.size() <= 300 ? text : text.substr(0, 300) + "...";
}

/// What was wrong, in words that do not depend on the version of CLI11 where that is possible.
std::string explain(const CLI::ParseError& problem, const CLI::App& app) {
  std::string text = first_line(problem.what());
  const std::vector<std::string> unknown = app.remaining();
  if (dynamic_cast<const CLI::ExtrasError*>(&problem) != nullptr && !unknown.empty()) {
    // The value of an unknown option is left over too; the option is what the person has to look at.
    const auto option =
        std::find_if(unknown.begin(), unknown.end(), [](const auto& word) { return word.starts_with("-"); });
    return in_quotes(option != unknown.end() ? *option : unknown.front()) + " is not known here";
  }
  if (dynamic_cast<const CLI::RequiredError*>(&problem) != nullptr && text.find("subcommand") != std::string::npos) {
    return unknown.empty() ? "a command is missing" : in_quotes(unknown.front()) + " is not a command";
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&problem) != nullptr) {
    if (text.ends_with("missing")) return text.substr(0, text.find(':')) + ": its value is missing";
  }
  return text;
}

}  // namespace

std::variant<Arguments, Ending> parse_arguments(const std::vector<std::string>& arguments) {
  Raw raw;
  Tree tree(raw);
  // CLI11 takes the words from the back.
  std::vector<std::string> words(arguments.rbegin(), arguments.rend());
  try {
    tree.root().parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    return Ending{ProgramExit::kDone, tree.root().help()};
  } catch (const CLI::CallForVersion& version) {
    return Ending{ProgramExit::kDone, std::string(version.what()) + "\n"};
  } catch (const CLI::ParseError& problem) {
    return usage(explain(problem, tree.deepest()) + "; see '" + tree.path() + " --help'");
  }
  if (const LaterCommand* later = tree.later()) {
    return Ending{ProgramExit::kFailed, in_quotes(later->words) + " is not part of this version: " + later->what +
                                            " will come with a later one"};
  }
  Arguments out;
  const auto command = tree.chosen();
  if (!command) return usage("a command is missing; see 'bulkhead --help'");
  out.command = *command;
  if (auto wrong = convert(raw, out)) return usage(*wrong);
  if (out.difficulty && out.settings.contains("expected-pow"))
    return usage("DIFFICULTY and --expected-pow say the same; give one");
  out.data_dir_given = !raw.data_dir.empty();
  std::string data_dir = raw.data_dir.empty() ? default_data_dir() : raw.data_dir;
  if (data_dir.empty()) return usage("--data-dir: no home directory is known; name the directory");
  std::error_code error;
  const auto absolute = std::filesystem::absolute(data_dir, error);
  if (error) return usage("--data-dir: " + in_quotes(data_dir) + ": " + error.message());
  out.data_dir = absolute.lexically_normal().string();
  if (out.data_dir.size() > 1 && out.data_dir.back() == '/') out.data_dir.pop_back();
  return out;
}

}  // namespace bulkhead::cli
