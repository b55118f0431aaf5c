#include "wire/identity.h"

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

constexpr const char* kSecret = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";

Json good() {
  return {{"peer_id", "idrDhFF62HJ9vKaYrH3oSxbRXH1zdk"},
          {"public_key", "07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c"},
          {"secret_key", kSecret},
          {"proof_of_work_stamp", "000000000000000000000000000000000000000000000048"}};
}

/// The error, after a look that it is one line, names the file and gives nothing of the key away.
std::string error_of(const std::string& text) {
  const auto identity = parse_identity(text, "identity.json");
  EXPECT_FALSE(identity);
  if (identity) return {};
  const std::string error = identity.error().text;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  EXPECT_EQ(error.find("identity.json "), 0U) << error;
  EXPECT_NE(error.find("; restore the file"), std::string::npos) << error;
  const std::string secret = kSecret;
  for (std::size_t i = 0; i + 8 <= secret.size(); ++i) EXPECT_EQ(error.find(secret.substr(i, 8)), std::string::npos);
  return error;
}

void expect_error(const std::string& text, const std::string& part) {
  const std::string error = error_of(text);
  EXPECT_NE(error.find(part), std::string::npos) << error << " / " << part;
}

TEST(Identity, ReadsAndWritesEveryVector) {
  for (const auto& known : load_vectors("identities.json", "identities")) {
    const Json file = {{"peer_id", known.at("peer_id")},
                       {"public_key", known.at("public_key")},
                       {"secret_key", known.at("secret_key")},
                       {"proof_of_work_stamp", known.at("stamp")}};
    const auto identity = parse_identity(file.dump(), "identity.json");
    ASSERT_TRUE(identity) << identity.error().text;
    EXPECT_EQ(to_hex(identity->peer_id), known.at("peer_id_bytes"));
    EXPECT_EQ(to_hex(identity->public_key), known.at("public_key"));
    EXPECT_EQ(to_hex(identity->secret_key.span()), known.at("secret_key"));
    EXPECT_EQ(to_hex(identity->stamp), known.at("stamp"));
    EXPECT_EQ(Json::parse(identity_json(*identity)), file);
  }
}

TEST(Identity, WritesTheFieldsInOrder) {
  const auto identity = parse_identity(good().dump(), "identity.json");
  ASSERT_TRUE(identity);
  EXPECT_EQ(identity_json(*identity),
            "{ \"peer_id\": \"idrDhFF62HJ9vKaYrH3oSxbRXH1zdk\",\n"
            "  \"public_key\":\n    \"07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c\",\n"
            "  \"secret_key\":\n    \"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20\",\n"
            "  \"proof_of_work_stamp\":\n    \"000000000000000000000000000000000000000000000048\" }\n");
}

TEST(Identity, RecomputesAMissingPeerId) {
  Json json = good();
  json.erase("peer_id");
  const auto identity = parse_identity(json.dump(), "identity.json");
  ASSERT_TRUE(identity) << identity.error().text;
  EXPECT_EQ(peer_id_text(identity->peer_id), "idrDhFF62HJ9vKaYrH3oSxbRXH1zdk");
}

TEST(Identity, PassesOverUnknownFieldsEvenThoseThatHoldBracketsAndQuotes) {
  Json json = good();
  json["a_note"] = "} ] \" \\ { \"secret_key\": \"00\"";
  json["nested"] = {{"secret_key", "11"}, {"list", {1, "]", nullptr}}};
  json["z"] = 1.5;
  const auto identity = parse_identity(json.dump(2), "identity.json");
  ASSERT_TRUE(identity) << identity.error().text;
  EXPECT_EQ(to_hex(identity->secret_key.span()), kSecret);
}

TEST(Identity, AcceptsUpperCaseHexDigits) {
  Json json = good();
  json["secret_key"] = "0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20";
  EXPECT_TRUE(parse_identity(json.dump(), "identity.json"));
}

TEST(Identity, NamesAMissingField) {
  for (const char* field : {"public_key", "secret_key", "proof_of_work_stamp"}) {
    Json json = good();
    json.erase(field);
    expect_error(json.dump(), "no field \"" + std::string(field) + "\"");
  }
}

