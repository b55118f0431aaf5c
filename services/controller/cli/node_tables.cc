#include "services/controller/cli/node_tables.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/unix_socket.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/tables_protocol.h"

namespace bulkhead::cli {
namespace {

std::string run_directory(const std::string& data_dir) {
  return data_dir + "/run";
}

Error no_node(const std::string& data_dir) {
  return Error{ErrorCode::kNotFound,
               "no node runs on " + data_dir + "; start one with 'bulkhead run --data-dir " + data_dir + "'"};
}

Error mute(const std::string& data_dir) {
  return failure("the node on " + data_dir + " does not answer; its supervisor is stopped or hangs");
}

bool wait_readable(int fd, Nanoseconds until) {
  for (;;) {
    const Nanoseconds now = monotonic_now();
    if (now >= until) return false;
    pollfd waiting{fd, POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>((until - now) / kMillisecond) + 1);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

/// The answer and its descriptors; an answer of another shape gives none.
std::vector<UniqueFd> receive_descriptors(int socket) {
  std::array<std::uint8_t, kTablesRequest.size() + 1> answer{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 16)> control{};
  iovec part{answer.data(), answer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  std::vector<UniqueFd> descriptors;
  if (size < 0) return descriptors;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  const bool whole = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
                     static_cast<std::size_t>(size) == kTablesRequest.size() &&
                     std::memcmp(answer.data(), kTablesRequest.data(), kTablesRequest.size()) == 0;
  if (!whole || descriptors.size() != kTablesDescriptors) descriptors.clear();
  return descriptors;
}

Result<UniqueFd> connect_tables(const std::string& data_dir) {
  auto socket = connect_unix(run_directory(data_dir), "tables.sock");
  if (socket) return socket;
  if (socket.error().code == ErrorCode::kNotFound) return no_node(data_dir);
  if (socket.error().errno_value == EACCES || socket.error().errno_value == EPERM) {
    return failure("the node on " + data_dir +
                   " may not be asked by this user; be its user, or of the group in application-group");
  }
  return failure(socket.error().text);
}

}  // namespace

Result<NodeTables> map_tables(std::span<const UniqueFd> descriptors) {
  if (descriptors.size() != kTablesDescriptors) return failure("not all tables");
  const auto wrong = [](const Error& error) { return failure("the node's tables cannot be read: " + error.text); };
  NodeTables tables;
  auto processes = shm::ProcessesTable::map(descriptors[0].get(), shm::Access::kReadOnly);
  if (!processes) return wrong(processes.error());
  auto pool = shm::PoolTable::map(descriptors[1].get(), shm::Access::kReadOnly);
  if (!pool) return wrong(pool.error());
  auto live = shm::LiveTable::map(descriptors[2].get(), pool->slots());
  if (!live) return wrong(live.error());
  auto counters = shm::CountersTable::map(descriptors[3].get());
  if (!counters) return wrong(counters.error());
  auto events = shm::EventsTable::map(descriptors[4].get(), shm::Access::kReadOnly);
  if (!events) return wrong(events.error());
  auto lists = shm::ListsTable::map(descriptors[5].get());
  if (!lists) return wrong(lists.error());
  auto history = shm::HistoryTable::map(descriptors[6].get(), shm::Access::kReadOnly, pool->points(), pool->peers());
  if (!history) return wrong(history.error());
  tables.processes = std::move(*processes);
  tables.pool = std::move(*pool);
  tables.live = std::move(*live);
  tables.counters = std::move(*counters);
  tables.events = std::move(*events);
  tables.lists.emplace(std::move(*lists));
  tables.history = std::move(*history);
  return tables;
}

Result<Node> open_node(const std::string& data_dir, std::chrono::milliseconds timeout) {
  const Nanoseconds until = monotonic_now() + static_cast<Nanoseconds>(timeout.count()) * kMillisecond;
  auto socket = connect_tables(data_dir);
  if (!socket) return socket.error();
  Node node;
  if (const auto who = peer_credentials(socket->get())) node.supervisor = who->pid;
  const ssize_t sent = ::send(socket->get(), kTablesRequest.data(), kTablesRequest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent != static_cast<ssize_t>(kTablesRequest.size())) {
    return errno == EPIPE || errno == ECONNRESET ? no_node(data_dir) : mute(data_dir);
  }
  if (!wait_readable(socket->get(), until)) return mute(data_dir);
  const auto descriptors = receive_descriptors(socket->get());
  // A node that ends in this moment closes the socket without an answer.
  if (descriptors.empty()) return no_node(data_dir);
  auto tables = map_tables(descriptors);
  if (!tables) return tables.error();
  node.tables = std::move(*tables);
  return node;
}

NodeWatch::NodeWatch(const Node& node, std::string data_dir) : data_dir_(std::move(data_dir)) {
  if (node.supervisor > 0) process_.reset(static_cast<int>(::syscall(SYS_pidfd_open, node.supervisor, 0)));
}

bool NodeWatch::alive() {
  if (!process_) return static_cast<bool>(connect_tables(data_dir_));
  pollfd waiting{process_.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) == 0;
}

}  // namespace bulkhead::cli
