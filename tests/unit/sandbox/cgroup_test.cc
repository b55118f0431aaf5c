#include "sandbox/cgroup.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "sandbox/inspect.h"

namespace bulkhead::sandbox {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMebibyte = 1024 * 1024;

// As on a Debian 12 with systemd.
constexpr const char* kUnifiedMounts =
    "22 28 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n"
    "28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n"
    "27 22 0:24 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kUnifiedGroups = "0::/system.slice/bulkhead.service\n";

// Version 1, with an empty version 2 beside it, as systemd's "hybrid" has it.
constexpr const char* kHybridMounts =
    "30 25 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755\n"
    "31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
    "33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:14 - cgroup cgroup rw,cpu,cpuacct\n"
    "36 30 0:33 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory\n"
    "37 30 0:34 / /sys/fs/cgroup/pids rw,nosuid shared:18 - cgroup cgroup rw,pids\n";
constexpr const char* kHybridGroups =
    "10:memory:/user.slice/a:b\n7:pids:/\n4:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice\n0::/user.slice\n";

TEST(Cgroups, OfVersion2AreOneDirectoryForAllControllers) {
  const auto place = find_cgroups(kUnifiedMounts, kUnifiedGroups);
  const std::string own = "/sys/fs/cgroup/system.slice/bulkhead.service";
  EXPECT_EQ(place, (CgroupPlace{CgroupVersion::kV2, own, own}));
  EXPECT_EQ(find_cgroups(kUnifiedMounts, "0::/\n").memory, "/sys/fs/cgroup");
}

TEST(Cgroups, OfVersion1HaveADirectoryInEachHierarchyAndComeFirst) {
  const auto place = find_cgroups(kHybridMounts, kHybridGroups);
  EXPECT_EQ(place, (CgroupPlace{CgroupVersion::kV1, "/sys/fs/cgroup/memory/user.slice/a:b", "/sys/fs/cgroup/pids"}));
}

TEST(Cgroups, OfVersion1MayShareAHierarchy) {
  const auto place = find_cgroups("36 30 0:33 / /cg rw - cgroup cgroup rw,memory,pids\n", "3:pids,memory:/x\n");
  EXPECT_EQ(place, (CgroupPlace{CgroupVersion::kV1, "/cg/x", "/cg/x"}));
}

TEST(Cgroups, AreFoundFromWhereAContainerSeesThem) {
  // Without a cgroup namespace of its own: the mount shows the hierarchy from the container's group on.
  const char* const mounts = "40 30 0:30 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
  EXPECT_EQ(find_cgroups(mounts, "5:memory:/docker/ab\n").memory, "/sys/fs/cgroup/memory");
  EXPECT_EQ(find_cgroups(mounts, "5:memory:/docker/ab/c\n").memory, "/sys/fs/cgroup/memory/c");
  EXPECT_EQ(find_cgroups(mounts, "5:memory:/docker/abc\n").version, CgroupVersion::kNone);
  EXPECT_EQ(find_cgroups(mounts, "5:memory:/\n").version, CgroupVersion::kNone);
}

TEST(Cgroups, AreFoundWhereThePathHasBlanks) {
  EXPECT_EQ(find_cgroups("36 30 0:33 / /a\\040b\\134c rw - cgroup2 none rw\n", "0::/x y\n").memory, "/a b\\c/x y");
}

TEST(Cgroups, AreNoneWhereNothingIsMountedOrTheTextIsNoise) {
  EXPECT_EQ(find_cgroups("", "").version, CgroupVersion::kNone);
  EXPECT_EQ(find_cgroups("28 1 8:1 / / rw - ext4 /dev/sda1 rw\n", kUnifiedGroups).version, CgroupVersion::kNone);
  EXPECT_EQ(find_cgroups(kUnifiedMounts, "").version, CgroupVersion::kNone);
  EXPECT_EQ(find_cgroups(kUnifiedMounts, "0:\n::\n0::relative\n").version, CgroupVersion::kNone);
  for (const char* noise :
       {" - ", " - cgroup2", "a b c d e f - cgroup2\n", "- cgroup2 x rw", "\\", "1 2 3 4 5\\04 6"}) {
    EXPECT_EQ(find_cgroups(noise, kUnifiedGroups).version, CgroupVersion::kNone) << noise;
  }
}

TEST(Cgroups, NameTheOneThatBoundsMemory) {
  EXPECT_EQ(memory_group_of(kHybridGroups), "/user.slice/a:b");
  EXPECT_EQ(memory_group_of(kUnifiedGroups), "/system.slice/bulkhead.service");
  EXPECT_EQ(memory_group_of("3:cpu:/x\n"), std::nullopt);
  EXPECT_EQ(memory_group_of(""), std::nullopt);
}

TEST(Cgroups, HaveControllersByWholeWords) {
  EXPECT_TRUE(names_controller("cpuset cpu memory pids\n", "memory"));
  EXPECT_TRUE(names_controller("pids", "pids"));
  EXPECT_FALSE(names_controller("memory.x xpids\n", "memory"));
  EXPECT_FALSE(names_controller("", "pids"));
}

TEST(WorkersGroup, HasANameThatStaysAndTellsDirectoriesApart) {
  EXPECT_EQ(workers_group_name("/var/lib/bulkhead"), workers_group_name("/var/lib/bulkhead"));
  EXPECT_NE(workers_group_name("/var/lib/bulkhead"), workers_group_name("/var/lib/bulkhead2"));
  EXPECT_EQ(workers_group_name("/a/../b").find('/'), std::string::npos);
}

TEST(WorkersGroup, TakesEnoughForAllButNoMoreThanThreeQuartersOfTheMachine) {
  const auto mib = [](std::uint32_t slots, std::uint64_t machine) {
    return default_workers_memory(slots, 65 * kMebibyte, 256 * kMebibyte, machine * kMebibyte) / kMebibyte;
  };
  EXPECT_EQ(mib(10, 16384), 10 * 65 + 256);
  EXPECT_EQ(mib(1000, 16384), 12288);
  EXPECT_EQ(mib(0, 16384), 65 + 256);
  EXPECT_EQ(mib(1000, 128), 65 + 256);
}

// As the child that becomes the nursery does it.
bool enter(const WorkersGroup& group) {
  const auto entrances = group.entrances();
  return std::all_of(entrances.begin(), entrances.end(), [](int entrance) { return ::write(entrance, "0", 1) == 1; });
}

class FakeTree : public ::testing::Test {
 protected:
  FakeTree() {
    char name[] = "/tmp/bulkhead-cgroup-XXXXXX";
    root_ = ::mkdtemp(name);
  }
  ~FakeTree() override { fs::remove_all(root_); }

