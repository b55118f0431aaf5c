#include "services/controller/cli/acl_file.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/address.h"
#include "base/prefix.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using schema::ImportList;
using schema::ImportRow;

constexpr std::int64_t kNow = 1'700'000'000'000;
constexpr const char* kPeer = "idrdoT9g6YwELhUQyshCcHwAzBS9zA";

ImportEntries parsed(std::string_view text, ImportList list = ImportList::kBlack) {
  auto entries = parse_import(text, "file", {.list = list}, kNow);
  EXPECT_TRUE(entries) << entries.error().text;
  return entries ? *entries : ImportEntries{};
}

std::string refusal(std::string_view text) {
  const auto entries = parse_import(text, "file", {}, kNow);
  EXPECT_FALSE(entries) << text;
  return entries ? "" : entries.error().text;
}

std::string target(const ImportRow& row) {
  return row.is_peer != 0 ? wire::peer_id_text(row.subject) : to_text(Prefix{Address{row.subject}, row.length});
}

std::string words(const ImportRow& row) {
  return {row.text.data(), row.text_size};
}

TEST(ImportFile, TakesAPlainListOfPrefixesInAnyLineEnd) {
  const auto entries = parsed("\xef\xbb\xbf# a feed\r\n10.0.0.0/8\r\n\r\n  2001:db8::/48\t\r\n192.0.2.7");
  ASSERT_EQ(entries.rows.size(), 3U);
  EXPECT_EQ(target(entries.rows[0]), "10.0.0.0/8");
  EXPECT_EQ(target(entries.rows[1]), "192.0.2.7");
  EXPECT_EQ(target(entries.rows[2]), "2001:db8::/48");
  for (const auto& row : entries.rows) {
    EXPECT_EQ(row.list, 0);
    EXPECT_EQ(row.until_ms, 0);
    EXPECT_EQ(row.text_size, 0);
  }
}

TEST(ImportFile, TakesEndListAndReason) {
  const auto entries = parsed(std::string("10.0.0.0/8 for=1h abuse  feed # 7\n") + kPeer +
                              " list=white until=2030-01-01T00:00:00Z\n192.0.2.7 ; a comment\n"
                              "192.0.2.8 reason=for=1h is no field here\n");
  ASSERT_EQ(entries.rows.size(), 4U);
  EXPECT_EQ(entries.rows[0].until_ms, kNow + 3'600'000);
  EXPECT_EQ(words(entries.rows[0]), "abuse  feed # 7");
  EXPECT_EQ(words(entries.rows[1]), "");
  EXPECT_EQ(words(entries.rows[2]), "for=1h is no field here");
  EXPECT_EQ(target(entries.rows[3]), kPeer);
  EXPECT_EQ(entries.rows[3].list, 1);
  EXPECT_EQ(entries.rows[3].until_ms, 1'893'456'000'000);
}

TEST(ImportFile, TakesWordsWithAnEqualsSignWhereTheyAreNoField) {
  const auto entries =
      parsed("10.0.0.1 reason=port=22 scans\n10.0.0.2 https://a.example/?id=7\n10.0.0.3 scans port=22\n");
  ASSERT_EQ(entries.rows.size(), 3U);
  EXPECT_EQ(words(entries.rows[0]), "port=22 scans");
  EXPECT_EQ(words(entries.rows[1]), "https://a.example/?id=7");
  EXPECT_EQ(words(entries.rows[2]), "scans port=22");
}

TEST(ImportFile, TakesTheListThatWasGivenForLinesThatNameNone) {
  const auto entries = parsed("10.0.0.1\n10.0.0.2 list=black\n", ImportList::kWhite);
  ASSERT_EQ(entries.rows.size(), 2U);
  EXPECT_EQ(target(entries.rows[0]), "10.0.0.2");
  EXPECT_EQ(target(entries.rows[1]), "10.0.0.1");
  EXPECT_EQ(entries.rows[1].list, 1);
}

TEST(ImportFile, EndsAsWasGivenForLinesThatNameNoEnd) {
  const auto entries = parse_import("10.0.0.1\n10.0.0.2 for=1h\n", "file", {.until_ms = kNow + 5}, kNow);
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->rows.size(), 2U);
  EXPECT_EQ(entries->rows[0].until_ms, kNow + 5);
  EXPECT_EQ(entries->rows[1].until_ms, kNow + 3'600'000);
}

TEST(ImportFile, KeepsTheLastOfEqualTargetsAndLeavesOutWhatIsOver) {
  const auto entries = parsed("10.0.0.1 one\n10.0.0.2 until=2001-01-01T00:00:00Z\n10.0.0.1 two\n10.0.0.1 list=white\n");
  ASSERT_EQ(entries.rows.size(), 2U);
  EXPECT_EQ(words(entries.rows[0]), "two");
  EXPECT_EQ(entries.repeated, 1U);
  EXPECT_EQ(entries.over, 1U);
}

