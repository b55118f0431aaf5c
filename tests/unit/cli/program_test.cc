#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "services/controller/cli/run_command.h"

namespace bulkhead::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct Outcome {
  int status = -1;
  std::string out;
  std::string error;
};

std::string slurp(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

/// Runs the built program in a directory of its own.
class ProgramTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "bulkhead-cli-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    data_ = folder_ / "data";
  }
  void TearDown() override { fs::remove_all(folder_); }

  Outcome run(std::vector<std::string> words) {
    words.insert(words.begin(), std::string(BULKHEAD_BIN_DIR) + "/bulkhead");
    words.insert(words.end(), {"--data-dir", data_.string()});
    const fs::path out = folder_ / "out";
    const fs::path error = folder_ / "error";
    const pid_t child = ::fork();
    if (child == 0) {
      const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int error_fd = ::open(error.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      ::dup2(out_fd, STDOUT_FILENO);
      ::dup2(error_fd, STDERR_FILENO);
      std::vector<char*> argv;
      for (std::string& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return Outcome{WIFEXITED(status) ? WEXITSTATUS(status) : -1, slurp(out), slurp(error)};
  }

  void write(const char* name, const std::string& text) {
    fs::create_directories(data_);
    std::ofstream(data_ / name) << text;
  }

  fs::path folder_;
  fs::path data_;
};

testing::AssertionResult one_line_with(const std::string& text, const std::string& part) {
  if (text.find(part) == std::string::npos)
    return testing::AssertionFailure() << '"' << text << "\" does not hold \"" << part << '"';
  if (text.find('\n') != text.size() - 1) return testing::AssertionFailure() << "not one line: " << text;
  return testing::AssertionSuccess();
}

TEST_F(ProgramTest, GeneratesAnIdentityThatOnlyItsOwnerMayRead) {
  const Outcome made = run({"identity", "generate", "6", "--json"});
  ASSERT_EQ(made.status, 0) << made.error;
  const Json json = Json::parse(made.out);
  EXPECT_EQ(json["file"], (data_ / "identity.json").string());
  struct stat status {};
  ASSERT_EQ(::stat((data_ / "identity.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
  const Json file = Json::parse(slurp(data_ / "identity.json"));
  EXPECT_EQ(file["peer_id"], json["peer_id"]);
  EXPECT_EQ(file["secret_key"].get<std::string>().size(), 64U);
  EXPECT_EQ(std::distance(fs::directory_iterator(data_), fs::directory_iterator()), 1) << "nothing is left beside it";

  const Outcome shown = run({"identity", "show"});
  EXPECT_EQ(shown.status, 0);
  EXPECT_NE(shown.out.find(json["peer_id"].get<std::string>()), std::string::npos);
  for (const Outcome& outcome : {made, shown, run({"identity", "show", "--json"}), run({"identity", "check", "6"})}) {
    EXPECT_EQ(outcome.out.find(file["secret_key"].get<std::string>()), std::string::npos);
    EXPECT_EQ(outcome.error.find(file["secret_key"].get<std::string>()), std::string::npos);
  }
}

TEST_F(ProgramTest, NeverOverwritesAnIdentity) {
  write("identity.json", "mine");
  const Outcome outcome = run({"identity", "generate", "0"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(one_line_with(outcome.error, (data_ / "identity.json").string() + ": exists already"));
  EXPECT_EQ(slurp(data_ / "identity.json"), "mine");
  fs::remove(data_ / "identity.json");
  fs::create_symlink("/nonexistent", data_ / "identity.json");
  EXPECT_EQ(run({"identity", "generate", "0"}).status, 1) << "a dangling link is something too";
}

TEST_F(ProgramTest, ChecksAnIdentityAgainstADifficulty) {
  ASSERT_EQ(run({"identity", "generate", "0"}).status, 0);
  EXPECT_EQ(run({"identity", "check", "0"}).status, 0);
  const Outcome outcome = run({"identity", "check", "200"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_TRUE(one_line_with(outcome.error, "proof of work is below 200.00"));
}

TEST_F(ProgramTest, TakesTheDifficultyOfTheConfiguration) {
  write("config.json", R"({"p2p": {"expected-proof-of-work": 0.5}})");
  EXPECT_EQ(Json::parse(run({"identity", "generate", "--json"}).out)["difficulty"], 0.5);
}

TEST_F(ProgramTest, RefusesAMalformedIdentityInOneLine) {
  for (const char* text : {"", "{}", "{\"public_key\": 5}", "[]", "\xff"}) {
    write("identity.json", text);
    for (const char* command : {"show", "check"}) {
      const Outcome outcome = run({"identity", command});
      EXPECT_EQ(outcome.status, 1) << text;
      EXPECT_TRUE(outcome.out.empty());
      EXPECT_NE(outcome.error.find("identity.json"), std::string::npos) << outcome.error;
    }
  }
  fs::remove(data_ / "identity.json");
  EXPECT_TRUE(one_line_with(run({"identity", "show"}).error, "identity.json: there is none; make one with"));
}

TEST_F(ProgramTest, WritesAConfigurationOnceAndShowsItsOrigins) {
  const Outcome made = run({"config", "init", "--expected-pow", "8", "--net-addr", "127.0.0.1:0"});
  ASSERT_EQ(made.status, 0) << made.error;
  EXPECT_EQ(run({"config", "init"}).status, 1) << "never overwritten";
  const Json shown = Json::parse(run({"config", "show", "--json", "--log-level", "debug"}).out);
  EXPECT_EQ(shown["expected-pow"]["value"], 8.0);
  EXPECT_EQ(shown["expected-pow"]["origin"], (data_ / "config.json").string() + ": /p2p/expected-proof-of-work");
  EXPECT_EQ(shown["log-level"]["origin"], "--log-level");
  EXPECT_EQ(shown["backlog"]["origin"], "default");
  EXPECT_EQ(run({"config", "validate"}).status, 0);
}

TEST_F(ProgramTest, WritesNoConfigurationThatItWouldRefuse) {
  EXPECT_EQ(run({"config", "init", "--min-connections", "80"}).status, 2);
  EXPECT_FALSE(fs::exists(data_ / "config.json"));
}

TEST_F(ProgramTest, NamesFileAndPlaceOfAWrongConfiguration) {
  write("config.json", R"({"p2p": {"limits": {"foo": 1}}})");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"run"}, {"config", "show"}, {"config", "validate"}, {"identity", "generate"}}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 1);
    EXPECT_TRUE(one_line_with(outcome.error, (data_ / "config.json").string() + ": /p2p/limits/foo: "));
    EXPECT_TRUE(outcome.out.empty());
  }
  EXPECT_EQ(slurp(data_ / "config.json"), R"({"p2p": {"limits": {"foo": 1}}})");
}

TEST_F(ProgramTest, RefusesAConfigurationThatIsNoFileOrTooLarge) {
  fs::create_directories(data_ / "config.json");
  EXPECT_TRUE(one_line_with(run({"config", "validate"}).error, "not a regular file"));
  fs::remove(data_ / "config.json");
  write("config.json", std::string(2 * 1024 * 1024, ' '));
  EXPECT_TRUE(one_line_with(run({"config", "validate"}).error, "2097152 bytes are more than"));
}

TEST_F(ProgramTest, ValidatesThePeersFileToo) {
  const std::string path = (data_ / "peers.json").string();
  EXPECT_TRUE(Json::parse(run({"config", "validate", "--json"}).out).at("peers_file").is_null());
  write("peers.json", "[]\n");
  EXPECT_EQ(Json::parse(run({"config", "validate", "--json"}).out).at("peers_file"), path);
  EXPECT_EQ(run({"config", "validate"}).out,
            "There is no " + (data_ / "config.json").string() + "; the defaults are valid\n" + path + " is valid\n");
  write("peers.json", "[\n  {\"peer_id\": }\n]\n");
  const Outcome broken = run({"config", "validate"});
  EXPECT_EQ(broken.status, 1);
  EXPECT_TRUE(one_line_with(broken.error, path + ": line 2"));
  EXPECT_TRUE(one_line_with(broken.error, "this is not JSON"));
  write("peers.json", "{}");
  EXPECT_EQ(run({"config", "validate"}).status, 1) << "JSON, but no list";
}

TEST_F(ProgramTest, SaysThatNoNodeRuns) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"status"},
                                             {"connections", "--json"},
                                             {"peers"},
                                             {"points"},
                                             {"events"},
                                             {"p2p", "stat"},
                                             {"connect", "address", "127.0.0.1:9"},
                                             {"maintain"},
                                             {"kick", "peer", "idrdoT9g6YwELhUQyshCcHwAzBS9zA"}}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 3) << words.front() << ": " << outcome.error;
    EXPECT_TRUE(outcome.out.empty());
    EXPECT_TRUE(one_line_with(outcome.error, "no node runs on " + data_.string()));
  }
  EXPECT_EQ(run({"status", "--wait", "0.05"}).status, 3);
}

TEST_F(ProgramTest, KeepsUsageErrorsToOneLineAndStatusTwo) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"nonsense"}, {"status", "--nonsense"}, {"run", "--expected-pow", "abc"}, {"kick", "peer", "x"}}) {
    const Outcome outcome = run(words);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_TRUE(outcome.out.empty());
    EXPECT_TRUE(one_line_with(outcome.error, "bulkhead: "));
  }
}

TEST_F(ProgramTest, FindsServicesBesideItOrInLibexec) {
  const fs::path bin = folder_ / "bin";
  fs::create_directories(bin);
  EXPECT_FALSE(find_services((bin / "bulkhead").string()));
  const auto make = [](const fs::path& folder) {
    fs::create_directories(folder);
    std::ofstream(folder / "bulkhead-controller") << "x";
    fs::permissions(folder / "bulkhead-controller", fs::perms::owner_all);
  };
  make(folder_ / "libexec" / "bulkhead");
  EXPECT_EQ(*find_services((bin / "bulkhead").string()), (folder_ / "libexec" / "bulkhead").string());
  make(bin);
  EXPECT_EQ(*find_services((bin / "bulkhead").string()), bin.string());
}

}  // namespace
}  // namespace bulkhead::cli
