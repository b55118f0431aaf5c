#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/integration/fixture.h"

/// Bans, trust and the greylist, told and asked by the command line.
namespace bulkhead::testing {
namespace {

class Lists : public NodeTest {
 protected:
  /// Runs a command that has to succeed, and returns what it printed.
  std::string done(const std::vector<std::string>& words, const std::string& input = "") {
    const auto result = node_->cli(words, input);
    EXPECT_EQ(result.exit_status, 0) << result;
    return result.out;
  }

  void expect_refused(const std::vector<std::string>& words, const std::string& hint, int exit_status = 1,
                      const std::string& input = "") {
    const auto result = node_->cli(words, input);
    EXPECT_EQ(result.exit_status, exit_status) << result;
    EXPECT_NE(result.err.find(hint), std::string::npos) << result;
  }

  bool banned(const std::string& address) { return node_->json({"is", "address", "banned", address})["banned"]; }

  /// The entry of that list with that prefix or peer id; null when there is none.
  Json entry(const std::string& list, const std::string& target) {
    const Json acl = node_->json({"acl"});
    for (const Json& entry : acl[list]) {
      if (entry.value("prefix", "") == target || entry.value("peer_id", "") == target) return entry;
    }
    return nullptr;
  }

  void shake_hands_from(Peer& peer, const std::string& address) {
    const auto dialled = peer.connect(node_->point(), address);
    ASSERT_TRUE(dialled) << dialled.error().text;
    const auto done = peer.handshake();
    ASSERT_TRUE(done) << done.error().text << "\n" << node_->events();
    ASSERT_TRUE(node_->wait_connected(peer.peer_id())) << node_->events();
  }

  /// Who connects from there is sent away before it said anything.
  void expect_shut_out(const std::string& address, const Reasons& reasons) {
    Peer peer = node_->make_peer();
    const auto dialled = peer.connect(node_->point(), address);
    ASSERT_TRUE(dialled) << dialled.error().text;
    expect_ended(peer, reasons);
  }

  /// Sends these bytes as `nc` would (as `nc -N` does with its input's end), and waits for the greylisting.
  void send_garbage(const std::string& address, const Bytes& bytes, bool end_of_input = false) {
    Peer peer = node_->make_peer();
    const auto dialled = peer.connect(node_->point(), address);
    ASSERT_TRUE(dialled) << dialled.error().text;
    (void)peer.send_raw(bytes);
    if (end_of_input) (void)peer.half_close();
    (void)peer.read_until_closed(kPeerTimeout * kPatience);
    EXPECT_TRUE(eventually([&] { return banned(address); })) << node_->events();
  }
};

// ---- bans

TEST_F(Lists, BanOfAnAddressCutsItsConnectionAndKeepsItOut) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const std::uint16_t advertised : {std::uint16_t{0}, std::uint16_t{9732}}) {
    SCOPED_TRACE(advertised);
    const std::string address = fresh_address();
    Peer peer = node_->make_peer({.advertised_port = advertised});
    ASSERT_NO_FATAL_FAILURE(shake_hands_from(peer, address));

    EXPECT_EQ(done({"ban", "address", address, "--reason", "port scans"}), address + " is banned\n");

    expect_ended(peer, "banned");
    ASSERT_NO_FATAL_FAILURE(expect_shut_out(address, "banned"));
    EXPECT_EQ(entry("blacklist", address).value("reason", ""), "port scans");
    EXPECT_EQ(done({"is", "address", "banned", address}).rfind("yes: banned as " + address, 0), 0U);

    done({"unban", "address", address});
    EXPECT_FALSE(banned(address));
    Peer again = node_->make_peer();
    ASSERT_NO_FATAL_FAILURE(shake_hands_from(again, address));
  }
}

