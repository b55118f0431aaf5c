#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <span>
#include <vector>

#include "schema/codec.h"
#include "schema/messages.h"
#include "schema/packet.h"

namespace bulkhead::schema::test {

using Words = std::vector<std::uint64_t>;

/// One message for each member of the variant, as it is default-constructed.
template <typename Message, std::size_t kIndex = 0>
std::vector<Message> smallest() {
  std::vector<Message> messages;
  if constexpr (kIndex < std::variant_size_v<Message>) {
    messages = smallest<Message, kIndex + 1>();
    messages.insert(messages.begin(), Message(std::in_place_index<kIndex>));
  }
  return messages;
}

/// One message for each member of the variant: every length at its limit, no two numbers alike.
template <typename Message>
std::vector<Message> largest();

/// The bytes of a message that must be one that can be sent.
template <typename Message>
Words encoded(const Message& message) {
  Words words(kMaximumPacket / sizeof(std::uint64_t));
  const Result<std::size_t> used = encode(message, words);
  EXPECT_TRUE(used.ok()) << (used.ok() ? "" : used.error().text);
  words.resize(used.ok() ? *used : 0);
  return words;
}

using Variants = ::testing::Types<FromSupervisor, ToSupervisor, ToKeyholder, FromKeyholder, FromAcceptor,
                                  FromMaintainer, ToMaintainer, ToNursery, FromNursery, ToWorker, FromWorker,
                                  FromApplication, ToApplication, ControlRequest, ControlResponse>;

}  // namespace bulkhead::schema::test
