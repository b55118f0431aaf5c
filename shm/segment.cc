#include "shm/segment.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <exception>
#include <limits>
#include <string>
#include <utility>

#ifndef MFD_NOEXEC_SEAL  // Linux 6.3; older headers lack it
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace bulkhead::shm {

namespace interprocess = boost::interprocess;

const unsigned int kReplaceableSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
const unsigned int kOwnedSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
const unsigned int kConstantSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

namespace {

/// What mapped_region wants of a file: its descriptor. The handle type has no public name in Boost.
struct DescriptorMapping {
  int fd;
  interprocess::mapping_handle_t get_mapping_handle() const {
    return interprocess::ipcdetail::mapping_handle_from_file_handle(fd);
  }
};

bool page_aligned(std::uint64_t value) {
  return value % kPageBytes == 0;
}

Result<void> seal(int fd, unsigned int seals) {
  if (::fcntl(fd, F_ADD_SEALS, seals) != 0) return system_error("cannot seal a shared segment");
  const int in_force = ::fcntl(fd, F_GET_SEALS);
  if (in_force < 0 || (static_cast<unsigned int>(in_force) & seals) != seals) {
    return Error{ErrorCode::kSystem, "the kernel did not take all seals of a shared segment"};
  }
  return {};
}

Result<void> check_range(int fd, std::uint64_t offset, std::uint64_t size) {
  if (::sysconf(_SC_PAGESIZE) != static_cast<long>(kPageBytes)) {
    return Error{ErrorCode::kInvalid, "this machine's page size is not 4096: shared segments cannot be mapped"};
  }
  if (size == 0 || !page_aligned(size) || !page_aligned(offset)) {
    return Error{ErrorCode::kInvalid, "a range of a shared segment is empty or not made of whole pages"};
  }
  const auto file_size = segment_size(fd);
  if (!file_size) return file_size.error();
  if (size > *file_size || offset > *file_size - size) {
    return Error{ErrorCode::kInvalid, "a range lies outside its shared segment"};
  }
  return {};
}

interprocess::mode_t boost_mode(Access access) {
  return access == Access::kReadWrite ? interprocess::read_write : interprocess::read_only;
}

/// Runs `make`, which maps something with Boost, and turns its exceptions into an Error.
template <typename Make>
Result<void> guarded(const Make& make) {
  try {
    make();
    return {};
  } catch (const interprocess::interprocess_exception& error) {
    const int native = error.get_native_error();
    return Error{ErrorCode::kSystem, std::string("cannot map a shared segment: ") + error.what(), native};
  } catch (const std::exception& error) {
    return Error{ErrorCode::kSystem, std::string("cannot map a shared segment: ") + error.what(), ENOMEM};
  }
}

}  // namespace

Result<UniqueFd> make_segment(const char* name, std::uint64_t size) {
  if (size == 0 || !page_aligned(size) || size > static_cast<std::uint64_t>(std::numeric_limits<off_t>::max())) {
    return Error{ErrorCode::kInvalid, "the size of a shared segment is 0 or not a multiple of 4096"};
  }
  const unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int fd = ::memfd_create(name, flags | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create(name, flags);
  if (fd < 0) return system_error("cannot make a shared segment");
  UniqueFd segment(fd);
  // The kernel's own mode lets any process that sees the descriptor in /proc open it again for writing.
  if (::fchmod(fd, S_IRUSR | S_IWUSR) != 0) return system_error("cannot set the mode of a shared segment");
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0) return system_error("cannot set the size of a shared segment");
  return segment;
}

Result<void> seal_replaceable(int fd) {
  return seal(fd, kReplaceableSeals);
}

Result<void> seal_owned(int fd) {
  return seal(fd, kOwnedSeals);
}

Result<UniqueFd> make_constant_segment(const char* name, std::span<const std::byte> content) {
  const std::uint64_t size = (std::max<std::uint64_t>(content.size(), 1) + kPageBytes - 1) / kPageBytes * kPageBytes;
  auto fd = make_segment(name, size);
  if (!fd) return fd;
  {
    auto mapping = Mapping::map(fd->get(), Access::kReadWrite, 0, static_cast<std::size_t>(size));
    if (!mapping) return mapping.error();
    std::copy(content.begin(), content.end(), mapping->data());
  }
  // Only now that no mapping can write.
  if (auto sealed = seal(fd->get(), kConstantSeals); !sealed) return sealed.error();
  return fd;
}

Result<void> check_segment(int fd, std::uint64_t expected_size, unsigned int required_seals) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return system_error("cannot look at a shared segment");
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::kBroken, "a descriptor that should be a segment is something else"};
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return Error{ErrorCode::kBroken, "a descriptor that should be a segment has no seals", errno};
  if ((static_cast<unsigned int>(seals) & required_seals) != required_seals) {
    return Error{ErrorCode::kBroken, "a shared segment lacks seals"};
  }
  // The size is read again after the seals, which keep it as it is from then on.
  if (::fstat(fd, &status) != 0) return system_error("cannot look at a shared segment");
  if (status.st_size < 0 || static_cast<std::uint64_t>(status.st_size) != expected_size) {
    return Error{ErrorCode::kBroken, "a shared segment has not the size that was agreed"};
  }
  return {};
}

