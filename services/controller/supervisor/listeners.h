#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/ids.h"
#include "base/result.h"
#include "services/controller/supervisor/service_manager.h"

namespace bulkhead::supervisor {

struct Listener {
  UniqueFd fd;
  Point point;  ///< with the port that the kernel chose, where none was named
};

/// Which of the `found` listening sockets (nullopt: it is none) serves each of the `wanted` points: its index, or
/// nullopt when a socket must be made. Only the very same address and port serve, each socket once; a point with port 0
/// takes none.
std::vector<std::optional<std::size_t>> match_listeners(std::span<const Point> wanted,
                                                        std::span<const std::optional<Point>> found);

/// The name under which the service manager keeps the listener of a point.
std::string stored_name(const Point& point);

/// Listens for peers at every point: on the sockets that the service manager passed where they match, so that no
/// connection that waits there is lost, on new ones elsewhere. The manager is asked to keep the new ones, and to let
/// go those of ours that no longer match. Non-blocking, close-on-exec.
Result<std::vector<Listener>> open_listeners(std::span<const Point> wanted, int backlog, ServiceManager& manager);

/// Binds and listens for peers. Dual stack where the address is [::]; a host without IPv6 listens on IPv4 alone. The
/// error names the address and what to do. Non-blocking.
Result<UniqueFd> listen_for_peers(const Point& point, int backlog);

/// A UDP socket for LAN discovery: of IPv4, on every address, so that it hears what is sent to the broadcast address;
/// other programs may share the port. It may broadcast. Non-blocking, close-on-exec. The error says what to do.
Result<UniqueFd> open_discovery(std::uint16_t port);

/// What a listening socket is bound to (the port that the kernel chose for port 0).
Result<Point> bound_point(int fd);

}  // namespace bulkhead::supervisor
