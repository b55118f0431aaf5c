#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <future>
#include <string>
#include <vector>

#include "tests/integration/fixture.h"

namespace bulkhead::testing {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::string_literals;

struct Versions {
  std::uint16_t distributed_db;
  std::uint16_t p2p;
};

constexpr Versions kVersions[] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {2, 0}, {2, 1}, {9, 7}};

PeerOptions with_versions(Versions versions) {
  PeerOptions options;
  options.distributed_db_version = versions.distributed_db;
  options.p2p_version = versions.p2p;
  return options;
}

/// Carries bytes both ways until one side ends.
Result<void> relay_bytes(int one, int other) {
  std::array<char, 4096> buffer{};
  for (;;) {
    pollfd items[2] = {{one, POLLIN, 0}, {other, POLLIN, 0}};
    if (::poll(items, 2, 10'000) <= 0) return Error{ErrorCode::kWouldBlock, "nothing to relay, and nobody ended"};
    for (int i = 0; i < 2; ++i) {
      if (items[i].revents == 0) continue;
      const ssize_t got = ::recv(items[i].fd, buffer.data(), buffer.size(), 0);
      if (got <= 0) return {};
      ::send(items[1 - i].fd, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL);
    }
  }
}

/// A peer that listens and waits to be dialled by a node.
struct Responder {
  explicit Responder(PeerOptions options = {}) : peer(std::move(options)) {
    auto opened = Listener::open(fresh_address());
    if (opened) {
      listener = std::move(*opened);
    } else {
      ADD_FAILURE() << opened.error().text;
    }
  }
  const std::string& point() const { return listener.point(); }
  std::string address() const { return host_of(point()); }

  /// The node may dial at any time within this.
  Result<void> accept() {
    peer.options().timeout = kPeerTimeout * kPatience;
    return peer.accept(listener);
  }

  Listener listener;
  Peer peer;
};

class Handshake : public NodeTest {
 protected:
  /// Dials and goes through the handshake up to the metadata of both sides.
  void introduce(Peer& peer) {
    const auto dialled = node_->dial(peer);
    ASSERT_TRUE(dialled) << dialled.error().text;
    const auto done = peer.introduce();
    ASSERT_TRUE(done) << done.error().text << "\n" << node_->events();
  }

  /// The node's answer to a peer that does all right is a Nack, in the style that the peer understands.
  void expect_nack(Peer& peer, std::int16_t motive, AckMessage* nack = nullptr) {
    const auto dialled = node_->dial(peer);
    ASSERT_TRUE(dialled) << dialled.error().text;
    const auto answer = peer.negotiate();
    ASSERT_TRUE(answer) << answer.error().text << "\n" << node_->events();
    if (peer.options().p2p_version == 0) {
      EXPECT_EQ(answer->kind, AckKind::kNackV0);
    } else {
      EXPECT_EQ(answer->kind, AckKind::kNack);
      EXPECT_EQ(answer->motive, motive);
      EXPECT_LE(answer->points.size(), 50u);
    }
    if (nack != nullptr) *nack = *answer;
  }

  /// The node ends each of these connections for this reason, and sends nothing more. They may end late, so that they
  /// are looked at when all have been provoked.
  void expect_all_ended(std::deque<Peer>& peers, const Reasons& reasons) {
    for (Peer& peer : peers) {
      EXPECT_TRUE(expect_ended(peer, reasons).empty()) << "bytes behind the last word";
      EXPECT_TRUE(node_->connection(peer.peer_id()).is_null() || peer.peer_id() == witness_->peer_id());
    }
  }
};

// ---- accepted ----

TEST_F(Handshake, AcceptsPeersOfEveryVersionThatDial) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::deque<Peer> peers;
  for (const Versions versions : kVersions) {
    peers.push_back(node_->make_peer(with_versions(versions)));
    ASSERT_NO_FATAL_FAILURE(shake_hands(peers.back())) << versions.distributed_db << " " << versions.p2p;
  }

  for (Peer& peer : peers) {
    const Json row = node_->connection(peer.peer_id());
    ASSERT_TRUE(row.is_object());
    EXPECT_EQ(row["incoming"], true);
    EXPECT_EQ(row["announced_version"]["chain_name"], "TEZOS_MAINNET");
    if (peer.options().distributed_db_version <= 2) {
      EXPECT_EQ(row["announced_version"]["distributed_db_version"], peer.options().distributed_db_version);
      EXPECT_EQ(row["announced_version"]["p2p_version"], peer.options().p2p_version);
    }
    EXPECT_EQ(check_alive(*node_, peer), "");
  }
}

TEST_F(Handshake, DialsConfiguredPeersOfEveryVersion) {
  std::deque<Responder> responders;
  NodeOptions options;
  for (const Versions versions : kVersions) {
    responders.emplace_back(with_versions(versions));
    options.arguments.insert(options.arguments.end(), {"--peer", responders.back().point()});
  }
  std::vector<std::future<Result<void>>> handshakes;
  for (Responder& responder : responders) {
    handshakes.push_back(std::async(std::launch::async, [&responder] {
      auto done = responder.accept();
      return done ? responder.peer.handshake() : done;
    }));
  }

  ASSERT_NO_FATAL_FAILURE(start_alone(options));

  for (std::size_t i = 0; i < responders.size(); ++i) {
    const auto done = handshakes[i].get();
    ASSERT_TRUE(done) << done.error().text << "\n" << node_->events();
    ASSERT_TRUE(node_->wait_connected(responders[i].peer.peer_id())) << node_->events();
    const Json row = node_->connection(responders[i].peer.peer_id());
    EXPECT_EQ(row["incoming"], false);
    EXPECT_EQ(row["trusted"], true) << "a configured peer is trusted";
    EXPECT_TRUE(mentions_point(row["id_point"], responders[i].point())) << row;
    EXPECT_EQ(check_alive(*node_, responders[i].peer), "");
  }
}

TEST_F(Handshake, DialsAtTheCommandConnectAddress) {
  ASSERT_NO_FATAL_FAILURE(start());
  Responder responder;
  auto handshake = std::async(std::launch::async, [&] {
    auto done = responder.accept();
    return done ? responder.peer.handshake() : done;
  });

  const auto command = node_->cli({"connect", "address", responder.point()});

  const auto done = handshake.get();
  ASSERT_TRUE(done) << done.error().text << command << node_->events();
  EXPECT_EQ(command.exit_status, 0) << command;
  ASSERT_TRUE(node_->wait_connected(responder.peer.peer_id())) << node_->events();
  EXPECT_EQ(node_->connection(responder.peer.peer_id())["incoming"], false);
  EXPECT_EQ(check_alive(*node_, responder.peer), "");
}

TEST_F(Handshake, AnnouncesWhatItIs) {
  ASSERT_NO_FATAL_FAILURE(start_alone({.arguments = {"--disable-mempool", "--chain-name", "TEZOS_LAB"}}));
  PeerOptions options;
  options.chain_name = "TEZOS_LAB";
  Peer peer = node_->make_peer(options);
  ASSERT_TRUE(node_->dial(peer));

  ASSERT_TRUE(peer.send_connection_message());
  ASSERT_TRUE(peer.read_connection_message());
  ASSERT_TRUE(peer.send_metadata());
  const auto metadata = peer.read_metadata();

  EXPECT_EQ(peer.remote().chain_name, "TEZOS_LAB");
  EXPECT_EQ(peer.remote().distributed_db_version, 2);
  EXPECT_EQ(peer.remote().p2p_version, 1);
  EXPECT_EQ(peer.remote().port, node_->port());
  EXPECT_EQ(peer.remote_peer_id(), node_->peer_id());
  EXPECT_TRUE(proof_of_work_holds(peer.remote().public_key, peer.remote().stamp, 1));
  ASSERT_TRUE(metadata) << metadata.error().text;
  EXPECT_TRUE(metadata->disable_mempool);
  EXPECT_FALSE(metadata->private_node);
}

TEST_F(Handshake, AnnouncesTheAdvertisedPortAndAFreshNonceEachTime) {
  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--advertised-net-port", "19732"}}));
  Peer other = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(other));

  EXPECT_EQ(other.remote().port, 19732);
  EXPECT_NE(other.remote().nonce, witness_->remote().nonce);
}

