#include "services/controller/cli/views.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <cstring>

#include "base/address.h"
#include "base/address_group.h"
#include "services/controller/cli/output.h"
#include "services/controller/cli/record_commands.h"
#include "services/controller/cli/show.h"
#include "services/controller/cli/why.h"
#include "wire/peer_id.h"

namespace bulkhead::cli {
namespace {

using shm::Access;
using Json = nlohmann::json;

constexpr std::uint32_t kSlots = 6;

PeerId peer(std::uint8_t fill) {
  PeerId id;
  id.fill(fill);
  return id;
}

std::array<std::uint8_t, 16> address(const char* text) {
  return parse_address(text)->bytes;
}

/// A node's tables as its processes would write them, and the reader's view.
class ViewsTest : public testing::Test {
 protected:
  void SetUp() override {
    descriptors_.push_back(std::move(*shm::ProcessesTable::make()));
    descriptors_.push_back(std::move(*shm::PoolTable::make(kSlots, 4, 4)));
    descriptors_.push_back(std::move(*shm::make_live(kSlots)));
    descriptors_.push_back(std::move(*shm::make_counters()));
    descriptors_.push_back(std::move(*shm::EventsTable::make()));
    descriptors_.push_back(std::move(*shm::ListsTable::make(shm::kMinimumListCapacity)));
    descriptors_.push_back(std::move(*shm::HistoryTable::make(4, 4)));
    std::vector<UniqueFd> readers;
    for (const UniqueFd& fd : descriptors_) readers.push_back(std::move(*reopen_read_only(fd.get())));
    tables_ = std::move(*map_tables(readers));
    processes_ = std::move(*shm::ProcessesTable::map(descriptors_[0].get(), Access::kReadWrite));
    pool_ = std::move(*shm::PoolTable::map(descriptors_[1].get(), Access::kReadWrite));
    events_ = std::move(*shm::EventsTable::map(descriptors_[4].get(), Access::kReadWrite));
  }

  void write_node() {
    shm::NodeRow node{};
    node.peer_id = peer(1);
    node.started_ms = 1700000000000;
    node.ready = 1;
    node.minimum = 1;
    node.expected = 2;
    node.maximum = 3;
    node.net_count = 2;
    node.net_addresses[0] = address("127.0.0.1");
    node.net_ports[0] = 9732;
    node.net_addresses[1] = address("::1");
    node.net_ports[1] = 9733;
    node.chain_name_size = 4;
    std::memcpy(node.chain_name.data(), "TEST", 4);
    processes_.node().write(node);
  }

  shm::SlotRow running(std::uint8_t fill, bool incoming) {
    shm::SlotRow row{};
    row.generation = 7;
    row.state = static_cast<std::uint32_t>(shm::SlotState::kRunning);
    row.direction = incoming ? 0 : 1;
    row.worker_pid = 4242;
    row.remote_port = 50000;
    row.port = incoming ? 0 : 9732;
    row.distributed_db_version = 2;
    row.p2p_version = 1;
    row.peer_id = peer(fill);
    row.address = address("10.0.0.9");
    row.private_node = 1;
    row.trusted = 1;
    row.weight_milli = 1500;
    row.since_ms = 1700000000123;
    return row;
  }

  shm::LiveWriter live(SlotId slot) { return std::move(*shm::LiveWriter::map(descriptors_[2].get(), slot)); }

