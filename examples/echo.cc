// Sends every application message back to the peer that it came from. Usage: example_echo DATA_DIR

#include <chrono>
#include <cstdio>
#include <variant>

#include "bulkhead/application.h"

using namespace std::chrono_literals;
namespace client = bulkhead::client;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: example_echo DATA_DIR\n");
    return 2;
  }
  auto node = client::Application::attach(argv[1]);
  if (!node) {
    std::fprintf(stderr, "%s\n", node.error().text.c_str());
    return 1;
  }
  client::Application& application = **node;
  for (;;) {
    const auto event = application.next();
    if (!event) {
      application.wait(1s);
    } else if (const auto* message = std::get_if<client::MessageReceived>(&*event)) {
      // A peer that does not read its answers loses them after a while, and holds up nobody for longer.
      const auto sent = application.send(message->peer_id, message->tag, message->body, 5s);
      if (!sent) std::fprintf(stderr, "not sent: %s\n", sent.error().text.c_str());
    } else if (std::holds_alternative<client::Detached>(*event)) {
      return 0;
    }
  }
}
