#include "shm/segment.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <span>
#include <string>

#include "link_fixture.h"

namespace bulkhead::shm {
namespace {

using test::Child;
using test::must;

std::size_t mappings_of(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  std::size_t found = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(name) != std::string::npos) ++found;
  }
  return found;
}

/// The signal that ends a child which touches `address`; 0 when nothing happens.
int signal_of_touching(std::byte* address, bool write) {
  Child child([&] {
    // A sanitizer's own handler would turn the signal into an exit status.
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    volatile std::byte* place = address;
    if (write) {
      *place = std::byte{1};
    } else {
      static_cast<void>(*place);
    }
  });
  const int status = child.reap();
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(Segment, IsZeroedPrivateToItsOwnerAndClosedOnExec) {
  const UniqueFd fd = must(make_segment("test-new", 8192));
  struct stat status {};
  ASSERT_EQ(::fstat(fd.get(), &status), 0);
  EXPECT_EQ(status.st_size, 8192);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  const Mapping mapping = must(Mapping::map(fd.get(), Access::kReadOnly, 0, 8192));
  EXPECT_EQ(mapping.data()[8191], std::byte{0});
}

TEST(Segment, RefusesSizesThatAreNotWholePages) {
  EXPECT_EQ(make_segment("test", 0).error().code, ErrorCode::kInvalid);
  EXPECT_EQ(make_segment("test", 4095).error().code, ErrorCode::kInvalid);
  EXPECT_EQ(make_segment("test", ~std::uint64_t{0} - 4095).error().code, ErrorCode::kInvalid);
}

TEST(Segment, SealedEitherWayCannotBeResizedOrSealedFurther) {
  for (const auto seal : {seal_replaceable, seal_owned}) {
    const UniqueFd fd = must(make_segment("test", 8192));
    must(seal(fd.get()));
    EXPECT_EQ(::ftruncate(fd.get(), 4096), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::ftruncate(fd.get(), 16384), -1);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), -1);
    EXPECT_EQ(errno, EPERM);
  }
}

TEST(Segment, OwnedIsWrittenThroughTheFirstMappingAndNoOther) {
  const UniqueFd fd = must(make_segment("test", 4096));
  const Mapping writer = must(Mapping::map(fd.get(), Access::kReadWrite, 0, 4096));
  must(seal_owned(fd.get()));
  const auto second = Mapping::map(fd.get(), Access::kReadWrite, 0, 4096);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().errno_value, EPERM);
  const Mapping reader = must(Mapping::map(fd.get(), Access::kReadOnly, 0, 4096));
  EXPECT_EQ(::mprotect(reader.data(), 4096, PROT_READ | PROT_WRITE), -1);
  EXPECT_EQ(errno, EACCES);
  writer.data()[7] = std::byte{42};
  EXPECT_EQ(reader.data()[7], std::byte{42});
  const auto hole = punch_hole(fd.get(), 0, 4096);
  ASSERT_FALSE(hole);
  EXPECT_EQ(hole.error().errno_value, EPERM);
}

TEST(Segment, ReplaceableIsWrittenByASuccessorAndNotByItsReaders) {
  const UniqueFd fd = must(make_segment("test", 4096));
  must(seal_replaceable(fd.get()));
  must(Mapping::map(fd.get(), Access::kReadWrite, 0, 4096)).data()[0] = std::byte{1};
  const Mapping successor = must(Mapping::map(fd.get(), Access::kReadWrite, 0, 4096));
  successor.data()[0] = std::byte{2};

  const UniqueFd read_only = must(reopen_read_only(fd.get()));
  const auto write = Mapping::map(read_only.get(), Access::kReadWrite, 0, 4096);
  ASSERT_FALSE(write);
  EXPECT_EQ(write.error().errno_value, EACCES);
  const Mapping reader = must(Mapping::map(read_only.get(), Access::kReadOnly, 0, 4096));
  EXPECT_EQ(::mprotect(reader.data(), 4096, PROT_READ | PROT_WRITE), -1);
  EXPECT_EQ(reader.data()[0], std::byte{2});
  EXPECT_EQ(signal_of_touching(reader.data(), true), SIGSEGV);
}

TEST(Segment, CannotBeOpenedAnewForWritingByAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  const UniqueFd fd = must(make_segment("test", 4096));
  must(seal_replaceable(fd.get()));
  const UniqueFd read_only = must(reopen_read_only(fd.get()));
  Child child([&] {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) throw std::runtime_error("setuid");
    // The other user's own view of its descriptors, which a process may look at only while it is dumpable.
    ::prctl(PR_SET_DUMPABLE, 1);
    const std::string path = "/proc/self/fd/" + std::to_string(read_only.get());
    if (::open(path.c_str(), O_RDWR | O_CLOEXEC) >= 0) throw std::runtime_error("opened for writing");
    if (errno != EACCES) throw std::runtime_error("another error than EACCES");
    must(Mapping::map(read_only.get(), Access::kReadOnly, 0, 4096));
  });
  EXPECT_EQ(child.reap(), 0);
}

