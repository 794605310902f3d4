// The first blocks of a store: what it is, whose it is, and where its parts lie. Written once, by
// create(), in two copies; never changed afterwards.
#pragma once

#include <string>

#include "common/base/env.h"
#include "common/base/uuid.h"
#include "common/disk/disk.h"
#include "common/wal/ring_log.h"
#include "osd/store/layout.h"

namespace cairn::osd {

struct Superblock {
  Uuid store;
  Uuid cluster;
  uint64_t sizeBytes = 0;  // of the file or device when the store was made
  uint64_t walOffset = 0;  // 0: the log is a file of its own
  uint64_t walBytes = 0;
  uint64_t dataOffset = 0;
  uint64_t dataBlocks = 0;

  [[nodiscard]] bool ownLogFile() const { return walOffset == 0; }
  [[nodiscard]] RingLog::Region wal() const { return {walOffset, walBytes}; }
  [[nodiscard]] uint64_t offsetOf(PhysBlock block) const { return dataOffset + block * kBlockSize; }
  bool operator==(const Superblock&) const = default;
};

// Sizes for a store of `sizeBytes` in all with a log of `walBytes`, in a file of its own or
// (`onDevice`) between superblocks and data; kInvalid if they leave no room for data. The uuids are
// the caller's to fill in.
Result<Superblock> planLayout(uint64_t sizeBytes, uint64_t walBytes, bool onDevice);

// One block; fills in the CRC.
void encodeSuperblock(const Superblock& superblock, MutBytes block);
// kNotFound: no superblock here; kCorrupt: a damaged one; kVersion: of another format. `where`
// names the copy in messages.
Result<Superblock> decodeSuperblock(Bytes block, const std::string& where);

// Both copies, durable when it completes.
Task<Result<void>> writeSuperblocks(Env& env, File& file, const Superblock& superblock);
// The first copy that is whole. A damaged one is reported through `damage` if the other is good.
Task<Result<Superblock>> readSuperblock(Env& env, File& file, const std::string& path,
                                        std::optional<Error>* damage);

// When the data is on a raw device, `block` is one block that names it.
void encodeDeviceRecord(const std::string& device, MutBytes block);
// Nothing if `block` is no device record.
std::optional<std::string> decodeDeviceRecord(Bytes block);

}  // namespace cairn::osd
