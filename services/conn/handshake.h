#pragma once

#include <optional>
#include <span>
#include <vector>

#include "schema/messages.h"
#include "wire/session_crypto.h"

namespace bulkhead::conn {

/// A worker's side of the handshake (one direction or the other; both run the same steps). Pure: bytes from the peer
/// and messages from the controller go in; bytes for the peer, messages for the controller and an end come out. Never
/// holds more of the peer's bytes than one handshake message of the largest size.
///
/// | step              | waits for                          | then                                            |
/// |-------------------|------------------------------------|-------------------------------------------------|
/// | connectionMessage | peer's connection message          | WorkerHello                                     |
/// | ourMetadata       | OurMetadata of the controller      | writes it                                       |
/// | metadata          | peer's metadata chunk              | WorkerProof                                     |
/// | verdict           | Verdict                            | writes Ack or Nack, or says nothing             |
/// | ack               | peer's Ack or Nack chunk           | Acked, or Nacked and end                        |
/// | running, ended    |                                    |                                                 |
class Handshake {
 public:
  enum class Step : std::uint8_t { kConnectionMessage, kOurMetadata, kMetadata, kVerdict, kAck, kRunning, kEnded };

  /// Our own connection message is the first output.
  explicit Handshake(const schema::WorkerStart& start);

  /// Takes bytes of the peer from the front; returns how many were taken. What is left belongs to a later step.
  std::size_t feed(std::span<const std::uint8_t> bytes);
  /// False: the message does not fit the step, a fault of the controller.
  [[nodiscard]] bool on(const schema::OurMetadata& message);
  [[nodiscard]] bool on(const schema::Verdict& verdict);

  Step step() const { return step_; }
  /// Set with kEnded: why. Output that is left is to be written first.
  Reason reason() const { return reason_; }

  /// Bytes to write to the peer, and messages for the controller, since the last call.
  std::vector<std::uint8_t> take_output();
  std::vector<schema::FromWorker> take_reports();

  /// With kRunning: the two directions of the channel. Once.
  std::pair<wire::Channel, wire::Channel> take_channels();

 private:
  void end(Reason reason);
  bool collect(std::span<const std::uint8_t>& bytes, std::size_t wanted);
  bool collect_chunk(std::span<const std::uint8_t>& bytes, std::size_t largest, Reason too_large);
  void take_connection_message();
  void take_ack();
  void write_sealed(std::span<const std::uint8_t> plaintext);

  Step step_ = Step::kConnectionMessage;
  Reason reason_ = Reason::kNone;
  std::vector<std::uint8_t> received_;
  std::vector<std::uint8_t> output_;
  std::vector<schema::FromWorker> reports_;
  std::optional<wire::Channel> sending_;
  std::optional<wire::Channel> receiving_;
};

}  // namespace bulkhead::conn
