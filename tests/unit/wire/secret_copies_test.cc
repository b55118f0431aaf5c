// A program of its own: it looks at every block of memory that is given back.

#include <malloc.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "tests/unit/wire/support.h"
#include "wire/identity.h"
#include "wire/session_crypto.h"

namespace {

constexpr std::string_view kSecretHex = "b1b2b3b4b5b6b7b8c1c2c3c4c5c6c7c8d1d2d3d4d5d6d7d8e1e2e3e4e5e6e7e8";
constexpr std::size_t kPiece = 12;

bool watching = false;
unsigned found = 0;
unsigned char secret[32];

/// Whether `block` holds any 12 characters of the hex, or any 12 bytes of the key.
bool holds_secret(const void* block, std::size_t size) {
  for (std::size_t i = 0; i + kPiece <= kSecretHex.size(); ++i) {
    if (::memmem(block, size, kSecretHex.data() + i, kPiece) != nullptr) return true;
  }
  for (std::size_t i = 0; i + kPiece <= sizeof secret; ++i) {
    if (::memmem(block, size, secret + i, kPiece) != nullptr) return true;
  }
  return false;
}

void give_back(void* block) {
  if (watching && block != nullptr && holds_secret(block, ::malloc_usable_size(block))) ++found;
  std::free(block);
}

}  // namespace

void* operator new(std::size_t size) {
  // Zeroed, so that what an earlier owner left is not blamed on the next one.
  if (void* block = std::calloc(1, size == 0 ? 1 : size)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept {
  give_back(block);
}
void operator delete(void* block, std::size_t) noexcept {
  give_back(block);
}

namespace bulkhead::wire {
namespace {

class SecretCopies : public testing::Test {
 protected:
  void SetUp() override {
    const Bytes bytes = from_hex(kSecretHex);
    std::copy(bytes.begin(), bytes.end(), secret);
    PublicKey key{};
    crypto_scalarmult_base(key.data(), secret);
    text_ = R"({"peer_id": ")" + peer_id_text(peer_id_of(key)) + R"(", "public_key": ")" + to_hex(key) +
            R"(", "secret_key": ")" + std::string(kSecretHex) + R"(", "proof_of_work_stamp": ")" +
            std::string(48, '0') + R"("})";
    found = 0;
  }

  /// How many blocks that held some of the secret were given back in `action`.
  template <typename Action>
  unsigned count(Action action) {
    watching = true;
    action();
    watching = false;
    return found;
  }

  std::string text_;
};

TEST_F(SecretCopies, AreSeenByThisTestWhenThereIsOne) {
  EXPECT_EQ(count([&] { (void)std::string(text_); }), 1U);
}

TEST_F(SecretCopies, AreNotLeftByReadingAnIdentity) {
  bool good = false;
  EXPECT_EQ(count([&] { good = parse_identity(text_, "identity.json").ok(); }), 0U);
  EXPECT_TRUE(good);
}

TEST_F(SecretCopies, AreNotLeftByReadingABrokenIdentity) {
  for (std::size_t size = 0; size < text_.size(); size += 3) {
    EXPECT_EQ(count([&] { (void)parse_identity(std::string_view(text_).substr(0, size), "identity.json"); }), 0U)
        << size;
  }
}

TEST_F(SecretCopies, AreNotLeftByWritingAnIdentityThatIsWiped) {
  const auto identity = parse_identity(text_, "identity.json");
  ASSERT_TRUE(identity);
  const unsigned copies = count([&] {
    std::string json = identity_json(*identity);
    wipe({reinterpret_cast<std::uint8_t*>(json.data()), json.size()});
  });
  EXPECT_EQ(copies, 0U);
}

}  // namespace
}  // namespace bulkhead::wire
