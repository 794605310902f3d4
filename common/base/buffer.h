// Aligned, reference-counted byte buffers for bulk data: what a socket receives goes to the disk,
// and what the disk reads goes to a socket, without a copy.
//
// BufferPool keeps freed blocks in power-of-two classes from 4 KiB to 4 MiB, because the first
// touch of memory costs more than the copy it replaces. A Buffer may be read, and its last
// reference dropped, on any thread.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace cairn {

using Bytes = std::span<const uint8_t>;
using MutBytes = std::span<uint8_t>;

class BufferPool;

// A slice of a reference-counted block. Copies share the bytes. An empty Buffer has no block.
class Buffer {
 public:
  Buffer() = default;
  [[nodiscard]] uint8_t* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] MutBytes bytes() const { return {data_, size_}; }
  // A slice that keeps the whole block alive. `offset + length <= size()`.
  [[nodiscard]] Buffer slice(size_t offset, size_t length) const;
  [[nodiscard]] iovec iov() const { return {data_, size_}; }

 private:
  friend class BufferPool;
  std::shared_ptr<uint8_t> block_;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

class BufferPool {
 public:
  // `limitBytes` bounds what the pool keeps for reuse, not what it hands out: callers' own queues
  // bound that.
  explicit BufferPool(size_t limitBytes = 256u << 20);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // `size` bytes, 4 KiB aligned, not cleared. The memory behind it extends to the size class, so a
  // caller may round `size` up to the block size.
  [[nodiscard]] Buffer get(size_t size);
  // The same, zeroed.
  [[nodiscard]] Buffer zeroed(size_t size);
  [[nodiscard]] Buffer copyOf(Bytes bytes);

  struct Shared;

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace cairn
