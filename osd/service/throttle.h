// Background work (recovery, scrub) beside clients: with nobody else there it may do much at once;
// while clients are being served it does one thing at a time and then rests for some times as long
// as that took: they keep more than three fifths of what they have alone, also where processors are
// scarce (test/bench/failures.py). One reactor thread.
#pragma once

#include <optional>

#include "common/reactor/sync.h"

namespace cairn::osd {

// Blocks of a chunk (of a shard: rows) that are worked on at a time: 1 MiB.
inline constexpr uint32_t kStretch = 256;

class Throttle {
 public:
  explicit Throttle(Reactor& reactor);
  Throttle(const Throttle&) = delete;
  Throttle& operator=(const Throttle&) = delete;

  // A client's request was taken.
  void noteClient();
  // A primary had its part of what a client asked for done here.
  void noteMember() { lastClient_ = reactor_.now(); }
  [[nodiscard]] bool clientsServed() const;
  // How many times as long as a turn took is to be rested after it.
  [[nodiscard]] int rests() const;

  // Leave to do one thing, of about a stretch, until it dies.
  class Turn {
   public:
    Turn(Throttle& throttle, int weight, AsyncMutex::Guard alone);
    Turn(Turn&& o) noexcept
        : throttle_(std::exchange(o.throttle_, nullptr)),
          weight_(o.weight_),
          alone_(std::move(o.alone_)),
          began_(o.began_) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn();

   private:
    Throttle* throttle_;
    int weight_;
    AsyncMutex::Guard alone_;
    TimePoint began_;
  };
  // `weight`: how many other OSDs work for it meanwhile, who do not rest.
  Task<Turn> turn(int weight = 1);

 private:
  Reactor& reactor_;
  Semaphore slots_;
  AsyncMutex alone_;
  TimePoint lastClient_{}, countedSince_{};
  uint32_t requests_ = 0,
           requestsBefore_ = 0;  // of clients, in this and the last tenth of a second
  Duration rest_{};
};

}  // namespace cairn::osd