TEST(ImportFile, ShortensReasonsAtACharactersEnd) {
  const auto entries = parsed("10.0.0.1 " + std::string(46, 'x') + "\xc3\xa4\n10.0.0.2 " + std::string(47, 'y') + "\n");
  ASSERT_EQ(entries.rows.size(), 2U);
  EXPECT_EQ(words(entries.rows[0]), std::string(46, 'x'));
  EXPECT_EQ(words(entries.rows[1]), std::string(47, 'y'));
  EXPECT_EQ(entries.shortened, 1U);
}

TEST(ImportFile, NamesTheLineThatIsWrongAndWhatWasExpected) {
  EXPECT_EQ(refusal("10.0.0.1\n\n10.0.0.1/8\n").rfind("file:3: '10.0.0.1/8': 10.0.0.1/8 has bits beyond /8", 0), 0U);
  EXPECT_NE(refusal("example.org").find("file:1: 'example.org': not an address or a prefix"), std::string::npos);
  EXPECT_NE(refusal("example.org").find("; a line begins with a prefix, an address or a peer id, or with #"),
            std::string::npos);
  EXPECT_NE(refusal("10.0.0.1#note").find("'10.0.0.1#note'"), std::string::npos) << "no space, no comment";
  EXPECT_NE(refusal("10.0.0.1 for=soon").find("file:1: 'for=soon': not a duration"), std::string::npos);
  EXPECT_NE(refusal("10.0.0.1 until=tomorrow").find("until=2030-01-01T00:00:00Z"), std::string::npos);
  for (const char* line :
       {"10.0.0.1 port scans until=2030-01-01T00:00:00Z", "10.0.0.1 a b for=1h", "10.0.0.1 our own list=white"}) {
    EXPECT_NE(refusal(line).find("stands in the reason"), std::string::npos) << line;
  }
  EXPECT_NE(refusal("10.0.0.1 list=grey").find("list=black or list=white"), std::string::npos);
  for (const char* line : {"10.0.0.1 lst=white", "10.0.0.1 LIST=white", "10.0.0.1 unitl=2030-01-01T00:00:00Z",
                           "10.0.0.1 for=1h Reason=rude", "10.0.0.1 port=22 scans"}) {
    EXPECT_NE(refusal(line).find("' is no field; there are until=, for=, list= and reason=, and a reason that begins "
                                 "so is written behind reason="),
              std::string::npos)
        << line;
  }
  EXPECT_NE(refusal("10.0.0.1 list=white list=black").find("two lists; give list= once"), std::string::npos);
  EXPECT_NE(refusal("10.0.0.1 for=1h until=2030-01-01T00:00:00Z").find("two ends"), std::string::npos);
  EXPECT_NE(refusal("10.0.0.1 " + std::string(2000, 'x')).find("file:1: the line has 2009 bytes"), std::string::npos);
  EXPECT_NE(refusal(std::string("10.0.0.1\0\n", 10)).find("file:1: '10.0.0.1\\x00'"), std::string::npos);
  EXPECT_NE(refusal("a\nb").find("; nothing was changed"), std::string::npos);
}

TEST(ImportFile, OfNothingIsNothing) {
  EXPECT_TRUE(words(parsed("10.0.0.1 # a comment").rows.at(0)).empty());
  EXPECT_TRUE(words(parsed("10.0.0.1 for=1h ; a comment").rows.at(0)).empty());
  for (const char* text : {"", "\n", "\r\n\r\n", "# only\n;words", "\xef\xbb\xbf"}) {
    EXPECT_TRUE(parsed(text).rows.empty()) << text;
  }
}

TEST(ImportFile, TakesAMillionLinesInAnyOrder) {
  constexpr std::uint32_t kLines = 1'000'000;
  std::string text;
  for (std::uint32_t i = 0; i < kLines; ++i) {
    // An odd factor: each number once, in no order.
    const std::uint32_t mixed = (i * 2654435761U) % (1U << 24);
    text += "10." + std::to_string(mixed >> 16) + "." + std::to_string(mixed >> 8 & 255) + "." +
            std::to_string(mixed & 255) + "\n";
  }
  const auto entries = parsed(text);
  EXPECT_EQ(entries.rows.size(), kLines);
  EXPECT_EQ(entries.repeated, 0U);
  EXPECT_TRUE(std::is_sorted(entries.rows.begin(), entries.rows.end(),
                             [](const auto& a, const auto& b) { return a.subject < b.subject; }));
}

TEST(ImportFile, GivesBackWhatWasExported) {
  const auto prefix = [](const char* text) { return *parse_prefix(text); };
  std::vector<shm::ListEntry> entries = {shm::ListEntry::of(shm::AclList::kBlack, prefix("10.0.0.0/8")),
                                         shm::ListEntry::of(shm::AclList::kBlack, prefix("2001:db8::1")),
                                         shm::ListEntry::of(shm::AclList::kBlack, *wire::parse_peer_id(kPeer)),
                                         shm::ListEntry::of(shm::AclList::kWhite, prefix("192.0.2.0/24"))};
  entries[0].until_ms = kNow + 1234;
  entries[0].set_text("for=1h is not its end");
  entries[1].set_text("# not a comment");
  entries[3].set_text("a friend");
  std::string text;
  for (const auto& entry : entries) text += export_line(entry);
  const auto again = parsed(text);
  ASSERT_EQ(again.rows.size(), entries.size()) << text;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const ImportRow& row = again.rows[i];
    EXPECT_EQ(words(row), entries[i].words());
    EXPECT_EQ(row.until_ms, entries[i].until_ms);
    EXPECT_EQ(row.list, static_cast<std::uint8_t>(entries[i].list));
    EXPECT_EQ(target(row), entries[i].is_peer ? wire::peer_id_text(entries[i].peer) : to_text(entries[i].prefix));
  }
}