TEST_F(Lists, BanOfAPeerCutsItsConnectionWhereverItIs) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(peer));

  done({"ban", "peer", peer.peer_id()});

  expect_ended(peer, "peer_banned");
  EXPECT_EQ(node_->json({"is", "peer", "banned", peer.peer_id()})["list"], "blacklist");
  ASSERT_TRUE(node_->dial(peer));
  (void)peer.handshake();
  expect_ended(peer, "peer_banned");
}

TEST_F(Lists, BanCutsAWorkerInItsHandshake) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string address = fresh_address();
  Peer peer = node_->make_peer();
  ASSERT_TRUE(peer.connect(node_->point(), address));
  ASSERT_TRUE(peer.send_connection_message());
  ASSERT_TRUE(peer.read_connection_message()) << node_->events();

  done({"ban", "address", address});

  expect_ended(peer, "banned");
}

TEST_F(Lists, BanOfAPrefixCutsAllBelowIt) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  Peer one = node_->make_peer();
  Peer two = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(one));
  ASSERT_NO_FATAL_FAILURE(shake_hands(two));

  done({"ban", "address", "127.0.0.0/8"});

  expect_ended(one, "banned");
  expect_ended(two, "banned");
  EXPECT_EQ(node_->json({"is", "address", "banned", "127.1.2.3"})["prefix"], "127.0.0.0/8");
}

TEST_F(Lists, BanForATimeEndsByItself) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string address = fresh_address();

  done({"ban", "address", address, "--for", "2s"});

  const Json end = entry("blacklist", address).value("until", Json());
  EXPECT_FALSE(end.is_null());
  EXPECT_EQ(node_->wait_event("banned", address).value("until", Json()), end) << node_->events();
  EXPECT_TRUE(eventually([&] { return !banned(address); }));
  const Json event = node_->wait_event("expired", address);
  EXPECT_EQ(event.value("event", ""), "unbanned") << node_->events();
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands_from(peer, address));
}

TEST_F(Lists, OutliveANodeThatIsKilled) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  const std::string address = fresh_address();
  done({"ban", "address", address, "--reason", "for good"});
  done({"trust", "peer", "idrdoT9g6YwELhUQyshCcHwAzBS9zA"});

  node_->stop(SIGKILL);
  const auto started = node_->start();
  ASSERT_TRUE(started) << started.error().text;

  EXPECT_EQ(entry("blacklist", address).value("reason", ""), "for good");
  EXPECT_FALSE(entry("whitelist", "idrdoT9g6YwELhUQyshCcHwAzBS9zA").is_null());
  ASSERT_NO_FATAL_FAILURE(expect_shut_out(address, "banned"));
}

TEST_F(Lists, AnswerForAPrefixAsAWhole) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  done({"ban", "address", "10.1.0.0/16", "--reason", "rude"});
  done({"ban", "address", "10.2.0.1"});

  const auto asked = [&](const std::string& prefix) { return node_->json({"is", "address", "banned", prefix}); };
  EXPECT_EQ(asked("10.1.2.0/24")["banned"], true);
  EXPECT_EQ(asked("10.1.0.0/16")["prefix"], "10.1.0.0/16");
  EXPECT_EQ(asked("10.0.0.0/8")["banned"], false) << "most of it is welcome";
  EXPECT_EQ(asked("10.0.0.0/8")["refusals_within"], 2);
  EXPECT_FALSE(asked("10.1.2.3").contains("refusals_within"));
  EXPECT_EQ(
      done({"is", "address", "banned", "10.1.2.0/24"}).rfind("yes: all of 10.1.2.0/24 is banned as 10.1.0.0/16", 0),
      0U);
  EXPECT_EQ(done({"is", "address", "banned", "10.0.0.0/8"}),
            "no: 10.0.0.0/8 as a whole is not in any list; 2 bans or greylistings are of a part of it, see `bulkhead "
            "acl`\n");

  const Json why = node_->json({"why", "10.1.2.0/24"});
  EXPECT_EQ(why["subject"], "10.1.2.0/24");
  EXPECT_EQ(why["reason"], "rude") << why;
  EXPECT_EQ(why["events"].size(), 1U) << why;
  EXPECT_EQ(node_->json({"why", "10.0.0.0/8"})["events"].size(), 2U);
  EXPECT_EQ(done({"why", "10.0.0.0/8"})
                .rfind("10.0.0.0/8 would be let in: no list refuses all of it; 2 bans or greylistings are of a part of "
                       "it, see `bulkhead "
                       "acl`",
                       0),
            0U);
}

