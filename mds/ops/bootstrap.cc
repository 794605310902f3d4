// The first command of a cluster: its uuid, the root directory and the pool "default", whose groups
// are placed as soon as enough OSDs have registered.
//
// Errors: kExists (done before), kInvalid.
#include "mds/cluster/placement.h"
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/ops/pools.h"

namespace cairn::mds::ops {

Result<void> bootstrap(OpContext& ctx, schema::Bootstrap::Reader args) {
  const Uuid cluster{args.getCluster().getHi(), args.getCluster().getLo()};
  if (ctx.state().bootstrapped())
    return fail(Errc::kExists,
                "the cluster is set up already: it is " + ctx.cluster().map.cluster.text());
  if (!cluster) return fail(Errc::kInvalid, "a cluster needs a uuid");
  if (args.getReplicas() == 0 || args.getReplicas() > kMaxReplicas)
    return fail(Errc::kInvalid, "1 to " + std::to_string(kMaxReplicas) + " copies");

  ctx.changeCluster().map.cluster = cluster;
  Pool pool;
  pool.name = "default";
  pool.replicas = args.getReplicas();
  pool.minSize = pool.usualMinSize();
  const uint32_t pgCount = choosePgCount(ctx.cluster().map, pool);
  const PoolId id = addPool(ctx, std::move(pool), true, pgCount);
  Inode& root = ctx.newRoot(id);
  ctx.replyAttr(root);
  return {};
}

}  // namespace cairn::mds::ops
