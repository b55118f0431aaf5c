#include "services/controller/cli/program.h"

#include <variant>

#include "services/controller/cli/acl_commands.h"
#include "services/controller/cli/config_commands.h"
#include "services/controller/cli/control_client.h"
#include "services/controller/cli/demo.h"
#include "services/controller/cli/fault/fault_command.h"
#include "services/controller/cli/identity_commands.h"
#include "services/controller/cli/message_commands.h"
#include "services/controller/cli/options.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/record_commands.h"
#include "services/controller/cli/run_command.h"
#include "services/controller/cli/sandbox_report.h"
#include "services/controller/cli/show.h"
#include "services/controller/cli/why.h"
#include "wire/secret.h"

namespace bulkhead::cli {
namespace {

int dispatch(const Arguments& arguments) {
  switch (arguments.command) {
    case Command::kRun:
      return run_node(arguments);
    case Command::kStatus:
      return run_status(arguments);
    case Command::kIdentityGenerate:
      return run_identity_generate(arguments);
    case Command::kIdentityShow:
      return run_identity_show(arguments);
    case Command::kIdentityCheck:
      return run_identity_check(arguments);
    case Command::kConfigInit:
      return run_config_init(arguments);
    case Command::kConfigShow:
      return run_config_show(arguments);
    case Command::kConfigValidate:
      return run_config_validate(arguments);
    case Command::kConnections:
      return run_connections(arguments);
    case Command::kPeers:
      return run_peers(arguments);
    case Command::kPeersLog:
      return run_peers_log(arguments);
    case Command::kPeersExport:
      return run_peers_export(arguments);
    case Command::kPointsLog:
      return run_points_log(arguments);
    case Command::kPoints:
      return run_points(arguments);
    case Command::kP2pStat:
      return run_p2p_stat(arguments);
    case Command::kEvents:
      return run_events(arguments);
    case Command::kSandbox:
      return run_sandbox(arguments);
    case Command::kConnectAddress:
      return run_connect_address(arguments);
    case Command::kKickPeer:
      return run_kick_peer(arguments);
    case Command::kMaintain:
      return run_maintain(arguments);
    case Command::kBan:
      return run_ban(arguments);
    case Command::kUnban:
      return run_unban(arguments);
    case Command::kTrust:
      return run_trust(arguments);
    case Command::kUntrust:
      return run_untrust(arguments);
    case Command::kIsBanned:
      return run_is_banned(arguments);
    case Command::kAcl:
      return run_acl(arguments);
    case Command::kAclImport:
      return run_acl_import(arguments);
    case Command::kAclExport:
      return run_acl_export(arguments);
    case Command::kClearAcls:
      return run_clear_acls(arguments);
    case Command::kGreylist:
      return run_greylist(arguments);
    case Command::kGreylistClear:
      return run_greylist_clear(arguments);
    case Command::kWhy:
      return run_why(arguments);
    case Command::kSend:
      return run_send(arguments);
    case Command::kBroadcast:
      return run_broadcast(arguments);
    case Command::kListen:
      return run_listen(arguments);
    case Command::kDemo:
      return run_demo(arguments);
    case Command::kFault:
      return run_fault(arguments);
  }
  return exit_status(ProgramExit::kUsage);
}

}  // namespace

int run_program(const std::vector<std::string>& arguments) {
  const auto parsed = parse_arguments(arguments);
  if (const auto* ending = std::get_if<Ending>(&parsed)) {
    if (ending->status == ProgramExit::kDone) {
      print(ending->text);
    } else {
      complain(ending->text);
    }
    return exit_status(ending->status);
  }
  wire::initialise();
  return dispatch(std::get<Arguments>(parsed));
}

}  // namespace bulkhead::cli
