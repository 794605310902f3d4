// What a peer may ask, and whether what it sent is readable to its last field: everything is
// checked before it becomes a command, because a command in the log must be applied. Pure; any
// thread.
#pragma once

#include <string_view>

#include "common/base/result.h"
#include "common/schema/kj_fix.h"
// clang-format off
#include "common/schema/mds.capnp.h"
#include "common/schema/rpc.capnp.h"
// clang-format on

namespace cairn::mds {

inline constexpr size_t kMaxReaddirEntries = 4096;
inline constexpr size_t kMaxReplyBytes = 512u << 10;  // of a readdir, about
inline constexpr size_t kMaxPathBytes = 4096;
inline constexpr uint32_t kMaxChunksAsked = 1024;
inline constexpr size_t kChunksListed = 4096;   // in an answer to chunkList
inline constexpr uint32_t kMaxLeaked = 10'000;  // chunks of one removeLeaked
inline constexpr uint32_t kMaxAccesses = 1024;
inline constexpr uint32_t kMaxGroupChanges = 16384;
inline constexpr size_t kMaxCommandBytes = 1u << 20;
inline constexpr size_t kMaxLabelBytes = 1024;  // addresses, host names, mount points
inline constexpr size_t kMaxPoolNameBytes = 64;

// kPermission: only the leader makes such commands, or the peer's role may not. kInvalid,
// kNameTooLong, kTooBig: a limit. Throws kj::Exception where the message is damaged.
Result<void> admit(schema::MdsRequest::Reader request, schema::Hello::Role role);

// "lookup", "make", …: for metrics and logs.
std::string_view operationName(schema::MdsRequest::Reader request);

}  // namespace cairn::mds
