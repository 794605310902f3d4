// One message between processes: a Cap'n Proto header (RpcHeader with a typed body) and a raw
// payload that follows it on the wire. See PROTOCOL.md for the bytes.
#pragma once

#include "common/schema/kj_fix.h"
// clang-format off
#include <capnp/message.h>
#include <capnp/serialize.h>
// clang-format on

#include <memory>
#include <optional>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/schema/rpc.capnp.h"

namespace cairn {

// What is sent. Build the body with `body<schema::OsdRequest>()`; append payload parts (any sizes,
// any alignment).
class OutMessage {
 public:
  OutMessage();
  OutMessage(OutMessage&&) noexcept = default;
  OutMessage& operator=(OutMessage&&) noexcept = default;

  // The body's root, made at the first call. One type per message.
  template <class T>
  typename T::Builder body() {
    if (!hasBody_) {
      hasBody_ = true;
      return header_.getBody().initAs<T>();
    }
    return header_.getBody().getAs<T>();
  }
  void addPayload(Buffer part);
  [[nodiscard]] size_t payloadBytes() const { return payloadBytes_; }
  [[nodiscard]] schema::RpcHeader::Builder header() { return header_; }
  [[nodiscard]] const std::vector<Buffer>& payload() const { return payload_; }

  // The header's single segment, valid while this message lives and is not changed.
  [[nodiscard]] Bytes flatHeader();

 private:
  std::unique_ptr<capnp::MallocMessageBuilder> builder_;
  schema::RpcHeader::Builder header_;
  std::vector<Buffer> payload_;
  size_t payloadBytes_ = 0;
  bool hasBody_ = false;
};

// What was received: owns the header's memory. Readers stay valid while it lives. The contents come
// from a peer and may be anything a hostile peer likes: accessors may throw kj::Exception, which
// RpcServer and RpcClient turn into a broken connection.
class InMessage {
 public:
  InMessage() = default;
  // `header` is one Cap'n Proto segment, 8-byte aligned. kBadMessage if it is not a readable
  // RpcHeader.
  static Result<InMessage> parse(Buffer header, Buffer payload);

  [[nodiscard]] schema::RpcHeader::Reader header() const { return header_; }
  template <class T>
  typename T::Reader body() const {
    return header_.getBody().getAs<T>();
  }
  [[nodiscard]] const Buffer& payload() const { return payload_; }  // page-aligned start

 private:
  struct Parsed {
    Buffer bytes;
    kj::ArrayPtr<const capnp::word> segment;  // the reader's segment table: one entry
    std::optional<capnp::SegmentArrayMessageReader> reader;
  };
  std::unique_ptr<Parsed> parsed_;  // its address stays: the reader points into it
  schema::RpcHeader::Reader header_;
  Buffer payload_;
};

}  // namespace cairn
