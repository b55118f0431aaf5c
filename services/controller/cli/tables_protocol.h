#pragma once

#include <array>
#include <cstdint>

namespace bulkhead {

/// run/tables.sock (AF_UNIX, SOCK_SEQPACKET): the caller sends these eight bytes, the supervisor answers with the same
/// eight and seven read-only descriptors beside them: processes, pool, live, counters, events, lists, history. Anything
/// else closes the connection.
inline constexpr std::array<std::uint8_t, 8> kTablesRequest = {'B', 'H', 'T', 'A', 'B', 'L', 'E', '3'};
inline constexpr std::size_t kTablesDescriptors = 7;

}  // namespace bulkhead
