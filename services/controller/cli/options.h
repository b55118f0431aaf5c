#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/exit_codes.h"
#include "base/ids.h"
#include "schema/messages.h"
#include "services/controller/cli/config.h"

namespace bulkhead::cli {

enum class Command : std::uint8_t {
  kRun,
  kStatus,
  kIdentityGenerate,
  kIdentityShow,
  kIdentityCheck,
  kConfigInit,
  kConfigShow,
  kConfigValidate,
  kConnections,
  kPeers,
  kPeersLog,
  kPeersExport,
  kPoints,
  kPointsLog,
  kP2pStat,
  kConnectAddress,
  kKickPeer,
  kMaintain,
  kBan,
  kUnban,
  kTrust,
  kUntrust,
  kIsBanned,
  kAcl,
  kAclImport,
  kAclExport,
  kClearAcls,
  kGreylist,
  kGreylistClear,
  kWhy,
  kSend,
  kBroadcast,
  kListen,
  kEvents,
  kSandbox,
  kDemo,
  kFault,
};

/// A command line, checked. What a command does not take stays at its default.
struct Arguments {
  Command command = Command::kStatus;
  std::string data_dir;  ///< absolute
  bool json = false;

  OptionTexts settings;                ///< run, config, identity (expected-pow)
  std::optional<double> wait_s;        ///< status
  std::optional<double> difficulty;    ///< identity
  std::vector<std::string> filters;    ///< peers, points
  Point point;                         ///< connect address, points log
  PeerId peer{};                       ///< kick peer, send, peers log
  schema::AclSubject subject;          ///< ban, unban, trust, untrust, is ... banned, why
  std::uint16_t port = 0;              ///< trust, why: of the address, if one was given
  std::uint32_t duration_s = 0;        ///< ban, trust, acl import; 0: for ever
  std::string reason;                  ///< ban, trust
  std::string file;                    ///< acl import, acl export, peers export; "-" or empty: standard input or output
  bool white = false;                  ///< acl import: where lines name no list, it is the white one
  std::uint16_t tag = 0x10;            ///< send, broadcast
  bool body_from_input = false;        ///< send, broadcast
  std::vector<std::uint8_t> body;      ///< send, broadcast, unless from standard input
  std::optional<std::uint64_t> count;  ///< listen
  std::optional<double> timeout_s;     ///< listen, maintain
  bool follow = false;                 ///< events
  bool keep = false;                   ///< demo, fault
  std::string sandbox;                 ///< demo, fault: --require-sandbox of its nodes; empty: the default
  bool data_dir_given = false;         ///< on the command line, that is
  bool scratch = false;                ///< fault
  std::optional<std::uint64_t> kills;  ///< fault
  std::optional<std::uint64_t> peers;  ///< fault
  std::optional<std::uint64_t> seed;   ///< fault
  std::vector<std::string> faults;     ///< fault: names, checked
  std::vector<std::string> roles;      ///< fault: names, checked
};

/// The program ends without doing anything: help, version, wrong usage, or a command that this version does not have.
struct Ending {
  ProgramExit status = ProgramExit::kDone;
  std::string text;  ///< for standard output when status is kDone, else one line for standard error
};

/// `arguments` without the program's name.
std::variant<Arguments, Ending> parse_arguments(const std::vector<std::string>& arguments);

}  // namespace bulkhead::cli
