#include "bulkhead/application.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <numeric>
#include <thread>

#include "base/address.h"
#include "base/unix_socket.h"
#include "schema/channel.h"
#include "tests/unit/shm/link_fixture.h"

// The application library against a node that the test plays: real sockets and links, one process.

namespace bulkhead::client {
namespace {

using shm::test::must;
using shm::test::TestLink;
using Bytes = std::vector<std::uint8_t>;

Bytes pattern(std::size_t size, std::uint8_t first = 1) {
  Bytes bytes(size);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

PeerId peer(std::uint8_t number) {
  PeerId id{};
  id.fill(number);
  return id;
}

class ApplicationTest : public testing::Test {
 protected:
  ApplicationTest() {
    std::string name = std::filesystem::temp_directory_path() / "bulkhead-client-XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    std::filesystem::create_directory(directory_ + "/run");
    listener_ = must(listen_unix(directory_ + "/run", "app.sock", 0600));
  }
  ~ApplicationTest() override { std::filesystem::remove_all(directory_); }

  /// Attaches while the node answers with `answer`.
  Result<std::unique_ptr<Application>> attach_with(const std::function<void()>& answer, Options options = {}) {
    auto attached = std::async(std::launch::async, [&] { return Application::attach(directory_, options); });
    pollfd ready{listener_.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&ready, 1, 20000), 1);
    node_ = schema::Channel(UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)),
                            schema::kMaximumWorkerPacket);
    schema::Descriptors descriptors;
    auto request = must(schema::receive_blocking<schema::FromApplication>(node_, descriptors, 20000));
    EXPECT_EQ(request, schema::FromApplication(schema::Attach{1, options.receive, options.send}));
    answer();
    return attached.get();
  }
  void attach(Options options = {}) {
    application_ = must(attach_with(
        [&] {
          const int given[] = {link_.taken_fd.get(), link_.outward_fd.get()};
          must(node_.send(
              schema::ToApplication(schema::Attached{peer(99), TestLink::kSlots, link_.geometry.inward_capacity,
                                                     link_.geometry.outward_capacity}),
              given));
        },
        options));
  }
  void connect(std::uint8_t number = 1) { connect(number, {link_.geometry.slot, link_.geometry.generation}); }
  void connect(std::uint8_t number, SlotRef slot) { connect(number, slot, link_); }
  void connect(std::uint8_t number, SlotRef slot, const TestLink& link) {
    schema::AppConnected message;
    message.slot = slot;
    message.peer_id = peer(number);
    message.announcement = {9732, "TEST", 2, 1};
    message.metadata = {false, true};
    const int given[] = {link.worker->inward_fd(), link.to_application.get(), link.to_worker.get()};
    must(node_.send(schema::ToApplication(message), given));
  }
  void disconnect(Reason reason, std::uint8_t number = 1) {
    must(node_.send(schema::ToApplication(
        schema::AppDisconnected{{link_.geometry.slot, link_.geometry.generation}, peer(number), reason})));
  }
  /// What the application asked the node for, or nothing.
  std::optional<schema::FromApplication> asked() {
    schema::Descriptors descriptors;
    auto message = node_.receive<schema::FromApplication>(descriptors);
    if (!message) return std::nullopt;
    return std::move(*message);
  }
  template <typename Kind>
  Kind next() {
    auto event = application_->next();
    if (!event) {
      EXPECT_TRUE(application_->wait(std::chrono::seconds(20)));
      event = application_->next();
    }
    EXPECT_TRUE(event);
    if (!event || !std::holds_alternative<Kind>(*event)) {
      ADD_FAILURE() << "another event, number " << (event ? static_cast<int>(event->index()) : -1);
      return {};
    }
    return std::get<Kind>(std::move(*event));
  }
  void put(std::uint16_t tag, const Bytes& body) {
    ASSERT_TRUE(shm::test::put_inward(*link_.worker, tag, body));
    link_.worker->publish_inward();
  }
  Bytes take_outward() {
    const auto bytes = must(link_.worker->readable_outward());
    Bytes copy(bytes.size());
    if (!bytes.empty()) std::memcpy(copy.data(), bytes.data(), bytes.size());
    link_.worker->outward().consume(bytes.size());
    link_.worker->publish_outward();
    return copy;
  }

