// One function for each kind of mutation, each in the file of its name. An operation reads and
// changes through its context; on failure it simply returns the error (context.h). What each means
// is written at its definition; the messages are in common/schema/mds.capnp.
#pragma once

#include "mds/ops/context.h"

namespace cairn::mds::ops {

Result<void> make(OpContext& ctx, schema::Make::Reader args);
Result<void> link(OpContext& ctx, schema::Link::Reader args);
Result<void> remove(OpContext& ctx, schema::Remove::Reader args);
Result<void> rename(OpContext& ctx, schema::Rename::Reader args);
Result<void> setattr(OpContext& ctx, schema::Setattr::Reader args);
Result<void> setxattr(OpContext& ctx, schema::Setxattr::Reader args);
Result<void> removeXattr(OpContext& ctx, schema::XattrName::Reader args);
Result<void> allocChunks(OpContext& ctx, schema::Chunks::Reader args);
Result<void> removeChunks(OpContext& ctx, schema::Chunks::Reader args);
Result<void> commitWrite(OpContext& ctx, schema::CommitWrite::Reader args);
Result<void> tailCleaned(OpContext& ctx, schema::TailCleaned::Reader args);
Result<void> accessed(OpContext& ctx, schema::Accessed::Reader args);
Result<void> setLayout(OpContext& ctx, schema::SetLayout::Reader args);
Result<void> sessionOpen(OpContext& ctx, schema::SessionOpen::Reader args);
Result<void> sessionEnd(OpContext& ctx, schema::SessionEnd::Reader args);
Result<void> releaseOrphan(OpContext& ctx, schema::ReleaseOrphan::Reader args);
Result<void> purge(OpContext& ctx, schema::Purge::Reader args);
Result<void> garbageDone(OpContext& ctx, capnp::List<uint64_t>::Reader args);
Result<void> osdRegister(OpContext& ctx, schema::OsdRegister::Reader args);
Result<void> osdState(OpContext& ctx, capnp::List<schema::OsdState>::Reader args);
Result<void> osdsLost(OpContext& ctx, capnp::List<uint32_t>::Reader args);
Result<void> osdSet(OpContext& ctx, schema::OsdSet::Reader args);
Result<void> groupReport(OpContext& ctx, capnp::List<schema::GroupChange>::Reader args);
Result<void> osdRemove(OpContext& ctx, schema::OsdRemove::Reader args);
Result<void> poolCreate(OpContext& ctx, schema::PoolCreate::Reader args);
Result<void> poolSet(OpContext& ctx, schema::PoolSet::Reader args);
Result<void> poolRemove(OpContext& ctx, capnp::Text::Reader name);
Result<void> rebalancePause(OpContext& ctx, bool paused);
Result<void> chunksLeaked(OpContext& ctx, schema::ChunksLeaked::Reader args);
Result<void> bootstrap(OpContext& ctx, schema::Bootstrap::Reader args);

// Picks the one that `ctx.command()` asks for. kUnavailable before the cluster was bootstrapped;
// kNotSupported for a kind this program does not know. May throw kj::Exception on a malformed
// message.
Result<void> dispatch(OpContext& ctx);

}  // namespace cairn::mds::ops
