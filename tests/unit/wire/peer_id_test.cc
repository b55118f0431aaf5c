#include "wire/peer_id.h"

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

constexpr const char* kText = "idrDhFF62HJ9vKaYrH3oSxbRXH1zdk";

TEST(PeerId, AgreesWithEveryIdentityVector) {
  for (const auto& identity : load_vectors("identities.json", "identities")) {
    const auto key = array_from_hex<32>(identity.at("public_key").get<std::string>());
    const auto text = identity.at("peer_id").get<std::string>();
    const PeerId id = peer_id_of(key);
    EXPECT_EQ(to_hex(id), identity.at("peer_id_bytes"));
    EXPECT_EQ(peer_id_text(id), text);
    EXPECT_EQ(parse_peer_id(text), id);
  }
  for (const auto& known : load_vectors("crypto.json", "peer_ids")) {
    const PeerId id = peer_id_of(array_from_hex<32>(known.at("public_key").get<std::string>()));
    EXPECT_EQ(to_hex(id), known.at("raw"));
    EXPECT_EQ(peer_id_text(id), known.at("b58"));
  }
}

TEST(PeerId, HasThirtyCharactersAndReadsBackForTheExtremes) {
  for (const unsigned fill : {0x00U, 0x01U, 0x7FU, 0x80U, 0xFFU}) {
    PeerId id{};
    id.fill(static_cast<std::uint8_t>(fill));
    const std::string text = peer_id_text(id);
    EXPECT_EQ(text.size(), kPeerIdTextSize);
    EXPECT_EQ(text.substr(0, 2), "id");
    EXPECT_EQ(parse_peer_id(text), id);
  }
}

TEST(PeerId, RefusesEveryChangeOfOneCharacter) {
  const std::string good = kText;
  ASSERT_TRUE(parse_peer_id(good));
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (int c = 0; c < 256; ++c) {
      std::string bad = good;
      bad[i] = static_cast<char>(c);
      if (bad != good) {
        EXPECT_FALSE(parse_peer_id(bad)) << bad;
      }
    }
  }
}

TEST(PeerId, RefusesOtherLengths) {
  const std::string good = kText;
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_FALSE(parse_peer_id(good.substr(0, size)));
  EXPECT_FALSE(parse_peer_id(good + "1"));
  EXPECT_FALSE(parse_peer_id("1" + good));
  EXPECT_FALSE(parse_peer_id(std::string(1000, 'z')));
}

TEST(PeerId, RefusesTheLargestNumberThereIs) {
  EXPECT_FALSE(parse_peer_id(std::string(kPeerIdTextSize, 'z')));
}

TEST(PeerId, RefusesAnotherPrefixWithAValidChecksum) {
  // The same 16 bytes behind the prefix 0x99 0x68.
  EXPECT_FALSE(parse_peer_id("idunYzCPokJV5QXzq8Z9ps7tTbUfrM"));
  // And with the checksum that belongs to the right prefix.
  EXPECT_FALSE(parse_peer_id("idunYzCPokJV5QXzq8Z9ps7tSiZKae"));
}

}  // namespace
}  // namespace bulkhead::wire
