#include "common/base/buffer.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "common/base/assert.h"
#include "common/base/units.h"

namespace cairn {

Buffer Buffer::slice(size_t offset, size_t length) const {
  CAIRN_ASSERT(offset <= size_ && length <= size_ - offset, "a slice lies inside its buffer");
  Buffer b = *this;
  b.data_ += offset;
  b.size_ = length;
  return b;
}

namespace {
constexpr size_t kMinClass = 12, kMaxClass = 22;  // 4 KiB .. 4 MiB
size_t classOf(size_t size) {
  size_t c = std::bit_width(size > 1 ? size - 1 : 1);
  return c < kMinClass ? kMinClass : c;
}
}  // namespace

struct BufferPool::Shared {
  std::mutex mutex;  // guards what follows; buffers may be dropped on a pool thread
  std::vector<uint8_t*> free[kMaxClass + 1];
  size_t keptBytes = 0;
  size_t limitBytes = 0;

  ~Shared() {
    for (auto& list : free)
      for (auto* p : list) std::free(p);
  }
  uint8_t* take(size_t cls) {
    {
      std::lock_guard lock(mutex);
      if (!free[cls].empty()) {
        auto* p = free[cls].back();
        free[cls].pop_back();
        keptBytes -= size_t{1} << cls;
        return p;
      }
    }
    auto* p = static_cast<uint8_t*>(std::aligned_alloc(kBlockSize, size_t{1} << cls));
    CAIRN_ASSERT(p != nullptr, "memory for a buffer");
    return p;
  }
  void give(uint8_t* p, size_t cls) {
    {
      std::lock_guard lock(mutex);
      if (keptBytes + (size_t{1} << cls) <= limitBytes) {
        keptBytes += size_t{1} << cls;
        free[cls].push_back(p);
        return;
      }
    }
    std::free(p);
  }
};

BufferPool::BufferPool(size_t limitBytes) : shared_(std::make_shared<Shared>()) {
  shared_->limitBytes = limitBytes;
}
BufferPool::~BufferPool() = default;

Buffer BufferPool::get(size_t size) {
  Buffer b;
  if (size == 0) return b;
  size_t cls = classOf(size);
  if (cls > kMaxClass) {
    auto* p = static_cast<uint8_t*>(std::aligned_alloc(kBlockSize, roundUp(size, kBlockSize)));
    CAIRN_ASSERT(p != nullptr, "memory for a buffer");
    b.block_ = std::shared_ptr<uint8_t>(p, [](uint8_t* q) { std::free(q); });
  } else {
    auto shared = shared_;
    uint8_t* p = shared->take(cls);
    b.block_ = std::shared_ptr<uint8_t>(p, [shared, cls](uint8_t* q) { shared->give(q, cls); });
  }
  b.data_ = b.block_.get();
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