TEST_F(Handshake, ReadsAHandshakeThatComesByteByByte) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_TRUE(node_->dial(peer));
  const Bytes message = peer.connection_message();
  ASSERT_TRUE(peer.trickle(message, Milliseconds(1)));
  peer.assume_sent(message);
  ASSERT_TRUE(peer.read_connection_message());

  const Bytes metadata = peer.seal(encode_metadata({}));
  ASSERT_TRUE(peer.trickle(metadata, Milliseconds(1)));
  const Bytes ack = peer.seal(encode_ack({}));
  ASSERT_TRUE(peer.trickle(ack, Milliseconds(1)));

  ASSERT_TRUE(peer.read_metadata());
  const auto answer = peer.read_ack();
  ASSERT_TRUE(answer) << answer.error().text << "\n" << node_->events();
  EXPECT_EQ(answer->kind, AckKind::kAck);
}

TEST_F(Handshake, TakesAnyNonZeroByteOfMetadataForTrue) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_TRUE(node_->dial(peer));
  ASSERT_TRUE(peer.send_connection_message());
  ASSERT_TRUE(peer.read_connection_message());

  ASSERT_TRUE(peer.send_chunk(from_hex("0007")));
  ASSERT_TRUE(peer.read_metadata());
  ASSERT_TRUE(peer.send_ack());
  const auto answer = peer.read_ack();

  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_EQ(answer->kind, AckKind::kAck);
  ASSERT_TRUE(node_->wait_connected(peer.peer_id()));
  EXPECT_EQ(node_->connection(peer.peer_id())["private"], true);
}

