#include "test/sim/cluster_checks.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>

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

}  // namespace

void checkDrained(SimCluster& cluster) {
  mds::StateMachine& state = cluster.mds().state();
  auto drained = [&] {
    if (state.counts().garbage != 0) return false;
    auto orphans = state.orphans(InodeId{}, 1);
    if (!orphans || !orphans->empty()) return false;
    for (const auto& [id, pool] : state.map().pools)
      for (const PlacementGroup& group : pool.pgs)
        if (group.osds.size() != pool.width() || !group.joining.empty()) return false;
    // What moved away is removed where it was.
    for (size_t i = 0; i < cluster.options().osds; ++i) {
      auto groups = cluster.osd(i).store().groups();
      if (!groups) return false;
      for (osd::GroupId id : *groups) {
        auto group = state.map().group(id.pool, id.pg);
        if (!group || std::ranges::count((*group)->osds, cluster.osd(i).id()) == 0) return false;
      }
    }
    return true;
  };
  const bool done = cluster.world.runUntil(drained, 120s);
  CHECK_MESSAGE(done, "not drained: ", state.counts().garbage, " chunks of garbage");
}

void checkState(SimCluster& cluster) {
  for (const std::string& broken : cluster.mds().state().verify()) FAIL_CHECK(broken);
}

void checkReplicas(SimCluster& cluster, Equality equality) {
  mds::StateMachine& state = cluster.mds().state();
  const ClusterMap& map = state.map();
  const auto known = knownChunks(state);
  std::map<OsdId, size_t> indexOf;
  std::vector<std::map<ChunkId, osd::ChunkInfo>> stored(cluster.options().osds);
  for (size_t i = 0; i < stored.size(); ++i) {
    indexOf[cluster.osd(i).id()] = i;
    auto list = cluster.osd(i).store().list(ChunkId{}, SIZE_MAX);
    REQUIRE(list.has_value());
    for (const osd::ListedChunk& c : *list) {
      stored[i][c.id] = c.info;
      const auto at = known.find(c.id);
      if (at == known.end()) {
        FAIL_CHECK(SimCluster::osdHost(i), " stores chunk ", c.id.value, ", which no file has");
        continue;
      }
      auto group = map.group(at->second.pool, map.pool(at->second.pool)->pgOf(c.id));
      REQUIRE(group.has_value());
      CHECK_MESSAGE(std::ranges::count((*group)->osds, cluster.osd(i).id()) == 1,
                    SimCluster::osdHost(i), " is no member of the group of chunk ", c.id.value);
    }
  }
  for (const auto& [id, chunk] : known) {
    auto group = map.group(chunk.pool, map.pool(chunk.pool)->pgOf(id));
    REQUIRE(group.has_value());
    const size_t first = indexOf.at((*group)->osds.front());
    for (OsdId member : (*group)->osds) {
      const size_t i = indexOf.at(member);
      if (i == first) continue;
      const std::string where = "chunk " + std::to_string(id.value) + " of inode " +
                                std::to_string(chunk.ino.value) + " on " +
                                SimCluster::osdHost(first) + " and " + SimCluster::osdHost(i);
      const uint64_t bytes = equality == Equality::kExact ? kChunkSize : chunk.bytes;
      CHECK_MESSAGE(sameContent(cluster, first, i, id, bytes), where, ": contents differ");
      if (equality != Equality::kExact) continue;
      const auto left = stored[first].find(id), right = stored[i].find(id);
      const bool there = left != stored[first].end();
      CHECK_MESSAGE(there == (right != stored[i].end()), where, ": one is missing");
      if (there && right != stored[i].end())
        CHECK_MESSAGE(left->second.version == right->second.version, where, ": versions differ");
    }
  }
}

void checkStores(SimCluster& cluster) {
  for (size_t i = 0; i < cluster.options().osds; ++i) {
    cluster.endOsd(i);
    for (const std::string& line : cluster.checkStoreOf(i))
      FAIL_CHECK(SimCluster::osdHost(i), ": ", line);
  }
}

}  // namespace cairn::sim::test
