#pragma once

#include <ares.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "services/common/loop.h"
#include "services/maintainer/names.h"

namespace bulkhead::maintainer {

struct ResolverSettings {
  std::vector<Point> servers = {};  ///< none: those of /etc/resolv.conf
  int timeout_ms = 2000;            ///< of the first try; longer for those that follow
  int tries = 3;                    ///< of each server
};

/// Names to addresses by c-ares, on the loop: A and AAAA records, over UDP, and TCP when an answer is cut short. Search
/// domains and name servers of the machine are read at construction, before confinement. One thread.
///
/// Answers are foreign: c-ares reads them, and what comes out is addresses and times to live, which Names bounds.
class Resolver {
 public:
  using Callback = std::function<void(NameAnswer)>;

  explicit Resolver(service::Loop& loop, const ResolverSettings& settings = {});
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  /// Takes up what the hosts file says of this name. Reads files: before confinement alone.
  void remember(const std::string& name);

  /// IPv4 and IPv6 addresses of `name`. The callback comes once, from the loop or, when the answer is at hand, from
  /// here; never after destruction has begun.
  void resolve(const std::string& name, Callback callback);

 private:
  struct Query {
    Resolver* resolver = nullptr;
    Callback callback;
  };
  void use_servers(const std::vector<Point>& servers);
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
