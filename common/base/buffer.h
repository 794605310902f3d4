// Aligned, reference-counted byte buffers for bulk data: what a socket receives goes to the disk,
// and what the disk reads goes to a socket, without a copy.
//
// BufferPool keeps freed blocks in power-of-two classes from 4 KiB to 4 MiB, because the first
// touch of memory costs more than the copy it replaces. It may own an arena: one stretch of memory
// that can be registered with io_uring, from which blocks come while it lasts.
//
// Thread: a pool and its buffers may be used on any thread, a single Buffer object by one at a
// time. Ownership: the memory lives until the pool and the last Buffer are gone.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace cairn {

using Bytes = std::span<const uint8_t>;
using MutBytes = std::span<uint8_t>;

class BufferPool;

namespace detail {
// What all slices of one piece of memory share.
struct BufferBlock {
  std::atomic<uint32_t> references{0};
  uint8_t sizeClass = 0;  // log2 of its size; 0: larger than any class
  uint32_t slab = 0;      // of the arena, from 1; 0: from the heap
  uint8_t* memory = nullptr;
  class BufferStore* store = nullptr;
};
void freeBlock(BufferBlock* block);
}  // namespace detail

// A slice of a reference-counted block. Copies share the bytes. An empty Buffer has no block.
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer& o) : block_(o.block_), data_(o.data_), size_(o.size_) {
    if (block_) block_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Buffer(Buffer&& o) noexcept
      : block_(std::exchange(o.block_, nullptr)),
        data_(std::exchange(o.data_, nullptr)),
        size_(std::exchange(o.size_, 0)) {}
  Buffer& operator=(Buffer o) noexcept {
    std::swap(block_, o.block_);
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  ~Buffer() {
    // The release orders this owner's use before the last one's free; see shared_ptr.
    if (block_ && block_->references.fetch_sub(1, std::memory_order_acq_rel) == 1)
      detail::freeBlock(block_);
  }

  [[nodiscard]] uint8_t* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] MutBytes bytes() const { return {data_, size_}; }
  // A slice that keeps the whole block alive. `offset + length <= size()`.
  [[nodiscard]] Buffer slice(size_t offset, size_t length) const;
  [[nodiscard]] iovec iov() const { return {data_, size_}; }

 private:
  friend class BufferPool;
  detail::BufferBlock* block_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

class BufferPool {
 public:
  // `limitBytes` bounds what the pool keeps for reuse, not what it hands out: callers' own queues
  // bound that. `arenaBytes` of address space come on top, rounded up to 4 MiB; memory stands
  // behind them once they are touched or registered.
  explicit BufferPool(size_t limitBytes = 256u << 20, size_t arenaBytes = 0);
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // `size` bytes, 4 KiB aligned, not cleared. The memory behind it extends to the size class, so a
  // caller may round `size` up to the block size.
  [[nodiscard]] Buffer get(size_t size);
  // The same, zeroed.
  [[nodiscard]] Buffer zeroed(size_t size);
  [[nodiscard]] Buffer copyOf(Bytes bytes);

  // For UringReactor::registerArena; empty without an arena.
  [[nodiscard]] MutBytes arena() const;

 private:
  detail::BufferStore* store_;
};

}  // namespace cairn
