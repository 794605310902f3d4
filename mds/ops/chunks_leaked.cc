// Chunks that OSDs store and nothing names go to the garbage queue, and with it from the OSDs.
//
// Invariant: nothing that a file uses, or may come to use, gets there. An id is given out once
// (Counters::nextChunk only grows), into a chunk map: that of an open file whose writer has not
// committed yet, of an orphan, or condemned, as well. From there it goes to the garbage queue, and
// from there nowhere. So an id that was given out, and that at one later moment is in no chunk map
// and not in the queue, is in none for ever: what was seen by the leader when `below` was the next
// id (findLeaked in mds/server) is still so now, whatever was done in between. What it cannot have
// seen are ids given out since, and these are not below `below`.
//
// The leader proposes these one after another, and each after it has seen the one before: so none
// comes into the queue twice. A pool that is gone is skipped, and its chunks with it.
//
// Errors: kInvalid (ids out of order, none below `below`, or that was never the next id); then
// nothing is queued.
#include "mds/ops/ops.h"
#include "mds/state/keys.h"

namespace cairn::mds::ops {

Result<void> chunksLeaked(OpContext& ctx, schema::ChunksLeaked::Reader args) {
  Counters& counters = ctx.counters();
  if (args.getBelow() > counters.nextChunk) return fail(Errc::kInvalid);
  uint64_t last = 0;
  for (auto c : args.getChunks()) {
    if (c.getChunk() <= last || c.getChunk() >= args.getBelow()) return fail(Errc::kInvalid);
    last = c.getChunk();
    const PoolId pool(c.getPool());
    if (ctx.cluster().map.pool(pool) == nullptr) continue;
    ctx.state().txn.put(keys::garbage(counters.nextGarbage++), encodeChunk({ChunkId(last), pool}));
    ++counters.counts.garbage;
    ctx.countUse(pool, {.garbage = 1});
  }
  return {};
}

}  // namespace cairn::mds::ops
