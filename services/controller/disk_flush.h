#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <utility>

#include "base/fd.h"
#include "base/result.h"

namespace bulkhead::controller {

/// Brings what was written to a file to the disk: one flush at a time, of one thread. A disk may take seconds for it
/// when others write much.
class DiskFlush {
 public:
  virtual ~DiskFlush() = default;

  /// Flushes the data of `fd` and blocks for it, whatever is under way. 0 or an errno.
  virtual int flush_now(int fd);
  /// Begins to flush the data of `fd`, which stays open until the flush is over. None may be under way.
  virtual void begin(int fd) = 0;
  /// Once: the outcome of the flush that was begun, as soon as it is over. Does not block.
  virtual std::optional<Result<void>> outcome() = 0;
  /// Readable when the outcome of a flush may be there; -1: it is there when begin() returns.
  virtual int readiness() const { return -1; }
  /// Blocks until the flush that is under way is over, if one is.
  virtual void wait() {}
};

/// begin() blocks for the whole flush.
class BlockingDiskFlush : public DiskFlush {
 public:
  void begin(int fd) override;
  std::optional<Result<void>> outcome() override { return std::exchange(outcome_, std::nullopt); }

 private:
  std::optional<Result<void>> outcome_;
};

/// The kernel flushes (io_submit(2), IOCB_CMD_FDSYNC, Linux 4.18) while the caller goes on. After make() it takes
/// io_submit, io_getevents, read(2) and write(2) alone, and so works in a confined process. A process that ends while a
/// flush is under way stays until that is over.
class KernelDiskFlush : public DiskFlush {
 public:
  /// To be called before the process is confined. kSystem: this kernel, or what filters its calls, has none of it.
  static Result<std::unique_ptr<KernelDiskFlush>> make();

  void begin(int fd) override;
  std::optional<Result<void>> outcome() override;
  int readiness() const override { return ready_.get(); }
  void wait() override;

 private:
  KernelDiskFlush(std::uint64_t context, UniqueFd ready) : context_(context), ready_(std::move(ready)) {}

  void look(timespec* most);

  std::uint64_t context_;  ///< of io_setup(2); goes with the process
  UniqueFd ready_;
  bool under_way_ = false;
  std::optional<Result<void>> known_;  ///< an outcome that nobody asked for yet
};

}  // namespace bulkhead::controller
