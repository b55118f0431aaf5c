#pragma once

#include <sys/types.h>

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "services/controller/cli/fault/injection.h"
#include "tests/hostile/escape_table.h"
#include "tests/integration/fixture.h"

/// What the tests of this folder share: a confined node, and a way into its processes.
namespace bulkhead::hostile {

/// A process of the node that is held still and made to do what an attacker inside it would.
struct Inside {
  fault::SeizedProcess process;
  Target target;  ///< its data stands in the process's stack
};
Result<Inside> enter(pid_t pid, pid_t other, int descriptor);

/// One line of /proc/PID/maps.
struct MemoryRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::string permissions;  ///< "rw-p"
  std::uint64_t offset = 0;
  std::string device;
  std::uint64_t inode = 0;
  std::string name;

  bool shared() const { return permissions.size() == 4 && permissions[3] == 's'; }
  bool readable() const { return permissions[0] == 'r'; }
  bool writable() const { return permissions[1] == 'w'; }
  std::uint64_t size() const { return end - begin; }
};
std::vector<MemoryRange> memory_of(pid_t pid);

/// The descriptors of a process: number, and what it refers to ("socket:[123]").
std::map<int, std::string> descriptors_of(pid_t pid);
/// A copy of another process's descriptor.
UniqueFd descriptor_of(pid_t pid, int fd);

/// Services of a node that are confined by now, found without asking it.
std::map<Role, pid_t> confined_services(const testing::Node& node);

/// A node under `level`, whose connections the tests break into. Skipped where the node is not confined or this user
/// may not do it.
class ConfinedNodeTest : public testing::NodeTest {
 protected:
  /// Why the test cannot run here; empty when it can.
  static std::string obstacle(const std::string& level);
  static testing::NodeOptions options_of(const std::string& level, int connections);

  /// Dials and shakes hands until `count` peers are connected. Use as ASSERT_NO_FATAL_FAILURE.
  void connect_peers(std::size_t count);
  /// Of each peer's connection, in the order of `peers_`; 0 for one that has none.
  std::vector<pid_t> workers() const;

  std::deque<testing::Peer> peers_;
};

}  // namespace bulkhead::hostile

/// Runs the tests of a suite at each level of confinement that there is: in a program without namespaces, one.
#ifdef BULKHEAD_WITHOUT_NAMESPACES
#define BULKHEAD_AT_EACH_LEVEL(suite)                                              \
  INSTANTIATE_TEST_SUITE_P(WithoutNamespaces, suite, ::testing::Values("default"), \
                           [](const auto& information) { return std::string(information.param); })
#else
#define BULKHEAD_AT_EACH_LEVEL(suite)                                            \
  INSTANTIATE_TEST_SUITE_P(Level, suite, ::testing::Values("default", "strict"), \
                           [](const auto& information) { return std::string(information.param); })
#endif
