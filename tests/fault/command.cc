#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace bulkhead::fault {
namespace {

namespace fs = std::filesystem;

struct Outcome {
  int status = -1;
  std::string out;
};

class Command : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/bulkhead-fault-command-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
  }
  void TearDown() override { fs::remove_all(directory_); }

  /// The command with these words; what it prints on standard output, and the other one too with `errors`.
  Outcome run(const std::string& words, bool errors = true) const {
    const char* sandbox = std::getenv("BULKHEAD_TEST_SANDBOX");
    const std::string more = sandbox != nullptr ? std::string(" --require-sandbox ") + sandbox : "";
    const std::string command = std::string(BULKHEAD_BIN_DIR) + "/bulkhead fault " + words + more + " 2>" +
                                (errors ? "&1" : "/dev/null") + " </dev/null";
    Outcome outcome;
    FILE* pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) return outcome;
    char part[4096];
    while (const std::size_t got = std::fread(part, 1, sizeof part, pipe)) outcome.out.append(part, got);
    const int status = ::pclose(pipe);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
  }

  std::string directory_;
};

TEST_F(Command, DoesNothingUnlessToldThatTheDirectoryIsScratch) {
  const auto refused = run("--data-dir " + directory_);
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.out.find("--scratch"), std::string::npos) << refused.out;
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(Command, LeavesADirectoryAloneThatItDidNotMake) {
  std::ofstream(directory_ + "/identity.json") << "mine";
  const auto refused = run("--scratch --data-dir " + directory_);
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.out.find("is not empty"), std::string::npos) << refused.out;
  EXPECT_TRUE(fs::exists(directory_ + "/identity.json"));
}

TEST_F(Command, RefusesNamesThatItDoesNotKnow) {
  EXPECT_EQ(run("--scratch --faults kil --data-dir " + directory_).status, 2);
  EXPECT_EQ(run("--scratch --roles supervisor --data-dir " + directory_).status, 2);
  EXPECT_EQ(run("--scratch --peers 1 --data-dir " + directory_).status, 2);
  const auto nothing = run("--scratch --faults ring --roles keyholder --data-dir " + directory_);
  EXPECT_EQ(nothing.status, 1);
  EXPECT_NE(nothing.out.find("ring keyholder (does not apply to this role)"), std::string::npos) << nothing.out;
}

TEST_F(Command, TellsHowItWentAsJson) {
  const auto done = run(
      "--scratch --json --kills 4 --peers 3 --seed 7 --faults kill --roles worker,application --data-dir " + directory_,
      false);
  EXPECT_EQ(done.status, 0) << done.out;
  const auto json = nlohmann::json::parse(done.out, nullptr, false);
  ASSERT_TRUE(json.is_object()) << done.out;
  EXPECT_TRUE(json["ok"].get<bool>());
  EXPECT_EQ(json["seed"], 7);
  EXPECT_EQ(json["kills"], 4);
  EXPECT_EQ(json["others_lost"], 0);
  EXPECT_GT(json["messages"].get<int>(), 0);
  EXPECT_TRUE(fs::is_empty(directory_)) << "what it made is gone again";
}

TEST_F(Command, TakesItsOwnDirectoryAgain) {
  const std::string words =
      "--scratch --keep --kills 1 --peers 2 --faults kill --roles worker --data-dir " + directory_;
  EXPECT_EQ(run(words).status, 0);
  EXPECT_TRUE(fs::exists(directory_ + "/log"));
  EXPECT_EQ(run(words).status, 0);
}

}  // namespace
}  // namespace bulkhead::fault