  std::vector<UniqueFd> descriptors_;
  NodeTables tables_;
  shm::ProcessesTable processes_;
  shm::PoolTable pool_;
  shm::EventsTable events_;
};

TEST_F(ViewsTest, StatusHasTheShapeOfTheInterface) {
  write_node();
  shm::ProcessRow process{};
  process.pid = 99;
  process.restarts = 2;
  process.since_ms = 1700000001000;
  processes_.process(Role::kController).write(process);
  pool_.slot(0).write(running(2, true));
  pool_.slot(1).write(running(3, false));
  pool_.slot(2).write(running(4, false));
  shm::SlotRow handshake = running(5, true);
  handshake.state = static_cast<std::uint32_t>(shm::SlotState::kHandshake);
  pool_.slot(3).write(handshake);
  shm::SlotRow ending = running(6, true);
  ending.state = static_cast<std::uint32_t>(shm::SlotState::kEnding);
  pool_.slot(4).write(ending);

  const Json json = status_json(tables_);
  EXPECT_EQ(json["ready"], true);
  EXPECT_EQ(json["peer_id"], wire::peer_id_text(peer(1)));
  EXPECT_EQ(json["chain_name"], "TEST");
  EXPECT_EQ(json["net_addr"], Json({"127.0.0.1:9732", "[::1]:9733"}));
  EXPECT_EQ(
      json["connections"],
      Json({{"active", 3}, {"incoming", 1}, {"outgoing", 2}, {"pending", 1}, {"min", 1}, {"expected", 2}, {"max", 3}}));
  ASSERT_EQ(json["processes"].size(), 1U) << "roles that never ran have no row";
  EXPECT_EQ(json["processes"][0]["role"], "controller");
  EXPECT_EQ(json["processes"][0]["pid"], 99);
  EXPECT_EQ(json["processes"][0]["restarts"], 2);
  EXPECT_EQ(json["processes"][0]["since"], "2023-11-14T22:13:21.000Z");
  EXPECT_EQ(json["application"]["attached"], false);
  EXPECT_EQ(json["application"]["pid"], 0);
  EXPECT_TRUE(is_ready(tables_));
}

TEST_F(ViewsTest, StatusNamesTheApplicationThatHoldsASide) {
  shm::NodeRow node{};
  node.sender_pid = 55;
  processes_.node().write(node);
  EXPECT_EQ(status_json(tables_)["application"]["attached"], true);
  EXPECT_EQ(status_json(tables_)["application"]["pid"], 55);
  node.receiver_pid = 44;
  processes_.node().write(node);
  EXPECT_EQ(status_json(tables_)["application"]["pid"], 44);
}

TEST_F(ViewsTest, StatusOfTablesThatNobodyWroteIsNotReady) {
  const Json json = status_json(tables_);
  EXPECT_EQ(json["ready"], false);
  EXPECT_EQ(json["net_addr"], Json::array());
  EXPECT_EQ(json["processes"], Json::array());
  EXPECT_FALSE(is_ready(tables_));
}

TEST_F(ViewsTest, StatusStaysWithinItsRowWhateverTheCountsSay) {
  shm::NodeRow node{};
  node.net_count = 0xFFFFFFFF;
  node.chain_name_size = 0xFFFFFFFF;
  node.chain_name.fill(0xff);
  processes_.node().write(node);
  const ShownJson json = status_json(tables_);
  EXPECT_EQ(json["net_addr"].size(), 4U);
  EXPECT_EQ(json["chain_name"].get<std::string>().size(), shm::kChainNameSize);
  EXPECT_FALSE(json_line(json).empty()) << "bytes that are not UTF-8 are replaced";
}

TEST_F(ViewsTest, ConnectionsHaveTheShapeOfTheInterface) {
  write_node();
  pool_.slot(1).write(running(2, false));
  auto writer = live(1);
  writer.page().bytes_in = 1000;
  writer.page().bytes_out = 2000;
  writer.page().messages_in = 3;
  writer.page().messages_out = 4;
  writer.page().queue_in = 5;
  writer.page().queue_out = 6;
  writer.page().inflow = 100;
  writer.page().outflow = 200;
  writer.page().last_activity_ns = 10 * kSecond;
  writer.page().generation = 7;

  const Json list = connections_json(tables_, 10 * kSecond);
  ASSERT_EQ(list.size(), 1U);
  const Json& row = list[0];
  EXPECT_EQ(row["peer_id"], wire::peer_id_text(peer(2)));
  EXPECT_EQ(row["incoming"], false);
  EXPECT_EQ(row["id_point"], Json({{"addr", "10.0.0.9"}, {"port", 9732}}));
  EXPECT_EQ(row["remote_socket_port"], 50000);
  EXPECT_EQ(row["announced_version"],
            Json({{"chain_name", "TEST"}, {"distributed_db_version", 2}, {"p2p_version", 1}}));
  EXPECT_EQ(row["private"], true);
  EXPECT_EQ(row["trusted"], true);
  EXPECT_EQ(row["worker_pid"], 4242);
  EXPECT_EQ(row["since"], "2023-11-14T22:13:20.123Z");
  EXPECT_EQ(row["weight"], 1.5);
  EXPECT_EQ(row["stat"], Json({{"total_sent", 2000},
                               {"total_recv", 1000},
                               {"current_inflow", 100},
                               {"current_outflow", 200},
                               {"messages_sent", 4},
                               {"messages_received", 3},
                               {"queue_in", 5},
                               {"queue_out", 6},
                               {"messages_discarded", 0}}));
  EXPECT_EQ(connections_json(tables_, 11 * kSecond)[0]["stat"]["current_outflow"], 160) << "an idle flow falls";
}

TEST_F(ViewsTest, ConnectionsShowNoNumbersOfAnotherGeneration) {
  pool_.slot(0).write(running(2, true));
  auto writer = live(0);
  writer.page().bytes_in = 1000;
  writer.page().generation = 6;
  const Json list = connections_json(tables_, kSecond);
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0]["stat"]["total_recv"], 0);
  EXPECT_TRUE(list[0]["id_point"]["port"].is_null()) << "no port was announced";
}

