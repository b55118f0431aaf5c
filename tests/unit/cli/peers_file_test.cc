#include "services/controller/cli/peers_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/address.h"
#include "services/controller/cli/files.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kId = "idrdoT9g6YwELhUQyshCcHwAzBS9zA";

/// As octez-node writes a peer, with some of its counters.
Json peer() {
  return Json::parse(R"({
    "peer_id": "idrdoT9g6YwELhUQyshCcHwAzBS9zA", "created": "2024-03-01T10:00:00.123-00:00", "trusted": true,
    "peer_metadata": {"responses": {"sent": {"branch": "0"}}, "valid_blocks": "17"},
    "events": [{"kind": "incoming_request", "timestamp": "2024-03-01T10:00:00.123-00:00", "addr": "::ffff:192.0.2.7",
                "port": 9732},
               {"kind": "external_disconnection", "timestamp": "2024-03-01T11:00:00Z", "addr": "2001:db8::1"}],
    "last_failed_connection": [{"addr": "::ffff:192.0.2.1", "port": 1}, "2024-03-05T00:00:00Z"],
    "last_rejected_connection": [{"addr": "::ffff:192.0.2.2"}, "2024-03-02T00:00:00Z"],
    "last_established_connection": [{"addr": "::ffff:192.0.2.7", "port": 9732}, "2024-03-04T00:00:00Z"],
    "last_disconnection": [{"addr": "2001:db8::1", "port": 9733}, "2024-03-03T00:00:00Z"]})");
}

Json with(const char* place, const Json& value) {
  Json changed = peer();
  changed[Json::json_pointer(place)] = value;
  return changed;
}

std::string refusal(const std::string& text) {
  const auto peers = parse_peers(text, "peers.json");
  if (peers) return "accepted";
  EXPECT_EQ(peers.error().code, ErrorCode::kRefused);
  EXPECT_EQ(peers.error().text.find('\n'), std::string::npos);
  return peers.error().text;
}

std::string peer_refusal(const Json& peer) {
  return refusal(Json::array({peer}).dump());
}

