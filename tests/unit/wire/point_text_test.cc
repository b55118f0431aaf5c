#include "wire/point_text.h"

#include "tests/unit/wire/support.h"

namespace bulkhead::wire {
namespace {

constexpr const char* kId = "idqSpQPFDBN4yMhLEzwtqGgxRLNrj4";

Bytes encoded(std::string_view text) {
  Bytes out;
  append_u32(out, static_cast<std::uint32_t>(text.size()));
  return concat({out, bytes_of(text)});
}

Result<Point> decode(const Bytes& bytes) {
  Reader reader(bytes);
  return decode_point(reader);
}

TEST(WirePoint, JudgesEveryVectorAsTheNewerReleaseDoes) {
  for (const auto& known : load_vectors("points.json", "points")) {
    const auto text = known.at("text").get<std::string>();
    const auto parsed = parse_wire_point(text);
    ASSERT_EQ(parsed.has_value(), !known.at("point").is_null()) << text;
    EXPECT_EQ(decode(encoded(text)).ok(), parsed.has_value());
    if (!parsed) continue;
    EXPECT_EQ(to_hex(parsed->address.bytes), known.at("point").at("address"));
    EXPECT_EQ(parsed->port, known.at("point").at("port").get<int>());
    Bytes out;
    append_point(out, *parsed);
    EXPECT_EQ(out, encoded(known.at("point").at("text").get<std::string>()));
  }
}

TEST(WirePoint, RefusesPortsThatOnlyTheOlderReleaseTakes) {
  int differences = 0;
  for (const auto& known : load_vectors("points.json", "points")) {
    if (!known.contains("release_7_5")) continue;
    ++differences;
    EXPECT_FALSE(parse_wire_point(known.at("text").get<std::string>())) << known;
  }
  EXPECT_EQ(differences, 6);
}

TEST(WirePoint, DropsAValidPeerIdAndRefusesAnotherSuffix) {
  EXPECT_EQ(parse_wire_point("1.2.3.4:7#" + std::string(kId)), point("1.2.3.4:7"));
  EXPECT_EQ(parse_wire_point("[::1]:7#" + std::string(kId)), point("[::1]:7"));
  for (const char* bad : {"1.2.3.4:7#", "1.2.3.4:7#id", "1.2.3.4:7#idqSpQPFDBN4yMhLEzwtqGgxRLNrj5", "1.2.3.4#7"}) {
    EXPECT_FALSE(parse_wire_point(bad)) << bad;
  }
}

TEST(WirePoint, RefusesWhatLooksAlmostRight) {
  for (const std::string bad : {"[]:1",
                                "[",
                                "]",
                                "[]",
                                "[[::1]]:1",
                                "[::1]]:1",
                                "::1:1",
                                "[::1]::1",
                                "1.2.3.4:1:2",
                                "_:1",
                                "1.2.3.4:99999999999",
                                "1.2.3.4:+1",
                                "0x7f.1:1",
                                "127.1:1",
                                "1.2.3.4.5:1",
                                "1..2.3:1",
                                "1.2.3.1000:1",
                                "[::g]:1",
                                "[1.2.3]:1",
                                "[1:2:3:4:5:6:7:8:9]:1",
                                "[:::1]:1",
                                "[::1::2]:1"}) {
    EXPECT_FALSE(parse_wire_point(bad)) << bad;
  }
  EXPECT_FALSE(parse_wire_point(std::string_view("1.2.3.4:1\0", 10)));
  EXPECT_FALSE(parse_wire_point(std::string_view("1.2.3.4\0:1", 10)));
  EXPECT_FALSE(parse_wire_point(std::string_view("[::1\0]:1", 8)));
}

TEST(WirePoint, NeverCrashesOnAnyByteAnywhere) {
  const std::string good = "[2001:db8::1]:9732#" + std::string(kId).substr(0, 28);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (int c = 0; c < 256; ++c) {
      std::string text = good;
      text[i] = static_cast<char>(c);
      (void)parse_wire_point(text);
      (void)parse_peer_option(text);
    }
  }
}

TEST(WirePoint, FailsOnALengthAboveFortySevenBeforeTheTextIsThere) {
  for (const std::uint32_t size : {48U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFFU}) {
    Bytes bytes;
    append_u32(bytes, size);
    const auto decoded = decode(bytes);
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kTooLarge) << size;
  }
  Bytes bytes;
  append_u32(bytes, 47);
  EXPECT_EQ(decode(bytes).error().code, ErrorCode::kTruncated);
}

