#pragma once

#include <ares.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "services/common/loop.h"

namespace bulkhead::maintainer {

/// Names to addresses by c-ares, on the loop. Its settings are read at construction. One thread.
class Resolver {
 public:
  /// Empty: the name could not be resolved.
  using Callback = std::function<void(std::vector<Address>)>;

  explicit Resolver(service::Loop& loop);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  /// Takes up what the hosts file says of this name. Reads files: before confinement alone.
  void remember(const std::string& name);

  /// IPv4 and IPv6 addresses of `name`. The callback comes from the loop, or from here when the answer is at hand.
  void resolve(const std::string& name, Callback callback);

 private:
  struct Query {
    Resolver* resolver = nullptr;
    Callback callback;
  };
  static void on_socket_state(void* data, ares_socket_t socket, int readable, int writable);
  static void on_result(void* data, int status, int timeouts, ares_addrinfo* result);
  void process(ares_socket_t socket, int events);
  void arm();

  service::Loop& loop_;
  ares_channel channel_{};
  std::map<ares_socket_t, service::Poll> sockets_;
  service::Timer timer_;
  std::map<std::string, std::vector<Address>> hosts_;
};

}  // namespace bulkhead::maintainer
