#include <sys/syscall.h>

#include "tests/unit/sandbox/children.h"
#include "tests/unit/services/controller/store_support.h"

namespace bulkhead::controller {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these tests
using sandbox::test::become;
using sandbox::test::describe_status;
using sandbox::test::in_child;
using sandbox::test::kDone;
using sandbox::test::leave;

constexpr int kFailed = 79;

/// The files where the controller's filter expects them, in a child that is to be the controller.
Store confined(const DataDirectory& data) {
  service::StateFiles files = data.files();
  service::StateFiles moved{UniqueFd(::dup3(files.database.get(), sandbox::kDatabaseFd, O_CLOEXEC)),
                            UniqueFd(::dup3(files.log.get(), sandbox::kDatabaseLogFd, O_CLOEXEC))};
  files = {};
  Store store(std::move(moved));
  static std::atomic<std::uint64_t> violation{0};
  become(Role::kController, violation);
  return store;
}

bool works(Store& store, std::uint32_t number) {
  if (!store.open() || !store.load(1000)) return false;
  PeerEntry peer;
  peer.id = peer_id(1);
  const Point point = known("192.0.2.1:1").point;
  for (std::uint32_t i = 0; i < 300; ++i) {
    if (!store.commit({ban(number + i), grey(i, 500), happened(point, i), Setting{"n", {1}}, peer})) return false;
  }
  for (std::uint32_t i = 0; i < 3000; ++i) {
    if (!store.later({grey(i * 7919, 90'000), RemoveAcl{grey(i * 7919 - 1).key}})) return false;
  }
  while (store.pending() != 0) {
    if (!store.flush(monotonic_now())) return false;
  }
  if (!store.flush_all() || !store.begin_import()) return false;
  for (std::uint32_t step = 0; step < 100; ++step) {
    std::vector<AclEntry> entries;
    for (std::uint32_t i = 0; i < 500; ++i) entries.push_back(ban((step * 500 + i) * 2654435761U, "import"));
    if (!store.import(entries)) return false;
  }
  if (!store.finish_import() || !store.commit({ClearList{StoredList::kGrey}})) return false;
  if (!store.begin_import() || !store.import(std::vector<AclEntry>{ban(1, "never")})) return false;
  store.cancel_import();
  if (!store.load(1000)) return false;
  close(store);
  return true;
}

TEST(StoreConfined, DoesAllItsWorkAsTheController) {
  SKIP_UNDER_SANITIZERS();
  const DataDirectory data;
  for (const std::uint32_t number : {0U, 1000U}) {
    const int status = in_child([&] {
      Store store = confined(data);
      leave(works(store, number) ? kDone : kFailed);
    });
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
  }
  EXPECT_GE(data.stored().acl.size(), 50'000U);
}

TEST(StoreConfined, SeesDamageAndLivesOn) {
  SKIP_UNDER_SANITIZERS();
  const DataDirectory data;
  expect_done(data.opened().commit({ban(1)}));
  std::string bytes = read_file(data.file("state.db"));
  std::fill(bytes.begin() + 4096, bytes.end(), '\x5a');
  write_file(data.file("state.db"), bytes);
  const int status = in_child([&] {
    Store store = confined(data);
    const auto opened = store.open();
    leave(!opened && opened.error().code == ErrorCode::kBroken ? kDone : kFailed);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << describe_status(status);
}

// The database is all that the controller may write at a place of its choice, truncate or flush.
TEST(StoreConfined, MayTouchNoOtherFile) {
  SKIP_UNDER_SANITIZERS();
  const DataDirectory data;
  for (const long number : {SYS_pread64, SYS_pwrite64, SYS_ftruncate, SYS_fdatasync}) {
    const int status = in_child([&] {
      const Store store = confined(data);
      ::syscall(number, STDERR_FILENO, "", 0, 0);
      leave(kFailed);
    });
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << number << ": " << describe_status(status);
  }
}

TEST(StoreConfined, MayOpenNothingBesideItsFiles) {
  SKIP_UNDER_SANITIZERS();
  const DataDirectory data;
  for (const char* path : {"..", "/", "/etc/passwd", "state.db", "state.db-journal"}) {
    const int status = in_child([&] {
      const Store store = confined(data);
      for (const int at : {AT_FDCWD, sandbox::kDatabaseFd, data.state()}) {
        for (const int flags : {O_RDONLY, O_RDWR, O_RDWR | O_CREAT}) {
          errno = 0;
          if (::syscall(SYS_openat, at, path, flags, 0600) != -1 || errno != EACCES) leave(kFailed);
        }
      }
    });
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kDone) << path << ": " << describe_status(status);
  }
}

}  // namespace
}  // namespace bulkhead::controller