TEST_F(ViewsTest, ConnectionsListRunningSlotsOnly) {
  for (const auto state :
       {shm::SlotState::kFree, shm::SlotState::kClaimed, shm::SlotState::kHandshake, shm::SlotState::kAccepted}) {
    shm::SlotRow row = running(2, true);
    row.state = static_cast<std::uint32_t>(state);
    pool_.slot(0).write(row);
    EXPECT_TRUE(connections_json(tables_, kSecond).empty());
  }
}

TEST_F(ViewsTest, PeersAreFilteredByState) {
  shm::PeerRow row{};
  row.used = 1;
  row.peer_id = peer(2);
  row.state = static_cast<std::uint32_t>(shm::PeerState::kRunning);
  row.address = address("10.0.0.9");
  row.port = 5;
  row.score_milli = -2500;
  row.last_established_ms = 1700000000000;
  row.last_failed_ms = 1700000001000;
  pool_.peer(1).write(row);
  row.peer_id = peer(3);
  row.state = static_cast<std::uint32_t>(shm::PeerState::kDisconnected);
  pool_.peer(2).write(row);
  row.used = 0;
  pool_.peer(3).write(row);
  pool_.slot(0).write(running(2, true));
  auto writer = live(0);
  writer.page().bytes_out = 77;
  writer.page().generation = 7;

  EXPECT_EQ(peers_json(tables_, {}, kSecond).size(), 2U);
  EXPECT_EQ(peers_json(tables_, {"accepted"}, kSecond).size(), 0U);
  EXPECT_EQ(peers_json(tables_, {"accepted", "disconnected"}, kSecond).size(), 1U);
  const Json list = peers_json(tables_, {"running"}, kSecond);
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0][0], wire::peer_id_text(peer(2)));
  const Json& info = list[0][1];
  EXPECT_EQ(info["score"], -2.5);
  EXPECT_EQ(info["trusted"], false);
  EXPECT_EQ(info["state"], "running");
  EXPECT_EQ(info["reachable_at"], Json({{"addr", "10.0.0.9"}, {"port", 5}}));
  EXPECT_EQ(info["stat"]["total_sent"], 77);
  EXPECT_EQ(info["last_seen"], "2023-11-14T22:13:20.000Z");
  EXPECT_EQ(info["last_miss"], "2023-11-14T22:13:21.000Z");
  EXPECT_FALSE(info.contains("last_disconnection"));
}

TEST_F(ViewsTest, PointsShowStatePeerAndBackOff) {
  shm::PointRow row{};
  row.used = 1;
  row.state = static_cast<std::uint32_t>(shm::PointState::kRequested);
  row.address = address("2001:db8::1");
  row.port = 9732;
  row.trusted = 1;
  row.group = group_of_as(64500);
  row.next_attempt_ms = 1700000000000;
  row.has_expected = 1;
  row.expected_peer_id = peer(9);
  pool_.point(0).write(row);
  const Json list = points_json(tables_, {});
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0][0], "[2001:db8::1]:9732");
  EXPECT_EQ(list[0][1]["trusted"], true);
  EXPECT_EQ(list[0][1]["group"], "AS64500");
  EXPECT_EQ(list[0][1]["greylisted_until"], "2023-11-14T22:13:20.000Z");
  EXPECT_EQ(list[0][1]["state"], Json({{"event_kind", "requested"}}));
  EXPECT_EQ(list[0][1]["expected_peer_id"], wire::peer_id_text(peer(9)));
  EXPECT_TRUE(points_json(tables_, {"running"}).empty());
  row.state = static_cast<std::uint32_t>(shm::PointState::kRunning);
  row.has_peer = 1;
  row.peer_id = peer(8);
  pool_.point(0).write(row);
  EXPECT_EQ(Json(points_json(tables_, {"running"}))[0][1]["state"]["p2p_peer_id"], wire::peer_id_text(peer(8)));
}

