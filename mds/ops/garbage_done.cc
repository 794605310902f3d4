// The OSDs have given these chunks' space back. Positions that are not in the queue are ignored: a
// new leader may repeat what its predecessor had said.
#include "mds/ops/ops.h"
#include "mds/state/keys.h"
#include "mds/state/records.h"

namespace cairn::mds::ops {

Result<void> garbageDone(OpContext& ctx, capnp::List<uint64_t>::Reader args) {
  for (uint64_t seq : args) {
    auto key = keys::garbage(seq);
    auto record = ctx.state().txn.get(key);
    TRY(record);
    if (!*record) continue;
    auto chunk = decodeChunk(key, **record);
    TRY(chunk);
    ctx.countUse(chunk->pool, {.garbage = -1});
    ctx.state().txn.del(std::move(key));
    --ctx.counters().counts.garbage;
  }
  return {};
}

}  // namespace cairn::mds::ops
