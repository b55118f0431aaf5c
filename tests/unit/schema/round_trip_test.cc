#include <set>

#include "tests/unit/schema/samples.h"

namespace bulkhead::schema::test {
namespace {

template <typename Message>
class RoundTrip : public ::testing::Test {};
TYPED_TEST_SUITE(RoundTrip, Variants);

template <typename Message>
void expect_same_after_decoding(const Message& message) {
  const Words words = encoded(message);
  const Result<Message> decoded = decode<Message>(words);
  ASSERT_TRUE(decoded.ok()) << "member " << message.index() << ": " << decoded.error().text;
  EXPECT_TRUE(*decoded == message) << "member " << message.index();
}

TYPED_TEST(RoundTrip, KeepsTheSmallestOfEachMessage) {
  for (const TypeParam& message : smallest<TypeParam>()) expect_same_after_decoding(message);
}

TYPED_TEST(RoundTrip, KeepsTheLargestOfEachMessage) {
  for (const TypeParam& message : largest<TypeParam>()) expect_same_after_decoding(message);
}

TYPED_TEST(RoundTrip, FitsTheLargestOfEachMessageIntoAPacket) {
  std::set<std::size_t> members;
  for (const TypeParam& message : largest<TypeParam>()) {
    members.insert(message.index());
    EXPECT_LE(sizeof(PacketHeader) + encoded(message).size() * sizeof(std::uint64_t),
              ChannelTraits<TypeParam>::kPacketLimit)
        << "member " << message.index();
  }
  EXPECT_EQ(members.size(), std::variant_size_v<TypeParam>) << "the samples leave a message out";
}

TYPED_TEST(RoundTrip, NeedsNoMoreDescriptorsThanTheChannelAllows) {
  std::size_t most = 0;
  for (const TypeParam& message : largest<TypeParam>()) most = std::max(most, descriptors_due(message));
  EXPECT_EQ(most, ChannelTraits<TypeParam>::kMostDescriptors);
}

TEST(RoundTripOptions, KeepsAnAbsentPeerIdApartFromAZeroOne) {
  KnownPoint known;
  known.expected_peer_id = PeerId{};
  expect_same_after_decoding<FromMaintainer>(known);
  known.expected_peer_id.reset();
  expect_same_after_decoding<FromMaintainer>(known);
}

TEST(RoundTripOptions, KeepsAnAbsentSourceAddressApartFromAZeroOne) {
  BootMaintainer boot;
  boot.source_address = Address{};
  expect_same_after_decoding<FromSupervisor>(boot);
  boot.source_address.reset();
  expect_same_after_decoding<FromSupervisor>(boot);
}

TEST(DescriptorsDue, CountsTheListenersOfAnAcceptor) {
  BootAcceptor boot;
  boot.listeners = 7;
  EXPECT_EQ(descriptors_due(FromSupervisor(boot)), 10U);
}

TEST(DescriptorsDue, IsNoneForAMessageThatCarriesNone) {
  EXPECT_EQ(descriptors_due(FromWorker(Closing{})), 0U);
}

}  // namespace
}  // namespace bulkhead::schema::test