TEST_F(ViewsTest, EventsHaveTheShapeOfTheInterface) {
  shm::EventRow event{};
  event.time_ms = 1700000000001;
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kDisconnected);
  event.reason = static_cast<std::uint32_t>(Reason::kKicked);
  event.address = address("10.0.0.9");
  event.has_address = 1;
  event.peer_id = peer(2);
  events_.append(event);
  Json json = event_json(*tables_.events.read(1));
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.001Z");
  EXPECT_EQ(json["event"], "disconnected");
  EXPECT_EQ(json["addr"], "10.0.0.9");
  EXPECT_TRUE(json["peer_id"].is_null());
  EXPECT_EQ(json["reason"], "kicked");
  event.has_peer = 1;
  event.reason = 0x10001;
  json = event_json(event);
  EXPECT_EQ(json["peer_id"], wire::peer_id_text(peer(2)));
  EXPECT_EQ(json["reason"], "invalid_reason") << "a value is not cut to fit";
  EXPECT_EQ(json_line(event_json(event)).find('\n'), json_line(event_json(event)).size() - 1) << "one line";
}

TEST_F(ViewsTest, AViolationIsShownWithTheNameOfItsSystemCall) {
  shm::EventRow event{};
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kDisconnected);
  event.reason = static_cast<std::uint32_t>(Reason::kSandboxViolation);
  EXPECT_FALSE(event_json(event).contains("syscall")) << "the worker said nothing";
  event.detail = 1 + SYS_ptrace;
  EXPECT_EQ(event_json(event)["syscall"], "ptrace");
  EXPECT_FALSE(event_json(event).contains("detail"));
  event.detail = UINT32_MAX;
  EXPECT_EQ(event_json(event)["syscall"], "call 4294967294") << "whatever it says";
}

TEST_F(ViewsTest, TheLogOfAPointHasTheFormOfOctez) {
  shm::PointRow row{};
  row.used = 1;
  row.address = address("10.0.0.9");
  row.port = 9732;
  pool_.point(2).write(row);
  auto history = std::move(*shm::HistoryTable::map(descriptors_[6].get(), Access::kReadWrite, 4, 4));
  shm::HistoryEvent event{};
  event.time_ms = 1700000000000;
  history.point(2).append(event);
  event.kind = static_cast<std::uint8_t>(shm::HistoryKind::kDisconnection);
  event.has_other = 1;
  event.other = peer(3);
  event.reason = static_cast<std::uint16_t>(Reason::kKicked);
  history.point(2).append(event);

  const auto log = point_log_json(tables_, Point{Address{row.address}, 9732});
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_EQ(Json::parse(log->dump()), Json::parse(R"([["2023-11-14T22:13:20.000Z", {"event_kind": "outgoing_request"}],
      ["2023-11-14T22:13:20.000Z", {"event_kind": "disconnection", "p2p_peer_id": ")" +
                                                  wire::peer_id_text(peer(3)) + R"(", "reason": "kicked"}]])"));
  const auto unknown = point_log_json(tables_, Point{Address{row.address}, 9733});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().text, "10.0.0.9:9733 is not a known point; see 'bulkhead points'");
}

TEST_F(ViewsTest, TheLogOfAPeerHasTheFormOfOctez) {
  shm::PeerRow row{};
  row.used = 1;
  row.peer_id = peer(3);
  pool_.peer(3).write(row);
  auto history = std::move(*shm::HistoryTable::map(descriptors_[6].get(), Access::kReadWrite, 4, 4));
  shm::HistoryEvent event{};
  event.time_ms = 1700000000000;
  event.kind = static_cast<std::uint8_t>(shm::HistoryKind::kAcceptingRequest);
  event.has_other = 1;
  event.other = address("10.0.0.9");
  event.port = 9732;
  history.peer(3).append(event);
  event.kind = 200;
  event.reason = 60000;
  event.port = 0;
  history.peer(3).append(event);

  const auto log = peer_log_json(tables_, peer(3));
  ASSERT_TRUE(log) << log.error().text;
  EXPECT_EQ(Json::parse(log->dump()), Json::parse(R"([
      {"kind": "incoming_request", "timestamp": "2023-11-14T22:13:20.000Z", "addr": "10.0.0.9", "port": 9732},
      {"kind": "invalid_event", "timestamp": "2023-11-14T22:13:20.000Z", "addr": "10.0.0.9",
       "reason": "invalid_reason"}])"));
  EXPECT_FALSE(peer_log_json(tables_, peer(4)));
}