  TestLink link_;
  std::string directory_;
  UniqueFd listener_;
  schema::Channel node_;
  std::unique_ptr<Application> application_;
};

TEST_F(ApplicationTest, SaysThatNoNodeRunsThere) {
  const auto attached = Application::attach(directory_ + "/nothing");
  ASSERT_FALSE(attached);
  EXPECT_EQ(attached.error().code, ErrorCode::kNotFound);
}

TEST_F(ApplicationTest, PassesOnWhyItWasRefused) {
  const auto attached = attach_with([&] {
    must(node_.send(schema::ToApplication(schema::AttachRefused{"the receiving side is held by process 7", 7})));
  });
  ASSERT_FALSE(attached);
  EXPECT_EQ(attached.error().code, ErrorCode::kRefused);
  EXPECT_EQ(attached.error().text, "the receiving side is held by process 7");
}

TEST_F(ApplicationTest, IsRefusedByANodeThatClosesOrTalksOutOfTurn) {
  EXPECT_FALSE(attach_with([&] { node_.close(); }));
  EXPECT_FALSE(attach_with([&] { disconnect(Reason::kKicked); }));
}

TEST_F(ApplicationTest, LearnsOfConnectionsAndTheirMessages) {
  attach();
  EXPECT_EQ(application_->own_peer_id(), peer(99));
  EXPECT_FALSE(application_->next());
  put(0x10, pattern(5));
  connect();
  const auto connected = next<Connected>();
  EXPECT_EQ(connected.connection.peer_id, peer(1));
  EXPECT_EQ(connected.connection.chain_name, "TEST");
  EXPECT_TRUE(connected.connection.private_node);
  EXPECT_EQ(application_->connections().size(), 1U);
  const auto message = next<MessageReceived>();
  EXPECT_EQ(message.peer_id, peer(1));
  EXPECT_EQ(message.tag, 0x10);
  EXPECT_EQ(message.body, pattern(5));
  EXPECT_FALSE(application_->next());
}

TEST_F(ApplicationTest, IsWokenByAMessageThroughItsDescriptorAlone) {
  attach();
  connect();
  next<Connected>();
  while (application_->next()) {
  }
  put(0x10, pattern(5));
  pollfd ready{application_->fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 20000), 1);
  EXPECT_EQ(next<MessageReceived>().body, pattern(5));
}

TEST_F(ApplicationTest, IsToldOfAGap) {
  attach();
  connect();
  next<Connected>();
  ASSERT_TRUE(must(link_.worker->put_gap(12)));
  link_.worker->publish_inward();
  const auto gap = next<Gap>();
  EXPECT_EQ(gap.peer_id, peer(1));
  EXPECT_EQ(gap.messages, 12U);
}

TEST_F(ApplicationTest, HearsOfTheEndAfterTheLastMessage) {
  attach();
  connect();
  next<Connected>();
  put(0x10, pattern(1));
  put(0x11, pattern(2));
  disconnect(Reason::kClosedByPeer);
  EXPECT_EQ(next<MessageReceived>().tag, 0x10);
  EXPECT_EQ(next<MessageReceived>().tag, 0x11);
  EXPECT_EQ(next<Disconnected>().reason, Reason::kClosedByPeer);
  EXPECT_FALSE(application_->next());
  EXPECT_TRUE(application_->connections().empty());
  EXPECT_EQ(application_->try_send(peer(1), 0x10, {}).error().code, ErrorCode::kNotFound);
}

// The new link's Connected, its messages and its end wait until the old one's messages and end were taken.
TEST_F(ApplicationTest, HearsOfAPeersNextConnectionAfterTheEndOfTheFormer) {
  attach();
  connect();
  next<Connected>();
  while (application_->next()) {
  }
  put(0x10, pattern(1));
  disconnect(Reason::kClosedByPeer);
  TestLink second(16384, 16384, 2, 9);
  ASSERT_TRUE(shm::test::put_inward(*second.worker, 0x11, pattern(2)));
  second.worker->publish_inward();
  connect(1, {2, 9}, second);
  must(node_.send(schema::ToApplication(schema::AppDisconnected{{2, 9}, peer(1), Reason::kKicked})));
  TestLink third(16384, 16384, 0, 4);
  connect(1, {0, 4}, third);

  EXPECT_EQ(next<MessageReceived>().tag, 0x10);
  EXPECT_EQ(next<Disconnected>().reason, Reason::kClosedByPeer);
  next<Connected>();
  EXPECT_EQ(next<MessageReceived>().tag, 0x11);
  EXPECT_EQ(next<Disconnected>().reason, Reason::kKicked);
  next<Connected>();
  EXPECT_FALSE(application_->next());
  EXPECT_EQ(application_->connections().size(), 1U);
  EXPECT_TRUE(must(application_->try_send(peer(1), 0x10, pattern(1))));
}

