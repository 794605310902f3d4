// Where 64 neighbouring blocks of a chunk (256 KiB, aligned) lie, with the checksum of each: the
// unit in which the chunk map is stored in LevelDB and cached. A block is a hole, reserved (it has
// a place and reads as zeros) or written.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "osd/store/layout.h"

namespace cairn::osd {

class ExtentGroup {
 public:
  // Neighbours that lie together; `first` counts from the group's start.
  struct Run {
    PhysBlock phys = 0;
    uint8_t first = 0;
    uint8_t count = 0;
    bool written = false;
    bool shared = false;  // written, and other blocks may name these places too
    bool operator==(const Run&) const = default;
  };

  // Ascending, merged as far as possible.
  [[nodiscard]] const std::vector<Run>& runs() const { return runs_; }
  // Of a written block.
  [[nodiscard]] uint32_t crc(uint32_t block) const { return crcs_[block]; }
  [[nodiscard]] bool empty() const { return runs_.empty(); }
  [[nodiscard]] uint32_t blocks() const;  // written or reserved

  // Puts [first, first+count) at `phys`: written with `crcs`, or reserved if `crcs` is null. Places
  // that the range had and has no more are appended to `freed`.
  void assign(uint32_t first, uint32_t count, PhysBlock phys, const uint32_t* crcs,
              std::vector<PhysRun>& freed);
  void clear(uint32_t first, uint32_t count, std::vector<PhysRun>& freed);
  // As assign(), at places that other blocks name already. Those that the range did not name before
  // are appended to `named`.
  void share(uint32_t first, uint32_t count, PhysBlock phys, const uint32_t* crcs,
             std::vector<PhysRun>& freed, std::vector<PhysRun>& named);
  // Says of [first, first+count) that other blocks name these places too. False, and nothing was
  // changed, unless it is written and lies at `phys`.
  bool markShared(uint32_t first, uint32_t count, PhysBlock phys);

  // What runs() costs in memory, about.
  [[nodiscard]] size_t memoryBytes() const;

  // The LevelDB value; it ends in a CRC over the key and itself, so that a value under a wrong key
  // is seen.
  [[nodiscard]] std::string encode(std::string_view key) const;
  // Nothing if damaged, or impossible in a store of `dataBlocks`.
  static std::optional<ExtentGroup> decode(std::string_view key, std::string_view value,
                                           uint64_t dataBlocks);

 private:
  struct Place {
    PhysBlock phys = kMaxPhysBlocks;  // kMaxPhysBlocks: a hole
    bool written = false;
    bool shared = false;
  };
  using Places = std::array<Place, kGroupBlocks>;
  [[nodiscard]] Places expand() const;
  void compress(const Places& places);

  std::vector<Run> runs_;
  std::array<uint32_t, kGroupBlocks> crcs_{};
};

// Appends to `runs`, merging with the last if they touch.
void appendRun(std::vector<PhysRun>& runs, PhysBlock start, uint64_t count);

}  // namespace cairn::osd
