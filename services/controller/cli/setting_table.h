#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace bulkhead::cli {

enum class SettingKind : std::uint8_t {
  kFlag,      ///< a JSON boolean; an option without a value
  kInteger,   ///< low to high
  kNumber,    ///< low to high, fractions count
  kText,      ///< a string
  kTexts,     ///< an array of strings (a file may give one string); an option that may be repeated
  kIntegers,  ///< an array of integers from low to high; an option with a comma-separated list
  kPair,      ///< [maximum, target], both from low to high, target not above maximum; never an option
};

/// What becomes of a setting that is given.
enum class SettingUse : std::uint8_t {
  kUsed,
  kNoEffect,  ///< an Octez setting for something that is built otherwise here: checked, then noted
  kLater,     ///< a later version brings it: refused
};

/// One setting: its option of `run`, its name in section `bulkhead` of config.json and its place in Octez's section
/// `p2p`.
struct SettingInfo {
  std::string_view name{};   ///< without dashes; unique
  std::string_view octez{};  ///< JSON pointer where Octez has it, empty: nowhere
  SettingKind kind = SettingKind::kText;
  SettingUse use = SettingUse::kUsed;
  bool option = true;  ///< also an option of `run` and a name in section `bulkhead`
  double low = 0;
  double high = 0;
  bool above_low = false;  ///< `low` itself is out of range
  bool nullable = false;   ///< null is a value (of a file only)
  std::string_view value_name{};
  std::string_view description{};
  /// Further rules for text, on one string at a time. Returns what is wrong, or nothing.
  std::optional<std::string> (*check)(const std::string& text) = nullptr;
};

/// Every setting, in the order in which they are shown.
std::span<const SettingInfo> all_settings();
const SettingInfo* find_setting(std::string_view name);
const SettingInfo* find_octez_setting(std::string_view pointer);

/// Checks a value from a file against its setting and gives its canonical form (an array for kTexts). The error text
/// says what is wrong and what is allowed; its place is the caller's to put in front.
Result<nlohmann::json> check_value(const SettingInfo& info, const nlohmann::json& value);

/// The same for what stands behind an option; `texts` has one element for each time that it was given, none for a flag.
Result<nlohmann::json> value_from_texts(const SettingInfo& info, const std::vector<std::string>& texts);

/// Of a name server that is named without one.
inline constexpr std::uint16_t kNameServerPort = 53;

/// Strict: the whole text is one finite number, or one integer without sign.
std::optional<double> parse_number(std::string_view text);
std::optional<std::uint64_t> parse_integer(std::string_view text);

/// What discovery-addr says: "ADDR:PORT" of IPv4, either part may be missing (255.255.255.255, 10732). An address of a
/// local network, or 255.255.255.255: nobody else is to be told.
Result<Point> parse_discovery(std::string_view text);

/// For messages: at most 80 characters, control characters escaped, in quotes.
std::string in_quotes(std::string_view text);

}  // namespace bulkhead::cli