// ---- trust

TEST_F(Lists, TrustLiftsTheBanOfExactlyThatEntry) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string address = fresh_address();
  done({"ban", "address", address});

  EXPECT_EQ(done({"trust", "address", address + ":9732"}), address + " is trusted and banned no more\n");

  EXPECT_FALSE(banned(address));
  EXPECT_TRUE(entry("blacklist", address).is_null());
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands_from(peer, address));
  EXPECT_EQ(node_->connection(peer.peer_id())["trusted"], true);
  EXPECT_EQ(done({"untrust", "address", address}), address + " is trusted no more\n");
  EXPECT_TRUE(entry("whitelist", address).is_null());
}

TEST_F(Lists, TrustIsRefusedUnderAWiderBanThatItNames) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  done({"ban", "address", "10.0.0.0/8"});

  expect_refused({"trust", "address", "10.1.2.3"}, "10.0.0.0/8 is banned");
  expect_refused({"unban", "address", "10.1.2.3"},
                 "10.1.2.3 had no ban of its own, and is still banned, by 10.0.0.0/8");

  EXPECT_TRUE(entry("whitelist", "10.1.2.3").is_null());
  EXPECT_TRUE(banned("10.1.2.3"));
}

TEST_F(Lists, TrustForATimeEndsByItself) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  done({"trust", "address", "10.1.2.0/24", "--for", "1s"});

  const Json event = node_->wait_event("expired");
  EXPECT_EQ(event.value("event", ""), "untrusted") << node_->events();
  EXPECT_EQ(event.value("prefix", ""), "10.1.2.0/24") << node_->events();
  EXPECT_TRUE(entry("whitelist", "10.1.2.0/24").is_null());
}

TEST_F(Lists, ABanSaysThatAConfiguredPeerIsTrustedNoMore) {
  ASSERT_NO_FATAL_FAILURE(start_alone({.arguments = {"--peer", "127.255.255.1:1", "--peer", "127.255.254.1:1"}}));
  EXPECT_EQ(done({"ban", "address", "127.255.255.1"}), "127.255.255.1 is banned and trusted no more\n");
  EXPECT_EQ(done({"ban", "address", "127.255.255.1"}), "127.255.255.1 is banned\n");
  EXPECT_EQ(done({"ban", "address", "127.255.254.0/24"}),
            "127.255.254.0/24 is banned; points in it that were trusted are trusted no more\n");
}

TEST_F(Lists, WhyKnowsTheNodeItselfAndEventsSayThatThereAreNone) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  EXPECT_EQ(done({"why", node_->point()}), node_->point() + " is this node itself\n");
  EXPECT_EQ(done({"why", node_->peer_id()}), node_->peer_id() + " is this node itself\n");
  const auto events = node_->cli({"events"});
  EXPECT_EQ(events.exit_status, 0) << events;
  EXPECT_EQ(events.out, "") << events;
  EXPECT_NE(events.err.find("no events"), std::string::npos) << events;
}

