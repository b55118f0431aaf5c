#include "services/controller/cli/options.h"

#include <gtest/gtest.h>

#include "base/address.h"
#include "base/prefix.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

constexpr const char* kPeer = "idrdoT9g6YwELhUQyshCcHwAzBS9zA";

Arguments accepted(std::vector<std::string> words) {
  words.insert(words.end(), {"--data-dir", "/data"});
  const auto parsed = parse_arguments(words);
  const auto* arguments = std::get_if<Arguments>(&parsed);
  EXPECT_NE(arguments, nullptr) << (arguments == nullptr ? std::get<Ending>(parsed).text : "");
  return arguments == nullptr ? Arguments{} : *arguments;
}

Ending refused(const std::vector<std::string>& words) {
  const auto parsed = parse_arguments(words);
  const auto* ending = std::get_if<Ending>(&parsed);
  EXPECT_NE(ending, nullptr) << words.front();
  return ending == nullptr ? Ending{} : *ending;
}

testing::AssertionResult is_usage(const Ending& ending, const std::string& start) {
  if (ending.status != ProgramExit::kUsage) return testing::AssertionFailure() << "status, with: " << ending.text;
  if (ending.text.find('\n') != std::string::npos)
    return testing::AssertionFailure() << "more than a line: " << ending.text;
  if (ending.text.rfind(start, 0) != 0) return testing::AssertionFailure() << ending.text;
  return testing::AssertionSuccess();
}

TEST(Arguments, TakeTheCommonOptionsBeforeAndBehindTheCommand) {
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--json", "--data-dir", "/x/../data/", "identity", "show"},
        std::vector<std::string>{"identity", "--json", "--data-dir", "/data", "show"},
        std::vector<std::string>{"identity", "show", "--json", "--data-dir=/data"}}) {
    const auto parsed = parse_arguments(words);
    const auto* arguments = std::get_if<Arguments>(&parsed);
    ASSERT_NE(arguments, nullptr) << std::get<Ending>(parsed).text;
    EXPECT_EQ(arguments->command, Command::kIdentityShow);
    EXPECT_TRUE(arguments->json);
    EXPECT_EQ(arguments->data_dir, "/data");
  }
}

TEST(Arguments, KnowEveryCommand) {
  EXPECT_EQ(accepted({"run"}).command, Command::kRun);
  EXPECT_EQ(accepted({"status"}).command, Command::kStatus);
  EXPECT_EQ(accepted({"identity", "generate"}).command, Command::kIdentityGenerate);
  EXPECT_EQ(accepted({"identity", "check"}).command, Command::kIdentityCheck);
  EXPECT_EQ(accepted({"config", "init"}).command, Command::kConfigInit);
  EXPECT_EQ(accepted({"config", "show"}).command, Command::kConfigShow);
  EXPECT_EQ(accepted({"config", "validate"}).command, Command::kConfigValidate);
  EXPECT_EQ(accepted({"connections"}).command, Command::kConnections);
  EXPECT_EQ(accepted({"peers"}).command, Command::kPeers);
  EXPECT_EQ(accepted({"peers", "--filter", "running"}).command, Command::kPeers);
  EXPECT_EQ(accepted({"peers", "log", kPeer}).command, Command::kPeersLog);
  EXPECT_EQ(accepted({"peers", "export"}).file, "");
  EXPECT_EQ(accepted({"peers", "export", "p.json"}).file, "p.json");
  EXPECT_EQ(accepted({"peers", "export", "p.json"}).command, Command::kPeersExport);
  EXPECT_EQ(accepted({"points", "log", "127.0.0.2"}).command, Command::kPointsLog);
  EXPECT_EQ(accepted({"points", "log", "127.0.0.2"}).point.port, 9732);
  EXPECT_TRUE(is_usage(refused({"points", "log", "nowhere"}), "ADDRESS: 'nowhere' is not a literal address"));
  EXPECT_TRUE(is_usage(refused({"peers", "log", "nobody"}), "PEER: 'nobody' is not a peer id"));
  EXPECT_EQ(refused({"peers", "log"}).status, ProgramExit::kUsage);
  EXPECT_EQ(accepted({"points"}).command, Command::kPoints);
  EXPECT_EQ(accepted({"p2p", "stat"}).command, Command::kP2pStat);
  EXPECT_EQ(accepted({"events"}).command, Command::kEvents);
  EXPECT_EQ(accepted({"maintain"}).command, Command::kMaintain);
  EXPECT_EQ(accepted({"maintain", "--timeout", "5"}).timeout_s, 5);
  EXPECT_EQ(accepted({"listen"}).command, Command::kListen);
  EXPECT_EQ(accepted({"demo"}).command, Command::kDemo);
}

