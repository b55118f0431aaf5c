#include "services/maintainer/resolver.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <stdexcept>

#include "base/address.h"

namespace bulkhead::maintainer {

Resolver::Resolver(service::Loop& loop, const ResolverSettings& settings) : loop_(loop) {
  if (const int status = ares_library_init(ARES_LIB_INIT_ALL); status != ARES_SUCCESS) {
    throw std::runtime_error(std::string("cannot start the resolver: ") + ares_strerror(status));
  }
  ares_options options{};
  options.sock_state_cb = on_socket_state;
  options.sock_state_cb_data = this;
  options.timeout = settings.timeout_ms;
  options.tries = settings.tries;
  // Name servers alone: once confined, this process can read no file. What /etc/hosts says is taken up before, in
  // remember().
  char lookups[] = "b";
  options.lookups = lookups;
  if (const int status = ares_init_options(
          &channel_, &options, ARES_OPT_SOCK_STATE_CB | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS);
      status != ARES_SUCCESS) {
    throw std::runtime_error(std::string("cannot start the resolver: ") + ares_strerror(status));
  }
  if (!settings.servers.empty()) use_servers(settings.servers);
  timer_ = service::Timer(loop_, [this] {
    ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm();
  });
}

void Resolver::use_servers(const std::vector<Point>& servers) {
  std::vector<ares_addr_port_node> nodes(servers.size());
  for (std::size_t i = 0; i < servers.size(); ++i) {
    ares_addr_port_node& node = nodes[i];
    const bool ipv4 = is_ipv4(servers[i].address);
    node.next = i + 1 < nodes.size() ? &nodes[i + 1] : nullptr;
    node.family = ipv4 ? AF_INET : AF_INET6;
    node.udp_port = node.tcp_port = servers[i].port;
    std::memcpy(&node.addr, servers[i].address.bytes.data() + (ipv4 ? 12 : 0), ipv4 ? 4 : 16);
  }
  if (const int status = ares_set_servers_ports(channel_, nodes.data()); status != ARES_SUCCESS) {
    throw std::runtime_error(std::string("cannot use the configured name servers: ") + ares_strerror(status));
  }
}

Resolver::~Resolver() {
  ares_destroy(channel_);
  ares_library_cleanup();
}

void Resolver::remember(const std::string& name) {
  for (const int family : {AF_INET, AF_INET6}) {
    hostent* found = nullptr;
    if (ares_gethostbyname_file(channel_, name.c_str(), family, &found) != ARES_SUCCESS) continue;
    for (char** at = found->h_addr_list; *at != nullptr; ++at) {
      sockaddr_storage storage{};
      storage.ss_family = static_cast<sa_family_t>(family);
      const std::size_t offset =
          family == AF_INET ? offsetof(sockaddr_in, sin_addr) : offsetof(sockaddr_in6, sin6_addr);
      std::memcpy(static_cast<char*>(static_cast<void*>(&storage)) + offset, *at,
                  static_cast<std::size_t>(found->h_length));
      hosts_[name].push_back(from_sockaddr(storage).address);
    }
    ares_free_hostent(found);
  }
}

void Resolver::resolve(const std::string& name, Callback callback) {
  if (const auto known = hosts_.find(name); known != hosts_.end()) {
    // The file cannot be read again.
    callback({known->second, UINT32_MAX});
    return;
  }
  auto query = std::make_unique<Query>(Query{this, std::move(callback)});
  ares_addrinfo_hints hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  // Sorting would connect a socket to each address to see from where it is reached.
  hints.ai_flags = ARES_AI_NOSORT;
  // Owned by on_result from here on: it is called exactly once, whatever happens.
  ares_getaddrinfo(channel_, name.c_str(), nullptr, &hints, on_result, query.release());
  arm();
}

void Resolver::on_result(void* data, int status, int, ares_addrinfo* result) {
  const std::unique_ptr<Query> query(static_cast<Query*>(data));
  NameAnswer answer{{}, UINT32_MAX};
  if (status == ARES_SUCCESS && result != nullptr) {
    for (const ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
      sockaddr_storage storage{};
      std::memcpy(&storage, node->ai_addr, std::min<std::size_t>(node->ai_addrlen, sizeof storage));
      answer.addresses.push_back(from_sockaddr(storage).address);
      answer.ttl_s = std::min(answer.ttl_s, static_cast<std::uint32_t>(std::max(node->ai_ttl, 0)));
    }
  }
  if (result != nullptr) ares_freeaddrinfo(result);
  if (status != ARES_EDESTRUCTION) query->callback(std::move(answer));
}

void Resolver::on_socket_state(void* data, ares_socket_t socket, int readable, int writable) {
  auto* self = static_cast<Resolver*>(data);
  if (readable == 0 && writable == 0) {
    self->sockets_.erase(socket);
    return;
  }
  auto& poll = self->sockets_[socket];
  if (!poll)
    poll = service::Poll(self->loop_, socket, [self, socket](int, int events) { self->process(socket, events); });
  poll.watch((readable != 0 ? UV_READABLE : 0) | (writable != 0 ? UV_WRITABLE : 0));
}

void Resolver::process(ares_socket_t socket, int events) {
  ares_process_fd(channel_, (events & UV_WRITABLE) != 0 && (events & UV_READABLE) == 0 ? ARES_SOCKET_BAD : socket,
                  (events & UV_WRITABLE) != 0 ? socket : ARES_SOCKET_BAD);
  arm();
}

void Resolver::arm() {
  timeval most{5, 0};
  timeval buffer{};
  if (sockets_.empty()) {
    timer_.stop();
    return;
  }
  const timeval* wait = ares_timeout(channel_, &most, &buffer);
  timer_.once(static_cast<std::uint64_t>(wait->tv_sec) * 1000 + static_cast<std::uint64_t>(wait->tv_usec) / 1000 + 1);
}

}  // namespace bulkhead::maintainer