TEST(Segment, CheckTakesWhatWasAgreedAndNothingElse) {
  const UniqueFd good = must(make_segment("test", 8192));
  EXPECT_FALSE(check_segment(good.get(), 8192, kReplaceableSeals)) << "not sealed yet";
  must(seal_replaceable(good.get()));
  EXPECT_TRUE(check_segment(good.get(), 8192, kReplaceableSeals).ok());
  EXPECT_EQ(check_segment(good.get(), 8192, kOwnedSeals).error().code, ErrorCode::kBroken);
  EXPECT_EQ(check_segment(good.get(), 4096, kReplaceableSeals).error().code, ErrorCode::kBroken);
  EXPECT_EQ(check_segment(good.get(), 12288, kReplaceableSeals).error().code, ErrorCode::kBroken);

  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd reading(ends[0]);
  const UniqueFd writing(ends[1]);
  EXPECT_FALSE(check_segment(reading.get(), 0, 0));
  const UniqueFd device(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(check_segment(device.get(), 0, 0));
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(check_segment(file.get(), must(segment_size(file.get())), 0)) << "a file on disk carries no seals";
  EXPECT_FALSE(check_segment(-1, 0, 0));
}

TEST(Segment, PunchedRangeReadsAsZeroes) {
  const UniqueFd fd = must(make_segment("test", 3 * 4096));
  must(seal_replaceable(fd.get()));
  const Mapping mapping = must(Mapping::map(fd.get(), Access::kReadWrite, 0, 3 * 4096));
  std::memset(mapping.data(), 7, 3 * 4096);
  must(punch_hole(fd.get(), 4096, 4096));
  EXPECT_EQ(mapping.data()[4095], std::byte{7});
  EXPECT_EQ(mapping.data()[4096], std::byte{0});
  EXPECT_EQ(mapping.data()[8191], std::byte{0});
  EXPECT_EQ(mapping.data()[8192], std::byte{7});
  EXPECT_EQ(punch_hole(fd.get(), 4096, 3 * 4096).error().code, ErrorCode::kInvalid);
  EXPECT_EQ(punch_hole(fd.get(), 1, 4096).error().code, ErrorCode::kInvalid);
}

TEST(Mapping, RefusesRangesOutsideTheFile) {
  const UniqueFd fd = must(make_segment("test", 8192));
  const std::uint64_t top = ~std::uint64_t{0} - 4095;
  for (const auto& [offset, size] : std::initializer_list<std::pair<std::uint64_t, std::size_t>>{
           {0, 0}, {0, 12288}, {4096, 8192}, {8192, 4096}, {1, 4096}, {0, 100}, {top, 4096}, {4096, top}}) {
    const auto mapping = Mapping::map(fd.get(), Access::kReadOnly, offset, size);
    ASSERT_FALSE(mapping) << offset << " " << size;
    EXPECT_EQ(mapping.error().code, ErrorCode::kInvalid);
  }
  EXPECT_FALSE(Mapping::map(-1, Access::kReadOnly, 0, 4096));
}

TEST(Mapping, StaysInPlaceWhenItIsMovedAndGoesWithItsOwner) {
  const UniqueFd fd = must(make_segment("test-moved", 8192));
  ASSERT_EQ(mappings_of("test-moved"), 0U);
  {
    Mapping first = must(Mapping::map(fd.get(), Access::kReadWrite, 4096, 4096));
    std::byte* const data = first.data();
    Mapping second = std::move(first);
    EXPECT_EQ(second.data(), data);
    EXPECT_EQ(first.data(), nullptr);
    Mapping third;
    third = std::move(second);
    EXPECT_EQ(third.data(), data);
    third.data()[0] = std::byte{1};
    EXPECT_EQ(mappings_of("test-moved"), 1U);
  }
  EXPECT_EQ(mappings_of("test-moved"), 0U);
}

TEST(MirroredMapping, ShowsItsDataTwiceInARow) {
  const UniqueFd fd = must(make_segment("test-mirror", 4096 + 4096 + 8192 + 4096));
  const auto mapping = must(MirroredMapping::map(fd.get(), Access::kReadWrite, 4096, 4096, 8192));
  const Mapping plain = must(Mapping::map(fd.get(), Access::kReadOnly, 0, 4096 + 4096 + 8192 + 4096));
  ASSERT_EQ(mapping.data().size(), 16384U);
  EXPECT_EQ(mapping.data().data(), mapping.header() + 4096);
  EXPECT_EQ(mappings_of("test-mirror"), 3U) << "two for the mirror, one plain";
  std::memset(mapping.data().data() + 8192 - 10, 5, 20);
  EXPECT_EQ(mapping.data()[9], std::byte{5});
  EXPECT_EQ(mapping.data()[10], std::byte{0});
  EXPECT_EQ(mapping.data()[16383], std::byte{5});
  mapping.header()[4095] = std::byte{9};
  EXPECT_EQ(plain.data()[4096 + 4095], std::byte{9});
  EXPECT_EQ(plain.data()[8192 + 9], std::byte{5});
  EXPECT_EQ(plain.data()[4096 + 4096 + 8192], std::byte{0});
}

TEST(MirroredMapping, LeavesNothingBehind) {
  const UniqueFd fd = must(make_segment("test-gone", 8192));
  const auto total = [] { return mappings_of("-"); };
  const auto map = [&](MirroredMapping::Guard guard) {
    return must(MirroredMapping::map(fd.get(), Access::kReadWrite, 0, 4096, 4096, guard));
  };
  {
    MirroredMapping mapping = map(MirroredMapping::Guard::kBothSides);
    EXPECT_EQ(mappings_of("test-gone"), 2U);
    mapping = map(MirroredMapping::Guard::kNone);
    EXPECT_EQ(mappings_of("test-gone"), 2U);
    const MirroredMapping moved = std::move(mapping);
    EXPECT_EQ(mappings_of("test-gone"), 2U);
    EXPECT_EQ(moved.data()[0], std::byte{0});
  }
  EXPECT_EQ(mappings_of("test-gone"), 0U);
  for (int i = 0; i < 10; ++i) map(MirroredMapping::Guard::kBothSides);
  const std::size_t before = total();
  for (int i = 0; i < 200; ++i) map(MirroredMapping::Guard::kBothSides);
  EXPECT_LE(total(), before + 20) << "mappings are left over";
}

TEST(MirroredMapping, GuardPagesEndWhoeverRunsOverTheEdges) {
  const UniqueFd fd = must(make_segment("test", 8192));
  const auto mapping =
      must(MirroredMapping::map(fd.get(), Access::kReadOnly, 0, 4096, 4096, MirroredMapping::Guard::kBothSides));
  EXPECT_EQ(signal_of_touching(mapping.header(), false), 0);
  EXPECT_EQ(signal_of_touching(&mapping.data().back(), false), 0);
  EXPECT_EQ(signal_of_touching(mapping.header() - 1, false), SIGSEGV);
  EXPECT_EQ(signal_of_touching(mapping.data().data() + mapping.data().size(), false), SIGSEGV);
}

TEST(MirroredMapping, RefusesRangesOutsideTheFile) {
  const UniqueFd fd = must(make_segment("test", 12288));
  EXPECT_FALSE(MirroredMapping::map(fd.get(), Access::kReadOnly, 4096, 4096, 8192));
  EXPECT_FALSE(MirroredMapping::map(fd.get(), Access::kReadOnly, 0, 0, 4096));
  EXPECT_FALSE(MirroredMapping::map(fd.get(), Access::kReadOnly, 0, 4096, 0));
  EXPECT_FALSE(MirroredMapping::map(fd.get(), Access::kReadOnly, 0, 4096, 100));
  EXPECT_FALSE(MirroredMapping::map(fd.get(), Access::kReadOnly, 0, 4096, ~std::size_t{0} - 4095));
  EXPECT_TRUE(MirroredMapping::map(fd.get(), Access::kReadOnly, 0, 4096, 8192).ok());
}

TEST(Segment, ThatIsConstantHoldsItsContentAndNobodyWritesToIt) {
  const std::string text(5000, 'x');
  const UniqueFd fd = must(make_constant_segment("test-constant", std::as_bytes(std::span(text))));
  EXPECT_EQ(must(segment_size(fd.get())), 8192U);
  EXPECT_TRUE(check_segment(fd.get(), 8192, kConstantSeals));
  EXPECT_FALSE(Mapping::map(fd.get(), Access::kReadWrite, 0, 8192));
  EXPECT_LT(::pwrite(fd.get(), "y", 1, 0), 0);
  EXPECT_NE(::ftruncate(fd.get(), 4096), 0);
  const Mapping mapping = must(Mapping::map(fd.get(), Access::kReadOnly, 0, 8192));
  EXPECT_EQ(std::memcmp(mapping.data(), text.data(), text.size()), 0);
  EXPECT_EQ(mapping.data()[5000], std::byte{0});
  EXPECT_EQ(must(segment_size(must(make_constant_segment("test-empty", {})).get())), 4096U) << "a page for nothing";
}

}  // namespace
}  // namespace bulkhead::shm