// ---- refused before the proof of work ----

TEST_F(Handshake, ClosesOnBadProofOfWorkWithoutAProcess) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t nursery = node_->service_pid("nursery");
  ASSERT_GT(nursery, 0);
  const auto before = children_of(nursery);
  PeerOptions options;
  options.bad_stamp = true;
  Peer peer = node_->make_peer(options);
  ASSERT_TRUE(node_->dial(peer));

  ASSERT_TRUE(peer.send_connection_message());

  EXPECT_TRUE(expect_ended(peer, "not_enough_proof_of_work").empty()) << "a worker answered";
  EXPECT_EQ(children_of(nursery), before);
}

TEST_F(Handshake, ForksNoProcessBeforeTheProofOfWorkIsThere) {
  ASSERT_NO_FATAL_FAILURE(start());
  const pid_t nursery = node_->service_pid("nursery");
  ASSERT_GT(nursery, 0);
  const std::size_t before = children_of(nursery).size();
  std::deque<Peer> waiting;
  for (const std::size_t sent : {0u, 1u, 2u, 3u, 20u, 59u, 59u, 59u}) {
    waiting.push_back(node_->make_peer());
    ASSERT_TRUE(node_->dial(waiting.back()));
    ASSERT_TRUE(waiting.back().send_raw(ByteView(waiting.back().connection_message()).first(sent)));
  }
  // The backlog is a queue: once this one is through, the node has accepted those before it.
  Peer last = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(shake_hands(last));

  EXPECT_EQ(children_of(nursery).size(), before + 1);

  // The sixtieth byte is worth a process; the rest of the message follows.
  Peer& next = waiting.back();
  ASSERT_TRUE(next.send_raw(ByteView(next.connection_message()).subspan(59)));
  next.assume_sent(next.connection_message());
  ASSERT_TRUE(next.read_connection_message()) << node_->events();
  EXPECT_EQ(children_of(nursery).size(), before + 2);
}

TEST_F(Handshake, ClosesOnALengthOutsideTheLimits) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const std::string_view length : {"0000", "0059", "03ff", "ffff"}) {
    Peer peer = node_->make_peer();
    ASSERT_TRUE(node_->dial(peer));

    ASSERT_TRUE(peer.send_raw(from_hex(length)));

    EXPECT_TRUE(expect_ended(peer, "bad_length").empty()) << length;
  }
}

TEST_F(Handshake, ClosesOnEndOfStreamResetAndUrgentDataBeforeTheProof) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer silent = node_->make_peer();
  ASSERT_TRUE(node_->dial(silent));
  ASSERT_TRUE(silent.half_close());
  expect_ended(silent, "closed_before_proof");

  Peer half_way = node_->make_peer();
  ASSERT_TRUE(node_->dial(half_way));
  ASSERT_TRUE(half_way.send_raw(ByteView(half_way.connection_message()).first(30)));
  ASSERT_TRUE(half_way.half_close());
  expect_ended(half_way, "closed_before_proof");

  Peer resets = node_->make_peer();
  ASSERT_TRUE(node_->dial(resets));
  ASSERT_TRUE(resets.send_raw(ByteView(resets.connection_message()).first(30)));
  const std::string address = host_of(resets.local_point());
  resets.reset();
  expect_event({"closed_before_proof"}, address);

  Peer urgent = node_->make_peer();
  ASSERT_TRUE(node_->dial(urgent));
  ASSERT_TRUE(urgent.send_raw(ByteView(urgent.connection_message()).first(30)));
  ASSERT_TRUE(urgent.send_urgent('!'));
  expect_ended(urgent, {"urgent_data", "closed_before_proof"});
}

// ---- refused in the handshake ----

TEST_F(Handshake, ClosesOnAMalformedConnectionMessage) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::deque<Peer> peers;
  // The length of the chain name: beyond the message, one too many, one too few, top bit set.
  for (const std::string_view name_size : {"00000fff", "0000000e", "0000000c", "8000000d", "ffffffff"}) {
    peers.push_back(node_->make_peer());
    Bytes message = peers.back().connection_message();
    const Bytes lie = from_hex(name_size);
    std::copy(lie.begin(), lie.end(), message.begin() + 84);
    ASSERT_TRUE(node_->dial(peers.back()));
    ASSERT_TRUE(peers.back().send_connection_message(message));
  }
  for (Peer& peer : peers) expect_ended(peer, "malformed_connection_message");
}

