#include "services/controller/cli/config_commands.h"

#include "base/as_map.h"
#include "services/controller/cli/config.h"
#include "services/controller/cli/files.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/peers_file.h"
#include "services/controller/cli/setting_table.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/views.h"

namespace bulkhead::cli {
namespace {

constexpr int kDone = 0;

void tell(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) complain("note: " + note);
}

}  // namespace

int run_config_init(const Arguments& arguments) {
  const auto options = values_from_options(arguments.settings);
  if (!options) return fail(options.error());
  // What is written must be accepted when it is read.
  const auto configuration = combine(arguments.data_dir, {}, *options);
  if (!configuration) return fail(configuration.error());
  const std::string path = configuration_path(arguments.data_dir);
  if (auto made = make_directories(arguments.data_dir); !made) return fail(made.error());
  if (auto written = write_new_file(path, configuration_text(*options), 0640); !written) return fail(written.error());
  print(arguments.json ? json_text({{"file", path}})
                       : "Wrote " + path + "; see 'bulkhead config show' for every setting\n");
  return kDone;
}

int run_config_show(const Arguments& arguments) {
  const auto configuration = load_configuration(arguments.data_dir, arguments.settings);
  if (!configuration) return fail(configuration.error());
  tell(configuration->notes);
  ShownJson json = ShownJson::object();
  TextTable table({"SETTING", "VALUE", "ORIGIN"});
  for (const SettingInfo& info : all_settings()) {
    const auto found = configuration->values.find(info.name);
    if (found == configuration->values.end()) continue;
    const Value& value = found->second;
    json[std::string(info.name)] = {{"value", value.value}, {"origin", value.origin}};
    table.add({std::string(info.name), value.value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace),
               value.origin});
  }
  print(arguments.json ? json_text(json) : table.text());
  return kDone;
}

int run_config_validate(const Arguments& arguments) {
  const auto configuration = load_configuration(arguments.data_dir, arguments.settings);
  if (!configuration) return fail(configuration.error());
  if (const std::string& as_map = configuration->settings.as_map_file; !as_map.empty()) {
    if (const auto read = AsMap::load(as_map); !read) return fail(read.error());
  }
  // A node that finds it does not start on what it cannot read.
  const auto peers = check_peers_file(arguments.data_dir);
  if (!peers) return fail(peers.error());
  const std::string path = configuration_path(arguments.data_dir);
  const bool present = exists(path);
  if (arguments.json) {
    print(json_text({{"valid", true},
                     {"file", present ? ShownJson(path) : ShownJson()},
                     {"peers_file", peers->empty() ? ShownJson() : ShownJson(*peers)},
                     {"notes", configuration->notes}}));
  } else {
    tell(configuration->notes);
    print(present ? path + " is valid\n" : "There is no " + path + "; the defaults are valid\n");
    if (!peers->empty()) print(*peers + " is valid\n");
  }
  return kDone;
}

}  // namespace bulkhead::cli