TEST_F(ApplicationTest, KeepsNoPeerWaitingForTheLostEndOfItsFormerConnection) {
  attach();
  connect();
  next<Connected>();
  TestLink second(16384, 16384, 2, 9);
  connect(1, {2, 9}, second);

  EXPECT_EQ(next<Disconnected>().reason, Reason::kControllerRestarted);
  next<Connected>();
  disconnect(Reason::kClosedByPeer);
  EXPECT_FALSE(application_->next());
  EXPECT_EQ(application_->connections().size(), 1U);
}

TEST_F(ApplicationTest, IgnoresAConnectionThatIsToldTwice) {
  attach();
  connect();
  connect();
  next<Connected>();
  put(0x10, pattern(1));
  next<MessageReceived>();
  EXPECT_FALSE(application_->next());
  EXPECT_FALSE(asked());
}

TEST_F(ApplicationTest, AsksForTheEndOfAConnectionWhoseLinkIsNotWhatItShouldBe) {
  attach();
  const SlotRef other{link_.geometry.slot, link_.geometry.generation + 1};
  connect(1, other);
  EXPECT_FALSE(application_->next());
  EXPECT_EQ(asked(), schema::FromApplication(schema::AppDisconnect{other, false}));
  connect(1, {TestLink::kSlots, 1});
  EXPECT_FALSE(application_->next());
}

TEST_F(ApplicationTest, GivesAConnectionUpWhoseWorkerBreaksTheRing) {
  attach();
  connect();
  next<Connected>();
  // A message without a tag, which no worker that keeps the contract writes.
  ASSERT_TRUE(shm::test::produce_inward(*link_.worker, shm::test::head_of(1, 0)));
  link_.worker->publish_inward();
  EXPECT_EQ(next<Disconnected>().reason, Reason::kChannelFault);
  EXPECT_EQ(asked(),
            schema::FromApplication(schema::AppDisconnect{{link_.geometry.slot, link_.geometry.generation}, false}));
}

TEST_F(ApplicationTest, EndsAConnectionWhoseMessagesAreLargerThanItWants) {
  Options options;
  options.maximum_body = 10;
  attach(options);
  connect();
  next<Connected>();
  put(0x10, pattern(10));
  EXPECT_EQ(next<MessageReceived>().body.size(), 10U);
  put(0x10, pattern(11));
  EXPECT_EQ(next<Disconnected>().reason, Reason::kChannelFault);
}