TEST_F(Handshake, ClosesOnKeysOfLowOrder) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const Key& key : low_order_keys()) {
    PeerOptions options;
    options.identity = TestIdentity{{key, {}}, find_stamp(key, 1)};
    Peer peer = node_->make_peer(options);
    ASSERT_TRUE(node_->dial(peer));

    ASSERT_TRUE(peer.send_connection_message());

    expect_ended(peer, "weak_key");
  }
}

TEST_F(Handshake, ClosesOnMetadataThatDoesNotDecipher) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer flipped = node_->make_peer();
  ASSERT_TRUE(node_->dial(flipped));
  ASSERT_TRUE(flipped.send_connection_message());
  ASSERT_TRUE(flipped.read_connection_message());
  Bytes chunk = flipped.seal(encode_metadata({}));
  chunk.back() ^= 1;
  ASSERT_TRUE(flipped.send_raw(chunk));
  expect_ended(flipped, "decipher_error");

  Peer wrong_nonce = node_->make_peer();
  ASSERT_TRUE(node_->dial(wrong_nonce));
  ASSERT_TRUE(wrong_nonce.send_connection_message());
  ASSERT_TRUE(wrong_nonce.read_connection_message());
  wrong_nonce.seal({});
  ASSERT_TRUE(wrong_nonce.send_metadata());
  expect_ended(wrong_nonce, "decipher_error");
}

TEST_F(Handshake, ClosesOnAChunkTooShortForItsTag) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const std::size_t size : {0u, 15u}) {
    Peer peer = node_->make_peer();
    ASSERT_TRUE(node_->dial(peer));
    ASSERT_TRUE(peer.send_connection_message());
    ASSERT_TRUE(peer.read_connection_message());

    Bytes chunk = {0, static_cast<std::uint8_t>(size)};
    chunk.resize(2 + size);
    ASSERT_TRUE(peer.send_raw(chunk));

    expect_ended(peer, "invalid_ciphertext_size");
  }
}

TEST_F(Handshake, ClosesOnMetadataOfAnotherSize) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::deque<Peer> peers;
  for (const std::size_t size : {0u, 1u, 3u, 65'519u}) {
    peers.push_back(node_->make_peer());
    Peer& peer = peers.back();
    ASSERT_TRUE(node_->dial(peer));
    ASSERT_TRUE(peer.send_connection_message());
    ASSERT_TRUE(peer.read_connection_message());
    const auto sent = peer.send_chunk(Bytes(size));
    ASSERT_TRUE(sent || sent.error().code == ErrorCode::kClosed) << sent.error().text;
  }
  for (Peer& peer : peers) expect_ended(peer, {"malformed_metadata", "invalid_ciphertext_size"});
}

TEST_F(Handshake, TakesAReplayOfItsOwnConnectionMessageForADecipherError) {
  ASSERT_NO_FATAL_FAILURE(start());
  const Bytes own_message = witness_->remote_connection_message();
  Peer peer = node_->make_peer();
  ASSERT_TRUE(node_->dial(peer));

  ASSERT_TRUE(peer.send_connection_message(own_message));
  ASSERT_TRUE(peer.read_connection_message());
  ASSERT_TRUE(peer.send_metadata());

  const std::string address = host_of(peer.local_point());
  expect_ended(peer, "decipher_error");
  EXPECT_TRUE(node_->wait_event("myself", address, Milliseconds(0)).is_null()) << node_->events();
}

TEST_F(Handshake, KnowsItselfBehindAnotherAddress) {
  ASSERT_NO_FATAL_FAILURE(start());
  auto listener = Listener::open(fresh_address());
  ASSERT_TRUE(listener) << listener.error().text;
  // Whoever dials this point reaches the node.
  auto relay = std::async(std::launch::async, [&]() -> Result<void> {
    auto dialled = listener->accept(kPeerTimeout * kPatience);
    if (!dialled) return dialled.error();
    Peer back;
    if (auto done = node_->dial(back); !done) return done;
    return relay_bytes(dialled->get(), back.fd());
  });

  const auto command = node_->cli({"connect", "address", listener->point()});

  const auto done = relay.get();
  EXPECT_TRUE(done) << done.error().text;
  EXPECT_NE(command.exit_status, 0) << command;
  expect_event("myself", host_of(listener->point()));
  EXPECT_TRUE(node_->connection(node_->peer_id()).is_null());
}

TEST_F(Handshake, DoesNotDialTheAddressThatItListensOn) {
  ASSERT_NO_FATAL_FAILURE(start());

  const auto command = node_->cli({"connect", "address", node_->point()});

  EXPECT_EQ(command.exit_status, 1) << command;
  EXPECT_TRUE(node_->connection(node_->peer_id()).is_null());
}