TEST(Arguments, CarryTheValuesOfEachCommand) {
  EXPECT_EQ(accepted({"status", "--wait", "2.5"}).wait_s, 2.5);
  EXPECT_EQ(accepted({"identity", "generate", "7.5"}).difficulty, 7.5);
  EXPECT_EQ(accepted({"points", "--filter", "requested", "--filter", "running"}).filters.size(), 2U);
  EXPECT_EQ(to_text(accepted({"connect", "address", "10.0.0.1"}).point), "10.0.0.1:9732");
  EXPECT_EQ(to_text(accepted({"connect", "address", "[::1]:5"}).point), "[::1]:5");
  EXPECT_EQ(wire::peer_id_text(accepted({"kick", "peer", kPeer}).peer), kPeer);
  const Arguments listen = accepted({"listen", "--count", "3", "--timeout", "0.5"});
  EXPECT_EQ(listen.count, 3U);
  EXPECT_EQ(listen.timeout_s, 0.5);
  EXPECT_TRUE(accepted({"events", "--follow"}).follow);
  EXPECT_TRUE(accepted({"demo", "--keep"}).keep);
  const auto fault =
      accepted({"fault", "--scratch", "--kills", "7", "--seed", "9", "--faults", "kill,ring", "--roles", "worker"});
  EXPECT_TRUE(fault.scratch && fault.data_dir_given);
  EXPECT_EQ(fault.kills, 7U);
  EXPECT_EQ(fault.seed, 9U);
  EXPECT_EQ(fault.faults, (std::vector<std::string>{"kill", "ring"}));
  EXPECT_EQ(fault.roles, (std::vector<std::string>{"worker"}));
  EXPECT_FALSE(accepted({"fault"}).scratch);
}

TEST(Arguments, KnowTheCommandsOfTheLists) {
  EXPECT_EQ(accepted({"acl"}).command, Command::kAcl);
  EXPECT_EQ(accepted({"acl", "--json"}).command, Command::kAcl);
  EXPECT_EQ(accepted({"acl", "import", "-"}).command, Command::kAclImport);
  EXPECT_EQ(accepted({"acl", "export"}).command, Command::kAclExport);
  EXPECT_EQ(accepted({"greylist"}).command, Command::kGreylist);
  EXPECT_EQ(accepted({"greylist", "clear"}).command, Command::kGreylistClear);
  EXPECT_EQ(accepted({"clear", "acls"}).command, Command::kClearAcls);
  EXPECT_EQ(accepted({"why", "192.0.2.7:5"}).port, 5);
  EXPECT_EQ(wire::peer_id_text(*accepted({"why", kPeer}).subject.peer_id), kPeer);
  EXPECT_EQ(accepted({"unban", "address", "::1"}).command, Command::kUnban);
  EXPECT_EQ(accepted({"untrust", "peer", kPeer}).command, Command::kUntrust);
  EXPECT_EQ(accepted({"is", "peer", "banned", kPeer}).command, Command::kIsBanned);
}

TEST(Arguments, NameAnAddressAPrefixOrAPeer) {
  const Arguments ban = accepted({"ban", "address", "10.0.0.0/8", "--for", "2h", "--reason", "port scans"});
  EXPECT_EQ(ban.command, Command::kBan);
  EXPECT_FALSE(ban.subject.peer_id);
  EXPECT_EQ(to_text(ban.subject.prefix), "10.0.0.0/8");
  EXPECT_EQ(ban.duration_s, 7200U);
  EXPECT_EQ(ban.reason, "port scans");
  const Arguments trust = accepted({"trust", "address", "[2001:db8::1]:9732"});
  EXPECT_EQ(to_text(trust.subject.prefix), "2001:db8::1");
  EXPECT_EQ(trust.port, 9732);
  EXPECT_EQ(trust.duration_s, 0U);
  EXPECT_EQ(accepted({"trust", "address", "192.0.2.7"}).port, 0);
  EXPECT_EQ(wire::peer_id_text(*accepted({"ban", "peer", kPeer}).subject.peer_id), kPeer);
  EXPECT_EQ(to_text(accepted({"is", "address", "banned", "192.0.2.7:1"}).subject.prefix), "192.0.2.7");
  EXPECT_EQ(to_text(accepted({"is", "address", "banned", "10.0.0.0/8"}).subject.prefix), "10.0.0.0/8");
  EXPECT_EQ(to_text(accepted({"why", "2001:db8::/48"}).subject.prefix), "2001:db8::/48");
  EXPECT_TRUE(accepted({"acl", "import", "x.txt", "--list", "white"}).white);
  EXPECT_EQ(accepted({"acl", "import", "x.txt"}).file, "x.txt");
}