  void put(const std::string& name, const std::string& text) {
    fs::create_directories(fs::path(root_ + "/" + name).parent_path());
    std::ofstream(root_ + "/" + name) << text;
  }
  std::string get(const std::string& name) {
    std::ifstream file(root_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }

  std::string root_;
};

// Directories in the place of groups: what is written where.
TEST_F(FakeTree, OfVersion2GetsLimitsAndTheNursery) {
  put("cgroup.controllers", "cpu memory pids\n");
  put("cgroup.subtree_control", "");
  for (const char* file : {"cgroup.procs", "memory.max", "memory.swap.max", "pids.max"})
    put(std::string("w/") + file, "");
  ::testing::internal::CaptureStderr();
  const auto group = WorkersGroup::make({CgroupVersion::kV2, root_, root_}, "w", {64 * kMebibyte, 42});
  const std::string log = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(group) << group.error().text;
  EXPECT_EQ(log, "") << "a group that cannot be removed, but has nobody in it";
  EXPECT_EQ(get("cgroup.subtree_control"), "+memory +pids");
  EXPECT_EQ(get("w/memory.max"), "67108864");
  EXPECT_EQ(get("w/memory.swap.max"), "0");
  EXPECT_EQ(get("w/pids.max"), "42");
  EXPECT_TRUE(enter(*group));
  EXPECT_EQ(get("w/cgroup.procs"), "0");
  EXPECT_EQ(group->parents(), std::vector<std::string>{root_});
}

TEST_F(FakeTree, OfVersion1GetsLimitsInBothHierarchies) {
  for (const char* file : {"memory/w/cgroup.procs", "memory/w/memory.limit_in_bytes",
                           "memory/w/memory.memsw.limit_in_bytes", "pids/w/cgroup.procs", "pids/w/pids.max"}) {
    put(file, "");
  }
  const auto group =
      WorkersGroup::make({CgroupVersion::kV1, root_ + "/memory", root_ + "/pids"}, "w", {64 * kMebibyte, 42});
  ASSERT_TRUE(group) << group.error().text;
  EXPECT_EQ(get("memory/w/memory.limit_in_bytes"), "67108864");
  EXPECT_EQ(get("memory/w/memory.memsw.limit_in_bytes"), "67108864");
  EXPECT_EQ(get("pids/w/pids.max"), "42");
  EXPECT_TRUE(enter(*group));
  EXPECT_EQ(get("memory/w/cgroup.procs") + get("pids/w/cgroup.procs"), "00");
}

TEST_F(FakeTree, WithoutTheControllersIsAnErrorThatNamesThemAndTheRemedy) {
  put("cgroup.controllers", "cpu memory\n");
  const auto group = WorkersGroup::make({CgroupVersion::kV2, root_, root_}, "w", {kMebibyte, 1});
  ASSERT_FALSE(group);
  for (const std::string part : {root_.c_str(), "memory", "pids", "Delegate=yes"}) {
    EXPECT_NE(group.error().text.find(part), std::string::npos) << group.error().text;
  }
  EXPECT_FALSE(WorkersGroup::make({}, "w", {kMebibyte, 1}));
}

TEST_F(FakeTree, LeavesNothingBehindWhenALimitCannotBeSet) {
  const auto group =
      WorkersGroup::make({CgroupVersion::kV1, root_, root_}, "w", {kMebibyte, 1});  // no file in a new directory
  ASSERT_FALSE(group);
  EXPECT_TRUE(fs::is_empty(root_));
}

TEST(WorkersGroup, BoundsWhatIsInIt) {
  const CgroupPlace own = own_cgroups();
  const std::string name = "bulkhead-test-" + std::to_string(::getpid());
  auto group = WorkersGroup::make(own, name, {32 * kMebibyte, 2});
  if (!group) GTEST_SKIP() << "no control group can be made here: " << group.error().text;
  int line[2];
  int told[2];
  ASSERT_EQ(::pipe2(line, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(told, O_CLOEXEC), 0);
  const pid_t first = ::fork();
  if (first == 0) {
    char byte = 0;
    ::close(line[1]);
    if (!enter(*group)) ::_exit(3);
    (void)!::write(told[1], "", 1);
    (void)!::read(line[0], &byte, 1);
    // It is one; there is room for another one, and not for a third.
    const pid_t second = ::fork();
    if (second == 0) ::pause();
    if (second < 0) ::_exit(1);
    const bool third = ::fork() >= 0;
    ::kill(second, SIGKILL);
    ::waitpid(second, nullptr, 0);
    ::_exit(third ? 2 : 0);
  }
  ::close(line[0]);
  ::close(told[1]);
  char byte = 0;
  (void)!::read(told[0], &byte, 1);
  ::close(told[0]);
  const auto seen = observe(first);
  ::close(line[1]);
  int status = 0;
  ::waitpid(first, &status, 0);
  ASSERT_TRUE(seen && seen->cgroup);
  EXPECT_NE(seen->cgroup->find(name), std::string::npos) << *seen->cgroup;
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  const auto parents = group->parents();
  group->remove();
  for (const auto& parent : parents) EXPECT_FALSE(fs::exists(parent + "/" + name)) << parent;
}

}  // namespace
}  // namespace bulkhead::sandbox
