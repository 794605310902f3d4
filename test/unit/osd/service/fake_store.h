// A chunk store in memory that keeps the contract of osd/store.h and can be told to misbehave. Its
// contents outlive the process that uses it: a "disk".
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>

#include "common/reactor/sync.h"
#include "osd/store.h"

namespace cairn::osd::test {

struct FakeDisk {
  struct Block {
    std::array<uint8_t, kBlockSize> bytes;
    uint32_t crc;
  };
  struct Chunk {
    GroupId group;
    ChunkVersion version;
    std::map<uint32_t, Block> blocks;  // by number
    std::set<uint32_t> reserved;
  };
  Uuid uuid, cluster;
  OsdId id;
  struct Removal {
    GroupId group;
    ChunkVersion version;
  };
  std::map<ChunkId, Chunk> chunks;
  std::map<ChunkId, Removal> removals;
  std::map<GroupId, GroupState> groups;
  std::map<std::string, std::string> notes;
  uint64_t capacityBlocks = UINT64_MAX;
  bool nearlyFull = false;
  // Faults
  std::optional<Error> failMutations;  // before anything is changed
  Duration delay = 50us;               // of each operation
  // What happened
  uint64_t mutations = 0, reads = 0, clones = 0;
  // Overlapping operations that the contract forbids.
  uint64_t violations = 0;

  [[nodiscard]] uint64_t blocks() const;
  // The bytes of a chunk, holes as zeros.
  [[nodiscard]] std::vector<uint8_t> content(ChunkId chunk, uint32_t offset, uint32_t length) const;
};

class FakeStore final : public Store {
 public:
  FakeStore(Env& env, std::shared_ptr<FakeDisk> disk)
      : env_(env), disk_(std::move(disk)), never_(env.reactor) {}

  Task<void> close() override { co_return; }
  [[nodiscard]] Uuid uuid() const override { return disk_->uuid; }
  [[nodiscard]] Uuid cluster() const override { return disk_->cluster; }
  [[nodiscard]] OsdId osdId() const override { return disk_->id; }
  Task<Result<void>> recordOsdId(OsdId id) override;
  Task<Result<void>> write(ChunkId chunk, uint32_t offset, Buffer data, std::vector<uint32_t> crcs,
                           Stamp stamp, InParts inParts) override;
  Task<Result<void>> zero(ChunkId chunk, uint32_t offset, uint32_t length, Stamp stamp) override;
  Task<Result<void>> allocate(ChunkId chunk, uint32_t offset, uint32_t length,
                              Stamp stamp) override;
  Task<Result<void>> remove(std::vector<ChunkId> chunks, Stamp stamp) override;
  Task<Result<void>> clone(ChunkId source, uint32_t sourceOffset, ChunkId target,
                           uint32_t targetOffset, uint32_t length, Stamp stamp) override;
  Task<Result<ReadData>> read(ChunkId chunk, uint32_t offset, uint32_t length) override;
  Result<std::vector<std::pair<uint32_t, uint32_t>>> extents(ChunkId chunk, uint32_t offset,
                                                             size_t limit) override;
  Result<bool> isHole(ChunkId chunk, uint32_t offset, uint32_t length) override;
  Result<std::optional<ChunkInfo>> stat(ChunkId chunk) override;
  Result<std::vector<ListedChunk>> list(ChunkId after, size_t limit) override;
  Result<GroupState> groupState(GroupId group) override;
  Result<std::vector<Changed>> changes(GroupId group, Changed after, size_t limit) override;
  Result<std::optional<Changed>> lastChange(ChunkId chunk) override {
    if (auto c = disk_->chunks.find(chunk); c != disk_->chunks.end())
      return Changed{c->second.version, chunk, false};
    if (auto r = disk_->removals.find(chunk); r != disk_->removals.end())
      return Changed{r->second.version, chunk, true};
    return std::nullopt;
  }
  Result<std::vector<GroupId>> groups() override;
  Result<void> trimRemovals(GroupId group, ChunkVersion upTo) override;
  Task<Result<void>> dropGroup(GroupId group) override;
  [[nodiscard]] Space space() const override;
  Result<void> putNote(std::string_view name, std::string value) override {
    disk_->notes[std::string(name)] = std::move(value);
    return {};
  }
  Result<std::string> note(std::string_view name) override {
    return disk_->notes[std::string(name)];
  }

 private:
  struct Busy;  // an operation in progress on a range of a chunk
  Task<void> pause();
  // kInvalid: the chunk is, or was, of another group.
  Result<void> checkGroup(ChunkId chunk, GroupId group) const;
  void note(GroupId group, const Stamp& stamp);
  // The chunk that a mutation makes or changes.
  FakeDisk::Chunk& change(ChunkId chunk, const Stamp& stamp);

  Env& env_;
  std::shared_ptr<FakeDisk> disk_;
  Event never_;
  std::list<Busy*> busy_;
};

}  // namespace cairn::osd::test
