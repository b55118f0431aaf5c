#include "services/controller/cli/identity_commands.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "services/controller/cli/files.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/status.h"
#include "services/controller/cli/text.h"
#include "services/controller/cli/views.h"
#include "wire/identity.h"
#include "wire/peer_id.h"
#include "wire/proof_of_work.h"

namespace bulkhead::cli {
namespace {

constexpr int kDone = 0;

std::string identity_path(const std::string& data_dir) {
  return data_dir + "/identity.json";
}

void wipe_text(std::string& text) {
  wire::wipe({static_cast<std::uint8_t*>(static_cast<void*>(text.data())), text.size()});
}

std::string bits_text(double difficulty) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.2f", difficulty);
  return text.data();
}

/// The word on the command line, else what the configuration asks of identities.
Result<double> difficulty_of(const Arguments& arguments) {
  if (arguments.difficulty) return *arguments.difficulty;
  const auto configuration = load_configuration(arguments.data_dir, arguments.settings);
  if (!configuration) return configuration.error();
  return configuration->settings.expected_pow;
}

Result<wire::Identity> read_identity(const std::string& path) {
  auto text = read_file(path, wire::kMaximumIdentityText);
  if (!text) {
    if (text.error().code != ErrorCode::kNotFound) return text.error();
    return failure(path + ": there is none; make one with 'bulkhead identity generate'");
  }
  auto identity = wire::parse_identity(*text, path);
  wipe_text(*text);
  if (!identity) return failure(identity.error().text);
  return identity;
}

void warn_if_readable(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0 && (status.st_mode & 077) != 0) {
    complain(path + ": others may read this file, which holds the secret key; run: chmod 600 " + path);
  }
}

/// Tells on standard error how the search goes: over itself on a terminal, else a line every five seconds.
class Progress {
 public:
  explicit Progress(double difficulty) : mean_(std::exp2(difficulty)), terminal_(::isatty(STDERR_FILENO) == 1) {}

  bool operator()(std::uint64_t attempts) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    const double rate = seconds > 0 ? static_cast<double>(attempts) / seconds : 0;
    if (!terminal_ && seconds < next_line_s_) return true;
    next_line_s_ = seconds + 5;
    // A search has no memory: however long it took, the mean of what is left stays the same.
    std::array<char, 160> line{};
    std::snprintf(line.data(), line.size(), "%.1f million stamps tried, %.2f million/s, %.0f s to go on average",
                  static_cast<double>(attempts) / 1e6, rate / 1e6, rate > 0 ? mean_ / rate : 0);
    std::fprintf(stderr, terminal_ ? "\r%s\033[K" : "%s\n", line.data());
    shown_ = true;
    return true;
  }

  void end() const {
    if (terminal_ && shown_) std::fprintf(stderr, "\r\033[K");
  }

 private:
  double mean_;
  bool terminal_;
  bool shown_ = false;
  double next_line_s_ = 1;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace

int run_identity_generate(const Arguments& arguments) {
  const std::string path = identity_path(arguments.data_dir);
  const auto difficulty = difficulty_of(arguments);
  if (!difficulty) return fail(difficulty.error());
  const auto target = wire::target_for(*difficulty);
  if (!target) return fail(usage_error(target.error().text));
  // Before the work as well as after it.
  if (exists(path)) return fail(failure(path + ": exists already and is not overwritten; move it away first"));
  if (auto made = make_directories(arguments.data_dir); !made) return fail(made.error());

  // A node that logs JSON has it made with --json, and its log is to be JSON alone.
  if (!arguments.json || ::isatty(STDERR_FILENO) != 0)
    std::fprintf(stderr, "Generating a new identity (difficulty %s)...\n", bits_text(*difficulty).c_str());
  Progress progress(*difficulty);
  const auto identity = wire::generate_identity(*target, 0, [&](std::uint64_t attempts) { return progress(attempts); });
  progress.end();
  if (!identity) return fail(failure(identity.error().text));
  std::string text = wire::identity_json(*identity);
  const auto written = write_new_file(path, text, 0600);
  wipe_text(text);
  if (!written) return fail(written.error());

  const std::string peer_id = wire::peer_id_text(identity->peer_id);
  if (arguments.json) {
    print(json_text({{"peer_id", peer_id}, {"file", path}, {"difficulty", *difficulty}}));
  } else {
    print("Stored the new identity (" + peer_id + ") into " + path + "\n");
  }
  return kDone;
}

int run_identity_show(const Arguments& arguments) {
  const std::string path = identity_path(arguments.data_dir);
  const auto identity = read_identity(path);
  if (!identity) return fail(identity.error());
  warn_if_readable(path);
  const std::string peer_id = wire::peer_id_text(identity->peer_id);
  const std::string key = hex_text(identity->public_key);
  const std::string stamp = hex_text(identity->stamp);
  if (arguments.json) {
    print(json_text({{"peer_id", peer_id}, {"public_key", key}, {"proof_of_work_stamp", stamp}, {"file", path}}));
  } else {
    print("Peer_id: " + peer_id + "\nPublic key: " + key + "\nProof-of-work stamp: " + stamp + "\n");
  }
  return kDone;
}

int run_identity_check(const Arguments& arguments) {
  const std::string path = identity_path(arguments.data_dir);
  const auto difficulty = difficulty_of(arguments);
  if (!difficulty) return fail(difficulty.error());
  const auto target = wire::target_for(*difficulty);
  if (!target) return fail(usage_error(target.error().text));
  const auto identity = read_identity(path);
  if (!identity) return fail(identity.error());
  warn_if_readable(path);
  const std::string bits = bits_text(*difficulty);
  if (!wire::check_proof_of_work(identity->public_key, identity->stamp, *target)) {
    return fail(failure(path + ": its proof of work is below " + bits +
                        "; move the file away and make another with 'bulkhead identity generate " + bits + "'"));
  }
  const std::string peer_id = wire::peer_id_text(identity->peer_id);
  if (arguments.json) {
    print(json_text({{"peer_id", peer_id}, {"file", path}, {"difficulty", *difficulty}, {"valid", true}}));
  } else {
    print("Peer_id: " + peer_id + ". Keys match; proof of work is higher than " + bits + ".\n");
  }
  return kDone;
}

}  // namespace bulkhead::cli