TEST(Identity, NamesAFieldThatIsNotHexOfItsLength) {
  for (const char* field : {"public_key", "secret_key", "proof_of_work_stamp"}) {
    const auto value = good().at(field).get<std::string>();
    for (const Json& bad :
         {Json(""), Json(value.substr(1)), Json(value.substr(2)), Json(value + "00"), Json("g" + value.substr(1)),
          Json(" " + value.substr(1)), Json(17), Json(nullptr), Json({value}), Json("\\u0030" + value.substr(6))}) {
      Json json = good();
      json[field] = bad;
      expect_error(json.dump(), "\"" + std::string(field) + "\" that is not");
    }
  }
}

TEST(Identity, RefusesAPublicKeyOfAnotherSecret) {
  Json json = good();
  json["public_key"] = "605a725d2a4adfeeb1a29e17edd621c1b7593ee8cdbc44ac6c4ab6e2f805d23c";
  json.erase("peer_id");
  expect_error(json.dump(), "\"public_key\" that does not belong to its \"secret_key\"");
}

TEST(Identity, RefusesAPeerIdOfAnotherKey) {
  for (const Json& bad : {Json("idsdrqPMFQJjBuPSFsJwvvc1bH3Pyz"), Json(""), Json(3), Json(nullptr)}) {
    Json json = good();
    json["peer_id"] = bad;
    expect_error(json.dump(), "\"peer_id\" that does not belong");
  }
}

TEST(Identity, RefusesAFieldThatStandsTwice) {
  const std::string text = good().dump();
  expect_error(text.substr(0, text.size() - 1) + ", \"secret_key\": \"00\"}", "\"secret_key\" twice");
  expect_error(text.substr(0, text.size() - 1) + ", \"secret\\u005fkey\": \"00\"}", "a field twice");
  expect_error(text.substr(0, text.size() - 1) + ", \"peer_id\": \"00\"}", "a field twice");
}

TEST(Identity, RefusesASecretKeyNamedWithEscapes) {
  Json json = good();
  json.erase("secret_key");
  const std::string text = json.dump();
  error_of(text.substr(0, text.size() - 1) + ", \"secret\\u005fkey\": \"" + kSecret + "\"}");
}

TEST(Identity, RefusesWhatIsNotAJsonObject) {
  for (const char* bad : {"", "{", "[]", "null", "\"\\", "{\"secret_key\"", "{\"secret_key\":", "{\"secret_key\":\"",
                          "{\"secret_key\":\"\\", "}}}{\"secret_key\":\"00\"}", "[{\"secret_key\":\"00\"}]"}) {
    error_of(bad);
  }
  const std::string text = good().dump();
  for (std::size_t size = 0; size < text.size(); ++size) error_of(text.substr(0, size));
  expect_error(text + "x", "not valid JSON");
}

TEST(Identity, RefusesATextThatIsTooLarge) {
  const std::string padded = good().dump() + std::string(kMaximumIdentityText, ' ');
  expect_error(padded, "too large");
}

TEST(Identity, GeneratesAPairThatReadsBack) {
  const Target target = *target_for(8);
  const auto made = generate_identity(target, 1);
  ASSERT_TRUE(made) << made.error().text;
  EXPECT_TRUE(check_proof_of_work(made->public_key, made->stamp, target));
  const auto read = parse_identity(identity_json(*made), "identity.json");
  ASSERT_TRUE(read) << read.error().text;
  EXPECT_EQ(read->peer_id, made->peer_id);
  const auto other = generate_identity(*target_for(0), 1);
  ASSERT_TRUE(other);
  EXPECT_NE(other->public_key, made->public_key);
}

TEST(Identity, ReportsThatGenerationWasCancelled) {
  const auto made = generate_identity(*target_for(256), 1, [](std::uint64_t) { return false; });
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kRefused);
}

TEST(SecretBytes, MovesWithoutLeavingACopy) {
  SecretBytes<4> first(std::array<std::uint8_t, 4>{1, 2, 3, 4});
  SecretBytes<4> second(std::move(first));
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): what a moved-from object promises
  EXPECT_EQ(to_hex(second.span()), "01020304");
  SecretBytes<4> third;
  EXPECT_EQ(to_hex(third.span()), "00000000");
  third = std::move(second);
  EXPECT_EQ(to_hex(third.span()), "01020304");
}

TEST(Wipe, OverwritesEveryByte) {
  Bytes bytes = {1, 2, 3};
  wipe(bytes);
  EXPECT_EQ(bytes, Bytes(3, 0));
}

}  // namespace
}  // namespace bulkhead::wire
