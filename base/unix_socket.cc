#include "base/unix_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace bulkhead {
namespace {

Result<UniqueFd> open_directory(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return Error{ErrorCode::kNotFound, directory + ": no such directory", ENOENT};
    return system_error(directory);
  }
  return fd;
}

Result<sockaddr_un> short_path(int directory, const std::string& name) {
  const std::string path = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error{ErrorCode::kTooLarge, name + ": name of a socket is too long"};
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

template <typename T>
const sockaddr* as_sockaddr(const T& address) {
  return static_cast<const sockaddr*>(static_cast<const void*>(&address));
}

}  // namespace

Result<UniqueFd> listen_unix(const std::string& directory, const std::string& name, mode_t mode) {
  auto folder = open_directory(directory);
  if (!folder) return folder.error();
  auto address = short_path(folder->get(), name);
  if (!address) return address.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return system_error("cannot make a socket");
  ::unlinkat(folder->get(), name.c_str(), 0);
  // The mode is set before anybody can connect: bind applies it, listen comes last.
  ::fchmod(fd.get(), mode);
  if (::bind(fd.get(), as_sockaddr(*address), sizeof *address) != 0)
    return system_error("cannot bind " + directory + "/" + name);
  if (::fchmodat(folder->get(), name.c_str(), mode, 0) != 0)
    return system_error("cannot set the mode of " + directory + "/" + name);
  if (::listen(fd.get(), 64) != 0) return system_error("cannot listen on " + directory + "/" + name);
  return fd;
}

Result<UniqueFd> connect_unix(const std::string& directory, const std::string& name) {
  auto folder = open_directory(directory);
  if (!folder) return folder.error();
  auto address = short_path(folder->get(), name);
  if (!address) return address.error();
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return system_error("cannot make a socket");
  while (::connect(fd.get(), as_sockaddr(*address), sizeof *address) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOENT || errno == ECONNREFUSED)
      return Error{ErrorCode::kNotFound, "no node listens on " + directory + "/" + name, errno};
    return system_error("cannot connect to " + directory + "/" + name);
  }
  return fd;
}

Result<PeerCredentials> peer_credentials(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return system_error("cannot read who connected");
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

}  // namespace bulkhead