TEST_F(Lists, HaveNoEventOfWhatWasNotInThem) {
  ASSERT_NO_FATAL_FAILURE(start_alone({.arguments = {"--peer", "127.255.255.1:1"}}));
  const std::string peer = "idrdoT9g6YwELhUQyshCcHwAzBS9zA";
  EXPECT_EQ(done({"unban", "address", "10.0.0.0/8"}), "10.0.0.0/8 was not banned\n");
  EXPECT_EQ(done({"unban", "peer", peer}), peer + " was not banned\n");
  EXPECT_EQ(done({"untrust", "address", "10.1.2.3"}), "10.1.2.3 was not trusted\n");
  // Trust of a configured peer is none of an entry.
  EXPECT_EQ(done({"untrust", "address", "127.255.255.1"}), "127.255.255.1 is trusted no more\n");
  EXPECT_EQ(done({"untrust", "address", "127.255.255.1"}), "127.255.255.1 was not trusted\n");

  std::vector<std::string> told;
  for (const Json& event : node_->json_lines({"events"})) {
    const std::string kind = event["event"];
    if (kind == "unbanned" || kind == "untrusted") told.push_back(kind + " " + event["addr"].get<std::string>());
  }
  EXPECT_EQ(told, std::vector<std::string>{"untrusted 127.255.255.1"});
}

// ---- greylist

TEST_F(Lists, GarbageGreylistsItsSenderUntilTheGreylistIsCleared) {
  // So many bits that the garbage below does not have by chance.
  ASSERT_NO_FATAL_FAILURE(start({.difficulty = 8}));
  const std::string short_length = fresh_address();
  const std::string much = fresh_address();
  const std::string enemy = fresh_address();
  done({"ban", "address", enemy});

  ASSERT_NO_FATAL_FAILURE(send_garbage(short_length, Bytes{0x00, 0x10, 'x'}));
  ASSERT_NO_FATAL_FAILURE(send_garbage(much, Bytes(80, 0x01), true));

  const Json greylist = node_->json({"greylist"});
  ASSERT_EQ(greylist.size(), 2U) << greylist;
  for (const Json& entry : greylist) {
    const std::string prefix = entry["prefix"];
    EXPECT_TRUE(prefix == short_length || prefix == much) << entry;
    EXPECT_EQ(entry["reason"], prefix == short_length ? "bad_length" : "not_enough_proof_of_work") << entry;
    EXPECT_EQ(entry["by"], "layer");
    EXPECT_TRUE(entry["until"].is_string()) << entry;
  }
  EXPECT_EQ(node_->json({"is", "address", "banned", much})["list"], "greylist");
  ASSERT_NO_FATAL_FAILURE(expect_shut_out(much, "greylisted"));

  const std::string story = done({"why", much});
  EXPECT_EQ(story.rfind(much + " would be refused: greylisted as " + much, 0), 0U) << story;
  EXPECT_NE(story.find("not_enough_proof_of_work"), std::string::npos) << story;
  const Json why = node_->json({"why", much});
  EXPECT_EQ(why["list"], "greylist");
  ASSERT_EQ(why["entries"].size(), 1U) << why;
  EXPECT_EQ(why["events"][0]["addr"], much) << why;
  EXPECT_GE(why["counts"].size(), 2U) << "refused and greylisted\n" << why;

  EXPECT_EQ(done({"greylist", "clear"}), "2 greylistings lifted\n");
  const Json cleared = node_->json_lines({"events"}).back();
  EXPECT_EQ(cleared["event"], "greylist_cleared") << cleared;
  EXPECT_EQ(cleared["greylistings"], 2) << cleared;
  EXPECT_EQ(node_->json({"why", much})["events"][0]["event"], "greylist_cleared") << node_->json({"why", much});

  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands_from(peer, much));
  EXPECT_TRUE(banned(enemy));
}

// ---- all lists

TEST_F(Lists, AreClearedButForTrust) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  done({"ban", "address", "10.0.0.0/8"});
  done({"ban", "address", "2001:db8::/48"});
  done({"trust", "address", "192.0.2.7"});

  EXPECT_EQ(done({"clear", "acls"}), "2 bans and 0 greylistings lifted\n");
  const auto events = node_->json_lines({"events"});
  EXPECT_EQ(events.back()["event"], "acls_cleared") << events.back();
  EXPECT_EQ(events.back()["bans"], 2) << events.back();
  EXPECT_EQ(events.back()["greylistings"], 0) << events.back();
  EXPECT_NE(done({"events"}).find("(bans: 2, greylistings: 0)"), std::string::npos) << done({"events"});

  const Json acl = node_->json({"acl"});
  EXPECT_EQ(acl["blacklist"], Json::array());
  EXPECT_EQ(acl["greylist"], Json::array());
  EXPECT_EQ(acl["whitelist"].size(), 1U);
}