testing::AssertionResult starts(const std::string& text, const std::string& start) {
  if (text.rfind(start, 0) == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << '"' << text << "\" does not start with \"" << start << '"';
}

PeerId numbered(std::uint32_t number) {
  PeerId id{};
  id[0] = static_cast<std::uint8_t>(number >> 16);
  id[1] = static_cast<std::uint8_t>(number >> 8);
  id[2] = static_cast<std::uint8_t>(number);
  return id;
}

/// A node's tables, and what is written of them.
struct Tables {
  UniqueFd pool_fd = std::move(*shm::PoolTable::make(1, 1, 8));
  UniqueFd history_fd = std::move(*shm::HistoryTable::make(1, 8));
  shm::PoolTable pool = std::move(*shm::PoolTable::map(pool_fd.get(), shm::Access::kReadWrite));
  shm::HistoryTable history = std::move(*shm::HistoryTable::map(history_fd.get(), shm::Access::kReadWrite, 1, 8));

  std::string written() const {
    UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    EXPECT_TRUE(write_peers(file.get(), pool, history));
    std::string text(static_cast<std::size_t>(::lseek(file.get(), 0, SEEK_END)), '\0');
    EXPECT_EQ(::pread(file.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    return text;
  }
};

/// A data directory.
class PeersFileTest : public testing::Test {
 protected:
  PeersFileTest() {
    char path[] = "/tmp/bulkhead-peers-XXXXXX";
    directory_ = ::mkdtemp(path);
  }
  ~PeersFileTest() override { fs::remove_all(directory_); }
  std::string path() const { return directory_ + "/peers.json"; }
  void write(const std::string& text) const { std::ofstream(path()) << text; }

  std::string directory_;
};

// ---- reading

TEST(ParsePeers, ReadsWhatOctezWrites) {
  const auto peers = parse_peers(Json::array({peer()}).dump(2), "peers.json");
  ASSERT_TRUE(peers) << peers.error().text;
  ASSERT_EQ(peers->peers.size(), 1U);
  const auto& row = peers->peers[0];
  EXPECT_EQ(wire::peer_id_text(row.peer_id), kId);
  EXPECT_EQ(row.created_ms, 1709287200123);
  EXPECT_EQ(row.trusted, 1);
  EXPECT_EQ(row.failed_ms, 1709596800000);
  EXPECT_EQ(row.rejected_ms, 1709337600000);
  EXPECT_EQ(row.established_ms, 1709510400000);
  EXPECT_EQ(row.disconnection_ms, 1709424000000);
  EXPECT_EQ(to_text(Point{Address{row.address}, row.port}), "192.0.2.7:9732") << "where it was seen last";
  ASSERT_EQ(peers->events.size(), 2U);
  EXPECT_EQ(peers->events[0].kind, static_cast<std::uint8_t>(shm::HistoryKind::kAcceptingRequest));
  EXPECT_EQ(peers->events[0].time_ms, 1709287200123);
  EXPECT_EQ(peers->events[0].port, 9732);
  EXPECT_EQ(to_text(Address{peers->events[1].address}), "2001:db8::1");
  EXPECT_EQ(peers->events[1].port, 0);
}

TEST(ParsePeers, TakesWhatMayBeLeftOut) {
  const Json least = {{"peer_id", kId}, {"created", 1709287200}, {"peer_metadata", Json::object()}};
  const auto peers = parse_peers(Json::array({least}).dump(), "peers.json");
  ASSERT_TRUE(peers) << peers.error().text;
  EXPECT_EQ(peers->peers[0].created_ms, 1709287200000) << "seconds";
  EXPECT_EQ(peers->peers[0].trusted, 0);
  EXPECT_EQ(Address{peers->peers[0].address}, Address{});
  EXPECT_EQ(refusal("[]"), "accepted");
}

TEST(ParsePeers, NamesLineAndColumnOfWhatIsNotJson) {
  EXPECT_TRUE(starts(refusal("[\n  {\"peer_id\": ,}\n]"), "peers.json: line 2, column 15: this is not JSON"));
  for (const std::string text : {"", "[", "[{", "not json", "[] trailing", "\xff", "[\"\xff\"]"})
    EXPECT_TRUE(starts(refusal(text), "peers.json: line 1, column ")) << text;
}

TEST(ParsePeers, RefusesWhatIsNoArrayOfPeers) {
  for (const char* text : {"{}", "17", "\"x\"", "null"})
    EXPECT_EQ(refusal(text), "peers.json: /: the file must hold one array of peers, as octez-node writes it") << text;
  for (const char* text : {"[17]", "[null]", "[[]]", "[\"x\"]"})
    EXPECT_TRUE(starts(refusal(text), "peers.json: /0: must be an object")) << text;
  EXPECT_TRUE(starts(refusal(Json::array({peer(), 17}).dump()), "peers.json: /1: must be an object"));
  EXPECT_TRUE(starts(refusal(std::string(100'000, '[')), "peers.json: /0: "));
  EXPECT_TRUE(starts(refusal("[{\"x\": " + std::string(100'000, '[')), "peers.json: /0: nested too deeply"));
}

TEST(ParsePeers, NamesPlaceAndRuleOfWhatIsWrong) {
  const std::pair<Json, const char*> cases[] = {
      {Json::object(), "/0: peer_id is missing"},
      {Json{{"peer_id", kId}}, "/0: created is missing"},
      {with("/peer_id", 17), "/0/peer_id: must be a peer id"},
      {with("/peer_id", "id"), "/0/peer_id: must be a peer id"},
      {with("/created", "yesterday"), "/0/created: must be a time, such as"},
      {with("/created", -1), "/0/created: must be a time"},
      {with("/created", 1e300), "/0/created: must be a time"},
      {with("/created", INT64_MAX), "/0/created: must be a time"},
      {with("/trusted", "yes"), "/0/trusted: must be true or false"},
      {with("/events", 17), "/0/events: must be an array"},
      {with("/events/1", 17), "/0/events/1: must be an object"},
      {with("/events/1/kind", "accepted"), "/0/events/1/kind: must be one of incoming_request, "},
      {with("/events/1/timestamp", nullptr), "/0/events/1/timestamp: must be a time"},
      {with("/events/1/addr", "localhost"), "/0/events/1/addr: must be an IPv4 or IPv6 address"},
      {with("/events/1/port", 65536), "/0/events/1/port: must be a number from 0 to 65535"},
      {with("/last_disconnection", Json::array({17, 18})), "/0/last_disconnection: must be a pair"},
      {with("/last_failed_connection", Json::object()), "/0/last_failed_connection: must be a pair"},
      {with("/last_failed_connection/0", Json::object()), "/0/last_failed_connection/0: addr is missing"},
      {with("/last_failed_connection/0/port", -1), "/0/last_failed_connection/0/port: must be a number"},
      {with("/last_failed_connection/1", "now"), "/0/last_failed_connection/1: must be a time"},
  };
  for (const auto& [wrong, place] : cases)
    EXPECT_TRUE(starts(peer_refusal(wrong), std::string("peers.json: ") + place)) << wrong.dump();
  EXPECT_EQ(refusal(Json::array({peer(), peer()}).dump()),
            "peers.json: /1/peer_id: stands there a second time; keep one");
}

TEST(ParsePeers, IsBounded) {
  Json flood = peer();
  const Json event = flood["events"][0];
  for (int i = 0; i < 500; ++i) flood["events"].push_back(event);
  flood["events"][501]["port"] = 7;
  const auto peers = parse_peers(Json::array({flood}).dump(), "peers.json");
  ASSERT_TRUE(peers) << peers.error().text;
  EXPECT_EQ(peers->events.size(), shm::kHistoryEvents);
  EXPECT_EQ(peers->events.back().port, 7) << "the last ones";

  std::string many = "[";
  for (std::uint32_t i = 0; i <= schema::kMaximumKnownPeers; ++i)
    many += (i == 0 ? "" : ",") + Json{{"peer_id", wire::peer_id_text(numbered(i))}, {"created", 1}}.dump();
  EXPECT_EQ(refusal(many + "]"), "peers.json: /65536: more than 65536 peers; leave some out");
}

// ---- writing

TEST(WritePeers, OfNobodyIsAnEmptyArray) {
  EXPECT_EQ(Tables().written(), "[]\n");
}

TEST(WritePeers, IsReadBackAsItWas) {
  Tables tables;
  for (const std::uint32_t i : {1U, 6U}) {
    shm::PeerRow row{};
    row.used = 1;
    row.peer_id = numbered(i);
    row.address = parse_address(i == 1 ? "192.0.2.7" : "2001:db8::1")->bytes;
    row.port = i == 1 ? 9732 : 0;
    row.trusted = i == 1;
    row.created_ms = 1709287200123;
    row.last_established_ms = 1709510400000;
    row.last_disconnection_ms = 1709510400001;
    tables.pool.peer(i).write(row);
    shm::HistoryEvent event{};
    event.time_ms = 1709510400000;
    event.other = row.address;
    event.port = 9733;
    event.kind = static_cast<std::uint8_t>(shm::HistoryKind::kExternalDisconnection);
    event.has_other = 1;
    for (std::uint32_t n = 0; n < i; ++n) tables.history.peer(i).append(event);
  }
  const std::string text = tables.written();
  const auto peers = parse_peers(text, "peers.json");
  ASSERT_TRUE(peers) << peers.error().text;
  ASSERT_EQ(peers->peers.size(), 2U);
  EXPECT_EQ(peers->events.size(), 7U);
  for (const auto& row : peers->peers) {
    const bool first = row.peer_id == numbered(1);
    EXPECT_EQ(row.created_ms, 1709287200123);
    EXPECT_EQ(row.established_ms, 1709510400000);
    EXPECT_EQ(row.disconnection_ms, 1709510400001);
    EXPECT_EQ(row.failed_ms, 0);
    EXPECT_EQ(row.trusted, first ? 1 : 0);
    EXPECT_EQ(row.port, first ? 9732 : 0);
    EXPECT_EQ(to_text(Address{row.address}), first ? "192.0.2.7" : "2001:db8::1");
  }
  EXPECT_EQ(peers->events[6].kind, static_cast<std::uint8_t>(shm::HistoryKind::kExternalDisconnection));
  EXPECT_EQ(peers->events[6].port, 9733);
  EXPECT_EQ(peers->events[6].peer, 1U);
}

// Octez reads no peer that lacks one of these, or has others.
TEST(WritePeers, HasTheFieldsOfOctez) {
  Tables tables;
  shm::PeerRow row{};
  row.used = 1;
  row.peer_id = numbered(1);
  row.address = parse_address("192.0.2.7")->bytes;
  row.last_failed_ms = row.last_rejected_ms = row.last_established_ms = row.last_disconnection_ms = 1;
  tables.pool.peer(0).write(row);
  const Json peer = Json::parse(tables.written())[0];
  std::vector<std::string> names;
  for (const auto& [name, value] : peer.items()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"created", "events", "last_disconnection", "last_established_connection",
                                             "last_failed_connection", "last_rejected_connection", "peer_id",
                                             "peer_metadata", "trusted"}));
  EXPECT_EQ(peer["last_failed_connection"],
            Json::parse(R"([{"addr": "::ffff:192.0.2.7"}, "1970-01-01T00:00:00.001Z"])"));
  const Json& counters = peer["peer_metadata"];
  EXPECT_EQ(counters.size(), 10U);
  EXPECT_EQ(counters["responses"].size(), 5U);
  EXPECT_EQ(counters["requests"].size(), 4U);
  for (const char* kind : {"sent", "received", "failed", "scheduled"}) EXPECT_EQ(counters["requests"][kind].size(), 8U);
  EXPECT_EQ(counters["prevalidator_results"].size(), 10U);
  EXPECT_EQ(counters["unadvertised"].size(), 3U);
  EXPECT_EQ(counters["advertisements"]["sent"], Json::parse(R"({"head": "0", "branch": "0"})"));
  EXPECT_EQ(counters["valid_blocks"], "0") << "a number as text";
}

// ---- the file of a data directory

TEST_F(PeersFileTest, ThatIsNotThereIsNone) {
  const auto file = open_peers_file(directory_);
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_FALSE(file->rows);
  EXPECT_EQ(file->peers, 0U);
}

TEST_F(PeersFileTest, ThatIsWrongIsRefusedByItsName) {
  write("[{]");
  const auto file = open_peers_file(directory_);
  ASSERT_FALSE(file);
  EXPECT_TRUE(starts(file.error().text, path() + ": line 1, column 3: this is not JSON")) << file.error().text;
}

TEST_F(PeersFileTest, IsHandedOnAsSealedRows) {
  write(Json::array({peer()}).dump());
  const auto file = open_peers_file(directory_);
  ASSERT_TRUE(file) << file.error().text;
  EXPECT_EQ(file->peers, 1U);
  EXPECT_EQ(file->events, 2U);
  const std::size_t size = sizeof(schema::KnownPeerRow) + 2 * sizeof(schema::KnownPeerEventRow);
  EXPECT_TRUE(shm::check_segment(file->rows.get(), size, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
  schema::KnownPeerRow row{};
  ASSERT_EQ(::pread(file->rows.get(), &row, sizeof row, 0), static_cast<ssize_t>(sizeof row));
  EXPECT_EQ(wire::peer_id_text(row.peer_id), kId);
}

TEST_F(PeersFileTest, IsReplacedAtOneBlow) {
  write("[]");
  const auto file = open_peers_file(directory_);
  ASSERT_TRUE(file) << file.error().text;
  Tables tables;
  shm::PeerRow row{};
  row.used = 1;
  row.peer_id = numbered(1);
  tables.pool.peer(0).write(row);
  std::ifstream before(path());
  const auto saved = file->save(tables.pool_fd.get(), tables.history_fd.get(), true);
  ASSERT_TRUE(saved) << saved.error().text;
  EXPECT_EQ(open_peers_file(directory_)->peers, 1U);
  std::string old;
  std::getline(before, old);
  EXPECT_EQ(old, "[]") << "who had it open sees the old one";
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), {}), 1) << "nothing else is left";
  struct stat info {};
  ASSERT_EQ(::stat(path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777 & ~0640U, 0U);
}

TEST_F(PeersFileTest, IsKeptBesideTheNewOneUnlessItIsSpent) {
  Tables tables;
  const auto save = [&](bool spent, const std::string& meanwhile = "") {
    auto file = open_peers_file(directory_);
    ASSERT_TRUE(file) << file.error().text;
    if (!meanwhile.empty()) write(meanwhile);
    const auto saved = file->save(tables.pool_fd.get(), tables.history_fd.get(), spent);
    ASSERT_TRUE(saved) << saved.error().text;
  };
  const auto text = [](const std::string& name) {
    std::ifstream file(name);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  write("[ ]");
  EXPECT_EQ(open_peers_file(directory_)->kept_as, path() + ".old");
  save(false);
  EXPECT_EQ(text(path() + ".old"), "[ ]");
  EXPECT_EQ(text(path()), "[]\n");
  write("[  ]");
  EXPECT_EQ(open_peers_file(directory_)->kept_as, path() + ".old-2");
  save(false);
  EXPECT_EQ(text(path() + ".old"), "[ ]") << "an earlier one stays";
  EXPECT_EQ(text(path() + ".old-2"), "[  ]");
  write("[   ]");
  save(true);
  EXPECT_FALSE(fs::exists(path() + ".old-3"));
  save(true, "[    ]");
  EXPECT_EQ(text(path() + ".old-3"), "[    ]") << "nobody looked at this one";
}

TEST_F(PeersFileTest, IsKnownForWhatTheNodeWroteItself) {
  fs::create_directory(directory_ + "/state");
  Tables tables;
  write("[ ]");
  auto file = open_peers_file(directory_);
  EXPECT_FALSE(file->ours);
  ASSERT_TRUE(file->save(tables.pool_fd.get(), tables.history_fd.get(), true));
  EXPECT_TRUE(open_peers_file(directory_)->ours);
  write("[ ]");
  EXPECT_FALSE(open_peers_file(directory_)->ours);
}

TEST_F(PeersFileTest, StaysAsItWasWhenItCannotBeWritten) {
  write("[]");
  const auto failed = replace_file(path(), 0640, [](int fd) {
    EXPECT_EQ(::write(fd, "x", 1), 1);
    errno = ENOSPC;
    return false;
  });
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().text.find("No space left"), std::string::npos) << failed.error().text;
  EXPECT_EQ(open_peers_file(directory_)->peers, 0U);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), {}), 1);
}

}  // namespace
}  // namespace bulkhead::cli
