#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

namespace fs = std::filesystem;

class State : public NodeTest {
 protected:
  std::string file(const std::string& name) { return node_->data_dir() + "/state/" + name; }

  /// A node that has run and stopped.
  void run_once() {
    ASSERT_NO_FATAL_FAILURE(start_alone());
    ASSERT_EQ(node_->stop(), 0);
  }
  void overwrite(const std::string& name, std::streamoff at, const std::string& bytes) {
    std::fstream out(file(name), std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(at);
    out << bytes;
  }
  /// Files in state/ whose name tells that they were set aside.
  std::vector<std::string> set_aside() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(node_->data_dir() + "/state")) {
      const std::string name = entry.path().filename();
      if (name.find(".damaged-") != std::string::npos) names.push_back(name);
    }
    return names;
  }
  bool logged(const std::string& text) { return node_->log().find(text) != std::string::npos; }
};

TEST_F(State, IsReadableByItsOwnerAlone) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  struct stat info {};
  ASSERT_EQ(::stat(file("").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  for (const char* name : {"state.db", "state.db-wal"}) {
    ASSERT_EQ(::stat(file(name).c_str(), &info), 0) << name;
    EXPECT_EQ(info.st_mode & 0777, 0600U) << name;
  }
}

TEST_F(State, OutlivesTheController) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t controller = node_->service_pid("controller");
  ASSERT_GT(controller, 0);
  ::kill(controller, SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const pid_t next = node_->service_pid("controller");
    return next > 0 && next != controller && node_->json({"status"}).at("ready") == true;
  })) << node_->log();
  EXPECT_TRUE(set_aside().empty());
}

TEST_F(State, ThatIsDamagedIsSetAsideAndTheNodeRuns) {
  ASSERT_NO_FATAL_FAILURE(run_once());
  overwrite("state.db", 0, std::string(100, 'x'));
  const auto started = node_->start();
  ASSERT_TRUE(started) << started.error().text;
  EXPECT_EQ(set_aside().size(), 2U) << "the database and its log";
  EXPECT_TRUE(logged("the state database is damaged")) << node_->log();
  ASSERT_EQ(node_->stop(), 0);

  // The log alone.
  std::ofstream(file("state.db-wal"), std::ios::binary) << std::string(1000, 'y');
  const auto again = node_->start();
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(set_aside().size(), 3U);
  EXPECT_TRUE(logged("the log of the state database is damaged")) << node_->log();
}

TEST_F(State, ThatIsGoneIsMissedInTheLog) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  ASSERT_EQ(node_->cli({"ban", "address", "10.0.0.0/8"}).exit_status, 0);
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_FALSE(logged("not there any more")) << node_->log();
  fs::remove(file("state.db"));

  const auto started = node_->start();

  ASSERT_TRUE(started) << started.error().text;
  EXPECT_TRUE(logged("state.db) of a former run is not there any more")) << node_->log();
}

TEST_F(State, ThatIsRemovedWhileTheNodeRunsIsToldByTheNextBan) {
  ASSERT_NO_FATAL_FAILURE(start_alone());
  fs::remove_all(file(""));

  const auto result = node_->cli({"ban", "address", "10.0.0.0/8"});

  EXPECT_EQ(result.exit_status, 1) << result;
  EXPECT_NE(result.err.find("was removed while the node runs"), std::string::npos) << result;
  EXPECT_EQ(node_->json({"acl"})["blacklist"].size(), 1U) << "it is in force all the same";
}

TEST_F(State, ThatWasEmptiedIsSetAsideAndTheNodeSaysSo) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string peer = witness_->peer_id();
  witness_.reset();
  ASSERT_EQ(node_->cli({"ban", "address", "10.0.0.0/8"}).exit_status, 0);
  ASSERT_EQ(node_->stop(), 0);
  EXPECT_FALSE(logged("emptied")) << "a fresh node is silent\n" << node_->log();
  fs::resize_file(file("state.db"), 0);

  const auto started = node_->start();

  ASSERT_TRUE(started) << started.error().text;
  const auto kept = set_aside();
  ASSERT_FALSE(kept.empty());
  EXPECT_TRUE(logged("set aside as " + file(""))) << node_->log();
  EXPECT_TRUE(fs::exists(file("state.db")));
  EXPECT_EQ(node_->json({"acl"})["blacklist"], Json::array());
  const Json peers = node_->json({"peers"});
  ASSERT_EQ(peers.size(), 1U) << "from peers.json\n" << peers;
  EXPECT_EQ(peers[0][0], peer);
  ASSERT_EQ(node_->stop(), 0);

  const auto again = node_->start();
  ASSERT_TRUE(again) << again.error().text;
  EXPECT_EQ(set_aside(), kept) << "once";
}

TEST_F(State, OfALaterVersionIsRefusedAndLeftAlone) {
  ASSERT_NO_FATAL_FAILURE(run_once());
  // user_version, in the header of a database of SQLite.
  overwrite("state.db", 63, "\x7f");
  EXPECT_FALSE(node_->start());
  EXPECT_TRUE(logged("later version")) << node_->log();
  EXPECT_TRUE(set_aside().empty());
  EXPECT_EQ(node_->cli({"status"}).exit_status, 3) << "it does not run";
}

TEST_F(State, ThatIsALinkIsRefused) {
  ASSERT_NO_FATAL_FAILURE(run_once());
  fs::rename(file("state.db"), node_->data_dir() + "/elsewhere");
  fs::create_symlink(node_->data_dir() + "/elsewhere", file("state.db"));
  EXPECT_FALSE(node_->start());
  EXPECT_TRUE(logged("not a plain file")) << node_->log();
}

}  // namespace
}  // namespace bulkhead::testing