TEST_F(Lists, WhyTellsOfAPeerAndOfTheAddressWhereItWasSeen) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string address = fresh_address();
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands_from(peer, address));

  Json why = node_->json({"why", peer.peer_id()});
  EXPECT_EQ(why["summary"].get<std::string>().rfind("is connected since", 0), 0U) << why;
  EXPECT_EQ(why["banned"], false);
  EXPECT_EQ(why["connections"].size(), 1U) << why;
  EXPECT_EQ(why["peers"].size(), 1U) << why;
  const Json by_address = node_->json({"why", address});
  ASSERT_EQ(by_address["connections"].size(), 1U) << by_address;
  EXPECT_EQ(by_address["connections"][0]["peer_id"], why["connections"][0]["peer_id"]);

  done({"ban", "peer", peer.peer_id(), "--reason", "rude"});
  expect_ended(peer, "peer_banned");

  why = node_->json({"why", peer.peer_id()});
  EXPECT_EQ(why["list"], "blacklist") << why;
  EXPECT_EQ(why["reason"], "rude");
  EXPECT_EQ(why["peers"][0][1]["banned"], true) << why;
  EXPECT_EQ(node_->json({"why", address})["banned"], false);
  EXPECT_NE(done({"why", address}).find("; its peer " + peer.peer_id() + " is banned, see `bulkhead why "),
            std::string::npos)
      << done({"why", address});
  EXPECT_NE(done({"why", "203.0.113.9"}).find("nothing else is known"), std::string::npos);
}

TEST_F(Lists, GreylistForTheTimeThatIsSet) {
  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--greylist-timeout", "2"}, .difficulty = 8}));
  const std::string address = fresh_address();
  Peer rude = node_->make_peer();
  ASSERT_TRUE(rude.connect(node_->point(), address));
  ASSERT_TRUE(rude.send_raw(Bytes(80, 0x01)));

  expect_event("not_enough_proof_of_work", address);

  EXPECT_TRUE(eventually([&] { return !banned(address); })) << node_->events();
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands_from(peer, address));
}

TEST_F(Lists, EventsNameThePrefix) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  done({"ban", "address", "10.0.0.0/8"});

  const Json event = node_->wait_event("banned", "10.0.0.0");

  EXPECT_EQ(event.value("prefix", ""), "10.0.0.0/8") << event;
  EXPECT_NE(done({"events"}).find("banned                10.0.0.0/8"), std::string::npos) << done({"events"});
  EXPECT_EQ(node_->json({"status"})["lists"]["blacklist"], 1);
}

TEST_F(Lists, AreShownWhileTheControllerIsStopped) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  done({"ban", "address", "10.0.0.0/8", "--reason", "rude"});
  const pid_t controller = node_->service_pid("controller");
  ASSERT_GT(controller, 0);
  ASSERT_EQ(::kill(controller, SIGSTOP), 0);

  EXPECT_EQ(entry("blacklist", "10.0.0.0/8").value("reason", ""), "rude");
  EXPECT_TRUE(banned("10.1.2.3"));
  EXPECT_NE(done({"acl"}).find("10.0.0.0/8"), std::string::npos);
  EXPECT_EQ(node_->json({"greylist"}), Json::array());
  EXPECT_EQ(node_->json({"why", "10.1.2.3"})["reason"], "rude");
  EXPECT_NE(done({"acl", "export"}).find("10.0.0.0/8 reason=rude\n"), std::string::npos);

  ::kill(controller, SIGCONT);
}

