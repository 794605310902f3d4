// MDS answers to the client's values. May throw kj::Exception: call inside decode().
#pragma once

#include "client/core/mds_ops.h"

namespace cairn::client {

ServerAttr readAttr(schema::Attr::Reader a);
Attr readTimes(InodeId ino, uint32_t type, schema::Times::Reader times);
Result<ServerAttr> readAttrReply(const InMessage& m);
Result<ServerEntry> readEntryReply(const InMessage& m);
Result<std::string> readDataReply(const InMessage& m);
Result<ChunkList> readChunksReply(const InMessage& m);
void writeLock(const HeldLock& lock, schema::FileLock::Builder out);

}  // namespace cairn::client
