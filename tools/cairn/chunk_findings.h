// What is wrong with one chunk, given what the metadata server and every OSD say of it: the
// judgement of `cairn fsck`. Pure functions; any thread.
//
// What the parts say at different moments differs while something is going on, so a finding is one
// only if it stands still: see Finding::same.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/cluster/cluster_map.h"

namespace cairn::tools {

// A chunk that the MDS knows: of a file, or (no inode) in the garbage queue.
struct KnownChunk {
  ChunkId id;
  InodeId ino;
  uint32_t index = 0;
  PoolId pool;
};

// A chunk as one OSD stores it.
struct StoredChunk {
  OsdId osd;
  PoolId pool;  // the placement group that it is stored under
  PgIndex pg;
  ChunkVersion version;
  uint8_t shard = 0;    // of an erasure-coded pool
  bool staged = false;  // beside the chunk: changes that are being made
  bool operator==(const StoredChunk&) const = default;
};

enum class Trouble : uint8_t {
  kLeaked,      // in sync members hold it, and neither a file nor the garbage queue names it
  kDiffers,     // some members in sync hold it, others do not; fine if it holds nothing but zeros.
                // Of stripes: some member in sync that holds parity does not
  kStray,       // stored by an OSD that is no member of its group, which is whole
  kWrongGroup,  // stored under another placement group than its id and its file's pool say
  kDamaged,     // bytes of which the last scrub found nothing good left; reads of them give EIO
};
const char* troubleName(Trouble trouble);  // "leaked", ...

struct Finding {
  Trouble trouble;
  ChunkId chunk;
  PoolId pool;
  PgIndex pg;
  std::optional<KnownChunk> file;
  std::vector<StoredChunk> stored;
  std::string text;
  std::vector<std::pair<uint64_t, uint64_t>> ranges = {};  // kDamaged: (offset, length) in the file

  // Whether nothing has happened to the chunk between two looks at it. What is left beside it of
  // changes goes by itself.
  [[nodiscard]] bool same(const Finding& other) const {
    auto chunks = [](std::vector<StoredChunk> all) {
      std::erase_if(all, [](const StoredChunk& s) { return s.staged; });
      return all;
    };
    return trouble == other.trouble && chunks(stored) == chunks(other.stored);
  }
};

// `asked`: OSDs whose chunks are known; others are not judged. `known` is null for a chunk that the
// MDS does not know and has not handed out since it was asked. `stored` is not empty. Versions are
// not compared.
std::vector<Finding> judgeChunk(const ClusterMap& map, const std::set<OsdId>& asked, ChunkId chunk,
                                const KnownChunk* known, const std::vector<StoredChunk>& stored);

}  // namespace cairn::tools
