#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/ids.h"

namespace bulkhead::testing {

/// How a name server behaves when it is asked for a name.
struct NameRecords {
  enum class Manner : std::uint8_t {
    kAnswer,
    kSilence,
    kServerFailure,
    kGarbage,   ///< random bytes behind the header that the question had
    kLoop,      ///< a compressed name that points to itself
    kCutShort,  ///< the end of the answer is missing
    kForeign,   ///< under another number
    kOverTcp,   ///< over UDP it says that the answer is too long, over TCP it answers
  };
  std::vector<Address> addresses = {};  ///< A and AAAA records; a name without any exists all the same
  std::uint32_t ttl_s = 60;
  Manner manner = Manner::kAnswer;
};

/// A name server for tests on 127.0.0.1, UDP and TCP on one free port, in a thread of its own. Names that it was not
/// given do not exist. For any thread.
class NameServer {
 public:
  NameServer();
  ~NameServer();
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;

  std::uint16_t port() const { return port_; }
  /// "127.0.0.1:PORT"
  std::string point() const;
  /// From now on; `name` in small letters and without a dot at its end.
  void set(const std::string& name, NameRecords records);
  /// Questions for it so far, of any type.
  int asked(const std::string& name) const;

 private:
  void serve();
  /// Empty: nothing is sent.
  std::vector<std::uint8_t> answer(const std::vector<std::uint8_t>& question, bool tcp);
  void serve_tcp();

  UniqueFd udp_;
  UniqueFd tcp_;
  UniqueFd stop_;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::map<std::string, NameRecords> names_;
  std::map<std::string, int> asked_;
  std::thread thread_;
};

}  // namespace bulkhead::testing
