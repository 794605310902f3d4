#include "test/sim/cluster_checks.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/erasure/erasure_code.h"
#include "osd/service/erasure/shard_ids.h"
#include "osd/service/erasure/shard_layout.h"

namespace cairn::sim::test {
namespace {

// A chunk that a file has.
struct Known {
  InodeId ino;
  PoolId pool;
  uint64_t bytes = 0;  // of the file, in this chunk
};

void addChunks(mds::StateMachine& state, InodeId ino, std::map<ChunkId, Known>& out) {
  auto inode = state.inode(ino);
  REQUIRE(inode.has_value());
  for (uint32_t first = 0;;) {
    auto chunks = state.chunks(ino, first, 1024);
    REQUIRE(chunks.has_value());
    if (chunks->empty()) return;
    for (const mds::Chunk& c : *chunks) {
      const uint64_t start = uint64_t{c.index} * kChunkSize;
      const uint64_t bytes = inode->size > start ? std::min(inode->size - start, kChunkSize) : 0;
      CHECK(out.emplace(c.id, Known{ino, c.pool, bytes}).second);
    }
    first = chunks->back().index + 1;
  }
}

std::map<ChunkId, Known> knownChunks(mds::StateMachine& state) {
  std::map<ChunkId, Known> out;
  std::vector<InodeId> files, directories{kRootInode};
  while (!directories.empty()) {
    const InodeId dir = directories.back();
    directories.pop_back();
    for (uint64_t cookie = 0;;) {
      auto page = state.readdir(dir, cookie, 100);
      REQUIRE(page.has_value());
      if (page->empty()) break;
      for (const mds::Dentry& d : *page) {
        cookie = d.cookie;
        if (d.name == "." || d.name == "..") continue;
        auto inode = state.inode(d.ino);
        REQUIRE(inode.has_value());
        if (inode->isDirectory()) directories.push_back(d.ino);
        if (inode->isRegular()) files.push_back(d.ino);
      }
    }
  }
  std::ranges::sort(files);  // hard links: once
  files.erase(std::ranges::unique(files).begin(), files.end());
  for (InodeId ino : files) addChunks(state, ino, out);
  return out;
}

using Extents = std::vector<std::pair<uint32_t, uint32_t>>;

std::string readRange(SimCluster& cluster, size_t osd, ChunkId chunk, uint32_t from,
                      uint32_t length) {
  auto read =
      cluster.world.await(cluster.osdNode(osd), cluster.osd(osd).store().read(chunk, from, length));
  REQUIRE(read.has_value());
  REQUIRE_MESSAGE(read->has_value(), read->error().text());
  if ((*read)->hole) return std::string(length, '\0');
  return {reinterpret_cast<const char*>((*read)->data.data()), (*read)->data.size()};
}

// Everything that either stores, of the first `bytes`.
bool sameContent(SimCluster& cluster, size_t a, size_t b, ChunkId chunk, uint64_t bytes) {
  for (size_t side : {a, b}) {
    auto extents = cluster.osd(side).store().extents(chunk, 0, SIZE_MAX);
    REQUIRE(extents.has_value());
    for (auto [offset, length] : *extents)
      for (uint64_t at = offset, end = uint64_t{offset} + length; at < end; at += kMiB) {
        const auto n = static_cast<uint32_t>(std::min(end - at, kMiB));
        std::string left = readRange(cluster, a, chunk, static_cast<uint32_t>(at), n);
        std::string right = readRange(cluster, b, chunk, static_cast<uint32_t>(at), n);
        const uint64_t counts = at < bytes ? std::min<uint64_t>(n, bytes - at) : 0;
        left.resize(counts);
        right.resize(counts);
        if (left != right) return false;
      }
  }
  return true;
}

// What all OSDs store.
struct Stored {
  std::map<OsdId, size_t> indexOf;
  std::vector<std::map<ChunkId, osd::ChunkInfo>> chunks;  // by their names there
};

Stored listAll(SimCluster& cluster) {
  Stored all;
  all.chunks.resize(cluster.osds());
  for (size_t i = 0; i < all.chunks.size(); ++i) {
    all.indexOf[cluster.osd(i).id()] = i;
    auto list = cluster.osd(i).store().list(ChunkId{}, SIZE_MAX);
    REQUIRE(list.has_value());
    for (const osd::ListedChunk& c : *list) all.chunks[i][c.id] = c.info;
  }
  return all;
}

// A chunk that an OSD stores belongs to a file, lies in a group of which the OSD is a member, and
// is of the shard that it holds there.
void checkPlace(SimCluster& cluster, const std::map<ChunkId, Known>& known, size_t osd,
                ChunkId stored, const osd::ChunkInfo& info) {
  const ClusterMap& map = cluster.mds().state().map();
  const OsdId self = cluster.osd(osd).id();
  const ChunkId id = osd::unstaged(osd::onWire(stored));
  const bool isStaged = osd::isStaged(stored);
  const std::string what = SimCluster::osdHost(osd) + (isStaged ? ", staged chunk " : ", chunk ") +
                           std::to_string(id.value);
  const auto at = known.find(id);
  if (at == known.end()) {
    FAIL_CHECK(what, ": no file has it");
    return;
  }
  const Pool& pool = *map.pool(at->second.pool);
  const osd::GroupId groupId{pool.id, pool.pgOf(id)};
  const PlacementGroup& group = pool.pgs.at(groupId.pg.value);
  if (std::ranges::count(group.osds, self) != 1) {
    FAIL_CHECK(what, ": it is no member of the group");
    return;
  }
  const uint8_t shard = group.shardOf(self);
  CHECK_MESSAGE(stored == osd::inStore(isStaged ? osd::staged(id) : id, shard), what,
                ": not of the shard that it holds");
  CHECK_MESSAGE(info.group == osd::inStore(groupId, shard), what, ": not in its group");
  if (!isStaged) return;
  CHECK_MESSAGE(pool.erasureCoded(), what, ": the pool has none");
  CHECK_MESSAGE(info.blocks == 0, what, ": something is left in it");
}

// The members of a group of copies hold the same.
void checkCopies(SimCluster& cluster, const Stored& stored, const PlacementGroup& group, ChunkId id,
                 const Known& chunk, Equality equality) {
  const size_t first = stored.indexOf.at(group.osds.front());
  for (OsdId member : group.osds) {
    const size_t i = stored.indexOf.at(member);
    if (i == first) continue;
    const std::string where = "chunk " + std::to_string(id.value) + " of inode " +
                              std::to_string(chunk.ino.value) + " on " +
                              SimCluster::osdHost(first) + " and " + SimCluster::osdHost(i);
    const uint64_t bytes = equality == Equality::kExact ? kChunkSize : chunk.bytes;
    CHECK_MESSAGE(sameContent(cluster, first, i, id, bytes), where, ": contents differ");
    if (equality != Equality::kExact) continue;
    const auto left = stored.chunks[first].find(id), right = stored.chunks[i].find(id);
    const bool there = left != stored.chunks[first].end();
    CHECK_MESSAGE(there == (right != stored.chunks[i].end()), where, ": one is missing");
    if (there && right != stored.chunks[i].end())
      CHECK_MESSAGE(left->second.version == right->second.version, where, ": versions differ");
  }
}

// Row by row, what the members of an erasure-coded group hold is a word of the code. That holds of
// all bytes, whoever died: a change of a stripe is made on all shards or on none.
void checkWords(SimCluster& cluster, const Stored& stored, const Pool& pool,
                const PlacementGroup& group, ChunkId id, const Known& chunk) {
  constexpr uint32_t kStretch = 64 * kKiB;
  const osd::ShardLayout layout = osd::ShardLayout::of(pool);
  const ErasureCode code(layout.data, layout.parity);
  const std::string what =
      "chunk " + std::to_string(id.value) + " of inode " + std::to_string(chunk.ino.value);
  std::map<uint8_t, size_t> holders;
  for (OsdId member : group.osds) holders[group.shardOf(member)] = stored.indexOf.at(member);
  REQUIRE_MESSAGE(holders.size() == layout.shards(), what, ": nobody has some shard");
  std::set<uint32_t> stretches;  // where any shard has data
  for (const auto& [shard, osd] : holders) {
    auto extents = cluster.osd(osd).store().extents(osd::inStore(id, shard), 0, SIZE_MAX);
    REQUIRE(extents.has_value());
    for (auto [offset, length] : *extents) {
      CHECK_MESSAGE((uint64_t{offset} + length) / kBlockSize <= layout.rows(), what,
                    ": data behind the last row, shard ", int{shard});
      for (uint32_t at = offset / kStretch; at <= (offset + length - 1) / kStretch; ++at)
        stretches.insert(at);
    }
  }
  for (uint32_t stretch : stretches) {
    std::vector<std::string> shards, made(layout.parity, std::string(kStretch, '\0'));
    for (const auto& [shard, osd] : holders)
      shards.push_back(
          readRange(cluster, osd, osd::inStore(id, shard), stretch * kStretch, kStretch));
    std::vector<const uint8_t*> data;
    std::vector<uint8_t*> parity;
    for (uint32_t d = 0; d < layout.data; ++d)
      data.push_back(reinterpret_cast<const uint8_t*>(shards[d].data()));
    for (std::string& p : made) parity.push_back(reinterpret_cast<uint8_t*>(p.data()));
    code.encode(data, parity, kStretch);
    for (uint32_t p = 0; p < layout.parity; ++p) {
      const auto differs = std::ranges::mismatch(made[p], shards[layout.data + p]);
      if (differs.in1 == made[p].end()) continue;
      const auto row =
          (stretch * kStretch + static_cast<size_t>(differs.in1 - made[p].begin())) / kBlockSize;
      FAIL_CHECK(what, ": parity shard ", layout.data + p, " on ",
                 SimCluster::osdHost(holders.at(static_cast<uint8_t>(layout.data + p))),
                 " is not what the data shards say, from row ", row, " on");
    }
  }
}

}  // namespace

void checkDrained(SimCluster& cluster) {
  mds::StateMachine& state = cluster.mds().state();
  // The names in stores are of the shards that the map says, in groups that it says.
  auto belongs = [&](osd::GroupId stored, OsdId self) {
    const osd::GroupId id = osd::onWire(stored);
    auto group = state.map().group(id.pool, id.pg);
    return group && std::ranges::count((*group)->osds, self) != 0 &&
           osd::shardOf(stored) == (*group)->shardOf(self);
  };
  std::string why;
  auto drained = [&] {
    why = std::to_string(state.counts().garbage) + " chunks of garbage";
    if (state.counts().garbage != 0) return false;
    why = "orphans";
    auto orphans = state.orphans(InodeId{}, 1);
    if (!orphans || !orphans->empty()) return false;
    why = "groups are not whole";
    if (!cluster.whole()) return false;
    for (size_t i = 0; i < cluster.osds(); ++i) {
      // What moved away, or was of another shard, is removed where it was.
      why = SimCluster::osdHost(i) + " keeps a group that it does not belong to";
      auto groups = cluster.osd(i).store().groups();
      if (!groups) return false;
      for (osd::GroupId id : *groups)
        if (!belongs(id, cluster.osd(i).id())) return false;
    }
    // The last rounds of changes of stripes follow what they acknowledged.
    const auto staged = cluster.withStaged();
    if (staged) why = SimCluster::osdHost(*staged) + " has changes staged";
    return !staged;
  };
  const bool done = cluster.world.runUntil(drained, 120s);
  CHECK_MESSAGE(done, "not drained: ", why);
}

void checkState(SimCluster& cluster) {
  for (const std::string& broken : cluster.mds().state().verify()) FAIL_CHECK(broken);
}

void checkReplicas(SimCluster& cluster, Equality equality) {
  mds::StateMachine& state = cluster.mds().state();
  const auto known = knownChunks(state);
  const Stored stored = listAll(cluster);
  for (size_t i = 0; i < stored.chunks.size(); ++i)
    for (const auto& [name, info] : stored.chunks[i]) checkPlace(cluster, known, i, name, info);
  for (const auto& [id, chunk] : known) {
    const Pool& pool = *state.map().pool(chunk.pool);
    const PlacementGroup& group = pool.pgs.at(pool.pgOf(id).value);
    if (cluster.options().striped) CHECK(pool.erasureCoded());
    if (pool.erasureCoded())
      checkWords(cluster, stored, pool, group, id, chunk);
    else
      checkCopies(cluster, stored, group, id, chunk, equality);
  }
}

void checkStores(SimCluster& cluster) {
  for (size_t i = 0; i < cluster.osds(); ++i) {
    cluster.endOsd(i);
    for (const std::string& line : cluster.checkStoreOf(i))
      FAIL_CHECK(SimCluster::osdHost(i), ": ", line);
  }
}

}  // namespace cairn::sim::test
