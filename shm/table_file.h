#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "base/fd.h"
#include "base/result.h"
#include "shm/segment.h"
#include "shm/tables.h"

/// What the segments that begin with a TableHeader have in common. For the tables' own sources.
namespace bulkhead::shm {

enum class Kind : std::uint32_t { kProcesses = 1, kPool = 2, kEvents = 4, kLists = 5 };

constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t to) {
  return (value + to - 1) / to * to;
}

template <typename T>
T& at(const Mapping& mapping, std::uint64_t offset) {
  return *std::launder(static_cast<T*>(static_cast<void*>(mapping.data() + offset)));
}

/// An index beyond its table is a bug of the caller, and would leave the mapping.
inline void require(bool holds) {
  if (!holds) std::abort();
}

Result<UniqueFd> make_sealed(const char* name, std::uint64_t size);
Result<UniqueFd> make_table(const char* name, Kind kind, std::uint64_t size, std::array<std::uint32_t, 4> rows);

Error broken(const char* table, const char* what);

/// A copy of the header, so that nothing in it is looked at twice.
Result<TableHeader> read_header(int fd, const char* table, Kind kind);

Result<Mapping> map_checked(int fd, Access access, std::uint64_t size);

}  // namespace bulkhead::shm