TEST_F(ViewsTest, WhyTellsOfHistoriesWhatCameBeforeTheLastStart) {
  write_node();  // it started at 1700000000000
  shm::PointRow point{};
  point.used = 1;
  point.address = address("10.0.0.9");
  point.port = 9732;
  pool_.point(0).write(point);
  shm::PeerRow row{};
  row.used = 1;
  row.peer_id = peer(3);
  row.address = point.address;
  row.port = 9732;
  pool_.peer(0).write(row);
  auto history = std::move(*shm::HistoryTable::map(descriptors_[6].get(), Access::kReadWrite, 4, 4));
  for (const std::int64_t ms : {-2, 1}) {
    shm::HistoryEvent event{};
    event.time_ms = 1700000000000 + ms;
    event.kind = static_cast<std::uint8_t>(shm::HistoryKind::kRequestRejected);
    event.reason = static_cast<std::uint16_t>(Reason::kConnectionRefused);
    history.point(0).append(event);
    event.time_ms += 1;
    event.kind = static_cast<std::uint8_t>(shm::HistoryKind::kDisconnection);
    event.has_other = 1;
    event.other = point.address;
    history.peer(0).append(event);
  }
  schema::AclSubject subject;
  subject.prefix = prefix_of(Address{point.address}, kAddressBits);
  const auto why = why_json(tables_, subject, 0);
  ASSERT_EQ(why["past"].size(), 2U) << why;
  EXPECT_EQ(why["past"][0]["of"], wire::peer_id_text(peer(3)));
  EXPECT_EQ(why["past"][0]["event"], "disconnection");
  EXPECT_EQ(why["past"][1]["of"], "10.0.0.9:9732");
  EXPECT_EQ(why["past"][1]["event"], "request_rejected");
  EXPECT_EQ(why["past"][1]["reason"], "connection_refused");
  EXPECT_EQ(why["past"][1]["time"], "2023-11-14T22:13:19.998Z");
}

TEST_F(ViewsTest, TablesOfAnotherNumberOrOrderAreRefused) {
  std::vector<UniqueFd> readers;
  for (const UniqueFd& fd : descriptors_) readers.push_back(std::move(*reopen_read_only(fd.get())));
  EXPECT_TRUE(map_tables(readers));
  std::swap(readers[0], readers[1]);
  EXPECT_FALSE(map_tables(readers));
  std::swap(readers[0], readers[1]);
  readers.pop_back();
  EXPECT_FALSE(map_tables(readers));
}

TEST_F(ViewsTest, EventsOfTheListsNameThePrefix) {
  shm::EventRow event{};
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kBanned);
  event.reason = static_cast<std::uint32_t>(Reason::kBanned);
  event.address = address("10.0.0.0");
  event.has_address = 1;
  event.detail = 96 + 8 + 1;
  EXPECT_EQ(event_json(event)["prefix"], "10.0.0.0/8");
  EXPECT_FALSE(event_json(event).contains("detail"));
  event.detail = 0;
  EXPECT_FALSE(event_json(event).contains("prefix"));
  event.detail = 200;
  EXPECT_FALSE(event_json(event).contains("prefix")) << "longer than an address";
}

TEST_F(ViewsTest, ThePointsTableNamesANextTryOnlyOfWhatIsNotConnected) {
  shm::PointRow point{};
  point.used = 1;
  point.address = address("10.0.0.9");
  point.port = 9732;
  point.next_attempt_ms = 1700000000000;
  pool_.point(0).write(point);
  EXPECT_NE(points_text(points_json(tables_, {})).find("2023-11-14 22:13:20"), std::string::npos);
  point.state = static_cast<std::uint32_t>(shm::PointState::kRunning);
  pool_.point(0).write(point);
  const std::string text = points_text(points_json(tables_, {}));
  EXPECT_NE(text.find("running"), std::string::npos) << text;
  EXPECT_EQ(text.find("2023-11-14"), std::string::npos) << text;
}

