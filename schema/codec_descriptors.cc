#include "schema/codec.h"

namespace bulkhead::schema {
namespace {

// Those of messages.h with a comment `+ fds`.
std::size_t due(const BootController& boot) {
  return boot.known_peers == 0 ? 12 : 13;
}
std::size_t due(const BootKeyholder&) {
  return 3;
}
std::size_t due(const BootAcceptor& boot) {
  return 3 + std::size_t{boot.listeners};
}
std::size_t due(const BootMaintainer& boot) {
  return boot.discovery.port == 0 ? 3 : 4;
}
std::size_t due(const BootNursery&) {
  return 5;
}
std::size_t due(const ServiceChannel&) {
  return 1;
}
std::size_t due(const AdoptWorker&) {
  return 1;
}
std::size_t due(const AdoptApplication&) {
  return 1;
}
std::size_t due(const ApplicationSegments&) {
  return 2;
}
std::size_t due(const Hold&) {
  return 1;
}
std::size_t due(const HoldApplication&) {
  return 1;
}
std::size_t due(const Incoming&) {
  return 1;
}
std::size_t due(const Dialled&) {
  return 1;
}
std::size_t due(const Spawn&) {
  return 2;
}
std::size_t due(const Link&) {
  return 3;
}
std::size_t due(const Attached&) {
  return 2;
}
std::size_t due(const AppConnected&) {
  return 3;
}
std::size_t due(const ControlImport&) {
  return 1;
}

template <typename Other>
std::size_t due(const Other&) {
  return 0;
}

}  // namespace

template <typename Message>
std::size_t descriptors_due(const Message& message) {
  return std::visit([](const auto& member) { return due(member); }, message);
}

template std::size_t descriptors_due(const FromSupervisor&);
template std::size_t descriptors_due(const ToSupervisor&);
template std::size_t descriptors_due(const ToKeyholder&);
template std::size_t descriptors_due(const FromKeyholder&);
template std::size_t descriptors_due(const FromAcceptor&);
template std::size_t descriptors_due(const FromMaintainer&);
template std::size_t descriptors_due(const ToMaintainer&);
template std::size_t descriptors_due(const ToNursery&);
template std::size_t descriptors_due(const FromNursery&);
template std::size_t descriptors_due(const ToWorker&);
template std::size_t descriptors_due(const FromWorker&);
template std::size_t descriptors_due(const FromApplication&);
template std::size_t descriptors_due(const ToApplication&);
template std::size_t descriptors_due(const ControlRequest&);
template std::size_t descriptors_due(const ControlResponse&);

}  // namespace bulkhead::schema
