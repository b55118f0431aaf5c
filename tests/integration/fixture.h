#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <set>
#include <string>

#include "tests/integration/node.h"

namespace bulkhead::testing {

/// Reasons of which any will do, where the protocol's description leaves room.
struct Reasons {
  Reasons(const char* only) : names{only} {}
  Reasons(const std::string& only) : names{only} {}
  Reasons(std::initializer_list<const char*> any) : names(any.begin(), any.end()) {}

  std::set<std::string> names;
};

/// A node and a witness: a well-behaved peer whose connection must still work when the test is over.
class NodeTest : public ::testing::Test {
 protected:
  /// Use as ASSERT_NO_FATAL_FAILURE(start(...)).
  void start(NodeOptions options = {}, PeerOptions witness = {}) {
    ASSERT_NO_FATAL_FAILURE(start_alone(std::move(options)));
    witness_ = std::make_unique<Peer>(node_->make_peer(std::move(witness)));
    ASSERT_NO_FATAL_FAILURE(shake_hands(*witness_));
  }

  void start_alone(NodeOptions options = {}) {
    node_ = std::make_unique<Node>(std::move(options));
    const auto started = node_->start();
    ASSERT_TRUE(started) << started.error().text;
  }

  /// Dials the node from a fresh address and completes the handshake, on both sides.
  void shake_hands(Peer& peer) {
    const auto dialled = node_->dial(peer);
    ASSERT_TRUE(dialled) << dialled.error().text;
    const auto done = peer.handshake();
    ASSERT_TRUE(done) << done.error().text << "\n" << node_->events();
    ASSERT_TRUE(node_->wait_connected(peer.peer_id())) << node_->events();
  }

  /// The node ends this connection, and says why. Returns what it still sent before.
  Bytes expect_ended(Peer& peer, const Reasons& reasons, Milliseconds timeout = kPeerTimeout * kPatience) {
    const std::string address = host_of(peer.local_point());
    const auto ending = peer.read_until_closed(timeout);
    EXPECT_TRUE(ending) << ending.error().text;
    expect_event(reasons, address);
    return ending ? ending->bytes : Bytes();
  }

  void expect_event(const Reasons& reasons, const std::string& address) {
    std::string names;
    for (const std::string& reason : reasons.names) names += reason + " ";
    EXPECT_TRUE(eventually([&] {
      for (const std::string& reason : reasons.names) {
        if (!node_->wait_event(reason, address, Milliseconds(0)).is_null()) return true;
      }
      return false;
    })) << "no event about "
        << address << " with reason " << names << "\n"
        << node_->events();
  }

  void TearDown() override {
    if (!node_ || !witness_ || HasFatalFailure()) return;
    EXPECT_EQ(check_alive(*node_, *witness_), "") << "the witness was disturbed\n" << node_->events();
  }

  std::unique_ptr<Node> node_;
  std::unique_ptr<Peer> witness_;
};

}  // namespace bulkhead::testing
