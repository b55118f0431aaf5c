#include "services/controller/cli/run_command.h"

#include <unistd.h>

#include <filesystem>

#include "base/log.h"
#include "services/controller/cli/config.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/peers_file.h"
#include "services/controller/cli/status.h"

namespace bulkhead::cli {
namespace {

constexpr const char* kFirstService = "/bulkhead-controller";

bool is_executable(const std::string& path) {
  return ::access(path.c_str(), X_OK) == 0;
}

#ifndef BULKHEAD_HAS_SUPERVISOR
namespace supervisor {
int run(const Settings&, const std::string&, bulkhead::supervisor::PeersFile) {
  complain("this build has no supervisor");
  return exit_status(ProgramExit::kFailed);
}
}  // namespace supervisor
#endif

}  // namespace

Result<std::string> own_path() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return failure("/proc/self/exe cannot be read: " + error.message() + "; mount /proc");
  return path.string();
}

Result<std::string> find_services(const std::string& program) {
  const std::string beside = std::filesystem::path(program).parent_path().string();
  if (is_executable(beside + kFirstService)) return beside;
  const std::string installed =
      (std::filesystem::path(beside) / ".." / "libexec" / "bulkhead").lexically_normal().string();
  if (is_executable(installed + kFirstService)) return installed;
  return failure("the services were not found in " + beside + " or " + installed + "; build or install them too");
}

int run_node(const Arguments& arguments) {
  const auto configuration = load_configuration(arguments.data_dir, arguments.settings);
  if (!configuration) return fail(configuration.error());
  auto peers_file = open_peers_file(arguments.data_dir);
  if (!peers_file) return fail(peers_file.error());
  const auto program = own_path();
  if (!program) return fail(program.error());
  const auto services = find_services(*program);
  if (!services) return fail(services.error());
  const Settings& settings = configuration->settings;
  log_init("supervisor", settings.log_level, settings.log_json);
  for (const std::string& note : configuration->notes) log_notice(note);
  return supervisor::run(settings, *services, std::move(*peers_file));
}

}  // namespace bulkhead::cli
