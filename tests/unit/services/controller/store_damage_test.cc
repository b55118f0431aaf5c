#include <sqlite3.h>

#include <random>

#include "tests/unit/services/controller/store_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests

constexpr std::uint32_t kEntries = 400;

/// A directory with a database of some pages. `in_log`: the process that wrote it was killed, so that the last
/// entries stand in the log alone.
void fill(const DataDirectory& data, bool in_log = false) {
  Store store = data.opened();
  ASSERT_TRUE(store.load(1));
  Changes changes;
  for (std::uint32_t i = 0; i < kEntries; ++i) changes.push_back(ban(i, "a text of some length for entry"));
  for (int i = 0; i < 50; ++i) changes.push_back(happened(known("192.0.2.1:1").point, i));
  expect_done(store.commit(changes));
  if (!in_log) return;
  close(store);
  store = data.opened();
  for (std::uint32_t i = 0; i < 20; ++i) expect_done(store.commit({grey(i)}));
  const std::string database = read_file(data.file("state.db"));
  const std::string log = read_file(data.file("state.db-wal"));
  ASSERT_GT(log.size(), 32U);
  close(store);
  write_file(data.file("state.db"), database);
  write_file(data.file("state.db-wal"), log);
}

void expect_broken(const DataDirectory& data, bool log_alone = false) {
  const std::string database = read_file(data.file("state.db"));
  const std::string log = read_file(data.file("state.db-wal"));
  {
    Store store = data.store();
    expect_error(store.open(), ErrorCode::kBroken);
    EXPECT_EQ(store.log_damaged(), log_alone);
  }
  EXPECT_TRUE(read_file(data.file("state.db")) == database) << "it was touched";
  EXPECT_TRUE(read_file(data.file("state.db-wal")) == log) << "the log was touched";
}

