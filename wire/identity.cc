#include "wire/identity.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "wire/peer_id.h"

namespace bulkhead::wire {
namespace {

constexpr std::string_view kSecretField = "secret_key";
constexpr const char* kRemedy =
    "restore the file from a backup, or move it away and make a new one with `bulkhead identity generate`";

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/// Where the text between the quotes of a string stands.
struct Range {
  std::size_t begin = 0;
  std::size_t size = 0;
};

/// Finds the values of the field `secret_key` of the outermost object. Looks at quotes, backslashes and brackets alone:
/// whether the text is JSON is found out by the parser that gets it next.
class SecretFinder {
 public:
  explicit SecretFinder(std::string_view json) : json_(json) {}

  /// The last one found, and how many there are.
  std::pair<Range, std::size_t> find() {
    Range found;
    std::size_t count = 0;
    int depth = 0;
    while (position_ < json_.size()) {
      const char c = json_[position_];
      if (c == '{' || c == '[') ++depth;
      if (c == '}' || c == ']') --depth;
      if (c != '"') {
        ++position_;
        continue;
      }
      const Range name = take_string();
      skip_spaces();
      if (depth != 1 || json_.substr(name.begin, name.size) != kSecretField || !at(':')) continue;
      ++position_;
      skip_spaces();
      if (!at('"')) continue;
      found = take_string();
      ++count;
    }
    return {found, count};
  }

 private:
  bool at(char c) const { return position_ < json_.size() && json_[position_] == c; }
  void skip_spaces() {
    while (position_ < json_.size() && is_space(json_[position_])) ++position_;
  }
  Range take_string() {
    const std::size_t begin = ++position_;
    while (position_ < json_.size() && json_[position_] != '"') position_ += json_[position_] == '\\' ? 2U : 1U;
    position_ = std::min(position_, json_.size());
    const Range range{begin, position_ - begin};
    if (position_ < json_.size()) ++position_;
    return range;
  }

  std::string_view json_;
  std::size_t position_ = 0;
};

template <std::size_t N>
bool decode_hex(std::string_view hex, std::span<std::uint8_t, N> out) {
  std::size_t written = 0;
  return hex.size() == 2 * N &&
         sodium_hex2bin(out.data(), out.size(), hex.data(), hex.size(), nullptr, &written, nullptr) == 0 &&
         written == N;
}

void append_hex(std::string& out, std::span<const std::uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const std::uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
}

PublicKey public_key_of(const SecretBytes<32>& secret_key) {
  PublicKey key{};
  crypto_scalarmult_base(key.data(), secret_key.span().data());
  return key;
}

class Parser {
 public:
  explicit Parser(std::string_view file_name) : file_name_(file_name) {}

  Result<Identity> parse(std::string_view json) const {
    if (json.size() > kMaximumIdentityText) return fail("is too large for an identity");
    const auto [secret, secrets] = SecretFinder(json).find();
    if (secrets > 1) return fail("has the field \"secret_key\" twice");

    // The parser keeps copies of every string that it reads, so it gets a text in which the secret is blotted out.
    std::string harmless(json.substr(0, secret.begin));
    harmless.append(secret.size, '0');
    harmless.append(json.substr(secret.begin + secret.size));
    bool repeated = false;
    std::vector<std::string> seen;
    const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
      if (event != nlohmann::json::parse_event_t::key || depth != 1) return true;
      const auto& name = parsed.get_ref<const std::string&>();
      repeated = repeated || std::find(seen.begin(), seen.end(), name) != seen.end();
      seen.push_back(name);
      return true;
    };
    const nlohmann::json parsed = nlohmann::json::parse(harmless, watch, /*allow_exceptions=*/false);
    if (parsed.is_discarded()) return fail("is not valid JSON");
    if (!parsed.is_object()) return fail("is not a JSON object");
    if (repeated) return fail("has a field twice");

    Identity identity;
    if (const auto error = take_hex<32>(parsed, "public_key", identity.public_key)) return *error;
    if (const auto error = take_hex<kStampSize>(parsed, "proof_of_work_stamp", identity.stamp)) return *error;
    if (!parsed.contains(kSecretField)) return missing("secret_key");
    if (secrets == 0 || !decode_hex<32>(json.substr(secret.begin, secret.size), identity.secret_key.span())) {
      return not_hex("secret_key", 64);
    }
    if (public_key_of(identity.secret_key) != identity.public_key) {
      return fail("has a \"public_key\" that does not belong to its \"secret_key\"");
    }
    identity.peer_id = peer_id_of(identity.public_key);
    if (const auto stated = parsed.find("peer_id"); stated != parsed.end()) {
      if (!stated->is_string() || stated->get_ref<const std::string&>() != peer_id_text(identity.peer_id)) {
        return fail("has a \"peer_id\" that does not belong to its \"public_key\"");
      }
    }
    return identity;
  }

 private:
  Error fail(const std::string& what) const {
    return {ErrorCode::kInvalid, std::string(file_name_) + " " + what + "; " + kRemedy};
  }
  Error missing(const std::string& field) const { return fail("has no field \"" + field + "\""); }
  Error not_hex(const std::string& field, std::size_t digits) const {
    return fail("has a \"" + field + "\" that is not " + std::to_string(digits) + " hex digits");
  }

  template <std::size_t N>
  std::optional<Error> take_hex(const nlohmann::json& object, const char* field, std::span<std::uint8_t, N> out) const {
    const auto value = object.find(field);
    if (value == object.end()) return missing(field);
    if (!value->is_string() || !decode_hex<N>(value->get_ref<const std::string&>(), out)) return not_hex(field, 2 * N);
    return std::nullopt;
  }

  std::string_view file_name_;
};

}  // namespace

Result<Identity> parse_identity(std::string_view json, std::string_view file_name) {
  return Parser(file_name).parse(json);
}

std::string identity_json(const Identity& identity) {
  std::string out;
  // Room for all at once: a string that grows leaves what it held behind.
  out.reserve(512);
  out += "{ \"peer_id\": \"";
  out += peer_id_text(identity.peer_id);
  out += "\",\n  \"public_key\":\n    \"";
  append_hex(out, identity.public_key);
  out += "\",\n  \"secret_key\":\n    \"";
  append_hex(out, identity.secret_key.span());
  out += "\",\n  \"proof_of_work_stamp\":\n    \"";
  append_hex(out, identity.stamp);
  out += "\" }\n";
  return out;
}

Result<Identity> generate_identity(const Target& target, unsigned threads, const SearchProgress& progress) {
  Identity identity;
  randombytes_buf(identity.secret_key.span().data(), identity.secret_key.span().size());
  identity.public_key = public_key_of(identity.secret_key);
  identity.peer_id = peer_id_of(identity.public_key);
  const auto stamp = search_proof_of_work(identity.public_key, target, threads, progress);
  if (!stamp) return stamp.error();
  identity.stamp = *stamp;
  return identity;
}

}  // namespace bulkhead::wire