TEST(Arguments, TakeANumberAloneForSecondsAndSaySo) {
  EXPECT_EQ(accepted({"ban", "address", "10.0.0.0/8", "--for", "5"}).duration_s, 5U);
  EXPECT_EQ(accepted({"acl", "import", "-", "--for", "5"}).duration_s, 5U);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"ban", "address"}, {"trust", "peer"}, {"acl", "import"}}) {
    auto words = command;
    words.push_back("--help");
    EXPECT_NE(refused(words).text.find("a number alone is seconds"), std::string::npos) << refused(words).text;
  }
}

TEST(Arguments, TellWhereALineOfAnImportMayHaveAComment) {
  const std::string help = refused({"acl", "import", "--help"}).text;
  EXPECT_NE(help.find("at the beginning of a line, of a field or of the reason"), std::string::npos) << help;
}

TEST(Arguments, OfTheListsAreRefusedWithWhatWasExpected) {
  EXPECT_TRUE(is_usage(refused({"ban", "address", ""}), "ADDRESS: '': not an address or a prefix; write it as"));
  EXPECT_TRUE(is_usage(refused({"ban", "address", "10.0.0.1/8"}), "ADDRESS: '10.0.0.1/8': 10.0.0.1/8 has bits"));
  EXPECT_TRUE(is_usage(refused({"ban", "address", "10.0.0.0/33"}), "ADDRESS: '10.0.0.0/33': the length"));
  EXPECT_TRUE(is_usage(refused({"trust", "peer", "id"}), "PEER: 'id' is not a peer id"));
  EXPECT_TRUE(is_usage(refused({"ban", "peer", kPeer, "--for", "soon"}), "--for: 'soon': not a duration"));
  EXPECT_TRUE(is_usage(refused({"ban", "peer", kPeer, "--for", "0"}), "--for: '0': a duration is"));
  EXPECT_TRUE(is_usage(refused({"ban", "peer", kPeer, "--reason", std::string(48, 'x')}), "--reason: 48 bytes"));
  EXPECT_TRUE(is_usage(refused({"unban", "peer", kPeer, "--for", "1h"}), "'--for' is not known here"));
  EXPECT_TRUE(is_usage(refused({"is", "address", "banned", "x.example"}),
                       "ADDRESS: 'x.example': not an address or a prefix; write it as 192.0.2.7"));
  EXPECT_TRUE(is_usage(refused({"why", "10.0.0.1/8"}), "SUBJECT: '10.0.0.1/8': 10.0.0.1/8 has bits beyond /8"));
  EXPECT_TRUE(is_usage(refused({"why", "x.example"}), "SUBJECT: 'x.example': not an address or a prefix"));
  EXPECT_TRUE(is_usage(refused({"ban"}), "a command is missing; see 'bulkhead ban --help'"));
  EXPECT_TRUE(is_usage(refused({"acl", "foo"}), "'foo' is not known here"));
  EXPECT_TRUE(is_usage(refused({"acl", "import"}), "FILE is required"));
}

TEST(Arguments, CarryMessagesInHexOrFromStandardInput) {
  const Arguments send = accepted({"send", kPeer, "00fF10", "--tag", "0x8001"});
  EXPECT_EQ(send.body, (std::vector<std::uint8_t>{0x00, 0xff, 0x10}));
  EXPECT_EQ(send.tag, 0x8001);
  EXPECT_FALSE(send.body_from_input);
  EXPECT_EQ(accepted({"broadcast", ""}).body.size(), 0U);
  EXPECT_EQ(accepted({"broadcast", "aa"}).tag, 0x10);
  EXPECT_EQ(accepted({"broadcast", "--tag", "17", "aa"}).tag, 17);
  EXPECT_TRUE(accepted({"broadcast", "-"}).body_from_input);
}

TEST(Arguments, CollectTheSettingsOfRun) {
  const Arguments run =
      accepted({"run", "--net-addr", "[::1]", "--net-addr", "127.0.0.1:0", "--peer", "[::1]:1", "--peer=10.0.0.1:2",
                "--private-mode", "--expected-pow", "8", "--db-versions", "0,1"});
  EXPECT_EQ(run.settings.find("net-addr")->second, (std::vector<std::string>{"[::1]", "127.0.0.1:0"}));
  EXPECT_EQ(run.settings.find("peer")->second, (std::vector<std::string>{"[::1]:1", "10.0.0.1:2"}));
  EXPECT_EQ(run.settings.find("db-versions")->second, (std::vector<std::string>{"0,1"}));
  EXPECT_TRUE(run.settings.contains("private-mode"));
  EXPECT_FALSE(run.settings.contains("disable-mempool"));
  EXPECT_FALSE(run.settings.contains("max-connections"));
}