TEST_F(Handshake, AnswersAnUnknownChainNameWithANackOfTheAnnouncedStyle) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::deque<Peer> peers;
  for (const std::uint16_t p2p_version : std::vector<std::uint16_t>{0, 1, 7}) {
    for (const std::string& name : {"TEZOS_MAINNE"s, "TEZOS_MAINNET2"s, "tezos_mainnet"s, ""s, std::string(932, 'x')}) {
      PeerOptions options;
      options.p2p_version = p2p_version;
      options.chain_name = name;
      peers.push_back(node_->make_peer(options));
      ASSERT_NO_FATAL_FAILURE(expect_nack(peers.back(), kUnknownChainName));
    }
  }
  expect_all_ended(peers, "unknown_chain_name");
}

TEST_F(Handshake, AnswersADeprecatedDistributedDbVersionWithANack) {
  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--db-versions", "2"}}));
  std::deque<Peer> peers;
  for (const Versions versions : {Versions{0, 1}, Versions{1, 1}, Versions{1, 0}}) {
    peers.push_back(node_->make_peer(with_versions(versions)));
    ASSERT_NO_FATAL_FAILURE(expect_nack(peers.back(), kDeprecatedDistributedDbVersion));
  }
  expect_all_ended(peers, "deprecated_distributed_db_version");
}

TEST_F(Handshake, AnswersTooManyConnectionsWithKnownPublicPoints) {
  PeerOptions witness;
  witness.advertised_port = 19'999;
  ASSERT_NO_FATAL_FAILURE(start(
      {.arguments = {"--min-connections", "1", "--expected-connections", "1", "--max-connections", "1"}}, witness));
  const std::string point = host_of(witness_->local_point()) + ":19999";
  std::deque<Peer> peers;
  AckMessage nack;
  peers.push_back(node_->make_peer());
  ASSERT_NO_FATAL_FAILURE(expect_nack(peers.back(), kTooManyConnections, &nack));
  peers.push_back(node_->make_peer(with_versions({2, 0})));
  ASSERT_NO_FATAL_FAILURE(expect_nack(peers.back(), kTooManyConnections));

  expect_all_ended(peers, "too_many_connections");
  EXPECT_NE(std::find(nack.points.begin(), nack.points.end(), point), nack.points.end())
      << point << " is a known public point";
}

TEST_F(Handshake, AnswersASecondConnectionOfAPeerWithANack) {
  PeerOptions options;
  options.identity = fresh_identity(1);
  ASSERT_NO_FATAL_FAILURE(start({}, options));
  std::deque<Peer> peers;
  for (const std::uint16_t p2p_version : std::vector<std::uint16_t>{1, 0}) {
    options.p2p_version = p2p_version;
    peers.push_back(node_->make_peer(options));
    ASSERT_NO_FATAL_FAILURE(expect_nack(peers.back(), kAlreadyConnected));
  }
  expect_all_ended(peers, "already_connected");
  EXPECT_FALSE(node_->connection(witness_->peer_id()).is_null());
}

TEST_F(Handshake, IsSilentWhenTheDialledPeerIsNotTheExpectedOne) {
  Responder wrong;
  Responder right;
  Peer somebody;
  const auto be_called = [&]() -> Result<Ending> {
    if (auto done = wrong.accept(); !done) return done.error();
    if (auto done = wrong.peer.introduce(); !done) return done.error();
    return wrong.peer.read_until_closed();
  };
  auto silence = std::async(std::launch::async, be_called);
  auto handshake = std::async(std::launch::async, [&] {
    auto done = right.accept();
    return done ? right.peer.handshake() : done;
  });

  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--peer", wrong.point() + "#" + somebody.peer_id(), "--peer",
                                               right.point() + "#" + right.peer.peer_id()}}));

  const auto ending = silence.get();
  ASSERT_TRUE(ending) << ending.error().text << "\n" << node_->events();
  EXPECT_TRUE(ending->bytes.empty()) << "neither ack nor nack: " << to_hex(ending->bytes);
  expect_event({"unexpected_peer_id"}, wrong.address());
  const auto done = handshake.get();
  EXPECT_TRUE(done) << done.error().text;

  // The operator is told of it, within a minute once.
  const std::string warning = "the configured peer " + wrong.point() + " presents the identity " +
                              wrong.peer.peer_id() + " instead of " + somebody.peer_id();
  EXPECT_TRUE(eventually([&] { return node_->log().find(warning) != std::string::npos; })) << node_->log();
  silence = std::async(std::launch::async, be_called);
  // Or the node has dialled it again by itself already.
  (void)node_->cli({"connect", "address", wrong.point()});
  ASSERT_TRUE(silence.get());
  const std::string log = node_->log();
  EXPECT_EQ(log.find(warning), log.rfind(warning)) << log;
}

