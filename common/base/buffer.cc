#include "common/base/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "common/base/assert.h"
#include "common/base/units.h"

#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace cairn {

namespace {

constexpr uint8_t kMinClass = 12, kMaxClass = 22;  // 4 KiB .. 4 MiB
constexpr size_t kSlabBytes = size_t{1} << kMaxClass;

uint8_t classOf(size_t size) {
  auto c = static_cast<uint8_t>(std::bit_width(size > 1 ? size - 1 : 1));
  return std::max(c, kMinClass);
}

uint8_t* heapMemory(size_t size) {
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(kBlockSize, size));
  CAIRN_ASSERT(p != nullptr, "memory for a buffer");
  return p;
}

// Free memory is poisoned, so that the address sanitizer sees who uses a dropped buffer.
void poison(const detail::BufferBlock& b) {
  ASAN_POISON_MEMORY_REGION(b.memory, size_t{1} << b.sizeClass);
}
void unpoison(const detail::BufferBlock& b) {
  ASAN_UNPOISON_MEMORY_REGION(b.memory, size_t{1} << b.sizeClass);
}

}  // namespace

namespace detail {

// What a pool and its buffers share; dies with the last of them.
//
// The arena is cut into slabs of 4 MiB, each of which serves one size class until all its blocks
// are free; then any class may have it. So a change of the traffic's sizes cannot strand the arena.
class BufferStore {
 public:
  BufferStore(size_t limitBytes, size_t arenaBytes) : limitBytes_(limitBytes) {
    size_t slabs = roundUp(arenaBytes, kSlabBytes) / kSlabBytes;
    if (slabs == 0) return;
    mappedBytes_ = (slabs + 1) * kSlabBytes;  // one more, to align
    mapped_ = ::mmap(nullptr, mappedBytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CAIRN_ASSERT(mapped_ != MAP_FAILED, "address space for the buffer arena");
    auto start = reinterpret_cast<uintptr_t>(mapped_);
    arena_ = reinterpret_cast<uint8_t*>(roundUp(start, kSlabBytes));
    // Fewer TLB misses, and registered memory is pinned in large pieces.
    ::madvise(arena_, slabs * kSlabBytes, MADV_HUGEPAGE);
    slabs_.resize(slabs);
    emptySlabs_ = slabs;
  }
  BufferStore(const BufferStore&) = delete;
  BufferStore& operator=(const BufferStore&) = delete;
  ~BufferStore() {
    for (auto& list : free_)
      for (auto* b : list) freeHeap(b);
    if (mapped_ == nullptr) return;
    ASAN_UNPOISON_MEMORY_REGION(mapped_, mappedBytes_);
    ::munmap(mapped_, mappedBytes_);
  }

  BufferBlock* take(uint8_t cls) {
    {
      std::lock_guard lock(mutex_);
      ++users_;
      if (auto* b = takeFromArena(cls)) return b;
      auto& list = free_[cls];
      if (!list.empty()) {
        auto* b = list.back();
        list.pop_back();
        keptBytes_ -= size_t{1} << cls;
        unpoison(*b);
        return b;
      }
    }
    return newHeap(cls, size_t{1} << cls);
  }

  BufferBlock* takeLarge(size_t size) {
    {
      std::lock_guard lock(mutex_);
      ++users_;
    }
    return newHeap(0, roundUp(size, kBlockSize));
  }

  void give(BufferBlock* b) {
    BufferBlock* surplus = nullptr;
    bool last;
    {
      std::lock_guard lock(mutex_);
      size_t bytes = size_t{1} << b->sizeClass;
      if (b->slab != 0) {
        poison(*b);
        giveToArena(b);
      } else if (b->sizeClass != 0 && keptBytes_ + bytes <= limitBytes_) {
        poison(*b);
        keptBytes_ += bytes;
        free_[b->sizeClass].push_back(b);
      } else {
        surplus = b;
      }
      last = --users_ == 0;
    }
    if (surplus) freeHeap(surplus);
    if (last) delete this;
  }

  // The pool and every block that is handed out are users.
  void leave() {
    bool last;
    {
      std::lock_guard lock(mutex_);
      last = --users_ == 0;
    }
    if (last) delete this;
  }

  [[nodiscard]] MutBytes arena() const { return {arena_, slabs_.size() * kSlabBytes}; }

 private:
  struct Slab {
    uint8_t sizeClass = 0;  // 0: has served none yet
    std::unique_ptr<BufferBlock[]> blocks;
    std::vector<BufferBlock*> free;  // the last one freed is the first one used: it is in the cache
    size_t live = 0;
  };

  BufferBlock* newHeap(uint8_t cls, size_t bytes) {
    auto* b = new BufferBlock;
    b->sizeClass = cls;
    b->memory = heapMemory(bytes);
    b->store = this;
    return b;
  }
  static void freeHeap(BufferBlock* b) {
    if (b->sizeClass != 0) unpoison(*b);  // large ones are never kept
    std::free(b->memory);
    delete b;
  }

  BufferBlock* takeFromArena(uint8_t cls) {
    auto& usable = usable_[cls];
    if (usable.empty() && !claimSlab(cls)) return nullptr;
    Slab& slab = slabs_[usable.back()];
    BufferBlock* b = slab.free.back();
    slab.free.pop_back();
    if (slab.live++ == 0) --emptySlabs_;
    if (slab.free.empty()) usable.pop_back();
    unpoison(*b);
    return b;
  }

  void giveToArena(BufferBlock* b) {
    Slab& slab = slabs_[b->slab - 1];
    if (slab.free.empty()) usable_[slab.sizeClass].push_back(b->slab - 1);
    slab.free.push_back(b);
    if (--slab.live == 0) ++emptySlabs_;
  }

  // Gives `cls` a slab of which nothing is in use, one that never served before others.
  bool claimSlab(uint8_t cls) {
    if (emptySlabs_ == 0) return false;
    size_t found = slabs_.size();
    for (size_t i = 0; i < slabs_.size(); ++i) {
      if (slabs_[i].live != 0) continue;
      found = i;
      if (slabs_[i].sizeClass == 0) break;
    }
    Slab& slab = slabs_[found];
    if (slab.sizeClass != 0) std::erase(usable_[slab.sizeClass], static_cast<uint32_t>(found));
    size_t blockBytes = size_t{1} << cls, count = kSlabBytes / blockBytes;
    slab.sizeClass = cls;
    slab.blocks = std::make_unique<BufferBlock[]>(count);
    slab.free.clear();
    for (size_t i = count; i-- > 0;) {
      BufferBlock& b = slab.blocks[i];
      b.sizeClass = cls;
      b.slab = static_cast<uint32_t>(found + 1);
      b.memory = arena_ + found * kSlabBytes + i * blockBytes;
      b.store = this;
      slab.free.push_back(&b);
    }
    usable_[cls].push_back(static_cast<uint32_t>(found));
    return true;
  }

  const size_t limitBytes_;
  void* mapped_ = nullptr;
  size_t mappedBytes_ = 0;
  uint8_t* arena_ = nullptr;

  std::mutex mutex_;  // guards what follows
  size_t users_ = 1;
  std::array<std::vector<BufferBlock*>, kMaxClass + 1> free_;  // of the heap
  size_t keptBytes_ = 0;
  std::vector<Slab> slabs_;
  std::array<std::vector<uint32_t>, kMaxClass + 1> usable_;  // slabs of the class with free blocks
  size_t emptySlabs_ = 0;
};

void freeBlock(BufferBlock* block) {
  block->store->give(block);
}

}  // namespace detail

Buffer Buffer::slice(size_t offset, size_t length) const {
  CAIRN_ASSERT(offset <= size_ && length <= size_ - offset, "a slice lies inside its buffer");
  Buffer b = *this;
  b.data_ += offset;
  b.size_ = length;
  return b;
}

BufferPool::BufferPool(size_t limitBytes, size_t arenaBytes)
    : store_(new detail::BufferStore(limitBytes, arenaBytes)) {}

BufferPool::~BufferPool() {
  store_->leave();
}

MutBytes BufferPool::arena() const {
  return store_->arena();
}

Buffer BufferPool::get(size_t size) {
  Buffer b;
  if (size == 0) return b;
  uint8_t cls = classOf(size);
  b.block_ = cls > kMaxClass ? store_->takeLarge(size) : store_->take(cls);
  b.block_->references.store(1, std::memory_order_relaxed);
  b.data_ = b.block_->memory;
  b.size_ = size;
  return b;
}

Buffer BufferPool::zeroed(size_t size) {
  Buffer b = get(size);
  if (size != 0) std::memset(b.data(), 0, size);
  return b;
}

Buffer BufferPool::copyOf(Bytes bytes) {
  Buffer b = get(bytes.size());
  if (!bytes.empty()) std::memcpy(b.data(), bytes.data(), bytes.size());
  return b;
}

}  // namespace cairn
