#include "shm/table_file.h"

#include <cstring>
#include <string>

namespace bulkhead::shm {

Result<UniqueFd> make_sealed(const char* name, std::uint64_t size) {
  auto fd = make_segment(name, size);
  if (!fd) return fd.error();
  if (auto sealed = seal_replaceable(fd->get()); !sealed) return sealed.error();
  return fd;
}

Result<UniqueFd> make_table(const char* name, Kind kind, std::uint64_t size, std::array<std::uint32_t, 4> rows) {
  auto fd = make_sealed(name, size);
  if (!fd) return fd.error();
  auto first = Mapping::map(fd->get(), Access::kReadWrite, 0, kPageSize);
  if (!first) return first.error();
  TableHeader header{};
  header.magic = kTableMagic;
  header.version = kTableVersion;
  header.kind = static_cast<std::uint32_t>(kind);
  std::memcpy(header.rows, rows.data(), sizeof header.rows);
  std::memcpy(first->data(), &header, sizeof header);
  return fd;
}

Error broken(const char* table, const char* what) {
  return Error{ErrorCode::kBroken, std::string("table ") + table + ": " + what};
}

/// A copy of the header, so that nothing in it is looked at twice.
Result<TableHeader> read_header(int fd, const char* table, Kind kind) {
  const auto size = segment_size(fd);
  if (!size) return size.error();
  if (*size < kPageSize) return broken(table, "too small");
  auto first = Mapping::map(fd, Access::kReadOnly, 0, kPageSize);
  if (!first) return first.error();
  TableHeader header{};
  std::memcpy(&header, first->data(), sizeof header);
  if (header.magic != kTableMagic) return broken(table, "not a table");
  if (header.version != kTableVersion) return broken(table, "written by another version of the program");
  if (header.kind != static_cast<std::uint32_t>(kind)) return broken(table, "another kind of table");
  return header;
}

Result<Mapping> map_checked(int fd, Access access, std::uint64_t size) {
  if (auto checked = check_segment(fd, size, kReplaceableSeals); !checked) return checked.error();
  return Mapping::map(fd, access, 0, static_cast<std::size_t>(size));
}

}  // namespace bulkhead::shm