TEST_F(ViewsTest, AnEventOfABanNamesItsEnd) {
  shm::EventRow event{};
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kBanned);
  event.time_ms = 1700000000500;
  EXPECT_TRUE(event_json(event).at("until").is_null()) << "it has none";
  EXPECT_EQ(event_text(event_json(event)).find("until"), std::string::npos);
  event.lasts_s = 60;
  EXPECT_EQ(event_json(event).at("until"), "2023-11-14T22:14:20.500Z");
  EXPECT_NE(event_text(event_json(event)).find("(until 2023-11-14T22:14:20.500Z)"), std::string::npos);
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kUnbanned);
  EXPECT_FALSE(event_json(event).contains("until"));
}

TEST_F(ViewsTest, AnEventOfClearedListsSaysHowManyEntriesWent) {
  shm::EventRow event{};
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kAclsCleared);
  event.count = 2;
  event.detail = 3;
  const ShownJson json = event_json(event);
  EXPECT_EQ(json["event"], "acls_cleared");
  EXPECT_EQ(json["bans"], 2);
  EXPECT_EQ(json["greylistings"], 3);
  EXPECT_FALSE(json.contains("detail"));
}

TEST_F(ViewsTest, AnEventOfAClearedGreylistAndOneOfAnImportSayHowManyEntries) {
  shm::EventRow event{};
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kGreylistCleared);
  event.count = 1;
  event.detail = 3;
  ShownJson json = event_json(event);
  EXPECT_EQ(json["event"], "greylist_cleared");
  EXPECT_EQ(json["greylistings"], 3);
  EXPECT_NE(event_text(json).find("(greylistings: 3)"), std::string::npos) << event_text(json);
  event.kind = static_cast<std::uint32_t>(shm::EventKind::kAclsImported);
  event.count = 4;
  event.detail = 0;
  json = event_json(event);
  EXPECT_EQ(json["event"], "acls_imported");
  EXPECT_EQ(json["entries"], 4);
  EXPECT_NE(event_text(json).find("(entries: 4)"), std::string::npos) << event_text(json);
}

TEST_F(ViewsTest, WhyTellsOfListsThatWereEmptiedWhileAnAddressStoodInThem) {
  const auto happened = [&](shm::EventKind kind, Reason reason, const char* where) {
    shm::EventRow event{};
    event.kind = static_cast<std::uint32_t>(kind);
    event.reason = static_cast<std::uint32_t>(reason);
    event.count = where != nullptr ? 1 : 7;
    event.has_address = where != nullptr ? 1 : 0;
    if (where != nullptr) event.address = address(where);
    events_.append(event);
  };
  using shm::EventKind;
  happened(EventKind::kGreylistCleared, Reason::kNone, nullptr);
  happened(EventKind::kGreylisted, Reason::kBadLength, "10.0.0.9");
  happened(EventKind::kGreylisted, Reason::kBadLength, "10.0.0.8");
  happened(EventKind::kGreylistCleared, Reason::kNone, nullptr);
  happened(EventKind::kAclsCleared, Reason::kNone, nullptr);
  happened(EventKind::kBanned, Reason::kBanned, "10.0.0.9");
  happened(EventKind::kGreylistCleared, Reason::kNone, nullptr);
  happened(EventKind::kAclsCleared, Reason::kNone, nullptr);
  happened(EventKind::kBanned, Reason::kBanned, "10.0.0.9");
  happened(EventKind::kUnbanned, Reason::kNone, "10.0.0.9");
  happened(EventKind::kAclsCleared, Reason::kNone, nullptr);
  schema::AclSubject subject;
  subject.prefix = *parse_prefix("10.0.0.9");

  const Json why = why_json(tables_, subject, 0);

  std::vector<std::uint64_t> numbers;
  for (const Json& event : why["events"]) numbers.push_back(event["number"]);
  EXPECT_EQ(numbers, (std::vector<std::uint64_t>{10, 9, 8, 6, 4, 2})) << why["events"];
  for (const Json& count : why["counts"]) {
    if (count["event"] != "acls_cleared") continue;
    EXPECT_EQ(count["count"], 1) << "once, however many entries went";
  }
}

