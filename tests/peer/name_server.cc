#include "tests/peer/name_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <stdexcept>

#include "base/address.h"

namespace bulkhead::testing {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Manner = NameRecords::Manner;

// RFC 1035, section 4.1.
constexpr std::size_t kHeader = 12;
constexpr std::uint16_t kTypeA = 1;
constexpr std::uint16_t kTypeAaaa = 28;
constexpr std::uint8_t kNoSuchName = 3;
constexpr std::uint8_t kServerFailure = 2;
constexpr int kTcpPatienceMs = 5000;
// Others wait while it waits whether a connection has one question more.
constexpr int kNextQuestionMs = 100;

sockaddr* as_sockaddr(sockaddr_in& address) {
  return static_cast<sockaddr*>(static_cast<void*>(&address));
}

/// Binds to 127.0.0.1; port 0 takes any. The port, or nothing when it is taken.
std::optional<std::uint16_t> bind_to(int socket, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  socklen_t size = sizeof address;
  if (::bind(socket, as_sockaddr(address), size) != 0 || ::getsockname(socket, as_sockaddr(address), &size) != 0)
    return std::nullopt;
  return ntohs(address.sin_port);
}

void put16(Bytes& out, unsigned int value) {
  out.push_back(static_cast<std::uint8_t>(value >> 8));
  out.push_back(static_cast<std::uint8_t>(value));
}

struct Question {
  std::string name;
  std::uint16_t type = 0;
  std::size_t end = 0;  ///< of its bytes
};

std::optional<Question> parse(const Bytes& bytes) {
  Question question;
  std::size_t at = kHeader;
  while (at < bytes.size() && bytes[at] != 0) {
    const std::size_t length = bytes[at++];
    if (length > 63 || at + length > bytes.size()) return std::nullopt;
    if (!question.name.empty()) question.name += '.';
    for (std::size_t i = 0; i < length; ++i) question.name += static_cast<char>(std::tolower(bytes[at + i]));
    at += length;
  }
  if (at + 5 > bytes.size()) return std::nullopt;
  question.type = static_cast<std::uint16_t>(bytes[at + 1] << 8 | bytes[at + 2]);
  question.end = at + 5;
  return question;
}

/// Header and question of an answer.
Bytes begin_answer(const Bytes& asked, const Question& question, std::uint8_t code, bool cut, std::size_t answers) {
  Bytes out(asked.begin(), asked.begin() + 2);
  out.push_back(static_cast<std::uint8_t>(0x85 | (cut ? 2 : 0)));
  out.push_back(static_cast<std::uint8_t>(0x80 | code));
  put16(out, 1);
  put16(out, static_cast<unsigned int>(answers));
  put16(out, 0);
  put16(out, 0);
  out.insert(out.end(), asked.begin() + kHeader, asked.begin() + static_cast<std::ptrdiff_t>(question.end));
  return out;
}

Bytes full_answer(const Bytes& asked, const Question& question, const NameRecords& records) {
  Bytes answers;
  std::size_t count = 0;
  for (const Address& address : records.addresses) {
    const bool ipv4 = is_ipv4(address);
    if (question.type != (ipv4 ? kTypeA : kTypeAaaa)) continue;
    ++count;
    // The name is that of the question.
    put16(answers, 0xc000 | kHeader);
    put16(answers, question.type);
    put16(answers, 1);
    put16(answers, records.ttl_s >> 16);
    put16(answers, records.ttl_s & 0xffff);
    put16(answers, ipv4 ? 4 : 16);
    answers.insert(answers.end(), address.bytes.begin() + (ipv4 ? 12 : 0), address.bytes.end());
  }
  Bytes out = begin_answer(asked, question, 0, false, count);
  out.insert(out.end(), answers.begin(), answers.end());
  return out;
}

bool read_exactly(int socket, std::uint8_t* to, std::size_t size, int patience_ms = kTcpPatienceMs) {
  while (size > 0) {
    pollfd readable{socket, POLLIN, 0};
    if (::poll(&readable, 1, patience_ms) != 1) return false;
    const ssize_t got = ::recv(socket, to, size, 0);
    if (got <= 0) return false;
    to += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

}  // namespace

NameServer::NameServer() : stop_(::eventfd(0, EFD_CLOEXEC)) {
  // A port that is free for both.
  for (int attempt = 0; attempt < 100 && port_ == 0; ++attempt) {
    udp_ = UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    tcp_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto port = bind_to(udp_.get(), 0);
    if (port && bind_to(tcp_.get(), *port) && ::listen(tcp_.get(), 16) == 0) port_ = *port;
  }
  if (port_ == 0) throw std::runtime_error("no free port for a name server");
  thread_ = std::thread([this] { serve(); });
}

NameServer::~NameServer() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

std::string NameServer::point() const {
  return "127.0.0.1:" + std::to_string(port_);
}

void NameServer::set(const std::string& name, NameRecords records) {
  const std::lock_guard lock(mutex_);
  names_[name] = std::move(records);
}

int NameServer::asked(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = asked_.find(name);
  return found == asked_.end() ? 0 : found->second;
}

std::vector<std::uint8_t> NameServer::answer(const Bytes& bytes, bool tcp) {
  const auto question = parse(bytes);
  if (!question) return {};
  const std::lock_guard lock(mutex_);
  ++asked_[question->name];
  const auto found = names_.find(question->name);
  if (found == names_.end()) return begin_answer(bytes, *question, kNoSuchName, false, 0);
  const NameRecords& records = found->second;
  Bytes out = full_answer(bytes, *question, records);
  switch (records.manner) {
    case Manner::kAnswer:
      break;
    case Manner::kSilence:
      return {};
    case Manner::kServerFailure:
      return begin_answer(bytes, *question, kServerFailure, false, 0);
    case Manner::kGarbage:
      out = begin_answer(bytes, *question, 0, false, 3);
      for (unsigned int i = 0; i < 100; ++i) out.push_back(static_cast<std::uint8_t>(i * 151 + 7));
      break;
    case Manner::kLoop:
      out = begin_answer(bytes, *question, 0, false, 1);
      put16(out, 0xc000 | static_cast<unsigned int>(out.size()));
      for (int i = 0; i < 14; ++i) out.push_back(0);
      break;
    case Manner::kCutShort:
      if (out.size() > question->end) out.resize(out.size() - 3);
      break;
    case Manner::kForeign:
      out[0] ^= 0x55;
      break;
    case Manner::kOverTcp:
      if (!tcp) return begin_answer(bytes, *question, 0, true, 0);
      break;
  }
  return out;
}

void NameServer::serve() {
  for (;;) {
    pollfd watched[] = {{stop_.get(), POLLIN, 0}, {udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}};
    if (::poll(watched, 3, -1) < 0) continue;
    if (watched[0].revents != 0) return;
    if (watched[2].revents != 0) serve_tcp();
    if (watched[1].revents == 0) continue;
    Bytes bytes(1500);
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const ssize_t got = ::recvfrom(udp_.get(), bytes.data(), bytes.size(), 0, as_sockaddr(from), &size);
    if (got < 0) continue;
    bytes.resize(static_cast<std::size_t>(got));
    const Bytes out = answer(bytes, false);
    if (!out.empty()) (void)::sendto(udp_.get(), out.data(), out.size(), 0, as_sockaddr(from), size);
  }
}

// One connection at a time, until it has no more questions.
void NameServer::serve_tcp() {
  const UniqueFd socket(::accept4(tcp_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return;
  std::uint8_t length[2];
  for (int patience_ms = kTcpPatienceMs; read_exactly(socket.get(), length, 2, patience_ms);) {
    patience_ms = kNextQuestionMs;
    Bytes bytes(static_cast<std::size_t>(length[0] << 8 | length[1]));
    if (!read_exactly(socket.get(), bytes.data(), bytes.size())) return;
    const Bytes out = answer(bytes, true);
    Bytes framed;
    put16(framed, static_cast<unsigned int>(out.size()));
    framed.insert(framed.end(), out.begin(), out.end());
    if (::send(socket.get(), framed.data(), framed.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(framed.size())) return;
  }
}

}  // namespace bulkhead::testing
