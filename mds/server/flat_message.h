// Cap'n Proto messages as one bare segment, the form in which commands lie in the log and replies
// come from the state machine. Any thread.
#pragma once

#include "common/schema/kj_fix.h"
// clang-format off
#include <capnp/message.h>
#include <capnp/serialize.h>
// clang-format on

#include <cstring>
#include <memory>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"

namespace cairn::mds {

// Reads one segment. Stays where it is (readers point into it). Accessors throw kj::Exception on a
// damaged message.
class FlatReader {
 public:
  // `bytes` stay valid while this lives, unless they are not aligned: then they are copied.
  explicit FlatReader(Bytes bytes)
      : segment_(aligned(bytes)),
        reader_(kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>(&segment_, 1), limits()) {}
  FlatReader(const FlatReader&) = delete;
  FlatReader& operator=(const FlatReader&) = delete;

  template <class T>
  typename T::Reader root() {
    return reader_.getRoot<T>();
  }

 private:
  kj::ArrayPtr<const capnp::word> aligned(Bytes bytes) {
    const size_t words = bytes.size() / sizeof(capnp::word);
    if (reinterpret_cast<uintptr_t>(bytes.data()) % alignof(uint64_t) == 0)
      return {reinterpret_cast<const capnp::word*>(bytes.data()), words};
    copy_.resize(words);
    std::memcpy(copy_.data(), bytes.data(), words * sizeof(capnp::word));
    return {reinterpret_cast<const capnp::word*>(copy_.data()), words};
  }
  // Our own messages: no amplification to fear, and large ones to read.
  static capnp::ReaderOptions limits() {
    capnp::ReaderOptions o;
    o.traversalLimitInWords = uint64_t{1} << 30;
    return o;
  }

  std::vector<uint64_t> copy_;
  kj::ArrayPtr<const capnp::word> segment_;
  capnp::SegmentArrayMessageReader reader_;
};

// A message that is being built and will be one segment.
class FlatBuilder {
 public:
  // `words`: an upper bound of what will be put in.
  explicit FlatBuilder(size_t words)
      : builder_(std::make_unique<capnp::MallocMessageBuilder>(
            static_cast<unsigned>(words), capnp::AllocationStrategy::FIXED_SIZE)) {}

  template <class T>
  typename T::Builder root() {
    return builder_->getRoot<T>();
  }
  // kTooBig if it outgrew its bound.
  Result<Buffer> finish(BufferPool& buffers) {
    auto segments = builder_->getSegmentsForOutput();
    if (segments.size() != 1) return fail(Errc::kTooBig, "the message outgrew one segment");
    auto bytes = segments[0].asBytes();
    return buffers.copyOf({bytes.begin(), bytes.size()});
  }

 private:
  std::unique_ptr<capnp::MallocMessageBuilder> builder_;
};

}  // namespace cairn::mds
