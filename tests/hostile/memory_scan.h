#pragma once

#include <sys/types.h>

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/hostile/inside.h"

/// Finds secrets in the memory of other processes. For root.
namespace bulkhead::hostile {

/// Secrets to look for, each by every whole piece of it, so that what is left of a broken or half-wiped copy is found.
class Secrets {
 public:
  static constexpr std::size_t kPiece = 8;

  /// `bytes`: a multiple of kPiece of them. Returns the secret's number, counted from 0.
  std::size_t add(std::string name, std::span<const std::uint8_t> bytes);
  const std::string& name(std::size_t number) const { return names_[number]; }

  struct Hit {
    std::size_t secret;
    std::size_t offset;  ///< in the memory that was looked through
  };
  void find(std::span<const std::uint8_t> memory, std::vector<Hit>& hits) const;

 private:
  std::vector<std::string> names_;
  std::unordered_map<std::uint64_t, std::size_t> pieces_;
  std::bitset<65536> beginnings_;  ///< first two bytes of the pieces
};

struct Finding {
  std::size_t secret = 0;
  std::uint64_t address = 0;
  MemoryRange range;
};

/// What a process's memory holds of the secrets: all its mappings, private and shared, as far as pages are there
/// (untouched pages hold nothing, and a look at them must not make them), but for unchanged pages of files on disk.
/// `core_image`: only what a core dump would hold (without what MADV_DONTDUMP excludes).
std::vector<Finding> search_memory(pid_t pid, const Secrets& secrets, bool core_image = false);

/// What the memory files hold that a process has open, mapped or not.
std::vector<std::size_t> search_memory_files(pid_t pid, const Secrets& secrets);

/// The range's flags in /proc/PID/smaps: "dd" (not dumped), "lo" (locked), ...
std::string flags_of(pid_t pid, const MemoryRange& range);

}  // namespace bulkhead::hostile
