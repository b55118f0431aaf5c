#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>

namespace bulkhead {

/// The part of a message that carries descriptors over a socket: room for `kMost` of them, which the message points to
/// until it is sent. They stay the caller's; the receiver gets copies.
template <std::size_t kMost>
class CarriedDescriptors {
 public:
  /// Of more than `kMost` the rest is left out. With none, the message stays as it is.
  CarriedDescriptors(msghdr& message, std::span<const int> descriptors) {
    descriptors = descriptors.first(std::min(descriptors.size(), kMost));
    if (descriptors.empty()) return;
    message.msg_control = bytes_.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  CarriedDescriptors(const CarriedDescriptors&) = delete;
  CarriedDescriptors& operator=(const CarriedDescriptors&) = delete;

 private:
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMost * sizeof(int))> bytes_{};
};

}  // namespace bulkhead
