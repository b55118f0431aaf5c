// A program of its own: it runs the escape tests where no process can have namespaces, as in many containers, and where
// all roles are one user. What namespaces alone would stop succeeds here.

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "sandbox/inspect.h"
#include "tests/hostile/inside.h"

namespace bulkhead::hostile {
namespace {

bool write_text(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  return static_cast<bool>(file);
}

/// Into a user namespace with one user, in which no namespace of any kind may be made. False: this user may not do
/// that.
bool give_up_namespaces() {
  const std::string user = "0 " + std::to_string(::geteuid()) + " 1";
  bool done = ::unshare(CLONE_NEWUSER) == 0 && write_text("/proc/self/setgroups", "deny") &&
              write_text("/proc/self/uid_map", user) && write_text("/proc/self/gid_map", user);
  for (const std::string kind : {"user", "mnt", "net", "ipc", "uts", "pid"})
    done = done && write_text(("/proc/sys/user/max_" + kind + "_namespaces").c_str(), "0");
  return done;
}

class EscapeFromNode : public ConfinedNodeTest {
 protected:
  void SetUp() override {
    if (const std::string why = obstacle("default"); !why.empty()) GTEST_SKIP() << why;
  }
};

TEST_F(EscapeFromNode, IsTriedHereWithoutAnyNamespace) {
  ASSERT_NO_FATAL_FAILURE(start(options_of("default", 2)));
  ASSERT_NO_FATAL_FAILURE(connect_peers(1));
  const auto own = sandbox::namespaces_of(::getpid());
  ASSERT_TRUE(own);
  auto processes = confined_services(*node_);
  EXPECT_EQ(processes.size(), kConfinedRoles.size() - 1);
  processes[Role::kConn] = workers()[0];
  for (const auto& [role, pid] : processes) {
    auto seen = sandbox::namespaces_of(pid);
    ASSERT_TRUE(seen) << role_name(role);
    EXPECT_EQ(*seen, *own) << role_name(role);
  }
}

}  // namespace
}  // namespace bulkhead::hostile

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (!::testing::GTEST_FLAG(list_tests) && !bulkhead::hostile::give_up_namespaces()) {
    std::puts("cannot make a user namespace: the tests run with those that they have");
  }
  return RUN_ALL_TESTS();
}