TEST_F(ViewsTest, WhyGathersWhatTheTablesHaveAboutAnAddress) {
  auto writer = *shm::ListsWriter::map(descriptors_[5].get(), {.grey = 8});
  const std::int64_t now = wall_now_ms();
  auto ban = shm::ListEntry::of(shm::AclList::kBlack, *parse_prefix("10.0.0.0/8"));
  ban.set_text("port scans");
  auto grey = shm::ListEntry::of(shm::AclList::kGrey, *parse_prefix("10.0.0.9"));
  grey.reason = Reason::kBadLength;
  grey.until_ms = now + 3'600'000;
  ASSERT_TRUE(writer.add(ban, now));
  ASSERT_TRUE(writer.add(grey, now));
  pool_.slot(0).write(running(2, true));
  shm::PointRow point{};
  point.used = 1;
  point.address = address("10.0.0.9");
  point.port = 9732;
  point.reconnect_delay_ms = 1500;
  pool_.point(0).write(point);
  point.port = 9733;
  pool_.point(1).write(point);
  for (int i = 0; i < 60; ++i) {
    shm::EventRow event{};
    event.kind = static_cast<std::uint32_t>(shm::EventKind::kRefused);
    event.reason = static_cast<std::uint32_t>(Reason::kBanned);
    event.count = 2;
    event.time_ms = 1700000000000 + i;
    event.has_address = 1;
    event.address = address(i % 6 == 5 ? "10.0.0.8" : "10.0.0.9");
    events_.append(event);
  }
  schema::AclSubject subject;
  subject.prefix = *parse_prefix("10.0.0.9");

  const Json why = why_json(tables_, subject, 9732);

  EXPECT_EQ(why["subject"], "10.0.0.9:9732");
  EXPECT_EQ(why["summary"].get<std::string>().rfind("would be refused: banned as 10.0.0.0/8 since ", 0), 0U) << why;
  EXPECT_EQ(why["banned"], true);
  EXPECT_EQ(why["list"], "blacklist");
  EXPECT_EQ(why["reason"], "port scans");
  ASSERT_EQ(why["entries"].size(), 2U) << why;
  EXPECT_EQ(why["entries"][1]["list"], "greylist");
  EXPECT_EQ(why["entries"][1]["reason"], "bad_length");
  ASSERT_EQ(why["points"].size(), 1U) << why;
  EXPECT_EQ(why["points"][0][0], "10.0.0.9:9732");
  EXPECT_EQ(why["points"][0][1]["banned"], true);
  EXPECT_EQ(why["points"][0][1]["reconnection_delay"], 1.5);
  EXPECT_EQ(why["events"].size(), kWhyEvents);
  EXPECT_EQ(why["events"][0]["time"], "2023-11-14T22:13:20.058Z");
  ASSERT_EQ(why["counts"].size(), 1U) << why;
  EXPECT_EQ(why["counts"][0]["count"], 100);

  subject.prefix = *parse_prefix("192.0.2.1");
  const Json nothing = why_json(tables_, subject, 0);
  EXPECT_EQ(nothing["summary"], "would be let in: no list refuses it; nothing else is known about it");
  EXPECT_EQ(nothing["banned"], false);
  EXPECT_EQ(nothing["list"], nullptr);
}

TEST_F(ViewsTest, WhyKnowsTheNodeItself) {
  write_node();
  schema::AclSubject subject;
  subject.peer_id = peer(1);
  EXPECT_EQ(why_json(tables_, subject, 0)["summary"], "is this node itself");
  subject.peer_id = peer(2);
  EXPECT_NE(why_json(tables_, subject, 0)["summary"], "is this node itself");
  subject = {std::nullopt, *parse_prefix("127.0.0.1")};
  EXPECT_EQ(why_json(tables_, subject, 9732)["summary"], "is this node itself");
  EXPECT_NE(why_json(tables_, subject, 9733)["summary"], "is this node itself");
  EXPECT_NE(why_json(tables_, subject, 0)["summary"], "is this node itself") << "others may live there";
}

TEST(Output, SizesAndAgesAreShort) {
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(1023), "1023 B");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(age_text(0, 5000), "-");
  EXPECT_EQ(age_text(5000, 4000), "now");
  EXPECT_EQ(age_text(1000, 66000), "1m 5s");
  EXPECT_EQ(age_text(1, 90061001), "1d 1h");
  EXPECT_EQ(ago_text(5000, 5000), "just now");
  EXPECT_EQ(ago_text(1000, 66000), "1m 5s ago");
}

TEST(Output, TablesLineUp) {
  TextTable table({"A", "BB", "C"}, {1});
  table.add({"xxx", "1", "y"});
  EXPECT_EQ(table.text(), "A    BB  C\nxxx   1  y\n");
}

}  // namespace
}  // namespace bulkhead::cli