TEST(WirePoint, HasAtMostFiftyOneBytes) {
  Bytes out;
  append_point(out, longest_points(1).front());
  EXPECT_EQ(out.size(), kMaximumPointEncoding);
  EXPECT_EQ(*decode(out), longest_points(1).front());
  EXPECT_FALSE(decode(encoded("1.2.3.4:" + std::string(40, '0'))));
  EXPECT_EQ(*decode(encoded("1.2.3.4:" + std::string(38, '0') + "7")), point("1.2.3.4:7"));
  EXPECT_TRUE(parse_wire_point("1.2.3.4:" + std::string(39, '0')));
  EXPECT_FALSE(parse_wire_point("1.2.3.4:" + std::string(40, '0')));
}

TEST(WirePoint, ReadsBackAddressesOfEveryShape) {
  for (const char* text : {"0.0.0.0:0", "255.255.255.255:65535", "[::]:1", "[::1]:1", "[::2:1]:1", "[1::]:1",
                           "[64:ff9b::102:304]:1", "[fe80::1]:1", "[::fffe:1.2.3.4]:1", "[::1.2.3.4]:1"}) {
    const auto parsed = parse_wire_point(text);
    ASSERT_TRUE(parsed) << text;
    Bytes out;
    append_point(out, *parsed);
    EXPECT_EQ(*decode(out), *parsed);
  }
}

TEST(WirePoint, IsNeverShorterThanTheSmallestEncoding) {
  Bytes out;
  append_point(out, point("[::]:0"));
  EXPECT_EQ(out.size(), kMinimumPointEncoding);
}

PeerOption option(std::string host, std::optional<std::uint16_t> port = std::nullopt, bool with_id = false) {
  PeerOption out{std::move(host), port, std::nullopt};
  if (with_id) out.peer_id = parse_peer_id(kId).value();
  return out;
}

TEST(PeerOption, TakesEveryFormThatOperatorsWrite) {
  const std::string id = std::string("#") + kId;
  const std::pair<std::string, PeerOption> cases[] = {
      {"example.com", option("example.com")},
      {"node-64.example.com", option("node-64.example.com")},
      {"example.com:8444", option("example.com", 8444)},
      {"example.com" + id, option("example.com", std::nullopt, true)},
      {"www.example.com:8444" + id, option("www.example.com", 8444, true)},
      {"_:8444" + id, option("", 8444, true)},
      {":8444" + id, option("", 8444, true)},
      {"_:8444", option("", 8444)},
      {":8444", option("", 8444)},
      {"_" + id, option("", std::nullopt, true)},
      {id, option("", std::nullopt, true)},
      {"_", option("")},
      {"", option("")},
      {"1.2.3.4", option("1.2.3.4")},
      {"1.2.3.4:0" + id, option("1.2.3.4", 0, true)},
      {"[::]:8444", option("::", 8444)},
      {"[2001:db8::1]", option("2001:db8::1")},
      {"[::ffff:1.2.3.4]:65535" + id, option("::ffff:1.2.3.4", 65535, true)},
  };
  for (const auto& [text, expected] : cases) {
    const auto parsed = parse_peer_option(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(PeerOption, RefusesTheRestWithOneLineThatSaysWhy) {
  for (const std::string bad : {"http://example.com",
                                "example.com@",
                                "example.com::8444",
                                "example.com/bar",
                                "example.com:bar",
                                "example.com:123##",
                                "example.com#1234",
                                "#1234",
                                "example.com:-1",
                                "example.com:70000",
                                "example.com:8c",
                                "example.com:",
                                "example.com:#x",
                                ":::8732",
                                "::1",
                                "2001:db8::1",
                                "[::1",
                                "[::1]x",
                                "[]",
                                "[zz]",
                                "[1:2]:3",
                                "[fe80::1%eth0]",
                                "1.2.3.256",
                                "1.2.3",
                                "a b",
                                "a\nb",
                                "__",
                                "a_b",
                                "example.com:99999999999999999999"}) {
    const auto parsed = parse_peer_option(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().text.find('\n'), std::string::npos);
    EXPECT_NE(parsed.error().text.find("HOST[:PORT]"), std::string::npos);
  }
}

}  // namespace
}  // namespace bulkhead::wire