TEST_F(Lists, AreImportedAndExported) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  const std::string peer = "idrdoT9g6YwELhUQyshCcHwAzBS9zA";
  std::string text = "# feed\n192.0.2.0/24 until=2199-01-01T00:00:00Z abuse\n" + peer + "\n198.51.100.7 list=white\n";
  for (int i = 0; i < 3000; ++i) text += "10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250) + "\n";

  EXPECT_EQ(done({"acl", "import", "-"}, text), "3003 entries imported\n");
  const Json imported = node_->json_lines({"events"}).back();
  EXPECT_EQ(imported["event"], "acls_imported") << imported;
  EXPECT_EQ(imported["entries"], 3003) << imported;

  EXPECT_EQ(entry("blacklist", "192.0.2.0/24").value("until", ""), "2199-01-01T00:00:00.000Z");
  EXPECT_EQ(entry("blacklist", "192.0.2.0/24").value("reason", ""), "abuse");
  EXPECT_FALSE(entry("blacklist", peer).is_null());
  EXPECT_FALSE(entry("whitelist", "198.51.100.7").is_null());
  EXPECT_TRUE(banned("10.1.11.249"));

  const std::string exported = done({"acl", "export"});
  done({"clear", "acls"});
  EXPECT_FALSE(banned("10.1.11.249"));
  const std::string file = node_->data_dir() + "/exported";
  write_file(file, exported);
  EXPECT_EQ(done({"acl", "import", file}), "3003 entries imported\n");
  EXPECT_EQ(done({"acl", "export", file}), "");
  EXPECT_EQ(read_file(file), exported);
}

TEST_F(Lists, TellNumbersToPrograms) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  const auto answer = [&](std::vector<std::string> words, const std::string& input = "") {
    words.push_back("--json");
    return Json::parse(done(words, input));
  };
  EXPECT_EQ(answer({"acl", "import", "-"},
                   "10.0.0.0/8\n10.0.0.0/8 again\n10.1.0.0/16 until=2001-01-01T00:00:00Z\n192.0.2.7 " +
                       std::string(60, 'x') + "\n"),
            Json({{"ok", true},
                  {"text", "2 entries imported"},
                  {"entries", 2},
                  {"repeated", 1},
                  {"over", 1},
                  {"reasons_shortened", 1}}));
  EXPECT_EQ(answer({"acl", "import", "-"})["entries"], 0);
  EXPECT_EQ(answer({"clear", "acls"}),
            Json({{"ok", true}, {"text", "2 bans and 0 greylistings lifted"}, {"bans", 2}, {"greylistings", 0}}));
  EXPECT_EQ(answer({"greylist", "clear"}),
            Json({{"ok", true}, {"text", "0 greylistings lifted"}, {"greylistings", 0}}));
  const auto shortened = node_->cli({"acl", "import", "-"}, "203.0.113.1 " + std::string(60, 'x') + "\n");
  EXPECT_EQ(shortened.exit_status, 0) << shortened;
  EXPECT_NE(shortened.err.find("1 reason shortened to 47 bytes"), std::string::npos) << shortened;
}

TEST_F(Lists, StayAsTheyAreWhenAnImportHasABadLine) {
  ASSERT_NO_FATAL_FAILURE(start_alone());

  expect_refused({"acl", "import", "-"}, "standard input:2: 'lst=white' is no field", 1,
                 "10.0.0.0/8\n10.0.0.9 lst=white\n");
  expect_refused({"acl", "import", "-"}, "standard input:2: 'x.example'", 1, "10.0.0.0/8\nx.example\n");
  expect_refused({"acl", "import", node_->data_dir() + "/none"}, "No such file");

  EXPECT_EQ(node_->json({"acl"})["blacklist"], Json::array());
}