Result<std::uint64_t> segment_size(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return system_error("cannot look at a shared segment");
  return static_cast<std::uint64_t>(status.st_size);
}

Result<void> punch_hole(int fd, std::uint64_t offset, std::uint64_t size) {
  if (const auto range = check_range(fd, offset, size); !range) return range.error();
  if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                  static_cast<off_t>(size)) != 0) {
    return system_error("cannot give back a part of a shared segment");
  }
  return {};
}

struct Mapping::Region {
  interprocess::mapped_region region;
};

Mapping::Mapping() = default;
Mapping::~Mapping() = default;

Mapping::Mapping(Mapping&& other) noexcept
    : region_(std::move(other.region_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    region_ = std::move(other.region_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

Result<Mapping> Mapping::map(int fd, Access access, std::uint64_t offset, std::size_t size) {
  if (const auto range = check_range(fd, offset, size); !range) return range.error();
  Mapping mapping;
  const auto mapped = guarded([&] {
    mapping.region_ = std::make_unique<Region>();
    interprocess::mapped_region(DescriptorMapping{fd}, boost_mode(access), static_cast<interprocess::offset_t>(offset),
                                size)
        .swap(mapping.region_->region);
  });
  if (!mapped) return mapped.error();
  mapping.data_ = static_cast<std::byte*>(mapping.region_->region.get_address());
  mapping.size_ = size;
  return mapping;
}

struct MirroredMapping::Regions {
  /// Address space without memory behind it, in which the two mappings are placed. Each range that a mapping has
  /// replaced leaves it at once: what a mapping frees may belong to somebody else in the next moment.
  struct Reservation {
    std::byte* low = nullptr;
    std::size_t low_size = 0;
    std::byte* high = nullptr;
    std::size_t high_size = 0;
    ~Reservation() {
      if (low_size != 0) ::munmap(low, low_size);
      if (high_size != 0) ::munmap(high, high_size);
    }
    void give(std::size_t size) {
      high += size;
      high_size -= size;
    }
  };

  Reservation reservation;
  interprocess::mapped_region first;
  interprocess::mapped_region second;
};

MirroredMapping::MirroredMapping() = default;
MirroredMapping::~MirroredMapping() = default;

MirroredMapping::MirroredMapping(MirroredMapping&& other) noexcept
    : regions_(std::move(other.regions_)),
      header_(std::exchange(other.header_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)) {}

MirroredMapping& MirroredMapping::operator=(MirroredMapping&& other) noexcept {
  if (this != &other) {
    regions_ = std::move(other.regions_);
    header_ = std::exchange(other.header_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    capacity_ = std::exchange(other.capacity_, 0);
  }
  return *this;
}

Result<MirroredMapping> MirroredMapping::map(int fd, Access access, std::uint64_t offset, std::size_t header_size,
                                             std::size_t capacity, Guard guard) {
  constexpr std::size_t kMaxPart = std::size_t{1} << 40;  // keeps the sums below from overflowing
  if (header_size == 0 || capacity == 0 || header_size > kMaxPart || capacity > kMaxPart ||
      !page_aligned(header_size) || !page_aligned(capacity)) {
    return Error{ErrorCode::kInvalid, "header or data of a mirrored mapping is empty or not made of whole pages"};
  }
  if (const auto range = check_range(fd, offset, header_size + capacity); !range) return range.error();

  MirroredMapping mapping;
  const std::size_t guard_size = guard == Guard::kBothSides ? kPageBytes : 0;
  const auto mapped = guarded([&] {
    mapping.regions_ = std::make_unique<Regions>();
    Regions& regions = *mapping.regions_;
    const std::size_t reserved = header_size + 2 * capacity + 2 * guard_size;
    void* base = ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) throw interprocess::interprocess_exception(interprocess::error_info(errno));
    std::byte* const low = static_cast<std::byte*>(base);
    std::byte* const header = low + guard_size;
    regions.reservation.low = low;
    regions.reservation.low_size = guard_size;
    regions.reservation.high = header;
    regions.reservation.high_size = reserved - guard_size;
    const auto place = [&](std::uint64_t at, std::size_t size, interprocess::mapped_region& region) {
      interprocess::mapped_region(DescriptorMapping{fd}, boost_mode(access), static_cast<interprocess::offset_t>(at),
                                  size, regions.reservation.high, MAP_FIXED)
          .swap(region);
      regions.reservation.give(size);
    };
    place(offset, header_size + capacity, regions.first);
    place(offset + header_size, capacity, regions.second);
    mapping.header_ = header;
    mapping.data_ = header + header_size;
    mapping.capacity_ = capacity;
  });
  if (!mapped) return mapped.error();
  return mapping;
}

}  // namespace bulkhead::shm
