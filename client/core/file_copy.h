// copy_file_range(2) between two files of a mount, or inside one.
//
// What of the range lies at the same place of its chunks in source and target is cloned: the OSDs
// share the blocks, and no byte moves (osd.capnp, Clone). A chunk of the target is made in the
// group of its source's for that. Only whole blocks before the end of the source are cloned: what
// its last block holds behind the end is not always zeros. The rest, the edges and what cannot be
// shared (another pool, chunks that lie elsewhere already), is read and written.
//
// A copy is not one step: each byte is one that the source held there during the call. So no lease
// of one file is held while one of the other is waited for, which between two mounts would be a
// circle: the source is made durable and looked at under its lease, and cloned under the target's.
#pragma once

#include "client/core/file.h"

namespace cairn::client {

// Bytes copied, at most so many that an interruption is not kept waiting; 0 at the end of the
// source. They are as durable, and as visible to others, as written ones. The ranges do not
// overlap.
Task<Result<uint64_t>> copyRange(std::shared_ptr<Handle> in, uint64_t inOffset,
                                 std::shared_ptr<Handle> out, uint64_t outOffset, uint64_t length);

}  // namespace cairn::client