TEST(Arguments, AreRefusedInOneLineThatNamesThem) {
  EXPECT_TRUE(is_usage(refused({}), "a command is missing; see 'bulkhead --help'"));
  EXPECT_TRUE(is_usage(refused({"foo"}), "'foo' is not a command"));
  EXPECT_TRUE(is_usage(refused({"identity"}), "a command is missing; see 'bulkhead identity --help'"));
  EXPECT_TRUE(is_usage(refused({"identity", "foo"}), "'foo' is not a command"));
  EXPECT_TRUE(is_usage(refused({"status", "--foo"}), "'--foo' is not known here; see 'bulkhead status --help'"));
  EXPECT_TRUE(is_usage(refused({"status", "--wait"}), "--wait: its value is missing"));
  EXPECT_TRUE(is_usage(refused({"status", "--wait", "-1"}), "--wait: "));
  EXPECT_TRUE(is_usage(refused({"status", "--wait", "x\ny"}), "--wait: 'x\\x0ay' is not a number of seconds"));
  EXPECT_TRUE(is_usage(refused({"run", "extra"}), "'extra' is not known here"));
  EXPECT_TRUE(is_usage(refused({"run", "--backlog", "5"}), "'--backlog' is not known here"));
  EXPECT_TRUE(is_usage(refused({"peers", "--filter", "requested"}), "--filter: 'requested' is not one of"));
  EXPECT_TRUE(is_usage(refused({"identity", "generate", "257"}), "DIFFICULTY: '257' is not"));
  EXPECT_TRUE(is_usage(refused({"connect", "address"}), "ADDRESS is required"));
  EXPECT_TRUE(is_usage(refused({"connect", "address", "10.0.0.0/8"}), "ADDRESS: '10.0.0.0/8' is a prefix"));
  EXPECT_TRUE(
      is_usage(refused({"connect", "address", "localhost:1"}), "ADDRESS: 'localhost:1' is not a literal address"));
  EXPECT_TRUE(is_usage(refused({"connect", "address", "10.0.0.1:0"}), "ADDRESS: '10.0.0.1:0' is not"));
  EXPECT_TRUE(is_usage(refused({"connect", "address", "0.0.0.0:1"}), "ADDRESS: '0.0.0.0:1' is not"));
  EXPECT_TRUE(is_usage(refused({"kick", "peer", "idrdoT9g6YwELhUQyshCcHwAzBS9zB"}), "PEER: "));
  EXPECT_TRUE(is_usage(refused({"send", kPeer, "0"}), "BODY: '0' is not hex"));
  EXPECT_TRUE(is_usage(refused({"send", kPeer, "0g"}), "BODY: "));
  EXPECT_TRUE(is_usage(refused({"send", kPeer, "00", "--tag", "5"}), "--tag: '5' is not a tag"));
  EXPECT_TRUE(is_usage(refused({"send", kPeer, "00", "--tag", "0x10000"}), "--tag: "));
  EXPECT_TRUE(is_usage(refused({"send", kPeer, "00", "--tag", "0x"}), "--tag: "));
  EXPECT_TRUE(is_usage(refused({"listen", "--count", "0"}), "--count: "));
}

TEST(Arguments, AnswerHelpWithAnExampleForEveryCommand) {
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{{},
                                                                                       {"run"},
                                                                                       {"status"},
                                                                                       {"identity"},
                                                                                       {"identity", "generate"},
                                                                                       {"identity", "show"},
                                                                                       {"identity", "check"},
                                                                                       {"config", "init"},
                                                                                       {"config", "show"},
                                                                                       {"config", "validate"},
                                                                                       {"connections"},
                                                                                       {"peers"},
                                                                                       {"points"},
                                                                                       {"p2p", "stat"},
                                                                                       {"connect", "address"},
                                                                                       {"kick", "peer"},
                                                                                       {"maintain"},
                                                                                       {"send"},
                                                                                       {"broadcast"},
                                                                                       {"listen"},
                                                                                       {"events"},
                                                                                       {"demo"}}) {
    auto words = command;
    words.emplace_back("--help");
    const Ending help = refused(words);
    EXPECT_EQ(help.status, ProgramExit::kDone);
    EXPECT_NE(help.text.find("Example"), std::string::npos) << help.text;
    EXPECT_NE(help.text.find("\n  bulkhead "), std::string::npos) << help.text;
    EXPECT_EQ(help.text.find("max-download-speed"), std::string::npos) << "options of later versions are not offered";
  }
}

TEST(Arguments, GiveTheVersion) {
  const Ending version = refused({"--version"});
  EXPECT_EQ(version.status, ProgramExit::kDone);
  EXPECT_EQ(version.text.rfind("bulkhead ", 0), 0U);
}

TEST(Arguments, RefuseWhatALaterVersionBrings) {
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{{"top"}, {"top", "--help"}}) {
    const Ending ending = refused(command);
    EXPECT_EQ(ending.status, ProgramExit::kFailed) << command.front();
    EXPECT_EQ(ending.text.rfind("'" + command.front() + "' is not part of this version", 0), 0U) << ending.text;
    EXPECT_EQ(ending.text.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace bulkhead::cli
