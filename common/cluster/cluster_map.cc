#include "common/cluster/cluster_map.h"

#include "common/cluster/mix64.h"

namespace cairn {

std::string Pool::redundancy() const {
  if (replicas != 0) return std::to_string(replicas) + "x";
  return std::to_string(ecData) + "+" + std::to_string(ecParity);
}

uint16_t Pool::usualMinSize() const {
  if (!erasureCoded()) return static_cast<uint16_t>(replicas - replicas / 2);
  return static_cast<uint16_t>(ecParity > 1 ? ecData + 1 : ecData);
}

uint8_t PlacementGroup::shardOf(OsdId id) const {
  auto it = shards.find(id);
  return it == shards.end() ? 0 : it->second;
}

size_t PlacementGroup::inSync() const {
  if (shards.empty()) return osds.size();
  std::set<uint8_t> different;
  for (OsdId id : osds) different.insert(shardOf(id));
  return different.size();
}

PgIndex Pool::pgOf(ChunkId chunk) const {
  // A pool without groups is a malformed map: group() then says kNotFound.
  if (pgs.empty()) return PgIndex{0};
  return PgIndex{static_cast<uint32_t>(mix64(chunk.value) % pgs.size())};
}

bool ClusterMap::fenced(SessionId session) const {
  return session && session < fence.below && !fence.alive.contains(session);
}

const OsdEntry* ClusterMap::osd(OsdId id) const {
  auto it = osds.find(id);
  return it == osds.end() ? nullptr : &it->second;
}

const Pool* ClusterMap::pool(PoolId id) const {
  auto it = pools.find(id);
  return it == pools.end() ? nullptr : &it->second;
}

const Pool* ClusterMap::poolByName(std::string_view name) const {
  for (const auto& [id, p] : pools)
    if (p.name == name) return &p;
  return nullptr;
}

Result<const PlacementGroup*> ClusterMap::group(PoolId poolId, PgIndex pg) const {
  const Pool* p = pool(poolId);
  if (p == nullptr)
    return fail(Errc::kNotFound, "there is no pool " + std::to_string(poolId.value));
  if (pg.value >= p->pgs.size())
    return fail(Errc::kNotFound, "pool " + p->name + " has no placement group " +
                                     std::to_string(pg.value) + ", only " +
                                     std::to_string(p->pgs.size()));
  return &p->pgs[pg.value];
}

ClusterMap ClusterMap::read(schema::ClusterMap::Reader reader) {
  ClusterMap map;
  map.epoch = MapEpoch{reader.getEpoch()};
  map.cluster = {reader.getCluster().getHi(), reader.getCluster().getLo()};
  for (auto o : reader.getOsds()) {
    OsdEntry e;
    e.id = OsdId{o.getId()};
    e.uuid = {o.getUuid().getHi(), o.getUuid().getLo()};
    e.addr = o.getAddr().cStr();
    e.host = o.getHost().cStr();
    e.rack = o.getRack().cStr();
    e.deviceClass = o.getDeviceClass();
    e.weight = o.getWeight();
    e.up = o.getUp();
    e.in = o.getIn();
    e.bytesUsed = o.getBytesUsed();
    e.bytesTotal = o.getBytesTotal();
    e.pid = o.getPid();
    e.incarnation = o.getIncarnation();
    e.autoOut = o.getAutoOut();
    e.fixedWeight = o.getFixedWeight();
    map.osds[e.id] = std::move(e);
  }
  for (auto r : reader.getPools()) {
    Pool p;
    p.id = PoolId{r.getId()};
    p.name = r.getName().cStr();
    p.replicas = r.getReplicas();
    p.ecData = r.getEcData();
    p.ecParity = r.getEcParity();
    p.deviceClass = r.getDeviceClass();
    p.anyClass = r.getAnyClass();
    p.failureDomain = r.getFailureDomain();
    p.stripeUnit = r.getStripeUnit();
    p.minSize = r.getMinSize();
    p.pgs.reserve(r.getPgs().size());
    for (auto g : r.getPgs()) {
      PlacementGroup& pg = p.pgs.emplace_back();
      pg.epoch = MapEpoch{g.getEpoch()};
      pg.osds.reserve(g.getOsds().size());
      for (uint32_t id : g.getOsds()) pg.osds.emplace_back(id);
      for (uint32_t id : g.getJoining()) pg.joining.emplace_back(id);
      for (uint32_t id : g.getComplete()) pg.complete.emplace_back(id);
      const auto shards = g.getShards();
      for (uint32_t i = 0; i < shards.size(); ++i) {
        if (i < pg.osds.size())
          pg.shards[pg.osds[i]] = shards[i];
        else if (i - pg.osds.size() < pg.joining.size())
          pg.shards[pg.joining[i - pg.osds.size()]] = shards[i];
      }
    }
    map.pools[p.id] = std::move(p);
  }
  map.rebalancePaused = reader.getRebalancePaused();
  map.fence.below = SessionId{reader.getFence().getBelow()};
  for (uint64_t id : reader.getFence().getAlive()) map.fence.alive.emplace(id);
  return map;
}

void ClusterMap::write(schema::ClusterMap::Builder builder) const {
  builder.setEpoch(epoch.value);
  builder.initCluster().setHi(cluster.hi);
  builder.getCluster().setLo(cluster.lo);
  auto osdList = builder.initOsds(static_cast<uint32_t>(osds.size()));
  uint32_t i = 0;
  for (const auto& [id, e] : osds) {
    auto o = osdList[i++];
    o.setId(id.value);
    o.initUuid().setHi(e.uuid.hi);
    o.getUuid().setLo(e.uuid.lo);
    o.setAddr(e.addr);
    o.setHost(e.host);
    o.setRack(e.rack);
    o.setDeviceClass(e.deviceClass);
    o.setWeight(e.weight);
    o.setUp(e.up);
    o.setIn(e.in);
    o.setBytesUsed(e.bytesUsed);
    o.setBytesTotal(e.bytesTotal);
    o.setPid(e.pid);
    o.setIncarnation(e.incarnation);
    o.setAutoOut(e.autoOut);
    o.setFixedWeight(e.fixedWeight);
  }
  auto poolList = builder.initPools(static_cast<uint32_t>(pools.size()));
  i = 0;
  for (const auto& [id, p] : pools) {
    auto r = poolList[i++];
    r.setId(id.value);
    r.setName(p.name);
    r.setReplicas(p.replicas);
    r.setEcData(p.ecData);
    r.setEcParity(p.ecParity);
    r.setDeviceClass(p.deviceClass);
    r.setAnyClass(p.anyClass);
    r.setFailureDomain(p.failureDomain);
    r.setStripeUnit(p.stripeUnit);
    r.setMinSize(p.minSize);
    auto pgList = r.initPgs(static_cast<uint32_t>(p.pgs.size()));
    for (uint32_t g = 0; g < p.pgs.size(); ++g) {
      pgList[g].setEpoch(p.pgs[g].epoch.value);
      auto list = [](const std::vector<OsdId>& ids, auto out) {
        for (uint32_t m = 0; m < out.size(); ++m) out.set(m, ids[m].value);
      };
      list(p.pgs[g].osds, pgList[g].initOsds(static_cast<uint32_t>(p.pgs[g].osds.size())));
      if (!p.pgs[g].joining.empty())
        list(p.pgs[g].joining,
             pgList[g].initJoining(static_cast<uint32_t>(p.pgs[g].joining.size())));
      if (!p.erasureCoded()) continue;
      if (!p.pgs[g].complete.empty())
        list(p.pgs[g].complete,
             pgList[g].initComplete(static_cast<uint32_t>(p.pgs[g].complete.size())));
      if (p.pgs[g].shards.empty()) continue;
      const size_t members = p.pgs[g].osds.size() + p.pgs[g].joining.size();
      auto shards = pgList[g].initShards(static_cast<uint32_t>(members));
      uint32_t at = 0;
      for (const auto* ids : {&p.pgs[g].osds, &p.pgs[g].joining})
        for (OsdId id : *ids) shards.set(at++, p.pgs[g].shardOf(id));
    }
  }
  builder.setRebalancePaused(rebalancePaused);
  if (!fence.below) return;
  auto fenceOut = builder.initFence();
  fenceOut.setBelow(fence.below.value);
  auto alive = fenceOut.initAlive(static_cast<uint32_t>(fence.alive.size()));
  i = 0;
  for (SessionId id : fence.alive) alive.set(i++, id.value);
}

}  // namespace cairn