TEST_F(Handshake, IsSilentToStrangersInPrivateMode) {
  Responder trusted;
  auto metadata = std::async(std::launch::async, [&]() -> Result<Metadata> {
    if (auto done = trusted.accept(); !done) return done.error();
    if (auto done = trusted.peer.send_connection_message(); !done) return done.error();
    if (auto done = trusted.peer.read_connection_message(); !done) return done.error();
    if (auto done = trusted.peer.send_metadata(); !done) return done.error();
    auto got = trusted.peer.read_metadata();
    if (!got) return got;
    if (auto done = trusted.peer.send_ack(); !done) return done.error();
    const auto ack = trusted.peer.read_ack();
    if (!ack) return ack.error();
    return got;
  });
  ASSERT_NO_FATAL_FAILURE(start_alone({.arguments = {"--private-mode", "--peer", trusted.point()}}));
  const auto announced = metadata.get();
  ASSERT_TRUE(announced) << announced.error().text << "\n" << node_->events();
  EXPECT_TRUE(announced->private_node);

  Peer stranger = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(introduce(stranger));
  ASSERT_TRUE(stranger.send_ack());

  EXPECT_TRUE(expect_ended(stranger, "private_mode").empty()) << "neither ack nor nack";
  ASSERT_TRUE(node_->wait_connected(trusted.peer.peer_id()));
  EXPECT_EQ(check_alive(*node_, trusted.peer), "");
}

TEST_F(Handshake, TellsAStrangerOfAnotherNetworkSoEvenInPrivateMode) {
  // The choice of versions comes before the question of trust.
  ASSERT_NO_FATAL_FAILURE(start_alone({.arguments = {"--private-mode"}}));
  PeerOptions options;
  options.chain_name = "TEZOS_OTHER";
  Peer stranger = node_->make_peer(options);
  ASSERT_NO_FATAL_FAILURE(expect_nack(stranger, kUnknownChainName));
  expect_ended(stranger, "unknown_chain_name");
}

// ---- refused by the peer ----

TEST_F(Handshake, TakesEveryNackAndLearnsItsPoints) {
  const std::vector<std::int16_t> motives = {0, 1, 2, 3, 4, 5, 77, -1};
  std::deque<Responder> responders(motives.size() + 1);
  NodeOptions options;
  std::vector<std::future<Result<void>>> refusals;
  std::vector<std::string> points;
  for (std::size_t i = 0; i < responders.size(); ++i) {
    options.arguments.insert(options.arguments.end(), {"--peer", responders[i].point()});
    // Nobody listens there: should the node dial it, it is refused at once.
    points.push_back("127.250.0." + std::to_string(i + 1) + ":9");
    refusals.push_back(std::async(std::launch::async, [&, i]() -> Result<void> {
      if (auto done = responders[i].accept(); !done) return done;
      if (auto done = responders[i].peer.introduce(); !done) return done;
      auto sent = i < motives.size() ? responders[i].peer.send_nack(motives[i], {points[i]})
                                     : responders[i].peer.send_nack_v0();
      if (!sent) return sent;
      // The node's own Ack was on its way; then it must close.
      const auto ending = responders[i].peer.read_until_closed();
      if (!ending) return ending.error();
      return {};
    }));
  }

  ASSERT_NO_FATAL_FAILURE(start(options));

  for (std::size_t i = 0; i < responders.size(); ++i) {
    const auto done = refusals[i].get();
    EXPECT_TRUE(done) << i << ": " << done.error().text;
    expect_event({"rejected_by_peer"}, responders[i].address());
    if (i == motives.size()) continue;
    EXPECT_TRUE(eventually([&] { return mentions_point(node_->json({"points"}), points[i]); }))
        << points[i] << " was not learnt";
  }
}

TEST_F(Handshake, TakesANackWithoutPointsOrWithAHundred) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::vector<std::string> hundred;
  for (int i = 0; i < 100; ++i) hundred.push_back("127.251.0." + std::to_string(i + 1) + ":9");
  for (const auto& points : {std::vector<std::string>(), hundred}) {
    Peer peer = node_->make_peer();
    ASSERT_NO_FATAL_FAILURE(introduce(peer));
    ASSERT_TRUE(peer.send_nack(kTooManyConnections, points));
    expect_ended(peer, "rejected_by_peer");
  }
  EXPECT_TRUE(eventually([&] { return mentions_point(node_->json({"points"}), hundred.back()); }));
}

TEST_F(Handshake, ClosesOnAMalformedAck) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::vector<std::string> many(101, "10.0.0.1:1");
  const std::vector<Bytes> acks = {
      {},
      from_hex("02"),
      from_hex("0000"),
      from_hex("ff00"),
      from_hex("010001"),
      from_hex("01000100000001"),
      encode_ack({AckKind::kNack, 1, many}),
      encode_ack({AckKind::kNack, 1, {std::string(48, '1')}}),
      encode_ack({AckKind::kNack, 1, {"no point"}}),
  };
  std::deque<Peer> peers;
  for (const Bytes& ack : acks) {
    peers.push_back(node_->make_peer());
    ASSERT_NO_FATAL_FAILURE(introduce(peers.back()));
    ASSERT_TRUE(peers.back().send_chunk(ack));
  }
  for (Peer& peer : peers) {
    expect_ended(peer, "malformed_ack");
    EXPECT_TRUE(node_->wait_gone(peer.peer_id()));
  }
}