/// What is said of trust in this text while `ban` stands; empty when nothing is wrong.
std::string useless(std::string_view text, const std::string& ban = "") {
  const auto checked = check_trust(parsed(text), text, "file", {}, kNow, [&](const ImportRow& row) {
    std::optional<shm::ListEntry> standing;
    if (!ban.empty() && row.is_peer == 0) standing = shm::ListEntry::of(shm::AclList::kBlack, *parse_prefix(ban));
    return standing;
  });
  return checked ? "" : checked.error().text;
}

TEST(ImportFile, NamesTheBanOfTheSameFileThatMakesALineUseless) {
  EXPECT_EQ(useless("# a list\n10.1.2.3 list=white\n10.0.0.0/8\n"),
            "file:2: 10.1.2.3 cannot be trusted while line 3 bans 10.0.0.0/8; nothing was changed");
  EXPECT_NE(useless("10.0.0.0/8\n10.0.0.0/8 list=white\n").find("file:2: 10.0.0.0/8 cannot"), std::string::npos);
  EXPECT_NE(useless("2001:db8::/32\n2001:db8::1 list=white\n").find("line 1 bans 2001:db8::/32"), std::string::npos);
  EXPECT_NE(useless(std::string(kPeer) + "\n" + kPeer + " list=white\n").find("line 1 bans id"), std::string::npos);
  EXPECT_NE(useless("10.0.0.0/8\n10.0.0.0/8 again\n10.1.2.3 list=white\n").find("line 2 bans"), std::string::npos)
      << "the last of equal lines counts";
}

TEST(ImportFile, NamesTheStandingBanThatMakesALineUseless) {
  EXPECT_EQ(useless("11.1.2.3\n10.1.2.3 list=white\n", "10.0.0.0/8"),
            "file:2: 10.1.2.3 cannot be trusted while 10.0.0.0/8 is banned: `bulkhead unban address 10.0.0.0/8` first; "
            "nothing was changed");
}

TEST(ImportFile, TrustsWhatNoBanIsOver) {
  EXPECT_EQ(useless("10.1.2.3\n10.0.0.0/8 list=white\n"), "") << "most of it can be trusted";
  EXPECT_EQ(useless("10.0.0.0/8\n11.1.2.3 list=white\n"), "");
  EXPECT_EQ(useless("::/0\n10.1.2.3 list=white\n"), "") << "families are apart";
  EXPECT_EQ(useless("10.0.0.0/8 until=2000-01-01T00:00:00Z\n10.1.2.3 list=white\n"), "") << "over already";
  EXPECT_EQ(useless("10.0.0.0/8\n"), "");
}

TEST(ImportFile, LeavesOutWhatWasExportedAsUseless) {
  const auto trust = shm::ListEntry::of(shm::AclList::kWhite, *parse_prefix("10.1.2.3"));
  const std::string line = export_line(trust, shm::ListEntry::of(shm::AclList::kBlack, *parse_prefix("10.0.0.0/8")));
  EXPECT_EQ(line, "# without effect while 10.0.0.0/8 is banned: 10.1.2.3 list=white\n");
  EXPECT_TRUE(parsed(line).rows.empty());
}

TEST(Times, AreReadAsRfc3339HasThem) {
  EXPECT_EQ(parse_time("1970-01-01T00:00:00Z"), 0);
  EXPECT_EQ(parse_time("2023-11-14T22:13:20.5Z"), 1'700'000'000'500);
  EXPECT_EQ(parse_time("2023-11-14t22:13:20.1239z"), 1'700'000'000'123);
  EXPECT_EQ(parse_time("2023-11-15T00:13:20+02:00"), 1'700'000'000'000);
  EXPECT_EQ(parse_time("2023-11-14T20:13:20-02:00"), 1'700'000'000'000);
  EXPECT_EQ(parse_time("2024-02-29T00:00:00Z"), 1'709'164'800'000);
  for (const char* text : {"", "2023-11-14", "2023-02-29T00:00:00Z", "2023-13-01T00:00:00Z", "2023-11-14T24:00:00Z",
                           "2023-11-14T22:60:20Z", "2023-11-14T22:13:20", "2023-11-14T22:13:20.Z",
                           "2023-11-14T22:13:20+0200", "2023-11-14T22:13:20Zx", "1969-12-31T23:59:59Z",
                           "1970-01-01T00:00:00+01:00", "02023-11-14T22:13:20Z", "2023-11-14 22:13:20Z"}) {
    EXPECT_EQ(parse_time(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace bulkhead::cli
