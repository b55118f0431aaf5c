#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/address.h"
#include "services/controller/store.h"

namespace bulkhead::controller::test {

/// A data directory that is gone with its end.
class DataDirectory {
 public:
  DataDirectory() : path_("/tmp/bulkhead-store-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "no temporary directory";
    auto opened = service::open_state_directory(path_);
    if (opened) {
      state_ = std::move(*opened);
    } else {
      ADD_FAILURE() << opened.error().text;
    }
  }
  ~DataDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/state/" + name; }
  int state() const { return state_.get(); }

  service::StateFiles files() const {
    auto database = service::open_state_database(state_.get());
    auto log = service::open_state_log(state_.get());
    if (!database || !log) {
      ADD_FAILURE() << (database ? log.error().text : database.error().text);
      return {};
    }
    return {std::move(*database), std::move(*log)};
  }
  Store store() const { return Store(files()); }
  /// Opened; a failure of the test when that cannot be.
  Store opened() const {
    Store made = store();
    if (const auto done = made.open(); !done) ADD_FAILURE() << done.error().text;
    return made;
  }
  /// What a new process would find.
  Stored stored(std::int64_t now_ms = 1) const {
    Store reader = opened();
    auto all = reader.load(now_ms);
    if (!all) {
      ADD_FAILURE() << all.error().text;
      return {};
    }
    return std::move(*all);
  }

 private:
  std::string path_;
  UniqueFd state_;
};

/// As the end of the process would.
inline void close(Store& store) {
  store = Store(service::StateFiles{});
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline AclEntry ban(std::uint32_t number, const std::string& text = "") {
  AclEntry entry;
  entry.key = {StoredList::kBlack, false, {}, 128};
  entry.key.subject = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  for (std::size_t i = 0; i < 4; ++i) entry.key.subject[15 - i] = static_cast<std::uint8_t>(number >> (8 * i));
  entry.since_ms = 1000;
  entry.reason = Reason::kBanned;
  entry.text = text;
  return entry;
}
inline AclEntry grey(std::uint32_t number, std::int64_t until_ms = 0) {
  AclEntry entry = ban(number);
  entry.key.list = StoredList::kGrey;
  entry.until_ms = until_ms;
  entry.reason = Reason::kGreylisted;
  entry.set_by = 2;
  return entry;
}
inline PeerId peer_id(std::uint8_t number) {
  PeerId id{};
  id.fill(number);
  return id;
}
inline PointEntry known(const std::string& text) {
  PointEntry entry;
  entry.point = parse_point(text).value();
  return entry;
}
inline HistoryEntry happened(const std::variant<Point, PeerId>& of, std::int64_t time_ms) {
  HistoryEntry entry;
  entry.of = of;
  entry.time_ms = time_ms;
  return entry;
}

template <typename T>
void expect_done(const Result<T>& done) {
  EXPECT_TRUE(done) << (done ? "" : done.error().text);
}
template <typename T>
void expect_error(const Result<T>& done, ErrorCode code) {
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, code) << done.error().text;
}

}  // namespace bulkhead::controller::test