TEST_F(Handshake, ClosesOnAnAckThatDoesNotDecipher) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer peer = node_->make_peer();
  ASSERT_NO_FATAL_FAILURE(introduce(peer));
  Bytes chunk = peer.seal(encode_ack({}));
  chunk.back() ^= 1;

  ASSERT_TRUE(peer.send_raw(chunk));

  expect_ended(peer, {"decipher_error", "malformed_ack"});
}

TEST_F(Handshake, FreesThePlaceOfAPeerThatClosesAtAnyStep) {
  ASSERT_NO_FATAL_FAILURE(start());
  PeerOptions options;
  options.identity = fresh_identity(1);

  Peer after_message = node_->make_peer(options);
  ASSERT_TRUE(node_->dial(after_message));
  ASSERT_TRUE(after_message.send_connection_message());
  ASSERT_TRUE(after_message.half_close());
  expect_ended(after_message, "closed_in_handshake");

  Peer after_metadata = node_->make_peer(options);
  ASSERT_NO_FATAL_FAILURE(introduce(after_metadata));
  ASSERT_TRUE(after_metadata.half_close());
  expect_ended(after_metadata, "closed_in_handshake");

  Peer after_ack = node_->make_peer(options);
  ASSERT_NO_FATAL_FAILURE(introduce(after_ack));
  ASSERT_TRUE(after_ack.send_ack());
  ASSERT_TRUE(after_ack.half_close());
  expect_ended(after_ack, {"closed_by_peer", "closed_in_handshake"});

  Peer resets = node_->make_peer(options);
  ASSERT_NO_FATAL_FAILURE(introduce(resets));
  ASSERT_TRUE(resets.send_ack());
  const std::string address = host_of(resets.local_point());
  resets.reset();
  expect_event({"closed_by_peer", "closed_in_handshake", "connection_lost"}, address);

  // The same identity is welcome again: nothing of it is left over.
  EXPECT_TRUE(node_->wait_gone(resets.peer_id()));
  Peer again = node_->make_peer(options);
  ASSERT_NO_FATAL_FAILURE(shake_hands(again));
}

TEST_F(Handshake, FreesTheDialOfAPeerThatClosesBeforeItsAck) {
  Responder responder;
  auto first = std::async(std::launch::async, [&]() -> Result<void> {
    if (auto done = responder.accept(); !done) return done;
    if (auto done = responder.peer.introduce(); !done) return done;
    if (const auto ack = responder.peer.read_ack(); !ack) return ack.error();
    responder.peer.close();
    // The point is free again, and the node dials it anew after its delay.
    if (auto done = responder.accept(); !done) return done;
    return responder.peer.handshake();
  });

  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--peer", responder.point()}}));

  const auto done = first.get();
  EXPECT_TRUE(done) << done.error().text << "\n" << node_->events();
  expect_event({"closed_in_handshake"}, responder.address());
}

TEST_F(Handshake, SaysWhyADialFailed) {
  ASSERT_NO_FATAL_FAILURE(start());
  const std::string address = fresh_address();
  const std::string point = address + ":" + std::to_string(free_port(address));

  const auto command = node_->cli({"connect", "address", point});

  EXPECT_EQ(command.exit_status, 1) << command;
  expect_event({"connection_refused"}, address);
}

// ---- limits and deadlines ----

