#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/settings.h"

namespace bulkhead::cli {

inline constexpr std::size_t kMaximumConfigurationText = 1024 * 1024;

enum class Source : std::uint8_t { kDefault, kFile, kOption };

struct Value {
  nlohmann::json value;  ///< canonical, see check_value
  Source source = Source::kDefault;
  std::string origin;  ///< "default", "FILE: /p2p/limits/backlog" or "--expected-pow"
};

/// Settings by name (setting_table.h).
using Values = std::map<std::string, Value, std::less<>>;

/// What a person typed: option name without dashes, and its texts in order (none for a flag).
using OptionTexts = std::map<std::string, std::vector<std::string>, std::less<>>;

struct Configuration {
  Settings settings;
  Values values;                   ///< all that is in force, derived ones included
  std::vector<std::string> notes;  ///< one line each: what was given and has no effect
};

/// $BULKHEAD_DATA_DIR, else /var/lib/bulkhead for root, else $XDG_STATE_HOME/bulkhead or ~/.local/state/bulkhead. Empty
/// when there is no home either.
std::string default_data_dir();

std::string configuration_path(const std::string& data_dir);

/// Errors are kInvalid and name the option.
Result<Values> values_from_options(const OptionTexts& options);

/// Reads the text of a config.json. `file` is its name for messages and origins. Errors are kRefused and name file and
/// place. Notes are appended.
Result<Values> values_from_file(std::string_view text, const std::string& file, std::vector<std::string>& notes);

/// Defaults, then the file, then the options; checks what only shows in the whole. `data_dir` is taken as it is.
Result<Configuration> combine(const std::string& data_dir, const Values& file, const Values& options);

/// All of it: reads config.json of the directory if there is one.
Result<Configuration> load_configuration(const std::string& data_dir, const OptionTexts& options);

/// The text of a config.json that says what these options say.
std::string configuration_text(const Values& options);

}  // namespace bulkhead::cli
