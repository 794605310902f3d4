// What one handle's reads look like, and so what to read before it is asked for. Pure. Reads of a
// sequential reader may arrive somewhat out of order: the kernel sends several at once.
#pragma once

#include <cstdint>

namespace cairn::client {

class ReadPattern {
 public:
  struct Plan {
    bool wholePieces = false;  // read, and keep, the whole pieces that are touched
    uint64_t aheadTo = 0;      // and those after them up to this offset
  };
  // Takes note of a read of `length` bytes at `offset` in a file of `size` bytes. `maxAhead` bounds
  // the window.
  Plan next(uint64_t offset, uint64_t length, uint64_t size, uint64_t maxAhead);

 private:
  uint64_t frontier_ = 0;  // the farthest byte that was read in this run
  uint64_t run_ = 0;       // bytes read in this run
};

}  // namespace cairn::client