TEST_F(Handshake, EndsEverySlowHandshakeAtTheDeadline) {
  ASSERT_NO_FATAL_FAILURE(start());
  Peer silent = node_->make_peer();
  Peer trickles = node_->make_peer();
  Peer stalls = node_->make_peer();
  Peer holds_its_ack = node_->make_peer();
  const auto begin = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  for (Peer* peer : {&silent, &trickles, &stalls, &holds_its_ack}) {
    peer->options().timeout = Milliseconds(15'000);
    ASSERT_TRUE(node_->dial(*peer));
  }
  const Bytes message = trickles.connection_message();
  const auto address = [](const Peer& peer) { return host_of(peer.local_point()); };
  const std::vector<std::string> addresses = {address(silent), address(trickles), address(stalls),
                                              address(holds_its_ack)};

  std::vector<std::future<double>> ends;
  ends.push_back(std::async(std::launch::async, [&] { return silent.read_until_closed() ? seconds() : -1; }));
  // 60 bytes, the proof of work, in 7.2 seconds.
  ends.push_back(std::async(std::launch::async, [&] {
    const auto sent = trickles.trickle(message, Milliseconds(120));
    return sent && *sent < 60 ? seconds() : -1;
  }));
  ends.push_back(std::async(std::launch::async, [&] {
    return stalls.send_connection_message() && stalls.read_until_closed() ? seconds() : -1;
  }));
  ends.push_back(std::async(std::launch::async, [&] {
    return holds_its_ack.introduce() && holds_its_ack.read_until_closed() ? seconds() : -1;
  }));

  for (std::size_t i = 0; i < ends.size(); ++i) {
    const double end = ends[i].get();
    EXPECT_GE(end, 4.5) << i;
    EXPECT_LE(end, 5.0 + 2.0 * kPatience) << i;
  }
  expect_event({"proof_timeout"}, addresses[0]);
  expect_event({"proof_timeout"}, addresses[1]);
  expect_event({"authentication_timeout"}, addresses[2]);
  expect_event({"authentication_timeout"}, addresses[3]);
}

TEST_F(Handshake, EndsAnOutgoingHandshakeAtTheConnectionTimeout) {
  Responder responder;
  std::chrono::duration<double> took{};
  auto stall = std::async(std::launch::async, [&]() -> Result<void> {
    if (auto done = responder.accept(); !done) return done;
    const auto begin = Clock::now();
    const auto ending = responder.peer.read_until_closed(Milliseconds(10'000) * kPatience);
    took = Clock::now() - begin;
    if (!ending) return ending.error();
    return {};
  });

  ASSERT_NO_FATAL_FAILURE(start({.arguments = {"--peer", responder.point()}, .config = config_with_timeouts(5, 2)}));

  const auto done = stall.get();
  ASSERT_TRUE(done) << done.error().text;
  EXPECT_GE(took.count(), 1.5);
  expect_event({"authentication_timeout", "connect_timeout"}, responder.address());
}

TEST_F(Handshake, RefusesTheTwentyFirstWorkerInItsHandshake) {
  ASSERT_NO_FATAL_FAILURE(start());
  std::deque<Peer> stalled;
  for (int i = 0; i < 20; ++i) {
    stalled.push_back(node_->make_peer());
    ASSERT_TRUE(node_->dial(stalled.back()));
    ASSERT_TRUE(stalled.back().send_connection_message());
    // Only a worker sends that: it exists now.
    ASSERT_TRUE(stalled.back().read_connection_message()) << i << "\n" << node_->events();
  }
  Peer late = node_->make_peer();
  ASSERT_TRUE(node_->dial(late));
  ASSERT_TRUE(late.send_connection_message());
  EXPECT_TRUE(expect_ended(late, "too_many_incoming").empty());

  // One that goes makes room for another.
  stalled.pop_back();
  EXPECT_TRUE(eventually([&] {
    Peer next = node_->make_peer();
    return node_->dial(next) && next.handshake();
  }));
}

TEST_F(Handshake, EndsTheOldestHandshakeOfAKeyThatIsUsedAFifthTime) {
  ASSERT_NO_FATAL_FAILURE(start());
  PeerOptions options;
  options.identity = fresh_identity(1);
  std::deque<Peer> peers;
  for (int i = 0; i < 5; ++i) {
    peers.push_back(node_->make_peer(options));
    ASSERT_TRUE(node_->dial(peers.back()));
    ASSERT_TRUE(peers.back().send_connection_message());
    ASSERT_TRUE(peers.back().read_connection_message()) << i << "\n" << node_->events();
  }

  expect_ended(peers.front(), "same_key_limit");
  for (std::size_t i = 1; i < peers.size(); ++i) EXPECT_TRUE(peers[i].is_open()) << i;
  // The owner of the key is not locked out.
  ASSERT_TRUE(peers.back().send_metadata());
  ASSERT_TRUE(peers.back().read_metadata());
  ASSERT_TRUE(peers.back().send_ack());
  const auto answer = peers.back().read_ack();
  ASSERT_TRUE(answer) << answer.error().text;
  EXPECT_EQ(answer->kind, AckKind::kAck);
}

TEST_F(Handshake, SurvivesGarbageOfEveryLength) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (const std::size_t size : {1u, 2u, 59u, 60u, 61u, 105u, 1024u, 70'000u}) {
    Peer peer = node_->make_peer();
    ASSERT_TRUE(node_->dial(peer));
    const Bytes garbage = pattern(size, 0x01);
    const auto sent = peer.send_raw(garbage);
    ASSERT_TRUE(sent || sent.error().code == ErrorCode::kClosed);
    if (size < 60) {
      EXPECT_TRUE(peer.half_close());
    }
    const auto ending = peer.read_until_closed();
    EXPECT_TRUE(ending) << size << ": " << ending.error().text;
  }
}

}  // namespace
}  // namespace bulkhead::testing
