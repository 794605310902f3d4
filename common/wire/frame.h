// Frames on a byte stream: 16-byte preamble, Cap'n Proto header, raw payload. The bytes:
// PROTOCOL.md.
#pragma once

#include <array>
#include <deque>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/net/network.h"
#include "common/reactor/task.h"
#include "common/wire/message.h"

namespace cairn {

inline constexpr size_t kPreambleBytes = 16;

struct FrameLimits {
  size_t maxHeaderBytes;
  size_t maxPayloadBytes;
};

// Reads frames; the payload is received straight into a page-aligned Buffer. Stream and pool
// outlive it.
class FrameReader {
 public:
  FrameReader(Stream& stream, BufferPool& buffers, FrameLimits limits);
  // kUnavailable at the end of the stream, kBadMessage for what is not a frame or is over the
  // limits: the connection is useless then.
  Task<Result<InMessage>> next();

 private:
  Task<Result<void>> fill(MutBytes into);
  Stream& stream_;
  BufferPool& buffers_;
  FrameLimits limits_;
  Buffer staging_;
  size_t from_ = 0, to_ = 0;  // unread bytes of staging_
};

// kInvalid for a message that a receiver with these limits would take for nonsense and break the
// connection of: whoever sends must not.
Result<void> checkFits(OutMessage& message, FrameLimits limits);

// Sends all messages in as few writes as the kernel allows. They stay valid meanwhile.
Task<Result<void>> writeFrames(Stream& stream, std::deque<OutMessage>& messages);

}  // namespace cairn
