// What an administrator decides of an OSD: in or out, and its weight. Out: its groups move to
// others, and it serves until they have. An OSD that an administrator put out stays so whatever it
// does. One epoch if something changed.
//
// Errors: kNotFound (no such OSD).
#include "mds/ops/groups.h"
#include "mds/ops/ops.h"
#include "mds/ops/osds.h"
#include "mds/state/records.h"

namespace cairn::mds::ops {

Result<void> osdSet(OpContext& ctx, schema::OsdSet::Reader args) {
  ClusterState& cluster = ctx.changeCluster();
  auto it = cluster.map.osds.find(OsdId(args.getId()));
  if (it == cluster.map.osds.end())
    return fail(Errc::kNotFound, "there is no osd." + std::to_string(args.getId()));
  OsdEntry& osd = it->second;
  const std::string before = encodeOsd(osd);
  if (args.getSetIn()) {
    osd.in = args.getIn();
    osd.autoOut = false;
  }
  if (args.getSetWeight()) {
    osd.fixedWeight = args.getWeight() != 0;
    osd.weight = osd.fixedWeight ? args.getWeight() : weightOf(osd.bytesTotal);
  }
  if (encodeOsd(osd) != before) newEpoch(cluster, ctx.counters());
  return {};
}

}  // namespace cairn::mds::ops
