// The inside of a simulated connection: two sides and the two pipes between them. Shared by the two
// streams and by the events in flight. All on the world's thread.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/net/network.h"

namespace cairn::sim {

class SimFabric;
class SimNode;
class SimOp;
class SimWorld;

struct Segment {
  enum class Kind : uint8_t { kData, kEnd, kReset };
  Kind kind = Kind::kData;
  std::vector<uint8_t> bytes;
};

// From one side to the other.
struct Pipe {
  // At the sender: sent and not delivered.
  std::deque<Segment> inFlight;
  size_t inFlightBytes = 0;
  TimePoint lastDelivery;
  uint64_t generation = 0;  // deliveries that were scheduled for another one do nothing
  bool stalled = false;     // nothing gets through; the segments wait
  // At the receiver: arrived and not read.
  std::deque<std::vector<uint8_t>> unread;
  size_t frontUsed = 0;
  size_t unreadBytes = 0;
  bool end = false;
  SimOp* reader = nullptr;  // waits for bytes
  SimOp* writer = nullptr;  // waits for room

  [[nodiscard]] size_t heldBytes() const { return inFlightBytes + unreadBytes; }
  void dropInFlight();
  void dropUnread();
};

struct Side {
  SimNode* node = nullptr;
  std::string name;             // its endpoint, as the other side sees it
  bool closed = false;          // by shutdown(), or its process is gone
  std::optional<Error> broken;  // reset, or given up
};

// side[i] writes into pipe[i] and reads from pipe[1 - i].
struct Connection : std::enable_shared_from_this<Connection> {
  Connection(SimWorld& w, SimFabric& f) : world(w), fabric(f) {}
  SimWorld& world;
  SimFabric& fabric;
  Side side[2];
  Pipe pipe[2];

  [[nodiscard]] const std::string& hostOf(int i) const;
  void send(int from, Segment segment);
  // The side's own operations fail; nothing is told to the peer.
  void breakSide(int i, Error error);
  // In place of everything in flight from this side.
  void sendReset(int from);
  // Local shutdown: what was written still arrives, then the end of the stream.
  void close(int i);
  // Whether the way to the other side is open now.
  [[nodiscard]] bool passable(int from) const;
  void unstall(int from);

 private:
  void scheduleDelivery(int from, size_t bytes);
  void deliver(int from);
  void stall(int from);
};

class SimStream final : public Stream {
 public:
  SimStream(std::shared_ptr<Connection> c, int side) : c_(std::move(c)), me_(side) {}
  ~SimStream() override { shutdown(); }
  Task<Result<size_t>> read(std::span<const iovec> parts) override;
  Task<Result<void>> write(std::span<const iovec> parts) override;
  void shutdown() override;
  [[nodiscard]] std::string peer() const override { return c_->side[1 - me_].name; }

 private:
  [[nodiscard]] Result<void> usable() const;
  [[nodiscard]] SimNode& node() const { return *c_->side[me_].node; }
  std::shared_ptr<Connection> c_;
  const int me_;
};

}  // namespace cairn::sim
