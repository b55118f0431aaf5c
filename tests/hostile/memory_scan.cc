#include "tests/hostile/memory_scan.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <sstream>

#include "base/fd.h"

namespace bulkhead::hostile {
namespace {

constexpr std::uint64_t kPage = 4096;
// Of the kernel's documentation (admin-guide/mm/pagemap.rst).
constexpr std::uint64_t kPresent = std::uint64_t{1} << 63;
constexpr std::uint64_t kSwapped = std::uint64_t{1} << 62;
constexpr std::uint64_t kOfFile = std::uint64_t{1} << 61;
constexpr std::size_t kFileBlock = 1024 * 1024;

std::string process_path(pid_t pid, const char* name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

bool holds_runtime_data(const MemoryRange& range, std::uint64_t page) {
  if ((page & (kPresent | kSwapped)) == 0) return false;
  // A private page of a file that was never written to is as it stands on disk.
  return range.shared() || range.inode == 0 || (page & kOfFile) == 0;
}

/// The runs of pages of a range that hold something: begin and size.
std::vector<std::pair<std::uint64_t, std::size_t>> runs_of(const MemoryRange& range, int pagemap) {
  std::vector<std::uint64_t> pages(range.size() / kPage);
  const ssize_t got = ::pread(pagemap, pages.data(), pages.size() * sizeof(std::uint64_t),
                              static_cast<off_t>(range.begin / kPage * sizeof(std::uint64_t)));
  pages.resize(got > 0 ? static_cast<std::size_t>(got) / sizeof(std::uint64_t) : 0);
  std::vector<std::pair<std::uint64_t, std::size_t>> runs;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (!holds_runtime_data(range, pages[i])) continue;
    const std::uint64_t address = range.begin + i * kPage;
    if (!runs.empty() && runs.back().first + runs.back().second == address) {
      runs.back().second += kPage;
    } else {
      runs.emplace_back(address, kPage);
    }
  }
  return runs;
}

/// By first address: the flags of each mapping.
std::map<std::uint64_t, std::string> all_flags(pid_t pid) {
  std::map<std::uint64_t, std::string> found;
  std::istringstream smaps(testing::read_file(process_path(pid, "smaps")));
  std::uint64_t begin = 0;
  for (std::string line; std::getline(smaps, line);) {
    if (line.starts_with("VmFlags:")) {
      found[begin] = line.substr(8) + " ";
    } else if (const auto dash = line.find('-'); dash != std::string::npos && dash < line.find(' ')) {
      begin = std::stoull(line, nullptr, 16);
    }
  }
  return found;
}

}  // namespace

std::size_t Secrets::add(std::string name, std::span<const std::uint8_t> bytes) {
  names_.push_back(std::move(name));
  for (std::size_t i = 0; i + kPiece <= bytes.size(); i += kPiece) {
    std::uint64_t piece = 0;
    std::memcpy(&piece, bytes.data() + i, kPiece);
    pieces_.emplace(piece, names_.size() - 1);
    beginnings_.set(piece & 0xffff);
  }
  return names_.size() - 1;
}

void Secrets::find(std::span<const std::uint8_t> memory, std::vector<Hit>& hits) const {
  const std::uint8_t* const bytes = memory.data();
  for (std::size_t i = 0; i + kPiece <= memory.size(); ++i) {
    if (bytes[i] == 0 && bytes[i + 1] == 0) continue;
    if (!beginnings_[bytes[i] | std::size_t{bytes[i + 1]} << 8]) continue;
    std::uint64_t piece = 0;
    std::memcpy(&piece, bytes + i, kPiece);
    const auto known = pieces_.find(piece);
    if (known != pieces_.end()) hits.push_back({known->second, i});
  }
}

std::vector<Finding> search_memory(pid_t pid, const Secrets& secrets, bool core_image) {
  const UniqueFd memory(::open(process_path(pid, "mem").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd pagemap(::open(process_path(pid, "pagemap").c_str(), O_RDONLY | O_CLOEXEC));
  if (!memory || !pagemap) throw std::runtime_error(system_error("cannot read process " + std::to_string(pid)).text);
  std::map<std::uint64_t, std::string> flags;
  if (core_image) flags = all_flags(pid);
  std::vector<Finding> findings;
  std::vector<std::uint8_t> bytes;
  std::vector<Secrets::Hit> hits;
  for (const MemoryRange& range : memory_of(pid)) {
    // Kernel pages, the same for all.
    if (range.name.starts_with("[v")) continue;
    if (core_image && flags[range.begin].find(" dd ") != std::string::npos) continue;
    for (const auto& [address, size] : runs_of(range, pagemap.get())) {
      bytes.resize(size);
      const ssize_t got = ::pread(memory.get(), bytes.data(), size, static_cast<off_t>(address));
      if (got <= 0) continue;
      hits.clear();
      secrets.find(std::span(bytes).first(static_cast<std::size_t>(got)), hits);
      for (const Secrets::Hit& hit : hits) findings.push_back({hit.secret, address + hit.offset, range});
    }
  }
  return findings;
}

std::vector<std::size_t> search_memory_files(pid_t pid, const Secrets& secrets) {
  std::vector<Secrets::Hit> hits;
  std::vector<std::uint8_t> bytes(kFileBlock + Secrets::kPiece);
  for (const auto& [fd, what] : descriptors_of(pid)) {
    if (!what.starts_with("/memfd:")) continue;
    const UniqueFd file(::open(process_path(pid, ("fd/" + std::to_string(fd)).c_str()).c_str(), O_RDONLY | O_CLOEXEC));
    for (off_t at = ::lseek(file.get(), 0, SEEK_DATA); at >= 0; at = ::lseek(file.get(), at, SEEK_DATA)) {
      // A little more than the step, for what lies across two blocks.
      const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), at);
      if (got <= 0) break;
      secrets.find(std::span(bytes).first(static_cast<std::size_t>(got)), hits);
      at += static_cast<off_t>(kFileBlock);
    }
  }
  std::vector<std::size_t> found;
  for (const Secrets::Hit& hit : hits) found.push_back(hit.secret);
  return found;
}

std::string flags_of(pid_t pid, const MemoryRange& range) {
  return all_flags(pid)[range.begin];
}

}  // namespace bulkhead::hostile
