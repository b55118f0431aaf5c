#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace bulkhead::cli {

/// The whole of a regular file of at most `limit` bytes. kNotFound when there is none; every other error is kRefused
/// and names the file. The caller wipes what is secret.
Result<std::string> read_file(const std::string& path, std::size_t limit);

/// Makes `path` with this content and mode, whole or not at all, durably (file and folder are synced). Never replaces:
/// kRefused, naming the file, when something is there already.
Result<void> write_new_file(const std::string& path, std::string_view content, mode_t mode);

/// Gives a file another name, which nothing has yet. Never replaces. Errors name the file.
Result<void> rename_file(const std::string& from, const std::string& to);

/// Makes `path` anew, or replaces it at one blow: who reads it meanwhile sees the old file or the new one. `write`
/// writes the content to the descriptor that it is given; false, with errno: it could not, and nothing changes. Made by
/// root, the file gets the owner of its folder. Errors name the file.
Result<void> replace_file(const std::string& path, mode_t mode, const std::function<bool(int fd)>& write);

/// Makes a directory and those above it, mode 0750, as far as they are missing.
Result<void> make_directories(const std::string& path);

bool exists(const std::string& path);

}  // namespace bulkhead::cli