TEST_F(ApplicationTest, SendsAndSaysWhenThereIsNoRoom) {
  attach();
  connect();
  next<Connected>();
  EXPECT_EQ(application_->try_send(peer(2), 0x10, {}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(application_->try_send(peer(1), 0x0f, {}).error().code, ErrorCode::kInvalid);
  EXPECT_TRUE(must(application_->try_send(peer(1), 0x1234, Bytes{0xaa})));
  EXPECT_EQ(take_outward(), (Bytes{0, 0, 0, 3, 0x12, 0x34, 0xaa}));
  int sent = 0;
  while (must(application_->try_send(peer(1), 0x10, pattern(1000))) && sent < 1000) ++sent;
  EXPECT_EQ(sent, 16);
  const auto timed_out = application_->send(peer(1), 0x10, pattern(1000), std::chrono::milliseconds(1));
  ASSERT_FALSE(timed_out);
  EXPECT_EQ(timed_out.error().code, ErrorCode::kWouldBlock);
  EXPECT_EQ(application_->connections().size(), 1U) << "nothing of that message went, so the connection stays";
  take_outward();
  pollfd ready{application_->fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 20000), 1) << "room makes the descriptor readable";
  EXPECT_TRUE(application_->send(peer(1), 0x10, pattern(1000), std::chrono::seconds(20)));
}

TEST_F(ApplicationTest, StreamsAMessageLargerThanTheRingWhileTheWorkerTakesIt) {
  attach();
  connect();
  next<Connected>();
  const Bytes body = pattern(100000);
  auto sending = std::async(std::launch::async,
                            [&] { return application_->send(peer(1), 0x10, body, std::chrono::seconds(60)).ok(); });
  Bytes got;
  while (got.size() < 6 + body.size()) {
    const Bytes more = take_outward();
    got.insert(got.end(), more.begin(), more.end());
    std::this_thread::yield();
  }
  EXPECT_TRUE(sending.get());
  EXPECT_TRUE(std::equal(body.begin(), body.end(), got.begin() + 6, got.end()));
}

TEST_F(ApplicationTest, ClosesTheConnectionWhenALargeMessageStaysHalfSent) {
  attach();
  connect();
  next<Connected>();
  const auto sent = application_->send(peer(1), 0x10, pattern(100000), std::chrono::milliseconds(1));
  ASSERT_FALSE(sent);
  EXPECT_EQ(asked(),
            schema::FromApplication(schema::AppDisconnect{{link_.geometry.slot, link_.geometry.generation}, false}));
}

TEST_F(ApplicationTest, HasOnlyTheSideThatItAskedFor) {
  Options options;
  options.send = false;
  attach(options);
  connect();
  next<Connected>();
  EXPECT_EQ(application_->try_send(peer(1), 0x10, {}).error().code, ErrorCode::kRefused);
  EXPECT_FALSE(link_.worker->sender_seen());
  put(0x10, {});
  next<MessageReceived>();
}

TEST_F(ApplicationTest, LeavesTheReceivingSideAloneWhenItOnlySends) {
  Options options;
  options.receive = false;
  attach(options);
  connect();
  next<Connected>();
  put(0x10, {});
  EXPECT_FALSE(application_->next());
  EXPECT_FALSE(link_.worker->receiver_seen());
  EXPECT_TRUE(must(application_->try_send(peer(1), 0x10, {})));
}

TEST_F(ApplicationTest, AsksTheNodeToDisconnect) {
  attach();
  connect();
  next<Connected>();
  EXPECT_EQ(application_->disconnect(peer(2)).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(application_->disconnect(peer(1), true));
  EXPECT_EQ(asked(),
            schema::FromApplication(schema::AppDisconnect{{link_.geometry.slot, link_.geometry.generation}, true}));
}

TEST_F(ApplicationTest, TellsTheNodeWhatItThinksOfPeers) {
  attach();
  const Address address = parse_address("192.0.2.7").value();
  EXPECT_TRUE(application_->greylist_address(address));
  EXPECT_EQ(asked(), schema::FromApplication(schema::AppGreylistAddress{address}));
  EXPECT_TRUE(application_->greylist_peer(peer(1)));
  EXPECT_EQ(asked(), schema::FromApplication(schema::AppGreylistPeer{peer(1)}));
  EXPECT_TRUE(application_->set_score(peer(2), -0.5));
  EXPECT_EQ(asked(), schema::FromApplication(schema::AppScore{peer(2), -0.5}));
  EXPECT_EQ(application_->set_score(peer(2), std::nan("")).error().code, ErrorCode::kInvalid);
  EXPECT_TRUE(application_->maintain());
  EXPECT_EQ(asked(), schema::FromApplication(schema::AppMaintain{}));
  node_.close();
  next<Detached>();
  EXPECT_EQ(application_->maintain().error().code, ErrorCode::kClosed);
}

TEST_F(ApplicationTest, HearsOfTheNodesEndAfterThatOfEachConnection) {
  attach();
  connect();
  next<Connected>();
  put(0x10, pattern(3));
  node_.close();
  EXPECT_EQ(next<MessageReceived>().body, pattern(3));
  EXPECT_EQ(next<Disconnected>().reason, Reason::kNodeStopping);
  next<Detached>();
  EXPECT_FALSE(application_->next());
  EXPECT_FALSE(application_->disconnect(peer(1)));
}

}  // namespace
}  // namespace bulkhead::client
