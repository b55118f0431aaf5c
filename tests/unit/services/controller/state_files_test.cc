#include "services/common/state_files.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/services/controller/store_support.h"

namespace bulkhead::service {
namespace {

using controller::test::DataDirectory;
using controller::test::read_file;
using controller::test::write_file;

mode_t mode_of(const std::string& path) {
  struct stat info {};
  EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

TEST(StateFiles, AreTheOwnersAlone) {
  const DataDirectory data;
  const StateFiles files = data.files();
  EXPECT_EQ(mode_of(data.path() + "/state"), 0700U);
  EXPECT_EQ(mode_of(data.file("state.db")), 0600U);
  EXPECT_EQ(mode_of(data.file("state.db-wal")), 0600U);
}

TEST(StateFiles, OfAnOrdinaryUserStayTheirsWhenRootStartsTheNode) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const DataDirectory data;
  constexpr uid_t kUser = 62099;
  ASSERT_EQ(::chown(data.path().c_str(), kUser, kUser), 0);
  std::filesystem::remove_all(data.path() + "/state");
  const auto directory = open_state_directory(data.path());
  ASSERT_TRUE(directory);
  ASSERT_TRUE(open_state_database(directory->get()));
  for (const char* name : {"/state", "/state/state.db"}) {
    struct stat info {};
    ASSERT_EQ(::stat((data.path() + name).c_str(), &info), 0);
    EXPECT_EQ(info.st_uid, kUser) << name;
    EXPECT_EQ(info.st_gid, kUser) << name;
  }
}

TEST(StateFiles, OfAnotherUserAreAnErrorThatSaysWhatToDo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const DataDirectory data;
  ASSERT_TRUE(data.files().database);
  ASSERT_EQ(::chmod(data.path().c_str(), 0755), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t kUser = 62099;
    if (::setresuid(kUser, kUser, kUser) != 0) ::_exit(1);
    const auto directory = open_state_directory(data.path());
    const auto database = open_state_database(data.state());
    for (const auto* opened : {&directory, &database}) {
      if (*opened || opened->error().errno_value != EACCES) ::_exit(2);
      if (opened->error().text.find("chown") == std::string::npos) ::_exit(3);
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(StateFiles, AreNoLinksAndNoOtherThings) {
  const DataDirectory data;
  const std::string elsewhere = data.path() + "/elsewhere";
  write_file(elsewhere, "untouched");
  std::filesystem::create_symlink(elsewhere, data.file("state.db"));
  const auto linked = open_state_database(data.state());
  ASSERT_FALSE(linked);
  EXPECT_EQ(linked.error().code, ErrorCode::kRefused) << linked.error().text;
  std::filesystem::remove(data.file("state.db"));
  std::filesystem::create_hard_link(elsewhere, data.file("state.db"));
  EXPECT_FALSE(open_state_database(data.state()));
  ASSERT_EQ(::mkfifo(data.file("state.db-wal").c_str(), 0600), 0);
  EXPECT_FALSE(open_state_log(data.state()));
  EXPECT_EQ(read_file(elsewhere), "untouched");

  std::filesystem::remove_all(data.path() + "/state");
  std::filesystem::create_directory(data.path() + "/other");
  std::filesystem::create_directory_symlink(data.path() + "/other", data.path() + "/state");
  EXPECT_FALSE(open_state_directory(data.path()));
}

TEST(StateFiles, BelongToOneOpenDescriptor) {
  const DataDirectory data;
  auto first = open_state_database(data.state());
  ASSERT_TRUE(first);
  const auto second = open_state_database(data.state());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kRefused) << second.error().text;
  // A copy holds the lock as well.
  auto copy = duplicate(first->get());
  ASSERT_TRUE(copy);
  first->reset();
  EXPECT_FALSE(open_state_database(data.state()));
  copy->reset();
  EXPECT_TRUE(open_state_database(data.state()));
}

TEST(StateFiles, AreSetAsideWithoutLoss) {
  const DataDirectory data;
  constexpr std::int64_t kMs = 1'700'000'000'000;  // 2023-11-14T22:13:20Z
  const std::string name = "state.db.damaged-20231114T221320Z";
  for (const char* suffix : {"", "-2", "-3"}) {
    write_file(data.file("state.db"), std::string("database") + suffix);
    write_file(data.file("state.db-wal"), std::string("log") + suffix);
    const auto kept = set_aside_state(data.state(), false, kMs);
    ASSERT_TRUE(kept) << kept.error().text;
    EXPECT_EQ(*kept, name + suffix);
    EXPECT_EQ(read_file(data.file(*kept)), std::string("database") + suffix);
    EXPECT_EQ(read_file(data.file(*kept + "-wal")), std::string("log") + suffix);
    EXPECT_FALSE(std::filesystem::exists(data.file("state.db")));
    EXPECT_FALSE(std::filesystem::exists(data.file("state.db-wal")));
  }
  // A database without a log.
  write_file(data.file("state.db"), "alone");
  EXPECT_TRUE(set_aside_state(data.state(), false, kMs));
  EXPECT_FALSE(set_aside_state(data.state(), false, kMs)) << "there is none";
}

TEST(StateFiles, AreSetAsideWhenTheyWereEmptiedAndNotWhenTheyAreNew) {
  const DataDirectory data;
  const auto set_aside = [&]() -> std::optional<std::string> {
    const auto kept = set_aside_empty_state(data.state(), 0);
    EXPECT_TRUE(kept) << kept.error().text;
    return kept ? *kept : std::nullopt;
  };
  EXPECT_EQ(set_aside(), std::nullopt) << "there is none";
  write_file(data.file("state.db"), "");
  EXPECT_EQ(set_aside(), std::nullopt) << "a start that ended before anything was stored";
  write_file(data.file("peers.json.written"), "1 2.3 4\n");
  write_file(data.file("state.db-wal"), "log");
  EXPECT_EQ(set_aside(), std::nullopt) << "the log may have it all";
  write_file(data.file("state.db-wal"), "");
  write_file(data.file("state.db"), "database");
  EXPECT_EQ(set_aside(), std::nullopt);
  write_file(data.file("state.db"), "");
  EXPECT_EQ(set_aside(), "state.db.damaged-19700101T000000Z");
  EXPECT_FALSE(std::filesystem::exists(data.file("state.db")));
  EXPECT_TRUE(std::filesystem::exists(data.file("state.db.damaged-19700101T000000Z")));
  EXPECT_EQ(set_aside(), std::nullopt);
}

TEST(StateFiles, AreMissedWhereANodeHadThem) {
  const DataDirectory data;
  EXPECT_FALSE(lost_state(data.state())) << "a first start";
  write_file(data.file("peers.json.written"), "1 2.3 4\n");
  EXPECT_TRUE(lost_state(data.state()));
  write_file(data.file("state.db-wal"), "log");
  EXPECT_FALSE(lost_state(data.state())) << "that is a damaged one";
  write_file(data.file("state.db-wal"), "");
  EXPECT_TRUE(lost_state(data.state()));
  write_file(data.file("state.db"), "");
  EXPECT_FALSE(lost_state(data.state()));
}

TEST(StateFiles, HaveTheLogAloneSetAside) {
  const DataDirectory data;
  write_file(data.file("state.db"), "whole");
  write_file(data.file("state.db-wal"), "damaged");
  const auto kept = set_aside_state(data.state(), true, 0);
  ASSERT_TRUE(kept) << kept.error().text;
  EXPECT_EQ(*kept, "state.db.damaged-19700101T000000Z-wal");
  EXPECT_EQ(read_file(data.file(*kept)), "damaged");
  EXPECT_EQ(read_file(data.file("state.db")), "whole");
  EXPECT_FALSE(std::filesystem::exists(data.file("state.db-wal")));
}

}  // namespace
}  // namespace bulkhead::service