TEST_F(Lists, RefuseAnImportThatTrustsWhatIsBanned) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  const std::string peer = "idrdoT9g6YwELhUQyshCcHwAzBS9zA";
  done({"ban", "address", "10.0.0.0/8"});
  done({"ban", "peer", peer});

  expect_refused({"acl", "import", "-"},
                 "standard input:2: 10.1.2.3 cannot be trusted while 10.0.0.0/8 is banned: `bulkhead unban address "
                 "10.0.0.0/8` first; nothing was changed",
                 1, "192.0.2.7\n10.1.2.3 list=white\n");
  expect_refused({"acl", "import", "--list", "white", "-"}, "unban peer " + peer, 1, peer + "\n");
  expect_refused({"acl", "import", "-"},
                 "standard input:1: 192.0.2.7 cannot be trusted while line 2 bans 192.0.2.0/24; nothing was changed", 1,
                 "192.0.2.7 list=white\n192.0.2.0/24\n");

  Json acl = node_->json({"acl"});
  EXPECT_EQ(acl["blacklist"].size(), 2U) << acl;
  EXPECT_EQ(acl["whitelist"], Json::array());

  // A ban that came later does not keep the lists from being exported and imported elsewhere.
  done({"trust", "address", "198.51.100.7"});
  done({"ban", "address", "198.51.100.0/24"});
  const std::string exported = done({"acl", "export"});
  EXPECT_NE(exported.find("# without effect while 198.51.100.0/24 is banned: 198.51.100.7 list=white\n"),
            std::string::npos)
      << exported;
  EXPECT_EQ(done({"acl", "import", "-"}, exported), "3 entries imported\n");

  const Json listed = node_->json({"acl", "export"});
  acl = node_->json({"acl"});
  ASSERT_EQ(listed.size(), 4U) << listed;
  for (Json entry : listed) {
    const Json list = entry["list"];
    EXPECT_EQ(entry.value("without_effect_under", ""), list == "whitelist" ? "198.51.100.0/24" : "") << entry;
    entry.erase("list");
    entry.erase("without_effect_under");
    const Json& of_acl = acl[list.get<std::string>()];
    EXPECT_NE(std::find(of_acl.begin(), of_acl.end(), entry), of_acl.end()) << entry << " is not in " << of_acl;
  }
  const std::string file = node_->data_dir() + "/exported.json";
  EXPECT_EQ(done({"acl", "export", "--json", file}), "");
  EXPECT_EQ(Json::parse(read_file(file)), listed);
  done({"clear", "acls"});
  done({"untrust", "address", "198.51.100.7"});
  EXPECT_EQ(node_->json({"acl", "export"}), Json::array());
}

TEST_F(Lists, SayThatThereIsNothingInThem) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"acl"}, "bulkhead: nobody is banned, greylisted or trusted\n"},
      {{"greylist"}, "bulkhead: nobody is greylisted\n"},
      {{"connections"}, "bulkhead: no connections\n"},
      {{"peers"}, "bulkhead: no known peers\n"},
      {{"points"}, "bulkhead: no known points\n"},
      {{"points", "--filter", "running"}, "bulkhead: no known points in that state\n"},
  };
  for (const auto& [words, said] : cases) {
    const auto result = node_->cli(words);
    EXPECT_EQ(result.exit_status, 0) << result;
    EXPECT_EQ(result.err, said) << result;
    auto with_json = words;
    with_json.push_back("--json");
    EXPECT_EQ(node_->cli(with_json).err, "");
  }
}

TEST_F(Lists, RefuseWrongWordsWithWhatWasExpected) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  expect_refused({"ban", "address", "example.org"}, "192.0.2.7, 10.0.0.0/8", 2);
  expect_refused({"ban", "address", "10.0.0.1/8"}, "did you mean 10.0.0.0/8?", 2);
  expect_refused({"ban", "peer", "id"}, "not a peer id", 2);
  expect_refused({"ban", "address", "10.0.0.0/8", "--for", "soon"}, "90s, 15m, 24h", 2);
}

}  // namespace
}  // namespace bulkhead::testing
