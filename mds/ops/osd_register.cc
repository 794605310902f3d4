// An OSD says what it is and that it serves: a new store gets an id, a known one keeps its. The
// answer is the id. A registration that changes nothing makes no epoch; bytesUsed does not count.
//
// Errors: kInvalid (no uuid, no address, texts of unreasonable length, unknown class).
#include "mds/ops/groups.h"
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/ops/osds.h"
#include "mds/state/records.h"

namespace cairn::mds::ops {
namespace {

OsdEntry* findStore(ClusterMap& map, const Uuid& uuid) {
  for (auto& [id, osd] : map.osds)
    if (osd.uuid == uuid) return &osd;
  return nullptr;
}

}  // namespace

Result<void> osdRegister(OpContext& ctx, schema::OsdRegister::Reader args) {
  const Uuid uuid{args.getUuid().getHi(), args.getUuid().getLo()};
  const auto addr = textOf(args.getAddr()), host = textOf(args.getHost()),
             rack = textOf(args.getRack());
  if (!uuid) return fail(Errc::kInvalid, "an OSD needs the uuid of its store");
  if (addr.empty() || addr.size() + host.size() + rack.size() > kMaxTextBytes)
    return fail(Errc::kInvalid, "the OSD's address, host or rack is empty or too long");
  if (args.getDeviceClass() > schema::DeviceClass::HDD)
    return fail(Errc::kInvalid, "unknown device class");

  ClusterState& cluster = ctx.changeCluster();
  OsdEntry* osd = findStore(cluster.map, uuid);
  if (osd == nullptr) {
    OsdId id(ctx.counters().nextOsd++);
    osd = &cluster.map.osds[id];
    osd->id = id;
    osd->uuid = uuid;
    osd->in = true;
  }
  OsdEntry before = *osd;
  osd->addr = addr;
  osd->host = host;
  osd->rack = rack;
  osd->deviceClass = args.getDeviceClass();
  osd->bytesTotal = args.getBytesTotal();
  if (!osd->fixedWeight) osd->weight = weightOf(osd->bytesTotal);
  osd->bytesUsed = before.bytesUsed = args.getBytesUsed();
  osd->pid = args.getPid();
  osd->incarnation = args.getIncarnation();
  comeUp(*osd);
  if (encodeOsd(*osd) != encodeOsd(before)) newEpoch(cluster, ctx.counters());
  ctx.reply().setId(osd->id.value);
  return {};
}

}  // namespace cairn::mds::ops
