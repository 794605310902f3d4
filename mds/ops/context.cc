#include "mds/ops/context.h"

#include <sys/stat.h>

#include "common/base/assert.h"
#include "mds/state/keys.h"

namespace cairn::mds {

OpContext::OpContext(State& state, schema::Command::Reader command,
                     kj::ArrayPtr<capnp::word> scratch)
    : state_(state), command_(command), counters_(state.counters), scratch_(scratch) {}

Result<Inode*> OpContext::storedInode(InodeId ino) {
  if (auto it = inodes_.find(ino); it != inodes_.end())
    return it->second.gone ? nullptr : &it->second.inode;
  auto inode = state_.inode(ino);
  TRY(inode);
  if (!*inode) return nullptr;
  auto [it, isNew] = inodes_.try_emplace(ino);
  it->second.inode = std::move(**inode);
  return &it->second.inode;
}

Result<Inode*> OpContext::inode(InodeId ino) {
  auto inode = storedInode(ino);
  TRY(inode);
  if (*inode == nullptr) return fail(Errc::kStale);
  if ((*inode)->nlink == 0) {
    const auto* holders = orphan(ino);
    if (holders == nullptr || holders->empty()) return fail(Errc::kStale);
  }
  return inode;
}

Result<Inode*> OpContext::directory(InodeId ino) {
  auto dir = inode(ino);
  TRY(dir);
  if (!(*dir)->isDirectory()) return fail(Errc::kNotDirectory);
  if ((*dir)->nlink == 0) return fail(Errc::kNotFound);
  return dir;
}

Result<Inode*> OpContext::regularFile(InodeId ino) {
  auto file = inode(ino);
  TRY(file);
  if ((*file)->isDirectory()) return fail(Errc::kIsDirectory);
  if (!(*file)->isRegular()) return fail(Errc::kInvalid);
  return file;
}

Inode& OpContext::add(InodeId ino, uint32_t mode) {
  ++counters_.counts.inodes;
  Loaded& made = inodes_[ino];
  made.dirty = true;
  Inode& i = made.inode;
  i.ino = ino;
  i.generation = static_cast<uint32_t>(command_.getRandom());
  i.mode = mode;
  i.nlink = S_ISDIR(mode) ? 2 : 1;
  i.atimeNs = i.mtimeNs = i.ctimeNs = i.btimeNs = timeNs();
  i.changeVersion = 1;
  return i;
}

Inode& OpContext::newInode(uint32_t mode, uint32_t uid, uint32_t gid, PoolId pool) {
  Inode& i = add(InodeId(counters_.nextInode++), mode);
  i.uid = uid;
  i.gid = gid;
  setPool(i, pool);
  return i;
}

Inode& OpContext::newRoot(PoolId pool) {
  Inode& root = add(kRootInode, S_IFDIR | 0755);
  setPool(root, pool);
  root.parent = kRootInode;
  return root;
}

OpContext::Loaded& OpContext::loaded(const Inode& inode) {
  auto it = inodes_.find(inode.ino);
  CAIRN_ASSERT(it != inodes_.end() && &it->second.inode == &inode,
               "an operation changes inodes of its own context");
  return it->second;
}

void OpContext::touch(Inode& inode) {
  Loaded& entry = loaded(inode);
  if (entry.dirty) return;
  entry.dirty = true;
  ++inode.changeVersion;
}

void OpContext::changed(Inode& inode) {
  touch(inode);
  // A leader whose clock is behind its predecessor's must not take ctime back: incremental backup
  // and make(1) rely on it.
  inode.ctimeNs = std::max(inode.ctimeNs, timeNs());
}

void OpContext::modified(Inode& inode) {
  changed(inode);
  inode.mtimeNs = inode.ctimeNs;
}

void OpContext::setPool(Inode& inode, PoolId pool) {
  if (inode.pool) countUse(inode.pool, {.inodes = -1});
  countUse(pool, {.inodes = 1});
  inode.pool = pool;
}

void OpContext::dropInode(Inode& inode) {
  loaded(inode).gone = true;
  countUse(inode.pool, {.inodes = -1});
  --counters_.counts.inodes;
}

const std::vector<SessionId>* OpContext::orphan(InodeId ino) const {
  if (auto it = orphans_.find(ino); it != orphans_.end())
    return it->second ? &*it->second : nullptr;
  auto it = state_.orphans.find(ino);
  return it == state_.orphans.end() ? nullptr : &it->second;
}

Result<Inode*> OpContext::child(Inode& dir, std::string_view name) {
  auto entry = state_.dentry(dir.ino, name);
  TRY(entry);
  if (!*entry) return nullptr;
  auto inode = storedInode((*entry)->ino);
  TRY(inode);
  if (*inode == nullptr)
    return fail(Errc::kCorrupt, "an entry of directory " + std::to_string(dir.ino.value) +
                                    " names inode " + std::to_string((*entry)->ino.value) +
                                    ", which does not exist");
  return inode;
}

Result<bool> OpContext::hasEntry(const Inode& dir, std::string_view name) {
  auto entry = state_.dentry(dir.ino, name);
  TRY(entry);
  return entry->has_value();
}

void OpContext::attach(Inode& dir, std::string_view name, Inode& child) {
  const auto type = static_cast<uint8_t>((child.mode & S_IFMT) >> 12);  // DT_*, as IFTODT(3)
  state_.txn.put(keys::dentry(dir.ino, state_.cookieOf(name), name),
                 encodeDentry({child.ino, type}));
  ++dir.size;
  if (child.isDirectory()) {
    ++dir.nlink;
    child.parent = dir.ino;
    touch(child);
  }
}

void OpContext::detach(Inode& dir, std::string_view name, const Inode& child) {
  state_.txn.del(keys::dentry(dir.ino, state_.cookieOf(name), name));
  --dir.size;
  if (child.isDirectory()) --dir.nlink;
}

void OpContext::countUse(PoolId pool, UseChange change) {
  UseChange& sum = useChanges_[pool];
  sum.chunks += change.chunks;
  sum.inodes += change.inodes;
  sum.garbage += change.garbage;
  counters_.counts.chunks += static_cast<uint64_t>(change.chunks);
}

ClusterState& OpContext::changeCluster() {
  if (!newCluster_) newCluster_ = state_.cluster;
  return *newCluster_;
}

schema::MdsReply::Builder OpContext::reply() {
  if (!message_) {
    message_.emplace(scratch_);
    return message_->initRoot<schema::MdsReply>();
  }
  return message_->getRoot<schema::MdsReply>();
}

namespace {
void writeChunks(capnp::List<schema::ChunkRef>::Builder list, const std::vector<Chunk>& chunks) {
  for (uint32_t i = 0; i < chunks.size(); ++i) {
    list[i].setIndex(chunks[i].index);
    list[i].setChunk(chunks[i].id.value);
    list[i].setPool(chunks[i].pool.value);
  }
}
}  // namespace

void OpContext::replyEntry(const Inode& inode, const std::vector<Chunk>& chunks) {
  auto entry = reply().initEntry();
  inode.write(entry.initAttr());
  if (!chunks.empty()) writeChunks(entry.initChunks(static_cast<uint32_t>(chunks.size())), chunks);
}

void OpContext::replyChunks(const std::vector<Chunk>& chunks) {
  writeChunks(reply().initChunks().initChunks(static_cast<uint32_t>(chunks.size())), chunks);
}

void OpContext::finish() {
  Txn& txn = state_.txn;
  for (auto& [ino, entry] : inodes_) {
    if (entry.gone)
      txn.del(keys::inode(ino));
    else if (entry.dirty)
      txn.put(keys::inode(ino), encodeInode(entry.inode));
  }
  for (auto& [ino, holders] : orphans_) {
    if (holders) {
      txn.put(keys::orphan(ino), encodeOrphan(*holders));
      state_.orphans[ino] = std::move(*holders);
    } else if (state_.orphans.erase(ino) != 0) {
      txn.del(keys::orphan(ino));
    }
  }
  for (auto [pool, change] : useChanges_) {
    PoolUse& use = state_.poolUse[pool];
    const PoolUse before = use;
    use.chunks += static_cast<uint64_t>(change.chunks);
    use.inodes += static_cast<uint64_t>(change.inodes);
    use.garbage += static_cast<uint64_t>(change.garbage);
    if (use != before) txn.put(keys::poolUse(pool), encodePoolUse(use));
  }
  if (opened_) {
    txn.put(keys::session(opened_->id), encodeSession(*opened_));
    state_.sessions[opened_->id].info = *opened_;
  }
  if (ended_) {
    for (uint64_t seq : state_.sessions[*ended_].remembered) txn.del(keys::reply(*ended_, seq));
    txn.del(keys::session(*ended_));
    state_.sessions.erase(*ended_);
  }
  if (newCluster_) storeCluster();
  state_.counters = counters_;
}

// Writes the records that differ, so that an epoch costs what it changed.
void OpContext::storeCluster() {
  Txn& txn = state_.txn;
  const ClusterMap& before = state_.cluster.map;
  const ClusterMap& after = newCluster_->map;
  txn.put(keys::mapHeader(), encodeMapHeader({after.epoch, after.cluster}));
  if (newCluster_->fenceEpoch != state_.cluster.fenceEpoch)
    txn.put(keys::mapFence(), encodeFence({newCluster_->fenceEpoch, after.fence}));
  if (after.rebalancePaused && !before.rebalancePaused)
    txn.put(keys::mapPause(), encodePause());
  else if (before.rebalancePaused && !after.rebalancePaused)
    txn.del(keys::mapPause());
  for (const auto& [group, away] : newCluster_->away) {
    auto old = state_.cluster.away.find(group);
    if (old == state_.cluster.away.end() || old->second != away)
      txn.put(keys::mapAway(group.first, group.second), encodeAway(away));
  }
  for (const auto& [group, away] : state_.cluster.away)
    if (!newCluster_->away.contains(group)) txn.del(keys::mapAway(group.first, group.second));
  for (const auto& [id, osd] : after.osds) {
    const auto* old = before.osd(id);
    auto record = encodeOsd(osd);
    if (old == nullptr || encodeOsd(*old) != record) txn.put(keys::mapOsd(id), std::move(record));
  }
  auto encoded = [](const ClusterState& cluster, const Pool& pool) {
    PoolRecord record;
    record.pool = pool;
    record.pool.pgs.clear();
    record.autoDomain = cluster.autoDomain.contains(pool.id);
    record.pgCount = static_cast<uint32_t>(pool.pgs.size());
    return encodePool(record);
  };
  for (const auto& [id, pool] : after.pools) {
    const auto* old = before.pool(id);
    auto record = encoded(*newCluster_, pool);
    if (old == nullptr || encoded(state_.cluster, *old) != record)
      txn.put(keys::mapPool(id), std::move(record));
    for (uint32_t pg = 0; pg < pool.pgs.size(); ++pg) {
      const auto& group = pool.pgs[pg];
      if (old == nullptr || !(old->pgs[pg] == group))
        txn.put(keys::mapGroup(id, PgIndex(pg)), encodeGroup(group));
    }
  }
  for (const auto& [id, osd] : before.osds)
    if (after.osd(id) == nullptr) txn.del(keys::mapOsd(id));
  for (const auto& [id, pool] : before.pools) {
    if (after.pool(id) != nullptr) continue;
    txn.del(keys::mapPool(id));
    for (uint32_t pg = 0; pg < pool.pgs.size(); ++pg) txn.del(keys::mapGroup(id, PgIndex(pg)));
    txn.del(keys::poolUse(id));
    state_.poolUse.erase(id);
  }
  state_.cluster = std::move(*newCluster_);
}

std::string OpContext::takeReply() {
  if (!message_) return {};
  auto segments = message_->getSegmentsForOutput();
  auto flat = [](kj::ArrayPtr<const capnp::word> words) {
    auto bytes = words.asBytes();
    return std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size());
  };
  if (segments.size() == 1) return flat(segments[0]);
  auto root = message_->getRoot<schema::MdsReply>().asReader();
  capnp::MallocMessageBuilder whole(static_cast<uint32_t>(root.totalSize().wordCount + 1));
  whole.setRoot(root);
  auto only = whole.getSegmentsForOutput();
  CAIRN_ASSERT(only.size() == 1, "a message copied into enough room has one segment");
  return flat(only[0]);
}

Result<void> checkName(std::string_view name) {
  if (name.size() > kMaxNameBytes) return fail(Errc::kNameTooLong);
  if (name.empty() || name == "." || name == "..") return fail(Errc::kInvalid);
  if (name.find('/') != name.npos || name.find('\0') != name.npos) return fail(Errc::kInvalid);
  return {};
}

}  // namespace cairn::mds
