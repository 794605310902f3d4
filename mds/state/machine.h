// The StateMachine on a Kv: one transaction a group, one context a command (mds/ops/context.h).
// Private to mds/state.
#pragma once

#include "mds/state/state.h"

namespace cairn::mds {

class Machine final : public StateMachine {
 public:
  Machine(std::unique_ptr<Kv> kv, const StateOptions& options);
  Result<void> load() { return state_.load(); }

  [[nodiscard]] LogIndex applied() const override { return state_.counters.applied; }
  Result<std::vector<Applied>> apply(LogIndex first,
                                     std::span<const schema::Command::Reader> commands) override;
  Task<Result<void>> sync() override { return kv_->sync(); }

  Result<Inode> inode(InodeId ino) override;
  Result<Inode> lookup(InodeId parent, std::string_view name) override;
  Result<std::vector<Dentry>> readdir(InodeId dir, uint64_t cookie, size_t limit) override;
  Result<std::string> getxattr(InodeId ino, std::string_view name) override;
  Result<std::vector<std::string>> listxattr(InodeId ino) override;
  Result<std::vector<Chunk>> chunks(InodeId ino, uint32_t first, uint32_t count) override;
  Result<std::vector<Garbage>> garbage(uint64_t after, size_t limit) override;
  Result<std::vector<Orphan>> orphans(InodeId after, size_t limit) override;
  std::vector<SessionInfo> sessions() override;
  [[nodiscard]] bool remembers(SessionId session, uint64_t seq) const override;
  [[nodiscard]] const ClusterMap& map() const override { return state_.cluster.map; }
  [[nodiscard]] MapEpoch fenceEpoch() const override { return state_.cluster.fenceEpoch; }
  [[nodiscard]] Counts counts() const override { return state_.counters.counts; }
  std::map<PoolId, uint64_t> poolChunks() override {
    std::map<PoolId, uint64_t> chunks;
    for (const auto& [pool, use] : state_.poolUse) chunks[pool] = use.chunks;
    return chunks;
  }
  std::vector<std::string> verify() override;
  Result<std::vector<FileChunk>> fileChunks(InodeId ino, uint32_t index, size_t limit) override;
  [[nodiscard]] ChunkId nextChunk() const override { return ChunkId{state_.counters.nextChunk}; }

 private:
  Result<Applied> applyOne(schema::Command::Reader command);
  Result<Applied> execute(schema::Command::Reader command);

  std::unique_ptr<Kv> kv_;
  State state_;
  kj::Array<capnp::word> scratch_;  // zero between commands
  // No garbage lies below: spares garbage() the walk over what LevelDB has deleted already.
  uint64_t garbageFrom_ = 1;
  std::optional<Error> broken_;  // why apply() may not go on
};

}  // namespace cairn::mds
