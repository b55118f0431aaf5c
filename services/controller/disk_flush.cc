#include "services/controller/disk_flush.h"

#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace bulkhead::controller {
namespace {

Result<void> outcome_of(int errno_value) {
  if (errno_value == 0) return {};
  errno = errno_value;
  Error error = system_error("the state database could not be flushed to the disk");
  if (errno_value == ENOSPC || errno_value == EDQUOT || errno_value == EFBIG) error.code = ErrorCode::kTooLarge;
  return error;
}

}  // namespace

int DiskFlush::flush_now(int fd) {
  return ::fdatasync(fd) == 0 ? 0 : errno;
}

void BlockingDiskFlush::begin(int fd) {
  outcome_ = outcome_of(flush_now(fd));
}

Result<std::unique_ptr<KernelDiskFlush>> KernelDiskFlush::make() {
  UniqueFd ready(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!ready) return system_error("cannot make an event descriptor");
  aio_context_t context = 0;
  if (::syscall(SYS_io_setup, 1, &context) != 0) return system_error("no asynchronous I/O (io_setup)");
  return std::unique_ptr<KernelDiskFlush>(new KernelDiskFlush(context, std::move(ready)));
}

void KernelDiskFlush::begin(int fd) {
  iocb request{};
  request.aio_lio_opcode = IOCB_CMD_FDSYNC;
  request.aio_fildes = static_cast<std::uint32_t>(fd);
  request.aio_flags = IOCB_FLAG_RESFD;
  request.aio_resfd = static_cast<std::uint32_t>(ready_.get());
  iocb* requests[] = {&request};
  under_way_ = ::syscall(SYS_io_submit, context_, 1, requests) == 1;
  if (under_way_) return;
  known_ = outcome_of(errno);
  // Whoever waits for the descriptor hears of it.
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(ready_.get(), &one, sizeof one);
}

std::optional<Result<void>> KernelDiskFlush::outcome() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(ready_.get(), &count, sizeof count);
  timespec no_time{};
  look(&no_time);
  return std::exchange(known_, std::nullopt);
}

void KernelDiskFlush::wait() {
  while (under_way_) look(nullptr);
}

// For so long, or until it is over.
void KernelDiskFlush::look(timespec* most) {
  io_event event{};
  if (!under_way_) return;
  const long got = ::syscall(SYS_io_getevents, context_, 1, 1, &event, most);
  if (got == 0 || (got < 0 && errno == EINTR)) return;
  under_way_ = false;
  known_ = outcome_of(got < 0 ? errno : event.res < 0 ? static_cast<int>(-event.res) : 0);
}

}  // namespace bulkhead::controller