/// Runs SQL on the file as any other program would.
void tamper(const DataDirectory& data, const std::string& sql) {
  sqlite3* connection = nullptr;
  ASSERT_EQ(
      sqlite3_open_v2(data.file("state.db").c_str(), &connection, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix"),
      SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(connection);
  sqlite3_close(connection);
}

TEST(StoreDamage, IsSeenInATruncatedFile) {
  const DataDirectory data;
  fill(data);
  const std::string whole = read_file(data.file("state.db"));
  ASSERT_GT(whole.size(), 8 * 4096U);
  for (const std::size_t size : std::initializer_list<std::size_t>{
           1, 99, 100, 511, 512, 4095, 4096, 8192, whole.size() / 2, whole.size() - 4096, whole.size() - 1}) {
    SCOPED_TRACE(size);
    write_file(data.file("state.db"), whole.substr(0, size));
    expect_broken(data);
  }
}

TEST(StoreDamage, IsSeenInAFileThatIsNoDatabase) {
  const DataDirectory data;
  fill(data);
  const std::string whole = read_file(data.file("state.db"));
  std::mt19937_64 random(7);
  std::string header = whole;
  for (std::size_t i = 0; i < 100; ++i) header[i] = static_cast<char>(random());
  std::string zeros = whole;
  std::fill_n(zeros.begin(), 100, '\0');
  for (const std::string& bytes : {header, zeros, std::string(50'000, 'x'), std::string(4096, '\0')}) {
    write_file(data.file("state.db"), bytes);
    expect_broken(data);
  }
}

TEST(StoreDamage, IsSeenInTheDatabaseOfAnotherProgram) {
  for (const char* sql : {"CREATE TABLE mine(x)", "PRAGMA user_version=1", "PRAGMA application_id=5",
                          "PRAGMA journal_mode=WAL; CREATE TABLE mine(x)"}) {
    const DataDirectory data;
    tamper(data, sql);
    expect_broken(data);
  }
}

TEST(StoreDamage, IsSeenInAChangedSchema) {
  for (const char* sql :
       {"CREATE TRIGGER t AFTER INSERT ON acl BEGIN DELETE FROM acl; END", "CREATE VIEW v AS SELECT 1",
        "CREATE INDEX i ON acl(reason)", "DROP TABLE anchors", "ALTER TABLE acl ADD COLUMN x INTEGER"}) {
    SCOPED_TRACE(sql);
    const DataDirectory data;
    fill(data);
    tamper(data, sql);
    Store store = data.store();
    expect_error(store.open(), ErrorCode::kBroken);
  }
}

TEST(StoreDamage, IsNotWhatALaterVersionWrote) {
  const DataDirectory data;
  fill(data);
  tamper(data, "PRAGMA user_version=2");
  const std::string before = read_file(data.file("state.db"));
  Store store = data.store();
  const auto opened = store.open();
  expect_error(opened, ErrorCode::kRefused);
  EXPECT_NE(opened.error().text.find("later version"), std::string::npos) << opened.error().text;
  close(store);
  EXPECT_TRUE(read_file(data.file("state.db")) == before);
}

TEST(StoreDamage, OfTheLogsBeginningIsTheLogsAlone) {
  const DataDirectory data;
  fill(data, true);
  std::string log = read_file(data.file("state.db-wal"));
  for (std::size_t i = 0; i < 32; ++i) log[i] = static_cast<char>(i * 37 + 1);
  write_file(data.file("state.db-wal"), log);
  expect_broken(data, true);
  // Without it, the database is as it was when the log was last moved into it.
  std::filesystem::remove(data.file("state.db-wal"));
  EXPECT_EQ(data.stored().acl.size(), kEntries);
}

TEST(StoreDamage, IsSeenWhenTheDatabaseIsGoneAndItsLogIsNot) {
  const DataDirectory data;
  fill(data, true);
  write_file(data.file("state.db"), "");
  expect_broken(data);
}

TEST(StoreDamage, OfTheLogsEndCostsTheLastCommitsAlone) {
  const DataDirectory data;
  fill(data, true);
  const std::string database = read_file(data.file("state.db"));
  const std::string log = read_file(data.file("state.db-wal"));
  std::size_t before = kEntries;
  // From nothing but its header up to all of it.
  for (std::size_t tenth = 0; tenth <= 10; ++tenth) {
    for (const bool garbage : {false, true}) {
      SCOPED_TRACE(testing::Message() << tenth << "/10, then " << (garbage ? "garbage" : "the end"));
      const std::size_t kept = 32 + (log.size() - 32) * tenth / 10;
      std::string shorter = log.substr(0, kept);
      if (garbage) shorter += std::string(log.size() - kept, '\x5a');
      write_file(data.file("state.db"), database);
      write_file(data.file("state.db-wal"), shorter);
      Store store = data.store();
      expect_done(store.open());
      const auto all = store.load(1);
      ASSERT_TRUE(all) << all.error().text;
      EXPECT_GE(all->acl.size(), before);
      before = all->acl.size();
    }
  }
  EXPECT_EQ(before, kEntries + 20);
}

TEST(StoreDamage, LeavesOutRowsWithValuesThatCannotBe) {
  const DataDirectory data;
  fill(data);
  const std::string id = "x'00112233445566778899aabbccddeeff'";
  const std::string point = "x'00112233445566778899aabbccddeeff2604'";
  const std::vector<std::string> rows = {
      "acl VALUES(7,0," + id + ",128,0,0,0,0,x'')",
      "acl VALUES(-1,0," + id + ",128,0,0,0,0,x'')",
      "acl VALUES(0,2," + id + ",128,0,0,0,0,x'')",
      "acl VALUES(0,0,x'0011',128,0,0,0,0,x'')",
      "acl VALUES(0,0,x'',128,0,0,0,0,x'')",
      "acl VALUES(0,0," + id + ",129,0,0,0,0,x'')",
      "acl VALUES(0,0," + id + ",64,0,0,0,0,x'')",
      "acl VALUES(0,1," + id + ",128,-5,0,0,0,x'')",
      "acl VALUES(1,1," + id + ",128,0,9223372036854775807,0,0,x'')",
      "acl VALUES(2,1," + id + ",128,0,0,60000,0,x'')",
      "acl VALUES(1,0," + id + ",128,0,0,0,16,x'')",
      "acl VALUES(2,0," + id + ",128,0,0,0,0,zeroblob(256))",
      "points VALUES(x'00',0,0,NULL,0,0,0,0,NULL,128,0)",
      "points VALUES(" + point + ",2,0,NULL,0,0,0,0,NULL,128,0)",
      "points VALUES(x'10112233445566778899aabbccddeeff2604',0,0,x'00',0,0,0,0,NULL,128,0)",
      "peers VALUES(" + id + ",0,9e999,0,NULL,0,0,0,0,0,0,x'')",
      "peers VALUES(x'10112233445566778899aabbccddeeff',0,1.0,0,x'',0,0,0,0,0,0,x'')",
      "peers VALUES(x'20112233445566778899aabbccddeeff',0,1.0,0,NULL,0,0,0,0,0,0,zeroblob(1025))",
      "history VALUES(x'0011223344',0,0,0,0,NULL,NULL,0)",
      "history VALUES(" + id + ",0,-1,0,0,NULL,NULL,0)",
      "history VALUES(" + id + ",1,0,256,0,NULL,NULL,0)",
      "anchors VALUES(0,x'00')",
      "settings VALUES(x'','')",
      "settings VALUES(x'61',zeroblob(2000))"};
  std::string sql;
  for (const std::string& row : rows) {
    const bool text = row.ends_with(",'')");
    sql += "INSERT INTO " + (text ? row.substr(0, row.size() - 3) + "x'')" : row) + ";";
  }
  tamper(data, sql);
  const Stored all = data.stored();
  EXPECT_EQ(all.left_out, rows.size());
  EXPECT_EQ(all.acl.size(), kEntries);
  EXPECT_EQ(all.history.size(), 50U);
  EXPECT_TRUE(all.points.empty() && all.peers.empty() && all.anchors.empty() && all.settings.empty());
}

TEST(StoreDamage, IsAValueTooLargeToBeRead) {
  const DataDirectory data;
  fill(data);
  tamper(data, "INSERT INTO settings VALUES(x'61',zeroblob(1000000))");
  Store store = data.store();
  const auto opened = store.open();
  if (!opened) {
    EXPECT_EQ(opened.error().code, ErrorCode::kBroken) << opened.error().text;
    return;
  }
  const auto all = store.load(1);
  ASSERT_FALSE(all);
  EXPECT_EQ(all.error().code, ErrorCode::kBroken) << all.error().text;
}

// Whatever stands in the files: an answer, and no crash.
TEST(StoreDamage, AnywhereInTheFilesEndsNothing) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937_64 random(seed);
  const DataDirectory data;
  fill(data, true);
  const std::string database = read_file(data.file("state.db"));
  const std::string log = read_file(data.file("state.db-wal"));
  int broken = 0;
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes[2] = {database, log};
    std::string& victim = bytes[random() % 2];
    if (victim.empty()) continue;
    const std::size_t spots = 1 + random() % 20;
    for (std::size_t i = 0; i < spots; ++i) {
      // Headers of pages and of frames are more telling than the middle of a text.
      std::size_t at = random() % victim.size();
      if (random() % 2 == 0) at -= at % 4096 - std::min<std::size_t>(at % 4096, random() % 64);
      victim[at] = static_cast<char>(random());
    }
    write_file(data.file("state.db"), bytes[0]);
    write_file(data.file("state.db-wal"), bytes[1]);
    Store store = data.store();
    const auto opened = store.open();
    if (!opened) {
      ++broken;
      EXPECT_TRUE(opened.error().code == ErrorCode::kBroken || opened.error().code == ErrorCode::kRefused)
          << opened.error().text;
      continue;
    }
    const auto all = store.load(1);
    if (!all) continue;
    EXPECT_LE(all->acl.size(), kEntries + 20);
    (void)store.commit({ban(1, "changed"), grey(5), happened(known("192.0.2.1:1").point, 5)});
    (void)store.later({ClearList{StoredList::kGrey}});
    (void)store.flush_all();
  }
  EXPECT_GT(broken, 10);
}

}  // namespace
}  // namespace bulkhead::controller
